"""Runs that share `resources/` and call different weights by one name each use their own, and say so."""

import hashlib
import json
import shutil

import pytest
import toy

pytestmark = pytest.mark.slow
RUN = ["--configfile", "config/toy.yaml", "--cores", "1", "results/models/toy.json"]


@pytest.fixture
def two_runs(new_project):
    first = new_project("sharing")
    second = first.with_name("second")
    shutil.copytree(first, second)
    toy.save_checkpoint(second / "weights/toy.pt", seed=1)
    (first / "resources").mkdir()
    (second / "resources").symlink_to(first / "resources")
    return first, second


def own_weights_are_used(run):
    facts = json.loads((run / "results/models/toy.json").read_text())
    return facts["weights_sha256"] == hashlib.sha256((run / "weights/toy.pt").read_bytes()).hexdigest()


def test_one_after_the_other_and_with_a_file_that_changes_in_between(two_runs, snakemake):
    first, second = two_runs
    for run in two_runs:
        result = snakemake(run, *RUN)
        assert result.returncode == 0 and own_weights_are_used(run), result.stdout
    toy.save_checkpoint(second / "weights/toy.pt", seed=2)
    assert snakemake(second, *RUN).returncode == 0 and own_weights_are_used(second)
    assert "Nothing to be done" in snakemake(first, *RUN).stdout and own_weights_are_used(first)
    assert len(list((first / "resources/weights").iterdir())) == 3

    file = (first / "results/retrieved/weights/toy.bin").resolve()
    file.write_bytes((second / "weights/toy.pt").read_bytes())
    (first / "results/models/toy.json").unlink()
    result = snakemake(first, *RUN)
    assert result.returncode and f"{file} has sha256" in result.stdout and "run again to retrieve it" in result.stdout
    file.unlink()
    assert snakemake(first, *RUN).returncode == 0 and own_weights_are_used(first)


def test_at_the_same_moment(two_runs, start_snakemake):
    processes = [start_snakemake(run, *RUN) for run in two_runs]
    assert [process.wait() for process in processes] == [0, 0]
    assert all(map(own_weights_are_used, two_runs))
