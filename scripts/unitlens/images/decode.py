"""Decode source images into uint8 arrays of one geometry, whatever their mode, depth or orientation.

JPEGs are decoded in full: draft mode would be faster and change the pixels. No torch here, so that a decode job starts
at once.
"""

import errno
import functools
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from unitlens.images.geometry import check_geometry, cut_out, fit_image
from unitlens.jobs.progress import each
from unitlens.jobs.sheets import inside, parse_crop

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # EPS would run Ghostscript

# What Pillow's parsers raise on damaged files, and the causes of an OSError that lie in the file (None: Pillow's own).
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, LookupError, TypeError)
UNREADABLE += (struct.error, Image.DecompressionBombError)
_IN_THE_FILE = (None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EINVAL, errno.ENAMETOOLONG)
_IN_THE_FILE += (errno.ELOOP,)


def decode_images(
    rows: Sequence[Mapping[str, str]], root: str | Path, geometry: Mapping, *, on_bad_image: str = "fail"
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]]]:
    """Decode the source images of some sheet rows, as from `read_rows`, below the folder `root`.

    Images have any Pillow mode but F; they are turned upright by their EXIF tag and made 8-bit RGB. Transparency is
    composited on white; 16 bits are divided by 257 and rounded. Each edge of a `crop` is rounded to the nearest pixel
    edge (halves to even), so that adjoining crops adjoin.

    Parameters
    ----------
    geometry
        ``{"fit", "resize", "crop", "interpolation"}``. fit "squash": to resize x resize, whatever the aspect; "short":
        the short side to `resize`, the long one in proportion, rounded down. Then a center crop of crop x crop pixels.
        interpolation: "bilinear" or "bicubic", both antialiased as Pillow does.
    on_bad_image
        "fail" raises if a source image cannot be read; "skip" leaves it out and lists it.

    Returns
    -------
    images : (kept, crop, crop, 3) uint8
    kept : (kept,) int64
        Indices into `rows`.
    problems : list of (image_id, message)
        One for each row left out.

    Raises
    ------
    ValueError
        With "fail", one error for all unreadable source images, the first five named. Always: a path outside `root`, a
        crop that is not four fractions, a bad option.
    """
    if on_bad_image not in ("fail", "skip"):
        raise ValueError(f"`on_bad_image` must be 'fail' or 'skip', got {on_bad_image!r}")
    check_geometry(geometry)
    places = [place_of(root, row) for row in rows]
    open_once = functools.lru_cache(maxsize=1)(_open_upright)  # the crops of one source image follow each other
    images = np.empty((len(rows), geometry["crop"], geometry["crop"], 3), np.uint8)
    kept, problems = [], []
    for index, (path, crop) in enumerate(each(places, "source images")):
        try:
            images[len(kept)] = fit_image(cut_out(open_once(path), crop), geometry)
            kept.append(index)
        except ValueError as error:
            problems.append((rows[index]["image_id"], f"{path}: {error}"))
    if problems and on_bad_image == "fail":
        named = "\n".join(f"  image_id {image_id!r}: {message}" for image_id, message in problems[:5])
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError(f"{len(problems)} of {len(rows)} source images cannot be decoded:\n{named}{more}")
    return images[: len(kept)], np.array(kept, dtype=np.int64), problems


def place_of(root: str | Path, row: Mapping[str, str]) -> tuple[Path, tuple[float, ...] | None]:
    """Give the file and the crop of a row; a ValueError is a fault of the sheet, not of the source image."""
    try:
        return inside(root, row["path"], "path"), parse_crop(row.get("crop", ""))
    except ValueError as error:
        raise ValueError(f"image_id {row['image_id']!r}: {error}") from error


def open_image(path: str | Path, formats: Sequence[str]) -> Image.Image:
    """Open what is a file; a ValueError for a pipe, which would wait until something is written to it."""
    kind = Path(path).stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise ValueError("it is a pipe, a socket or a device, not a file")
    return Image.open(path, formats=formats)


def upright_size(path: Path) -> tuple[int, int]:
    """Read the width and height from the header, as they are once the image stands upright; else a ValueError."""
    try:
        with open_image(path, _FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # 5 to 8 lie on their side
            return image.size[::-1] if turned else image.size
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an image ({reason_of(error)})") from error


def _open_upright(path: str | Path) -> Image.Image:
    """Decode a file into an upright 8-bit RGB image; ValueError if that cannot be done."""
    try:
        with open_image(path, _FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except UNREADABLE as error:
        raise ValueError(f"cannot be read as an image ({reason_of(error)})") from error


def reason_of(error: Exception) -> object:
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
