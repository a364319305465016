"""What became of the jobs of a run, by the summary that Snakemake writes and by the jobs' logs."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from unitlens.jobs.characters import visible
from unitlens.jobs.csv_files import lines

_CLOSING = "took "  # how the last line of a job's log begins


def read_jobs(summary: str | Path, rules: object, wildcards: Mapping[str, str]) -> list[dict]:
    """List the jobs of a run: rule, log, the outputs that were made, what became of it and why.

    Parameters
    ----------
    summary : str or Path
        What ``snakemake --summary`` printed.
    rules : object
        Has an attribute for each rule, with its ``output`` and its ``log``.
    wildcards : mapping
        From names of wildcards to what they may be.

    Returns
    -------
    list of dict
        ``rule, log, made, state, reason``; the state is "done", "failed", "cut off", "out of date" or "not begun".
    """
    (_, names), *records = lines(summary, tabs=True)
    jobs = {}
    for row in (dict(zip(names, cells, strict=False)) for _, cells in records):
        log = _log_of(row["output_file"], getattr(rules, row["rule"]), wildcards)
        job = jobs.setdefault(log, {"rule": row["rule"], "log": log, "made": [], "pending": False})
        job["made"] += [row["output_file"]] if row["status"] != "missing" else []
        job["pending"] |= row["plan"] != "no update"
    return [job | _what_became_of(job["log"], job.pop("pending")) for job in jobs.values()]


def missing_jobs(jobs: Sequence[dict]) -> dict:
    """Count the jobs whose results are there, list those that failed or were cut off, and count which others wait."""
    missing = [job for job in jobs if job["state"] != "done"]
    broken = [job for job in missing if job["state"] in ("failed", "cut off")]
    waiting = Counter((job["rule"], job["state"]) for job in missing if job not in broken)
    return {
        "done": len(jobs) - len(missing),
        "jobs": [
            {"job": _name(job["log"])} | {key: job[key] for key in ("state", "reason", "log")}
            for job in sorted(broken, key=lambda job: (job["state"] != "failed", job["log"]))
        ],
        "waiting": [[rule, state, count] for (rule, state), count in sorted(waiting.items())],
    }


def cause(log: str) -> str:
    """Say why a job failed: its error, or that it had no time to name one."""
    found = _read_log(log)
    if not found or found[-1].startswith(_CLOSING):
        return _last_words(log)
    return f"it was killed, for want of memory or time? The last line of its log: {_last_words(log)}"


def _log_of(output: str, rule: object, wildcards: Mapping[str, str]) -> str:
    """Give the log of the job of a rule that writes an output."""
    for pattern in rule.output:
        parts = re.split(r"\{(\w+)\}", pattern)
        parts[1::2] = [f"(?P<{name}>{wildcards.get(name, '.+')})" for name in parts[1::2]]
        parts[::2] = map(re.escape, parts[::2])
        if found := re.fullmatch("".join(parts), output):
            return str(rule.log[0]).format(**found.groupdict())
    raise ValueError(f"{rule} does not write {output}")


def _what_became_of(log: str, pending: bool) -> dict[str, str]:
    """Tell by a job's log how it ended, and why. What is half written may look finished, so the log decides there."""
    if not Path(log).is_file():
        return {"state": "not begun" if pending else "done", "reason": ""}
    found = _read_log(log)
    if not found or not found[-1].startswith(_CLOSING):
        reason = f"killed, or still running; last line of its log: {_last_words(log)}"
        return {"state": "cut off", "reason": reason}
    if not pending:
        return {"state": "done", "reason": ""}
    if any(line.startswith("Traceback (most recent call last)") for line in found):
        return {"state": "failed", "reason": _last_words(log)}
    return {"state": "out of date", "reason": ""}


def _name(log: str) -> str:
    return " ".join(PurePosixPath(log).relative_to("results/logs").with_suffix("").parts)


def _read_log(log: str) -> list[str]:
    return Path(log).read_text(encoding="utf-8", errors="replace").splitlines() if Path(log).is_file() else []


def _last_words(log: str) -> str:
    """Give the last line of a log but for the one that tells the cost: the error, where there is one."""
    found = [line for line in _read_log(log) if line.strip() and not line.startswith(_CLOSING)]
    return visible(found[-1]) if found else "it has no log"
