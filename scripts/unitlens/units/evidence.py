"""Evidence for labels: are they stable, better than chance, and which ones other source images give.

Benjamini-Hochberg (1995) adjusts for the units of the layer.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unitlens.jobs import progress
from unitlens.jobs.sheets import FEWEST_SOURCE_IMAGES
from unitlens.units import dissect, exemplars
from unitlens.units.dissect import Terms, factors_at_once
from unitlens.units.label_sets import shortfall
from unitlens.units.linear_labels import correlations
from unitlens.units.permutation import (
    Probe,
    SourceImages,
    exchange,
    group_rows,
    halves,
    likelihood_of,
    pattern,
    rank_lists,
    resample,
    shuffle,
    strata,
    testable,
)

BEST = 50  # concepts of a unit that compete in the bootstrap of `soft_wpmi` and `wpmi`
NEAREST_PAIRS = 1 / 16  # pairs that are near-duplicates, for each concept of a list
LEAST_COSINE = 0.5  # of centered features of near-duplicates
TOP_KS = (25, 50, 100, 200, 400)  # how many top images `soft_wpmi` may look at, where a layer chooses
UNITS_TRIED = 128  # of a layer, at most, to choose by
FEWEST_SHUFFLES = 20  # of every unit, where the null of a similarity is the unit's own
_LEAST_DEVIATION = 1e-12  # of a unit's best scores under the null; below it only rounding varies
_EQUAL = 1e-5  # more than rounding makes of equal features
_ROUNDING = 5e-4  # of L in nats, more than float32 makes of it: so much is taken from the observed L


class Stability(NamedTuple):
    """Of each unit: share of resamples that keep label and group, and the 90 % interval of the label's score."""

    kept: np.ndarray
    kept_group: np.ndarray
    low: np.ndarray
    high: np.ndarray


def margin_to_other_group(scores: Tensor, groups: np.ndarray) -> np.ndarray:
    """Compute how far the best concept lies above the best one of another group, (units,).

    Of scores (units, concepts) and groups (concepts,); NaN where there is no label or no other group.
    """
    group_of = torch.as_tensor(groups, device=scores.device)
    margins = []
    for part in exemplars.row_blocks(scores):
        best = dissect.label(part)
        same = group_of == group_of[best.concept][:, None]
        margins.append(best.score - dissect.label(part.masked_fill(same, -torch.inf)).score)
    return torch.cat(margins).cpu().numpy()


def near_duplicates(texts: Tensor) -> np.ndarray:
    """Group concepts whose text features (concepts, d), of unit length, nearly agree; give each concept's leader.

    Features are centered, for an encoder's words share much that says nothing of their meaning. The bar is a rank: of
    the pairs, so many of the nearest are near-duplicates as there are sixteenths of the list, rounded up, and only from
    a cosine of 0.5 on. A concept leads a group unless an earlier leader is that near; then it joins the nearest leader.
    So a group has the name of its first word, which is the more common one in a list of common words, every member is
    near that word, and no chain of neighbors joins concepts that are far apart.
    """
    texts = _centered(texts)
    bar = _bar_of_rank(texts, math.ceil(len(texts) * NEAREST_PAIRS))
    leader, leaders = np.empty(len(texts), dtype=np.int64), torch.empty(0, dtype=torch.int64)
    step = max(1, int(math.sqrt(exemplars.BLOCK_ELEMENTS // 16)))
    for start in range(0, len(texts), step):
        block = texts[start : start + step]
        free = (block @ texts[leaders].T >= bar).any(1).logical_not_().cpu().numpy()
        near = (block @ block.T >= bar).cpu().numpy()
        for row in np.flatnonzero(free):
            if free[row]:  # no leader before it in this block took it
                free[row + 1 :] &= ~near[row, row + 1 :]
        leaders = torch.cat([leaders, torch.from_numpy(start + np.flatnonzero(free))])
    leader[leaders] = leaders
    for rows in torch.from_numpy(np.setdiff1d(np.arange(len(texts)), leaders)).split(step):
        leader[rows.numpy()] = leaders[(texts[rows] @ texts[leaders].T).argmax(1).cpu()]
    return leader


def _centered(texts: Tensor) -> Tensor:
    """Subtract the mean of all features, and scale to unit length; as they are where all of them are equal."""
    centered = texts - texts.mean(0)
    norm = centered.norm(dim=1, keepdim=True)
    return texts if norm.max() < _EQUAL else centered / norm.clamp_min(_EQUAL)


def _bar_of_rank(texts: Tensor, pairs: int) -> float:
    """Cosine of the pair of that rank among texts (concepts, d), but at least `LEAST_COSINE`."""
    nearest = torch.empty(0)
    step = max(1, exemplars.BLOCK_ELEMENTS // len(texts))
    for start in range(0, len(texts), step):
        cosine = (texts[start : start + step] @ texts[start:].T).triu_(1)
        nearest = torch.cat([nearest, cosine[cosine >= LEAST_COSINE].cpu()])
        nearest = nearest.topk(min(pairs, len(nearest))).values
    return nearest.min().item() - _EQUAL if len(nearest) == pairs else LEAST_COSINE


def choose_top_k(probe: Probe, axes: Tensor, parts: Sequence[np.ndarray], rng: np.random.Generator) -> int:
    """Choose how many top images `soft_wpmi` looks at, by two parts of the images, their rows (n,), and by no others.

    Of those of `TOP_KS` for which either part has images enough, it is the one whose labels by one part correlate best
    with the units on the other, in the mean of both directions and of at most `UNITS_TRIED` units at random. `axes`
    (concepts, d) are as of `held_out.score`. The first of `TOP_KS` where there is no choice.
    """
    activations, images, texts, *_ = probe
    values = activations[:, rng.permutation(activations.shape[1])[:UNITS_TRIED]]
    best, highest = TOP_KS[0], -np.inf
    for top_k in [each for each in TOP_KS if each <= min(map(len, parts))]:
        found = []
        for own, other in (parts, parts[::-1]):
            concepts = _labels_of(values[own], images[own], texts, top_k)
            known = concepts >= 0
            found.append(correlations(values[other][:, known], images[other] @ axes[concepts[known]].T))
        mean = torch.cat(found).nanmean().item()
        best, highest = (top_k, mean) if mean > highest else (best, highest)
    return best


def label_halves(
    probe: Probe, axes: Tensor, splits: Sequence[Sequence[np.ndarray]], rng: np.random.Generator
) -> np.ndarray:
    """Label units by each half of each split, (splits, 2, units), with as many top images as that half alone chooses.

    So what is scored on the other half has not chosen with it. -1 for none, as where a half has too few images or
    source images. Arguments are as of `choose_top_k`.
    """
    found = np.full((len(splits), 2, probe.activations.shape[1]), -1)
    every = [rows for split in splits for rows in split]
    for labels, rows in zip(found.reshape(len(every), found.shape[-1]), every, strict=True):
        names = probe.source_images.number[rows]
        if len(rows) >= 2 * TOP_KS[0] and len(set(names.tolist())) >= FEWEST_SOURCE_IMAGES:
            parts = [rows[part] for part in halves(group_rows(names), rng)]
            top_k = choose_top_k(probe, axes, parts, rng)
            labels[:] = _labels_of(probe.activations[rows], probe.images[rows], probe.texts, top_k)
    return found


def _labels_of(activations: Tensor, images: Tensor, texts: Tensor, top_k: int) -> np.ndarray:
    return dissect.label(dissect.soft_wpmi(activations, images, texts, top_k=top_k)).concept.cpu().numpy()


class Collected(NamedTuple):
    """What the table is made from: `observed` (units,) is compared with the draws of the unit's stratum."""

    scores: Tensor
    stability: Stability
    observed: np.ndarray
    null: list[np.ndarray]  # (draws,) of each stratum
    stratum: np.ndarray  # (units,), of a unit that is not tested 0
    halves: np.ndarray  # (splits, 2, units) the concept by each half of the source images, -1 for none
    short: np.ndarray  # (2, units) of the first: the other half's concept scores so far below its own, NaN for none


# ---- soft_wpmi and wpmi: only top images count


def collect_from_top_images(
    probe: Probe,
    terms: Terms,
    log_norms: Tensor,
    resamples: int,
    null_draws: int,
    splits: Sequence[Sequence[np.ndarray]],
    rngs: Sequence[np.random.Generator],
) -> Collected:
    """Collect evidence without ever holding the images x concepts matrix, and with one pass over it.

    Another pass has made the `log_norms` of `log_normalizers`, (images, 1), which all layers share. ValueError for
    fewer images than top ones.
    """
    activations, images, texts, source_images, _ = probe
    top_k = len(terms.slope)
    dissect.check_top_k(top_k, len(images))
    tops, alive = exemplars.top_images(activations, top_k), ~exemplars.dead_units(activations)
    tested = np.flatnonzero(testable(activations, top_k))
    given = tops.cpu().numpy()
    stratum = np.zeros(len(tops), np.int64)
    stratum[tested] = strata(given[tested], source_images, null_draws)
    drawn, pattern_of = [], functools.cache(lambda unit: pattern(source_images, given[unit]))
    for number, count in enumerate(map(len, np.array_split(np.arange(null_draws), stratum.max() + 1))):
        own = tested[stratum[tested] == number]
        units = rngs[1].choice(own, count) if len(own) else own
        rows = np.array([exchange(source_images, pattern_of(unit), rngs[1]) for unit in units], dtype=np.int64)
        drawn.append(torch.as_tensor(rows.reshape(-1, top_k), device=images.device))
    of_halves = [_top_of_half(activations, half, top_k) for rows in splits for half in rows]
    scores = torch.full((len(tops), len(texts)), torch.nan, dtype=torch.float64, device=images.device)

    def keep(concepts: slice, block: Tensor) -> None:
        scores[:, concepts][alive] = block

    lists = [tops[alive], *(top for _, top in of_halves)]
    null, (layer, *best) = rank_lists(drawn, lists, probe, terms, log_norms, keep)
    stability = bootstrap_top_images(probe, scores, layer.layer_term, terms, log_norms, resamples, rngs[0])

    own, concepts = torch.as_tensor(stratum, device=images.device)[alive], layer.concept
    likelihood = layer.score + terms.lam * layer.layer_term[concepts]
    observed = torch.full((len(tops),), torch.nan, dtype=torch.float64, device=images.device)
    observed[alive] = (likelihood - _ROUNDING - null.mean[own, concepts]) / null.deviation[own, concepts]
    by_half = np.full((len(of_halves), len(scores)), -1)
    for label, (alive, _), winners in zip(by_half, of_halves, best, strict=True):
        label[alive.cpu()] = winners.concept.cpu()
    short, labels = np.full((2, len(scores)), np.nan), by_half[:2]
    for own, (alive, top), winners, other in zip(short, of_halves[:2], best[:2], labels[::-1], strict=True):
        both = torch.as_tensor(other)[alive.cpu()].to(alive.device)  # what the other half calls these units
        concept = both.clamp_min(0)
        there = likelihood_of(top, concept, probe, terms, log_norms) - terms.lam * winners.layer_term[concept]
        own[alive.cpu()] = (winners.score - there).masked_fill(both < 0, torch.nan).clamp_min(0).cpu()
        own[(labels[0] == labels[1]) & (labels[0] >= 0)] = 0  # exactly, where sums in float32 differ
    largest = [each.cpu().numpy() for each in null.largest]
    by_half = by_half.reshape(len(splits), 2, -1)
    return Collected(scores, stability, observed.cpu().numpy(), largest, stratum, by_half, short)


def bootstrap_top_images(
    probe: Probe,
    scores: Tensor,
    layer_term: Tensor,
    terms: Terms,
    log_norms: Tensor,
    resamples: int,
    rng: np.random.Generator,
) -> Stability:
    """Label every unit on resampled source images, among its 50 best concepts and with D as it is on all source images.

    Of scores (units, concepts), NaN for dead units, D (concepts,), and the (images, 1) of `log_normalizers`. NaN for no
    resamples.
    """
    found = np.full((4, len(scores)), np.nan)
    if not resamples:
        return Stability(*found)
    activations, images, texts, source_images, groups = probe
    counts = torch.as_tensor(np.stack([resample(source_images, rng) for _ in range(resamples)]))
    ranked = _extended_top(activations, source_images, counts, len(terms.slope))
    rank = torch.arange(len(terms.slope)).repeat(resamples, 1)
    slope, offset = (each[:, None].to(images.device) for each in (terms.slope, terms.offset))
    at_once = factors_at_once(terms)
    for unit in progress.each((~scores[:, 0].isnan()).nonzero()[:, 0].tolist(), "units resampled"):
        rows = ranked[unit]
        best = exemplars.top_columns(scores[unit][None], min(BEST, len(texts)))[0]
        softmax = ((images[rows] @ texts[best].T).mul_(terms.a) - log_norms[rows]).exp_().double()
        times = counts[:, source_images.number[rows.cpu()]]  # (resamples, rows): how often each row is there
        image = torch.searchsorted(times.cumsum(1), rank, right=True).clamp_(max=len(rows) - 1).to(rows.device)
        factors = softmax[image].mul_(slope).add_(offset)
        parts = factors.split(at_once, dim=1)  # (resamples, ranks, concepts)
        resampled = sum(part.prod(1).log_() for part in parts) - terms.lam * layer_term[best]
        winner = best[resampled.argmax(1)].cpu().numpy()
        found[:2, unit] = (winner == best[0].item()).mean(), (groups[winner] == groups[best[0].item()]).mean()
        found[2:, unit] = np.quantile(resampled[:, 0].cpu().numpy(), [0.05, 0.95])
    return Stability(*found)


def _extended_top(activations: Tensor, source_images: SourceImages, counts: Tensor, top_k: int) -> Tensor:
    """Top images of every unit, so many that each resample takes its `top_k` from them, (units, length)."""
    length = min(2 * top_k, len(activations))
    while True:
        top = exemplars.top_images(activations, length)
        number = torch.as_tensor(source_images.number)[top.cpu()]
        if length == len(activations) or min(counts[:, of].sum(1).min().item() for of in number) >= top_k:
            return top
        length = min(2 * length, len(activations))


def _top_of_half(activations: Tensor, rows: np.ndarray, top_k: int) -> tuple[Tensor, Tensor]:
    """Units that live on some of the images, none where these are too few, and their top images."""
    if len(rows) < top_k:
        none = torch.empty(0, dtype=torch.int64)
        return none, none.view(0, top_k)
    half = activations[rows]
    alive = (~exemplars.dead_units(half)).nonzero()[:, 0]
    return alive, torch.as_tensor(rows, device=half.device)[exemplars.top_images(half, top_k)[alive]]


# ---- other similarities: every image counts, so that everything is done again for each resample


def collect_from_all_images(
    probe: Probe,
    similarity: str,
    resamples: int,
    null_draws: int,
    splits: Sequence[Sequence[np.ndarray]],
    rngs: Sequence[np.random.Generator],
) -> Collected:
    """Collect evidence by labeling again: once a resample, once for a draw of every unit, once a half."""
    activations, images, texts, source_images, groups = probe
    score = dissect.SIMILARITIES[similarity]
    scores = score(activations, images, texts)
    labels, observed, *_ = (part.cpu() for part in dissect.label(scores))
    units = torch.arange(len(labels))
    kept = np.full((2, len(labels)), 0 if resamples else np.nan)
    label_scores = np.full((resamples, len(labels)), np.nan)
    for number in progress.each(range(resamples), "resamples"):
        times = resample(source_images, rngs[0])[source_images.number]
        rows = np.repeat(np.arange(len(images)), times)
        resampled = score(activations[rows], images[rows], texts).cpu()
        winner = dissect.label(resampled).concept
        kept += np.stack([winner == labels, (groups[winner] == groups[labels]) & (winner >= 0).numpy()])
        label_scores[number] = resampled[units, labels]
    label_scores = np.where(np.isfinite(label_scores), label_scores, np.nan)
    none = np.where(labels < 0, np.nan, 1)
    interval = np.full((2, len(labels)), np.nan)
    known = np.isfinite(label_scores).any(0)
    interval[:, known] = np.nanquantile(label_scores[:, known], (0.05, 0.95), axis=0)
    interval *= none
    stability = Stability(*(none * kept / max(1, resamples)), *interval)

    tested = np.flatnonzero(testable(activations))
    shuffles = max(FEWEST_SHUFFLES, null_draws // len(tested)) if len(tested) else 0
    drawn = np.full((shuffles, len(labels)), np.nan)
    for best in progress.each(drawn, "shuffles of all units"):
        shuffled = [activations[shuffle(source_images, rngs[1]), unit] for unit in tested]
        best[tested] = dissect.label(score(torch.stack(shuffled, 1), images, texts)).score.cpu().numpy()
    if similarity == "auc":  # of ranks only, so that one null suits all units
        observed, null = observed.numpy(), drawn[:, tested].ravel()
        null = np.where(np.isnan(null), -np.inf, null)
    else:
        observed, null = standardized(observed.numpy(), drawn)

    found, short = np.full((len(splits), 2, len(labels)), -1), np.full((2, len(labels)), np.nan)
    for number, rows in enumerate(progress.each(splits, "pairs of halves")):
        if min(map(len, rows)) < dissect.FEWEST_IMAGES[similarity]:
            break
        by_half = [score(activations[half], images[half], texts).cpu() for half in rows]
        winners = [dissect.label(each).concept for each in by_half]
        found[number] = np.stack([each.numpy() for each in winners])
        if not number:
            short = np.stack([shortfall(*each).numpy() for each in zip(by_half, winners[::-1], strict=True)])
    one = np.zeros(len(labels), np.int64)
    return Collected(scores, stability, observed, [null], one, found, short)


def standardized(observed: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale best scores (units,) by each unit's own draws (draws, units), and every draw by the unit's others.

    Where a unit ignores what images show, its score and its draws so come from one distribution, whatever its mean and
    deviation are: those of dense units are not those of sparse ones. Gives (units,), NaN for units whose draws do not
    vary, and the draws that are known, (n,).
    """

    def scaled(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        known = np.ma.masked_invalid(others)
        n, deviation = known.count(0), known.std(0, ddof=1).filled(0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (values - known.mean(0).filled(np.nan)) / (deviation * np.sqrt(1 + 1 / n))
        return np.where(deviation > _LEAST_DEVIATION, found, np.nan)

    null = [scaled(drawn[row], np.delete(drawn, row, 0)) for row in range(len(drawn))]
    null = np.concatenate([np.empty(0), *null])
    return scaled(observed, drawn), null[~np.isnan(null)]
