"""Columns that all tables of evaluations share, means with intervals, and paired tests."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from unitlens.tables.resampling import benjamini_hochberg, mean_with_interval, paired_permutation_test

ORIGIN = ["model", "explained_class", "geometry"]  # what every row of a table names
PAIR = ["explainer_a", "explainer_b"]


def image_table(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> pd.DataFrame:
    """Give the columns that every score of an image starts with: `ORIGIN`, ``image_id, source_image, prediction``.

    The last is ``right``, ``wrong`` or, without a label or a prediction, NaN.
    """
    label, predicted = np.asarray(arrays["label"]), np.asarray(arrays["predicted"])
    prediction = np.where(predicted == label, "right", "wrong").astype(object)
    prediction[(label < 0) | (predicted < 0)] = np.nan
    origin = {name: facts[name] for name in ORIGIN}
    images = {name: arrays[name] for name in ("image_id", "source_image")}
    return pd.DataFrame(origin | images | {"prediction": prediction})


def mean_table(
    table: pd.DataFrame,
    keys: Sequence[str],
    *,
    value: str = "value",
    also: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Average a column within groups of rows, with an interval over source images.

    `table` has `keys`, whose combinations are the rows of the result in the order of their appearance, `value`, which
    may be NaN, and ``source_image``; `also` names further columns to condense, and how (``mean``, ``first``, ``sum``).
    Gives the keys, ``n, source_images, undefined, mean, low, high``, see docs/outputs.md, and the columns of `also`.
    The interval is empty below five source images.
    """
    rows = []
    for key, group in table.groupby(list(keys), sort=False, dropna=False):
        defined = group[group[value].notna()]
        n, source_images, *mean = mean_with_interval(defined[value], groups=defined["source_image"])
        rows.append([*key, n, source_images, len(group) - n, *mean])
    means = pd.DataFrame(rows, columns=[*keys, "n", "source_images", "undefined", "mean", "low", "high"])
    if also is None:
        return means
    condensed = table.groupby(list(keys), sort=False, dropna=False).agg(dict(also)).reset_index(drop=True)
    return pd.concat([means, condensed], axis=1)


def against(reference: str, item: str = "explainer") -> Callable[[pd.DataFrame], list[tuple[str, str]]]:
    """Give the `pairs` of `paired_tests` that compare every other item with one of them."""
    return lambda scores: [(name, reference) for name in scores[item].unique() if name != reference]


def paired_tests(
    table: pd.DataFrame,
    keys: Sequence[str],
    item: str,
    *,
    value: str = "value",
    pairs: Callable[[pd.DataFrame], Sequence[tuple[str, str]]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare items, such as explainers, by their values on the same images.

    `table` has a row for each combination of `keys`, `item` and ``image_id``, with `value` and ``source_image``; items
    are compared within the keys, on images where both values are defined. `pairs` gives the two items of each
    comparison from the rows with the same keys; by default every two. Gives the keys and ``<item>_a, <item>_b, n,
    source_images, difference, low, high, p_value, p_adjusted``: the mean of a - b with its 95 % interval, empty below
    five source images, the p-value of the paired permutation test by source image, and the same adjusted
    (Benjamini-Hochberg) for all comparisons with the same keys.
    """
    names = [f"{item}_a", f"{item}_b", "n", "source_images", "difference", "low", "high", "p_value", "p_adjusted"]
    tables = []
    for key, group in table.groupby(list(keys), sort=False, dropna=False):
        wide = group.pivot(index="image_id", columns=item, values=value)
        source_images = group.drop_duplicates("image_id").set_index("image_id")["source_image"][wide.index]
        rows = []
        for a, b in pairs(group) if pairs else combinations(group[item].unique(), 2):
            two = wide.reindex(columns=[a, b]).dropna()
            difference, own = (two[a] - two[b]).to_numpy(), source_images[two.index].to_numpy()
            if len(difference) == 0:
                rows.append([*key, a, b, 0, 0, *[np.nan] * 4])
                continue
            interval = mean_with_interval(difference, groups=own)
            test = paired_permutation_test(difference, np.zeros(len(difference)), groups=own, seed=seed)
            rows.append([*key, a, b, *interval, test.p_value])
        tests = pd.DataFrame(rows, columns=[*keys, *names[:-1]])
        tables.append(tests.assign(p_adjusted=benjamini_hochberg(tests["p_value"])))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=[*keys, *names])
