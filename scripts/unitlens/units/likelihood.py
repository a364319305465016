"""Log-likelihood and prior of WPMI and soft-WPMI, the parts that the evidence resamples.

The images x concepts matrix is never held: it is made in blocks. Arrays that do not fit each other are a ValueError.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from unitlens.networks.layer_outputs import as_floating
from unitlens.units import exemplars


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
    if not 1 <= top_k <= len(images):
        raise ValueError(f"`top_k` is {top_k} but there are {len(images)} images; allowed: 1 to the number of images")
    top = exemplars.top_images(activations, top_k)[alive]  # (living units, top_k)
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


def term_of_layer(likelihood: Tensor) -> Tensor:
    """Compute D (concepts,) of L (units, concepts): logsumexp over living units, less the logarithm of their number."""
    living = likelihood[~likelihood[:, 0].isnan()]
    return living.logsumexp(0) - math.log(max(1, len(living)))


def checked_inputs(activations: Tensor, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, ...]:
    """Check activations (n, units), features (n, d) and (concepts, d); scale features, and mark the living units.

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
    """Put the scores of the living units, blocks in order, into (units, concepts) that are NaN elsewhere."""
    scores = torch.full((len(alive), n_concepts), torch.nan, dtype=torch.float64, device=alive.device)
    if alive.any():
        scores[alive] = torch.cat(blocks)
    return scores
