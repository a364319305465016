"""Lists of words that the config names: concepts, what the values of masks mean, and classes."""

import unicodedata
from collections.abc import Mapping
from pathlib import Path

from unitlens.jobs.characters import word_problem
from unitlens.jobs.csv_files import check_file, first_problems
from unitlens.jobs.inputs import unreadable
from unitlens.jobs.sheets import CLASS

_CONCEPT_COLUMNS = ("word", "category")
_MASK_COLUMNS = ("value", "word", "category")


def check_concepts(config: dict) -> list[str]:
    """List what is wrong with the concept list."""
    categories = {}  # as each is written first

    def check_row(row: dict[str, str]) -> list[str]:
        problems = [
            f"{name} {row[name]!r} {reason}" for name in _CONCEPT_COLUMNS if (reason := word_problem(row[name]))
        ]
        category = row["category"]
        first = categories.setdefault(unicodedata.normalize("NFC", category.strip()), category)
        if first != category:
            problems.append(f"category {category!r} is written {first!r} further up; write it in one way")
        return problems

    return check_file(config["concepts"]["list"], "concepts.list", _CONCEPT_COLUMNS, "word", check_row)


def check_masks(config: dict) -> list[str]:
    """List what is wrong with the table of one's own that says what masks mark."""
    masks = config.get("netdissect", {}).get("masks", "broden")
    return [] if masks == "broden" else check_file(masks, "netdissect.masks", _MASK_COLUMNS, "value", _check_mask)


def check_classes(config: dict) -> list[str]:
    """List what is wrong with lists of classes."""
    lists = {f"models.{name}.classes": model["classes"] for name, model in config["models"].items()}
    if "boxes" in config.get("netdissect", {}):
        lists["netdissect.boxes"] = config["netdissect"]["boxes"]
    files = {key: path for key, path in lists.items() if isinstance(path, str) and path != "imagenet"}
    return [line for key, path in files.items() for line in _check_names(path, key)]


def count_classes(classes: int | str) -> int:
    """Count the classes of a list, by its number, name or file; 0 where it cannot be read, a problem of its own."""
    if isinstance(classes, int):
        return classes
    if classes == "imagenet":
        return 1000
    return 0 if _check_names(classes, "") else len(Path(classes).read_text(encoding="utf-8-sig").splitlines())


def _check_names(path: str, key: str) -> list[str]:
    """List what is wrong with a file that has a name in each line. Names may come twice, as ImageNet's cranes do."""
    if reason := unreadable(path):
        return [f"{key}: {reason}"]
    try:
        names = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        return [f"{path} ({key}): not UTF-8 text ({error.reason} at byte {error.start})"]
    problems = []
    for line, name in enumerate(names, start=1):
        if not name.strip():
            problems.append(f"{path} line {line} ({key}): the line is blank; every line must name a class")
        elif reason := word_problem(name):
            problems.append(f"{path} line {line} ({key}): the class {name!r} {reason}")
    return first_problems(problems, f"{path} ({key})")


def _check_mask(row: Mapping[str, str]) -> list[str]:
    value = row["value"]
    known = CLASS.fullmatch(value) and 0 < int(value) < 2**16
    problems = [] if known else [f"value {value!r} must be a whole number from 1 to 65535"]
    for column in _MASK_COLUMNS[1:]:
        cell = row.get(column) or ""
        if not cell.strip():
            problems.append(f"{column} is empty")
        elif reason := word_problem(cell):
            problems.append(f"{column} {cell!r} {reason}")
    return problems
