"""Draw the report's figures from finished tables and arrays, as PNG (150 dpi) or SVG by the path's suffix.

Nothing is computed here but layout, and the same input gives the same bytes. Where there is nothing to show, a figure
is a sentence that says so. Series differ by marker as well as by a
colour of Okabe and Ito's colour-blind-safe set; maps are perceptually uniform (plasma for saliency, viridis for depth).
"""

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from skimage.segmentation import find_boundaries

from unitlens.jobs.characters import visible
from unitlens.wording import SIGNIFICANT, counted, explainer_title, machine_title, pair_title

DPI = 150
WIDEST = 12  # inches
MOST_RULES = 25  # in the figure of resources, those that took most time
MOST_FREQUENT = 15  # concepts shown for each model
SALIENCY_MAP = matplotlib.colormaps["plasma"]
CATEGORY_COLOURS = {
    "object": "#0072B2",
    "scene": "#009E73",
    "part": "#D55E00",
    "material": "#E69F00",
    "texture": "#CC79A7",
    "colour": "#56B4E9",
    "word": "#F0E442",
    "other": "#8C8C8C",
}
SERIES_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
MEASURE_TITLES = {
    "equal_area_iou": "Equal-area IoU",
    "threshold_iou": "IoU at a threshold",
    "spearman": "Spearman rank correlation",
}
FAITHFULNESS_TITLES = {
    "deletion": "Area under the deletion curve",
    "insertion": "Area under the insertion curve",
    "road": "ROAD: half of least over most relevant",
    "average_drop": "Average drop",
}
CURVE_TITLES = {
    "deletion": "Deletion ({})",
    "insertion": "Insertion ({})",
    "road_morf": "ROAD, most relevant first",
    "road_lerf": "ROAD, least relevant first",
}
BASELINE_TITLES = {"blur": "blurred", "mean": "the mean colour", "imputed": "imputed", "black": "black"}
FLOOR_LINES = {"random": "--", "gaussian": ":"}
METADATA = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.titlesize": 11,
    "legend.frameon": False,
    "svg.hashsalt": "unitlens",
    "text.parse_math": False,  # names may hold $
}
CHANCE_LINE = {"color": "#333333", "linestyle": "--", "linewidth": 1, "label": "chance"}
NO_LABEL = "No unit has a label better than chance."
NO_SCORE = "There is no photograph on which an explanation was scored."
NO_PAIR = "There is no photograph on which two explainers can be compared."


class _Nothing(Exception):
    """Why there is nothing to show."""


def _figure(draw: Callable[..., None]) -> Callable[..., None]:
    """Draw in the style of all figures, and where there is nothing to show only the sentence that says so."""

    @functools.wraps(draw)
    def drawn(*given: object, **options: object) -> None:
        with matplotlib.rc_context(STYLE):
            try:
                draw(*given, **options)
            except _Nothing as nothing:
                figure = Figure((7.2, 0.8))
                figure.text(0.02, 0.5, _wrap(str(nothing), 100), va="center")
                _save(figure, inspect.signature(draw).bind(*given, **options).arguments["path"])

    return drawn


@_figure
def frequent_concepts(frequent: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw the concepts that most units of each model are labelled with, one panel a model.

    Parameters
    ----------
    frequent : pandas.DataFrame
        Table of `compare.frequent`; the rows of layer ``all`` are drawn.
    path : path
        File to write, ``.png`` or ``.svg``.
    encoder : str
        What gave the labels, for the title.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    overall = frequent[frequent["layer"] == "all"]
    _require(overall, "units", NO_LABEL)
    models = _names(overall, "model")
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    longest = min(overall.groupby("model").size().max(), MOST_FREQUENT)
    figure = Figure((max(6.5, 4 * columns), 1.2 + rows * (0.8 + 0.22 * longest)), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for panel, model in zip(panels, models, strict=False):
        top = overall[overall["model"] == model].nlargest(MOST_FREQUENT, "units")
        colours = [CATEGORY_COLOURS[_category(name)] for name in top["category"]]
        bars = panel.barh(range(len(top)), 100 * top["share"], color=colours, edgecolor="#333333", linewidth=0.4)
        panel.bar_label(bars, labels=[f"{units:,}" for units in top["units"]], padding=3, fontsize=8)
        _label_rows(panel, [_shorten(name, 26) for name in top["concept"]])
        panel.set_ylim(longest - 0.4, -0.6)  # panels with fewer concepts keep the same bar width
        panel.set(title=_wrap(model, 20), xlabel="share of labelled units (%)")
        panel.tick_params(labelbottom=True)
        panel.margins(x=0.12)
    for panel in panels[len(models) :]:
        panel.remove()
    present = set(map(_category, overall["category"]))
    handles = [Patch(color=colour, label=name) for name, colour in CATEGORY_COLOURS.items() if name in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4 if columns == 1 else 8))
    _title(figure, f"Most frequent labels ({encoder}); numbers at the bars count units")
    _save(figure, path)


@_figure
def distinct_concepts(layers: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw how many distinct concepts the units of each layer name: at an equal number of units, and in all.

    Parameters
    ----------
    layers : pandas.DataFrame
        Table of `compare.layers`.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    if not (layers["distinct"] > 0).any():
        raise _Nothing(NO_LABEL)
    panels, figure = _stack(layers, row_height=0.36)
    drawn = " or ".join(f"{units:,}" for units in sorted(layers["rarefied_units"].unique()))
    for (model, group), panel in panels:
        rows = range(len(group))
        panel.barh(
            rows, group["distinct_rarefied"], height=0.6, color=SERIES_COLOURS[5], edgecolor="#333333", linewidth=0.4
        )
        panel.plot(group["distinct"], rows, "D", color="#000000", markersize=5)
        for row, each in zip(rows, group.itertuples(), strict=True):
            note = f"{each.distinct:,} of {counted(each.labelled, 'unit')}"
            panel.annotate(note, (each.distinct, row), (7, 0), textcoords="offset points", va="center", fontsize=8)
        _label_rows(panel, [_wrap(layer, 30) for layer in group["layer"]])
        panel.set_title(_wrap(model, 44))
        panel.set_xlim(0, 1.45 * max(layers["distinct"].max(), 1))
    panel.set_xlabel("distinct concepts")
    handles = [
        Patch(
            facecolor=SERIES_COLOURS[5],
            edgecolor="#333333",
            label=f"expected among {drawn} labelled units drawn at random",
        ),
        Line2D([], [], color="#000000", marker="D", markersize=5, linestyle="", label="among all labelled units"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    _title(figure, f"Distinct concepts of each layer ({encoder})")
    _save(figure, path)


@_figure
def category_shares(categories: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw the share of each category of concepts by layer, one panel a model, with Wilson's 95 % intervals.

    Parameters
    ----------
    categories : pandas.DataFrame
        Table of `compare.categories`; the layer ``all`` is left out.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    by_layer = categories[categories["layer"] != "all"]
    _require(by_layer, "share", NO_LABEL)
    models = _names(by_layer, "model")
    known = list(CATEGORY_COLOURS)
    names = sorted(_names(by_layer, "category"), key=lambda name: known.index(_category(name)))
    most = by_layer.groupby("model")["layer"].nunique().max()
    figure = Figure((7.2, 0.9 + len(models) * (0.9 + len(names) * max(0.3, 0.13 * most))), layout="constrained")
    panels = figure.subplots(len(models), 1, sharex=True, squeeze=False).ravel()
    for panel, model in zip(panels, models, strict=True):
        group = by_layer[by_layer["model"] == model]
        layers = list(group["layer"].unique())
        percent = group.assign(mean=100 * group["share"], low=100 * group["low"], high=100 * group["high"])
        _dots(panel, percent, rows=("category", names), series=("layer", layers), colours=_depths(len(layers)))
        _label_rows(panel, [_shorten(name, 40) for name in names], stripes=True)
        panel.set_title(_wrap(model, 44))
        panel.tick_params(labelbottom=True)
        panel.legend(title="layer", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    panels[-1].set_xlabel("share of the layer's labelled units (%)")
    panels[-1].set_xlim(left=0)
    _title(figure, f"Categories of the labels by layer ({encoder}), 95 % Wilson intervals")
    _save(figure, path)


@_figure
def rarefaction(curve: pd.DataFrame, probe_sizes: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw distinct concepts against the number of units (left) and of probe photographs (right), a row a model.

    Parameters
    ----------
    curve : pandas.DataFrame
        Table of `compare.rarefaction`; the layer ``all`` is left out.
    probe_sizes : pandas.DataFrame
        Table of `compare.probe_sizes`.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    both = pd.concat([curve[curve["layer"] != "all"], probe_sizes])
    _require(both, "distinct", "No unit has a label, on all photographs or on some.")
    models = _names(both, "model")
    figure = Figure((8.4, 0.6 + 2.6 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), 2, sharex="col", sharey="row", squeeze=False)
    for (left, right), model in zip(panels, models, strict=True):
        by_units, by_photographs = (table[table["model"] == model] for table in (curve, probe_sizes))
        layers = _names(both[both["model"] == model], "layer")
        for position, (layer, colour) in enumerate(zip(layers, _depths(len(layers)), strict=True)):
            one = by_units[by_units["layer"] == layer]
            left.fill_between(one["units"], one["low"], one["high"], color=colour, alpha=0.2, linewidth=0)
            left.plot(one["units"], one["distinct"], color=colour, linewidth=1.5)
            one = by_photographs[(by_photographs["layer"] == layer) & by_photographs["distinct"].notna()]
            marker = MARKERS[position % len(MARKERS)]
            right.vlines(one["photographs"], one["distinct_lowest"], one["distinct_highest"], color=colour)
            right.plot(
                one["photographs"], one["distinct"], marker + "-", color=colour, markersize=4, label=_wrap(layer, 24)
            )
        right.legend(title="layer", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
        left.set(title=_wrap(model, 34), ylabel="distinct concepts", xlim=(0, None), ylim=(0, None))
        right.set_xlim(left=0)
        for panel in (left, right):
            panel.tick_params(labelbottom=True)
            panel.grid(color="#DDDDDD", linewidth=0.6)
    panels[-1, 0].set_xlabel("labelled units drawn at random")
    panels[-1, 1].set_xlabel("probe photographs drawn at random, all units")
    _title(figure, f"Distinct concepts by units and by probe photographs ({encoder})")
    _save(figure, path)


@_figure
def score_against_null(concepts: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw, for every layer, what share of its units and of the null's draws exceeds a value of the test statistic.

    Parameters
    ----------
    concepts : pandas.DataFrame
        ``model, layer, statistic, p_value, q_value, alpha`` of `evidence.label_table`; units without a p-value are left
        out.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    tested = concepts[concepts["p_value"].notna()]
    _require(tested, "p_value", "No unit could be tested: none is above its lowest activation on enough images.")
    layers = {model: _names(group, "layer") for model, group in tested.groupby("model", sort=False)}
    columns = min(max(map(len, layers.values())), 4)
    rows = sum(-(-len(names) // columns) for names in layers.values())
    figure = Figure((max(4.5, 2.8 * columns), 0.9 + 2.3 * rows), layout="constrained")
    panels = iter(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for model, names in layers.items():
        for layer in names:
            _tail_shares(panel := next(panels), tested[(tested["model"] == model) & (tested["layer"] == layer)])
            panel.set_title(_wrap(f"{model} {layer}", 24), fontsize=9)
        for _ in range(-len(names) % columns):
            next(panels).remove()
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    _title(figure, f"Labels against the permutation null ({encoder})")
    _save(figure, path)


def _tail_shares(panel: Axes, units: pd.DataFrame) -> None:
    """Draw one layer: each unit's p-value is the share of the null that reaches its statistic."""
    units = units.sort_values("statistic", ascending=False, kind="stable")
    share = 100 * np.arange(1, len(units) + 1) / len(units)
    panel.step(units["statistic"], share, where="post", color=SERIES_COLOURS[0], label="units")
    panel.plot(units["statistic"], 100 * units["p_value"], "--", color=SERIES_COLOURS[1], label="null")
    alpha = units["alpha"].iloc[0]
    bar = units.loc[units["q_value"] <= alpha, "statistic"].min()
    panel.axvline(bar, color="#333333", linewidth=1, linestyle=":", label=f"least with q ≤ {alpha:g}, if any")
    panel.grid(color="#DDDDDD", linewidth=0.6)
    panel.tick_params(labelleft=True)
    panel.set(xlabel="test statistic of the label", ylabel="share that reaches it (%)", ylim=(0, 100))


@_figure
def category_trend(trend: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw how each category's share changes from layer to layer, by model, with 95 % intervals.

    Parameters
    ----------
    trend : pandas.DataFrame
        Table of `compare.trend`. Without rows, for no model has labels in two layers, the figure says so.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    rows = trend.assign(series=trend["model"] + ": " + trend["first"] + " to " + trend["last"], value=trend["slope"])
    _changes(
        rows,
        path,
        title=f"Change of category shares from layer to layer ({encoder})",
        axis="change of the share of labelled units a layer (percentage points), 95 % interval",
        empty="No model has labels in two layers, so there is no trend.",
    )


@_figure
def category_differences(differences: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw how the category shares of every two models differ, with 95 % intervals.

    Parameters
    ----------
    differences : pandas.DataFrame
        Table of `compare.category_differences`; the rows of layer ``all`` are drawn. Without rows, for there is one
        model, the figure says so.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    rows = differences[differences["layer"] == "all"]
    rows = rows.assign(series=rows["model_a"] + " minus " + rows["model_b"], value=rows["difference"])
    _changes(
        rows,
        path,
        title=f"Difference of category shares over the configured layers ({encoder})",
        axis="difference of the shares of labelled units (percentage points), 95 % interval",
        empty="There is one model with labels, so there is no difference.",
    )


def blend(image: np.ndarray, saliency: np.ndarray, segments: np.ndarray | None = None, *, scale: int = 1) -> np.ndarray:
    """Colour a photograph in grey by saliency, and draw the borders of its superpixels.

    Parameters
    ----------
    image : array, uint8, shape (h, w, 3)
        Photograph in the model's geometry.
    saliency : array, shape (h, w)
        Saliency in [0, 1].
    segments : array of int, shape (h, w), optional
        Superpixels.
    scale : int
        Side of the square that a pixel becomes.

    Returns
    -------
    array, shape (h * scale, w * scale, 3)
        Colours in [0, 1].

    Raises
    ------
    ValueError
        If the shapes do not fit each other, or a saliency lies outside [0, 1].
    """
    for name, array in {"saliency": saliency, "segments": segments}.items():
        if array is not None and array.shape != image.shape[:2]:
            raise ValueError(f"`{name}` has shape {array.shape}, the photograph has {image.shape[:2]}")
    if not (saliency.min() >= 0 and saliency.max() <= 1):
        raise ValueError(f"`saliency` must lie in [0, 1], got {saliency.min()} to {saliency.max()}")
    grey = np.repeat(image @ [0.299, 0.587, 0.114] / 255, 3).reshape(image.shape)  # (h, w, 3)
    alpha = 0.8 * np.sqrt(saliency)[..., None]
    blended = (1 - alpha) * grey + alpha * SALIENCY_MAP(saliency)[..., :3]
    blended = _enlarge(blended, scale)
    if segments is not None:
        contours = find_boundaries(_enlarge(segments, scale), mode="inner", background=-1)
        blended[contours] = 0.45 * blended[contours] + 0.55
    return blended


@_figure
def overlay(
    image: np.ndarray, saliency: np.ndarray, path: str | Path, *, segments: np.ndarray | None = None, title: str
) -> None:
    """Draw one saliency map over its photograph, every pixel of the photograph as a square of equal pixels.

    Parameters
    ----------
    image : array, uint8, shape (h, w, 3)
        Photograph in the model's geometry.
    saliency : array, shape (h, w)
        Saliency in [0, 1].
    path : path
        File to write, ``.png`` or ``.svg``; about 3 inches wide.
    segments : array of int, shape (h, w), optional
        Superpixels, drawn as contours.
    title : str
        Text above the picture.

    Raises
    ------
    ValueError
        If the shapes do not fit each other, a saliency lies outside [0, 1], or the suffix is another.
    """
    scale = max(1, round(3 * DPI / image.shape[1]))
    picture = blend(image, saliency, segments, scale=scale)
    height, width = (side / DPI for side in picture.shape[:2])
    lines = _wrap(title, int(width / 0.08)).split("\n")
    above = 0.08 + 0.17 * len(lines)
    figure = Figure((width, height + above))
    _picture(figure, picture, left=0, top=above, width=width, height=height)
    figure.text(0, 1, "\n".join(lines), va="top", fontsize=9)
    _save(figure, path)


@_figure
def explanation_grid(
    images: np.ndarray,
    saliencies: Mapping[str, np.ndarray],
    path: str | Path,
    *,
    captions: Sequence[str],
    segments: np.ndarray | None = None,
    model: str,
) -> None:
    """Draw photographs (rows) against explainers (columns), every saliency map over its photograph.

    Parameters
    ----------
    images : array, uint8, shape (n, h, w, 3)
        Photographs in the model's geometry.
    saliencies : mapping from explainer to array, shape (n, h, w)
        Saliency in [0, 1].
    path : path
        File to write, ``.png`` or ``.svg``.
    captions : sequence of str
        Text above each row: the class explained and its probability.
    segments : array of int, shape (n, h, w), optional
        Superpixels, drawn as contours in the column of LIME.
    model : str
        Name of the model, for the title.

    Raises
    ------
    ValueError
        If numbers or shapes do not fit each other, or as in `overlay`.
    """
    n, pixels_high, pixels_wide = images.shape[:3]
    for name, given in {"captions": captions, **saliencies}.items():
        if len(given) != n:
            raise ValueError(f"`{name}` has {len(given)} entries for {n} `images`")
    if not n:
        raise _Nothing("No photograph was explained.")
    columns, gap, strip, head = 1 + len(saliencies), 0.06, 0.3, 0.95
    cell = min(max(1, round(224 / pixels_wide)) * pixels_wide / DPI, (WIDEST - gap) / columns - gap)
    cell_height = cell * pixels_high / pixels_wide
    width = columns * (cell + gap) + gap
    figure = Figure((width, head + n * (cell_height + strip)))
    height = figure.get_figheight()
    figure.text(gap / width, 1 - 0.06 / height, f"Explanations of {model}", va="top", fontsize=11)
    _saliency_bar(figure, left=gap, top=0.34, width=min(2.5, width / 2))
    for column, title in enumerate(["Photograph", *map(explainer_title, saliencies)]):
        left = gap + column * (cell + gap)
        figure.text(left / width, 1 - (head - 0.02) / height, title, va="bottom", fontweight="bold", fontsize=9)
    for row in range(n):
        top = head + row * (cell_height + strip) + strip - 0.05
        caption = _shorten(captions[row], int(width / 0.08))
        figure.text(gap / width, 1 - (top - 0.05) / height, caption, va="bottom", fontsize=9)
        pictures = [images[row]] + [
            blend(images[row], maps[row], segments[row] if name == "lime" and segments is not None else None)
            for name, maps in saliencies.items()
        ]
        for column, picture in enumerate(pictures):
            _picture(figure, picture, left=gap + column * (cell + gap), top=top, width=cell, height=cell_height)
    _save(figure, path)


@_figure
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
    _require(rows, "mean", NO_PAIR)
    rows = _with_pairs(rows)
    models, pairs = _names(rows, "model"), _names(rows, "pair")
    figure = Figure((7.2, 1.3 + len(pairs) * max(0.42, 0.2 * len(models))), layout="constrained")
    panel = figure.subplots()
    _dots(panel, rows, rows=("pair", pairs), series=("model", models))
    for number, chance in enumerate(rows["chance"].dropna().unique()):
        panel.axvline(chance, **CHANCE_LINE | {"label": f"chance ({chance:.3f})" if number == 0 else None})
    counts = [" / ".join(f"{n}" for n in dict.fromkeys(rows.loc[rows["pair"] == pair, "n"])) for pair in pairs]
    _label_rows(panel, [f"{pair}\nn = {count}" for pair, count in zip(pairs, counts, strict=True)], stripes=True)
    if measure != "spearman":
        panel.set_xlim(left=0)
    panel.set_xlabel(
        f"mean {MEASURE_TITLES[measure].replace('Equal', 'equal')} over photographs, 95 % bootstrap interval"
    )
    figure.legend(loc="outside lower center", ncols=2)
    _title(figure, f"{MEASURE_TITLES[measure]} of every two explainers")
    _save(figure, path)


@_figure
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
    _require(rows, "mean", NO_PAIR)
    rows = _with_pairs(rows)
    pairs, models = _names(rows, "pair"), _names(rows, "model")
    panels, figure = _panels(len(pairs), height=2.1)
    areas = np.linspace(0, rows["cut"].max(), 100)
    for panel, pair in zip(panels, pairs, strict=True):
        panel.plot(100 * areas, areas / (2 - areas), **CHANCE_LINE)
        for position, model in enumerate(models):
            one = rows[(rows["pair"] == pair) & (rows["model"] == model)].sort_values("cut")
            _band(panel, 100 * one["cut"], one[["mean", "low", "high"]], label=model, position=position)
        panel.set_title(pair, fontsize=9)
        panel.set_ylim(0, 1)
        panel.set_xlim(left=0)
    _label_outer(panels, "share of the picture (%)", "mean equal-area IoU")
    _common_legend(figure, panels[0])
    _title(figure, "Equal-area IoU by area, 95 % bootstrap intervals over photographs")
    _save(figure, path)


@_figure
def shape(summary: pd.DataFrame, path: str | Path, *, titles: Mapping[str, str]) -> None:
    """Draw the mean shape of each explainer's maps with its 95 % interval, one panel a measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `saliency.summarise_shape`.
    path : path
        File to write, ``.png`` or ``.svg``.
    titles : mapping
        From a measure to what its axis is called.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    _require(summary, "mean", "There is no map that has a shape.")
    models = _names(summary, "model")
    rows = summary.assign(title=summary["explainer"].map(explainer_title))
    explainers, measures = list(rows["title"].unique()), list(rows["measure"].unique())
    figure = Figure((9.5, 1.3 + len(explainers) * max(0.36, 0.16 * len(models))), layout="constrained")
    panels = figure.subplots(1, len(measures), sharey=True, squeeze=False).ravel()
    for panel, measure in zip(panels, measures, strict=True):
        own = rows[rows["measure"] == measure]
        _dots(panel, own, rows=("title", explainers), series=("model", models))
        _label_rows(panel, explainers, stripes=True)
        panel.set_xlim(left=0)
        panel.set_xlabel(_wrap(titles[measure], 34))
    _common_legend(figure, panels[0])
    _title(figure, "Shape of the saliency maps, means with 95 % bootstrap intervals over photographs")
    _save(figure, path)


@_figure
def ground_truth(summary: pd.DataFrame, path: str | Path, *, titles: Mapping[str, str]) -> None:
    """Draw how well explainers find the objects, a row of panels a reference, a panel a measure.

    Parameters
    ----------
    summary : pandas.DataFrame
        Table of `groundtruth.summarise`.
    path : path
        File to write, ``.png`` or ``.svg``.
    titles : mapping
        From a measure to what its axis is called.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    _require(summary, "mean", "There is no photograph with an object that a map can be scored against.")
    references, models = _names(summary, "reference"), _names(summary, "model")
    rows = summary.assign(title=summary["explainer"].map(explainer_title))
    explainers = list(rows["title"].unique())
    height = len(explainers) * max(0.36, 0.16 * len(models)) + 0.6
    figure = Figure((9.5, 0.8 + height * len(references)), layout="constrained")
    grid = figure.subplots(len(references), len(titles), sharey=True, squeeze=False)
    for reference, panels in zip(references, grid, strict=True):
        for panel, (measure, title) in zip(panels, titles.items(), strict=True):
            own = rows[(rows["reference"] == reference) & (rows["measure"] == measure)]
            _dots(panel, own, rows=("title", explainers), series=("model", models))
            panel.axvline(own["chance"].mean(), **CHANCE_LINE)
            _label_rows(panel, explainers, stripes=True)
            panel.set_xlim(0, 1.04)
            panel.set_xlabel(_wrap(title, 34))
        panels[0].set_title(f"against the {reference}", fontsize=9)
    _common_legend(figure, grid[0][0])
    _title(figure, "Explainers against the objects of the sheet, means with 95 % bootstrap intervals over photographs")
    _save(figure, path)


@_figure
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
    _require(rows, "mean", "There is no photograph on which maps of a randomised network can be compared.")
    models, explainers = _names(rows, "model"), list(rows["explainer"].map(explainer_title).unique())
    panels, figure = _panels(len(models), height=2.6, columns=2, sharex=False)
    for panel, model in zip(panels, models, strict=True):
        own = rows[rows["model"] == model]
        stages = sorted({0, *own["randomised"]})
        for position, title in enumerate(explainers):
            one = own[own["explainer"].map(explainer_title) == title].sort_values("randomised")
            one = pd.concat(
                [one.iloc[:1].assign(randomised=0, mean=1.0, low=1.0, high=1.0), one[one["randomised"] > 0]]
            )
            at = [stages.index(number) for number in one["randomised"]]
            _band(panel, at, one[["mean", "low", "high"]], label=title, position=position)
        other = own.loc[own["randomised"] == 0, "mean"]
        if len(other):
            panel.axhline(other.mean(), color="#333333", linestyle=":", linewidth=1.2, label="another photograph")
        panel.axhline(own["chance"].mean(), **CHANCE_LINE)
        panel.set_xticks(range(len(stages)), ["none", *(str(number) for number in stages[1:])])
        panel.set_ylim(0, 1.03)
        panel.set_title(_wrap(model, 24), fontsize=9)
        panel.set_xlabel(f"layers randomised, of {own['layers'].max()}")
        panel.set_ylabel("equal-area IoU with the original")
    _common_legend(figure, panels[0])
    _title(figure, "Maps of randomised networks against the original ones")
    _save(figure, path)


@_figure
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
    _require(summary, "mean", "There is no photograph on which LIME can be compared with itself.")
    models = _names(summary, "model")
    panels, figure = _panels(len(titles), height=2.6)
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        own = summary[summary["measure"] == measure]
        for position, model in enumerate(models):
            one = own[own["model"] == model].sort_values("n_samples")
            _band(panel, one["n_samples"], one[["mean", "low", "high"]], label=model, position=position)
        panel.axhline(own["chance"].mean(), **CHANCE_LINE)
        panel.set_ylim(0, 1.03)
        panel.set_xlim(left=0)
        panel.set_xlabel("samples")
        panel.set_ylabel(_wrap(title, 30))
    _common_legend(figure, panels[0])
    _title(figure, "LIME drawn again, 95 % bootstrap intervals over photographs")
    _save(figure, path)


@_figure
def complexity(
    joined: pd.DataFrame, correlations: pd.DataFrame, path: str | Path, *, titles: Mapping[str, str]
) -> None:
    """Draw agreement against each measure of complexity, a row of panels a model, a point a photograph.

    Parameters
    ----------
    joined : pandas.DataFrame
        ``model``, ``value`` (the agreement) and the measures, a row a photograph.
    correlations : pandas.DataFrame
        Rows of `saliency.correlate_complexity` for the same agreement; written into the panels.
    path : path
        File to write, ``.png`` or ``.svg``.
    titles : mapping
        From a measure to what its axis is called.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    _require(joined, "value", NO_PAIR)
    models = _names(joined, "model")
    figure = Figure((min(WIDEST, max(6.0, 2.1 * len(titles))), 0.6 + 2.2 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), len(titles), sharey=True, sharex="col", squeeze=False)
    for row, model in enumerate(models):
        own = joined[joined["model"] == model]
        known = correlations[correlations["model"] == model].set_index("measure").reindex(list(titles))
        for panel, (measure, title) in zip(panels[row], titles.items(), strict=True):
            panel.plot(
                own[measure], own["value"], MARKERS[row % len(MARKERS)], color=SERIES_COLOURS[row % 7], markersize=4
            )
            panel.grid(color="#DDDDDD", linewidth=0.6)
            found = known.loc[measure]
            note = f"r = {found['correlation']:.2f}, adj. p = {found['p_adjusted']:.2g}"
            panel.set_title(
                note if pd.notna(found["correlation"]) else "no correlation", fontsize=8, fontweight="normal"
            )
            panel.set_ylim(0, 1)
            if row == len(models) - 1:
                panel.set_xlabel(_wrap(title, 24))
        panels[row][0].set_ylabel(_wrap(f"{model}: equal-area IoU", 26))
    _title(figure, "Agreement against the complexity of a picture; r: Spearman, p corrected for the measures of a row")
    _save(figure, path)


@_figure
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
    _require(rows, "mean", NO_SCORE)
    explainers = _names(rows, "explainer")
    titles = {measure: title for measure, title in FAITHFULNESS_TITLES.items() if measure in set(rows["measure"])}
    panels, figure = _panels(len(titles), height=0.7 + 0.3 * len(explainers), columns=2, sharex=False)
    figure.set_figwidth(7.2)
    positions = {name: number for number, name in enumerate(dict.fromkeys(rows["baseline"]))}
    for panel, (measure, title) in zip(panels, titles.items(), strict=True):
        of_measure = rows[rows["measure"] == measure]
        baselines = list(of_measure["baseline"].unique())
        for number, baseline in enumerate(baselines):
            one = of_measure[of_measure["baseline"] == baseline].set_index("explainer").reindex(explainers)
            colour = SERIES_COLOURS[positions[baseline]]
            heights = np.arange(len(explainers)) + _offset(number, len(baselines))
            look = {"label": BASELINE_TITLES[baseline], "position": positions[baseline], "colour": colour}
            _intervals(panel, one[["mean", "low", "high"]], heights, **look)
            panel.axvline(one["mean"].get("random", np.nan), color=colour, linestyle="--", linewidth=1)
        _label_rows(panel, [explainer_title(name) for name in explainers], stripes=True)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(f"{of_measure['better'].iloc[0]} is more faithful", fontsize=8)
        panel.set_xlim(left=min(0, panel.get_xlim()[0]))
    handles = dict(pair[::-1] for panel in panels for pair in zip(*panel.get_legend_handles_labels(), strict=True))
    figure.legend(handles.values(), handles, title="removed pixels are", loc="outside lower center", ncols=len(handles))
    _title(figure, f"How faithful the explanations of {model} are: means, 95 % intervals; dashed: random maps")
    _save(figure, path)


@_figure
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
    _require(rows, "mean", NO_SCORE)
    explainers = [name for name in _names(rows, "explainer") if name not in FLOOR_LINES]
    kinds = rows[["measure", "baseline"]].drop_duplicates()
    kinds = kinds.sort_values("measure", key=lambda names: names.map(list(CURVE_TITLES).index), kind="stable")
    panels, figure = _panels(len(kinds), height=2.4, columns=2)
    figure.set_figwidth(7.2)
    for panel, (measure, baseline) in zip(panels, kinds.itertuples(index=False), strict=True):
        of_kind = rows[(rows["measure"] == measure) & (rows["baseline"] == baseline)].sort_values("share")
        for position, explainer in enumerate(explainers):
            one = of_kind[of_kind["explainer"] == explainer]
            name = explainer_title(explainer)
            _band(panel, 100 * one["share"], one[["mean", "low", "high"]], label=name, position=position)
        for floor, line in FLOOR_LINES.items():
            one = of_kind[of_kind["explainer"] == floor]
            panel.plot(100 * one["share"], one["mean"], linestyle=line, color="#333333", label=explainer_title(floor))
        panel.set_title(CURVE_TITLES[measure].format(baseline), fontsize=9)
        panel.set(xlim=(0, 100), ylim=(0, 1))
    _label_outer(panels, "pixels removed or inserted (%)", "mean probability")
    _common_legend(figure, panels[0])
    _title(figure, f"{model}: probability of the explained class, 95 % bootstrap intervals over photographs")
    _save(figure, path)


@_figure
def timings(timings: pd.DataFrame, path: str | Path) -> None:
    """Draw the wall-clock seconds that each explainer takes for a photograph, one panel a model, on a log scale.

    Parameters
    ----------
    timings : pandas.DataFrame
        ``model, explainer, seconds_per_image, device, threads``; a bar a row.
    path : path
        File to write, ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    _require(timings, "seconds_per_image", "No explainer was timed.")
    machines = [machine_title(row.device, row.threads) for row in timings.itertuples()]
    shared = len(set(machines)) == 1
    panels, figure = _stack(timings, row_height=0.3 if shared else 0.55)
    timings = timings.assign(machine=machines)
    for (model, _), panel in panels:
        group = timings[timings["model"] == model]
        bars = panel.barh(range(len(group)), group["seconds_per_image"], height=0.6, color=SERIES_COLOURS[0])
        panel.bar_label(
            bars, labels=[f"{seconds:.2g} s" for seconds in group["seconds_per_image"]], padding=3, fontsize=8
        )
        names = [
            explainer_title(row.explainer) + ("" if shared else f"\n{_wrap(row.machine, 28)}")
            for row in group.itertuples()
        ]
        _label_rows(panel, names)
        panel.set_title(_wrap(model, 44))
        _log_scale(panel)
        seconds = timings["seconds_per_image"]
        panel.set_xlim(seconds.min() / 3, seconds.max() * 4)
    panel.set_xlabel("seconds per photograph, wall clock (log scale)")
    _title(figure, "Time to explain a photograph" + (f", on {machines[0]}" if shared else ""))
    _save(figure, path)


@_figure
def resources(table: pd.DataFrame, path: str | Path) -> None:
    """Draw what the jobs of each rule asked for and used: seconds, memory and, where known, how busy their GPU was.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `resources.efficiency`; the first `MOST_RULES` rules are drawn.
    path : path
        File to write, ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    _require(table, "seconds_mean", "No job has left a benchmark.")
    which = f"the {MOST_RULES} of {len(table)} rules that took most time" if len(table) > MOST_RULES else "each rule"
    table = table.head(MOST_RULES)
    columns = 3 if table["gpu_busy"].notna().any() else 2
    figure = Figure((4.2 + 2.8 * columns, 1.3 + 0.24 * len(table)), layout="constrained")
    time, memory, *gpu = figure.subplots(1, columns, sharey=True)
    rows = range(len(table))
    time.hlines(rows, table["seconds_mean"], table["seconds_max"], color=SERIES_COLOURS[0], linewidth=2)
    time.scatter(table["seconds_mean"], rows, color=SERIES_COLOURS[0], s=18, label="mean, to the slowest job")
    time.scatter(table["seconds_asked"], rows, color=SERIES_COLOURS[1], marker="|", s=60, label="asked")
    _log_scale(time)
    time.set_xlabel("seconds a job (log scale)")
    memory.barh(rows, table["mem_mb_max"] / 1000, height=0.6, color=SERIES_COLOURS[0], label="most held by a job")
    memory.scatter(table["mem_mb_asked"] / 1000, rows, color=SERIES_COLOURS[1], marker="|", s=60, label="asked")
    memory.set_xlabel("memory (GB)")
    for panel in gpu:
        panel.barh(rows, 100 * table["gpu_busy"], height=0.6, color=SERIES_COLOURS[0])
        panel.set_xlim(0, 100)
        panel.set_xlabel("GPU busy (% of the jobs' time)")
    names = [f"{row.rule} ({row.jobs})" for row in table.itertuples()]
    for panel in (time, memory, *gpu):
        _label_rows(panel, names, stripes=True)
    for panel in (time, memory):
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, handletextpad=0.3, borderaxespad=0)
    _title(figure, f"What the jobs of {which} asked for and used (number of jobs)")
    _save(figure, path)


@_figure
def tuning_front(settings: pd.DataFrame, path: str | Path, *, cost: str) -> None:
    """Draw the mean score of every setting of LIME against its cost, one panel a model, and join those that none beats.

    Parameters
    ----------
    settings : pandas.DataFrame
        Settings of `tune.tables`; for seconds with these and their front of the timings there. The front and the
        settings with a name have intervals.
    path : path
        File to write, ``.png`` or ``.svg``.
    cost : str
        ``forward_passes`` or ``seconds``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    ranked = settings[settings["rank"].notna()]
    _require(ranked, "mean", "No setting of LIME could be used on every photograph.")
    models, named = _names(ranked, "model"), sorted(set(ranked["name"].dropna()) - {""})
    panels, figure = _panels(len(models), height=3.2, columns=2, sharex=False)
    for panel, model in zip(panels, models, strict=True):
        own = ranked[ranked["model"] == model]
        panel.plot(own[cost], own["mean"], ".", color="#8C8C8C", markersize=6, label="a setting", zorder=1)
        front = own[own["front"]].sort_values([cost, "mean"])
        panel.step(front[cost], front["mean"], where="post", color=SERIES_COLOURS[0], linewidth=1)
        series = {"no setting scores more for as much or less": front}
        series |= {name: own[own["name"] == name] for name in named}
        for position, (label, rows) in enumerate(series.items()):
            colour, marker = SERIES_COLOURS[position % len(SERIES_COLOURS)], MARKERS[position % len(MARKERS)]
            at = rows[cost] * 1.05**position  # intervals beside, not on each other
            panel.vlines(at, rows["low"], rows["high"], color=colour, linewidth=1.2)
            panel.plot(at, rows["mean"], marker, color=colour, markersize=6, label=_wrap(label, 60))
        _log_scale(panel)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.set_title(_wrap(f"{model}, n = {own['n'].iloc[0]}", 24), fontsize=9)
    _label_outer(
        panels,
        {"forward_passes": "forward passes", "seconds": "modelled seconds"}[cost] + " a photograph",
        "mean score",
    )
    _common_legend(figure, panels[0])
    _title(figure, "Settings of LIME, 95 % bootstrap intervals over photographs. Score: " + _objectives(ranked))
    _save(figure, path)


@_figure
def tuning_effects(effects: pd.DataFrame, path: str | Path) -> None:
    """Draw the mean score over all settings of LIME that share a value, one panel a parameter.

    Parameters
    ----------
    effects : pandas.DataFrame
        Effects of `tune.tables`.
    path : path
        File to write, ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    _require(effects, "mean", "No parameter of LIME has two values that could be scored.")
    models, parameters = _names(effects, "model"), _names(effects, "parameter")
    levels = {name: _names(effects[effects["parameter"] == name], "level") for name in parameters}
    heights = [max(0.3, 0.17 * len(models)) * len(own) + 0.3 for own in levels.values()]
    figure = Figure((7.2, 1.3 + sum(heights) + 0.2 * len(heights)), layout="constrained")
    panels = figure.subplots(len(levels), 1, sharex=True, squeeze=False, height_ratios=heights).ravel()
    for panel, (parameter, own) in zip(panels, levels.items(), strict=True):
        of_parameter = effects[effects["parameter"] == parameter]
        _dots(panel, of_parameter, rows=("level", own), series=("model", models))
        counts = of_parameter.groupby("level")["settings"].max()
        _label_rows(panel, [f"{_wrap(level, 40)} ({counted(counts[level], 'setting')})" for level in own], stripes=True)
        panel.set_title(parameter, fontsize=9)
    panels[-1].set_xlabel(f"mean score, n = {counted(effects['n'].max(), 'photograph')}, 95 % bootstrap interval")
    _common_legend(figure, panels[0])
    _title(figure, "What each parameter of LIME does. Score: " + _objectives(effects))
    _save(figure, path)


def _objectives(table: pd.DataFrame) -> str:
    return " | ".join(table["objective"].unique())


def _require(rows: pd.DataFrame, column: str, reason: str) -> None:
    """Leave the figure to the `reason` where no row has a number in the column."""
    if rows[column].isna().all():
        raise _Nothing(reason)


def _names(table: pd.DataFrame, column: str) -> list[str]:
    return list(table[column].unique())


def _category(name: str) -> str:
    return name if name in CATEGORY_COLOURS else "other"


def _stack(table: pd.DataFrame, *, row_height: float) -> tuple[list, Figure]:
    """Panels below each other with a common horizontal axis, one a model and as high as its rows need."""
    groups = [(model, table[table["model"] == model]) for model in _names(table, "model")]
    heights = [len(group) * row_height + 0.3 for _, group in groups]
    figure = Figure((7.2, 1.2 + sum(heights) + 0.3 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights).ravel()
    return list(zip(groups, panels, strict=True)), figure


def _panels(count: int, *, height: float, columns: int = 3, **options: object) -> tuple[list[Axes], Figure]:
    """Panels in rows of at most three."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure((max(5.0, 2.6 * columns), 1.2 + rows * height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **{"sharex": True, "sharey": True} | options).ravel()
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[:count]:
        panel.grid(color="#DDDDDD", linewidth=0.6)
    return list(panels[:count]), figure


def _label_outer(panels: Sequence[Axes], x: str, y: str) -> None:
    """Name the axes once a column and once a row, where they are shared."""
    columns = max(panel.get_subplotspec().colspan.stop for panel in panels)
    for position, panel in enumerate(panels):
        if position % columns == 0:
            panel.set_ylabel(y)
        if position + columns >= len(panels):
            panel.set_xlabel(x)
            panel.tick_params(labelbottom=True)


def _common_legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    ncols = min(3, len(labels)) if max(map(len, labels)) <= 20 else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols)


def _band(panel: Axes, x: pd.Series, values: pd.DataFrame, *, label: str, position: int) -> None:
    """Draw a line with the band of its intervals; columns are the centre, the low and the high end, possibly NaN."""
    colour = SERIES_COLOURS[position % len(SERIES_COLOURS)]
    centre, low, high = values.to_numpy(dtype=float).T
    panel.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    panel.plot(
        x,
        centre,
        marker=MARKERS[position % len(MARKERS)],
        color=colour,
        markersize=4,
        linewidth=1.3,
        label=_wrap(label, 40),
    )


def _label_rows(panel: Axes, labels: Sequence[str], *, stripes: bool = False) -> None:
    """Label rows from the top; stripes keep the series of a row together."""
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    for row in range(0, len(labels) if stripes else 0, 2):
        panel.axhspan(row - 0.5, row + 0.5, color="#F3F3F3", zorder=0, linewidth=0)


def _offset(position: int, count: int) -> float:
    """Vertical shift of a series within its row."""
    return (position - (count - 1) / 2) * 0.7 / count


def _dots(
    panel: Axes,
    table: pd.DataFrame,
    *,
    rows: tuple[str, Sequence[str]],
    series: tuple[str, Sequence[str]],
    colours: Sequence[object] = SERIES_COLOURS,
) -> None:
    """Draw ``mean`` with the interval from ``low`` to ``high``: a row for each value of one column, in it the series.

    `rows` and `series` are a column each, and its values in the order of drawing.
    """
    (column, names), (group, labels) = rows, series
    for position, label in enumerate(labels):
        one = table[table[group] == label].drop_duplicates(column).set_index(column).reindex(names)
        heights = np.arange(len(names)) + _offset(position, len(labels))
        colour = colours[position % len(colours)]
        _intervals(panel, one[["mean", "low", "high"]], heights, label=label, position=position, colour=colour)


def _with_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    pairs = zip(rows["explainer_a"], rows["explainer_b"], strict=True)
    return rows.assign(pair=[pair_title(*names) for names in pairs])


def _intervals(
    panel: Axes, values: pd.DataFrame, rows: np.ndarray, *, label: str, position: int, colour: object
) -> None:
    """Draw dots with the lines of their intervals; columns are the centre, the low and the high end, possibly NaN."""
    centre, low, high = values.to_numpy(dtype=float).T
    panel.hlines(rows, low, high, color=colour, linewidth=1.5)
    panel.plot(centre, rows, MARKERS[position % len(MARKERS)], color=colour, markersize=5, label=_wrap(label, 40))


def _changes(rows: pd.DataFrame, path: str | Path, *, title: str, axis: str, empty: str) -> None:
    """Draw ``value``, ``low`` and ``high`` of every category and series, filled where the adjusted p is below 0.05."""
    _require(rows, "value", empty)
    known = list(CATEGORY_COLOURS)
    names = sorted(rows["category"].unique(), key=lambda name: known.index(_category(name)))
    series = list(rows["series"].unique())
    figure = Figure((7.2, 1.6 + len(names) * max(0.32, 0.16 * len(series)) + 0.2 * len(series)), layout="constrained")
    panel = figure.subplots()
    for position, label in enumerate(series):
        one = rows[rows["series"] == label].set_index("category").reindex(names)
        heights = np.arange(len(names)) + _offset(position, len(series))
        colour, marker = SERIES_COLOURS[position % len(SERIES_COLOURS)], MARKERS[position % len(MARKERS)]
        _intervals(panel, 100 * one[["value", "low", "high"]], heights, label=label, position=position, colour=colour)
        open_ones = ~(one["p_adjusted"] < SIGNIFICANT)
        panel.plot(100 * one["value"][open_ones], heights[open_ones], marker, color=colour, mfc="white", markersize=5)
    _label_rows(panel, [_shorten(name, 40) for name in names], stripes=True)
    panel.axvline(0, color="#333333", linewidth=1)
    panel.set_xlabel(axis)
    handles, _ = panel.get_legend_handles_labels()
    label = f"filled: adjusted p < {SIGNIFICANT}"
    filled = Line2D([], [], color="#333333", marker="o", linestyle="", markersize=5, label=label)
    figure.legend(handles=[*handles, filled], loc="outside lower center", ncols=1 if len(series) > 2 else 2)
    _title(figure, title)
    _save(figure, path)


def _depths(count: int) -> np.ndarray:
    """Colours of layers, from the first to the last."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.8, count))


def _enlarge(array: np.ndarray, scale: int) -> np.ndarray:
    return array.repeat(scale, axis=0).repeat(scale, axis=1)


def _picture(figure: Figure, picture: np.ndarray, *, left: float, top: float, width: float, height: float) -> None:
    """Put a picture at a place in inches from the top left corner."""
    across, down = figure.get_size_inches()
    axes = figure.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))
    axes.imshow(picture, aspect="auto")
    axes.set_axis_off()


def _saliency_bar(figure: Figure, *, left: float, top: float, width: float) -> None:
    """Key to the colours of `blend`, on the grey of a medium photograph."""
    down = figure.get_figheight()
    across = figure.get_figwidth()
    axes = figure.add_axes((left / across, 1 - (top + 0.12) / down, width / across, 0.12 / down))
    bar = blend(np.full((1, 256, 3), 150, np.uint8), np.linspace(0, 1, 256)[None])
    axes.imshow(bar, aspect="auto")
    axes.set_axis_off()
    beside = 1 - (top + 0.06) / down
    figure.text(
        (left + width + 0.1) / across,
        beside,
        "saliency, from 0 to 1 within each map",
        va="center",
        fontsize=8,
    )


def _log_scale(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())


def _shorten(text: str, width: int) -> str:
    """Cut a name that is longer than a line of `width` characters, and show hidden ones."""
    text = visible(text)
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def _wrap(text: str, width: int) -> str:
    hidden = "\u200b" if text.startswith("_") else ""  # of no width; legends leave out what begins with _
    return hidden + "\n".join(textwrap.wrap(visible(text, "\n"), width, max_lines=6, placeholder="…")) or " "


def _title(figure: Figure, text: str) -> None:
    width = int(figure.get_figwidth() / 0.09)
    figure.suptitle(_wrap(text, width), x=0.01, ha="left")


def _save(figure: Figure, path: str | Path) -> None:
    suffix = Path(path).suffix
    if suffix not in METADATA:
        raise ValueError(f"`path` ends in '{suffix}'; allowed: {', '.join(METADATA)}")
    figure.savefig(path, dpi=DPI, metadata=METADATA[suffix])
