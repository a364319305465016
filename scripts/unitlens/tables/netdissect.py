"""Tabulate Network Dissection: detectors, and how they compare with CLIP-Dissect's labels."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unitlens.images.label_maps import shown_often
from unitlens.jobs.sheets import class_names, read_rows
from unitlens.storage.tables import read_table, read_texts
from unitlens.tables import resampling, unit_labels

if TYPE_CHECKING:
    from unitlens.units.netdissect import Dissection

ALPHA = 0.05  # highest q-value of a unit that is selective
SOURCES = {"masks": "masks", "boxes": "boxes, so coarse"}
DETECTOR = 0.04  # intersection over union from which on a unit is a detector (Bau et al., CVPR 2017)


def mask_words(
    masks: str | None = None, boxes: str | None = None, labels: str | None = None, *, ours: bool = False
) -> pd.DataFrame:
    """Say what masks, boxes or labels mark: ``value, word, category``.

    Parameters
    ----------
    masks : str, optional
        CSV file with the same columns.
    boxes, labels : str, optional
        Names of the classes that the sheet's labels number, as for `class_names`; boxes mark objects, labels classes.
    ours : bool
        The file was written by the workflow, and not by its user; `labels` is then a sheet with ``class_name``.
    """
    if masks:
        table = read_table(masks) if ours else read_texts(masks)
        return table[["value", "word", "category"]].astype({"value": int})
    if labels and ours:
        rows = read_rows(labels, 0, sys.maxsize)
        named = sorted({(int(row["label"]), row["class_name"]) for row in rows if row["label"]})
        return pd.DataFrame(named, columns=["value", "word"]).assign(category="class")
    names = class_names(boxes or labels)
    return pd.DataFrame({"value": range(len(names)), "word": names, "category": "object" if boxes else "class"})


def shown_concepts(words: pd.DataFrame, features: np.ndarray, source_images: np.ndarray) -> pd.DataFrame:
    """Give the rows of `words` that enough source images show, see `shown_often`, each word once.

    `features`, (images, concepts + 1), are of `concept_features`, and `source_images`, (images,), what each was cut
    from. A word that stands there twice gets its category and value behind it. Errors are as of `shown_often`.
    """
    kept = words[shown_often(features[:, : len(words)] > 0, source_images)]
    unique = kept.word + " (" + kept.category + " " + kept["value"].astype(str) + ")"
    return kept.assign(word=kept.word.mask(kept.word.duplicated(keep=False), unique))


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
    and its threshold and IoU are NaN. A unit is selective if its q-value, adjusted for the units of the layer, is at
    most `ALPHA`; what it may be called says its calibrated set, as with an encoder; and it is a detector if it is
    selective and its IoU reaches the bar.

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
    from unitlens.tables.labeling import with_sets
    from unitlens.units.netdissect import candidates

    none = np.zeros(0)
    nothing = np.zeros((0, len(words))), none, np.zeros((len(source_images), len(words)), bool), np.zeros((2, 0), int)
    nothing += np.zeros((2, 0)), none, none, 1
    ious, limits, shows, halves, short, held_out, p, p_floor = nothing if dissection is None else dissection
    order = np.argsort(-ious, axis=1, kind="stable")[:, :2]
    best, second = order[:, 0], order[:, -1] if ious.shape[1] > 1 else np.full(len(ious), -1)
    units = np.arange(len(ious))
    score, runner_up = ious[units, best], np.where(second < 0, 0, ious[units, second])
    names = np.append(words.word.to_numpy(object), "")  # -1, no concept, is the last
    q = resampling.benjamini_hochberg(p)
    status = np.where(q <= ALPHA, "selective", "not selective").astype(object)
    status[np.isnan(limits)] = "not finite"
    table = pd.DataFrame({"unit": units, "threshold": limits, "status": status})
    groups = np.arange(len(words))  # no annotated concept is another's near-duplicate
    table = with_sets(table, candidates(ious), short, groups, words.word.to_numpy(object))
    _, source_image = np.unique(source_images, return_inverse=True)
    on = np.array([len(set(source_image[column])) for column in shows.T])
    none, known = score == 0, np.where(np.isnan(limits), np.nan, 1)
    return table.assign(
        **{
            "mask_concept": np.where(none, "", names[best]),
            "mask_category": np.where(none, "", words.category.to_numpy(object)[best]),
            "iou": known * score,
            "second_mask_concept": np.where(runner_up == 0, "", names[second]),
            "second_iou": known * runner_up,
            "p_value": p,
            "q_value": q,
            "p_floor": p_floor,
            "first_half": names[halves[0]],
            "second_half": names[halves[1]],
            "held_out_iou": held_out,
            "detector": (known * score >= detector) & (q <= ALPHA),
            "mask_images": np.where(none, 0, shows.sum(0)[best]),
            "mask_source_images": np.where(none, 0, on[best]),
            "annotated_source_images": len(set(source_image[shows.any(1)])),
            "masks": SOURCES[source],
        }
    )


def with_control(
    dissection: Dissection | None, words: pd.DataFrame, source_images: np.ndarray, **options: object
) -> pd.DataFrame:
    """Tabulate a layer, behind whose units stand those of `word_controls.beside_shuffled`, and count those.

    Arguments are as of `tabulate`, to which it adds ``shuffled_units``, those that overlap a mask,
    ``shuffled_selective`` and ``shuffled_named``: the same in each row.
    """
    from unitlens.measures.word_controls import MASKED_UNITS
    from unitlens.units.netdissect import of_units

    total = 0 if dissection is None else len(dissection.iou)
    own = total - min(MASKED_UNITS, total // 2)
    parts = [None if dissection is None else of_units(dissection, part) for part in (slice(own), slice(own, None))]
    table, control = (tabulate(each, words, source_images, **options) for each in parts)
    return table.assign(
        shuffled_units=control.p_value.notna().sum(),
        shuffled_selective=control.status.isin(unit_labels.CLAIMS).sum(),
        shuffled_named=control.status.eq("named").sum(),
    )


def beside_labels(dissected: pd.DataFrame, concepts: pd.DataFrame) -> pd.DataFrame:
    """Put the labels of CLIP-Dissect beside those of Network Dissection; words are empty where a unit has none.

    Both tables have ``model, layer, unit``; the labels (`concepts`) ``status, candidate, category, q_value``, which get
    the prefix ``clip_``.
    """
    columns = {name: f"clip_{name}" for name in ("status", "candidate", "category", "q_value")}
    keys = ["model", "layer", "unit"]
    table = dissected.merge(concepts[[*keys, *columns]].rename(columns=columns), on=keys, how="left", validate="1:1")
    texts = ["mask_concept", "mask_category", "clip_candidate", "clip_category"]
    return table.assign(**table[texts].fillna(""))


def with_agreement(table: pd.DataFrame, words: list[str], features: np.ndarray, *, same: float = 0.9) -> pd.DataFrame:
    """Say how near the best words of a unit are: ``cosine, same``, empty where a unit lacks one of them.

    `words` are those of `words_of` and `features`, shape (words, d), their text features; words count as the same from
    a cosine of `same` on.
    """
    both = table[(table.mask_concept != "") & (table.clip_candidate != "")]
    cosine = pd.Series(np.diagonal(_cosines(both, words, features)), both.index, dtype=float, name="cosine")
    return table.join(pd.DataFrame({"cosine": cosine, "same": cosine >= same}))


def _cosines(table: pd.DataFrame, words: list[str], features: np.ndarray) -> np.ndarray:
    """Compute the cosine of each row's mask concept with each row's CLIP candidate, (rows, rows)."""
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    place = {word: row for row, word in enumerate(words)}
    masks, labels = (vectors[[place[word] for word in table[name]]] for name in ("mask_concept", "clip_candidate"))
    return masks @ labels.T


def as_labels(units: pd.DataFrame) -> pd.DataFrame:
    """Give units of Network Dissection the columns that `comparison` reads of labels."""
    words = {"candidate": units["mask_concept"], "group": units["mask_concept"], "category": units["mask_category"]}
    return units.assign(encoder="masks", similarity="IoU", concept_list="masks", **words)


def words_of(table: pd.DataFrame) -> list[str]:
    """List every word of a table of `beside_labels` once; an empty one where there is none, for encoders want one."""
    return sorted({*table.mask_concept, *table.clip_candidate} - {""}) or [""]


def summarize(table: pd.DataFrame, words: list[str], features: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Count named and selective units and detectors by layer, and test whether both methods name the same.

    `words` and `features` are as of `with_agreement`. ``held_out_iou`` is the mean over the ``held_out_units``,
    selective ones that have the score, with Student's t interval over units. ``same_low, same_high`` are Wilson's 95 %
    interval of the share of the ``compared`` that have the same word by both, ``shuffled_low, shuffled_high`` that of
    the units with shuffled weights that are selective. ``cosine`` is the mean over the detectors whose CLIP label is
    selective, too; ``cosine_chance`` what is expected if the CLIP labels of these were shuffled among them, which is
    the test; its p-values are adjusted over the layers (Benjamini-Hochberg).
    """
    rows = []
    for (model, layer), group in table.groupby(["model", "layer"], sort=False):
        detectors = group[group.detector.astype(bool)]
        compared = detectors[detectors.cosine.notna() & detectors.clip_status.isin(unit_labels.CLAIMS)]
        cosines = _cosines(compared, words, features)
        p = resampling.matching_test(cosines, seed=seed).p_value if len(compared) else np.nan
        unique = len(detectors[["mask_concept", "mask_category"]].drop_duplicates())
        statuses = [
            int(group.status.isin(names).sum()) for names in (["named"], unit_labels.CLAIMS[1:], ["not selective"])
        ]
        held_out = group.held_out_iou[group.status.isin(unit_labels.CLAIMS)].dropna()
        score = resampling.mean_with_interval(held_out)
        numbers = [len(group), *statuses, score.n, score.mean, score.low, score.high]
        numbers += [len(detectors), unique, len(compared), int(compared.same.sum())]
        control = group[["shuffled_units", "shuffled_selective", "shuffled_named"]].iloc[0].tolist()
        control += resampling.wilson(control[1], control[0])
        share = resampling.wilson(compared.same.sum(), len(compared))
        means = [*share, compared.cosine.mean(), cosines.mean() if len(compared) else np.nan]
        about = group[["masks", "annotated_source_images"]].iloc[0]
        rows.append([model, layer, *about, *numbers, *means, *control, p])
    columns = "model layer masks annotated_source_images units named selective not_selective"
    columns += " held_out_units held_out_iou held_out_iou_low held_out_iou_high detectors unique_detectors"
    columns += " compared same same_low same_high cosine cosine_chance"
    columns += " shuffled_units shuffled_selective shuffled_named shuffled_low shuffled_high p_value"
    summary = pd.DataFrame(rows, columns=columns.split())
    return summary.assign(p_adjusted=resampling.benjamini_hochberg(summary.p_value))
