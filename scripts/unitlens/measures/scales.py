"""What measures are read against, without torch, for tables, figures and sentences: names, directions, chance."""

import numpy as np
from numpy.typing import ArrayLike

CONTROLS = ("random", "gaussian")  # maps that know nothing of a model
BETTER = {  # which end of a measure of faithfulness is the faithful one: 1 the higher, -1 the lower
    **{"deletion": -1, "insertion": 1, "road_morf": -1, "road_lerf": 1, "road": 1, "average_drop": -1, "increase": 1}
}
RANDOMIZED, OTHER = "randomized network", "another source image"
STABILITY_MEASURES = ("top_jaccard", "equal_area_iou", "kept")
IMAGE_MEASURES = ("edge_density", "entropy", "superpixels", "jpeg_bits", "confidence")  # the last of the prediction


def has_layer(explainer: str) -> bool:
    """Tell whether an explainer reads a layer, which its name ends on then: ``gradcam-layer4``, but ``lime``."""
    return "-" in explainer


def chance_iou(fraction: float) -> float:
    """Intersection over union of masks of unrelated pixels that each mark a share `fraction` of the image.

    fraction / (2 - fraction): the ratio of the expected areas q^2 and 2 q - q^2. It is the floor: smooth maps of
    different images that share a place, the middle for instance, score more, see `cross_scores`.
    """
    return fraction / (2 - fraction)


def gini_coefficient(counts: ArrayLike) -> float:
    """Gini coefficient of non-negative numbers (n,): 0 where all are equal, (n - 1) / n where one has everything.

    With the counts ascending, sum_i (2 i - n - 1) x_i / (n sum_i x_i), i from 1; NaN where they sum to 0. ValueError if
    a count is negative or not finite.
    """
    counts = np.sort(finite(counts, "counts"))
    if (counts < 0).any():
        raise ValueError(f"`counts` must not be negative, got {counts[0]}")
    n, total = len(counts), counts.sum()
    if total == 0:
        return np.nan
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total))


def finite(values: ArrayLike, name: str) -> np.ndarray:
    """Give values (n,) as float64; a ValueError names `name` unless they are one-dimensional and finite."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"`{name}` must be one-dimensional, got shape {values.shape}")
    if not np.isfinite(values).all():
        first = np.flatnonzero(~np.isfinite(values))[0]
        raise ValueError(f"`{name}` holds {values[first]} at {first}; drop such rows and state how many")
    return values
