"""How often units get the same word on other source images, and how many source images that would take.

A share that grows with the number of source images is forecast on the scale of its logit against the logarithm of that
number: the line is fitted to all parts but the largest and checked there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import scipy

if TYPE_CHECKING:
    from torch import Tensor

COVERAGE = 0.9  # of the sets whose size is told
FEWEST_SIZES = 3  # of parts, two to fit a line and one to check it
WITHIN = 1.5  # factor that a forecast may miss by and still be extended
FARTHEST = 64  # times the source images of the largest part, beyond which nothing is forecast


class Recurrence(NamedTuple):
    """Of two parts: units with a word on both, the share with the same, and the median rank and size of sets."""

    both: int
    again: float
    median_rank: float
    names_in_set: float


def compare(first: Tensor, second: Tensor, groups: np.ndarray) -> Recurrence:
    """Compare the scores (units, concepts) of two parts; concepts of one of `groups` (concepts,) count as the same.

    The rank is that of the other part's word among a unit's scores, from 1. The set of one part holds the other's word
    for 90 % of the units; its size is in concepts. Both are over both directions.
    """
    from unitlens.units import dissect

    best = [dissect.label(scores).concept for scores in (first, second)]
    both = ((best[0] >= 0) & (best[1] >= 0)).nonzero()[:, 0]
    if not len(both):
        return Recurrence(0, math.nan, math.nan, math.nan)
    first, second = (scores[both].nan_to_num(nan=-math.inf) for scores in (first, second))
    words = [each[both] for each in best]
    same = groups[words[0].numpy()] == groups[words[1].numpy()]
    ranks, short = [], []
    for scores, other in ((first, words[1]), (second, words[0])):
        there = scores.gather(1, other[:, None])
        ranks.append((scores > there).sum(1).numpy() + 1)
        short.append((scores.amax(1) - there[:, 0]).numpy())
    gap = np.quantile(np.concatenate(short), COVERAGE, method="higher")
    sizes = [(scores.amax(1, keepdim=True) - scores <= gap).sum(1).numpy() for scores in (first, second)]
    return Recurrence(
        len(both), float(same.mean()), float(np.median(np.concatenate(ranks))), float(np.median(np.concatenate(sizes)))
    )


def forecast(draws: pd.DataFrame, *, share: float = 0.5) -> pd.DataFrame:
    """Say how many source images it would take until `share` of the units get the same word on others, by layer.

    `draws` are those of `diversity.relabel_subsets` of all layers. ``source_images`` are those of the largest part that
    was compared with another, ``again`` what was found there, ``predicted`` what the smaller parts said, ``factor`` how
    far these are apart. ``at_all`` is the forecast for as many as the probe set has, ``needed`` how many it would take;
    NaN where the line does not rise, has missed by more than `WITHIN` or would go beyond `FARTHEST`.
    """
    rows = []
    for (model, layer), group in draws.groupby(["model", "layer"], sort=False):
        known = group[group["again"].notna()]
        parts = known.groupby("source_images").agg(again=("again", "mean"), both=("both", "mean"))
        row = {"model": model, "layer": layer, "sizes": len(parts), "units": np.nan}
        if len(parts):
            row |= {"source_images": parts.index[-1], "units": parts["both"].iloc[-1], "again": parts["again"].iloc[-1]}
        if len(parts) >= FEWEST_SIZES:
            sizes = np.log(parts.index.to_numpy(float))
            counted = (parts["again"] * parts["both"] + 0.5) / (parts["both"] + 1)  # finite where no word comes again
            logits = scipy.special.logit(counted.to_numpy())
            slope, start = np.polyfit(sizes[:-1], logits[:-1], 1)
            row["predicted"] = scipy.special.expit(start + slope * sizes[-1])
            row["factor"] = max(row["predicted"] / counted.iloc[-1], counted.iloc[-1] / row["predicted"])
            slope, start = np.polyfit(sizes, logits, 1)
            if slope > 0 and row["factor"] <= WITHIN:
                row["at_all"] = scipy.special.expit(start + slope * math.log(group["source_images"].max()))
                needed = (scipy.special.logit(share) - start) / slope
                if needed <= sizes[-1] + math.log(FARTHEST):
                    row["needed"] = round(math.exp(needed))
        rows.append(row)
    columns = "model layer sizes units source_images again predicted factor at_all needed"
    return pd.DataFrame(rows, columns=columns.split()).astype({"units": float})
