"""SLURM beside a run: commands that stand in for its own, what they tell the console, and how a job ended."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from logging import Logger
from pathlib import Path

from unitlens.jobs import slurm_commands

_FOLDERS = Path(".snakemake/slurm")  # one of each run
_ANSWER = 14  # seconds in which SLURM answers a question
# How SLURM refuses what a site has to have; see `slurm_strerror` in its source for the words.
_OF_THE_SITE = re.compile(r"(invalid (?:account|partition|qos)\b.*|\S*group not permitted to use.*)", re.IGNORECASE)
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


def what_is_refused(workflow: object) -> list[str]:
    """Say which account, partition or QOS of a run's jobs SLURM does not take, by a job that it only judges.

    One job of each rule is asked for. Without an answer nothing is refused: the jobs themselves are asked again. What
    Snakemake keeps of its executor is no interface: where it is not as expected nothing is said.
    """
    problems = []
    with suppress(Exception):
        if workflow.executor_plugin.name != "slurm":
            return []
        executor = workflow.scheduler._executor
        rules = {job.rule.name: job for job in workflow.dag.needrun_jobs() if not job.is_local}
        for options in sorted({_where(job, executor.get_partition_arg(job)) for job in rules.values()}):
            command = ["sbatch", "--test-only", "--time=1", "--mem=1", "--ntasks=1", *options, "--wrap=true"]
            told = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER, stdin=subprocess.DEVNULL)
            if told.returncode and (named := _OF_THE_SITE.findall(told.stderr)):
                problems.append(f"SLURM refuses {' '.join(options)}: {named[0]}")
    return problems


def _where(job: object, partition: str) -> tuple[str, ...]:
    """Give the options of `sbatch` that say by whose leave and where a job runs."""
    asked = {"account": "slurm_account", "qos": "qos", "clusters": "clusters"}
    given = [f"--{option}={job.resources.get(name)}" for option, name in asked.items() if job.resources.get(name)]
    return (*given, *(f"--partition={name}" for name in shlex.split(partition)[1:]))


def last_submission(
    rule: str, wildcards: Sequence[str], folders: Sequence[str | Path] | None = None
) -> dict[str, str] | None:
    """Find how the last submission of a job ended: its ``number``, ``state``, ``cause`` and ``log``, SLURM's own.

    It is looked for in this run, or in the folders of several. Number and log are empty where SLURM refused it. None
    where the job did not go to SLURM.
    """
    name = f"rule_{rule}" + (f"_wildcards_{'_'.join(wildcards).replace('/', '_')}" if wildcards else "")
    places = [os.environ.get(slurm_commands.FOLDER, os.devnull)] if folders is None else folders
    found = {
        token: submission
        for folder in places
        for token, submission in slurm_commands.submissions(Path(folder)).items()
        if _read_note(submission[1]).get("job") == name
    }
    if not found:
        return None
    token = max(found)
    number, path = found[token]
    folder, facts = path.parent, _read_note(path)
    if number == slurm_commands.REFUSED:
        return {"number": "", "state": "REFUSED", "cause": facts["cause"], "log": ""}
    state, status = "its end is not known", slurm_commands.exit_status(folder, token)
    with suppress(OSError, LookupError, ValueError):
        state = json.loads((folder / "states.json").read_text())["ended"][token]
    if folders is not None and state not in slurm_commands.ENDS and not status:
        state = _state_now(number) or state
    cause = slurm_commands.why_ended(state, facts["log"], status)
    return {"number": number, "state": state, "cause": cause, "log": facts["log"]}


def _read_note(path: Path) -> dict[str, str]:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def run_folders() -> list[Path]:
    """List the folders of all runs in the current one that are kept."""
    return sorted(_FOLDERS.glob("*-*"))


def _state_now(number: str) -> str:
    """Ask the controller for the state of a job, then accounting; an empty string where neither tells it."""
    for command in (
        ["squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T"],
        ["sacct", "-X", "--parsable2", "--noheader", f"--jobs={number}", "--format=State"],
    ):
        with suppress(OSError, subprocess.TimeoutExpired):
            told = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER)
            if told.returncode == 0 and told.stdout.split():
                return told.stdout.split()[0]
    return ""
