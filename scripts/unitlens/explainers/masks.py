"""Cut saliency maps to masks of equal area, and compare masks.

Maps are cut at equal area, with ties broken at random: broken by index, the many zeros of two sparse maps would make
them agree (two disjoint 5 % maps cut at 20 % score 0.60 by index, 0.106 at random, chance 0.111). Functions
take one image (h, w) or a batch (n, h, w) unless they say otherwise, and an image's result does not depend on its
batch. A saliency that is NaN, and shapes that differ, are a ValueError. Tested by hand.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from unitlens.explainers.items import one_each


def equal_area_mask(saliency: Tensor, fraction: float, *, seed: int | Sequence[int] = 0) -> Tensor:
    """Mark the most salient pixels, exactly a given share of the image.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w) or (h, w)
    fraction : float
        Share of the pixels to mark; round(fraction * h * w) of them are marked, 1 at least and all at most.
    seed : int or sequence of int
        Seed of the random order in which equal pixels are taken. One seed gives every image the same order; one per
        image keeps the images' ties independent.

    Returns
    -------
    Tensor, bool, shape of `saliency`
    """
    pixels, batch = as_pixels(saliency)
    area = area_in_pixels(pixels, fraction)
    shuffle = torch.empty(pixels.shape, dtype=torch.int64)
    for own, one in zip(shuffle, one_each(seed, len(pixels), "seed"), strict=True):
        torch.randperm(len(own), generator=torch.Generator().manual_seed(one), out=own)
    shuffle = shuffle.to(pixels.device)
    order = pixels.gather(1, shuffle).argsort(dim=1, descending=True, stable=True)[:, :area]  # (n, area)
    mask = torch.zeros_like(pixels, dtype=torch.bool).scatter_(1, shuffle.gather(1, order), True)
    return mask.view(batch)


def peak_share_mask(saliency: Tensor, share: float) -> Tensor:
    """Mark the pixels of (n, h, w) or (h, w) whose saliency strictly exceeds a share of their map's own maximum.

    None in a map of zeros. A negative saliency is a ValueError.
    """
    pixels, batch = as_pixels(saliency, at_least_zero=True)
    return (pixels > share * pixels.amax(1, keepdim=True)).view(batch)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of two masks, bool or 0 and 1, (n, h, w) or (h, w): float64 (n,) or ().

    NaN where both masks are empty. ValueError where shapes differ or a mask has other values.
    """
    a, b, batch = _mask(a, "a"), _mask(b, "b"), same_shape(a, b)
    intersection = (a & b).sum((-2, -1)).double()
    return (intersection / (a | b).sum((-2, -1))).view(batch[:-2])


def has_map(saliency: Tensor) -> Tensor:
    """Tell which maps (n, h, w) say anything; one that is zero everywhere is no explanation and counts in no mean.

    Where an explainer fails on an image its file holds such a map, with the reason.
    """
    return torch.as_tensor(saliency).flatten(1).any(1)


def is_flat(saliency: Tensor) -> Tensor:
    """Tell which maps (n, h, w) name no pixel before another, because they are constant or not finite; (n,) bool."""
    pixels = torch.as_tensor(saliency).flatten(1)
    return (pixels.amax(1) == pixels.amin(1)) | ~pixels.isfinite().all(1)


def cut_explanations(saliency: Tensor, area: float, *, seeds: Sequence[int]) -> Tensor:
    """Cut maps (n, h, w) as `equal_area_mask` does; the mask of a map that says nothing is empty."""
    return equal_area_mask(saliency, area, seed=seeds) & has_map(saliency)[:, None, None]


def check_values(saliency: Tensor, *, at_least_zero: bool) -> None:
    """Raise a ValueError where a saliency (n, h, w) or (h, w) is NaN or, if it must not be, negative."""
    if saliency.isnan().any():
        raise ValueError(f"`saliency` holds NaN at {tuple(saliency.isnan().nonzero()[0].tolist())}")
    if at_least_zero and (saliency < 0).any():
        raise ValueError(f"`saliency` goes down to {saliency.min():g}; allowed: 0 or more")


def as_pixels(saliency: Tensor, *, at_least_zero: bool = False) -> tuple[Tensor, torch.Size]:
    """Give a checked saliency (n, h, w) or (h, w) as (n, h * w), and its own shape; ValueError for any other."""
    saliency = torch.as_tensor(saliency)
    if saliency.ndim not in (2, 3):
        raise ValueError(f"`saliency` must be (n, h, w) or (h, w), got shape {tuple(saliency.shape)}")
    check_values(saliency, at_least_zero=at_least_zero)
    height, width = saliency.shape[-2:]
    return saliency.reshape(-1, height * width), saliency.shape


def area_in_pixels(pixels: Tensor, fraction: float) -> int:
    """Give how many pixels a share of maps, here (n, pixels), covers; ValueError if none, or more than all."""
    area = round(fraction * pixels.shape[1])
    if not 1 <= area <= pixels.shape[1]:
        raise ValueError(
            f"`fraction` is {fraction}: {area} pixels; allowed: 1 to {pixels.shape[1]}, those of the image"
        )
    return area


def same_shape(a: Tensor, b: Tensor) -> torch.Size:
    """Give the shape that two masks or maps, (n, h, w) or (h, w), have in common; ValueError where they have none."""
    shape_a, shape_b = torch.as_tensor(a).shape, torch.as_tensor(b).shape
    if shape_a != shape_b or len(shape_a) not in (2, 3):
        raise ValueError(f"`a` and `b` must both be (n, h, w) or (h, w), got {tuple(shape_a)} and {tuple(shape_b)}")
    return shape_a


def _mask(mask: Tensor, name: str) -> Tensor:
    mask = torch.as_tensor(mask)
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"`{name}` is no mask: it holds other values than 0 and 1")
    return mask.bool()


def mask_stability(saliencies: Sequence[Tensor], area: float, *, seeds: Sequence[Sequence[int]]) -> Tensor:
    """Tell how much repeated explanations of the same images agree: the mean IoU (n,) of every two repeats.

    Of two or more repeats, maps (n, h, w) each, cut to the share `area` of the image: `agreement.chance_iou` of it is
    what unrelated maps score. For each repeat there is one seed for each image, all different, to break ties. NaN where
    a repeat has no map, see `has_map`.
    """
    cut = [equal_area_mask(maps, area, seed=own) for maps, own in zip(saliencies, seeds, strict=True)]
    agreement = torch.stack([iou(a, b) for a, b in combinations(cut, 2)]).mean(0)
    return agreement.where(torch.stack([has_map(maps) for maps in saliencies]).all(0), torch.nan)
