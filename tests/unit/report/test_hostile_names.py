"""Names from outside that would hide, move or end text: in figures and in the text of pages."""

import html
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import jinja2
import numpy as np
import pandas as pd
import pytest
from docutils.core import publish_parts
from matplotlib.figure import Figure
from unitlens.report import charts, concept_figures, explanation_figures, pages

ROOT = Path(__file__).parents[3]
HIDDEN = "a\u202eb\u2066c\u200fd\u061ce\x1bf\x00g\u200bh"
SHOWN = r"a\u202eb\u2066c\u200fd\u061ce\x1bf\x00g\u200bh"
LONG = "ß" * 300
NAMES = [HIDDEN, LONG, "</script><b>", "$x_{$", "日本語🐱", "--><b>"]


def drawn(path):
    ElementTree.parse(path)  # what is no XML is no image
    return re.findall("<!-- (.*?) -->", path.read_text(encoding="utf-8"))


def test_names_in_a_figure_are_seen_whole_or_shortened(tmp_path):
    table = pd.DataFrame({"concept": NAMES, "category": "object", "units": range(6, 0, -1), "others": 0, "share": 0.1})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        concept_figures.frequent_concepts(
            table.assign(model="net", layer="all"), tmp_path / "a.svg", encoder=f"CLIP {HIDDEN} {LONG}"
        )
    texts = drawn(tmp_path / "a.svg")
    assert "ß" * 23 + "…" in texts and SHOWN[:23] + "…" in texts and "日本語🐱" in texts
    assert max(map(len, texts)) < 200 and not re.search("[\u200b-\u200f\u202a-\u202e\x00-\x08\x1b]", "".join(texts))


def test_dollars_are_no_formula_wherever_they_stand(tmp_path):
    """In titles, at ticks and axes, in legends, annotations and labels of bars."""
    names = {
        place: f"$5 of {place} and $6_{{x}}" for place in ("figure", "panel", "axis", "tick", "legend", "note", "bar")
    }

    @charts.drawing
    def draw():
        figure = Figure()
        figure.suptitle(names["figure"])
        panel = figure.add_subplot()
        panel.set_title(names["panel"])
        panel.set_xlabel(names["axis"])
        panel.bar_label(panel.barh([0, 1], [3, 2000], label=names["legend"]), labels=[names["bar"], "b"])
        panel.set_yticks([0, 1], [names["tick"], "b"])
        panel.annotate(names["note"], (1, 1))
        panel.legend()
        return figure

    draw(tmp_path / "a.svg")
    assert set(names.values()) <= set(drawn(tmp_path / "a.svg"))


def test_captions_of_images_are_seen_and_shortened(tmp_path):
    images, maps = np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 32, 32))
    explanation_figures.explanation_grid(
        images,
        {"lime": maps, "gradcam-a": maps},
        tmp_path / "a.svg",
        captions=[f"{HIDDEN}, p = 0.5", LONG],
        model="net",
    )
    texts = drawn(tmp_path / "a.svg")
    assert any(text.startswith(SHOWN[:20]) for text in texts) and any(re.fullmatch("ß+…", text) for text in texts)
    explanation_figures.overlay(images[0], maps[0], tmp_path / "b.png", title=LONG * 20)


@pytest.mark.parametrize("name", ["overview.html.j2", "units.html.j2", "explanations.html.j2"])
def test_every_page_allows_only_what_it_holds(name):
    text = (Path(__file__).parents[3] / "scripts/unitlens/report/templates" / name).read_text()
    (policy,) = re.findall('<meta http-equiv="Content-Security-Policy" content="(.*?)">', text)
    rules = dict(each.strip().split(" ", 1) for each in policy.split(";"))
    scripts = {} if name.startswith("overview") else {"script-src": "'unsafe-inline'"}
    assert (
        rules
        == {
            "default-src": "'none'",
            "img-src": "data:",
            "style-src": "'unsafe-inline'",
            "base-uri": "'none'",
            "form-action": "'none'",
        }
        | scripts
    )
    assert text.index("Content-Security-Policy") < text.index("<style>"), "a policy holds for what follows it"


@pytest.mark.parametrize(
    "name",
    [
        "`a <javascript:alert(1)>`__",
        ".. raw:: html",
        "*a*|b|c_ [1]_ ::",
        "\\",
        "</script>",
        "a\n\n.. b::",
        "1. x",
        "{{ 1 }}",
    ],
)
def test_names_are_no_markup_in_the_answers_of_snakemakes_report(tmp_path, name):
    tile = {"question": name, "verdict": name, "lines": [name]}
    page = {
        "title": name,
        "missing": None,
        "read_first": [name],
        "tiles": [tile],
        "checks": [{"ok": False, "text": name}],
    }
    pages.write_text(tmp_path / "answers.rst", "answers.rst.j2", page)
    text, body = read_as_snakemake_does(tmp_path)
    shown = name.replace("\n", "\\n")
    assert text.count(shown) == 6 and "System Message" not in text
    allowed = {"div", "p", "strong", "ul", "li", "a", "tt", "span"}
    assert set(re.findall(r"<(\w+)", body)) <= allowed
    assert set(re.findall('href="([^"]*)"', body)) == {"overview.html", "units.html"}, "none of a name"


def read_as_snakemake_does(folder):
    """Fill the first page of the report and make it HTML."""
    config = {"dissect": {"method": "encoder"}, "encoder": {"kind": "clip", "architecture": "ViT-B-16"}, "seed": 1}
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string((ROOT / "report/workflow.rst").read_text(encoding="utf-8")).render(
        snakemake=SimpleNamespace(config=config),
        files=[SimpleNamespace(target=name, path=folder / name) for name in ("a.svg", "findings.html")],
    )
    body = publish_parts(page, writer="html")["html_body"]
    return html.unescape(re.sub(r"<[^>]+>", "", body)), body
