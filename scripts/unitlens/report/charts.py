"""Style, layout and saving of all figures, and the two charts that most of them are: dots in rows, and bands.

A figure is a function that takes tables, makes its panels by `dot_plot`, `band_plot`, `stack` or `panel_grid`, and
returns what `finished` makes of them. `drawing` adds an argument after the tables: the ``path`` to write, PNG (150 dpi)
or SVG by its suffix; another one is a ValueError. The same input gives the same bytes. Where there is nothing to show,
a figure is a sentence that says so. Series differ by marker as well as by a color of Okabe and Ito's color-blind-safe
set.
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

DPI = 150
WIDEST = 12  # inches
SALIENCY_MAP = matplotlib.colormaps["plasma"]
CATEGORY_COLORS = {
    "object": "#0072B2",
    "scene": "#009E73",
    "part": "#D55E00",
    "material": "#E69F00",
    "texture": "#CC79A7",
    "color": "#56B4E9",
    "word": "#F0E442",
    "other": "#8C8C8C",
}
SERIES_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
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
CHANCE_LINE = {"color": "#333333", "linestyle": "--", "linewidth": 1, "label": "chance"}


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
                figure = Figure((7.2, 0.8))
                figure.text(0.02, 0.5, wrap(str(nothing), 100), va="center")
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
    labels: Mapping[str, str] | None = None,
    heights: tuple[float, float],
    between: float = 0.0,
    around: float = 1.3,
    by_layer: bool = False,
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
    labels : mapping, optional
        From the rows of all panels, in their order, to what they are called; without it each panel has its own rows.
    heights : (float, float)
        Inches of a row: at least, and for each series in it.
    between, around : float
        Inches beside the rows, of each panel and of the figure.
    by_layer : bool
        Series are the layers of each panel: colored by depth, with a legend of its own beside it.
    reference : str, optional
        The row through whose dots a dashed line runs.
    **layout
        As in `panel_grid`.
    """
    rows = [labels or {name: name for name in table[row]} for table in parts.values()]
    row_height = max(heights[0], heights[1] * max(table[series].nunique() for table in parts.values()))
    panel_heights = [len(names) * row_height + between for names in rows]
    panels = panel_grid(panel_heights, around=around, **{"columns": 1, "width": 7.2, "lines": False} | layout)
    every = looks(name for table in parts.values() for name in table[series])
    for panel, table, names in zip(panels, parts.values(), rows, strict=True):
        look = looks(table[series], by_depth=True) if by_layer else every
        present = [name for name in look if (table[series] == name).any()]
        for place, name in enumerate(present):
            own = table[table[series] == name].drop_duplicates(row).set_index(row).reindex(list(names))
            at = np.arange(len(names)) + (place - (len(present) - 1) / 2) * 0.7 / len(present)
            _dots(panel, own, at, label=wrap(name, 40), **look[name])
            if reference:
                at_reference = own["mean"].get(reference, np.nan)
                panel.axvline(at_reference, color=look[name]["color"], linestyle="--", linewidth=1)
        label_rows(panel, list(names.values()), stripes=True)
        if by_layer:
            layer_legend(panel)
    return panels


def _dots(panel: Axes, values: pd.DataFrame, at: np.ndarray, **look: object) -> None:
    panel.hlines(at, values["low"], values["high"], color=look["color"], linewidth=1.5)
    panel.plot(values["mean"], at, linestyle="", markersize=5, **look)
    if "filled" in values:
        hollow = values["filled"].ne(True)
        look |= {"label": None, "markerfacecolor": "white"}
        panel.plot(values["mean"][hollow], at[hollow], linestyle="", markersize=5, **look)


def band_plot(
    parts: Mapping[object, pd.DataFrame], *, x: str, series: str, height: float, **layout: object
) -> list[Axes]:
    """Draw ``mean`` over a column as lines, with bands from ``low`` to ``high``: a panel a table, in it the series.

    `layout` is as in `panel_grid`.
    """
    panels = panel_grid([height] * len(parts), **{"sharex": True, "sharey": True} | layout)
    every = looks(name for table in parts.values() for name in table[series])
    for panel, table in zip(panels, parts.values(), strict=True):
        for name, look in every.items():
            own = table[table[series] == name].sort_values(x)
            band(panel, own[x], own, label=wrap(name, 40), **look)
    return panels


def band(panel: Axes, x: pd.Series, values: pd.DataFrame, **line: object) -> None:
    """Draw ``mean`` as a line with the band from ``low`` to ``high``, all possibly NaN."""
    panel.fill_between(x, values["low"], values["high"], color=line["color"], alpha=0.2, linewidth=0)
    panel.plot(x, values["mean"], **{"markersize": 4, "linewidth": 1.3} | line)


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
    figure = Figure((width or max(5.0, 2.6 * columns), around + sum(of_rows)), layout="constrained")
    panels = figure.subplots(len(of_rows), columns, squeeze=False, height_ratios=of_rows, **shared).ravel()
    for panel in panels[count:]:
        panel.remove()
    for panel in panels[: count if lines else 0]:
        panel.grid(**GRID)
    return list(panels[:count])


def stack(parts: Mapping[str, pd.DataFrame], *, row_height: float) -> list[Axes]:
    """Make panels below each other with a common horizontal axis, one a model and as high as its rows need."""
    heights = [len(rows) * row_height + 0.3 for rows in parts.values()]
    panels = panel_grid(heights, columns=1, width=7.2, around=1.2 + 0.3 * len(parts), lines=False, sharex=True)
    title_panels(panels, parts, width=44, fontsize=10)
    return panels


def title_panels(panels: Sequence[Axes], titles: Iterable[str], *, width: int = 24, fontsize: int = 9) -> None:
    """Give panels their titles, in lines of at most `width` characters."""
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(wrap(title, width), fontsize=fontsize)


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


def layer_legend(panel: Axes) -> None:
    """Draw the legend of a panel whose series are layers, beside it."""
    panel.legend(title="layer", loc="upper left", bbox_to_anchor=(1, 1), alignment="left")


def log_scale(panel: Axes) -> None:
    """Give the horizontal axis a logarithmic scale with readable ticks."""
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())


def finished(panels: Sequence[Axes], title: str, /, *, handles: Sequence[Artist] = (), **legend: object) -> Figure:
    """Give the figure of the panels its title, and one legend of what has a label in panels without a legend.

    `handles` are shown in it, too; `legend` are options of `Figure.legend`.
    """
    figure = panels[0].figure
    figure.suptitle(wrap(title, int(figure.get_figwidth() / 0.09)), x=0.01, ha="left")
    keys = {}
    for panel in panels:
        if panel.get_legend() is None:
            of_panel, labels = panel.get_legend_handles_labels()
            keys |= zip(labels, of_panel, strict=True)
    keys |= {handle.get_label(): handle for handle in handles}
    if keys:
        ncols = min(3, len(keys)) if max(map(len, keys)) <= 20 else 1
        figure.legend(keys.values(), keys, **{"loc": "outside lower center", "ncols": ncols} | legend)
    return figure


# ---- looks and words


def looks(names: Iterable[str], *, by_depth: bool = False) -> dict[str, dict[str, object]]:
    """Choose ``color`` and ``marker`` of each series; by depth for layers, from the first to the last."""
    names = list(dict.fromkeys(names))
    depths = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(names)))  # (series, 4)
    pairs = zip(depths if by_depth else cycle(SERIES_COLORS), cycle(MARKERS), strict=False)
    return {name: {"color": color, "marker": marker} for name, (color, marker) in zip(names, pairs, strict=False)}


def category(name: str) -> str:
    """Name a category; concepts may lack one."""
    return name if name in CATEGORY_COLORS else "other"


def shorten(text: str, width: int) -> str:
    """Cut a name that is longer than a line of `width` characters, and show hidden ones."""
    text = visible(text)
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def wrap(text: str, width: int) -> str:
    """Break a text into lines of at most `width` characters."""
    hidden = "\u200b" if text.startswith("_") else ""  # of no width; legends leave out what begins with _
    return hidden + "\n".join(textwrap.wrap(visible(text, "\n"), width, max_lines=6, placeholder="…")) or " "
