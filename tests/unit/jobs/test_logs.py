"""What a job prints lands in its log: each case is a process of its own, for file descriptors belong to the process."""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from unitlens.jobs import logs, progress

SCRIPTS = Path(__file__).parents[3] / "scripts"


def run(body, folder):
    """Run a script; give its exit status, what reached its own stdout and stderr, and the log within its ends."""
    script = f"import os, subprocess, sys\nfrom unitlens.jobs.logs import log_to\n{body}"
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
    assert re.fullmatch(r"took \d+\.\d s and \d+\.\d CPU seconds, held at most \d+ MiB\n", last), last
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
    print("50 %, caf\\udce9", file=terminal)
    print("in the log")
"""
    assert run(body, tmp_path) == (0, "", "50 %, caf\\udce9\n", "in the log\n")


def test_an_open_stream_that_cannot_be_kept_is_not_taken_for_a_closed_one(tmp_path):
    body = """
import errno, resource
keep = [os.open("/dev/null", os.O_RDONLY) for _ in range(30)]
resource.setrlimit(resource.RLIMIT_NOFILE, (len(keep) + 4, len(keep) + 4))  # one more: the log
try:
    with log_to("job.log"):
        pass
except OSError as error:
    print(error.errno == errno.EMFILE, flush=True)
"""
    status, out, *_ = run_bare(body, tmp_path)
    assert (status, out) == (0, "True\n")


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
    told = "SystemExit: ended by SIGTERM: canceled, out of time, or its node is going down\n"
    assert err.startswith(told) and log.endswith(told)


DESCRIPTORS = "print(*[os.readlink(f'/proc/self/fd/{number}') == name for number, name in before.items()])\n"
BEFORE = "before = {number: os.readlink(f'/proc/self/fd/{number}') for number in (1, 2)}\n"


def run_bare(body, folder, **options):
    """Run a script whose log may have any form; give its exit status, stdout, stderr and log."""
    script = f"import os, sys\nfrom unitlens.jobs import logs, progress\nfrom unitlens.jobs.logs import log_to\n{body}"
    environment = {"PYTHONPATH": str(SCRIPTS), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", script]
    job = subprocess.run(command, capture_output=True, cwd=folder, env=environment, **options)
    log = folder / "job.log"
    return job.returncode, job.stdout.decode(), job.stderr.decode(), log.read_text() if log.is_file() else ""


@pytest.mark.parametrize("at", ["cost", "_flush"])
@pytest.mark.parametrize("fails", [True, False])
def test_what_goes_wrong_with_its_own_lines_hides_no_error_and_leaves_no_descriptor(tmp_path, at, fails):
    """As psutil's, torch's or nvidia-smi's errors do; `_flush` meets a stream that is closed."""
    breaks = "sys.stdout.close()" if at == "_flush" else "progress.cost = lambda: 1 / 0"
    body = f"""{BEFORE}
caught = None
try:
    with log_to("job.log"):
        {breaks}
        if {fails}:
            raise KeyError("the job's own")
except BaseException as error:
    caught = type(error).__name__
sys.stdout = sys.__stderr__
{DESCRIPTORS}
print(caught, progress.job.logs)
"""
    status, _, err, log = run_bare(body, tmp_path)
    *told, descriptors, ended = err.splitlines()
    assert status in (0, 120) and descriptors == "True True"
    assert ended == f"{'KeyError' if fails else None} False"
    assert told[:1] == (['KeyError: "the job\'s own"'] if fails else [])
    if at == "cost":
        assert re.search(r"\ntook \d\.\d s; its memory is not known \(ZeroDivisionError: division by zero\)\n$", log)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("fails", [True, False])
def test_a_full_disk_takes_the_log_but_neither_the_error_nor_the_work(tmp_path, fails):
    (tmp_path / "job.log").symlink_to("/dev/full")
    body = f"""{BEFORE}
try:
    with log_to("job.log"):
        for _ in progress.each([1, 2], "images"):
            pass
        if {fails}:
            raise KeyError("the job's own")
except KeyError as error:
    os.write(2, b"caught\\n")
sys.stdout = sys.stderr
{DESCRIPTORS}
"""
    _, _, err, _ = run_bare(body, tmp_path)
    assert err.splitlines()[:3] == (['KeyError: "the job\'s own"', "caught"] if fails else []) + ["True True"]


def test_a_log_that_cannot_be_opened_is_named_and_nothing_is_redirected(tmp_path):
    (tmp_path / "job.log").mkdir()
    body = f"""{BEFORE}
import signal
try:
    with log_to("job.log"):
        print("never")
except OSError as error:
    kept = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    print(error, progress.job.logs, kept, len(os.listdir("/proc/self/fd")))
{DESCRIPTORS}
"""
    status, out, err, _ = run_bare(body, tmp_path)
    assert (status, err) == (0, "")
    assert out == "[Errno 21] Is a directory: 'job.log' False True 4\nTrue True\n"


@pytest.mark.parametrize("closed", [(2,), (1, 2), (0, 1, 2)])
def test_streams_that_are_closed_are_open_in_the_log_and_closed_again(tmp_path, closed):
    body = """
streams = sys.stdout, sys.stderr
try:
    with log_to("job.log"):
        print("printed")
        print("lament caf\\udce9.jpg", file=sys.stderr)
        os.write(2, b"from C\\n")
        written = open("job.log").read().splitlines()
        assert "lament caf\\\\udce9.jpg" in written, "a line is written when it is printed"
        raise ValueError("no layer")
except ValueError:
    ended = (sys.stdout, sys.stderr) == streams
open_ones = [number for number in (1, 2) if os.path.exists(f"/proc/self/fd/{number}")]
open("result", "w").write(f"{ended} {open_ones} {len(os.listdir('/proc/self/fd'))}")
"""
    closing = " ".join(f"{number}>&-" for number in closed)
    command = ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c"]
    script = f"import os, sys\nfrom unitlens.jobs.logs import log_to\n{body}"
    environment = {"PYTHONPATH": str(SCRIPTS), "PATH": "/usr/bin:/bin"}
    assert subprocess.run([*command, script], cwd=tmp_path, env=environment).returncode == 0
    left = [number for number in (1, 2) if number not in closed]
    ended, rest = (tmp_path / "result").read_text().split(" ", 1)
    assert ended == "True" and rest.startswith(str(left))
    lines = (tmp_path / "job.log").read_text().splitlines()
    expected = {"printed", "lament caf\\udce9.jpg", "from C", "ValueError: no layer"}
    assert expected <= set(lines) and lines[-1].startswith("took ")
    assert lines.count("ValueError: no layer") == 1, "the line for the terminal goes nowhere where there is none"


def test_the_terminal_is_closed_with_the_log(tmp_path):
    with logs.log_to(tmp_path / "job.log") as terminal:
        assert not terminal.closed
    assert terminal.closed


def test_a_log_within_a_log_gives_back_what_it_took(tmp_path):
    body = """
with log_to("job.log"):
    print("outer")
    try:
        with log_to("inner.log"):
            print("inner")
            raise ValueError("within")
    except ValueError:
        print("caught")
    for _ in progress.each([1], "images"):
        pass
print("after")
"""
    status, out, err, log = run_bare(body, tmp_path)
    assert (status, out, err) == (0, "after\n", "")  # what the inner one tells its terminal is in the outer log
    _, outer, within, caught, started, stage, took = log.splitlines()
    assert (outer, within, caught) == ("outer", "ValueError: within", "caught")
    assert started.startswith("started up in") and stage.startswith("1 of 1 images") and took.startswith("took ")
    inner = (tmp_path / "inner.log").read_text()
    assert "inner\n" in inner and inner.splitlines()[-1].startswith("took ")


def test_a_message_of_any_characters_is_told_and_shows_what_it_holds(tmp_path):
    body = """
class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")

for message in ("a\\u202eb\\x1b[31m\\x00\\u200b\\udce9 \\u00fc", None):
    try:
        with log_to("job.log"):
            raise ValueError(message) if message else Odd
    except Exception:
        pass
    os.rename("job.log", f"{'odd' if message is None else 'text'}.log")
"""
    status, _, err, _ = run_bare(body, tmp_path)
    shown = r"ValueError: a\u202eb\x1b[31m\x00\u200b\udce9 ü"
    assert status == 0
    assert err.splitlines() == [shown, "Odd: its message cannot be shown"]
    assert shown in (tmp_path / "text.log").read_text()
    assert "exception str() failed" in (tmp_path / "odd.log").read_text()


def test_nvidia_smi_that_does_not_end_leaves_the_share_unknown(gpu, monkeypatch):
    gpu.write_text("#!/bin/sh\ntrap '' TERM\ntouch $0.started\nexec sleep 60\n")
    gpu.chmod(0o755)
    monkeypatch.setattr(progress, "_PATIENCE", 0.3)
    with progress.stage(1, "images"):
        monkeypatch.setattr(progress.job, "logs", False)
    while not gpu.with_name("nvidia-smi.started").exists():
        time.sleep(0.01)
    process, _ = progress.job.nvidia_smi
    assert progress.cost().endswith(", which was busy an unknown share of the time")
    assert process.wait(timeout=10) == -signal.SIGKILL


def test_a_stage_that_does_more_than_it_said_is_done_and_no_more(clock):
    with progress.stage(2, "images") as this:
        this.done = 5
        assert progress.tell().endswith(" 0 s left")
    with progress.stage(0, "images"):
        assert progress.tell() == "0 of 0 images"


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock is ten seconds after the one before."""
    times = iter(range(0, 10_000, 10))
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(times))


def test_how_far_a_job_is_counts_what_runs_within_what_is_ahead(clock):
    told = []
    for batch in progress.progress([range(4)] * 2 + [range(2)], 10, "images"):
        told.append(progress.tell())
        for _ in progress.progress([range(100)] * 2, 100 * len(batch), "channels") if not told[1:] else ():
            told.append(progress.tell())
    assert told == [
        "0 of 10 images",
        "0 of 10 images (0 of 400 channels)",
        "0 of 10 images (100 of 400 channels), 0.03 a second, 360 s left",
        "4 of 10 images, 0.08 a second, 75 s left",
        "8 of 10 images, 0.13 a second, 15 s left",
    ]
    assert list(progress.each(["a", "b"], "layers")) == ["a", "b"] and not progress._stages
    with progress.stage(4, "layers"), progress.stage(2, "units") as within:
        within.done = 1  # of nothing that the outer one has ahead
        assert progress.tell() == "0 of 4 layers (1 of 2 units)"


def test_stages_outside_of_a_log_print_nothing(capsys):
    assert list(progress.progress([[1, 2], [3]], 3, "source images")) == [[1, 2], [3]]
    assert capsys.readouterr().out == ""


def test_a_log_grows_while_the_job_works_and_each_outermost_stage_leaves_a_line(tmp_path):
    body = """
import time
from unitlens.jobs import logs, progress
progress.EVERY = 0.2
with log_to("logs/job.log"):
    for _ in progress.each(range(2), "layers"):
        for _ in progress.each(range(3), "units"):
            time.sleep(0.15)
    list(progress.each([1], "tables"))
    time.sleep(0.5)
"""
    *_, log = run(body, tmp_path)
    start_up, *lines = log.splitlines()
    assert re.fullmatch(r"started up in \d+\.\d s: imports, weights, device", start_up)
    number = r"\d+(\.\d+)?"
    inner = [
        line for line in lines if re.match(rf"\d of 2 layers \(\d of 3 units\), {number} a second, \d+ s left", line)
    ]
    ends = [
        re.sub(rf", {number} a second", "", line) for line in lines if line.endswith(", 0 s left") and "(" not in line
    ]
    assert len(inner) >= 2 and "running for" in lines[-1]
    assert ends == ["2 of 2 layers, 0 s left", "1 of 1 tables, 0 s left"]


def test_a_log_gets_a_line_every_half_minute(monkeypatch):
    now, said = [0.0], []

    def wait(seconds):
        now[0] += seconds
        return now[0] > 95

    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_say", lambda line: said.append(now[0]))
    progress._watch(SimpleNamespace(wait=wait), io.StringIO(), "job")
    assert said == [30, 60, 90]


def test_a_terminal_shows_one_line_that_moves_and_goes(tmp_path, monkeypatch):
    body = """
import time
from unitlens.jobs import logs, progress
progress._TICK = 0.1
with log_to("results/logs/explain/toy/00000.log") as terminal:
    for _ in progress.each(range(4), "images"):
        time.sleep(0.15)
print("over")
"""
    script = f"from unitlens.jobs.logs import log_to\n{body}"
    drawn = bytearray()

    def read(descriptor):
        drawn.extend(data := os.read(descriptor, 1024))
        return data

    monkeypatch.chdir(tmp_path)
    pty.spawn(["env", f"PYTHONPATH={SCRIPTS}", sys.executable, "-c", script], read)
    *moving, over = drawn.decode().split("\r\x1b[K")
    assert over.strip() == "over"
    assert any(re.fullmatch(r"[1-3] of 4 images, .* a second, \d+ s left; explain/toy/00000", line) for line in moving)
    assert "\n" not in "".join(moving)


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A torch that uses a GPU, and the place for an `nvidia-smi`."""
    cuda = SimpleNamespace(
        is_initialized=lambda: True,
        get_device_properties=lambda: SimpleNamespace(uuid="1234"),
        max_memory_allocated=lambda: 3 * 2**20,
        get_device_name=lambda: "a GPU",
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(progress.job, "opened", 0)
    monkeypatch.setattr(progress.job, "logs", True)
    monkeypatch.setattr(progress.job, "works", False)
    return tmp_path / "nvidia-smi"


@pytest.mark.parametrize(
    ("told", "busy"),
    [
        ("20\n60", "20 %"),  # 40 % of the second half of the job
        ("[N/A]", "an unknown share"),
        ("No devices were found", "an unknown share"),
    ],
)
def test_last_line_tells_which_share_of_the_time_the_gpu_was_busy(gpu, monkeypatch, capsys, told, busy):
    gpu.write_text(f"""#!/bin/sh
echo "$@" > {gpu}.arguments
printf '%b\\n' '{told}'
touch {gpu}.told
exec sleep 60
""")
    gpu.chmod(0o755)
    times = iter([30, 30, 60, 60])  # the stage, watching; the end of watching, the end
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(times))
    with progress.stage(1, "images"):
        assert capsys.readouterr().out == "started up in 30.0 s: imports, weights, device\n"
        monkeypatch.setattr(progress.job, "logs", False)
    while not gpu.with_name("nvidia-smi.told").exists():
        time.sleep(0.01)
    line = progress.cost()
    assert line.endswith(f" and 3 MiB of a GPU, which was busy {busy} of the time")
    asked = gpu.with_name("nvidia-smi.arguments").read_text().split()
    assert asked == ["--id=GPU-1234", "--loop=1", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]


def test_share_is_unknown_without_the_command(gpu, monkeypatch):
    with progress.stage(1, "images"):
        monkeypatch.setattr(progress.job, "logs", False)
    assert progress.cost().endswith(", which was busy an unknown share of the time")
