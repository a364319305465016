"""The small changes that `make mutants` makes, by hand."""

import ast
import random

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
    found = [ast.unparse(ast.parse(text)) for _, text in mutants.mutants(line, random.Random(0))]
    assert sorted(found) == sorted(changes)


def test_the_sample_is_seeded_and_takes_kinds_in_turn():
    source = "é = 'x'\ndef f(a=1):\n    if a < 2:\n        return a + 3\n    return f(a=4)\n"
    first, again, other = (mutants.mutants(source, random.Random(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(first) == sorted(other)
    kinds = [kind for kind, _ in first]
    assert kinds[:6] == sorted(set(kinds)) and set(kinds[6:]) <= {"comparison", "integer", "return"}
    assert (
        "return",
        "é = 'x'\ndef f(a=1):\n    if a < 2:\n        return None\n    return f(a=4)\n",
    ) in first
