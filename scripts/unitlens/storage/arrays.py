"""Arrays on disk: HDF5 files that are written whole or not at all, checked when read, and put one below the other.

Every dataset is stored in chunks of about one MiB with a Fletcher-32 checksum, the attributes with their SHA-256, so a
flipped bit is an error and not a number. Text has a fixed width: HDF5 keeps strings of any length in a heap without
checksum, and runs for ever on some that are damaged. Files carry no clock time: the same arrays give the same bytes.
File locking is off, since many shared file systems lack it; a file is complete from the moment it has its name. Nothing
outside the file is followed: no link, no external or virtual dataset.

Shards may differ in what depends on their images (`join`): that is filled up, with NaN in floating-point numbers, -1 in
signed and 0 in unsigned whole numbers, False, "", and 0 in label maps.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from traceback import walk_tb
from typing import TypeVar

import h5py
import numpy as np

from unitlens import __version__

Part = TypeVar("Part")
File = tuple[Mapping[str, np.ndarray], Mapping[str, object]]  # arrays and attributes
LABEL_MAPS = ("mask", "superpixels")  # (n, h, w), or (n, maps, h, w) where a row has several; 0 where nothing is marked
_OF_A_SHARD = ("skipped", "passes")  # attributes that may differ between shards
_CHUNK_BYTES = 2**20


class _Held(dict):
    """What a file holds, by name; what it lacks is an error that names the file."""

    def __init__(self, values: Mapping[str, object], path: str | Path, kind: str, rows: int | None = None) -> None:
        super().__init__(values)
        self.path, self.kind, self.rows = path, kind, rows

    def __missing__(self, name: str) -> object:
        raise OSError(_lacks(self.path, self.kind, name, self))


def create(path: str | Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, object]) -> None:
    """Write `arrays` to one HDF5 file, atomically.

    The file is written as ``<path>.<host>-<pid>.part`` and renamed: a killed job leaves no file of the final name, and
    two jobs that write the same path do not mix. What a killed job of this host left of it is removed.

    Parameters
    ----------
    path : str or Path
        The file to make; its folder is made when missing.
    arrays : mapping of str to array_like
        The datasets: numbers, bool or text. All of them have the same number of rows (first axis).
    attributes : mapping of str to (str, int, float, bool)
        Facts about the file. The library version is added.

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
def open(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for reading, once its structure and its attributes are checked.

    Parameters
    ----------
    path : str or Path
        A file made by `create`.

    Yields
    ------
    h5py.File
        Open for the block.

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    OSError
        If the file cannot be read, is truncated, damaged, not HDF5, or lacks a dataset or attribute that the block
        asks for; the message names it. Damage to values shows only when the block reads them.
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

    Only what HDF5 or a checksum says of bytes that can be read, twice, is damage.

    Raises
    ------
    OSError
        If the file cannot be read: it is missing or a folder, a right is missing, the disk fails, or this process has
        no descriptor left. The message names it.
    """
    path, reason = Path(path), ""
    for _ in range(2):
        try:
            with _open(path) as file:
                for name in file:
                    with _naming(path, f"{name}: "):
                        for _ in _rows(file[name], (file[name].chunks or [len(file[name]) or 1])[0]):
                            pass
            return ""
        except OSError as error:
            if error.errno is not None or isinstance(error, FileNotFoundError):
                raise
            reason = str(error)
        with path.open("rb", buffering=0) as content:  # a failing disk says so here
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


def read(
    path: str | Path, *, rows: int | None = None, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read a file, or its first `rows`, or its datasets `names`: arrays (text as object arrays of str) and attributes.

    Asking the result for a dataset or an attribute that the file lacks is an OSError that names both.
    """
    path = Path(path)
    with open(path) as file:
        total = min((len(dataset) for dataset in file.values()), default=0)
        arrays = {name: _read(file[name], rows) for name in file if names is None or name in names}
        attributes = attributes_of(file)
    total = total if rows is None else min(rows, total)
    return _Held(arrays, path, "dataset", total), attributes


def attributes_of(file: h5py.File) -> dict[str, object]:
    """Give the attributes of an open file: texts, numbers and arrays. One that it lacks is an OSError that names it."""
    values = {key: value for key, value in file.attrs.items() if key != "sha256"}
    texts = {key: value.decode() for key, value in values.items() if isinstance(value, bytes)}
    return _Held(values | texts, file.filename, "attribute")


def concatenate(
    paths: Iterable[str | Path], *, rows: int | None = None, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read several shards as one, or the first `rows` of all, or their datasets `names`: see `read` and `join`."""
    return join(list(_read_first(paths, rows, names)))


def join(files: Sequence[File]) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Put the arrays of shards one below the other.

    Shards may differ in what depends on their images: the width of rows, as of LIME's coefficients; how many label
    maps a row has; which datasets there are. What is missing is filled up as this module's docstring says, so that it
    can be told from what is there; in label maps, where 0 is nothing marked, by ``has_mask``.

    Parameters
    ----------
    files : sequence of (arrays, attributes)
        As from `read`, in the order of the rows.

    Returns
    -------
    arrays : dict
        Every dataset that any of them has, with a row for each of theirs.
    attributes : dict
        Those of the first. ``skipped``, a JSON list, holds those of all; ``passes`` the distinct ones.

    Raises
    ------
    ValueError
        If there is no file, or if two differ in an attribute (another model, layer, geometry or library version), in
        the kind of a dataset or in the shape of its rows beyond their width.
    """
    if not files:
        raise ValueError("there is no shard to read")
    arrays = [each for each, _ in files]
    where = [str(getattr(each, "path", f"part {number}")) for number, each in enumerate(arrays)]
    lengths = [_count(each) for each in arrays]
    names = dict.fromkeys(name for each in arrays for name in each)
    joined = {name: _stack(name, [each.get(name) for each in arrays], lengths, where) for name in names}
    return (
        _Held(joined, where[0], "dataset", sum(lengths)),
        _Held(_merge([facts for _, facts in files], where), where[0], "attribute"),
    )


def by_folder(
    paths: Iterable[str | Path], *, rows: int | None = None
) -> list[tuple[dict[str, np.ndarray], dict[str, object]]]:
    """Read the shards of each folder, which follow each other, as `concatenate` does: a pair for each folder."""
    groups = groupby(map(Path, paths), key=lambda path: path.parent)
    return [concatenate(shards, rows=rows) for _, shards in groups]


def _read_first(paths: Iterable[str | Path], rows: int | None, names: Sequence[str] | None) -> Iterator[File]:
    """Read shard after shard as `read` does until there are so many `rows`; what follows is read with none."""
    for path in paths:
        arrays, attributes = read(path, rows=rows, names=names)
        if rows is not None:
            rows -= _count(arrays)
        yield arrays, attributes


def columns(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read the datasets of a file that have one number or text (n,) a row, and its attributes; never its maps."""
    with open(path) as file:
        return {name: _read(dataset) for name, dataset in file.items() if dataset.ndim == 1}, attributes_of(file)


def column(paths: Iterable[str | Path], name: str) -> np.ndarray:
    """Read one dataset of several shards, one below the other (rows, ...), and none of their other datasets."""
    return concatenate(paths, names=[name])[0][name]


def blocks(paths: Iterable[str | Path], names: Iterable[str], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Read datasets of several shards together, as `batches` does; those that a shard lacks are left out."""

    def read() -> Iterator[dict[str, np.ndarray]]:
        for path in paths:
            with open(path) as file:
                here = [name for name in names if name in file]
                for start in range(0, min((len(file[name]) for name in here), default=0), size):
                    yield {name: file[name][start : start + size] for name in here}

    return _ahead(read())


def picking(paths: Iterable[str | Path], name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Read any rows of a dataset that is spread over shards, without reading the others.

    One shard is open at a time, whatever their number.

    Parameters
    ----------
    paths : iterable of str or Path
        Shards, in the order of the rows.
    name : str
        The dataset.

    Returns
    -------
    callable
        From ascending, distinct row numbers, counted over all shards, to those rows.

    Raises
    ------
    IndexError
        Called, if there is no such row.
    """
    paths, lengths = list(paths), []
    for path in paths:
        with open(path) as file:
            lengths.append(len(file[name]))
    starts = np.cumsum([0, *lengths])

    def pick(rows: np.ndarray) -> np.ndarray:
        if len(rows) and not 0 <= rows[0] <= rows[-1] < starts[-1]:
            raise IndexError(f"rows {rows[0]} to {rows[-1]} of {name} were asked for; there are {starts[-1]}")
        edges = np.searchsorted(rows, starts)
        parts = []
        for path, start, first, last in zip(paths, starts, edges, edges[1:], strict=False):
            if last > first:
                with open(path) as file:
                    parts.append(file[name][rows[first:last] - start])
        return np.concatenate(parts)

    return pick


def batches(dataset: h5py.Dataset, size: int) -> Iterator[np.ndarray]:
    """Read a dataset `size` rows at a time; the next ones are read while the caller works on these."""
    return _ahead(_rows(dataset, size))


def _rows(dataset: h5py.Dataset, size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(dataset), size):
        yield dataset[start : start + size]


def _ahead(parts: Iterator[Part]) -> Iterator[Part]:
    """Iterate as `parts` does; a thread is always one part ahead of the caller.

    Not within a loop over the items of a file: for so long h5py lets no other thread read.
    """
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = reader.submit(next, parts, None)
            yield part


# ---- one below the other


def _count(arrays: Mapping[str, np.ndarray]) -> int:
    rows = getattr(arrays, "rows", None)
    return next((len(array) for array in arrays.values()), 0) if rows is None else rows


def _stack(name: str, parts: Sequence[np.ndarray | None], lengths: Sequence[int], where: Sequence[str]) -> np.ndarray:
    """Put parts (n, ...) of one dataset below each other; None, of a shard without it, is filled up."""
    known = [i for i, part in enumerate(parts) if part is not None and len(part)]
    known = known or [next(i for i, part in enumerate(parts) if part is not None)]
    rank = max(parts[i].ndim for i in known)
    stretch = name in LABEL_MAPS  # one map a row may stand beside several
    arrays = {i: parts[i][:, None] if stretch and parts[i].ndim == rank - 1 == 3 else parts[i] for i in known}
    first = arrays[known[0]]
    ragged = rank == 2 or (stretch and rank == 4)  # in its second axis
    for i, array in arrays.items():
        alike = array.ndim == rank and array.shape[1 + ragged :] == first.shape[1 + ragged :]
        if not alike or (array.dtype == object) != (first.dtype == object):
            held, others = (f"{each.dtype} {each.shape}" for each in (array, first))
            raise ValueError(f"{where[i]} holds {held} as {name}, {where[known[0]]} {others}; run one again")
    dtype = np.result_type(*(array.dtype for array in arrays.values()))
    width = (max(array.shape[1] for array in arrays.values()),) if ragged else ()
    stacked = np.full((sum(lengths), *width, *first.shape[1 + ragged :]), _filling(name, dtype), dtype)
    starts = np.cumsum([0, *lengths])
    for i, array in arrays.items():
        own = stacked[starts[i] : starts[i + 1]]
        (own[:, : array.shape[1]] if ragged else own)[:] = array
    return stacked


def _filling(name: str, dtype: np.dtype) -> object:
    if name in LABEL_MAPS:
        return 0
    return {"f": np.nan, "i": -1, "O": ""}.get(dtype.kind, 0)


def _merge(facts: Sequence[Mapping[str, object]], where: Sequence[str]) -> dict[str, object]:
    for own, place in zip(facts, where, strict=True):
        for key in sorted((own.keys() | facts[0].keys()) - set(_OF_A_SHARD)):
            here, there = own.get(key), facts[0].get(key)
            if not np.array_equal(here, there):
                raise ValueError(f"{place} has {key} = {here!r}, {where[0]} has {there!r}; run the older one again")
    merged = dict(facts[0])
    if any("skipped" in own for own in facts):
        merged["skipped"] = json.dumps([each for own in facts for each in json.loads(own.get("skipped", "[]"))])
    if any("passes" in own for own in facts):
        merged["passes"] = ", ".join(dict.fromkeys(own["passes"] for own in facts if own.get("passes")))
    return merged


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
    """Raise a ValueError about anything that `create` does not write, or that does not have its checksum."""
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


def _lacks(path: str | Path, kind: str, name: str, known: Iterable[str]) -> str:
    return f"{path} has no {kind} {name!r}, but {', '.join(known) or 'none'}; delete it and run the workflow again"


def _read(dataset: h5py.Dataset, rows: int | None = None) -> np.ndarray:
    return dataset.asstr()[:rows] if h5py.check_string_dtype(dataset.dtype) else dataset[:rows]


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
