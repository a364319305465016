"""Decode photographs into uint8 arrays of one geometry, whatever their mode, depth or orientation.

The geometry (resize, then centre crop) gives exactly the pixels of torchvision's Resize and CenterCrop on PIL images,
tested against them. JPEGs are decoded in full: draft mode would be faster and change the pixels. No torch here, so that
a decode job starts at once.
"""

import errno
import functools
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from unitlens.jobs.sheets import MAPS, MAPS_APART, fractions, inside, is_label, parse_crop
from unitlens.jobs.sheets import read_rows as read_rows  # for those who decode what they name
from unitlens.logs import each

FITS = ("squash", "short")
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # EPS would run Ghostscript
# What Pillow's parsers raise on damaged files, and the causes of an OSError that lie in the file (None: Pillow's own).
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    LookupError,
    TypeError,
    struct.error,
    Image.DecompressionBombError,
)
_IN_THE_FILE = (None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EINVAL, errno.ENAMETOOLONG)
_IN_THE_FILE += (errno.ELOOP,)


def decode(
    rows: Sequence[Mapping[str, str]], root: str | Path, geometry: Mapping, *, on_bad_image: str = "fail"
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """Decode the photographs of some sheet rows.

    Parameters
    ----------
    rows
        As from `read_rows`. `crop` holds four fractions "left top right bottom", or nothing.
    root
        The folder that `path` is relative to; no path may leave it.
    geometry
        See `load`.
    on_bad_image
        "fail" raises if a photograph cannot be read; "skip" leaves it out and lists it.

    Returns
    -------
    images : (kept, h, w, 3) uint8
    kept : (kept,) int64
        Indices into `rows`.
    problems : list of (image_id, message)
        One for each row left out.

    Raises
    ------
    ValueError
        With "fail", one error for all unreadable photographs, the first five named. Always: a path outside `root`, a
        crop that is not four fractions, a bad option.
    """
    if on_bad_image not in ("fail", "skip"):
        raise ValueError(f"`on_bad_image` must be 'fail' or 'skip', got {on_bad_image!r}")
    _check_geometry(geometry)
    places = [_place(root, row) for row in rows]
    open_once = functools.lru_cache(maxsize=1)(_open_upright)  # the crops of one photograph follow each other
    images = np.empty((len(rows), geometry["crop"], geometry["crop"], 3), np.uint8)
    kept, problems = [], []
    for index, (path, crop) in enumerate(each(places, "photographs")):
        try:
            images[len(kept)] = _fit(_cut(open_once(path), crop), geometry)
            kept.append(index)
        except ValueError as error:
            problems.append((rows[index]["image_id"], f"{path}: {error}"))
    if problems and on_bad_image == "fail":
        named = "\n".join(f"  image_id {image_id!r}: {message}" for image_id, message in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{len(problems)} of {len(rows)} photographs cannot be decoded:\n{named}{more}")
    return images[: len(kept)], np.array(kept, dtype=np.int64), problems


def ground_truth(
    rows: Sequence[Mapping[str, str]], root: str | Path, geometry: Mapping, *, on_bad_image: str = "fail"
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """Bring the boxes and label maps of some sheet rows into the geometry of the decoded photographs.

    Parameters
    ----------
    rows
        As from `read_rows`. `mask` and `superpixels` name label maps below `root`: PNG or TIFF, one channel of whole
        numbers (a palette counts by index) or Broden's red + 256 green, 0 where nothing is marked, of the size of the
        whole upright photograph or smaller by a whole factor. `mask` may name several maps, which may overlap, with
        ``;`` between them; a whole number there marks the whole photograph. `box` holds "left top right bottom" as
        fractions of the whole upright photograph. All are cut as the photograph is by `crop`.
    root, geometry
        As for `decode`.
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
    _check_geometry(geometry)
    side = geometry["crop"]
    arrays = {"box": np.full((len(rows), 4), np.nan, np.float32)}
    arrays["has_mask"] = np.array([bool(row.get("mask")) for row in rows], dtype=bool)
    cells = {name: [[cell for cell in row.get(name, "").split(MAPS_APART) if cell] for row in rows] for name in MAPS}
    counts = {name: max(map(len, cells[name]), default=0) for name in MAPS}
    shapes = {name: (len(rows), counts[name], side, side) for name in MAPS if counts[name]}
    arrays |= {name: np.full(shapes[name], 0, np.uint16) for name in shapes}  # np.zeros gets no huge pages: 30 x slower
    problems = []
    for index, row in enumerate(rows):
        path, crop = _place(root, row)
        if not any(row.get(column) for column in ("box", *MAPS)):
            continue
        try:
            size = _upright_size(path)
            if row.get("box"):
                arrays["box"][index] = _fit_box(fractions(row["box"].split(), "box"), size, crop, geometry)
            for name in MAPS:
                for layer, cell in enumerate(cells[name][index]):
                    if is_label(cell):
                        arrays[name][index, layer] = _label(int(cell), name)
                        continue
                    file = inside(root, cell, name)
                    try:
                        arrays[name][index, layer] = _fit_map(_read_map(file, size, name), crop, geometry)
                    except ValueError as error:
                        if on_bad_image == "fail":
                            raise
                        problems.append((row["image_id"], f"goes without its {name}, for {error}"))
                        arrays[name][index] = 0
                        arrays["has_mask"][index] &= name != "mask"
                        break
        except ValueError as error:
            raise ValueError(f"image_id {row['image_id']!r}: {error}") from error
    return {name: array[:, 0] if counts.get(name) == 1 else array for name, array in arrays.items()}, problems


def box_pixels(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mark the pixels of boxes: those whose centers lie inside, the left and top edge included.

    Parameters
    ----------
    box : array, shape (n, 4)
        Left, top, right and bottom in pixels.
    size : (height, width)

    Returns
    -------
    array of bool, shape (n, height, width)
        Two boxes that share an edge share no pixel. Nothing for a box of NaN, one outside the picture, or one so small
        that it holds no center.
    """
    left, top, right, bottom = np.asarray(box).T[..., None]  # (n, 1) each
    rows, columns = (np.arange(side) + 0.5 for side in size)
    inside = (top <= rows) & (rows < bottom), (left <= columns) & (columns < right)  # (n, height), (n, width)
    return inside[0][:, :, None] & inside[1][:, None]


def load(path: str | Path, *, crop: Sequence[float] | None = None, geometry: Mapping) -> np.ndarray:
    """Decode one photograph: upright by its EXIF tag, 8-bit RGB, `crop`, then `geometry`.

    Parameters
    ----------
    path
        A picture of any Pillow mode but F. Transparency is composited on white; 16 bits are divided by 257 and rounded.
    crop
        (left, top, right, bottom) as fractions of the upright picture. Each edge is rounded to the nearest pixel edge
        (halves to even), so that adjoining crops adjoin.
    geometry
        ``{"fit", "resize", "crop", "interpolation"}``. fit "squash": to resize x resize, whatever the aspect; "short":
        the short side to `resize`, the long one in proportion, rounded down. Then a centre crop of crop x crop pixels.
        interpolation: "bilinear" or "bicubic", both antialiased as Pillow does.

    Returns
    -------
    (crop, crop, 3) uint8

    Raises
    ------
    ValueError
        The picture cannot be read, or `crop` or `geometry` is not allowed.
    """
    _check_geometry(geometry)
    crop = None if crop is None else fractions(crop, "crop")
    try:
        return _fit(_cut(_open_upright(path), crop), geometry)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_geometry(geometry: Mapping) -> None:
    allowed = f"fit in {FITS}, crop <= resize (pixels) and interpolation in {tuple(INTERPOLATIONS)}"
    if (
        set(geometry) != {"fit", "resize", "crop", "interpolation"}
        or geometry["fit"] not in FITS
        or geometry["interpolation"] not in INTERPOLATIONS
        or not all(type(geometry[key]) is int for key in ("resize", "crop"))
        or not 0 < geometry["crop"] <= geometry["resize"]
    ):
        raise ValueError(f"`geometry` must have {allowed}; got {dict(geometry)}")


def _place(root: str | Path, row: Mapping[str, str]) -> tuple[Path, tuple[float, ...] | None]:
    """Give the file and the crop of a row; what is wrong with them is a fault of the sheet, not of the photograph."""
    try:
        return inside(root, row["path"], "path"), parse_crop(row.get("crop", ""))
    except ValueError as error:
        raise ValueError(f"image_id {row['image_id']!r}: {error}") from error


def _open(path: str | Path, formats: Sequence[str]) -> Image.Image:
    """Open what is a file: to open a pipe would wait until something is written to it."""
    kind = Path(path).stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ValueError("it is a pipe, a socket or a device, not a file")
    return Image.open(path, formats=formats)


def _upright_size(path: Path) -> tuple[int, int]:
    """Read the width and height from the header, as they are once the photograph stands upright."""
    try:
        with _open(path, _FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # 5 to 8 lie on their side
            return image.size[::-1] if turned else image.size
    except _UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as a picture ({_reason(error)})") from error


def _open_upright(path: str | Path) -> Image.Image:
    """Decode a file into an upright 8-bit RGB picture; ValueError if that cannot be done."""
    try:
        with _open(path, _FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except _UNREADABLE as error:
        raise ValueError(f"cannot be read as a picture ({_reason(error)})") from error


def _reason(error: Exception) -> object:
    """Say why a file cannot be read; what does not lie in the file, as a failing disk, is raised again."""
    if isinstance(error, OSError) and error.errno not in _IN_THE_FILE:
        raise error
    return error.strerror if isinstance(error, OSError) and error.strerror else error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("mode F has no fixed range: save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # one channel of 16 bits, also as 32
        values = np.asarray(image).astype(np.int32)  # (h, w)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"values from {values.min()} to {values.max()}: more than 16 bits")
        return Image.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _cut(image: Image.Image, crop: tuple[float, ...] | None) -> Image.Image:
    return image if crop is None else image.crop(_crop_edges(image.size, crop))


def _crop_edges(size: tuple[int, int], crop: tuple[float, ...] | None) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop in pixels of the photograph."""
    width, height = size
    if crop is None:
        return 0, 0, width, height
    edges = round(crop[0] * width), round(crop[1] * height), round(crop[2] * width), round(crop[3] * height)
    if edges[0] == edges[2] or edges[1] == edges[3]:
        raise ValueError(f"`crop` {crop} is empty in a picture of {width} x {height} pixels")
    return edges


def _fit(image: Image.Image, geometry: Mapping) -> np.ndarray:
    size, edges = _resized(image.size, geometry)
    resized = image.resize(size, INTERPOLATIONS[geometry["interpolation"]])
    return np.asarray(resized.crop(edges))  # (crop, crop, 3)


def _resized(size: tuple[int, int], geometry: Mapping) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Width and height after resizing, and the edges of the centre crop in it."""
    resize, crop = geometry["resize"], geometry["crop"]
    width, height = resize, resize
    if geometry["fit"] == "short":
        long = int(resize * max(size) / min(size))
        width, height = (resize, long) if size[0] <= size[1] else (long, resize)
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{size[0]} x {size[1]} pixels would become {width} x {height}: too elongated")
    left, top = round((width - crop) / 2), round((height - crop) / 2)  # halves to even, as torchvision does
    return (width, height), (left, top, left + crop, top + crop)


def _fit_box(
    box: tuple[float, ...], size: tuple[int, int], crop: tuple[float, ...] | None, geometry: Mapping
) -> np.ndarray:
    """Give a box in pixels of the geometry, (4,), NaN where nothing of it is left."""
    left, top, right, bottom = _crop_edges(size, crop)
    (width, height), (x, y, _, _) = _resized((right - left, bottom - top), geometry)
    scale = np.array([width / (right - left), height / (bottom - top)] * 2)
    pixels = np.array(box) * [*size, *size] - [left, top, left, top]
    edges = np.clip(pixels * scale - [x, y, x, y], 0, geometry["crop"])
    return edges if (edges[:2] < edges[2:]).all() else np.full(4, np.nan)


def _label(value: int, name: str) -> int:
    if value >= 2**16:
        raise ValueError(f"`{name}` must hold 0 to 65535, got {value}")
    return value


def _read_map(path: Path, size: tuple[int, int], name: str) -> Image.Image:
    """Read a label map as a picture of mode I, of the size of the photograph."""
    try:
        with _open(path, ("PNG", "TIFF")) as image:
            image.load()
    except _UNREADABLE as error:
        raise ValueError(f"`{name}` {path} cannot be read as a PNG or TIFF ({_reason(error)})") from error
    values = np.asarray(image).astype(np.int32)
    if image.mode == "RGB" and not values[..., 2].any():
        values = values[..., 0] + 256 * values[..., 1]
    elif image.mode not in ("1", "L", "P", "I;16", "I"):
        allowed = "one channel of whole numbers, or red + 256 green without blue"
        raise ValueError(f"`{name}` {path} must have {allowed}, got mode {image.mode}")
    factor = max(size[0] // image.width, 1)
    if (image.width * factor, image.height * factor) != size:
        raise ValueError(
            f"`{name}` {path} must be as large as the photograph, {size[0]} x {size[1]} pixels, or smaller by a whole "
            f"factor; got {image.width} x {image.height}"
        )
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"`{name}` {path} must hold 0 to 65535, got {values.min()} to {values.max()}")
    return Image.fromarray(values).resize(size, Image.Resampling.NEAREST)


def _fit_map(values: Image.Image, crop: tuple[float, ...] | None, geometry: Mapping) -> np.ndarray:
    """Bring a label map into the geometry, (h, w)."""
    cut = _cut(values, crop)
    size, edges = _resized(cut.size, geometry)
    return np.asarray(cut.resize(size, Image.Resampling.NEAREST).crop(edges))
