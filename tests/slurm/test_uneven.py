"""The uneven miniature of tests/toy.py, with every part that a config may have, from its config to its report: on this
machine, and to the same bytes on SLURM."""

import outputs
import pytest
import toy
from unitlens.storage.tables import read_table
from unitlens.tables import unit_labels

RUN = ["--configfile", "config/toy.yaml", "--report", "results/report.html", "--report-after-run"]
OF_SECONDS = {"overview.html", "findings.html", "report.html", "tables/resources.html"}  # these quote them


@pytest.fixture(scope="module")
def miniature(new_project):
    def make(name):
        project = new_project(name)
        (project / "slurm").symlink_to("profiles/slurm")
        toy.write_config(project, toy.whole_config())
        return project

    return make


@pytest.fixture(scope="module")
def finished(miniature, snakemake):
    project = miniature("uneven")
    result = snakemake(project, *RUN, "--cores", "2", "--keep-going")
    assert result.returncode == 0, result.stdout
    return project


@pytest.mark.e2e
def test_every_file_and_column_is_described(finished):
    assert outputs.departures(finished) == ([], [])


@pytest.mark.e2e
def test_names_come_back_as_they_are(finished):
    concepts = read_table(finished / "results/concepts.csv")
    units = concepts.groupby(["model", "layer"]).size().to_dict()
    assert units == {("toy", "relu1"): 6, ("toy", "relu2"): 8, ("18", "1.10"): 6, ("18", "4"): 8}
    assert not set(concepts.status) & set(unit_labels.CLAIMS), "seven source images support no label"
    predictions = read_table(finished / "results/predictions.csv")
    assert set(predictions.predicted_name) <= set(toy.CLASSES)
    assert set(read_table(finished / "results/netdissect.csv").mask_concept) <= {
        "",
        *(word for _, word, _ in toy.MASK_WORDS),
    }


@pytest.mark.e2e
def test_one_bad_item_costs_that_item(finished):
    """The black source image has one superpixel; the broken one is skipped; the others are explained by all."""
    explanations = read_table(finished / "results/explanations.csv")
    shown = {"toy_00", "toy_02", "toy_03", "1.10", "NA"}
    for (model, explainer), own in explanations.groupby(["model", "explainer"]):
        assert set(own.image_id) == shown, (model, explainer)
    lime = explanations[explanations.explainer == "lime"]
    assert set(lime.image_id[lime.warning != ""]) == {"1.10"} and lime.superpixels.nunique() > 2
    compared = read_table(finished / "results/agreement.csv")
    assert set(compared.image_id) == shown
    assert set(compared.image_id[compared.value.isna()]) == {"1.10"}
    scored = read_table(finished / "results/localization.csv")
    assert set(scored.image_id) == {"toy_02", "NA"}, "one has a box and one a mask, in different shards"


@pytest.mark.e2e
@pytest.mark.parametrize("page", ["overview", "findings", "explanations", "units"])
def test_pages_show_names_as_text(finished, browse, page):
    text = browse(finished / f"results/{page}.html").content()
    assert "disc <b>" not in text and "<frame>" not in text
    if page == "overview":
        assert "007: source_images/broken.jpg: cannot be read" in text


@pytest.mark.slurm
@pytest.mark.parametrize("cluster", ["no_accounting"], indirect=True, scope="session")
def test_same_bytes_on_slurm(cluster, finished, miniature, on_slurm, bytes_of):
    project = miniature("uneven-slurm")
    status, text = on_slurm(project, *RUN)
    assert status == 0, text
    found, expected = bytes_of(project), bytes_of(finished)
    assert found.keys() == expected.keys()
    assert [name for name in expected.keys() - OF_SECONDS if found[name] != expected[name]] == []
