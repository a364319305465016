"""Linear labels: a unit as a sum of at most three concepts with positive weights (Oikarinen & Weng, ICML 2024).

A concept's score of an image is its cosine less the mean over all concepts; what all words share says nothing of one.
Concepts are chosen by non-negative orthogonal matching pursuit (Pati et al. 1993) for all units at once. The images x
concepts matrix is never made: of what is centered over the images, the covariance of the features holds all there is.
"""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unitlens.units import exemplars
from unitlens.units.held_out import mean_of_known, orders
from unitlens.units.permutation import SourceImages, group_rows, shuffle

MOST_CONCEPTS = 3
DRAWS = 19  # permutations of a residual: larger than all of them has a probability of 0.05
RIDGE = tuple(10.0**power for power in range(-4, 3))  # penalties that are tried, in variances of a mean feature
FEWEST_SOURCE_IMAGES = 10  # that a fit can come from
FOLDS = 5
_LEAST = 1e-6  # of a deviation, against the largest; less is rounding


class Sums(NamedTuple):
    """What fits to standardized activations: concepts -1 and weights 0 where there are fewer, (units, 3)."""

    concepts: Tensor
    weights: Tensor  # standard deviations of the unit for one of the concept's score
    directions: Tensor  # (d, units): products with features are the sums, up to a constant


class HeldOut(NamedTuple):
    """Correlations (units,) on the half of the source images that was not fitted, means over splits and directions."""

    linear: np.ndarray
    ridge: np.ndarray  # of all features
    again: np.ndarray  # share of a half's concepts that the other half has chosen, too
    repeats: int


def fit(
    activations: Tensor, images: Tensor, axes: Tensor, source_images: SourceImages | None, rng: np.random.Generator
) -> Sums:
    """Fit sums of at most three concepts to the units.

    Parameters
    ----------
    activations : Tensor, shape (images, units)
        Finite; a unit that is constant gets no concept.
    images : Tensor, shape (images, d)
        Features of unit length.
    axes : Tensor, shape (concepts, d)
        Directions whose products with features are the concepts' scores.
    source_images : SourceImages or None
        What changes places in the permutations; None adds concepts without a test.
    rng : numpy.random.Generator
        Of the permutations.

    Returns
    -------
    Sums
        A second and a third concept are there only where their correlation with what is left of the unit is larger
        than the largest of any concept in every one of 19 permutations of that: level 0.05.
    """
    features, targets = (images - images.mean(0)).float(), standardized(activations).float()
    covariance = (features.T @ features / len(features)).double()
    scaled = _scaled(axes, covariance)
    cross = (features.T @ targets / len(features)).double()  # (d, units)
    units = targets.shape[1]
    chosen = torch.full((units, MOST_CONCEPTS), -1, device=images.device)
    weights = cross.new_zeros(units, MOST_CONCEPTS)
    directions = torch.zeros_like(cross)
    left = (targets != 0).any(0).nonzero()[:, 0]
    for step in range(MOST_CONCEPTS):
        best = _best(scaled, (cross - covariance @ directions)[:, left])
        better = best.score > _LEAST
        if step and source_images is not None:
            residual = targets[:, left] - features @ directions[:, left].float()
            better &= best.score > _largest_permuted(residual, features, scaled, source_images, rng)
        left = left[better]
        if not len(left):
            break
        chosen[left, step] = best.concept[better]
        weights[left] = _non_negative(scaled, covariance, cross[:, left], chosen[left])
        directions[:, left] = _direction(scaled, chosen[left], weights[left])
    order = weights.argsort(dim=1, descending=True)
    weights = weights.gather(1, order)
    return Sums(chosen.gather(1, order).masked_fill(weights == 0, -1), weights, directions)


def held_out(
    activations: Tensor,
    images: Tensor,
    axes: Tensor,
    source_images: SourceImages,
    splits: Sequence[Sequence[np.ndarray]],
    rng: np.random.Generator,
) -> HeldOut:
    """Fit on each half of every split, two arrays of rows, and correlate with the units (units,) on the other.

    The other arguments are as of `fit`. Of correlations chance is subtracted, as of `held_out`. NaN where a unit is
    constant on a half, and everywhere for halves of fewer than ten source images.
    """
    names = source_images.number
    found = np.full((3, 2 * len(splits), activations.shape[1]), np.nan)
    for number, rows in enumerate(splits):
        if min(len(set(names[half])) for half in rows) < FEWEST_SOURCE_IMAGES:
            continue
        sums = []
        for direction, (own, other) in enumerate((rows, rows[::-1])):
            sources = group_rows(names[own])
            sums.append(fit(activations[own], images[own], axes, sources, rng))
            ridge = ridge_directions(activations[own], images[own], sources, rng)
            for kind, directions in enumerate((sums[-1].directions, ridge)):
                values, fitted = activations[other], images[other].double() @ directions
                chance = [correlations(values, fitted[order]) for order in orders(source_images, other, rng)]
                score = correlations(values, fitted) - torch.stack(chance).mean(0)
                found[kind, 2 * number + direction] = score.cpu()
        for direction, (own, other) in enumerate((sums, sums[::-1])):
            known = own.concepts >= 0
            again = ((own.concepts[:, :, None] == other.concepts[:, None, :]) & known[:, :, None]).sum((1, 2))
            found[2, 2 * number + direction] = (again / known.sum(1)).cpu()  # NaN where none was chosen
    return HeldOut(*mean_of_known(found, axis=1), repeats=len(splits))


def ridge_directions(
    activations: Tensor, images: Tensor, source_images: SourceImages, rng: np.random.Generator
) -> Tensor:
    """Regress the units on all features with a penalty, one for the layer, (d, units); arguments are as of `fit`.

    The penalty is that of `RIDGE` with the best mean correlation on fifths of the source images that are left out.
    """
    fold = rng.permutation(np.arange(len(source_images.size)) % FOLDS)[source_images.number]
    scores = torch.zeros(len(RIDGE), dtype=torch.float64, device=images.device)
    for number in range(FOLDS):
        rest, left_out = (torch.as_tensor(np.flatnonzero(part)) for part in (fold != number, fold == number))
        vectors, variances, cross = _principal_axes(activations[rest], images[rest])
        values, features = activations[left_out], images[left_out].double() @ vectors
        for place, penalty in enumerate(RIDGE):
            scores[place] += correlations(values, features @ _shrunk(cross, variances, penalty)).nanmean()
    vectors, variances, cross = _principal_axes(activations, images)
    return vectors @ _shrunk(cross, variances, RIDGE[int(scores.argmax())])


def correlations(a: Tensor, b: Tensor) -> Tensor:
    """Correlate the columns, if any, of two arrays (images, units), (units,); NaN where one of them is constant."""
    a, b = (values.double() - values.double().mean(0) for values in (a, b))
    norms = a.norm(dim=0), b.norm(dim=0)
    largest = torch.nn.functional.pad(norms[1], (0, 1), value=torch.finfo(torch.float64).tiny).max()
    constant = (norms[0] == 0) | (norms[1] <= _LEAST * largest)
    return ((a * b).sum(0) / (norms[0] * norms[1])).masked_fill(constant, torch.nan)


def standardized(activations: Tensor) -> Tensor:
    """Give activations (images, units) a mean of 0 and a deviation of 1 over the images; 0 where they are constant."""
    centered = activations - activations.mean(0)
    deviation = centered.square().mean(0).sqrt()
    constant = exemplars.dead_units(activations)
    return (centered / deviation.clamp_min(torch.finfo(deviation.dtype).tiny)).masked_fill(constant, 0)


# ---- steps of the pursuit


class _Best(NamedTuple):
    concept: Tensor
    score: Tensor


def _scaled(axes: Tensor, covariance: Tensor) -> Tensor:
    """Scale axes (concepts, d) so that their scores deviate by 1 over the images; 0 where a concept is constant."""
    axes = axes.double()
    deviation = ((axes @ covariance) * axes).sum(1).clamp_min(0).sqrt()
    constant = deviation <= _LEAST * deviation.max()
    return (axes / deviation[:, None]).masked_fill(constant[:, None], 0).float()


def _best(scaled: Tensor, cross: Tensor) -> _Best:
    """Find each unit's concept of the largest product with `cross`, (d, units).

    Of what is left of a unit the products with its own concepts are 0, or below where a weight is 0.
    """
    step = max(1, exemplars.BLOCK_ELEMENTS // len(scaled))
    found = [(scaled @ part).max(0) for part in cross.float().split(step, dim=1)]
    return _Best(torch.cat([each.indices for each in found]), torch.cat([each.values for each in found]))


def _largest_permuted(
    residual: Tensor, features: Tensor, scaled: Tensor, source_images: SourceImages, rng: np.random.Generator
) -> Tensor:
    """Give the largest product (units,) of any concept with residuals (images, units) of other source images."""
    largest = residual.new_full(residual.shape[1:], -torch.inf)
    for _ in range(DRAWS):
        order = torch.as_tensor(shuffle(source_images, rng))
        largest = largest.maximum(_best(scaled, features[order].T @ residual / len(residual)).score)
    return largest


def _non_negative(scaled: Tensor, covariance: Tensor, cross: Tensor, concepts: Tensor) -> Tensor:
    """Solve least squares with weights of at least 0, (units, 3), exactly: the best of all supports that are feasible.

    Of cross products (d, units) and concepts (units, 3), -1 for none.
    """
    there = concepts >= 0
    own = scaled[concepts.clamp_min(0)].double() * there[:, :, None]  # (units, 3, d)
    gram = own @ covariance @ own.mT
    right = (own @ cross.T[:, :, None])[:, :, 0]  # (units, 3)
    best, weights = right.new_zeros(len(right)), torch.zeros_like(right)
    for support in product((False, True), repeat=MOST_CONCEPTS):
        used = torch.tensor(support, device=right.device) & there
        both = used[:, :, None] & used[:, None, :]
        solved = torch.linalg.solve_ex(gram * both + torch.diag_embed((~used).double()), right * used).result
        explained = (solved * right).sum(1)
        better = (solved >= 0).all(1) & (explained > best) & solved.isfinite().all(1)
        best, weights = explained.where(better, best), solved.where(better[:, None], weights)
    return weights


def _direction(scaled: Tensor, concepts: Tensor, weights: Tensor) -> Tensor:
    """Give what sums of concepts (units, 3) are the products with, (d, units)."""
    return (scaled[concepts.clamp_min(0)].double() * weights[:, :, None]).sum(1).T


def _principal_axes(activations: Tensor, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give axes (d, d) of the features, the variances (d,) along them, and covariances with the units, (d, units)."""
    features = (images - images.mean(0)).float()
    variances, vectors = torch.linalg.eigh((features.T @ features / len(features)).double())
    cross = (features.T @ standardized(activations).float() / len(features)).double()
    return vectors, variances.clamp_min(0), vectors.T @ cross


def _shrunk(cross: Tensor, variances: Tensor, penalty: float) -> Tensor:
    """Solve the ridge regression along principal axes, (d, units); the penalty is in mean variances."""
    return cross / (variances + penalty * variances.mean())[:, None]
