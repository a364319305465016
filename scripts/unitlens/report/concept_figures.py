"""Draw what networks have learned: concepts, categories, diversity."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from unitlens.report import charts
from unitlens.report.text import SIGNIFICANT, counted

MOST_FREQUENT = 15  # concepts shown for each model
NO_LABEL = "No unit has a label better than chance."


@charts.drawing
def frequent_concepts(frequent: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw the concepts that most units of each model are labelled with, one panel a model.

    Parameters
    ----------
    frequent : pandas.DataFrame
        Table of `comparison.frequent`; the rows of layer ``all`` are drawn.
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
    charts.require(overall, "units", NO_LABEL)
    models = charts.series_names(overall, "model")
    columns = min(len(models), 3)
    rows = -(-len(models) // columns)
    longest = min(overall.groupby("model").size().max(), MOST_FREQUENT)
    figure = Figure((max(6.5, 4 * columns), 1.2 + rows * (0.8 + 0.22 * longest)), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for panel, model in zip(panels, models, strict=False):
        top = overall[overall["model"] == model].nlargest(MOST_FREQUENT, "units")
        colours = [charts.CATEGORY_COLOURS[charts.category(name)] for name in top["category"]]
        bars = panel.barh(range(len(top)), 100 * top["share"], color=colours, edgecolor="#333333", linewidth=0.4)
        panel.bar_label(bars, labels=[f"{units:,}" for units in top["units"]], padding=3, fontsize=8)
        charts.label_rows(panel, [charts.shorten(name, 26) for name in top["concept"]])
        panel.set_ylim(longest - 0.4, -0.6)  # panels with fewer concepts keep the same bar width
        panel.set(title=charts.wrap(model, 20), xlabel="share of labelled units (%)")
        panel.tick_params(labelbottom=True)
        panel.margins(x=0.12)
    for panel in panels[len(models) :]:
        panel.remove()
    present = set(map(charts.category, overall["category"]))
    handles = [Patch(color=colour, label=name) for name, colour in charts.CATEGORY_COLOURS.items() if name in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4 if columns == 1 else 8))
    charts.title(figure, f"Most frequent labels ({encoder}); numbers at the bars count units")
    charts.save(figure, path)


@charts.drawing
def distinct_concepts(layers: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw how many distinct concepts the units of each layer name: at an equal number of units, and in all.

    Parameters
    ----------
    layers : pandas.DataFrame
        Table of `comparison.layers`.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    if not (layers["distinct"] > 0).any():
        raise charts.Nothing(NO_LABEL)
    panels, figure = charts.stack(layers, row_height=0.36)
    drawn = " or ".join(f"{units:,}" for units in sorted(layers["rarefied_units"].unique()))
    for (model, group), panel in panels:
        rows = range(len(group))
        panel.barh(
            rows,
            group["distinct_rarefied"],
            height=0.6,
            color=charts.SERIES_COLOURS[5],
            edgecolor="#333333",
            linewidth=0.4,
        )
        panel.plot(group["distinct"], rows, "D", color="#000000", markersize=5)
        for row, each in zip(rows, group.itertuples(), strict=True):
            note = f"{each.distinct:,} of {counted(each.labelled, 'unit')}"
            panel.annotate(note, (each.distinct, row), (7, 0), textcoords="offset points", va="center", fontsize=8)
        charts.label_rows(panel, [charts.wrap(layer, 30) for layer in group["layer"]])
        panel.set_title(charts.wrap(model, 44))
        panel.set_xlim(0, 1.45 * max(layers["distinct"].max(), 1))
    panel.set_xlabel("distinct concepts")
    handles = [
        Patch(
            facecolor=charts.SERIES_COLOURS[5],
            edgecolor="#333333",
            label=f"expected among {drawn} labelled units drawn at random",
        ),
        Line2D([], [], color="#000000", marker="D", markersize=5, linestyle="", label="among all labelled units"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    charts.title(figure, f"Distinct concepts of each layer ({encoder})")
    charts.save(figure, path)


@charts.drawing
def category_shares(categories: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw the share of each category of concepts by layer, one panel a model, with Wilson's 95 % intervals.

    Parameters
    ----------
    categories : pandas.DataFrame
        Table of `comparison.categories`; the layer ``all`` is left out.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    by_layer = categories[categories["layer"] != "all"]
    charts.require(by_layer, "share", NO_LABEL)
    models = charts.series_names(by_layer, "model")
    known = list(charts.CATEGORY_COLOURS)
    names = sorted(charts.series_names(by_layer, "category"), key=lambda name: known.index(charts.category(name)))
    most = by_layer.groupby("model")["layer"].nunique().max()
    figure = Figure((7.2, 0.9 + len(models) * (0.9 + len(names) * max(0.3, 0.13 * most))), layout="constrained")
    panels = figure.subplots(len(models), 1, sharex=True, squeeze=False).ravel()
    for panel, model in zip(panels, models, strict=True):
        group = by_layer[by_layer["model"] == model]
        layers = list(group["layer"].unique())
        percent = group.assign(mean=100 * group["share"], low=100 * group["low"], high=100 * group["high"])
        charts.dots(
            panel, percent, rows=("category", names), series=("layer", layers), colours=charts.depths(len(layers))
        )
        charts.label_rows(panel, [charts.shorten(name, 40) for name in names], stripes=True)
        panel.set_title(charts.wrap(model, 44))
        panel.tick_params(labelbottom=True)
        panel.legend(title="layer", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
    panels[-1].set_xlabel("share of the layer's labelled units (%)")
    panels[-1].set_xlim(left=0)
    charts.title(figure, f"Categories of the labels by layer ({encoder}), 95 % Wilson intervals")
    charts.save(figure, path)


@charts.drawing
def rarefaction(curve: pd.DataFrame, probe_sizes: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw distinct concepts against the number of units (left) and of probe photographs (right), a row a model.

    Parameters
    ----------
    curve : pandas.DataFrame
        Table of `diversity.rarefaction`; the layer ``all`` is left out.
    probe_sizes : pandas.DataFrame
        Table of `diversity.probe_sizes`.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    both = pd.concat([curve[curve["layer"] != "all"], probe_sizes])
    charts.require(both, "distinct", "No unit has a label, on all photographs or on some.")
    models = charts.series_names(both, "model")
    figure = Figure((8.4, 0.6 + 2.6 * len(models)), layout="constrained")
    panels = figure.subplots(len(models), 2, sharex="col", sharey="row", squeeze=False)
    for (left, right), model in zip(panels, models, strict=True):
        by_units, by_photographs = (table[table["model"] == model] for table in (curve, probe_sizes))
        layers = charts.series_names(both[both["model"] == model], "layer")
        for position, (layer, colour) in enumerate(zip(layers, charts.depths(len(layers)), strict=True)):
            one = by_units[by_units["layer"] == layer]
            left.fill_between(one["units"], one["low"], one["high"], color=colour, alpha=0.2, linewidth=0)
            left.plot(one["units"], one["distinct"], color=colour, linewidth=1.5)
            one = by_photographs[(by_photographs["layer"] == layer) & by_photographs["distinct"].notna()]
            marker = charts.MARKERS[position % len(charts.MARKERS)]
            right.vlines(one["photographs"], one["distinct_lowest"], one["distinct_highest"], color=colour)
            right.plot(
                one["photographs"],
                one["distinct"],
                marker + "-",
                color=colour,
                markersize=4,
                label=charts.wrap(layer, 24),
            )
        right.legend(title="layer", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")
        left.set(title=charts.wrap(model, 34), ylabel="distinct concepts", xlim=(0, None), ylim=(0, None))
        right.set_xlim(left=0)
        for panel in (left, right):
            panel.tick_params(labelbottom=True)
            panel.grid(color="#DDDDDD", linewidth=0.6)
    panels[-1, 0].set_xlabel("labelled units drawn at random")
    panels[-1, 1].set_xlabel("probe photographs drawn at random, all units")
    charts.title(figure, f"Distinct concepts by units and by probe photographs ({encoder})")
    charts.save(figure, path)


@charts.drawing
def score_against_null(concepts: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw, for every layer, what share of its units and of the null's draws exceeds a value of the test statistic.

    Parameters
    ----------
    concepts : pandas.DataFrame
        ``model, layer, statistic, p_value, q_value, alpha`` of `unit_labels.label_table`; units without a p-value are
        left out.
    path, encoder
        As in `frequent_concepts`.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    tested = concepts[concepts["p_value"].notna()]
    charts.require(tested, "p_value", "No unit could be tested: none is above its lowest activation on enough images.")
    layers = {model: charts.series_names(group, "layer") for model, group in tested.groupby("model", sort=False)}
    columns = min(max(map(len, layers.values())), 4)
    rows = sum(-(-len(names) // columns) for names in layers.values())
    figure = Figure((max(4.5, 2.8 * columns), 0.9 + 2.3 * rows), layout="constrained")
    panels = iter(figure.subplots(rows, columns, sharey=True, squeeze=False).ravel())
    for model, names in layers.items():
        for layer in names:
            _tail_shares(panel := next(panels), tested[(tested["model"] == model) & (tested["layer"] == layer)])
            panel.set_title(charts.wrap(f"{model} {layer}", 24), fontsize=9)
        for _ in range(-len(names) % columns):
            next(panels).remove()
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    charts.title(figure, f"Labels against the permutation null ({encoder})")
    charts.save(figure, path)


def _tail_shares(panel: Axes, units: pd.DataFrame) -> None:
    """Draw one layer: each unit's p-value is the share of the null that reaches its statistic."""
    units = units.sort_values("statistic", ascending=False, kind="stable")
    share = 100 * np.arange(1, len(units) + 1) / len(units)
    panel.step(units["statistic"], share, where="post", color=charts.SERIES_COLOURS[0], label="units")
    panel.plot(units["statistic"], 100 * units["p_value"], "--", color=charts.SERIES_COLOURS[1], label="null")
    alpha = units["alpha"].iloc[0]
    bar = units.loc[units["q_value"] <= alpha, "statistic"].min()
    panel.axvline(bar, color="#333333", linewidth=1, linestyle=":", label=f"least with q ≤ {alpha:g}, if any")
    panel.grid(color="#DDDDDD", linewidth=0.6)
    panel.tick_params(labelleft=True)
    panel.set(xlabel="test statistic of the label", ylabel="share that reaches it (%)", ylim=(0, 100))


@charts.drawing
def category_trend(trend: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw how each category's share changes from layer to layer, by model, with 95 % intervals.

    Parameters
    ----------
    trend : pandas.DataFrame
        Table of `comparison.trend`. Without rows, for no model has labels in two layers, the figure says so.
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


@charts.drawing
def category_differences(differences: pd.DataFrame, path: str | Path, *, encoder: str) -> None:
    """Draw how the category shares of every two models differ, with 95 % intervals.

    Parameters
    ----------
    differences : pandas.DataFrame
        Table of `comparison.category_differences`; the rows of layer ``all`` are drawn. Without rows, for there is one
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


def _changes(rows: pd.DataFrame, path: str | Path, *, title: str, axis: str, empty: str) -> None:
    """Draw ``value``, ``low`` and ``high`` of every category and series, filled where the adjusted p is below 0.05."""
    charts.require(rows, "value", empty)
    known = list(charts.CATEGORY_COLOURS)
    names = sorted(rows["category"].unique(), key=lambda name: known.index(charts.category(name)))
    series = list(rows["series"].unique())
    figure = Figure((7.2, 1.6 + len(names) * max(0.32, 0.16 * len(series)) + 0.2 * len(series)), layout="constrained")
    panel = figure.subplots()
    for position, label in enumerate(series):
        one = rows[rows["series"] == label].set_index("category").reindex(names)
        heights = np.arange(len(names)) + charts.offset(position, len(series))
        colour, marker = (
            charts.SERIES_COLOURS[position % len(charts.SERIES_COLOURS)],
            charts.MARKERS[position % len(charts.MARKERS)],
        )
        charts.intervals(
            panel, 100 * one[["value", "low", "high"]], heights, label=label, position=position, colour=colour
        )
        open_ones = ~(one["p_adjusted"] < SIGNIFICANT)
        panel.plot(100 * one["value"][open_ones], heights[open_ones], marker, color=colour, mfc="white", markersize=5)
    charts.label_rows(panel, [charts.shorten(name, 40) for name in names], stripes=True)
    panel.axvline(0, color="#333333", linewidth=1)
    panel.set_xlabel(axis)
    handles, _ = panel.get_legend_handles_labels()
    label = f"filled: adjusted p < {SIGNIFICANT}"
    filled = Line2D([], [], color="#333333", marker="o", linestyle="", markersize=5, label=label)
    figure.legend(handles=[*handles, filled], loc="outside lower center", ncols=1 if len(series) > 2 else 2)
    charts.title(figure, title)
    charts.save(figure, path)
