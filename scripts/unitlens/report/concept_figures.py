"""Draw what networks have learned: concepts, categories, diversity.

`encoder` is what gave the labels, for the footers; `models` are all of the run, for the colors; for the tables see
docs/outputs.md. But for the parts of the probe set, counts are of named units with selective ones beside them, and of
selective ones where none is named; categories are those of selective ones.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from unitlens.report import charts
from unitlens.report.text import SIGNIFICANT, adjusted, counted, listed, p_value
from unitlens.tables import unit_labels, word_controls

MOST_FREQUENT = 15  # concepts shown for each model
FEWEST_UNITS = 2  # of a concept that is shown
MOST_LINES = 8  # that have their layer's name beside them
NO_LABEL = "No unit is selective."
CATEGORIES = ("object", "scene", "part", "material", "texture", "color", "word")  # in this order
_OF_CONTROLS = [  # what is drawn of each control, and what it is called
    (word_controls.CLASSES, "named_right", "class outputs: named ones that are right"),
    (word_controls.CLASSES, "selective_right", "class outputs: selective ones whose best word is right"),
    (word_controls.CLASSES, "covered", "class outputs: sets that hold the right word"),
    (word_controls.CLASSES, "right_covered", "class outputs: sets that are calibrated to hold it"),
    (word_controls.UNLISTED, "selective_share", "name not listed: selective all the same"),
    (word_controls.UNLISTED, "named_share", "name not listed: named, wrongly"),
    (word_controls.SHUFFLED, "selective_share", "shuffled weights: selective,"),
    (word_controls.SHUFFLED, "named_share", "shuffled weights: named,"),
]


@charts.drawing
def frequent_concepts(frequent: pd.DataFrame, *, encoder: str, models: Sequence[str] = ()) -> Figure:
    """Draw the most frequent names of each model, beside them the selective units whose best word they are.

    Concepts of less than two units are counted only.
    """
    overall = frequent[frequent["layer"] == unit_labels.ALL]
    charts.require(overall, "units", NO_LABEL)
    parts = charts.split(overall.assign(total=overall["units"] + overall["others"]), "model")
    looks = charts.looks([*models, *parts])
    shown = {name: own[own["total"] >= FEWEST_UNITS].head(MOST_FREQUENT) for name, own in parts.items()}
    heights = [0.2 * (len(top) + 1) + 0.3 for top in shown.values()]
    panels = charts.panel_grid(heights, columns=1, width=charts.NARROW, around=0.8, lines=False, sharex=True)
    for panel, (model, own), top in zip(panels, parts.items(), shown.values(), strict=True):
        look = {"color": looks[model]["color"]}
        panel.barh(range(len(top)), top["units"], **look)
        bars = panel.barh(range(len(top)), top["others"], left=top["units"], alpha=0.35, **look)
        counts = zip(top["units"], top["others"], strict=True)
        noted = [" + ".join(f"{n:,}" for n in each if n) for each in counts]
        panel.bar_label(bars, labels=noted, padding=3, fontsize=8)
        charts.label_rows(panel, [charts.shorten(name, 24) for name in top["concept"]] + [_rest(own.drop(top.index))])
        panel.margins(x=0.12)
        panel.xaxis.get_major_locator().set_params(integer=True)
    titles = [f"{name}, {own['units'].sum():,} named + {own['others'].sum():,} others" for name, own in parts.items()]
    charts.title_panels(panels, titles)
    charts.label_outer(panels, "named units; pale: selective ones without a name, by best word")
    return charts.finished(panels, "Most frequent names", footer=_footer(encoder))


def _claim(table: pd.DataFrame, units: str) -> str:
    """Choose what is drawn: named units where there are any, by a column that counts them."""
    return "named" if table.loc[table["claim"] == "named", units].gt(0).any() else "selective"


def _rest(rows: pd.DataFrame) -> str:
    """Count the concepts that are not shown."""
    if rows.empty:
        return ""
    units = " to ".join(f"{n:,}" for n in sorted({rows["total"].min(), rows["total"].max()}))
    return f"{len(rows):,} more of {units} {'unit' if units == '1' else 'units'}"


@charts.drawing
def distinct_concepts(layers: pd.DataFrame, *, encoder: str, models: Sequence[str] = ()) -> Figure:
    """Draw how many distinct concepts the units of each layer name: at an equal number of units, and in all."""
    charts.require(layers[layers["distinct"] > 0], "distinct", NO_LABEL)
    claim = _claim(layers, "units_counted")
    beside = layers[layers["claim"] != claim] if claim == "named" else layers.iloc[:0]
    beside = beside.set_index(["model", "layer"])
    layers = layers[layers["claim"] == claim]
    parts = charts.split(layers, "model")
    looks = charts.looks([*models, *parts])
    panels = charts.stack(parts, row_height=0.3)
    dot = {"color": charts.INK, "marker": "D", "markersize": 5, "linestyle": ""}
    for panel, (model, rows) in zip(panels, parts.items(), strict=True):
        at = range(len(rows))
        panel.barh(at, rows["distinct_rarefied"], height=0.6, color=looks[model]["color"])
        panel.plot(rows["distinct"], at, **dot)
        for row, each in zip(at, rows.itertuples(), strict=True):
            note = f"{each.distinct:,} of {counted(each.units_counted, f'{claim} unit')}"
            if (model, each.layer) in beside.index:
                other = beside.loc[(model, each.layer)]
                note += f"\n{other['distinct']:,} of {other['units_counted']:,} selective"
            panel.annotate(note, (each.distinct, row), (7, 0), textcoords="offset points", va="center", fontsize=8)
        charts.label_rows(panel, [charts.wrap(layer, 22) for layer in rows["layer"]])
        panel.set_xlim(0, 2.2 * max(layers["distinct"].max(), 1))
    charts.label_outer(panels, "distinct concepts")
    drawn = " or ".join(f"{units:,}" for units in sorted(layers["rarefied_units"].unique()))
    expected = Patch(color=charts.INK, label=f"expected among {drawn} {claim} units drawn at random", alpha=0.6)
    in_all = Line2D([], [], label=f"among all {claim} units", **dot)
    title = "Distinct concepts of each layer"
    return charts.finished(panels, title, handles=[expected, in_all], ncols=1, footer=_footer(encoder))


@charts.drawing
def category_shares(categories: pd.DataFrame, *, encoder: str, models: Sequence[str] = ()) -> Figure:
    """Draw the share of each category of concepts in every layer, one panel a category, with Wilson's intervals."""
    by_layer = categories[categories["layer"] != unit_labels.ALL]
    charts.require(by_layer, "share", NO_LABEL)
    rows = _in_percent(by_layer, "share").assign(place=list(zip(by_layer["model"], by_layer["layer"], strict=True)))
    parts = {name: rows[rows["category"] == name] for name in _categories(rows)}
    panels = charts.dot_plot(
        parts,
        row="place",
        series="model",
        looks=charts.looks([*models, *rows["model"]]),
        labels={place: charts.wrap(place[1], 18) for place in rows["place"]},
        heights=(0.2, 0),
        between=0.5,
        around=0.9,
        columns=2,
        sharex=True,
        sharey=True,
    )
    charts.title_panels(panels, parts)
    panels[-1].set_xlim(left=0)
    charts.label_outer(panels, "share of the layer (%)")
    title = "Categories of the labels of selective units, 95 % intervals"
    return charts.finished(panels, title, footer=_footer(encoder))


@charts.drawing
def rarefaction(curve: pd.DataFrame, probe_sizes: pd.DataFrame, *, encoder: str, models: Sequence[str] = ()) -> Figure:
    """Draw distinct concepts against the number of units (above) and of probe source images, a line a layer."""
    claim = _claim(curve, "units")
    curve = curve[(curve["layer"] != unit_labels.ALL) & (curve["claim"] == claim)].rename(columns={"distinct": "mean"})
    drawn = probe_sizes.rename(columns={"distinct": "mean", "distinct_lowest": "low", "distinct_highest": "high"})
    both = pd.concat([curve, drawn])
    charts.require(both, "mean", "No unit has a label, on all source images or on some.")
    looks = charts.looks([*models, *both["model"]])
    panels = charts.panel_grid([2.4, 2.4], columns=1, width=charts.NARROW)
    for panel, table, x in zip(panels, (curve, drawn), ("units", "source_images"), strict=True):
        lines = dict(list(table[table["mean"].notna()].groupby(["model", "layer"], sort=False)))
        for (model, _), own in lines.items():
            label = None if model in panel.get_legend_handles_labels()[1] else charts.wrap(model, 40)
            charts.band(panel, own[x], own, label=label, **looks[model] | {"marker": "." if x != "units" else ""})
        panel.set(xlim=(0, None), ylim=(0, None))
        if len(lines) <= MOST_LINES:
            last = [(model, layer, own.iloc[-1]) for (model, layer), own in lines.items()]
            ends = [(layer, end[x], end["mean"], looks[model]["color"]) for model, layer, end in last]
            charts.label_ends(panel, ends, height=2)
        panel.set_ylabel("distinct concepts")
    panels[0].set_xlabel(f"{claim} units drawn at random; band: 95 % interval")
    panels[1].set_xlabel("probe source images drawn at random, all active units; band: lowest to highest draw")
    title = "Distinct concepts by units and by probe source images"
    return charts.finished(panels, title, footer=_footer(encoder))


@charts.drawing
def words_again(
    probe_sizes: pd.DataFrame, forecast: pd.DataFrame, *, encoder: str, models: Sequence[str] = ()
) -> Figure:
    """Draw the share of units that get the same word on other source images against their number, a line a layer.

    A dashed line leads to the forecast for as many source images as there are.
    """
    names = {"again": "mean", "again_lowest": "low", "again_highest": "high"}
    rows = _in_percent(probe_sizes.rename(columns=names), "mean")
    charts.require(rows, "mean", "No unit has a word on two parts of the source images.")
    looks = charts.looks([*models, *rows["model"]])
    (panel,) = panels = charts.panel_grid([2.6], columns=1, width=charts.NARROW)
    most = rows["source_images"].max()
    ahead = forecast.set_index(["model", "layer"])["at_all"]
    ends = []
    for (model, layer), own in rows[rows["mean"].notna()].groupby(["model", "layer"], sort=False):
        label = None if model in panel.get_legend_handles_labels()[1] else charts.wrap(model, 40)
        charts.band(panel, own["source_images"], own, label=label, **looks[model] | {"marker": "."})
        last = own.iloc[-1]
        if (share := ahead.get((model, layer), float("nan"))) == share:
            line = {"linestyle": "--", "linewidth": 1, "color": looks[model]["color"]}
            panel.plot([last["source_images"], most], [last["mean"], 100 * share], **line)
        ends.append((layer, last["source_images"], last["mean"], looks[model]["color"]))
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.set_ylim(0, None)
    if len(ends) <= MOST_LINES:
        charts.label_ends(panel, ends, height=2)
    panel.set(xlabel="source images of each of two parts; dashed: forecast", ylabel="same word (% of units)")
    return charts.finished(panels, "Words that come again on other source images", footer=_footer(encoder))


@charts.drawing
def label_statuses(concepts: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw the shares of units of each status in every layer, one panel a model."""
    tested = concepts[concepts["p_value"].notna()]
    charts.require(tested, "p_value", "No unit could be tested: none is above its lowest activation on enough images.")
    panels = _status_bars(concepts)
    bar = concepts["alpha"].iloc[0]
    sets = f"theme: at most {unit_labels.LARGEST_THEME} groups of words; named: one"
    footer = f"selective: q ≤ {bar:g} by the permutation null; {sets}. {_footer(encoder)}"
    return charts.finished(panels, "What the labels may claim", footer=footer)


@charts.drawing
def controls(controls: pd.DataFrame, *, encoder: str, models: Sequence[str] = ()) -> Figure:
    """Draw how often words of the controls are right, and how often there are any where nothing is to name."""
    parts = []
    for control, column, label in _OF_CONTROLS:
        own = controls[(controls["control"] == control) & controls[column].notna()]
        found = own[["model", "layer", column, f"{column}_low", f"{column}_high"]].set_axis(
            ["model", "layer", "mean", "low", "high"], axis=1
        )
        parts.append(found.assign(row=[f"{label} {layer}".strip() for layer in found["layer"]]))
    rows = pd.concat(parts, ignore_index=True)
    charts.require(rows, "mean", "There is nothing to compare words with.")
    (panel,) = panels = charts.dot_plot(
        {"": rows.assign(**{name: 100 * rows[name] for name in ("mean", "low", "high")})},
        row="row",
        series="model",
        looks=charts.looks([*models, *rows["model"]]),
        labels={row: charts.wrap(row, 34) for row in dict.fromkeys(rows["row"])},
        heights=(0.3, 0.16),
        around=1.2,
    )
    panel.set_xlim(0, 100)
    panel.set_xlabel("% of units, 95 % intervals")
    return charts.finished(panels, "Words where the truth is known", footer=_footer(encoder))


@charts.drawing
def units_named_by_masks(units: pd.DataFrame) -> Figure:
    """Draw the shares of units that masks name, of selective and of other ones in every layer, one panel a model.

    Below the name of a layer stand the categories of the named units. A row below it shows the units with shuffled
    weights.
    """
    charts.require(units, "q_value", "No unit overlaps a concept that enough source images show.")
    notes, parts = {}, []
    for (model, layer), own in units.groupby(["model", "layer"], sort=False):
        n, selective, named = own[["shuffled_units", "shuffled_selective", "shuffled_named"]].iloc[0].astype(int)
        numbers = {"named": named, "selective": selective - named, "not selective": n - selective}
        statuses = [status for status, count in numbers.items() for _ in range(count)]
        shuffled = pd.DataFrame({"model": model, "layer": f"{layer}, shuffled", "status": statuses})
        parts += [own, shuffled] if n else [own]
        categories = own.loc[own["status"] == "named", "mask_category"].value_counts()
        notes[model, layer] = ", ".join(f"{name} {count:,}" for name, count in categories.items())
        notes[model, f"{layer}, shuffled"] = f"a sample, {counted(n, 'unit')}"
    panels = _status_bars(pd.concat(parts), notes)
    footer = f"selective: q ≤ {SIGNIFICANT:g} by the permutation null; named: one concept in the unit's set; "
    footer += "shuffled: with shuffled weights, themes counted as selective"
    return charts.finished(panels, "Units named by annotated images", footer=footer)


def _status_bars(units: pd.DataFrame, notes: Mapping[tuple[str, str], str] | None = None) -> list[Axes]:
    """Draw the shares of each status in every layer, one panel a model, with a note below a layer's name."""
    units = units[units["status"].isin(list(charts.STATUS_COLORS))]
    if units.empty:
        raise charts.Nothing("No unit is active.")
    counts = units.groupby(["model", "layer"], sort=False)["status"].value_counts().unstack(fill_value=0)
    parts = {model: counts.loc[model] for model in units["model"].unique()}
    panels = charts.stack(parts, row_height=0.4 if notes else 0.3)
    for panel, (model, rows) in zip(panels, parts.items(), strict=True):
        total, left = rows.sum(axis=1), 0
        for status, color in charts.STATUS_COLORS.items():
            if status == "theme" not in counts:
                continue
            own = rows.get(status, 0 * total)
            share = 100 * own / total
            bars = panel.barh(range(len(rows)), share, left=left, height=0.75, color=color, label=status)
            ink = "black" if status == "not selective" else "white"
            noted = [f"{n:,}" if part > 6 else "" for n, part in zip(own, share, strict=True)]
            panel.bar_label(bars, labels=noted, label_type="center", fontsize=8, color=ink)
            left = left + share
        names = {layer: [charts.wrap(layer, 22), (notes or {}).get((model, layer))] for layer in rows.index}
        charts.label_rows(panel, ["\n".join(filter(None, name)) for name in names.values()])
        panel.set_xlim(0, 100)
    charts.label_outer(panels, "share of the active units (%); in the bars: units")
    return panels


@charts.drawing
def category_trend(trend: pd.DataFrame, *, encoder: str, models: Sequence[str] = ()) -> Figure:
    """Draw how each category's share changes from layer to layer, by model, or say that none does."""
    charts.require(trend, "slope", "No model has labels in two layers, so there is no trend.")
    series = dict(zip(trend["model"], trend["model"] + ": " + trend["first"] + " to " + trend["last"], strict=True))
    looks = charts.looks([*models, *series])
    return _changes(
        _in_percent(trend.assign(series=trend["model"].map(series)), "slope"),
        {series[model]: look for model, look in looks.items() if model in series},
        nothing=f"No rise or fall of a category's share from layer to layer is supported, {adjusted(trend)}",
        title="Change of category shares from layer to layer",
        axis="change a layer (percentage points), 95 % interval",
        footer=_footer(encoder),
    )


@charts.drawing
def category_differences(differences: pd.DataFrame, *, encoder: str) -> Figure:
    """Draw how the category shares of every two models differ over all layers, or say that none does."""
    rows = differences[differences["layer"] == unit_labels.ALL]
    charts.require(rows, "difference", "There is one model with labels, so there is no difference.")
    rows = rows.assign(series=rows["model_a"] + " minus " + rows["model_b"])
    models = dict.fromkeys([*rows["model_a"], *rows["model_b"]])
    return _changes(
        _in_percent(rows, "difference"),
        charts.looks(rows["series"], [charts.INK, "#777777", "#AAAAAA"]),
        nothing=f"No difference of a category's share between {listed(models)} is supported, {adjusted(differences)}",
        title="Difference of category shares, all layers together",
        axis="difference (percentage points), 95 % interval",
        footer=_footer(encoder),
    )


def _changes(rows: pd.DataFrame, looks: dict, *, nothing: str, title: str, axis: str, footer: str) -> Figure:
    """Draw the mean of every category and series, filled where the adjusted p is below 0.05, if any is."""
    smallest = rows["p_adjusted"].min()
    if not smallest < SIGNIFICANT:
        raise charts.Nothing(f"{nothing}; smallest {p_value(smallest)}. {footer}.")
    (panel,) = panels = charts.dot_plot(
        {"": rows.assign(filled=rows["p_adjusted"] < SIGNIFICANT)},
        row="category",
        series="series",
        looks=looks,
        labels={name: charts.shorten(name, 24) for name in _categories(rows)},
        heights=(0.32, 0.16),
        around=1.4 + 0.2 * len(looks),
    )
    panel.axvline(0, color=charts.INK, linewidth=1)
    panel.set_xlabel(axis)
    label = f"filled: adjusted p < {SIGNIFICANT}"
    filled = Line2D([], [], color=charts.INK, marker="o", linestyle="", markersize=5, label=label)
    return charts.finished(panels, title, handles=[filled], ncols=1, footer=footer)


def _categories(rows: pd.DataFrame) -> list[str]:
    """Order the categories as everywhere; others come last."""
    ranks = {name: rank for rank, name in enumerate(CATEGORIES)}
    return sorted(rows["category"].unique(), key=lambda name: ranks.get(name, len(ranks)))


def _footer(encoder: str) -> str:
    return f"Labels: {encoder}"


def _in_percent(rows: pd.DataFrame, mean: str) -> pd.DataFrame:
    return rows.assign(mean=100 * rows[mean], low=100 * rows["low"], high=100 * rows["high"])
