"""Fail where a comparison with a reference package exceeds its tolerance."""

import pandas as pd


def require_passed(differences: pd.DataFrame) -> None:
    """Raise if a check of the table that `compare` returns did not pass.

    Raises
    ------
    ValueError
        Names model, check, reference, difference and tolerance of every check that did not pass.
    """
    failed = [
        f"{row.model}: {row.check} differs from {row.reference} by {row.largest_difference:.3g}, "
        f"allowed: {row.tolerance:g}"
        for row in differences[differences.passed.eq(False)].itertuples()
    ]
    if failed:
        raise ValueError("explainers do not give what their reference packages give: " + "; ".join(failed))
