"""How often words are right where the truth is known, and how often there are words where there is nothing to name.

The classes of a classifier are units whose names are known. They are labeled as the units of a layer are, with a list
that holds their names, and once more with half of these taken off the list. A layer with shuffled weights has learned
nothing that a word could say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unitlens.tables import unit_labels
from unitlens.tables.resampling import wilson

if TYPE_CHECKING:
    import torch

    from unitlens.tables.labeling import Labeled

CLASSES, UNLISTED, SHUFFLED = CONTROLS = ("class outputs", "name not listed", "shuffled weights")
NEAR_COPY = 0.99  # cosine of image features from which source images count as nearly the same
SOUGHT = 0.85  # share of names that should be right
_COUNTS = ["units", "selective", "theme", "named"]
_SHARES = ["selective_share", "named_share", "selective_right", "named_right", "covered", "right_covered"]
COLUMNS = ["control", "layer", "words", *_COUNTS]
COLUMNS += [column for name in _SHARES for column in (name, f"{name}_low", f"{name}_high")]
COLUMNS += ["set_size", "right_size", "near_copies", "why"]

Arrays = Mapping[str, np.ndarray]


def names_to_add(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """List, once each, the words for classes that a list of concepts lacks; letter case makes no difference."""
    known = {word.casefold() for word in words}
    return list(
        {
            word.casefold(): word for word in map(unit_labels.spoken, names) if word and word.casefold() not in known
        }.values()
    )


def score(
    scores: np.ndarray,
    layers: Mapping[str, np.ndarray],
    image_id: Sequence[str],
    images: Arrays,
    concepts: Arrays,
    others: Arrays | None,
    names: Sequence[str],
    *,
    similarity: str,
    encoders: tuple[str, str],
    seed: int,
    **options: object,
) -> pd.DataFrame:
    """Label the units of each control and count what is right, a row a control and layer, see docs/outputs.md.

    Parameters
    ----------
    scores : array, shape (n, classes)
        What the classifier gives the images.
    layers : mapping from layer to array, shape (n, units)
        Pooled activations with shuffled weights.
    image_id : sequence of str
        Of these images.
    images, concepts : mapping
        As `labeling.label_table` takes them.
    others : mapping, optional
        Words for classes that the list lacks: ``word`` (k,) and their ``features`` (k, d).
    names : sequence of str
        Of the classes; empty where they are not known.
    similarity, encoders, seed, **options
        As of `labeling.label_table`.
    """
    from unitlens.tables import labeling

    def label(layers: Iterable[np.ndarray], listed: Arrays) -> Iterator[Labeled]:
        settings = options | {"similarity": similarity, "encoders": encoders, "seed": seed}
        settings |= {"resamples": 0, "held_out_splits": 0}  # nothing of these is read
        return labeling.label_layers(layers, image_id, images, listed, **settings)

    by_encoder = encoders[0] != unit_labels.ANNOTATIONS
    copies = near_copies(images["features"], images["source_image"]) if by_encoder else np.nan
    listed = {name: np.asarray(concepts[name]) for name in ("word", "category", "features")}
    found = (each.table for each in label(layers.values(), listed))
    rows = [_row(SHUFFLED, layer, table, len(listed["word"])) for layer, table in zip(layers, found, strict=True)]
    if others is not None and len(others["word"]):
        added = others | {"category": np.full(len(others["word"]), "class")}
        listed = {name: np.concatenate([listed[name], added[name]]) for name in listed}
    truth = _truth(listed["word"], names)
    known = np.flatnonzero(truth >= 0)
    if not len(known):
        why = "no class name is among the concepts" if len(names) else "the names of the classes are not known"
        none = [{"control": name, "layer": "", "why": why} for name in (CLASSES, UNLISTED)]
        return _frame([*none, *rows]).assign(near_copies=copies)

    judged = _judged(*label([scores], listed), truth, seed)
    first = _row(CLASSES, "", judged.iloc[known], len(listed["word"]))
    right = np.random.default_rng(seed).permutation(np.unique(truth[known]))
    off = right[: len(right) // 2]
    kept = np.setdiff1d(np.arange(len(listed["word"])), off)
    if not len(off):
        second = {"control": UNLISTED, "layer": "", "why": "one class name alone is listed"}
    else:
        (found,) = label([scores], {name: values[kept] for name, values in listed.items()})
        second = _row(UNLISTED, "", found.table[np.isin(truth, off)], len(kept))
    return _frame([first, second, *rows]).assign(near_copies=copies)


def near_copies(features: torch.Tensor, source_image: Sequence[str]) -> int:
    """Count the source images with an image whose features (n, d) nearly equal those of one of another source image."""
    import torch

    from unitlens.units import dissect, exemplars

    images = dissect.normalized(features, "image_features").float()
    _, number = np.unique(source_image, return_inverse=True)
    number, found = torch.as_tensor(number), set()
    step = max(1, exemplars.BLOCK_ELEMENTS // len(images))
    for start in range(0, len(images), step):
        own = number[start : start + step]
        alike = images[start : start + step] @ images.T > NEAR_COPY
        found |= set(own[(alike & (own[:, None] != number)).any(1)].tolist())
    return len(found)


def _truth(words: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Find which concept of a list is the name of each class, (classes,), -1 for none."""
    place = {word.casefold(): row for row, word in reversed(list(enumerate(words)))}
    return np.array([place.get(unit_labels.spoken(name).casefold(), -1) for name in names], dtype=np.int64)


def _judged(found: Labeled, truth: np.ndarray, seed: int) -> pd.DataFrame:
    """Tell in its table whether a unit's best word is right, and whether its set holds the truth, by both calibrations.

    ``covered`` is of the set of the table. ``right_covered`` is of a set whose gap holds the truth for 90 % of the
    selective units of one random half, judged on the other half, and both ways.
    """
    import torch

    from unitlens.units import dissect, label_sets

    table, scores, same = found
    scores = scores.cpu()
    best = dissect.label(scores).concept.numpy()
    short = label_sets.shortfall(scores, torch.as_tensor(truth)).numpy()
    right = (best >= 0) & (truth >= 0) & (same[best] == same[truth])
    held = np.where(table.set_size.isna(), np.nan, short <= table.gap)
    covered, size = np.full((2, len(best)), np.nan)
    units = np.flatnonzero(table.status.isin(unit_labels.CLAIMS) & ~np.isnan(short))
    folds = np.array_split(np.random.default_rng(seed).permutation(units), 2)
    if min(map(len, folds)) >= unit_labels.FEWEST_CALIBRATED:
        for given, judged in (folds, folds[::-1]):
            share = unit_labels.COVERAGE * (len(given) + 1) / len(given)
            gap = label_sets.covering_gap(torch.as_tensor(short[given]), share)
            covered[judged] = short[judged] <= gap
            size[judged] = [len(own) for unit in judged for own in label_sets.sets(scores[[unit]], gap, same)]
    return table.assign(right=right, covered=held, right_covered=covered, right_size=size)


def _row(control: str, layer: str, table: pd.DataFrame, words: int) -> dict[str, object]:
    """Count the units of a control by status, and where they were judged, what is right."""
    active = table[table.status.isin(unit_labels.STATUSES)]
    selective = active[active.status.isin(unit_labels.CLAIMS)]
    named = selective[selective.status == "named"]
    theme = int((selective.status == "theme").sum())
    numbers = [len(active), len(selective), theme, len(named)]
    row = {"control": control, "layer": layer, "words": words} | dict(zip(_COUNTS, numbers, strict=True))
    row["set_size"] = selective.set_size.median()
    shares = {"selective_share": (len(selective), len(active)), "named_share": (len(named), len(active))}
    if "right" in table:
        row["right_size"] = selective.right_size.median()
        shares |= {
            "selective_right": (selective.right.sum(), len(selective)),
            "named_right": (named.right.sum(), len(named)),
        }
        for name in ("covered", "right_covered"):
            known = selective[name].dropna()
            shares[name] = known.sum(), len(known)
    for name, (count, total) in shares.items():
        low, high = wilson(count, total)
        row |= {name: count / total if total else np.nan, f"{name}_low": low, f"{name}_high": high}
    return row


def _frame(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=COLUMNS)
    counts = ["words", *_COUNTS]
    numbers = [name for name in COLUMNS if name not in ("control", "layer", *counts, "why")]
    table[counts] = table[counts].fillna(0).astype(int)
    return table.astype(dict.fromkeys(numbers, float)).assign(why=table["why"].astype(object).fillna(""))


def beside(controls: pd.DataFrame, concepts: pd.DataFrame) -> pd.DataFrame:
    """Add to layers with shuffled weights the shares of the network's own: ``network_selective, network_named``.

    `concepts` are the labels of all units.
    """
    active = concepts[concepts["status"].isin(unit_labels.STATUSES)]
    keys = [active["model"], active["layer"]]
    shares = {
        f"network_{claim}": active["status"].isin(statuses).groupby(keys, sort=False).mean()
        for claim, statuses in unit_labels.COUNTED.items()
    }
    own = pd.DataFrame(shares).reset_index()
    return controls.merge(
        own[["model", "layer", "network_selective", "network_named"]], on=["model", "layer"], how="left"
    )
