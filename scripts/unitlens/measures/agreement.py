"""How far saliency maps agree with each other, image by image.

Functions take one image (h, w) or a batch (n, h, w) of saliency maps unless they say otherwise, and the result of an
image does not depend on its batch. Scores are float64, (n,) or (). Saliency that is NaN, and shapes that differ, are a
ValueError. Tested against hand-computed masks and scipy.stats.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from unitlens.explainers import masks
from unitlens.explainers.masks import equal_area_mask, iou
from unitlens.measures.scales import chance_iou as chance_iou  # for the facade

__all__ = [
    *("chance_iou", "cross_scores", "equal_area_iou", "equal_area_mask", "iou", "peak_distance", "self_iou"),
    *("spearman", "tied_share"),
]


def equal_area_iou(
    a: Tensor, b: Tensor, fraction: float, *, seeds: tuple[int | Sequence[int], int | Sequence[int]] = (0, 1)
) -> Tensor:
    """Intersection over union of two saliency maps, (n, h, w) or (h, w), cut to the same share of their pixels.

    `seeds` are as `seed` of `equal_area_mask`, for `a` and for `b`: with equal ones, ties would agree more than by
    chance. Gives float64 (n,) or (); `chance_iou` is what unrelated maps score.
    """
    return iou(equal_area_mask(a, fraction, seed=seeds[0]), equal_area_mask(b, fraction, seed=seeds[1]))


def tied_share(saliency: Tensor, fraction: float) -> Tensor:
    """Share (n,) of the pixels of `equal_area_mask` of (n, h, w) that the random order chose among equals.

    0 where no tie crosses the cut, 1 for a constant map.
    """
    area, chosen, tied = _ties(saliency, fraction)
    return (chosen / area).where(chosen < tied, 0.0)


def self_iou(saliency: Tensor, fraction: float) -> Tensor:
    """Intersection over union (n,) of maps (n, h, w) with themselves, cut twice with ties in another random order.

    The ceiling of agreement at this cut: whatever the other map, ties cost as much. Of `area` marked pixels, `chosen`
    are taken from `tied` equal ones, of which chosen^2 / tied are expected in both masks. 1 where no tie crosses.
    """
    area, chosen, tied = _ties(saliency, fraction)
    both = area - chosen + chosen**2 / tied
    return both / (2 * area - both)


def _ties(saliency: Tensor, fraction: float) -> tuple[int, Tensor, Tensor]:
    """Pixels of a mask, and (n,) how many of them are chosen from among how many equal ones."""
    pixels, batch = masks.as_pixels(saliency)
    area = masks.area_in_pixels(pixels, fraction)
    cut = pixels.topk(area, dim=1).values[:, -1:]  # the least salient marked pixel
    chosen, tied = area - (pixels > cut).sum(1), (pixels == cut).sum(1)
    return area, *(count.double().view(batch[:-2]) for count in (chosen, tied))


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation (n,) of maps (n, h, w) over their pixels, equal pixels sharing their average rank.

    NaN where a map is constant.
    """
    batch = masks.same_shape(a, b)
    ranks_a, ranks_b = _centered_ranks(a), _centered_ranks(b)
    scale = ((ranks_a**2).sum(1) * (ranks_b**2).sum(1)).sqrt()
    return ((ranks_a * ranks_b).sum(1) / scale).view(batch[:-2])


def peak_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance in pixels, (n,), between the peaks of saliency maps (n, h, w).

    The peak is the mean position of the pixels at the maximum, the middle of a superpixel for instance. NaN where a map
    is constant: it has no peak.
    """
    batch = masks.same_shape(a, b)
    return (_peak(a) - _peak(b)).norm(dim=1).view(batch[:-2])


def score_block(
    maps: Mapping[str, Tensor], seeds: Mapping[str, Sequence[int]], *, areas: Sequence[float], threshold: float
) -> dict[tuple[str, str, str, float | None], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Score every two explainers on some images: for each pair, measure and cut the values, tied shares and ceilings.

    The ceiling is the lower `self_iou` of the two maps.
    """
    cuts = {  # masks, share decided by ties, ceiling
        (name, area): (equal_area_mask(own, area, seed=seeds[name]), tied_share(own, area), self_iou(own, area))
        for name, own in maps.items()
        for area in areas
    }
    high = {name: masks.peak_share_mask(own, threshold) for name, own in maps.items()}
    diagonal = np.hypot(*next(iter(maps.values())).shape[-2:])
    scores = {}
    for a, b in combinations(maps, 2):
        for area in areas:
            (mask_a, tied_a, self_a), (mask_b, tied_b, self_b) = cuts[a, area], cuts[b, area]
            limits = torch.maximum(tied_a, tied_b).numpy(), torch.minimum(self_a, self_b).numpy()
            scores[a, b, "equal_area_iou", area] = iou(mask_a, mask_b).numpy(), *limits
        distance = peak_distance(maps[a], maps[b]).numpy()
        values = {
            ("threshold_iou", threshold): iou(high[a], high[b]).numpy(),
            ("spearman", None): spearman(maps[a], maps[b]).numpy(),
            ("peak_distance", None): distance / diagonal,
            ("peak_distance_pixels", None): distance,
        }
        for key, value in values.items():
            scores[a, b, *key] = value, *np.full((2, len(value)), np.nan)
    return scores


def cross_scores(
    maps: Mapping[str, Tensor], seeds: Mapping[str, Sequence[int]], *, areas: Sequence[float], threshold: float
) -> dict[tuple[str, str, str, float | None], np.ndarray]:
    """Score the maps of one explainer with those of another on all images: (n, n) for each pair, measure and cut.

    Rows are the images of the first explainer, columns those of the second; `maps` are (n, h, w) by explainer, each
    with `seeds` of its ties. The diagonal is what `score_block` gives; the rest tells what maps of *different* images
    score, which is the chance that agreement must exceed.
    """
    diagonal = np.hypot(*next(iter(maps.values())).shape[-2:])
    scores = {}
    for area in areas:
        cut = {name: equal_area_mask(own, area, seed=seeds[name]) for name, own in maps.items()}
        scores |= {(a, b, "equal_area_iou", area): _cross_iou(cut[a], cut[b]) for a, b in combinations(maps, 2)}
    high = {name: masks.peak_share_mask(own, threshold) for name, own in maps.items()}
    ranks = {name: _centered_ranks(own) for name, own in maps.items()}
    ranks = {name: own / own.norm(dim=1, keepdim=True) for name, own in ranks.items()}
    peaks = {name: _peak(own) for name, own in maps.items()}
    for a, b in combinations(maps, 2):
        distance = torch.cdist(peaks[a], peaks[b], compute_mode="donot_use_mm_for_euclid_dist").numpy()
        scores[a, b, "threshold_iou", threshold] = _cross_iou(high[a], high[b])
        scores[a, b, "spearman", None] = (ranks[a] @ ranks[b].T).numpy()
        scores[a, b, "peak_distance", None] = distance / diagonal
        scores[a, b, "peak_distance_pixels", None] = distance
    return scores


def _cross_iou(a: Tensor, b: Tensor) -> np.ndarray:
    """Intersection over union (n, m) of each mask (n, h, w) with each of (m, h, w); NaN where both are empty."""
    a, b = a.flatten(1).float(), b.flatten(1).float()
    both = (a @ b.T).double()
    return (both / (a.sum(1)[:, None] + b.sum(1) - both)).numpy()


def _centered_ranks(saliency: Tensor) -> Tensor:
    """Average ranks less their mean, (n, h * w)."""
    pixels, _ = masks.as_pixels(saliency)
    ascending = pixels.sort(dim=1).values
    below = torch.searchsorted(ascending, pixels)
    up_to = torch.searchsorted(ascending, pixels, right=True)
    return (below + up_to).double() / 2 - pixels.shape[1] / 2


def _peak(saliency: Tensor) -> Tensor:
    """Row and column of the peak of each map, (n, 2)."""
    pixels, shape = masks.as_pixels(saliency)
    highest = pixels.amax(1, keepdim=True)
    at_peak = (pixels == highest).double().masked_fill(highest == pixels.amin(1, keepdim=True), torch.nan)
    grid = torch.cartesian_prod(*(torch.arange(size, dtype=torch.float64) for size in shape[-2:])).to(pixels.device)
    return at_peak @ grid / at_peak.sum(1, keepdim=True)  # (n, h * w) @ (h * w, 2)
