"""What runs again after a change: the table in docs/cluster.md, planned on a miniature that pretends to be done."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import toy

ROOT = Path(__file__).parents[2]
CONFIG = ["--configfile", "config/toy.yaml"]
SECTION = (ROOT / "docs/cluster.md").read_text().partition("## What a change runs again")[2].partition("\n## ")[0]
LOCAL_RULES = {
    name
    for file in ROOT.glob("rules/*.smk")
    for name, body in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", file.read_text(), re.MULTILINE | re.DOTALL)
    if "localrule: True" in body
}


@pytest.fixture(scope="module")
def finished(new_project, snakemake):
    """The miniature with an empty file for every output, which Snakemake takes for its own."""
    project = new_project("pretended")
    summary = snakemake(project, *CONFIG, "--summary").stdout
    outputs = re.findall(r"^((?:results|resources)/\S+)\t", summary, re.MULTILINE)
    for output in outputs:
        path = project / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix else path.mkdir()
    result = snakemake(project, *CONFIG, "--touch", "--forceall", "--cores", "1")
    assert result.returncode == 0 and len(outputs) > 100, result.stdout
    return project


def appended(name, n):
    """So many more rows of a sheet, and their source images."""

    def change(project, settings):
        rows = toy.write_source_images(project / "source_images", n, start=20)
        toy.write_sheet(project / f"config/{name}.csv", [*sheet(project, name), *rows])

    return change


def relabeled(project, settings):
    first, second, third, *others = sheet(project, "explain")
    toy.write_sheet(project / "config/explain.csv", [first, second, third | {"label": "0"}, *others])


def renamed(project, settings):
    (project / "config/explain.csv").rename(project / "config/other.csv")
    settings["images"]["explain"]["sheet"] = "config/other.csv"


def one_on_top(project, settings):
    rows = toy.write_source_images(project / "source_images", 1, start=20)
    toy.write_sheet(project / "config/explain.csv", [*rows, *sheet(project, "explain")])


def sheet(project, name):
    with (project / f"config/{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def new_weights(project, settings):
    toy.save_checkpoint(project / "weights/toy.pt", seed=1)


def another_word(project, settings):
    toy.write_concepts(project / "config/concepts.csv", [*toy.CONCEPTS, ("yellow", "color")])


def another_class_name(project, settings):
    names = project / "config/classes.txt"
    names.write_text(names.read_text(encoding="utf-8").replace(toy.CLASSES[0], "renamed"), encoding="utf-8")


def value(*keys, to):
    """A value of the config."""

    def change(project, settings):
        *sections, key = keys
        for section in sections:
            settings = settings.setdefault(section, {})
        settings[key] = to

    return change


def another_model(project, settings):
    settings["models"]["second"] = settings["models"]["toy"] | {"layers": ["relu2"]}


CHANGES = {
    "`batch_size`": value("batch_size", to=8),
    "`explain.lime.n_samples`": value("explain", "lime", "n_samples", to=30),
    "`dissect.similarity`": value("dissect", "similarity", to="cos_similarity_cubed"),
    "`agreement.area`": value("agreement", "area", to=0.3),
    "`seed`": value("seed", to=1),
    "one more method in `explain.cams`": value("explain", "cams", to=["gradcam", "layercam"]),
    "one more layer of a model": value("models", "toy", "layers", to=["relu1", "relu2", "conv2"]),
    "one more model, with one layer": another_model,
    "another checkpoint at `weights.path`": new_weights,
    "one more word in the list of concepts": another_word,
    "another name in the list of classes": another_class_name,
    "three more source images to label with": appended("probe", 3),
    "two more source images to explain": appended("explain", 2),
    "another label of one source image to explain": relabeled,
    "one more source image on top of those to explain": one_on_top,
    "another name of a sheet": renamed,
}
ARGUMENTS = {
    "`-R label_units`": ["-R", "label_units"],
    "`-R results/saliency/toy/lime/00000.h5`": ["-R", "results/saliency/toy/lime/00000.h5"],
    "`-f results/concepts/toy/relu1.csv`": ["-f", "results/concepts/toy/relu1.csv"],
    "the file `results/concepts/toy/relu1.csv` as the target": ["results/concepts/toy/relu1.csv"],
}


def test_the_table_has_these_rows():
    assert re.findall(r"^\| (.+?) \|.+\| \d+ \|$", SECTION, re.MULTILINE) == [*ARGUMENTS, *CHANGES]


@pytest.mark.parametrize("change", [*ARGUMENTS, *CHANGES])
def test_change_runs_these_jobs(finished, plan, tmp_path, change):
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    settings = toy.config()
    if change in CHANGES:
        CHANGES[change](project, settings)
        toy.write_config(project, settings)
    jobs = plan(project, *ARGUMENTS.get(change, []), *CONFIG)
    jobs.pop("all", None)
    submitted = {rule: jobs[rule] for rule in sorted(jobs.keys() - LOCAL_RULES)}
    listed = ", ".join(f"`{rule}` {count}" for rule, count in submitted.items()) or "none"
    assert f"| {change} | {listed} | {sum(jobs.values()) - sum(submitted.values())} |" in SECTION.splitlines()


def test_another_name_of_a_column_decodes_its_sheet_again(finished, plan, tmp_path):
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    sheet = project / "config/explain.csv"
    sheet.write_text(sheet.read_text(encoding="utf-8").replace(",label,", ",label_toy,", 1), encoding="utf-8")
    assert plan(project, *CONFIG)["decode_images"] == 3, "shards of the source images to explain, in one geometry"


def test_how_a_model_pools_runs_again(finished, plan, tmp_path):
    project = Path(shutil.copytree(finished, tmp_path / "project"))
    settings = toy.config()
    settings["models"]["toy"]["pooling"] = "max"
    toy.write_config(project, settings)
    jobs = plan(project, *CONFIG)
    assert (jobs["check_model"], jobs["check_layer"], jobs["extract_activations"], jobs["label_units"]) == (1, 2, 6, 2)
