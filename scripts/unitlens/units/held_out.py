"""How well concepts predict units on source images that did not choose them.

Five scores that fall when a label is made worse (Oikarinen, Yan & Weng, ICML 2025). Of each the unit's own chance is
subtracted: the mean of the score when the concept's scores are given to other source images.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from unitlens.jobs.sheets import FEWEST_SOURCE_IMAGES
from unitlens.units.permutation import SourceImages, group_rows, shuffle

SCORES = ("correlation", "cosine", "auprc", "f1", "iou")
ACTIVE_SHARE = 0.05  # of the held-out images, those on which a unit, or a concept, counts as active
ENOUGH_IMAGES = 2500  # images in all draws of the chance of one half: of more, one draw does
_UNITS_AT_ONCE = 64


class HeldOut(NamedTuple):
    """Means over halves and directions: of each of `SCORES`, (scores, units), and of how many images, (units,)."""

    scores: np.ndarray
    images: np.ndarray


def score(
    activations: Tensor,
    images: Tensor,
    axes: Tensor,
    source_images: SourceImages,
    splits: Sequence[Sequence[np.ndarray]],
    labels: np.ndarray,
    rng: np.random.Generator,
) -> HeldOut:
    """Score labels (splits, 2, units) found on the rows of each half of a split, -1 for none, on the other half.

    Of activations (images, units), features (images, d), and directions of concepts (concepts, d) whose products with
    features are the concepts' scores. NaN where a unit has no label, a score is not defined, or a half has fewer
    than three source images.
    """
    found = np.full((2 * len(splits), len(SCORES), activations.shape[1]), np.nan)
    sizes = np.zeros(len(found))
    for place, (others, concepts) in enumerate(_directions(splits, labels)):
        sizes[place] = len(others)
        drawn, features = orders(source_images, others, rng), images[others]
        units = np.flatnonzero(concepts >= 0)
        for start in range(0, len(units) if len(drawn) else 0, _UNITS_AT_ONCE):
            part = units[start : start + _UNITS_AT_ONCE]
            values = activations[:, part][others].double().cpu().numpy()
            scores = (features @ axes[concepts[part]].T).double().cpu().numpy()
            found[place][:, part] = beyond_chance(values, scores, drawn)
    scored = ~np.isnan(found[:, 0])
    return HeldOut(mean_of_known(found), (scored * sizes[:, None]).sum(0) / max(1, len(splits)))


def _directions(splits: Sequence[Sequence[np.ndarray]], labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give the labels (units,) of each half of each split, after the rows of the other half, on which they count."""
    for halves, by_half in zip(splits, labels, strict=True):
        yield from zip(halves[::-1], by_half, strict=True)


def mean_of_known(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Average what is not NaN of values (k, ...) along an axis, which the result lacks; NaN where nothing is known."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(axis) / np.where(known.any(axis), known.sum(axis), np.nan)


def orders(source_images: SourceImages, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw orders (draws, rows) in which the images of some rows, (rows,), take each other's places, sources whole.

    None for rows of fewer than three source images.
    """
    names = source_images.number[rows]
    if len(set(names.tolist())) < FEWEST_SOURCE_IMAGES:
        return np.empty((0, len(rows)), np.int64)
    own = group_rows(names)
    return np.stack([shuffle(own, rng) for _ in range(-(-ENOUGH_IMAGES // len(rows)))])


def beyond_chance(activations: np.ndarray, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Compute `SCORES` less their mean over orders (draws, n), (scores, units); the others are as of `compute`."""
    found = compute(activations, scores, np.concatenate([np.arange(len(scores))[None], drawn]))
    return found[0] - found[1:].mean(0)


def compute(activations: np.ndarray, scores: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Compute `SCORES` of units and their concepts' scores in given orders.

    Parameters
    ----------
    activations, scores : array, shape (n, units)
        Of each unit, and of a concept for each, of the same images.
    drawn : array, shape (draws, n)
        In every row the image whose concept's score comes to each place.

    Returns
    -------
    array, shape (draws, scores, units)
        NaN where a unit or a concept is constant.
    """
    active, present = most_active(activations), most_active(scores)
    centered = [values - values.mean(0) for values in (activations, scores)]
    lengths = [np.linalg.norm(values, axis=0) for values in (activations, scores, *centered)]
    found = np.full((len(drawn), len(SCORES), activations.shape[1]), np.nan)
    either = active.sum(0) + present.sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        for row, order in zip(found, drawn, strict=True):
            both = np.count_nonzero(active & present[order], axis=0)
            row[0] = np.einsum("nu,nu->u", centered[0], centered[1][order]) / (lengths[2] * lengths[3])
            row[1] = np.einsum("nu,nu->u", activations, scores[order]) / (lengths[0] * lengths[1])
            row[3:] = 2 * both / either, both / (either - both)
    for unit in np.flatnonzero(active.any(0)):
        own = scores[:, unit]
        found[:, 2, unit] = _precision(np.sort(own), own[drawn[:, active[:, unit]]])
    constant = (np.ptp(activations, axis=0) == 0) | (np.ptp(scores, axis=0) == 0)
    found[:, :, constant] = np.nan
    return found


def most_active(values: np.ndarray) -> np.ndarray:
    """Tell on which images a unit, or a concept, is active: the top five percent, and above its lowest value.

    Of values (n,) or (n, units). Of a concept of annotations, which most images lack, these are the images that show it
    if they are at most five percent, or all show the same of it.
    """
    count = max(1, int(ACTIVE_SHARE * len(values)))
    bar = np.partition(values, -count, axis=0)[-count]
    return (values >= bar) & (values > values.min(0))


def _precision(scores: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Average the precision at each of the images to be found, (draws, found), among all scores (n,), ascending."""
    found = np.sort(found)
    above = len(scores) - np.searchsorted(scores, found)
    places = np.arange(found.shape[1])
    equal = np.diff(found, axis=1, prepend=-np.inf) == 0
    first = np.maximum.accumulate(np.where(equal, 0, places), axis=1)  # of equal scores
    return ((len(places) - first) / above).mean(1)


# ---- where annotations say which images show a concept (as CoSy does with generated images, Kopf et al. 2024)


class Annotated(NamedTuple):
    """AUC of units between held-out images with their concept and others, and the difference of means.

    Each (2, units): the mean over splits and directions, and its standard error over source images, by linearization.
    The difference is in standard deviations of the others. `source_images`, (units,), are those that show what a unit
    was called, or those that do not where these are fewer.
    """

    auc: np.ndarray
    difference: np.ndarray
    source_images: np.ndarray


def score_annotated(
    activations: Tensor,
    shown: np.ndarray,
    source_images: SourceImages,
    splits: Sequence[Sequence[np.ndarray]],
    labels: np.ndarray,
) -> Annotated:
    """Score labels found on one half by the other half's images that show the concept, of arguments as of `score`.

    `shown`, (images, concepts) bool, says which images show which concepts; images that show none take no part, for of
    these it is not known. NaN where all or none of a half show a unit's concept, or a unit has no label.
    """
    known = shown.any(1)
    directions = [(others[known[others]], concepts) for others, concepts in _directions(splits, labels)]
    scores, counts = np.full((2, 2, activations.shape[1]), np.nan), np.zeros(activations.shape[1], np.int64)
    for unit in range(activations.shape[1]):
        values = activations[:, unit].double().cpu().numpy()
        found, influence = [], np.zeros((2, len(source_images.size)))
        seen = np.zeros(influence.shape, bool)  # source images that show what the unit is called, and others
        for rows, concepts in directions:
            own = shown[rows, concepts[unit]]
            if concepts[unit] >= 0 and own.any() and not own.all():
                number = source_images.number[rows]
                score, of_image = _between(values[rows], own)
                found.append(score)
                for there, kind in zip(seen, (own, ~own), strict=True):
                    here = np.bincount(number[kind], minlength=len(there)) > 0
                    there |= here
                    size = np.count_nonzero(here)
                    of_image[:, kind] *= size / max(1, size - 1)  # for each lies near a mean that it is part of
                influence += [np.bincount(number, each, influence.shape[1]) for each in of_image]
        if found:
            scores[:, :, unit] = np.mean(found, 0), np.linalg.norm(influence, axis=1) / len(found)
            counts[unit] = seen.sum(1).min()
    return Annotated(scores[:, 0], scores[:, 1], counts)


def _between(values: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute AUC, ties half, and the difference of means of values (n,), and how each image moves them, (2, n).

    The latter are the derivatives by the weight of an image (for AUC, DeLong et al. 1988).
    """
    own, others = values[shown], values[~shown]
    influence = np.empty((2, len(values)))
    for kind, mine, rest in ((shown, own, np.sort(others)), (~shown, others, np.sort(own))):
        below, above = (np.searchsorted(rest, mine, side=side) for side in ("left", "right"))
        influence[0, kind] = (below + above) / (2 * len(rest))
    auc = influence[0, shown].mean()
    influence[0, ~shown] = 1 - influence[0, ~shown]
    influence[0] -= auc
    deviation = others.std() or np.nan
    difference, far = (own.mean() - others.mean()) / deviation, (others - others.mean()) / deviation
    influence[1, shown] = (own - own.mean()) / deviation
    influence[1, ~shown] = -far - difference / 2 * (far**2 - 1)
    influence /= np.where(shown, len(own), len(others))
    return np.array([auc, difference]), influence
