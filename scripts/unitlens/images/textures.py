"""Images of colors and patterns with exact label maps, drawn from a seed: annotations without a download or a license.

An image has two to four regions, the nearest ones of random points; each is filled with two of eleven colors in one of
nine patterns of random scale and angle. What an image shows depends on the seed and its own number only, so that a
longer set begins with the shorter one.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from unitlens.jobs.progress import each
from unitlens.storage.kept import keep_folder

__all__ = ["COLORS", "PATTERNS", "WORDS", "generate"]
COLORS = {
    "red": (205, 35, 35),
    "orange": (245, 135, 25),
    "yellow": (240, 220, 50),
    "green": (45, 150, 60),
    "blue": (35, 75, 195),
    "purple": (120, 45, 155),
    "pink": (245, 150, 190),
    "brown": (115, 70, 35),
    "black": (18, 18, 18),
    "white": (242, 242, 242),
    "gray": (128, 128, 128),
}
FOLDER = "textures"  # below that of the image set
MAP_ENDINGS = ("_color.png", "_pattern.png")  # of the files of an image's label maps
_PERIODS = (1 / 30, 1 / 8)  # of a pattern, as a share of the image's side
_SMALLEST = 16  # pixels
_JITTER, _NOISE = 14, 5  # standard deviations, of 255, of a region's color and of a pixel
_BLUR = 1 / 350  # radius, as a share of the image's side

Coordinates = np.ndarray  # (h, w), in periods from the middle of the region, along or across the pattern
Smooth = Callable[[float], np.ndarray]  # smooth noise, (h, w), with so many grains a period

# where the second of a region's colors is
PATTERNS: dict[str, Callable[[Coordinates, Coordinates, Smooth], np.ndarray]] = {
    "plain": lambda u, v, smooth: np.zeros(u.shape, dtype=bool),
    "striped": lambda u, v, smooth: u % 1 < 0.5,
    "checkered": lambda u, v, smooth: (np.floor(2 * u) + np.floor(2 * v)) % 2 == 1,
    "dotted": lambda u, v, smooth: np.hypot(u % 1 - 0.5, v % 1 - 0.5) < 0.3,
    "grid": lambda u, v, smooth: (u % 1 < 0.2) | (v % 1 < 0.2),
    "zigzag": lambda u, v, smooth: (u + np.abs(2 * (v / 2 % 1) - 1)) % 1 < 0.5,
    "speckled": lambda u, v, smooth: (noise := smooth(3)) > np.quantile(noise, 0.75),
    "marbled": lambda u, v, smooth: (u / 2 + smooth(0.5)) % 1 < 0.5,
    "concentric": lambda u, v, smooth: np.hypot(u, v) % 1 < 0.5,
}

WORDS = (*((word, "color") for word in COLORS), *((word, "texture") for word in PATTERNS))  # of the values from 1 on


def generate(n: int, *, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images of colors and patterns, and their label maps.

    Parameters
    ----------
    n : int
        How many; image i is the same whatever their number.
    size : int
        Side of the images in pixels, at least 16.
    seed : int
        What all of them are drawn from.

    Returns
    -------
    images : array of uint8, shape (n, size, size, 3)
    label maps : array of uint8, shape (n, 2, size, size)
        The color of each pixel and the pattern of its region: a place in `WORDS`, counted from 1.

    Raises
    ------
    ValueError
        If `n` is below 0, or `size` so small that no pattern can be told.
    """
    if n < 0 or size < _SMALLEST:
        raise ValueError(f"`n` must be at least 0 and `size` at least {_SMALLEST} pixels, got {n} and {size}")
    images, maps = np.empty((n, size, size, 3), np.uint8), np.empty((n, 2, size, size), np.uint8)
    for number in range(n):
        images[number], maps[number] = _draw(size, np.random.default_rng([seed, number]))
    return images, maps


def write_images(folder: str | Path, n: int, *, size: int, seed: int) -> None:
    """Write the images and label maps of `generate` as PNG files into a new folder."""
    root = Path(folder)
    root.mkdir()
    for number in each(range(n), "images"):
        image, maps = _draw(size, np.random.default_rng([seed, number]))
        name = f"texture_{number:05d}"
        Image.fromarray(image).save(root / f"{name}.png", compress_level=1)
        for ending, values in zip(MAP_ENDINGS, maps, strict=True):
            Image.fromarray(values).save(root / f"{name}{ending}")


def draw_images(
    store: str | Path, kind: str, *, size: int | None, pixels: int | None, seed: int | None
) -> tuple[Path, list[dict[str, object]]] | None:
    """Draw a set that is generated, so many images (`size`) of such a side, into a folder of `store`.

    The folder and the settings are given as by `fetch.fetch_images`; None for other kinds.
    """
    if kind != "textures":
        return None
    Path(store).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store) as folder:
        write_images(Path(folder) / FOLDER, size, size=pixels, seed=seed)
        return keep_folder(folder, store), [{"kind": kind, "size": size, "pixels": pixels, "seed": seed}]


def written(folder: str | Path) -> list[str]:
    """Name the images that `write_images` left in a folder, in their order."""
    names = sorted(path.name for path in Path(folder).glob("*.png"))
    return [name.removesuffix(".png") for name in names if not name.endswith(MAP_ENDINGS)]


def _draw(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image (size, size, 3) and its label maps (2, size, size)."""
    y, x = np.mgrid[:size, :size] + 0.5
    middles = rng.uniform(0, size, (rng.integers(2, 5), 2))  # (regions, 2): y, x
    region = np.hypot(*(np.stack([y, x])[:, None] - middles.T[:, :, None, None])).argmin(0)
    image, maps = np.empty((size, size, 3)), np.empty((2, size, size), np.uint8)
    for number, (top, left) in enumerate(middles):
        here = region == number
        filled, labels = _fill(y - top, x - left, rng)
        image[here], maps[:, here] = filled[here], labels[:, here]
    drawn = Image.fromarray(image.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(_BLUR * size))
    return (np.asarray(drawn) + rng.normal(0, _NOISE, image.shape)).clip(0, 255).astype(np.uint8), maps


def _fill(y: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fill a whole image, by pixels (size, size) from the middle of a region: (size, size, 3) and (2, size, size)."""
    size = len(y)
    pair, pattern = rng.choice(len(COLORS), 2, replace=False), int(rng.integers(len(PATTERNS)))
    period, angle = size * np.exp(rng.uniform(*np.log(_PERIODS))), rng.uniform(0, np.pi)
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)

    def smooth(grains: float) -> np.ndarray:
        return _smooth_noise(size, grains * size / period, rng)

    second = list(PATTERNS.values())[pattern](along / period, across / period, smooth)
    color = pair[second.astype(int)]  # (size, size)
    shades = np.array(list(COLORS.values()))[pair] + rng.normal(0, _JITTER, (2, 3))
    return shades[second.astype(int)], np.stack([1 + color, np.full_like(color, 1 + len(COLORS) + pattern)])


def _smooth_noise(size: int, grains: float, rng: np.random.Generator) -> np.ndarray:
    """Make noise of about unit variance, (size, size), with so many grains a side."""
    coarse = rng.standard_normal((min(max(round(grains), 2), size),) * 2).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
