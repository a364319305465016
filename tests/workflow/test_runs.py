"""A miniature of the workflow, run by Snakemake: whole, again, killed, with images appended, with broken ones."""

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import outputs
import pytest
import toy
from conftest import ROOT, environment
from unitlens.storage.arrays import read_arrays
from unitlens.storage.tables import read_table

CONFIG = ["--configfile", "config/toy.yaml"]
RUN = [*CONFIG, "--cores", "2", "--keep-going", "--rerun-incomplete"]
EXPLAINED = ["results/agreement.csv", "results/predictions.csv", "results/timings/explainers.csv"]
EVERYTHING = [
    *EXPLAINED,
    "results/concepts.csv",
    "results/comparison/models.csv",
    "results/figures/agreement/spearman.svg",
]
SOURCE_IMAGES = "results/images/explain/squash36-crop32-bilinear"
UNREPEATABLE = ("logs", "benchmarks", "timings")  # they hold seconds
UNREPEATABLE += ("partial", "retrieved")  # of unfinished runs; what came from elsewhere


@pytest.fixture(scope="module")
def finished(new_project, snakemake):
    """The miniature, run to its end in a folder that links to the workflow; beside it a home and temporary files."""
    project = without_the_broken_one(new_project("finished"))
    surroundings = project.parent
    for name in ("clone", "home", "tmp"):
        (surroundings / name).mkdir()
    for name in ("Snakefile", "rules", "scripts", "envs", "report", "profiles"):  # as `make new` does
        (project / name).rename(surroundings / "clone" / name)
        (project / name).symlink_to(surroundings / "clone" / name)
    shutil.copytree(project / "config", surroundings / "clone/config")
    before = listing(surroundings)
    variables = {"HOME": str(surroundings / "home"), "TMPDIR": str(surroundings / "tmp"), "PYTHONDONTWRITEBYTECODE": ""}
    result = snakemake(project, *RUN, *EVERYTHING, **variables)
    assert result.returncode == 0, result.stdout
    assert "Jobs done: 46. docs/outputs.md says" in result.stdout
    assert "results/saliency (6)" in " ".join(result.stdout.split())
    (surroundings / "written.txt").write_text("\n".join(sorted(listing(surroundings) - before)))
    return project


def without_the_broken_one(project):
    """Leave out the source image that cannot be read; from now on such a one is an error."""
    sheet, settings = project / "config/explain.csv", toy.config()
    rows = csv.DictReader(sheet.read_text().splitlines())
    toy.write_sheet(sheet, [row for row in rows if row["path"] != "broken.jpg"])
    settings["images"]["explain"]["on_bad_image"] = "fail"
    toy.write_config(project, settings)
    return project


def listing(surroundings):
    """Every folder beside the run folder, and every file with its size and time."""
    found = [path for path in surroundings.rglob("*") if path.relative_to(surroundings).parts[0] != "run"]
    facts = {path: f" {path.lstat().st_size} {path.lstat().st_mtime_ns}" if path.is_file() else "" for path in found}
    return {f"{path.relative_to(surroundings)}{fact}" for path, fact in facts.items()}


def digests(project):
    """Hash of every result that must be the same in every run."""
    results = project / "results"
    return {
        path.relative_to(results).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(results.rglob("*"))
        if path.is_file() and path.relative_to(results).parts[0] not in UNREPEATABLE
    }


def test_whole_run(finished):
    concepts = read_table(finished / "results/concepts.csv")
    assert concepts.groupby("layer").size().to_dict() == {"relu1": 6, "relu2": 8}
    assert "selective" not in set(concepts.status)
    agreement = read_table(finished / "results/agreement.csv")
    assert set(agreement.image_id) == {"toy_00", "toy_02", "toy_03", "1.10", "NA"}
    assert set(agreement.image_id[agreement.value.isna()]) == {"1.10"}, "the black one has one superpixel"
    timings = read_table(finished / "results/timings/explainers.csv")
    assert timings[["explainer", "images"]].values.tolist() == [["gradcam-relu2", 5], ["lime", 5]]
    assert not list((finished / "results").rglob("*.part"))
    logs, benchmarks = names_below(finished / "results/logs"), names_below(finished / "results/benchmarks")
    assert logs == benchmarks and len(logs) == 46
    assert sum(path.is_file() for path in (finished / "results").rglob("*")) < 5 * len(logs)


def test_nothing_is_written_beside_the_run_folder_but_caches(finished):
    """Compiled modules lie beside the library, and docs/cluster.md tells how to move the other two."""
    caches = ("home/.cache", "home/.config/matplotlib")
    written = [path for path in (finished.parent / "written.txt").read_text().splitlines() if path != "home/.config"]
    compiled = [path for path in written if path.startswith("clone/scripts/unitlens/") and "/__pycache__" in path]
    assert [path for path in written if not path.startswith(caches) and path not in compiled] == []
    in_cache = {Path(path).parts[2] for path in written if path.startswith("home/.cache/")}
    assert in_cache <= {"snakemake", "matplotlib"}


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


def test_killed_run_goes_on_to_the_same_bytes(finished, new_project, snakemake, start_snakemake):
    project = without_the_broken_one(new_project("killed"))
    process = start_snakemake(project, *RUN, *EXPLAINED)
    wait_for(project / "results/logs/explain_perturbed/toy/lime/00000.log", process)
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


def test_appended_source_images_and_a_truncated_one(finished, snakemake, plan, tmp_path):
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    before = digests(project)
    source_images, sheet = project / "source_images", project / "config/explain.csv"
    (source_images / "truncated.jpg").write_bytes(toy.truncated_jpeg())
    first, last = toy.write_source_images(source_images, 2, start=7)
    bad = {"image_id": "toy_bad", "path": "truncated.jpg", "label": "1"}
    rows = list(csv.DictReader(sheet.read_text().splitlines()))
    toy.write_sheet(sheet, [*rows, first, bad, last])
    new_shards = {
        "decode_images": 2,
        "explain_cam": 2,
        "explain_perturbed": 2,
        "score_agreement": 2,
        "match_explanations": 1,
        "summarize_agreement": 1,
        "summarize_predictions": 1,
        "summarize_timings": 1,
    }
    assert plan(project, *EXPLAINED, *CONFIG) == new_shards

    result = snakemake(project, *RUN, *EXPLAINED)
    assert result.returncode != 0
    assert "image_id 'toy_bad': source_images/truncated.jpg: cannot be read as an image" in result.stdout
    log = (project / "results/logs/decode_images/explain/squash36-crop32-bilinear/00003.log").read_text()
    assert "image_id 'toy_bad': source_images/truncated.jpg" in log
    assert not (project / SOURCE_IMAGES / "00003.h5").exists()
    assert (project / "results/agreement/toy/00002.csv").exists(), "the other shard is finished"

    _, _, told = result.stdout.partition("Jobs failed: 1; skipped because of it: ")
    failures, _, made = told.partition("Jobs done: ")
    assert "decode_images explain squash36-crop32-bilinear 00003:   image_id 'toy_bad'" in failures
    assert "results/logs/decode_images/explain/squash36-crop32-bilinear/00003.log" in failures
    assert "results/agreement (1)" in " ".join(made.split())

    toy.write_source_images(source_images, 1, start=9)
    (source_images / "toy_09.png").rename(source_images / "truncated.jpg")
    one_shard = {rule: max(1, count // 2) for rule, count in new_shards.items()}
    assert plan(project, *EXPLAINED, *CONFIG) == one_shard
    _, *again = shlex.split(failures.partition("run these again:")[2].splitlines()[1])
    told = snakemake(project, "--dry-run", "--quiet", "rules", *again)
    assert set(re.findall(r"^(\w+) +(\d+)$", told.stdout, re.MULTILINE)) == {("decode_images", "1"), ("total", "1")}
    result = snakemake(project, *RUN, *EXPLAINED)
    assert result.returncode == 0, result.stdout
    after = digests(project)
    summaries = {
        "agreement.csv",
        "agreement_summary.csv",
        "matching/toy.csv",
        "findings/agreement.json",
        "predictions.csv",
    }
    changed = {name for name in before if after[name] != before[name]}
    grown = {name for name in changed if Path(name).stem == "00002"}  # the shard that was not full
    assert changed - grown == summaries
    assert {name.partition("/")[0] for name in grown} == {"images", "saliency", "agreement"}
    assert len(set(read_table(project / "results/agreement.csv").image_id)) == 8


def test_unreadable_source_image_is_skipped_on_request(project, snakemake):
    result = snakemake(project, *RUN, "results/masks/toy/00001.h5")
    assert result.returncode == 0, result.stdout
    _, facts = read_arrays(project / SOURCE_IMAGES / "00001.h5")
    assert [image_id for image_id, _ in json.loads(facts["skipped"])] == ["007"]
    masks, _ = read_arrays(project / "results/masks/toy/00001.h5")
    assert masks["image_id"].tolist() == ["toy_03"]


def make_report(project, command):
    """Run a command of `make report` as a run told it, with the environment of these tests."""
    shutil.copy2(ROOT / "Makefile", project)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [*shlex.split(command), "--old-file=env"],
        cwd=project,
        env=environment() | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def told_command(output):
    return output.partition("says what is missing:")[2].splitlines()[1].strip()


def missing_in(project, browse, name="overview"):
    section = browse(project / f"results/partial/{name}.html").get_by_role("region", name="What is missing", exact=True)
    return section.inner_text()


def test_failed_run_names_the_command_that_makes_the_report_of_what_exists(finished, new_project, snakemake, browse):
    """A source image of the last shard cannot be read, and the classifier of the encoder is no checkpoint."""
    project = without_the_broken_one(new_project("failed"))
    shutil.copy2(ROOT / "Makefile", project)
    source_image, weights = project / "source_images/toy_05.png", project / "weights/imagenet.pt"
    intact = {path: path.read_bytes() for path in (source_image, weights)}
    source_image.write_bytes(toy.truncated_jpeg())
    weights.write_bytes(b"no checkpoint")
    targets = [*EXPLAINED, "results/concepts.csv"]
    failed = snakemake(project, *RUN, *targets)
    assert failed.returncode != 0
    jobs = int(re.search(r"Jobs failed: (\d+);", failed.stdout)[1])
    assert jobs >= 2
    finished_work = digests(project)

    made = make_report(project, told_command(failed.stdout))
    assert made.returncode == 0, made.stdout
    assert digests(project) == finished_work
    text = missing_in(project, browse)
    assert "This run is not finished. Jobs done: " in text and f"of the others {jobs} failed" in text
    assert "decode_images probe squash36-crop32-bilinear 00001" in text and "image_id 'toy_05'" in text
    assert "retrieve_encoder conse image" in text or "embed_images conse 00000" in text
    assert "results/logs/decode_images/probe/squash36-crop32-bilinear/00001.log" in text and "label_units" in text
    page = browse(project / "results/partial/explanations.html")
    assert page.get_by_role("img", name="LIME of toy_03").count() == 1
    assert not (project / "results/partial/units.html").exists()

    report = browse(project / "results/partial/report.html")
    report.get_by_text("1 Overview").first.click()
    report.get_by_role("row", name="page: what is missing").locator("[iconname=eye]").click()
    embedded = report.frame_locator("iframe").get_by_role("heading", name="What is missing")
    embedded.wait_for()

    for path, content in intact.items():
        path.write_bytes(content)
    result = snakemake(project, *RUN, *targets)
    assert result.returncode == 0, result.stdout
    found, expected = digests(project), digests(finished)
    assert {"concepts.csv", "agreement.csv"} <= set(found) and found == {name: expected[name] for name in found}


def test_report_of_a_run_of_which_nothing_is_done_or_that_was_killed(project, snakemake, start_snakemake, browse):
    make = f"make report PROFILE= ARGS='{shlex.join(RUN)}'"
    made = make_report(project, make)
    assert made.returncode == 0, made.stdout[-3000:] + (made.stderr or "")[-3000:]
    assert "Jobs done: 0; of the others" in (text := missing_in(project, browse))
    assert "So there is nothing to show yet." in text and "not begun" in text

    process = start_snakemake(project, *RUN, "results/models/toy.json")
    wait_for(log := project / "results/logs/check_model/toy.log", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert "took" not in log.read_text()
    result = make_report(project, make)
    assert result.returncode == 0, result.stdout
    text = missing_in(project, browse)
    assert "1 cut off or still running" in text and "check_model toy" in text and "killed, or still running" in text


def test_summary_of_a_run_does_without_what_snakemake_keeps_of_its_jobs(project, snakemake):
    """As a later version may keep it elsewhere: the error is told nonetheless, and how to go on."""
    snakefile = project / "Snakefile"
    absent = "del workflow.scheduler.failed; type(workflow.dag).needrun_jobs = None"
    snakefile.write_text(snakefile.read_text().replace("onerror:\n", f"onerror:\n    {absent}\n"))
    shutil.copy2(ROOT / "Makefile", project)
    (project / "weights/toy.pt").write_bytes(b"no checkpoint")
    result = snakemake(project, *RUN, "results/models/toy.json")
    assert result.returncode != 0
    assert "Left out of this summary: tell_what_failed (AttributeError" in result.stdout
    assert "Left out of this summary: tell_what_was_made (TypeError" in result.stdout
    assert "Run the same command again to make everything that is missing." in result.stdout
    assert told_command(result.stdout) == f"make report PROFILE= {shlex.quote(f'ARGS={shlex.join(RUN)}')}"


def test_job_that_dies_without_a_word_is_told_as_such(project, snakemake):
    """As one that the system kills for want of memory."""
    (project / "dies.py").write_text("import os\n\ndef network():\n    os._exit(9)\n")
    settings = toy.config()
    for model in settings["models"].values():
        model["architecture"] = "dies.py:network"
    toy.write_config(project, settings)
    target = f"results/models/{next(iter(settings['models']))}.json"
    result = snakemake(project, *RUN, target)
    assert result.returncode != 0
    assert "it was killed (memory or time?). The last line of its log: host " in result.stdout
