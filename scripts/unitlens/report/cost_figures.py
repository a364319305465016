"""Draw what explainers, rules and settings of LIME cost."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from unitlens.report import charts
from unitlens.report.text import counted, explainer_title, machine_title

MOST_RULES = 25  # in the figure of resources, those that took most time


@charts.drawing
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
    charts.require(timings, "seconds_per_image", "No explainer was timed.")
    machines = [machine_title(row.device, row.threads) for row in timings.itertuples()]
    shared = len(set(machines)) == 1
    panels, figure = charts.stack(timings, row_height=0.3 if shared else 0.55)
    timings = timings.assign(machine=machines)
    for (model, _), panel in panels:
        group = timings[timings["model"] == model]
        bars = panel.barh(range(len(group)), group["seconds_per_image"], height=0.6, color=charts.SERIES_COLOURS[0])
        panel.bar_label(
            bars, labels=[f"{seconds:.2g} s" for seconds in group["seconds_per_image"]], padding=3, fontsize=8
        )
        names = [
            explainer_title(row.explainer) + ("" if shared else f"\n{charts.wrap(row.machine, 28)}")
            for row in group.itertuples()
        ]
        charts.label_rows(panel, names)
        panel.set_title(charts.wrap(model, 44))
        charts.log_scale(panel)
        seconds = timings["seconds_per_image"]
        panel.set_xlim(seconds.min() / 3, seconds.max() * 4)
    panel.set_xlabel("seconds per photograph, wall clock (log scale)")
    charts.title(figure, "Time to explain a photograph" + (f", on {machines[0]}" if shared else ""))
    charts.save(figure, path)


@charts.drawing
def resources(table: pd.DataFrame, path: str | Path) -> None:
    """Draw what the jobs of each rule asked for and used: seconds, memory and, where known, how busy their GPU was.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `job_resources.efficiency`; the first `MOST_RULES` rules are drawn.
    path : path
        File to write, ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    charts.require(table, "seconds_mean", "No job has left a benchmark.")
    which = f"the {MOST_RULES} of {len(table)} rules that took most time" if len(table) > MOST_RULES else "each rule"
    table = table.head(MOST_RULES)
    columns = 3 if table["gpu_busy"].notna().any() else 2
    figure = Figure((4.2 + 2.8 * columns, 1.3 + 0.24 * len(table)), layout="constrained")
    time, memory, *gpu = figure.subplots(1, columns, sharey=True)
    rows = range(len(table))
    time.hlines(rows, table["seconds_mean"], table["seconds_max"], color=charts.SERIES_COLOURS[0], linewidth=2)
    time.scatter(table["seconds_mean"], rows, color=charts.SERIES_COLOURS[0], s=18, label="mean, to the slowest job")
    time.scatter(table["seconds_asked"], rows, color=charts.SERIES_COLOURS[1], marker="|", s=60, label="asked")
    charts.log_scale(time)
    time.set_xlabel("seconds a job (log scale)")
    memory.barh(
        rows, table["mem_mb_max"] / 1000, height=0.6, color=charts.SERIES_COLOURS[0], label="most held by a job"
    )
    memory.scatter(table["mem_mb_asked"] / 1000, rows, color=charts.SERIES_COLOURS[1], marker="|", s=60, label="asked")
    memory.set_xlabel("memory (GB)")
    for panel in gpu:
        panel.barh(rows, 100 * table["gpu_busy"], height=0.6, color=charts.SERIES_COLOURS[0])
        panel.set_xlim(0, 100)
        panel.set_xlabel("GPU busy (% of the jobs' time)")
    names = [f"{row.rule} ({row.jobs})" for row in table.itertuples()]
    for panel in (time, memory, *gpu):
        charts.label_rows(panel, names, stripes=True)
    for panel in (time, memory):
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8, handletextpad=0.3, borderaxespad=0)
    charts.title(figure, f"What the jobs of {which} asked for and used (number of jobs)")
    charts.save(figure, path)


@charts.drawing
def tuning_front(settings: pd.DataFrame, path: str | Path, *, cost: str) -> None:
    """Draw the mean score of every setting of LIME against its cost, one panel a model, and join those that none beats.

    Parameters
    ----------
    settings : pandas.DataFrame
        Settings of `tuning.tables`; for seconds with these and their front of the timings there. The front and the
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
    charts.require(ranked, "mean", "No setting of LIME could be used on every photograph.")
    models, named = charts.series_names(ranked, "model"), sorted(set(ranked["name"].dropna()) - {""})
    panels, figure = charts.panel_grid(len(models), height=3.2, columns=2, sharex=False)
    for panel, model in zip(panels, models, strict=True):
        own = ranked[ranked["model"] == model]
        panel.plot(own[cost], own["mean"], ".", color="#8C8C8C", markersize=6, label="a setting", zorder=1)
        front = own[own["front"]].sort_values([cost, "mean"])
        panel.step(front[cost], front["mean"], where="post", color=charts.SERIES_COLOURS[0], linewidth=1)
        series = {"no setting scores more for as much or less": front}
        series |= {name: own[own["name"] == name] for name in named}
        for position, (label, rows) in enumerate(series.items()):
            colour, marker = (
                charts.SERIES_COLOURS[position % len(charts.SERIES_COLOURS)],
                charts.MARKERS[position % len(charts.MARKERS)],
            )
            at = rows[cost] * 1.05**position  # intervals beside, not on each other
            panel.vlines(at, rows["low"], rows["high"], color=colour, linewidth=1.2)
            panel.plot(at, rows["mean"], marker, color=colour, markersize=6, label=charts.wrap(label, 60))
        charts.log_scale(panel)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.set_title(charts.wrap(f"{model}, n = {own['n'].iloc[0]}", 24), fontsize=9)
    charts.label_outer(
        panels,
        {"forward_passes": "forward passes", "seconds": "modelled seconds"}[cost] + " a photograph",
        "mean score",
    )
    charts.common_legend(figure, panels[0])
    charts.title(figure, "Settings of LIME, 95 % bootstrap intervals over photographs. Score: " + _objectives(ranked))
    charts.save(figure, path)


@charts.drawing
def tuning_effects(effects: pd.DataFrame, path: str | Path) -> None:
    """Draw the mean score over all settings of LIME that share a value, one panel a parameter.

    Parameters
    ----------
    effects : pandas.DataFrame
        Effects of `tuning.tables`.
    path : path
        File to write, ``.png`` or ``.svg``.

    Raises
    ------
    ValueError
        If the suffix is another.
    """
    charts.require(effects, "mean", "No parameter of LIME has two values that could be scored.")
    models, parameters = charts.series_names(effects, "model"), charts.series_names(effects, "parameter")
    levels = {name: charts.series_names(effects[effects["parameter"] == name], "level") for name in parameters}
    heights = [max(0.3, 0.17 * len(models)) * len(own) + 0.3 for own in levels.values()]
    figure = Figure((7.2, 1.3 + sum(heights) + 0.2 * len(heights)), layout="constrained")
    panels = figure.subplots(len(levels), 1, sharex=True, squeeze=False, height_ratios=heights).ravel()
    for panel, (parameter, own) in zip(panels, levels.items(), strict=True):
        of_parameter = effects[effects["parameter"] == parameter]
        charts.dots(panel, of_parameter, rows=("level", own), series=("model", models))
        counts = of_parameter.groupby("level")["settings"].max()
        charts.label_rows(
            panel, [f"{charts.wrap(level, 40)} ({counted(counts[level], 'setting')})" for level in own], stripes=True
        )
        panel.set_title(parameter, fontsize=9)
    panels[-1].set_xlabel(f"mean score, n = {counted(effects['n'].max(), 'photograph')}, 95 % bootstrap interval")
    charts.common_legend(figure, panels[0])
    charts.title(figure, "What each parameter of LIME does. Score: " + _objectives(effects))
    charts.save(figure, path)


def _objectives(table: pd.DataFrame) -> str:
    return " | ".join(table["objective"].unique())
