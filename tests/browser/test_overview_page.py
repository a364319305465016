"""The overview in headless Chromium: six answers on one screen, and the way from there to a unit, an image, a table."""

import numpy as np
import pandas as pd
import pytest
from unitlens.report import explanation_page, overview, samples, unit_gallery

WORDS, UNITS, IDS = ["koala", "fence", "red wall"], 60, ["toucan", "drum"]
MODELS = ["squeezenet1_1", "efficientnet_lite0"]
EXPLAINERS = ["gradcam-a", "scorecam-a", "lime"]


def concepts():
    words = [WORDS[i % 3] if i % 2 else f"word {i}" for i in range(UNITS)]
    one = pd.DataFrame(
        {
            "unit": range(UNITS),
            "concept": None,
            "candidate": words,
            "group": words,
            "category": "object",
            "q_value": 0.01,
        }
    )
    same = {
        "status": "selective",
        "alpha": 0.05,
        "encoder": "CLIP",
        "similarity": "s",
        "concept_list": "l",
        "score": 1.0,
    }
    same |= {"layer": "a", "margin": 0.1, "top_concepts": "koala", "held_out_correlation": 0.5, "source_images": 40}
    return pd.concat([one.assign(model=model, kept=0.3, **same) for model in MODELS], ignore_index=True)


def frequent():
    rows = [[model, "all", "object", word, 10] for model in MODELS for word in WORDS]
    return pd.DataFrame(rows, columns=["model", "layer", "category", "concept", "units"]).assign(share=0.2, others=0)


def agreement():
    pairs = [EXPLAINERS[:2], EXPLAINERS[::2], EXPLAINERS[1:]]
    rows = [[model, *pair, 0.5] for model in MODELS for pair in pairs]
    table = pd.DataFrame(rows, columns=["model", "explainer_a", "explainer_b", "mean"])
    return table.assign(
        measure="equal_area_iou", cut=0.2, subset="all", low=0.3, high=0.7, n=2, chance=0.2, floor=1 / 9
    )


def complexity():
    names = ("edge_density", "entropy", "superpixels", "jpeg_bits", "confidence")
    table = pd.DataFrame([[model, name] for model in MODELS for name in names], columns=["model", "measure"])
    numbers = {"correlation": 0.2, "low": -0.4, "high": 0.6, "p_adjusted": 0.5, "source_images": 2}
    return table.assign(agreement="mean of all pairs", **numbers)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The three pages of one run, beside each other."""
    folder = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(0)
    labels, ids = concepts(), np.array(IDS, dtype=object)
    arrays = {"row": rng.integers(0, 4, (UNITS, 4)), "image_id": np.full((UNITS, 4), "photo", object)}
    arrays |= {"activation": rng.random((UNITS, 4)), "maps": rng.integers(0, 256, (UNITS, 4, 7, 7), dtype=np.uint8)}
    maps = [(arrays, {"model": model, "layer": "a", "geometry": "square"}) for model in MODELS]
    pixels = {"square": lambda rows: rng.integers(0, 256, (len(rows), 32, 32, 3), dtype=np.uint8)}
    beside = ["overview", "units", "explanations"]
    unit_gallery.write(folder / "units.html", concepts=labels, maps=maps, images=pixels, beside=beside)

    told = {"label": 1, "label_name": "cat", "predicted": 1, "predicted_name": "cat", "probability": 0.5}
    told |= {"correct": True, "target": 1, "target_name": "cat", "target_probability": 0.5}
    predictions = pd.DataFrame([{"model": model, "image_id": each} | told for model in MODELS for each in IDS])
    images = {"image_id": ids, "images": rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)}
    images["box"] = np.full((2, 4), np.nan)
    explained = [
        (
            {"image_id": ids, "saliency": rng.random((2, 64, 64)), "warning": ["", ""]},
            {"model": model, "explainer": name, "geometry": "square"},
        )
        for model in MODELS
        for name in EXPLAINERS
    ]
    collected = {"predictions": predictions, "faithfulness": None, "source_images": 2}
    cards = explanation_page.collect(explained, [], {"square": images}, **collected)
    explanation_page.write(folder / "explanations.html", cards, area=0.2, explained=2, beside=beside)

    tables = {"concepts": labels, "frequent": frequent(), "predictions": predictions, "complexity": complexity()}
    overview.overview(
        folder / "overview.html",
        folder / "findings.html",
        folder / "answers.rst",
        tables | {"agreement": agreement()},
        facts=[],
        figures={},
        captions={},
        shown=2,
        run={"seed": 42},
        area=0.2,
        n_samples=100,
        best=samples.best_units((None, [], {}), (labels, maps, pixels)),
        example=samples.example(explained[:3], [(images, {})], predictions),
        beside=beside,
        missing={"done": 1, "jobs": [], "waiting": []},
    )
    return folder / "overview.html"


@pytest.mark.parametrize(("width", "height", "screens"), [(1280, 960, 6), (400, 800, 12)])
def test_what_is_not_folded_is_short_and_fits_the_window(page, browse, width, height, screens):
    opened = browse(page, width=width)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.locator("#details").bounding_box()["y"] < screens * height
    assert opened.locator("details[open]").count() == 0


def test_all_six_answers_stand_on_the_first_screen(page, browse):
    opened = browse(page)
    verdicts = opened.locator(".tile .verdict").all()
    assert len(verdicts) == 6
    above = opened.locator(".band").bounding_box()["y"] - 180  # of this page, what says that nothing is missing
    ends = [verdict.bounding_box() for verdict in verdicts]
    assert max(box["y"] + box["height"] for box in ends) - above < 960


@pytest.mark.parametrize("width", [1280, 400])
def test_one_walks_to_the_units_of_a_concept_and_to_one_unit(page, browse, width):
    opened = browse(page, width=width)
    opened.locator(".t1").get_by_role("link", name="koala").first.click()
    assert opened.evaluate("location.hash").startswith("#search=koala")
    opened.get_by_role("navigation", name="Report").get_by_role("link", name="Summary").click()
    opened.locator(".card a").first.click()
    opened.get_by_role("dialog").wait_for()


@pytest.mark.parametrize("width", [1280, 400])
def test_one_walks_to_an_image_and_to_a_table(page, browse, width):
    opened = browse(page, width=width)
    opened.locator(".t4").get_by_role("link").click()
    assert opened.get_by_role("heading", level=2, name="toucan").is_visible()
    opened.get_by_role("navigation", name="Report").get_by_role("link", name="All figures and tables").click()
    table = opened.get_by_role("region", name="Table: Predictions for the source images")
    assert not table.is_visible()
    opened.locator("summary", has_text="Models").click()
    assert table.is_visible()


def test_a_link_into_what_is_folded_opens_it(page, browse):
    opened = browse(page, "#concepts")
    opened.locator("#concepts").wait_for(state="visible")
