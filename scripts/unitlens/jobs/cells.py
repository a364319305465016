"""Cells that a spreadsheet would run as a formula, because they begin with ``= + - @``, a tab or a line break."""

import re

NUMBER = re.compile(r"'*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_GUARDED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")


def guard(cell: str) -> str:
    """Put a ``'`` before a cell that a spreadsheet would run, or that has one already."""
    return f"'{cell}" if _FORMULA.match(cell) and not NUMBER.fullmatch(cell) else cell


def restore(cell: str) -> str:
    """Take off the ``'`` that `guard` put before a cell."""
    return cell[1:] if _GUARDED.match(cell) and not NUMBER.fullmatch(cell) else cell
