"""How far a run is: its records as Snakemake logs them, and the lines that come of them."""

import io
import logging
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.logging import ColorizingTextHandler, DefaultFilter, DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent
from unitlens.jobs import progress

RULES = sorted((Path(__file__).parents[3] / "rules").glob("*.smk"))


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    monkeypatch.setattr(progress.time, "strftime", lambda form: "12:00:00")
    return clock


def planned(**counts):
    jobs = [SimpleNamespace(rule=SimpleNamespace(name=rule)) for rule, count in counts.items() for _ in range(count)]
    return SimpleNamespace(dag=SimpleNamespace(needrun_jobs=lambda: jobs))


class Run:
    """A logger with the handlers that Snakemake gives it: its terminal and its log file."""

    def __init__(self, folder, workflow):
        self.terminal, self.file = io.StringIO(), folder / "snakemake.log"
        self.logger = logging.Logger("snakemake", logging.INFO)
        for handler in (ColorizingTextHandler(stream=self.terminal), logging.FileHandler(self.file)):
            handler.addFilter(DefaultFilter({3, 4}, False, False, False, False))
            handler.setFormatter(DefaultFormatter({3, 4}))
            self.logger.addHandler(handler)
        progress.show_one_line_a_job(workflow, self.logger, folder / "benchmarks")

    def log(self, event, message=None, **extra):
        self.logger.info(message, extra={"event": event, **extra})

    def begin(self, number, rule, message="Work"):
        self.logger.info("Execute 1 jobs...")
        self.log(LogEvent.JOB_INFO, jobid=number, rule_name=rule, rule_msg=message, reason="because", indent=False)

    def finish(self, number, done, total):
        self.log(LogEvent.JOB_FINISHED, f"Finished jobid: {number} (Rule: x)", job_id=number)
        self.log(LogEvent.PROGRESS, done=done, total=total)

    def printed(self):
        return self.terminal.getvalue().splitlines()


def test_one_line_for_each_job_and_everything_in_the_log_file(tmp_path, clock):
    run = Run(tmp_path, planned(explain=3, all=1))
    run.begin(7, "explain", "Explain net, shard 00000")
    clock.now = 100.0
    run.finish(7, 1, 4)
    run.logger.info("Select jobs to execute...")
    run.logger.warning("A warning.")
    run.begin(8, "explain", "Explain net, shard 00001")
    clock.now = 200.0
    run.finish(8, 2, 4)
    assert run.printed() == [
        "12:00:00  1 of 4, about 5 min left:  Explain net, shard 00000 (2 min)",  # two of 100 s, and one as long
        "A warning.",
        "12:00:00  2 of 4, about 3 min left:  Explain net, shard 00001 (2 min)",
    ]
    log = run.file.read_text()
    assert "Job 7: Explain net, shard 00000" in log and "Finished jobid: 8" in log and "Select jobs to execute" in log


def test_jobs_side_by_side_share_the_time_that_is_left(tmp_path, clock):
    run = Run(tmp_path, planned(explain=8))
    for number in range(4):
        run.begin(number, "explain")
    clock.now = 60.0
    for number in range(4):
        run.finish(number, number + 1, 8)
    assert run.printed()[-1] == "12:00:00  4 of 8, about 60 s left:  Work (60 s)"


@pytest.mark.parametrize(
    ("plan", "now", "told"),
    [
        # 60 s of the job that runs, at 180 s of work in 140 s
        ({"explain": 2, "draw": 1}, 140.0, "about 47 s left:  Work (40 s)"),
        # one more explanation than planned takes nothing from the others: 50 s of each rule, at 200 s of work in 150 s
        ({"explain": 1, "draw": 2}, 150.0, "about 75 s left:  Work (50 s)"),
    ],
)
def test_a_running_job_counts_for_what_it_has_left(tmp_path, clock, plan, now, told):
    run = Run(tmp_path, planned(**plan))
    run.begin(1, "explain")
    clock.now = 100.0
    run.finish(1, 1, 3)
    run.begin(2, "explain")
    run.begin(3, "draw")
    clock.now = now
    run.finish(3, 2, 3)
    assert run.printed()[-1] == f"12:00:00  2 of 3, {told}"


def test_earlier_runs_tell_what_a_rule_takes(tmp_path, clock):
    for shard, seconds in (("00000", 100), ("00001", 300)):
        (tmp_path / "benchmarks/explain/net").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"benchmarks/explain/net/{shard}.tsv").write_text(f"s\th:m:s\n{seconds}\t0\n")
    assert progress.earlier_seconds(tmp_path / "benchmarks") == {"explain": 200.0}
    run = Run(tmp_path, planned(draw=1, explain=1))
    run.begin(1, "draw")
    clock.now = 50.0
    run.finish(1, 1, 2)
    assert run.printed()[-1] == "12:00:00  1 of 2, about 3 min left:  Work (50 s)"


def test_what_no_run_has_told_yet_is_scaled_from_the_demonstration(tmp_path, clock):
    run = Run(tmp_path, planned(explain_cam=1, explain_perturbed=1))
    run.begin(1, "explain_cam")
    clock.now = 350.0  # ten times what it takes there
    run.finish(1, 1, 2)
    assert run.printed()[-1] == "12:00:00  1 of 2, about 15 min left:  Work (6 min)"


def test_no_time_is_told_before_enough_is_done(tmp_path, clock):
    run = Run(tmp_path, planned(summarize=100))
    run.begin(1, "summarize")
    clock.now = 4.0
    run.finish(1, 1, 100)
    assert run.printed() == ["12:00:00  1 of 100:  Work (4 s)"]


def test_a_failed_job_is_shown_as_snakemake_does_and_runs_again(tmp_path, clock):
    run = Run(tmp_path, planned(explain=1))
    run.begin(1, "explain")
    error = {"rule_name": "explain", "rule_msg": "Explain", "jobid": 1, "input": [], "output": [], "log": []}
    error |= {"conda_env": None, "shellcmd": None, "aux": {}, "indent": False}
    run.log(LogEvent.JOB_ERROR, "Error in rule explain", **error)
    clock.now = 10.0
    run.begin(1, "explain")
    clock.now = 15.0
    run.finish(1, 1, 1)
    assert "Error in rule explain:" in run.printed()
    assert run.printed()[-1] == "12:00:00  1 of 1:  Work (5 s)"


def test_what_snakemake_no_longer_logs_ends_no_run(tmp_path, clock):
    run = Run(tmp_path, planned(explain=1))
    run.log(LogEvent.JOB_FINISHED, "Finished jobid: 9 (Rule: x)", job_id=9)
    run.log(LogEvent.JOB_FINISHED, "Finished jobid: 9 (Rule: x)")
    assert sum("Finished jobid: 9" in line for line in run.printed()) == 2
    run = Run(tmp_path, SimpleNamespace())
    assert "Jobs are shown as Snakemake does (AttributeError: " in run.terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (7200, "2.0 h")]
)
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_seconds_of_the_demonstration_are_those_of_rules_that_there_are():
    rules = set(re.findall(r"^rule (\w+):", "\n".join(path.read_text() for path in RULES), re.MULTILINE))
    assert set(progress._SECONDS) <= rules and len(rules) > 40
