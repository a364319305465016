"""Decode source images into uint8 arrays of one geometry, whatever their mode, depth or orientation.

JPEGs are decoded in full: draft mode would be faster and change the pixels. No torch here, so that a decode job starts
at once.
"""

import contextlib
import errno
import functools
import stat
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from unitlens.images.geometry import check_geometry, cut_out, fit_image
from unitlens.jobs.progress import each
from unitlens.jobs.sheets import AT_ONCE, inside, parse_crop, sides

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # EPS would run Ghostscript

# What Pillow's parsers raise on damaged files, and the causes of an OSError that lie in the file (None: Pillow's own).
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, LookupError, TypeError)
UNREADABLE += (struct.error, Image.DecompressionBombError)
_IN_THE_FILE = (None, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EINVAL, errno.ENAMETOOLONG)
_IN_THE_FILE += (errno.ELOOP,)


_SCALED = ("PPM", "JPEG2000")  # formats whose files say how many bits their values have, which Pillow makes 16 of
_WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation


class Remarks(NamedTuple):
    """What is to be said of source images that were decoded."""

    several: list[str]  # paths of files with several frames or pages, of which the first one is taken
    deep: list[str]  # paths of files of 16 bits
    brightest: int  # the greatest value in these


@dataclass
class Found:
    """What was found in source images that have been decoded so far."""

    kept: list[int] = field(default_factory=list)  # indices of the rows that could be decoded
    problems: list[tuple[str, str]] = field(default_factory=list)  # image_id and message of each of the others
    several: list[str] = field(default_factory=list)
    deep: dict[str, int] = field(default_factory=dict)  # the greatest value in each file of 16 bits

    def remarks(self) -> Remarks:
        """Say what is to be said of the rows that are kept."""
        return Remarks(list(dict.fromkeys(self.several)), list(self.deep), max(self.deep.values(), default=0))


class _Opened(NamedTuple):
    image: Image.Image
    several: bool
    brightest: int | None  # None where it has no 16 bits


def decode_images(
    rows: Sequence[Mapping[str, str]],
    root: str | Path,
    geometry: Mapping,
    *,
    on_bad_image: str = "fail",
    bits: int = 16,
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, str]], Remarks]:
    """Decode the source images of some sheet rows, as from `read_rows`, below the folder `root`.

    Images have any Pillow mode but F; they are turned upright by their EXIF tag and made 8-bit RGB. Transparency is
    composited on white. Each edge of a `crop` is rounded to the nearest pixel
    edge (halves to even), so that adjoining crops adjoin.

    Parameters
    ----------
    geometry
        ``{"fit", "resize", "crop", "interpolation"}`` and perhaps ``gray``. fit "squash": to `resize`, the side of a
        square or height and width, whatever the aspect; "short": the short side to `resize`, the long one in
        proportion, rounded down. Then a center crop of `crop`, likewise a side or two. interpolation: "bilinear" or
        "bicubic", both antialiased as Pillow does. gray: the luminance (ITU-R 601-2) in all three channels.
    on_bad_image
        "fail" raises if a source image cannot be read; "skip" leaves it out and lists it.
    bits
        How many bits the values in files of 16 bits have: cameras and medical devices store 10 to 14 in these. The
        greatest value of so many bits becomes 255. Files that say it themselves are read as they say.

    Returns
    -------
    images : (kept, h, w, 3) uint8
    kept : (kept,) int64
        Indices into `rows`.
    problems : list of (image_id, message)
        One for each row left out.
    remarks : Remarks
        On the rows that are kept.

    Raises
    ------
    ValueError
        With "fail", one error for all unreadable source images, the first five named. Always: a path outside `root`, a
        crop that is not four fractions, a bad option.
    """
    found = Found()
    blocks = list(decode_blocks(rows, root, geometry, found, on_bad_image=on_bad_image, bits=bits, size=len(rows)))
    return blocks[0], np.array(found.kept, dtype=np.int64), found.problems, found.remarks()


def decode_blocks(
    rows: Sequence[Mapping[str, str]],
    root: str | Path,
    geometry: Mapping,
    found: Found,
    *,
    on_bad_image: str = "fail",
    bits: int = 16,
    size: int = AT_ONCE,
) -> Iterator[np.ndarray]:
    """Decode as `decode_images` does, and give the images that are kept `size` at a time; the last may be fewer.

    What else is known of them is added to `found`. A ValueError as of `decode_images`; one for source images that
    cannot be read comes after the last of them.
    """
    if on_bad_image not in ("fail", "skip"):
        raise ValueError(f"`on_bad_image` must be 'fail' or 'skip', got {on_bad_image!r}")
    check_geometry(geometry)
    places = [place_of(root, row) for row in rows]
    open_once = functools.lru_cache(maxsize=1)(_open_upright)  # the crops of one source image follow each other
    shape = (min(size, len(rows)), *sides(geometry["crop"]), 3)
    images, count = np.empty(shape, np.uint8), 0
    for index, (path, crop) in enumerate(each(places, "source images")):
        try:
            opened = open_once(path, bits)
            images[count] = fit_image(cut_out(opened.image, crop), geometry)
            count += 1
            found.kept.append(index)
            found.several += [rows[index]["path"]] if opened.several else []
            found.deep |= {} if opened.brightest is None else {rows[index]["path"]: opened.brightest}
        except ValueError as error:
            found.problems.append((rows[index]["image_id"], f"{path}: {error}"))
        if count == size:
            yield images
            images, count = np.empty(shape, np.uint8), 0
    if found.problems and on_bad_image == "fail":
        named = "\n".join(f"  image_id {image_id!r}: {message}" for image_id, message in found.problems[:5])
        more = f"\n  and {len(found.problems) - 5} more" if len(found.problems) > 5 else ""
        raise ValueError(f"{len(found.problems)} of {len(rows)} source images cannot be decoded:\n{named}{more}")
    yield images[:count]


@contextlib.contextmanager
def pixel_limit(most: int) -> Iterator[None]:
    """Refuse files whose images have more pixels than these, for a small one can fill the memory."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = most // 2  # Pillow refuses twice as many, and warns of more than these
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


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
    image = Image.open(path, formats=formats)
    if image.format == "TIFF":  # Pillow maps one that lies on its side with height for width: without a name it reads
        image.filename = ""
    return image


def upright_size(path: Path) -> tuple[int, int]:
    """Read the width and height from the header, as they are once the image stands upright; else a ValueError."""
    try:
        with open_image(path, _FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)  # these lie on their side
            return image.size[::-1] if turned and image.format != "TIFF" else image.size  # Pillow turns a TIFF's itself
    except UNREADABLE as error:
        raise ValueError(f"{path}: cannot be read as an image ({reason_of(error)})") from error


def _open_upright(path: str | Path, bits: int) -> _Opened:
    """Decode a file into an upright 8-bit RGB image; ValueError if that cannot be done."""
    try:
        with open_image(path, _FORMATS) as image:
            several = _has_frames(image)
            packed = str(image.tile)  # how the values lie in the file; decoding forgets it
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):  # one channel of 16 bits, also as 32
                image, brightest = _from_deep(image, 12 if "I;12" in packed else bits)
                return _Opened(image, several, brightest)
            image = _to_rgb(image)
            return _Opened(image, several, _brightest(image, bits) if ";16" in packed else None)
    except UNREADABLE as error:
        raise ValueError(f"cannot be read as an image ({reason_of(error)})") from error


def reason_of(error: Exception) -> object:
    """Say why a file cannot be read; what does not lie in the file, as a failing disk, is raised again."""
    if isinstance(error, OSError) and error.errno not in _IN_THE_FILE:
        raise error
    if isinstance(error, Image.DecompressionBombError):
        return f"{str(error).partition(', could')[0]}; the key `max_pixels` of the image set allows more"
    return error.strerror if isinstance(error, OSError) and error.strerror else error


def _has_frames(image: Image.Image) -> bool:
    """Tell whether a file has several frames or pages; a damaged later one is one."""
    try:
        return getattr(image, "n_frames", 1) > 1
    except UNREADABLE:
        return True


def _from_deep(image: Image.Image, bits: int) -> tuple[Image.Image, int | None]:
    """Make an RGB image of one channel of so many bits; give its greatest value, too, unless the file scales it."""
    values, bits = np.asarray(image).astype(np.int32), 16 if image.format in _SCALED else bits  # (h, w)
    top = 2**bits - 1
    if values.min() < 0 or values.max() > top:
        named = f"{bits} bits" if bits == 16 else f"the {bits} of `bits`"
        raise ValueError(f"values from {values.min()} to {values.max()}: more than {named}")
    brightest = None if image.format in _SCALED else int(values.max())
    if image.format == "TIFF" and image.tag_v2.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO:
        values = top - values
    return Image.fromarray(((values * 255 + top // 2) // top).astype(np.uint8)).convert("RGB"), brightest


def _brightest(image: Image.Image, bits: int) -> int:
    """Give the greatest value of several channels of 16 bits, of which Pillow keeps the upper 8."""
    if bits != 16:
        raise ValueError("of several channels of 16 bits the upper 8 are read: save it with 8 bits, or without `bits`")
    return 257 * max(high for _, high in image.getextrema())


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("mode F has no fixed range: save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
