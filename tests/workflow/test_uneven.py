"""The uneven miniature of tests/toy.py, with every part that a config may have, from its config to its report."""

import outputs
import pytest
import toy
from unitlens import tables

CONFIG = ["--configfile", "config/toy.yaml"]
REPORT = ["--report", "results/report.html", "--report-after-run"]


pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def finished(new_project, snakemake):
    project = new_project("uneven")
    toy.write_config(project, toy.whole_config())
    result = snakemake(project, *CONFIG, *REPORT, "--cores", "2", "--keep-going")
    assert result.returncode == 0, result.stdout
    return project


def test_every_file_and_column_is_described(finished):
    assert outputs.departures(finished) == ([], [])


def test_names_come_back_as_they_are(finished):
    concepts = tables.read(finished / "results/concepts.csv")
    units = concepts.groupby(["model", "layer"]).size().to_dict()
    assert units == {("toy", "relu1"): 6, ("toy", "relu2"): 8, ("18", "1.10"): 6, ("18", "4"): 8}
    assert "labelled" not in set(concepts.status), "seven photographs support no label"
    predictions = tables.read(finished / "results/predictions.csv")
    assert set(predictions.predicted_name) <= set(toy.CLASSES)
    assert set(tables.read(finished / "results/netdissect.csv").mask_concept) <= {
        "",
        *(word for _, word, _ in toy.MASK_WORDS),
    }


def test_one_bad_item_costs_that_item(finished):
    """The black photograph has one superpixel; the broken one is skipped; the others are explained by all."""
    explanations = tables.read(finished / "results/explanations.csv")
    shown = {"toy_00", "toy_02", "toy_03", "1.10", "NA"}
    for (model, explainer), own in explanations.groupby(["model", "explainer"]):
        assert set(own.image_id) == shown, (model, explainer)
    lime = explanations[explanations.explainer == "lime"]
    assert set(lime.image_id[lime.warning != ""]) == {"1.10"} and lime.superpixels.nunique() > 2
    compared = tables.read(finished / "results/agreement.csv")
    assert set(compared.image_id) == shown
    assert set(compared.image_id[compared.value.isna()]) == {"1.10"}
    scored = tables.read(finished / "results/ground_truth.csv")
    assert set(scored.image_id) == {"toy_02", "NA"}, "one has a box and one a mask, in different shards"


@pytest.mark.parametrize("page", ["overview", "findings", "explanations", "units"])
def test_pages_show_names_as_text(finished, browse, page):
    text = browse(finished / f"results/{page}.html").content()
    assert "disc <b>" not in text and "<frame>" not in text
    if page == "overview":
        assert "007: photographs/broken.jpg: cannot be read" in text
