"""Draw what explainers, rules and settings of LIME cost."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from unitlens.report import charts
from unitlens.report.text import counted, explainer_title, machine_title

MOST_RULES = 25  # in the figure of resources, those that took most time
COSTS = {"forward_passes": "forward passes a source image", "seconds": "modeled seconds a source image"}
LEGEND_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "handletextpad": 0.3, "borderaxespad": 0}


@charts.drawing
def timings(table: pd.DataFrame) -> Figure:
    """Draw the wall-clock seconds that each explainer takes for a source image, one panel a model, on a log scale.

    A bar a row of ``model, explainer, seconds_per_image, device, threads``.
    """
    charts.require(table, "seconds_per_image", "No explainer was timed.")
    seconds = table["seconds_per_image"]
    machines = [machine_title(row.device, row.threads) for row in table.itertuples()]
    shared = len(set(machines)) == 1
    parts = charts.split(table.assign(machine=machines), "model")
    panels = charts.stack(parts, row_height=0.3 if shared else 0.55)
    for panel, rows in zip(panels, parts.values(), strict=True):
        bars = panel.barh(range(len(rows)), rows["seconds_per_image"], height=0.6, color=charts.SERIES_COLORS[0])
        panel.bar_label(bars, labels=[f"{each:.2g} s" for each in rows["seconds_per_image"]], padding=3, fontsize=8)
        names = [explainer_title(name) for name in rows["explainer"]]
        if not shared:
            names = [f"{name}\n{charts.wrap(each, 28)}" for name, each in zip(names, rows["machine"], strict=True)]
        charts.label_rows(panel, names)
        charts.log_scale(panel)
        panel.set_xlim(seconds.min() / 3, seconds.max() * 4)
    charts.label_outer(panels, "seconds per source image, wall clock (log scale)")
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
    rows, used = range(len(table)), {"color": charts.SERIES_COLORS[0]}
    asked = {"color": charts.SERIES_COLORS[1], "marker": "|", "s": 60, "label": "asked"}
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
def tuning_front(settings: pd.DataFrame, *, cost: str) -> Figure:
    """Draw the mean score of every setting of LIME against its cost, one panel a model, and join those that none beats.

    Parameters
    ----------
    settings : pandas.DataFrame
        Settings of `tuning.tables`; for seconds with these and their front of the timings there. The front and the
        settings with a name have intervals.
    cost : str
        ``forward_passes`` or ``seconds``.
    """
    ranked = settings[settings["rank"].notna()]
    charts.require(ranked, "mean", "No setting of LIME could be used on every source image.")
    parts, named = charts.split(ranked, "model"), sorted(set(ranked["name"].dropna()) - {""})
    panels = charts.panel_grid([3.2] * len(parts), columns=2, sharey=True)
    for panel, own in zip(panels, parts.values(), strict=True):
        panel.plot(own[cost], own["mean"], ".", color="#8C8C8C", markersize=6, label="a setting", zorder=1)
        front = own[own["front"]].sort_values([cost, "mean"])
        panel.step(front[cost], front["mean"], where="post", color=charts.SERIES_COLORS[0], linewidth=1)
        series = {"no setting scores more for as much or less": front}
        series |= {name: own[own["name"] == name] for name in named}
        for position, (label, look) in enumerate(charts.looks(series).items()):
            rows = series[label]
            at = rows[cost] * 1.05**position  # intervals beside, not on each other
            panel.vlines(at, rows["low"], rows["high"], color=look["color"], linewidth=1.2)
            panel.plot(at, rows["mean"], linestyle="", markersize=6, label=charts.wrap(label, 60), **look)
        charts.log_scale(panel)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    charts.title_panels(panels, [f"{model}, n = {own['n'].iloc[0]}" for model, own in parts.items()])
    charts.label_outer(panels, COSTS[cost], "mean score")
    title = "Settings of LIME, 95 % bootstrap intervals over source images. Score: " + _objectives(ranked)
    return charts.finished(panels, title)


@charts.drawing
def tuning_effects(effects: pd.DataFrame) -> Figure:
    """Draw the mean score over all settings of LIME that share a value, one panel a parameter."""
    charts.require(effects, "mean", "No parameter of LIME has two values that could be scored.")
    counts = effects.groupby(["parameter", "level"])["settings"].max()
    names = [
        f"{charts.wrap(level, 40)} ({counted(counts[parameter, level], 'setting')})"
        for parameter, level in zip(effects["parameter"], effects["level"], strict=True)
    ]
    parts = charts.split(effects.assign(name=names), "parameter")
    layout = {"between": 0.3, "around": 1.3 + 0.2 * len(parts), "sharex": True}
    panels = charts.dot_plot(parts, row="name", series="model", heights=(0.3, 0.17), **layout)
    charts.title_panels(panels, parts, width=60)
    n = counted(effects["n"].max(), "source image")
    charts.label_outer(panels, f"mean score, n = {n}, 95 % bootstrap interval")
    return charts.finished(panels, "What each parameter of LIME does. Score: " + _objectives(effects))


def _objectives(table: pd.DataFrame) -> str:
    return " | ".join(table["objective"].unique())
