"""Pages of classes in headless Chromium: the list, the bars with their intervals, the images, and the links."""

import re

import numpy as np
import pandas as pd
import pytest
from unitlens.report import class_pages
from unitlens.tables import classes

FACTS = {"model": "net", "layer": "4"}
CALLED = ["cat <b>", "tench", "owl"]
UNITS, EACH = 30, 12


def tables():
    """Three classes, of which two have a page; units 0 and 1 are called red and speak for the first only."""
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1, 2], [EACH, EACH, 3])
    page = rng.normal(size=(3, UNITS)) * 0.3
    page[:, :2], page[:, 5] = [[2, 1], [0, 0], [0, 0]], 1e4 * (np.arange(3) == 1)
    values = np.float32(page[target] * rng.uniform(0.5, 1.5, size=(len(target), UNITS)))
    ids = np.array([f'photo "{number}" <i>' for number in range(len(target))], dtype=object)
    score = values.sum(1, dtype=np.float64) + 1
    columns = {"target": target, "image_id": ids, "source_image": ids, "score": score}
    names = [{**FACTS, "unit": unit, "name": "red" if unit < 2 else "", "status": "theme"} for unit in range(UNITS)]
    names = pd.DataFrame(names).assign(status=lambda table: table["status"].where(table["name"].eq(""), "named"))
    groups = []
    for number in (0, 1):
        rows = np.flatnonzero(target == number)
        arrays = {"contributions": values[rows], "tokens": 0 * score[rows], "remainder": 0 * score[rows] + 1}
        groups.append((number, rows, arrays | {"score": score[rows]}))
    words = names.assign(title=names["name"].mask(names["name"].eq(""), "a theme: oak, elm"), linear="0.41 owl")
    return classes.summarize(groups, columns, FACTS, names, CALLED), ids, words


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made, ids, words = tables()
    pixels = np.random.default_rng(1).integers(0, 256, (len(ids), 20, 30, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("pages") / "classes"
    class_pages.write_pages(
        folder,
        *made[:3],
        image_ids={"square": ids},
        images={"square": lambda rows: pixels[rows]},
        geometries={"net": "square"},
        labeled=[("net", "4")],
        words=words,
    )
    return folder


def test_the_list_leads_to_every_page(folder, browse):
    assert sorted(path.name for path in folder.iterdir()) == ["index.html", "net-0.html", "net-1.html"]
    opened = browse(folder / "index.html")
    assert "2 of 3 explained classes have the 10 images" in opened.locator("header").inner_text()
    assert opened.locator("tbody tr").first.inner_text().startswith("net\tcat <b>\t12\t")
    opened.get_by_role("link", name="cat <b>").click()
    assert opened.url.endswith("net-0.html")
    opened.get_by_role("link", name="Classes").click()
    assert opened.url.endswith("classes/index.html")


@pytest.mark.parametrize("width", [1280, 400])
def test_a_page_says_what_speaks_for_a_class_and_shows_the_images(folder, browse, width):
    opened = browse(folder / "net-0.html", width=width)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert "12 images explained as cat <b>" in opened.locator("header").inner_text()
    first = opened.locator("section[aria-labelledby=for] .bars > li").first
    assert "red sum of 2 units" in re.sub(r"\s+", " ", first.inner_text())
    assert first.get_by_role("link", name="red").get_attribute("href") == "../units.html#search=%22red%22"
    assert first.locator(".thumbs li").count() == 10
    assert "url(" in first.locator(".thumb").first.evaluate("one => getComputedStyle(one).backgroundImage")
    assert first.get_by_role("img", name='photo "').count() == 10
    bar, line = (first.locator(f".axis {name}").bounding_box() for name in (".raises", ".interval"))
    assert line["x"] < bar["x"] + bar["width"] < line["x"] + line["width"]
    assert opened.get_by_text("the rest: biases after the layer").count() == 1
    against = opened.locator("section[aria-labelledby=against] .bars > li").first
    assert against.locator(".lowers").count() == 1 and "−" in against.inner_text()
    assert "a theme: oak, elm linear: 0.41 owl" in re.sub(r"\s+", " ", against.inner_text())
    assert "linear" not in first.inner_text()  # of two units


def test_one_unit_of_ten_thousand_leaves_a_readable_page(folder, browse):
    opened = browse(folder / "net-1.html")
    first = opened.locator("section[aria-labelledby=for] .bars > li").first
    assert (
        first.get_by_role("link").get_attribute("href") == "../units.html#net%2F4%2F5" or "unit 5" in first.inner_text()
    )
    assert "NaN" not in opened.content() and "nan" not in opened.locator("main").inner_text()
