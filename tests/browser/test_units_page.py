"""The gallery in headless Chromium: 5,000 units, drawn as one scrolls, searched, filtered, sorted and opened."""

import functools

import numpy as np
import pandas as pd
import pytest
from cluster import wait_until
from unitlens.report import pages, unit_gallery

UNITS, LAYERS, PICTURES = 5000, 5, 4000


def table():
    """Unit i has the concept `concept <i modulo 100>`, its score is i; of every ten one has none, one a guess."""
    number = np.arange(UNITS)
    kinds = [number % 10 < 2, number % 1000 == 77]
    status, words = np.select(kinds, ["not selective", "named"], "theme"), [f"concept {i % 100}" for i in number]
    return pd.DataFrame(
        {
            "model": "net",
            "layer": (number // (UNITS // LAYERS)).astype(str),
            "unit": number % (UNITS // LAYERS),
            "status": status,
            "concept": np.where(status == "named", words, None),
            "candidate": np.where(number % 10, words, None),
            "category": np.where(number % 2, "odd", "even"),
            "score": number.astype(float),
            "margin": 0.5,
            "q_value": np.where(status == "not selective", 0.2, 0.01),
            "alpha": 0.05,
            "set_size": 2,
            "set": words,
            "top_concepts": [f"concept {i % 100}; second" for i in number],
            "encoder": "CLIP",
        }
    )


def theme(number):
    return f"a theme: concept {number} (2 groups)"


def source_images(rows):
    """Images with about as much detail as source images: smooth noise and a little fine noise, by their row."""
    rng = np.random.default_rng(int(rows[0]))
    coarse = rng.integers(0, 256, (len(rows), 8, 8, 3)).repeat(16, 1).repeat(16, 2)
    return (0.9 * coarse + rng.integers(0, 26, coarse.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rng = np.random.default_rng(0)
    blobs = rng.integers(0, 256, (50, 7, 7), dtype=np.uint8)
    maps = []
    for layer in range(LAYERS):
        rows = rng.integers(0, PICTURES, (UNITS // LAYERS, 5))
        arrays = {"row": rows, "image_id": np.char.add("photo_", rows.astype(str)).astype(object)}
        arrays |= {"activation": rng.random(rows.shape), "maps": blobs[rng.integers(0, len(blobs), rows.shape)]}
        maps.append((arrays, {"model": "net", "layer": str(layer), "geometry": "square"}))
    path = tmp_path_factory.mktemp("page") / "units.html"
    outline = pages.outline
    outline_once = functools.cache(lambda content: outline(np.frombuffer(content, np.uint8).reshape(7, 7)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "outline", lambda each: outline_once(each.tobytes()))
        unit_gallery.write(path, concepts=table(), maps=maps, images={"square": source_images})
    return path


def cards(opened):
    return opened.locator("#cards h2").all_text_contents()


def count(opened):
    return opened.locator("#count").inner_text()


def test_page_is_below_40_megabytes_and_draws_only_what_is_near(page, browse):
    assert 5e6 < page.stat().st_size < 40e6
    opened = browse(page)
    assert count(opened) == "5,000 of 5,000 units"
    shown = cards(opened)
    assert 12 <= len(shown) <= 500 and shown[:7] == ["concept 77"] * 5 + [theme(2), theme(3)], (
        "named first, then themes"
    )
    assert opened.locator("#cards img").count() == 5 * len(shown)
    assert opened.locator("#cards path").count() > 0


SEARCHES = [
    ({"query": "concept 7"}, 900),  # 18 numbers with a 7 that do not end in 0
    ({"query": '"concept 7"'}, 50),
    ({"query": "second"}, 0),
    ({"query": "second", "runners": True}, 5000),
    ({"place": "net/2"}, 1000),
    ({"category": "odd"}, 2000),
    ({"status": "not selective"}, 1000),
    ({"status": "named"}, 5),
    ({"place": "net/2", "status": "not selective"}, 200),
]


def test_search_and_filters(page, browse):
    opened = browse(page)
    for fields, units in SEARCHES:
        opened.get_by_role("search").evaluate("form => form.reset()")
        for name, value in fields.items():
            field = opened.locator(f"#{name}")
            act = field.check if value is True else field.fill if name == "query" else field.select_option
            act(*(() if value is True else (value,)))
        assert count(opened) == f"{units:,} of 5,000 units", fields
        assert len(cards(opened)) >= min(units, 12) and (units or not cards(opened)), fields


def test_names_by_masks_are_found_and_come_first(tmp_path, browse):
    """Of 30 units that the encoder does not name masks call unit 7 red, and unit 9 a theme of which red is the best."""
    units = table()[:30].assign(status="not selective", concept=None)
    arrays = {"row": np.zeros((30, 1), int), "image_id": np.full((30, 1), "a"), "activation": np.ones((30, 1))}
    claims = ["named" if i == 7 else "theme" if i == 9 else "not selective" for i in range(30)]
    masks = units[["model", "layer", "unit"]].assign(status=claims, mask_concept="red", set="red; pink", set_size=2)
    maps = [(arrays, {"model": "net", "layer": "0", "geometry": "square"})]
    path = tmp_path / "units.html"
    unit_gallery.write(path, concepts=units, maps=maps, images={"square": source_images}, masks=masks)
    opened = browse(path)
    masks = opened.locator("#cards .place + .also")
    assert masks.all_text_contents()[:3] == ["by masks: red", "by masks: a theme: red, pink (2 groups)", ""]
    assert "Masks name 1 and give 1 a theme." in opened.locator("header").inner_text()
    opened.get_by_label("Concept").fill('"red"')
    assert count(opened) == "2 of 30 units"
    opened.get_by_label("Evidence").select_option("named (by masks)")
    assert count(opened) == "1 of 30 units"
    assert opened.evaluate("location.hash") == "#search=%22red%22&status=named+%28by+masks%29"


def test_labels_without_support_are_marked(page, browse):
    opened = browse(page)
    marks = opened.locator("#cards h2 .none")
    opened.get_by_label("Concept").fill('"concept 1"')
    assert marks.count() == len(cards(opened)) > 0
    assert set(cards(opened)) == {"not selective"}
    opened.get_by_label("Concept").fill('"concept 2"')
    assert marks.count() == 0 and opened.locator("#cards .chip.theme").count() == len(cards(opened))


def test_sorting_puts_the_best_first(page, browse):
    opened = browse(page)
    opened.get_by_label("Sort by").select_option("score")
    assert cards(opened)[:3] == [theme(99), theme(98), theme(97)]
    opened.get_by_label("Sort by").select_option("number")
    assert cards(opened)[:3] == ["not selective", "not selective", theme(2)]


def test_scrolling_draws_more(page, browse):
    opened = browse(page)
    before = len(cards(opened))
    opened.mouse.wheel(0, 100_000)
    wait_until(lambda: len(cards(opened)) > before, "drawing more")


def test_a_unit_has_an_address_and_opens_large(page, browse):
    opened = browse(page, "#net/2/7")
    dialog = opened.get_by_role("dialog")
    assert "concept 7" in dialog.inner_text() and "net · 2 · unit 7" in dialog.inner_text()
    assert dialog.locator("figcaption").filter(has_text="photo_").count() == 5
    opened.keyboard.press("ArrowRight")
    dialog.get_by_text("net · 2 · unit 8").wait_for()
    opened.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_a_card_opens_by_mouse_and_by_keyboard(page, browse):
    opened = browse(page)
    opened.locator("article").nth(5).click()
    opened.get_by_role("dialog").get_by_text("net · 0 · unit 2").wait_for()
    opened.keyboard.press("Escape")
    opened.wait_for_url("**#/")
    opened.locator("article a").nth(6).focus()
    opened.keyboard.press("Enter")
    opened.get_by_role("dialog").get_by_text("net · 0 · unit 3").wait_for()


def test_filters_sort_and_search_stand_in_the_address(page, browse):
    """As a link from another page gives them, and as one sends the page to a colleague."""
    opened = browse(page, "#search=%22concept%207%22&model=net&layer=2&sort=score")
    assert count(opened) == "10 of 5,000 units"
    assert opened.get_by_label("Concept").input_value() == '"concept 7"'
    assert [opened.locator(f"#{name}").input_value() for name in ("place", "sort")] == ["net/2", "score"]
    opened.locator("#place").select_option("net")
    assert opened.evaluate("location.hash") == "#search=%22concept+7%22&model=net&sort=score"
    opened.locator("#status").select_option("named")
    assert opened.evaluate("location.hash").endswith("&model=net&status=named&sort=score")
    opened.evaluate("location.hash = '#search=77&runners=1&model=gone&status=named'")
    wait_until(lambda: count(opened) == "5 of 5,000 units", "following the address")
    assert opened.locator("#place").input_value() == "" and opened.locator("#runners").is_checked()


def test_a_unit_closes_to_the_filters_it_was_opened_from(page, browse):
    opened = browse(page, "#search=%22concept%207%22")
    opened.locator("article").first.click()
    dialog = opened.get_by_role("dialog")
    dialog.get_by_text("unit 7").wait_for()
    dialog.get_by_role("button", name="next").click()
    opened.keyboard.press("Escape")
    opened.wait_for_url("**#search=%22concept+7%22")
    assert count(opened) == "50 of 5,000 units"
    opened.locator("#query").fill("concept 8")
    opened.locator("article").first.click()
    opened.locator("#same").click()
    dialog.wait_for(state="hidden")
    assert opened.locator("#query").input_value() == '"concept 8"' and set(cards(opened)) == {theme(8)}


@pytest.mark.parametrize("width", [1280, 400])
def test_a_search_without_a_match_says_so_and_leads_back(page, browse, width):
    opened = browse(page, "#search=nonsense", width=width)
    note = opened.get_by_text("No unit matches these filters.")
    assert note.is_visible() and count(opened) == "0 of 5,000 units"
    opened.get_by_role("button", name="Show all units").click()
    wait_until(lambda: count(opened) == "5,000 of 5,000 units", "showing all")
    assert not note.is_visible()


def test_a_slash_goes_to_the_search_field(page, browse):
    opened = browse(page)
    opened.keyboard.press("/")
    opened.keyboard.type("concept 7")
    assert opened.get_by_label("Concept").input_value() == "concept 7" and count(opened).startswith("900 ")


def test_outlines_can_be_taken_away(page, browse):
    opened = browse(page)
    outline = opened.locator("#cards svg").first
    assert outline.is_visible()
    opened.get_by_label("outlines").uncheck()
    assert not outline.is_visible()


def test_nothing_runs_over_the_edge_of_a_narrow_window(page, browse):
    opened = browse(page, width=400)
    assert opened.evaluate("document.documentElement.scrollWidth") <= 400


def test_chart_holds_the_units_that_are_shown_and_opens_their_cards(page, browse):
    opened = browse(page)
    opened.get_by_label("Concept").fill('"concept 7"')
    opened.get_by_text("Chart of these units").click()
    points = opened.locator("#chart path[aria-roledescription=point]")
    points.first.wait_for()
    assert points.count() == 50
    opened.locator("#up").select_option(label="q")
    opened.locator("#chart svg").get_by_text("q", exact=True).wait_for()
    opened.locator("#place").select_option("net/2")
    wait_until(lambda: points.count() == 10, "drawing fewer points")
    points.first.click(force=True)
    opened.get_by_role("dialog").get_by_text("net · 2 · unit").wait_for()
