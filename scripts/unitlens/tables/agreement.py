"""Score pairs of explainers, summarize them and compare pairs."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from unitlens.explainers.masks import has_map
from unitlens.explainers.run import Explanation, check_same_images
from unitlens.jobs.seeds import stream_seeds
from unitlens.measures import agreement
from unitlens.tables import summaries

_AT_ONCE = 16  # images that are ranked and cut at once


def score_pairs(
    explanations: Sequence[Explanation], *, area: float, areas: Sequence[float], threshold: float, seed: int
) -> pd.DataFrame:
    """Score how far every two explainers agree on every image.

    Parameters
    ----------
    explanations : sequence
        Arrays and attributes of each explainer's file: ``saliency, image_id, photograph, label, predicted``, and
        ``model, explained_class, geometry, explainer``.
    area : float
        Share of the picture in the masks that other tables use; swept too if `areas` lacks it.
    areas : sequence of float
        Shares of the picture to which maps are cut for the equal-area IoU.
    threshold : float
        Share of its own maximum at which each map is cut for the IoU at a threshold.
    seed : int
        Of the random order of ties, with an order of its own for each image and explainer.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, prediction, explainer_a, explainer_b, measure, cut,
        value, chance, tied_share``, a row for each image, pair and measure: ``equal_area_iou`` and ``threshold_iou``
        (`cut` is the area or the threshold), ``spearman``, ``peak_distance`` (share of the picture's diagonal) and
        ``peak_distance_pixels``. ``prediction`` is ``right`` or ``wrong``, empty without a label. ``chance`` is the
        expected value for unrelated maps where it is known; ``tied_share`` the larger share of the two equal-area masks
        that ties, and so a random draw, decided. Values of images without a map by one of the two (see `has_map`) are
        NaN.

    Raises
    ------
    ValueError
        If the files are not of the same images, or as the measures do.
    """
    check_same_images(explanations)
    images = summaries.image_table(*explanations[0])
    maps = {facts["explainer"]: torch.as_tensor(arrays["saliency"]) for arrays, facts in explanations}
    seeds = {name: stream_seeds(seed, name, images["image_id"]) for name in maps}
    scores = defaultdict(lambda: np.empty((2, len(images))))  # of a pair, a measure and a cut: values, tied shares
    for start in range(0, max(1, len(images)), _AT_ONCE):  # a block of none tells what is measured
        rows = slice(start, start + _AT_ONCE)
        own_maps, own_seeds = ({name: each[rows] for name, each in parts.items()} for parts in (maps, seeds))
        block = agreement.score_block(own_maps, own_seeds, areas=sorted({area, *areas}), threshold=threshold)
        for key, values in block.items():
            scores[key][:, rows] = values
    chances = {"equal_area_iou": agreement.chance_iou, "spearman": lambda _: 0.0}
    tables = []
    scored = {name: has_map(own).numpy() for name, own in maps.items()}
    for (a, b, measure, cut), (values, tied) in scores.items():
        values, tied = (np.where(scored[a] & scored[b], own, np.nan) for own in (values, tied))
        chance = chances.get(measure, lambda _: np.nan)(cut)
        cut = np.nan if cut is None else cut
        pair = images.assign(explainer_a=a, explainer_b=b, measure=measure, cut=cut, value=values, chance=chance)
        tables.append(pair.assign(tied_share=tied))
    return pd.concat(tables, ignore_index=True)


def summarise(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Average agreement over images, with a bootstrap interval that resamples photographs.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_pairs`.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, subset, explainer_a, explainer_b, measure, cut, n, photographs, undefined,
        mean, low, high, chance, tied_share, seed``. ``subset`` is ``all``, ``right`` or ``wrong``: all images, or those
        whose predicted class is the label or is not. A 95 % interval, empty below three photographs; ``undefined``
        counts images left out because both masks were empty or a map was constant.
    """
    known = scores[scores["prediction"].isin(["right", "wrong"])]
    scores = pd.concat([scores.assign(subset="all"), known.assign(subset=known["prediction"])])
    keys = [*summaries.ORIGIN, "subset", *summaries.PAIR, "measure", "cut"]
    also = {"chance": "first", "tied_share": "mean"}
    return summaries.mean_table(scores, keys, seed=seed, also=also).assign(seed=seed)


def headline(summary: pd.DataFrame, *, area: float) -> pd.DataFrame:
    """Rows of `summarise` that figures and sentences show: all images, one area, IoUs and rank correlation."""
    shown = summary["measure"].isin(["threshold_iou", "spearman"])
    shown |= (summary["measure"] == "equal_area_iou") & np.isclose(summary["cut"], area)
    return summary[shown & (summary["subset"] == "all")]


def compare_pairs(scores: pd.DataFrame, *, area: float, seed: int = 0) -> pd.DataFrame:
    """Test whether the pair of explainers that agrees most does so more than every other pair, on the same images.

    The tests take the first pair as given: they do not account for its being chosen as the one with the highest mean.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_pairs`.
    area : float
        The cut whose equal-area IoU is compared, beside the rank correlation.
    seed : int

    Returns
    -------
    pandas.DataFrame
        See `summaries.paired_tests`; ``pair_a`` and ``pair_b`` hold two explainers each, joined by ``" & "``.
        ``pair_a`` is the pair with the highest mean of the model and measure, the first of equal ones; p-values are
        adjusted for as many tests as there are other pairs.
    """
    shown = (scores["measure"] == "equal_area_iou") & np.isclose(scores["cut"], area) | (
        scores["measure"] == "spearman"
    )
    scores = scores[shown]
    scores = scores.assign(pair=scores["explainer_a"] + " & " + scores["explainer_b"])
    return summaries.paired_tests(
        scores, [*summaries.ORIGIN, "measure", "cut"], "pair", pairs=_first_and_others, seed=seed
    ).assign(seed=seed)


def _first_and_others(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """Pair the pair of explainers with the highest mean with every other one."""
    defined = scores[scores["value"].notna()]
    means = defined.groupby("pair", sort=False)["value"].apply(np.mean).sort_values(ascending=False, kind="stable")
    return (
        [(means.index[0], other) for other in scores["pair"].unique() if other != means.index[0]] if len(means) else []
    )
