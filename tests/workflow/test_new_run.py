"""`make new`: a run folder that plans as the clone does, writes only into itself, and follows its own config."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENV = Path(sys.executable).parents[1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The tree by a path as people have them."""
    folder = tmp_path_factory.mktemp("clones") / "a b ü/clone"
    folder.mkdir(parents=True)
    for name in ("Snakefile", "Makefile", "rules", "scripts", "envs", "report", "profiles", "docs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "Makefile").unlink()
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "config", folder / "config")
    return folder


def make(folder, *arguments):
    """Run make with this environment, whatever lock file it was made from."""
    command = ["make", "-C", folder, "-o", "env", f"VENV={VENV}", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def run(clone, tmp_path):
    result = make(clone, "new", f"RUN={tmp_path / 'a run'}")
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


def test_a_folder_that_exists_is_left_alone(run, clone):
    before = sorted(run.iterdir())
    for arguments in ([f"RUN={run}"], []):
        assert make(clone, "new", *arguments).returncode != 0
    assert sorted(run.iterdir()) == before


def test_targets_work_by_a_path_with_spaces(run, clone):
    assert (run / "rules").resolve() == (clone / "rules").resolve() and (run / ".venv").resolve() == VENV.resolve()
    (clone / "results").mkdir()
    for folder in (run, clone):
        result = make(folder, "check")
        assert result.returncode == 0, result.stderr
    script = run / "profiles/slurm/recover.sh"
    assert (
        f'"{clone}/profiles/slurm/recover.sh" --profile slurm' in make(run, "-n", "recover").stdout and script.exists()
    )
