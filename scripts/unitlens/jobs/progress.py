"""Tell how far a job is and what it has cost, in its log and, where there is one, on the terminal; how far a run is."""

import logging
import os
import resource
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TypeVar

from unitlens.jobs.characters import visible
from unitlens.jobs.csv_files import read_records

Item = TypeVar("Item")
EVERY = 30.0  # seconds between two lines of a log
_CLEAR = "\r\x1b[K"  # the line of a terminal that the cursor is in
_TICK = 1.0  # seconds between two looks at a terminal
_PATIENCE = 10.0  # seconds in which `nvidia-smi` ends
_CHATTER = (  # how lines of Snakemake and of its SLURM plugin begin that say nothing of a job
    "Select jobs to execute",
    "Execute ",
    "Auto-selected partition",
    "No SLURM account given",
    "No account was given",
    "Unable to guess SLURM account",
    "Cleaning up SLURM log files",
)
_ENOUGH = 0.03  # share of the work after which the time left is told
_USUAL = 5.0  # seconds of a job that is not listed
_SECONDS = {  # of one job in the demonstration, on two cores
    "dissect_network": 25.0,
    "embed_concepts": 18.0,
    "embed_images": 38.0,
    "explain_cam": 35.0,
    "explain_perturbed": 90.0,
    "stabilize_lime": 83.0,
    "score_faithfulness": 45.0,
    "tune_lime": 50.0,
    "verify_explainers": 48.0,
    "write_units": 60.0,
}
_stages: list["Stage"] = []  # those that run now, each within the one before


# When the log was opened, whether there is one, whether a stage has begun, and what watches the GPU since when.
job = SimpleNamespace(opened=time.monotonic(), logs=False, works=False, nvidia_smi=None)


def write(descriptor: int, text: str) -> None:
    """Write at once; a full disk or a closed terminal ends no job."""
    content = visible(text, keep="\n").encode()
    with suppress(OSError):
        while content:
            content = content[os.write(descriptor, content) :]


@dataclass(eq=False)
class Stage:
    """A part of the work of known size; `ahead` is what of it is being done now."""

    what: str
    total: int
    start: float
    done: int = 0
    ahead: int = 0


@contextmanager
def stage(total: int, what: str) -> Iterator[Stage]:
    """Count `total` things for the lines that tell how far a job is: raise `done` of what this gives.

    The outermost stage leaves a line at its end. The first of a job says how long the job took to get there. Without an
    open log nothing is printed.
    """
    this = Stage(what, total, time.monotonic())
    if job.logs and not job.works:
        _say(f"started up in {this.start - job.opened:.1f} s: imports, weights, device")
        job.works = True
        _watch_gpu()
    _stages.append(this)
    try:
        yield this
        if job.logs and _stages == [this]:
            _say(tell())
    finally:
        _stages.remove(this)


def progress(items: Iterable[Item], total: int, what: str, *, size: Callable[[Item], int] = len) -> Iterator[Item]:
    """Iterate over batches as a stage of `total` things, of which each batch counts for its `size`."""
    with stage(total, what) as this:
        for item in items:
            this.ahead = size(item)
            yield item
            this.done += this.ahead
            this.ahead = 0


def each(items: Collection[Item], what: str) -> Iterator[Item]:
    """Iterate over things as a stage: each counts as one."""
    for (item,) in progress(zip(items), len(items), what):
        yield item


def _say(line: str) -> None:
    with suppress(OSError):  # a full disk takes no line, and no job's work
        print(line, flush=True)


def tell() -> str:
    """Say how far the job is: how many of what, at what rate, how long the rest takes; without stages, its age."""
    now, running = time.monotonic(), list(_stages)
    if not running:
        return f"running for {now - job.opened:.0f} s"
    share = 0.0
    for this in reversed(running):  # what runs within a stage is part of what that has ahead
        share = min(1.0, (this.done + share * this.ahead) / max(this.total, 1))
    outer, seconds = running[0], max(now - running[0].start, 1e-9)
    counts = [f"{this.done} of {this.total} {this.what}" for this in running]
    line = counts[0] + (f" ({', '.join(counts[1:])})" if counts[1:] else "")
    if share:
        rate = share * outer.total / seconds
        line += f", {rate:.{0 if rate >= 100 else 2}f} a second, {seconds * (1 - share) / share:.0f} s left"
    return line


@contextmanager
def watched(terminal: IO[str], name: str) -> Iterator[None]:
    """Tell how far the job is, from a thread beside it."""
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(ended, terminal, name))
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(ended: threading.Event, terminal: IO[str], name: str) -> None:
    told, drawn = time.monotonic(), False
    while not ended.wait(min(_TICK, EVERY)):
        if time.monotonic() - told >= EVERY:
            told = time.monotonic()
            _say(tell())
        with suppress(OSError):  # the terminal is gone
            if terminal.isatty() and _stages:
                width = os.get_terminal_size(terminal.fileno()).columns or 80
                terminal.write(f"{_CLEAR}{f'{tell()}; {name}'[: width - 1]}")
                terminal.flush()
                drawn = True
    if drawn:
        with suppress(OSError):
            terminal.write(_CLEAR)
            terminal.flush()


def cost() -> str:
    """Tell seconds, those of the CPU and memory; of the GPU only where torch is in use anyway."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = f"took {time.monotonic() - job.opened:.1f} s and {sum(os.times()[:4]):.1f} CPU seconds"
    line += f", held at most {kib / 1024:.0f} MiB"
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        line += f" and {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB of {torch.cuda.get_device_name()}"
        line += f", which was busy {_gpu_busy()} of the time"
    return line


def _watch_gpu() -> None:
    """Start `nvidia-smi` beside the job, if torch uses a GPU."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        command = ["nvidia-smi", f"--id=GPU-{torch.cuda.get_device_properties().uuid}", "--loop=1"]
        command += ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with suppress(OSError):  # it is not installed: the share stays unknown
            job.nvidia_smi = subprocess.Popen(command, text=True, **pipes), time.monotonic()


def _gpu_busy() -> str:
    """Stop watching the GPU and tell which share of the job it was busy; before it was watched it had nothing to do."""
    if job.nvidia_smi is None:
        return "an unknown share"
    process, since = job.nvidia_smi
    job.nvidia_smi = None
    end = time.monotonic()
    process.terminate()
    try:
        told = process.communicate(timeout=_PATIENCE)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return "an unknown share"
    percent = [int(line) for line in told.split() if line.isdigit()]
    if not percent:
        return "an unknown share"
    return f"{sum(percent) / len(percent) * (end - since) / (end - job.opened):.0f} %"


# ---- how far a run is


def show_one_line_a_job(
    workflow: object, logger: logging.Logger, benchmarks: str | Path = "results/benchmarks"
) -> None:
    """Let the terminal show one line for each finished job of a run in place of what Snakemake prints of it.

    Snakemake's own log file keeps everything. `benchmarks` holds what earlier jobs took, a folder for each rule. What
    Snakemake keeps of its jobs is no interface: where it is not as expected a line says so, and it prints as it does.
    """
    try:
        planned = Counter(job.rule.name for job in workflow.dag.needrun_jobs())
        lines = JobLines(planned, earlier_seconds(benchmarks))
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                handler.filters.insert(0, lines)
                lines.formatter = handler.formatter or lines.formatter
                handler.setFormatter(lines)
                lines.clear = _CLEAR if handler.stream.isatty() else ""
    except Exception as error:
        logger.warning(f"Jobs are shown as Snakemake does ({type(error).__name__}: {error}).")


def earlier_seconds(benchmarks: str | Path) -> dict[str, float]:
    """Give the mean seconds of a job of each rule by the benchmarks of earlier runs."""
    found = defaultdict(list)
    for path in Path(benchmarks).rglob("*.tsv"):
        (_, names), *records = read_records(path, tabs=True)
        place = names.index("s")
        found[path.relative_to(benchmarks).parts[0]] += [float(cells[place]) for _, cells in records]
    return {rule: sum(seconds) / len(seconds) for rule, seconds in found.items()}


class JobLines:
    """Filter and formatter of a handler: a line for each finished job, and all that is not about a job as it was.

    The time left is the work left over the number of jobs that ran side by side so far. The work of a job is the mean
    of the finished ones of its rule, in this run or before it; of a rule that has not been run yet what it took in the
    demonstration, times how much longer the other rules took here than there.
    """

    def __init__(self, planned: Mapping[str, int], earlier: Mapping[str, float]):
        self.planned, self.earlier = planned, earlier
        self.formatter, self.start, self.clear = logging.Formatter(), time.monotonic(), ""
        self.running, self.seconds, self.finished = {}, defaultdict(list), []

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what is not about the beginning or the end of a job; take note of that."""
        event = str(getattr(record, "event", ""))
        if event in ("job_info", "job_finished", "job_error"):
            try:
                self._note(event, record)
            except (AttributeError, LookupError):
                return True  # it is told in another way than was expected
        return event not in ("job_info", "job_finished") and not str(record.msg).startswith(_CHATTER)

    def _note(self, event: str, record: logging.LogRecord) -> None:
        if event == "job_info":
            message = record.rule_msg or record.rule_name
            self.running[record.jobid] = (record.rule_name, message, time.monotonic())
        elif event == "job_finished":
            rule, message, begun = self.running.pop(record.job_id)
            self.seconds[rule].append(time.monotonic() - begun)
            self.finished.append(f"{message} ({duration(time.monotonic() - begun)})")
        else:
            self.running.pop(record.jobid, None)

    def format(self, record: logging.LogRecord) -> str:
        """Write the line that follows the end of a job; everything else as before."""
        if str(getattr(record, "event", "")) != "progress":
            return self.formatter.format(record)
        done, self.finished = self.finished, []
        left = self.left()
        told = f"{time.strftime('%H:%M:%S')}  {record.done} of {record.total}"
        told += f", about {duration(left)} left" if left else ""
        return f"{self.clear}{told}:  {'; '.join(done)}"

    def left(self) -> float | None:
        """Estimate the seconds until all planned jobs are done; None while too little is done to tell."""
        now = time.monotonic()
        done = sum(map(sum, self.seconds.values()))
        here = sum(len(each) * _SECONDS.get(rule, _USUAL) for rule, each in self.seconds.items())
        slower = done / here if here else 1.0
        ahead = 0.0
        for rule, count in self.planned.items():
            seen = self.seconds.get(rule, [])
            each = sum(seen) / len(seen) if seen else self.earlier.get(rule, slower * _SECONDS.get(rule, _USUAL))
            begun = [now - start for name, _, start in self.running.values() if name == rule]
            ahead += max(count - len(seen) - len(begun), 0) * each + sum(max(each - age, 0.0) for age in begun)
        busy = done + sum(now - start for _, _, start in self.running.values())
        if busy < _ENOUGH * (busy + ahead) or now <= self.start:
            return None
        return ahead / max(busy / (now - self.start), sys.float_info.min)


def duration(seconds: float) -> str:
    """Write seconds as a person says them: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
