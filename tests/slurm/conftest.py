"""Fixtures of the tests on a real SLURM: the cluster, the stub workflow in a folder, and Snakemake run on it."""

import copy
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import toy
from cluster import Cluster, wait_until, why_not

ROOT = Path(__file__).parents[2]
STUB = Path(__file__).parent / "stub"
HASTY = ["--latency-wait", "10"]  # the file system of the tests shows files at once
UNREPEATABLE = ("logs", "benchmarks", "timings", "retrieved")  # they hold seconds; what came from elsewhere


@pytest.fixture(scope="session", params=["accounting", "no_accounting"])
def cluster(request):
    """A cluster of either kind for all tests, stopped after the last."""
    accounting = request.param == "accounting"
    if reason := why_not(accounting):
        pytest.skip(reason)
    with Cluster(accounting) as running:
        yield running


@pytest.fixture
def run(cluster, tmp_path):
    """The stub workflow in a folder of its own."""
    run = Run(tmp_path / "a run ü", cluster)
    yield run
    run.end()


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory):
    """A run of the stub in which nothing goes wrong."""
    run = Run(tmp_path_factory.mktemp("undisturbed") / "run", cluster)
    status, text = run.finish()
    assert status == 0, text
    return run


@pytest.fixture
def new_stub(tmp_path):
    """Make a folder of a given name with the stub workflow."""
    return lambda name: write_stub(tmp_path / name)


@pytest.fixture(scope="session")
def start_local():
    """Start Snakemake on this machine by the script behind `make recover`, in a process group of its own."""

    def start(folder):
        command = [folder / "profiles/slurm/recover.sh", "--profile", "profiles/local"]
        with (folder / "run.log").open("a") as log:
            return subprocess.Popen(
                command, cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    return start


@pytest.fixture(scope="session")
def bytes_of():
    """Read the results of a folder, as `result_bytes` does."""
    return result_bytes


@pytest.fixture(scope="session")
def on_slurm():
    """Run Snakemake with the SLURM profile in a folder; give its exit status and what it printed."""

    def run(folder, *arguments):
        command = [sys.executable, "-m", "snakemake", "--profile", "slurm", *HASTY, *arguments]
        result = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
        return result.returncode, result.stdout + result.stderr

    return run


@pytest.fixture
def finished(undisturbed, tmp_path):
    """A copy of the undisturbed run."""
    run = copy.copy(undisturbed)
    run.folder = Path(shutil.copytree(undisturbed.folder, tmp_path / "run", symlinks=True))
    return run


def write_stub(folder):
    """Make a folder with the stub workflow, the profiles and six source images."""
    shutil.copytree(STUB, folder)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "rules").mkdir()
    shutil.copy2(ROOT / "rules/hooks.smk", folder / "rules")
    (folder / "slurm").symlink_to("profiles/slurm")
    for name in ("faults", "results", "config"):
        (folder / name).mkdir()
    (folder / "config/config.yaml").write_text("{}\n")  # the profile names it
    toy.write_sheet(folder / "config/sheet.csv", toy.write_source_images(folder / "source_images", 6))
    return folder


class Run:
    """A folder in which the stub runs."""

    hasty = HASTY

    def __init__(self, folder, cluster):
        self.folder, self.cluster, self.processes = folder, cluster, []
        write_stub(folder)

    def start(self, *arguments, log="run.log"):
        """Start Snakemake and do not wait; what it prints goes to a file."""
        return self.start_command([sys.executable, "-m", "snakemake", "--profile", "slurm", *HASTY, *arguments], log)

    def start_command(self, command, log="run.log"):
        with (self.folder / log).open("w") as file:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def end(self):
        """End what a test that failed has left."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.cluster.reset()

    def finish(self, *arguments, log="run.log"):
        """Run Snakemake to its end; give its exit status and what it printed."""
        return self.wait(self.start(*arguments, log=log), log)

    def make(self, target, *variables, log="run.log"):
        """Run a target of the Makefile in this environment, whatever lock file it was made from."""
        return self.wait(self.start_make(target, *variables, log=log), log)

    def start_make(self, target, *variables, log="run.log"):
        venv = Path(sys.executable).parents[1]
        options = ["-f", ROOT / "Makefile", "-o", "env", f"VENV={venv}"]
        return self.start_command(["make", "--no-print-directory", *options, target, *variables], log)

    def wait(self, process, log="run.log", seconds=300):
        """Wait for a command; give its exit status and what it printed."""
        try:
            status = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            pytest.fail(f"{process.args} took more than {seconds} s:\n{self.printed(log)}")
        return status, self.printed(log)

    def printed(self, log="run.log"):
        return (self.folder / log).read_text()

    def fault(self, shard, kind="pause"):
        """Let something go wrong while a shard is being written."""
        (self.folder / "faults" / shard).write_text(kind)

    def mend(self, shard):
        """Let it go right from now on."""
        for name in (shard, f"{shard}.reached"):
            (self.folder / "faults" / name).unlink(missing_ok=True)

    def wait_for_fault(self, shard):
        """Wait until a shard is half written."""
        wait_until((self.folder / "faults" / f"{shard}.reached").exists, f"the fault in shard {shard}", seconds=180)
        assert any(part.name.startswith(f"{shard}.h5.") for part in self.parts())

    def parts(self):
        """Files that are half written."""
        return list((self.folder / "results").rglob("*.part"))

    def wait_for_finished(self, n):
        """Wait until Snakemake knows that so many jobs are finished."""
        done = re.compile(r"^[\d:]{8}  (\d+) of \d+", re.MULTILINE)
        wait_until(lambda: max(map(int, done.findall(self.printed())), default=0) >= n, f"the end of {n} jobs", 180)

    def job(self, shard):
        """Number of the last SLURM job that was to write a shard."""
        return max(number for number, job in self.cluster.jobs().items() if self.writes(job, shard))

    def jobs(self, shard):
        """What SLURM remembers of the jobs that were to write a shard, in their order."""
        return [job for _, job in sorted(self.cluster.jobs().items()) if self.writes(job, shard)]

    def writes(self, job, shard):
        return job["comment"].endswith(shard) and job["folder"] == str(self.folder)

    def executed(self):
        """Count how often every job was executed."""
        return Counter((self.folder / "executed.txt").read_text().splitlines())

    def results(self):
        return result_bytes(self.folder)


def result_bytes(folder):
    """Bytes of every result that must be the same in every run, by its name."""
    results = folder / "results"
    return {
        path.relative_to(results).as_posix(): path.read_bytes()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.relative_to(results).parts[0] not in UNREPEATABLE
    }


def environment():
    """Put this environment's commands first and the library where the scripts find it."""
    kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
