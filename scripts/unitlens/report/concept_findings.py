"""Find what is to say of the concepts that networks have learned, and of the evidence for the labels.

docs/outputs.md has the columns of the tables. The words stand in templates/findings, concepts.j2 and
networks.j2.
"""

import numpy as np
import pandas as pd

from unitlens.report import text
from unitlens.report.pages import say
from unitlens.tables import linear_labels, resampling, unit_labels, word_controls
from unitlens.tables.diversity import FEWEST


def concept_findings(
    layers: pd.DataFrame,
    models: pd.DataFrame,
    differences: pd.DataFrame,
    unique: pd.DataFrame,
    trend: pd.DataFrame,
    probe_sizes: pd.DataFrame,
) -> list[str]:
    """Say what networks learn and how they differ, and last what intervals and tests are about."""
    sentences = []
    for row in models.to_dict("records"):
        if row["rarefied_units"]:
            sentences += say("networks.rarefied", row=row, fewest=FEWEST)
    pooled = differences[differences.layer == unit_labels.ALL]
    for _, group in pooled.groupby(["model_a", "model_b"], sort=False):
        sentences += _tested("networks.differences", group, differences)
    for _, group in unique.groupby("model", sort=False):
        supported = int((group.p_adjusted < text.SIGNIFICANT).sum())
        top = group.iloc[0].to_dict()
        sentences += say("networks.unique", concepts=len(group), top=top, supported=supported)
    for _, group in trend.groupby("model", sort=False):
        sentences += _tested("networks.trend", group, trend)
    for (model, claim), group in layers.groupby(["model", "claim"], sort=False):
        counted = group[group.units_counted > 0].to_dict("records")
        sentences += say("networks.concentration", model=model, claim=claim, layers=counted)
    for model, group in probe_sizes.groupby("model", sort=False):
        by_layer = [sizes.to_dict("records") for _, sizes in group[group.units > 0].groupby("layer", sort=False)]
        ends = [(sizes[0], sizes[-1]) for sizes in by_layer if sizes[0]["fraction"] < sizes[-1]["fraction"]]
        sentences += say("networks.probe_sizes", model=model, layers=ends)
    return sentences + say("networks.what_tests_mean")


def forecast_findings(forecast: pd.DataFrame) -> list[str]:
    """Say how often words come again on other source images, and how many source images it would take."""
    sentences = []
    for model, group in forecast.groupby("model", sort=False):
        layers = group[group["again"].notna()].to_dict("records")
        sentences += say("networks.forecast", model=model, layers=layers)
    return sentences


def _tested(sentence: str, group: pd.DataFrame, family: pd.DataFrame) -> list[str]:
    """Name the rows of a group that are significant, or the smallest p-value if none is."""
    found = group[group.p_adjusted < text.SIGNIFICANT].sort_values("p_adjusted", kind="stable")
    return say(
        sentence,
        one=group.iloc[0].to_dict(),
        found=found.to_dict("records"),
        smallest=group.p_adjusted.min(),
        adjusted=text.adjusted(family),
    )


def evidence_findings(table: pd.DataFrame) -> list[str]:
    """Say what the evidence for labels amounts to, by `label_table` of layers that were labeled with one ``alpha``."""
    living = table[~table.status.isin(unit_labels.SILENT)]
    broken = (table.status == "not finite").any()
    if living.empty:
        return say("concepts.none_living", units=len(table), broken=broken)
    silent = len(table) - len(living)
    if living.p_value.isna().all():
        return say("concepts.none_tested", living=len(living), silent=silent, broken=broken)
    better = living[living.status.isin(unit_labels.CLAIMS)]
    correlations = {
        name: resampling.mean_with_interval(units.held_out_correlation.dropna())
        for name, units in (("all living units", living), ("those better than chance", better))
    }
    annotated = resampling.mean_with_interval(better.get("held_out_auc", pd.Series(dtype=float)).dropna())
    sentences = say(
        "concepts.evidence",
        living=len(living),
        silent=silent,
        broken=broken,
        better=len(better),
        bar=living.alpha.max(),
        probe=(living.source_images.max(), living.images.max()),
        p_floor=living.p_floor.min(),
        kept=living.kept.median(),
        kept_group=living.kept_group.median(),
        claims=_claims(living),
        alone=_one_meaning(living),
        held_out={name: mean for name, mean in correlations.items() if mean.n_groups >= resampling.FEWEST_GROUPS},
        annotated=annotated if annotated.n_groups >= resampling.FEWEST_GROUPS else None,
    )
    sentences += say("concepts.no_held_out") if living.held_out_correlation.isna().all() else []
    of_layer = living[living["similarity"] == "soft_wpmi"].groupby("layer", sort=False)["top_k"].first()
    chosen = [(layer, int(top_k)) for layer, top_k in of_layer.items()]
    others = any(top_k != unit_labels.PUBLISHED_TOP_K for _, top_k in chosen)
    return sentences + (say("concepts.top_images", layers=chosen) if others else [])


def _one_meaning(living: pd.DataFrame) -> bool:
    """Tell whether the best words of all units have no word of another meaning beside them."""
    labeled = living[living["candidate"].fillna("").ne("")]
    return len(labeled) > 0 and bool(labeled["margin_group"].isna().all())


def _claims(living: pd.DataFrame) -> dict[str, object]:
    """Count named units and themes of one encoder's labels, and tell how large sets are; empty where none has a set."""
    known = living[living["status"].isin(unit_labels.CLAIMS) & living["set_size"].notna()]
    if known.empty:
        return {}
    counts = {name: int((living["status"] == name).sum()) for name in ("named", "theme")}
    endless = bool(np.isinf(known["gap"]).any())
    return counts | {"size": known["set_size"].median(), "endless": endless, "units": len(known)}


def linear_findings(table: pd.DataFrame) -> list[str]:
    """Say what linear labels predict on held-out source images, beside single labels, by `linear_table` of layers."""
    sentences = []
    probe = {name: table[name].iloc[0] for name in ("repeats", "source_images")} if len(table) else {}
    for row in linear_labels.compare(table).to_dict("records"):
        if row["units"]:
            sentences += say("concepts.linear", row=row, **probe)
    return sentences


def control_findings(controls: pd.DataFrame) -> list[str]:
    """Say how often words are right where the truth is known, and how often there are words where nothing is to name.

    The table is of `word_controls.beside`.
    """
    sentences = []
    for model, group in controls.groupby("model", sort=False):
        rows = {name: own.to_dict("records") for name, own in group.groupby("control", sort=False)}
        classes, unlisted = (rows[name][0] for name in (word_controls.CLASSES, word_controls.UNLISTED))
        shown = {"classes": classes, "unlisted": unlisted, "shuffled": rows.get(word_controls.SHUFFLED, [])}
        sentences += say("concepts.controls", model=model, sought=word_controls.SOUGHT, **shown)
    copies = controls["near_copies"].max() if len(controls) else 0
    sentences += say("concepts.near_copies", copies=int(copies)) if copies > 0 else []
    return sentences + (say("concepts.what_controls_say") if sentences else [])


def label_sentences(concepts: pd.DataFrame, encoder: str) -> list[str]:
    """Say how many units of each model are named, by how many concepts, and what is known of the others.

    Near-duplicates count as one concept, as in every table of `comparison`.
    """
    sentences = []
    for model, group in concepts.groupby("model", sort=False):
        counts = group["status"].value_counts()
        broken = group.loc[group["status"] == "not finite", "layer"].value_counts(sort=False)
        kinds = (*unit_labels.STATUSES[1:], "dead", "constant")
        without = [(counts[status], status, "") for status in kinds if status in counts]
        without += [(n, "not finite", layer) for layer, n in broken.items()]
        named = group[group["status"] == "named"]
        sentences += say(
            "concepts.labels",
            encoder=encoder,
            model=model,
            units=len(group),
            named=len(named),
            layers=group["layer"].nunique(),
            distinct=named["group"].nunique(),
            without=without,
        )
    return sentences


def frequency_sentences(frequent: pd.DataFrame) -> list[str]:
    """Give the three most frequent names of each model, and the best words of selective units without a name."""
    sentences = []
    for model, group in frequent[frequent["layer"] == unit_labels.ALL].groupby("model", sort=False):
        names = group[group["units"] > 0].head(3).to_dict("records")
        others = group[group["others"] > 0].sort_values("others", ascending=False, kind="stable")
        counts = {"others": others.head(3).to_dict("records"), "total": int(group["others"].sum())}
        sentences += say("concepts.frequent", model=model, names=names, **counts)
    return sentences


def category_sentences(categories: pd.DataFrame) -> list[str]:
    """Give the largest and the smallest category of each model."""
    sentences = []
    for model, group in categories[categories["layer"] == unit_labels.ALL].groupby("model", sort=False):
        ranked = group.sort_values("share", ascending=False, kind="stable").to_dict("records")
        largest = [row["category"] for row in ranked if row["share"] == ranked[0]["share"]]
        ends = ranked[:1] + ranked[len(largest) :][-1:]
        sentences += say("concepts.categories", model=model, largest=largest, ends=ends)
    return sentences


def netdissect_findings(summary: pd.DataFrame, units: pd.DataFrame) -> list[str]:
    """Say which units masks name, and how far Network Dissection and the CLIP labels agree.

    The tables are of `netdissect.summarize`, and what that was given.
    """
    sentences = []
    for row in summary.to_dict("records"):
        of_layer = (units.model == row["model"]) & (units.layer == row["layer"])
        named = units[of_layer & (units.status == "named")]
        counts = [named[column].value_counts() for column in ("mask_category", "mask_concept")]
        counts = [
            [(n, name) for name, n in sorted(each.items(), key=lambda pair: (-pair[1], pair[0]))] for each in counts
        ]
        sentences += say("concepts.named_by_masks", row=row, categories=counts[0], concepts=counts[1][:3])
        sentences += say("concepts.netdissect", row=row, adjusted=text.adjusted(summary))
    return sentences + (say("concepts.what_named_means") if sentences else [])
