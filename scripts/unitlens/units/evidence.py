"""Evidence for labels: are they stable, better than chance, and do they hold on other photographs.

Bootstrap and permutation null take photographs whole: crops of one photograph are one sample. A label is compared with
the best of all concepts under the null, so the choice of the label is accounted for (Westfall & Young 1993, max-T);
Benjamini-Hochberg (1995) adjusts for the units of the layer. Held-out scores are two that fall when a label is made
worse (Oikarinen, Yan & Weng, ICML 2025).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens import dissect, stats
from unitlens.activations import silenced
from unitlens.dissect import BLOCK_ELEMENTS, Terms
from unitlens.jobs.sheets import FEWEST_PHOTOGRAPHS
from unitlens.logs import each
from unitlens.wording import SIGNIFICANT, counted

BEST = 50  # concepts of a unit that compete in the bootstrap of `soft_wpmi` and `wpmi`
ACTIVE_SHARE = 0.05  # of the held-out images, those on which a unit counts as active
_ROUNDING = 5e-4  # of L in nats, more than float32 makes of it: so much is taken from the observed L
_LEAST_DEVIATION = 1e-3  # of L under the null, in nats; below it only rounding varies
_LIST_ELEMENTS = 2**18  # numbers of a lists x concepts block that is worked on at once, so that it stays in the cache


class Photographs(NamedTuple):
    """Which image rows are of which photograph."""

    number: np.ndarray  # (images,) the photograph of a row
    place: np.ndarray  # (images,) which of its photograph's rows a row is
    size: np.ndarray  # (photographs,) rows
    start: np.ndarray  # (photographs,) where its rows begin in `rows`
    rows: np.ndarray  # (images,) the rows, photograph by photograph


class Probe(NamedTuple):
    """A layer and what it is labelled with."""

    activations: Tensor  # (images, units)
    images: Tensor  # (images, d), of unit length
    texts: Tensor  # (concepts, d), of unit length
    photographs: Photographs
    groups: np.ndarray  # (concepts,) of near-duplicates


class Stability(NamedTuple):
    """Of each unit: share of resamples that keep label and group, and the 90 % interval of the label's score."""

    kept: np.ndarray
    kept_group: np.ndarray
    low: np.ndarray
    high: np.ndarray


class HeldOut(NamedTuple):
    """Of each unit: means over the two directions, and on how many images they were computed."""

    correlation: np.ndarray
    auprc: np.ndarray
    images: np.ndarray


class Null(NamedTuple):
    """L under the permutation null: its mean and deviation of every concept, and of every draw the largest z of all."""

    mean: Tensor  # (concepts,)
    deviation: Tensor  # (concepts,)
    largest: Tensor  # (draws,)


class Collected(NamedTuple):
    """What the table is made from: `observed` (units,) is compared with `null` (draws,)."""

    scores: Tensor
    stability: Stability
    observed: np.ndarray
    null: np.ndarray
    held_out: HeldOut


def label_table(
    activations: Mapping[str, np.ndarray],
    images: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    *,
    similarity: str,
    encoders: tuple[str, str],
    seed: int,
    resamples: int = 200,
    null_draws: int = 10_000,
    alpha: float = 0.05,
    near_duplicate: float = 0.9,
) -> pd.DataFrame:
    """Label every unit of a layer and tabulate the labels with their evidence.

    Parameters
    ----------
    activations : mapping
        ``activations`` (n, units) and ``image_id`` (n,).
    images : mapping
        ``features`` (n, d), ``image_id`` (n,), of the same images in the same order, and ``photograph`` (n,): what
        each image was cut from.
    concepts : mapping
        ``features`` (m, d), ``word`` (m,) and ``category`` (m,).
    similarity : str
        A key of `dissect.SIMILARITIES`.
    encoders : tuple of two str
        Names of the encoders of the images and of the concepts, which must be one.
    seed : int
        Of the resamples, the draws and the halves.
    resamples : int
        Bootstrap resamples of the photographs.
    null_draws : int
        Draws of the permutation null; the smallest p-value is 1 / (1 + null_draws).
    alpha : float
        Units whose adjusted p-value exceeds it are unlabelled.
    near_duplicate : float
        Cosine of two concepts from which on they can share a group.

    Returns
    -------
    pandas.DataFrame
        The columns of `dissect.tabulate` and those that docs/evidence.md explains. ``concept``, ``category`` and
        ``group`` are empty for units without a label; ``candidate`` names the best concept of every living unit.

    Raises
    ------
    ValueError
        As `dissect.check_origin` and the similarity do, and for fewer than three photographs.

    Notes
    -----
    `soft_wpmi` and `wpmi` look at the top images only, so that resamples and draws cost little. Of another similarity
    every resample is a labelling of the layer, and as many draws as the layer has units are one.
    """
    dissect.check_origin(activations, images, concepts, encoders)
    probe = Probe(
        silenced(torch.as_tensor(activations["activations"])),
        dissect.normalised(images["features"], "image_features"),
        texts := dissect.normalised(concepts["features"], "text_features"),
        group_rows(images["photograph"]),
        near_duplicates(texts, near_duplicate),
    )
    rngs = [np.random.default_rng([seed, purpose]) for purpose in range(3)]
    collect = _of_top_images if similarity in dissect.TERMS else _of_all_images
    scores, stability, observed, null, held_out = collect(probe, similarity, resamples, null_draws, rngs)

    table = dissect.tabulate(scores, activations, concepts, similarity=similarity, encoder=encoders[0])
    p = p_values(np.where(testable(probe.activations, similarity), observed, np.nan), null)
    group_names = np.append(np.asarray(concepts["word"], dtype=object)[probe.groups], "")
    table = table.assign(
        candidate=table.concept,
        group=group_names[dissect.label(scores).concept.cpu()],
        margin_group=margin_to_other_group(scores, probe.groups),
        kept=stability.kept,
        kept_group=stability.kept_group,
        score_low=stability.low,
        score_high=stability.high,
        statistic=observed,
        p_value=p,
        q_value=stats.benjamini_hochberg(p),
        alpha=alpha,
        p_floor=1 / (1 + len(null)),
        held_out_correlation=held_out.correlation,
        held_out_auprc=held_out.auprc,
        held_out_images=held_out.images,
        images=len(probe.images),
        photographs=len(probe.photographs.size),
    )
    return _without_weak_labels(table, alpha)[_COLUMNS]


def findings(table: pd.DataFrame, *, seed: int = 0) -> list[str]:
    """Say in sentences what the evidence amounts to.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `label_table`, of one or more layers that were labelled with one ``alpha``.
    seed : int
        Of the resamples of the units that give intervals.

    Returns
    -------
    list of str
        With an ``alpha`` of 1, which asks nothing of a label, the units that are better than chance are those at 0.05.
    """
    living = table[~table.status.isin(dissect.SILENT)]
    broken = (table.status == "not finite").sum()
    states = "dead, constant or not finite" if broken else "dead or constant"
    if living.empty:
        return [f"None of the {counted(len(table), 'unit')} responds to anything: all are {states}."]
    tested, still = living[living.p_value.notna()], len(table) - len(living)
    still = f"{counted(still, 'unit')} {'is' if still == 1 else 'are'} {states}."
    if tested.empty:
        return [f"None of {counted(len(living), 'living unit')} could be tested, so none has a label. {still}"]
    asked = living.alpha.iloc[0]
    bar = SIGNIFICANT if asked == 1 else asked
    better = living[living.q_value <= bar]
    photographs = f"{counted(living.photographs.iloc[0], 'photograph')} ({counted(living.images.iloc[0], 'image')})"
    lines = [
        f"{len(better):,} of {counted(len(living), 'living unit')} ({len(better) / len(living):.0%}) "
        f"{'has' if len(better) == 1 else 'have'} a label that is better than chance at q = {bar:g} (permutation of "
        f"{photographs}, adjusted for the choice of the concept and for the units of a layer; no p-value can be below "
        f"{living.p_floor.max():.2g}). {still}",
        f"Resampling the photographs keeps the label of the median living unit in {living.kept.median():.0%} of the "
        f"resamples, and its group of near-duplicates in {living.kept_group.median():.0%}.",
    ]
    if asked == 1:
        lines[0] += f" With an alpha of 1 all {len(tested):,} that could be tested are labelled nevertheless."
    if better.empty:
        lines.append(f"Not supported at n = {photographs}: that any unit has the concept it is labelled with.")
    for name, units in (("all living units", living), ("those better than chance", better)):
        mean = stats.mean_with_interval(units.held_out_correlation.dropna(), seed=seed)
        if mean.n_groups >= 3:
            lines.append(
                f"A label found on one half of the photographs correlates with its unit on the other half at "
                f"{mean.mean:.2f} on average over {name} (95 % interval {mean.low:.2f} to {mean.high:.2f}, "
                f"n = {mean.n} units taken as independent, {photographs})."
            )
    if living.held_out_correlation.isna().all():
        lines.append("There is no held-out check: half of the probe set is fewer images than the similarity needs.")
    return lines


# ---- photographs


def group_rows(photograph: Sequence[str]) -> Photographs:
    """Find the rows of each photograph.

    Parameters
    ----------
    photograph : sequence of str, shape (images,)
        What each image was cut from.

    Returns
    -------
    Photographs

    Raises
    ------
    ValueError
        If there are fewer than three photographs: nothing can be resampled or exchanged.
    """
    number, names = pd.factorize(np.asarray(photograph, dtype=object))
    if len(names) < FEWEST_PHOTOGRAPHS:
        raise ValueError(
            f"the probe set has {len(names)} photograph(s), {FEWEST_PHOTOGRAPHS} are the fewest that evidence for "
            "labels can come from (crops of one photograph are one sample)"
        )
    rows = number.argsort(kind="stable")
    size = np.bincount(number)
    start = size.cumsum() - size
    place = np.empty_like(number)
    place[rows] = np.arange(len(number)) - start[number[rows]]
    return Photographs(number, place, size, start, rows)


def resample(photographs: Photographs, rng: np.random.Generator) -> np.ndarray:
    """Draw as many photographs as there are, with replacement; return how often each came, (photographs,)."""
    n = len(photographs.size)
    return np.bincount(rng.integers(n, size=n), minlength=n)


def exchange(photographs: Photographs, given: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give the pattern of rows `given` to other photographs, drawn at random.

    Photographs change places with photographs of as many rows, so that a pattern within a photograph stays what it is.

    Parameters
    ----------
    photographs : Photographs
    given : array, shape (n,)
        Image rows.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (n,)
        Rows of the same places in the drawn photographs.
    """
    chosen, which = np.unique(photographs.number[given], return_inverse=True)
    drawn = np.empty_like(chosen)
    for size in np.unique(photographs.size[chosen]):
        same = np.flatnonzero(photographs.size == size)
        to_fill = photographs.size[chosen] == size
        drawn[to_fill] = same[rng.choice(len(same), to_fill.sum(), replace=False)]
    return photographs.rows[photographs.start[drawn[which]] + photographs.place[given]]


def shuffle(photographs: Photographs, rng: np.random.Generator) -> np.ndarray:
    """Let all photographs change places as in `exchange`; return for each row the row that comes to its place."""
    drawn = np.empty_like(photographs.start)
    for size in np.unique(photographs.size):
        same = np.flatnonzero(photographs.size == size)
        drawn[same] = rng.permutation(same)
    return photographs.rows[photographs.start[drawn[photographs.number]] + photographs.place]


def halves(photographs: Photographs, rng: np.random.Generator) -> list[np.ndarray]:
    """Split the photographs at random into two halves; return the image rows of each, ascending."""
    order = rng.permutation(len(photographs.size))
    first = np.isin(photographs.number, order[: len(order) // 2])
    return [np.flatnonzero(first), np.flatnonzero(~first)]


# ---- numbers that any similarity has


def testable(activations: Tensor, similarity: str) -> np.ndarray:
    """Tell which units the null says something of.

    A unit at its lowest activation on so many images that some of them fill up its top images is not: there the order
    of the images decides.

    Parameters
    ----------
    activations : Tensor, shape (images, units)
    similarity : str

    Returns
    -------
    array of bool, shape (units,)
    """
    alive = ~dissect.dead_units(activations)
    if similarity in dissect.TERMS:
        top_k = dissect.FEWEST_IMAGES[similarity]
        alive &= ((activations > activations.amin(0)).sum(0) >= top_k) | (len(activations) == top_k)
    return alive.cpu().numpy()


def p_values(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Compare observed scores with draws of the null.

    Parameters
    ----------
    observed : array, shape (units,)
        Statistics; NaN for units that are not tested.
    null : array, shape (draws,)
        Statistics under the null.

    Returns
    -------
    array, shape (units,)
        ``(1 + draws that reach the statistic) / (1 + draws)``, NaN where there is none.
    """
    short = np.searchsorted(np.sort(null), observed - 1e-9 * np.abs(observed))  # draws that fall short
    return np.where(np.isnan(observed), np.nan, (1 + len(null) - short) / (1 + len(null)))


def margin_to_other_group(scores: Tensor, groups: np.ndarray) -> np.ndarray:
    """Compute how far the best concept lies above the best one of another group.

    Parameters
    ----------
    scores : Tensor, shape (units, concepts)
    groups : array, shape (concepts,)

    Returns
    -------
    array, shape (units,)
        NaN where there is no label or no other group.
    """
    group_of = torch.as_tensor(groups, device=scores.device)
    margins = []
    for part in scores.split(max(1, BLOCK_ELEMENTS // scores.shape[1])):
        best = dissect.label(part)
        same = group_of == group_of[best.concept][:, None]
        margins.append(best.score - dissect.label(part.masked_fill(same, -torch.inf)).score)
    return torch.cat(margins).cpu().numpy()


def near_duplicates(texts: Tensor, bar: float) -> np.ndarray:
    """Group concepts whose text features nearly agree.

    A concept leads a group unless an earlier leader is at least as near as `bar`; then it joins the nearest leader. So
    a group has the name of its first word, which is the more common one in a list of common words, every member is near
    that word, and no chain of neighbours joins concepts that are far apart.

    Parameters
    ----------
    texts : Tensor, shape (concepts, d)
        Of unit length.
    bar : float
        Cosine.

    Returns
    -------
    array of int, shape (concepts,)
        The leader of each concept's group; a leader's own row for itself.
    """
    leader, leaders = np.empty(len(texts), dtype=np.int64), torch.empty(0, dtype=torch.int64)
    step = max(1, int(math.sqrt(BLOCK_ELEMENTS // 16)))
    for start in range(0, len(texts), step):
        block = texts[start : start + step]
        free = (block @ texts[leaders].T >= bar).any(1).logical_not_().cpu().numpy()
        near = (block @ block.T >= bar).cpu().numpy()
        for row in np.flatnonzero(free):
            if free[row]:  # no leader before it in this block took it
                free[row + 1 :] &= ~near[row, row + 1 :]
        leaders = torch.cat([leaders, torch.from_numpy(start + np.flatnonzero(free))])
    leader[leaders] = leaders
    members = np.setdiff1d(np.arange(len(texts)), leaders)
    for rows in np.array_split(members, -(-len(members) // step) or 1):
        leader[rows] = leaders[(texts[rows] @ texts[leaders].T).argmax(1).cpu()]
    return leader


# ---- held-out scores


def correlation(activations: np.ndarray, scores: np.ndarray) -> float:
    """Pearson correlation of a unit's activations and a concept's scores, both (n,); NaN where one is constant."""
    a, b = (values - values.mean() for values in (activations.astype(np.float64), scores.astype(np.float64)))
    norm = math.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else np.nan


def auprc(active: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision-recall curve of finding the images where the unit is active by a concept's scores.

    Both are (n,). A concept that has nothing to do with the unit gets the share of active images. NaN where the unit is
    active nowhere.
    """
    if not active.any():
        return np.nan
    scores = scores.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    found = active[order].cumsum()
    last = np.flatnonzero(np.diff(scores[order], append=np.nan))  # of equal scores
    precision, recall = found[last] / (last + 1), found[last] / found[-1]
    return float(precision @ np.diff(recall, prepend=0))


def most_active(activations: np.ndarray) -> np.ndarray:
    """Tell on which images (n,) a unit is active: the top five percent, and above its lowest activation."""
    count = max(1, int(ACTIVE_SHARE * len(activations)))
    bar = np.partition(activations, -count)[-count]
    return (activations >= bar) & (activations > activations.min())


def score_held_out(
    activations: Tensor, images: Tensor, texts: Tensor, rows: Sequence[np.ndarray], labels: Sequence[np.ndarray]
) -> HeldOut:
    """Score the labels found on each half of the images on the other half.

    Parameters
    ----------
    activations : Tensor, shape (images, units)
    images, texts : Tensor
        Features of unit length.
    rows : two arrays
        Image rows of the halves.
    labels : two arrays, shape (units,)
        Concepts found on these halves, -1 for none.

    Returns
    -------
    HeldOut
    """
    found = np.full((2, 2, activations.shape[1]), np.nan)  # direction, score, unit
    for direction, (others, concepts) in enumerate(zip(rows[::-1], labels, strict=True)):
        units = np.flatnonzero(concepts >= 0)
        for part in np.array_split(units, max(1, len(units) // 64)):
            values = activations[others][:, part].cpu().numpy()
            cosines = (images[others] @ texts[concepts[part]].T).cpu().numpy()
            for unit, value, cosine in zip(part, values.T, cosines.T, strict=True):
                found[direction, :, unit] = correlation(value, cosine), auprc(most_active(value), cosine)
    scored = ~np.isnan(found)  # a unit may be silent on one half
    means = np.where(scored, found, 0).sum(0) / np.where(scored.any(0), scored.sum(0), np.nan)
    sizes = np.array([len(others) for others in rows[::-1]])
    return HeldOut(means[0], means[1], (scored[:, 0] * sizes[:, None]).sum(0))


# ---- soft_wpmi and wpmi: only top images count


def _of_top_images(
    probe: Probe, similarity: str, resamples: int, null_draws: int, rngs: Sequence[np.random.Generator]
) -> Collected:
    """Collect evidence without ever holding the images x concepts matrix, and with two passes over it."""
    activations, images, texts, photographs, _ = probe
    terms = dissect.TERMS[similarity]()
    top_k = len(terms.slope)
    likelihood = dissect.log_likelihood(activations, images, texts, terms)
    layer_term = dissect.layer_term(likelihood)
    concepts = dissect.label(likelihood - terms.lam * layer_term).concept
    label_likelihood = likelihood.gather(1, concepts.clamp_min(0)[:, None])[:, 0]
    scores = likelihood.sub_(terms.lam * layer_term)  # in its place: a layer's matrix is large
    log_norms = log_normalisers(images, texts, terms.a)
    stability = bootstrap_top_images(probe, scores, layer_term, terms, log_norms, resamples, rngs[0])

    tested = np.flatnonzero(testable(activations, similarity))
    patterns = dissect.top_images(activations, top_k).cpu().numpy()
    units = rngs[1].choice(tested, null_draws) if len(tested) else tested
    drawn = np.array([exchange(photographs, patterns[unit], rngs[1]) for unit in units], dtype=np.int64)
    rows = halves(photographs, rngs[2])
    tops = [_top_of_half(activations, half, top_k) for half in rows]
    lists = [
        torch.as_tensor(each, device=images.device) for each in (drawn.reshape(-1, top_k), *(top for _, top in tops))
    ]
    null, best = rank_lists(lists[0], lists[1:], probe, terms, log_norms)

    observed = (label_likelihood - _ROUNDING - null.mean[concepts]) / null.deviation[concepts]
    labels = [np.full(len(scores), -1) for _ in rows]
    for label, (alive, _), concept in zip(labels, tops, best, strict=True):
        label[alive.cpu()] = concept.cpu()
    held_out = score_held_out(activations, images, texts, rows, labels)
    return Collected(scores, stability, observed.cpu().numpy(), null.largest.cpu().numpy(), held_out)


def log_normalisers(images: Tensor, texts: Tensor, a: float) -> Tensor:
    """Compute the logarithm of the softmax's denominator, logsumexp over concepts of a x cosine, (images, 1)."""
    step = max(1, BLOCK_ELEMENTS // len(texts))
    return torch.cat([(block @ texts.T).mul_(a).logsumexp(1, keepdim=True) for block in images.split(step)])


def bootstrap_top_images(
    probe: Probe,
    scores: Tensor,
    layer_term: Tensor,
    terms: Terms,
    log_norms: Tensor,
    resamples: int,
    rng: np.random.Generator,
) -> Stability:
    """Label every unit on resampled photographs, among its 50 best concepts and with D as it is on all photographs.

    Parameters
    ----------
    probe : Probe
    scores : Tensor, shape (units, concepts)
        NaN for dead units.
    layer_term : Tensor, shape (concepts,)
        D.
    terms : Terms
    log_norms : Tensor, shape (images, 1)
        Of `log_normalisers`.
    resamples : int
    rng : numpy.random.Generator

    Returns
    -------
    Stability
    """
    activations, images, texts, photographs, groups = probe
    counts = torch.as_tensor(np.stack([resample(photographs, rng) for _ in range(resamples)]))
    ranked = _extended_top(activations, photographs, counts, len(terms.slope))
    rank = torch.arange(len(terms.slope)).repeat(resamples, 1)
    found = np.full((4, len(scores)), np.nan)
    for unit in each((~scores[:, 0].isnan()).nonzero()[:, 0].tolist(), "units resampled"):
        rows = ranked[unit]
        best = scores[unit].argsort(descending=True, stable=True)[:BEST]
        softmax = ((images[rows] @ texts[best].T).mul_(terms.a) - log_norms[rows]).exp_().double()
        times = counts[:, photographs.number[rows.cpu()]]  # (resamples, rows): how often each row is there
        image = torch.searchsorted(times.cumsum(1), rank, right=True).clamp_(max=len(rows) - 1).to(rows.device)
        factors = softmax[image].mul_(terms.slope[:, None].to(rows.device)).add_(terms.offset[:, None].to(rows.device))
        parts = factors.split(dissect.factors_at_once(terms), dim=1)  # (resamples, ranks, concepts)
        resampled = sum(part.prod(1).log_() for part in parts) - terms.lam * layer_term[best]
        winner = best[resampled.argmax(1)].cpu().numpy()
        found[:2, unit] = (winner == best[0].item()).mean(), (groups[winner] == groups[best[0].item()]).mean()
        found[2:, unit] = np.quantile(resampled[:, 0].cpu().numpy(), [0.05, 0.95])
    return Stability(*found)


def _extended_top(activations: Tensor, photographs: Photographs, counts: Tensor, top_k: int) -> Tensor:
    """Top images of every unit, so many that each resample takes its `top_k` from them, (units, length)."""
    length = min(2 * top_k, len(activations))
    while True:
        top = dissect.top_images(activations, length)
        number = torch.as_tensor(photographs.number)[top.cpu()]
        if length == len(activations) or min(counts[:, of].sum(1).min().item() for of in number) >= top_k:
            return top
        length = min(2 * length, len(activations))


def rank_lists(
    draws: Tensor, layers: Sequence[Tensor], probe: Probe, terms: Terms, log_norms: Tensor
) -> tuple[Null, list[Tensor]]:
    """Score lists of top images against all concepts, a block of concepts at a time.

    Parameters
    ----------
    draws : Tensor, shape (draws, top_k)
        Image rows by rank, of the permutation null.
    layers : sequence of Tensor, shape (n, top_k)
        Image rows by rank, of the units of a layer.
    probe : Probe
    terms : Terms
    log_norms : Tensor, shape (images, 1)
        Of `log_normalisers`.

    Returns
    -------
    Null
        Of L of the draws.
    list of Tensor, shape (n,)
        The label of each list, by the scores of its layer.
    """
    device, n_concepts = probe.texts.device, len(probe.texts)
    mean, deviation = (torch.full((n_concepts,), torch.nan, dtype=torch.float64, device=device) for _ in range(2))
    largest = torch.full((len(draws),), -torch.inf, dtype=torch.float64, device=device)
    best = [(torch.full((len(each),), -torch.inf, dtype=torch.float64, device=device), each[:, 0]) for each in layers]
    for concepts, totals in _list_likelihoods(torch.cat([draws, *layers]), probe, terms, log_norms):
        drawn, *of_layers = totals.split([len(draws), *map(len, layers)])
        if len(drawn):
            mean[concepts] = drawn.mean(0)
            deviation[concepts] = drawn.std(0, correction=0).clamp_min(_LEAST_DEVIATION)
            largest = largest.maximum(drawn.sub_(mean[concepts]).div_(deviation[concepts]).amax(1))
        for number, block in enumerate(of_layers):
            score, concept = (block - terms.lam * dissect.layer_term(block)).max(1)
            before, label = best[number]
            best[number] = score.maximum(before), label.where(before >= score, concept + concepts.start)
    return Null(mean, deviation, largest), [label for _, label in best]


def _list_likelihoods(lists: Tensor, probe: Probe, terms: Terms, log_norms: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield L (n, concepts) of lists of images (n, top_k), and which concepts, a block of them at a time."""
    if not len(lists):
        return
    needed, position = lists.unique(return_inverse=True)
    images, norms = probe.images, log_norms
    if len(needed) < len(images):  # else a copy
        images, norms = images[needed], norms[needed]
    ratio = (terms.slope / terms.offset).tolist()
    constant = terms.offset.log().sum().item()
    step = max(1, BLOCK_ELEMENTS // len(needed))
    for start in each(range(0, len(probe.texts), step), "blocks of concepts"):
        concepts = slice(start, start + step)
        softmax = (images @ probe.texts[concepts].T).mul_(terms.a).sub_(norms).exp_()
        factors = max(1, int(80 / math.log1p(max(ratio) * softmax.max().item())))  # float32 ends at exp(88)
        parts = position.split(max(1, _LIST_ELEMENTS // softmax.shape[1]))
        yield concepts, torch.cat([_sum_logs(softmax, part, ratio, factors) for part in parts]) + constant


def _sum_logs(softmax: Tensor, position: Tensor, ratio: Sequence[float], factors: int) -> Tensor:
    """Sum of log(1 + ratio S) over ranks, with one logarithm for so many `factors`; exact but for float32 products."""
    total = torch.zeros(len(position), softmax.shape[1], dtype=torch.float64, device=softmax.device)
    product, chosen = (torch.ones_like(total, dtype=softmax.dtype) for _ in range(2))
    for rank, rows in enumerate(position.T.contiguous()):
        product.addcmul_(product, torch.index_select(softmax, 0, rows, out=chosen), value=ratio[rank])
        if (rank + 1) % factors == 0 or rank + 1 == len(ratio):
            total += product.log_()
            product.fill_(1)
    return total


def _top_of_half(activations: Tensor, rows: np.ndarray, top_k: int) -> tuple[Tensor, Tensor]:
    """Units that live on some of the images, none where these are too few, and their top images."""
    if len(rows) < top_k:
        none = torch.empty(0, dtype=torch.int64)
        return none, none.view(0, top_k)
    half = activations[rows]
    alive = (~dissect.dead_units(half)).nonzero()[:, 0]
    return alive, torch.as_tensor(rows, device=half.device)[dissect.top_images(half, top_k)[alive]]


# ---- other similarities: every image counts, so that everything is done again for each resample


def _of_all_images(
    probe: Probe, similarity: str, resamples: int, null_draws: int, rngs: Sequence[np.random.Generator]
) -> Collected:
    """Collect evidence by labelling again: once a resample, once for as many draws as there are units, once a half."""
    activations, images, texts, photographs, groups = probe
    score = dissect.SIMILARITIES[similarity]
    scores = score(activations, images, texts)
    labels, observed, *_ = (part.cpu() for part in dissect.label(scores))
    units = torch.arange(len(labels))
    kept = np.zeros((2, len(labels)))
    label_scores = np.full((resamples, len(labels)), np.nan)
    for number in each(range(resamples), "resamples"):
        times = resample(photographs, rngs[0])[photographs.number]
        rows = np.repeat(np.arange(len(images)), times)
        resampled = score(activations[rows], images[rows], texts).cpu()
        winner = dissect.label(resampled).concept
        kept += np.stack([winner == labels, (groups[winner] == groups[labels]) & (winner >= 0).numpy()])
        label_scores[number] = resampled[units, labels]
    label_scores = np.where(np.isfinite(label_scores), label_scores, np.nan)
    none = np.where(labels < 0, np.nan, 1)
    interval = [none * pd.DataFrame(label_scores).quantile(level).to_numpy() for level in (0.05, 0.95)]
    stability = Stability(*(none * kept / resamples), *interval)

    tested = np.flatnonzero(testable(activations, similarity))
    drawn = rngs[1].choice(tested, null_draws) if len(tested) else tested
    null = [np.empty(0)]
    for part in each(np.array_split(drawn, max(1, len(drawn) // len(labels))), "blocks of shuffled units"):
        shuffled = [activations[shuffle(photographs, rngs[1]), unit] for unit in part]
        best = dissect.label(score(torch.stack(shuffled, 1), images, texts)).score if len(part) else torch.empty(0)
        null.append(best.nan_to_num(nan=-torch.inf).cpu().numpy())

    rows = halves(photographs, rngs[2])
    enough = min(map(len, rows)) >= dissect.FEWEST_IMAGES[similarity]
    none = np.full(len(labels), -1)
    half_labels = [
        dissect.label(score(activations[half], images[half], texts)).concept.cpu().numpy() if enough else none
        for half in rows
    ]
    held_out = score_held_out(activations, images, texts, rows, half_labels)
    return Collected(scores, stability, observed.numpy(), np.concatenate(null), held_out)


# ---- the table


def _without_weak_labels(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Take the label from units whose adjusted p-value exceeds `alpha` or that were not tested."""
    weak = (table.status == "labelled") & ~(table.q_value <= alpha)
    table = table.assign(status=table.status.mask(weak, "unlabelled"))
    for name in ("concept", "category", "group"):
        table[name] = table[name].where(table.status == "labelled", "")
    return table


_COLUMNS = [
    "unit",
    "status",
    "concept",
    "category",
    "group",
    "score",
    "second_concept",
    "margin",
    "margin_group",
    "kept",
    "kept_group",
    "score_low",
    "score_high",
    "statistic",
    "p_value",
    "q_value",
    "alpha",
    "p_floor",
    "held_out_correlation",
    "held_out_auprc",
    "held_out_images",
    "candidate",
    "top_concepts",
    "top_images",
    "images",
    "photographs",
    "encoder",
    "similarity",
    "concept_list",
]
