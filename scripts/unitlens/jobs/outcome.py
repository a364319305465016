"""What became of the jobs of a run, by Snakemake's summary and the jobs' logs, and what is said of it at the end."""

import argparse
import atexit
import functools
import re
import shlex
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from logging import ERROR, INFO, WARNING, Handler, Logger
from pathlib import Path, PurePosixPath

from unitlens.jobs import slurm, slurm_commands
from unitlens.jobs.characters import visible
from unitlens.jobs.csv_files import read_records
from unitlens.jobs.logs import ENDED

_CLOSING = "took "  # how the last line of a job's log begins
_FAILURES_SHOWN = 20
_FIRST_PAGE = "results/overview.html"


def read_jobs(summary: str | Path, rules: object, wildcards: Mapping[str, str]) -> list[dict]:
    """List the jobs of a run: ``rule, log, made`` (its outputs that are there), ``state`` and ``reason``.

    The state is "done", "failed", "cut off", "out of date" or "not begun". `summary` is what ``snakemake --summary``
    printed, `rules` has an attribute for each rule, with its ``output`` and its ``log``, and `wildcards` says what each
    wildcard may be.
    """
    (_, names), *records = read_records(summary, tabs=True)
    jobs, runs = {}, slurm.run_folders()
    for row in (dict(zip(names, cells, strict=False)) for _, cells in records):
        log, values = _log_of(row["output_file"], getattr(rules, row["rule"]), wildcards)
        job = jobs.setdefault(log, {"rule": row["rule"], "log": log, "values": values, "made": [], "pending": False})
        job["made"] += [row["output_file"]] if row["status"] != "missing" else []
        job["pending"] |= row["plan"] != "no update"
    found = []
    for job in jobs.values():
        submission = functools.partial(slurm.last_submission, job["rule"], job.pop("values"), runs)
        found.append(job | _what_became_of(job["log"], job.pop("pending"), submission))
    return found


def missing_jobs(jobs: Sequence[dict]) -> dict:
    """Count the jobs whose results are there, list those that failed or were cut off, and count which others wait."""
    missing = [job for job in jobs if job["state"] != "done"]
    broken = [job for job in missing if job["state"] in ("failed", "cut off")]
    waiting = Counter((job["rule"], job["state"]) for job in missing if job not in broken)
    return {
        "done": len(jobs) - len(missing),
        "jobs": [
            {"job": " ".join(PurePosixPath(job["log"]).relative_to("results/logs").with_suffix("").parts)}
            | {key: job[key] for key in ("state", "reason", "log")}
            for job in sorted(broken, key=lambda job: (job["state"] != "failed", job["log"]))
        ],
        "waiting": [[rule, state, count] for (rule, state), count in sorted(waiting.items())],
    }


def cause(log: str, submission: Mapping[str, str] | None = None) -> str:
    """Say why a job failed: its error or, where it had no time to name one, what SLURM says of its last submission."""
    found = _read_log(log)
    if submission and not (found and submission["number"] in re.findall(r"SLURM job (\d+)", found[0])):
        return submission["cause"] + (", before its script began" if submission["number"] else "")
    if submission and (not _was_closed(found) or ENDED in _last_words(found)):
        return f"{submission['cause']}. The last line of its log: {_last_words(found)}"
    if not found or _was_closed(found):
        return _last_words(found)
    return f"it was killed (memory or time?). The last line of its log: {_last_words(found)}"


def _log_of(output: str, rule: object, wildcards: Mapping[str, str]) -> tuple[str, list[str]]:
    """Give the log of the job of a rule that writes an output, and the values of its wildcards."""
    for pattern in rule.output:
        parts = re.split(r"\{(\w+)\}", pattern)
        parts[1::2] = [f"(?P<{name}>{wildcards.get(name, '.+')})" for name in parts[1::2]]
        parts[::2] = map(re.escape, parts[::2])
        if found := re.fullmatch("".join(parts), output):
            values = found.groupdict()  # a wildcard's pattern may have groups of its own
            return str(rule.log[0]).format(**values), [*values.values()]
    raise ValueError(f"{rule} does not write {output}")


def _what_became_of(log: str, pending: bool, submission: Callable[[], dict[str, str] | None]) -> dict[str, str]:
    """Tell by a job's log how it ended, and why, or by what SLURM says of it.

    What is half written may look finished, so the log decides there.
    """
    found = _read_log(log)
    if not Path(log).is_file():
        told = submission() if pending else None
        if told and told["state"] in (*slurm_commands.ENDS, "REFUSED") and told["state"] != "COMPLETED":
            return {"state": "failed", "reason": cause(log, told)}
        return {"state": "not begun" if pending else "done", "reason": ""}
    if not _was_closed(found):
        told = submission()
        if told and told["state"] in slurm_commands.ENDS:
            return {"state": "cut off", "reason": cause(log, told)}
        what = f"SLURM job {told['number']} is {told['state']}" if told else "killed, or still running"
        return {"state": "cut off", "reason": f"{what}; last line of its log: {_last_words(found)}"}
    if not pending:
        return {"state": "done", "reason": ""}
    if any(line.startswith("Traceback (most recent call last)") for line in found):
        told = submission() if ENDED in _last_words(found) else None
        return {"state": "failed", "reason": cause(log, told)}
    return {"state": "out of date", "reason": ""}


def _read_log(log: str) -> list[str]:
    return Path(log).read_text(encoding="utf-8", errors="replace").splitlines() if Path(log).is_file() else []


def _was_closed(lines: list[str]) -> bool:
    return bool(lines) and lines[-1].startswith(_CLOSING)


def _last_words(lines: list[str]) -> str:
    """Give the last line of a log but for the one that tells the cost: the error, where there is one."""
    said = [line for line in lines if line.strip() and not line.startswith(_CLOSING)]
    return visible(said[-1]) if said else "it has no log"


# ---- said at the end of a run


def say_at_the_end(workflow: object, logger: Logger, failed: bool) -> None:
    """Say what failed, what was made and how to go on, when Snakemake has nothing more to say: after its report.

    What Snakemake keeps of its jobs is no interface: where it is not as expected a line says so, and the run ends as it
    would have.
    """
    of_pages = "partial" in sys.argv  # `make report`, which itself says what comes next
    tellers = [tell_what_failed, tell_what_was_made, tell_how_to_go_on] if failed else [tell_what_was_made]
    said = []
    for tell in tellers[:1] if of_pages else tellers:
        level = INFO if tell is tell_what_was_made else ERROR
        try:
            said += [(level, line) for line in tell(workflow)]
        except Exception as error:
            said.append((WARNING, f"Left out of this summary: {tell.__name__} ({type(error).__name__}: {error})."))
    pages = [] if failed or of_pages else [_FIRST_PAGE, _known_options(workflow)[0].report]
    atexit.register(_say, logger, list(logger.handlers), said, pages)


def _say(
    logger: Logger, handlers: Sequence[Handler], lines: Sequence[tuple[int, str]], pages: Sequence[str | None]
) -> None:
    """Write lines by handlers that Snakemake has taken away by then, and name the page to open first and the report."""
    logger.handlers = list(handlers)
    for level, line in lines:
        logger.log(level, line)
    sentences = ("Open {} first.", "{} holds all results in one file.")
    there = [text.format(page) for text, page in zip(sentences, pages, strict=False) if page and Path(page).is_file()]
    if there:
        logger.info(" ".join(there))


def tell_what_was_made(workflow: object) -> list[str]:
    """Name what the run has made: pages, tables, and how many files or folders in which folder."""
    done = [
        job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.output and workflow.dag.finished(job)
    ]
    made = sorted({PurePosixPath(path) for job in done for path in job.output})
    folders = Counter(PurePosixPath(*path.parts[:2]) for path in made if len(path.parts) > 2)
    found = {
        "pages": [path for path in made if path.suffix == ".html"],
        "tables": [path for path in made if len(path.parts) == 2 and path.suffix == ".csv"],
        "folders": [f"{folder} ({count})" for folder, count in folders.items()],
        "logs": ["results/logs"],
    }
    lines = [f"Jobs done: {len(done)}. docs/outputs.md says what is in each file."]
    for name, places in found.items():
        text = f"{name}:".ljust(9) + ", ".join(map(str, places))
        lines += [textwrap.fill(text, 120, initial_indent="  ", subsequent_indent=" " * 11)] if places else []
    return lines


def tell_what_failed(workflow: object) -> list[str]:
    """Name the jobs that failed, each with its cause and its log, and the command that makes them again."""
    failed = sorted(workflow.scheduler.failed, key=lambda job: (job.rule.name, list(job.wildcards)))
    waiting = [job for job in workflow.dag.needrun_jobs() if job.output and job not in workflow.scheduler.failed]
    lines = [f"Jobs failed: {len(failed)}; skipped because of it: {len(waiting)}."]
    for job in failed[:_FAILURES_SHOWN]:
        submission = slurm.last_submission(job.rule.name, list(job.wildcards))
        logs = [log for log in (job.log[0], (submission or {}).get("log", "")) if Path(log).is_file()] or job.log
        what = f"{job.rule.name} {' '.join(job.wildcards)}: {cause(job.log[0], submission)}"
        lines.append(f"  {what}\n    log: {', '.join(map(visible, logs))}")
    if len(failed) > _FAILURES_SHOWN:
        lines.append(f"  and {len(failed) - _FAILURES_SHOWN} more")
    if failed:
        again = shlex.join(["snakemake", *_options_of_run(workflow), "--", *(job.output[0] for job in failed)])
        lines.append(f"Once the cause is fixed, run these again:\n  {again}")
    return lines


def tell_how_to_go_on(workflow: object) -> list[str]:
    """Name the commands that go on."""
    lines = ["Run the same command again to make everything that is missing."]
    if Path("Makefile").is_file():
        lines.append(f"A report of what exists, which says what is missing:\n  {_command_of_report(workflow)}")
    return lines


def _options_of_run(workflow: object) -> list[str]:
    """Give the arguments of this run but for its targets."""
    targets = getattr(getattr(workflow, "dag_settings", None), "targets", ())
    return [word for word in sys.argv[1:] if word not in targets and word != "--"]


def _known_options(workflow: object) -> tuple[argparse.Namespace, list[str]]:
    """Give the profile and the report of this run, and its other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--profile", default="")
    parser.add_argument("--report")
    parser.add_argument("--report-after-run", action="store_true")
    return parser.parse_known_args(_options_of_run(workflow))


def _command_of_report(workflow: object) -> str:
    """Write `make report` with this run's profile and options."""
    known, options = _known_options(workflow)
    words = [f"ARGS={shlex.join(options)}".replace("$", "$$")] if options else []
    return shlex.join(["make", "report", f"PROFILE={known.profile}", *words])
