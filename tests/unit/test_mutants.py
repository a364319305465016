"""The small changes that `make mutants` makes, by hand."""

import ast
import random
from pathlib import Path

import mutants
import pytest


@pytest.mark.parametrize(
    ("line", "changes"),
    [
        ("a < b", {"a <= b", "a > b"}),
        ("a and b", {"a or b"}),
        ("a * b", {"a / b"}),
        ("not a", {"a"}),
        ("f'{a + 1}' + b", {"f'{a + 1}' - b"}),
        ("x[7]", {"x[6]", "x[8]"}),
        ("0.5 - True", {"0.75 - True", "0.5 - False", "0.5 + True"}),
        ("b = f(a, seed=s, **d)", {"b = f(a, **d)"}),
        ("zip(a, b, strict=True)", {"pass"}),
        ("raise ValueError(a)", {"pass"}),
        ("[a for a in b if a]", {"[a for a in b if not a]"}),
        ("a: int = b", set()),
    ],
)
def test_changes_of_a_line(line, changes):
    found = [ast.unparse(ast.parse(text)) for *_, text in mutants.mutants(line, random.Random(0))]
    assert sorted(found) == sorted(changes)


def test_the_sample_is_seeded_and_takes_kinds_in_turn():
    source = "é = 'x'\ndef f(a=1):\n    if a < 2:\n        return a + 3\n    return f(a=4)\n"
    first, again, other = (mutants.mutants(source, random.Random(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first, key=str) == sorted(other, key=str)
    kinds = [kind for kind, *_ in first]
    assert kinds[:6] == sorted(set(kinds)) and set(kinds[6:]) <= {"comparison", "integer", "return"}
    assert (
        "return",
        range(2, 6),
        "é = 'x'\ndef f(a=1):\n    if a < 2:\n        return None\n    return f(a=4)\n",
    ) in first


def test_the_quickest_tests_that_enter_a_function_are_chosen():
    """What a fixture of a file enters counts for all of its tests; a function that no test enters is tried by all."""
    seconds = {"a.py::slow": 9, "b.py::quick": 1, "b.py::slower": 2, "c.py::other": 0, "d.py::of_others": 0}
    entered = {"a.py::slow": {("m.py", 4)}, "b.py": {("m.py", 5)}, "c.py::other": {("m.py", 6), ("n.py", 4)}}
    entered["d.py::of_others"] = {("m.py", 4)}
    files = [Path(f"{name}.py") for name in "abc"]
    chosen = mutants.chosen_tests(files, Path("m.py"), range(4, 6), seconds, entered)
    assert chosen == ["b.py::quick", "b.py::slower", "a.py::slow"]
    own = mutants.chosen_tests(
        [*files, Path("test_m.py")],
        Path("jobs/m.py"),
        range(4, 6),
        seconds | {"test_m.py::starts": 9},
        {"a.py::slow": {("jobs/m.py", 4)}},
    )
    assert own == ["a.py::slow", "test_m.py::starts"], "which starts a process that nobody looks into"
    assert mutants.chosen_tests(files, Path("m.py"), range(7, 9), seconds, entered) == ["c.py::other", *chosen]
