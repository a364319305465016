"""A miniature of the workflow, run by Snakemake: whole, again, killed, with photographs appended, with broken ones."""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import time
from pathlib import Path

import outputs
import pandas as pd
import pytest
import toy
from unitlens import store

CONFIG = ["--configfile", "config/toy.yaml"]
RUN = [*CONFIG, "--cores", "2", "--keep-going", "--rerun-incomplete"]
EXPLAINED = ["results/agreement.csv", "results/predictions.csv", "results/timings/explainers.csv"]
EVERYTHING = [*EXPLAINED, "results/concepts.csv", "results/comparison/models.csv"]
PHOTOGRAPHS = "results/images/explain/squash36-crop32-bilinear"
UNREPEATABLE = ("logs", "benchmarks", "timings")  # they hold seconds


@pytest.fixture(scope="module")
def finished(new_project, snakemake):
    """The miniature, run to its end."""
    project = new_project("finished")
    result = snakemake(project, *RUN, *EVERYTHING)
    assert result.returncode == 0, result.stdout
    assert "Jobs done: 35. docs/outputs.md says" in result.stdout
    assert "results/saliency (4)" in " ".join(result.stdout.split())
    return project


def digests(project):
    """Hash of every result that must be the same in every run."""
    results = project / "results"
    return {
        path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.relative_to(results).parts[0] not in UNREPEATABLE
    }


def test_whole_run(finished):
    concepts = pd.read_csv(finished / "results/concepts.csv")
    assert concepts.groupby("layer").size().to_dict() == {"relu1": 6, "relu2": 8}
    assert set(concepts.status) <= {"labelled", "dead"}
    agreement = pd.read_csv(finished / "results/agreement.csv")
    assert sorted(set(agreement.image_id)) == ["toy_00", "toy_01", "toy_02", "toy_03"]
    timings = pd.read_csv(finished / "results/timings/explainers.csv")
    assert timings[["explainer", "images"]].values.tolist() == [["gradcam-relu2", 4], ["lime", 4]]
    assert not list((finished / "results").rglob("*.part"))
    logs, tables = names_below(finished / "results/logs"), names_below(finished / "results/benchmarks")
    assert logs == tables and len(logs) == 35


def names_below(folder):
    return {path.relative_to(folder).with_suffix("") for path in folder.rglob("*") if path.is_file()}


def test_every_column_that_was_written_is_described(finished):
    unknown, missing = outputs.departures(finished)
    assert unknown == []
    written = ("results/agreement.csv", "results/concepts.csv", "results/predictions.csv", "results/models/")
    assert not [each for each in missing if each.startswith(written)]


def test_second_run_has_nothing_to_do(finished, snakemake):
    result = snakemake(finished, *RUN, *EVERYTHING)
    assert result.returncode == 0 and "Nothing to be done" in result.stdout


def test_new_local_checkpoint_runs_all_that_depends_on_it(finished, plan, tmp_path):
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    toy.save_checkpoint(project / "weights/toy.pt", seed=1)
    jobs = plan(project, *EVERYTHING, *CONFIG)
    assert {rule: jobs.get(rule) for rule in ("retrieve_weights", "check_model", "explain_lime", "embed_images")} == {
        "retrieve_weights": 1,
        "check_model": 1,
        "explain_lime": 2,
        "embed_images": None,
    }


def test_killed_run_goes_on_to_the_same_bytes(finished, new_project, snakemake, start_snakemake):
    project = new_project("killed")
    process = start_snakemake(project, *RUN, *EXPLAINED)
    wait_for(project / "results/logs/explain_lime/toy/00000.log", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (project / "results/agreement.csv").exists()
    assert snakemake(project, *CONFIG, "--unlock").returncode == 0
    result = snakemake(project, *RUN, *EXPLAINED)
    assert result.returncode == 0, result.stdout
    found, expected = digests(project), digests(finished)
    assert "agreement.csv" in found and found == {name: expected[name] for name in found}


def wait_for(path, process, seconds=300):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_appended_photographs_and_a_truncated_one(finished, snakemake, plan, tmp_path):
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    before = digests(project)
    photographs = project / "photographs"
    rows = toy.write_photographs(photographs, 4) + toy.write_photographs(photographs, 3, start=6)
    (photographs / "truncated.jpg").write_bytes(toy.truncated_jpeg())
    rows.insert(5, {"image_id": "toy_bad", "path": "truncated.jpg", "label": "1"})
    toy.write_sheet(project / "config/explain.csv", rows)
    new_shards = {
        "decode_images": 2,
        "explain_cam": 2,
        "explain_lime": 2,
        "score_agreement": 2,
        "summarise_agreement": 1,
        "summarise_predictions": 1,
        "summarise_timings": 1,
    }
    assert plan(project, *EXPLAINED, *CONFIG) == new_shards

    result = snakemake(project, *RUN, *EXPLAINED)
    assert result.returncode != 0
    assert "image_id 'toy_bad': photographs/truncated.jpg: cannot be read as a picture" in result.stdout
    log = (project / "results/logs/decode_images/explain/squash36-crop32-bilinear/00002.log").read_text()
    assert "image_id 'toy_bad': photographs/truncated.jpg" in log
    assert not (project / PHOTOGRAPHS / "00002.h5").exists()
    assert (project / "results/agreement/toy/00003.csv").exists(), "the other shard is finished"

    _, _, told = result.stdout.partition("Jobs failed: 1; not done for want of them: ")
    failures, _, made = told.partition("Jobs done: ")
    assert "decode_images explain squash36-crop32-bilinear 00002:   image_id 'toy_bad'" in failures
    assert "results/logs/decode_images/explain/squash36-crop32-bilinear/00002.log" in failures
    assert "results/agreement (1)" in " ".join(made.split())

    toy.write_photographs(photographs, 1, start=9)
    (photographs / "toy_09.png").rename(photographs / "truncated.jpg")
    one_shard = {rule: max(1, count // 2) for rule, count in new_shards.items()}
    assert plan(project, *EXPLAINED, *CONFIG) == one_shard
    _, *again = shlex.split(failures.partition("make these again:")[2].splitlines()[1])
    told = snakemake(project, "--dry-run", "--quiet", "rules", *again)
    assert set(re.findall(r"^(\w+) +(\d+)$", told.stdout, re.MULTILINE)) == {("decode_images", "1"), ("total", "1")}
    result = snakemake(project, *RUN, *EXPLAINED)
    assert result.returncode == 0, result.stdout
    after = digests(project)
    summaries = {"agreement.csv", "agreement_summary.csv", "findings/agreement.json", "predictions.csv"}
    assert {name for name in before if after[name] != before[name]} == summaries
    assert len(set(pd.read_csv(project / "results/agreement.csv").image_id)) == 8


def test_unreadable_photograph_is_skipped_on_request(project, snakemake):
    settings = toy.config()
    settings["images"]["explain"]["on_bad_image"] = "skip"
    toy.write_config(project, settings)
    (project / "photographs/toy_01.png").write_bytes(toy.truncated_jpeg())
    result = snakemake(project, *RUN, "results/masks/toy/00000.h5")
    assert result.returncode == 0, result.stdout
    _, facts = store.read(project / PHOTOGRAPHS / "00000.h5")
    assert [image_id for image_id, _ in json.loads(facts["skipped"])] == ["toy_01"]
    masks, _ = store.read(project / "results/masks/toy/00000.h5")
    assert masks["image_id"].tolist() == ["toy_00"]
