import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from unitlens.report import charts, unit_gallery

CONCEPTS = pd.DataFrame(
    [
        ["net", "a", 0, "named", "dog", "object", 1.23456, 0.5, "dog; </script><b>cat", 0.95],
        ["net", "a", 1, "dead", None, None, np.nan, np.nan, None, np.nan],
        ["net", "b", 0, "not selective", "red", "color", 0.1, 0.2, "red; sky", 0.31],
        ["other", "a", 0, "named", "red & blue", "color", 3.0, 1.0, "red & blue; dog", 1.0],
    ],
    columns=["model", "layer", "unit", "status", "candidate", "category", "score", "margin", "top_concepts", "kept"],
)
CONCEPTS = CONCEPTS.assign(encoder="CLIP", q_value=np.nan, alpha=0.05, concept=CONCEPTS["candidate"])
MAP = np.array([[255, 0], [0, 0]], np.uint8)


def layer(model, name, rows, geometry, *, space=True):
    rows = np.array(rows)
    arrays = {
        "row": rows,
        "image_id": np.where(rows < 0, "", np.char.add(f"{geometry}-", rows.astype(str))).astype(object),
        "activation": np.linspace(2, 1, rows.size).reshape(rows.shape),
    }
    if space:
        arrays["maps"] = np.where((rows >= 0)[..., None, None], MAP, 0)
    return arrays, {"model": model, "layer": name, "geometry": geometry}


def maps():
    return [
        layer("net", "a", [[4, 2], [-1, -1]], "small"),
        layer("net", "b", [[2, 7]], "small", space=False),
        layer("other", "a", [[2, 4]], "wide"),
    ]


def one_image(rows, shift=0):
    """Images of one gray each: twenty times their row."""
    return np.repeat((20 * rows + shift).astype(np.uint8), 64 * 64 * 3).reshape(len(rows), 64, 64, 3)


PICTURES = {"small": one_image, "wide": lambda rows: one_image(rows, shift=100)}


def test_every_unit_has_a_card_and_every_image_one_thumbnail():
    data = unit_gallery.collect(CONCEPTS, maps(), PICTURES)
    assert data["groups"] == [{"model": "net", "layer": "a"}, {"model": "net", "layer": "b"},
                              {"model": "other", "layer": "a"}]  # fmt: skip
    assert data["ids"] == ["small-2", "small-4", "small-7", "wide-2", "wide-4"]
    assert [unit["group"] for unit in data["units"]] == [0, 0, 1, 2]
    assert [[image["thumb"] for image in unit["images"]] for unit in data["units"]] == [[1, 0], [], [0, 2], [3, 4]]
    grays = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(thumb))).convert("L")).mean() for thumb in data["thumbs"]
    ]
    np.testing.assert_allclose(grays, [40, 80, 140, 140, 180], atol=3)


def test_cards_say_what_the_table_says():
    dog, dead, weak, _ = unit_gallery.collect(CONCEPTS, maps(), PICTURES)["units"]
    assert (dog["concept"], dog["category"], dog["best"]) == ("dog", "object", ["dog", "</script><b>cat"])
    assert dog["values"] == [1.235, 0.5, 0.95] and dog["images"][0]["activation"] == 2
    assert (dead["status"], dead["concept"], dead["best"], dead["values"]) == ("dead", "", [], [None] * 3)
    assert (weak["title"], weak["concept"], weak["best"]) == ("not selective", "red", ["red", "sky"])
    assert weak["category"] == "", "that of a guess"


def test_cards_have_linear_labels_with_what_they_are_worth():
    linear = (
        CONCEPTS[["model", "layer", "unit"]]
        .iloc[::-1]
        .assign(
            concept_1=["owl", "owl", "", "owl"],
            weight_1=[0.414, 0.2, np.nan, 0.7],
            concept_2=["feather", "", "", ""],
            weight_2=[0.22, np.nan, np.nan, np.nan],
            concept_3="",
            weight_3=np.nan,
            linear_correlation=[0.18, np.nan, np.nan, -0.004],
            label_correlation=[0.11, 0.1, np.nan, 0.5],
            ridge_correlation=[0.22, 0.3, np.nan, 0.6],
        )
    )
    units = unit_gallery.collect(CONCEPTS, maps(), PICTURES, linear=linear)["units"]
    assert [unit["linear"] for unit in units] == [
        "",  # for its correlation is not above 0
        "",
        "",
        "0.41 owl + 0.22 feather, held-out r 0.18, alone 0.11, all features 0.22",
    ]
    assert {unit["linear"] for unit in unit_gallery.collect(CONCEPTS, maps(), PICTURES)["units"]} == {""}


def test_cards_have_what_masks_call_a_unit():
    status, words = ["not selective", "theme", "selective", "named"], ["red", "red", "red", "dotted"]
    masks = CONCEPTS[["model", "layer", "unit"]].iloc[::-1].assign(status=status, mask_concept=words, masks="masks")
    masks = masks.assign(set="red; pink", set_size=2)
    data = unit_gallery.collect(CONCEPTS, maps(), PICTURES, masks=masks)
    assert [unit["masks"] for unit in data["units"]] == ["dotted", "", "a theme: red, pink (2 groups)", ""]
    assert [unit["mask_claim"] for unit in data["units"]] == ["named (by masks)", "", "theme (by masks)", ""]
    assert [unit["mask_word"] for unit in data["units"]] == ["dotted", "", "red", ""]
    assert data["statuses"] == ["named", "not selective", "dead", "named (by masks)", "theme (by masks)"]
    said = [unit_gallery.explain(CONCEPTS, data, masks=each) for each in (masks, None)]
    assert [any("Network Dissection" in note for note in each["notes"]) for each in said] == [True, False]
    assert said[0]["summary"].endswith(" Masks name 1 and give 1 a theme.") and "Masks" not in said[1]["summary"]


def test_cards_come_by_what_encoder_or_masks_claim_most():
    """Unit 2 has a theme by masks alone, unit 0 a name by both, unit 3 by the encoder alone."""
    status, words = ["named", "selective", "theme", "not selective"], ["dotted", "red", "red", "red"]
    masks = CONCEPTS[["model", "layer", "unit"]].assign(status=status, mask_concept=words, set="red; pink", set_size=2)
    ranks = [
        [unit["rank"] for unit in unit_gallery.collect(given, maps(), PICTURES, masks=masks)["units"]]
        for given in (CONCEPTS, CONCEPTS.assign(status=["selective", "dead", "not selective", "named"]))
    ]
    assert ranks == [[0, 3, 2, 1], [1, 3, 2, 0]], "of equal claims that of the encoder comes first"


def test_units_that_are_not_finite_are_explained_where_there_are_some():
    data = unit_gallery.collect(CONCEPTS, maps(), PICTURES)
    note = "One that is not finite returns NaN or infinity on some."
    assert not any(note in each for each in unit_gallery.explain(CONCEPTS, data)["notes"])
    broken = CONCEPTS.assign(status=CONCEPTS.status.replace("dead", "not finite"))
    assert unit_gallery.collect(broken, maps(), PICTURES)["units"][1]["status"] == "not finite"
    assert any(note in each for each in unit_gallery.explain(broken, data)["notes"])


def test_regions_are_outlined_where_the_layer_has_space():
    dog, _, flat, _ = unit_gallery.collect(CONCEPTS, maps(), PICTURES)["units"]
    assert all(image["region"].startswith("M") for image in dog["images"])
    assert not any("region" in image for image in flat["images"])


def test_evidence_is_shown_where_the_table_has_it():
    columns = [column["name"] for column in unit_gallery.collect(CONCEPTS, maps(), PICTURES)["columns"]]
    assert columns == ["score", "margin", "kept"]
    table = CONCEPTS.drop(columns="kept").assign(q_value=0.01, held_out_correlation=np.nan)
    columns = [column["name"] for column in unit_gallery.collect(table, maps(), PICTURES)["columns"]]
    assert columns == ["score", "margin", "q"]
    table = CONCEPTS.assign(**dict.fromkeys([each.column for each in unit_gallery.EVIDENCE], 0.5))
    columns = unit_gallery.collect(table, maps(), PICTURES)["columns"]
    assert len(columns) == len(unit_gallery.EVIDENCE)
    assert [each["name"] for each in columns if each["low"]] == ["p", "q"]  # a small p speaks for the label
    assert [each["name"] for each in columns if each["share"]] == ["kept", "kept, near-synonyms", "held-out AUC"]
    assert [each["name"] for each in columns if each["on_card"]] == ["score", "margin", "kept", "q", "held-out r"]


def test_points_of_the_chart_have_the_color_of_their_model():
    chart = unit_gallery.collect(CONCEPTS, maps(), PICTURES)["chart"]
    scale = chart["encoding"]["color"]["scale"]
    assert chart["mark"]["filled"] and scale["domain"] == ["net", "other"]
    assert scale["range"] == charts.MODEL_COLORS[:2]


def test_the_first_source_image_is_one_like_any_other_and_rows_are_read_in_ascending_order():
    def ascending(rows):
        assert (np.diff(rows) > 0).all()
        return one_image(rows)

    data = unit_gallery.collect(CONCEPTS[:2], [layer("net", "a", [[4, 0], [2, -1]], "small")], {"small": ascending})
    assert data["ids"] == ["small-0", "small-2", "small-4"] and len(data["thumbs"]) == 3
    assert [[image["thumb"] for image in unit["images"]] for unit in data["units"]] == [[2, 0], [1]]


def test_what_stands_on_a_card_what_is_a_share_and_where_low_is_good():
    flags = {each.column: (each.on_card, each.low, each.share) for each in unit_gallery.EVIDENCE}
    marked = [{column for column, own in flags.items() if own[place]} for place in range(3)]
    assert marked == [
        {"score", "margin", "kept", "q_value", "held_out_correlation"},
        {"p_value", "q_value"},
        {"kept", "kept_group", "held_out_auc"},
    ]


@pytest.mark.parametrize(("spare", "form"), [(1.04, 0), (1.02, 1), (0, -1)])
def test_thumbnails_take_97_hundredths_of_their_room_at_most(spare, form):
    noise = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    rows, images = {"small": np.arange(4)}, {"small": lambda rows: noise[rows]}
    encoded = [list(unit_gallery.encode_thumbnails(rows, images, *each)) for each in unit_gallery.FORMS]
    room = round(sum(map(len, encoded[0])) * spare)
    assert unit_gallery._thumbnails(rows, images, room) == encoded[form]
    if not spare:
        last = round(sum(map(len, encoded[-2])) * 1.04)
        assert unit_gallery._thumbnails(rows, images, last) == encoded[-2]


def test_a_lower_quality_takes_fewer_bytes_and_a_sample_tells_their_sizes():
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    fine, coarse = (
        len(*unit_gallery.encode_thumbnails({"g": np.arange(1)}, {"g": lambda rows: noise}, 64, quality))
        for quality in (75, 30)
    )
    assert coarse < 0.8 * fine
    asked = []
    images = {"g": lambda rows: asked.append(len(rows)) or np.zeros((len(rows), 8, 8, 3), np.uint8)}
    assert len(unit_gallery._thumbnails({"g": np.arange(200)}, images, 10**9)) == 200
    assert asked == [67, 128, 72], "every third of 200, at most 96, and then all"


def test_thumbnails_shrink_to_fit_the_page(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    images = dict.fromkeys(PICTURES, lambda rows: noise[: len(rows)])
    sizes = []
    for limit in (unit_gallery.LARGEST_PAGE, 60_000, 0):
        monkeypatch.setattr(unit_gallery, "LARGEST_PAGE", limit)
        data = unit_gallery.collect(CONCEPTS, maps(), images)
        sizes.append(Image.open(io.BytesIO(base64.b64decode(data["thumbs"][0]))).width)
        assert len(json.dumps(data)) <= max(limit, 60_000)
    assert sizes[0] == 176 > sizes[1] > sizes[2] == 48
    for limit in range(28_000, 100_000, 8000):
        monkeypatch.setattr(unit_gallery, "LARGEST_PAGE", limit)
        assert len(json.dumps(unit_gallery.collect(CONCEPTS, maps(), images))) <= limit


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: maps()[:2], "there are no maps of other a"),
        (lambda: [layer("net", "a", [[1, 2]], "small"), *maps()[1:]], "net a has 2 units in the table, but 1 with"),
    ],
)
def test_layers_that_do_not_fit_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        unit_gallery.collect(CONCEPTS, given(), PICTURES)


def test_page_holds_its_data_safely_and_loads_nothing(tmp_path):
    unit_gallery.write(tmp_path / "units.html", concepts=CONCEPTS, maps=maps(), images=PICTURES)
    text = (tmp_path / "units.html").read_text(encoding="utf-8")
    assert text.count("</script>") == 3 and "<b>" not in text
    data = json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert data["units"][0]["best"] == ["dog", "</script><b>cat"]
    assert "4 units in 3 layers of 2 models, labeled by CLIP: 2 named, 0 theme, 0 selective, 1 not selective." in text
    assert "default-src 'none'" in text
    own = re.sub(r'<script type="module">.*?</script>', "", text, flags=re.DOTALL)  # without the chart's library
    assert not any(mark in own for mark in ('src="http', "url(", "@import", "<link"))
    first = text
    unit_gallery.write(tmp_path / "units.html", concepts=CONCEPTS, maps=maps(), images=PICTURES)
    assert (tmp_path / "units.html").read_text(encoding="utf-8") == first


def test_units_come_named_first_then_selective_then_by_the_held_out_score():
    table = CONCEPTS.assign(
        status=["selective", "named", "theme", "not selective"],
        concept=["", "sky", "", ""],
        set_size=[30, 1, 7, 2],
        set=["x", "sky", "dog; wolf; fox", "z; w"],
        held_out_correlation=[0.1, 0.0, 0.3, 0.9],
    )
    data = unit_gallery.collect(table, maps(), PICTURES)
    assert [unit["rank"] for unit in data["units"]] == [2, 0, 1, 3]
    assert data["statuses"] == ["named", "theme", "selective", "not selective"]
    assert [unit["title"] for unit in data["units"]] == [
        "selective, no name",
        "sky",
        "a theme: dog, wolf, fox (7 groups)",
        "not selective",
    ]
    assert [unit["category"] for unit in data["units"]] == ["object", "", "color", ""]
    alike = unit_gallery.collect(table.assign(status="selective", set_size=30), maps(), PICTURES)
    assert [unit["rank"] for unit in alike["units"]] == [2, 3, 1, 0], "of equal claims the best held-out score"
    without = unit_gallery.collect(CONCEPTS, maps(), PICTURES)
    assert [unit["rank"] for unit in without["units"]] == [0, 3, 2, 1], "names before none, and dead units last"


@pytest.mark.parametrize(
    ("shape", "size"), [((30, 60), (48, 24)), ((90, 30), (16, 48)), ((8, 8), (48, 48)), ((1, 400), (48, 1))]
)
def test_thumbnails_keep_the_proportions_of_their_image(shape, size):
    (thumbnail,) = unit_gallery.encode_thumbnails(
        {"g": np.array([0])}, {"g": lambda rows: np.zeros((len(rows), *shape, 3), np.uint8)}, 48, 30
    )
    assert Image.open(io.BytesIO(thumbnail)).size == size
