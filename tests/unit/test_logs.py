"""What a job prints lands in its log: each case is a process of its own, for file descriptors belong to the process."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from unitlens import logs

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(body, folder):
    """Run a script; give its exit status, what reached its own stdout and stderr, and the log within its ends."""
    script = f"import os, subprocess, sys\nfrom unitlens.logs import log_to\n{body}"
    job = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            "PYTHONPATH": str(SCRIPTS),
            "PATH": "/usr/bin:/bin",
            "SLURM_JOB_ID": "17",
            "CUDA_VISIBLE_DEVICES": "2",
        },
    )
    first, *lines, last = (folder / "logs" / "job.log").read_text().splitlines(keepends=True)
    assert re.fullmatch(r"host \S+, SLURM job 17, GPU 2\n", first), first
    assert re.fullmatch(r"took \d+\.\d s, held at most \d+ MiB\n", last), last
    return job.returncode, job.stdout, job.stderr, "".join(lines)


def test_everything_goes_to_the_log_and_the_descriptors_come_back(tmp_path):
    body = """
print("before")
with log_to("logs/job.log"):
    print("python")
    print("warning", file=sys.stderr, flush=True)
    os.write(1, b"from C\\n")
    os.write(2, b"from CUDA\\n")
    subprocess.run("echo child; echo lament >&2", shell=True)
print("after")
os.write(2, b"after too\\n")
print(len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 4)
"""
    status, out, err, log = run(body, tmp_path)
    assert status == 0
    assert out == "before\nafter\n4\n"  # 0, 1, 2 and the listing's own: none is left open
    assert err == "after too\n"
    assert sorted(log.splitlines()) == ["child", "from C", "from CUDA", "lament", "python", "warning"]


def test_an_error_is_told_in_full_in_the_log_and_in_one_line_to_the_terminal(tmp_path):
    body = """
def fail():
    raise ValueError("no layer 'layer9'")

with log_to("logs/job.log"):
    print("printed first")
    fail()
"""
    status, out, err, log = run(body, tmp_path)
    assert status == 1
    assert out == ""
    first, rest = err.split("\n", 1)
    assert first == "ValueError: no layer 'layer9'"
    assert rest.startswith("Traceback")  # the interpreter's own, once the descriptors are back
    assert log.startswith("printed first\nTraceback (most recent call last):\n")
    assert "in fail" in log
    assert log.endswith("ValueError: no layer 'layer9'\n")


def test_an_error_about_an_undecodable_name_is_told_nonetheless(tmp_path):
    body = """
with log_to("logs/job.log"):
    raise ValueError("cannot read " + os.fsdecode(b"caf\\xe9.jpg"))
"""
    _, _, err, log = run(body, tmp_path)
    assert err.startswith("ValueError: cannot read caf\\udce9.jpg\n")
    assert "UnicodeEncodeError" not in err + log


def test_an_import_that_fails_reaches_the_log(tmp_path):
    _, _, err, log = run('with log_to("logs/job.log"):\n    import no_such_module\n', tmp_path)
    assert err.startswith("ModuleNotFoundError: No module named 'no_such_module'\n")
    assert "import no_such_module" in log or "ModuleNotFoundError" in log


def test_the_terminal_is_the_original_stderr_and_an_old_log_is_overwritten(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "job.log").write_text("of an earlier attempt, much longer than what comes now\n")
    body = """
with log_to("logs/job.log") as terminal:
    print("50 %", file=terminal)
    print("in the log")
"""
    assert run(body, tmp_path) == (0, "", "50 %\n", "in the log\n")


def test_a_job_that_is_told_to_end_cleans_up_and_says_so(tmp_path):
    body = """
import pathlib, signal
with log_to("logs/job.log"):
    part = pathlib.Path("0.h5.part")
    part.touch()
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        part.unlink()
"""
    status, _, err, log = run(body, tmp_path)
    assert status == 1 and not (tmp_path / "0.h5.part").exists()
    told = "SystemExit: ended by SIGTERM: cancelled, out of time, or its node is going down\n"
    assert err.startswith(told) and log.endswith(told)


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock is ten seconds after the one before."""
    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(times))


def test_progress_tells_rate_and_rest_now_and_then_and_at_the_end(clock, capsys):
    batches = [range(4)] * 4 + [range(2)]
    assert list(logs.progress(batches, 18, "images", every=20)) == batches
    start_up, *lines = capsys.readouterr().out.splitlines()
    assert start_up.startswith("started up in ") and start_up.endswith(" s: imports, weights, device")
    assert lines == [
        "8 of 18 images, 0.4 a second, 25 s left",
        "16 of 18 images, 0.4 a second, 5 s left",
        "18 of 18 images, 0.4 a second, 0 s left",
    ]


def test_progress_of_a_quick_job_is_its_last_line(capsys):
    assert list(logs.progress([[1, 2], [3]], 3, "photographs")) == [[1, 2], [3]]
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith("3 of 3 photographs, ")
    assert line.endswith(" a second, 0 s left")
