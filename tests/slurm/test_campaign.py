"""Faults at seeded moments, on both kinds of cluster: whatever happens, a run ends complete or says why it did not, and
the same command (after a kill, `make recover`) completes it: the same bytes, and no finished job executed again.

`pytest tests/slurm/test_campaign.py --rounds 8` runs each fault with eight seeds.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest
from cluster import running, tell
from unitlens.jobs.slurm_commands import exit_status, submissions

pytestmark = [pytest.mark.slurm, pytest.mark.many(10)]

SHARDS = ["00000", "00001", "00002"]
LAST = 14  # seconds after the start within which the fault comes; an undisturbed run takes about twenty
SILENT = 120  # seconds for which a run may print nothing unless it has said what it waits for
EXPLAINED = re.compile(r"asked again|waited for|lets them wait")


class Watch(threading.Thread):
    """Look how long a log does not grow, unless its last line says what is waited for."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.longest, self.ended = path, 0.0, threading.Event()

    def run(self):
        size, since = -1, time.monotonic()
        while not self.ended.wait(1):
            text = self.path.read_text() if self.path.exists() else ""
            if len(text) != size or EXPLAINED.search(text.strip().rpartition("\n")[2]):
                size, since = len(text), time.monotonic()
            self.longest = max(self.longest, time.monotonic() - since)


def finish(run, process, attempts=3):
    """Wait for the run, and give its command again as long as it ends with a reason; count its silence."""
    for _ in range(attempts):
        watch = Watch(run.folder / "run.log")
        watch.start()
        status, text = run.wait(process, seconds=600)
        watch.ended.set()
        assert watch.longest < SILENT, f"silent for {watch.longest:.0f} s:\n{text}"
        if status == 0:
            return
        assert says_why(text), text
        if "cannot be locked" in text or status < 0:
            process = run.start_make("recover", f"ARGS={' '.join(run.hasty)}")
        else:
            process = run.start()
    pytest.fail(f"not complete after {attempts} attempts:\n{text}")


def says_why(text):
    """A run that was not killed names the jobs that failed, each with a cause."""
    told = re.findall(r"^  write_\w+ .*?: (.*)\n    log: ", text, re.MULTILINE)
    return "Jobs failed:" not in text or (told and "it has no log" not in told) or "Jobs failed: 0" in text


def kill_the_head(run, chance, process):
    pause(chance)
    process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))


def cancel(run, chance, process):
    pause(chance)
    if jobs := [str(number) for number, job in run.cluster.jobs().items() if job["folder"] == str(run.folder)]:
        tell("scancel", *chance.sample(jobs, chance.randint(1, len(jobs))))


def crash_the_node(run, chance, process):
    pause(chance)
    run.cluster.crash_node("cpu1")
    time.sleep(chance.uniform(0, 5))
    run.cluster.bring_back("cpu1")
    for number, job in run.cluster.jobs().items():  # else they start in two minutes
        if job["state"] == "PENDING":
            subprocess.run(["scontrol", "update", f"jobid={number}", "starttime=now+15"], capture_output=True)


def drain_the_node(run, chance, process):
    pause(chance)
    run.cluster.set_state("cpu1", "drain")
    time.sleep(chance.uniform(0, 90))
    run.cluster.set_state("cpu1", "resume")


def take_the_controller_away(run, chance, process):
    pause(chance)
    accounting = run.cluster.accounting and chance.random() < 0.5
    run.cluster.stop_controller()
    if accounting:
        run.cluster.stop_accounting()
    time.sleep(chance.uniform(0, 90))
    if accounting:
        run.cluster.start_accounting()
    run.cluster.start_controller()


def rewrite_what_is_shared(run, chance, process):
    pause(chance)
    for path in [run.folder / "config/sheet.csv", *sorted((run.folder / "source_images").iterdir())]:
        part = path.with_suffix(".new")
        part.write_bytes(path.read_bytes())
        part.rename(path)


def start_a_second(run, chance, process):
    pause(chance)
    status, text = run.finish(log="second.log")
    assert status == 0 or "cannot be locked" in text, text


def nothing_more(run, chance, process):
    """The fault was there from the beginning."""


def pause(chance):
    time.sleep(chance.uniform(0, LAST))


@contextmanager
def undisturbed_start(run, chance):
    yield []


@contextmanager
def refusals(run, chance):
    """An sbatch that refuses above so many queued jobs, and every so many calls."""
    queued, every = chance.randint(1, 3), chance.randint(2, 5)
    reasons = [
        "AssocMaxSubmitJobLimit",
        "Socket timed out on send/recv operation",
        "Slurm temporarily unable to accept job",
    ]
    calls = run.folder / "calls"
    with command(
        "sbatch",
        f"""echo call >> '{calls}'
queued=$(squeue --noheader --states=PENDING,RUNNING | wc -l)
[ "$queued" -lt {queued} ] && [ $(($(wc -l < '{calls}') % {every})) != 0 ] && exec {shutil.which("sbatch")} "$@"
echo 'sbatch: error: {chance.choice(reasons)}' >&2
exit 1""",
        run,
    ):
        yield []


@contextmanager
def bad_accounting(run, chance):
    """A sacct that is silent, slow, fails or answers without end."""
    with command("sacct", chance.choice(["exit 0", "exit 1", "sleep 100", "echo '1|CANCELLED by 0'", "sleep 15"]), run):
        yield []


@contextmanager
def command(name, script, run):
    """Put a command first on the PATH."""
    folder = run.folder / "commands"
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextmanager
def too_little_time(run, chance):
    run.fault(chance.choice(SHARDS), "slow")
    yield []


@contextmanager
def too_little_memory(run, chance):
    """Too little for what a shard needs, or even for the beginning of the script."""
    if chance.random() < 0.5:
        run.fault(chance.choice(SHARDS), "large")
        yield []
    else:
        yield ["--set-resources", "write_shard:mem_mb=20"]


@contextmanager
def full_disk(run, chance):
    disk = run.folder / "results/images"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={chance.randint(1, 5)}m", "tmpfs", disk], check=True)
    try:
        yield ["--retries", "0"]
    finally:
        kept = {path.name: path.read_bytes() for path in disk.iterdir()}
        subprocess.run(["umount", disk], check=True)
        for name, content in kept.items():
            (disk / name).write_bytes(content)


def make_room(run, chance, process):
    process.wait()
    subprocess.run(["mount", "-o", "remount,size=50m", run.folder / "results/images"], check=True)


def purge(run, chance, process):
    """Some results are gone after the run; the same command makes what is missing."""
    assert process.wait(300) == 0
    for path in chance.sample(sorted((run.folder / "results/images").iterdir()), chance.randint(1, 3)):
        path.unlink()
    (run.folder / "results/table.csv").unlink()
    run.restarted = run.start()


FAULTS = {
    "kill": (undisturbed_start, kill_the_head),
    "cancel": (undisturbed_start, cancel),
    "crash": (undisturbed_start, crash_the_node),
    "drain": (undisturbed_start, drain_the_node),
    "refusals": (refusals, nothing_more),
    "refusals and kill": (refusals, kill_the_head),
    "accounting": (bad_accounting, nothing_more),
    "accounting and cancel": (bad_accounting, cancel),
    "controller": (undisturbed_start, take_the_controller_away),
    "time": (too_little_time, nothing_more),
    "memory": (too_little_memory, nothing_more),
    "disk": (full_disk, make_room),
    "purge": (undisturbed_start, purge),
    "two at once": (undisturbed_start, start_a_second),
    "shared files": (undisturbed_start, rewrite_what_is_shared),
}


def pytest_generate_tests(metafunc):
    metafunc.parametrize("seed", range(metafunc.config.getoption("--rounds")))


def executions(run):
    return run.executed() if (run.folder / "executed.txt").exists() else {}


def account(run):
    """What the console, SLURM and the jobs' logs say of a run."""
    logs = sorted((run.folder / ".snakemake/slurm_logs").rglob("*.log"))
    jobs = [f"{number}: {job}" for number, job in run.cluster.jobs().items() if job["folder"] == str(run.folder)]
    return "\n".join([run.printed(), *jobs, *(f"{log}:\n{log.read_text(errors='replace')}" for log in logs)])


def finished(run):
    """Count the executions of the shards that are written and whose jobs came to their good end."""
    ended = set()
    for folder in (run.folder / ".snakemake/slurm").glob("*"):
        for token, (_, note) in submissions(folder).items():
            if exit_status(folder, token) == "0":
                ended.add(json.loads(note.read_text())["job"])
    done = [shard for shard in SHARDS if (run.folder / f"results/images/{shard}.h5").exists()]
    done = [f"write_shard {shard}" for shard in done if any(shard in job for job in ended)]
    return {job: count for job, count in executions(run).items() if job in done}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(run, undisturbed, fault, seed):
    start, happen = FAULTS[fault]
    chance = random.Random(f"{fault} {seed} {run.cluster.accounting}")
    with start(run, chance) as arguments:
        process = run.start(*arguments)
        happen(run, chance, process)
        done = finished(run)
        finish(run, getattr(run, "restarted", process))
        assert done.items() <= executions(run).items(), f"a finished job was executed again:\n{account(run)}"
    assert run.results() == undisturbed.results()
    assert not running(process.pid)
