"""What is said at the end of a run: what failed, what was made, and how to go on."""

import argparse
import shlex
import sys
import textwrap
from collections import Counter
from logging import Logger
from pathlib import Path, PurePosixPath

from unitlens.jobs.outcome import cause

_FAILURES_SHOWN = 20


def say_at_the_end(workflow: object, logger: Logger, failed: bool) -> None:
    """Say what failed, what was made and how to go on.

    What Snakemake keeps of its jobs is no interface: where it is not as expected a line says so, and the run ends as it
    would have.
    """
    of_pages = "partial" in sys.argv  # `make report`, which itself says what comes next
    told = [say_what_failed, say_what_was_made, say_how_to_go_on] if failed else [say_what_was_made]
    for say in told[:1] if of_pages else told:
        try:
            say(workflow, logger)
        except Exception as error:
            logger.warning(f"Left out of this summary: {say.__name__} ({type(error).__name__}: {error}).")


def say_what_was_made(workflow: object, logger: Logger) -> None:
    """Name what the run has made: pages, tables, and how many files or folders in which folder."""
    done = [
        job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.output and workflow.dag.finished(job)
    ]
    made = sorted({PurePosixPath(path) for job in done for path in job.output})
    folders = Counter(PurePosixPath(*path.parts[:2]) for path in made if len(path.parts) > 2)
    lines = {
        "open": [path for path in made if path.suffix == ".html"],
        "tables": [path for path in made if len(path.parts) == 2 and path.suffix == ".csv"],
        "folders": [f"{folder} ({count})" for folder, count in folders.items()],
        "logs": ["results/logs"],
    }
    logger.info(f"Jobs done: {len(done)}. docs/outputs.md says what is in each file.")
    for name, places in lines.items():
        if places:
            text = f"{name}:".ljust(9) + ", ".join(map(str, places))
            logger.info(textwrap.fill(text, 120, initial_indent="  ", subsequent_indent=" " * 11))


def say_what_failed(workflow: object, logger: Logger) -> None:
    """Name the jobs that failed, each with its cause and its log, and the command that makes them again."""
    failed = sorted(workflow.scheduler.failed, key=lambda job: (job.rule.name, list(job.wildcards)))
    waiting = [job for job in workflow.dag.needrun_jobs() if job.output and job not in workflow.scheduler.failed]
    logger.error(f"Jobs failed: {len(failed)}; not done for want of them: {len(waiting)}.")
    for job in failed[:_FAILURES_SHOWN]:
        logger.error(f"  {job.rule.name} {' '.join(job.wildcards)}: {cause(job.log[0])}\n    log: {job.log[0]}")
    if len(failed) > _FAILURES_SHOWN:
        logger.error(f"  and {len(failed) - _FAILURES_SHOWN} more")
    if failed:
        again = shlex.join(["snakemake", *_options_of_run(workflow), "--", *(job.output[0] for job in failed)])
        logger.error(f"Once their cause is mended, make these again:\n  {again}")


def say_how_to_go_on(workflow: object, logger: Logger) -> None:
    """Name the commands that go on."""
    logger.error("The command of this run, given again, makes all that is missing.")
    if Path("Makefile").is_file():
        logger.error(f"A report of what exists, that says what is missing:\n  {_command_of_report(workflow)}")


def _options_of_run(workflow: object) -> list[str]:
    """Give the arguments of this run but for its targets."""
    targets = getattr(getattr(workflow, "dag_settings", None), "targets", ())
    return [word for word in sys.argv[1:] if word not in targets and word != "--"]


def _command_of_report(workflow: object) -> str:
    """Write `make report` with this run's profile and options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--profile", default="")
    parser.add_argument("--report")
    parser.add_argument("--report-after-run", action="store_true")
    known, options = parser.parse_known_args(_options_of_run(workflow))
    words = [f"ARGS={shlex.join(options)}".replace("$", "$$")] if options else []
    return shlex.join(["make", "report", f"PROFILE={known.profile}", *words])
