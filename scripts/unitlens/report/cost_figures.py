"""Draw what explainers, rules and settings of LIME cost."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from unitlens.report import charts
from unitlens.report.text import counted, explainer_title, in_seconds, machine_title

MOST_RULES = 25  # in the figure of resources, those that took most time
COSTS = {"forward_passes": "forward passes a source image", "seconds": "seconds a source image"}
LEGEND_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "handletextpad": 0.3, "borderaxespad": 0}


@charts.drawing
def timings(table: pd.DataFrame, *, models: Sequence[str] = ()) -> Figure:
    """Draw the wall-clock seconds that each explainer takes for a source image, on a log scale.

    A dot a row of ``model, explainer, seconds_per_image, device, threads``.
    """
    charts.require(table, "seconds_per_image", "No explainer was timed.")
    machines = [machine_title(row.device, row.threads) for row in table.itertuples()]
    shared = len(set(machines)) == 1
    names = [charts.wrap(explainer_title(name), 22) for name in table["explainer"]]
    if not shared:
        names = [f"{name}\n{charts.wrap(each, 22)}" for name, each in zip(names, machines, strict=True)]
    rows = table.assign(row=names, mean=table["seconds_per_image"], low=np.nan, high=np.nan)
    looks = charts.looks([*models, *table["model"]])
    heights = (0.3 if shared else 0.55, 0.17)
    (panel,) = panels = charts.dot_plot({"": rows}, row="row", series="model", looks=looks, heights=heights)
    for line in panel.get_lines():
        for seconds, at in line.get_xydata():
            note = in_seconds(seconds) if np.isfinite(seconds) else ""
            panel.annotate(note, (seconds, at), (6, 0), textcoords="offset points", va="center", fontsize=7)
    charts.log_scale(panel)
    least, most = table["seconds_per_image"].min(), table["seconds_per_image"].max()
    panel.set_xlim(least / 3, most * max(6, (most / least) ** 0.4))  # room for the numbers
    panel.set_xlabel("seconds per source image, wall clock (log scale)")
    return charts.finished(panels, "Time to explain a source image" + (f", on {machines[0]}" if shared else ""))


@charts.drawing
def resources(table: pd.DataFrame) -> Figure:
    """Draw what the jobs of each rule asked for and used: seconds, memory and, where known, how busy their GPU was.

    The first `MOST_RULES` rules of `job_resources.efficiency` are drawn.
    """
    charts.require(table, "seconds_mean", "No job has left a benchmark.")
    which = f"the {MOST_RULES} of {len(table)} rules that took most time" if len(table) > MOST_RULES else "each rule"
    table = table.head(MOST_RULES)
    columns = 3 if table["gpu_busy"].notna().any() else 2
    layout = {"columns": columns, "width": 4.2 + 2.8 * columns, "around": 1.3, "lines": False, "sharey": True}
    panels = charts.panel_grid([0.24 * len(table)] * columns, **layout)
    time, memory, *gpu = panels
    rows, used = range(len(table)), {"color": "#777777"}
    asked = {"color": "#000000", "marker": "|", "s": 60, "label": "asked"}
    time.hlines(rows, table["seconds_mean"], table["seconds_max"], linewidth=2, **used)
    time.scatter(table["seconds_mean"], rows, s=18, label="mean, to the slowest job", **used)
    time.scatter(table["seconds_asked"], rows, **asked)
    charts.log_scale(time)
    time.set_xlabel("seconds a job (log scale)")
    memory.barh(rows, table["mem_mb_max"] / 1000, height=0.6, label="most held by a job", **used)
    memory.scatter(table["mem_mb_asked"] / 1000, rows, **asked)
    memory.set_xlabel("memory (GB)")
    for panel in gpu:
        panel.barh(rows, 100 * table["gpu_busy"], height=0.6, **used)
        panel.set(xlim=(0, 100), xlabel="GPU busy (% of the jobs' time)")
    names = [f"{row.rule} ({row.jobs})" for row in table.itertuples()]
    for panel in panels:
        charts.label_rows(panel, names, stripes=True)
    for panel in (time, memory):
        panel.legend(ncols=2, fontsize=8, **LEGEND_ABOVE)
    return charts.finished(panels, f"What the jobs of {which} asked for and used (number of jobs)")


@charts.drawing
def tuning_front(settings: pd.DataFrame, *, cost: str, models: Sequence[str] = ()) -> Figure:
    """Draw the mean score of every setting of LIME against its cost, one panel a model, and join those that none beats.

    Parameters
    ----------
    settings : pandas.DataFrame
        Settings of `tuning.tables`; for seconds with these and their front of the timings there. The front and the
        settings with a name have intervals.
    cost : str
        ``forward_passes`` or ``seconds``.
    models : sequence of str
        All of the run, for the colors.
    """
    ranked = settings[settings["rank"].notna()]
    charts.require(ranked, "mean", "No setting of LIME could be used on every source image.")
    parts, named = charts.split(ranked, "model"), sorted(set(ranked["name"].dropna()) - {""})
    looks = charts.looks([*models, *parts])
    panels = charts.panel_grid([2.4] * len(parts), columns=2, width=charts.NARROW, sharey=True)
    for panel, (model, own) in zip(panels, parts.items(), strict=True):
        panel.plot(own[cost], own["mean"], ".", color="#AAAAAA", markersize=5, label="a setting", zorder=1)
        front, color = own[own["front"]].sort_values([cost, "mean"]), looks[model]["color"]
        panel.step(front[cost], front["mean"], where="post", color=color, linewidth=1)
        series = {"": (front, color)} | {name: (own[own["name"] == name], charts.INK) for name in named}
        for position, ((label, (rows, color)), marker) in enumerate(
            zip(series.items(), cycle(charts.MARKERS), strict=False)
        ):
            at = rows[cost] * 1.05**position  # intervals beside, not on each other
            panel.vlines(at, rows["low"], rows["high"], color=color, linewidth=1.2)
            look = {"linestyle": "", "markersize": 5, "marker": marker, "color": color}
            panel.plot(at, rows["mean"], label=label and charts.wrap(label, 40), **look)
        charts.log_scale(panel)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.tick_params(axis="x", labelrotation=90)
    charts.title_panels(panels, [f"{model}, n = {own['n'].iloc[0]}" for model, own in parts.items()], fontsize=8)
    charts.label_outer(panels, COSTS[cost], "mean score, 95 % interval")
    best = Line2D(
        [], [], color=charts.INK, marker=charts.MARKERS[0], markersize=5, linewidth=1, label="best at its cost"
    )
    title, footer = "What settings of LIME score and cost", "Score: " + _objectives(ranked)
    return charts.finished(panels, title, handles=[best], footer=footer)


@charts.drawing
def tuning_effects(effects: pd.DataFrame, *, models: Sequence[str] = ()) -> Figure:
    """Draw the mean score over all settings of LIME that share a value, one panel a parameter."""
    charts.require(effects, "mean", "No parameter of LIME has two values that could be scored.")
    counts = effects.groupby(["parameter", "level"])["settings"].max()
    names = [
        charts.wrap(f"{level} ({counted(counts[parameter, level], 'setting')})", 26)
        for parameter, level in zip(effects["parameter"], effects["level"], strict=True)
    ]
    parts = charts.split(effects.assign(name=names), "parameter")
    looks = charts.looks([*models, *effects["model"]])
    layout = {"between": 0.3, "around": 1.3 + 0.2 * len(parts), "sharex": True, "looks": looks}
    panels = charts.dot_plot(parts, row="name", series="model", heights=(0.42, 0.17), **layout)
    charts.title_panels(panels, parts)
    n = counted(effects["n"].max(), "source image")
    charts.label_outer(panels, f"mean score, n = {n}, 95 % interval")
    return charts.finished(panels, "What each parameter of LIME does", footer="Score: " + _objectives(effects))


def _objectives(table: pd.DataFrame) -> str:
    return " | ".join(table["objective"].unique())
