"""How well saliency maps find the object that a sheet gives, as a mask or a box.

IoU at the object's own area, the pointing game (Zhang et al., ECCV 2016; here without tolerance) and the share of the
saliency inside. Scores are float64 (n,), NaN where the object is empty; shapes that differ and saliency that is NaN are
a ValueError. Tested by hand.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unitlens.explainers import masks


def object_iou(saliency: Tensor, mask: Tensor, *, seeds: Sequence[int]) -> Tensor:
    """Intersection over union of each object (n, h, w) and as many of the most salient pixels as it has.

    `agreement.chance_iou` of the object's share is what unrelated maps score; equal pixels are taken by `seeds`.
    """
    scores = torch.full((len(mask),), torch.nan, dtype=torch.float64)
    for i, share in enumerate(mask.double().mean((-2, -1)).tolist()):
        if share > 0:
            scores[i] = masks.iou(masks.equal_area_mask(saliency[i], share, seed=seeds[i]), mask[i])
    return scores


def pointing(saliency: Tensor, mask: Tensor) -> Tensor:
    """Tell whether the peak of each map (n, h, w) lies inside the object: 1 or 0, NaN where the map is constant.

    Of a plateau, such as a superpixel, the share of its pixels that lie inside: what a pixel drawn from it at random
    would score on average.
    """
    maps = _checked(saliency, mask)
    highest = maps.amax((-2, -1), keepdim=True)
    peak = (maps == highest).double()
    share = (peak * mask).sum((-2, -1)) / peak.sum((-2, -1))
    constant = maps.amin((-2, -1)) == highest[:, 0, 0]
    return share.masked_fill(constant | ~mask.flatten(1).any(1), torch.nan)


def energy_inside(saliency: Tensor, mask: Tensor) -> Tensor:
    """Share of each map's saliency (n, h, w), at least 0, that lies inside the object; NaN for a map of zeros.

    The object's share of the image is what unrelated maps score.
    """
    maps = _checked(saliency, mask, at_least_zero=True).double()
    share = (maps * mask).sum((-2, -1)) / maps.sum((-2, -1))
    return share.masked_fill(~mask.flatten(1).any(1), torch.nan)


def _checked(saliency: Tensor, mask: Tensor, *, at_least_zero: bool = False) -> Tensor:
    saliency = torch.as_tensor(saliency)
    if saliency.shape != mask.shape or saliency.ndim != 3:
        raise ValueError(
            f"`saliency` and `mask` must both be (n, h, w), got {tuple(saliency.shape)} and {tuple(mask.shape)}"
        )
    masks.check_values(saliency, at_least_zero=at_least_zero)
    return saliency
