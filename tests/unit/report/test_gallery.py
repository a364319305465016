import base64
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from unitlens.report import concept_findings, first_screen, overview, overview_tables, pages

CONCEPTS = pd.DataFrame(
    {
        "model": ["net"] * 5,
        "layer": ["a", "a", "a", "b", "b"],
        "unit": [0, 1, 2, 0, 1],
        "status": ["named", "named", "dead", "named", "named"],
        "concept": ["dog", "puppy", None, "red", "sky"],
        "candidate": ["dog", "puppy", None, "red", "sky"],
        "group": ["dog", "dog", None, "red", "sky"],
        "encoder": "ConSE surrogate",
        "similarity": "soft_wpmi",
        "concept_list": "4 words",
        "category": ["object", "object", None, "color", "scene"],
        "alpha": 0.05,
        "q_value": [0.01, 0.01, np.nan, 0.04, 0.04],
        "kept": [0.5, 0.5, np.nan, 0.5, 0.5],
        "source_images": 1,
    }
)
FREQUENT = pd.DataFrame(
    [
        ["net", "a", "dog", "object", 2, 0, 1.0],
        ["net", "b", "red", "color", 1, 3, 0.5],
        ["net", "b", "sky", "scene", 1, 0, 0.5],
        ["net", "all", "dog", "object", 2, 0, 0.5],
        ["net", "all", "red", "color", 1, 3, 0.25],
        ["net", "all", "sky", "scene", 1, 0, 0.25],
    ],
    columns=["model", "layer", "concept", "category", "units", "others", "share"],
)
LAYERS = pd.DataFrame(
    [["net", "a", "named", 3, 1, 2, 1, 2, 1.0, "dog", 2], ["net", "b", "selective", 2, 0, 5, 2, 2, 2.0, "red", 4]],
    columns=[
        *(
            "model",
            "layer",
            "claim",
            "units",
            "dead",
            "units_counted",
            "distinct",
            "rarefied_units",
            "distinct_rarefied",
        ),
        *("top_concept", "top_units"),
    ],
)
CATEGORIES = pd.DataFrame(
    [["net", "all", "object", 2, 0.5, 0.15, 0.85], ["net", "all", "color", 1, 0.05, 0.0123, 0.7]],
    columns=["model", "layer", "category", "units", "share", "low", "high"],
)
COMPARED = pd.DataFrame(
    [["net", "other", "named", 30, 1200, 10, 20, 1190, 0.0082, 40, 28.04, 39.96, -20.0, -3.8, 12.34, 0.0004, 0.213]],
    columns=[
        *(
            "model_a",
            "model_b",
            "claim",
            "distinct_a",
            "distinct_b",
            "shared",
            "only_a",
            "only_b",
            "jaccard",
            "rarefied_units",
        ),
        *("rarefied_a", "rarefied_b", "difference_low", "difference_high", "chi_square", "p_value", "cramers_v"),
    ],
)
TIMINGS = pd.DataFrame(
    [["net", "lime", 10, 123.0, 12.3, "cpu", 2], ["net", "gradcam-b", 10, 0.25, 0.025, "cpu", 2]],
    columns=["model", "explainer", "images", "seconds", "seconds_per_image", "device", "threads"],
)
PREDICTIONS = pd.DataFrame(
    [
        ["net", "one", 3, "<b>tench</b>", 3, "<b>tench</b>", 0.9, True, 3, "<b>tench</b>", 0.9],
        ["net", "two", 4, "drake", 5, "net & gun", 0.4, False, 5, "net & gun", 0.4],
        ["net", "three", np.nan, np.nan, 5, "lion", 0.4, np.nan, 5, "lion", 0.4],
    ],
    columns=[
        *("model", "image_id", "label", "label_name", "predicted", "predicted_name", "probability", "correct"),
        *("target", "target_name", "target_probability"),
    ],
)
FACTS = {
    "model": "net",
    "architecture": "timm:net",
    "weights": {"url": "https://example.org/net.pth", "sha256": "0123456789abcdef" * 4},
    "weights_sha256": "0123456789abcdef" * 4,
    "parameters": 1234567,
    "classes": 1000,
    "layers": {"a": [3, 7, 7], "b": [2]},
    "input": {"fit": "squash", "resize": 256, "crop": 224, "interpolation": "bilinear", "mean": [0.5], "std": [0.25]},
    "published_input": {"resize": 248},
    "departures": ["resize: 256, published 248"],
}
FIGURES = ["frequent_concepts", "distinct_concepts", "category_shares", "timings", "grid_net"]


def test_accuracy_counts_labeled_source_images_only():
    assert overview.accuracy_sentences(PREDICTIONS) == [
        "net predicts the label of 1 of 2 labeled source images (50 %; 95 % interval 9.5 % to 91 %)."
    ]
    assert overview.accuracy_sentences(PREDICTIONS[2:]) == [
        "No source image that is explained for net has a label and a prediction, so there is no accuracy."
    ]


def test_labels_count_units_without_one_apart():
    assert concept_findings.label_sentences(CONCEPTS, "ConSE surrogate") == [
        "The ConSE surrogate names 4 of the 5 units in 2 layers of net, with 3 distinct concepts; 1 unit is dead."
    ]
    weak = CONCEPTS.assign(status=["theme", "selective", "dead", "named", "not selective"])
    assert concept_findings.label_sentences(weak, "CLIP") == [
        "The CLIP names 1 of the 5 units in 2 layers of net, with 1 distinct concept; 1 unit has a theme, 1 unit is "
        "selective without a name, 1 unit is not selective and 1 unit is dead."
    ]
    broken = CONCEPTS.assign(status=["dead", "named", "not finite", "not finite", "not finite"])
    assert concept_findings.label_sentences(broken, "CLIP") == [
        "The CLIP names 1 of the 5 units in 2 layers of net, with 1 distinct concept; 1 unit is dead, 1 unit of a "
        "returns NaN or infinity and 2 units of b return NaN or infinity."
    ]
    assert concept_findings.label_sentences(CONCEPTS[3:], "CLIP") == [
        "The CLIP names 2 of the 2 units in 1 layer of net, with 2 distinct concepts."
    ]


def test_frequent_concepts_pool_the_layers():
    assert concept_findings.frequency_sentences(FREQUENT) == [
        "The most frequent names in net are dog (2 units, 50 %), red (1 unit, 25 %) and sky (1 unit, 25 %); shares are "
        "of its named units. The best words of the 3 selective units without a name are most often red (3); the data "
        "do not say that they are right."
    ]
    assert concept_findings.frequency_sentences(FREQUENT.assign(units=0, others=0)) == ["In net no unit is named."]
    four = pd.concat([FREQUENT[FREQUENT["layer"] == "all"].head(1)] * 4).assign(
        concept=list("abcd"), others=[4, 3, 2, 1]
    )
    (said,) = concept_findings.frequency_sentences(four)
    assert "The best words of the 10 selective units without a name are most often a (4), b (3) and c (2); " in said


def test_categories_give_both_ends_with_intervals():
    assert concept_findings.category_sentences(CATEGORIES) == [
        "The largest category among the selective units of net is object at 50 % (95 % interval 15 % to 85 %), the "
        "smallest color at 5 % (95 % interval 1.2 % to 70 %)."
    ]
    between = pd.DataFrame([["net", "all", "scene", 2, 0.2, 0.1, 0.3]], columns=CATEGORIES.columns)
    more = concept_findings.category_sentences(pd.concat([CATEGORIES, between]))
    assert more == concept_findings.category_sentences(CATEGORIES), "of three the largest and the smallest"
    assert concept_findings.category_sentences(CATEGORIES[:1]) == [
        "The largest category among the selective units of net is object at 50 % (95 % interval 15 % to 85 %)."
    ]
    tied = concept_findings.category_sentences(pd.concat([CATEGORIES[:1], CATEGORIES[:1].assign(category="scene")]))
    assert tied == [
        "The largest categories among the selective units of net are object and scene at 50 % (95 % interval 15 % to "
        "85 %)."
    ]


def test_the_texts_beside_figures_say_their_numbers():
    by_model = {name: overview._alt_of_models(table, sentence=f"overview.{name}_alt") for name, table in
                {"frequent": FREQUENT, "categories": CATEGORIES}.items()}  # fmt: skip
    by_row = {name: overview._alt_of_rows(table, sentence=f"overview.{name}_alt") for name, table in
              {"layers": LAYERS, "timings": TIMINGS}.items()}  # fmt: skip
    assert by_model | by_row == {
        "frequent": [
            "Bar charts of the most frequent names (units + selective ones without a name whose best word it is). net: "
            "dog 2 + 0, red 1 + 3, sky 1 + 0."
        ],
        "categories": ["Dot plots of the layers' category shares. All layers together: net: object 50 %, color 5 %."],
        "layers": [
            "Bar charts of distinct concepts, expected at equal numbers of units (in all). net a, named units: 1 (1); "
            "net b, selective units: 2 (2)."
        ],
        "timings": ["Dot plot of seconds a source image. net LIME 12 s; net Grad-CAM 0.025 s."],
    }


def test_models_come_in_the_order_of_the_run():
    tables = [
        (concept_findings.label_sentences, CONCEPTS, ["CLIP"]),
        (concept_findings.frequency_sentences, FREQUENT, []),
        (concept_findings.category_sentences, CATEGORIES, []),
        (overview.timing_sentences, TIMINGS, []),
    ]
    for sentences, table, more in tables:
        both = pd.concat([table, table.assign(model="a")])
        assert sentences(both, *more) == sentences(table, *more) + sentences(table.assign(model="a"), *more)


def test_timings_name_the_device():
    assert overview.timing_sentences(TIMINGS) == [
        "On CPU, 2 threads, explaining net took 0.025 s (Grad-CAM) to 12 s (LIME) a source image, wall clock."
    ]
    assert overview.timing_sentences(TIMINGS[:1]) == [
        "On CPU, 2 threads, explaining net took 12 s (LIME) a source image, wall clock."
    ]


@pytest.mark.parametrize(("encoder", "first"), [("ConSE surrogate", "not CLIP"), ("CLIP ViT-B/16", "CLIP ViT-B/16")])
def test_caveats_name_the_limits(encoder, first):
    lines = overview.caveats(PREDICTIONS, IMAGES, encoder=encoder)
    assert first in lines[0]
    text = " ".join(lines)
    for limit in [
        "not comparable",
        "1,000 images",
        "49 source images",
        "not independent",
        "3 source images were explained, which is few",
        "wall",
    ]:
        assert limit in text


class Page(HTMLParser):
    """Collect tags; every start tag must be closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


EXPLANATIONS = pd.DataFrame(
    {
        "model": "net",
        "explainer": ["gradcam-layer4", "lime", "lime"],
        "image_id": ["a", "a", "b"],
        "warning": ["", "there is only one superpixel, LIME needs two", ""],
    }
)
IMAGES = pd.DataFrame(
    [
        ["probe", "square", 1000, 49, 1, "broken", 2, "a of b", "dark", 3, "3 .heic"],
        ["explain", "square", 3, 3, 0, "", 0, "", "", 0, ""],
    ],
    columns=[
        *("set", "geometry", "images", "source_images", "skipped", "problems", "copies", "copied"),
        *("warning", "left_out", "left_out_endings"),
    ],
)
VERIFICATION = pd.DataFrame(
    {
        "model": ["net"],
        "check": ["gradcam"],
        "reference": ["grad-cam 1.5.7"],
        "images": [1],
        "largest_difference": [1.2e-6],
        "tolerance": [1e-3],
        "passed": [True],
        "note": [np.nan],
    }
)


TABLES = {
    "concepts": CONCEPTS, "frequent": FREQUENT, "layers": LAYERS, "categories": CATEGORIES, "models": COMPARED,
    "timings": TIMINGS, "predictions": PREDICTIONS, "images": IMAGES,
    "explanations": EXPLANATIONS, "verification": VERIFICATION,
    "verification_timings": VERIFICATION[["model", "check"]].assign(speed_ratio=5.82),
}  # fmt: skip


def write_page(folder, **changes):
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    figures = {name: folder / f"{name}.svg" for name in FIGURES} | {"grid_net": folder / "grid.png"}
    for path in figures.values():
        path.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="360pt" height="72pt"></svg>')
    Image.fromarray(noise).save(folder / "grid.png", dpi=(150, 150))
    given = {
        "tables": TABLES, "facts": [FACTS], "figures": figures, "beside": ["explanations", "units"],
        "captions": dict.fromkeys(FIGURES[:4], "What is drawn.") | {"grid": "A grid."}, "shown": 2,
        "run": {"seed": 42, "<script>": "alert(1)"}, "area": 0.2, "n_samples": 1000,
    } | changes  # fmt: skip
    given["tables"] = TABLES | given["tables"] if given.get("missing") is None else given["tables"]
    overview.overview(folder / "overview.html", folder / "findings.html", folder / "answers.rst", **given)
    return (folder / "overview.html").read_text(encoding="utf-8")


def test_page_is_self_contained_and_readable_without_seeing(tmp_path):
    text = write_page(tmp_path)
    page = Page(text)
    assert page.open == []
    assert ("html", {"lang": "en"}) in page.tags
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == len(FIGURES)
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in images)
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {
        "#summary",
        "#details",
        "#limits",
        "units.html",
        "explanations.html",
        "units.html#search=dog&model=net",
    } <= links
    places = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {link[1:] for link in links if link.startswith("#")} <= places
    assert {"models", "concepts", "explanations", "settings"} <= places
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    loaded = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "srcset")]
    assert not any("http" in value[:20] for value in loaded)
    assert not re.search(r"url\(|@import", text)


def test_figures_keep_their_size_and_large_ones_become_jpeg(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (6, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", dpi=(192, 192))
    (tmp_path / "b.svg").write_text('<svg height="72pt" width="360pt"></svg>')
    bytes_ = (tmp_path / "a.png").stat().st_size
    for largest, kind in [(bytes_, "png"), (bytes_ - 1, "jpeg")]:
        monkeypatch.setattr(pages, "LARGEST_PNG", largest)
        found = pages.embed(tmp_path / "a.png")
        assert found["width"] == 6 and found["uri"].startswith(f"data:image/{kind};base64,")
    found = pages.embed(tmp_path / "b.svg")
    assert found["width"] == 480 and found["uri"].startswith("data:image/svg+xml;base64,")


def test_page_names_the_source_images_without_a_map(tmp_path):
    assert (
        "net: LIME has no map of 1 of 2 images, which count in no mean of its maps: there is only one superpixel, LIME "
        "needs two (a)." in write_page(tmp_path)
    )


def test_page_names_the_source_images_that_were_skipped(tmp_path):
    assert re.search("images left out as unreadable</.*?>1 \\(broken\\)<", write_page(tmp_path), re.DOTALL)
    masks = IMAGES.assign(skipped=0, problems=["", "a: goes without its mask"])
    page = write_page(tmp_path, tables={"images": masks})
    assert re.search("images left out as unreadable</.*?>0 \\(a: goes without its mask\\)<", page, re.DOTALL)


def test_numbers_stand_below_each_other_and_texts_do_not(tmp_path):
    heads = re.findall(r'<th scope="col"( class="number")?>([^<]*)</th>', write_page(tmp_path))
    numbers = {name: bool(right) for right, name in heads}
    assert numbers["allowed"] and numbers["times as fast"]
    assert not numbers["source image"] and not numbers["note"]


def test_the_page_without_figures_is_else_the_same(tmp_path):
    text = write_page(tmp_path)
    light = (tmp_path / "findings.html").read_text(encoding="utf-8")
    assert "data:image" not in light and ".html" not in light
    for page in (text, light):
        assert re.findall(r"<(?:td|h\d|li|p)\b[^>]*>([^<]+)<", page)
    figures = re.compile(r"<figure class=\"figure\">.*?</figure>|<a href=\"\w+\.html[^>]*>|<[^>]*>|\s", re.DOTALL)
    links = ("Units", "Explanations", "See the units →", "All explained images →")
    bare = figures.sub("", text)
    for link in links:
        bare = bare.replace(link.replace(" ", ""), "", 1)
    assert figures.sub("", light) == bare


def test_page_escapes_what_it_is_given(tmp_path):
    text = write_page(tmp_path)
    assert "&lt;script&gt;" in text
    assert "&lt;b&gt;tench&lt;/b&gt;" in text
    assert "net &amp; gun" in text
    assert "<b>" not in text


def test_page_holds_each_table_and_keeps_percent_signs_on_their_line(tmp_path):
    text = write_page(tmp_path)
    for cell in ["1,234,567", "0123456789ab<", "3×7×7", "dog (2)", "1.0 among 2", "0.213", "123.0"]:
        assert cell in text
    assert not re.search(r"\d %", text)


@pytest.mark.parametrize(
    ("changes", "cell"),
    [
        ({}, "no; resize: 256, published 248"),
        ({"departures": []}, "yes"),
        ({"departures": [], "published_input": None}, "not known"),
    ],
)
def test_page_says_whether_the_input_is_that_of_the_publisher(tmp_path, changes, cell):
    text = write_page(tmp_path, facts=[FACTS | changes])
    assert re.search(rf"input as published with the weights</th>\s*<td[^>]*>{cell}</td>", text)


def test_large_source_images_become_jpeg_and_charts_keep_their_size(tmp_path):
    text = write_page(tmp_path)
    (jpeg,) = re.findall(r"data:image/jpeg;base64,([^\"]*)", text)
    assert base64.b64decode(jpeg)[:2] == b"\xff\xd8"
    assert "clamp(408px, 100%, 600px)" in text  # 360 pt are 480 CSS pixels
    assert "clamp(272px, 100%, 400px)" in text  # 500 pixels at 150 dpi are 320


def test_grid_and_predictions_say_of_how_many_they_show_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr(overview_tables, "MOST_PREDICTIONS", 2)
    text = write_page(tmp_path)
    assert 'alt="2 of 3 source images with heat maps of LIME and Grad-CAM for net: one as' in text
    assert "three" not in text and "The first 2 of 3 rows; results/predictions.csv has all." in text
    assert 'alt="3 source images with heat maps' in write_page(tmp_path, shown=20)


def test_page_of_one_model_has_no_comparison(tmp_path):
    assert "Models compared" in write_page(tmp_path)
    assert "Models compared" not in write_page(tmp_path, tables={"models": COMPARED[:0]})


def test_same_input_gives_same_page(tmp_path):
    assert write_page(tmp_path) == write_page(tmp_path)


def test_missing_figures_are_named(tmp_path):
    with pytest.raises(ValueError, match="`figures` lacks category_shares, timings"):
        write_page(tmp_path, figures={name: "x.svg" for name in FIGURES if name not in ("category_shares", "timings")})


def test_verification_shows_difference_allowance_and_speed(tmp_path):
    text = write_page(tmp_path)
    for cell in ("grad-cam 1.5.7", "1.2e-06", "0.001", "5.8"):
        assert cell in text


def test_further_sections_have_findings_and_figures_beside_their_captions(tmp_path):
    (tmp_path / "findings.json").write_text('["Insertion is <highest>.", "The rest."]')
    write_page(tmp_path)
    figures = {tmp_path / "timings.svg": "Curves of deletion. Lower is better."}
    section = {"title": "Localization", "findings": tmp_path / "findings.json", "figures": figures}
    text = write_page(tmp_path, sections=[section])
    assert text.count("<li>Insertion is &lt;highest&gt;.</li>") == text.count("<li>The rest.</li>") == 1
    assert "<h3>Localization</h3>" in text and '<div id="localization">' in text
    assert 'alt="Curves of deletion"' in text and "Curves of deletion. Lower is better.</figcaption>" in text


MISSING = {
    "done": 12,
    "jobs": [
        {
            "job": "decode_images explain 00001",
            "state": "failed",
            "reason": "<b> is no image",
            "log": "results/logs/d.log",
        },
        {"job": "explain_perturbed net 00000", "state": "cut off", "reason": "killed", "log": "results/logs/e.log"},
    ],
    "waiting": [["measure_images", "not begun", 2], ["draw_grid", "out of date", 1]],
}


def test_page_of_an_unfinished_run_begins_with_what_is_missing_and_shows_what_exists(tmp_path):
    text = write_page(tmp_path, tables={"predictions": PREDICTIONS}, beside=["units"], missing=MISSING)
    page = Page(text)
    assert page.open == []
    headings = [attributes["id"] for tag, attributes in page.tags if tag == "h2" and "id" in attributes]
    assert headings == ["missing", "limits", "details"] and '<a href="#missing">1 job failed</a>' in text
    assert (
        "This run is not finished. Jobs done: 12; of the others 1 failed, 1 cut off or still running, 1 out of date "
        "(what they read or their settings changed) and 2 not begun."
    ) in text
    for cell in ("decode_images explain 00001", "&lt;b&gt; is no image", "results/logs/d.log", "measure_images"):
        assert cell in text
    assert "net predicts the label of 1 of 2" in text and "<b>" not in text
    assert text.count("Not here yet") == 6 + 2  # tiles; concepts and explanations, for models are there
    assert 'href="units.html"' in text and 'href="explanations.html"' not in text
    light = (tmp_path / "findings.html").read_text(encoding="utf-8")
    assert "What is missing" in light and "data:image" not in light.replace("img-src data:", "")


def test_page_of_a_run_of_which_nothing_is_done_says_so_in_a_line(tmp_path):
    nothing = {"done": 0, "jobs": MISSING["jobs"][:1], "waiting": []}
    text = write_page(tmp_path, tables={}, facts=[], figures={}, beside=[], missing=nothing)
    assert "of the others 1 failed.</strong> So there is nothing to show yet." in text
    assert "<img" not in text and "units.html" not in text


def test_page_lists_so_many_missing_jobs_and_counts_the_others(tmp_path):
    jobs = [MISSING["jobs"][0] | {"job": f"decode_images {i}"} for i in range(overview.MOST_MISSING + 5)]
    text = write_page(tmp_path, tables={}, facts=[], figures={}, missing=MISSING | {"jobs": jobs})
    assert text.count('<th scope="row">decode_images') == overview.MOST_MISSING == 200
    assert "200 of 205 are listed; results/logs has the others." in text


def test_page_of_a_finished_run_made_on_request_says_that_nothing_is_missing(tmp_path):
    text = write_page(tmp_path, tables=TABLES, missing={"done": 12, "jobs": [], "waiting": []})
    assert "Nothing: all 12 jobs of this run are done." in text
    assert "Not here yet" not in text.partition('id="details"')[2]


def test_missing_tables_of_a_finished_run_are_named(tmp_path):
    with pytest.raises(ValueError, match="`tables` lacks frequent, layers"):
        overview.overview(
            tmp_path / "a.html",
            tmp_path / "b.html",
            tmp_path / "c.rst",
            {name: table for name, table in TABLES.items() if name not in ("frequent", "layers")},
            facts=[],
            figures={},
            captions={},
            shown=1,
            run={},
            area=0.2,
            n_samples=1000,
        )


def test_answers_of_the_first_screen_stand_in_snakemakes_report(tmp_path):
    write_page(tmp_path)
    text = (tmp_path / "answers.rst").read_text(encoding="utf-8").replace("\\", "")
    tiles = first_screen.tiles(TABLES, area=0.2, example=None)
    assert len(tiles) == 6
    for tile in tiles:
        assert f"* {tile['question']} **{tile['verdict'] or 'Not here yet.'}**" in text
    assert text.startswith("**What does net respond to") and "**Read first.**" in text
