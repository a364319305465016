"""Read arrays that are spread over the files of shards.

Shards may differ in what depends on their images (`join`): that is filled up, with NaN in floating-point numbers, -1 in
whole numbers and 0 in label maps.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from unitlens.storage.arrays import Contents, attributes_of, open_arrays, read_ahead, read_arrays, read_dataset

File = tuple[Mapping[str, np.ndarray], Mapping[str, object]]  # arrays and attributes
LABEL_MAPS = ("mask", "superpixels")  # (n, h, w), or (n, maps, h, w) where a row has several; 0 where nothing is marked
_ROWS = 512  # read at once
_OF_A_SHARD = ("skipped", "remarks", "passes")  # attributes that may differ between shards


def concatenate(
    paths: Iterable[str | Path], *, rows: int | None = None, names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read shards as one, or the first `rows` of all, or their datasets `names`: see `read_arrays` and `join`."""
    files = []
    for path in paths:  # once there are so many rows, what follows is read with none
        files.append(read_arrays(path, rows=rows, names=names))
        if rows is not None:
            rows -= _count(files[-1][0])
    return join(files)


def join(files: Sequence[File]) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Put the arrays of shards, as from `read_arrays`, one below the other; give them with the attributes of the first.

    Shards may differ in what depends on their images: the width of rows, as of LIME's coefficients; how many label maps
    a row has; which datasets there are. What is missing is filled up as this module's docstring says, so that it can be
    told from what is there; in label maps, where 0 is nothing marked, by ``has_mask``. The attribute ``skipped``, a
    JSON list, holds those of all; ``passes`` the distinct ones. ValueError if there is no file, or if two differ in
    another attribute (model, layer, geometry or library version), in the kind of a dataset or in the shape of its rows
    beyond their width.
    """
    if not files:
        raise ValueError("there is no shard to read")
    arrays = [each for each, _ in files]
    where = [str(getattr(each, "path", f"part {number}")) for number, each in enumerate(arrays)]
    lengths = [_count(each) for each in arrays]
    names = dict.fromkeys(name for each in arrays for name in each)
    joined = {name: _stack(name, [each.get(name) for each in arrays], lengths, where) for name in names}
    return (
        Contents(joined, where[0], "dataset", sum(lengths)),
        Contents(_merge([facts for _, facts in files], where), where[0], "attribute"),
    )


def picking_by_folder(paths: Iterable[str | Path], name: str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Make the functions of `picking` for shards of several folders, by the folder's name."""
    by_name = groupby(paths, key=lambda path: Path(path).parent.name)
    return {folder: picking(own, name) for folder, own in by_name}


def by_folder(
    paths: Iterable[str | Path], *, rows: int | None = None, names: Sequence[str] | None = None
) -> list[tuple[dict[str, np.ndarray], dict[str, object]]]:
    """Read the shards of each folder, which follow each other, as `concatenate` does: a pair for each folder."""
    groups = groupby(map(Path, paths), key=lambda path: path.parent)
    return [concatenate(shards, rows=rows, names=names) for _, shards in groups]


def read_columns(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Read the datasets of a file that have one number or text (n,) a row, and its attributes; never its maps."""
    with open_arrays(path) as file:
        return {name: read_dataset(dataset) for name, dataset in file.items() if dataset.ndim == 1}, attributes_of(file)


def read_column(paths: Iterable[str | Path], name: str) -> np.ndarray:
    """Read one dataset (n, ...) of several shards, one below the other, and none of their other datasets."""
    return concatenate(paths, names=[name])[0][name]


def read_blocks(paths: Iterable[str | Path], names: Iterable[str], size: int) -> Iterator[dict[str, np.ndarray]]:
    """Read datasets of several shards together, as `read_batches` does; those that a shard lacks are left out."""

    def read() -> Iterator[dict[str, np.ndarray]]:
        for path in paths:
            with open_arrays(path) as file:
                here = [name for name in names if name in file]
                for start in range(0, min((len(file[name]) for name in here), default=0), size):
                    yield {name: file[name][start : start + size] for name in here}

    return read_ahead(read())


def read_groups(
    paths: Sequence[str | Path], names: Sequence[str], groups: np.ndarray, *, most_bytes: int = 2**29
) -> Iterator[tuple[int, np.ndarray, dict[str, np.ndarray]]]:
    """Give the rows of each group, wherever they are in the shards: its number, their numbers, and their datasets.

    `groups` (n,) has the group of every row, counted over all shards; rows of a negative one are not read. The shards
    are read from first to last as often as it takes to hold no more than `most_bytes` at once, or one whole group.
    What is narrower than in other shards is filled up with NaN. ValueError if there are more or fewer rows, or rows of
    different shards differ in their number of axes.
    """
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    forms, total = _forms(paths, names)
    if total != len(groups):
        raise ValueError(f"the shards have {total} rows, {len(groups)} were expected; run the workflow again")
    row_bytes = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in forms.values())
    numbers, starts = np.unique(groups[order], return_index=True)
    stops = [*starts[1:], len(order)]
    first = 0
    while first < len(numbers):
        last = first + 1
        while last < len(numbers) and (stops[last] - starts[first]) * row_bytes <= most_bytes:
            last += 1
        rows = order[starts[first] : stops[last - 1]]
        held = _read_rows(paths, rows, len(groups), forms)
        for place in range(first, last):
            own = slice(starts[place] - starts[first], stops[place] - starts[first])
            yield int(numbers[place]), rows[own], {name: array[own] for name, array in held.items()}
        first = last


def _forms(paths: Sequence[str | Path], names: Sequence[str]) -> tuple[dict[str, tuple], int]:
    """Give the type and the shape of a row of each dataset, the widest of all shards, and how many rows there are."""
    forms, total = {}, 0
    for path in paths:
        with open_arrays(path) as file:
            known = {name: file[name] for name in names if name in file and len(file[name])}
            total += max(map(len, known.values()), default=0)
            for name, dataset in known.items():
                shape = dataset.shape[1:]
                dtype, widest = forms.get(name, (dataset.dtype, shape))
                if len(shape) != len(widest):
                    raise ValueError(f"{path} holds {name} of shape {shape} a row, others {widest}; run one again")
                forms[name] = (np.result_type(dtype, dataset.dtype), tuple(map(max, shape, widest)))
    return forms, total


def _read_rows(
    paths: Sequence[str | Path], rows: np.ndarray, total: int, forms: Mapping[str, tuple]
) -> dict[str, np.ndarray]:
    """Read some rows, of all `total`, in their order, of datasets of numbers; shards are read block by block."""
    place = np.full(total, -1)
    place[rows] = np.arange(len(rows))
    held = {name: np.full((len(rows), *shape), _filling(name, dtype), dtype) for name, (dtype, shape) in forms.items()}
    start = 0
    for block in read_blocks(paths, list(forms), _ROWS):
        count = len(next(iter(block.values())))
        own = place[start : start + count]
        start += count
        for name, array in block.items():
            part = (own[own >= 0], *map(slice, array.shape[1:]))
            held[name][part] = array[own >= 0]
    return held


def picking(paths: Iterable[str | Path], name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Make the function from ascending, distinct row numbers, counted over all shards, to those rows of a dataset.

    It reads no others, and one shard is open at a time, whatever their number. A row that is not there is an
    IndexError.
    """
    paths, lengths = list(paths), []
    for path in paths:
        with open_arrays(path) as file:
            lengths.append(len(file[name]))
    starts = np.cumsum([0, *lengths])

    def pick(rows: np.ndarray) -> np.ndarray:
        if len(rows) and not 0 <= rows[0] <= rows[-1] < starts[-1]:
            raise IndexError(f"rows {rows[0]} to {rows[-1]} of {name} were asked for; there are {starts[-1]}")
        edges = np.searchsorted(rows, starts)
        parts = []
        for path, start, first, last in zip(paths, starts, edges, edges[1:], strict=False):
            if last > first or (path is paths[-1] and not parts):  # none are some of the last shard's
                with open_arrays(path) as file:
                    parts += _runs(file[name], rows[first:last] - start)
        return np.concatenate(parts)

    return pick


def _runs(dataset: Sequence, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Read ascending rows, those that follow each other together: by a list of them HDF5 takes forty times as long."""
    for own in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
        yield dataset[own[0] : own[-1] + 1] if len(own) else dataset[:0]


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
