"""Tables on disk: the one place that reads and writes CSV files with pandas; `jobs.csv_files` reads those from outside.

The type of a column follows from its name, never from its cells: what `TEXT` lists is text, all else numbers, or True
and False. So a model called 4, a layer called 1.10 and a word like ``null`` come back as they were. An empty cell is
an empty text, or a missing number.

Texts that a spreadsheet would run as a formula are written with one ``'`` before them, and so are those that begin
with ``'`` and go on like that; reading takes the one ``'`` off again. Texts that are plain numbers, as -0.5, stay as
they are. Files from outside are read as they are.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from unitlens.jobs.csv_files import NUMBER, guard, restore

TEXT = frozenset(
    re.findall(
        r"\w+",
        """
    model model_a model_b layer first last deepest image_id source_image geometry set encoder similarity device
    explained_class class_name target_name label_name predicted_name prediction subset
    explainer explainer_a explainer_b pair_a pair_b agreement measure baseline comparison reference check passes
    concept candidate second_concept top_concept top_concepts top_images word category group status concept_list
    concept_1 concept_2 concept_3
    mask_concept mask_category second_mask_concept first_half second_half masks clip_status clip_candidate clip_category
    better more_faithful warning note problems copied left_out_endings
    setting name segmentation hide distance selection objective parameter level what part
    rule job counted item claim account part chosen of control why verdict
    """,
    )
)
_QUOTED_OR_END = re.compile(r'("(?:[^"]|"")*")|\r\n')
_UNREADABLE = (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError)


def write_table(table: pd.DataFrame, path: str | Path, *, digits: int = 6) -> None:
    """Write a table of the workflow without its index, numbers that are not whole to some significant digits.

    A ValueError if a column of `TEXT` holds something else, or another one holds text: it would not be read as it was
    written.
    """
    for name in table:
        wrong = _not_text(table[name]) if name in TEXT else _not_numbers(table[name])
        if len(wrong):
            kind, allowed = ("text", "texts") if name in TEXT else ("numbers", "numbers, True and False")
            raise ValueError(
                f"{path}: the column {name!r} is one of {kind} by `tables.TEXT` and may hold {allowed}; "
                f"got {wrong.iloc[0]!r}"
            )
    _write(table, path, [name for name in table if name in TEXT], digits)


def write_texts(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table of texts only, whatever its columns are called; `jobs.sheets.read_rows` reads it."""
    _write(table, path, list(table), 6)


def read_table(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """Read one table that `write_table` has written, or several of the same columns one below the other.

    A ValueError if a file is no table or is cut off, holds text in a column of numbers, or has other columns than the
    first file.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    parts = [_read(path) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        if list(part) != list(parts[0]):
            raise ValueError(
                f"{path} has the columns {', '.join(part)}; {paths[0]} has {', '.join(parts[0])}: "
                "delete the older one and run the workflow again"
            )
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)  # no rows, no types


def read_texts(path: str | Path) -> pd.DataFrame:
    """Read a CSV file from outside as it is, every cell a text; a ValueError if the file is no table."""
    return _parse(path, dtype=str)


def _write(table: pd.DataFrame, path: str | Path, texts: list[str], digits: int) -> None:
    columns = {name: _each(table[name], guard) for name in texts}
    columns |= {name: table[name].astype("Int64") for name in table if name not in texts and _long(table[name], digits)}
    text = table.assign(**columns).to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\r\n")
    # The csv module leaves a lone carriage return without quotes unless lines end in one.
    text = _QUOTED_OR_END.sub(lambda match: match[1] or "\n", text)
    Path(path).write_text(text, encoding="utf-8", newline="")


def _read(path: str | Path) -> pd.DataFrame:
    table = _parse(path, dtype=dict.fromkeys(TEXT, str), na_values=[""])
    with Path(path).open("rb") as file:
        file.seek(-1, os.SEEK_END)
        whole = file.read() == b"\n"
    if not whole:
        raise ValueError(f"{path} is cut off, for its last line has no end; delete it and run the workflow again")
    for name in table:
        if name in TEXT:
            table[name] = _each(table[name].fillna(""), restore)
        elif table.empty:  # pandas takes a column without cells for texts
            table[name] = table[name].astype(float)
        elif len(wrong := _not_numbers(table[name])):
            got = min(wrong, key=lambda cell: bool(NUMBER.fullmatch(cell)))
            raise ValueError(f"{path}: the column {name!r} holds numbers, or True and False; got {got!r}")
    return table


def _parse(path: str | Path, **options: object) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, keep_default_na=False, encoding="utf-8-sig", **options)
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as a table ({error})") from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the first cells for names of the rows
        raise ValueError(f"{path} cannot be read as a table (its rows have more cells than its first line)")
    return table


def _each(column: pd.Series, change) -> pd.Series:
    """Change the texts of a column, each different one once."""
    changed = {cell: new for cell in column.dropna().unique() if (new := change(cell)) != cell}
    return column.map(lambda cell: changed.get(cell, cell)) if changed else column


def _long(column: pd.Series, digits: int) -> bool:
    """Tell whether a column has whole numbers only, and such as `digits` would round."""
    if not pd.api.types.is_float_dtype(column) or not (column.abs() >= 10**digits).any():
        return False
    known = column.dropna()
    return bool((np.isfinite(known) & (known % 1 == 0) & (known.abs() < 2**53)).all())


def _not_text(column: pd.Series) -> pd.Series:
    if isinstance(column.dtype, pd.StringDtype):
        return column[:0]
    return column[[not (isinstance(cell, str) or pd.isna(cell)) for cell in column]]


def _not_numbers(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        return column[:0]
    return column[[isinstance(cell, str) and cell != "" for cell in column]]
