"""The page of explanations in headless Chromium: from source image over heat map to mask, by mouse and by keyboard."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from unitlens.report import explanation_page, pages

SIDE, SOURCE_IMAGES = 64, 4
IOUS = (0.5, 0.25, np.nan, 0.75)
PIXEL = pages.compressed(Image.new("RGBA", (1, 1), (179, 88, 6, 255)), "png")


def account():
    """Which units made a prediction: one raises the score, the rest lowers it."""
    bar = {"title": "unit 3", "unit": 3, "called": "red <b>", "linear": "0.41 owl", "value": 3.0, "left": 50}
    bar |= {"width": 50, "best": pages.data_uri(PIXEL, "png")}
    rest = {"title": "the rest", "unit": None, "called": "", "linear": "", "value": -1.0, "left": 33, "width": 17}
    bars = [bar | {"place": pages.data_uri(PIXEL, "png")}, rest | {"place": "", "best": ""}]
    shares = {"named": 0.75, "selective": 0.75, "share_named": 0.5, "share_selective": 0.5}
    one = {"score": 2.0, "units": 3.0, "tokens": 0.0, "remainder": -1.0, "runner_up": "dog", "bars": bars} | shares
    linked = {"layer": "4", "labeled": True, "class_page": ("classes/net-1.html", "cat in all 12 explained images")}
    return linked | {"warning": "", "accounts": {"class": one, "runner-up": one | {"score": 1.5}}}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rng = np.random.default_rng(0)
    ids = np.array([f"photo {i}" for i in range(SOURCE_IMAGES)], dtype=object)
    saliency = rng.random((SOURCE_IMAGES, SIDE, SIDE))
    facts = {"model": "net", "geometry": "square"}
    names = ("gradcam-layer4", "scorecam-layer4")
    box = np.tile(np.float32([8, 8, 40, 40]), (SOURCE_IMAGES, 1))
    images = rng.integers(0, 256, (SOURCE_IMAGES, SIDE, SIDE, 3), dtype=np.uint8)
    told = {"label": 1, "label_name": "cat", "predicted": 1, "predicted_name": "cat", "probability": 0.5}
    told |= {"correct": True, "target": 1, "target_name": "cat", "target_probability": 0.5}
    pair = {"explainer_a": names[0], "explainer_b": names[1], "measure": "equal_area_iou", "cut": 0.2}
    score = {"explainer": names[0], "measure": "deletion", "baseline": "blur", "value": 0.25}
    path = tmp_path_factory.mktemp("page") / "explanations.html"
    cards = explanation_page.collect(
        [
            ({"image_id": ids, "saliency": saliency, "warning": [""] * len(ids)}, facts | {"explainer": name})
            for name in names
        ],
        [({"image_id": ids} | {f"{name}:equal_area": saliency > 0.8 for name in names}, facts)],
        {"square": {"image_id": ids, "images": images, "box": box}},
        predictions=pd.DataFrame([{"model": "net", "image_id": each} | told for each in ids]),
        faithfulness=pd.DataFrame([{"model": "net", "image_id": each} | score for each in ids]),
        source_images=SOURCE_IMAGES,
        accounts={("net", "photo 0"): account()},
        agreement=pd.DataFrame(
            [{"model": "net", "image_id": each, "value": iou} | pair for each, iou in zip(ids, IOUS, strict=True)]
        ),
    )
    explanation_page.write(path, cards, area=0.2, explained=len(cards), classes="No class has a page.")
    return path


def opacity(opened, name):
    return float(opened.locator(f".{name}").first.evaluate("image => getComputedStyle(image).opacity"))


def test_slider_goes_from_source_image_over_heat_map_to_mask(page, browse):
    opened = browse(page)
    slider = opened.get_by_role("slider")
    assert (opacity(opened, "heat"), opacity(opened, "mask")) == (1, 0)
    slider.fill("0")
    assert (opacity(opened, "heat"), opacity(opened, "mask")) == (0, 0)
    assert slider.get_attribute("aria-valuetext") == "source image"
    slider.fill("1.5")
    assert (opacity(opened, "heat"), opacity(opened, "mask")) == (0.5, 0.5)
    slider.press("End")
    assert (opacity(opened, "heat"), opacity(opened, "mask")) == (0, 1)
    opened.get_by_role("button", name="heat map").click()
    assert (opacity(opened, "heat"), opacity(opened, "mask")) == (1, 0)
    assert opened.locator("button[aria-pressed=true]").all_inner_texts() == ["heat map"]


def test_outlines_can_be_taken_away(page, browse):
    opened = browse(page)
    outline = opened.locator(".cells svg").first
    assert outline.is_visible()
    opened.get_by_label("outline of the object").uncheck()
    assert not outline.is_visible()


def test_contents_lead_to_each_source_image(page, browse):
    opened = browse(page)
    opened.locator("nav.images").get_by_role("link", name="photo 3").click()
    assert opened.get_by_role("heading", name="photo 3").is_visible()
    assert opened.evaluate("decodeURIComponent(location.hash)") == "#photo 3"
    assert opened.get_by_role("img", name="Score-CAM of photo 3 for cat, p = 0.50, by net").count() == 1
    assert opened.get_by_text("deletion 0.25").count() == SOURCE_IMAGES


@pytest.mark.parametrize("width", [1280, 400])
def test_images_are_ordered_by_disagreement_on_wish(page, browse, width):
    opened = browse(page, width=width)
    headings = opened.locator("#images h2")
    as_in_the_sheet = headings.all_inner_texts()
    opened.get_by_label("order").select_option("disagreement")
    assert [text.split(" label")[0].strip() for text in headings.all_inner_texts()] == [
        f"photo {number}" for number in (1, 0, 3, 2)
    ]
    opened.get_by_label("order").select_option("")
    assert headings.all_inner_texts() == as_in_the_sheet
    top = opened.get_by_role("table", name="net: mean IoU of the masks over 3 source images")
    assert top.get_by_role("cell", name="0.50").is_visible()
    assert opened.get_by_role("table", name="IoU of the masks", exact=True).count() == 3


@pytest.mark.parametrize(("width", "columns"), [(1280, 3), (400, 2)])
def test_it_fits_the_window(page, browse, width, columns):
    opened = browse(page, width=width)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    tops = (
        opened.locator(".cells")
        .first.locator("> li:visible:not(.pairs)")
        .evaluate_all("all => all.map((one) => one.offsetTop)")
    )
    assert tops == [tops[0]] * columns


def test_bars_say_why_and_show_where(page, browse):
    opened = browse(page)
    why = opened.locator("#photo\\ 0 .why")
    shown, other = why.locator("[data-kind=class]"), why.locator("[data-kind=runner-up]")
    assert "red <b>" in shown.inner_text() and "2.00 = units 3.00 + the rest" in shown.inner_text()
    assert "red <b>" in shown.inner_text() and "linear: 0.41 owl" in shown.inner_text()
    assert "Named units carry 75\u00a0% of the account and are 50\u00a0% of the units" in shown.inner_text()
    assert shown.is_visible() and not other.is_visible()
    best = shown.get_by_role("img", name="the image of the probe set that activates unit 3 most")
    assert best.is_visible() and "url(" in best.evaluate("one => getComputedStyle(one).backgroundImage")
    bar, where = shown.locator("li").first, why.locator(".where img")
    assert where.count() == 0
    bar.hover()
    assert where.count() == 1 and where.get_attribute("src").startswith("data:image/png")
    opened.mouse.move(0, 0)
    assert where.count() == 0
    bar.focus()
    assert where.count() == 1
    opened.get_by_label("account of").select_option("against")
    assert other.is_visible() and not shown.is_visible() and "minus that of dog" in other.inner_text()
    assert opened.locator("#photo\\ 1 .why").count() == 0
    link = why.get_by_role("link", name="What speaks for cat in all 12 explained images")
    assert link.get_attribute("href") == "classes/net-1.html"
    assert opened.get_by_text("No class has a page").count() == 1
