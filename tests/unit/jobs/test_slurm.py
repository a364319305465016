"""Commands that stand in for SLURM's, with fakes of SLURM's own behind them; how a job ended, in words."""

import errno
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from unitlens.jobs import outcome, slurm, slurm_commands

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = f"{FAILED}Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n"
SUBMISSION = ["--parsable", "--job-name", "RUN", "--output", "logs/%j.log", "--comment", "rule_cut_wildcards_a"]
SUBMISSION += ["--wrap=echo works"]
STATES = ["--parsable2", "--format=JobIdRaw,State", "--name", "RUN"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (POLICY, True),
        ("sbatch: error: AssocMaxSubmitJobLimit\n" + POLICY, True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + POLICY, True),
        ("sbatch: error: QOSGrpSubmitJobsLimit\n" + POLICY, True),
        ("sbatch: error: QOSMaxWallDurationPerJobLimit\n" + POLICY, False),
        ("sbatch: error: AssocMaxCpuPerJobLimit\n" + POLICY, False),
        ("sbatch: error: AssocGrpCPUMinutesLimit\n" + POLICY, False),
        ("sbatch: error: QOSMaxJobsPerUserLimit\n" + POLICY, True),
        ("sbatch: error: QOSMaxGRESPerUser\n" + POLICY, None),
        (FAILED + "Socket timed out on send/recv operation", True),
        (FAILED + "Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.", True),
        (FAILED + "Slurm backup controller in standby mode", True),
        (FAILED + "Zero Bytes were transmitted or received", True),
        (FAILED + "Unable to create job record, try again", True),
        (FAILED + "Required partition not available (inactive or drain)", True),
        ("sbatch: error: auth_g_create: authentication credential: Munge encode failed: no socket", True),
        (
            FAILED + "Invalid account or account/partition combination specified",
            False,
        ),
        ("sbatch: error: invalid partition specified: x\nInvalid partition name specified", False),
        (FAILED + "Invalid qos specification", False),
        (FAILED + "Invalid feature specification", False),
        (FAILED + "Requested node configuration is not available", False),
        (
            FAILED + "Requested time limit is invalid (missing or exceeds some limit)",
            False,
        ),
        ("sbatch: error: Memory specification can not be satisfied", False),
        (FAILED + "User's group not permitted to use this partition", False),
        ("sbatch: unrecognized option '--x'", False),
        (FAILED + "Unspecified error", None),
        ("sbatch: error: Say a project", None),
        ("", None),
    ],
)
def test_which_refusals_pass(told, expected):
    assert slurm_commands.passes(told) is expected


@pytest.mark.parametrize(
    ("state", "log", "status", "expected"),
    [
        (
            "FAILED",
            "Building DAG of jobs...\n"
            + 2 * "slurmstepd-cpu1: error: StepId=3.0 exceeded memory limit (2 > 1), being killed\n"
            + "srun: error: task 0: Killed\n",
            "137",
            "it ran out of memory (SLURM says FAILED; StepId=3.0 exceeded memory limit (2 > 1), being killed)",
        ),
        ("OUT_OF_MEMORY", "", "", "it ran out of memory (SLURM says OUT_OF_MEMORY)"),
        (
            "FAILED",
            "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch. Some step tasks have been OOM Killed.\n",
            "",
            "it ran out of memory (SLURM says FAILED; "
            "Detected 1 oom_kill event in StepId=7.batch. Some step tasks have been OOM Killed.)",
        ),
        (
            "TIMEOUT",
            "slurmstepd: error: *** JOB 5 ON n CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT ***\n",
            "",
            "it ran out of time (SLURM says TIMEOUT; JOB 5 ON n CANCELLED AT 2026-01-01T00:00:00 DUE TO TIME LIMIT)",
        ),
        ("CANCELLED", "", "", "it was cancelled (SLURM says CANCELLED)"),
        (
            "FAILED",
            "a\nPermissionError: x\n====\n",
            "1",
            "it ended with status 1 (SLURM says FAILED; PermissionError: x)",
        ),
        ("FAILED", None, "", "it was killed (SLURM says FAILED)"),
    ],
)
def test_how_a_job_ended_in_words(tmp_path, state, log, status, expected):
    if log is not None:
        (tmp_path / "log").write_text(log)
    assert slurm_commands.why_ended(state, tmp_path / "log", status) == expected


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Put a command of SLURM's on the PATH: a shell script."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name, script):
        (folder / name).write_text(f'#!/bin/sh\necho "$@" >> {folder}/{name}.calls\n{script}\n')
        (folder / name).chmod(0o755)
        return folder / f"{name}.calls"

    for name in (*slurm_commands.COMMANDS, "scancel"):
        write(name, "exit 1")
    return write


@pytest.fixture
def run(tmp_path, monkeypatch, fake):
    """The folder of a run of this process, whose waits are short."""
    folder = tmp_path / "run of 'x'"
    folder.mkdir()
    (folder / "head").write_text(str(os.getpid()))
    monkeypatch.setenv(slurm_commands.FOLDER, str(folder))
    monkeypatch.setattr(slurm_commands, "WAITS", (0,))
    monkeypatch.setattr(slurm_commands, "_WATCHED", 0)
    return folder


def news(run):
    return (run / "news").read_text() if (run / "news").exists() else ""


def note(run, number, token=None, **facts):
    """Note a submission, by the number of its job as its token unless another is given."""
    path = run / f"{token or number}.{number}.json"
    path.write_text(json.dumps({"job": "rule_cut", "log": "", "clusters": ""} | facts))


def test_a_refusal_is_asked_again_and_told_once(run, fake, capfd):
    calls = fake("sbatch", f'[ $(wc -l < $0.calls) -gt 9 ] && echo 17 || {{ echo "{POLICY.strip()}" >&2; exit 1; }}')
    assert slurm_commands.insist("sbatch", SUBMISSION) == 0
    assert capfd.readouterr().out == "17\n" and len(calls.read_text().splitlines()) == 10
    assert news(run).count("takes no more jobs for now (Batch job submission failed: Job violates") == 1
    ((number, path),) = slurm_commands.submissions(run).values()
    assert number == "17" and json.loads(path.read_text()) == {
        "job": "rule_cut_wildcards_a",
        "log": "logs/17.log",
        "clusters": "",
    }


def test_what_time_does_not_lift_is_refused_at_once_and_what_nobody_knows_soon(run, fake, capfd):
    for told, attempts in (("Invalid qos specification", 1), ("Say a project", slurm_commands.FEW)):
        calls = fake("sbatch", f"echo 'sbatch: error: {told}' >&2; exit 3")
        calls.unlink(missing_ok=True)
        assert slurm_commands.insist("sbatch", SUBMISSION) == 3
        assert len(calls.read_text().splitlines()) == attempts and told in capfd.readouterr().err
        submission = slurm.last_submission("cut", ["a"])
        assert submission == {"number": "", "state": "REFUSED", "cause": f"SLURM refused it: {told}", "log": ""}


def test_patience_has_an_end(run, fake, monkeypatch):
    fake("sbatch", f'echo "{POLICY.strip()}" >&2; exit 1')
    monkeypatch.setattr(slurm_commands, "PATIENCE", 0)
    assert slurm_commands.insist("sbatch", SUBMISSION) == 1


@pytest.mark.parametrize("ended", ["stopped", "killed"])
def test_nothing_is_submitted_once_the_run_has_ended(run, fake, ended):
    calls = fake("sbatch", "echo 17")
    if ended == "stopped":
        (run / "stopped").touch()
    else:
        process = subprocess.Popen(["true"])
        process.wait()
        (run / "head").write_text(str(process.pid))
    assert slurm_commands.insist("sbatch", SUBMISSION) == 1 and not calls.exists()


def test_a_job_that_was_submitted_while_the_run_was_stopped_is_cancelled(run, fake):
    fake("sbatch", f'touch "{run}/stopped"; echo 17')
    cancelled = fake("scancel", "")
    assert slurm_commands.insist("sbatch", SUBMISSION) == 1 and cancelled.read_text() == "17\n"


def test_a_job_whose_number_was_lost_is_not_submitted_twice(run, fake, capfd):
    note(run, 16)
    calls = fake("sbatch", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
    asked = fake(
        "squeue",
        '[ $(wc -l < "$0.calls") -gt 2 ] || exit 1; '
        'printf "16|rule_cut_wildcards_a\\n17|rule_cut_wildcards_a\\n18|rule_cut\\n"',
    )
    assert slurm_commands.insist("sbatch", SUBMISSION) == 0
    assert capfd.readouterr().out == "17" and len(calls.read_text().splitlines()) == 1
    assert len(asked.read_text().splitlines()) == 3, "nothing is submitted while SLURM does not say what it has"


RUNS = """for word in "$@"; do case $word in --wrap=*) sh -c "${word#--wrap=}" >&2; echo 17;; esac; done"""


def test_a_job_writes_its_exit_status(run, fake, capfd):
    fake("sbatch", RUNS)
    assert slurm_commands.insist("sbatch", [*SUBMISSION[:-1], "--wrap=echo works; exit 3"]) == 0
    assert "works" in capfd.readouterr().err
    (token,) = slurm_commands.submissions(run)
    assert slurm_commands.exit_status(run, token) == "3" and slurm_commands.exit_status(run, "18") == ""


@pytest.mark.parametrize(("before", "works"), [("0", False), ("1", True), ("10", True)])
def test_a_job_that_slurm_requeues_after_its_good_end_does_not_begin_again(
    run, fake, capfd, monkeypatch, before, works
):
    monkeypatch.setattr(slurm_commands.time, "time_ns", lambda: 5)
    (run / f"5-{os.getpid()}.exit").write_text(f"{before}\n")
    fake("sbatch", RUNS)
    assert slurm_commands.insist("sbatch", SUBMISSION) == 0
    assert ("works" in capfd.readouterr().err) == works
    assert slurm_commands.exit_status(run, f"5-{os.getpid()}") == "0"


def test_a_number_that_slurm_gives_again_is_another_job(run, fake, capfd):
    """A controller that lost its state counts anew: how the first job with a number ended says nothing of another."""
    fake("sbatch", RUNS)
    assert slurm_commands.insist("sbatch", SUBMISSION) == 0
    capfd.readouterr()
    fake("squeue", "exit 0")
    assert states(capfd) == {"17": "COMPLETED"}
    fake("sbatch", "echo 17")
    assert slurm_commands.insist("sbatch", SUBMISSION) == 0
    capfd.readouterr()
    fake("squeue", "exit 1")
    assert states(capfd) == {}, "nobody knows the second job yet"
    fake("squeue", "echo '17|RUNNING'")
    assert states(capfd) == {"17": "RUNNING"}
    first, second = slurm_commands.submissions(run)
    (run / f"{second}.exit").write_text("3\n")
    fake("squeue", "echo '17|FAILED'")
    assert states(capfd) == {"17": "FAILED"} and slurm_commands.exit_status(run, first) == "0"
    assert slurm.last_submission("cut", ["a"])["cause"].startswith("it ended with status 3 ")
    slurm_commands.main("sacct", ["-j", "17.0", "--format=Reason"])
    assert capfd.readouterr().out.startswith("it ended with status 3 ")


def test_a_job_whose_note_found_no_room_on_the_disk_is_known_by_its_number(run, fake, capfd, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    fake("sbatch", "echo 17")
    fake("squeue", "printf '17|RUNNING\\n18|TIMEOUT\\n'")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert slurm_commands.insist("sbatch", SUBMISSION) == 0 and capfd.readouterr().out == "17\n"
        assert states(capfd) == {"17": "RUNNING", "18": "TIMEOUT"}


def test_a_job_starts_one_snakemake(run, fake, capfd):
    fake("sbatch", RUNS)
    command = "echo python -m snakemake --cores 'all' --executor slurm-jobstep --jobs 1 --mode 'remote'"
    assert slurm_commands.insist("sbatch", [*SUBMISSION[:-1], f"--wrap={command}"]) == 0
    assert capfd.readouterr().err == "python -m snakemake --cores all --mode remote\n"


def test_the_plugin_asks_for_the_snakemake_that_is_left_out():
    source = Path(importlib.util.find_spec("snakemake_executor_plugin_slurm").origin).read_text()
    assert f'"{slurm_commands._STARTS_ANOTHER.strip()}"' in source


def states(capfd):
    assert slurm_commands.tell_states(STATES) == 0
    return dict(line.split("|") for line in capfd.readouterr().out.splitlines())


def test_the_controller_is_asked_first_and_accounting_for_the_rest(run, fake, capfd):
    for number in (1, 2, 3, 4, 5):
        note(run, number)
    asked = fake("squeue", 'printf "1|RUNNING\\n2|COMPLETED\\n5|NODE_FAIL\\n"')
    fake("sacct", 'printf "2|RUNNING\\n3|CANCELLED by 0\\n4|RUNNING\\n"')
    assert states(capfd) == {"1": "RUNNING", "2": "COMPLETED", "3": "CANCELLED", "5": "FAILED"}
    assert "--name=RUN" in asked.read_text()
    fake("squeue", 'printf "1|PENDING\\n"')
    assert states(capfd) == {"1": "PENDING", "2": "COMPLETED", "3": "CANCELLED", "5": "FAILED"}, "ends are kept"


def test_without_accounting_a_job_that_is_forgotten_is_known_by_what_it_wrote(run, fake, capfd, monkeypatch):
    for number in (1, 2, 3):
        note(run, number)
    fake("squeue", "exit 0")
    (run / "1.exit").write_text("0\n")
    (run / "2.exit").write_text("1\n")
    assert states(capfd) == {"1": "COMPLETED", "2": "FAILED"}
    monkeypatch.setattr(slurm_commands, "_GONE", 0)
    assert states(capfd)["3"] == "FAILED", "killed, with nobody left who knows why"


@pytest.mark.parametrize("state", ["TIMEOUT", "CANCELLED", "NODE_FAIL", "COMPLETING", "OUT_OF_MEMORY"])
def test_a_job_that_came_to_its_good_end_is_complete_whatever_slurm_saw_of_it(run, fake, capfd, state):
    for number in (1, 2):
        note(run, number)
    (run / "1.exit").write_text("0\n")
    (run / "2.exit").write_text("1\n")
    fake("squeue", f'printf "1|{state}\\n2|{state}\\n"')
    assert states(capfd) == {"1": "COMPLETED", "2": "FAILED" if state == "NODE_FAIL" else state}


@pytest.mark.parametrize(("answer", "why"), [("exit 1", "no reason given"), ("sleep 9", "no answer in 0.2 s")])
def test_while_slurm_is_silent_no_job_is_forgotten_and_a_line_says_so(run, fake, capfd, monkeypatch, answer, why):
    note(run, 1)
    (run / "1.exit").write_text("0\n")
    monkeypatch.setattr(slurm_commands, "_ANSWER", 0.2)
    fake("squeue", answer)
    fake("sacct", answer)
    assert states(capfd) == {}
    assert f"SLURM does not say how the jobs are ({why})." in news(run)


def test_the_next_end_of_a_job_is_waited_for(run, fake, capfd, monkeypatch):
    monkeypatch.setattr(slurm_commands, "_WATCHED", 60)
    note(run, 1)
    asked = fake("squeue", f'[ -e "{run}/1.exit" ] && echo "1|COMPLETING" || echo "1|RUNNING"')
    threading.Timer(1, lambda: (run / "1.exit").write_text("0\n")).start()
    assert states(capfd) == {"1": "COMPLETED"} and len(asked.read_text().splitlines()) == 1


def test_of_jobs_that_left_0_slurm_is_not_asked_and_of_the_others_every_half_minute(run, fake, capfd, monkeypatch):
    for number in (1, 2, 3):
        note(run, number)
    asked = fake("squeue", 'printf "1|RUNNING\\n2|RUNNING\\n3|RUNNING\\n"')
    states(capfd)
    (run / "1.exit").write_text("0\n")
    (run / "3.exit").write_text("1\n")
    assert states(capfd) == {"1": "COMPLETED"} and len(asked.read_text().splitlines()) == 1
    fake("squeue", 'printf "1|RUNNING\\n2|RUNNING\\n3|FAILED\\n"')
    assert states(capfd) == {"1": "COMPLETED", "2": "RUNNING", "3": "FAILED"}, "none has come to a good end"
    (run / "2.exit").write_text("0\n")
    monkeypatch.setattr(slurm_commands, "_LOOKED", 0)
    assert states(capfd) == {"1": "COMPLETED", "2": "RUNNING", "3": "FAILED"}, "as SLURM says"


def test_jobs_that_all_wait_are_told_with_the_reason(run, fake, capfd, monkeypatch):
    note(run, 1)
    fake("squeue", 'case "$*" in *%r*) echo "1|Resources";; *) echo "1|PENDING";; esac')
    assert states(capfd) == {"1": "PENDING"} and news(run) == ""
    monkeypatch.setattr(slurm_commands, "_GONE", -1)
    states(capfd)
    assert news(run) == "No job runs; SLURM lets them wait (Resources).\n"


def test_jobs_of_several_clusters_are_asked_for_there(run, fake, capfd):
    note(run, 1, clusters="far")
    asked = fake("squeue", 'printf "CLUSTER: far\\n1|RUNNING\\n"')
    assert states(capfd) == {"1": "RUNNING"} and "--clusters=far" in asked.read_text()


def test_the_plugin_is_told_why_a_job_failed(run, capfd):
    note(run, 1)
    (run / "states.json").write_text('{"ended": {"1": "TIMEOUT"}}')
    for step, told in (("1.0", "it ran out of time (SLURM says TIMEOUT)\n"), ("1.1", ""), ("2.0", "")):
        assert slurm_commands.main("sacct", ["-j", step, "--format=Reason", "--noheader"]) == 0
        assert capfd.readouterr().out == told


@pytest.fixture
def started(tmp_path, monkeypatch, fake):
    """A run on SLURM that has begun in a folder; what it tells the console."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(slurm_commands.FOLDER, "")
    monkeypatch.setattr(slurm, "_note_before", lambda *_: None)
    told, old = [], tmp_path / ".snakemake/slurm/2026-01-01T000000-1"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    logger = SimpleNamespace(warning=told.append)
    slurm.stand_in(SimpleNamespace(executor_plugin=SimpleNamespace(name="slurm")), logger)
    return told


def test_slurms_commands_are_stood_in_for(started, fake, tmp_path):
    (folder,) = (tmp_path / ".snakemake/slurm").iterdir()  # the folder of an old run is gone
    assert {path.stat().st_mode & 0o777 for path in (folder / "commands").iterdir()} == {0o755}
    assert slurm_commands._real("sacct") == str(tmp_path / "slurm/sacct")
    fake("sbatch", "echo 17")
    fake("sacct", 'echo "real $@"')
    run = subprocess.run(["sbatch", *SUBMISSION], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "17\n"), run.stderr
    assert subprocess.run(["sacct", "-j", "7", "-n"], capture_output=True, text=True).stdout == "real -j 7 -n\n"
    guess = subprocess.run(["sacct", "-nu", "me", "|", "tail", "-1"], capture_output=True, text=True)
    assert (guess.returncode, guess.stderr) == (1, "")
    with (folder / "news").open("a") as file:
        file.write("a line\n")
    deadline = time.monotonic() + 20
    while not started and time.monotonic() < deadline:
        time.sleep(0.1)
    assert started[0].endswith("  a line")


def test_a_run_ends_while_news_are_waited_for(tmp_path):
    script = """
import logging
from types import SimpleNamespace
from unitlens.jobs import slurm
slurm.stand_in(SimpleNamespace(executor_plugin=SimpleNamespace(name="slurm")), logging.getLogger())
"""
    environment = os.environ | {"PYTHONPATH": str(Path(slurm.__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / ".snakemake/slurm").is_dir()


def test_the_folder_of_a_run_is_kept_for_ten_days(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "time", SimpleNamespace(time=lambda: 2e9))
    for name, seconds in (("gone-1", 1), ("kept-1", -1)):
        (tmp_path / ".snakemake/slurm" / name).mkdir(parents=True)
        os.utime(tmp_path / ".snakemake/slurm" / name, (0, 2e9 - 10 * 24 * 3600 - seconds))
    slurm._remove_old()
    assert [path.name for path in slurm.run_folders()] == ["kept-1"]


def test_other_executors_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = os.environ["PATH"]
    slurm.stand_in(SimpleNamespace(executor_plugin=SimpleNamespace(name="local")), logging.getLogger())
    assert os.environ["PATH"] == before and not (tmp_path / ".snakemake").exists()


def test_what_is_no_longer_as_expected_leaves_slurms_own_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    slurm.stand_in(SimpleNamespace(), SimpleNamespace(warning=told.append))
    assert told[0].startswith("Refused jobs are not submitted again (AttributeError: ")


def test_a_signal_leaves_its_mark_first(tmp_path):
    script = f"""
import os, signal, sys, time
from pathlib import Path
from unitlens.jobs import slurm
signal.signal(signal.SIGINT, signal.default_int_handler)
slurm._note_before(signal.SIGINT, Path({str(tmp_path / "mark")!r}))
os.kill(os.getpid(), signal.SIGINT)
time.sleep(9)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(slurm.__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert result.returncode == -signal.SIGINT and (tmp_path / "mark").exists()


def test_the_summary_tells_what_slurm_says_of_a_job(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slurm.log").write_text("slurmstepd: error: Exceeded job memory limit\n")
    note(run, 7, job="rule_cut_wildcards_a_b", log="slurm.log")
    (run / "states.json").write_text('{"ended": {"7": "FAILED"}}')
    submission = slurm.last_submission("cut", ["a/b"])
    memory = "it ran out of memory (SLURM says FAILED; Exceeded job memory limit)"
    assert submission == {"number": "7", "state": "FAILED", "cause": memory, "log": "slurm.log"}
    assert slurm.last_submission("cut", ["b"]) is None
    log = tmp_path / "cut.log"
    assert outcome.cause(log, {"number": "", "cause": "SLURM refused it: x", "log": ""}) == "SLURM refused it: x"
    assert outcome.cause(log, submission) == f"{memory}, before its script began"
    log.write_text("host n, SLURM job 6\ntook 3 s\n")
    assert outcome.cause(log, submission) == f"{memory}, before its script began", "the log is of an earlier job"
    log.write_text("host n, SLURM job 7, GPU 0\n3 of 9\n")
    assert outcome.cause(log, submission) == f"{memory}. The last line of its log: 3 of 9"
    log.write_text("host n, SLURM job 7\nTraceback\nValueError: x\ntook 3 s\n")
    assert outcome.cause(log, submission) == "ValueError: x"
    log.write_text("host n, SLURM job 7\nSystemExit: ended by SIGTERM: canceled\ntook 3 s\n")
    assert outcome.cause(log, submission).startswith(memory)


@pytest.mark.parametrize(
    ("queue", "accounting", "state"),
    [
        ("echo RUNNING", "echo FAILED", "RUNNING"),
        ("exit 1", "echo 'CANCELLED by 0'", "CANCELLED"),
        ("exit 1", "exit 1", "its end is not known"),
    ],
)
def test_of_a_run_whose_head_is_gone_slurm_is_asked(run, fake, queue, accounting, state):
    fake("squeue", queue)
    fake("sacct", accounting)
    note(run, 7)
    assert slurm.last_submission("cut", [], [run.with_name("none"), run])["state"] == state
    assert slurm.last_submission("cut", [])["state"] == "its end is not known", "the head of this run knows"


def planned(*jobs):
    """A run on SLURM of jobs, each a rule, its partition and other resources."""
    jobs = [
        SimpleNamespace(rule=SimpleNamespace(name=rule), is_local=not partition, partition=partition, resources=asked)
        for rule, partition, asked in jobs
    ]
    executor = SimpleNamespace(get_partition_arg=lambda job: f" -p {job.partition}")
    return SimpleNamespace(
        executor_plugin=SimpleNamespace(name="slurm"),
        scheduler=SimpleNamespace(_executor=executor),
        dag=SimpleNamespace(needrun_jobs=lambda: jobs),
    )


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ("Invalid account or account/partition combination specified", True),
        ("Invalid qos specification", True),
        ("invalid partition specified: gpu", True),
        ("User's group not permitted to use this partition", True),
        ("Unable to contact slurm controller (connect failure)", False),
        ("Say how many GPUs", False),
    ],
)
def test_what_the_site_does_not_have_is_refused_once_before_the_first_job(fake, told, problem):
    run = planned(("cut", "gpu", {"slurm_account": "lab", "qos": "fast"}), ("paste", "cpu", {}), ("write", "", {}))
    calls = fake("sbatch", f'case $* in *=gpu*) echo "sbatch: error: {told}" >&2; exit 1;; esac')
    found = [line.lower() for line in slurm.what_is_refused(run)]
    assert [line.partition(": ")[0] for line in found] == [
        "slurm refuses --account=lab --qos=fast --partition=gpu"
    ] * problem
    assert all(told.lower().removeprefix("user's ") in line for line in found)
    asked = calls.read_text().splitlines()
    assert len(asked) == 2 and all(line.startswith("--test-only") for line in asked), "a job of each kind, none to run"


def test_no_other_run_is_refused(fake):
    assert slurm.what_is_refused(SimpleNamespace(executor_plugin=SimpleNamespace(name="local"))) == []
    assert slurm.what_is_refused(SimpleNamespace()) == []
