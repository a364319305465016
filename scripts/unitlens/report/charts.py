"""Style, parts and saving of all figures, PNG (150 dpi) or SVG by the path's suffix.

The same input gives the same bytes. Where there is nothing to show, a figure is a sentence that says so. Series differ
by marker as well as by a colour of Okabe and Ito's colour-blind-safe set.
"""

import functools
import inspect
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from unitlens.jobs.characters import visible

DPI = 150
WIDEST = 12  # inches
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


class Nothing(Exception):
    """Why there is nothing to show."""


def drawing(draw: Callable[..., None]) -> Callable[..., None]:
    """Draw in the style of all figures, and where there is nothing to show only the sentence that says so."""

    @functools.wraps(draw)
    def drawn(*given: object, **options: object) -> None:
        with matplotlib.rc_context(STYLE):
            try:
                draw(*given, **options)
            except Nothing as nothing:
                figure = Figure((7.2, 0.8))
                figure.text(0.02, 0.5, wrap(str(nothing), 100), va="center")
                save(figure, inspect.signature(draw).bind(*given, **options).arguments["path"])

    return drawn


def require(rows: pd.DataFrame, column: str, reason: str) -> None:
    """Leave the figure to the `reason` where no row has a number in the column."""
    if rows[column].isna().all():
        raise Nothing(reason)


def series_names(table: pd.DataFrame, column: str) -> list[str]:
    """List the values of a column in the order of the table."""
    return list(table[column].unique())


def category(name: str) -> str:
    """Name a category; concepts may lack one."""
    return name if name in CATEGORY_COLOURS else "other"


def stack(table: pd.DataFrame, *, row_height: float) -> tuple[list, Figure]:
    """Panels below each other with a common horizontal axis, one a model and as high as its rows need."""
    groups = [(model, table[table["model"] == model]) for model in series_names(table, "model")]
    heights = [len(group) * row_height + 0.3 for _, group in groups]
    figure = Figure((7.2, 1.2 + sum(heights) + 0.3 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, sharex=True, squeeze=False, height_ratios=heights).ravel()
    return list(zip(groups, panels, strict=True)), figure


def panel_grid(count: int, *, height: float, columns: int = 3, **options: object) -> tuple[list[Axes], Figure]:
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


def label_outer(panels: Sequence[Axes], x: str, y: str) -> None:
    """Name the axes once a column and once a row, where they are shared."""
    columns = max(panel.get_subplotspec().colspan.stop for panel in panels)
    for position, panel in enumerate(panels):
        if position % columns == 0:
            panel.set_ylabel(y)
        if position + columns >= len(panels):
            panel.set_xlabel(x)
            panel.tick_params(labelbottom=True)


def common_legend(figure: Figure, panel: Axes) -> None:
    """Draw one panel's legend for the whole figure."""
    handles, labels = panel.get_legend_handles_labels()
    ncols = min(3, len(labels)) if max(map(len, labels)) <= 20 else 1
    figure.legend(handles, labels, loc="outside lower center", ncols=ncols)


def band(panel: Axes, x: pd.Series, values: pd.DataFrame, *, label: str, position: int) -> None:
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
        label=wrap(label, 40),
    )


def label_rows(panel: Axes, labels: Sequence[str], *, stripes: bool = False) -> None:
    """Label rows from the top; stripes keep the series of a row together."""
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    for row in range(0, len(labels) if stripes else 0, 2):
        panel.axhspan(row - 0.5, row + 0.5, color="#F3F3F3", zorder=0, linewidth=0)


def offset(position: int, count: int) -> float:
    """Vertical shift of a series within its row."""
    return (position - (count - 1) / 2) * 0.7 / count


def dots(
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
        heights = np.arange(len(names)) + offset(position, len(labels))
        colour = colours[position % len(colours)]
        intervals(panel, one[["mean", "low", "high"]], heights, label=label, position=position, colour=colour)


def intervals(
    panel: Axes, values: pd.DataFrame, rows: np.ndarray, *, label: str, position: int, colour: object
) -> None:
    """Draw dots with the lines of their intervals; columns are the centre, the low and the high end, possibly NaN."""
    centre, low, high = values.to_numpy(dtype=float).T
    panel.hlines(rows, low, high, color=colour, linewidth=1.5)
    panel.plot(centre, rows, MARKERS[position % len(MARKERS)], color=colour, markersize=5, label=wrap(label, 40))


def depths(count: int) -> np.ndarray:
    """Colours of layers, from the first to the last."""
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.8, count))


def log_scale(panel: Axes) -> None:
    """Give the horizontal axis a logarithmic scale with readable ticks."""
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(NullFormatter())


def shorten(text: str, width: int) -> str:
    """Cut a name that is longer than a line of `width` characters, and show hidden ones."""
    text = visible(text)
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def wrap(text: str, width: int) -> str:
    """Break a text into lines of at most `width` characters."""
    hidden = "\u200b" if text.startswith("_") else ""  # of no width; legends leave out what begins with _
    return hidden + "\n".join(textwrap.wrap(visible(text, "\n"), width, max_lines=6, placeholder="…")) or " "


def title(figure: Figure, text: str) -> None:
    """Give the figure a title above all panels."""
    width = int(figure.get_figwidth() / 0.09)
    figure.suptitle(wrap(text, width), x=0.01, ha="left")


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure without anything that changes from run to run."""
    suffix = Path(path).suffix
    if suffix not in METADATA:
        raise ValueError(f"`path` ends in '{suffix}'; allowed: {', '.join(METADATA)}")
    figure.savefig(path, dpi=DPI, metadata=METADATA[suffix])
