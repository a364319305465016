"""The concept that scores choose for a unit, and the concepts that they cannot tell from it.

A set holds the concepts within a gap of the best one. The gap is not read off the bootstrap, whose sets cover far less
than they state (Yan, Oikarinen & Weng, arXiv 2512.18092): it is the smallest at which the sets of one half of the
images hold the winners of the other half for a stated share of the units.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unitlens.networks.layer_outputs import as_floating
from unitlens.units import exemplars


class Labels(NamedTuple):
    """What `label` says of each unit, each (units,); concepts are column numbers of the scores."""

    concept: Tensor
    score: Tensor
    second: Tensor
    margin: Tensor


def label(scores: Tensor) -> Labels:
    """Choose each unit's best and second-best concept.

    NaN and minus infinity in `scores` (units, concepts) mean that the concept is no candidate. A unit without a
    candidate, or with a score that overflowed to infinity, has concept -1 and score NaN; one without a second candidate
    has second -1 and margin NaN. Ties go to the concept that comes first.
    """
    found = []
    for part in exemplars.row_blocks(as_floating(scores)):
        part = part.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)  # a copy
        concept, score = _best(part)
        second, second_score = _best(part.scatter_(1, concept.clamp_min(0)[:, None], -torch.inf))
        found.append(Labels(concept, score, second, score - second_score))
    return Labels(*map(torch.cat, zip(*found, strict=True)))


def calibrated_gap(scores_a: Tensor, scores_b: Tensor, *, coverage: float = 0.9) -> float:
    """Give the smallest gap at which the sets of one half of the images hold the other half's winners.

    A unit's set are the concepts whose score lies at most the gap below its best one. The sets are those of `scores_a`,
    (units, concepts), the winners those of `scores_b`, of the same shape; at least the share `coverage` of the units
    that have a best concept in both must be covered. NaN and minus infinity mean that a concept is no candidate. The
    gap is infinite where that share cannot be reached, or no unit has a best concept in both. ValueError where the
    shapes differ, or `coverage` is not above 0 and at most 1.
    """
    scores_a, scores_b = (torch.as_tensor(scores) for scores in (scores_a, scores_b))
    if scores_a.ndim != 2 or scores_a.shape != scores_b.shape:
        shapes = f"{tuple(scores_a.shape)} and {tuple(scores_b.shape)}"
        raise ValueError(f"the scores of two halves must have one shape, (units, concepts), got {shapes}")
    return covering_gap(shortfall(scores_a, label(scores_b).concept), coverage)


def shortfall(scores: Tensor, winner: Tensor) -> Tensor:
    """Give how far below the best of `scores`, (units, concepts), other winners score, (units,); NaN for a -1."""
    there = scores.gather(1, winner.clamp_min(0)[:, None])[:, 0].double().nan_to_num(nan=-torch.inf, neginf=-torch.inf)
    return (label(scores).score.double() - there).masked_fill(winner < 0, torch.nan)


def covering_gap(short: Tensor, coverage: float) -> float:
    """Give the smallest number that at least the share `coverage` of `short`, (units,), does not exceed.

    NaN is left out; infinite where nothing else is there. ValueError where `coverage` is not above 0 and at most 1.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"`coverage` is {coverage}; it must be above 0 and at most 1")
    known = short[~short.isnan()].sort().values
    return known[math.ceil(coverage * len(known) - 1e-9) - 1].item() if len(known) else math.inf


def sets(scores: Tensor, gap: float, groups: np.ndarray) -> list[np.ndarray]:
    """Give the groups of the concepts within the gap of each unit's best, best first.

    Of scores (units, concepts), NaN and minus infinity for no candidate, and `groups` (concepts,). A unit without a
    candidate has none.
    """
    found = []
    for row in scores:
        row = row.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        near = (row > -torch.inf) & (row.amax() - row <= gap)
        columns = near.nonzero()[:, 0]
        columns = columns[row[columns].argsort(descending=True, stable=True)].cpu().numpy()
        members = groups[columns]
        found.append(members[np.sort(np.unique(members, return_index=True)[1])])
    return found


def _best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Column and value of the first maximum of each row; -1 and NaN where it is not finite."""
    concept = scores.argmax(1)
    score = scores.gather(1, concept[:, None])[:, 0]
    none = ~score.isfinite()
    return concept.masked_fill(none, -1), score.masked_fill(none, torch.nan)
