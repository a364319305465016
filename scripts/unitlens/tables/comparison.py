"""What networks have learned: which concepts, how many distinct ones, of which categories, and how two networks differ.

All of it is counted over the units that have a label; near-duplicate concepts count as the one that names their group.
Counts of distinct concepts grow with the number of units, so they are compared at an equal number of units by
rarefaction (Hurlbert 1971). A layer's units are all the units that it has, no sample. Tests ask whether a difference
exceeds what dealing these very units out at random gives; intervals take the units as drawn independently from a larger
pool of such units. Neither says anything of a network trained anew. Intervals of counts and of concentration are the
jackknife's: percentiles of bootstrapped units miss the true value, for a resample holds fewer distinct concepts.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import special, stats

from unitlens import dissect
from unitlens.activations import silenced
from unitlens.stats import benjamini_hochberg, gini
from unitlens.wording import SIGNIFICANT, adjusted, counted, p_value

ALL = "all"  # the layer column of rows that pool the configured layers
CURVE_POINTS = 32  # most sizes at which a rarefaction curve is computed
TOP = 10  # concepts in the top share
FEWEST = 50  # labelled units below which the jackknife gives no interval: its coverage was simulated from there on
Z = stats.norm.ppf(0.975)


def frequent(concepts: pd.DataFrame) -> pd.DataFrame:
    """Count the units of every concept.

    Parameters
    ----------
    concepts : pandas.DataFrame
        Labels of all models and layers as `evidence.label_table` makes them, with ``model`` and ``layer``.

    Returns
    -------
    pandas.DataFrame
        ``model, layer, concept, category, units, share`` (of the labelled units), most frequent first, ties by name;
        the layer ``all`` pools a model's layers. The category is that of most of the concept's units, over all models.

    Raises
    ------
    ValueError
        As `models` does.
    """
    labelled = _with_all(_labelled(concepts))
    pairs = labelled.groupby(["concept", "category"]).size().sort_values(ascending=False, kind="stable").reset_index()
    category = pairs.drop_duplicates("concept").set_index("concept").category
    counts = labelled.groupby(["model", "layer", "concept"], sort=False).size().rename("units").reset_index()
    counts.insert(3, "category", counts.concept.map(category))
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
        ``model, layer, units, dead`` (or constant)``, labelled, distinct, rarefied_units, distinct_rarefied,
        distinct_low, distinct_high, top_concept, top_units, gini, gini_low, gini_high, top10_share, top10_low,
        top10_high``. The rarefied count, with its 95 % interval, is that among ``rarefied_units`` labelled units, as
        many as the layer with the fewest has. A layer without any has no rarefied count and does not lower that of the
        others. Gini is 0 where every concept has equally many units; ``top10_share`` is the share of the ten most
        frequent concepts.

    Raises
    ------
    ValueError
        As `models` does.
    """
    groups = dict(list(concepts.groupby(["model", "layer"], sort=False)))
    labelled = dict(list(_labelled(concepts).groupby(["model", "layer"], sort=False)))
    counts = {key: _concept_counts(labelled.get(key, group.iloc[:0])) for key, group in groups.items()}
    smallest = min((int(count.sum()) for count in counts.values() if len(count)), default=0)
    rows = []
    for (model, layer), group in groups.items():
        count = counts[model, layer]
        distinct, low, high = rarefy_with_interval(count, smallest) if len(count) else [np.nan] * 3
        rows.append(
            {
                "model": model,
                "layer": layer,
                "units": len(group),
                "dead": int(group.status.isin(["dead", "constant"]).sum()),
                "labelled": int(count.sum()),
                "distinct": len(count),
                "rarefied_units": smallest,
                "distinct_rarefied": distinct,
                "distinct_low": low,
                "distinct_high": high,
                "top_concept": count.index[0] if len(count) else "",
                "top_units": int(count.iloc[0]) if len(count) else 0,
                **_concentration(count.to_numpy()),
            }
        )
    columns = "model layer units dead labelled distinct rarefied_units distinct_rarefied distinct_low distinct_high"
    columns += " top_concept top_units gini gini_low gini_high top10_share top10_low top10_high"
    return pd.DataFrame(rows, columns=columns.split())


def rarefaction(concepts: pd.DataFrame) -> pd.DataFrame:
    """Give the expected number of distinct concepts among ever more units of every layer.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`.

    Returns
    -------
    pandas.DataFrame
        ``model, layer, units, distinct, low, high``: at most `CURVE_POINTS` sizes from 1 to all labelled units; the
        layer ``all`` pools a model's layers. Interval as in `rarefy_with_interval`.

    Raises
    ------
    ValueError
        As `models` does.
    """
    labelled = _with_all(_labelled(concepts))
    rows = []
    for model, layer in _groups(labelled):
        count = _concept_counts(labelled[(labelled.model == model) & (labelled.layer == layer)])
        for size in np.unique(np.linspace(1, count.sum(), CURVE_POINTS).round().astype(int)):
            rows.append([model, layer, size, *rarefy_with_interval(count, int(size))])
    return pd.DataFrame(rows, columns=["model", "layer", "units", "distinct", "low", "high"])


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

    Raises
    ------
    ValueError
        As `models` does.
    """
    labelled = _with_all(_labelled(concepts))
    names = sorted(labelled.category.unique())
    rows = []
    for (model, layer), group in labelled.groupby(["model", "layer"], sort=False):
        for name in names:
            units = int((group.category == name).sum())
            rows.append([model, layer, name, units, units / len(group), *_wilson(units, len(group))])
    return pd.DataFrame(rows, columns=["model", "layer", "category", "units", "share", "low", "high"])


def models(concepts: pd.DataFrame) -> pd.DataFrame:
    """Compare every two models over their configured layers.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`.

    Returns
    -------
    pandas.DataFrame
        ``model_a, model_b, distinct_a, distinct_b, shared, only_a, only_b, jaccard, rarefied_units, rarefied_a,
        rarefied_b, rarefied_difference, difference_low, difference_high, chi_square, p_value, cramers_v``: distinct
        concepts, how many both have, the counts at an equal number of units and a - b of these with its 95 % interval,
        and a chi-square test of equal category shares with its effect size.

    Raises
    ------
    ValueError
        If the labels come from more than one encoder, similarity or concept list; the message names them.
    """
    labelled = _labelled(concepts)
    rows = []
    for a, b in combinations(concepts.model.unique(), 2):
        counts_a, counts_b = (_concept_counts(labelled[labelled.model == model]) for model in (a, b))
        shared, union = len(counts_a.index.intersection(counts_b.index)), len(counts_a.index.union(counts_b.index))
        smallest = int(min(counts_a.sum(), counts_b.sum()))
        (mean_a, half_a), (mean_b, half_b) = (_rarefied(counts, smallest) for counts in (counts_a, counts_b))
        half = np.hypot(half_a, half_b)
        pair = labelled[labelled.model.isin([a, b])]
        chi_square, p, effect = _compare_shares(pd.crosstab(pair.model, pair.category).to_numpy())
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
                "rarefied_a": mean_a,
                "rarefied_b": mean_b,
                "rarefied_difference": mean_a - mean_b,
                "difference_low": mean_a - mean_b - half,
                "difference_high": mean_a - mean_b + half,
                "chi_square": chi_square,
                "p_value": p,
                "cramers_v": effect,
            }
        )
    columns = "model_a model_b distinct_a distinct_b shared only_a only_b jaccard rarefied_units rarefied_a rarefied_b"
    columns += " rarefied_difference difference_low difference_high chi_square p_value cramers_v"
    return pd.DataFrame(rows, columns=columns.split())


def category_differences(concepts: pd.DataFrame) -> pd.DataFrame:
    """Test for every category whether two models have different shares of it.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`.

    Returns
    -------
    pandas.DataFrame
        ``model_a, model_b, layer, category, units_a, labelled_a, share_a, units_b, labelled_b, share_b, difference,
        low, high, p_value, p_adjusted``: the layers together (``all``) and each layer name that both models have. The
        difference is a - b in shares with its 95 % interval (Newcombe 1998). The p-value is Fisher's: the exact
        permutation test that deals the units out to the two models; adjusted over all rows (Benjamini-Hochberg).

    Raises
    ------
    ValueError
        As `models` does.
    """
    labelled = _with_all(_labelled(concepts))
    names = sorted(labelled.category.unique())
    groups = dict(list(labelled.groupby(["model", "layer"], sort=False)))
    rows = []
    for a, b in combinations(labelled.model.unique(), 2):
        layers_of_a = [layer for model, layer in groups if model == a]
        for layer in [layer for layer in layers_of_a if (b, layer) in groups]:
            of_a, of_b = groups[a, layer].category, groups[b, layer].category
            for name in names:
                units, totals = [int((of == name).sum()) for of in (of_a, of_b)], [len(of_a), len(of_b)]
                test = stats.fisher_exact(_two_by_two(units, totals))
                shares = np.divide(units, totals)
                sides = [value for side in zip(units, totals, shares, strict=True) for value in side]
                difference = weighted_shares(units, totals, [1, -1])
                rows.append([a, b, layer, name, *sides, *difference, test.pvalue])
    columns = "model_a model_b layer category units_a labelled_a share_a units_b labelled_b share_b difference low high"
    table = pd.DataFrame(rows, columns=[*columns.split(), "p_value"])
    return table.assign(p_adjusted=benjamini_hochberg(table.p_value))


def unique_concepts(concepts: pd.DataFrame) -> pd.DataFrame:
    """List the concepts that one model has and no other.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`.

    Returns
    -------
    pandas.DataFrame
        ``model, concept, category, units, labelled, labelled_others, p_value, p_adjusted, tests``, most units first.
        The p-value is Fisher's, of units of the model carrying the concept as often as those of the others; adjusted
        for as many ``tests`` as all models have concepts, not only those listed. A concept of few units may be missing
        elsewhere by chance. Empty where there is one model.

    Raises
    ------
    ValueError
        As `models` does.
    """
    counts = frequent(concepts)
    counts = counts[counts.layer == ALL]
    total = counts.groupby("concept").units.sum()
    labelled = counts.groupby("model", sort=False).units.sum()
    rows = []
    for row in counts.itertuples() if len(labelled) > 1 else ():
        own, others = labelled[row.model], labelled.sum() - labelled[row.model]
        elsewhere = total[row.concept] - row.units
        test = stats.fisher_exact(_two_by_two([row.units, elsewhere], [own, others]))
        rows.append([row.model, row.concept, row.category, row.units, own, others, test.pvalue, elsewhere])
    columns = ["model", "concept", "category", "units", "labelled", "labelled_others", "p_value", "elsewhere"]
    table = pd.DataFrame(rows, columns=columns)
    table["p_adjusted"] = benjamini_hochberg(table.p_value)
    table["tests"] = len(table)
    return table[table.elsewhere == 0].drop(columns="elsewhere").reset_index(drop=True)


def trend(concepts: pd.DataFrame, *, seed: int = 0, n_resamples: int = 9999) -> pd.DataFrame:
    """Test for every model and category whether its share changes from layer to layer.

    Parameters
    ----------
    concepts : pandas.DataFrame
        As in `frequent`; the layers of a model in the order of their depth.
    seed : int
        Seed of the permutations.
    n_resamples : int
        Number of random permutations.

    Returns
    -------
    pandas.DataFrame
        ``model, category, first, last, layers, labelled, slope, low, high, p_value, p_adjusted``: the change of the
        share per layer, fitted by least squares over the units, with its 95 % interval. The p-value is that of the
        Cochran-Armitage statistic when units are dealt out to the layers at random; adjusted over all rows
        (Benjamini-Hochberg). A model with labels in fewer than two layers has no row.

    Raises
    ------
    ValueError
        As `models` does.
    """
    labelled = _labelled(concepts)
    names = sorted(labelled.category.unique())
    rows = []
    for model, group in labelled.groupby("model", sort=False):
        table = pd.crosstab(group.layer, group.category).reindex(group.layer.unique())
        if len(table) < 2:
            continue
        sizes, total = table.sum(axis=1).to_numpy(), len(group)
        depth = np.arange(len(sizes)) - np.arange(len(sizes)) @ sizes / total  # centred over the units
        weights = sizes * depth / (sizes @ depth**2)
        for name in names:
            units = table[name].to_numpy() if name in table else np.zeros(len(sizes), dtype=int)
            rng = np.random.default_rng(seed)
            dealt = rng.multivariate_hypergeometric(sizes, units.sum(), size=n_resamples, method="marginals")
            extreme = (np.abs(dealt @ depth) >= np.abs(units @ depth) * (1 - 1e-9)).sum()
            slope = weighted_shares(units, sizes, weights)
            p = (1 + extreme) / (1 + n_resamples)
            rows.append([model, name, table.index[0], table.index[-1], len(sizes), total, *slope, p])
    columns = ["model", "category", "first", "last", "layers", "labelled", "slope", "low", "high", "p_value"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_adjusted=benjamini_hochberg(table.p_value))


def relabel_subsets(
    activations: np.ndarray,
    image_features: np.ndarray,
    text_features: np.ndarray,
    *,
    similarity: str,
    photographs: np.ndarray,
    groups: np.ndarray,
    seed: int,
    fractions: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2, 1),
    sizes: Sequence[int] = (),
    draws: int = 5,
) -> pd.DataFrame:
    """Label the units of a layer again on parts of the probe set, to see how the number of concepts grows with it.

    Every unit that is not dead is labelled, whatever its evidence, so that the number of units hardly changes.

    Parameters
    ----------
    activations : array, shape (n, units)
        Pooled activations; a unit that is not finite on every image counts as a dead one.
    image_features : array, shape (n, d)
        Features of the same images.
    text_features : array, shape (m, d)
        Features of the concepts.
    similarity : str
        A key of `dissect.SIMILARITIES`.
    photographs : array, shape (n,)
        What each image was cut from: photographs are drawn, with all that was cut from them.
    groups : array, shape (m,)
        Name under which each concept counts.
    seed : int
        Seed of the draws.
    fractions : tuple of float
        Shares of the photographs, rounded up. In one draw the smaller parts lie in the larger ones.
    sizes : sequence of int
        Further parts, in photographs; those that are not smaller than the probe set are left out.
    draws : int
        Random orders of the photographs. All of the photographs are one draw.

    Returns
    -------
    pandas.DataFrame
        ``fraction, draw, photographs, images, units, distinct, kept``: labelled units, distinct concepts among them,
        and the share of the units labelled on all photographs that keep that concept. A part with fewer images than
        the similarity needs has no label: 0 units, and distinct and kept are NaN.
    """
    activations = silenced(torch.as_tensor(activations)).numpy()
    names, photograph = np.unique(photographs, return_inverse=True)
    words = np.append(np.asarray(groups, dtype=object), "")  # -1, no label, is the empty last
    order = np.random.default_rng(seed)
    ranks = [order.permutation(len(names))[photograph] for _ in range(draws)]  # an image's place in each random order

    def labels(rows: np.ndarray) -> np.ndarray:
        """Name of each unit's concept; empty for a dead unit and where there are too few images."""
        if rows.sum() < dissect.FEWEST_IMAGES[similarity]:
            return np.full(activations.shape[1], "", dtype=object)
        parts = (torch.as_tensor(part) for part in (activations[rows], image_features[rows], text_features))
        return words[dissect.label(dissect.SIMILARITIES[similarity](*parts)).concept]

    whole = labels(np.ones(len(photograph), dtype=bool))
    named = whole != ""
    table = []
    parts = {int(np.ceil(fraction * len(names))): fraction for fraction in fractions}
    parts = {size: size / len(names) for size in sizes if size < len(names)} | parts
    for size, fraction in sorted(parts.items()):
        for draw, rank in enumerate(ranks if size < len(names) else ranks[:1]):
            rows = rank < size
            part = labels(rows) if size < len(names) else whole
            found = part[part != ""]
            distinct, kept = (len(set(found)), (part == whole)[named].mean()) if len(found) else (np.nan, np.nan)
            table.append([fraction, draw, size, int(rows.sum()), len(found), distinct, kept])
    return pd.DataFrame(table, columns=["fraction", "draw", "photographs", "images", "units", "distinct", "kept"])


def probe_sizes(draws: pd.DataFrame) -> pd.DataFrame:
    """Summarise how the number of distinct concepts grows with the probe set.

    Parameters
    ----------
    draws : pandas.DataFrame
        Tables of `relabel_subsets`, with ``model`` and ``layer``.

    Returns
    -------
    pandas.DataFrame
        ``model, layer, fraction, photographs, images, draws, units, distinct, distinct_lowest, distinct_highest, kept,
        kept_lowest, kept_highest``: means over the draws of photographs, and the lowest and the highest draw. These
        are no confidence limits: draws of half of the photographs overlap.
    """
    grouped = draws.groupby(["model", "layer", "fraction"], sort=False)
    return grouped.agg(
        photographs=("photographs", "mean"),
        images=("images", "mean"),
        draws=("draw", "size"),
        units=("units", "mean"),
        distinct=("distinct", "mean"),
        distinct_lowest=("distinct", "min"),
        distinct_highest=("distinct", "max"),
        kept=("kept", "mean"),
        kept_lowest=("kept", "min"),
        kept_highest=("kept", "max"),
    ).reset_index()


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
    return float((1 - _missed(np.asarray(counts, dtype=float), size)).sum())


def rarefy_with_interval(counts: np.ndarray, size: int) -> tuple[float, float, float]:
    """Compute the expected number of distinct concepts among `size` units with its 95 % interval.

    Parameters
    ----------
    counts, size
        As in `rarefy`.

    Returns
    -------
    distinct, low, high : float
        The interval is that of the jackknife over units, kept between 0 and `size`. It holds the expected number for
        units drawn from a larger pool, so it does not close where all units are counted; NaN below `FEWEST` units.

    Raises
    ------
    ValueError
        If `size` exceeds N.
    """
    distinct, half = _rarefied(counts, size)
    return distinct, np.maximum(0, distinct - half), np.minimum(size, distinct + half)


def weighted_shares(units: np.ndarray, totals: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Weighted sum of independent shares with its 95 % interval.

    The interval is put together from Wilson's intervals of the shares (Zou and Donner 2008); with weights 1 and -1 it
    is Newcombe's (1998, method 10) of a difference. It does not collapse where a share is 0 or 1.

    Parameters
    ----------
    units, totals : array_like of int, shape (shares,)
        The shares are ``units / totals``.
    weights : array_like of float, shape (shares,)
        One for each share.

    Returns
    -------
    value, low, high : float
    """
    weights, shares = np.asarray(weights, dtype=float), np.divide(units, totals)
    bounds = np.array([_wilson(*pair) for pair in zip(units, totals, strict=True)])  # (shares, 2)
    downward = np.where(weights > 0, bounds[:, 0], bounds[:, 1]) - shares
    upward = np.where(weights > 0, bounds[:, 1], bounds[:, 0]) - shares
    value = float(weights @ shares)
    return value, value - float(np.hypot.reduce(weights * downward)), value + float(np.hypot.reduce(weights * upward))


def findings(
    layers: pd.DataFrame,
    models: pd.DataFrame,
    differences: pd.DataFrame,
    unique: pd.DataFrame,
    trend: pd.DataFrame,
    probe_sizes: pd.DataFrame,
) -> list[str]:
    """Say in sentences what the tables of this module show, with n, intervals and adjusted p-values.

    Parameters
    ----------
    layers, models, differences, unique, trend, probe_sizes : pandas.DataFrame
        Tables of `layers`, `models`, `category_differences`, `unique_concepts`, `trend` and `probe_sizes`.

    Returns
    -------
    list of str
        The last sentence says what intervals and tests are about.
    """
    sentences = [_rarefied_sentence(row) for row in models.itertuples() if row.rarefied_units]
    pooled = differences[differences.layer == ALL]
    for (a, b), group in pooled.groupby(["model_a", "model_b"], sort=False):
        sentences.append(_difference_sentence(a, b, group, adjusted(differences)))
    sentences += [_unique_sentence(model, group) for model, group in unique.groupby("model", sort=False)]
    sentences += [_trend_sentence(model, group, adjusted(trend)) for model, group in trend.groupby("model", sort=False)]
    sentences += [_concentration_sentence(model, group) for model, group in layers.groupby("model", sort=False)]
    sentences += [_probe_sentence(model, group) for model, group in probe_sizes.groupby("model", sort=False)]
    return [
        *filter(None, sentences),
        "These tests compare with dealing the same units out at random, and the intervals take units as independent; "
        "one network of each kind says nothing of the next one trained.",
    ]


def _rarefied_sentence(row: NamedTuple) -> str:
    sentence = (
        f"Among {row.rarefied_units:,} labelled units of each, {row.model_a} names {row.rarefied_a:.1f} and "
        f"{row.model_b} {row.rarefied_b:.1f} distinct concepts"
    )
    if np.isnan(row.difference_low):
        return f"{sentence}; without an interval, for there are fewer than {FEWEST} units or none makes a difference."
    interval = f"95 % interval of the difference {row.difference_low:.1f} to {row.difference_high:.1f}"
    if row.difference_low <= 0 <= row.difference_high:
        return f"{sentence} ({interval}): a difference is not supported."
    more = row.model_a if row.difference_low > 0 else row.model_b
    return f"{sentence} ({interval}): a difference is supported, {more} names more."


def _difference_sentence(a: str, b: str, group: pd.DataFrame, family: str) -> str:
    first = group.iloc[0]
    size = f"{first.labelled_a:,} and {counted(first.labelled_b, 'labelled unit')}"
    found = group[group.p_adjusted < SIGNIFICANT]
    if found.empty:
        return (
            f"No difference of category shares between {a} and {b} is supported at {size}; {_smallest(group, family)}."
        )
    parts = [
        f"{row.category} {_percent(row.share_a)} and {_percent(row.share_b)} (difference {100 * row.difference:+.1f} "
        f"points, 95 % interval {100 * row.low:+.1f} to {100 * row.high:+.1f}; {p_value(row.p_adjusted)})"
        for row in found.sort_values("p_adjusted", kind="stable").itertuples()
    ]
    return f"Category shares of {a} and {b} that differ ({size}; p {family}): {'; '.join(parts)}."


def _unique_sentence(model: str, group: pd.DataFrame) -> str:
    top, supported = group.iloc[0], int((group.p_adjusted < SIGNIFICANT).sum())
    listed = f"{counted(len(group), 'concept')} {'occur' if len(group) > 1 else 'occurs'} in {model} only"
    return (
        f"{listed}, most often {top.concept} ({top.units:,} of {counted(top.labelled, 'labelled unit')}); for "
        f"{supported or 'none'} of them is that more than chance (p < {SIGNIFICANT} adjusted for "
        f"{counted(top.tests, 'test')})."
    )


def _trend_sentence(model: str, group: pd.DataFrame, family: str) -> str:
    one = group.iloc[0]
    over = f"from {one['first']} to {one['last']} of {model} ({one.layers} layers, "
    over += f"{counted(one.labelled, 'labelled unit')})"
    found = group[group.p_adjusted < SIGNIFICANT]
    if found.empty:
        return f"No rise or fall of a category's share is supported {over}; {_smallest(group, family)}."
    parts = [
        f"{row.category} {'rises' if row.slope > 0 else 'falls'} by {100 * abs(row.slope):.1f} points a layer (95 % "
        f"interval {100 * row.low:+.1f} to {100 * row.high:+.1f}; {p_value(row.p_adjusted)})"
        for row in found.sort_values("p_adjusted", kind="stable").itertuples()
    ]
    return f"{over[0].upper()}{over[1:-1]}; p {family}): {'; '.join(parts)}."


def _concentration_sentence(model: str, group: pd.DataFrame) -> str | None:
    parts = []
    for row in group[group.labelled > 0].itertuples():
        interval = f", 95 % interval {_percent(row.top10_low)} to {_percent(row.top10_high)}"
        known = interval if pd.notna(row.top10_low) else ""
        parts.append(f"{_percent(row.top10_share)} in {row.layer} ({counted(row.labelled, 'unit')}{known})")
    return (
        f"The ten most frequent concepts name, of the labelled units of {model}, {'; '.join(parts)}." if parts else None
    )


def _probe_sentence(model: str, group: pd.DataFrame) -> str | None:
    parts = []
    for layer, sizes in group[group.units > 0].groupby("layer", sort=False):
        small, whole = sizes.iloc[0], sizes.iloc[-1]
        if small.fraction < whole.fraction:
            parts.append(
                f"{layer} {small.distinct:.4g} on {small.photographs:.0f} and {whole.distinct:.0f} on "
                f"{counted(round(whole.photographs), 'photograph')} ({_percent(small.kept)} of the units keep their "
                f"concept)"
            )
    if not parts:
        return None
    return (
        f"The number of distinct concepts depends on the size of the probe set; {model}, with every living unit "
        f"labelled whatever its evidence: {'; '.join(parts)}."
    )


def _smallest(group: pd.DataFrame, family: str) -> str:
    return f"smallest {p_value(group.p_adjusted.min())}, {family}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _labelled(concepts: pd.DataFrame) -> pd.DataFrame:
    """Units with a label, near-duplicate concepts under the name of their group; only what can be compared passes."""
    for column in ("encoder", "similarity", "concept_list"):
        if concepts[column].nunique() > 1:
            raise ValueError(
                f"labels of different {column.replace('_', ' ')}s cannot be compared: "
                f"{', '.join(concepts[column].unique())}"
            )
    labelled = concepts[concepts.status == "labelled"]
    return labelled.assign(concept=labelled["group"])


def _with_all(concepts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([concepts, concepts.assign(layer=ALL)], ignore_index=True)


def _groups(concepts: pd.DataFrame) -> list[tuple[str, str]]:
    """Model and layer pairs, models together, in the order of their appearance."""
    first = {model: position for position, model in enumerate(concepts.model.unique())}
    return sorted(dict.fromkeys(zip(concepts.model, concepts.layer, strict=True)), key=lambda pair: first[pair[0]])


def _concept_counts(labelled: pd.DataFrame) -> pd.Series:
    """Units of each concept, most frequent first, ties by name."""
    counts = labelled.concept.value_counts().rename_axis("concept").reset_index()
    return counts.sort_values(["count", "concept"], ascending=[False, True]).set_index("concept")["count"]


def _missed(counts: np.ndarray, size: int) -> np.ndarray:
    """Probability of each concept to be in none of `size` units."""
    total = counts.sum()
    if size > total:
        raise ValueError(f"`size` is {size}, but there are {total:.0f} units")
    remaining = total - counts
    possible = remaining >= size
    missed = np.zeros(len(counts))
    missed[possible] = np.exp(_log_choose(remaining[possible], size) - _log_choose(total, size))
    return missed


def _log_choose(n: np.ndarray | float, k: int) -> np.ndarray | float:
    return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _rarefied(counts: np.ndarray, size: int) -> tuple[float, float]:
    """Give the expected number of distinct concepts and half the width of its interval."""
    counts = np.asarray(counts)
    distinct = rarefy(counts, size)
    return distinct, _jackknife(counts, lambda left: rarefy(left, min(size, left.sum())))


def _jackknife(counts: np.ndarray, measure: Callable[[np.ndarray], float]) -> float:
    """Half the width of the 95 % interval of `measure` when each unit is left out once.

    NaN below `FEWEST` units, and where no unit makes a difference (as where many concepts tie for the tenth place).
    """
    total = counts.sum()
    if total < FEWEST:
        return np.nan
    counts = np.asarray(counts, dtype=float)
    sizes, concepts = np.unique(counts, return_counts=True)  # units of equally frequent concepts weigh the same
    values = []
    for size in sizes:
        left = counts.copy()
        left[np.argmax(counts == size)] -= 1
        values.append(measure(left[left > 0]))
    units = sizes * concepts
    spread = units @ (values - units @ values / total) ** 2
    return float(Z * np.sqrt((total - 1) / total * spread)) or np.nan


def _concentration(counts: np.ndarray) -> dict[str, float]:
    """Gini coefficient and top-10 share of the units of each concept, with their 95 % intervals."""
    row = {}
    for name, measure in {"gini": gini, "top10_share": _top_share}.items():
        value, half = measure(counts), _jackknife(counts, measure)
        prefix = name.removesuffix("_share")
        low, high = np.maximum(0, value - half), np.minimum(1, value + half)
        row |= {name: value, f"{prefix}_low": low, f"{prefix}_high": high}
    return row


def _top_share(counts: np.ndarray) -> float:
    """Share of the `TOP` most frequent concepts among the units; NaN where there are none."""
    return float(np.sort(counts)[-TOP:].sum() / counts.sum()) if len(counts) else np.nan


def _wilson(units: int, total: int) -> tuple[float, float]:
    interval = stats.binomtest(int(units), int(total)).proportion_ci(method="wilson")
    return interval.low, interval.high


def _two_by_two(units: list[int], totals: list[int]) -> list[list[int]]:
    """Units with and without a property, of two groups."""
    return [units, [total - those for those, total in zip(units, totals, strict=True)]]


def _compare_shares(table: np.ndarray) -> tuple[float, float, float]:
    """Chi-square test of a 2 x k table and Cramer's V; NaN where a model has no labels or there is one category."""
    if min(table.shape) < 2:
        return np.nan, np.nan, np.nan
    result = stats.chi2_contingency(table, correction=False)
    return result.statistic, result.pvalue, float(np.sqrt(result.statistic / table.sum()))
