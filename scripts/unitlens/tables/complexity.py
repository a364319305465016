"""Tabulate the shape of maps, and the complexity of images against the agreement of explainers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from unitlens.explainers.items import Explanation
from unitlens.measures.scales import IMAGE_MEASURES, has_layer
from unitlens.tables import resampling, summaries
from unitlens.tables.agreement import equal_area

_IMAGE = [*summaries.ORIGIN, "image_id", "source_image"]  # columns that name one
MEAN_OF_PAIRS = "mean of all pairs"


def score_shape(explanations: Sequence[Explanation], *, area: float) -> pd.DataFrame:
    """Measure the shape of every map, and of its pieces in a share `area` of the image; see docs/outputs.md.

    ValueError if the files are not of the same images, or a saliency is NaN or negative.
    """
    import torch

    from unitlens.explainers.run import check_same_images
    from unitlens.measures import complexity as measures

    check_same_images(explanations)
    tables = []
    for arrays, facts in explanations:
        maps = torch.as_tensor(arrays["saliency"])
        images = summaries.image_table(arrays, facts).assign(explainer=facts["explainer"])
        mask = measures.untied_mask(maps, area)
        values = {
            "half_area": measures.half_area(maps),
            "gini": measures.gini(maps),
            "pieces": measures.connected_components(mask),
        }
        for measure, own in values.items():
            marked = mask.double().mean((-2, -1)).numpy() if measure == "pieces" else np.nan
            tables.append(images.assign(measure=measure, value=own.numpy(), marked=marked))
    return pd.concat(tables, ignore_index=True)


def summarize_shape(scores: pd.DataFrame, *, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Average the shapes of each explainer's maps, and test those at a layer against those that need none, as LIME."""
    keys = [*summaries.ORIGIN, "measure"]
    tests = summaries.paired_tests(scores, keys, "explainer", pairs=_at_a_layer_and_without, seed=seed)
    summary = summaries.mean_table(scores, [*keys, "explainer"])
    return summary.assign(seed=seed), tests.assign(seed=seed)


def _at_a_layer_and_without(scores: pd.DataFrame) -> list[tuple[str, str]]:
    names = scores["explainer"].unique()
    return [(a, b) for b in names if not has_layer(b) for a in names if has_layer(a)]


def measure_complexity(images: np.ndarray, explanations: Sequence[Explanation]) -> pd.DataFrame:
    """Measure how complex source images are, as a model sees them, see docs/outputs.md, ``results/complexity.csv``.

    `images` are uint8, shape (n, h, w, 3), in the model's geometry; `explanations` of them by all explainers, of which
    the first with superpixels tells their number.
    """
    from unitlens.measures import complexity as measures

    arrays, facts = next((each for each in explanations if "superpixels" in each[0]), explanations[0])
    table = summaries.image_table(arrays, facts)
    table["edge_density"] = [measures.edge_density(image) for image in images]
    table["entropy"] = [measures.entropy(image) for image in images]
    table["jpeg_bits"] = [measures.jpeg_bits(image) for image in images]
    superpixels = arrays.get("superpixels", np.zeros(len(images), np.int64))
    table["superpixels"] = pd.Series(superpixels, dtype="Int64").replace(0, pd.NA)
    table["confidence"] = arrays["predicted_probability"]
    return table


def correlate_complexity(complexity: pd.DataFrame, scores: pd.DataFrame, *, area: float, seed: int = 0) -> pd.DataFrame:
    """Correlate the complexity of source images with how far explainers agree on them.

    Spearman's correlation of each measure with the IoU, at the cut `area`, of the first class activation map and LIME,
    and with the mean over all pairs; crops of one source image enter with their mean. p-values are adjusted over the
    measures of one agreement. The tables are those of `measure_complexity` and `agreement.score_pairs`.
    """
    columns = [*summaries.ORIGIN, "agreement", "measure", "n", "source_images", "correlation", "low", "high", "p_value"]
    tables = []
    for key, own in agreement_of_images(scores, area=area).groupby([*summaries.ORIGIN, "agreement"], sort=False):
        joined = own.merge(complexity, on=_IMAGE)
        rows = []
        for measure in IMAGE_MEASURES:
            known = joined[joined[[measure, "value"]].notna().all(axis=1)]
            result = resampling.rank_correlation(
                known[measure], known["value"], groups=known["source_image"], seed=seed
            )
            rows.append([*key, measure, len(known), *result])
        table = pd.DataFrame(rows, columns=columns)
        tables.append(table.assign(p_adjusted=resampling.benjamini_hochberg(table["p_value"]), seed=seed))
    return pd.concat(tables or [pd.DataFrame(columns=[*columns, "p_adjusted", "seed"])], ignore_index=True)


def agreement_of_images(scores: pd.DataFrame, *, area: float) -> pd.DataFrame:
    """Give each image's equal-area IoU of the first explainer and the first without a layer, and the mean of all pairs.

    The column ``agreement`` names the pair, or is `MEAN_OF_PAIRS`.
    """
    scores = scores[equal_area(scores, area)]
    first = scores[~scores["explainer_b"].map(has_layer).astype(bool)].drop_duplicates(_IMAGE)
    first = first.assign(agreement=first["explainer_a"] + " & " + first["explainer_b"])
    pairs = scores.groupby(_IMAGE, sort=False)["value"]
    mean = pairs.mean().where(pairs.count() == pairs.size())  # over all pairs or over none
    mean = mean.rename("value").reset_index().assign(agreement=MEAN_OF_PAIRS)
    return pd.concat([first, mean])[[*_IMAGE, "agreement", "value"]]


def complexity_points(
    scores: pd.DataFrame, complexity: pd.DataFrame, correlations: pd.DataFrame, *, area: float
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join agreement and complexity of each source image, for the first pair of `correlations`, and give its rows.

    Arguments as of `correlate_complexity`, and its result; in the points ``value`` is the equal-area IoU.
    """
    pairs = correlations.drop_duplicates("model").set_index("model")["agreement"]
    points = agreement_of_images(scores, area=area).merge(complexity, on=_IMAGE)
    return tuple(table[table["agreement"] == table["model"].map(pairs)] for table in (points, correlations))
