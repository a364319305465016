"""How far saliency maps agree: with each other, or with a reference mask, image by image.

Maps are cut at equal area, with ties broken at random: broken by index, the many zeros of two sparse maps would make
them agree (two disjoint 5 % maps cut at 20 % score 0.60 by index, 0.106 at random, chance 0.111). All functions take
one image (h, w) or a batch (n, h, w), and an image's result does not depend on its batch. Tested against hand-computed
masks and scipy.stats.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens import stats


def equal_area_mask(saliency: Tensor, fraction: float, *, seed: int | Sequence[int] = 0) -> Tensor:
    """Mark the most salient pixels, exactly a given share of the image.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w) or (h, w)
        Saliency maps.
    fraction : float
        Share of the pixels to mark; round(fraction * h * w) of them are marked.
    seed : int or sequence of int
        Seed of the random order in which equal pixels are taken. One seed gives every image the same order; one per
        image keeps the images' ties independent.

    Returns
    -------
    Tensor, bool, shape of `saliency`
        True for marked pixels.

    Raises
    ------
    ValueError
        If a saliency is NaN, `fraction` marks no pixel or more than all, or there is not one seed per image.
    """
    pixels, batch = _pixels(saliency)
    area = _area(pixels, fraction)
    generators = [torch.Generator().manual_seed(one) for one in _seeds(seed, len(pixels))]
    shuffle = torch.stack([torch.randperm(pixels.shape[1], generator=one) for one in generators]).to(pixels.device)
    order = pixels.gather(1, shuffle).argsort(dim=1, descending=True, stable=True)[:, :area]  # (n, area)
    mask = torch.zeros_like(pixels, dtype=torch.bool).scatter_(1, shuffle.gather(1, order), True)
    return mask.view(batch)


def threshold_mask(saliency: Tensor, threshold: float) -> Tensor:
    """Mark the pixels whose saliency exceeds a threshold.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w) or (h, w)
        Saliency maps.
    threshold : float
        Pixels strictly above it are marked.

    Returns
    -------
    Tensor, bool, shape of `saliency`
        True for marked pixels; possibly none.

    Raises
    ------
    ValueError
        If a saliency is NaN.
    """
    pixels, batch = _pixels(saliency)
    return (pixels > threshold).view(batch)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of two masks.

    Parameters
    ----------
    a, b : Tensor, bool or 0 and 1, shape (n, h, w) or (h, w)
        Masks of the same shape.

    Returns
    -------
    Tensor, float64, shape (n,) or ()
        NaN where both masks are empty.

    Raises
    ------
    ValueError
        If the shapes differ or a mask holds anything but 0 and 1.
    """
    a, b, batch = _mask(a, "a"), _mask(b, "b"), _same_shape(a, b)
    intersection = (a & b).sum((-2, -1)).double()
    return (intersection / (a | b).sum((-2, -1))).view(batch[:-2])


def equal_area_iou(
    a: Tensor, b: Tensor, fraction: float, *, seeds: tuple[int | Sequence[int], int | Sequence[int]] = (0, 1)
) -> Tensor:
    """Intersection over union of two saliency maps cut at the same area.

    Parameters
    ----------
    a, b : Tensor, shape (n, h, w) or (h, w)
        Saliency maps of the same shape.
    fraction : float
        Share of the pixels marked in each.
    seeds : pair of int, or of sequences of int
        As `seed` of `equal_area_mask`, for `a` and for `b`. With equal seeds, ties would agree more than by chance.

    Returns
    -------
    Tensor, float64, shape (n,) or ()
        `chance_iou` is what unrelated maps score.

    Raises
    ------
    ValueError
        If the shapes differ, or as `equal_area_mask` does.
    """
    return iou(equal_area_mask(a, fraction, seed=seeds[0]), equal_area_mask(b, fraction, seed=seeds[1]))


def chance_iou(fraction: float) -> float:
    """Intersection over union of unrelated masks that each mark a share `fraction` of the image.

    Parameters
    ----------
    fraction : float
        Share of the pixels marked, above 0, at most 1.

    Returns
    -------
    float
        fraction / (2 - fraction): the ratio of the expected areas q^2 and 2 q - q^2.
    """
    return fraction / (2 - fraction)


def tied_share(saliency: Tensor, fraction: float) -> Tensor:
    """Share of the pixels of `equal_area_mask` that the random order chose among equals.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w) or (h, w)
        Saliency maps.
    fraction : float
        As in `equal_area_mask`.

    Returns
    -------
    Tensor, float64, shape (n,) or ()
        0 where no tie crosses the cut, 1 for a constant map.

    Raises
    ------
    ValueError
        As `equal_area_mask` does.
    """
    pixels, batch = _pixels(saliency)
    area = _area(pixels, fraction)
    cut = pixels.topk(area, dim=1).values[:, -1:]  # the least salient marked pixel
    chosen = area - (pixels > cut).sum(1)
    tied = (pixels == cut).sum(1)
    return (chosen.double() / area).where(chosen < tied, 0.0).view(batch[:-2])


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation of two saliency maps over their pixels, equal pixels sharing their average rank.

    Parameters
    ----------
    a, b : Tensor, shape (n, h, w) or (h, w)
        Saliency maps of the same shape.

    Returns
    -------
    Tensor, float64, shape (n,) or ()
        NaN where a map is constant.

    Raises
    ------
    ValueError
        If the shapes differ or a saliency is NaN.
    """
    batch = _same_shape(a, b)
    ranks_a, ranks_b = _centred_ranks(a), _centred_ranks(b)
    scale = ((ranks_a**2).sum(1) * (ranks_b**2).sum(1)).sqrt()
    return ((ranks_a * ranks_b).sum(1) / scale).view(batch[:-2])


def peak_distance(a: Tensor, b: Tensor) -> Tensor:
    """Distance between the peaks of two saliency maps.

    Parameters
    ----------
    a, b : Tensor, shape (n, h, w) or (h, w)
        Saliency maps of the same shape.

    Returns
    -------
    Tensor, float64, shape (n,) or ()
        Euclidean distance in pixels. The peak is the mean position of the pixels at the maximum, the middle of a
        superpixel for instance. NaN where a map is constant: it has no peak.

    Raises
    ------
    ValueError
        If the shapes differ or a saliency is NaN.
    """
    batch = _same_shape(a, b)
    return (_peak(a) - _peak(b)).norm(dim=1).view(batch[:-2])


def score_pairs(
    masks: Mapping[str, np.ndarray], saliencies: Mapping[str, np.ndarray], *, area: float, threshold: float
) -> pd.DataFrame:
    """Score how far every two explainers agree on every image.

    Parameters
    ----------
    masks : mapping
        ``image_id``, ``photograph`` and, of every explainer, (n, h, w) bool ``<explainer>:equal_area`` and
        ``<explainer>:threshold``.
    saliencies : mapping
        From explainer to its maps (n, h, w).
    area, threshold : float
        How the masks were cut; for the chance level and for the table.

    Returns
    -------
    pandas.DataFrame
        ``image_id, photograph, explainer_a, explainer_b, measure, cut, value, chance, tied_share``, a row for each
        image, pair and measure: ``equal_area_iou`` and ``threshold_iou`` (`cut` is the area or the threshold),
        ``spearman``. ``chance`` is the expected value for unrelated maps where it is known; ``tied_share`` the larger
        share of the two equal-area masks that ties, and so a random draw, decided.
    """
    tied = {name: tied_share(maps, area) for name, maps in saliencies.items()}
    tables = []
    for a, b in combinations(saliencies, 2):
        measures = {
            "equal_area_iou": (iou(masks[f"{a}:equal_area"], masks[f"{b}:equal_area"]), area, chance_iou(area)),
            "threshold_iou": (iou(masks[f"{a}:threshold"], masks[f"{b}:threshold"]), threshold, np.nan),
            "spearman": (spearman(saliencies[a], saliencies[b]), np.nan, 0.0),
        }
        for measure, (values, cut, chance) in measures.items():
            table = pd.DataFrame({name: masks[name] for name in ("image_id", "photograph")})
            table[["explainer_a", "explainer_b", "measure"]] = a, b, measure
            table["cut"], table["value"], table["chance"] = cut, values.numpy(), chance
            table["tied_share"] = torch.maximum(tied[a], tied[b]).numpy() if measure == "equal_area_iou" else np.nan
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def summarise(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Average agreement over images, with a bootstrap interval that resamples photographs.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_pairs`, with a column ``model``.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``model, explainer_a, explainer_b, measure, cut, n, photographs, undefined, mean, low, high, chance,
        tied_share``: a 95 % interval, empty below three photographs; ``undefined`` counts images left out because both
        masks were empty or a map was constant.
    """
    rows = []
    keys = ["model", "explainer_a", "explainer_b", "measure", "cut"]
    for key, group in scores.groupby(keys, sort=False, dropna=False):
        defined = group[group.value.notna()]
        interval = (
            stats.mean_with_interval(defined.value, groups=defined.photograph, seed=seed) if len(defined) else _NOTHING
        )
        row = dict(zip(keys, key, strict=True))
        row |= {"n": interval.n, "photographs": interval.n_groups, "undefined": len(group) - len(defined)}
        row |= {"mean": interval.mean, "low": interval.low, "high": interval.high}
        row |= {"chance": group.chance.iloc[0], "tied_share": group.tied_share.mean()}
        rows.append(row)
    return pd.DataFrame(rows)


_NOTHING = stats.MeanInterval(0, 0, np.nan, np.nan, np.nan)


def _pixels(saliency: Tensor) -> tuple[Tensor, torch.Size]:
    """Saliency as (n, h * w), and its own shape."""
    saliency = torch.as_tensor(saliency)
    if saliency.ndim not in (2, 3):
        raise ValueError(f"`saliency` must be (n, h, w) or (h, w), got shape {tuple(saliency.shape)}")
    if saliency.isnan().any():
        raise ValueError(f"`saliency` holds NaN at {tuple(saliency.isnan().nonzero()[0].tolist())}")
    height, width = saliency.shape[-2:]
    return saliency.reshape(-1, height * width), saliency.shape


def _area(pixels: Tensor, fraction: float) -> int:
    area = round(fraction * pixels.shape[1])
    if not 1 <= area <= pixels.shape[1]:
        raise ValueError(
            f"`fraction` is {fraction}: {area} pixels; allowed: 1 to {pixels.shape[1]}, those of the image"
        )
    return area


def _same_shape(a: Tensor, b: Tensor) -> torch.Size:
    shape_a, shape_b = torch.as_tensor(a).shape, torch.as_tensor(b).shape
    if shape_a != shape_b or len(shape_a) not in (2, 3):
        raise ValueError(f"`a` and `b` must both be (n, h, w) or (h, w), got {tuple(shape_a)} and {tuple(shape_b)}")
    return shape_a


def _mask(mask: Tensor, name: str) -> Tensor:
    mask = torch.as_tensor(mask)
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"`{name}` is no mask: it holds other values than 0 and 1")
    return mask.bool()


def _seeds(seed: int | Sequence[int], n_images: int) -> list[int]:
    seeds = [int(one) for one in ([seed] * n_images if isinstance(seed, Integral) else seed)]
    if len(seeds) != n_images:
        raise ValueError(f"`seed` holds {len(seeds)} seeds for {n_images} images; give one, or one per image")
    return seeds


def _centred_ranks(saliency: Tensor) -> Tensor:
    """Average ranks less their mean, (n, h * w)."""
    pixels, _ = _pixels(saliency)
    ascending = pixels.sort(dim=1).values
    below = torch.searchsorted(ascending, pixels)
    up_to = torch.searchsorted(ascending, pixels, right=True)
    return (below + up_to).double() / 2 - pixels.shape[1] / 2


def _peak(saliency: Tensor) -> Tensor:
    """Row and column of the peak of each map, (n, 2)."""
    pixels, shape = _pixels(saliency)
    highest = pixels.amax(1, keepdim=True)
    at_peak = (pixels == highest).double().masked_fill(highest == pixels.amin(1, keepdim=True), torch.nan)
    grid = torch.cartesian_prod(*(torch.arange(size, dtype=torch.float64) for size in shape[-2:])).to(pixels.device)
    return at_peak @ grid / at_peak.sum(1, keepdim=True)  # (n, h * w) @ (h * w, 2)
