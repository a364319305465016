"""SLURM beside a run: commands that stand in for its own, what they tell the console, and how a job ended."""

import json
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from logging import Logger
from pathlib import Path

from unitlens.jobs import slurm_commands

_FOLDERS = Path(".snakemake/slurm")  # one of each run
_KEPT = 10 * 86400  # seconds for which the folder of a run is kept, as long as the plugin keeps SLURM's logs


def stand_in(workflow: object, logger: Logger) -> None:
    """Put commands that stand in for SLURM's first on the PATH of a run whose jobs go to SLURM; tell what they say.

    They know by the folder that the run has been stopped. What Snakemake keeps of its executor is no interface: where
    it is not as expected a line says so, and SLURM's own commands are used.
    """
    try:
        if workflow.executor_plugin.name != "slurm":
            return
        folder = _FOLDERS.absolute() / f"{time.strftime('%Y-%m-%dT%H%M%S')}-{os.getpid()}"
        _remove_old()
        _write_commands(folder / "commands")
    except Exception as error:
        logger.warning(f"Refused jobs are not submitted again ({type(error).__name__}: {error}).")
        return
    (folder / "head").write_text(str(os.getpid()))
    os.environ["PATH"] = f"{folder / 'commands'}{os.pathsep}{os.environ['PATH']}"
    os.environ[slurm_commands.FOLDER] = str(folder)
    for number in (signal.SIGINT, signal.SIGTERM):
        _note_before(number, folder / "stopped")
    threading.Thread(target=_tell_news, args=(folder / "news", logger), daemon=True).start()


def _remove_old() -> None:
    for folder in _FOLDERS.glob("*-*"):
        if time.time() - folder.stat().st_mtime > _KEPT:
            shutil.rmtree(folder, ignore_errors=True)


def _write_commands(folder: Path) -> None:
    folder.mkdir(parents=True)
    call = shlex.join([sys.executable, "-I", "-S", slurm_commands.__file__])
    for name in slurm_commands.COMMANDS:
        (folder / name).write_text(f'#!/bin/sh\nexec {call} {name} "$@"\n')
        (folder / name).chmod(0o755)


def _note_before(number: int, mark: Path) -> None:
    """Leave a mark when a signal comes, then do what is done without it."""
    usual = signal.getsignal(number)

    def note(*received: object) -> None:
        with suppress(OSError):
            mark.touch()
        usual(*received)

    if callable(usual):
        signal.signal(number, note)


def _tell_news(path: Path, logger: Logger) -> None:
    told = 0
    while True:
        with suppress(OSError):
            lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
            for line in lines[told:]:
                logger.warning(f"{time.strftime('%H:%M:%S')}  {line}")
            told = len(lines)
        time.sleep(1)


def last_submission(rule: str, wildcards: Sequence[str]) -> dict[str, str] | None:
    """Find how the last submission of a job of this run ended: its ``number``, ``cause`` and ``log``, SLURM's own.

    Number and log are empty where SLURM refused it. None where the job did not go to SLURM.
    """
    name = f"rule_{rule}" + (f"_wildcards_{'_'.join(wildcards).replace('/', '_')}" if wildcards else "")
    found = []
    for path in Path(os.environ.get(slurm_commands.FOLDER, os.devnull)).glob("*.json"):
        with suppress(OSError, ValueError):
            facts = json.loads(path.read_text())
            if facts.get("job") == name:
                found.append((path.stat().st_mtime_ns, path, facts))
    if not found:
        return None
    _, path, facts = max(found, key=lambda each: each[0])
    if "refused" in facts:
        return {"number": "", "cause": facts["refused"], "log": ""}
    state = "its end is not known"
    with suppress(OSError, LookupError, ValueError):
        state = json.loads((path.parent / "states.json").read_text())["ended"][path.stem]
    status = slurm_commands.exit_status(path.parent, path.stem)
    return {"number": path.stem, "cause": slurm_commands.why_ended(state, facts["log"], status), "log": facts["log"]}
