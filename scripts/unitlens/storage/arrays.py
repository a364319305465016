"""Read and write arrays as HDF5: atomic, checksummed, with attributes.

Every dataset is stored in chunks of about one MiB with a Fletcher-32 checksum, the attributes with their SHA-256, so a
damaged file raises an error when it is read. File locking is off, since many shared file systems lack it; a file is
complete from the moment it has its name.
"""

import errno
import glob
import hashlib
import json
import math
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import TypeVar

import h5py
import numpy as np

from unitlens import __version__
from unitlens.storage.files import Unfinished, array_files_below

_CHUNK_BYTES = 2**20
Part = TypeVar("Part")


class Contents(dict):
    """What a file holds, by name; what it lacks is an error that names the file."""

    def __init__(self, values: Mapping[str, object], path: str | Path, kind: str, rows: int | None = None) -> None:
        super().__init__(values)
        self.path, self.kind, self.rows = path, kind, rows

    def __missing__(self, name: str) -> object:
        known = ", ".join(self) or "none"
        raise OSError(f"{self.path} has no {self.kind} {name!r}, but {known}; delete it and run the workflow again")


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, object]) -> None:
    """Write `arrays` to one HDF5 file, atomically, in a folder that is made when missing: see `create_arrays`.

    Arrays are numbers, bool or text with the same number of rows (first axis).

    Raises
    ------
    ValueError
        If the arrays differ in their number of rows, or hold what a file cannot: an object that is no text, text that
        is not Unicode or has a zero character.
    OSError
        If the file cannot be written, a full disk for example. No partial file stays behind.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    rows = {name: len(array) if array.ndim else "no" for name, array in arrays.items()}
    _check_rows(path, rows)
    with create_arrays(path, max(rows.values(), default=0), attributes) as add:
        add(**arrays)


@contextmanager
def create_arrays(path: str | Path, rows: int, attributes: Mapping[str, object]) -> Iterator[Callable[..., None]]:
    """Write a file of at most so many rows in the block, by a function that takes arrays or the next rows of them.

    It is called with arrays by name, once for text and as often as they have parts for numbers and bool, and holds
    none of them. The file is written as ``<path>.<host>-<pid>.part`` and renamed at the end of the block: a killed job
    leaves no file of the final name, and two jobs that write the same path do not mix. What a killed job of this host
    left of it is removed. `attributes` are facts about the file, read at the end, to which the library version is
    added. A ValueError or an OSError as of `write_arrays`; after an error of the block, too, no file is left.
    """
    path, counts, empty = Path(path), {}, {}
    with _replacing(path) as (file, part):

        def add(**arrays: np.ndarray) -> None:
            for name, array in arrays.items():
                array = np.asarray(array)
                _check_kind(path, name, array)
                if not len(array):
                    empty.setdefault(name, array)
                    continue
                with _naming_what_is_written(path):
                    _append(path, file, name, array, counts.get(name, 0), rows)
                    part.check()
                counts[name] = counts.get(name, 0) + len(array)

        yield add
        counts |= {name: 0 for name in empty if name not in counts}
        _check_rows(path, counts)
        with _naming_what_is_written(path):
            for name, count in counts.items():
                if not count:
                    _append(path, file, name, empty[name], 0, 0)
                elif count < len(file[name]):
                    file[name].resize(count, axis=0)
            for key, value in {**attributes, "unitlens": __version__}.items():
                _write_attribute(file, key, value, path)
            file.attrs["sha256"] = _digest(file)


@contextmanager
def open_arrays(path: str | Path) -> Iterator[h5py.File]:
    """Open a file of `write_arrays` for the block, once its structure and its attributes are checked.

    FileNotFoundError if it is missing. OSError, which names it, if it cannot be read, is truncated, damaged, not HDF5,
    or lacks a dataset or attribute that the block asks for. Damage to values shows only when the block reads them.
    """
    path = Path(path)
    with _open(path) as file:
        try:
            yield file
        except Exception as error:
            if not _from_hdf5(error):
                raise
            _raise_if_unreadable(path, error)
            if reason := damage(path):
                raise OSError(reason) from error
            if isinstance(error, KeyError):
                raise OSError(f"{path} lacks what is needed of it ({error.args[0]}); run it again") from error
            raise


def damage(path: str | Path) -> str:
    """Read every value of one file and say what is wrong with it; nothing is an empty string.

    Only what HDF5 or a checksum says of bytes that can be read, twice, is damage. That the file cannot be read (it is
    missing or a folder, a right is missing, the disk fails, no descriptor is left) is an OSError, which names it.
    """
    path, reason = Path(path), ""
    for _ in range(2):
        try:
            with _open(path) as file:
                for name in file:
                    with _naming(path, f"{name}: "):
                        for _ in _blocks(file[name], (file[name].chunks or [len(file[name]) or 1])[0]):
                            pass
            return ""
        except OSError as error:
            if error.errno is not None or isinstance(error, FileNotFoundError):
                raise
            reason = str(error)
        with path.open("rb") as content:  # a failing disk says so here
            while content.read(_CHUNK_BYTES):
                pass
    return reason


def remove_damaged(folder: str | Path) -> list[str]:
    """Check every array file below a folder, delete the damaged ones, and say what was wrong with each.

    A file or folder that cannot be read is named, too, and left alone.
    """
    reasons: list[str] = []

    def leave(error: OSError) -> None:
        reasons.append(f"{error.filename} cannot be read ({error.strerror}); it was left alone")

    for path in array_files_below(folder, leave):
        try:
            reason = damage(path)
        except OSError as error:
            leave(OSError(error.errno, error.strerror or str(error), str(path)))
            continue
        if reason:
            path.unlink(missing_ok=True)
            reasons.append(reason)
    return reasons


def read_arrays(
    path: str | Path, *, rows: int | None = None, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read a file, or its first `rows`, or its datasets `names`: arrays (text as object arrays of str) and attributes.

    Asking the result for a dataset or an attribute that the file lacks is an OSError that names both.
    """
    path = Path(path)
    with open_arrays(path) as file:
        total = min((len(dataset) for dataset in file.values()), default=0)
        arrays = {name: read_dataset(file[name], rows) for name in file if names is None or name in names}
        attributes = attributes_of(file)
    total = total if rows is None else min(rows, total)
    return Contents(arrays, path, "dataset", total), attributes


def attributes_of(file: h5py.File) -> dict[str, object]:
    """Give the attributes of an open file: texts, numbers and arrays. One that it lacks is an OSError that names it."""
    values = {key: value for key, value in file.attrs.items() if key != "sha256"}
    texts = {key: value.decode() for key, value in values.items() if isinstance(value, bytes)}
    return Contents(values | texts, file.filename, "attribute")


def read_batches(dataset: h5py.Dataset, size: int) -> Iterator[np.ndarray]:
    """Read a dataset `size` rows at a time; the next ones are read while the caller works on these."""
    return read_ahead(_blocks(dataset, size))


def read_ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """Iterate as `parts` does; a thread is always one part ahead of the caller.

    Not within a loop over the items of a file: for so long h5py lets no other thread read.
    """
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = reader.submit(next, parts, None)
            yield part


def _blocks(dataset: h5py.Dataset, size: int) -> Iterator[np.ndarray]:
    """Read a dataset block by block, as it is stored."""
    for start in range(0, len(dataset), size):
        yield dataset[start : start + size]


# ---- reading


@contextmanager
def _open(path: Path) -> Iterator[h5py.File]:
    """Open one file and check all but its numbers."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} does not exist; run the rule that writes it") from error
    if not stat.S_ISREG(kind):
        raise OSError(errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL, "is not a file", str(path))
    try:
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CHUNK_BYTES)
    except MemoryError:
        raise
    except Exception as error:
        _raise_if_unreadable(path, error)
        reason = f"{path} is truncated or not an HDF5 file ({error}); delete it and run the workflow again"
        raise OSError(reason) from error
    with file:
        with _naming(path):
            _check_structure(file)
        yield file


def _check_structure(file: h5py.File) -> None:
    """Raise a ValueError about anything that `write_arrays` does not write, or that does not have its checksum."""
    rows = set()
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink) or file.get(name, getclass=True) != h5py.Dataset:
            raise ValueError(f"{name} is a link, a group or a type, not a dataset")
        dataset = file[name]
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{name} has its values in other files")
        text = h5py.check_string_dtype(dataset.dtype)
        if not dataset.ndim or not (text or dataset.dtype.kind in "biuf"):
            raise ValueError(f"{name} has no rows of numbers or text")
        rows.add(len(dataset))
    if len(rows) > 1:
        raise ValueError(f"its datasets differ in their number of rows: {sorted(rows)}")
    if "sha256" in file.attrs and file.attrs["sha256"] != _digest(file):
        raise ValueError("its attributes do not have their checksum")


@contextmanager
def _naming(path: Path, what: str = "") -> Iterator[None]:
    """Turn whatever goes wrong in a block that does nothing but read a file into an OSError that names it."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        _raise_if_unreadable(path, error)
        raise OSError(f"{path} is damaged ({what}{error}); delete it and run the workflow again") from error


def _raise_if_unreadable(path: Path, error: Exception) -> None:
    """Raise the system's error, of which h5py often keeps the number in the message only."""
    found = re.search(r"errno = (\d+)", str(error))
    number = getattr(error, "errno", None) or (int(found[1]) if found else 0)
    if number:
        raise OSError(number, os.strerror(number), str(path)) from error


def _from_hdf5(error: Exception) -> bool:
    modules = (frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__))
    return any(name.partition(".")[0] == "h5py" for name in modules)


def read_dataset(dataset: h5py.Dataset, rows: int | None = None) -> np.ndarray:
    """Read a dataset (n, ...), or its first `rows`; text as str."""
    return dataset.asstr()[:rows] if h5py.check_string_dtype(dataset.dtype) else dataset[:rows]


def as_texts(column: object) -> np.ndarray:
    """Give a column of text (n,), an array or an open dataset, as an object array of str."""
    return np.asarray(read_dataset(column) if hasattr(column, "asstr") else column, dtype=object)


def _digest(file: h5py.File) -> np.bytes_:
    facts = {key: np.asarray(value).tolist() for key, value in attributes_of(file).items()}
    shapes = {name: dataset.shape for name, dataset in file.items()}
    told = json.dumps([facts, shapes], sort_keys=True, default=str)
    return np.bytes_(hashlib.sha256(told.encode()).hexdigest())


# ---- writing


def _check_kind(path: str | Path, name: str, array: np.ndarray) -> None:
    if array.dtype.kind not in "biufUO":
        raise ValueError(f"{path}: {name} holds {array.dtype}; allowed: numbers, bool and text")
    for row, value in enumerate(array.ravel() if array.dtype.kind in "UO" else ()):
        if not isinstance(value, str) or "\0" in value or value.encode(errors="ignore").decode() != value:
            raise ValueError(f"{path}: {name} holds {value!r} at {row}; allowed: Unicode text without zero characters")


def _write_attribute(file: h5py.File, key: str, value: object, path: str | Path) -> None:
    try:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("it has a zero character")
        file.attrs[key] = _encoded(np.asarray(value)) if isinstance(value, str) else value
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: the attribute {key!r} cannot be {value!r} ({error})") from error


def _encoded(texts: np.ndarray) -> np.ndarray:
    """Give text as UTF-8 bytes of one width."""
    values = np.char.encode(texts.astype(str), "utf-8")
    return values.astype(h5py.string_dtype("utf-8", max(1, values.itemsize)))


@contextmanager
def _replacing(path: Path) -> Iterator[tuple[h5py.File, Unfinished]]:
    stem = f"{path.name}.{socket.gethostname()}-"
    part = path.with_name(f"{stem}{os.getpid()}.part")
    try:
        with _naming_what_is_written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f"{glob.escape(stem)}*.part"):
                if not Path("/proc", left.name[len(stem) : -len(".part")]).exists():  # its process was killed
                    left.unlink(missing_ok=True)
            content = Unfinished(part)
            file = h5py.File(content, "w", libver="v110")
        try:
            yield file, content
        finally:
            with _naming_what_is_written(path), closing(content):
                file.close()
        with _naming_what_is_written(path):
            content.check()
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


@contextmanager
def _naming_what_is_written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error


def _check_rows(path: str | Path, rows: Mapping[str, int | str]) -> None:
    if len(set(rows.values())) > 1 or "no" in rows.values():
        raise ValueError(f"{path}: arrays of one file need the same number of rows, got {rows}")


def _append(path: Path, file: h5py.File, name: str, array: np.ndarray, start: int, rows: int) -> None:
    """Write rows of a dataset from `start` on; the first ones make it, of so many rows, or of text's own."""
    stop, text = start + len(array), array.dtype.kind in "UO"
    if stop > rows or (text and start):
        allowed = "text at once" if text and start else f"at most {rows}"
        raise ValueError(f"{path}: {name} got its rows {start} to {stop}; allowed: {allowed}")
    if start:
        first = file[name]
        if array.dtype != first.dtype or array.shape[1:] != first.shape[1:]:  # HDF5 would cut values, and repeat rows
            alike = f"{first.dtype} {first.shape[1:]}, as the first rows"
            raise ValueError(f"{path}: {name} got rows of {array.dtype} {array.shape[1:]}; allowed: {alike}")
        first[start:stop] = array
        return
    array = _encoded(array) if text else array
    shape = (len(array) if text else rows, *array.shape[1:])
    options = {"track_times": False, **_checksummed_chunks(array.dtype, shape)}
    if shape == array.shape:
        file.create_dataset(name, data=array, **options)
    else:
        file.create_dataset(name, shape, array.dtype, maxshape=shape, **options)[:stop] = array


def _checksummed_chunks(dtype: np.dtype, shape: tuple[int, ...]) -> dict[str, object]:
    row = dtype.itemsize * math.prod(shape[1:])
    if not row or not shape[0]:
        return {}
    rows = max(1, min(shape[0], _CHUNK_BYTES // row))
    shrinks = dtype in (bool, np.uint16) or dtype.kind == "S"  # masks, label maps, text; others hardly do
    compression = {"compression": "gzip", "compression_opts": 1} if shrinks else {}
    return {"chunks": (rows, *shape[1:]), "fletcher32": True, **compression}
