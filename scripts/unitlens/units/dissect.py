"""CLIP-Dissect: score every unit of a layer against every concept, and label it with the best one.

Oikarinen & Weng, ICLR 2023, arXiv 2204.10965. Soft-WPMI is tested against 896 stored labels of the reference code,
the other similarities against independent loops. The images x concepts matrix is never held: it is made in blocks.

Scores depend on the concept list and, through D, on the other units of the layer: they cannot be compared across
lists, layers or models. All similarities give NaN for dead units, and dead units take no part in D.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens.activations import as_floating, check_finite, silenced

BLOCK_ELEMENTS = 2**24  # most numbers of an images x concepts block held at once: 64 MB in float32
SILENT = ("dead", "constant", "not finite")  # status of units that cannot have a label
_TOP_IMAGES = 5  # how many of a unit's top images the table names
_TOP_CONCEPTS = 5  # and how many of its best concepts


class Terms(NamedTuple):
    """What `soft_wpmi` and `wpmi` are made of: ``L = sum_i log(offset_i + slope_i S[r_i])``, ``score = L - lam D``."""

    a: float  # inverse temperature of the softmax S
    lam: float
    offset: Tensor  # (top_k,) float64, by rank
    slope: Tensor  # (top_k,) float64


class Labels(NamedTuple):
    """What `label` says of each unit; every field has shape (units,), concepts are column numbers of the scores."""

    concept: Tensor
    score: Tensor
    second: Tensor
    margin: Tensor


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
        Features of the probe images; they are L2-normalised here.
    text_features : Tensor, shape (concepts, d)
        Features of the concepts; they are L2-normalised here.
    top_k : int
        Number of a unit's most active images that count.
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

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer images than `top_k`, or a value is not finite.

    Notes
    -----
    With S the softmax over concepts of `a` times the cosines, r_i a unit's image of rank i and
    p_i = p_start - (i / top_k)(p_start - p_end)::

        L = sum_i log(1 + p_i (S[r_i] - 1) + min_prob)
        score = L - lam * (logsumexp over units of L - log units)
    """
    terms = soft_terms(top_k=top_k, a=a, lam=lam, min_prob=min_prob, p_start=p_start, p_end=p_end)
    return _mutual_information(activations, image_features, text_features, terms)


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

    Parameters
    ----------
    activations, image_features, text_features, top_k, a, lam, min_prob
        As in `soft_wpmi`.

    Returns
    -------
    Tensor, shape (units, concepts)
        float64; NaN for dead units.

    Raises
    ------
    ValueError
        As `soft_wpmi` does.

    Notes
    -----
    As `soft_wpmi` with L = sum_i log(S[r_i] + min_prob).
    """
    terms = hard_terms(top_k=top_k, a=a, lam=lam, min_prob=min_prob)
    return _mutual_information(activations, image_features, text_features, terms)


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

    Parameters
    ----------
    activations, image_features, text_features
        As in `soft_wpmi`.
    p : float
        Exponent of the differences.
    top_fraction : float
        Share of the images that count, the most active ones.
    scale_p : float
        Exponent of the mean cosine that the error is divided by.
    seed : int
        Seed of the five permutations that scale the error; all units share them.

    Returns
    -------
    Tensor, shape (units, concepts)
        float64; NaN for dead units and for units whose top activations are all equal, minus infinity where the mean
        cosine is not positive (the limit as it falls to 0).

    Raises
    ------
    ValueError
        If shapes disagree, fewer than two images count, or a value is not finite.

    Notes
    -----
    With t the int(top_fraction * images) largest activations, descending, and s the same ascending, re-ordered by the
    rank q of the cosines of those images::

        base = mean |s - permuted s|^p, five permutations
        score = -mean |t - s[q]|^p / base / (mean cosine)^scale_p
    """
    activations, images, texts, alive = _prepare(activations, image_features, text_features)
    n_top = int(top_fraction * len(images))
    if n_top < 2:
        raise ValueError(
            f"`top_fraction` is {top_fraction}: int({top_fraction} * {len(images)} images) = {n_top}, at least 2 needed"
        )
    top = top_images(activations, n_top)[alive]  # (living units, n_top)
    descending = activations.T[alive].gather(1, top).double()
    generator = torch.Generator().manual_seed(seed)
    permutations = torch.stack([torch.randperm(n_top, generator=generator) for _ in range(5)]).to(top.device)

    pairs = max(1, BLOCK_ELEMENTS // n_top)  # unit-concept pairs held at once
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
    return _with_dead_units(blocks, alive, len(texts))


def cos_similarity(activations: Tensor, image_features: Tensor, text_features: Tensor) -> Tensor:
    """Cosine, over the images, of a unit's activations and a concept's cosines.

    Parameters
    ----------
    activations, image_features, text_features
        As in `soft_wpmi`.

    Returns
    -------
    Tensor, shape (units, concepts)
        float64; NaN for dead units.

    Raises
    ------
    ValueError
        If shapes disagree or a value is not finite.
    """
    activations, images, texts, alive = _prepare(activations, image_features, text_features)
    responses = activations[:, alive].double()
    return _aligned(responses, images, texts, alive, centre=0.0, power=1, min_norm=torch.finfo(torch.float64).tiny)


def cos_similarity_cubed(
    activations: Tensor, image_features: Tensor, text_features: Tensor, *, min_norm: float = 1e-3
) -> Tensor:
    """Product, over the images, of the centred and cubed activations and cosines, scaled by their norms.

    Parameters
    ----------
    activations, image_features, text_features
        As in `soft_wpmi`.
    min_norm : float
        Smallest norm to divide by. Most concepts of a real probe set fall below it, so the score is no cosine.

    Returns
    -------
    Tensor, shape (units, concepts)
        float64; NaN for dead units.

    Raises
    ------
    ValueError
        If shapes disagree or a value is not finite.
    """
    activations, images, texts, alive = _prepare(activations, image_features, text_features)
    responses = activations[:, alive].double()  # a copy, changed in place: at full size it has 260 MB
    responses.sub_(responses.mean(0)).pow_(3)
    mean_cosine = texts.double() @ images.mean(0, dtype=torch.float64)  # (concepts,)
    return _aligned(responses, images, texts, alive, centre=mean_cosine, power=3, min_norm=min_norm)


SIMILARITIES: dict[str, Callable[..., Tensor]] = {
    "soft_wpmi": soft_wpmi,
    "wpmi": wpmi,
    "rank_reorder": rank_reorder,
    "cos_similarity": cos_similarity,
    "cos_similarity_cubed": cos_similarity_cubed,
}
FEWEST_IMAGES = {"soft_wpmi": 100, "wpmi": 28, "rank_reorder": 40, "cos_similarity": 2, "cos_similarity_cubed": 2}


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
    """Compute L of `soft_wpmi` and `wpmi`, before the layer term D is subtracted.

    Parameters
    ----------
    activations, image_features, text_features
        As in `soft_wpmi`.
    terms : Terms
        Of `soft_terms` or `hard_terms`.

    Returns
    -------
    Tensor, shape (units, concepts)
        float64; NaN for dead units.

    Raises
    ------
    ValueError
        As `soft_wpmi` does.
    """
    activations, images, texts, alive = _prepare(activations, image_features, text_features)
    top_k = len(terms.slope)
    if not 1 <= top_k <= len(images):
        raise ValueError(f"`top_k` is {top_k} but there are {len(images)} images; allowed: 1 to the number of images")
    top = top_images(activations, top_k)[alive]  # (living units, top_k)
    rows = max(1, BLOCK_ELEMENTS // len(texts))  # softmax rows held at once
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
    return _with_dead_units(blocks, alive, len(texts))


def layer_term(likelihood: Tensor) -> Tensor:
    """Compute D of `soft_wpmi` and `wpmi`: logsumexp over the living units of L, minus the logarithm of their number.

    Parameters
    ----------
    likelihood : Tensor, shape (units, concepts)
        Of `log_likelihood`.

    Returns
    -------
    Tensor, shape (concepts,)
    """
    living = likelihood[~likelihood[:, 0].isnan()]
    return living.logsumexp(0) - math.log(max(1, len(living)))


def label(scores: Tensor) -> Labels:
    """Choose each unit's best and second-best concept.

    Parameters
    ----------
    scores : Tensor, shape (units, concepts)
        Similarities; NaN and minus infinity mean that the concept is no candidate.

    Returns
    -------
    Labels
        concept, score, second and margin (score minus the second's), each (units,). A unit without a candidate has
        concept -1 and score NaN; one without a second candidate has second -1 and margin NaN. Ties go to the concept
        that comes first.
    """
    scores = as_floating(scores).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    concept, score = _best(scores)
    second, second_score = _best(scores.scatter(1, concept.clamp_min(0)[:, None], -torch.inf))
    return Labels(concept, score, second, score - second_score)


def check_origin(
    activations: Mapping[str, np.ndarray],
    images: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    encoders: tuple[str, str],
) -> None:
    """Check that activations, image features and concepts, as `evidence.label_table` takes them, belong together.

    Raises
    ------
    ValueError
        If the encoders differ, the images of the activations and of the features differ, no unit is finite on every
        image (the first unit and image are named), or a concept is empty or there twice.
    """
    if encoders[0] != encoders[1]:
        raise ValueError(
            f"images were embedded with {encoders[0]!r}, concepts with {encoders[1]!r}; embed both with one encoder"
        )
    if list(activations["image_id"]) != list(images["image_id"]):
        raise ValueError("activations and image features are not of the same images in the same order; run both again")
    check_finite(torch.as_tensor(activations["activations"]))
    words = pd.Series(concepts["word"])
    if (unusable := words[words.str.strip().eq("") | words.duplicated()]).size:
        raise ValueError(f"concept {unusable.iloc[0]!r} (row {unusable.index[0]}) is empty or there twice; embed again")


def tabulate(
    scores: Tensor,
    activations: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    *,
    similarity: str,
    encoder: str,
) -> pd.DataFrame:
    """Tabulate the labels that scores give.

    Parameters
    ----------
    scores : Tensor, shape (units, concepts)
        Of a similarity.
    activations, concepts
        As in `evidence.label_table`.
    similarity, encoder : str
        Names for the table.

    Returns
    -------
    pandas.DataFrame
        A row a unit: ``unit, status`` (labelled; dead, zero on every image; constant, another number on every image;
        not finite, NaN or infinite on some image; unlabelled where the similarity has no answer)``, concept, category,
        score, second_concept, margin, top_concepts`` (the five best, best first, with ``; `` between)``, top_images``
        (the ids of the five images that activate it most, strongest first)``, encoder, similarity, concept_list``
        (number and digest of the words).
    """
    given = torch.as_tensor(activations["activations"])
    values = silenced(given)
    labels = Labels(*(part.cpu().numpy() for part in label(scores)))
    silent = dead_units(values).numpy()
    status = np.where(labels.concept < 0, "unlabelled", "labelled").astype(object)
    status[silent] = np.where(values[0].numpy()[silent] == 0, "dead", "constant")
    status[~given.isfinite().all(0).numpy()] = "not finite"
    words, categories = (
        np.append(concepts[name], "") for name in ("word", "category")
    )  # -1, no label, is the empty last
    top = top_images(values, min(_TOP_IMAGES, len(values))).numpy()
    top_ids = [" ".join(np.asarray(activations["image_id"])[row]) for row in top]
    return pd.DataFrame(
        {
            "unit": np.arange(values.shape[1]),
            "status": status,
            "concept": words[labels.concept],
            "category": categories[labels.concept],
            "score": labels.score,
            "second_concept": words[labels.second],
            "margin": labels.margin,
            "top_concepts": _best_words(scores, words),
            "top_images": np.where(silent, "", top_ids),
            "encoder": encoder,
            "similarity": similarity,
            "concept_list": _list_name(concepts["word"]),
        }
    )


def _list_name(words: Sequence[str]) -> str:
    return f"{len(words)} words {hashlib.sha256(chr(10).join(words).encode()).hexdigest()[:8]}"


def _best_words(scores: Tensor, words: np.ndarray) -> list[str]:
    """Join each unit's best concepts, best first; what is no candidate is left out."""
    scores = scores.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    columns = _top_columns(scores, min(_TOP_CONCEPTS, scores.shape[1]))
    finite = scores.gather(1, columns).isfinite()
    return ["; ".join(words[row[keep]]) for row, keep in zip(columns.numpy(), finite.numpy(), strict=True)]


def with_common_words(concepts: pd.DataFrame, count: int) -> pd.DataFrame:
    """Add the most common English words, of letters only and at least three of them, to a concept list.

    They are those of wordfreq (Speer 2022: subtitles, Wikipedia, news, books, the web), so not the published list of
    CLIP-Dissect, whose 20,000 words come from another corpus in another order; even lists of 10,000 and 20,000 words
    of one corpus agree on 42 to 50 % of the labels only, so labels compare within one list.

    Parameters
    ----------
    concepts : pandas.DataFrame
        Columns ``word`` and ``category``.
    count : int
        How many of the most common words to look at; 0 adds none.

    Returns
    -------
    pandas.DataFrame
        The list, then the words that it lacks, with the category ``word``.
    """
    if not count:
        return concepts
    from wordfreq import top_n_list

    common = [word for word in top_n_list("en", 2 * count) if word.isalpha() and len(word) >= 3][:count]
    added = [word for word in common if word not in set(concepts.word)]
    return pd.concat([concepts, pd.DataFrame({"word": added, "category": "word"})], ignore_index=True)


def top_images(activations: Tensor, k: int) -> Tensor:
    """Return the `k` images that activate each unit most.

    Parameters
    ----------
    activations : Tensor, shape (images, units)
        Pooled activations.
    k : int
        Number of images, 1 to the number of images.

    Returns
    -------
    Tensor, shape (units, k), int64
        Image rows, the most active first; of equal activations the lower row comes first.

    Raises
    ------
    ValueError
        If `k` is out of range or an activation is not finite.
    """
    activations = _checked_activations(activations)
    if not 1 <= k <= len(activations):
        raise ValueError(f"`k` is {k}; allowed: 1 to {len(activations)}, the number of images")
    unit_step = max(1, BLOCK_ELEMENTS // len(activations))
    return torch.cat([_top_columns(block.T.contiguous(), k) for block in activations.split(unit_step, dim=1)])


def dead_units(activations: Tensor) -> Tensor:
    """Tell which units say nothing: the same activation, zero or other, on every image.

    Parameters
    ----------
    activations : Tensor, shape (images, units)
        Pooled activations.

    Returns
    -------
    Tensor, shape (units,), bool
        True for dead units.

    Raises
    ------
    ValueError
        If an activation is not finite.
    """
    activations = _checked_activations(activations)
    return activations.amax(0) == activations.amin(0)


def _checked_activations(activations: Tensor) -> Tensor:
    activations = as_floating(activations)
    if activations.ndim != 2 or 0 in activations.shape:
        raise ValueError(f"`activations` must be (images, units), none of them 0, got {tuple(activations.shape)}")
    if not (finite := activations.isfinite()).all():
        row, unit = (~finite).nonzero()[0].tolist()
        value = activations[row, unit].item()
        raise ValueError(f"activation of unit {unit} is {value} at image row {row}; it must be finite")
    return activations


def _prepare(activations: Tensor, image_features: Tensor, text_features: Tensor) -> tuple[Tensor, ...]:
    """Check the three arrays; return activations, normalised features and the mask of living units."""
    activations = _checked_activations(activations)
    images = normalised(image_features, "image_features")
    texts = normalised(text_features, "text_features")
    if len(images) != len(activations):
        raise ValueError(f"`image_features` has {len(images)} images, `activations` has {len(activations)}")
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"`image_features` has dimension {images.shape[1]}, `text_features` {texts.shape[1]}: "
            "both must come from the same encoder"
        )
    return activations, images, texts.to(images.dtype), ~dead_units(activations)


def normalised(features: Tensor, name: str) -> Tensor:
    """Return features (rows, d) at unit length.

    Raises
    ------
    ValueError
        If they are not (rows, d), or a row is not finite or 0; it calls them `name`.
    """
    features = as_floating(features)
    if features.ndim != 2 or 0 in features.shape:
        raise ValueError(f"`{name}` must be (rows, dimensions), none of them 0, got shape {tuple(features.shape)}")
    norm = features.norm(dim=1, keepdim=True)
    usable = norm.isfinite() & (norm > 0)
    if not usable.all():
        row = (~usable).nonzero()[0, 0].item()
        raise ValueError(f"`{name}` row {row} has norm {norm[row].item()}; it must be finite and not 0")
    return features / norm


def _top_columns(values: Tensor, k: int) -> Tensor:
    """Columns of the `k` largest values of each row, descending, ties by index; `topk` leaves ties in any order."""
    threshold = values.topk(k, dim=1).values[:, -1:]
    above = values > threshold
    tied = values == threshold
    missing = k - above.sum(1, keepdim=True)
    chosen = above | (tied & (tied.cumsum(1, dtype=torch.int32) <= missing))
    columns = chosen.nonzero()[:, 1].view(-1, k)  # (rows * k,) -> (rows, k), ascending
    order = values.gather(1, columns).argsort(dim=1, descending=True, stable=True)
    return columns.gather(1, order)


def _mutual_information(activations: Tensor, image_features: Tensor, text_features: Tensor, terms: Terms) -> Tensor:
    likelihood = log_likelihood(activations, image_features, text_features, terms)
    return likelihood.sub_(terms.lam * layer_term(likelihood))


def factors_at_once(terms: Terms) -> int:
    """How many factors ``offset + slope S`` can be multiplied before the smallest product underflows float64."""
    smallest = terms.offset.min().item()
    return max(1, int(700 / -math.log(smallest))) if 0 < smallest < 1 else 1


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
    centre: Tensor | float,
    power: int,
    min_norm: float,
) -> Tensor:
    """Inner products of `responses` and (cosine - centre)^power over the images, each divided by its norm."""
    products = torch.zeros(responses.shape[1], len(texts), dtype=torch.float64, device=images.device)
    squares = torch.zeros(len(texts), dtype=torch.float64, device=images.device)
    step = max(1, BLOCK_ELEMENTS // len(texts))
    for block, response in zip(images.split(step), responses.split(step), strict=True):
        cosine = (block @ texts.T).double().sub_(centre).pow_(power)  # (images of the block, concepts)
        products += response.T @ cosine
        squares += cosine.square_().sum(0)
    products /= squares.sqrt().clamp_min(min_norm)
    products /= responses.norm(dim=0).clamp_min(min_norm)[:, None]
    return _with_dead_units([products], alive, len(texts))


def _with_dead_units(blocks: list[Tensor], alive: Tensor, n_concepts: int) -> Tensor:
    """Put the scores of the living units, in order, into rows of NaN for all units."""
    scores = torch.full((len(alive), n_concepts), torch.nan, dtype=torch.float64, device=alive.device)
    if alive.any():
        scores[alive] = torch.cat(blocks)
    return scores


def _best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Column and value of the first maximum of each row; -1 and NaN where it is not finite."""
    concept = scores.argmax(1)
    score = scores.gather(1, concept[:, None])[:, 0]
    none = ~score.isfinite()
    return concept.masked_fill(none, -1), score.masked_fill(none, torch.nan)
