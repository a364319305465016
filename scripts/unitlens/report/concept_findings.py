"""Say in sentences which concepts networks have learned, and what the evidence for the labels amounts to."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from unitlens.report import text
from unitlens.tables import resampling, unit_labels
from unitlens.tables.diversity import FEWEST

_WITHOUT_LABEL = (
    ("unlabelled", "has no label better than chance", "have no label better than chance"),
    ("dead", "is dead", "are dead"),
    ("constant", "is constant", "are constant"),
)


def concept_findings(
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
    pooled = differences[differences.layer == unit_labels.ALL]
    for (a, b), group in pooled.groupby(["model_a", "model_b"], sort=False):
        sentences.append(_difference_sentence(a, b, group, text.adjusted(differences)))
    sentences += [_unique_sentence(model, group) for model, group in unique.groupby("model", sort=False)]
    sentences += [
        _trend_sentence(model, group, text.adjusted(trend)) for model, group in trend.groupby("model", sort=False)
    ]
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
    size = f"{first.labelled_a:,} and {text.counted(first.labelled_b, 'labelled unit')}"
    found = group[group.p_adjusted < text.SIGNIFICANT]
    if found.empty:
        return (
            f"No difference of category shares between {a} and {b} is supported at {size}; {_smallest(group, family)}."
        )
    parts = [
        f"{row.category} {_percent(row.share_a)} and {_percent(row.share_b)} (difference {100 * row.difference:+.1f} "
        f"points, 95 % interval {100 * row.low:+.1f} to {100 * row.high:+.1f}; {text.p_value(row.p_adjusted)})"
        for row in found.sort_values("p_adjusted", kind="stable").itertuples()
    ]
    return f"Category shares of {a} and {b} that differ ({size}; p {family}): {'; '.join(parts)}."


def _unique_sentence(model: str, group: pd.DataFrame) -> str:
    top, supported = group.iloc[0], int((group.p_adjusted < text.SIGNIFICANT).sum())
    listed = f"{text.counted(len(group), 'concept')} {'occur' if len(group) > 1 else 'occurs'} in {model} only"
    return (
        f"{listed}, most often {top.concept} ({top.units:,} of {text.counted(top.labelled, 'labelled unit')}); for "
        f"{supported or 'none'} of them is that more than chance (p < {text.SIGNIFICANT} adjusted for "
        f"{text.counted(top.tests, 'test')})."
    )


def _trend_sentence(model: str, group: pd.DataFrame, family: str) -> str:
    one = group.iloc[0]
    over = f"from {one['first']} to {one['last']} of {model} ({one.layers} layers, "
    over += f"{text.counted(one.labelled, 'labelled unit')})"
    found = group[group.p_adjusted < text.SIGNIFICANT]
    if found.empty:
        return f"No rise or fall of a category's share is supported {over}; {_smallest(group, family)}."
    parts = [
        f"{row.category} {'rises' if row.slope > 0 else 'falls'} by {100 * abs(row.slope):.1f} points a layer (95 % "
        f"interval {100 * row.low:+.1f} to {100 * row.high:+.1f}; {text.p_value(row.p_adjusted)})"
        for row in found.sort_values("p_adjusted", kind="stable").itertuples()
    ]
    return f"{over[0].upper()}{over[1:-1]}; p {family}): {'; '.join(parts)}."


def _concentration_sentence(model: str, group: pd.DataFrame) -> str | None:
    parts = []
    for row in group[group.labelled > 0].itertuples():
        interval = f", 95 % interval {_percent(row.top10_low)} to {_percent(row.top10_high)}"
        known = interval if pd.notna(row.top10_low) else ""
        parts.append(f"{_percent(row.top10_share)} in {row.layer} ({text.counted(row.labelled, 'unit')}{known})")
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
                f"{text.counted(round(whole.photographs), 'photograph')} ({_percent(small.kept)} of the units "
                f"keep their concept)"
            )
    if not parts:
        return None
    return (
        f"The number of distinct concepts depends on the size of the probe set; {model}, with every living unit "
        f"labelled whatever its evidence: {'; '.join(parts)}."
    )


def _smallest(group: pd.DataFrame, family: str) -> str:
    return f"smallest {text.p_value(group.p_adjusted.min())}, {family}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def evidence_findings(table: pd.DataFrame, *, seed: int = 0) -> list[str]:
    """Say in sentences what the evidence amounts to.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `label_table`, of one or more layers that were labelled with one ``alpha``.
    seed : int
        Of the resamples of the units that give intervals.

    Returns
    -------
    list of str
        With an ``alpha`` of 1, which asks nothing of a label, the units that are better than chance are those at 0.05.
    """
    living = table[~table.status.isin(unit_labels.SILENT)]
    broken = (table.status == "not finite").sum()
    states = "dead, constant or not finite" if broken else "dead or constant"
    if living.empty:
        return [f"None of the {text.counted(len(table), 'unit')} responds to anything: all are {states}."]
    tested, still = living[living.p_value.notna()], len(table) - len(living)
    still = f"{text.counted(still, 'unit')} {'is' if still == 1 else 'are'} {states}."
    if tested.empty:
        return [f"None of {text.counted(len(living), 'living unit')} could be tested, so none has a label. {still}"]
    asked = living.alpha.iloc[0]
    bar = text.SIGNIFICANT if asked == 1 else asked
    better = living[living.q_value <= bar]
    photographs = (
        f"{text.counted(living.photographs.iloc[0], 'photograph')} ({text.counted(living.images.iloc[0], 'image')})"
    )
    lines = [
        f"{len(better):,} of {text.counted(len(living), 'living unit')} ({len(better) / len(living):.0%}) "
        f"{'has' if len(better) == 1 else 'have'} a label that is better than chance at q = {bar:g} (permutation of "
        f"{photographs}, adjusted for the choice of the concept and for the units of a layer; no p-value can be below "
        f"{living.p_floor.max():.2g}). {still}",
        f"Resampling the photographs keeps the label of the median living unit in {living.kept.median():.0%} of the "
        f"resamples, and its group of near-duplicates in {living.kept_group.median():.0%}.",
    ]
    if asked == 1:
        lines[0] += f" With an alpha of 1 all {len(tested):,} that could be tested are labelled nevertheless."
    if better.empty:
        lines.append(f"Not supported at n = {photographs}: that any unit has the concept it is labelled with.")
    for name, units in (("all living units", living), ("those better than chance", better)):
        mean = resampling.mean_with_interval(units.held_out_correlation.dropna(), seed=seed)
        if mean.n_groups >= 3:
            lines.append(
                f"A label found on one half of the photographs correlates with its unit on the other half at "
                f"{mean.mean:.2f} on average over {name} (95 % interval {mean.low:.2f} to {mean.high:.2f}, "
                f"n = {mean.n} units taken as independent, {photographs})."
            )
    if living.held_out_correlation.isna().all():
        lines.append("There is no held-out check: half of the probe set is fewer images than the similarity needs.")
    return lines


def label_sentences(concepts: pd.DataFrame, encoder: str) -> list[str]:
    """Say how many units of each model have a label, how many concepts these name, and why the others have none.

    Near-duplicates count as one concept, as in every table of `compare`.
    """
    sentences = []
    for model, group in concepts.groupby("model", sort=False):
        counts = group["status"].value_counts()
        labelled, layers = group[group["status"] == "labelled"], group["layer"].nunique()
        sentence = (
            f"The {encoder} labels {len(labelled):,} of the {text.counted(len(group), 'unit')} in "
            f"{text.counted(layers, 'layer')} of {model} with "
            f"{text.counted(labelled['group'].nunique(), 'distinct concept')}"
        )
        others = [
            f"{text.counted(counts[status], 'unit')} {one if counts[status] == 1 else many}"
            for status, one, many in _WITHOUT_LABEL
            if status in counts
        ]
        broken = group.loc[group["status"] == "not finite", "layer"].value_counts(sort=False)
        others += [
            f"{text.counted(n, 'unit')} of {layer} {'returns' if n == 1 else 'return'} NaN or infinity"
            for layer, n in broken.items()
        ]
        sentences.append("; ".join([sentence, *([text.enumerate(others)] if others else [])]) + ".")
    return sentences


def frequency_sentences(frequent: pd.DataFrame) -> list[str]:
    """Name the three concepts that most units of each model are labelled with."""
    return [
        f"In {model} most units are labelled "
        + text.enumerate(
            f"{row.concept} ({text.counted(row.units, 'unit')}, {text.percent(row.share)})"
            for row in group.head(3).itertuples()
        )
        + "; shares are of its labelled units."
        for model, group in frequent[frequent["layer"] == "all"].groupby("model", sort=False)
    ]


def category_sentences(categories: pd.DataFrame) -> list[str]:
    """Give the largest and the smallest category of each model."""
    sentences = []
    for model, group in categories[categories["layer"] == "all"].groupby("model", sort=False):
        ranked = group.sort_values("share", ascending=False, kind="stable")
        largest, *others = [
            f"{row.category} at {text.percent(row.share)} (95 % interval {text.percents(row.low, row.high)})"
            for row in ranked.itertuples()
        ]
        smallest = f", the smallest {others[-1]}" if others else ""
        sentences.append(f"The largest category among the labelled units of {model} is {largest}{smallest}.")
    return sentences


def netdissect_findings(summary: pd.DataFrame) -> list[str]:
    """Say in sentences what Network Dissection finds, and how it compares with the CLIP labels.

    Parameters
    ----------
    summary : pandas.DataFrame
        Of `summarise`.

    Returns
    -------
    list of str
    """
    sentences = []
    for row in summary.itertuples():
        sentence = (
            f"Of the {text.counted(row.units, 'unit')} of {row.layer} of {row.model}, "
            f"Network Dissection ({row.masks}) calls "
            f"{text.counted(row.detectors, 'detector')}, of "
            f"{text.counted(row.unique_detectors, 'different concept')}"
        )
        if row.on_one_photograph:
            sentence += f" ({row.on_one_photograph:,} of what a single photograph shows)"
        if not row.compared:
            sentences.append(f"{sentence}; none of them has a CLIP label to compare.")
            continue
        verdict = "agreement beyond chance is not supported"
        if row.p_adjusted < text.SIGNIFICANT:
            above = row.cosine > row.cosine_chance
            verdict = f"{'agreement beyond' if above else 'less agreement than by'} chance is supported"
        sentences.append(
            f"{sentence}. The two labels of {row.compared:,} of them have a mean text cosine of {row.cosine:.2f}, "
            f"against {row.cosine_chance:.2f} if dealt at random: {verdict} ({text.p_value(row.p_adjusted)}, "
            f"{text.adjusted(summary)}, units taken as independent); {row.same:,} "
            f"{'names' if row.same == 1 else 'name'} the same."
        )
    return sentences
