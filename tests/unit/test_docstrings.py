"""What ruff cannot check of the library's docstrings: every error that is raised is named, every array has a shape."""

import ast
import re
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "scripts/unitlens"
ARRAY = re.compile(r"\b(Tensor|ndarray)\b")
SHAPE = re.compile(r"\((\w+|\.\.\.)(,( (\w+|\.\.\.))?)+\)")  # (n, h, w), (n,), (units, 1)
ELSEWHERE = re.compile(r"\b[Aa]s (in|of) `")  # described at another function


def public_functions():
    for path in sorted(LIBRARY.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield pytest.param(node, id=f"{path.stem}.{node.name}")


@pytest.fixture(params=public_functions())
def function(request):
    return request.param


def raised(function):
    """Names of the exceptions that the function itself raises."""
    calls = [node.exc for node in ast.walk(function) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {ast.unparse(call.func).rpartition(".")[2] for call in calls}


def is_array(annotation):
    """Whether it is one array: of sequences, mappings and callables of arrays the text must speak anyway."""
    return (
        annotation is not None
        and all(
            ARRAY.fullmatch(part.rpartition(".")[2]) or part in ("None", "str", "int", "float")
            for part in ast.unparse(annotation).split(" | ")
        )
        and bool(ARRAY.search(ast.unparse(annotation)))
    )


def test_every_error_is_named(function):
    text = ast.get_docstring(function) or ""
    missing = {name for name in raised(function) if not name.startswith("_") and name not in text}
    assert not missing, f"the docstring lacks {missing}"


def test_every_array_has_its_shape(function):
    text = ast.get_docstring(function) or ""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    arrays = [each.arg for each in arguments if is_array(each.annotation)]
    if (arrays or is_array(function.returns)) and not ELSEWHERE.search(text):
        assert SHAPE.search(text), f"no shape of {arrays or 'what is returned'}"
    if "Parameters\n---" in text:
        assert not [name for name in arrays if not re.search(rf"(^|[\s`,*]){name}\b", text)]
