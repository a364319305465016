"""Style, layout and saving of all figures, and the two charts that most of them are: dots in rows, and bands.

A figure is a function that takes tables, makes its panels by `dot_plot`, `band_plot`, `stack` or `panel_grid`, and
returns what `finished` makes of them. `drawing` adds an argument after the tables: the ``path`` to write, PNG (150 dpi)
or SVG by its suffix; another one is a ValueError. The same input gives the same bytes. Where there is nothing to show,
a figure is a sentence that says so.

A color means one thing on all pages: a model (Okabe and Ito's set, by its place among the models of the run), an
explainer (Tol's muted set), or what a label may claim (grays); shades of purple are amounts. The sets are safe for
color-blind readers, and series differ by marker, too. A figure of `NARROW` inches fits a window of 400 pixels.
"""

import functools
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from unitlens.jobs.characters import visible
from unitlens.report.text import explainer_title

DPI = 150
WIDEST = 12  # inches
NARROW = 4.5
SALIENCY_MAP = matplotlib.colormaps["plasma"]
AMOUNT_MAP = matplotlib.colormaps["Purples"]
MODEL_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
EXPLAINER_COLORS = {
    "gradcam": "#332288",
    "hirescam": "#6699CC",
    "gradcam++": "#44AA99",
    "xgradcam": "#999933",
    "layercam": "#AA4499",
    "ablationcam": "#117733",
    "scorecam": "#882255",
    "lime": "#CC6677",
}
STATUS_COLORS = {"named": "#1B1B1B", "theme": "#545454", "selective": "#8C8C8C", "not selective": "#E3E3E3"}
INK = "#333333"  # of what is none of these
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]
METADATA = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}
GRID = {"color": "#DDDDDD", "linewidth": 0.6}
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
CHANCE_LINE = {"color": INK, "linestyle": "--", "linewidth": 1, "label": "chance"}


class Nothing(Exception):
    """Why there is nothing to show."""


def drawing(draw: Callable[..., Figure]) -> Callable[..., None]:
    """Draw in the style of all figures and save; where there is nothing to show, only the sentence that says so."""

    @functools.wraps(draw)
    def drawn(*given: object, **options: object) -> None:
        *tables, path = given
        with matplotlib.rc_context(STYLE):
            try:
                figure = draw(*tables, **options)
            except Nothing as nothing:
                words = wrap(str(nothing), 60)
                figure = Figure((NARROW, 0.3 + 0.17 * len(words.splitlines())))
                figure.text(0.02, 0.5, words, va="center")
            save(figure, path)

    return drawn


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure without anything that changes from run to run.

    Raises
    ------
    ValueError
        If the suffix is neither ``.png`` nor ``.svg``.
    """
    suffix = Path(path).suffix
    if suffix not in METADATA:
        raise ValueError(f"`path` ends in '{suffix}'; allowed: {', '.join(METADATA)}")
    figure.savefig(path, dpi=DPI, metadata=METADATA[suffix])


def require(rows: pd.DataFrame, column: str, reason: str) -> None:
    """Check that some row has a number in the column.

    Raises
    ------
    Nothing
        If not, with the `reason`, which becomes the figure.
    """
    if rows[column].isna().all():
        raise Nothing(reason)


def split(table: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Divide a table by the values of a column, in the order of the table."""
    return {value: table[table[column] == value] for value in table[column].unique()}


# ---- charts


def dot_plot(
    parts: Mapping[object, pd.DataFrame],
    *,
    row: str,
    series: str,
    looks: Mapping[str, Mapping[str, object]],
    labels: Mapping[str, str] | None = None,
    heights: tuple[float, float],
    between: float = 0.0,
    around: float = 1.3,
    reference: str | None = None,
    **layout: object,
) -> list[Axes]:
    """Draw ``mean`` and its interval from ``low`` to ``high`` as dots with lines: a panel a table, in rows the series.

    Parameters
    ----------
    parts : mapping
        A table for each panel. Where it has a column ``filled``, dots of rows without it are open.
    row, series : str
        Columns.
    looks : mapping
        Of every series, as `looks` gives them.
    labels : mapping, optional
        From the rows of all panels, in their order, to what they are called; without it each panel has its own rows.
    heights : (float, float)
        Inches of a row: at least, and for each series in it.
    between, around : float
        Inches beside the rows, of each panel and of the figure.
    reference : str, optional
        The row through whose dots a dashed line runs, with the series' marker above.
    **layout
        As in `panel_grid`.
    """
    rows = [labels or {name: name for name in table[row]} for table in parts.values()]
    at_once = max((table.groupby(row)[series].nunique().max() for table in parts.values() if len(table)), default=1)
    lines = max((name.count("\n") + 1 for names in rows for name in names.values()), default=1)
    row_height = max(heights[0], heights[1] * at_once, 0.16 * lines)
    panel_heights = [len(names) * row_height + between for names in rows]
    panels = panel_grid(panel_heights, around=around, **{"columns": 1, "width": NARROW, "lines": False} | layout)
    for panel, table, names in zip(panels, parts.values(), rows, strict=True):
        present = [name for name in looks if (table[series] == name).any()]
        for place, name in enumerate(present):
            own = table[table[series] == name].drop_duplicates(row).set_index(row).reindex(list(names))
            beside = (place - (len(present) - 1) / 2) * 0.7 / len(present) if at_once > 1 else 0
            dots(panel, own, np.arange(len(names)) + beside, label=wrap(name, 40), **looks[name])
            if reference and pd.notna(at := own["mean"].get(reference, np.nan)):
                panel.axvline(at, color=looks[name]["color"], linestyle="--", linewidth=1)
                panel.plot([at], [1], transform=panel.get_xaxis_transform(), markersize=5, clip_on=False, **looks[name])
        label_rows(panel, list(names.values()), stripes=True)
    return panels


def dots(panel: Axes, values: pd.DataFrame, at: np.ndarray, **look: object) -> None:
    """Draw ``mean`` and its interval from ``low`` to ``high`` of rows at their heights (n,); see `dot_plot`."""
    panel.hlines(at, values["low"], values["high"], color=look["color"], linewidth=1.5)
    panel.plot(values["mean"], at, linestyle="", markersize=5, **look)
    if "filled" in values:
        hollow = values["filled"].ne(True)
        look |= {"label": None, "markerfacecolor": "white"}
        panel.plot(values["mean"][hollow], at[hollow], linestyle="", markersize=5, **look)


def band_plot(
    parts: Mapping[object, pd.DataFrame],
    *,
    x: str,
    series: str,
    looks: Mapping[str, Mapping[str, object]],
    height: float,
    **layout: object,
) -> list[Axes]:
    """Draw ``mean`` over a column as lines, with bands from ``low`` to ``high``: a panel a table, in it the series.

    `looks` are those of every series, as `looks` gives them; `layout` is as in `panel_grid`.
    """
    panels = panel_grid([height] * len(parts), **{"sharex": True, "sharey": True} | layout)
    for panel, table in zip(panels, parts.values(), strict=True):
        for name, look in looks.items():
            own = table[table[series] == name].sort_values(x)
            band(panel, own[x], own, label=wrap(name, 40), **look)
    return panels


def band(panel: Axes, x: pd.Series, values: pd.DataFrame, **line: object) -> None:
    """Draw ``mean`` as a line with the band from ``low`` to ``high``, all possibly NaN."""
    panel.fill_between(x, values["low"], values["high"], color=line["color"], alpha=0.2, linewidth=0)
    panel.plot(x, values["mean"], **{"markersize": 4, "linewidth": 1.3} | line)


def label_ends(panel: Axes, ends: Sequence[tuple[str, float, float, str]], *, height: float) -> None:
    """Write the names of lines beside their ends: text, x, y and color of each, from the lowest where ends meet.

    `height` is the panel's in inches.
    """
    bottom, top = panel.get_ylim()
    at = np.array([(y - bottom) / (top - bottom) for _, _, y, _ in ends])
    for place, (text, x, y, color) in zip(_apart(at, 0.13 / height), ends, strict=True):
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        place = {"xytext": (1.05, place), "textcoords": "axes fraction", "va": "center", "annotation_clip": False}
        panel.annotate(shorten(text, 20), (x, y), color=color, fontsize=8, arrowprops=line, **place)


def _apart(values: np.ndarray, gap: float) -> np.ndarray:
    """Move values apart to at least a gap, upwards and, above 1, downwards again."""
    order = np.argsort(values.round(2), kind="stable")
    placed = values[order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    placed[-1:] = np.minimum(placed[-1:], 1)
    for i in reversed(range(len(placed) - 1)):
        placed[i] = min(placed[i], placed[i + 1] - gap)
    return placed[np.argsort(order)]


# ---- panels


def panel_grid(
    heights: Sequence[float],
    *,
    columns: int = 3,
    width: float | None = None,
    around: float = 1.2,
    lines: bool = True,
    **shared: object,
) -> list[Axes]:
    """Make empty panels, in rows of at most `columns`.

    Parameters
    ----------
    heights : sequence of float
        Inches of each panel; those of a row are equal.
    columns : int
        Panels of a row.
    width, around : float
        Inches of the figure: its width, without which it grows with the columns, and its height beside the panels.
    lines : bool
        Whether panels have a grid.
    **shared
        Of `Figure.subplots`: which axes are common.
    """
    count, columns = len(heights), min(columns, len(heights))
    of_rows = heights[::columns]
    figure = Figure((width or max(NARROW, 2.6 * columns), around + sum(of_rows)), layout="constrained")
    panels = figure.subplots(len(of_rows), columns, squeeze=False, height_ratios=of_rows, **shared).ravel()
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[: count if lines else 0]:
        panel.grid(**GRID)
    return list(panels[:count])


def stack(parts: Mapping[str, pd.DataFrame], *, row_height: float) -> list[Axes]:
    """Make panels below each other with a common horizontal axis, one a model and as high as its rows need."""
    heights = [len(rows) * row_height + 0.3 for rows in parts.values()]
    panels = panel_grid(heights, columns=1, width=NARROW, around=1.2 + 0.3 * len(parts), lines=False, sharex=True)
    title_panels(panels, parts)
    return panels


def title_panels(panels: Sequence[Axes], titles: Iterable[str], **look: object) -> None:
    """Give panels their titles."""
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, **{"fontsize": 9} | look)


def label_outer(panels: Sequence[Axes], x: str, y: str = "") -> None:
    """Name the axes once a column and once a row, where they are shared."""
    columns = max(panel.get_subplotspec().colspan.stop for panel in panels)
    for position, panel in enumerate(panels):
        if position % columns == 0:
            panel.set_ylabel(y)
        if position + columns >= len(panels):
            panel.set_xlabel(x)
            panel.tick_params(labelbottom=True)


def label_rows(panel: Axes, labels: Sequence[str], *, stripes: bool = False) -> None:
    """Label rows from the top; stripes keep the series of a row together."""
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", **GRID)
    for row in range(0, len(labels) if stripes else 0, 2):
        panel.axhspan(row - 0.5, row + 0.5, color="#F3F3F3", zorder=0, linewidth=0)


def log_scale(panel: Axes) -> None:
    """Give the horizontal axis a logarithmic scale with readable ticks."""
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())


def finished(
    panels: Sequence[Axes], title: str, /, *, footer: str = "", handles: Sequence[Artist] = (), **legend: object
) -> Figure:
    """Give the figure of the panels its title, and one legend of what has a label in panels without a legend.

    `handles` are shown in it, too; `legend` are options of `Figure.legend`; the `footer` is small print.
    """
    figure = panels[0].figure
    figure.suptitle(wrap(title, int(figure.get_figwidth() / 0.09)), x=0.01, ha="left")
    keys = {}
    for panel in panels:
        if panel.get_legend() is None:
            of_panel, labels = panel.get_legend_handles_labels()
            keys |= zip(labels, of_panel, strict=True)
    keys |= {handle.get_label(): handle for handle in handles}
    width, height = figure.get_size_inches()
    words = wrap(footer, int(width / 0.07)) if footer else ""
    below = 0.08 + 0.13 * len(words.splitlines()) if footer else 0  # inches
    height += below
    if keys:
        ncols = min(3, len(keys)) if max(map(len, keys)) <= 20 else 1
        drawn = figure.legend(keys.values(), keys, **{"loc": "lower center", "ncols": ncols} | legend)
        room = drawn.get_window_extent().height / figure.dpi
        height, below = height + max(0, room - 0.35), below + room
        drawn.set_bbox_to_anchor((0.5, (below - room) / height), figure.transFigure)
    figure.set_size_inches(width, height)
    figure.text(0.01, 0.04 / height, words, fontsize=7.5, color="#666666", va="bottom")
    figure.get_layout_engine().set(rect=(0, below / height, 1, 1 - below / height))
    _fit_words(figure, panels)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # whose solver leaves digits that change from run to run, here taken away
    for panel in panels:
        panel.set_position(np.round(panel.get_position().bounds, 5))
    return figure


def _fit_words(figure: Figure, panels: Sequence[Axes]) -> None:
    """Break titles of panels and names of axes that would run into the next panel or over the edge."""
    words = {text: text.get_text() for panel in panels for text in (panel._left_title, panel.xaxis.label)}
    for text in words:
        text.set_text("")
    figure.draw_without_rendering()
    boxes = [panel.get_window_extent() for panel in panels]
    for panel, box in zip(panels, boxes, strict=True):
        end = min((other.x0 for other in boxes if other.x0 > box.x1), default=figure.bbox.width) - 4
        start = max((other.x1 for other in boxes if other.x1 < box.x0), default=0) + 4
        center = (box.x0 + box.x1) / 2
        rooms = {panel._left_title: end - box.x0, panel.xaxis.label: 2 * min(end - center, center - start)}
        for text, room in rooms.items():
            letter = text.get_fontsize() * figure.dpi / 72 * (0.7 if text.get_fontweight() == "bold" else 0.58)
            text.set_text(wrap(words[text], max(8, int(room / letter))) if words[text] else "")


# ---- looks and words


def looks(names: Iterable[str], colors: Iterable[str] = MODEL_COLORS) -> dict[str, dict[str, object]]:
    """Choose ``color`` and ``marker`` of each series, by its place; of models all of the run are to be named."""
    series = zip(dict.fromkeys(names), cycle(colors), cycle(MARKERS), strict=False)
    return {name: {"color": color, "marker": marker} for name, color, marker in series}


def explainer_looks(explainers: Iterable[str]) -> dict[str, dict[str, object]]:
    """Choose the look of each explainer, by its title: its color, or gray for one without."""
    methods = {explainer_title(name): name.split("-", 1)[0] for name in explainers}
    return looks(methods, [EXPLAINER_COLORS.get(method, "#777777") for method in methods.values()] or [INK])


def shorten(text: str, width: int) -> str:
    """Cut a name that is longer than a line of `width` characters, and show hidden ones."""
    text = visible(text)
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def wrap(text: str, width: int) -> str:
    """Break a text into lines of at most `width` characters."""
    hidden = "\u200b" if text.startswith("_") else ""  # of no width; legends leave out what begins with _
    return hidden + "\n".join(textwrap.wrap(visible(text, "\n"), width, max_lines=6, placeholder="…")) or " "
