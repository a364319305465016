"""What maps and photographs are like: how spread a map is and in how many pieces it falls, how complex a picture is.

Scores are tables with a row for each image, explainer and measure. Tested against hand-computed maps and scikit-image.
"""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import ndimage
from skimage.feature import canny
from torch import Tensor

from unitlens import agreement, stats
from unitlens.agreement import ORIGIN, Explanation
from unitlens.wording import (
    SIGNIFICANT,
    above_and_below,
    adjusted,
    counted,
    estimate,
    explainer_title,
    mean_estimate,
    p_value,
    pair_title,
    paired_test,
)

SHAPE_TITLES = {
    "half_area": "share of the picture above half of the maximum",
    "gini": "Gini coefficient of the saliency",
    "pieces": "connected pieces of the most salient area",
}
COMPLEXITY_TITLES = {
    "edge_density": "edge density",
    "entropy": "grey-level entropy",
    "superpixels": "number of superpixels",
    "jpeg_bits": "JPEG bits per pixel",
    "confidence": "the model's confidence",
}
CANNY_SIGMA, CANNY_LOW, CANNY_HIGH = 1.0, 0.1, 0.2  # pixels, and gradients of a picture in [0, 1]
JPEG_QUALITY = 75
MEAN_OF_PAIRS = "mean of all pairs"


# ---- shape of maps


def half_area(saliency: Tensor) -> Tensor:
    """Share of the picture above half of the map's maximum.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w), at least 0
        Saliency maps.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN for a map of zeros.

    Raises
    ------
    ValueError
        If a saliency is NaN or negative.
    """
    share = agreement.peak_share_mask(saliency, 0.5).double().mean((-2, -1))
    return share.masked_fill(torch.as_tensor(saliency).amax((-2, -1)) == 0, torch.nan)


def gini(saliency: Tensor) -> Tensor:
    """Gini coefficient of each map's saliency: 0 where it is even, near 1 where few pixels have all.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w), at least 0
        Saliency maps.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN for a map of zeros. See `stats.gini`.

    Raises
    ------
    ValueError
        If a saliency is NaN or negative.
    """
    maps = torch.as_tensor(saliency).flatten(1).double().cpu().numpy()
    return torch.tensor([stats.gini(own) for own in maps], dtype=torch.float64)


def untied_mask(saliency: Tensor, fraction: float) -> Tensor:
    """Mark the most salient pixels, about a given share of the picture, without drawing among equals.

    A random draw would break a superpixel, or the zeros around a map, into hundreds of pieces: equals at the cut are
    marked all, but for those at the map's minimum, which are never marked.

    Parameters
    ----------
    saliency : Tensor, shape (n, h, w)
        Saliency maps.
    fraction : float
        Share of the pixels to mark; more where equals lie at the cut, fewer where the map's minimum does.

    Returns
    -------
    Tensor, bool, shape (n, h, w)
        Empty for a constant map.

    Raises
    ------
    ValueError
        As `agreement.equal_area_mask` does.
    """
    saliency = torch.as_tensor(saliency)
    marked = agreement.equal_area_mask(saliency, fraction)
    cut = saliency.masked_fill(~marked, torch.inf).amin((-2, -1), keepdim=True)
    return (saliency >= cut) & (saliency > saliency.amin((-2, -1), keepdim=True))


def pieces(mask: Tensor) -> Tensor:
    """Count the pieces of each mask; pixels that touch at a side or a corner belong together.

    Parameters
    ----------
    mask : Tensor, bool, shape (n, h, w)
        Masks.

    Returns
    -------
    Tensor, float64, shape (n,)
        NaN for an empty mask.
    """
    counts = [ndimage.label(own, structure=np.ones((3, 3)))[1] or np.nan for own in torch.as_tensor(mask).cpu().numpy()]
    return torch.tensor(counts, dtype=torch.float64)


def score_shape(explanations: Sequence[Explanation], *, area: float) -> pd.DataFrame:
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
    agreement.check_same_images(explanations)
    tables = []
    for arrays, facts in explanations:
        maps = torch.as_tensor(arrays["saliency"])
        images = agreement.image_table(arrays, facts).assign(explainer=facts["explainer"])
        mask = untied_mask(maps, area)
        values = {"half_area": half_area(maps), "gini": gini(maps), "pieces": pieces(mask)}
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
        See `stats.mean_table`; a row for each model, explainer and measure.
    tests : pandas.DataFrame
        See `stats.paired_tests`: a class activation map less LIME, adjusted over those of one model and measure.
    """
    keys = [*ORIGIN, "measure"]
    tests = stats.paired_tests(scores, keys, "explainer", pairs=_against_lime, seed=seed)
    summary = stats.mean_table(scores, [*keys, "explainer"], seed=seed)
    return summary.assign(seed=seed), tests.assign(seed=seed)


def _against_lime(scores: pd.DataFrame) -> list[tuple[str, str]]:
    return [(name, "lime") for name in scores["explainer"].unique() if name != "lime"]


def shape_findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say whether class activation maps are broad and LIME's patchy; a sentence for each model and measure."""
    sentences = []
    for (model, measure), group in summary.groupby(["model", "measure"], sort=False):
        own = tests[(tests["model"] == model) & (tests["measure"] == measure)]
        shown = group[group["explainer"].isin([group["explainer"].iloc[0], "lime"])]
        named = ", ".join(f"{explainer_title(row['explainer'])} {mean_estimate(row)}" for _, row in shown.iterrows())
        sentence = f"{model}, {SHAPE_TITLES[measure]}: {named}."
        if len(own):
            above, below = above_and_below(own)
            sentence += f" Of {counted(len(own), 'class activation map')} {above} above LIME, {below} below it "
            sentence += f"({paired_test(own)})."
        sentences.append(sentence)
    return sentences


# ---- complexity of photographs


def edge_density(image: np.ndarray) -> float:
    """Share of the pixels that Canny's detector marks as edges.

    Parameters
    ----------
    image : array, uint8, shape (h, w, 3)
        Photograph. Its grey values are taken in [0, 1], smoothed by `CANNY_SIGMA` pixels; hysteresis between
        `CANNY_LOW` and `CANNY_HIGH`.

    Returns
    -------
    float
    """
    edges = canny(grey(image) / 255, sigma=CANNY_SIGMA, low_threshold=CANNY_LOW, high_threshold=CANNY_HIGH)
    return float(edges.mean())


def entropy(image: np.ndarray) -> float:
    """Shannon entropy of the grey levels of a picture (h, w, 3) uint8, in bits: 0 for a plain one, at most 8."""
    share = np.bincount(grey(image).ravel(), minlength=256) / image[..., 0].size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0  # no minus zero


def jpeg_bits(image: np.ndarray) -> float:
    """Bits per pixel of the picture (h, w, 3) saved as JPEG at `JPEG_QUALITY` by Pillow, headers included."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "jpeg", quality=JPEG_QUALITY)
    return 8 * len(buffer.getvalue()) / image[..., 0].size


def grey(image: np.ndarray) -> np.ndarray:
    """Grey levels (h, w) uint8 of a picture (h, w, 3) uint8, ITU-R 601 luma."""
    return np.asarray(Image.fromarray(image).convert("L"))


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
        ``model, explained_class, geometry, image_id, photograph, prediction`` and the keys of `COMPLEXITY_TITLES`.
    """
    table = agreement.image_table(arrays, facts)
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
    columns = [*ORIGIN, "agreement", "measure", "n", "photographs", "correlation", "low", "high", "p_value"]
    tables = []
    for key, own in agreement_of_images(scores, area=area).groupby([*ORIGIN, "agreement"], sort=False):
        joined = own.merge(complexity, on=[*ORIGIN, "image_id", "photograph"])
        rows = []
        for measure in COMPLEXITY_TITLES:
            known = joined[joined[[measure, "value"]].notna().all(axis=1)]
            result = stats.rank_correlation(known[measure], known["value"], groups=known["photograph"], seed=seed)
            rows.append([*key, measure, len(known), *result])
        table = pd.DataFrame(rows, columns=columns)
        tables.append(table.assign(p_adjusted=stats.benjamini_hochberg(table["p_value"]), seed=seed))
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
    keys = [*ORIGIN, "image_id", "photograph"]
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
    points = agreement_of_images(scores, area=area).merge(complexity, on=[*ORIGIN, "image_id", "photograph"])
    return tuple(table[table["agreement"] == table["model"].map(pairs)] for table in (points, correlations))


def complexity_findings(correlations: pd.DataFrame) -> list[str]:
    """Say whether agreement is higher on simple pictures; a sentence for each model and agreement."""
    sentences = []
    for (model, name), group in correlations.groupby(["model", "agreement"], sort=False):
        pair = f", {name}" if name == MEAN_OF_PAIRS else f" of {pair_title(*name.split(' & '))}"
        known = group[group["correlation"].notna()]
        n = int(group["photographs"].max())
        question = f"{model}, does complexity explain agreement? Equal-area IoU{pair}: "
        if known.empty:
            sentences.append(f"{question}no correlation can be computed from {counted(n, 'photograph')}.")
            continue
        clear = known[known["p_adjusted"] < SIGNIFICANT]
        shown = known.loc[[known["p_value"].idxmin()]] if clear.empty else clear
        named = "; ".join(
            f"{COMPLEXITY_TITLES[row.measure]} {estimate(row.correlation, row.low, row.high, row.photographs)}, "
            f"{p_value(row.p_adjusted)}"
            for row in shown.itertuples()
        )
        if clear.empty:
            verdict = f"not supported at n = {n}; the clearest Spearman correlation is that of {named}"
        else:
            verdict = f"Spearman correlations that differ from zero: {named}"
        sentences.append(f"{question}{verdict} ({adjusted(known)}).")
    return sentences
