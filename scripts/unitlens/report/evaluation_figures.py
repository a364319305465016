"""Draw how explainers agree, find objects, pass sanity checks and are faithful.

Tables are those of `unitlens.tables` (docs/outputs.md); `titles` say what the axis of a measure is called; `models` are
all of the run, for the colors.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from unitlens.measures.scales import chance_iou, has_layer
from unitlens.report import charts
from unitlens.report.text import (
    BASELINE_TITLES,
    CURVE_TITLES,
    FAITHFULNESS_TITLES,
    INTERVENTION_TITLES,
    MEASURE_TITLES,
    counted,
    explainer_title,
)

CONTROL_LINES = {"random": "--", "gaussian": ":"}
NO_SCORE = "There is no source image on which an explanation was scored."
NO_PAIR = "There is no source image on which two explainers can be compared."


@charts.drawing
def agreement(summary: pd.DataFrame, *, measure: str) -> Figure:
    """Draw the mean agreement of every two explainers as a heat map, one panel a model.

    Of ``equal_area_iou``, ``threshold_iou`` or ``spearman``; what maps of different source images have is told.
    """
    rows = summary[summary["measure"] == measure]
    charts.require(rows, "mean", NO_PAIR)
    rows = rows.assign(**{name: rows[name].map(explainer_title) for name in ("explainer_a", "explainer_b")})
    parts = charts.split(rows, "model")
    panels = _triangles(parts, "explainer_a", "explainer_b")
    charts.title_panels(panels, [f"{model}, n = {_numbers(own['n'])}" for model, own in parts.items()])
    chance = " to ".join(dict.fromkeys(f"{each:.2f}" for each in rows["chance"].agg(["min", "max"]).dropna()))
    title = f"{MEASURE_TITLES[measure]} of every two explainers, means over source images"
    return charts.finished(panels, title, footer=f"Maps of different source images: {chance}" if chance else "")


def _triangles(parts: Mapping[str, pd.DataFrame], row: str, column: str) -> list[Axes]:
    """Draw ``mean`` of every two as a heat map with the number in each cell: a panel a table."""
    sides = [[list(dict.fromkeys(table[name])) for name in (row, column)] for table in parts.values()]
    panels = charts.panel_grid(
        [len(rows) * 0.36 + 0.7 for rows, _ in sides], columns=1, width=charts.NARROW, lines=False
    )
    for panel, table, (rows, columns) in zip(panels, parts.values(), sides, strict=True):
        values = table.drop_duplicates([row, column]).pivot(index=row, columns=column, values="mean")
        values = values.reindex(index=rows, columns=columns).to_numpy()
        panel.imshow(values, cmap=charts.AMOUNT_MAP, vmin=0, vmax=1, aspect="auto")
        for i, j in np.argwhere(np.isfinite(values)):
            ink = "white" if values[i, j] > 0.55 else "black"
            panel.text(
                j, i, f"{values[i, j]:.2f}".replace("-", "\u2212"), ha="center", va="center", color=ink, fontsize=8
            )
        panel.set_yticks(range(len(rows)), [charts.wrap(name, 20) for name in rows])
        panel.set_xticks(
            range(len(columns)), [charts.wrap(name, 12) for name in columns], fontsize=min(9, 40 / len(columns))
        )
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    return panels


def _numbers(counts: pd.Series) -> str:
    return " to ".join(f"{n:,}" for n in sorted({counts.min(), counts.max()}))


@charts.drawing
def agreement_sweep(summary: pd.DataFrame) -> Figure:
    """Draw the equal-area IoU of class activation maps against the area that maps are cut to, one panel a model.

    A line for these with each other and one for these with LIME: means over the pairs, with bands from the lowest to
    the highest pair. Dotted: maps of different source images, dashed: unrelated pixels.
    """
    rows = summary[(summary["measure"] == "equal_area_iou") & (summary["subset"] == "all")]
    rows = rows[rows["explainer_a"].map(has_layer).astype(bool)]
    charts.require(rows, "mean", NO_PAIR)
    rows = rows.assign(percent=100 * rows["cut"], kind=rows["explainer_b"].map(_partner))
    points = rows.groupby(["model", "kind", "percent"], sort=False)
    lines = points["mean"].agg(["mean", "min", "max"]).assign(chance=points["chance"].mean()).reset_index()
    parts = charts.split(lines.rename(columns={"min": "low", "max": "high"}), "model")
    kinds = {_partner(name): charts.EXPLAINER_COLORS.get(name, charts.INK) for name in sorted(set(rows["explainer_b"]))}
    looks = charts.looks(kinds, kinds.values())
    panels = charts.band_plot(parts, x="percent", series="kind", looks=looks, height=2, columns=2, width=charts.NARROW)
    areas = np.linspace(0, rows["cut"].max(), 100)
    for panel, own in zip(panels, parts.values(), strict=True):
        panel.plot(100 * areas, chance_iou(areas), **charts.CHANCE_LINE | {"label": "unrelated pixels"})
        for kind, line in own.groupby("kind", sort=False):
            panel.plot(line["percent"], line["chance"], color=kinds[kind], linestyle=":", linewidth=1)
        panel.set(xlim=(0, None), ylim=(0, 1))
    charts.title_panels(panels, parts)
    charts.label_outer(panels, "share of the image (%)", "mean equal-area IoU")
    title = "Equal-area IoU of class activation maps by area; bands: lowest to highest pair"
    return charts.finished(panels, title, footer="Dotted: maps of different source images")


def _partner(explainer: str) -> str:
    return "with each other" if has_layer(explainer) else f"with {explainer_title(explainer)}"


@charts.drawing
def shape(summary: pd.DataFrame, *, titles: Mapping[str, str], models: Sequence[str] = ()) -> Figure:
    """Draw the mean shape of each explainer's maps with its 95 % interval, one panel a measure."""
    charts.require(summary, "mean", "There is no map that has a shape.")
    parts = charts.split(_with_titles(summary), "measure")
    panels = _by_explainer(parts, models)
    for panel, measure in zip(panels, parts, strict=True):
        panel.set(xlim=(0, None), xlabel=titles[measure])
    return charts.finished(panels, "Shape of the saliency maps, means with 95 % intervals")


@charts.drawing
def localization(summary: pd.DataFrame, *, titles: Mapping[str, str], models: Sequence[str] = ()) -> Figure:
    """Draw how well explainers find the objects, a panel a reference and measure."""
    charts.require(summary, "mean", "There is no source image with an object that a map can be scored against.")
    references = charts.split(_with_titles(summary), "reference")
    places = product(references.items(), titles)
    parts = {(name, measure): rows[rows["measure"] == measure] for (name, rows), measure in places}
    panels = _by_explainer(parts, models)
    for panel, ((_, measure), rows) in zip(panels, parts.items(), strict=True):
        panel.axvline(rows["chance"].mean(), **charts.CHANCE_LINE)
        panel.set(xlim=(0, 1.04), xlabel=titles[measure])
    charts.title_panels(panels[:: len(titles)], [f"against the {reference}" for reference in references])
    return charts.finished(panels, "Explainers against the objects of the sheet, means with 95 % intervals")


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
    looks = charts.explainer_looks(rows["explainer"])
    layout = {"height": 2.2, "columns": 2, "sharex": False, "width": charts.NARROW}
    panels = charts.band_plot(curves, x="stage", series="title", looks=looks, **layout)
    for panel, (model, own) in zip(panels, parts.items(), strict=True):
        other = own.loc[own["randomized"] == 0, "mean"]
        if len(other):
            panel.axhline(other.mean(), color=charts.INK, linestyle=":", linewidth=1.2, label="another source image")
        panel.axhline(own["chance"].mean(), **charts.CHANCE_LINE)
        panel.set_xticks(range(len(stages[model])), ["none", *map(str, stages[model][1:])])
        panel.set(ylim=(0, 1.03), xlabel=f"layers randomized, of {own['layers'].max()}")
    for panel in panels[::2]:
        panel.set_ylabel("equal-area IoU with the original")
    charts.title_panels(panels, parts)
    return charts.finished(panels, "Maps of randomized networks against the original ones")


@charts.drawing
def stability(summary: pd.DataFrame, *, titles: Mapping[str, str], models: Sequence[str] = ()) -> Figure:
    """Draw how far LIME agrees with itself, by the number of samples, one panel each of the first two measures."""
    charts.require(summary, "mean", "There is no source image on which LIME can be compared with itself.")
    drawn = summary[summary["n_samples"].notna()]
    parts = {title: drawn[drawn["measure"] == measure] for measure, title in list(titles.items())[:2]}
    looks = charts.looks([*models, *summary["model"]])
    layout = {"height": 2.4, "columns": 2, "width": charts.NARROW}
    panels = charts.band_plot(parts, x="n_samples", series="model", looks=looks, **layout)
    for panel, (title, rows) in zip(panels, parts.items(), strict=True):
        panel.axhline(rows["chance"].mean(), **charts.CHANCE_LINE)
        panel.set(xlim=(0, None), ylim=(0, 1.03), xlabel="samples")
        charts.title_panels([panel], [title], fontsize=8, fontweight="normal")
    return charts.finished(panels, "LIME drawn again, means with 95 % intervals", ncols=1)


@charts.drawing
def complexity(
    joined: pd.DataFrame,
    correlations: pd.DataFrame,
    *,
    titles: Mapping[str, str],
    models: Sequence[str] = (),
    thumbnails: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """Draw how agreement follows each measure of complexity, and the source images behind the closest correlation.

    Parameters
    ----------
    joined : pandas.DataFrame
        ``model``, ``image_id``, ``value`` (the agreement) and the measures, a row a source image.
    correlations : pandas.DataFrame
        Rows of `tables.complexity.correlate_complexity` for the same agreement.
    titles : mapping
        From a measure to what its axis is called.
    models : sequence of str
        All of the run.
    thumbnails : mapping, optional
        From ``image_id`` to the source image (h, w, 3), uint8, that is shown in place of its point.
    """
    charts.require(joined, "value", NO_PAIR)
    rows = correlations.rename(columns={"correlation": "mean"})
    charts.require(rows, "mean", "No measure of complexity varies with the agreement of the explainers.")
    looks = charts.looks([*models, *joined["model"], *rows["model"]])
    row_height = max(0.3, 0.16 * rows["model"].nunique())
    above, below = charts.panel_grid([len(titles) * row_height, 3], columns=1, width=charts.NARROW, lines=False)
    known = rows[rows["measure"].isin(list(titles))]
    present = list(dict.fromkeys(known["model"]))
    for place, model in enumerate(present):
        own = known[known["model"] == model].set_index("measure").reindex(list(titles))
        at = np.arange(len(titles)) + (place - (len(present) - 1) / 2) * 0.7 / len(present)
        charts.dots(above, own, at, label=charts.wrap(model, 40), **looks[model])
    charts.label_rows(above, [charts.wrap(title, 26) for title in titles.values()], stripes=True)
    above.axvline(0, color=charts.INK, linewidth=1)
    above.set(xlim=(-1, 1), xlabel="Spearman's correlation with the IoU, 95 % interval")
    closest = known.loc[known["mean"].abs().idxmax()]
    own = joined[joined["model"] == closest["model"]]
    below.plot(own[closest["measure"]], own["value"], linestyle="", markersize=4, **looks[closest["model"]])
    for row in own[["image_id", closest["measure"], "value"]].itertuples(index=False):
        if row[0] in (thumbnails or {}) and pd.notna(row[1]):
            small = OffsetImage(thumbnails[row[0]], zoom=24 / max(thumbnails[row[0]].shape), resample=True)
            below.add_artist(AnnotationBbox(small, row[1:], frameon=False, pad=0))
    below.margins(0.12)
    below.set(xlabel=titles[closest["measure"]], ylabel="equal-area IoU")
    found = f"{closest['model']}: r = {closest['mean']:.2f}, adj. p = {closest['p_adjusted']:.2g}"
    charts.title_panels([below], [found.replace("-", "\u2212")])
    return charts.finished([above, below], "Agreement against the complexity of the source images")


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
        looks=charts.looks(rows["removed"], [charts.INK]),
        labels={name: explainer_title(name) for name in rows["explainer"]},
        heights=(0.26, 0.13),
        between=0.7,
        reference="random",
        lines=True,
    )
    for panel, own in zip(panels, parts.values(), strict=True):
        panel.set_xlabel(f"{own['better'].iloc[0]} is more faithful", fontsize=8)
        panel.set_xlim(left=min(0, panel.get_xlim()[0]))
    charts.title_panels(panels, parts)
    title = f"How faithful explanations of {model} are: means, 95 % intervals; dashed: random maps"
    return charts.finished(panels, title, ncols=2, title="removed pixels are")


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
    looks = charts.explainer_looks(rows["explainer"])
    looks |= {explainer_title(name): {"color": charts.INK, "linestyle": line} for name, line in CONTROL_LINES.items()}
    panels = charts.panel_grid([1.8] * len(kinds), columns=2, width=7.2, sharex=True, sharey=True)
    for panel, own in zip(panels, kinds.values(), strict=True):
        panel.set(xlim=(0, 100), ylim=(0, 1))
        ends = []
        height_of = own.groupby("title")["mean"].transform("mean")
        lines = charts.split(own.assign(height=height_of).sort_values(["height", "title", "share"]), "title")
        for title, line in lines.items():
            panel.plot(line["percent"], line["mean"], linewidth=1.3, markersize=3, **looks[title])
            if len(known := line[line["mean"].notna()]):
                ends.append((title, *known.iloc[-1][["percent", "mean"]], looks[title]["color"]))
        charts.label_ends(panel, ends, height=1.6)
    charts.title_panels(panels, [CURVE_TITLES[measure].format(baseline) for measure, baseline in kinds])
    charts.label_outer(panels, "pixels removed or inserted (%)", "mean probability")
    return charts.finished(panels, f"{model}: probability of the explained class, means over source images")


@charts.drawing
def interventions(summary: pd.DataFrame) -> Figure:
    """Draw which share of its logit a class loses without units, and other classes without the same, a panel a layer.

    Rows are how the units were chosen, by their number.
    """
    rows = summary[summary["measure"] == "share"]
    charts.require(rows, "mean", "No class has enough labeled source images to switch units off.")
    names = {
        f"{chosen} {k}": f"{counted(k, 'unit')}: {title}"
        for k in rows["k"].unique()
        for chosen, title in INTERVENTION_TITLES.items()
    }
    percent = {name: 100 * rows[name] for name in ("mean", "low", "high")}
    rows = rows.assign(row=rows["chosen"] + " " + rows["k"].astype(str), **percent)
    parts = {f"{model} {layer}": own for (model, layer), own in rows.groupby(["model", "layer"], sort=False)}
    looks = charts.looks(["the class", "others"], [charts.INK, "#8C8C8C"])
    panels = charts.dot_plot(
        parts, row="row", series="of", looks=looks, labels=names, heights=(0.26, 0.13), between=0.6
    )
    charts.title_panels(panels, [f"{name}, n = {_numbers(own['n'])} classes" for name, own in parts.items()])
    for panel in panels:
        panel.axvline(0, color=charts.INK, linewidth=1)
        panel.set_xlabel("share of the logit that is lost (%)")
    return charts.finished(panels, "Units switched off: means over classes, 95 % intervals")


def _by_explainer(parts: Mapping[object, pd.DataFrame], models: Sequence[str]) -> list[Axes]:
    """Make a dot plot with explainers as rows and models as series."""
    labels = {title: title for rows in parts.values() for title in rows["title"]}
    looks = charts.looks([*models, *(model for rows in parts.values() for model in rows["model"])])
    look = {"row": "title", "series": "model", "labels": labels, "heights": (0.26, 0.15), "looks": looks}
    return charts.dot_plot(parts, between=0.6, **look)


def _with_titles(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(title=rows["explainer"].map(explainer_title))
