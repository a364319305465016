"""Send everything a job prints, C libraries and tracebacks included, to its log file."""

import errno
import fcntl
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from unitlens.jobs import progress

ENDED = "ended by SIGTERM"  # of a job that the cluster ended, how its last words begin
_STREAMS = {1: "stdout", 2: "stderr"}


@contextmanager
def log_to(path: str | Path) -> Iterator[IO[str]]:
    """Redirect the file descriptors 1 and 2 to `path`, a log that is overwritten, for the block.

    File descriptors are redirected, not `sys.stdout`, because CUDA and C libraries write to them directly. An exception
    is printed into the log with its traceback and raised again; its one-line message also goes to the original stderr,
    which is given to the block. Outside the block both descriptors are as before, whatever happened, and the error is
    the block's own: a line of this function that cannot be written, for the disk is full or the terminal closed, is
    left out. A log that cannot be opened is an OSError before anything is redirected.

    The first line says where the job runs, the last one how long it took, how much memory it held and which share of
    the time its GPU was busy (`nvidia-smi`, once a second since the first `stage`); every `EVERY` seconds between them
    a line says how far the job is. A terminal shows the same in one line that moves. SIGTERM, by which a cluster ends a
    job, becomes SystemExit, so that half-written files are removed.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as undo:  # from the last to the first, whatever fails; none of them raises
        log = _above_standard(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644))
        undo.callback(os.close, log)
        _flush()
        originals = [_copy(descriptor) for descriptor in _STREAMS]
        for original, (descriptor, stream) in zip(originals, _STREAMS.items(), strict=True):
            undo.callback(_put_back, original, descriptor)
            os.dup2(log, descriptor)
            if getattr(sys, stream) is None:  # it was closed when Python started
                undo.callback(setattr, sys, stream, None)
                setattr(sys, stream, os.fdopen(descriptor, "w", 1, errors="backslashreplace", closefd=False))
        undo.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _end))
        undo.callback(vars(progress.job).update, vars(progress.job).copy())  # of a log around this one
        vars(progress.job).update(opened=time.monotonic(), logs=True, works=False)
        undo.callback(_close, log)
        progress.write(log, f"{_place()}\n")
        terminal = os.fdopen(_copy(originals[1] or log), "w", errors="backslashreplace")
        undo.callback(_close_quietly, terminal)
        name = str(path).removeprefix("results/logs/").removesuffix(".log")
        try:
            with progress.watched(terminal, name):
                yield terminal
        except BaseException as error:
            _flush()  # what was printed before the error stands above it
            progress.write(log, "".join(traceback.format_exception(error)))
            if originals[1]:
                progress.write(originals[1], f"{type(error).__name__}: {_message(error)}\n")
            raise


def _above_standard(descriptor: int) -> int:
    """Move a descriptor off 0, 1 and 2, which it gets where these are closed."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _copy(descriptor: int) -> int | None:
    """Duplicate a descriptor; None if it is closed."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None


def _put_back(original: int | None, descriptor: int) -> None:
    if original is None:
        os.close(descriptor)
    else:
        os.dup2(original, descriptor)
        os.close(original)


def _close(log: int) -> None:
    """Write the last line, which must not hide how the job ended."""
    try:
        cost = progress.cost()
    except Exception as error:
        seconds = time.monotonic() - progress.job.opened
        cost = f"took {seconds:.1f} s; its memory is not known ({type(error).__name__}: {error})"
    _flush()
    progress.write(log, f"{cost}\n")


def _close_quietly(stream: IO[str]) -> None:
    with suppress(OSError, ValueError):
        stream.close()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # full, closed, or none
            stream.flush()


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "its message cannot be shown"


def _end(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: the next must not break off the cleaning up
    raise SystemExit(f"{ENDED}: canceled, out of time, or its node is going down")


def _place() -> str:
    variables = {"SLURM_JOB_ID": "SLURM job", "CUDA_VISIBLE_DEVICES": "GPU"}
    found = [f"{what} {os.environ[name]}" for name, what in variables.items() if name in os.environ]
    return ", ".join([f"host {socket.gethostname()}", *found])
