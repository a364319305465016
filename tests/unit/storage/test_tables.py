"""What is written is read again as it was: text that looks like a number, numbers, truth values, odd characters."""

import ast
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from unitlens.jobs import csv_files
from unitlens.jobs.csv_files import restore
from unitlens.storage.tables import read_table, read_texts, write_table, write_texts

SCRIPTS = Path(__file__).parents[3] / "scripts"
LOOKS_LIKE = ["4", "1.10", "007", "1e5", "NA", "null", "None", "nan", "NaN", "true", "False", "inf", "-0.5", "0x10", ""]
ODD = ["a,b", 'say "a"', "two\nlines", "two\r\nlines", "a\rb", "$x$", "<b>", "Bär, größer", " a ", "a\tb", "\ufeffa"]
FORMULAS = ["=1+1", "+a", "-cmd", "@SUM(1)", "\tx", "\rx", "\nx", "=", "-", "--1", "＝1", "-1;2", "+1 a"]
CSV = r"(\b|_)csv$|^read_table$|^read_fwf$|^genfromtxt$|^loadtxt$|^savetxt$"
QUOTED = ["'", "'a", "'=1", "''=1", "'-0.5", "''", "'4"]


def again(tmp_path, table, **options):
    write_table(table, tmp_path / "table.csv", **options)
    return read_table(tmp_path / "table.csv")


@pytest.mark.parametrize("column", ["model", "layer", "image_id", "source_image", "concept", "setting", "level"])
def test_texts_come_back_as_they_were(tmp_path, column):
    cells = LOOKS_LIKE + ODD + FORMULAS + QUOTED
    table = again(tmp_path, pd.DataFrame({column: cells, "n": range(len(cells))}))
    assert table[column].tolist() == cells
    assert table.n.tolist() == list(range(len(cells)))


@pytest.mark.parametrize("cell", LOOKS_LIKE + ODD + FORMULAS + QUOTED)
def test_one_text_alone_comes_back(tmp_path, cell):
    assert again(tmp_path, pd.DataFrame({"model": [cell]})).model.tolist() == [cell]


def test_keys_group_and_merge_without_conversion(tmp_path):
    table = again(
        tmp_path, pd.DataFrame({"model": ["NA", "4", "4"], "layer": ["1.10", "1.1", "1.10"], "units": [1, 2, 3]})
    )
    assert table.groupby(["model", "layer"]).units.sum().to_dict() == {
        ("4", "1.1"): 2,
        ("4", "1.10"): 3,
        ("NA", "1.10"): 1,
    }
    known = pd.DataFrame({"model": ["4", "NA"], "title": ["four", "none"]})
    assert table.merge(known).title.tolist() == ["none", "four", "four"]


def test_only_cells_that_a_spreadsheet_runs_are_written_otherwise(tmp_path):
    cells = ["=1+1", "+a", "-cmd", "@x", "\tx", "'=1", "-0.5", "+3", "'a", "a=b", "1-2"]
    write_table(pd.DataFrame({"concept": cells, "score": [-0.5] * len(cells)}), tmp_path / "table.csv")
    written = (tmp_path / "table.csv").read_text().splitlines()[1:]
    expected = ["'=1+1", "'+a", "'-cmd", "'@x", "'\tx", "''=1", "-0.5", "+3", "'a", "a=b", "1-2"]
    assert written == [f"{cell},-0.5" for cell in expected]


def test_lines_end_in_a_line_feed_and_cells_are_quoted_where_they_must(tmp_path):
    write_table(pd.DataFrame({"model": ["a\rb", 'q"', "c\r\nd"], "unit": [1, 2, 3]}), tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == b'model,unit\n"a\rb",1\n"q""",2\n"c\r\nd",3\n'


def test_numbers_and_truth_values_keep_their_types(tmp_path):
    table = pd.DataFrame(
        {
            "unit": [1, 2, 3],
            "value": [0.1234567, np.nan, -2],
            "passed": [True, False, True],
            "rank": pd.Series([1, None, 3], dtype="Int64"),
            "correct": [True, "", False],
            "label": [3, "", 12],
        }
    )
    read = again(tmp_path, table)
    assert (tmp_path / "table.csv").read_text() == (
        "unit,value,passed,rank,correct,label\n1,0.123457,True,1,True,3\n2,,False,,,\n3,-2,True,3,False,12\n"
    )
    assert read.unit.dtype == int and read.passed.dtype == bool and read.value.dtype == float
    assert (
        read.value.isna().tolist() == read.label.isna().tolist() == read["rank"].isna().tolist() == [False, True, False]
    )
    assert [cell for cell in read.correct if not pd.isna(cell)] == [True, False]
    assert read.label.tolist()[::2] == [3, 12]


def test_digits(tmp_path):
    again(tmp_path, pd.DataFrame({"seconds": [1234.567]}), digits=3)
    assert (tmp_path / "table.csv").read_text() == "seconds\n1.23e+03\n"


def test_counts_are_not_rounded_where_some_are_missing(tmp_path):
    """An epoch of ImageNet has more images than six digits tell apart."""
    table = again(tmp_path, pd.DataFrame({"held_out_images": [1281167, np.nan]}))
    assert (tmp_path / "table.csv").read_text() == 'held_out_images\n1281167\n""\n'
    assert table.held_out_images.tolist()[0] == 1281167


def test_what_is_no_exact_count_is_rounded(tmp_path):
    """Above 2**53 not every whole number is a float; a fraction or an infinity is no count."""
    columns = {"a": [2.0**53 - 1, 1], "b": [2.0**53, 1], "c": [1234567, 0.5], "d": [1234567, np.inf], "e": [12345.0, 1]}
    again(tmp_path, pd.DataFrame(columns))
    assert (tmp_path / "table.csv").read_text().splitlines()[1:] == [
        "9007199254740991,9.0072e+15,1.23457e+06,1.23457e+06,12345",
        "1,1,0.5,inf,1",
    ]


def test_shards_below_each_other(tmp_path):
    """One has no rows and so no types, one has no label, one has text that looks like a number."""
    shards = [
        pd.DataFrame({"model": [], "label": [], "value": []}),
        pd.DataFrame({"model": ["4"], "label": [""], "value": [1.0]}),
        pd.DataFrame({"model": ["1.10"], "label": [3], "value": [0.5]}),
    ]
    for number, shard in enumerate(shards):
        write_table(shard, tmp_path / f"{number}.csv")
    table = read_table(tmp_path / f"{number}.csv" for number in range(3))
    assert table.model.tolist() == ["4", "1.10"] and table.value.tolist() == [1, 0.5]
    assert table.label.isna().tolist() == [True, False] and table.label.dtype == table.value.dtype == float
    assert table.index.tolist() == [0, 1]
    empty = read_table(tmp_path / "0.csv")
    assert list(empty) == ["model", "label", "value"] and len(empty) == 0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"color": ["4"]},
            r"t\.csv: the column 'color' is one of numbers by `tables.TEXT` and may hold numbers, True ",
        ),
        ({"unit": [1, "two"]}, r"t\.csv: the column 'unit' is one of numbers .*; got 'two'"),
        ({"layer": ["a", 4]}, r"t\.csv: the column 'layer' is one of text by `tables.TEXT` and may hold texts; got 4"),
        ({"model": [1.1]}, r"t\.csv: the column 'model' is one of text .*; got .*1\.1"),
    ],
)
def test_a_column_that_would_change_is_not_written(tmp_path, table, message):
    with pytest.raises(ValueError, match=message):
        write_table(pd.DataFrame(table), tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unit\n1\ntwo\n", r"t\.csv: the column 'unit' holds numbers, or True and False; got 'two'"),
        ("", r"t\.csv cannot be read as a table \(No columns"),
        ("model,unit\na,1,2\nb,1,2,3\n", r"t\.csv cannot be read as a table \("),
        ("model,unit\na,1,2\n", r"t\.csv cannot be read as a table \(its rows have more cells than its first line\)"),
        ("model,mean\na,0.25\na,0.7", r"t\.csv is cut off, for its last line has no end; delete it and run the"),
        ("model,mean\na,0.25\na", r"t\.csv is cut off"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "t.csv")


def test_tables_of_other_columns_are_not_joined(tmp_path):
    write_table(pd.DataFrame({"model": ["a"], "unit": [1]}), tmp_path / "a.csv")
    write_table(pd.DataFrame({"model": ["b"], "unit": [1], "score": [2]}), tmp_path / "b.csv")
    with pytest.raises(
        ValueError, match=r"b\.csv has the columns model, unit, score; .*a\.csv has model, unit: delete"
    ):
        read_table([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_files_from_outside_are_read_as_they_are(tmp_path):
    (tmp_path / "words.csv").write_bytes(b"\xef\xbb\xbfword,category\n'=1,NA\n1.10,\n=2,null\n")
    table = read_texts(tmp_path / "words.csv")
    assert table.to_dict("list") == {"word": ["'=1", "1.10", "=2"], "category": ["NA", "", "null"]}
    lines = list(csv_files.read_records(tmp_path / "words.csv"))
    assert lines == [(1, ["word", "category"]), (2, ["'=1", "NA"]), (3, ["1.10", ""]), (4, ["=2", "null"])]
    (tmp_path / "job.tsv").write_text("s\tresources\n1\t{'a': \"b, c\"}\n")
    assert list(csv_files.read_records(tmp_path / "job.tsv", tabs=True))[1] == (2, ["1", "{'a': \"b, c\"}"])


def test_sheets_come_back(tmp_path):
    cells = LOOKS_LIKE + ODD + FORMULAS + QUOTED
    write_texts(pd.DataFrame({"path": cells, "label": ["007"] * len(cells)}), tmp_path / "sheet.csv")
    read = [[restore(cell) for cell in cells] for _, cells in csv_files.read_records(tmp_path / "sheet.csv")]
    assert read == [["path", "label"], *([cell, "007"] for cell in cells)]


def test_nothing_else_reads_or_writes_csv():
    """Ruff bans `pandas.read_csv` and `csv`; this finds the methods, and the bans that a file is exempt from."""
    found = []
    for path in sorted(SCRIPTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.attr] if isinstance(node, ast.Attribute) else []
            ours = isinstance(node, ast.ImportFrom) and node.module == "unitlens.storage.tables"
            imported = isinstance(node, ast.Import | ast.ImportFrom) and not ours
            names += [alias.name for alias in node.names] if imported else []
            found += [f"{path.name}:{node.lineno}: {name}" for name in names if re.search(CSV, name)]
    assert [each for each in found if not each.startswith(("tables.py:", "csv_files.py:"))] == []
    assert len(found) == 3, found  # the import, one reading, one writing


def test_a_table_without_rows_has_columns_of_numbers(tmp_path):
    write_table(pd.DataFrame({"model": [], "units": [], "low": []}), tmp_path / "empty.csv")
    assert read_table(tmp_path / "empty.csv").dtypes[["units", "low"]].tolist() == [float, float]
