"""What the documents name in backticks exists: files of the repository, and functions of the library."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "scripts/unitlens"
PAGES = [ROOT / "README.md", ROOT / "config/README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
RETRIEVED = {"results", "resources", ".venv", ".snakemake"}  # not in the repository
FOLDERS = {path.name for path in (*ROOT.iterdir(), *LIBRARY.iterdir()) if path.is_dir()} - RETRIEVED


def text_of(page):
    """A page as it describes the tree of today; of the changelog what is not released yet."""
    text = page.read_text()
    if page.name == "CHANGELOG.md":
        (text, *_) = re.split(r"^## ", text.partition("unreleased")[2], flags=re.MULTILINE)
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def names_in(page):
    return sorted(set(re.findall(r"`([^`\s]+)`", text_of(page))))


def is_path(name):
    return not re.search(r"[{}<>*…$=:()]|^-", name) and name.partition("/")[0] in FOLDERS and "/" in name.rstrip("/")


def exists(name, page):
    name = name.partition("#")[0]
    return any((folder / name).exists() for folder in (ROOT, LIBRARY, page.parent))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_of_the_repository_exist(page):
    assert not [name for name in names_in(page) if is_path(name) and not exists(name, page)]


def test_files_are_found_in_the_documents():
    assert {"tests", "config", "docs", "tables"} <= FOLDERS
    named = {name for page in PAGES for name in names_in(page) if is_path(name)}
    assert {"tables/diversity.py", "config/config.yaml", "profiles/slurm"} <= named and len(named) > 40
    assert not exists("tables/nothing.py", PAGES[0]) and is_path("tables/nothing.py")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_modules_and_rules_are_named_with_their_folder(page):
    """A lone `cam.py` would have to be searched for."""
    own = {path.name for pattern in ("scripts/unitlens/*/*.py", "rules/*.smk") for path in ROOT.glob(pattern)}
    assert not own & set(names_in(page))


def defined(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_names_of_the_library_exist(page):
    for name in names_in(page):
        dotted = re.fullmatch(r"unitlens\.(\w+(?:\.\w+)*)(?:\(.*\))?", name)
        if dotted:
            floor, *rest = dotted[1].split(".")
            assert (LIBRARY / floor).is_dir(), name
            if rest:
                assert (LIBRARY / floor / f"{rest[0]}.py").exists(), name
            if rest[1:]:
                assert rest[1] in defined(LIBRARY / floor / f"{rest[0]}.py"), name


def test_the_answers_of_contributing_name_what_is_there():
    """Beside a module's path its table and lists name what to look for: `masks.py`, `equal_area_mask`."""
    text = (ROOT / "docs/CONTRIBUTING.md").read_text().partition("## Which file is it?")[2]
    lines = [line for line in text.splitlines() if re.search(r"`\w+/\w+\.py`", line)]
    assert len(lines) > 10
    for line in re.split(r"\n(?=[|*#])", text):
        modules = [LIBRARY / name for name in re.findall(r"`(\w+/\w+\.py)`", line) if (LIBRARY / name).exists()]
        known = {name for module in modules for name in defined(module)}
        wanted = re.findall(r"`([A-Z_]+|\w+_\w+)`", line) if modules else []
        assert set(wanted) <= known, line


def test_the_tree_of_contributing_is_the_tree():
    tree = (ROOT / "docs/CONTRIBUTING.md").read_text().partition("```\n")[2].partition("```")[0]
    named = [name for line in tree.splitlines() for name in re.match(r"\s*(\S+(?: [\w/]+/(?= ))?)", line)[1].split()]
    folders = (ROOT, ROOT / "rules", LIBRARY)
    assert len(named) > 20
    assert not [name for name in named if not any(list(folder.glob(name.replace("<rule>", "*"))) for folder in folders)]
