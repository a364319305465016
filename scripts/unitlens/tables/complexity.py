"""Tabulate the shape of maps, and the complexity of images against the agreement of explainers."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from unitlens.explainers import run
from unitlens.measures.complexity import (
    IMAGE_MEASURES,
    connected_components,
    edge_density,
    entropy,
    gini,
    half_area,
    jpeg_bits,
    untied_mask,
)
from unitlens.tables import resampling, summaries

MEAN_OF_PAIRS = "mean of all pairs"


def score_shape(explanations: Sequence[run.Explanation], *, area: float) -> pd.DataFrame:
    """Measure the shape of every map.

    Parameters
    ----------
    explanations : sequence
        Arrays and attributes of each explainer's file.
    area : float
        Share of the picture whose pieces are counted.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, prediction, explainer, measure, value, marked``;
        measures are the keys of `SHAPE_TITLES`, empty for a map of zeros. ``marked`` is the share of the picture whose
        pieces were counted, see `untied_mask`.

    Raises
    ------
    ValueError
        If the files are not of the same images, or a saliency is NaN or negative.
    """
    run.check_same_images(explanations)
    tables = []
    for arrays, facts in explanations:
        maps = torch.as_tensor(arrays["saliency"])
        images = summaries.image_table(arrays, facts).assign(explainer=facts["explainer"])
        mask = untied_mask(maps, area)
        values = {"half_area": half_area(maps), "gini": gini(maps), "pieces": connected_components(mask)}
        for measure, own in values.items():
            marked = mask.double().mean((-2, -1)).numpy() if measure == "pieces" else np.nan
            tables.append(images.assign(measure=measure, value=own.numpy(), marked=marked))
    return pd.concat(tables, ignore_index=True)


def summarise_shape(scores: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average the shapes of each explainer's maps, and test every class activation map against LIME.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `score_shape`.
    seed : int

    Returns
    -------
    summary : pandas.DataFrame
        See `summaries.mean_table`; a row for each model, explainer and measure.
    tests : pandas.DataFrame
        See `summaries.paired_tests`: a class activation map less LIME, adjusted over those of one model and measure.
    """
    keys = [*summaries.ORIGIN, "measure"]
    tests = summaries.paired_tests(scores, keys, "explainer", pairs=_against_lime, seed=seed)
    summary = summaries.mean_table(scores, [*keys, "explainer"], seed=seed)
    return summary.assign(seed=seed), tests.assign(seed=seed)


def _against_lime(scores: pd.DataFrame) -> list[tuple[str, str]]:
    return [(name, "lime") for name in scores["explainer"].unique() if name != "lime"]


def measure_complexity(
    images: np.ndarray, arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]
) -> pd.DataFrame:
    """Measure how complex photographs are, as a model sees them.

    Parameters
    ----------
    images : array, uint8, shape (n, h, w, 3)
        Photographs in the model's geometry.
    arrays, facts : mapping
        LIME's file of explanations of the same photographs, with ``superpixels`` and ``predicted_probability``.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, prediction`` and
        `IMAGE_MEASURES`.
    """
    table = summaries.image_table(arrays, facts)
    for name, measure in {"edge_density": edge_density, "entropy": entropy, "jpeg_bits": jpeg_bits}.items():
        table[name] = [measure(image) for image in images]
    superpixels = arrays["superpixels"] if len(images) else []  # a shard without pictures has none
    table["superpixels"] = pd.Series(superpixels, dtype="Int64").replace(0, pd.NA)
    table["confidence"] = arrays["predicted_probability"]
    return table


def correlate_complexity(complexity: pd.DataFrame, scores: pd.DataFrame, *, area: float, seed: int = 0) -> pd.DataFrame:
    """Correlate the complexity of photographs with how far explainers agree on them.

    Parameters
    ----------
    complexity : pandas.DataFrame
        From `measure_complexity`.
    scores : pandas.DataFrame
        From `agreement.score_pairs`.
    area : float
        The cut whose equal-area IoU is taken.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, agreement, measure, n, photographs, correlation, low, high, p_value,
        p_adjusted, seed``: Spearman's correlation of each measure with the IoU of the first class activation map and
        LIME, and with the mean over all pairs; crops of one photograph enter with their mean. Interval by bootstrap,
        p-value by permutation, both over photographs, and adjusted (Benjamini-Hochberg) over the measures of one
        agreement.
    """
    columns = [*summaries.ORIGIN, "agreement", "measure", "n", "photographs", "correlation", "low", "high", "p_value"]
    tables = []
    for key, own in agreement_of_images(scores, area=area).groupby([*summaries.ORIGIN, "agreement"], sort=False):
        joined = own.merge(complexity, on=[*summaries.ORIGIN, "image_id", "photograph"])
        rows = []
        for measure in IMAGE_MEASURES:
            known = joined[joined[[measure, "value"]].notna().all(axis=1)]
            result = resampling.rank_correlation(known[measure], known["value"], groups=known["photograph"], seed=seed)
            rows.append([*key, measure, len(known), *result])
        table = pd.DataFrame(rows, columns=columns)
        tables.append(table.assign(p_adjusted=resampling.benjamini_hochberg(table["p_value"]), seed=seed))
    return pd.concat(tables or [pd.DataFrame(columns=[*columns, "p_adjusted", "seed"])], ignore_index=True)


def agreement_of_images(scores: pd.DataFrame, *, area: float) -> pd.DataFrame:
    """Give each image's equal-area IoU of the first class activation map and LIME, and its mean over all pairs.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `agreement.score_pairs`.
    area : float
        The cut to take.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, image_id, photograph, agreement, value``; ``agreement`` names the pair, or
        is `MEAN_OF_PAIRS`.
    """
    scores = scores[(scores["measure"] == "equal_area_iou") & np.isclose(scores["cut"], area)]
    keys = [*summaries.ORIGIN, "image_id", "photograph"]
    with_lime = scores[scores["explainer_b"] == "lime"]
    first = with_lime.drop_duplicates(keys)
    first = first.assign(agreement=first["explainer_a"] + " & lime")
    pairs = scores.groupby(keys, sort=False)["value"]
    mean = pairs.mean().where(pairs.count() == pairs.size())  # over all pairs or over none
    mean = mean.rename("value").reset_index().assign(agreement=MEAN_OF_PAIRS)
    return pd.concat([first, mean], ignore_index=True)[[*keys, "agreement", "value"]]


def complexity_points(
    scores: pd.DataFrame, complexity: pd.DataFrame, correlations: pd.DataFrame, *, area: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join agreement and complexity of each photograph, for the first pair of `correlations`, and give its rows.

    Parameters
    ----------
    scores, complexity, area
        As in `correlate_complexity`.
    correlations : pandas.DataFrame
        From it.

    Returns
    -------
    points, correlations : pandas.DataFrame
        ``value`` is the equal-area IoU.
    """
    pairs = correlations.drop_duplicates("model").set_index("model")["agreement"]
    points = agreement_of_images(scores, area=area).merge(complexity, on=[*summaries.ORIGIN, "image_id", "photograph"])
    return tuple(table[table["agreement"] == table["model"].map(pairs)] for table in (points, correlations))
