"""Tabulate Network Dissection: detectors, and how they compare with CLIP-Dissect's labels."""

import numpy as np
import pandas as pd

from unitlens.networks.network import class_names
from unitlens.storage.tables import read_table, read_texts
from unitlens.tables import resampling
from unitlens.units.netdissect import DETECTOR, Dissection

SOURCES = {"masks": "masks", "boxes": "boxes, so coarse"}


def mask_words(masks: str | None = None, boxes: str | None = None, *, ours: bool = False) -> pd.DataFrame:
    """Say what the masks or boxes of the probe set mark: ``value, word, category``.

    Parameters
    ----------
    masks : str, optional
        CSV file with the same columns.
    boxes : str, optional
        Names of the classes that the sheet's labels number, as for `class_names`; boxes mark objects.
    ours : bool
        `masks` was written by the workflow, and not by its user.
    """
    if masks:
        table = read_table(masks) if ours else read_texts(masks)
        return table[["value", "word", "category"]].astype({"value": int})
    names = class_names(boxes)
    return pd.DataFrame({"value": range(len(names)), "word": names, "category": "object"})


def tabulate(
    dissection: Dissection | None,
    words: pd.DataFrame,
    source_images: np.ndarray,
    *,
    source: str,
    detector: float = DETECTOR,
) -> pd.DataFrame:
    """Make the table of a layer's labels, a row a unit, see docs/outputs.md; without a dissection it has no row.

    A unit that overlaps no mask has no concept and an IoU of 0; one that is NaN or infinite somewhere has no concept,
    and its threshold and IoU are NaN.

    Parameters
    ----------
    words : pandas.DataFrame
        ``value, word, category``: what the values of the label maps mean.
    source_images : array, shape (images,)
        What each image was cut from.
    source : str
        A key of `SOURCES`.
    detector : float
        IoU from which on a unit is a detector.
    """
    nothing = np.zeros((0, len(words))), np.zeros(0), np.zeros((len(source_images), len(words)), dtype=bool)
    ious, limits, shows = nothing if dissection is None else dissection
    order = np.argsort(-ious, axis=1, kind="stable")[:, :2]
    best, second = order[:, 0], order[:, -1] if ious.shape[1] > 1 else np.full(len(ious), -1)
    units = np.arange(len(ious))
    score, runner_up = ious[units, best], np.where(second < 0, 0, ious[units, second])
    names = words.word.to_numpy(object)
    _, source_image = np.unique(source_images, return_inverse=True)
    on = np.array([len(set(source_image[column])) for column in shows.T])
    none, known = score == 0, np.where(np.isnan(limits), np.nan, 1)
    return pd.DataFrame(
        {
            "unit": units,
            "threshold": limits,
            "mask_concept": np.where(none, "", names[best]),
            "mask_category": np.where(none, "", words.category.to_numpy(object)[best]),
            "iou": known * score,
            "second_mask_concept": np.where(runner_up == 0, "", names[second]),
            "second_iou": known * runner_up,
            "detector": known * score >= detector,
            "mask_images": np.where(none, 0, shows.sum(0)[best]),
            "mask_source_images": np.where(none, 0, on[best]),
            "masks": SOURCES[source],
        }
    )


def beside_labels(dissected: pd.DataFrame, concepts: pd.DataFrame) -> pd.DataFrame:
    """Put the labels of CLIP-Dissect beside those of Network Dissection; words are empty where a unit has none.

    Both tables have ``model, layer, unit``; the labels (`concepts`) ``status, concept, category``, which get the prefix
    ``clip_``.
    """
    columns = {"status": "clip_status", "concept": "clip_concept", "category": "clip_category"}
    keys = ["model", "layer", "unit"]
    table = dissected.merge(concepts[[*keys, *columns]].rename(columns=columns), on=keys, how="left", validate="1:1")
    texts = ["mask_concept", "mask_category", "clip_concept", "clip_category"]
    return table.assign(**table[texts].fillna(""))


def with_agreement(table: pd.DataFrame, words: list[str], features: np.ndarray, *, same: float = 0.9) -> pd.DataFrame:
    """Say how near the two labels of a unit are: ``cosine, cosine_chance, same``.

    ``cosine`` and ``same`` are empty where a unit lacks one of the labels; ``cosine_chance`` is the mean cosine of its
    mask concept with the CLIP labels of all units of the layer that have both. `words` are those of `words_of` and
    `features`, shape (words, d), their text features; words count as the same from a cosine of `same` on.
    """
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    place = {word: row for row, word in enumerate(words)}
    both = table[(table.mask_concept != "") & (table.clip_concept != "")]
    parts = []
    for _, group in both.groupby(["model", "layer"], sort=False):
        masks, labels = (vectors[[place[word] for word in group[name]]] for name in ("mask_concept", "clip_concept"))
        values = {"cosine": (masks * labels).sum(1), "cosine_chance": masks @ labels.mean(0)}
        parts.append(pd.DataFrame(values, index=group.index))
    agreement = pd.concat(parts) if parts else pd.DataFrame(columns=["cosine", "cosine_chance"], dtype=float)
    return table.join(agreement.assign(same=agreement.cosine >= same))


def words_of(table: pd.DataFrame) -> list[str]:
    """List every word of a table of `beside_labels` once; an empty one where there is none, for encoders want one."""
    return sorted({*table.mask_concept, *table.clip_concept} - {""}) or [""]


def summarize(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Count detectors by layer, and test whether both methods name the same.

    ``cosine`` is the mean over the detectors with a CLIP label, ``cosine_chance`` what is expected if the layer's CLIP
    labels were dealt to its units at random. The sign-flip test of their difference takes units as independent; its
    p-values are adjusted over the layers (Benjamini-Hochberg).
    """
    rows = []
    for (model, layer), group in table.groupby(["model", "layer"], sort=False):
        detectors = group[group.detector.astype(bool)]
        compared = detectors[detectors.cosine.notna()]
        pair = compared.cosine, compared.cosine_chance
        p = resampling.paired_permutation_test(*pair, seed=seed).p_value if len(compared) else np.nan
        unique = len(detectors[["mask_concept", "mask_category"]].drop_duplicates())
        on_one = int((detectors.mask_source_images == 1).sum())
        numbers = [len(group), len(detectors), unique, on_one, len(compared), int(compared.same.sum())]
        rows.append([model, layer, group.masks.iloc[0], *numbers, *(cosines.mean() for cosines in pair), p])
    columns = (
        "model layer masks units detectors unique_detectors on_one_source_image compared same cosine cosine_chance"
    )
    summary = pd.DataFrame(rows, columns=[*columns.split(), "p_value"])
    return summary.assign(p_adjusted=resampling.benjamini_hochberg(summary.p_value))
