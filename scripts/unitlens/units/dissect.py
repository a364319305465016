"""CLIP-Dissect: score every unit of a layer against every concept, and label it with the best one.

Oikarinen & Weng, ICLR 2023, arXiv 2204.10965. Soft-WPMI is tested against 896 stored labels of the reference code,
the other similarities against independent loops. The images x concepts matrix is never held: it is made in blocks.

Scores depend on the concept list and, through D, on the other units of the layer: they cannot be compared across
lists, layers or models. All similarities take the same first three arguments and give float64 (units, concepts), NaN
for dead units, which take no part in D. Arrays that disagree or are not finite are a ValueError.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unitlens.networks.layer_outputs import as_floating
from unitlens.units import exemplars
from unitlens.units.exemplars import top_images
from unitlens.units.label_sets import Labels, calibrated_gap, label

__all__ = [
    "SIMILARITIES",
    "Labels",
    "calibrated_gap",
    "cos_similarity",
    "cos_similarity_cubed",
    "label",
    "rank_reorder",
    "soft_wpmi",
    "top_images",
    "wpmi",
]
FEWEST_IMAGES = {"soft_wpmi": 100, "wpmi": 28, "rank_reorder": 40, "cos_similarity": 2, "cos_similarity_cubed": 2}
FEWEST_IMAGES |= {"auc": 2}


def soft_wpmi(
    activations: Tensor,
    image_features: Tensor,
    text_features: Tensor,
    *,
    top_k: int = 100,
    a: float = 10.0,
    lam: float = 1.0,
    min_prob: float = 1e-7,
    p_start: float = 0.998,
    p_end: float = 0.97,
) -> Tensor:
    """Soft weighted pointwise mutual information of units and concepts.

    Parameters
    ----------
    activations : Tensor, shape (images, units)
        Pooled activations.
    image_features : Tensor, shape (images, d)
        Features of the probe images; they are L2-normalized here.
    text_features : Tensor, shape (concepts, d)
        Features of the concepts; they are L2-normalized here.
    top_k : int
        Number of a unit's most active images that count; at most all.
    a : float
        Inverse temperature of the softmax over concepts.
    lam : float
        Weight of the concept's prior D.
    min_prob : float
        Added inside the logarithm.
    p_start, p_end : float
        Probability that an image belongs to the unit's images, falling linearly with its rank from `p_start` towards
        `p_end`.

    Returns
    -------
    Tensor, shape (units, concepts)
        float64; NaN for dead units.

    Notes
    -----
    With S the softmax over concepts of `a` times the cosines, r_i a unit's image of rank i and
    p_i = p_start - (i / top_k)(p_start - p_end)::

        L = sum_i log(1 + p_i (S[r_i] - 1) + min_prob)
        score = L - lam * (logsumexp over units of L - log units)
    """
    terms = soft_terms(top_k=top_k, a=a, lam=lam, min_prob=min_prob, p_start=p_start, p_end=p_end)
    return mutual_information(activations, image_features, text_features, terms)


def wpmi(
    activations: Tensor,
    image_features: Tensor,
    text_features: Tensor,
    *,
    top_k: int = 28,
    a: float = 2.0,
    lam: float = 0.6,
    min_prob: float = 1e-7,
) -> Tensor:
    """Weighted pointwise mutual information of units and concepts.

    As of `soft_wpmi`, with L = sum_i log(S[r_i] + min_prob).
    """
    terms = hard_terms(top_k=top_k, a=a, lam=lam, min_prob=min_prob)
    return mutual_information(activations, image_features, text_features, terms)


def rank_reorder(
    activations: Tensor,
    image_features: Tensor,
    text_features: Tensor,
    *,
    p: float = 3.0,
    top_fraction: float = 0.05,
    scale_p: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """How little a unit's top activations change when they are re-ordered by a concept's cosines.

    With t the int(top_fraction * images) largest activations, descending, and s the same ascending, re-ordered by the
    rank q of the cosines of those images::

        base = mean |s - permuted s|^p, five permutations of a `seed` that all units share
        score = -mean |t - s[q]|^p / base / (mean cosine)^scale_p

    The first three arguments are as of `soft_wpmi`. Scores (units, concepts) are NaN also for units whose top
    activations are all equal, minus infinity where the mean cosine is not positive (the limit as it falls to 0).
    ValueError where `top_fraction` makes fewer than two images.
    """
    activations, images, texts, alive = checked_inputs(activations, image_features, text_features)
    n_top = int(top_fraction * len(images))
    if n_top < 2:
        raise ValueError(
            f"`top_fraction` is {top_fraction}: int({top_fraction} * {len(images)} images) = {n_top}, at least 2 needed"
        )
    top = top_images(activations, n_top)[alive]  # (active units, n_top)
    descending = activations.T[alive].gather(1, top).double()
    generator = torch.Generator().manual_seed(seed)
    permutations = torch.stack([torch.randperm(n_top, generator=generator) for _ in range(5)]).to(top.device)

    pairs = max(1, exemplars.BLOCK_ELEMENTS // n_top)  # unit-concept pairs held at once
    unit_step = max(1, pairs // max(texts.shape))
    blocks = []
    for t, t_images in zip(descending.split(unit_step), top.split(unit_step), strict=True):
        s = t.flip(1)
        base = (s[:, None] - s[:, permutations]).abs().pow(p).mean((1, 2))  # (unit, permutation, n_top) -> (unit,)
        errors, cosines = _reorder_errors(t, images[t_images], texts, p, concept_step=max(1, pairs // unit_step))
        score = -errors / base[:, None] / cosines.clamp_min(0).pow(scale_p)
        score[cosines <= 0] = -torch.inf
        score[base == 0] = torch.nan
        blocks.append(score)
    return with_dead_units(blocks, alive, len(texts))


def cos_similarity(activations: Tensor, image_features: Tensor, text_features: Tensor) -> Tensor:
    """Cosine, over the images, of a unit's activations and a concept's cosines; arguments as of `soft_wpmi`."""
    activations, images, texts, alive = checked_inputs(activations, image_features, text_features)
    responses = activations[:, alive].double()
    return _aligned(responses, images, texts, alive, center=0.0, power=1, min_norm=torch.finfo(torch.float64).tiny)


def cos_similarity_cubed(
    activations: Tensor, image_features: Tensor, text_features: Tensor, *, min_norm: float = 1e-3
) -> Tensor:
    """Product, over the images, of the centered and cubed activations and cosines, scaled by their norms.

    Arguments are as of `soft_wpmi`. `min_norm` is the smallest norm to divide by: most concepts of a real probe set
    fall below it, so the score is no cosine.
    """
    activations, images, texts, alive = checked_inputs(activations, image_features, text_features)
    responses = activations[:, alive].double()  # a copy, changed in place: at full size it has 260 MB
    responses.sub_(responses.mean(0)).pow_(3)
    mean_cosine = texts.double() @ images.mean(0, dtype=torch.float64)  # (concepts,)
    return _aligned(responses, images, texts, alive, center=mean_cosine, power=3, min_norm=min_norm)


def auc(activations: Tensor, image_features: Tensor, text_features: Tensor) -> Tensor:
    """Share of pairs of an image with the concept and one without that a unit orders rightly, ties half (INVERT).

    Bykov et al., NeurIPS 2023. An image has the concepts of a positive cosine; images of which it is known of none take
    no part, and concepts that no or all others have get NaN. Arguments are as of `soft_wpmi`.
    """
    activations, images, texts, alive = checked_inputs(activations, image_features, text_features)
    present = images @ texts.T > 0  # (images, concepts)
    known = present.any(1)
    present = present[known].double()
    count = present.sum(0)
    pairs = count * (len(present) - count)
    blocks = []
    for values in activations[known][:, alive].T.split(max(1, exemplars.BLOCK_ELEMENTS // len(images))):
        values = values.contiguous()
        ordered = values.sort(1).values
        below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
        ranks = (below + up_to + 1).double() / 2  # from 1, of equal values their mean
        blocks.append((ranks @ present - count * (count + 1) / 2) / pairs)
    return with_dead_units(blocks, alive, len(texts))


SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "soft_wpmi": soft_wpmi,
    "wpmi": wpmi,
    "rank_reorder": rank_reorder,
    "cos_similarity": cos_similarity,
    "cos_similarity_cubed": cos_similarity_cubed,
    "auc": auc,
}


# ---- likelihood and prior of WPMI and soft-WPMI, which the evidence resamples


class Terms(NamedTuple):
    """What `soft_wpmi` and `wpmi` are made of: ``L = sum_i log(offset_i + slope_i S[r_i])``, ``score = L - lam D``."""

    a: float  # inverse temperature of the softmax S
    lam: float
    offset: Tensor  # (top_k,) float64, by rank
    slope: Tensor  # (top_k,) float64


def soft_terms(
    *,
    top_k: int = 100,
    a: float = 10.0,
    lam: float = 1.0,
    min_prob: float = 1e-7,
    p_start: float = 0.998,
    p_end: float = 0.97,
) -> Terms:
    """Return the terms of `soft_wpmi`, whose parameters these are."""
    p = p_start - torch.arange(max(0, top_k), dtype=torch.float64) / top_k * (p_start - p_end)
    return Terms(a, lam, 1 - p + min_prob, p)


def hard_terms(*, top_k: int = 28, a: float = 2.0, lam: float = 0.6, min_prob: float = 1e-7) -> Terms:
    """Return the terms of `wpmi`, whose parameters these are."""
    slope = torch.ones(max(0, top_k), dtype=torch.float64)
    return Terms(a, lam, min_prob * slope, slope)


TERMS: dict[str, Callable[..., Terms]] = {"soft_wpmi": soft_terms, "wpmi": hard_terms}


def log_likelihood(activations: Tensor, image_features: Tensor, text_features: Tensor, terms: Terms) -> Tensor:
    """Compute L of `soft_wpmi` and `wpmi` (units, concepts), float64, before the layer term D is subtracted.

    The first three arguments are as of `soft_wpmi`; dead units get NaN. ValueError for fewer images than top ones.
    """
    activations, images, texts, alive = checked_inputs(activations, image_features, text_features)
    top_k = len(terms.slope)
    check_top_k(top_k, len(images))
    top = exemplars.top_images(activations, top_k)[alive]  # (active units, top_k)
    rows = max(1, exemplars.BLOCK_ELEMENTS // len(texts))  # softmax rows held at once
    factors = factors_at_once(terms)
    blocks = []
    # All ranks of a few units fit the cache of a CPU; a GPU gets many units at once, or it would wait for work.
    for block in top.split(max(1, rows // top_k) if top.device.type == "cpu" else rows):
        total = torch.zeros(len(block), len(texts), dtype=torch.float64, device=top.device)
        product = torch.ones_like(total)  # one logarithm for many ranks
        ranks = max(1, rows // max(1, len(block)))
        for first_rank in range(0, top_k, ranks):
            ranked = block[:, first_rank : first_rank + ranks]
            needed, position = ranked.unique(return_inverse=True)
            softmax = (images[needed] @ texts.T).mul_(terms.a).softmax(1)  # (needed images, concepts)
            for rank, row in enumerate(position.T, start=first_rank):
                product *= softmax[row].double().mul_(terms.slope[rank]).add_(terms.offset[rank])
                if (rank + 1) % factors == 0 or rank + 1 == top_k:
                    total += product.log_()
                    product.fill_(1)
        blocks.append(total)
    return with_dead_units(blocks, alive, len(texts))


def check_top_k(top_k: int, images: int) -> None:
    """Raise a ValueError for fewer images than top ones."""
    if not 1 <= top_k <= images:
        raise ValueError(f"`top_k` is {top_k} but there are {images} images; allowed: 1 to the number of images")


def term_of_layer(likelihood: Tensor) -> Tensor:
    """Compute D (concepts,) of L (units, concepts): logsumexp over active units, less the logarithm of their number."""
    living = likelihood[~likelihood[:, 0].isnan()]
    return living.logsumexp(0) - math.log(max(1, len(living)))


def checked_inputs(activations: Tensor, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, ...]:
    """Check activations (n, units), features (n, d) and (concepts, d); scale features, and mark the active units.

    ValueError where they disagree.
    """
    activations = exemplars.checked_activations(activations)
    images = normalized(image_features, "image_features")
    texts = normalized(text_features, "text_features")
    if len(images) != len(activations):
        raise ValueError(f"`image_features` has {len(images)} images, `activations` has {len(activations)}")
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"`image_features` has dimension {images.shape[1]}, `text_features` {texts.shape[1]}: "
            "both must come from the same encoder"
        )
    return activations, images, texts.to(images.dtype), ~exemplars.dead_units(activations)


def normalized(features: Tensor, name: str) -> Tensor:
    """Return features (rows, d) at unit length; ValueError, with `name`, where a row is not finite or 0."""
    features = as_floating(features)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"`{name}` must be (rows, dimensions), none of them 0, got shape {tuple(features.shape)}")
    norm = features.norm(dim=1, keepdim=True)
    usable = norm.isfinite() & (norm > 0)
    if not usable.all():
        row = (~usable).nonzero()[0, 0].item()
        raise ValueError(f"`{name}` row {row} has norm {norm[row].item()}; it must be finite and not 0")
    return features / norm


def mutual_information(activations: Tensor, image_features: Tensor, text_features: Tensor, terms: Terms) -> Tensor:
    """Give the similarity (units, concepts) from a likelihood's terms."""
    likelihood = log_likelihood(activations, image_features, text_features, terms)
    return likelihood.sub_(terms.lam * term_of_layer(likelihood))


def factors_at_once(terms: Terms) -> int:
    """How many factors ``offset + slope S`` can be multiplied before the smallest product underflows float64."""
    smallest = terms.offset.min().item()
    return max(1, int(700 / -math.log(smallest))) if 0 < smallest < 1 else 1


def with_dead_units(blocks: list[Tensor], alive: Tensor, n_concepts: int) -> Tensor:
    """Put the scores of the active units, blocks in order, into (units, concepts) that are NaN elsewhere."""
    scores = torch.full((len(alive), n_concepts), torch.nan, dtype=torch.float64, device=alive.device)
    if alive.any():
        scores[alive] = torch.cat(blocks)
    return scores


# ---- the other similarities


def _reorder_errors(t: Tensor, images: Tensor, texts: Tensor, p: float, *, concept_step: int) -> tuple[Tensor, Tensor]:
    """Mean |t - s[q]|^p and mean cosine of each unit and concept; `images` is (units, n_top, d), sorted as `t`."""
    errors, cosines = [], []
    for concepts in texts.split(concept_step):
        cosine = concepts @ images.mT  # (units, concepts, n_top)
        order = cosine.argsort(dim=2, stable=True)  # image of rank q at place q: t there faces s[q]
        reordered = t[:, None].expand(cosine.shape).gather(2, order)
        errors.append((reordered - t.flip(1)[:, None]).abs_().pow_(p).mean(2))
        cosines.append(cosine.mean(2, dtype=torch.float64))
    return torch.cat(errors, dim=1), torch.cat(cosines, dim=1)


def _aligned(
    responses: Tensor,
    images: Tensor,
    texts: Tensor,
    alive: Tensor,
    *,
    center: Tensor | float,
    power: int,
    min_norm: float,
) -> Tensor:
    """Inner products of `responses` and (cosine - center)^power over the images, each divided by its norm."""
    products = torch.zeros(responses.shape[1], len(texts), dtype=torch.float64, device=images.device)
    squares = torch.zeros(len(texts), dtype=torch.float64, device=images.device)
    step = max(1, exemplars.BLOCK_ELEMENTS // len(texts))
    for block, response in zip(images.split(step), responses.split(step), strict=True):
        cosine = (block @ texts.T).double().sub_(center).pow_(power)  # (images of the block, concepts)
        products += response.T @ cosine
        squares += cosine.square_().sum(0)
    products /= squares.sqrt().clamp_min(min_norm)
    products /= responses.norm(dim=0).clamp_min(min_norm)[:, None]
    return with_dead_units([products], alive, len(texts))
