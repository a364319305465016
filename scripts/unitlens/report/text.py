"""Titles of methods and measures, and numbers, intervals and p-values in words."""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from unitlens.measures.scales import chance_iou
from unitlens.tables.resampling import smallest_p

SIGNIFICANT = 0.05  # of adjusted p-values

METHOD_TITLES = {
    "gradcam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "layercam": "LayerCAM",
    "ablationcam": "Ablation-CAM",
    "scorecam": "Score-CAM",
    "lime": "LIME",
    "random": "Random map",
    "gaussian": "Centered Gaussian",
}

MEASURE_TITLES = {
    "equal_area_iou": "Equal-area IoU",
    "threshold_iou": "IoU at a threshold",
    "spearman": "Spearman rank correlation",
}

FAITHFULNESS_TITLES = {
    "deletion": "Area under the deletion curve",
    "insertion": "Area under the insertion curve",
    "road": "ROAD: half of least over most relevant",
    "average_drop": "Average drop",
}

CURVE_TITLES = {
    "deletion": "Deletion ({})",
    "insertion": "Insertion ({})",
    "road_morf": "ROAD, most relevant first",
    "road_lerf": "ROAD, least relevant first",
}
BASELINE_TITLES = {"blur": "blurred", "mean": "the mean color", "imputed": "imputed", "black": "black"}

LOCALIZATION_TITLES = {
    "iou": "IoU at the object's own area",
    "pointing": "share of the peak inside (pointing game)",
    "energy": "share of the saliency inside",
}

SCORE_TITLES = {"deletion": "deletion", "insertion": "insertion", "road": "ROAD"}
SHAPE_TITLES = {
    "half_area": "share of the image above half of the maximum",
    "gini": "Gini coefficient of the saliency",
    "pieces": "connected pieces of the most salient area",
}

COMPLEXITY_TITLES = {
    "edge_density": "edge density",
    "entropy": "gray-level entropy",
    "superpixels": "number of superpixels",
    "jpeg_bits": "JPEG bits per pixel",
    "confidence": "the model's confidence",
}

INTERVENTION_TITLES = {  # how units that are switched off were chosen
    "contribution": "largest contribution",
    "activity": "most active",
    "weight": "largest weights",
    "random": "random, as active",
}

STABILITY_TITLES = {
    "top_jaccard": "Jaccard index of the top superpixels of two seeds",
    "equal_area_iou": "equal-area IoU of the maps of two seeds",
    "kept": "share of the final top superpixels",
}


def explainer_title(explainer: str) -> str:
    """Name an explainer as its paper does.

    Parameters
    ----------
    explainer : str
        As in file names: ``lime``, or a CAM and its layer such as ``gradcam-features.12``. A method without a title
        keeps its name.
    """
    method = explainer.split("-", 1)[0]
    return METHOD_TITLES.get(method, method)


def pair_title(explainer_a: str, explainer_b: str) -> str:
    """Name two explainers, for instance ``Grad-CAM and LIME``."""
    return f"{explainer_title(explainer_a)} and {explainer_title(explainer_b)}"


def machine_title(device: str, threads: int) -> str:
    """Name what ran an explainer, ``cpu`` or a GPU by its name, for instance ``CPU, 2 threads``."""
    return f"{'CPU' if device == 'cpu' else device}, {counted(threads, 'thread')}"


def plural(n: int, one: str, many: str = "") -> str:
    """Choose the word that fits a number; without ``many`` it is ``one`` with an s."""
    return one if n == 1 else many or f"{one}s"


def samples_of_maps(n_samples: int | str) -> str:
    """Say how many samples LIME's maps are made of: a number, or "auto"."""
    return "samples that each map took" if n_samples == "auto" else f"{counted(n_samples, 'sample')} of the maps"


def counted(n: int, one: str, many: str = "") -> str:
    """Write how many there are of what, for instance ``1 unit`` or ``1,024 units``."""
    return f"{n:,} {plural(n, one, many)}"


def estimate(value: float, low: float, high: float, n: int) -> str:
    """Write an estimate with its interval and its number, for instance ``0.31 (95 % interval 0.22 to 0.40, n = 10)``.

    An estimate or an interval that is NaN, for lack of source images, is named as missing.
    """
    if pd.isna(value):
        return f"undefined (n = {n})"
    if pd.isna(low):
        return f"{value:.2f} (n = {n} is too small for an interval)"
    return f"{value:.2f} (95 % interval {low:.2f} to {high:.2f}, n = {n})"


def mean_estimate(row: Mapping) -> str:
    """Write a row of `summaries.mean_table` as `estimate` does; equal values have no interval."""
    if row["low"] == row["high"]:
        return f"{row['mean']:.2f} (no interval, for all values are equal; n = {row['n']})"
    return estimate(row["mean"], row["low"], row["high"], row["n"])


def above_and_below(tests: pd.DataFrame) -> tuple[int, int]:
    """Count the differences of `summaries.paired_tests` that are significantly above 0, and those below."""
    differences = tests.loc[tests["p_adjusted"] < SIGNIFICANT, "difference"]
    return int((differences > 0).sum()), int((differences < 0).sum())


def paired_test(tests: pd.DataFrame, family: pd.DataFrame | None = None) -> str:
    """Name the tests of `summaries.paired_tests`, and the smallest of their adjusted p-values.

    Parameters
    ----------
    tests : pandas.DataFrame
        Those that are spoken of.
    family : pandas.DataFrame, optional
        Those that were adjusted together; the same by default.

    Returns
    -------
    str
        For instance ``paired permutation test by source image, p < 0.05 adjusted for 2 tests; smallest p = 0.25``.
    """
    if tests["p_adjusted"].isna().all():
        return "no source image to test on"
    how = f"paired permutation test by source image, {significant(tests if family is None else family)}"
    return f"{how}; smallest {p_value(tests['p_adjusted'].min())}"


def significant(family: pd.DataFrame) -> str:
    """Say what counts as significant, for instance ``p < 0.05 adjusted for 2 tests``, of tests adjusted together."""
    return f"p < {SIGNIFICANT} {adjusted(family)}"


def adjusted(family: pd.DataFrame) -> str:
    """Say for how many tests a column ``p_adjusted`` is adjusted; rows without a p-value were no tests.

    Of tests by flipping signs of ``source_images`` it is said where one clear result alone could not be significant.
    """
    tested = family[family["p_adjusted"].notna()]
    said = f"adjusted for {counted(len(tested), 'test')}"
    if tested.empty or not {"source_images", "p_value"} <= set(tested) or "correlation" in tested:
        return said
    n = int(tested["source_images"].max())
    least = min(1.0, len(tested) * smallest_p(n))
    if least < SIGNIFICANT:
        return said
    return f"{said}: one clear result alone can give no less than {least:.2g} at n = {n}"


def p_value(p: float) -> str:
    """Write a p-value, for instance ``p = 0.04`` or ``p < 0.001``; a dash where there is none."""
    if pd.isna(p):
        return "–"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def listed(texts: Iterable[str]) -> str:
    """List texts in a sentence, with commas and an `and`."""
    *first, last = list(texts) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def percent(share: float, digits: int | None = None) -> str:
    """Write a share in percent, rounded to so many digits; by default to 1 %, or to two digits below 10 %.

    What is not all is never called 100 %: then it is rounded down, to 0.1 %.
    """
    if digits is None and 0.995 <= share < 1:
        return f"{math.floor(1000 * share) / 10:.1f} %"
    if digits is None and share >= 0.0995:
        return f"{100 * share:.0f} %"
    return f"{100 * share:.{digits or 2}g} %"


def percents(low: float, high: float) -> str:
    """Write an interval of shares in percent."""
    return f"{percent(low)} to {percent(high)}" if pd.notna(low) else "none"


def points(share: float) -> str:
    """Write a difference of shares in percentage points, with its sign."""
    return f"{100 * share:+.1f}"


def thousands(n: int) -> str:
    """Write a count with commas between thousands."""
    return f"{n:,}"


def decimals(value: float, digits: int) -> str:
    """Write a number with so many digits after the point, a dash where there is none."""
    return f"{round(value, digits) + 0.0:.{digits}f}" if pd.notna(value) else "–"  # no minus zero


def in_seconds(seconds: float) -> str:
    """Write seconds with as many digits as one reads."""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def objective_text(*, objective: str, explainer: str, area: float, steps: int, baseline: str) -> str:
    """Name an objective of the tuning with all that it depends on, for tables and sentences."""
    title, share = explainer_title(explainer), f"cut to {100 * area:g} % of the image"
    return {
        "equal_area_iou": f"IoU with {title}, both {share}; unrelated pixels {chance_iou(area):.3f}",
        "mask_iou": f"IoU of LIME's mask with {title}, {share}",
        "insertion": f"insertion AUC ({baseline} baseline, {steps} steps)",
    }[objective]
