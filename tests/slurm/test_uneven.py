"""The uneven miniature of tests/toy.py from its config to its report: here, and to the same bytes on SLURM."""

import outputs
import pytest
import toy
from unitlens import tables

CONFIG = ["--configfile", "config/toy.yaml"]
REPORT = ["--report", "results/report.html", "--report-after-run"]


def miniature(new_project, name):
    project = new_project(name)
    (project / "slurm").symlink_to("profiles/slurm")
    toy.write_config(project, toy.whole_config())
    return project


@pytest.fixture(scope="module")
def local(new_project, snakemake):
    project = miniature(new_project, "uneven")
    result = snakemake(project, *CONFIG, *REPORT, "--cores", "2", "--keep-going")
    assert result.returncode == 0, result.stdout
    return project


@pytest.mark.e2e
def test_every_file_and_column_is_described(local):
    assert outputs.departures(local) == ([], [])


@pytest.mark.e2e
def test_names_come_back_as_they_are(local):
    concepts = tables.read(local / "results/concepts.csv")
    units = concepts.groupby(["model", "layer"]).size().to_dict()
    assert units == {("toy", "relu1"): 6, ("toy", "relu2"): 8, ("18", "1.10"): 6, ("18", "4"): 8}
    assert "labelled" not in set(concepts.status), "seven photographs support no label"
    predictions = tables.read(local / "results/predictions.csv")
    assert set(predictions.predicted_name) <= set(toy.CLASSES)
    assert set(tables.read(local / "results/netdissect.csv").mask_concept) <= {
        "",
        *(word for _, word, _ in toy.MASK_WORDS),
    }


@pytest.mark.e2e
def test_one_bad_item_costs_that_item(local):
    """The black photograph has one superpixel; the broken one is skipped; the others are explained by all."""
    explanations = tables.read(local / "results/explanations.csv")
    shown = {"toy_00", "toy_02", "toy_03", "1.10", "NA"}
    for (model, explainer), own in explanations.groupby(["model", "explainer"]):
        assert set(own.image_id) == shown, (model, explainer)
    lime = explanations[explanations.explainer == "lime"]
    assert set(lime.image_id[lime.warning != ""]) == {"1.10"} and lime.superpixels.nunique() > 2
    compared = tables.read(local / "results/agreement.csv")
    assert set(compared.image_id) == shown
    assert set(compared.image_id[compared.value.isna()]) == {"1.10"}
    scored = tables.read(local / "results/ground_truth.csv")
    assert set(scored.image_id) == {"toy_02", "NA"}, "one has a box and one a mask, in different shards"


@pytest.mark.e2e
@pytest.mark.parametrize("page", ["overview", "findings", "explanations", "units"])
def test_pages_show_names_as_text(local, browse, page):
    text = browse(local / f"results/{page}.html").content()
    assert "disc <b>" not in text and "<frame>" not in text
    if page == "overview":
        assert "007: photographs/broken.jpg: cannot be read" in text


@pytest.mark.slurm
def test_same_bytes_on_slurm(cluster, local, new_project, on_slurm, bytes_of):
    project = miniature(new_project, "uneven-slurm")
    status, text = on_slurm(project, *CONFIG, *REPORT)
    assert status == 0, text
    expected = bytes_of(local)
    assert bytes_of(project).keys() == expected.keys()
    assert [name for name, content in bytes_of(project).items() if content != expected[name]] == []
