"""`make recover` cancels jobs only where no Snakemake lives in the folder, by whatever path it is reached."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "profiles/slurm/recover.sh"
COMMAND = """#!/bin/sh
echo "{0} $*" >> "$TOLD"
[ {0} = squeue ] && [ ! -e canceled ] && echo 7
[ {0} = scancel ] && touch canceled
exit 0
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with a job that a killed Snakemake left, a link to it, and commands that note what they hear."""
    (tmp_path / "bin").mkdir()
    for name in ("snakemake", "squeue", "scancel"):
        (tmp_path / "bin" / name).write_text(COMMAND.format(name))
        (tmp_path / "bin" / name).chmod(0o755)
    folder = tmp_path / "a run"
    (folder / ".snakemake/log").mkdir(parents=True)
    (folder / "results").mkdir()
    (folder / ".snakemake/log/1.log").write_text("SLURM run ID: abc-1\n")
    (tmp_path / "link").symlink_to(folder)
    return folder


def recover(folder, *arguments):
    """Run the script; give its exit status, its errors, and what the commands were told."""
    bin_folder, told = folder.parent / "bin", folder.parent / "told"
    told.unlink(missing_ok=True)
    variables = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PWD": str(folder), "TOLD": str(told)}
    result = subprocess.run(
        [SCRIPT, *arguments], cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    return (
        result.returncode,
        result.stderr,
        [line.strip() for line in told.read_text().splitlines()] if told.exists() else [],
    )


@pytest.mark.parametrize("name", ["a run", "link"])
def test_a_living_run_is_left_alone_by_whatever_path_it_is_reached(folder, name):
    (folder.parent / "snakemake.py").write_text("input()")
    variables = os.environ | {"PYTHONPATH": str(folder.parent)}
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm"]
    with subprocess.Popen(command, cwd=folder, env=variables, stdin=subprocess.PIPE) as living:
        status, errors, told = recover(folder.parent / name)
        assert living.poll() is None
        living.kill()
    assert status and f"still runs in this folder as process {living.pid}" in errors and told == []
    assert recover(folder.parent / name)[0] == 0


def test_options_come_before_targets(folder):
    status, errors, told = recover(folder, "--profile", "slurm", "--configfile", "x.yaml", "--", "a.csv")
    arguments = "--profile slurm --configfile x.yaml -- a.csv"
    queue = [line for line in told if line.startswith("squeue")]
    assert status == 0 and not errors and len(queue) == 2 and "--name=abc-1" in queue[0]
    others = [line for line in told if line not in queue]
    assert others == ["scancel 7", f"snakemake --unlock {arguments}", f"snakemake {arguments}"]


def test_a_run_of_another_machine_is_left_alone(folder):
    note = folder / ".snakemake/started"
    note.write_text("login2 4711\n")
    status, errors, told = recover(folder)
    assert status == 1 and told == []
    assert "started on login2, as process 4711" in errors and f"rm {note.relative_to(folder)}" in errors
    note.write_text(f"{socket.gethostname()} 4711\n")
    assert recover(folder)[0] == 0


def test_nothing_is_canceled_where_slurm_does_not_answer(folder):
    (folder.parent / "bin/squeue").write_text("#!/bin/sh\nexit 1\n")
    status, _, told = recover(folder)
    assert status == 1 and told == []
    shutil.rmtree(folder / ".snakemake/log")
    assert recover(folder)[2] == ["snakemake --unlock", "snakemake"]
