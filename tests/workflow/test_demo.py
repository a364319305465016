"""The demonstration as a newcomer runs it: every output is there, and a second run has nothing to do."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import outputs
import pandas as pd
import pytest
from unitlens.storage.shards import concatenate
from unitlens.tables import unit_labels

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "snakemake", "--profile", "profiles/demo"]
COMMAND += ["--report", "results/report.html", "--report-after-run"]


def snakemake(folder):
    run = subprocess.run(COMMAND, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:]
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name) if (ROOT / name).is_file() else None
    snakemake(folder)
    return folder


def test_a_second_run_has_nothing_to_do(demo):
    assert "Nothing to be done" in snakemake(demo)


def test_the_first_picture_of_an_explanation_comes_first(demo):
    pictures = demo / "results/overlays/squeezenet1_1/gradcam-features.12"
    later = [*demo.glob("results/saliency/*/*/*.h5"), *demo.glob("results/activations/*/*/*.h5")]
    earlier = {path.relative_to(demo).parts[3] for path in later if path.stat().st_mtime < pictures.stat().st_mtime}
    assert len(later) > 12 and len(earlier) <= 3, "what two cores do meanwhile"


def test_the_page_of_outputs_describes_every_column_and_no_other(demo):
    assert outputs.departures(demo) == ([], [])


def test_every_unit_has_one_row_with_evidence(demo):
    concepts = pd.read_csv(demo / "results/concepts.csv", keep_default_na=False)
    units = {
        "features.4": 128,
        "features.7": 256,
        "features.12": 512,
        "blocks.1": 24,
        "blocks.4": 112,
        "blocks.6": 320,
    }
    assert concepts.groupby("layer").size().to_dict() == units
    assert set(concepts.status) <= {*unit_labels.STATUSES, *unit_labels.SILENT}
    labeled = concepts[concepts.candidate != ""]
    assert len(labeled) > 0.95 * len(concepts)
    listed = pd.read_csv(demo / "config/concepts/common.csv").set_index("word").category
    assert (listed[labeled.candidate].to_numpy() == labeled.category.to_numpy()).all()
    assert (labeled.margin.astype(float) >= 0).all()
    assert (labeled.top_images.str.split().str.len() == 5).all()
    assert concepts.encoder.str.contains("ConSE surrogate").all()
    lines = (demo / "results/concepts.csv").read_text().splitlines()
    one = (demo / "results/concepts/squeezenet1_1/features.12.csv").read_text().splitlines()
    assert [line for line in lines if ",features.12," in line] == one[1:]
    assert lines[0] == one[0]


def test_textures_name_units_colors_early_and_patterns_later(demo):
    units = pd.read_csv(demo / "results/netdissect.csv", keep_default_na=False)
    named = units[units.status == "named"]
    assert len(named) >= 60 and (named.groupby(["model", "layer"]).size() >= 2).all()
    colors = named.mask_category.eq("color").groupby([named.model, named.layer]).mean()
    assert colors["squeezenet1_1", "features.4"] > 0.5 > colors["squeezenet1_1", "features.12"]
    assert colors["efficientnet_lite0", "blocks.1"] > 0.5 > colors["efficientnet_lite0", "blocks.6"]


def test_activations_of_all_shards(demo):
    arrays, facts = concatenate(sorted((demo / "results/activations/squeezenet1_1/features.12").iterdir()))
    assert arrays["activations"].shape == (1020, 512) and np.isfinite(arrays["activations"]).all()
    assert len(facts["weights_sha256"]) == 64 and facts["geometry"] == "squash256-crop227-bilinear"


@pytest.mark.parametrize(
    ("model", "layer", "side"), [("squeezenet1_1", "features.12", 227), ("efficientnet_lite0", "bn2", 224)]
)
def test_saliency_masks_and_overlays(demo, model, layer, side):
    explainers = [f"{method}-{layer}" for method in ("gradcam", "ablationcam", "scorecam")] + ["lime"]
    for explainer in explainers:
        with h5py.File(demo / f"results/saliency/{model}/{explainer}/00000.h5") as file:
            assert file["saliency"].shape == (10, side, side)
            assert file["saliency"][:].min() >= 0
            assert (file["saliency"][:].max((1, 2)) > 0).all()
            assert (file["target"][:] == file["predicted"][:]).all()
        assert len(list((demo / f"results/overlays/{model}/{explainer}").glob("*.png"))) == 10
    with h5py.File(demo / f"results/masks/{model}/00000.h5") as file:
        for explainer in explainers:
            assert (file[f"{explainer}:equal_area"][:].sum((1, 2)) == round(0.2 * side * side)).all()
        assert file["lime:selected"].shape == (10, side, side)
    with h5py.File(demo / f"results/saliency/{model}/lime/00000.h5") as file:
        assert (file["n_used"][:] == 667).all()
        assert (file["r2"][:] > 0).all()


def test_agreement_has_every_pair_image_and_an_interval(demo):
    scores = pd.read_csv(demo / "results/agreement.csv")
    assert len(scores) == 2 * 6 * 9 * 10  # models, pairs, measures (one of them at five areas), source images
    summary = pd.read_csv(demo / "results/agreement_summary.csv")
    summary = summary[summary.subset == "all"]
    assert (summary.n + summary.undefined == 10).all()
    assert ((summary.low <= summary["mean"]) & (summary["mean"] <= summary.high)).all()
    equal_area = summary[summary.measure == "equal_area_iou"]
    np.testing.assert_allclose(equal_area.floor, equal_area.cut / (2 - equal_area.cut), rtol=1e-5)
    assert (
        (equal_area.matched == 10).all()
        and equal_area.chance.between(0, 1).all()
        and equal_area.p_adjusted.notna().all()
    )


def test_explainers_give_what_their_packages_give(demo):
    checks = pd.read_csv(demo / "results/verification.csv")
    against_packages = checks[checks.reference != "float32"]
    assert len(against_packages) == 2 * 7  # models; three CAMs, two checks of accounts, quickshift, LIME
    assert against_packages.passed.eq(True).all()
    assert (against_packages.largest_difference <= against_packages.tolerance).all()
    assert len(checks) - len(against_packages) == 2 * 4  # what bf16 changes of the CAMs and of LIME


def test_every_explanation_is_listed(demo):
    explanations = pd.read_csv(demo / "results/explanations.csv")
    assert len(explanations) == 2 * 4 * 10
    assert explanations.warning.isna().all()
    by_explainer = explanations.groupby("explainer").passes.first()
    assert by_explainer["ablationcam-features.12"] == "traced"
    assert by_explainer["ablationcam-bn2"] == "linear"


CATEGORIES = ["1 Overview", "2 Models", "3 Concepts", "4 Explanations", "5 Agreement", "6 Localization"]
CATEGORIES += ["7 Faithfulness", "8 Sanity", "9 Tuning", "Resources", "Verification"]


def test_every_result_of_the_report_opens_in_a_browser(demo, browse):
    report = demo / "results/report.html"
    assert report.stat().st_size < 60e6
    page = browse(report)
    menu = page.get_by_role("navigation")
    assert [name for name in CATEGORIES if menu.get_by_role("link", name=name).count() == 1] == CATEGORIES
    shown = listed = 0
    for category in CATEGORIES:
        menu.get_by_role("link", name=category).click()
        results = menu.get_by_role("row")
        for name in results.all_inner_texts()[1:]:  # below the heading
            listed += 1
            view = results.filter(has_text=name.strip()).locator("a").first
            view.click()
            if name.startswith("page"):
                frame = page.frame_locator("iframe")
                frame.get_by_role("heading", level=1).filter(has_text=re.compile("Unitlens|What do")).wait_for()
            else:
                assert (
                    page.locator("#app img[src^='data:image']").last.evaluate(
                        "image => image.decode().then(() => image.naturalWidth)"
                    )
                    > 100
                )
            shown += 1
        menu.get_by_role("link", name="Results").click()
    assert 10 <= shown <= listed <= 30


@pytest.mark.parametrize("width", [1280, 400])
def test_from_the_first_screen_to_a_unit_an_image_and_a_table(demo, browse, width):
    page = browse(demo / "results/overview.html", width=width)
    assert "ConSE surrogate" in page.locator(".facts").inner_text()
    page.get_by_role("link", name="Units", exact=True).click()
    page.get_by_label("Concept").fill("dog")
    page.locator("#place").select_option("squeezenet1_1/features.12")
    assert page.locator("#cards article").count() > 0
    page.get_by_role("link", name="Explanations", exact=True).click()
    page.get_by_role("slider").press("End")
    heading = page.get_by_role("heading", name="drum", level=2)
    assert heading.is_visible() and page.locator(".cells").count() == 2 * 10
    page.get_by_role("link", name="Summary", exact=True).click()
    page.locator(".card a").first.click()
    page.locator("dialog").wait_for()  # the card of a unit opens it
    page.go_back()
    table = page.get_by_role("region", name="Table: Predictions for the source images")
    assert not table.is_visible()
    page.get_by_text("Models", exact=True).click()
    assert table.is_visible() and "drum" in table.inner_text()


@pytest.mark.parametrize(("width", "height", "screens"), [(1280, 960, 6), (400, 800, 12)])
def test_the_page_is_short_before_its_folded_part(demo, browse, width, height, screens):
    page = browse(demo / "results/overview.html", width=width)
    assert page.locator("#details").bounding_box()["y"] <= screens * height
    assert page.locator(".tile").count() == 6 and page.locator(".card").count() == 3
    verdicts = page.locator(".verdict").all_inner_texts()
    assert len(verdicts) == 6 and all(len(verdict.split()) <= 12 for verdict in verdicts)


def test_a_link_opens_the_folded_topic_it_leads_to(demo, browse):
    page = browse(demo / "results/overview.html")
    inside = page.locator("#agreement")
    assert not inside.is_visible()
    page.get_by_role("link", name="Agreement in full").click()
    inside.wait_for(state="visible")


@pytest.mark.parametrize("name", ["overview", "findings", "explanations", "units"])
def test_pages_fit_a_narrow_window(demo, browse, name):
    page = browse(demo / f"results/{name}.html", width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_no_clock_in_outputs_and_logs_for_all_rules(demo):
    facts = json.loads((demo / "results/models/squeezenet1_1.json").read_text())
    facts |= json.loads((demo / "results/models/squeezenet1_1/features.12.json").read_text())
    assert facts["layers"]["features.12"] == [512, 14, 14]
    logged = {path.name for path in (demo / "results/logs").iterdir()}
    assert logged == {path.name for path in (demo / "results/benchmarks").iterdir()}
    files, jobs = ([path for path in (demo / "results" / part).rglob("*") if path.is_file()] for part in ("", "logs"))
    assert len(files) < 5 * len(jobs)
    of_annotations = {"annotate_images", "annotate_concepts"}
    assert logged == {path.stem for path in (demo / "scripts").glob("*.py")} - of_annotations
