"""How spread a map is and in how many pieces it falls, and how complex a picture is.

Tested against hand-computed maps and scikit-image.
"""

import io

import numpy as np
import torch
from numpy.typing import ArrayLike
from PIL import Image
from scipy import ndimage
from skimage.feature import canny
from torch import Tensor

from unitlens.explainers import masks
from unitlens.jobs import checks

CANNY_SIGMA, CANNY_LOW, CANNY_HIGH = 1.0, 0.1, 0.2  # pixels, and gradients of a picture in [0, 1]
JPEG_QUALITY = 75
IMAGE_MEASURES = ("edge_density", "entropy", "superpixels", "jpeg_bits", "confidence")  # the last of the prediction


# ---- shape of maps


def half_area(saliency: Tensor) -> Tensor:
    """Share of the picture above half of the map's maximum.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w), at least 0
        Saliency maps.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN for a map of zeros.

    Raises
    ------
    ValueError
        If a saliency is NaN or negative.
    """
    share = masks.peak_share_mask(saliency, 0.5).double().mean((-2, -1))
    return share.masked_fill(torch.as_tensor(saliency).amax((-2, -1)) == 0, torch.nan)


def gini(saliency: Tensor) -> Tensor:
    """Gini coefficient of each map's saliency: 0 where it is even, near 1 where few pixels have all.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w), at least 0
        Saliency maps.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN for a map of zeros. See `complexity.gini_coefficient`.

    Raises
    ------
    ValueError
        If a saliency is NaN or negative.
    """
    maps = torch.as_tensor(saliency).flatten(1).double().cpu().numpy()
    return torch.tensor([gini_coefficient(own) for own in maps], dtype=torch.float64)


def untied_mask(saliency: Tensor, fraction: float) -> Tensor:
    """Mark the most salient pixels, about a given share of the picture, without drawing among equals.

    A random draw would break a superpixel, or the zeros around a map, into hundreds of pieces: equals at the cut are
    marked all, but for those at the map's minimum, which are never marked.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w)
        Saliency maps.
    fraction : float
        Share of the pixels to mark; more where equals lie at the cut, fewer where the map's minimum does.

    Returns
    -------
    Tensor, bool, shape (n, h, w)
        Empty for a constant map.

    Raises
    ------
    ValueError
        As `masks.equal_area_mask` does.
    """
    saliency = torch.as_tensor(saliency)
    marked = masks.equal_area_mask(saliency, fraction)
    cut = saliency.masked_fill(~marked, torch.inf).amin((-2, -1), keepdim=True)
    return (saliency >= cut) & (saliency > saliency.amin((-2, -1), keepdim=True))


def connected_components(mask: Tensor) -> Tensor:
    """Count the pieces of each mask; pixels that touch at a side or a corner belong together.

    Parameters
    ----------
    mask : Tensor, bool, shape (n, h, w)
        Masks.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN for an empty mask.
    """
    counts = [ndimage.label(own, structure=np.ones((3, 3)))[1] or np.nan for own in torch.as_tensor(mask).cpu().numpy()]
    return torch.tensor(counts, dtype=torch.float64)


# ---- complexity of photographs


def edge_density(image: np.ndarray) -> float:
    """Share of the pixels that Canny's detector marks as edges.

    Parameters
    ----------
    image : array, uint8, shape (h, w, 3)
        Photograph. Its grey values are taken in [0, 1], smoothed by `CANNY_SIGMA` pixels; hysteresis between
        `CANNY_LOW` and `CANNY_HIGH`.

    Returns
    -------
    float
    """
    edges = canny(to_gray(image) / 255, sigma=CANNY_SIGMA, low_threshold=CANNY_LOW, high_threshold=CANNY_HIGH)
    return float(edges.mean())


def entropy(image: np.ndarray) -> float:
    """Shannon entropy of the grey levels of a picture (h, w, 3) uint8, in bits: 0 for a plain one, at most 8."""
    share = np.bincount(to_gray(image).ravel(), minlength=256) / image[..., 0].size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0  # no minus zero


def jpeg_bits(image: np.ndarray) -> float:
    """Bits per pixel of the picture (h, w, 3) saved as JPEG at `JPEG_QUALITY` by Pillow, headers included."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=JPEG_QUALITY)
    return 8 * len(buffer.getvalue()) / image[..., 0].size


def to_gray(image: np.ndarray) -> np.ndarray:
    """Grey levels (h, w) uint8 of a picture (h, w, 3) uint8, ITU-R 601 luma."""
    return np.asarray(Image.fromarray(image).convert("L"))


def gini_coefficient(counts: ArrayLike) -> float:
    """Gini coefficient: how unevenly `counts` are spread.

    Parameters
    ----------
    counts : array, shape (n,)
        Non-negative numbers.

    Returns
    -------
    float
        0 where all are equal, (n - 1) / n where one has everything; NaN where they sum to 0.

    Raises
    ------
    ValueError
        If a count is negative or not finite.

    Notes
    -----
    With the counts ascending, sum_i (2 i - n - 1) x_i / (n sum_i x_i), i from 1.
    """
    counts = np.sort(checks.finite(counts, "counts"))
    if (counts < 0).any():
        raise ValueError(f"`counts` must not be negative, got {counts[0]}")
    n, total = len(counts), counts.sum()
    if total == 0:
        return np.nan
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total))
