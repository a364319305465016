"""Figures of pages in headless Chromium: what is wider than the window says that it scrolls."""

import pytest
from unitlens.report import pages

DOT = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
PAGE = """<meta name="viewport" content="width=device-width">
<style>{% include "page.css" %} figure { margin: 1.5rem 0; }</style>
{% from "tables.html.j2" import figure %}
{{ figure({"uri": dot, "alt": "", "caption": "c", "width": width}, true) }}"""


@pytest.mark.parametrize(("window", "width", "scrolls"), [(400, 432, False), (400, 691, True), (1280, 691, False)])
def test_a_figure_fits_the_window_or_says_that_it_scrolls(tmp_path, browse, window, width, scrolls):
    path = tmp_path / "page.html"
    path.write_text(pages._environment().from_string(PAGE).render(width=width, dot=DOT), encoding="utf-8")
    opened = browse(path, width=window)
    assert opened.evaluate("document.documentElement.scrollWidth") <= window
    box = opened.locator(".scroll").evaluate("box => [box.scrollWidth, box.clientWidth]")
    assert (box[0] > box[1]) == scrolls
    assert (opened.locator(".wider").evaluate("note => note.clientHeight") > 10) == scrolls
