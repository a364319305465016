"""Read and write arrays as HDF5: atomic, checksummed, with attributes.

Every dataset is stored in chunks of about one MiB with a Fletcher-32 checksum, the attributes with their SHA-256, so a
damaged file raises an error when it is read. File locking is off, since many shared file systems lack it; a file is
complete from the moment it has its name.
"""

import errno
import glob
import hashlib
import io
import json
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import TypeVar

import h5py
import numpy as np

from unitlens import __version__

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
    """Write `arrays` to one HDF5 file, atomically, in a folder that is made when missing.

    The file is written as ``<path>.<host>-<pid>.part`` and renamed: a killed job leaves no file of the final name, and
    two jobs that write the same path do not mix. What a killed job of this host left of it is removed. Arrays are
    numbers, bool or text with the same number of rows (first axis); `attributes` are facts about the file, to which the
    library version is added.

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
    if len(set(rows.values())) > 1 or "no" in rows.values():
        raise ValueError(f"{path}: arrays of one file need the same number of rows, got {rows}")
    for name, array in arrays.items():
        _check_kind(path, name, array)
    with _replacing(path) as (file, part):
        for key, value in {**attributes, "unitlens": __version__}.items():
            _write_attribute(file, key, value, path)
        for name, array in arrays.items():
            array = _encoded(array) if array.dtype.kind in "UO" else array
            file.create_dataset(name, data=array, track_times=False, **_checksummed_chunks(array))
            part.check()
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

    for path in _files_below(folder, leave):
        try:
            reason = damage(path)
        except OSError as error:
            leave(OSError(error.errno, error.strerror or str(error), str(path)))
            continue
        if reason:
            path.unlink(missing_ok=True)
            reasons.append(reason)
    return reasons


def _files_below(folder: str | Path, leave: Callable[[OSError], None]) -> Iterator[Path]:
    """Give the array files below a folder, also behind links to folders, each folder once."""
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=leave, followlinks=True):
        folders.sort()
        if (here := os.path.realpath(parent)) in seen:
            folders.clear()
        elif not seen.add(here):
            yield from (Path(parent, name) for name in sorted(names) if name.endswith(".h5"))


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


class _Part:
    """A file that is being written: its first error is kept, and what follows goes to memory.

    HDF5 ends the process, at once or at its exit, where it cannot write; so it never learns of the error.
    """

    def __init__(self, path: Path) -> None:
        self.file, self.error = io.FileIO(path, "w+"), None

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        start, left = self.file.tell(), memoryview(data).cast("B")
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            self._go_on_in_memory(error)
            self.file.seek(start)
            self.file.write(data)
        return memoryview(data).nbytes

    def truncate(self, size: int) -> int:
        try:
            return self.file.truncate(size)
        except OSError as error:
            self._go_on_in_memory(error)
            return self.file.truncate(size)

    def _go_on_in_memory(self, error: OSError) -> None:
        disk, self.error = self.file, error
        disk.seek(0)
        self.file = io.BytesIO(disk.read())
        with suppress(OSError):
            disk.close()

    def check(self) -> None:
        if self.error:
            raise self.error


@contextmanager
def _replacing(path: str | Path) -> Iterator[tuple[h5py.File, _Part]]:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = f"{path.name}.{socket.gethostname()}-"
    for part in path.parent.glob(f"{glob.escape(stem)}*.part"):
        if not Path("/proc", part.name[len(stem) : -len(".part")]).exists():  # its process was killed
            part.unlink(missing_ok=True)
    part = path.with_name(f"{stem}{os.getpid()}.part")
    try:
        content = _Part(part)
        try:
            with h5py.File(content, "w", libver="v110") as file:
                yield file, content
        finally:
            content.close()
        content.check()
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror or error}", str(path)) from error
    finally:
        with suppress(OSError):
            part.unlink()


def _checksummed_chunks(array: np.ndarray) -> dict[str, object]:
    if array.size == 0:
        return {}
    rows = max(1, min(len(array), _CHUNK_BYTES // (array.nbytes // len(array))))
    shrinks = array.dtype in (bool, np.uint16) or array.dtype.kind == "S"  # masks, label maps, text; others hardly do
    compression = {"compression": "gzip", "compression_opts": 1} if shrinks else {}
    return {"chunks": (rows, *array.shape[1:]), "fletcher32": True, **compression}
