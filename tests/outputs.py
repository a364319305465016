"""What docs/outputs.md says of the files of a run, and what is in them."""

import csv
import json
import re
from pathlib import Path

import h5py

PAGE = Path(__file__).parents[1] / "docs/outputs.md"
PASSED_OVER = ("logs", "benchmarks", "retrieved")  # of jobs; what came from elsewhere


def sections():
    """Names that each section describes, by the patterns of its files; those of many tables under ``()``."""
    found = {}
    for part in re.split(r"^##+ ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        cells = re.findall(r"^\| (`.*?) \|", body, re.MULTILINE)
        names = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
        if heading == "Columns of many tables":
            found[()] = names
        elif patterns := tuple(re.findall(r"`(results/[^`]+)`", heading)):
            found[patterns] = names
    return found


def matches(pattern, text):
    return re.fullmatch(re.sub(r"\\{\w+\\}", "[^:/]+", re.escape(pattern)), text)


def names_in(path):
    """Columns of a table, keys of a JSON object, datasets and attributes of an array file."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return set(next(csv.reader(file)))
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            return {*file, *file.attrs}
    return set(json.loads(path.read_text()))


def departures(project):
    """What the page does not say of the tables and array files of a run, and what of a section's files it says wrongly.

    Gives two lists of texts: files and names that are not described; names that no file of their section has.
    """
    described, unknown = sections(), []
    common, found = described.pop(()), {patterns: set() for patterns in described}
    for path in sorted((project / "results").rglob("*")):
        name = path.relative_to(project).as_posix()
        if path.suffix not in (".csv", ".h5") and not name.startswith("results/models/"):
            continue
        if not path.is_file() or path.relative_to(project).parts[1] in PASSED_OVER:
            continue
        section = next((each for each in described if any(matches(pattern, name) for pattern in each)), None)
        if section is None:
            unknown.append(name)
            continue
        for column in names_in(path):
            own = [text for text in described[section] if matches(text, column)]
            found[section] |= set(own)
            if not own and column not in common:
                unknown.append(f"{name}: {column}")
    missing = [
        f"{patterns[0]}: {name}" for patterns, names in described.items() for name in sorted(names - found[patterns])
    ]
    return unknown, missing
