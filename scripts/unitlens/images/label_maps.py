"""Masks, boxes and superpixels that a sheet names as maps of whole numbers in an image's geometry."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from unitlens.images import decode
from unitlens.images.geometry import box_pixels, check_geometry, fit_box, fit_map
from unitlens.jobs.characters import first_few
from unitlens.jobs.sheets import AT_ONCE, FEWEST_SHOWING, MAPS, MAPS_APART, fractions, inside, is_label, sides

_LENGTH = 8  # shares are divided by it; the square is how many concepts may cover an image


def read_label_maps(
    rows: Sequence[Mapping[str, str]], root: str | Path, geometry: Mapping, *, on_bad_image: str = "fail"
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Bring the boxes and label maps of some sheet rows into the geometry of `decode_images`.

    Parameters
    ----------
    rows
        As from `read_rows`. `mask` and `superpixels` name label maps below `root`: PNG or TIFF, one channel of whole
        numbers (a palette counts by index) or Broden's red + 256 green, 0 where nothing is marked, of the size of the
        whole upright source image or smaller by a whole factor. `mask` may name several maps, which may overlap, with
        ``;`` between them; a whole number there marks the whole source image. `box` holds "left top right bottom" as
        fractions of the whole upright source image. All are cut as the source image is by `crop`.
    on_bad_image
        "fail" raises if the file of a label map cannot be used; "skip" goes on without the row's label maps of that
        column, as if it named none, and lists it.

    Returns
    -------
    arrays : dict
        ``box`` (n, 4) float32: left, top, right, bottom in pixels of the geometry, cut to it; NaN where the row has
        none or nothing of it is left. ``has_mask`` (n,) bool. Where any row names one, ``mask`` and ``superpixels``
        (n, h, w) uint16, resized to the nearest value, 0 in rows without. Where a row has several masks, ``mask`` is
        (n, masks, h, w), filled up with 0.
    problems : list of (image_id, message)
        One for each row and column that goes without.

    Raises
    ------
    ValueError
        A box, a cell or, with "fail", a map cannot be used; the row, what was found and what is allowed are named.
    """
    problems: list[tuple[str, str]] = []
    blocks = list(read_label_map_blocks(rows, root, geometry, problems, on_bad_image=on_bad_image, size=len(rows)))
    return blocks[0], problems


def read_label_map_blocks(
    rows: Sequence[Mapping[str, str]],
    root: str | Path,
    geometry: Mapping,
    problems: list[tuple[str, str]],
    *,
    on_bad_image: str = "fail",
    size: int = AT_ONCE,
) -> Iterator[dict[str, np.ndarray]]:
    """Read as `read_label_maps` does, and give the arrays for `size` rows at a time; problems are added to a list.

    Which arrays there are, and of how many masks, depends on all rows. A ValueError as of `read_label_maps`.
    """
    check_geometry(geometry)
    cells = {name: [[cell for cell in row.get(name, "").split(MAPS_APART) if cell] for row in rows] for name in MAPS}
    counts = {name: max(map(len, cells[name]), default=0) for name in MAPS}
    for start in range(0, max(len(rows), 1), max(size, 1)):
        part = rows[start : start + size]
        arrays = {"box": np.full((len(part), 4), np.nan, np.float32)}
        arrays["has_mask"] = np.array([bool(row.get("mask")) for row in part], dtype=bool)
        shapes = {name: (len(part), counts[name], *sides(geometry["crop"])) for name in MAPS if counts[name]}
        arrays |= {name: np.full(shapes[name], 0, np.uint16) for name in shapes}  # np.zeros has no huge pages: slow
        for index, row in enumerate(part):
            place, own = decode.place_of(root, row), {name: cells[name][start + index] for name in MAPS}
            try:
                problems += _read_row(row, place, own, arrays, index, root, geometry, on_bad_image)
            except ValueError as error:
                raise ValueError(f"image_id {row['image_id']!r}: {error}") from error
        yield {name: array[:, 0] if counts.get(name) == 1 else array for name, array in arrays.items()}


def _read_row(
    row: Mapping[str, str],
    place: tuple[Path, tuple[float, ...] | None],
    cells: Mapping[str, Sequence[str]],
    arrays: Mapping[str, np.ndarray],
    index: int,
    root: str | Path,
    geometry: Mapping,
    on_bad_image: str,
) -> list[tuple[str, str]]:
    """Fill in one row of the arrays, of whose columns `cells` are apart; give its problems."""
    (path, crop), problems = place, []
    if not any(row.get(column) for column in ("box", *MAPS)):
        return problems
    size = decode.upright_size(path)
    if row.get("box"):
        arrays["box"][index] = fit_box(fractions(row["box"].split(), "box"), size, crop, geometry)
    for name in MAPS:
        for layer, cell in enumerate(cells[name]):
            if is_label(cell):
                if int(cell) >= 2**16:
                    raise ValueError(f"`{name}` must hold 0 to 65535, got {int(cell)}")
                arrays[name][index, layer] = int(cell)
                continue
            file = inside(root, cell, name)
            try:
                arrays[name][index, layer] = fit_map(_read_map(file, size, name), crop, geometry)
            except ValueError as error:
                if on_bad_image == "fail":
                    raise
                problems.append((row["image_id"], f"goes without its {name}, for {error}"))
                arrays[name][index] = 0
                arrays["has_mask"][index] &= name != "mask"
                break
    return problems


def _read_map(path: Path, size: tuple[int, int], name: str) -> Image.Image:
    """Read a label map as an image of mode I, of the size of the source image."""
    try:
        with decode.open_image(path, ("PNG", "TIFF")) as image:
            ImageOps.exif_transpose(image, in_place=True)
    except decode.UNREADABLE as error:
        raise ValueError(f"`{name}` {path} cannot be read as a PNG or TIFF ({decode.reason_of(error)})") from error
    values = np.asarray(image).astype(np.int32)
    if image.mode == "RGB" and not values[..., 2].any():
        values = values[..., 0] + 256 * values[..., 1]
    elif image.mode not in ("1", "L", "P", "I;16", "I;16B", "I"):
        allowed = "one channel of whole numbers, or red + 256 green without blue"
        raise ValueError(f"`{name}` {path} must have {allowed}, got mode {image.mode}")
    factor = max(size[0] // image.width, 1)
    if (image.width * factor, image.height * factor) != size:
        raise ValueError(
            f"`{name}` {path} must be as large as the source image, {size[0]} x {size[1]} pixels, or smaller by a "
            f"whole factor; got {image.width} x {image.height}"
        )
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"`{name}` {path} must hold 0 to 65535, got {values.min()} to {values.max()}")
    return Image.fromarray(values).resize(size, Image.Resampling.NEAREST)


def label_maps(block: Mapping[str, np.ndarray], values: np.ndarray, *, source: str) -> np.ndarray:
    """Bring masks or boxes of a block of source images into label maps of concepts.

    Parameters
    ----------
    block : mapping
        As `shards.read_blocks` gives them, ``images`` (n, h, w, 3) and, for boxes, ``label`` (n,).
    values : array, shape (concepts,)
        The value, or the label, that means each concept. One that is marked and means none is a ValueError.
    source : str
        ``masks`` or ``boxes``.

    Returns
    -------
    array of int32, shape (n, layers, h, w)
        1 + the concept, 0 where there is none.
    """
    shape = block["images"].shape[:3]
    marked = np.zeros((shape[0], 1, *shape[1:]), dtype=np.int32)
    if source == "masks":
        marked = np.asarray(block.get("mask", marked), dtype=np.uint16)
        marked = marked if marked.ndim == 4 else marked[:, None]
        return _concepts(marked, values, known={0: 0})
    boxed = (~np.isnan(block["box"]).any(1) & (block["label"] >= 0)).nonzero()[0]
    covered = box_pixels(block["box"][boxed], shape[1:])
    concepts = _concepts(block["label"][boxed], values, known={})
    marked[boxed, 0] = np.where(covered, concepts[:, None, None], 0)
    return marked


def concept_features(block: Mapping[str, np.ndarray], values: np.ndarray, *, source: str) -> np.ndarray:
    """Say what share of each image shows each concept, as features whose cosine with `concept_axes` is in proportion.

    Arguments are as of `label_maps`; the source may also be ``labels``, of which one marks all of its image. Gives
    (n, concepts + 1) of unit length, the shares divided by 8 and what is left; ValueError where label maps overlap so
    much that nothing would be.
    """
    shares = np.zeros((len(block["images"]), len(values)), dtype=np.float64)
    if source == "labels":
        known = (block["label"] >= 0).nonzero()[0]
        shares[known, _concepts(block["label"][known], values, known={}) - 1] = 1
    else:
        for share, maps in zip(shares, label_maps(block, values, source=source), strict=True):
            for concept in np.unique(maps[maps > 0]):
                share[concept - 1] = (maps == concept).any(0).mean()
    shares /= _LENGTH
    rest = 1 - np.square(shares).sum(1, keepdims=True)
    if (rest < 0).any():
        raise ValueError(f"an image shows more than {_LENGTH**2} concepts everywhere")
    return np.hstack([shares, np.sqrt(rest)]).astype(np.float32)


def concept_axes(concepts: int) -> np.ndarray:
    """Give the features of so many concepts, (concepts, d), that those of `concept_features` are compared with."""
    return np.eye(concepts, concepts + 1, dtype=np.float32)


def _concepts(found: np.ndarray, values: np.ndarray, *, known: dict[int, int]) -> np.ndarray:
    places = known | {int(value): place for place, value in enumerate(values, 1)}
    if found.dtype == np.uint16:  # pixels: a table is 40 times as fast as a search
        table = np.full(2**16, -1, dtype=np.int32)
        within = [value for value in places if value < len(table)]
        table[within] = [places[value] for value in within]
        concepts = table[found]
    else:
        concepts = np.array([places.get(int(value), -1) for value in found], dtype=np.int32)
    if (concepts < 0).any():
        unknown = found[concepts < 0].min()
        raise ValueError(f"the probe set marks {unknown}, which has no word; values with one: {first_few(values)}")
    return concepts


def shown_often(shown: np.ndarray, source_images: Sequence[str]) -> np.ndarray:
    """Tell which concepts (concepts,) enough source images show, of `shown` (images, concepts).

    ValueError if there is none.
    """
    _, number = np.unique(source_images, return_inverse=True)
    count = np.array([len(np.unique(number[column])) for column in shown.T])
    if count.max() < FEWEST_SHOWING:
        raise ValueError(
            f"no concept is shown by {FEWEST_SHOWING} source images or more, so nothing can be named; most are shown "
            f"by {count.max()}"
        )
    return count >= FEWEST_SHOWING


def reference_masks(images: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Give what the sheet says of where the objects are, of a shard of decoded source images.

    From ``mask`` and ``box``, where given, to the objects (n, h, w) bool and which images have one (n,) bool. A mask is
    0 outside the object; `box_pixels` says what a box covers. ValueError if masks and source images differ in
    size.
    """
    shape = images["images"].shape[:3]
    references = {}
    if "mask" in images:
        if images["mask"].shape != shape:
            raise ValueError(f"`mask` has shape {images['mask'].shape}; allowed: {shape}, that of the source images")
        references["mask"] = np.asarray(images["mask"]) != 0, np.asarray(images["has_mask"], dtype=bool)
    box = np.asarray(images["box"])
    if not np.isnan(box).all():
        known = ~np.isnan(box).any(1)
        references["box"] = box_pixels(box, shape[1:]), known
    return references
