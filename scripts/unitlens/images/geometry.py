"""Resize, crop and boxes: which pixels an image keeps, and which of them a box covers.

The geometry gives exactly the pixels of torchvision's Resize and CenterCrop on PIL images, tested against them. No
torch here, so that a decode job starts at once.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from unitlens.jobs.sheets import sides

FITS = ("squash", "short")
_MOST_PIXELS = 2**26  # of a resized image
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def box_pixels(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mark the pixels (n, height, width) of boxes: those whose centers lie inside, the left and top edge included.

    A `box` (n, 4) is left, top, right and bottom in pixels. Two boxes that share an edge share no pixel. Nothing is
    marked for a box of NaN, one outside the image, or one so small that it holds no center.
    """
    left, top, right, bottom = np.asarray(box).T[..., None]  # (n, 1) each
    rows, columns = (np.arange(side) + 0.5 for side in size)
    inside = (top <= rows) & (rows < bottom), (left <= columns) & (columns < right)  # (n, height), (n, width)
    return inside[0][:, :, None] & inside[1][:, None]


def check_geometry(geometry: Mapping) -> None:
    """Raise a ValueError unless a geometry is one that can be made."""
    allowed = f"fit in {FITS}, crop <= resize (pixels; height and width where fit is squash), gray (True or False)"
    keys = {"fit", "resize", "crop", "interpolation"}
    if (
        not keys <= set(geometry) <= keys | {"gray"}
        or geometry["fit"] not in FITS
        or geometry["interpolation"] not in INTERPOLATIONS
        or not all(type(side) is int for key in ("resize", "crop") for side in sides(geometry[key]))
        or not all(0 < crop <= resize for crop, resize in zip(*map(sides, _sizes(geometry)), strict=True))
        or (geometry["fit"] == "short" and len(set(sides(geometry["resize"]))) > 1)
    ):
        raise ValueError(f"`geometry` must have {allowed} and interpolation in {tuple(INTERPOLATIONS)}; got {geometry}")


def _sizes(geometry: Mapping) -> tuple[int | Sequence[int], int | Sequence[int]]:
    return geometry["crop"], geometry["resize"]


def cut_out(image: Image.Image, crop: tuple[float, ...] | None) -> Image.Image:
    """Cut a crop, in pixels or shares of the image, out of it."""
    return image if crop is None else image.crop(_crop_edges(image.size, crop))


def _crop_edges(size: tuple[int, int], crop: tuple[float, ...] | None) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a crop in pixels of the source image."""
    width, height = size
    if crop is None:
        return 0, 0, width, height
    edges = round(crop[0] * width), round(crop[1] * height), round(crop[2] * width), round(crop[3] * height)
    if edges[0] == edges[2] or edges[1] == edges[3]:
        raise ValueError(f"`crop` {crop} is empty in an image of {width} x {height} pixels")
    return edges


def fit_image(image: Image.Image, geometry: Mapping) -> np.ndarray:
    """Bring an RGB image to a geometry: (h, w, 3) uint8; of a gray one the channels are equal."""
    image = image.convert("L").convert("RGB") if geometry.get("gray") else image
    size, edges = _resized(image.size, geometry)
    resized = image.resize(size, INTERPOLATIONS[geometry["interpolation"]])
    return np.asarray(resized.crop(edges))  # (h, w, 3)


def _resized(size: tuple[int, int], geometry: Mapping) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Width and height after resizing, and the edges of the center crop in it."""
    height, width = sides(geometry["resize"])
    if geometry["fit"] == "short":
        long = int(width * max(size) / min(size))
        width, height = (width, long) if size[0] <= size[1] else (long, height)
    if width * height > _MOST_PIXELS:
        raise ValueError(f"{size[0]} x {size[1]} pixels would become {width} x {height}: too elongated")
    high, wide = sides(geometry["crop"])
    left, top = round((width - wide) / 2), round((height - high) / 2)  # halves to even, as torchvision does
    return (width, height), (left, top, left + wide, top + high)


def fit_box(
    box: tuple[float, ...], size: tuple[int, int], crop: tuple[float, ...] | None, geometry: Mapping
) -> np.ndarray:
    """Give a box in pixels of the geometry, (4,), NaN where nothing of it is left."""
    left, top, right, bottom = _crop_edges(size, crop)
    (width, height), (x, y, _, _) = _resized((right - left, bottom - top), geometry)
    scale = np.array([width / (right - left), height / (bottom - top)] * 2)
    pixels = np.array(box) * [*size, *size] - [left, top, left, top]
    high, wide = sides(geometry["crop"])
    edges = np.clip(pixels * scale - [x, y, x, y], 0, [wide, high, wide, high])
    return edges if (edges[:2] < edges[2:]).all() else np.full(4, np.nan)


def fit_map(values: Image.Image, crop: tuple[float, ...] | None, geometry: Mapping) -> np.ndarray:
    """Bring a label map into the geometry, (h, w)."""
    cut = cut_out(values, crop)
    size, edges = _resized(cut.size, geometry)
    return np.asarray(cut.resize(size, Image.Resampling.NEAREST).crop(edges))
