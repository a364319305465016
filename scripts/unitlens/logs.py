"""Send everything a job prints, C libraries and tracebacks included, to its log file."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

Item = TypeVar("Item")
EVERY = 30.0  # seconds between two lines of a log
_TICK = 1.0  # seconds between two looks at a terminal
_opened = time.monotonic()  # when the job's log was opened
_stages: list["Stage"] = []  # those that run now, each within the one before
_nvidia_smi: tuple[subprocess.Popen[str], float] | None = None  # what watches the GPU, and since when
_log: set[str] = set()  # what is known of the open log: that it is "open", that the job has "started up"


@contextmanager
def log_to(path: str | Path) -> Iterator[IO[str]]:
    """Redirect the file descriptors 1 and 2 to `path` for the block.

    File descriptors are redirected, not `sys.stdout`, because CUDA and C libraries write to them directly. An exception
    is printed into the log with its traceback and raised again; its one-line message also goes to the original stderr,
    so that the person at the terminal reads the cause without opening the log. Outside the block both descriptors are
    as before. The first line says where the job runs, the last one how long it took, how much memory it held and which
    share of the time its GPU was busy (`nvidia-smi`, once a second since the first `stage`); every `EVERY` seconds
    between them a line says how far the job is. A terminal shows the same in one line that moves.
    SIGTERM, by which a cluster ends a job, becomes SystemExit, so that half-written files are removed.

    Parameters
    ----------
    path : str or Path
        The log file, overwritten; its folder is made when missing.

    Yields
    ------
    file
        The original stderr, for progress that a person at a terminal watches.
    """
    global _opened
    _opened = time.monotonic()
    _log.add("open")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.signal(signal.SIGTERM, _end)
    originals = os.dup(1), os.dup(2)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        print(_place(), flush=True)
        name = str(path).removeprefix("results/logs/").removesuffix(".log")
        with os.fdopen(os.dup(originals[1]), "w") as terminal, _watched(terminal, name):
            yield terminal
    except BaseException as error:
        sys.stdout.flush()  # what was printed before the error stands above it
        traceback.print_exc()
        with suppress(OSError):
            os.write(originals[1], f"{type(error).__name__}: {error}\n".encode(errors="backslashreplace"))
        raise
    finally:
        _log.clear()
        print(_cost())
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(signal.SIGTERM, before)
        for original, descriptor in zip(originals, (1, 2), strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(log)


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
    """Count a part of the work for the lines that tell how far a job is; without an open log nothing is printed.

    The outermost stage leaves a line at its end. The first of a job says how long the job took to get there.

    Parameters
    ----------
    total : int
        How many there are in all.
    what : str
        What is counted, for example ``images``.

    Yields
    ------
    Stage
        Raise its `done`.
    """
    this = Stage(what, total, time.monotonic())
    if _log == {"open"}:
        print(f"started up in {this.start - _opened:.1f} s: imports, weights, device", flush=True)
        _log.add("started up")
        _watch_gpu()
    _stages.append(this)
    try:
        yield this
        if _log and _stages == [this]:
            print(tell(), flush=True)
    finally:
        _stages.remove(this)


def progress(items: Iterable[Item], total: int, what: str, *, size: Callable[[Item], int] = len) -> Iterator[Item]:
    """Iterate over batches as a stage.

    Parameters
    ----------
    items : iterable
    total, what
        As in `stage`.
    size : callable
        From an item to how much it counts.
    """
    with stage(total, what) as this:
        for item in items:
            this.ahead = size(item)
            yield item
            this.done += this.ahead
            this.ahead = 0


def each(items: Collection[Item], what: str) -> Iterator[Item]:
    """Iterate over things as a stage: each counts as one.

    Parameters
    ----------
    items : collection
    what : str
        As in `stage`.
    """
    for (item,) in progress(zip(items), len(items), what):
        yield item


def tell() -> str:
    """Say how far the job is: how many of what, at what rate, how long the rest takes; without stages, its age."""
    now, running = time.monotonic(), list(_stages)
    if not running:
        return f"at work for {now - _opened:.0f} s"
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
def _watched(terminal: IO[str], name: str) -> Iterator[None]:
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
            print(tell(), flush=True)
        if terminal.isatty() and _stages:
            width = os.get_terminal_size(terminal.fileno()).columns or 80
            terminal.write(f"\r\x1b[K{f'{tell()}; {name}'[: width - 1]}")
            terminal.flush()
            drawn = True
    if drawn:
        terminal.write("\r\x1b[K")
        terminal.flush()


def _end(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: the next must not break off the cleaning up
    raise SystemExit("ended by SIGTERM: cancelled, out of time, or its node is going down")


def _place() -> str:
    variables = {"SLURM_JOB_ID": "SLURM job", "CUDA_VISIBLE_DEVICES": "GPU"}
    found = [f"{what} {os.environ[name]}" for name, what in variables.items() if name in os.environ]
    return ", ".join([f"host {socket.gethostname()}", *found])


def _cost() -> str:
    """Tell seconds and memory; of the GPU only where torch is in use anyway."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = f"took {time.monotonic() - _opened:.1f} s, held at most {kib / 1024:.0f} MiB"
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        line += f" and {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB of {torch.cuda.get_device_name()}"
        line += f", which was busy {_gpu_busy()} of the time"
    return line


def _watch_gpu() -> None:
    """Start `nvidia-smi` beside the job, if torch uses a GPU."""
    global _nvidia_smi
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        command = ["nvidia-smi", f"--id=GPU-{torch.cuda.get_device_properties().uuid}", "--loop=1"]
        command += ["--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with suppress(OSError):  # it is not installed: the share stays unknown
            _nvidia_smi = subprocess.Popen(command, text=True, **pipes), time.monotonic()


def _gpu_busy() -> str:
    """Stop watching the GPU and tell which share of the job it was busy; before it was watched it had nothing to do."""
    global _nvidia_smi
    if _nvidia_smi is None:
        return "an unknown share"
    process, since = _nvidia_smi
    _nvidia_smi = None
    end = time.monotonic()
    process.terminate()
    percent = [int(line) for line in process.communicate()[0].split() if line.isdigit()]
    if not percent:
        return "an unknown share"
    return f"{sum(percent) / len(percent) * (end - since) / (end - _opened):.0f} %"
