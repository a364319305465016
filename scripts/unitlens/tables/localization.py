"""Score maps against masks and boxes, and summarize."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unitlens.explainers.items import Explanation, stream_seeds
from unitlens.images.label_maps import reference_masks
from unitlens.measures.scales import chance_iou
from unitlens.tables import summaries

if TYPE_CHECKING:
    import torch


def score(explanations: Sequence[Explanation], images: Mapping[str, np.ndarray], *, seed: int) -> pd.DataFrame:
    """Score every explainer and the control maps against the objects of a shard, see docs/outputs.md.

    A row for each image with a reference (``mask`` or ``box``), explainer and measure (``iou, pointing, energy``).
    Value and chance are NaN where a map is zero everywhere (see `masks.has_map`), or nothing is left of an object.
    `images` is the shard of decoded source images, see `reference_masks`; `seed` that of the random maps, whose scores
    are averaged, and of the order of ties, with one of its own for each image and explainer. ValueError if the files
    are of other images than each other or the shard.
    """
    import torch

    from unitlens.explainers.run import check_same_images
    from unitlens.measures import sanity

    check_same_images([*explanations, (images, {"explainer": "the decoded source images"})])
    facts = summaries.image_table(*explanations[0])
    maps = {own["explainer"]: [partial(torch.as_tensor, arrays["saliency"])] for arrays, own in explanations}
    seeds = stream_seeds(seed, "random", facts["image_id"])
    maps |= sanity.make_control_maps(images["images"].shape[1:3], seeds=seeds)
    columns = [*facts, "reference", "object_area", "explainer", "measure", "value", "chance"]
    tables = [pd.DataFrame(columns=columns)]
    for reference, (mask, known) in reference_masks(images).items():
        mask = torch.as_tensor(mask)
        area = mask.double().mean((-2, -1))
        rows = facts.assign(reference=reference, object_area=area.numpy())
        chances = {"iou": chance_iou(area), "pointing": area, "energy": area}
        for name, draws in maps.items():
            seeds = stream_seeds(seed, f"{name}/{reference}", facts["image_id"])
            found = torch.stack([_measure(draw(), mask, seeds) for draw in draws]).mean(0)  # (measures, n)
            for (measure, chance), values in zip(chances.items(), found, strict=True):
                chance = chance.where(~values.isnan(), torch.nan)
                table = rows.assign(explainer=name, measure=measure, value=values.numpy(), chance=chance.numpy())
                tables.append(table[known])
    return pd.concat(tables[1:] or tables, ignore_index=True)


def _measure(own: torch.Tensor, mask: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
    """Score maps (n, h, w) by each measure, (measures, n)."""
    import torch

    from unitlens.explainers import masks
    from unitlens.measures.localization import energy_inside, object_iou, pointing

    found = [object_iou(own, mask, seeds=seeds), pointing(own, mask), energy_inside(own, mask)]
    return torch.stack(found).where(masks.has_map(own), torch.nan)


def summarize(scores: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average the scores of every explainer, and test every two, the control maps among them, against each other."""
    keys = [*summaries.ORIGIN, "reference", "measure"]
    summary = summaries.mean_table(scores, [*keys, "explainer"], also={"chance": "mean"}).assign(seed=seed)
    return summary, summaries.paired_tests(scores, keys, "explainer", seed=seed).assign(seed=seed)
