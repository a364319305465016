"""Sheets of images and lists of words: their columns, what a cell means, and what is wrong with a row.

Lists are those of concepts, of what the values of masks mean, and of classes.

Without numpy and torch, so that the rules, decode jobs and the library share one definition.
"""

import ast
import importlib.util
import os
import re
import sys
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath

from unitlens.jobs.characters import shorten, word_problem
from unitlens.jobs.csv_files import check_file, count_rows, first_problems, read_all, read_records, restore
from unitlens.jobs.inputs import unreadable

COLUMNS = ("image_id", "path", "label", "mask", "crop", "box", "superpixels")
OWN_LABEL = "label_{}"  # column of the labels of one model, which numbers classes in its own way
DUPLICATE_OF = "duplicate_of"  # column of the sheets that `datasets.write_sheet` writes, of no others
AT_ONCE = 64  # source images of a shard that are held while it is decoded
MAPS = ("mask", "superpixels")  # columns that name label maps
MAPS_APART = ";"  # between several label maps in one cell
LONGEST_ID = 200  # it names files, which some file systems allow 255 bytes with their endings
FEWEST_SOURCE_IMAGES = 3  # of a probe set that can be resampled and exchanged
FEWEST_SHOWING = 5  # source images that must show an annotated concept
CLASS = re.compile(r"0|[1-9][0-9]{0,8}")  # the number of a class
LABELED = ("class_folders", "imagenet_val")  # kinds of image sets whose source images are listed with labels
IMAGENET_CLASSES = 1000
BROUGHT_MASKS = ("broden", "textures")  # kinds of image sets that say themselves what their label maps mean

_CONCEPT_COLUMNS = ("word", "category")
_MASK_COLUMNS = ("value", "word", "category")
_IMAGE_ID = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,{LONGEST_ID - 1}}}")


def read_rows(sheet: str | Path, start: int, stop: int) -> list[dict[str, str]]:
    """Read the rows ``start`` to ``stop - 1`` of an image sheet, counted from 0 after the header, holding no others.

    Columns `image_id` and `path` are needed; missing ones of `COLUMNS` are given as empty strings, others are kept.
    Cells are read as they are, but for those of a sheet that `datasets.write_sheet` wrote (it has the column
    `DUPLICATE_OF`), see `tables.write_texts`. The sheet may end before `stop`. A ValueError says which column or cell
    is missing, which row has more or fewer cells than the header, or that there is no row `start`.
    """
    records = read_records(sheet)
    _, header = next(records, (0, []))
    absent = [column for column in COLUMNS[:2] if column not in header]
    if absent:
        raise ValueError(f"{sheet} lacks the column {absent[0]!r}; its header is {','.join(header) or 'empty'}")
    ours = DUPLICATE_OF in header
    rows = []
    for line, cells in islice(records, start, stop):
        row = dict.fromkeys(COLUMNS, "") | dict(zip(header, cells, strict=False))
        if len(cells) != len(header) or not row["image_id"] or not row["path"]:
            expected = f"{len(header)} cells, image_id and path not empty"
            raise ValueError(f"{sheet}, line {line}: expected {expected}, got {','.join(cells)!r}")
        rows.append({name: restore(cell) for name, cell in row.items()} if ours else row)
    if not rows and stop > start:
        raise ValueError(f"{sheet} has no row {start} (counted from 0 after the header)")
    return rows


def check_source_images(sheet: str | Path, fewest: int) -> None:
    """Raise a ValueError if fewer source images of a sheet of `datasets.write_sheet` differ in content than needed."""
    rows = read_rows(sheet, 0, sys.maxsize)
    found = len({row["path"] for row in rows if not row[DUPLICATE_OF]})
    if found < fewest:
        raise ValueError(
            f"{sheet}: the {len(rows)} rows are {found} source image(s), {fewest} are the fewest that evidence for "
            "labels can come from (crops and copies of one source image are one sample)"
        )


def parse_crop(text: str) -> tuple[float, float, float, float] | None:
    """Read a cell "left top right bottom", of which an empty one means the whole image; a ValueError for others."""
    return fractions(text.split(), "crop") if text.strip() else None


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Give height and width of a size that is written as the side of a square, or as these two."""
    return tuple(size) if isinstance(size, list | tuple) else (size, size)


def fractions(edges: Sequence[str | float], name: str) -> tuple[float, float, float, float]:
    """Read left, top, right and bottom of a rectangle as fractions of the image; a ValueError names the column."""
    if found := _rectangle(edges):
        return found
    allowed = "four fractions with 0 <= left < right <= 1 and 0 <= top < bottom <= 1"
    raise ValueError(f"`{name}` must be 'left top right bottom', {allowed}; got {' '.join(map(str, edges))!r}")


def is_label(cell: str) -> bool:
    """Tell whether a cell of a column of label maps is a whole number, which marks the whole source image."""
    return cell.isascii() and cell.isdigit()


def inside(root: str | Path, name: str, column: str) -> Path:
    """Give the path of a file that a sheet names below `root`; a ValueError if it would lie elsewhere."""
    if _leaves(name):
        raise ValueError(f"`{column}` must stay inside {root}, got {name!r}")
    return Path(root) / PurePosixPath(name)


def label_column(model: str, columns: Container[str]) -> str:
    """Name the column of the labels of a model: its own where there is one, else that of all models."""
    own = OWN_LABEL.format(model)
    return own if own in columns else "label"


def label_columns(columns: Iterable[str]) -> list[str]:
    """List the columns that hold labels."""
    return [name for name in columns if name == "label" or name.startswith(OWN_LABEL.format(""))]


def check_row(row: Mapping[str, str]) -> list[str]:
    """List what is wrong with a row of any sheet."""
    problems = []
    if not _IMAGE_ID.fullmatch(row["image_id"]):
        problems.append(
            f"image_id {shorten(row['image_id'])!r} must be of letters, digits, '_', '.' and '-' (the last two not "
            f"first), at most {LONGEST_ID}, because it names files"
        )
    for column in ("path", *MAPS):
        cell = row.get(column) or ""
        names = cell.split(MAPS_APART) if column == "mask" else [cell]
        if any(map(_leaves, names)):
            problems.append(f"{column} {cell!r} must stay below the folder of the source images")
        elif "\\" in cell:
            problems.append(f"{column} {cell!r} must have '/' between folders, on Windows, too")
        elif "\0" in cell or any(len(os.fsencode(part)) > 255 for name in names for part in PurePosixPath(name).parts):
            problems.append(
                f"{column} {shorten(cell)!r} cannot name a file: at most 255 bytes between slashes, none zero"
            )
    if MAPS_APART in (row.get("superpixels") or ""):
        problems.append(f"superpixels {row['superpixels']!r} must be one label map: superpixels do not overlap")
    if not row["path"]:
        problems.append("path is empty")
    for column in ("crop", "box"):
        if (edges := row.get(column)) and not _rectangle(edges.split()):
            problems.append(f"{column} {edges!r} must be four fractions 'left top right bottom' between 0 and 1")
    problems += [
        f"{column} {row[column]!r} must be the number of a class, from 0"
        for column in label_columns(row)
        if row[column] and not CLASS.fullmatch(row[column])
    ]
    return problems


def check_label(row: Mapping[str, str], column: str, classes: int, name: str, base: int) -> list[str]:
    """Say that the label of a row in a column is none of so many classes of `name`, of which the first has `base`."""
    label = row.get(column)
    if not label or not classes or base <= int(label) < base + classes:
        return []
    allowed = f"from {base} to {classes}" if base else f"below {classes}"
    return [f"{column} {label!r} must be {allowed}, the number of classes of {name}"]


def read_label(row: Mapping[str, str], column: str, base: int) -> int:
    """Read the number of a class, from 0, of a sheet that gives the first one the number `base`; -1 without a label."""
    return int(row[column]) - base if row.get(column) else -1


def _rectangle(edges: Sequence[str | float]) -> tuple[float, float, float, float] | None:
    try:
        left, top, right, bottom = map(float, edges)
    except ValueError:
        return None
    return (left, top, right, bottom) if 0 <= left < right <= 1 and 0 <= top < bottom <= 1 else None


def _leaves(name: str) -> bool:
    """Tell whether a path leads out of the folder that it is relative to."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


# ---- lists of words


def annotated_set(config: dict) -> str:
    """Name the image set whose masks and boxes are used: one of its own, or the probe set."""
    return "annotated" if "annotated" in config["images"] else "probe"


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
            problems.append(f"category {category!r} is written {first!r} above; use one spelling")
        return problems

    if "concepts" not in config:
        return []
    path = config["concepts"]["list"]
    problems = check_file(path, "concepts.list", _CONCEPT_COLUMNS, "word", check_row)
    if not problems and count_rows(path) < 2 and not config["concepts"].get("common_words"):
        problems = [f"{path} (concepts.list): one word is the best of one for every unit; give two or more"]
    return problems


def check_masks(config: dict) -> list[str]:
    """List what is wrong with what says what masks mark: a table of one's own, or a kind of image set."""
    name, problems = annotated_set(config), []
    if name == "annotated" and "netdissect" not in config:
        unused = "nothing reads it without the section `netdissect`; give one, or leave the set out"
        problems.append(f"images.annotated: {unused}")
    if name == "annotated" and config["dissect"]["method"] == "annotations":
        problems.append("images.annotated: dissect.method: annotations takes those of images.probe; leave the set out")
    for (name, key), given in annotations(config).items():
        masks = given.get("masks")
        if masks in BROUGHT_MASKS and masks != config["images"][name].get("kind"):
            problems.append(f"{key}.masks: {masks} needs images.{name}.kind: {masks}")
        if masks and masks not in BROUGHT_MASKS:
            problems += check_file(masks, f"{key}.masks", _MASK_COLUMNS, "value", _check_mask)
        if given.get("labels") == "folders" and config["images"]["probe"].get("kind") not in LABELED:
            problems.append(f"{key}.labels: folders needs images.probe.kind: {' or '.join(LABELED)}")
    return problems


def annotations(config: dict) -> dict[tuple[str, str], dict]:
    """Give the sections that say what annotations mark, by image set and key."""
    sections = {(annotated_set(config), "netdissect"): config.get("netdissect")}
    sections["probe", "dissect.annotations"] = config["dissect"].get("annotations")
    return {key: given for key, given in sections.items() if given}


def annotated_classes(config: dict, dataset: str) -> list[str]:
    """List the files and names of classes that annotations of an image set number."""
    sections = [section for (name, _), section in annotations(config).items() if name == dataset]
    given = [section.get("boxes") or section.get("labels") for section in sections]
    return sorted({classes for classes in given if classes and classes != "folders"})


def check_shown(config: dict) -> list[str]:
    """Ask that enough source images of a sheet show one annotated concept; label maps may show the same."""
    problems = []
    for (name, key), given in annotations(config).items():
        if "sheet" not in config["images"][name]:
            continue
        names, rows = read_all(config["images"][name]["sheet"])
        showing = {}
        for cells in rows:
            row = dict.fromkeys(COLUMNS, "") | dict(zip(names, cells, strict=True))
            concept = row["mask"] and "mask" if "masks" in given else row["label"]
            if concept and ("boxes" not in given or row["box"]):
                showing.setdefault(concept, set()).add(row["path"])
        most = max(map(len, showing.values()), default=0)
        if most < FEWEST_SHOWING:
            problems.append(
                f"images.{name}.sheet: no concept of {key} is shown by {FEWEST_SHOWING} source images or more, so it "
                f"can name nothing; most are shown by {most}"
            )
    return problems


def is_own_list(classes: object) -> bool:
    """Tell whether classes are a file of one's own: neither a number nor a list that has a name."""
    return isinstance(classes, str) and classes not in ("imagenet", "folders")


def check_classes(config: dict) -> list[str]:
    """List what is wrong with lists of classes."""
    lists = {f"models.{name}.classes": model["classes"] for name, model in config["models"].items()}
    lists |= {
        f"{key}.{source}": given[source]
        for (_, key), given in annotations(config).items()
        for source in ("boxes", "labels")
        if source in given
    }
    files = {key: path for key, path in lists.items() if is_own_list(path)}
    return [line for key, path in files.items() for line in _check_names(path, key)]


def count_classes(classes: int | str) -> int:
    """Count the classes of a list, by its number, name or file; 0 where it cannot be read, a problem of its own."""
    if isinstance(classes, int):
        return classes
    if classes == "imagenet":
        return IMAGENET_CLASSES
    return 0 if _check_names(classes, "") else len(read_names(classes))


def read_names(path: str | Path) -> list[str]:
    """Read a file with a name in each line, in UTF-8 with or without a byte order mark; it may end in blank lines."""
    return Path(path).read_text(encoding="utf-8-sig").rstrip().split("\n")


def class_names(classes: str | int) -> list[str]:
    """Name a model's outputs: ``imagenet``, a text file with one name a line, or how many there are, without names.

    A FileNotFoundError if there is no such file.
    """
    if isinstance(classes, int):
        return [f"class {number}" for number in range(classes)]
    if classes == "imagenet":
        return list(_imagenet())
    if not Path(classes).is_file():
        raise FileNotFoundError(f"classes: {classes} is neither 'imagenet' nor a file with one class name per line")
    return read_names(classes)


@cache
def _imagenet() -> tuple[str, ...]:
    """Read the names that torchvision has, without importing it, which takes seconds."""
    package = Path(importlib.util.find_spec("torchvision").origin)
    tree = ast.parse((package.parent / "models/_meta.py").read_bytes())
    (names,) = (
        each.value
        for each in tree.body
        if isinstance(each, ast.Assign) and each.targets[0].id == "_IMAGENET_CATEGORIES"
    )
    return tuple(ast.literal_eval(names))


def _check_names(path: str, key: str) -> list[str]:
    """List what is wrong with a file that has a name in each line. Names may come twice, as ImageNet's cranes do."""
    if reason := unreadable(path):
        return [f"{key}: {reason}"]
    try:
        names = read_names(path)
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
