"""Send everything a job prints, C libraries and tracebacks included, to its log file."""

import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

Item = TypeVar("Item")
_opened = time.monotonic()  # when the job's log was opened


@contextmanager
def log_to(path: str | Path) -> Iterator[IO[str]]:
    """Redirect the file descriptors 1 and 2 to `path` for the block.

    File descriptors are redirected, not `sys.stdout`, because CUDA and C libraries write to them directly. An exception
    is printed into the log with its traceback and raised again; its one-line message also goes to the original stderr,
    so that the person at the terminal reads the cause without opening the log. Outside the block both descriptors are
    as before. The first line says where the job runs, the last one how long it took and how much memory it held.
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
        with os.fdopen(os.dup(originals[1]), "w") as terminal:
            yield terminal
    except BaseException as error:
        sys.stdout.flush()  # what was printed before the error stands above it
        traceback.print_exc()
        with suppress(OSError):
            os.write(originals[1], f"{type(error).__name__}: {error}\n".encode(errors="backslashreplace"))
        raise
    finally:
        print(_cost())
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(signal.SIGTERM, before)
        for original, descriptor in zip(originals, (1, 2), strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(log)


def progress(items: Iterable[Item], total: int, what: str, *, every: float = 30.0) -> Iterator[Item]:
    """Iterate, and print a line now and then: how many are done, at what rate, how long the rest takes.

    The first line says how long the job took to get there.

    Parameters
    ----------
    items : iterable
        Batches: what is yielded counts by its length.
    total : int
        How many there are in all.
    what : str
        What is counted, for example ``images``.
    every : float
        Seconds between two lines; the last line always comes.
    """
    start = last = time.monotonic()
    print(f"started up in {start - _opened:.1f} s: imports, weights, device", flush=True)
    done = 0
    for item in items:
        yield item
        done += len(item)
        now = time.monotonic()
        if now - last >= every or done >= total:
            rate = done / max(now - start, 1e-9)
            print(f"{done} of {total} {what}, {rate:.1f} a second, {(total - done) / rate:.0f} s left", flush=True)
            last = now


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
    return line
