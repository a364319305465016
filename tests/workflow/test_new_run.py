"""`make new`: a run folder that plans as the clone does, writes only into itself, and follows its own config."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENV = Path(sys.executable).parents[1]


def make(*arguments):
    """Run make with this environment, whatever lock file it was made from."""
    command = ["make", "-C", ROOT, "-o", VENV / ".unitlens-lock", f"VENV={VENV}", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def run(tmp_path):
    result = make("new", f"RUN={tmp_path / 'a run'}")
    assert result.returncode == 0, result.stderr
    return tmp_path / "a run"


def test_new_run_plans_from_its_own_config(run, plan):
    for name in ("results", "resources", "config"):
        assert (run / name).is_dir() and not (run / name).is_symlink()
    config = run / "config/demo.yaml"
    assert plan(run, "--profile", "profiles/demo")["explain_perturbed"] == 2
    config.write_text(config.read_text().replace("device:", "devise:"))
    with pytest.raises(AssertionError, match="unknown key 'devise'"):
        plan(run, "--profile", "profiles/demo")
    assert (run / "slurm/config.yaml").is_file()
    assert list((run / "results").iterdir()) == [], "nothing was written"


def test_a_folder_that_exists_is_left_alone(run):
    before = sorted(run.iterdir())
    for arguments in ([f"RUN={run}"], []):
        assert make("new", *arguments).returncode != 0
    assert sorted(run.iterdir()) == before
