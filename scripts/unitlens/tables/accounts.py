"""Which units made a prediction, and what they are called: tables of accounts beside labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from unitlens.storage.shards import concatenate, read_groups
from unitlens.storage.tables import read_table
from unitlens.tables import unit_labels
from unitlens.tables.summaries import mean_table

KINDS = {"class": "", "runner-up": "margin_"}  # what an account is of, and what its arrays' names begin with
BY_MASKS = " (by masks)"  # follows what Network Dissection says
_OTHERS = ("tokens", "remainder")  # items of an account that are no unit
ARRAYS = ["image_id", "source_image", "target", "runner_up"]  # what the tables need of a file of accounts
ARRAYS += [f"{kind}{name}" for kind in KINDS.values() for name in ("contributions", *_OTHERS, "score")]
_TOLERANCE, _ROUNDING = 1e-4, 1e-6  # of a sum, and the share of the absolute account that float32 may make of it
_COLUMNS = [
    *("model", "layer", "image_id", "target", "runner_up", "item", "unit", "name", "status"),
    *("contribution", "margin_contribution"),
]


def unit_names(concepts: pd.DataFrame | None, masks: pd.DataFrame | None) -> pd.DataFrame:
    """Give what units may be called: ``model, layer, unit, name, status, title``, a row for each unit that has a label.

    A unit is called by its label in `concepts` where that is named, else by that of Network Dissection in `masks`,
    where there is one and it is named. ``status`` is the one of both that claims more, of `unit_labels.STATUSES`, or
    why there is none; ``title`` says in words what that label may claim, see `unit_labels.titles`.
    """
    keys = ["model", "layer", "unit"]
    found = [pd.DataFrame(columns=[*keys, "name", "status", "title"])]
    for table, name, by in ((concepts, "concept", ""), (masks, "mask_concept", BY_MASKS)):
        if table is not None:
            own = table[[*keys, "status"]].assign(name=table[name].where(table["status"] == "named", ""))
            titles = unit_labels.titles(table.assign(concept=table[name]))
            found.append(own.assign(title=titles + np.where(table["status"].isin(unit_labels.TOLD), by, "")))
    table = pd.concat(found)
    ranks = {status: rank for rank, status in enumerate(unit_labels.STATUSES)}
    table = table.sort_values("status", key=lambda each: each.map(ranks), kind="stable")
    return table.drop_duplicates(keys).sort_values(keys, kind="stable", ignore_index=True)


def read_unit_names(concepts: str | Path | None, masks: str | Path | None) -> pd.DataFrame:
    """Do as `unit_names` of the files of both tables; None or empty where there is none."""
    return unit_names(*(read_table(path) if path else None for path in (concepts, masks)))


def read_classes(
    paths: Iterable[str | Path],
    columns: Sequence[str],
    arrays: Sequence[str],
    group: Callable[[Mapping[str, np.ndarray], Mapping[str, object]], np.ndarray],
) -> Iterator[tuple[Iterator, dict[str, np.ndarray], dict[str, object]]]:
    """Read the accounts of one model after the other, class by class; files of a model follow each other.

    Gives what `shards.read_groups` gives of `arrays`, the `columns` (n,) of all images, and the attributes. ``group``
    makes the group (n,) of every image of the last two.
    """
    for _, shards in groupby(paths, key=lambda path: Path(path).parent):
        own = list(shards)
        known, facts = concatenate(own, names=columns)
        yield read_groups(own, arrays, group(known, facts)), known, facts


def item_table(
    arrays: Mapping[str, np.ndarray], facts: Mapping[str, object], names: pd.DataFrame, images: int
) -> pd.DataFrame:
    """Tabulate the accounts of the first `images`, a row for each unit and other item; `names` are of `unit_names`.

    `arrays` and `facts` are those of a model's accounts. The columns stand in docs/outputs.md.
    """
    units = arrays["contributions"].shape[1]
    own = names_of_layer(names, facts, units)
    parts = []
    for row in range(min(images, len(arrays["image_id"])) if units else 0):
        part = pd.DataFrame({"item": ["unit"] * units + list(_OTHERS), "unit": [*range(units), np.nan, np.nan]})
        part = part.assign(name=[*own["name"], "", ""], status=[*own["status"], "", ""])
        for column, start in (("contribution", ""), ("margin_contribution", "margin_")):
            others = [arrays[start + name][row] for name in _OTHERS]
            part[column] = np.append(arrays[f"{start}contributions"][row], others)
        about = {name: facts[name] for name in ("model", "layer")}
        about |= {name: arrays[name][row] for name in ("image_id", "target", "runner_up")}
        parts.append(pd.DataFrame(about, index=part.index).join(part))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=_COLUMNS)


def names_of_layer(names: pd.DataFrame, facts: Mapping[str, object], units: int) -> pd.DataFrame:
    """Give what `names` say of all units of a layer, in their order; empty texts where the layer has no labels."""
    own = names[(names["model"] == facts["model"]) & (names["layer"] == facts["layer"])].set_index("unit")
    return own.reindex(range(units)).drop(columns=["model", "layer"]).fillna("")


def units_of_parts(names: pd.DataFrame) -> dict[str, np.ndarray]:
    """Mark the named units of a layer, and the selective ones with the named among them, by `names_of_layer`."""
    return {
        "named": (names["status"] == "named").to_numpy(),
        "selective": names["status"].isin(unit_labels.CLAIMS).to_numpy(),
    }


def shares(arrays: Mapping[str, np.ndarray], kind: str, parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the share (n,) of each account that the units of each part carry, and tokens and remainder.

    The share is of the sum of absolute contributions of units, tokens and remainder; NaN where that is 0. `kind` is a
    key of `KINDS`, `parts` are of `units_of_parts`.
    """
    start = KINDS[kind]
    sizes = np.abs(arrays[f"{start}contributions"].astype(np.float64))
    others = {name: np.abs(arrays[start + name]) for name in _OTHERS}
    whole = sizes.sum(1) + sum(others.values())
    whole[whole == 0] = np.nan
    own = {part: sizes[:, chosen].sum(1) for part, chosen in parts.items()} | others
    return {part: size / whole for part, size in own.items()}


def check_sums(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> None:
    """Raise a ValueError that names the first image whose account, of either of `KINDS`, does not add up to its score.

    It must within 1e-4, or within a millionth of the absolute account where that is more. `arrays` and `facts` are of a
    file of accounts; images without an account, whose score is NaN, are left out.
    """
    for kind, start in KINDS.items():
        values, score = arrays[f"{start}contributions"].astype(np.float64), arrays[f"{start}score"]
        others = [arrays[start + name] for name in _OTHERS]
        total = values.sum(1) + sum(others)
        whole = np.abs(values).sum(1) + sum(map(np.abs, others))
        near = np.abs(total - score) <= np.maximum(_TOLERANCE, _ROUNDING * whole)
        for row in np.flatnonzero(~near & np.isfinite(score))[:1]:
            raise ValueError(
                f"the account of {facts['model']} {facts['layer']}, image {arrays['image_id'][row]!r}, {kind}, adds up "
                f"to {total[row]:.6g}, the score is {score[row]:.6g}; run account_units again"
            )


def coverage(
    accounts: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]], names: pd.DataFrame
) -> pd.DataFrame:
    """Tell which share of accounts named and selective units carry, beside their share of the units.

    The share is that of `shares`, a mean over images with its interval over source images. `accounts` are arrays and
    facts of one shard after the other, which `check_sums` checks; the columns stand in docs/outputs.md.
    """
    rows = []
    for arrays, facts in accounts:
        if not len(arrays["image_id"]):
            continue  # all images of the shard were skipped
        check_sums(arrays, facts)
        units = arrays["contributions"].shape[1]
        parts = units_of_parts(names_of_layer(names, facts, units))
        for kind in KINDS:
            for part, share in shares(arrays, kind, parts).items():
                about = {"model": facts["model"], "layer": facts["layer"], "account": kind, "part": part}
                of_units = parts[part].mean() if part in parts and units else np.nan
                values = {"source_image": arrays["source_image"], "value": share, "units": of_units}
                rows.append(pd.DataFrame(about | values))
    keys = ["model", "layer", "account", "part"]
    return mean_table(pd.concat(rows), keys, also={"units": "first"})
