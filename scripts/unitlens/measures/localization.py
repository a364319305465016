"""How well saliency maps find the object that a sheet gives, as a mask or a box, beside maps that know nothing.

IoU at the object's own area, the pointing game (Zhang et al., ECCV 2016; here without tolerance) and the share of the
saliency inside. The floors are a random map and a centred Gaussian, those of `faithfulness`. Tested by hand.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens import agreement, faithfulness, stats
from unitlens.agreement import ORIGIN, Explanation
from unitlens.images import box_pixels
from unitlens.seeds import stream_seeds
from unitlens.wording import above_and_below, counted, explainer_title, mean_estimate, paired_test

TITLES = {
    "iou": "IoU at the object's own area",
    "pointing": "share of the peak inside (pointing game)",
    "energy": "share of the saliency inside",
}


def reference_masks(images: Mapping[str, np.ndarray]) -> dict[str, tuple[Tensor, Tensor]]:
    """Give what the sheet says of where the objects are.

    Parameters
    ----------
    images : mapping
        A shard of decoded photographs: ``images``, ``box`` (n, 4) in pixels (left, top, right, bottom; NaN where there
        is none) and, where a photograph has one, ``mask`` (n, h, w), 0 outside the object, with ``has_mask`` (n,).

    Returns
    -------
    dict
        From ``mask`` and ``box``, where given, to the objects (n, h, w) bool and which images have one (n,) bool;
        `images.box_pixels` says what a box covers.

    Raises
    ------
    ValueError
        If masks and photographs differ in size.
    """
    shape = images["images"].shape[:3]
    references = {}
    if "mask" in images:
        if images["mask"].shape != shape:
            raise ValueError(f"`mask` has shape {images['mask'].shape}; allowed: {shape}, that of the photographs")
        references["mask"] = torch.as_tensor(images["mask"] != 0), torch.as_tensor(images["has_mask"])
    box = np.asarray(images["box"])
    if not np.isnan(box).all():
        known = torch.as_tensor(~np.isnan(box).any(1))
        references["box"] = torch.as_tensor(box_pixels(box, shape[1:])), known
    return references


def object_iou(saliency: Tensor, mask: Tensor, *, seeds: Sequence[int]) -> Tensor:
    """Intersection over union of each object and as many of the most salient pixels as it has.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w)
        Saliency maps.
    mask : Tensor, bool, shape (n, h, w)
        Objects.
    seeds : sequence of int
        One for each image: the order in which equal pixels are taken.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN where the mask is empty; `agreement.chance_iou` of the object's share is what unrelated maps score.

    Raises
    ------
    ValueError
        As `agreement.iou` and `agreement.equal_area_mask` do.
    """
    scores = torch.full((len(mask),), torch.nan, dtype=torch.float64)
    for i, share in enumerate(mask.double().mean((-2, -1)).tolist()):
        if share > 0:
            scores[i] = agreement.iou(agreement.equal_area_mask(saliency[i], share, seed=seeds[i]), mask[i])
    return scores


def pointing(saliency: Tensor, mask: Tensor) -> Tensor:
    """Tell whether the peak of each map lies inside the object.

    Parameters
    ----------
    saliency, mask
        As in `object_iou`.

    Returns
    -------
    Tensor, float64, shape (n,)
        1 or 0; of a plateau, such as a superpixel, the share of its pixels that lie inside: what a pixel drawn from it
        at random would score on average. NaN where the map is constant or the mask empty.

    Raises
    ------
    ValueError
        If the shapes differ or a saliency is NaN.
    """
    maps = _checked(saliency, mask)
    highest = maps.amax((-2, -1), keepdim=True)
    peak = (maps == highest).double()
    share = (peak * mask).sum((-2, -1)) / peak.sum((-2, -1))
    constant = maps.amin((-2, -1)) == highest[:, 0, 0]
    return share.masked_fill(constant | ~mask.any(-1).any(-1), torch.nan)


def energy_inside(saliency: Tensor, mask: Tensor) -> Tensor:
    """Share of each map's saliency that lies inside the object.

    Parameters
    ----------
    saliency, mask
        As in `object_iou`; saliency at least 0.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN for a map of zeros or an empty mask; the object's share of the picture is what unrelated maps score.

    Raises
    ------
    ValueError
        If the shapes differ, or a saliency is NaN or negative.
    """
    maps = _checked(saliency, mask, at_least_zero=True).double()
    share = (maps * mask).sum((-2, -1)) / maps.sum((-2, -1))
    return share.masked_fill(~mask.any(-1).any(-1), torch.nan)


def score(explanations: Sequence[Explanation], images: Mapping[str, np.ndarray], *, seed: int) -> pd.DataFrame:
    """Score every explainer and the floors against the objects of a shard.

    Parameters
    ----------
    explanations : sequence
        Arrays and attributes of each explainer's file.
    images : mapping
        The shard of decoded photographs, see `reference_masks`.
    seed : int
        Of the random map and of the order of ties, with one of its own for each image and explainer.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, prediction, reference, object_area, explainer,
        measure, value, chance``, a row for each image with a reference (``mask`` or ``box``), explainer and measure, a
        key of `TITLES`. ``object_area`` is the object's share of the picture, ``chance`` what unrelated maps score.
        Both are NaN where a map is zero everywhere (see `agreement.has_map`), or nothing is left of an object. Without
        any reference there are no rows.

    Raises
    ------
    ValueError
        If the files are of other images than each other or the shard, or as the measures do.
    """
    agreement.check_same_images([*explanations, (images, {"explainer": "the decoded photographs"})])
    facts = agreement.image_table(*explanations[0])
    maps = {own["explainer"]: torch.as_tensor(arrays["saliency"]) for arrays, own in explanations}
    seeds = stream_seeds(seed, "random", facts["image_id"])
    maps |= faithfulness.floor_maps(images["images"].shape[1:3], seeds=seeds)
    columns = [*facts, "reference", "object_area", "explainer", "measure", "value", "chance"]
    tables = [pd.DataFrame(columns=columns)]
    for reference, (mask, known) in reference_masks(images).items():
        area = mask.double().mean((-2, -1))
        rows = facts.assign(reference=reference, object_area=area.numpy())
        for name, own in maps.items():
            seeds = stream_seeds(seed, f"{name}/{reference}", facts["image_id"])
            measures = {
                "iou": (object_iou(own, mask, seeds=seeds), agreement.chance_iou(area)),
                "pointing": (pointing(own, mask), area),
                "energy": (energy_inside(own, mask), area),
            }
            for measure, (values, chance) in measures.items():
                values = values.where(agreement.has_map(own), torch.nan)
                chance = chance.where(~values.isnan(), torch.nan)
                table = rows.assign(explainer=name, measure=measure, value=values.numpy(), chance=chance.numpy())
                tables.append(table[known.numpy()])
    return pd.concat(tables[1:] or tables, ignore_index=True)


def summarise(scores: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average the scores of every explainer, and test every two of them against each other.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score`.
    seed : int

    Returns
    -------
    summary : pandas.DataFrame
        ``model, explained_class, geometry, reference, measure, explainer, n, photographs, undefined, mean, low, high,
        chance, seed``, see `stats.mean_table`.
    tests : pandas.DataFrame
        See `stats.paired_tests`; every two explainers, the floors among them.
    """
    keys = [*ORIGIN, "reference", "measure"]
    summary = stats.mean_table(scores, [*keys, "explainer"], seed=seed, also={"chance": "mean"}).assign(seed=seed)
    return summary, stats.paired_tests(scores, keys, "explainer", seed=seed).assign(seed=seed)


def findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say which explainer finds the object best, and which beat a centred Gaussian."""
    sentences = []
    for (model, reference, measure), group in summary.groupby(["model", "reference", "measure"], sort=False):
        explainers = group[~group["explainer"].isin(faithfulness.FLOORS)]
        if explainers["mean"].isna().all():
            sentences.append(f"{model}, {TITLES[measure]} against the {reference}: undefined for every photograph.")
            continue
        best = explainers.loc[explainers["mean"].idxmax()]
        tied = ", ".join(map(explainer_title, explainers.loc[explainers["mean"] == best["mean"], "explainer"]))
        sentence = f"{model}, {TITLES[measure]} against the {reference}: highest for {tied}, {mean_estimate(best)}"
        for gaussian in group.loc[group["explainer"] == "gaussian", "mean"]:
            sentence += f"; a centred Gaussian has {gaussian:.2f}"
        sentence += f", chance is {best['chance']:.2f}."
        family = tests[(tests["model"] == model) & (tests["reference"] == reference) & (tests["measure"] == measure)]
        own = family[(family["explainer_b"] == "gaussian") & family["explainer_a"].isin(explainers["explainer"])]
        if len(own):
            above, below = above_and_below(own)
            sentence += f" Of {counted(len(own), 'explainer')} {above} above the Gaussian, {below} below it "
            sentence += f"({paired_test(own, family)})."
        sentences.append(sentence)
    return sentences


def _checked(saliency: Tensor, mask: Tensor, *, at_least_zero: bool = False) -> Tensor:
    saliency = torch.as_tensor(saliency)
    if saliency.shape != mask.shape or saliency.ndim != 3:
        raise ValueError(
            f"`saliency` and `mask` must both be (n, h, w), got {tuple(saliency.shape)} and {tuple(mask.shape)}"
        )
    agreement.check_values(saliency, at_least_zero=at_least_zero)
    return saliency
