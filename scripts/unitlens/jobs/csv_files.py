"""CSV files from outside, read as they are by the standard library, and checked: the rules read them in every job.

`guard` and `restore` are for cells that a spreadsheet would run as a formula, because they begin with ``= + - @``, a
tab or a line break.
"""

import csv
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from unitlens.jobs.characters import shorten
from unitlens.jobs.inputs import unreadable

_PROBLEMS_SHOWN = 100  # of one file
NUMBER = re.compile(r"'*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


def guard(cell: str) -> str:
    """Put a ``'`` before a cell that a spreadsheet would run, or that has one already."""
    return f"'{cell}" if _FORMULA.match(cell) and not NUMBER.fullmatch(cell) else cell


def restore(cell: str) -> str:
    """Take off the ``'`` that `guard` put before a cell."""
    return cell[1:] if _GUARDED.match(cell) and not NUMBER.fullmatch(cell) else cell


def read_records(path: str | Path, *, tabs: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Read a CSV file from outside as it is: the line that each record ends on, from 1, and its cells; no blank lines.

    It is in UTF-8, with or without a byte order mark. With `tabs`, these stand between cells, and quotes mean nothing.
    """
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, **({"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}))
        for cells in filter(None, reader):
            yield reader.line_num, cells


def count_rows(path: str | Path) -> int:
    """Count the records below the first, holding none."""
    return sum(1 for _ in read_records(path)) - 1


def read_all(path: str | Path) -> tuple[list[str], list[list[str]]]:
    """Read the names of the columns, and all rows below them."""
    columns, *rows = (cells for _, cells in read_records(path))
    return columns, rows


def check_file(
    path: str, key: str, columns: Sequence[str], unique: str, check_row: Callable[[dict[str, str]], list[str]]
) -> list[str]:
    """List what is wrong with a file, which `key` of the config names, by line.

    The first two of `columns` are needed, and no others may be there. The values of the column `unique` must differ,
    however a file system or a reader compares them; `check_row` says what is wrong with a row, by its columns.
    """
    if (reason := unreadable(path)) and "is empty" not in reason:
        return [f"{key}: {reason}"]
    problems, line = [], 0
    seen: dict[str, tuple[str, int]] = {}  # each unique value, as it is compared: as it is written, and its line

    def check_cells(cells: list[str], names: list[str], line: int) -> list[str]:
        if not any(cell.strip() for cell in cells) and len(cells) < 2:
            return ["the line is blank; remove it"]
        row = dict(zip(names, cells, strict=False))
        value = row.get(unique, "")
        same = unicodedata.normalize("NFC", value.strip())
        same = same.lower() if unique == "image_id" else same
        first, earlier = seen.setdefault(same, (value, line))
        if len(cells) != len(names):
            return [f"the row must have {len(names)} values, as the first line has"]
        if not value.strip():
            return [f"{unique} is empty"]
        if earlier != line:
            but = "" if first == value else f" as {first!r}, which some file systems and readers take for the same"
            return [f"{unique} {value!r} is already on line {earlier}{but}"]
        return check_row(row)

    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = next(reader, [])
            if [name for name in columns[:2] if name not in names]:
                got = repr(shorten(",".join(names))) if names else "nothing"
                named = f"must name the columns {', '.join(columns)}, with commas between them"
                return [f"{path} ({key}): the first line {named}; got {got}"]
            if unknown := [name for name in names if name not in columns or names.count(name) > 1]:
                return [f"{path} ({key}): unknown or repeated column {unknown[0]!r}; allowed: {', '.join(columns)}"]
            for cells in reader:
                line = reader.line_num
                found = check_cells(cells, names, line)
                problems += [f"{path} line {line} ({key}): {problem}" for problem in found]
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        return [f"{key}: {path} cannot be read as a table ({reason}, after line {line})"]
    except UnicodeDecodeError as error:
        return [f"{path} ({key}): not UTF-8 text ({error.reason} at byte {error.start})"]
    if not seen:
        problems.append(f"{path} ({key}): there is no row below the first line")
    return first_problems(problems, f"{path} ({key})")


def first_problems(problems: list[str], where: str) -> list[str]:
    """Keep the first problems of a file, and say how many more there are."""
    more = len(problems) - _PROBLEMS_SHOWN
    return problems if more <= 0 else [*problems[:_PROBLEMS_SHOWN], f"{where}: and {more} more problems"]
