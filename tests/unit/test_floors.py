"""The library stands in floors: imports go down, each package has its floor, no file is too long to read."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "scripts/unitlens"
FLOORS = ("jobs", "storage", "images", "networks", "units explainers", "measures", "tables", "report")
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names.split()}
FILES = {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path for path in LIBRARY.rglob("*.py")}
ALLOWED = {  # who may import a package: floors or modules
    "h5py": {"storage.arrays"},
    "pandas": {"storage.tables", "images.datasets", "tables", "report"},
    "csv": {"jobs.csv_files"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "torchvision": {"networks"},
    "timm": {"networks"},
    "open_clip": {"networks"},
    "transformers": {"networks"},
    "pickle": {"networks.pickles", "networks.checkpoints"},  # the latter names its errors only
    "snakemake": set(),
}
MOST_LINES = 400
MOST_MODULES = 115


def imported(path):
    """Dotted names of all that a file imports, inside functions too; of `from a import b` it is `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def uses(path):
    """Files of the library that a file imports; its version, which stands in the package, is no file."""
    for name in imported(path):
        if name.startswith("unitlens."):
            parts = name.split(".")[1:]
            yield next((".".join(parts[:n]) for n in (2, 1) if ".".join(parts[:n]) in FILES), name)


USES = {name: set(uses(path)) - {"unitlens.__version__"} for name, path in FILES.items()}


def test_the_floors_are_the_folders():
    assert {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(HEIGHT)
    assert {name for name in FILES if "." not in name} == {"__init__"}
    assert len(FILES) - len(HEIGHT) - 1 > 60 and all(len(name.split(".")) <= 2 for name in FILES)


@pytest.mark.parametrize("name", FILES)
def test_imports_go_down(name):
    unknown = USES[name] - set(FILES)
    assert not unknown, f"no such module: {unknown}"
    floor = name.partition(".")[0]
    others = {used for used in USES[name] if used.partition(".")[0] != floor}
    assert not {used for used in others if HEIGHT[used.partition(".")[0]] >= HEIGHT.get(floor, len(FLOORS))}


def test_imports_go_in_no_circle():
    assert sum(map(len, USES.values())) > 150
    TopologicalSorter(USES).prepare()


@pytest.mark.parametrize("name", FILES)
def test_packages_are_imported_where_they_belong(name):
    packages = {used.partition(".")[0] for used in imported(FILES[name])} & set(ALLOWED)
    assert not {package for package in packages if not ALLOWED[package] & {name, name.partition(".")[0]}}


@pytest.mark.parametrize("package", [package for package, floors in ALLOWED.items() if floors])
def test_each_package_is_still_imported(package):
    assert any(used.partition(".")[0] == package for path in FILES.values() for used in imported(path))


def test_modules_are_few_and_short():
    lines = {name: len(path.read_text().splitlines()) for name, path in FILES.items()}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}
    assert len(FILES) - len(HEIGHT) - 1 <= MOST_MODULES
