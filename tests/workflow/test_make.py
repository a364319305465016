"""`make` alone, and the Pythons for which `make env` makes the environment."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make(*arguments):
    return subprocess.run(["make", "-C", ROOT, *arguments], capture_output=True, text=True)


def test_make_alone_says_what_there_is_to_make_and_makes_nothing(tmp_path):
    result = make(f"VENV={tmp_path / 'none'}")
    assert result.returncode == 0 and not list(tmp_path.iterdir())
    told = set(re.findall(r"^make (\w+)", result.stdout, re.MULTILINE))
    told |= set(re.findall(r"[\w-]+", result.stdout.partition("For developers:")[2].partition("(")[0]))
    phony = re.search(r"^\.PHONY: (.+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert told == set(phony.split()) - {"help"}


@pytest.mark.parametrize(
    ("version", "reason"),
    [((3, 10), " is 3.10. Name another"), ((3, 14), " is 3.14, for which immutables has no wheel. Name another")],
)
def test_a_python_that_the_lock_does_not_serve_is_refused(tmp_path, version, reason):
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nexec python3 -c "import sys; sys.version_info = {(*version, 0)}; exec(sys.argv[1])" "$2"\n'
    )
    python.chmod(0o755)
    result = make("env", f"PYTHON={python}", f"VENV={tmp_path / 'none'}")
    assert result.returncode != 0 and reason in result.stderr and "make env PYTHON=python3.12" in result.stderr
    assert not (tmp_path / "none").exists()


def test_a_place_of_the_environment_with_a_space_is_refused(tmp_path):
    result = make("env", f"VENV={tmp_path / 'my env'}")
    assert (
        result.returncode != 0
        and "my env: Snakemake runs no script by a Python whose path has a space" in result.stderr
    )
    assert not list(tmp_path.iterdir())


def test_the_content_of_the_lock_and_not_its_time_makes_the_environment_anew(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "link").symlink_to(place)
    (place / ".unitlens-lock").write_bytes((ROOT / "envs/requirements.txt").read_bytes())
    os.utime(place / ".unitlens-lock", (0, 0))
    for name in ("place", "link"):
        assert make("env", f"VENV={tmp_path / name}", "PYTHON=false").returncode == 0
    (place / ".unitlens-lock").write_text("other")
    assert make("env", f"VENV={tmp_path / 'link'}", "PYTHON=false").returncode != 0
