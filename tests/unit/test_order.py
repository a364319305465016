"""Tables keep the order of the run: groups come as they are first met, and equal rows stay as they stood."""

import ast
from collections import Counter
from pathlib import Path

LIBRARY = Path(__file__).parents[2] / "scripts/unitlens"
# Groups that are looked up or counted only, or whose names are sorted on purpose, by module.
ANY_ORDER = {
    "recurrence": 1,
    "agreement": 1,
    "job_resources": 1,
    "comparison": 3,
    "tuning": 4,
    "first_screen": 1,
    "cost_figures": 1,
}
ANY_ORDER |= {
    "classes": 1,
    "interventions": 5,
    "overview_tables": 1,
    "evaluation_figures": 1,
    "evaluation_findings": 1,
    "charts": 1,
    "class_pages": 1,
}
# Orders by columns that leave no two rows equal.
TOTAL = {"sanity": 1, "unit_labels": 1, "comparison": 1, "tuning": 3, "cost_figures": 1, "evaluation_figures": 1}
TOTAL |= {"unit_gallery": 1, "charts": 1}


def calls_without(method, keyword, value):
    """Count the calls of a method that do not say this of a keyword, by module; and all of its calls."""
    without, every = Counter(), 0
    for path in LIBRARY.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                told = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
                without[path.stem] += told.get(keyword, ...) != value
                every += 1
    return +without, every


def test_groups_come_as_they_are_first_met():
    without, every = calls_without("groupby", "sort", False)
    assert without <= Counter(ANY_ORDER) and every > 50


def test_equal_rows_stay_as_they_stood():
    without, every = calls_without("sort_values", "kind", "stable")
    assert without <= Counter(TOTAL) and every > 20
