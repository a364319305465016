"""What the jobs of a run asked for and what they used.

Asked: the extended benchmark tables that Snakemake writes. Used: the same tables and the last lines of the jobs' logs.
"""

import ast
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from unitlens.jobs.csv_files import read_records

SLOWEST = 20  # jobs that are listed
# As `progress.tell` writes it.
_PROGRESS = re.compile(r"^\d+ of \d+ ([\w ]+?)(?: \(.*\))?, ([\d.]+) a second", re.MULTILINE)


def read_jobs(benchmarks: str | Path, logs: str | Path) -> pd.DataFrame:
    """Read what every job left, a row a job, from the folders of tables and of logs, in which every rule has a folder.

    ``rate`` is how many of what is ``counted`` the job did a second; memory is in MiB. What nobody recorded is NaN:
    requests without ``benchmark-extended``, start-up of jobs that run no network, the busy share of a GPU without
    ``nvidia-smi``.
    """
    benchmarks, logs = Path(benchmarks), Path(logs)
    rows = []
    for path in sorted(benchmarks.rglob("*.tsv")):
        name = path.relative_to(benchmarks)
        (_, header), (_, cells) = islice(read_records(path, tabs=True), 2)
        used = dict(zip(header, cells, strict=True))
        asked = ast.literal_eval(used.get("resources") or "{}")
        log = logs / name.with_suffix(".log")
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        counted, rate = [("", np.nan), *_PROGRESS.findall(text)][-1]
        rows.append(
            {
                "rule": name.parts[0],
                "job": name.relative_to(name.parts[0]).with_suffix("").as_posix(),
                "seconds": _number(used["s"]),
                "cpu_seconds": np.fmax(_number(used["cpu_time"]), _told(r"and ([\d.]+) CPU seconds", text)),
                "mem_mb": np.fmax(_number(used["max_rss"]), _told(r"held at most (\d+) MiB", text)),
                "start_up_seconds": _told(r"started up in ([\d.]+) s", text),
                "rate": float(rate),
                "counted": counted,
                "seconds_asked": 60 * _number(asked.get("runtime")),
                "mem_mb_asked": _number(asked.get("mem_mb")),
                "gpus": _number(asked.get("gpu", 0 if asked else None)),
                "gpu_busy": _told(r"busy (\d+) % of the time", text) / 100,
            }
        )
    columns = "rule job seconds cpu_seconds mem_mb start_up_seconds rate counted seconds_asked mem_mb_asked gpus"
    return pd.DataFrame(rows, columns=[*columns.split(), "gpu_busy"])


def efficiency(jobs: pd.DataFrame) -> pd.DataFrame:
    """Compare what the jobs of every rule asked for with what they used, the rule that took most time first.

    ``gpu_busy`` is the seconds that the GPU worked over those of the jobs that know it; see docs/outputs.md.
    """
    jobs = jobs.assign(
        time_used=jobs.seconds / jobs.seconds_asked,
        memory_used=jobs.mem_mb / jobs.mem_mb_asked,
        gpu_seconds=jobs.seconds * jobs.gpu_busy,
        watched_seconds=jobs.seconds.where(jobs.gpu_busy.notna()),
    )
    rules = jobs.groupby("rule")
    table = rules.agg(
        jobs=("seconds", "size"),
        seconds_mean=("seconds", "mean"),
        seconds_max=("seconds", "max"),
        seconds_asked=("seconds_asked", "max"),
        time_used=("time_used", "max"),
        mem_mb_max=("mem_mb", "max"),
        mem_mb_asked=("mem_mb_asked", "max"),
        memory_used=("memory_used", "max"),
        start_up_seconds=("start_up_seconds", "mean"),
        rate=("rate", "mean"),
        counted=("counted", "first"),
        cores_busy=("cpu_seconds", "sum"),
        gpus=("gpus", "max"),
        gpu_busy=("gpu_seconds", "sum"),
    )
    seconds = rules.seconds.sum()
    table["cores_busy"] /= seconds
    table["gpu_busy"] /= rules.watched_seconds.sum()  # 0 / 0 is NaN
    return table.loc[seconds.sort_values(ascending=False, kind="stable").index].reset_index()


def slowest(jobs: pd.DataFrame) -> pd.DataFrame:
    """List the `SLOWEST` jobs that took longest."""
    columns = ["rule", "job", "seconds", "mem_mb", "rate", "counted", "gpu_busy"]
    return jobs.sort_values("seconds", ascending=False, kind="stable")[columns].head(SLOWEST)


def _number(value: object) -> float:
    """Read a cell; what Snakemake could not measure is "-" or "NA"."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _told(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else np.nan
