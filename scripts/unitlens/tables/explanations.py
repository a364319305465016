"""What is explained: counts of the image sets, and a row for every explanation: class, warning, seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unitlens.images.datasets import copies, endings_text
from unitlens.images.decode import Remarks
from unitlens.jobs.characters import first_few
from unitlens.jobs.sheets import class_names
from unitlens.storage.arrays import attributes_of, open_arrays, read_dataset
from unitlens.storage.tables import read_texts

if TYPE_CHECKING:
    import torch


def timing_table(facts: Mapping[str, object], images: int, seconds: float, device: torch.device) -> pd.DataFrame:
    """Tabulate how long one explainer took for a shard, in one row."""
    import torch

    own = {name: facts[name] for name in ("model", "explainer")}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    timed = {"images": images, "seconds": seconds, "device": name, "threads": torch.get_num_threads()}
    return pd.DataFrame([own | timed])


def explanation_table(columns: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> pd.DataFrame:
    """Tabulate what is to know about each explanation of a file that `shards.read_columns` read, without its maps.

    ``warning`` says why there is no map, ``passes`` what is run for each channel (see `cam.passes`); what an explainer
    does not have is empty.
    """
    images = len(columns["image_id"])
    nothing = np.full(images, np.nan)
    target = pd.Series(columns["target"], dtype="Int64")
    return pd.DataFrame(
        {
            "model": facts["model"],
            "explainer": facts["explainer"],
            "image_id": columns["image_id"],
            "target": target.mask(target < 0),
            "warning": columns["warning"],
            "passes": facts.get("passes", ""),
            "saved_passes": columns.get("saved_passes", np.full(images, pd.NA)),
            "superpixels": columns.get("superpixels", np.full(images, pd.NA)),
            "samples": columns.get("n_used", np.full(images, pd.NA)),
            "shared_top": columns.get("shared_top", nothing),
            "r2": columns.get("r2", nothing),
            "stability": columns.get("stability", nothing),
        }
    )


def prediction_table(
    arrays: Mapping[str, np.ndarray], facts: Mapping[str, object], classes: Mapping[str, str]
) -> pd.DataFrame:
    """Tabulate what a model predicts for the images of one shard of explanations.

    The label's columns are empty where the sheet gives none, those of a class where the network returns NaN or,
    explaining labels, there is none. `classes` gives each model's `class_names` argument. ValueError if a label is no
    class of the model.
    """
    names = np.array([*class_names(classes[facts["model"]]), ""], dtype=object)  # of number -1: there is none
    label, predicted, target = (arrays[name] for name in ("label", "predicted", "target"))
    for image_id, number in zip(arrays["image_id"], label, strict=True):
        if number >= len(names) - 1:
            raise ValueError(
                f"image {image_id!r} has label {number}; {facts['model']} has {len(names) - 1} classes, from 0"
            )
    right = pd.Series(predicted == label, dtype=object).where((label >= 0) & (predicted >= 0), "")
    return pd.DataFrame(
        {
            "model": facts["model"],
            "image_id": arrays["image_id"],
            "label": _known(label),
            "label_name": names[label],
            "predicted": _known(predicted),
            "predicted_name": names[predicted],
            "probability": arrays["predicted_probability"],
            "correct": right,
            "target": _known(target),
            "target_name": names[target],
            "target_probability": arrays["target_probability"],
        }
    )


def _known(classes: np.ndarray) -> pd.Series:
    """Numbers of classes; empty where there is none."""
    return pd.Series(classes, dtype=object).where(classes >= 0, "")


def join_predictions(
    explanations: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]], classes: Mapping[str, str]
) -> pd.DataFrame:
    """Put the tables of `prediction_table` of several files of explanations below each other, every image once."""
    parts = [prediction_table(arrays, facts, classes) for arrays, facts in explanations]
    return pd.concat(parts).drop_duplicates(["model", "image_id"], ignore_index=True)


# ---- image sets


def image_set_counts(
    shards: Sequence[tuple[str, str | Path]],
    sheets: Mapping[str, str | Path],
    left_out: Mapping[str, str | Path],
    bits: Mapping[str, int],
) -> pd.DataFrame:
    """Count the images of each set and geometry, a row each; `docs/outputs.md` says what the columns hold.

    `shards` are names of image sets with files of their decoded images; by the names of the sets, `sheets` and
    `left_out` are the two tables of `datasets.write_sheet`, `bits` those that the values in files of 16 bits have.
    ValueError if a set has no image that can be read, for all else would fail.
    """
    counted = pd.DataFrame([_count_images(name, path) for name, path in shards])
    groups = counted.groupby(["set", "geometry"], sort=False)
    table = groups.sum().assign(brightest=groups["brightest"].max()).reset_index()
    copied = {name: copies(sheet) for name, sheet in sheets.items()}
    others = {name: read_texts(path) for name, path in left_out.items()}
    table = table[["set", "geometry"]].assign(
        images=table.source_images.map(len),
        source_images=table.source_images.map(set).map(len),
        skipped=table.skipped,
        problems=["; ".join(f"{image}: {message}" for image, message in each) for each in table.problems],
        copies=[len(copied[name]) for name in table.set],
        copied=["; ".join(f"{copy} of {first}" for copy, first in copied[name].items()) for name in table.set],
        warning=[
            _warning(name, *each, bits[name])
            for name, *each in table[["set", "several", "deep", "brightest"]].itertuples(index=False)
        ],
        left_out=[int(others[name].files.astype(int).sum()) for name in table.set],
        left_out_endings=[endings_text(dict(others[name].itertuples(index=False))) for name in table.set],
    )
    for row in table[table["images"] == 0].itertuples():
        reasons = first_few(row.problems.split("; "))
        raise ValueError(f"no source image of images.{row.set} can be read, so there is nothing to work on: {reasons}")
    return table


def _count_images(name: str, path: str | Path) -> dict[str, object]:
    with open_arrays(path) as file:
        own, source_images = attributes_of(file), read_dataset(file["source_image"]).tolist()
        kept = set(read_dataset(file["image_id"]))
    problems = json.loads(own["skipped"])
    counts = {"skipped": sum(image not in kept for image, _ in problems), "problems": problems}
    remarks = dict(zip(Remarks._fields, json.loads(own["remarks"]), strict=True))
    return {"set": name, "geometry": own["geometry"], "source_images": source_images} | counts | remarks


def _warning(name: str, several: Sequence[str], deep: Sequence[str], brightest: int, bits: int) -> str:
    """Say what may be wrong with source images of a set that were decoded."""
    several, deep = list(dict.fromkeys(several)), set(deep)
    frames = f"several frames or pages, of which the first is used, have {len(several)} ({first_few(several)})"
    dark = (
        f"the values in {len(deep)} files of 16 bits end at {brightest}, so that these images are dark; if they have "
    )
    dark += f"{max(brightest.bit_length(), 8)} bits, set images.{name}.bits to that"
    darkest = 0 < brightest < 2**14 and bits == 16
    return "; ".join([frames] * bool(several) + [dark] * darkest)
