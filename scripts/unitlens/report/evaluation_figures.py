"""Draw how explainers agree, find objects, pass sanity checks and are faithful.

Tables are those of `unitlens.tables` (docs/outputs.md); `titles` say what the axis of a measure is called.
"""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unitlens.measures.agreement import chance_iou
from unitlens.report import charts
from unitlens.report.text import (
    BASELINE_TITLES,
    CURVE_TITLES,
    FAITHFULNESS_TITLES,
    MEASURE_TITLES,
    explainer_title,
    pair_title,
)

CONTROL_LINES = {"random": "--", "gaussian": ":"}
NO_SCORE = "There is no source image on which an explanation was scored."
NO_PAIR = "There is no source image on which two explainers can be compared."


@charts.drawing
def agreement(summary: pd.DataFrame, *, measure: str) -> Figure:
    """Draw the mean agreement of every two explainers with its 95 % interval, by model.

    Of ``equal_area_iou``, ``threshold_iou`` or ``spearman``; chance is a dashed line where it is known.
    """
    rows = summary[summary["measure"] == measure]
    charts.require(rows, "mean", NO_PAIR)
    rows = _with_pairs(rows)
    labels = {
        pair: f"{pair}\nn = {' / '.join(map(str, own['n'].unique()))}"
        for pair, own in charts.split(rows, "pair").items()
    }
    (panel,) = panels = charts.dot_plot({"": rows}, row="pair", series="model", labels=labels, heights=(0.42, 0.2))
    for number, chance in enumerate(rows["chance"].dropna().unique()):
        panel.axvline(chance, **charts.CHANCE_LINE | {"label": f"chance ({chance:.3f})" if number == 0 else None})
    if measure != "spearman":
        panel.set_xlim(left=0)
    title = MEASURE_TITLES[measure]
    panel.set_xlabel(f"mean {title.replace('Equal', 'equal')} over source images, 95 % bootstrap interval")
    return charts.finished(panels, f"{title} of every two explainers", ncols=2)


@charts.drawing
def agreement_sweep(summary: pd.DataFrame) -> Figure:
    """Draw the equal-area IoU of every two explainers against the area that maps are cut to, one panel a pair."""
    rows = summary[(summary["measure"] == "equal_area_iou") & (summary["subset"] == "all")]
    charts.require(rows, "mean", NO_PAIR)
    parts = charts.split(_with_pairs(rows).assign(percent=100 * rows["cut"]), "pair")
    panels = charts.band_plot(parts, x="percent", series="model", height=2.1)
    areas = np.linspace(0, rows["cut"].max(), 100)
    for panel in panels:
        panel.plot(100 * areas, chance_iou(areas), **charts.CHANCE_LINE)
        panel.set(xlim=(0, None), ylim=(0, 1))
    charts.title_panels(panels, parts, width=40)
    charts.label_outer(panels, "share of the image (%)", "mean equal-area IoU")
    return charts.finished(panels, "Equal-area IoU by area, 95 % bootstrap intervals over source images")


@charts.drawing
def shape(summary: pd.DataFrame, *, titles: Mapping[str, str]) -> Figure:
    """Draw the mean shape of each explainer's maps with its 95 % interval, one panel a measure."""
    charts.require(summary, "mean", "There is no map that has a shape.")
    parts = charts.split(_with_titles(summary), "measure")
    panels = _by_explainer(parts, columns=len(parts))
    for panel, measure in zip(panels, parts, strict=True):
        panel.set(xlim=(0, None), xlabel=charts.wrap(titles[measure], 34))
    title = "Shape of the saliency maps, means with 95 % bootstrap intervals over source images"
    return charts.finished(panels, title)


@charts.drawing
def localization(summary: pd.DataFrame, *, titles: Mapping[str, str]) -> Figure:
    """Draw how well explainers find the objects, a row of panels a reference, a panel a measure."""
    charts.require(summary, "mean", "There is no source image with an object that a map can be scored against.")
    references = charts.split(_with_titles(summary), "reference")
    places = product(references.items(), titles)
    parts = {(name, measure): rows[rows["measure"] == measure] for (name, rows), measure in places}
    panels = _by_explainer(parts, columns=len(titles), between=0.6, around=0.8)
    for panel, ((_, measure), rows) in zip(panels, parts.items(), strict=True):
        panel.axvline(rows["chance"].mean(), **charts.CHANCE_LINE)
        panel.set(xlim=(0, 1.04), xlabel=charts.wrap(titles[measure], 34))
    charts.title_panels(panels[:: len(titles)], [f"against the {reference}" for reference in references])
    title = "Explainers against the objects of the sheet, means with 95 % bootstrap intervals over source images"
    return charts.finished(panels, title)


@charts.drawing
def randomization(summary: pd.DataFrame) -> Figure:
    """Draw how like maps of a network stay as its layers are randomized, one panel a model, by equal-area IoU."""
    rows = summary[summary["measure"] == "equal_area_iou"]
    charts.require(rows, "mean", "There is no source image on which maps of a randomized network can be compared.")
    parts = charts.split(_with_titles(rows), "model")
    stages = {model: sorted({0, *own["randomized"]}) for model, own in parts.items()}
    curves = {}
    for model, own in parts.items():
        original = own.drop_duplicates("title").assign(randomized=0, mean=1.0, low=1.0, high=1.0)
        curve = pd.concat([original, own[own["randomized"] > 0]])
        curves[model] = curve.assign(stage=curve["randomized"].map(stages[model].index))
    panels = charts.band_plot(curves, x="stage", series="title", height=2.6, columns=2, sharex=False)
    for panel, (model, own) in zip(panels, parts.items(), strict=True):
        other = own.loc[own["randomized"] == 0, "mean"]
        if len(other):
            panel.axhline(other.mean(), color="#333333", linestyle=":", linewidth=1.2, label="another source image")
        panel.axhline(own["chance"].mean(), **charts.CHANCE_LINE)
        panel.set_xticks(range(len(stages[model])), ["none", *map(str, stages[model][1:])])
        panel.set(ylim=(0, 1.03), ylabel="equal-area IoU with the original")
        panel.set_xlabel(f"layers randomized, of {own['layers'].max()}")
    charts.title_panels(panels, parts)
    return charts.finished(panels, "Maps of randomized networks against the original ones")


@charts.drawing
def stability(summary: pd.DataFrame, *, titles: Mapping[str, str]) -> Figure:
    """Draw how far LIME agrees with itself, by the number of samples, one panel a measure."""
    charts.require(summary, "mean", "There is no source image on which LIME can be compared with itself.")
    parts = {title: summary[summary["measure"] == measure] for measure, title in titles.items()}
    panels = charts.band_plot(parts, x="n_samples", series="model", height=2.6)
    for panel, (title, rows) in zip(panels, parts.items(), strict=True):
        panel.axhline(rows["chance"].mean(), **charts.CHANCE_LINE)
        panel.set(xlim=(0, None), ylim=(0, 1.03), xlabel="samples", ylabel=charts.wrap(title, 30))
    return charts.finished(panels, "LIME drawn again, 95 % bootstrap intervals over source images")


@charts.drawing
def complexity(joined: pd.DataFrame, correlations: pd.DataFrame, *, titles: Mapping[str, str]) -> Figure:
    """Draw agreement against each measure of complexity, a row of panels a model, a point a source image.

    Parameters
    ----------
    joined : pandas.DataFrame
        ``model``, ``value`` (the agreement) and the measures, a row a source image.
    correlations : pandas.DataFrame
        Rows of `tables.complexity.correlate_complexity` for the same agreement; written into the panels.
    titles : mapping
        From a measure to what its axis is called.
    """
    charts.require(joined, "value", NO_PAIR)
    models = charts.split(joined, "model")
    width = min(charts.WIDEST, max(6.0, 2.1 * len(titles)))
    heights = [2.2] * len(titles) * len(models)
    panels = charts.panel_grid(heights, columns=len(titles), width=width, around=0.6, sharey=True, sharex="col")
    places = iter(panels)
    for (model, own), look in zip(models.items(), charts.looks(models).values(), strict=True):
        known = correlations[correlations["model"] == model].set_index("measure").reindex(list(titles))
        for measure, panel in zip(titles, places, strict=False):
            panel.plot(own[measure], own["value"], linestyle="", markersize=4, **look)
            found = known.loc[measure]
            note = f"r = {found['correlation']:.2f}, adj. p = {found['p_adjusted']:.2g}"
            note = note if pd.notna(found["correlation"]) else "no correlation"
            panel.set_title(note, fontsize=8, fontweight="normal")
            panel.set_ylim(0, 1)
    for panel, title in zip(panels[-len(titles) :], titles.values(), strict=True):
        panel.set_xlabel(charts.wrap(title, 24))
    for panel, model in zip(panels[:: len(titles)], models, strict=True):
        panel.set_ylabel(charts.wrap(f"{model}: equal-area IoU", 26))
    title = "Agreement against the complexity of an image; r: Spearman, p corrected for the measures of a row"
    return charts.finished(panels, title)


@charts.drawing
def faithfulness_scores(summary: pd.DataFrame, *, model: str) -> Figure:
    """Draw the mean scores of one model's explainers and of the two control maps, one panel a measure."""
    rows = summary[(summary["model"] == model) & summary["measure"].isin(FAITHFULNESS_TITLES)]
    charts.require(rows, "mean", NO_SCORE)
    rows = rows.assign(removed=[BASELINE_TITLES[name] for name in rows["baseline"]])
    measures = charts.split(rows, "measure")
    parts = {title: measures[measure] for measure, title in FAITHFULNESS_TITLES.items() if measure in measures}
    panels = charts.dot_plot(
        parts,
        row="explainer",
        series="removed",
        labels={name: explainer_title(name) for name in rows["explainer"]},
        heights=(0.3, 0),
        between=0.7,
        around=1.2,
        reference="random",
        columns=2,
        lines=True,
        sharey=True,
    )
    for panel, own in zip(panels, parts.values(), strict=True):
        panel.set_xlabel(f"{own['better'].iloc[0]} is more faithful", fontsize=8)
        panel.set_xlim(left=min(0, panel.get_xlim()[0]))
    charts.title_panels(panels, parts, width=44)
    title = f"How faithful the explanations of {model} are: means, 95 % intervals; dashed: random maps"
    return charts.finished(panels, title, ncols=rows["removed"].nunique(), title="removed pixels are")


@charts.drawing
def faithfulness_curves(curves: pd.DataFrame, *, model: str) -> Figure:
    """Draw how the probability of the explained class follows the share of removed or inserted pixels.

    A panel for each measure and baseline.
    """
    rows = curves[curves["model"] == model]
    charts.require(rows, "mean", NO_SCORE)
    rows = _with_titles(rows).assign(percent=100 * rows["share"])
    kinds = {
        (measure, baseline): own
        for measure in CURVE_TITLES
        for baseline, own in charts.split(rows[rows["measure"] == measure], "baseline").items()
    }
    explained = {kind: own[~own["explainer"].isin(list(CONTROL_LINES))] for kind, own in kinds.items()}
    panels = charts.band_plot(explained, x="percent", series="title", height=2.4, columns=2, width=7.2)
    for panel, own in zip(panels, kinds.values(), strict=True):
        for control, line in CONTROL_LINES.items():
            one = own[own["explainer"] == control].sort_values("share")
            panel.plot(one["percent"], one["mean"], linestyle=line, color="#333333", label=explainer_title(control))
        panel.set(xlim=(0, 100), ylim=(0, 1))
    charts.title_panels(panels, [CURVE_TITLES[measure].format(baseline) for measure, baseline in kinds], width=40)
    charts.label_outer(panels, "pixels removed or inserted (%)", "mean probability")
    title = f"{model}: probability of the explained class, 95 % bootstrap intervals over source images"
    return charts.finished(panels, title)


def _by_explainer(parts: Mapping[object, pd.DataFrame], **layout: object) -> list[Axes]:
    """Make a dot plot with explainers as rows and models as series."""
    labels = {title: title for rows in parts.values() for title in rows["title"]}
    look = {"row": "title", "series": "model", "labels": labels, "heights": (0.36, 0.16)}
    return charts.dot_plot(parts, width=9.5, sharey=True, **look, **layout)


def _with_titles(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(title=rows["explainer"].map(explainer_title))


def _with_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    pairs = zip(rows["explainer_a"], rows["explainer_b"], strict=True)
    return rows.assign(pair=[pair_title(*names) for names in pairs])
