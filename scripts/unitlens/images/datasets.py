"""List the source images of an image set in a sheet: by folder, ImageNet's validation set, Broden, drawn textures.

Broden (Bau et al., CVPR 2017) holds source images and, beside them, label maps as PNG files of the same folder; its
`index.csv` says which are which. Only source images are listed; the maps go into the column `mask`.
"""

import errno
import functools
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

import pandas as pd

from unitlens.images import textures
from unitlens.jobs.characters import first_few, spelling, visible
from unitlens.jobs.sheets import (
    COLUMNS,
    DUPLICATE_OF,
    LONGEST_ID,
    MAPS,
    MAPS_APART,
    count_classes,
    is_label,
    label_columns,
    read_names,
    read_rows,
)
from unitlens.storage.files import list_files, list_folders, sha256
from unitlens.storage.tables import read_texts, write_texts

_SUFFIXES = {".apng", ".avif", ".bmp", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf"}
_SUFFIXES |= {".jpg", ".jpx", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
_BRODEN_CATEGORIES = ("color", "object", "part", "material", "scene", "texture")  # columns of index.csv
_SYNSET = re.compile(r"n\d{8}")
_VALIDATION = re.compile(r"ILSVRC2012_val_\d{8}")
_SOLUTION = "LOC_val_solution.csv"
_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
_LONGEST = 300  # seconds; the real one takes two

_READ_SYNSETS = """
import json, sys
import scipy.io
synsets = scipy.io.loadmat(sys.argv[1], squeeze_me=True, variable_names=["synsets"])["synsets"]
print(json.dumps(list(zip(map(int, synsets["ILSVRC2012_ID"]), map(str, synsets["WNID"]), strict=True))))
"""


def write_sheet(
    path: str | Path,
    left_out: str | Path,
    root: str | Path,
    *,
    sheet: str | Path | None,
    kind: str,
    size: int | None,
    classes: Sequence[str | int] = (),
    allow_missing: bool = False,
) -> None:
    """Write the sheet of an image set whose source images are in place below `root`, and check that they are.

    It has `COLUMNS`, ``class_name`` where folders or ImageNet's lists name it, ``sha256`` and ``maps_sha256`` of the
    `files` (the latter with ``;`` between), and ``duplicate_of``, the first row of another file with the same content.

    Parameters
    ----------
    left_out
        Another table to write, ``ending, files``: how many files are no images by the endings of their names, where
        source images are listed by these.
    sheet
        The user's sheet, whose rows are copied; without it they are listed by the one of `KINDS` that `kind` names.
    size
        How many rows the config promised, where there is no `sheet`.
    classes
        What the folders of a set of the kind ``class_folders`` must be, the classes of the models or annotations:
        files with their names, ``imagenet``, or how many there are.
    allow_missing
        Leave missing source images and label maps to `decode_images` and `read_label_maps`, which list them.

    Raises
    ------
    FileNotFoundError
        If source images or label maps are missing; the first five are named.
    ValueError
        If the number of source images is not `size`, or two of them have the same `image_id`; if folders are not the
        `classes` in their order.
    """
    root = Path(root)
    for each in classes if kind == "class_folders" and not sheet else ():
        _check_folders(root, each)
    others = {} if sheet or kind not in _BY_NAME else _say_left_out(root)
    rows = read_rows(sheet, 0, sys.maxsize) if sheet else _listed(root, kind, size, others)
    if not allow_missing:
        _check_present(root, "source images", [(row["path"], row["image_id"]) for row in rows])
        _check_present(root, "label maps", [(name, row["image_id"]) for row in rows for name in files(row)[1:]])
    same = _add_hashes(rows, root)
    part = Path(path).with_suffix(".part")
    own = [name for name in label_columns(rows[0]) if name not in COLUMNS]
    columns = [*COLUMNS, *own, "class_name", "sha256", "maps_sha256", DUPLICATE_OF]
    write_texts(pd.DataFrame(rows, columns=columns), part)
    part.replace(path)
    write_texts(pd.DataFrame(others.items(), columns=["ending", "files"], dtype=str), left_out)
    what = "source image is a copy of another" if len(same) == 1 else "source images are copies of others"
    print(f"{len(rows)} rows; {len(same)} {what}")
    print(*(f"  {copy} has the content of {first}" for copy, first in same.items()), sep="\n")


def _say_left_out(root: Path) -> dict[str, int]:
    """Say what of a folder is not listed; count the files that are no images by the endings of their names."""
    listing = list_files(root, _SUFFIXES)
    endings = Counter(visible(PurePath(path).suffix.lower()) or "none" for path in listing.others)
    others = dict(sorted(endings.items()))
    for what, names in (("hidden", listing.hidden), ("link that leads back to a folder above it", listing.loops)):
        if names:
            print(f"left out, {what}: {len(names)}, {visible(first_few(names))}")
    if others:
        print(f"left out, no image by the ending of its name: {endings_text(others)}")
    return others


def _check_folders(root: Path, classes: str | int) -> None:
    """Refuse folders that would be numbered otherwise than the classes of a model."""
    names, count = list_folders(root), count_classes(classes)
    known = read_names(classes) if isinstance(classes, str) and classes != "imagenet" else names
    own, listed = ([spelling(name) for name in each] for each in (names, known))
    if len(names) != count or (own != listed and sorted(own) == sorted(listed)):
        told = f"in another order than {classes} has them" if len(names) == count else f"not {count} ({classes})"
        raise ValueError(
            f"{root} has {len(names)} folders of classes, {told}, so that their numbers would be wrong labels; write a "
            "sheet, or take kind: imagenet_val for folders of ImageNet's synsets"
        )


def endings_text(endings: Mapping[str, object]) -> str:
    """Write how many files have each ending."""
    return ", ".join(f"{count} {ending}" for ending, count in endings.items())


def _check_present(root: Path, what: str, files: Sequence[tuple[str, str]]) -> None:
    if missing := [f"{name} ({image_id})" for name, image_id in files if not _is_file(root / name)]:
        count = f"{len(missing)} of {len(files)} {what}"
        raise FileNotFoundError(f"{count} are not below {root}, or are no files: {first_few(missing)}")


def copies(sheet: str | Path) -> dict[str, str]:
    """Give the source images that a sheet of `write_sheet` calls copies, with the row that each is a copy of."""
    rows = read_rows(sheet, 0, sys.maxsize)
    return {row["path"]: row[DUPLICATE_OF] for row in rows if row[DUPLICATE_OF]}


def source_images(sheet: str | Path, paths: Iterable[str]) -> list[str]:
    """Give, for each path of a sheet of `write_sheet`, the first one there with equal content: one source image."""
    rows = read_rows(sheet, 0, sys.maxsize)
    path_of = {row["image_id"]: row["path"] for row in rows}
    copied = {row["path"]: path_of[row[DUPLICATE_OF]] for row in rows if row.get(DUPLICATE_OF)}
    return [copied.get(path, path) for path in paths]


def hashes(sheet: str | Path) -> dict[str, str]:
    """Give the sha256 of each source image and label map of a sheet of `write_sheet`, by its path."""
    known = {}
    for row in read_rows(sheet, 0, sys.maxsize):
        known |= zip(files(row), [row["sha256"], *row.get("maps_sha256", "").split(MAPS_APART)], strict=False)
    return known


def files(row: Mapping[str, str]) -> list[str]:
    """List the files of a row of a sheet: its source image, then its label maps; a number marks the whole image."""
    cells = [cell for column in MAPS for cell in row.get(column, "").split(MAPS_APART)]
    return [row["path"], *(cell for cell in cells if cell and not is_label(cell))]


def image_folder(root: Path) -> list[dict[str, str]]:
    """List every image below a folder in the order of the paths, see `files.list_files` and `_image_id`."""
    return [{"image_id": _image_id(path), "path": path} for path in list_files(root, _SUFFIXES).named]


def class_folders(root: Path) -> list[dict[str, str]]:
    """List every image with the number of its class: the folders of the top level, in the order of their names.

    A folder without an image has its number, too, as it has for torchvision's `ImageFolder`. A ValueError if images lie
    beside these folders.
    """
    rows = image_folder(root)
    if outside := [row["path"] for row in rows if "/" not in row["path"]]:
        raise ValueError(f"{root} must hold one folder per class, but has images outside them: {first_few(outside)}")
    names = [row["path"].partition("/")[0] for row in rows]
    counts = Counter(names)
    numbers = {name: str(number) for number, name in enumerate(list_folders(root))}
    print(*(f"class {number}: {visible(name)}, {counts[name]} images" for name, number in numbers.items()), sep="\n")
    return [row | {"label": numbers[name], "class_name": name} for row, name in zip(rows, names, strict=True)]


def imagenet_val(root: Path) -> list[dict[str, str]]:
    """List ImageNet's validation source images with their classes, in the order that networks number them.

    Where files below `root` have the names of the challenge (``ILSVRC2012_val_00000293.JPEG``), only these are listed:
    `root` may hold the training set, too. The synset of a source image is the name of its folder (``n01440764``), or
    stands in a list below `root` as the challenge distributes it: `LOC_val_solution.csv`, or the development kit's
    `ILSVRC2012_validation_ground_truth.txt` with `meta.mat` beside it. A ValueError if a source image has no synset by
    either.
    """
    numbers = {synset: str(number) for number, synset in enumerate(_imagenet_synsets())}
    known = _validation_synsets(root)
    rows = []
    everything = image_folder(root)
    for row in [row for row in everything if _VALIDATION.fullmatch(Path(row["path"]).stem)] or everything:
        file = Path(row["path"])
        synset = file.parent.name if _SYNSET.fullmatch(file.parent.name) else known.get(file.stem)
        if synset not in numbers:
            raise ValueError(
                f"{row['path']}: no synset; it must lie in a folder that names one of ImageNet's 1000, or be listed in "
                f"{_SOLUTION} or {_TRUTH} below {root}"
            )
        rows.append({"image_id": file.stem, "path": row["path"], "label": numbers[synset], "class_name": synset})
    return rows


def broden(root: Path) -> list[dict[str, str]]:
    """List Broden's source images with their label maps: the files of its categories, and numbers of whole images.

    A ValueError if its index lacks a column.
    """
    index = _broden_file(root, "index.csv")
    folder = index.parent.relative_to(root) / "images"
    table = read_texts(index)
    if absent := [name for name in ("image", *_BRODEN_CATEGORIES) if name not in table.columns]:
        raise ValueError(f"{index} lacks the column {absent[0]!r}; it has {', '.join(table.columns)}")
    rows = []
    for record in table.to_dict("records"):
        cells = [name for category in _BRODEN_CATEGORIES for name in record[category].split(";") if name]
        maps = [name if is_label(name) else (folder / name).as_posix() for name in cells]
        path = (folder / record["image"]).as_posix()
        rows.append({"image_id": _image_id(record["image"]), "path": path, "mask": MAPS_APART.join(maps)})
    return rows


def texture_images(root: Path) -> list[dict[str, str]]:
    """List the images that `textures.write_images` wrote, with their label maps."""
    folder = root / textures.FOLDER
    rows = [{"image_id": name, "path": f"{textures.FOLDER}/{name}.png"} for name in textures.written(folder)]
    maps = [[row["path"].removesuffix(".png") + ending for ending in textures.MAP_ENDINGS] for row in rows]
    return [row | {"mask": MAPS_APART.join(names)} for row, names in zip(rows, maps, strict=True)]


KINDS: dict[str, Callable[[Path], list[dict[str, str]]]] = {
    "image_folder": image_folder,
    "class_folders": class_folders,
    "imagenet_val": imagenet_val,
    "broden": broden,
    "textures": texture_images,
}

_BY_NAME = ("image_folder", "class_folders", "imagenet_val")  # kinds that take every file for an image that is named so


def words_of_maps(kind: str, root: str | Path) -> pd.DataFrame:
    """Say what the label maps mean that a set of a kind brings along: ``value, word, category``."""
    if kind == "broden":
        return broden_words(root)
    rows = [(value, *each) for value, each in enumerate(textures.WORDS, 1)]
    return pd.DataFrame(rows, columns=["value", "word", "category"])


def broden_words(root: str | Path) -> pd.DataFrame:
    """Say what the numbers in Broden's label maps mean, by `label.csv` and `category.csv` below a folder.

    The table has ``value, word, category``. A label that stands in several categories has the one it is most frequent
    in. The marks of scenes and colors (``street-s``, ``red-c``) are taken off, and ``_`` becomes a space, as in the
    figures of Broden's authors; a word may thus stand in two rows of different categories. A FileNotFoundError if there
    is not one of each file, a ValueError if `label.csv` names a category that `category.csv` does not.
    """
    labels = read_texts(_broden_file(Path(root), "label.csv"))
    known = set(read_texts(_broden_file(Path(root), "category.csv")).name)
    labels = labels[labels.number.astype(int) > 0]  # 0 is the background, which is no label
    categories = [_most_frequent(cell) for cell in labels.category]
    if unknown := sorted(set(categories) - known):
        raise ValueError(f"label.csv names the category {unknown[0]!r}; category.csv has {', '.join(sorted(known))}")
    words = [re.sub("-[sc]$", "", name).replace("_", " ") for name in labels.name]
    return pd.DataFrame({"value": labels.number.astype(int).to_numpy(), "word": words, "category": categories})


def _most_frequent(cell: str) -> str:
    """Read ``object(12);part(3)``."""
    counts = {name: int(count) for name, count in re.findall(r"([^;()]+)\((\d+)\)", cell)}
    if not counts:
        raise ValueError(f"label.csv: expected a category as object(12);part(3), got {cell!r}")
    return max(counts, key=counts.get)


def _broden_file(root: Path, name: str) -> Path:
    found = sorted(root.rglob(name))
    if len(found) != 1:
        raise FileNotFoundError(f"Broden needs one {name} below {root}, found {len(found)}")
    return found[0]


def _listed(root: Path, kind: str, size: int | None, others: Mapping[str, int]) -> list[dict[str, str]]:
    rows = KINDS[kind](root)
    if len(rows) != size:
        beside = f" and files that are none ({endings_text(others)})" if others else ""
        told = f"{root} holds {len(rows)} source images{beside}, but the config says size: {size}; correct the config"
        raise ValueError(told)
    if twice := [image_id for image_id, count in Counter(row["image_id"] for row in rows).items() if count > 1]:
        raise ValueError(f"{root}: the image_id {twice[0]} stands for several source images; write a sheet")
    seen = {}
    for row in rows:
        image_id = row["image_id"]
        if len(image_id) > LONGEST_ID:
            told = f"has {len(image_id)} characters, at most {LONGEST_ID} are allowed"
            raise ValueError(f"{root}: the image_id {image_id} {told}; write a sheet")
        if (twin := seen.setdefault(image_id.lower(), image_id)) != image_id:
            raise ValueError(f"{root}: the image_ids {twin} and {image_id} differ in case only; write a sheet")
    return rows


def _add_hashes(rows: Sequence[dict[str, str]], root: Path) -> dict[str, str]:
    """Add hashes of files and ``duplicate_of`` to rows; give, for each copy, the path of the file it is a copy of."""
    first, copied = {}, {}
    digest = functools.cache(lambda name: sha256(root / name) if _is_file(root / name) else "")
    for row in rows:
        path, *maps = files(row)
        original = first.setdefault(digest(path), row) if digest(path) else row
        row |= {"sha256": digest(path), "maps_sha256": MAPS_APART.join(map(digest, maps)), DUPLICATE_OF: ""}
        if original["path"] != path:
            row[DUPLICATE_OF] = original["image_id"]
            copied[path] = original["path"]
    return copied


def _is_file(path: Path) -> bool:
    """Tell whether there is a file; a pipe, a loop of links and a name that is too long are none."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise  # a failing disk is no missing source image
        return False


def _image_id(path: str) -> str:
    """Make the id of an image from its path: characters other than ASCII letters, digits, ``. - _`` become ``_``.

    If some of them are outside ASCII, accents are taken off first, and a digest of the path keeps ids apart:
    ``Müller.png`` is ``Muller.png-78d0454d``.
    """
    plain = "".join(each for each in unicodedata.normalize("NFKD", path) if not unicodedata.combining(each))
    name = re.sub(r"[^A-Za-z0-9._-]|^[.-]", "_", plain)  # it names files: no hidden one, and no option of a command
    return name if path.isascii() else f"{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def _imagenet_synsets() -> list[str]:
    """ImageNet's 1000 synsets in the order of the outputs of networks, from timm's data, which is not imported."""
    (folder,) = importlib.util.find_spec("timm").submodule_search_locations
    return Path(folder, "data/_info/imagenet_synsets.txt").read_text(encoding="utf-8").split()


def _validation_synsets(root: Path) -> dict[str, str]:
    """Read which synset each source image shows from the lists below `root`; none where there is no list."""
    lists = sorted(path for path in root.rglob("*") if path.name in (_SOLUTION, _TRUTH))
    known = {}
    for path in lists:
        known |= _solution(path) if path.name == _SOLUTION else _ground_truth(path)
    return known


def _solution(path: Path) -> dict[str, str]:
    """Read ``ImageId,PredictionString``; the latter begins with the synset."""
    table = read_texts(path)
    return {image: cell.split()[0] for image, cell in zip(table.ImageId, table.PredictionString, strict=True)}


def _ground_truth(path: Path) -> dict[str, str]:
    """Read the development kit's number for each source image, from the first on, and from `meta.mat` its synset."""
    meta = path.with_name("meta.mat")
    if not meta.is_file():
        raise FileNotFoundError(f"{path} needs meta.mat of the same development kit beside it")
    command = [sys.executable, "-c", _READ_SYNSETS, str(meta)]
    try:  # apart: a damaged file can end the process that reads it, or keep it busy forever
        told = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST, check=True).stdout
        names = dict(json.loads(told))
        return {
            f"ILSVRC2012_val_{number:08d}": names[int(line)]
            for number, line in enumerate(path.read_text(encoding="utf-8").split(), start=1)
        }
    except subprocess.TimeoutExpired:
        reason = f"its reader finds no end in {_LONGEST} seconds"
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2] or f"its reader ended with {error.returncode}"
    except (ValueError, LookupError) as error:
        reason = repr(error) if isinstance(error, LookupError) else str(error)
    raise ValueError(f"{path} and meta.mat beside it do not fit together, or are damaged: {reason}")
