"""What is told of a run that failed or is not finished, of a summary, logs and jobs as Snakemake has them."""

import atexit
import logging
import sys
from types import SimpleNamespace

import pytest
from unitlens.jobs import outcome
from unitlens.jobs.logs import ENDED

WILDCARDS = {"model": "[a-z]+", "layer": "[a-z0-9.]+"}
RULES = SimpleNamespace(
    check_model=SimpleNamespace(output=["results/models/{model}.json"], log=["results/logs/check_model/{model}.log"]),
    map_units=SimpleNamespace(
        output=["results/unit_maps/{model}/{layer}.h5", "results/unit_maps/{model}/{layer}.csv"],
        log=["results/logs/map_units/{model}/{layer}.log"],
    ),
)
TRACEBACK = "Traceback (most recent call last):\n  File x\nValueError: no \u202elayer\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def jobs(folder, rows, logs):
    """Read a summary of rows of rule, output, status and plan."""
    for name, text in logs.items():
        path = folder / f"results/logs/{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    names = ("output_file", "date", "rule", "log-file(s)", "status", "plan")
    lines = [names, *((output, "-", rule, "", status, plan) for rule, output, status, plan in rows)]
    (folder / "summary.tsv").write_text("".join("\t".join(line) + "\n" for line in lines))
    return outcome.read_jobs("summary.tsv", RULES, WILDCARDS)


@pytest.mark.parametrize(
    ("log", "plan", "state", "reason"),
    [
        ("host a\ntook 2 s\n", "no update", "done", ""),
        ("host a\ntook 2 s\n", "update pending", "out of date", ""),
        (TRACEBACK + "took 2 s\n", "update pending", "failed", r"ValueError: no \u202elayer"),
        (TRACEBACK + "took 2 s\n", "no update", "done", ""),
        ("host a\n \n", "no update", "cut off", "killed, or still running; last line of its log: host a"),
        ("", "update pending", "cut off", "killed, or still running; last line of its log: it has no log"),
        (None, "no update", "done", ""),
        (None, "update pending", "not begun", ""),
    ],
)
def test_a_log_tells_what_became_of_a_job(folder, log, plan, state, reason):
    logs = {} if log is None else {"check_model/net": log}
    (job,) = jobs(folder, [("check_model", "results/models/net.json", "ok", plan)], logs)
    made = ["results/models/net.json"]
    log = "results/logs/check_model/net.log"
    assert job == {"rule": "check_model", "log": log, "made": made, "state": state, "reason": reason}


@pytest.mark.parametrize(
    ("log", "state", "expected"),
    [
        (None, "TIMEOUT", ("failed", "it ran out of time, before its script began")),
        (None, "RUNNING", ("not begun", "")),
        (None, "COMPLETED", ("not begun", "")),
        (
            "host a, SLURM job 7\n3 of 9\n",
            "TIMEOUT",
            ("cut off", "it ran out of time. The last line of its log: 3 of 9"),
        ),
        (
            "host a, SLURM job 7\n3 of 9\n",
            "RUNNING",
            ("cut off", "SLURM job 7 is RUNNING; last line of its log: 3 of 9"),
        ),
        (
            f"host a, SLURM job 7\nTraceback (most recent call last)\nSystemExit: {ENDED}15\ntook 2 s\n",
            "TIMEOUT",
            ("failed", f"it ran out of time. The last line of its log: SystemExit: {ENDED}15"),
        ),
    ],
)
def test_slurm_says_what_became_of_a_job_that_it_ended(folder, monkeypatch, log, state, expected):
    asked = []
    submission = {"number": "7", "state": state, "cause": "it ran out of time", "log": ""}
    monkeypatch.setattr(outcome.slurm, "last_submission", lambda *job: asked.append(job) or submission)
    logs = {} if log is None else {"map_units/net/layer.1": log}
    (job,) = jobs(folder, [("map_units", "results/unit_maps/net/layer.1.h5", "missing", "update pending")], logs)
    assert (job["state"], job["reason"]) == expected
    assert asked == [("map_units", ["net", "layer.1"], [])]


def test_outputs_of_one_job_belong_together_and_the_rest_is_counted(folder):
    rows = [
        ("map_units", "results/unit_maps/net/layer.1.h5", "ok", "no update"),
        ("map_units", "results/unit_maps/net/layer.1.csv", "missing", "update pending"),
        ("map_units", "results/unit_maps/net/last.h5", "missing", "update pending"),
        ("map_units", "results/unit_maps/net/last.csv", "missing", "update pending"),
        ("check_model", "results/models/net.json", "ok", "no update"),
        ("check_model", "results/models/other.json", "missing", "update pending"),
    ]
    found = jobs(folder, rows, {"map_units/net/layer.1": TRACEBACK + "took 1 s", "check_model/other": "host"})
    assert [(job["rule"], job["made"]) for job in found[:2]] == [("map_units", [rows[0][1]]), ("map_units", [])]
    told = outcome.missing_jobs(found)
    assert told["done"] == 1 and told["waiting"] == [["map_units", "not begun", 1]]
    assert [(job["job"], job["state"]) for job in told["jobs"]] == [
        ("map_units net layer.1", "failed"),
        ("check_model other", "cut off"),
    ]


def test_an_output_that_no_rule_writes_is_an_error(folder):
    with pytest.raises(ValueError, match=r"does not write results/models/net\.csv"):
        jobs(folder, [("check_model", "results/models/net.csv", "ok", "no update")], {})


def test_a_failed_job_is_told_with_its_cause(folder):
    jobs(folder, [], {"a": TRACEBACK + "took 1 s\n", "b": "host\n3 of 9\n"})
    assert outcome.cause("results/logs/a.log") == r"ValueError: no \u202elayer"
    assert outcome.cause("results/logs/none.log") == "it has no log"
    killed = "it was killed (memory or time?). The last line of its log: 3 of 9"
    assert outcome.cause("results/logs/b.log") == killed


def job(rule, output, *wildcards):
    return SimpleNamespace(rule=SimpleNamespace(name=rule), output=output, wildcards=wildcards, log=["none.log"])


@pytest.fixture
def workflow():
    """A run whose one job failed, and whose other is done."""
    failed = job("cut", ["results/masks/b.h5", "results/masks/c.h5"], "b")
    done = job("cut", ["results/masks/a.h5", "results/masks/a.csv", "results/x.csv", "results/x.txt"], "a")
    page, all_jobs = job("write", ["results/page.html"]), job("all", [])
    dag = SimpleNamespace(
        needrun_jobs=lambda exclude_finished=True: [failed, page, all_jobs] + ([] if exclude_finished else [done]),
        finished=lambda job: job is done,
    )
    settings = SimpleNamespace(targets={"results/page.html"})
    return SimpleNamespace(dag=dag, scheduler=SimpleNamespace(failed=[failed]), dag_settings=settings)


def told(workflow, caplog, monkeypatch, *arguments, failed=True):
    """End a run, let Snakemake take its handlers away, and end the process."""
    monkeypatch.setattr(sys, "argv", ["snakemake", *arguments])
    at_exit, logger = [], logging.Logger("snakemake", logging.INFO)
    logger.addHandler(caplog.handler)
    monkeypatch.setattr(atexit, "register", lambda *call: at_exit.append(call))
    outcome.say_at_the_end(workflow, logger, failed)
    logger.removeHandler(caplog.handler)
    assert caplog.text == "", "nothing yet: the report is still to be written"
    for call, *given in at_exit:
        call(*given)
    return caplog.text


def test_the_end_of_a_run_names_what_failed_what_was_made_and_how_to_go_on(folder, workflow, caplog, monkeypatch):
    (folder / "Makefile").touch()
    arguments = ("--profile", "slurm", "--config", "a=$b c", "--", "results/page.html")
    text = told(workflow, caplog, monkeypatch, *arguments)
    assert "Jobs failed: 1; skipped because of it: 1." in text
    assert "  cut b: it has no log\n    log: none.log" in text
    assert "snakemake --profile slurm --config 'a=$b c' -- results/masks/b.h5\n" in text
    levels = {record.message.partition(":")[0]: record.levelname for record in caplog.records}
    lines = [record.message for record in caplog.records]
    assert "Jobs done: 1." in text and {"  tables:  results/x.csv", "  folders: results/masks (2)"} <= {*lines}
    assert (levels["Jobs failed"], levels["Jobs done"]) == ("ERROR", "INFO")
    assert """make report PROFILE=slurm 'ARGS=--config '"'"'a=$$b c'"'"''""" in text


def test_options_of_the_run_go_on_to_the_report_as_they_were_given(folder, workflow, caplog, monkeypatch):
    (folder / "Makefile").touch()
    text = told(
        workflow,
        caplog,
        monkeypatch,
        "--profile",
        "slurm",
        "--prof",
        "x",
        "-h",
        "--report",
        "a.html",
        "--report-after-run",
    )
    assert "make report PROFILE=slurm 'ARGS=--prof x -h'" in text


def test_a_run_that_ends_well_tells_only_what_was_made(folder, workflow, caplog, monkeypatch):
    text = told(workflow, caplog, monkeypatch, failed=False)
    assert "Jobs done: 1." in text and "failed" not in text


@pytest.mark.parametrize("failed", [False, True])
def test_the_page_to_open_first_is_named_last_where_it_is_there(folder, workflow, caplog, monkeypatch, failed):
    (folder / "results").mkdir()
    (folder / "results/overview.html").touch()
    (folder / "all.html").touch()
    arguments = ["--report", "all.html", "--report-after-run"]
    text = told(workflow, caplog, monkeypatch, *arguments, failed=failed)
    said = "Open results/overview.html first. all.html holds all results in one file.\n"
    assert text.endswith(said) is not failed and (said in text) is not failed


def test_the_report_of_a_failed_run_tells_only_what_failed(folder, workflow, caplog, monkeypatch):
    text = told(workflow, caplog, monkeypatch, "partial")
    assert "Jobs failed: 1" in text and "Jobs done" not in text and "given again" not in text


def test_at_most_twenty_failures_are_named(folder, workflow, caplog, monkeypatch):
    workflow.scheduler.failed = [job("cut", [f"{number}.h5"], f"{number:02d}") for number in range(23)]
    text = told(workflow, caplog, monkeypatch)
    assert "cut 19:" in text and "cut 20:" not in text and "  and 3 more" in text


def test_what_snakemake_no_longer_keeps_is_left_out(folder, workflow, caplog, monkeypatch):
    del workflow.scheduler.failed
    text = told(workflow, caplog, monkeypatch)
    assert "Left out of this summary: tell_what_failed (AttributeError" in text and "Jobs done: 1." in text


def test_values_of_wildcards_are_whole_whatever_groups_their_patterns_have():
    rule = SimpleNamespace(output=["results/x/{model}/{layer}.csv"], log=["results/logs/x/{model}/{layer}.log"])
    patterns = {"model": r"[a-z]+(-(old|new))?", "layer": r"(\w+\.)*\w+"}
    found = outcome._log_of("results/x/net/a.b.csv", rule, patterns)
    assert found == ("results/logs/x/net/a.b.log", ["net", "a.b"])
