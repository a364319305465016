"""Which concepts networks have learned: frequent, shared and unique ones, categories, differences, trends.

Concepts are counted over named units, with selective ones beside them under their best word (`unit_labels.COUNTED`);
categories, differences and trends are of selective ones. Near-duplicate concepts count as the one that names their
group.
A layer's units are all the units that it has, no sample. Tests ask whether a difference exceeds what dealing these very
units out at random gives; intervals take the units as drawn independently from a larger pool of such units. Neither
says anything about the network trained again.
"""

from itertools import combinations, product

import numpy as np
import pandas as pd
import scipy

from unitlens.tables import diversity, resampling, unit_labels
from unitlens.tables.resampling import benjamini_hochberg


def frequent(concepts: pd.DataFrame) -> pd.DataFrame:
    """Count the named units of every concept, most frequent first; the layer ``all`` pools a model's layers.

    ``others`` are selective units without a name whose best word it is; they break ties, then the name does. The
    category is that of most of the concept's units, over all models.
    """
    labeled = unit_labels.with_all(unit_labels.counted_units(concepts))
    pairs = labeled.groupby(["concept", "category"]).size().sort_values(ascending=False, kind="stable").reset_index()
    category = pairs.drop_duplicates("concept").set_index("concept").category
    named = (labeled["status"] == "named").astype(int)
    parts = labeled.assign(units=named, others=1 - named).groupby(["model", "layer", "concept"], sort=False)
    counts = parts[["units", "others"]].sum().reset_index()
    counts.insert(3, "category", counts.concept.map(category))
    total = counts.groupby(["model", "layer"]).units.transform("sum")
    counts["share"] = counts.units / total.where(total > 0)
    order = {key: position for position, key in enumerate(unit_labels.groups(labeled))}
    counts["order"] = [order[key] for key in zip(counts.model, counts.layer, strict=True)]
    counts = counts.sort_values(["order", "units", "others", "concept"], ascending=[True, False, False, True])
    return counts.drop(columns="order").reset_index(drop=True)


def layers(concepts: pd.DataFrame) -> pd.DataFrame:
    """Summarize every layer, by named and by selective units.

    Distinct concepts are rarefied to as many such units as the layer with the fewest has. A layer without any has no
    rarefied count and does not lower that of the others.
    """
    groups = dict(list(concepts.groupby(["model", "layer"], sort=False)))
    counts, smallest = {}, {}
    for claim in unit_labels.COUNTED:
        counted = unit_labels.counted_units(concepts, claim)
        by_layer = dict(list(counted.groupby(["model", "layer"], sort=False)))
        counts[claim] = {key: unit_labels.concept_counts(by_layer.get(key, counted.iloc[:0])) for key in groups}
        smallest[claim] = min((int(count.sum()) for count in counts[claim].values() if len(count)), default=0)
    rows = []
    for ((model, layer), group), claim in product(groups.items(), counts):
        count = counts[claim][model, layer]
        dead = int(group.status.isin(["dead", "constant"]).sum())
        rarefied = diversity.rarefy_with_interval(count, smallest[claim]) if len(count) else [np.nan] * 3
        top = (count.index[0], int(count.iloc[0])) if len(count) else ("", 0)
        numbers = [group.top_k.iloc[0], len(group), dead, int(count.sum()), len(count), smallest[claim]]
        rows.append([model, layer, claim, *numbers, *rarefied, *top, *diversity.concentration(count.to_numpy())])
    columns = "model layer claim top_k units dead units_counted distinct rarefied_units distinct_rarefied"
    columns += (
        " distinct_low distinct_high top_concept top_units gini gini_low gini_high top10_share top10_low top10_high"
    )
    return pd.DataFrame(rows, columns=columns.split())


def categories(concepts: pd.DataFrame) -> pd.DataFrame:
    """Give the share of every category among the selective units of each layer, with Wilson's 95 % interval."""
    labeled = unit_labels.with_all(unit_labels.counted_units(concepts))
    names = sorted(labeled.category.unique())
    rows = []
    for (model, layer), group in labeled.groupby(["model", "layer"], sort=False):
        for name in names:
            units = int((group.category == name).sum())
            rows.append([model, layer, name, units, units / len(group), *resampling.wilson(units, len(group))])
    return pd.DataFrame(rows, columns=["model", "layer", "category", "units", "share", "low", "high"])


def models(concepts: pd.DataFrame) -> pd.DataFrame:
    """Compare the concepts of every two models, their number among equally many units, and their categories.

    Of named and of selective units. The chi-square test is of equal category shares; its effect size is Cramer's V.
    """
    counted = {claim: unit_labels.counted_units(concepts, claim) for claim in unit_labels.COUNTED}
    rows = []
    for (a, b), (claim, labeled) in product(combinations(concepts.model.unique(), 2), counted.items()):
        counts_a, counts_b = (unit_labels.concept_counts(labeled[labeled.model == model]) for model in (a, b))
        distinct_a, distinct_b, shared = len(counts_a), len(counts_b), len(counts_a.index.intersection(counts_b.index))
        union = distinct_a + distinct_b - shared
        distinct = [distinct_a, distinct_b, shared, distinct_a - shared, distinct_b - shared]
        smallest = int(min(counts_a.sum(), counts_b.sum()))
        (mean_a, half_a), (mean_b, half_b) = (diversity.rarefied(counts, smallest) for counts in (counts_a, counts_b))
        difference, half = mean_a - mean_b, np.hypot(half_a, half_b)
        rarefied = [smallest, mean_a, mean_b, difference, difference - half, difference + half]
        pair = labeled[labeled.model.isin([a, b])]
        test = _compare_shares(pd.crosstab(pair.model, pair.category).to_numpy())
        rows.append([a, b, claim, *distinct, shared / union if union else np.nan, *rarefied, *test])
    columns = (
        "model_a model_b claim distinct_a distinct_b shared only_a only_b jaccard rarefied_units rarefied_a rarefied_b"
    )
    columns += " rarefied_difference difference_low difference_high chi_square p_value cramers_v"
    return pd.DataFrame(rows, columns=columns.split())


def category_differences(concepts: pd.DataFrame) -> pd.DataFrame:
    """Test for every category whether two models have different shares of it, in all layers and in each of one name.

    The interval of the difference is Newcombe's (1998). The p-value is Fisher's: the exact permutation test that deals
    the units out to the two models; adjusted over all rows (Benjamini-Hochberg).
    """
    labeled = unit_labels.with_all(unit_labels.counted_units(concepts))
    names = sorted(labeled.category.unique())
    groups = dict(list(labeled.groupby(["model", "layer"], sort=False)))
    rows = []
    for a, b in combinations(labeled.model.unique(), 2):
        layers_of_a = [layer for model, layer in groups if model == a]
        for layer in [layer for layer in layers_of_a if (b, layer) in groups]:
            of_a, of_b = groups[a, layer].category, groups[b, layer].category
            for name in names:
                units, totals = [int((of == name).sum()) for of in (of_a, of_b)], [len(of_a), len(of_b)]
                test = scipy.stats.fisher_exact(_two_by_two(units, totals))
                shares = np.divide(units, totals)
                sides = [value for side in zip(units, totals, shares, strict=True) for value in side]
                difference = weighted_shares(units, totals, [1, -1])
                rows.append([a, b, layer, name, *sides, *difference, test.pvalue])
    columns = "model_a model_b layer category units_a labeled_a share_a units_b labeled_b share_b difference low high"
    table = pd.DataFrame(rows, columns=[*columns.split(), "p_value"])
    return table.assign(p_adjusted=benjamini_hochberg(table.p_value))


def unique_concepts(concepts: pd.DataFrame) -> pd.DataFrame:
    """List the concepts that one model has and no other, most units first; empty where there is one model.

    The p-value is Fisher's, of units of the model carrying the concept as often as those of the others; adjusted for as
    many ``tests`` as all models have concepts, not only those listed. A concept of few units may be missing elsewhere
    by chance.
    """
    counts = frequent(concepts)
    counts = counts[counts.layer == unit_labels.ALL]
    counts = counts.assign(units=counts.units + counts.others)
    counts["order"] = counts.groupby("model", sort=False).ngroup()
    counts = counts.sort_values(["order", "units", "concept"], ascending=[True, False, True], kind="stable")
    total = counts.groupby("concept").units.sum()
    labeled = counts.groupby("model", sort=False).units.sum()
    rows = []
    for row in counts.itertuples() if len(labeled) > 1 else ():
        own, others = labeled[row.model], labeled.sum() - labeled[row.model]
        elsewhere = total[row.concept] - row.units
        test = scipy.stats.fisher_exact(_two_by_two([row.units, elsewhere], [own, others]))
        rows.append([row.model, row.concept, row.category, row.units, own, others, test.pvalue, elsewhere])
    columns = ["model", "concept", "category", "units", "labeled", "labeled_others", "p_value", "elsewhere"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.assign(p_adjusted=benjamini_hochberg(table.p_value), tests=len(table))
    return table[table.elsewhere == 0].drop(columns="elsewhere").reset_index(drop=True)


def trend(concepts: pd.DataFrame, *, seed: int = 0, n_resamples: int = 9999) -> pd.DataFrame:
    """Test for every model and category whether its share changes from layer to layer, in the order of the rows.

    The slope is the change of the share per layer, fitted by least squares over the units. The p-value is that of the
    Cochran-Armitage statistic when units are shuffled among the layers, `n_resamples` times; adjusted over all
    rows (Benjamini-Hochberg). A model with labels in fewer than two layers has no row.
    """
    labeled = unit_labels.counted_units(concepts)
    names = sorted(labeled.category.unique())
    rows = []
    for model, group in labeled.groupby("model", sort=False):
        table = pd.crosstab(group.layer, group.category).reindex(group.layer.unique())
        if len(table) < 2:
            continue
        sizes, total = table.sum(axis=1).to_numpy(), len(group)
        depth = np.arange(len(sizes)) - np.arange(len(sizes)) @ sizes / total  # centered over the units
        weights = sizes * depth / (sizes @ depth**2)
        for name in names:
            units = table[name].to_numpy() if name in table else np.zeros(len(sizes), dtype=int)
            rng = np.random.default_rng(seed)
            dealt = rng.multivariate_hypergeometric(sizes, units.sum(), size=n_resamples, method="marginals")
            extreme = (np.abs(dealt @ depth) >= np.abs(units @ depth) * (1 - 1e-9)).sum()
            slope = weighted_shares(units, sizes, weights)
            p = (1 + extreme) / (1 + n_resamples)
            rows.append([model, name, table.index[0], table.index[-1], len(sizes), total, *slope, p])
    columns = ["model", "category", "first", "last", "layers", "labeled", "slope", "low", "high", "p_value"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_adjusted=benjamini_hochberg(table.p_value))


def weighted_shares(units: np.ndarray, totals: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Weighted sum of independent shares ``units / totals``, each of shape (shares,), with its 95 % interval.

    The interval is put together from Wilson's intervals of the shares (Zou and Donner 2008); with weights 1 and -1 it
    is Newcombe's (1998, method 10) of a difference. It does not collapse where a share is 0 or 1.
    """
    weights, shares = np.asarray(weights, dtype=float), np.divide(units, totals)
    bounds = np.array([resampling.wilson(*pair) for pair in zip(units, totals, strict=True)])  # (shares, 2)
    downward = np.where(weights > 0, bounds[:, 0], bounds[:, 1]) - shares
    upward = np.where(weights > 0, bounds[:, 1], bounds[:, 0]) - shares
    value = float(weights @ shares)
    return value, value - float(np.hypot.reduce(weights * downward)), value + float(np.hypot.reduce(weights * upward))


def _two_by_two(units: list[int], totals: list[int]) -> list[list[int]]:
    """Units with and without a property, of two groups."""
    return [units, [total - those for those, total in zip(units, totals, strict=True)]]


def _compare_shares(table: np.ndarray) -> tuple[float, float, float]:
    """Chi-square test of a 2 x k table and Cramer's V; NaN where a model has no labels or there is one category."""
    if min(table.shape) < 2:
        return np.nan, np.nan, np.nan
    test = scipy.stats.chi2_contingency(table, correction=False)
    return test.statistic, test.pvalue, float(scipy.stats.contingency.association(table, correction=False))
