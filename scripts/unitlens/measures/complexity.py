"""How spread a map is and in how many pieces it falls, and how complex an image is.

Measures of maps take saliency (n, h, w), NaN being a ValueError, and give float64 (n,). Tested against hand-computed
maps and scikit-image.
"""

import io

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from skimage.feature import canny
from torch import Tensor

from unitlens.explainers import masks
from unitlens.measures.scales import gini_coefficient

CANNY_SIGMA, CANNY_LOW, CANNY_HIGH = 1.0, 0.1, 0.2  # pixels, and gradients of an image in [0, 1]
JPEG_QUALITY = 75


# ---- shape of maps


def half_area(saliency: Tensor) -> Tensor:
    """Share of the image above half of the maximum of each map (n, h, w), at least 0; NaN for a map of zeros."""
    share = masks.peak_share_mask(saliency, 0.5).double().mean((-2, -1))
    return share.masked_fill(torch.as_tensor(saliency).amax((-2, -1)) == 0, torch.nan)


def gini(saliency: Tensor) -> Tensor:
    """Gini coefficient of each map (n, h, w): 0 where it is even, near 1 where few pixels have all, NaN for zeros."""
    maps = torch.as_tensor(saliency).flatten(1).double().cpu().numpy()
    return torch.tensor([gini_coefficient(own) for own in maps], dtype=torch.float64)


def untied_mask(saliency: Tensor, fraction: float) -> Tensor:
    """Mark the most salient pixels of (n, h, w), about a share of the image, without drawing among equals.

    A random draw would break a superpixel, or the zeros around a map, into hundreds of pieces: equals at the cut are
    marked all, but for those at the map's minimum, which are never marked. Empty for a constant map.
    """
    saliency = torch.as_tensor(saliency)
    marked = masks.equal_area_mask(saliency, fraction)
    cut = saliency.masked_fill(~marked, torch.inf).amin((-2, -1), keepdim=True)
    return (saliency >= cut) & (saliency > saliency.amin((-2, -1), keepdim=True))


def connected_components(mask: Tensor) -> Tensor:
    """Count the pieces of each mask (n, h, w), NaN for an empty one; pixels that touch at a corner belong together."""
    counts = [ndimage.label(own, structure=np.ones((3, 3)))[1] or np.nan for own in torch.as_tensor(mask).cpu().numpy()]
    return torch.tensor(counts, dtype=torch.float64)


# ---- complexity of source images


def edge_density(image: np.ndarray) -> float:
    """Share of the pixels of a source image (h, w, 3) uint8 that Canny's detector marks as edges of its gray levels."""
    edges = canny(to_gray(image) / 255, sigma=CANNY_SIGMA, low_threshold=CANNY_LOW, high_threshold=CANNY_HIGH)
    return float(edges.mean())


def entropy(image: np.ndarray) -> float:
    """Shannon entropy of the gray levels of an image (h, w, 3) uint8, in bits: 0 for a plain one, at most 8."""
    share = np.bincount(to_gray(image).ravel(), minlength=256) / image[..., 0].size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0  # no minus zero


def jpeg_bits(image: np.ndarray) -> float:
    """Bits per pixel of the image (h, w, 3) saved as JPEG at `JPEG_QUALITY` by Pillow, headers included."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=JPEG_QUALITY)
    return 8 * len(buffer.getvalue()) / image[..., 0].size


def to_gray(image: np.ndarray) -> np.ndarray:
    """Gray levels (h, w) uint8 of an image (h, w, 3) uint8, ITU-R 601 luma."""
    return np.asarray(Image.fromarray(image).convert("L"))
