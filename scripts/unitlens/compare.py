"""What networks have learned: which concepts, how many distinct ones, of which categories, and how two networks differ.

All of it is counted over the units that have a label. Counts of distinct concepts grow with the number of units, so
they are compared at an equal number of units by rarefaction (Hurlbert 1971): the mean count over all subsets of that
size.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special, stats

ALL = "all"  # the layer column of rows that pool the configured layers


def frequent(concepts: pd.DataFrame) -> pd.DataFrame:
    """Count the units of every concept.

    Parameters
    ----------
    concepts : pandas.DataFrame
        Labels of all models and layers as `dissect.label_table` makes them, with ``model`` and ``layer``.

    Returns
    -------
    pandas.DataFrame
        ``model, layer, concept, category, units, share`` (of the labelled units), most frequent first, ties by name;
        the layer ``all`` pools a model's layers.
    """
    labelled = _with_all(concepts[concepts.status == "labelled"])
    counts = (
        labelled.groupby(["model", "layer", "concept", "category"], sort=False).size().rename("units").reset_index()
    )
    counts["share"] = counts.units / counts.groupby(["model", "layer"]).units.transform("sum")
    order = {key: position for position, key in enumerate(_groups(labelled))}
    counts["order"] = [order[key] for key in zip(counts.model, counts.layer, strict=True)]
    counts = counts.sort_values(["order", "units", "concept"], ascending=[True, False, True])
    return counts.drop(columns="order").reset_index(drop=True)


def layers(concepts: pd.DataFrame) -> pd.DataFrame:
    """Summarise every layer.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`.

    Returns
    -------
    pandas.DataFrame
        ``model, layer, units, dead, distinct, rarefied_units, distinct_rarefied, top_concept, top_units``; the rarefied
        count is that among ``rarefied_units`` labelled units, as many as the layer with the fewest has. A layer without
        any has no rarefied count and does not lower that of the others.
    """
    groups = dict(list(concepts.groupby(["model", "layer"], sort=False)))
    counts = {key: _concept_counts(group) for key, group in groups.items()}
    smallest = min((int(count.sum()) for count in counts.values() if len(count)), default=0)
    rows = []
    for (model, layer), group in groups.items():
        count = counts[model, layer]
        rows.append(
            {
                "model": model,
                "layer": layer,
                "units": len(group),
                "dead": int((group.status == "dead").sum()),
                "distinct": len(count),
                "rarefied_units": smallest,
                "distinct_rarefied": rarefy(count.to_numpy(), smallest) if len(count) else np.nan,
                "top_concept": count.index[0] if len(count) else "",
                "top_units": int(count.iloc[0]) if len(count) else 0,
            }
        )
    return pd.DataFrame(rows)


def categories(concepts: pd.DataFrame) -> pd.DataFrame:
    """Give the share of every category among the labelled units, by model and layer.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`.

    Returns
    -------
    pandas.DataFrame
        ``model, layer, category, units, share, low, high``: Wilson's 95 % interval, which takes units as independent.
    """
    labelled = _with_all(concepts[concepts.status == "labelled"])
    names = sorted(labelled.category.unique())
    rows = []
    for (model, layer), group in labelled.groupby(["model", "layer"], sort=False):
        for name in names:
            units = int((group.category == name).sum())
            low, high = stats.binomtest(units, len(group)).proportion_ci(method="wilson")
            share = units / len(group)
            rows.append([model, layer, name, units, share, low, high])
    return pd.DataFrame(rows, columns=["model", "layer", "category", "units", "share", "low", "high"])


def models(concepts: pd.DataFrame) -> pd.DataFrame:
    """Compare every two models over their configured layers.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`; one encoder and one similarity.

    Returns
    -------
    pandas.DataFrame
        ``model_a, model_b, distinct_a, distinct_b, shared, only_a, only_b, jaccard, rarefied_units, rarefied_a,
        rarefied_b, chi_square, p_value, cramers_v``: distinct concepts, how many both have, the counts at an equal
        number of units, and a chi-square test of equal category shares with its effect size. The test takes units as
        independent.

    Raises
    ------
    ValueError
        If the labels come from more than one encoder or similarity.
    """
    for column in ("encoder", "similarity"):
        if concepts[column].nunique() > 1:
            raise ValueError(
                f"labels of different {column}s cannot be compared: {', '.join(concepts[column].unique())}"
            )
    labelled = concepts[concepts.status == "labelled"]
    rows = []
    for a, b in combinations(concepts.model.unique(), 2):
        counts_a, counts_b = (_concept_counts(labelled[labelled.model == model]) for model in (a, b))
        shared, union = len(counts_a.index.intersection(counts_b.index)), len(counts_a.index.union(counts_b.index))
        smallest = int(min(counts_a.sum(), counts_b.sum()))
        pair = labelled[labelled.model.isin([a, b])]
        shares = pd.crosstab(pair.model, pair.category)
        chi_square, p_value, effect = _compare_shares(shares.to_numpy())
        rows.append(
            {
                "model_a": a,
                "model_b": b,
                "distinct_a": len(counts_a),
                "distinct_b": len(counts_b),
                "shared": shared,
                "only_a": len(counts_a) - shared,
                "only_b": len(counts_b) - shared,
                "jaccard": shared / union if union else np.nan,
                "rarefied_units": smallest,
                "rarefied_a": rarefy(counts_a.to_numpy(), smallest),
                "rarefied_b": rarefy(counts_b.to_numpy(), smallest),
                "chi_square": chi_square,
                "p_value": p_value,
                "cramers_v": effect,
            }
        )
    columns = "model_a model_b distinct_a distinct_b shared only_a only_b jaccard rarefied_units rarefied_a rarefied_b"
    return pd.DataFrame(rows, columns=[*columns.split(), "chi_square", "p_value", "cramers_v"])


def rarefy(counts: np.ndarray, size: int) -> float:
    """Compute the expected number of distinct concepts among `size` units drawn without replacement.

    ``sum_i 1 - C(N - n_i, size) / C(N, size)`` (Hurlbert 1971, eq. 14).

    Parameters
    ----------
    counts : array_like of int
        Units of each concept; N is their sum.
    size : int
        At most N.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `size` exceeds N.
    """
    counts = np.asarray(counts, dtype=float)
    total = counts.sum()
    if size > total:
        raise ValueError(f"`size` is {size}, but there are {total:.0f} units")
    remaining = total - counts
    possible = remaining >= size
    missed = np.zeros(len(counts))
    missed[possible] = np.exp(_log_choose(remaining[possible], size) - _log_choose(total, size))
    return float((1 - missed).sum())


def _log_choose(n: np.ndarray | float, k: int) -> np.ndarray | float:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _with_all(concepts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([concepts, concepts.assign(layer=ALL)], ignore_index=True)


def _groups(concepts: pd.DataFrame) -> list[tuple[str, str]]:
    """Model and layer pairs, models together, in the order of their appearance."""
    first = {model: position for position, model in enumerate(concepts.model.unique())}
    return sorted(dict.fromkeys(zip(concepts.model, concepts.layer, strict=True)), key=lambda pair: first[pair[0]])


def _concept_counts(concepts: pd.DataFrame) -> pd.Series:
    """Units of each concept, most frequent first, ties by name."""
    counts = concepts.concept[concepts.status == "labelled"].value_counts().rename_axis("concept").reset_index()
    return counts.sort_values(["count", "concept"], ascending=[False, True]).set_index("concept")["count"]


def _compare_shares(table: np.ndarray) -> tuple[float, float, float]:
    """Chi-square test of a 2 x k table and Cramer's V; NaN where a model has no labels or there is one category."""
    if min(table.shape) < 2:
        return np.nan, np.nan, np.nan
    result = stats.chi2_contingency(table, correction=False)
    return result.statistic, result.pvalue, float(np.sqrt(result.statistic / table.sum()))
