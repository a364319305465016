"""Pages with names that are code, hide text or turn it round, in headless Chromium."""

import base64

import numpy as np
import pandas as pd
import pytest
from unitlens.report import explanation_page, overview, table_pages, unit_gallery

HOSTILE = "\u202e</script><img src=x onerror=document.title='run'>\u2028\"'`${1}&amp;\x1b\u200b"
SHOWN = "\\u202e</script><img src=x onerror=document.title='run'>\\u2028\"'`${1}&amp;\\x1b\\u200b"


def write_overview(path):
    missing = {
        "done": 0,
        "jobs": [dict.fromkeys(("job", "reason", "log"), HOSTILE) | {"state": "failed"}],
        "waiting": [],
    }
    overview.overview(
        path,
        path.with_name("findings.html"),
        path.with_name("answers.rst"),
        {},
        facts=[],
        figures={},
        captions={},
        shown=1,
        run={HOSTILE: HOSTILE},
        area=0.2,
        n_samples=1000,
        missing=missing,
    )


def write_explanations(path):
    ids = np.array([HOSTILE], dtype=object)
    saliency = np.random.default_rng(0).random((1, 32, 32))
    told = {"model": "net", "image_id": HOSTILE, "label": 1, "predicted": 1, "probability": 0.5, "correct": True}
    told |= {"target": 1, "target_probability": 0.5} | dict.fromkeys(
        ("label_name", "predicted_name", "target_name"), HOSTILE
    )
    images = {"image_id": ids, "images": np.zeros((1, 32, 32, 3), np.uint8), "box": np.full((1, 4), np.nan)}
    facts = {"model": "net", "geometry": "square", "explainer": "lime"}
    cards = explanation_page.collect(
        [({"image_id": ids, "saliency": saliency, "warning": [HOSTILE]}, facts)],
        [],
        {"square": images},
        predictions=pd.DataFrame([told]),
        faithfulness=None,
        source_images=1,
    )
    explanation_page.write(path, cards, area=0.2, explained=1, missing=[HOSTILE])


def write_units(path):
    concepts = pd.DataFrame(
        {
            **{"model": "net", "layer": "a", "unit": [0, 1], "status": "named", "concept": [HOSTILE, "plain"]},
            **{
                "candidate": [HOSTILE, "plain"],
                "category": HOSTILE,
                "score": [1.0, 2.0],
                "margin": [0.5, 0.25],
                "q_value": 0.01,
            },
            **{"top_concepts": HOSTILE, "encoder": HOSTILE, "q_value": 0.01, "alpha": 0.05},
        }
    )
    arrays = {"row": np.zeros((2, 1), int), "image_id": np.full((2, 1), HOSTILE, object), "activation": np.ones((2, 1))}
    unit_gallery.write(
        path,
        concepts=concepts,
        maps=[(arrays, {"model": "net", "layer": "a", "geometry": "square"})],
        images={"square": lambda rows: np.zeros((len(rows), 8, 8, 3), np.uint8)},
        missing=[HOSTILE],
    )


def write_tables(path):
    names = pd.DataFrame({HOSTILE: [HOSTILE, "b", "", "a"], "n": [2.5, 10, 1e-5, float("nan")]})
    table_pages.write(path, HOSTILE, {HOSTILE: names}, captions={HOSTILE: HOSTILE})


@pytest.mark.parametrize("write", [write_overview, write_explanations, write_units, write_tables])
def test_names_are_shown_and_never_run(tmp_path, browse, write):
    write(tmp_path / "page.html")
    page = browse(tmp_path / "page.html")
    text = page.locator("body").inner_text()
    assert SHOWN in text and not set(HOSTILE) & set("\u202e\u2028\x1b\u200b") & set(text)
    assert page.title().startswith("Unitlens") and page.locator("img[src=x]").count() == 0


def test_the_chart_of_units_draws_within_the_policy(tmp_path, browse):
    write_units(tmp_path / "page.html")
    page = browse(tmp_path / "page.html")
    page.get_by_text("Chart of these units").click()
    page.locator("#chart path[aria-roledescription=point]").first.wait_for()
    page.locator("#category").select_option(SHOWN)
    assert page.locator("#count").inner_text() == "2 of 2 units"


def test_a_link_leads_to_the_image_of_a_hostile_name(tmp_path, browse):
    write_explanations(tmp_path / "page.html")
    page = browse(tmp_path / "page.html")
    page.locator("nav.images").get_by_role("link").click()
    assert page.evaluate("document.getElementById(decodeURIComponent(location.hash.slice(1))).tagName") == "SECTION"


def test_the_policy_stops_what_a_page_does_not_hold(tmp_path, chromium):
    """A script, an image and data from elsewhere, and text that is run as a program."""
    write_units(path := tmp_path / "page.html")
    tries = "<script>try { new Function('1')(); } catch { document.title = 'no eval'; }</script>"
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", f"{tries}</body>"), encoding="utf-8")
    page = chromium.new_page()
    page.goto(path.as_uri())
    stopped = page.evaluate(
        """async () => {
          const stopped = [];
          document.addEventListener("securitypolicyviolation", (event) => stopped.push(event.effectiveDirective));
          for (const name of ["img", "script"]) {
            const made = document.createElement(name);
            made.src = "http://127.0.0.1:9/x";
            document.body.append(made);
          }
          await fetch("http://127.0.0.1:9/x").catch(() => {});
          await new Promise((resolve) => setTimeout(resolve, 200));
          return stopped;
        }"""
    )
    title = page.title()
    page.close()
    assert {"img-src", "script-src-elem", "connect-src"} <= set(stopped) and title == "no eval"


def framed(write, folder, browse):
    """Open a page as Snakemake's report shows it."""
    write(folder / "page.html")
    content = base64.b64encode((folder / "page.html").read_bytes()).decode()
    (folder / "report.html").write_text(f'<iframe src="data:text/html;base64,{content}"></iframe>')
    return browse(folder / "report.html").frame_locator("iframe")


def test_tables_are_sorted_and_searched_within_a_frame(tmp_path, browse):
    frame = framed(write_tables, tmp_path, browse)
    second = frame.locator("tbody td:nth-child(2)")
    frame.get_by_role("button", name="n", exact=True).click()
    assert second.all_inner_texts() == ["1e-05", "2.5", "10", ""]
    frame.get_by_role("button", name="n", exact=True).click()
    assert second.all_inner_texts() == ["10", "2.5", "1e-05", ""], "what is missing stays last"
    assert frame.locator("th[aria-sort=descending]").inner_text().startswith("n")
    frame.locator("th button").first.click()
    assert second.all_inner_texts()[1:] == ["", "10", "1e-05"], "a, b, and the empty name last"
    frame.get_by_label("Rows with").fill("SCRIPT src=x")
    assert second.locator("visible=true").all_inner_texts() == ["2.5"]
    assert frame.locator("output").inner_text() == "1 of 4 rows"


def test_pages_work_within_a_frame_of_a_data_address(tmp_path, browse):
    frame = framed(write_explanations, tmp_path, browse)
    frame.get_by_role("slider").fill("0")
    assert frame.locator(".heat").evaluate("image => getComputedStyle(image).opacity") == "0"
