"""How far saliency maps agree: with each other, or with a reference mask, image by image.

Maps are cut at equal area, with ties broken at random: broken by index, the many zeros of two sparse maps would make
them agree (two disjoint 5 % maps cut at 20 % score 0.60 by index, 0.106 at random, chance 0.111). All functions take
one image (h, w) or a batch (n, h, w), and an image's result does not depend on its batch. Tested against hand-computed
masks and scipy.stats.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens import stats
from unitlens.seeds import one_each, stream_seeds
from unitlens.wording import above_and_below, counted, mean_estimate, pair_title, paired_test

Explanation = tuple[Mapping[str, np.ndarray], Mapping[str, object]]  # arrays and attributes of a file
_AT_ONCE = 16  # images that are ranked and cut at once
ORIGIN = ["model", "explained_class", "geometry"]  # what every row of a table names
PAIR = ["explainer_a", "explainer_b"]


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
    shuffle = torch.empty(pixels.shape, dtype=torch.int64)
    for own, one in zip(shuffle, one_each(seed, len(pixels), "seed"), strict=True):
        torch.randperm(len(own), generator=torch.Generator().manual_seed(one), out=own)
    shuffle = shuffle.to(pixels.device)
    order = pixels.gather(1, shuffle).argsort(dim=1, descending=True, stable=True)[:, :area]  # (n, area)
    mask = torch.zeros_like(pixels, dtype=torch.bool).scatter_(1, shuffle.gather(1, order), True)
    return mask.view(batch)


def peak_share_mask(saliency: Tensor, share: float) -> Tensor:
    """Mark the pixels whose saliency exceeds a share of their map's own maximum.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w) or (h, w)
        Saliency maps, at least 0.
    share : float
        Pixels strictly above this share of the maximum are marked.

    Returns
    -------
    Tensor, bool, shape of `saliency`
        True for marked pixels; none in a map of zeros.

    Raises
    ------
    ValueError
        If a saliency is NaN or negative.
    """
    pixels, batch = _pixels(saliency, at_least_zero=True)
    return (pixels > share * pixels.amax(1, keepdim=True)).view(batch)


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


def has_map(saliency: Tensor) -> Tensor:
    """Tell which maps (n, h, w) say anything; one that is zero everywhere is no explanation and counts in no mean.

    Where an explainer fails on an image its file holds such a map, with the reason.
    """
    return torch.as_tensor(saliency).flatten(1).any(1)


def check_same_images(explanations: Sequence[Explanation]) -> None:
    """Refuse files of explanations that are not of the same images in the same order.

    Raises
    ------
    ValueError
        Naming both explainers.
    """
    (first, first_facts), *others = explanations
    for arrays, facts in others:
        if list(arrays["image_id"]) != list(first["image_id"]):
            raise ValueError(
                f"the explanations by {facts['explainer']} are of other images than those by {first_facts['explainer']}"
            )


def score_pairs(
    explanations: Sequence[Explanation], *, area: float, areas: Sequence[float], threshold: float, seed: int
) -> pd.DataFrame:
    """Score how far every two explainers agree on every image.

    Parameters
    ----------
    explanations : sequence
        Arrays and attributes of each explainer's file: ``saliency, image_id, photograph, label, predicted``, and
        ``model, explained_class, geometry, explainer``.
    area : float
        Share of the picture in the masks that other tables use; swept too if `areas` lacks it.
    areas : sequence of float
        Shares of the picture to which maps are cut for the equal-area IoU.
    threshold : float
        Share of its own maximum at which each map is cut for the IoU at a threshold.
    seed : int
        Of the random order of ties, with an order of its own for each image and explainer.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, prediction, explainer_a, explainer_b, measure, cut,
        value, chance, tied_share``, a row for each image, pair and measure: ``equal_area_iou`` and ``threshold_iou``
        (`cut` is the area or the threshold), ``spearman``, ``peak_distance`` (share of the picture's diagonal) and
        ``peak_distance_pixels``. ``prediction`` is ``right`` or ``wrong``, empty without a label. ``chance`` is the
        expected value for unrelated maps where it is known; ``tied_share`` the larger share of the two equal-area masks
        that ties, and so a random draw, decided. Values of images without a map by one of the two (see `has_map`) are
        NaN.

    Raises
    ------
    ValueError
        If the files are not of the same images, or as the measures do.
    """
    check_same_images(explanations)
    images = image_table(*explanations[0])
    maps = {facts["explainer"]: torch.as_tensor(arrays["saliency"]) for arrays, facts in explanations}
    seeds = {name: stream_seeds(seed, name, images["image_id"]) for name in maps}
    scores = defaultdict(lambda: np.empty((2, len(images))))  # of a pair, a measure and a cut: values, tied shares
    for start in range(0, max(1, len(images)), _AT_ONCE):  # a block of none tells what is measured
        rows = slice(start, start + _AT_ONCE)
        own_maps, own_seeds = ({name: each[rows] for name, each in parts.items()} for parts in (maps, seeds))
        block = _score_block(own_maps, own_seeds, areas=sorted({area, *areas}), threshold=threshold)
        for key, values in block.items():
            scores[key][:, rows] = values
    chances = {"equal_area_iou": chance_iou, "spearman": lambda _: 0.0}
    tables = []
    scored = {name: has_map(own).numpy() for name, own in maps.items()}
    for (a, b, measure, cut), (values, tied) in scores.items():
        values, tied = (np.where(scored[a] & scored[b], own, np.nan) for own in (values, tied))
        chance = chances.get(measure, lambda _: np.nan)(cut)
        cut = np.nan if cut is None else cut
        pair = images.assign(explainer_a=a, explainer_b=b, measure=measure, cut=cut, value=values, chance=chance)
        tables.append(pair.assign(tied_share=tied))
    return pd.concat(tables, ignore_index=True)


def _score_block(
    maps: Mapping[str, Tensor], seeds: Mapping[str, Sequence[int]], *, areas: Sequence[float], threshold: float
) -> dict[tuple[str, str, str, float | None], tuple[np.ndarray, np.ndarray]]:
    """Score every two explainers on some images: for each pair, measure and cut the values and the tied shares."""
    cuts = {  # masks, share decided by ties
        (name, area): (equal_area_mask(own, area, seed=seeds[name]), tied_share(own, area))
        for name, own in maps.items()
        for area in areas
    }
    high = {name: peak_share_mask(own, threshold) for name, own in maps.items()}
    diagonal = np.hypot(*next(iter(maps.values())).shape[-2:])
    scores = {}
    for a, b in combinations(maps, 2):
        for area in areas:
            (mask_a, tied_a), (mask_b, tied_b) = cuts[a, area], cuts[b, area]
            tied = torch.maximum(tied_a, tied_b).numpy()
            scores[a, b, "equal_area_iou", area] = iou(mask_a, mask_b).numpy(), tied
        distance = peak_distance(maps[a], maps[b]).numpy()
        values = {
            ("threshold_iou", threshold): iou(high[a], high[b]).numpy(),
            ("spearman", None): spearman(maps[a], maps[b]).numpy(),
            ("peak_distance", None): distance / diagonal,
            ("peak_distance_pixels", None): distance,
        }
        for key, value in values.items():
            scores[a, b, *key] = value, np.full(len(value), np.nan)
    return scores


def image_table(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> pd.DataFrame:
    """Give the columns that every score of an image starts with.

    Parameters
    ----------
    arrays, facts : mapping
        A file of explanations.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, prediction``; the last is ``right``, ``wrong`` or,
        without a label or a prediction, NaN.
    """
    label, predicted = np.asarray(arrays["label"]), np.asarray(arrays["predicted"])
    right = predicted == label
    table = pd.DataFrame({name: arrays[name] for name in ("image_id", "photograph")})
    table["prediction"] = pd.Series(np.where(right, "right", "wrong"), dtype=object).where(
        (label >= 0) & (predicted >= 0)
    )
    for position, name in enumerate(ORIGIN):
        table.insert(position, name, facts[name])
    return table


def summarise(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Average agreement over images, with a bootstrap interval that resamples photographs.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_pairs`.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, subset, explainer_a, explainer_b, measure, cut, n, photographs, undefined,
        mean, low, high, chance, tied_share, seed``. ``subset`` is ``all``, ``right`` or ``wrong``: all images, or those
        whose predicted class is the label or is not. A 95 % interval, empty below three photographs; ``undefined``
        counts images left out because both masks were empty or a map was constant.
    """
    known = scores[scores["prediction"].isin(["right", "wrong"])]
    scores = pd.concat([scores.assign(subset="all"), known.assign(subset=known["prediction"])])
    keys = [*ORIGIN, "subset", *PAIR, "measure", "cut"]
    also = {"chance": "first", "tied_share": "mean"}
    return stats.mean_table(scores, keys, seed=seed, also=also).assign(seed=seed)


def headline(summary: pd.DataFrame, *, area: float) -> pd.DataFrame:
    """Rows of `summarise` that figures and sentences show: all images, one area, IoUs and rank correlation."""
    shown = summary["measure"].isin(["threshold_iou", "spearman"])
    shown |= (summary["measure"] == "equal_area_iou") & np.isclose(summary["cut"], area)
    return summary[shown & (summary["subset"] == "all")]


def compare_pairs(scores: pd.DataFrame, *, area: float, seed: int = 0) -> pd.DataFrame:
    """Test whether the pair of explainers that agrees most does so more than every other pair, on the same images.

    The tests take the first pair as given: they do not account for its being chosen as the one with the highest mean.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_pairs`.
    area : float
        The cut whose equal-area IoU is compared, beside the rank correlation.
    seed : int

    Returns
    -------
    pandas.DataFrame
        See `stats.paired_tests`; ``pair_a`` and ``pair_b`` hold two explainers each, joined by ``" & "``. ``pair_a`` is
        the pair with the highest mean of the model and measure, the first of equal ones; p-values are adjusted for as
        many tests as there are other pairs.
    """
    shown = (scores["measure"] == "equal_area_iou") & np.isclose(scores["cut"], area) | (
        scores["measure"] == "spearman"
    )
    scores = scores[shown]
    scores = scores.assign(pair=scores["explainer_a"] + " & " + scores["explainer_b"])
    return stats.paired_tests(scores, [*ORIGIN, "measure", "cut"], "pair", pairs=_first_and_others, seed=seed).assign(
        seed=seed
    )


def _first_and_others(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """Pair the pair of explainers with the highest mean with every other one."""
    defined = scores[scores["value"].notna()]
    means = defined.groupby("pair", sort=False)["value"].apply(np.mean).sort_values(ascending=False, kind="stable")
    return (
        [(means.index[0], other) for other in scores["pair"].unique() if other != means.index[0]] if len(means) else []
    )


def findings(summary: pd.DataFrame, tests: pd.DataFrame, *, area: float) -> list[str]:
    """Say which explainers agree most and least, whether above chance, and than how many the first agree more.

    Parameters
    ----------
    summary, tests : pandas.DataFrame
        From `summarise` and `compare_pairs`.
    area : float
        The cut that is spoken of.

    Returns
    -------
    list of str
        A sentence or two for each model.
    """
    shown = headline(summary, area=area)
    sentences = []
    for model, group in shown[shown["measure"] == "equal_area_iou"].groupby("model", sort=False):
        ranked = group[group["mean"].notna()].sort_values("mean", ascending=False, kind="stable")
        if ranked.empty:
            sentences.append(f"{model}: there is no photograph on which two explainers can be compared.")
            continue
        best, worst, chance = ranked.iloc[0], ranked.iloc[-1], ranked["chance"].iloc[0]
        sentence = f"{model}: cut at {100 * area:g} % of the picture, {_named(best)} agree"
        sentence += f"{' most' if len(ranked) > 1 else ''}: IoU {mean_estimate(best)}"
        if len(ranked) > 1:
            sentence += f"; {_named(worst)} least: {mean_estimate(worst)}"
        sentence += f". Chance is {chance:.2f}"
        if known := int(ranked["low"].notna().sum()):
            above, below = int((ranked["low"] > chance).sum()), int((ranked["high"] < chance).sum())
            sentence += f"; of {counted(known, 'interval')} {above} above it, {below} below it"
        own = tests[(tests["model"] == model) & (tests["measure"] == "equal_area_iou")]
        if len(own):
            above, below = above_and_below(own)
            sentence += f". Beyond chance the first pair agrees more than {above} of {counted(len(own), 'other pair')}"
            sentence += f"{f' and less than {below}' if below else ''} ({paired_test(own)})"
        sentences.append(f"{sentence}.")
    return sentences


def _named(row: pd.Series) -> str:
    return pair_title(row["explainer_a"], row["explainer_b"])


def check_values(saliency: Tensor, *, at_least_zero: bool = False) -> None:
    """Refuse a saliency of any shape, (n, h, w) or (h, w), that is NaN or, where it must not be, negative.

    Raises
    ------
    ValueError
        Saying where, or how low it goes.
    """
    if saliency.isnan().any():
        raise ValueError(f"`saliency` holds NaN at {tuple(saliency.isnan().nonzero()[0].tolist())}")
    if at_least_zero and (saliency < 0).any():
        raise ValueError(f"`saliency` goes down to {saliency.min():g}; allowed: 0 or more")


def _pixels(saliency: Tensor, *, at_least_zero: bool = False) -> tuple[Tensor, torch.Size]:
    """Saliency as (n, h * w), and its own shape."""
    saliency = torch.as_tensor(saliency)
    if saliency.ndim not in (2, 3):
        raise ValueError(f"`saliency` must be (n, h, w) or (h, w), got shape {tuple(saliency.shape)}")
    check_values(saliency, at_least_zero=at_least_zero)
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
