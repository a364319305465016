"""Arrays on disk: HDF5 files that are written whole or not at all, checked when read, and indexed without copying.

Every numeric dataset is stored in chunks of about one MiB with a Fletcher-32 checksum, every column of text with its
SHA-256, so a flipped bit is an error and not a number. Files carry no clock time: the same arrays give the same bytes.
File locking is off, since many shared file systems lack it; a file is complete from the moment it has its name.
"""

import glob
import hashlib
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from unitlens import __version__

Part = TypeVar("Part")
_CHUNK_BYTES = 2**20


def create(path: str | Path, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, object]) -> None:
    """Write `arrays` to one HDF5 file, atomically.

    The file is written as ``<path>.<host>-<pid>.part`` and renamed: a killed job leaves no file of the final name, and
    two jobs that write the same path do not mix. What a killed job of this host left of it is removed.

    Parameters
    ----------
    path : str or Path
        The file to make; its folder is made when missing.
    arrays : mapping of str to array_like
        The datasets. All of them have the same number of rows (first axis). Strings are allowed.
    attributes : mapping of str to (str, int, float, bool)
        Facts about the file. The library version is added.

    Raises
    ------
    ValueError
        If the arrays differ in their number of rows.
    OSError
        If the file cannot be written, a full disk for example. No partial file stays behind.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"{path}: arrays of one file need the same number of rows, got {rows}")
    with _replacing(path) as file:
        _write_attributes(file, attributes)
        for name, array in arrays.items():
            if array.dtype.kind in "UO":
                array = array.astype(h5py.string_dtype())
            dataset = file.create_dataset(name, data=array, track_times=False, **_checksummed_chunks(array))
            if array.dtype.kind == "O":
                dataset.attrs["sha256"] = _digest(dataset)


@contextmanager
def open(path: str | Path) -> Iterator[h5py.File]:
    """Open a file for reading; of an index, every shard it refers to must be there.

    Parameters
    ----------
    path : str or Path
        A file made by `create` or `index`.

    Yields
    ------
    h5py.File
        Open for the block.

    Raises
    ------
    FileNotFoundError
        If the file, or a shard that the index refers to, is missing. HDF5 itself would return fill values.
    OSError
        If the file, or a shard of the index, is truncated, damaged, not HDF5 or of another size than the index says;
        the message names it. Damage to numbers shows only when the block reads them.
    """
    path = Path(path)
    with _open(path) as file:
        shards = _sources(path, file)
        for shard, datasets in shards.items():
            _check_shard(path, shard, datasets)
        try:
            yield file
        except OSError as error:  # HDF5 does not say which file
            for each in (
                (shards or [path]) if error.errno is None else ()
            ):  # with a number it is the system's, not HDF5's
                if reason := damage(each):
                    raise OSError(reason) from error
            raise


def damage(path: str | Path) -> str:
    """Read every value of one file and say what is wrong with it; nothing is an empty string.

    Of an index only its own structure is read: its shards are files of their own.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            for name, dataset in file.items():
                try:
                    for _ in () if dataset.is_virtual else _rows(dataset, (dataset.chunks or [len(dataset) or 1])[0]):
                        pass
                except OSError as error:
                    return _damaged(path, f"{name}: {error}")
    except OSError as error:
        return str(error)
    return ""


def remove_damaged(folder: str | Path) -> list[str]:
    """Check every array file below a folder, delete the damaged ones, and say what was wrong with each."""
    reasons = []
    for path in sorted(Path(folder).rglob("*.h5")):
        if reason := damage(path):
            path.unlink()
            reasons.append(reason)
    return reasons


def read(path: str | Path, *, rows: int | None = None) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read a file, or only its first `rows`: its arrays (strings as object arrays of str) and its attributes."""
    with open(path) as file:
        arrays = {name: _read(dataset, rows) for name, dataset in file.items()}
        return arrays, dict(file.attrs)


def concatenate(
    paths: Iterable[str | Path], *, rows: int | None = None
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read several shards as one, or the first `rows` of all: arrays one below the other, and common attributes.

    Raises
    ------
    ValueError
        If two shards differ in an attribute.
    """
    paths = [Path(path) for path in paths]
    arrays, attributes = zip(*_read_first(paths, rows), strict=True)
    for path, facts in zip(paths, attributes, strict=True):
        _check_same(path, facts, paths[0], attributes[0])
    return {name: np.concatenate([each[name] for each in arrays]) for name in arrays[0]}, attributes[0]


def by_folder(
    paths: Iterable[str | Path], *, rows: int | None = None
) -> list[tuple[dict[str, np.ndarray], dict[str, object]]]:
    """Read the shards of each folder, which follow each other, as `concatenate` does: a pair for each folder."""
    groups = groupby(map(Path, paths), key=lambda path: path.parent)
    return [concatenate(shards, rows=rows) for _, shards in groups]


def _read_first(
    paths: Iterable[str | Path], rows: int | None
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, object]]]:
    """Read shard after shard as `read` does until there are so many `rows`; what follows is read with none."""
    for path in paths:
        arrays, attributes = read(path, rows=rows)
        if rows is not None:
            rows -= max(map(len, arrays.values()), default=0)
        yield arrays, attributes


def columns(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read the datasets of a file that have one number or text (n,) a row, and its attributes; never its maps."""
    with open(path) as file:
        return {name: _read(dataset) for name, dataset in file.items() if dataset.ndim == 1}, dict(file.attrs)


def column(paths: Iterable[str | Path], name: str) -> np.ndarray:
    """Read one dataset of several shards, one below the other (rows, ...), and none of their other datasets."""
    parts = []
    for path in paths:
        with open(path) as file:
            parts.append(_read(file[name]))
    return np.concatenate(parts)


def blocks(paths: Iterable[str | Path], names: Iterable[str], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Read datasets of several shards together, as `batches` does; those that a shard lacks are left out."""

    def read() -> Iterator[dict[str, np.ndarray]]:
        for path in paths:
            with open(path) as file:
                here = [name for name in names if name in file]
                for start in range(0, len(file[here[0]]), size):
                    yield {name: file[name][start : start + size] for name in here}

    return _ahead(read())


@contextmanager
def picking(paths: Iterable[str | Path], name: str) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Read any rows of a dataset that is spread over shards, without reading the others.

    Parameters
    ----------
    paths : iterable of str or Path
        Shards, in the order of the rows.
    name : str
        The dataset.

    Yields
    ------
    callable
        From ascending, distinct row numbers, counted over all shards, to those rows.
    """
    with ExitStack() as stack:
        shards = [stack.enter_context(open(path))[name] for path in paths]
        starts = np.cumsum([0, *map(len, shards)])

        def pick(rows: np.ndarray) -> np.ndarray:
            edges = np.searchsorted(rows, starts)
            parts = [
                shard[rows[first:last] - start]
                for shard, start, first, last in zip(shards, starts, edges, edges[1:], strict=False)
                if last > first
            ]
            return np.concatenate(parts)

        yield pick


def batches(dataset: h5py.Dataset, size: int) -> Iterator[np.ndarray]:
    """Read a dataset `size` rows at a time; the next ones are read while the caller works on these."""
    return _ahead(_rows(dataset, size))


def _rows(dataset: h5py.Dataset, size: int) -> Iterator[np.ndarray]:
    sources = dataset.virtual_sources() if dataset.is_virtual else []
    shards = {source.vspace.get_select_bounds()[0][0] for source in sources}  # their first rows
    for start in range(0, len(dataset), size):
        if not shards.isdisjoint(range(start, start + size)):
            dataset.id.refresh()  # or HDF5 holds every shard open, with a chunk of each
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


def index(path: str | Path, shards: Iterable[str | Path]) -> None:
    """Write a virtual index over shards: one file that reads like their concatenation and holds no data.

    Parameters
    ----------
    path : str or Path
        The index to make. It refers to the shards by relative path, so a results folder may be moved as a whole.
    shards : iterable of str or Path
        Files made by `create` with the same datasets and the same attributes, in the order of the rows.

    Raises
    ------
    ValueError
        If there is no shard, or if two shards differ in an attribute (another model, layer, geometry or library
        version), in their datasets or in the shape of a row.
    """
    shards = [Path(shard) for shard in shards]
    if not shards:
        raise ValueError(f"{path}: an index needs at least one shard")
    shapes, attributes = [], []
    for shard in shards:
        with open(shard) as file:
            shapes.append({name: (dataset.shape, dataset.dtype) for name, dataset in file.items()})
            attributes.append(dict(file.attrs))
    for shard, shape, facts in zip(shards, shapes, attributes, strict=True):
        _check_same(shard, facts, shards[0], attributes[0])
        rows = [{name: (dims[1:], kind) for name, (dims, kind) in each.items()} for each in (shape, shapes[0])]
        if rows[0] != rows[1]:
            raise ValueError(f"{shard} holds {rows[0]}, {shards[0]} holds {rows[1]}; shards of one index must agree")
    with _replacing(path) as file:
        for key, value in attributes[0].items():
            file.attrs[key] = value
        for name, (first, kind) in shapes[0].items():
            lengths = [shape[name][0][0] for shape in shapes]
            layout = h5py.VirtualLayout((sum(lengths), *first[1:]), kind)
            layout.dcpl.set_obj_track_times(False)
            start = 0
            for shard, length in zip(shards, lengths, strict=True):
                source = os.path.relpath(shard, Path(path).parent)
                if length:
                    layout[start : start + length] = h5py.VirtualSource(source, name, (length, *first[1:]), kind)
                start += length
            file.create_virtual_dataset(name, layout)


def _open(path: Path) -> h5py.File:
    """Open one file and check its text."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; run the rule that writes it")
    try:
        file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CHUNK_BYTES)  # for each shard of an index, too
    except OSError as error:
        raise OSError(
            f"{path} is truncated or not an HDF5 file ({error}); delete it and run the workflow again"
        ) from error
    for name, dataset in file.items():
        if "sha256" in dataset.attrs and dataset.attrs["sha256"] != _digest(dataset):
            file.close()
            raise OSError(_damaged(path, f"the text of {name} does not have its checksum"))
    return file


def _sources(path: Path, file: h5py.File) -> dict[Path, dict[str, tuple[int, ...]]]:
    """Give the shards of an index with the shapes that it expects there; none for a file that holds its own data."""
    shards = {}
    for dataset in file.values():
        for source in dataset.virtual_sources() if dataset.is_virtual else ():
            datasets = shards.setdefault(path.parent / source.file_name, {})
            first, last = source.vspace.get_select_bounds()
            datasets[source.dset_name] = tuple(end - start + 1 for start, end in zip(first, last, strict=True))
    return shards


def _check_shard(index: Path, shard: Path, datasets: Mapping[str, tuple[int, ...]]) -> None:
    if not shard.exists():
        name = os.path.relpath(shard, index.parent)
        raise FileNotFoundError(f"{index} refers to {name}, which is missing; run the workflow again")
    with _open(shard) as file:
        for name, shape in datasets.items():
            if name not in file or file[name].shape != shape:
                found = file[name].shape if name in file else "nothing"
                raise OSError(f"{shard} holds {found} as {name}, {index} expects {shape}; run the workflow again")


def _damaged(path: Path, what: str) -> str:
    return f"{path} is damaged ({what}); delete it and run the workflow again"


def _digest(dataset: h5py.Dataset) -> str:
    return hashlib.sha256("\0".join(dataset.asstr()[:].ravel()).encode()).hexdigest()


@contextmanager
def _replacing(path: str | Path) -> Iterator[h5py.File]:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = f"{path.name}.{socket.gethostname()}-"
    for part in path.parent.glob(f"{glob.escape(stem)}*.part"):
        if not Path("/proc", part.name[len(stem) : -len(".part")]).exists():  # its process was killed
            part.unlink(missing_ok=True)
    part = path.with_name(f"{stem}{os.getpid()}.part")
    try:
        with h5py.File(part, "w", locking=False, libver="v110") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _checksummed_chunks(array: np.ndarray) -> dict[str, object]:
    if array.size == 0 or array.dtype.kind == "O":  # nothing to sum; HDF5 sums no strings of variable length
        return {}
    rows = max(1, min(len(array), _CHUNK_BYTES // (array.nbytes // len(array))))
    shrinks = array.dtype in (bool, np.uint16)  # masks and label maps; the others hardly do
    compression = {"compression": "gzip", "compression_opts": 1} if shrinks else {}
    return {"chunks": (rows, *array.shape[1:]), "fletcher32": True, **compression}


def _write_attributes(file: h5py.File, attributes: Mapping[str, object]) -> None:
    for key, value in {**attributes, "unitlens": __version__}.items():
        file.attrs[key] = str(value) if isinstance(value, str) else value  # torch's version is a subclass of str


def _read(dataset: h5py.Dataset, rows: int | None = None) -> np.ndarray:
    return dataset.asstr()[:rows] if h5py.check_string_dtype(dataset.dtype) else dataset[:rows]


def _check_same(shard: Path, facts: Mapping[str, object], first_shard: Path, first: Mapping[str, object]) -> None:
    for key in sorted(facts.keys() | first.keys()):
        here, there = facts.get(key), first.get(key)
        if not np.array_equal(here, there):
            raise ValueError(f"{shard} has {key} = {here!r}, {first_shard} has {there!r}; run the older one again")
