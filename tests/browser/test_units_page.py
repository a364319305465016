"""The gallery in headless Chromium: 5,000 units, drawn as one scrolls, searched, filtered, sorted and opened."""

import functools
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from unitlens import gallery, unit_maps

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --virtual-time-budget=8000 --window-size=1280,900 --dump-dom"
)
UNITS, LAYERS, PICTURES = 5000, 5, 4000


def table():
    """Unit i has the concept `concept <i modulo 100>`, its score is i; every tenth unit is unlabelled."""
    number = np.arange(UNITS)
    labelled = number % 10 > 0
    return pd.DataFrame(
        {
            "model": "net",
            "layer": (number // (UNITS // LAYERS)).astype(str),
            "unit": number % (UNITS // LAYERS),
            "status": np.where(labelled, "labelled", "unlabelled"),
            "concept": [f"concept {i % 100}" if named else None for i, named in zip(number, labelled, strict=True)],
            "category": np.where(labelled, np.where(number % 2, "odd", "even"), None),
            "score": number.astype(float),
            "margin": 0.5,
            "q_value": np.where(number % 10 == 1, 0.2, 0.01),
            "top_concepts": [f"concept {i % 100}; second" for i in number],
            "encoder": "CLIP",
        }
    )


def photographs(rows):
    """Pictures with about as much detail as photographs: smooth noise and a little fine noise, by their row."""
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
    outline = unit_maps.outline
    outline_once = functools.cache(lambda content: outline(np.frombuffer(content, np.uint8).reshape(7, 7)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_maps, "outline", lambda each: outline_once(each.tobytes()))
        gallery.units(path, concepts=table(), maps=maps, pictures={"square": photographs})
    return path


def look(page, tmp_path, actions="", place=""):
    """Open the page, let a script act on it, and return what the page then is."""
    acted = page
    if actions:
        acted = tmp_path / "acted.html"
        acted.write_text(page.read_text() + f"<script>{actions}</script>")
    command = [CHROMIUM, *OPTIONS.split(), f"--user-data-dir={tmp_path / 'profile'}", f"{acted.as_uri()}{place}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "<html" in run.stdout, run.stderr[-2000:]
    return run.stdout


def cards(dom):
    return [re.sub("<.*?>", "", title) for title in re.findall(r"<article><h2>(.*?)</h2>", dom)]


def count(dom):
    return re.search(r'<output id="count"[^>]*>(.*?)</output>', dom)[1]


def enter(name, value, kind="value"):
    return f'byId("{name}").{kind} = {value!r}; byId("{name}").dispatchEvent(new Event("input"));'.replace(
        "True", "true"
    )


def test_page_is_below_40_megabytes_and_draws_only_what_is_near(page, tmp_path):
    assert 5e6 < page.stat().st_size < 40e6
    dom = look(page, tmp_path)
    assert count(dom) == "5,000 of 5,000 units"
    assert 12 <= len(cards(dom)) <= 500
    assert cards(dom)[:2] == ["unlabelled", "concept 1"]
    assert dom.count('src="data:image/webp') == 5 * len(cards(dom)) and "<path d=" in dom


@pytest.mark.parametrize(
    ("actions", "units"),
    [
        (enter("query", "concept 7"), 900),  # 18 numbers with a 7 that do not end in 0
        (enter("query", '"concept 7"'), 50),
        (enter("query", "second"), 0),
        (enter("query", "second") + enter("runners", True, "checked"), 5000),
        (enter("place", "net/2"), 1000),
        (enter("category", "odd"), 2500),
        (enter("status", "unlabelled"), 500),
        (enter("place", "net/2") + enter("status", "unlabelled"), 100),
    ],
    ids=["words", "quoted", "label only", "five best", "layer", "category", "status", "layer and status"],
)
def test_search_and_filters(page, tmp_path, actions, units):
    dom = look(page, tmp_path, actions)
    assert count(dom) == f"{units:,} of 5,000 units"
    assert len(cards(dom)) >= min(units, 12) and (units or not cards(dom))


def test_labels_without_support_are_marked(page, tmp_path):
    dom = look(page, tmp_path, enter("query", '"concept 1"'))
    assert dom.count('<span class="chip">q &gt; 0.05</span>') == len(cards(dom)) > 0
    assert "q &gt; 0.05</span>" not in look(page, tmp_path, enter("query", '"concept 2"'))


def test_sorting_puts_the_best_first(page, tmp_path):
    assert cards(look(page, tmp_path, enter("sort", "0")))[:3] == ["concept 99", "concept 98", "concept 97"]


def test_scrolling_draws_more(page, tmp_path):
    before = len(cards(look(page, tmp_path)))
    assert len(cards(look(page, tmp_path, "scrollTo(0, 1e6); dispatchEvent(new Event('scroll'))"))) > before


def test_a_unit_has_an_address_and_opens_large(page, tmp_path):
    dom = look(page, tmp_path, place="#net/2/7")
    dialog = re.search(r"<dialog[^>]* open.*</dialog>", dom, re.DOTALL)[0]
    assert "concept 7" in dialog and "net · 2 · unit 7" in dialog and dialog.count("<figcaption>photo_") == 5
    key = 'dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));'
    dom = look(page, tmp_path, f"setTimeout(() => document.{key.rstrip(';')}, 500)", place="#net/2/7")
    assert "net · 2 · unit 8" in re.search(r"<dialog[^>]* open.*</dialog>", dom, re.DOTALL)[0]


def test_a_slash_goes_to_the_search_field(page, tmp_path):
    press = 'document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "/", bubbles: true}));'
    dom = look(page, tmp_path, press + "document.body.dataset.focus = document.activeElement.id")
    assert 'data-focus="query"' in dom
