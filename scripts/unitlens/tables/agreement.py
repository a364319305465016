"""Score pairs of explainers, summarize them and compare pairs."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd

from unitlens.explainers.items import Explanation, stream_seeds
from unitlens.measures.scales import chance_iou
from unitlens.tables import resampling, summaries

_AT_ONCE = 16  # images that are ranked and cut at once
_KEYS = [*summaries.ORIGIN, *summaries.PAIR, "measure", "cut"]
_MATCHING = ["matched", "chance", "excess", "excess_low", "excess_high", "p_value"]


def score_pairs(
    explanations: Sequence[Explanation], *, area: float, areas: Sequence[float], threshold: float, seed: int
) -> pd.DataFrame:
    """Score how far every two explainers agree on every image, see docs/outputs.md, ``results/agreement.csv``.

    Measures are ``equal_area_iou`` and ``threshold_iou`` (`cut` is the area or the threshold), ``spearman``,
    ``peak_distance`` (share of the image's diagonal) and ``peak_distance_pixels``. The ``floor`` is what unrelated
    pixels score, the ``ceiling`` what ties leave (`agreement.self_iou`); where they are not known they are NaN, and so
    are the values of images without a map by one of the two (see `has_map`). Maps are cut to the share `area` of
    the image, as in other tables, to the shares `areas`, and at the share `threshold` of their own maximum; ties have a
    random order of their own for each image and explainer. ValueError if the files are of other images than each other.
    """
    import torch

    from unitlens.explainers.masks import has_map
    from unitlens.explainers.run import check_same_images
    from unitlens.measures import agreement

    check_same_images(explanations)
    images = summaries.image_table(*explanations[0])
    maps = {facts["explainer"]: torch.as_tensor(arrays["saliency"]) for arrays, facts in explanations}
    seeds = {name: stream_seeds(seed, name, images["image_id"]) for name in maps}
    scores = defaultdict(lambda: np.empty((3, len(images))))  # of a pair, a measure and a cut
    for start in range(0, max(1, len(images)), _AT_ONCE):  # a block of none tells what is measured
        rows = slice(start, start + _AT_ONCE)
        own_maps, own_seeds = ({name: each[rows] for name, each in parts.items()} for parts in (maps, seeds))
        block = agreement.score_block(own_maps, own_seeds, areas=sorted({area, *areas}), threshold=threshold)
        for key, values in block.items():
            scores[key][:, rows] = values
    floors = {"equal_area_iou": chance_iou, "spearman": lambda _: 0.0}
    tables = []
    scored = {name: has_map(own).numpy() for name, own in maps.items()}
    for (a, b, measure, cut), limits in scores.items():
        values, tied, ceiling = (np.where(scored[a] & scored[b], own, np.nan) for own in limits)
        floor = floors.get(measure, lambda _: np.nan)(cut)
        cut = np.nan if cut is None else cut
        pair = images.assign(explainer_a=a, explainer_b=b, measure=measure, cut=cut, value=values, floor=floor)
        tables.append(pair.assign(tied_share=tied, ceiling=ceiling))
    return pd.concat(tables, ignore_index=True)


def match(
    explanations: Sequence[Explanation], *, area: float, areas: Sequence[float], threshold: float, seed: int
) -> pd.DataFrame:
    """Tell what two explainers score on different images, and test whether they score otherwise on the same one.

    Arguments are those of `score_pairs`. Gives ``model, explained_class, geometry, explainer_a, explainer_b, measure,
    cut`` and ``matched`` (source images), ``chance, excess, excess_low, excess_high, p_value``, see
    `resampling.matching`; images without a map by one of the two are left out. ValueError as of `score_pairs`.
    """
    import torch

    from unitlens.explainers.masks import has_map
    from unitlens.explainers.run import check_same_images
    from unitlens.measures import agreement

    check_same_images(explanations)
    images = summaries.image_table(*explanations[0])
    maps = {facts["explainer"]: torch.as_tensor(arrays["saliency"]) for arrays, facts in explanations}
    seeds = {name: stream_seeds(seed, name, images["image_id"]) for name in maps}
    found = agreement.cross_scores(maps, seeds, areas=sorted({area, *areas}), threshold=threshold)
    scored = {name: has_map(own).numpy() for name, own in maps.items()}
    origin = {name: explanations[0][1][name] for name in summaries.ORIGIN}
    rows = []
    for (a, b, measure, cut), scores in found.items():
        kept = np.flatnonzero(scored[a] & scored[b] & np.isfinite(np.diagonal(scores)))
        groups = images["source_image"].to_numpy()[kept]
        result = resampling.matching(scores[np.ix_(kept, kept)], groups=groups, seed=seed)
        rows.append([*origin.values(), a, b, measure, np.nan if cut is None else cut, *result])
    return pd.DataFrame(rows, columns=[*_KEYS, *_MATCHING])


def summarize(scores: pd.DataFrame, matching: pd.DataFrame) -> pd.DataFrame:
    """Average agreement over all images, and over those whose predicted class is the label or is not.

    ``undefined`` counts images left out because both masks were empty or a map was constant. `matching` is of `match`,
    of all models: ``chance`` holds for every subset, the excess over it and its test stand with all images only;
    p-values are adjusted over the pairs of a model, a measure and a cut.
    """
    known = scores[scores["prediction"].isin(["right", "wrong"])]
    scores = pd.concat([scores.assign(subset="all"), known.assign(subset=known["prediction"])])
    keys = [*summaries.ORIGIN, "subset", *summaries.PAIR, "measure", "cut"]
    also = {"floor": "first", "tied_share": "mean", "ceiling": "mean"}
    summary = summaries.mean_table(scores, keys, also=also)
    matching = matching.astype({"cut": float}).assign(p_adjusted=np.nan)
    families = [*summaries.ORIGIN, "measure", "cut"]
    for _, family in matching.groupby(families, dropna=False):
        matching.loc[family.index, "p_adjusted"] = resampling.benjamini_hochberg(family["p_value"])
    summary = summary.astype({"cut": float}).merge(matching, how="left", on=_KEYS)
    summary.loc[summary["subset"] != "all", [*_MATCHING[2:], "p_adjusted"]] = np.nan
    return summary


def headline(summary: pd.DataFrame, *, area: float) -> pd.DataFrame:
    """Rows of `summarize` that figures and sentences show: all images, one area, IoUs and rank correlation."""
    shown = summary["measure"].isin(["threshold_iou", "spearman"]) | equal_area(summary, area)
    return summary[shown & (summary["subset"] == "all")]


def compare_pairs(scores: pd.DataFrame, *, area: float, seed: int = 0) -> pd.DataFrame:
    """Test whether the pair of explainers that agrees most does so more than every other pair, on the same images.

    The tests take the first pair, the first of equal ones, as given: they do not account for its being chosen as the
    one with the highest mean. p-values are adjusted for as many tests as there are other pairs of a model and measure.
    """
    shown = equal_area(scores, area) | (scores["measure"] == "spearman")
    scores = scores[shown]
    scores = scores.assign(pair=scores["explainer_a"] + " & " + scores["explainer_b"])
    keys = [*summaries.ORIGIN, "measure", "cut"]
    return summaries.paired_tests(scores, keys, "pair", pairs=_first_and_others, seed=seed).assign(seed=seed)


def equal_area(scores: pd.DataFrame, area: float) -> pd.Series:
    """Tell which rows hold the IoU of masks of one area."""
    return (scores["measure"] == "equal_area_iou") & np.isclose(scores["cut"], area)


def _first_and_others(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """Pair the pair of explainers with the highest mean with every other one."""
    defined = scores[scores["value"].notna()]
    means = defined.groupby("pair", sort=False)["value"].apply(np.mean).sort_values(ascending=False, kind="stable")
    return [(first, other) for first in means.index[:1] for other in scores["pair"].unique() if other != first]
