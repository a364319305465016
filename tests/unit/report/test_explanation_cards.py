import base64
import inspect
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from unitlens.report import explanation_page, pages

SIDE = 32
BOX = (8, 4, 24, 28)  # left, top, right, bottom


def explanation(model, explainer, n=3):
    """Maps that grow to the right; the last source image's map is zero everywhere."""
    saliency = np.broadcast_to(np.linspace(0, 5, SIDE), (n, SIDE, SIDE)).copy()
    saliency[-1] = 0
    arrays = {"image_id": np.array([f"photo_{i}" for i in range(n)], dtype=object), "saliency": saliency}
    arrays["warning"] = np.array([*[""] * (n - 1), "the map is zero everywhere"], dtype=object)
    if explainer == "lime":
        arrays["segments"] = np.broadcast_to(np.arange(SIDE) // 16, (n, SIDE, SIDE))
    return arrays, {"model": model, "explainer": explainer, "geometry": "square"}


def inputs(n=3, models=("net", "other"), explainers=("gradcam-layer4", "lime")):
    rng = np.random.default_rng(0)
    ids = np.array([f"photo_{i}" for i in range(n)], dtype=object)
    box = np.full((n, 4), np.nan, dtype=np.float32)
    box[0] = BOX
    images = rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    pixels = {"image_id": ids, "images": images, "box": box}
    right_half = np.broadcast_to(np.arange(SIDE) >= SIDE // 2, (n, SIDE, SIDE))
    masks = [
        ({"image_id": ids} | {f"{name}:equal_area": right_half for name in explainers}, {"model": model})
        for model in models
    ]
    predictions = pd.DataFrame(
        [
            [model, f"photo_{i}", label, name, 3, "<b>tench</b>", 0.9, correct, target, explained, 0.25]
            for model in models
            for i, (label, name, correct, target, explained) in enumerate(
                [
                    (3, "tench", True, 3, "<b>tench</b>"),
                    (4, "shark", False, 3, "<b>tench</b>"),
                    (*[np.nan] * 3, 5, "ray"),
                ]
            )
        ],
        columns=[
            *("model", "image_id", "label", "label_name", "predicted", "predicted_name", "probability", "correct"),
            *("target", "target_name", "target_probability"),
        ],
    )
    faithfulness = pd.DataFrame(
        [
            ["net", "photo_0", "lime", "deletion", "blur", 0.126],
            ["net", "photo_0", "lime", "deletion", "mean", 0.9],
            ["net", "photo_0", "lime", "average_drop", "black", 0.9],
            ["net", "photo_0", "lime", "road", "imputed", -0.5],
        ],
        columns=["model", "image_id", "explainer", "measure", "baseline", "value"],
    )
    return {
        "explanations": [explanation(model, name, n) for model in models for name in explainers],
        "masks": masks,
        "images": {"square": pixels},
        "predictions": predictions,
        "faithfulness": faithfulness,
        "source_images": n,
    }


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))


def test_source_images_have_a_row_for_each_model_and_a_map_for_each_explainer():
    cards = explanation_page.collect(**inputs())
    assert [card["image_id"] for card in cards] == ["photo_0", "photo_1", "photo_2"]
    assert [card["label"] for card in cards] == ["tench", "shark", ""]
    for card in cards:
        assert [row["model"] for row in card["rows"]] == ["net", "other"]
        assert all([each["title"] for each in row["maps"]] == ["Grad-CAM", "LIME"] for row in card["rows"])
    assert len(explanation_page.collect(**inputs() | {"source_images": 2})) == 2


def test_a_white_image_without_saliency_stays_white():
    given = inputs()
    given["images"]["square"]["images"][2] = 255
    cam, lime = explanation_page.collect(**given)[2]["rows"][0]["maps"]
    assert (cam["heat"] == 255).all() and (lime["heat"] == 255).all()


def test_words_say_what_is_explained_and_what_is_predicted():
    rows = [card["rows"][0] for card in explanation_page.collect(**inputs())]
    assert [row["caption"] for row in rows] == ["<b>tench</b>, p = 0.25"] * 2 + ["ray, p = 0.25"]
    assert [row["verdict"] for row in rows] == ["right", "wrong", "predicts <b>tench</b>, p = 0.90"]
    assert [row["maps"][0]["warning"] for row in rows] == ["", "", "the map is zero everywhere"]
    given = inputs()
    given["predictions"].loc[0, ["predicted", "target"]] = np.nan
    first = explanation_page.collect(**given)[0]["rows"][0]
    assert first["verdict"] == "the network returns NaN or infinity"


@pytest.mark.parametrize(("shown", "explained", "said"), [(1, 1, "1 source image, "), (1, 2, "1 of 2 source images, ")])
def test_a_page_says_of_how_many_source_images_it_shows_the_first(shown, explained, said):
    cards = explanation_page.collect(**inputs())[:shown]
    assert explanation_page.explain_page(cards, 0.2, explained)["summary"].startswith(said)


def test_scores_are_those_of_the_map_with_the_first_baseline():
    first, *others = explanation_page.collect(**inputs())
    assert first["rows"][0]["maps"][1]["scores"] == [("deletion", "0.13"), ("ROAD", "\u22120.50")]
    assert first["rows"][0]["maps"][0]["scores"] == [] == others[0]["rows"][0]["maps"][1]["scores"]


def test_images_are_the_source_image_its_heat_map_and_darkness_outside_the_mask():
    given = inputs()
    (card, *_) = explanation_page.encode(explanation_page.collect(**given), explanation_page.FORMS[0])
    row = card["rows"][0]
    source_image = decode(row["image"])[..., :3].astype(float)
    assert (
        np.abs(source_image - given["images"]["square"]["images"][0]).mean() < 15
    )  # WebP halves the colors' resolution
    heat = decode(row["maps"][0]["heat"])[..., :3].astype(int)
    color = np.ptp(heat, axis=2).mean(0)  # from gray on the left to yellow on the right
    assert color[:3].mean() < 50 < 100 < color[-3:].mean()
    shade = decode(row["maps"][0]["mask"])
    assert (shade[..., :3] == 0).all() and (shade[:, :16, 3] == 165).all() and (shade[:, 16:, 3] == 0).all()


def test_images_and_masks_shrink_together_and_never_grow():
    (card, *_) = cards = explanation_page.collect(**inputs())
    masks = {}
    for side in (None, SIDE, 2 * SIDE, SIDE // 2):
        row = explanation_page.encode(cards, (side, 80))[0]["rows"][0]
        shown = [row["image"], row["maps"][0]["heat"], row["maps"][0]["mask"]]
        assert {decode(uri).shape for uri in shown} == {(min(side or SIDE, SIDE),) * 2 + (4,)}
        masks[side] = decode(row["maps"][0]["mask"])
    assert (masks[SIDE] == masks[None]).all() and (masks[2 * SIDE] == masks[None]).all()
    half = masks[SIDE // 2]
    assert (half[:, :7, 3] == 165).all() and (half[:, 9:, 3] == 0).all()
    assert card["rows"][0]["image"].shape == (SIDE, SIDE, 3)  # what was collected stays


def test_each_form_costs_less_than_the_one_before_and_a_mask_one_bit_a_pixel():
    cards = explanation_page.collect(**inputs())
    rows = [explanation_page.encode(cards, form)[0]["rows"][0] for form in explanation_page.FORMS]
    costs = [len(row["image"]) + len(row["maps"][0]["heat"]) for row in rows]
    assert costs == sorted(costs, reverse=True) and costs[0] > costs[3] > costs[-1]
    png = base64.b64decode(rows[0]["maps"][0]["mask"].partition(",")[2])
    assert png[24:26] == b"\1\3"  # bits, and a palette
    shade = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")).reshape(-1, 4)
    assert set(map(tuple, shade.tolist())) == {(0, 0, 0, 0), (0, 0, 0, explanation_page._OUTSIDE)}, "black, or nothing"


def test_numbers_are_written_in_white_on_dark_cells():
    values = [0.0, 0.55, 0.56, 0.8, 1.0]
    table = explanation_page.heat_map({("a", str(value)): value for value in values})
    ((title, cells),) = table["rows"]
    assert title == "a" and [cell["text"] for cell in cells] == ["0.00", "0.55", "0.56", "0.80", "1.00"]
    assert [cell["ink"] for cell in cells] == ["#000", "#000", "#fff", "#fff", "#fff"]
    lightness = [sum(bytes.fromhex(cell["color"][1:])) for cell in cells]
    assert lightness == sorted(lightness, reverse=True) and lightness[0] > 700 > 300 > lightness[-1]


def test_maps_are_compared_at_a_fifth_of_the_image_unless_told_otherwise():
    assert inspect.signature(explanation_page.collect).parameters["area"].default == 0.2


def test_object_is_outlined_where_the_sheet_gives_one():
    rows = [card["rows"][0] for card in explanation_page.collect(**inputs())]
    corners = np.array(re.findall(r"(\d+) (\d+)", rows[0]["object"]), dtype=float) * SIDE / 128
    assert np.abs(np.concatenate([corners.min(0), corners.max(0)]) - BOX).max() <= 1
    assert rows[1]["object"] == rows[2]["object"] == ""


def agreement(values=(0.6, 0.2, 0.4)):
    """IoU of the maps of `net`, at two areas."""
    pair = {"model": "net", "explainer_a": "gradcam-layer4", "explainer_b": "lime", "measure": "equal_area_iou"}
    rows = [
        pair | {"image_id": f"photo_{i}", "cut": cut, "value": value + (cut > 0.3)}
        for i, value in enumerate(values)
        for cut in (0.2, 0.5)
    ]
    return pd.DataFrame(rows)


def test_the_iou_of_every_pair_stands_beside_the_maps_and_its_mean_on_top(tmp_path):
    cards = explanation_page.collect(**inputs() | {"agreement": agreement((0.6, np.nan, 0.4)), "area": 0.2})
    assert [card["rows"][0]["pairs"] for card in cards] == [
        {("Grad-CAM", "LIME"): 0.6},
        {},
        {("Grad-CAM", "LIME"): 0.4},
    ]
    assert all(card["rows"][1]["pairs"] == {} for card in cards), "of another network"
    (mean,) = explanation_page.explain_page(cards, 0.2, 3)["heat_maps"]
    assert (mean["model"], mean["n"], mean["columns"]) == ("net", 2, ["LIME"])
    assert [(row, [cell["text"] for cell in cells]) for row, cells in mean["rows"]] == [("Grad-CAM", ["0.50"])]
    explanation_page.write(tmp_path / "page.html", cards, area=0.2, explained=3)
    page = (tmp_path / "page.html").read_text()
    assert re.findall('data-iou="(.*?)"', page) == ["0.6", "", "0.4"] and page.count('class="matrix"') == 3
    explanation_page.write(tmp_path / "page.html", explanation_page.collect(**inputs()), area=0.2, explained=3)
    page = (tmp_path / "page.html").read_text()
    assert 'class="matrix"' not in page and 'id="order"' not in page


def test_a_heat_map_of_three_has_each_pair_once():
    made = explanation_page.heat_map({("a", "b"): 0.9, ("a", "c"): 0.1, ("b", "c"): 0.5})
    cells = [[cell and cell["text"] for cell in row] for _, row in made["rows"]]
    assert made["columns"] == ["b", "c"] and cells == [["0.90", "0.10"], [None, "0.50"]]
    assert [cell["ink"] for cell in made["rows"][0][1]] == ["#fff", "#000"]


@pytest.mark.parametrize(("area", "marked"), [(0.1, [3]), (0.3, [3, 1]), (0.2, [3]), (0.9, [3, 1, 0]), (0.01, [3])])
def test_masks_of_superpixels_are_whole_superpixels(area, marked):
    """As many as come closest to the area: 3 has a tenth of the image, 1 a quarter, 0 a half, 2 no weight."""
    segments = np.repeat([-1, 0, 1, 2, 3], [1, 50, 25, 14, 10]).reshape(10, 10)
    saliency = np.array([0.2, 0.5, 0, 1, 0.9])[segments]  # what is no superpixel is not marked
    assert set(segments[explanation_page.whole_superpixels(saliency, segments, area)]) == set(marked)
    assert not explanation_page.whole_superpixels(0 * saliency, segments, area).any()


def test_a_mask_of_superpixels_says_how_much_it_covers():
    given = inputs()
    (card, *_, last) = explanation_page.collect(**given | {"area": 0.4})
    cam, lime = card["rows"][0]["maps"]
    assert (
        cam["covers"] is None
        and lime["covers"] == 0.5
        and lime["mask"][:, 16:].all()
        and not lime["mask"][:, :16].any()
    )
    assert last["rows"][0]["maps"][1]["covers"] == 0 == last["rows"][0]["maps"][1]["mask"].sum(), "a map of zeros"


def test_a_map_says_how_many_samples_it_is_made_of_and_what_their_halves_share(tmp_path):
    given = inputs()
    for arrays, facts in given["explanations"]:
        if facts["explainer"] == "lime":
            arrays["n_used"], arrays["shared_top"] = np.array([2000, 250, 0]), np.array([0.925, np.nan, np.nan])
    explanation_page.write(tmp_path / "page.html", explanation_page.collect(**given), area=0.2, explained=3)
    told = re.findall(r'<span class="covers">([^<]* samples?.*?)</span>', (tmp_path / "page.html").read_text())
    assert told == ["2,000 samples, 92\xa0% shared"] * 2 + ["250 samples"] * 2, "of two models; the last has none"


def test_images_shrink_until_the_page_fits(tmp_path, monkeypatch):
    cards = explanation_page.collect(**inputs())
    explanation_page.write(tmp_path / "large.html", cards, area=0.5, explained=24)
    page = (tmp_path / "large.html").read_text()
    assert "<p>3 of 24 source images, explained for net and other by Grad-CAM, LIME." in page
    assert "&lt;b&gt;tench" in page and "<b>tench" not in page
    monkeypatch.setattr(pages, "LARGEST_REPORT_PAGE", len(page) - 500)
    explanation_page.write(tmp_path / "small.html", cards, area=0.5, explained=24)
    assert len((tmp_path / "small.html").read_text()) < len(page) - 500


def test_sizes_that_differ_are_named():
    given = inputs()
    given["images"]["square"]["images"] = given["images"]["square"]["images"][:, :16]
    with pytest.raises(ValueError, match=r"`saliency` has shape \(32, 32\), the source image has \(16, 32\)"):
        explanation_page.collect(**given)


def part(arrays, rows):
    return {name: array[rows] for name, array in arrays.items()}


def test_shards_and_masks_that_are_missing_leave_out_their_maps_only():
    """LIME failed in the second shard, so that no masks are cut there either; of `other` only that shard exists."""
    given = inputs()
    (cam, facts), (lime, of_lime), (other, of_other), _ = given["explanations"]
    given["explanations"] = [
        *((part(cam, slice(2)), facts), (part(cam, slice(2, 3)), facts), (part(lime, slice(2)), of_lime)),
        (part(other, slice(2, 3)), of_other),
    ]
    given["masks"] = [(part(given["masks"][0][0], slice(2)), {"model": "net"})]
    cards = explanation_page.collect(**given | {"faithfulness": None})
    shown = [[(row["model"], [each["title"] for each in row["maps"]]) for row in card["rows"]] for card in cards]
    assert shown == [[("net", ["Grad-CAM", "LIME"])]] * 2 + [[("net", ["Grad-CAM"]), ("other", ["Grad-CAM"])]]
    assert [card["rows"][0]["maps"][0]["mask"] is None for card in cards] == [False, False, True]


def test_page_of_an_unfinished_run_names_the_explanations_and_masks_that_are_missing(tmp_path):
    cards = explanation_page.collect(**inputs() | {"masks": []})
    explanation_page.write(tmp_path / "page.html", cards, area=0.5, explained=3, missing=["net lime 00001"])
    page = (tmp_path / "page.html").read_text()
    assert "Missing here: net lime 00001." in page and page.count("(its mask is missing)") == 12
    assert '<img class="mask"' not in page
