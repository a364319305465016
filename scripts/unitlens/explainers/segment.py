"""Superpixels: quickshift on any device, SLIC and Felzenszwalb through scikit-image, a grid, label maps from outside.

Quickshift is Vedaldi and Soatto, "Quick Shift and Kernel Methods for Mode Seeking" (ECCV 2008); the labels are tested
to equal those of `skimage.segmentation.quickshift`. Every function takes images (n, h, w, 3) uint8, RGB, and returns
labels (n, h, w) int64 on their device that are dense from 0 in each image, because LIME hides superpixel number i with
column i of its design. Other images, and options out of range, are a ValueError.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from skimage import color, segmentation
from torch import Tensor

from unitlens.explainers import items
from unitlens.storage.arrays import as_texts

__all__ = [
    "SUPERPIXELS",
    "felzenszwalb",
    "given_superpixels",
    "grid",
    "quickshift",
    "relabel",
    "slic",
    "superpixels_of",
]

# Pixels that quickshift handles at once: on a CPU about one image, so that its arrays stay in the cache.
_PIXELS_AT_ONCE_ON_CPU = 2**16
_PIXELS_AT_ONCE_ON_ACCELERATOR = 2**21
_NEAR = 3  # half-width of the window that is searched for all pixels; few have their parent further away
_PAIRS_AT_ONCE = 2**20


def quickshift(
    images: torch.Tensor,
    *,
    kernel_size: float = 4,
    max_dist: float = 200,
    ratio: float = 0.2,
    seed: int = 42,
) -> torch.Tensor:
    """Link every pixel to its nearest neighbor of higher density; the trees are the superpixels.

    Parameters
    ----------
    images : torch.Tensor
        (n, h, w, 3) uint8, RGB.
    kernel_size : float
        Standard deviation, in pixels, of the Gaussian that estimates the density; at least 1.
    max_dist : float
        Longest link, in the joint space of position (pixels) and `ratio` times Lab color, finite. At the other
        defaults values above about 55 change nothing.
    ratio : float
        Weight of color against position.
    seed : int
        Seed of the noise that breaks ties between equal densities; the same noise for every image of one size.

    Notes
    -----
    With x = (ratio Lab, row, column) the density of pixel p is noise_p + sum_q exp(-|x_p - x_q|^2 / (2 kernel_size^2))
    over the square window of half-width ceil(3 kernel_size). The parent of p is the nearest q of that window with a
    higher density. Distances are summed in scikit-image's order, so that they are equal to the last bit. All in
    float64: in float32 the labels differ. What is out of range is a ValueError.
    """
    images = checked_images(images)
    if kernel_size < 1:
        raise ValueError(f"`kernel_size` is {kernel_size}; allowed: 1 or more")
    if not 0 <= max_dist < math.inf:
        raise ValueError(f"`max_dist` is {max_dist}; allowed: 0 or more, finite")
    at_once = _PIXELS_AT_ONCE_ON_CPU if images.device.type == "cpu" else _PIXELS_AT_ONCE_ON_ACCELERATOR
    chunks = images.split(max(1, at_once // images[0, ..., 0].numel()))
    return torch.cat([_quickshift(chunk, kernel_size, max_dist, ratio, seed) for chunk in chunks])


def slic(images: torch.Tensor, *, n_segments: int = 100, compactness: float = 10.0, sigma: float = 0.0) -> torch.Tensor:
    """Cluster pixels of images (n, h, w, 3) by color and position with scikit-image's SLIC, on the CPU.

    About `n_segments` superpixels an image; `compactness` weighs position against color, and a Gaussian of standard
    deviation `sigma`, in pixels, smooths the image first. Achanta et al., "SLIC Superpixels Compared to
    State-of-the-art Superpixel Methods", TPAMI 2012.
    """
    return _each(images, lambda image: segmentation.slic(image, n_segments, compactness, sigma=sigma))


def felzenszwalb(images: torch.Tensor, *, scale: float = 1.0, sigma: float = 0.8, min_size: int = 20) -> torch.Tensor:
    """Merge pixels of images (n, h, w, 3) along a minimum spanning tree with scikit-image's `felzenszwalb`, on the CPU.

    A higher `scale` means fewer and larger superpixels, of at least `min_size` pixels; a Gaussian of standard deviation
    `sigma`, in pixels, smooths the image first. Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image
    Segmentation", IJCV 2004.
    """
    return _each(images, lambda image: segmentation.felzenszwalb(image, scale=scale, sigma=sigma, min_size=min_size))


def grid(images: torch.Tensor, *, size: int) -> torch.Tensor:
    """Cut every image (n, h, w, 3) into squares of `size` pixels a side, numbered row by row.

    The last row and column may be narrower. ValueError if `size` is below 1.
    """
    images = checked_images(images)
    if size < 1:
        raise ValueError(f"`size` is {size}; allowed: 1 pixel or more")
    n, h, w, _ = images.shape
    row = torch.arange(h, device=images.device) // size
    column = torch.arange(w, device=images.device) // size
    return (row[:, None] * math.ceil(w / size) + column).repeat(n, 1, 1)


def relabel(labels: torch.Tensor, *, shape: tuple[int, int, int] | None = None) -> torch.Tensor:
    """Renumber the superpixels of each image 0, 1, 2, ... in the order of their labels: the way in for label maps.

    Of labels (n, h, w), integers of any kind and range, negative ones and gaps included. ValueError where their shape
    is not `shape`, that of the images; TypeError where they are no integers.
    """
    labels = torch.as_tensor(labels)
    if labels.dtype.is_floating_point or labels.dtype.is_complex or labels.dtype == torch.bool:
        raise TypeError(f"`labels` are {labels.dtype}; allowed: integers, one number per superpixel")
    if labels.ndim != 3 or 0 in labels.shape:
        raise ValueError(f"`labels` have shape {tuple(labels.shape)}; allowed: (n, h, w), none of them 0")
    if shape is not None and tuple(labels.shape) != tuple(shape):
        raise ValueError(f"`labels` have shape {tuple(labels.shape)}; allowed: {tuple(shape)}, that of the images")
    return torch.stack([torch.unique(image, return_inverse=True)[1] for image in labels])


def checked_images(images: torch.Tensor) -> torch.Tensor:
    """Give images as a tensor; ValueError unless it is uint8 (n, h, w, 3) and not empty."""
    images = torch.as_tensor(images)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(f"`images` are {images.dtype} {tuple(images.shape)}; allowed: uint8 (n, h, w, 3), no size 0")
    return images


def _each(images: torch.Tensor, label: Callable[[np.ndarray], np.ndarray]) -> torch.Tensor:
    images = checked_images(images)
    labels = np.stack([label(image) for image in images.cpu().numpy()])
    return relabel(torch.as_tensor(labels).to(images.device))


def _quickshift(
    images: torch.Tensor, kernel_size: float, max_dist: float, ratio: float, seed: int
) -> torch.Tensor:  # (n, h, w)
    lab = np.stack([color.rgb2lab(image) for image in images.cpu().numpy()]) * ratio
    lab = torch.as_tensor(lab, device=images.device).permute(0, 3, 1, 2)  # (n, 3, h, w)
    radius = math.ceil(3 * kernel_size)
    # Infinitely distant colors beyond the border keep it out of every sum; its density keeps it out of every search.
    lab = torch.nn.functional.pad(lab, [radius] * 4, value=torch.inf)
    density = torch.nn.functional.pad(_density(lab, radius, kernel_size, seed), [radius] * 4, value=-torch.inf)
    nearest, step = _search_near(lab, density, radius)
    if radius > _NEAR:
        _search_far(lab, density, radius, nearest, step)
    return _trees(step.masked_fill_(nearest.sqrt() > max_dist, 0))


def _density(lab: torch.Tensor, radius: int, kernel_size: float, seed: int) -> torch.Tensor:  # (n, h, w)
    padded = lab.new_zeros(lab[:, 0].shape)
    density = _moved(padded, radius, 0, 0)
    noise = np.random.default_rng(seed).normal(scale=1e-5, size=density.shape[1:])
    density += torch.as_tensor(noise, device=lab.device) + 1  # the 1 is the pixel's own kernel
    for row, column in _window(radius):
        if (row, column) > (0, 0):  # each pair of pixels once, its kernel added to both
            kernel = _squared_distance(lab, radius, row, column).mul_(-0.5 / kernel_size**2).exp_()
            density += kernel
            _moved(padded, radius, row, column).add_(kernel)
    return density


def _search_near(lab: torch.Tensor, density: torch.Tensor, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each pixel's squared distance to its parent and the step there in the flattened image, both (n, h, w)."""
    own = _moved(density, radius, 0, 0)
    nearest = torch.full_like(own, torch.inf)
    step = torch.zeros_like(own, dtype=torch.int64)
    for row, column in _window(min(_NEAR, radius)):
        higher = _moved(density, radius, row, column) > own
        distance = _squared_distance(lab, radius, row, column).masked_fill_(~higher, torch.inf)
        step.masked_fill_(distance < nearest, row * own.shape[2] + column)
        torch.minimum(nearest, distance, out=nearest)
    return nearest, step


def _search_far(
    lab: torch.Tensor, density: torch.Tensor, radius: int, nearest: torch.Tensor, step: torch.Tensor
) -> None:
    """Search the whole window again, in place, for the pixels whose parent may lie outside the near one."""
    window = torch.tensor(_window(radius), device=lab.device)
    row, column = window.unbind(1)
    jump = row * density.shape[2] + column  # in the flattened padded image
    pixels = (nearest >= (_NEAR + 1) ** 2).nonzero()  # (m, 3): image, row, column
    for image, r, c in (chunk.unbind(1) for chunk in pixels.split(max(1, _PAIRS_AT_ONCE // len(window)))):
        here = (r + radius) * density.shape[2] + c + radius
        there = here[:, None] + jump  # (m, window)
        squares = [
            (flat[image, here][:, None] - flat[image[:, None], there]).square_() for flat in lab.flatten(2).unbind(1)
        ]
        distance = squares[0].add_(squares[1]).add_(squares[2]).add_(row**2).add_(column**2)
        heights = density.flatten(1)
        higher = heights[image[:, None], there] > heights[image, here][:, None]
        parent = distance.masked_fill_(~higher, torch.inf).argmin(1)  # the first one where several are as near
        nearest[image, r, c] = distance.gather(1, parent[:, None])[:, 0]
        step[image, r, c] = row[parent] * step.shape[2] + column[parent]


def _trees(step: torch.Tensor) -> torch.Tensor:
    n, h, w = step.shape
    pixel = torch.arange(h * w, device=step.device)
    parent = pixel + step.flatten(1)  # (n, h w)
    while not torch.equal(grandparent := parent.gather(1, parent), parent):
        parent = grandparent
    rank_of_root = (parent == pixel).cumsum(1) - 1
    return rank_of_root.gather(1, parent).view(n, h, w)


def _window(radius: int) -> list[tuple[int, int]]:
    span = range(-radius, radius + 1)
    return [(row, column) for row in span for column in span]


def _moved(padded: torch.Tensor, radius: int, row: int, column: int) -> torch.Tensor:
    """Return the view of (..., h + 2 radius, w + 2 radius) in which pixel p is the pixel at p + (row, column)."""
    height, width = padded.shape[-2:]
    return padded[..., radius + row : height - radius + row, radius + column : width - radius + column]


def _squared_distance(lab: torch.Tensor, radius: int, row: int, column: int) -> torch.Tensor:
    """Return |x_p - x_q|^2 for q = p + (row, column), (n, h, w), added in scikit-image's order."""
    difference = _moved(lab, radius, 0, 0) - _moved(lab, radius, row, column)
    first, second, third = difference.square_().unbind(1)
    return first.add_(second).add_(third).add_(row**2).add_(column**2)


SUPERPIXELS = {"quickshift": quickshift, "slic": slic, "felzenszwalb": felzenszwalb, "grid": grid}


def superpixels_of(
    images: Tensor,
    image_ids: Sequence[str],
    superpixels: Mapping[str, object],
    given: Mapping[str, np.ndarray] | None = None,
) -> tuple[Tensor, dict[int, str]]:
    """Segment images (n, h, w, 3), or take the label maps that the user gave for them.

    `superpixels` holds the ``method``, "given" or a key of `SUPERPIXELS`, and its options; `given` is of
    `given_superpixels`. Gives segments (n, h, w) int64 and, for the method "given", the numbers of the images without
    a map, whose segments are 0, with the reason.
    """
    options = {key: value for key, value in superpixels.items() if key != "method"}
    if superpixels["method"] != "given":
        return SUPERPIXELS[superpixels["method"]](images, **options), {}
    given, nothing = given or {}, np.zeros(images.shape[1:3], dtype=np.int64)
    absent = [place for place, image_id in enumerate(image_ids) if image_id not in given]
    maps = np.stack([given.get(image_id, nothing) for image_id in image_ids])
    segments = relabel(torch.as_tensor(maps.astype(np.int64)), shape=tuple(images.shape[:3]))
    return segments.to(images.device), dict.fromkeys(absent, items.NO_LABEL_MAP)


def superpixel_counts(segments: Tensor, absent: Iterable[int] = ()) -> Tensor:
    """Count the superpixels (n,) of each image with segments (n, h, w); those that are `absent` have none."""
    counts = segments.flatten(1).amax(1) + 1
    counts[list(absent)] = 0
    return counts


def given_superpixels(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Collect the label maps of a decoded shard by image id: those of rows that mark anything."""
    if "superpixels" not in images:
        return {}
    pairs = zip(as_texts(images["image_id"]), images["superpixels"], strict=True)
    return {image_id: labels for image_id, labels in pairs if labels.any()}
