"""Pages of tables, to sort and to search: one page a topic, which stands by itself and fits into Snakemake's report."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup, escape

from unitlens.jobs.characters import visible
from unitlens.report import pages
from unitlens.storage.tables import read_table

DIGITS = 4  # of a number in a cell
_SHELL = 40_000  # bytes of a page without its rows


def write_pages(folder: str | Path, topics: Sequence[Mapping], made: Iterable[str | Path]) -> None:
    """Write a page for every topic of which there is a table, `folder`/``<name>.html``.

    Parameters
    ----------
    folder : path
        Is made.
    topics : sequence of mapping
        ``name``; ``title``; and ``tables``, from the path of a CSV file to its caption.
    made : iterable of path
        The files that exist; the others are left out.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    there = set(map(str, made))
    for topic in topics:
        shown = {path: caption for path, caption in topic["tables"].items() if path in there}
        if shown:
            tables = {path: read_table(path) for path in shown}
            write(Path(folder) / f"{topic['name']}.html", topic["title"], tables, captions=shown)


def write(
    path: str | Path,
    title: str,
    tables: Mapping[str, pd.DataFrame],
    *,
    captions: Mapping[str, str],
    most_bytes: int = pages.LARGEST_REPORT_PAGE,
) -> None:
    """Write a page of at most `most_bytes`: of tables too large for that the first rows, and how many there are.

    `tables` and `captions` are by the path of the table's file, which the page names.
    """
    rows = {name: _rows(table) for name, table in tables.items()}
    counts = _fitting({name: [len(row.encode()) + 1 for row in own] for name, own in rows.items()}, most_bytes - _SHELL)
    shown = [
        {
            "file": name,
            "title": Path(name).stem.replace("_", " "),
            "caption": captions[name],
            "columns": list(table.columns),
            "numbers": [n for n, column in enumerate(table.columns, 1) if pd.api.types.is_numeric_dtype(table[column])],
            "rows": Markup("\n").join(map(Markup, rows[name][: counts[name]])),
            "n": counts[name],
            "all": len(table),
        }
        for name, table in tables.items()
    ]
    pages.write_page(path, "tables_page.html.j2", {"title": title, "tables": shown, "digits": DIGITS})


def _fitting(sizes: Mapping[str, Sequence[int]], room: int) -> dict[str, int]:
    """Count the rows of each table that fit: small tables are whole, large ones share what these leave."""
    counts = {}
    for left, name in zip(range(len(sizes), 0, -1), sorted(sizes, key=lambda name: sum(sizes[name])), strict=True):
        share, used = room // left, 0
        counts[name] = len(sizes[name])
        for n, size in enumerate(sizes[name]):
            if used + size > share:
                counts[name] = n
                break
            used += size
        room -= used
    return counts


def _rows(table: pd.DataFrame) -> list[str]:
    """Write every row as HTML, in which the end tags of cells may be left out."""
    columns = [_cells(table[name]) for name in table.columns]
    return ["<tr><td>" + "<td>".join(cells) + "</tr>" for cells in zip(*columns, strict=True)]


def _cells(column: pd.Series) -> list[str]:
    if pd.api.types.is_float_dtype(column):
        return ["" if pd.isna(value) else _number(value) for value in column]
    return ["" if pd.isna(value) else str(escape(visible(str(value)))) for value in column]


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.{DIGITS}g}"
