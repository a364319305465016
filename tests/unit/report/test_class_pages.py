"""What is said of classes, and which pages of them are linked; tests/browser/test_class_pages.py opens them."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from unitlens.report import class_pages
from unitlens.report.pages import marked


def findings(classes):
    return class_pages.class_findings(classes, seed=0)


def table(accounts, *, halves=None, others=None):
    """Classes of one model; those of ten images have a page."""
    known = np.array(accounts) >= 10
    told = {"model": "net", "layer": "4", "class": range(len(accounts)), "accounts": accounts, "images": accounts}
    told |= {"class_name": [f"name {number}" for number in range(len(accounts))]}
    told |= {"source_images": np.where(known, accounts, np.nan)}
    return pd.DataFrame(told).assign(
        halves=np.where(known, 0.9 if halves is None else halves, np.nan),
        other_classes=np.where(known, 0.2 if others is None else others, np.nan),
    )


@pytest.mark.parametrize(
    ("accounts", "said"), [([1] * 10, "no class has more than 1."), ([3, 9], "more than 9."), ([], "more than 0.")]
)
def test_without_ten_images_of_a_class_one_sentence_says_so(accounts, said):
    (sentence,) = findings(table(accounts))
    assert sentence.startswith("No class has a page of what speaks for it and against it: that takes 10 explained")
    assert sentence.endswith(said)
    assert class_pages.nothing(table(accounts)) == sentence


def test_halves_of_a_class_are_compared_with_other_classes():
    rng = np.random.default_rng(0)
    (said,) = marked(findings(table([12] * 20 + [3], halves=rng.uniform(0.8, 1, 21))))
    assert said.startswith(
        "**net: the pages of classes are their own.** net: 20 of 21 explained classes have 10 images"
    )
    assert "the same mean contributions to r = 0.9" in said and "different classes to r = 0.20" in said
    assert "p < 0.001" in said and "n = 20" in said
    (said,) = marked(findings(table([12] * 20, halves=0.2, others=rng.uniform(0.1, 0.3, 20))))
    assert said.startswith("**net: no page is shown to be its class's own.**")
    (said,) = marked(findings(table([12] * 20, halves=0.2, others=0.9)))
    assert said.startswith("**net: no page is shown to be its class's own.**"), "halves are of fewer images"


def test_models_are_told_of_in_the_order_of_the_run():
    last, first = (table([12] * 5).assign(model=model) for model in ("z", "a"))
    assert [line[:2] for line in findings(pd.concat([last, first]))] == ["z:", "a:"]


def test_one_class_alone_has_nothing_to_be_compared_with():
    (said,) = marked(findings(table([12, 2], others=np.nan)))
    assert said.startswith("**net: whether pages of classes are their own cannot be told.**")
    assert "1 of 2 explained classes has 10 images" in said and "different classes" not in said
    assert "0.90 (n = 1 is too small for an interval)" in said
    (said,) = marked(findings(table([12], halves=np.nan, others=np.nan)))
    assert "Two halves" not in said


def test_pages_are_linked_where_there_are_any_and_they_lie_beside():
    names = ["overview", "classes/index"]
    assert class_pages.beside(names, table([12])) == names
    assert class_pages.beside(names, table([9])) == class_pages.beside(names, None) == ["overview"]
    assert class_pages.links(names, table([9, 1200])) == {
        ("net", 1): ("classes/net-1.html", "name 1 in all 1,200 explained images")
    }
    assert class_pages.links(["overview"], table([12])) == class_pages.links(names, None) == {}


PART = ["part", "rank", "name", "status", "unit", "units", "mean", "low", "high", "other_classes"]
ITEMS = [
    ("for", 1, "red", "named", np.nan, 2, 2, 1, 4, 0.5),
    ("for", 2, np.nan, "selective", 7, 1, 1, 0.5, 1.5, -0.5),
    ("against", 1, "", "theme", 3, 1, -1, -2, -0.5, 0),
    ("other named units", 1, "", "", np.nan, 1200, 0, np.nan, np.nan, np.nan),
    ("tokens", 1, "", "", np.nan, 0, 0, np.nan, np.nan, np.nan),
    ("remainder", 1, "", "", np.nan, 0, 0.25, np.nan, np.nan, np.nan),
]
WORDS = pd.DataFrame({"model": "net", "layer": "4", "unit": [3, 7], "linear": ["0.41 owl", ""]}).assign(
    title=["a theme: oak, elm (2 groups)", "selective, no name"]
)
BY_MASKS = pd.DataFrame({"model": "net", "layer": "4", "unit": [1, 2, 3], "title": "red (by masks)", "linear": ""})
LEANING = [("for", 1, "a", 0.7), ("for", 1, "b", 0.6), ("against", 1, "b", -0.9)]


def written(folder, items=ITEMS, leaning=LEANING, accounts=(12, 3), labeled=(("net", "4"),), words=WORDS):
    """Pages of net's classes, and how often images were read, at which rows."""
    pixels, read = np.uint8([[[[200, 0, 0]] * 8] * 4, [[[0, 0, 200]] * 8] * 4]), []
    origin = {"model": "net", "layer": "4", "class": 0}
    classes = table(list(accounts)).assign(score=3.0, score_low=2.0, score_high=4.0, halves_rank=0.8, items=5)
    class_pages.write_pages(
        folder,
        classes,
        pd.DataFrame(items, columns=PART).assign(**origin),
        pd.DataFrame(leaning, columns=["part", "rank", "image_id", "contribution"]).assign(**origin),
        image_ids={"square": np.array(["b", "a", "c"], dtype=object)},
        images={"square": lambda rows: (read.append(rows.tolist()), pixels[rows])[1]},
        geometries={"net": "square"},
        labeled=labeled,
        words=words,
    )
    return {path.name: path.read_text() for path in folder.iterdir()}, read


def texts(html):
    """What the bars of a page say, without tags."""
    bars = re.findall(r'<div class="row">(.*?)</div>', html, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", " ", bar).split()) for bar in bars]


def test_a_page_draws_bars_and_intervals_where_they_belong(tmp_path):
    pages, read = written(tmp_path / "deep/classes")
    assert sorted(pages) == ["index.html", "net-0.html"] and read == [[0, 1]], "images are read once, in their order"
    page = pages["net-0.html"]
    assert texts(page) == [
        "red sum of 2 units 2 1 to 4 0.5",
        "unit 7 selective, no name 1 0.5 to 1.5 −0.5",
        "unit 3 a theme: oak, elm (2 groups) linear: 0.41 owl −1 −2 to −0.5 0",
        "1,200 other named units 0",
        "the rest: biases after the layer 0.25",
    ]
    drawn = re.findall(r'<span class="(raises|lowers|interval)" style="left: ([\d.]+)%; width: ([\d.]+)%"', page)
    assert [(name, float(left), float(width)) for name, left, width in drawn] == [
        ("raises", 50, 25),  # the axis ends at 4, the farthest end of an interval
        ("interval", 62.5, 37.5),
        ("raises", 50, 12.5),
        ("interval", 56.2, 12.5),
        ("lowers", 37.5, 12.5),
        ("interval", 25, 18.8),
        ("lowers", 50, 0),
        ("raises", 50, 50),  # of all else, which has an axis of its own
    ]
    assert re.findall(r'class="thumb (i\d)" role="img" aria-label="(\w)"></div><span>(\S+)</span>', page) == [
        ("i0", "a", "0.7"),
        ("i1", "b", "0.6"),
        ("i1", "b", "−0.9"),
    ]
    shown = re.findall(r"\.(i\d) { background-image: url\(data:image/webp;base64,(\S+)\); }", page)
    colors = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for _, data in shown]
    assert [image.shape for image in colors] == [(36, 72, 3)] * 2
    assert [image.mean((0, 1)).argmax() for image in colors] == [2, 0], "a is the second, blue image"


def test_units_of_a_page_are_linked_where_they_are_shown(tmp_path):
    linked = [
        '<a href="../units.html#search=%22red%22">red</a>',
        '<a href="../units.html#net/4/7">unit 7</a>',
        '<a href="../units.html#net/4/3">unit 3</a>',
    ]
    assert re.findall(r'<a href="../units.html#.*?</a>', written(tmp_path / "a")[0]["net-0.html"]) == linked
    assert "units.html#" not in written(tmp_path / "b", labeled=[("net", "5")])[0]["net-0.html"]


@pytest.mark.parametrize(
    ("count", "said"), [(0, "sum of 2 units"), (1, "sum of 2 units, 1 by masks"), (2, "sum of 2 units, by masks")]
)
def test_a_name_by_masks_says_so(count, said, tmp_path):
    words = pd.concat([WORDS, BY_MASKS[:count], BY_MASKS[2:].assign(layer="5")])
    assert texts(written(tmp_path, words=words)[0]["net-0.html"])[0] == f"red {said} 2 1 to 4 0.5"


def test_a_page_that_lists_nothing_says_why(tmp_path):
    page = written(tmp_path, ITEMS[3:], LEANING[:0])[0]["net-0.html"]
    assert page.count("None of the 5 concepts and units is shown to (adjusted p at most 0.05)") == 2
    assert "(adjusted p at most 0.05, 5 concepts and units tested)" in page


def test_the_list_of_classes_names_the_three_largest_of_each_side(tmp_path):
    many = [("for", rank, f"name {rank}", "named", np.nan, 2, 9 - rank, 1, 9, 0) for rank in range(1, 6)]
    index = written(tmp_path, [*many, ITEMS[2]])[0]["index.html"]
    assert "1 of 2 explained classes has the 10 images" in index
    row = re.search(r"<tbody>(.*)</tbody>", index, re.DOTALL)[1]
    assert '<a href="net-0.html">name 0</a>' in row
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert cells == ["net", "12", "0.90", "0.20", "name 1, name 2, name 3", "unit 3"]


def test_no_page_is_written_where_no_class_has_one_and_nothing_is_drawn_of_zeros(tmp_path):
    assert written(tmp_path / "a", accounts=(9, 3)) == ({}, [])
    zeros = [("for", 1, "red", "named", np.nan, 2, 0, 0, 0, 0)]
    page = written(tmp_path / "b", zeros, LEANING[:0])[0]["net-0.html"]
    assert texts(page) == ["red sum of 2 units 0 0 to 0 0"] and "url(" not in page and "nan" not in page.lower()
