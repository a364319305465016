"""How many distinct concepts networks have learned.

Counts of distinct concepts grow with the number of units, so they are compared at an equal number of units by
rarefaction (Hurlbert 1971). Intervals of counts and of concentration are the jackknife's: percentiles of bootstrapped
units miss the true value, for a resample holds fewer distinct concepts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy

from unitlens.measures.scales import gini_coefficient
from unitlens.tables import recurrence, unit_labels

if TYPE_CHECKING:
    import torch

CURVE_POINTS = 32  # most sizes at which a rarefaction curve is computed
TOP = 10  # concepts in the top share
FEWEST = 50  # labeled units below which the jackknife gives no interval: its coverage was simulated from there on
Z = 1.959963984540054  # of the standard normal distribution 2.5 % lie above


def rarefaction(concepts: pd.DataFrame) -> pd.DataFrame:
    """Give the distinct concepts expected among ever more units of every layer, at most `CURVE_POINTS` sizes.

    Of named and of selective units, see `unit_labels.COUNTED`.
    """
    rows = []
    for claim in unit_labels.COUNTED:
        counted = unit_labels.with_all(unit_labels.counted_units(concepts, claim))
        for model, layer in unit_labels.groups(counted):
            count = unit_labels.concept_counts(counted[(counted.model == model) & (counted.layer == layer)])
            for size in np.unique(np.linspace(1, count.sum(), CURVE_POINTS).round().astype(int)):
                rows.append([model, layer, claim, size, *rarefy_with_interval(count, int(size))])
    return pd.DataFrame(rows, columns=["model", "layer", "claim", "units", "distinct", "low", "high"])


def relabel_subsets(
    activations: np.ndarray,
    image_features: np.ndarray,
    text_features: np.ndarray,
    *,
    similarity: str,
    source_images: np.ndarray,
    groups: np.ndarray,
    seed: int,
    fractions: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2, 1),
    sizes: Sequence[int] = (),
    draws: int = 5,
) -> pd.DataFrame:
    """Label the units of a layer again on parts of the probe set, to see how the number of concepts grows with it.

    Every unit that is not dead is labeled, whatever its evidence, so that the number of units hardly changes. A part
    with fewer images than the similarity needs has no label: 0 units, and ``distinct`` and ``kept`` are NaN.

    Of pooled `activations` (n, units), of which a unit that is not finite on every image counts as a dead one, and
    features of the same images (n, d) and of concepts (m, d); `groups` (m,) are the names under which concepts count.
    Whole `source_images` (n,) are drawn, in `draws` random orders: the `fractions` of them, rounded up, the smaller
    parts in the larger ones, and parts of further `sizes` below that of the probe set. All of them are one draw.
    Parts up to a half are compared with another part as large, of other source images: see `recurrence.compare`.
    """
    import torch

    from unitlens.networks.layer_outputs import silenced
    from unitlens.units import dissect

    activations = silenced(torch.as_tensor(activations)).numpy()
    names, source_image = np.unique(source_images, return_inverse=True)
    words = np.append(np.asarray(groups, dtype=object), "")  # -1, no label, is the empty last
    order = np.random.default_rng(seed)
    ranks = [order.permutation(len(names))[source_image] for _ in range(draws)]  # an image's place in each random order

    def score(rows: np.ndarray) -> torch.Tensor:
        """Scores of all units; NaN for a dead unit and where there are too few images."""
        if rows.sum() < dissect.FEWEST_IMAGES[similarity]:
            return torch.full((activations.shape[1], len(text_features)), torch.nan)
        parts = (torch.as_tensor(part) for part in (activations[rows], image_features[rows], text_features))
        return dissect.SIMILARITIES[similarity](*parts)

    def name(scores: torch.Tensor) -> np.ndarray:
        return words[dissect.label(scores).concept]

    whole = name(score(np.ones(len(source_image), dtype=bool)))
    named = whole != ""
    table = []
    parts = {int(np.ceil(fraction * len(names))): fraction for fraction in fractions}
    parts = {size: size / len(names) for size in sizes if size < len(names)} | parts
    for size, fraction in sorted(parts.items()):
        for draw, rank in enumerate(ranks if size < len(names) else ranks[:1]):
            rows = rank < size
            scores = score(rows) if size < len(names) else None
            part = whole if scores is None else name(scores)
            compared = [0, *[np.nan] * 3]
            if 2 * size <= len(names):
                compared = recurrence.compare(scores, score(rank >= len(names) - size), words[:-1])
            found = part[part != ""]
            distinct, kept = (len(set(found)), (part == whole)[named].mean()) if len(found) else (np.nan, np.nan)
            table.append([fraction, draw, size, int(rows.sum()), len(found), distinct, kept, *compared])
    columns = ["fraction", "draw", "source_images", "images", "units", "distinct", "kept"]
    return pd.DataFrame(table, columns=[*columns, *recurrence.Recurrence._fields])


def probe_sizes(draws: pd.DataFrame) -> pd.DataFrame:
    """Summarize how the number of distinct concepts grows with the probe set: means, lowest and highest of the draws.

    These are no confidence limits: draws of half of the source images overlap.
    """
    grouped = draws.groupby(["model", "layer", "fraction"], sort=False)
    return grouped.agg(
        source_images=("source_images", "mean"),
        images=("images", "mean"),
        draws=("draw", "size"),
        units=("units", "mean"),
        distinct=("distinct", "mean"),
        distinct_lowest=("distinct", "min"),
        distinct_highest=("distinct", "max"),
        kept=("kept", "mean"),
        kept_lowest=("kept", "min"),
        kept_highest=("kept", "max"),
        again=("again", "mean"),
        again_lowest=("again", "min"),
        again_highest=("again", "max"),
        median_rank=("median_rank", "mean"),
        names_in_set=("names_in_set", "mean"),
    ).reset_index()


def rarefy(counts: np.ndarray, size: int) -> float:
    """Compute the expected number of distinct concepts among `size` units drawn without replacement.

    ``sum_i 1 - C(N - n_i, size) / C(N, size)`` (Hurlbert 1971, eq. 14), with the `counts` n_i (concepts,) of units that
    have each concept and their sum N. ValueError if `size` exceeds N.
    """
    counts = np.asarray(counts, dtype=float)
    total = counts.sum()
    if size > total:
        raise ValueError(f"`size` is {size}, but there are {total:.0f} units")
    remaining = total - counts
    possible = remaining >= size
    missed = np.zeros(len(counts))  # probability of each concept to be in none of the units
    missed[possible] = np.exp(_log_choose(remaining[possible], size) - _log_choose(total, size))
    return float((1 - missed).sum())


def _log_choose(n: np.ndarray | float, k: int) -> np.ndarray | float:
    """``log C(n, k)``; scipy's `hypergeom`, which has the probability itself, takes eighty times as long."""
    gammaln = scipy.special.gammaln
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def rarefy_with_interval(counts: np.ndarray, size: int) -> tuple[float, float, float]:
    """Compute `rarefy` of counts, shape (concepts,), with its 95 % interval, kept between 0 and `size`.

    It holds the expected number for units drawn from a larger pool, so it does not close where all units are counted;
    NaN below `FEWEST` units.
    """
    distinct, half = rarefied(counts, size)
    return distinct, np.maximum(0, distinct - half), np.minimum(size, distinct + half)


def rarefied(counts: np.ndarray, size: int) -> tuple[float, float]:
    """Give `rarefy` of counts, shape (concepts,), and half the width of its interval."""
    counts = np.asarray(counts)
    distinct = rarefy(counts, size)
    return distinct, _jackknife(counts, lambda left: rarefy(left, min(size, left.sum())))


def _jackknife(counts: np.ndarray, measure: Callable[[np.ndarray], float]) -> float:
    """Half the width of the 95 % interval of `measure` when each unit is left out once.

    NaN below `FEWEST` units, and where no unit makes a difference (as where many concepts tie for the tenth place).
    """
    total = counts.sum()
    if total < FEWEST:
        return np.nan
    counts = np.asarray(counts, dtype=float)
    sizes, concepts = np.unique(counts, return_counts=True)  # units of equally frequent concepts weigh the same
    values = []
    for size in sizes:
        left = counts.copy()
        left[np.argmax(counts == size)] -= 1
        values.append(measure(left[left > 0]))
    units = sizes * concepts
    spread = units @ (values - units @ values / total) ** 2
    return float(Z * np.sqrt((total - 1) / total * spread)) or np.nan


def concentration(counts: np.ndarray) -> list[float]:
    """Gini coefficient of counts, shape (concepts,), and share of the `TOP` largest, each with its 95 % interval."""
    row = []
    for measure in (gini_coefficient, _top_share):
        value, half = measure(counts), _jackknife(counts, measure)
        row += [value, np.maximum(0, value - half), np.minimum(1, value + half)]
    return row


def _top_share(counts: np.ndarray) -> float:
    """NaN where there are no concepts."""
    return float(np.sort(counts)[-TOP:].sum() / counts.sum()) if len(counts) else np.nan
