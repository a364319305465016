"""Draw what networks have learned: concepts, categories, diversity.

`encoder` is what gave the labels, for the titles; for the tables see docs/outputs.md.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from unitlens.report import charts
from unitlens.report.text import SIGNIFICANT, counted
from unitlens.tables import unit_labels

MOST_FREQUENT = 15  # concepts shown for each model
NO_LABEL = "No unit has a label better than chance."


@charts.drawing
def frequent_concepts(frequent: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw the concepts that most units of each model are labeled with, one panel a model, over its layers."""
    overall = frequent[frequent["layer"] == unit_labels.ALL]
    charts.require(overall, "units", NO_LABEL)
    parts = charts.split(overall, "model")
    columns = min(len(parts), 3)
    longest = min(max(map(len, parts.values())), MOST_FREQUENT)
    heights = [0.8 + 0.22 * longest] * len(parts)
    panels = charts.panel_grid(heights, columns=columns, width=max(6.5, 4 * columns), lines=False, sharex=True)
    for panel, rows in zip(panels, parts.values(), strict=True):
        top = rows.nlargest(MOST_FREQUENT, "units")
        colors = [charts.CATEGORY_COLORS[charts.category(name)] for name in top["category"]]
        bars = panel.barh(range(len(top)), 100 * top["share"], color=colors, edgecolor="#333333", linewidth=0.4)
        panel.bar_label(bars, labels=[f"{units:,}" for units in top["units"]], padding=3, fontsize=8)
        charts.label_rows(panel, [charts.shorten(name, 26) for name in top["concept"]])
        panel.set_ylim(longest - 0.4, -0.6)  # panels with fewer concepts keep the same bar width
        panel.set_xlabel("share of labeled units (%)")
        panel.tick_params(labelbottom=True)
        panel.margins(x=0.12)
    charts.title_panels(panels, parts, width=20, fontsize=10)
    present = set(map(charts.category, overall["category"]))
    handles = [Patch(color=color, label=name) for name, color in charts.CATEGORY_COLORS.items() if name in present]
    title = f"Most frequent labels ({encoder}); numbers at the bars count units"
    return charts.finished(panels, title, handles=handles, ncols=min(len(handles), 4 if columns == 1 else 8))


@charts.drawing
def distinct_concepts(layers: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw how many distinct concepts the units of each layer name: at an equal number of units, and in all."""
    charts.require(layers[layers["distinct"] > 0], "distinct", NO_LABEL)
    parts = charts.split(layers, "model")
    panels = charts.stack(parts, row_height=0.36)
    bar = {"facecolor": charts.SERIES_COLORS[5], "edgecolor": "#333333"}
    dot = {"color": "#000000", "marker": "D", "markersize": 5, "linestyle": ""}
    for panel, rows in zip(panels, parts.values(), strict=True):
        at = range(len(rows))
        panel.barh(at, rows["distinct_rarefied"], height=0.6, linewidth=0.4, **bar)
        panel.plot(rows["distinct"], at, **dot)
        for row, each in zip(at, rows.itertuples(), strict=True):
            note = f"{each.distinct:,} of {counted(each.labeled, 'unit')}"
            panel.annotate(note, (each.distinct, row), (7, 0), textcoords="offset points", va="center", fontsize=8)
        charts.label_rows(panel, [charts.wrap(layer, 30) for layer in rows["layer"]])
        panel.set_xlim(0, 1.45 * max(layers["distinct"].max(), 1))
    charts.label_outer(panels, "distinct concepts")
    drawn = " or ".join(f"{units:,}" for units in sorted(layers["rarefied_units"].unique()))
    expected = Patch(**bar, label=f"expected among {drawn} labeled units drawn at random")
    in_all = Line2D([], [], label="among all labeled units", **dot)
    return charts.finished(panels, f"Distinct concepts of each layer ({encoder})", handles=[expected, in_all], ncols=2)


@charts.drawing
def category_shares(categories: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw the share of each category of concepts by layer, one panel a model, with Wilson's 95 % intervals."""
    by_layer = categories[categories["layer"] != unit_labels.ALL]
    charts.require(by_layer, "share", NO_LABEL)
    parts = charts.split(_in_percent(by_layer, "share"), "model")
    panels = charts.dot_plot(
        parts,
        row="category",
        series="layer",
        labels=_categories(by_layer),
        heights=(0.3, 0.13),
        between=0.9,
        around=0.9,
        by_layer=True,
        sharex=True,
    )
    charts.title_panels(panels, parts, width=44, fontsize=10)
    for panel in panels:
        panel.tick_params(labelbottom=True)
    panels[-1].set_xlim(left=0)
    charts.label_outer(panels, "share of the layer's labeled units (%)")
    return charts.finished(panels, f"Categories of the labels by layer ({encoder}), 95 % Wilson intervals")


@charts.drawing
def rarefaction(curve: pd.DataFrame, probe_sizes: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw distinct concepts against the number of units (left) and of probe source images (right), a row a model."""
    curve = curve[curve["layer"] != unit_labels.ALL].rename(columns={"distinct": "mean"})
    probe_sizes = probe_sizes.rename(columns={"distinct": "mean"})
    both = pd.concat([curve, probe_sizes])
    charts.require(both, "mean", "No unit has a label, on all source images or on some.")
    parts = charts.split(both, "model")
    panels = charts.panel_grid([2.6] * 2 * len(parts), columns=2, width=8.4, around=0.6, sharex="col", sharey="row")
    for left, right, (model, rows) in zip(panels[::2], panels[1::2], parts.items(), strict=True):
        for layer, look in charts.looks(rows["layer"], by_depth=True).items():
            by_units, drawn = (
                table[(table["model"] == model) & (table["layer"] == layer)] for table in (curve, probe_sizes)
            )
            charts.band(left, by_units["units"], by_units, color=look["color"], linewidth=1.5)
            drawn = drawn[drawn["mean"].notna()]
            right.vlines(
                drawn["source_images"], drawn["distinct_lowest"], drawn["distinct_highest"], color=look["color"]
            )
            right.plot(drawn["source_images"], drawn["mean"], markersize=4, label=charts.wrap(layer, 24), **look)
        charts.layer_legend(right)
        left.set(xlim=(0, None), ylim=(0, None))
        right.set_xlim(left=0)
        for panel in (left, right):
            panel.tick_params(labelbottom=True)
    charts.title_panels(panels[::2], parts, width=34, fontsize=10)
    charts.label_outer(panels, "labeled units drawn at random", "distinct concepts")
    panels[-1].set_xlabel("probe source images drawn at random, all units")
    return charts.finished(panels, f"Distinct concepts by units and by probe source images ({encoder})")


@charts.drawing
def score_against_null(concepts: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw, for every layer, what share of its units and of the null's draws exceeds a value of the test statistic.

    Units without a p-value are left out.
    """
    tested = concepts[concepts["p_value"].notna()]
    charts.require(tested, "p_value", "No unit could be tested: none is above its lowest activation on enough images.")
    models = {model: charts.split(rows, "layer") for model, rows in charts.split(tested, "model").items()}
    columns = min(max(map(len, models.values())), 4)
    places = {}  # rows of panels of one model, filled up
    for model, layers in models.items():
        places |= {(model, layer): units for layer, units in layers.items()}
        places |= {(model, empty): None for empty in range(-len(layers) % columns)}
    width = max(4.5, 2.8 * columns)
    panels = charts.panel_grid([2.3] * len(places), columns=columns, width=width, around=0.9, sharey=True)
    for panel, ((model, layer), units) in zip(panels, places.items(), strict=True):
        if units is None:
            panel.remove()
            continue
        _tail_shares(panel, units)
        panel.set_title(charts.wrap(f"{model} {layer}", 24), fontsize=9)
    return charts.finished(panels, f"Labels against the permutation null ({encoder})", ncols=3)


def _tail_shares(panel: Axes, units: pd.DataFrame) -> None:
    """Draw one layer: each unit's p-value is the share of the null that reaches its statistic."""
    units = units.sort_values("statistic", ascending=False, kind="stable")
    share = 100 * np.arange(1, len(units) + 1) / len(units)
    panel.step(units["statistic"], share, where="post", color=charts.SERIES_COLORS[0], label="units")
    panel.plot(units["statistic"], 100 * units["p_value"], "--", color=charts.SERIES_COLORS[1], label="null")
    alpha = units["alpha"].iloc[0]
    bar = units.loc[units["q_value"] <= alpha, "statistic"].min()
    panel.axvline(bar, color="#333333", linewidth=1, linestyle=":", label=f"least with q ≤ {alpha:g}, if any")
    panel.tick_params(labelleft=True)
    panel.set(xlabel="test statistic of the label", ylabel="share that reaches it (%)", ylim=(0, 100))


@charts.drawing
def units_named_by_masks(units: pd.DataFrame) -> Figure:
    """Draw what share of each layer's units masks name, by category, one panel a model."""
    charts.require(units, "q_value", "No unit overlaps a concept that enough source images show.")
    kinds = units.assign(
        kind=units["status"].mask(units["status"] == "named", units["mask_category"].map(charts.category))
    )
    colors = charts.CATEGORY_COLORS | {"selective": "#BBBBBB", "neither": "#EEEEEE", "not finite": "#333333"}
    present = [kind for kind in colors if (kinds["kind"] == kind).any()]
    parts = charts.split(kinds, "model")
    panels = charts.stack({model: rows.drop_duplicates("layer") for model, rows in parts.items()}, row_height=0.36)
    for panel, rows in zip(panels, parts.values(), strict=True):
        counts = (
            pd.crosstab(rows["layer"], rows["kind"]).reindex(index=rows["layer"].unique(), columns=present).fillna(0)
        )
        shares = 100 * counts.div(counts.sum(axis=1), axis=0)
        left = shares.cumsum(axis=1) - shares
        for kind in present:
            label = kind if kind in ("selective", "neither", "not finite") else f"named: {kind}"
            bar = {"color": colors[kind], "edgecolor": "#333333", "linewidth": 0.4, "height": 0.7, "label": label}
            panel.barh(range(len(shares)), shares[kind], left=left[kind], **bar)
        named = rows["status"].eq("named").groupby(rows["layer"], sort=False).agg(["sum", "size"])
        for row, (n, of) in enumerate(named.itertuples(index=False)):
            panel.annotate(
                f"{n:,} of {of:,} named", (100, row), (5, 0), textcoords="offset points", va="center", fontsize=8
            )
        charts.label_rows(panel, [charts.wrap(layer, 30) for layer in shares.index])
        panel.set_xlim(0, 130)
        panel.set_xticks(range(0, 101, 20))
    charts.label_outer(panels, "share of the layer's units (%)")
    return charts.finished(panels, "Units named by annotated images")


@charts.drawing
def category_trend(trend: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw how each category's share changes from layer to layer, by model, with 95 % intervals."""
    charts.require(trend, "slope", "No model has labels in two layers, so there is no trend.")
    rows = trend.assign(series=trend["model"] + ": " + trend["first"] + " to " + trend["last"])
    return _changes(
        _in_percent(rows, "slope"),
        title=f"Change of category shares from layer to layer ({encoder})",
        axis="change of the share of labeled units a layer (percentage points), 95 % interval",
    )


@charts.drawing
def category_differences(differences: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw how the category shares of every two models differ over all layers, with 95 % intervals."""
    rows = differences[differences["layer"] == unit_labels.ALL]
    charts.require(rows, "difference", "There is one model with labels, so there is no difference.")
    rows = rows.assign(series=rows["model_a"] + " minus " + rows["model_b"])
    return _changes(
        _in_percent(rows, "difference"),
        title=f"Difference of category shares over the configured layers ({encoder})",
        axis="difference of the shares of labeled units (percentage points), 95 % interval",
    )


def _changes(rows: pd.DataFrame, *, title: str, axis: str) -> Figure:
    """Draw the mean of every category and series, filled where the adjusted p is below 0.05."""
    n_series = rows["series"].nunique()
    (panel,) = panels = charts.dot_plot(
        {"": rows.assign(filled=rows["p_adjusted"] < SIGNIFICANT)},
        row="category",
        series="series",
        labels=_categories(rows),
        heights=(0.32, 0.16),
        around=1.6 + 0.2 * n_series,
    )
    panel.axvline(0, color="#333333", linewidth=1)
    panel.set_xlabel(axis)
    label = f"filled: adjusted p < {SIGNIFICANT}"
    filled = Line2D([], [], color="#333333", marker="o", linestyle="", markersize=5, label=label)
    return charts.finished(panels, title, handles=[filled], ncols=1 if n_series > 2 else 2)


def _categories(rows: pd.DataFrame) -> dict[str, str]:
    """Order the categories as everywhere, and shorten what they are called."""
    known = list(charts.CATEGORY_COLORS)
    names = sorted(rows["category"].unique(), key=lambda name: known.index(charts.category(name)))
    return {name: charts.shorten(name, 40) for name in names}


def _in_percent(rows: pd.DataFrame, mean: str) -> pd.DataFrame:
    return rows.assign(mean=100 * rows[mean], low=100 * rows["low"], high=100 * rows["high"])
