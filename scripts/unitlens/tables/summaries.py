"""Columns that all tables of evaluations share, means with intervals, and paired tests."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from unitlens.tables.resampling import MeanInterval, benjamini_hochberg, mean_with_interval, paired_permutation_test

ORIGIN = ["model", "explained_class", "geometry"]  # what every row of a table names
PAIR = ["explainer_a", "explainer_b"]


def image_table(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> pd.DataFrame:
    """Give the columns that every score of an image starts with.

    Parameters
    ----------
    arrays, facts : mapping
        A file of explanations.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, prediction``; the last is ``right``, ``wrong`` or,
        without a label or a prediction, NaN.
    """
    label, predicted = np.asarray(arrays["label"]), np.asarray(arrays["predicted"])
    right = predicted == label
    table = pd.DataFrame({name: arrays[name] for name in ("image_id", "photograph")})
    table["prediction"] = pd.Series(np.where(right, "right", "wrong"), dtype=object).where(
        (label >= 0) & (predicted >= 0)
    )
    for position, name in enumerate(ORIGIN):
        table.insert(position, name, facts[name])
    return table


def mean_table(
    table: pd.DataFrame,
    keys: Sequence[str],
    *,
    value: str = "value",
    seed: int = 0,
    also: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Average a column within groups of rows, with a bootstrap interval that resamples photographs.

    Parameters
    ----------
    table : pandas.DataFrame
        `keys`, `value`, which may be NaN, and ``photograph``.
    keys : sequence of str
        Columns whose combinations are the rows of the result, in the order in which they first occur.
    value : str
        Column to average.
    seed : int
        As in `bootstrap_interval`.
    also : mapping, optional
        Further columns to condense, and how: ``mean``, ``first``, ``sum``.

    Returns
    -------
    pandas.DataFrame
        The keys and ``n, photographs, undefined, mean, low, high``: a 95 % interval, empty below three photographs;
        ``undefined`` counts the rows left out because their value is NaN. Then the columns of `also`.
    """
    rows = []
    for key, group in table.groupby(list(keys), sort=False, dropna=False):
        defined = group[group[value].notna()]
        interval = MeanInterval(0, 0, np.nan, np.nan, np.nan)
        if len(defined):
            interval = mean_with_interval(defined[value], groups=defined["photograph"], seed=seed)
        counts = (interval.n, interval.n_groups, len(group) - len(defined))
        rows.append([*key, *counts, interval.mean, interval.low, interval.high])
    means = pd.DataFrame(rows, columns=[*keys, "n", "photographs", "undefined", "mean", "low", "high"])
    if also is None:
        return means
    condensed = table.groupby(list(keys), sort=False, dropna=False).agg(dict(also)).reset_index(drop=True)
    return pd.concat([means, condensed], axis=1)


def paired_tests(
    table: pd.DataFrame,
    keys: Sequence[str],
    item: str,
    *,
    value: str = "value",
    pairs: Sequence[tuple[str, str]] | Callable[[pd.DataFrame], Sequence[tuple[str, str]]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare items, such as explainers, by their values on the same images.

    Parameters
    ----------
    table : pandas.DataFrame
        `keys`, `item`, `value`, ``image_id`` and ``photograph``, a row for each combination of keys, item and image.
    keys : sequence of str
        Columns within whose combinations items are compared.
    item : str
        Column that holds the names of the items.
    value : str
        Column to compare; an image counts where the values of both items are defined.
    pairs : sequence of (str, str) or callable, optional
        Which items to compare, or what gives these from the rows with the same keys; by default every two.
    seed : int
        As in `paired_permutation_test`.

    Returns
    -------
    pandas.DataFrame
        The keys and ``<item>_a, <item>_b, n, photographs, difference, low, high, p_value, p_adjusted``: the mean of
        a - b with its 95 % interval, empty below three photographs, the p-value of the paired permutation test by
        photograph, and the same adjusted (Benjamini-Hochberg) for all comparisons with the same keys.
    """
    names = [f"{item}_a", f"{item}_b", "n", "photographs", "difference", "low", "high", "p_value", "p_adjusted"]
    tables = []
    for key, group in table.groupby(list(keys), sort=False, dropna=False):
        wide = group.pivot(index="image_id", columns=item, values=value)
        photographs = group.drop_duplicates("image_id").set_index("image_id")["photograph"][wide.index]
        rows = []
        compared = (
            combinations(group[item].unique(), 2) if pairs is None else pairs(group) if callable(pairs) else pairs
        )
        for a, b in compared:
            two = wide.reindex(columns=[a, b]).dropna()
            difference, own = (two[a] - two[b]).to_numpy(), photographs[two.index].to_numpy()
            if len(difference) == 0:
                rows.append([*key, a, b, 0, 0, *[np.nan] * 4])
                continue
            interval = mean_with_interval(difference, groups=own, seed=seed)
            test = paired_permutation_test(difference, np.zeros(len(difference)), groups=own, seed=seed)
            rows.append([*key, a, b, *interval, test.p_value])
        tests = pd.DataFrame(rows, columns=[*keys, *names[:-1]])
        tables.append(tests.assign(p_adjusted=benjamini_hochberg(tests["p_value"])))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*keys, *names])
