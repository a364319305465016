"""Draw how explainers agree, find objects, pass sanity checks and are faithful."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from unitlens.report import charts
from unitlens.report.text import (
    BASELINE_TITLES,
    CURVE_TITLES,
    FAITHFULNESS_TITLES,
    MEASURE_TITLES,
    explainer_title,
    pair_title,
)

FLOOR_LINES = {"random": "--", "gaussian": ":"}
NO_SCORE = "There is no photograph on which an explanation was scored."
NO_PAIR = "There is no photograph on which two explainers can be compared."


@charts.drawing
def agreement(summary: pd.DataFrame, path: str | Path, *, measure: str) -> None:
    """Draw the mean agreement of every two explainers with its 95 % interval, by model.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `agreement.summarise`; the rows of `measure` are drawn. Chance is a dashed line where it is known.
    path : path
        File to write, ``.png`` or ``.svg``.
    measure : str
        ``equal_area_iou``, ``threshold_iou`` or ``spearman``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    rows = summary[summary["measure"] == measure]
    charts.require(rows, "mean", NO_PAIR)
    rows = _with_pairs(rows)
    models, pairs = charts.series_names(rows, "model"), charts.series_names(rows, "pair")
    figure = Figure((7.2, 1.3 + len(pairs) * max(0.42, 0.2 * len(models))), layout="constrained")
    panel = figure.subplots()
    charts.dots(panel, rows, rows=("pair", pairs), series=("model", models))
    for number, chance in enumerate(rows["chance"].dropna().unique()):
        panel.axvline(chance, **charts.CHANCE_LINE | {"label": f"chance ({chance:.3f})" if number == 0 else None})
    counts = [" / ".join(f"{n}" for n in dict.fromkeys(rows.loc[rows["pair"] == pair, "n"])) for pair in pairs]
    charts.label_rows(panel, [f"{pair}\nn = {count}" for pair, count in zip(pairs, counts, strict=True)], stripes=True)
    if measure != "spearman":
        panel.set_xlim(left=0)
    panel.set_xlabel(
        f"mean {MEASURE_TITLES[measure].replace('Equal', 'equal')} over photographs, 95 % bootstrap interval"
    )
    figure.legend(loc="outside lower center", ncols=2)
    charts.title(figure, f"{MEASURE_TITLES[measure]} of every two explainers")
    charts.save(figure, path)


@charts.drawing
def agreement_sweep(summary: pd.DataFrame, path: str | Path) -> None:
    """Draw the equal-area IoU of every two explainers against the area that maps are cut to, one panel a pair.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `agreement.summarise`; the rows of ``equal_area_iou`` and subset ``all`` are drawn.
    path : path
        File to write, ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    rows = summary[(summary["measure"] == "equal_area_iou") & (summary["subset"] == "all")]
    charts.require(rows, "mean", NO_PAIR)
    rows = _with_pairs(rows)
    pairs, models = charts.series_names(rows, "pair"), charts.series_names(rows, "model")
    panels, figure = charts.panel_grid(len(pairs), height=2.1)
    areas = np.linspace(0, rows["cut"].max(), 100)
    for panel, pair in zip(panels, pairs, strict=True):
        panel.plot(100 * areas, areas / (2 - areas), **charts.CHANCE_LINE)
        for position, model in enumerate(models):
            one = rows[(rows["pair"] == pair) & (rows["model"] == model)].sort_values("cut")
            charts.band(panel, 100 * one["cut"], one[["mean", "low", "high"]], label=model, position=position)
        panel.set_title(pair, fontsize=9)
        panel.set_ylim(0, 1)
        panel.set_xlim(left=0)
    charts.label_outer(panels, "share of the picture (%)", "mean equal-area IoU")
    charts.common_legend(figure, panels[0])
    charts.title(figure, "Equal-area IoU by area, 95 % bootstrap intervals over photographs")
    charts.save(figure, path)


@charts.drawing
def shape(summary: pd.DataFrame, path: str | Path, *, titles: Mapping[str, str]) -> None:
    """Draw the mean shape of each explainer's maps with its 95 % interval, one panel a measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `complexity.summarise_shape`.
    path : path
        File to write, ``.png`` or ``.svg``.
    titles : mapping
        From a measure to what its axis is called.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    charts.require(summary, "mean", "There is no map that has a shape.")
    models = charts.series_names(summary, "model")
    rows = summary.assign(title=summary["explainer"].map(explainer_title))
    explainers, measures = list(rows["title"].unique()), list(rows["measure"].unique())
    figure = Figure((9.5, 1.3 + len(explainers) * max(0.36, 0.16 * len(models))), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False).ravel()
    for panel, measure in zip(panels, measures, strict=True):
        own = rows[rows["measure"] == measure]
        charts.dots(panel, own, rows=("title", explainers), series=("model", models))
        charts.label_rows(panel, explainers, stripes=True)
        panel.set_xlim(left=0)
        panel.set_xlabel(charts.wrap(titles[measure], 34))
    charts.common_legend(figure, panels[0])
    charts.title(figure, "Shape of the saliency maps, means with 95 % bootstrap intervals over photographs")
    charts.save(figure, path)


@charts.drawing
def ground_truth(summary: pd.DataFrame, path: str | Path, *, titles: Mapping[str, str]) -> None:
    """Draw how well explainers find the objects, a row of panels a reference, a panel a measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `localization.summarise`.
    path : path
        File to write, ``.png`` or ``.svg``.
    titles : mapping
        From a measure to what its axis is called.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    charts.require(summary, "mean", "There is no photograph with an object that a map can be scored against.")
    references, models = charts.series_names(summary, "reference"), charts.series_names(summary, "model")
    rows = summary.assign(title=summary["explainer"].map(explainer_title))
    explainers = list(rows["title"].unique())
    height = len(explainers) * max(0.36, 0.16 * len(models)) + 0.6
    figure = Figure((9.5, 0.8 + height * len(references)), layout="constrained")
    grid = figure.subplots(len(references), len(titles), sharey=True, squeeze=False)
    for reference, panels in zip(references, grid, strict=True):
        for panel, (measure, title) in zip(panels, titles.items(), strict=True):
            own = rows[(rows["reference"] == reference) & (rows["measure"] == measure)]
            charts.dots(panel, own, rows=("title", explainers), series=("model", models))
            panel.axvline(own["chance"].mean(), **charts.CHANCE_LINE)
            charts.label_rows(panel, explainers, stripes=True)
            panel.set_xlim(0, 1.04)
            panel.set_xlabel(charts.wrap(title, 34))
        panels[0].set_title(f"against the {reference}", fontsize=9)
    charts.common_legend(figure, grid[0][0])
    charts.title(
        figure, "Explainers against the objects of the sheet, means with 95 % bootstrap intervals over photographs"
    )
    charts.save(figure, path)


@charts.drawing
def randomisation(summary: pd.DataFrame, path: str | Path) -> None:
    """Draw how like maps of a network stay as its layers are randomised, one panel a model.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `sanity.summarise_randomisation`; the rows of ``equal_area_iou`` are drawn.
    path : path
        File to write, ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    rows = summary[summary["measure"] == "equal_area_iou"]
    charts.require(rows, "mean", "There is no photograph on which maps of a randomised network can be compared.")
    models, explainers = charts.series_names(rows, "model"), list(rows["explainer"].map(explainer_title).unique())
    panels, figure = charts.panel_grid(len(models), height=2.6, columns=2, sharex=False)
    for panel, model in zip(panels, models, strict=True):
        own = rows[rows["model"] == model]
        stages = sorted({0, *own["randomised"]})
        for position, title in enumerate(explainers):
            one = own[own["explainer"].map(explainer_title) == title].sort_values("randomised")
            one = pd.concat(
                [one.iloc[:1].assign(randomised=0, mean=1.0, low=1.0, high=1.0), one[one["randomised"] > 0]]
            )
            at = [stages.index(number) for number in one["randomised"]]
            charts.band(panel, at, one[["mean", "low", "high"]], label=title, position=position)
        other = own.loc[own["randomised"] == 0, "mean"]
        if len(other):
            panel.axhline(other.mean(), color="#333333", linestyle=":", linewidth=1.2, label="another photograph")
        panel.axhline(own["chance"].mean(), **charts.CHANCE_LINE)
        panel.set_xticks(range(len(stages)), ["none", *(str(number) for number in stages[1:])])
        panel.set_ylim(0, 1.03)
        panel.set_title(charts.wrap(model, 24), fontsize=9)
        panel.set_xlabel(f"layers randomised, of {own['layers'].max()}")
        panel.set_ylabel("equal-area IoU with the original")
    charts.common_legend(figure, panels[0])
    charts.title(figure, "Maps of randomised networks against the original ones")
    charts.save(figure, path)


@charts.drawing
def stability(summary: pd.DataFrame, path: str | Path, *, titles: Mapping[str, str]) -> None:
    """Draw how far LIME agrees with itself, by the number of samples, one panel a measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `sanity.summarise_stability`.
    path : path
        File to write, ``.png`` or ``.svg``.
    titles : mapping
        From a measure to what its axis is called.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    charts.require(summary, "mean", "There is no photograph on which LIME can be compared with itself.")
    models = charts.series_names(summary, "model")
    panels, figure = charts.panel_grid(len(titles), height=2.6)
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        own = summary[summary["measure"] == measure]
        for position, model in enumerate(models):
            one = own[own["model"] == model].sort_values("n_samples")
            charts.band(panel, one["n_samples"], one[["mean", "low", "high"]], label=model, position=position)
        panel.axhline(own["chance"].mean(), **charts.CHANCE_LINE)
        panel.set_ylim(0, 1.03)
        panel.set_xlim(left=0)
        panel.set_xlabel("samples")
        panel.set_ylabel(charts.wrap(title, 30))
    charts.common_legend(figure, panels[0])
    charts.title(figure, "LIME drawn again, 95 % bootstrap intervals over photographs")
    charts.save(figure, path)


@charts.drawing
def complexity(
    joined: pd.DataFrame, correlations: pd.DataFrame, path: str | Path, *, titles: Mapping[str, str]
) -> None:
    """Draw agreement against each measure of complexity, a row of panels a model, a point a photograph.

    Parameters
    ----------
    joined : pandas.DataFrame
        ``model``, ``value`` (the agreement) and the measures, a row a photograph.
    correlations : pandas.DataFrame
        Rows of `complexity.correlate_complexity` for the same agreement; written into the panels.
    path : path
        File to write, ``.png`` or ``.svg``.
    titles : mapping
        From a measure to what its axis is called.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    charts.require(joined, "value", NO_PAIR)
    models = charts.series_names(joined, "model")
    figure = Figure((min(charts.WIDEST, max(6.0, 2.1 * len(titles))), 0.6 + 2.2 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), len(titles), sharey=True, sharex="col", squeeze=False)
    for row, model in enumerate(models):
        own = joined[joined["model"] == model]
        known = correlations[correlations["model"] == model].set_index("measure").reindex(list(titles))
        for panel, (measure, title) in zip(panels[row], titles.items(), strict=True):
            panel.plot(
                own[measure],
                own["value"],
                charts.MARKERS[row % len(charts.MARKERS)],
                color=charts.SERIES_COLOURS[row % 7],
                markersize=4,
            )
            panel.grid(color="#DDDDDD", linewidth=0.6)
            found = known.loc[measure]
            note = f"r = {found['correlation']:.2f}, adj. p = {found['p_adjusted']:.2g}"
            panel.set_title(
                note if pd.notna(found["correlation"]) else "no correlation", fontsize=8, fontweight="normal"
            )
            panel.set_ylim(0, 1)
            if row == len(models) - 1:
                panel.set_xlabel(charts.wrap(title, 24))
        panels[row][0].set_ylabel(charts.wrap(f"{model}: equal-area IoU", 26))
    charts.title(
        figure, "Agreement against the complexity of a picture; r: Spearman, p corrected for the measures of a row"
    )
    charts.save(figure, path)


@charts.drawing
def faithfulness_scores(summary: pd.DataFrame, path: str | Path, *, model: str) -> None:
    """Draw the mean scores of one model's explainers and of the two floors, one panel a measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `faithfulness.summarise`.
    path : path
        File to write, ``.png`` or ``.svg``.
    model : str
        Whose rows are drawn.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    rows = summary[(summary["model"] == model) & summary["measure"].isin(FAITHFULNESS_TITLES)]
    charts.require(rows, "mean", NO_SCORE)
    explainers = charts.series_names(rows, "explainer")
    titles = {measure: title for measure, title in FAITHFULNESS_TITLES.items() if measure in set(rows["measure"])}
    panels, figure = charts.panel_grid(len(titles), height=0.7 + 0.3 * len(explainers), columns=2, sharex=False)
    figure.set_figwidth(7.2)
    positions = {name: number for number, name in enumerate(dict.fromkeys(rows["baseline"]))}
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        of_measure = rows[rows["measure"] == measure]
        baselines = list(of_measure["baseline"].unique())
        for number, baseline in enumerate(baselines):
            one = of_measure[of_measure["baseline"] == baseline].set_index("explainer").reindex(explainers)
            colour = charts.SERIES_COLOURS[positions[baseline]]
            heights = np.arange(len(explainers)) + charts.offset(number, len(baselines))
            look = {"label": BASELINE_TITLES[baseline], "position": positions[baseline], "colour": colour}
            charts.intervals(panel, one[["mean", "low", "high"]], heights, **look)
            panel.axvline(one["mean"].get("random", np.nan), color=colour, linestyle="--", linewidth=1)
        charts.label_rows(panel, [explainer_title(name) for name in explainers], stripes=True)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(f"{of_measure['better'].iloc[0]} is more faithful", fontsize=8)
        panel.set_xlim(left=min(0, panel.get_xlim()[0]))
    handles = dict(pair[::-1] for panel in panels for pair in zip(*panel.get_legend_handles_labels(), strict=True))
    figure.legend(handles.values(), handles, title="removed pixels are", loc="outside lower center", ncols=len(handles))
    charts.title(figure, f"How faithful the explanations of {model} are: means, 95 % intervals; dashed: random maps")
    charts.save(figure, path)


@charts.drawing
def faithfulness_curves(curves: pd.DataFrame, path: str | Path, *, model: str) -> None:
    """Draw how the probability of the explained class follows the share of removed or inserted pixels.

    Parameters
    ----------
    curves : pandas.DataFrame
        Table of `faithfulness.mean_curves`; a panel for each measure and baseline.
    path : path
        File to write, ``.png`` or ``.svg``.
    model : str
        Whose rows are drawn.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    rows = curves[curves["model"] == model]
    charts.require(rows, "mean", NO_SCORE)
    explainers = [name for name in charts.series_names(rows, "explainer") if name not in FLOOR_LINES]
    kinds = rows[["measure", "baseline"]].drop_duplicates()
    kinds = kinds.sort_values("measure", key=lambda names: names.map(list(CURVE_TITLES).index), kind="stable")
    panels, figure = charts.panel_grid(len(kinds), height=2.4, columns=2)
    figure.set_figwidth(7.2)
    for panel, (measure, baseline) in zip(panels, kinds.itertuples(index=False), strict=True):
        of_kind = rows[(rows["measure"] == measure) & (rows["baseline"] == baseline)].sort_values("share")
        for position, explainer in enumerate(explainers):
            one = of_kind[of_kind["explainer"] == explainer]
            name = explainer_title(explainer)
            charts.band(panel, 100 * one["share"], one[["mean", "low", "high"]], label=name, position=position)
        for floor, line in FLOOR_LINES.items():
            one = of_kind[of_kind["explainer"] == floor]
            panel.plot(100 * one["share"], one["mean"], linestyle=line, color="#333333", label=explainer_title(floor))
        panel.set_title(CURVE_TITLES[measure].format(baseline), fontsize=9)
        panel.set(xlim=(0, 100), ylim=(0, 1))
    charts.label_outer(panels, "pixels removed or inserted (%)", "mean probability")
    charts.common_legend(figure, panels[0])
    charts.title(figure, f"{model}: probability of the explained class, 95 % bootstrap intervals over photographs")
    charts.save(figure, path)


def _with_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    pairs = zip(rows["explainer_a"], rows["explainer_b"], strict=True)
    return rows.assign(pair=[pair_title(*names) for names in pairs])
