"""Tell how far a job is and what it has cost, in its log and, where there is one, on the terminal."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import IO, TypeVar

from unitlens.jobs.characters import visible

Item = TypeVar("Item")
EVERY = 30.0  # seconds between two lines of a log
_TICK = 1.0  # seconds between two looks at a terminal
_PATIENCE = 10.0  # seconds in which `nvidia-smi` ends
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
        return f"at work for {now - job.opened:.0f} s"
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
    watcher = threading.Thread(target=_watch, args=(ended, terminal, name), daemon=True)
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
                terminal.write(f"\r\x1b[K{f'{tell()}; {name}'[: width - 1]}")
                terminal.flush()
                drawn = True
    if drawn:
        with suppress(OSError):
            terminal.write("\r\x1b[K")
            terminal.flush()


def cost() -> str:
    """Tell seconds and memory; of the GPU only where torch is in use anyway."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = f"took {time.monotonic() - job.opened:.1f} s, held at most {kib / 1024:.0f} MiB"
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
