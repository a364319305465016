"""Networks of every kind, models of one config, from that to the report: each gives what its author's code gives."""

import subprocess
import sys
from pathlib import Path

import kinds
import numpy as np
import pytest
import toy
from conftest import environment
from unitlens.storage.arrays import read_arrays
from unitlens.storage.tables import read_table

pytestmark = pytest.mark.slow
FORKED = Path(__file__).parents[1] / "forked.py"
PAGES = ["results/units.html", "results/explanations.html"]
LEFT_OUT = {  # nearly as another one; tests/unit/networks/test_kinds.py has all
    *(
        "sequence",
        "shared_relu",
        "registers",
        "both_tokens_max",
        "by_attribute",
        "pixel_maps",
        "transposed",
        "in_place",
    ),
    *("one_flat_logit", "parallel", "compiled", "googlenet", "model_output", "unread_token"),
}
KINDS = [name for name in kinds.KINDS if name not in LEFT_OUT]
GEOMETRIES = {"gray": "squash36-crop32-bilinear-gray", "not_square": "squash24x40-crop24x40-bilinear"}
TABLES = ["results/concepts.csv", "results/predictions.csv", "results/faithfulness_summary.csv"]


@pytest.fixture(scope="module")
def finished(new_project):
    """Nearly all of them, run to the pages."""
    project = new_project("kinds")
    (project / kinds.TWO).write_text("no\nyes\n")
    explained = toy.write_source_images(project / "source_images", 4)
    toy.write_sheet(project / "config/explain.csv", [row | {"label": ""} for row in explained])
    settings = toy.config() | {"models": {name: kinds.settings_of(name) for name in KINDS}}
    settings["images"]["explain"] |= {"shard_size": 4, "on_bad_image": "fail"}
    settings["images"]["probe"]["shard_size"] = 7
    toy.write_config(project, settings)
    for name in KINDS:
        kinds.save(name, project / f"weights/{name}.bin")
    told = subprocess.run(
        [sys.executable, FORKED, "--configfile", "config/toy.yaml", "--cores", "2", *PAGES, *TABLES],
        cwd=project,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert told.returncode == 0, told.stdout[-8000:]
    return project


def arrays(project, pattern):
    (path,) = project.glob(f"results/{pattern}/00000.h5")
    return read_arrays(path)[0]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_what_its_author_computes(finished, name):
    settings = kinds.settings_of(name)
    (layer,), place = settings["layers"], GEOMETRIES.get(name, "squash36-crop32-bilinear")
    explained = kinds.expected(name, arrays(finished, f"images/explain/{place}")["images"])
    found = arrays(finished, f"saliency/{name}/gradcam-{layer}")
    rows, targets = np.arange(4), explained["targets"].numpy()
    expected = explained["probabilities"].numpy()[rows, targets]
    np.testing.assert_array_equal(found["target"], targets)
    np.testing.assert_allclose(found["target_probability"], expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["saliency"], explained["saliency"], rtol=0, atol=1e-3)
    curves = arrays(finished, f"faithfulness/{name}")
    np.testing.assert_allclose(curves["image"][:, 0], expected, rtol=0, atol=1e-5)
    probe = kinds.expected(name, arrays(finished, f"images/probe/{place}")["images"])
    activations = arrays(finished, f"activations/{name}/{layer}")["activations"]
    np.testing.assert_allclose(activations, probe["activations"], rtol=1e-4, atol=1e-5)
    concepts = read_table(finished / "results/concepts.csv")
    own = concepts[concepts["model"] == name]
    assert own["layer"].unique().tolist() == [layer] and len(own) == activations.shape[1]
    summary = read_table(finished / "results/faithfulness_summary.csv")
    assert f"gradcam-{layer}" in set(summary.loc[summary["model"] == name, "explainer"])


def test_a_layer_with_a_call_in_its_name_stands_whole_in_files_tables_and_the_page(finished, browse):
    """`#` begins a fragment of an address, in which a second one is a letter: links inside the page may have it."""
    name = "shared_relu_first"
    assert (finished / f"results/concepts/{name}/relu#1.csv").is_file()
    page = browse(
        finished / "results/units.html", f"#model={name}&layer=relu%231"
    )  # cards of many units are made when one scrolls
    links = page.eval_on_selector_all("a[href]", "links => links.map((link) => link.getAttribute('href'))")
    own = [link for link in links if "relu#1" in link]
    assert own and all(link.startswith(f"#{name}/relu#1/") for link in own)
    assert page.evaluate("(link) => new URL(link, location).hash", own[0]) == own[0]
