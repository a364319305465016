"""Tables as pages: what is in a cell, which rows fit, and that names stay text."""

import re

import pandas as pd
import pytest
from unitlens.report import pages, table_pages
from unitlens.storage.tables import write_table

HOSTILE = "</table><script>alert(1)</script>\u202e&amp;"
UNITS = pd.DataFrame(
    {
        "model": ["net", HOSTILE, "net"],
        "unit": [0, 1, 2],
        "q_value": [0.123456, 1e-7, float("nan")],
        "named": [True, False, True],
    }
)


def page_of(tmp_path, tables, **options):
    captions = {name: f"About {name}." for name in tables}
    table_pages.write(tmp_path / "page.html", "units & more", tables, captions=captions, **options)
    return (tmp_path / "page.html").read_text(encoding="utf-8")


def rows_of(text):
    return [row.split("<td>")[1:] for row in re.findall(r"<tr>(<td>.*)</tr>", text)]


def test_cells_hold_what_the_file_does_with_four_digits(tmp_path):
    first, second, third = rows_of(page_of(tmp_path, {"results/a.csv": UNITS}))
    assert first == ["net", "0", "0.1235", "True"]
    assert second[1:] == ["1", "1e-07", "False"] and third == ["net", "2", "", "True"]
    whole = pd.DataFrame({"n": [3.0, float("inf"), -2.0, 1234567.0, 1e15 - 1, 1e15]})
    told = [["3"], ["inf"], ["-2"], ["1234567"], ["999999999999999"], ["1e+15"]]
    assert rows_of(page_of(tmp_path, {"b.csv": whole})) == told


def test_the_folder_of_the_pages_is_made_or_used_again(tmp_path):
    write_table(UNITS[["model", "unit"]], tmp_path / "a.csv")
    topic = {"name": "units", "title": "Units", "tables": {str(tmp_path / "a.csv"): "Units.", "no.csv": "None."}}
    empty = topic | {"name": "none", "tables": {"no.csv": "None."}}
    for _ in range(2):
        table_pages.write_pages(tmp_path / "report/tables", [topic, empty], [tmp_path / "a.csv"])
        assert [path.name for path in (tmp_path / "report/tables").iterdir()] == ["units.html"]


def test_names_stay_text_and_hidden_characters_are_shown(tmp_path):
    text = page_of(tmp_path, {"results/a.csv": UNITS.rename(columns={"named": "<i>"})})
    assert "<script>alert" not in text and "\u202e" not in text and "<i>" not in text
    assert rows_of(text)[1][0] == "&lt;/table&gt;&lt;script&gt;alert(1)&lt;/script&gt;\\u202e&amp;amp;"
    assert text.count("<script>") == 1 and "units &amp; more" in text and "default-src 'none'" in text


def test_tags_of_a_template_leave_no_empty_lines(tmp_path):
    text = page_of(tmp_path, {"a.csv": UNITS, "b.csv": UNITS})
    body = text.partition("<body>\n")[2].partition("<script>")[0]
    assert len(body.splitlines()) > 30 and all(map(str.strip, body.splitlines()))


def test_numbers_stand_right_and_texts_left(tmp_path):
    text = page_of(tmp_path, {"first.csv": UNITS, "second.csv": UNITS[["unit"]]})
    assert re.findall(r"#t(\d) :is\(th, td\):nth-child\((\d)\)", text)[:2] == [("0", "2"), ("0", "3")]
    assert "#t1 :is(th, td):nth-child(1)" in text and "#t0 :is(th, td):nth-child(1)" not in text


@pytest.mark.parametrize("most", [200_000, pages.LARGEST_REPORT_PAGE])
def test_a_page_is_never_too_large_and_says_what_it_leaves_out(tmp_path, most):
    large = pd.concat([UNITS] * 20_000, ignore_index=True)
    text = page_of(tmp_path, {"small.csv": UNITS, "results/large.csv": large}, most_bytes=most)
    assert most * 0.5 < len(text.encode()) <= most
    shown = len(rows_of(text)) - 3
    assert f"The first {shown:,} of 60,000 rows" in text and "The file results/large.csv has all of them." in text
    assert text.count("The first ") == 1, "the small table is whole"


def test_equally_large_tables_share_the_page():
    assert table_pages._fitting({"a": [10] * 10, "b": [10] * 10, "c": [10]}, 110) == {"c": 1, "a": 5, "b": 5}
    assert table_pages._fitting({"a": [200]}, 110) == {"a": 0}
    assert table_pages._fitting({"a": []}, 110) == {"a": 0}


def test_pages_are_of_the_tables_that_exist(tmp_path):
    write_table(UNITS, tmp_path / "a.csv")
    topics = [
        {"name": "some", "title": "Some", "tables": {str(tmp_path / "a.csv"): "A.", str(tmp_path / "b.csv"): "B."}},
        {"name": "none", "title": "None", "tables": {str(tmp_path / "b.csv"): "B."}},
    ]
    table_pages.write_pages(tmp_path / "tables", topics, [str(tmp_path / "a.csv")])
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["some.html"]
    assert len(rows_of((tmp_path / "tables/some.html").read_text(encoding="utf-8"))) == 3
    table_pages.write_pages(tmp_path / "empty", topics, [])
    assert list((tmp_path / "empty").iterdir()) == []
