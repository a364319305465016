"""Does a class lean on what it should? Shares of its account that expected and unexpected concepts carry, with a test.

A concept is all units of one name (`accounts.unit_names`). That it carries much may only say that its units are active.
So its share is compared with what it would be if the weights of the units, their absolute contribution by their
activity, were dealt anew among the units of the layer: in a network whose weights know nothing of the concept that is
all there is.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from unitlens.jobs.audit import nearest
from unitlens.jobs.sheets import class_names
from unitlens.tables.accounts import names_of_layer, read_classes
from unitlens.tables.resampling import FEWEST_GROUPS, benjamini_hochberg, mean_with_interval

_OTHERS = ("tokens", "remainder")
ARRAYS = ("contributions", "activity", *_OTHERS)  # what is read of a class's accounts
COLUMNS = ("target", "source_image", "warning")  # and what is to know of all images
LISTS = ("expected", "unexpected")
ALPHA = 0.05  # largest adjusted p of a verdict
DEALS = 9999  # of the weights
_BLOCK = 256  # deals at once
_COLUMNS = ["model", "layer", "class", "class_name", "part", "concept", "units", "share_units", "n", "source_images"]
_COLUMNS += ["mean", "low", "high", "contribution", "chance", "p_value"]


def check_concepts(lists: Mapping[str, Mapping[str, Sequence[str]]], words: Iterable[str]) -> None:
    """Raise a ValueError that names a concept of `lists` that is none of `words`, and the nearest ones."""
    known = set(words)
    for name, own in lists.items():
        for concept in (each for part in LISTS for each in own.get(part, [])):
            if concept not in known:
                raise ValueError(
                    f"audit.{name}: {concept!r} is no concept of this run; {nearest(concept, sorted(known))}"
                )


def audited(columns: Mapping[str, np.ndarray], called: Sequence[str], lists: Mapping[str, object]) -> np.ndarray:
    """Give the class (n,) of each image whose account is of a class in `lists`, by `COLUMNS`; -1 of all others.

    `called` are the names of the model's classes.
    """
    numbers = [number for number, name in enumerate(called) if name in lists]
    known = np.isin(columns["target"], numbers) & (columns["warning"] == "")
    return np.where(known, columns["target"], -1)


def of_models(
    paths: Iterable[str | Path],
    names: pd.DataFrame,
    classes: Mapping[str, str | int],
    lists: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    seed: int,
) -> pd.DataFrame:
    """Tabulate the audits of every model, with verdicts: files of accounts that follow each other, by `tabulate`.

    `names` are of `accounts.unit_names`, `classes` gives the `class_names` argument of each model.
    """
    called = {model: class_names(of) for model, of in classes.items()}
    models = read_classes(
        paths, COLUMNS, ARRAYS, lambda columns, facts: audited(columns, called[facts["model"]], lists)
    )
    parts = [
        tabulate(groups, columns, facts, names, called[facts["model"]], lists, seed=seed)
        for groups, columns, facts in models
    ]
    return with_verdicts(pd.concat(parts))


def tabulate(
    groups: Iterable[tuple[int, np.ndarray, Mapping[str, np.ndarray]]],
    columns: Mapping[str, np.ndarray],
    facts: Mapping[str, object],
    names: pd.DataFrame,
    called: Sequence[str],
    lists: Mapping[str, Mapping[str, Sequence[str]]],
    *,
    seed: int,
) -> pd.DataFrame:
    """Tabulate which share of the accounts of each class in `lists` their concepts carry.

    Parameters
    ----------
    groups : iterable
        Of `shards.read_groups` by `audited`: a class, the rows of its images, and their `ARRAYS`.
    columns : mapping
        `COLUMNS` (n,) of all images.
    facts, names, called
        ``model, layer`` of the accounts; of `accounts.unit_names`; the names of the model's classes.
    lists : mapping
        ``expected`` and ``unexpected`` concepts by the name of the class.
    seed : int
        Of the deals.

    Returns
    -------
    pandas.DataFrame
        A row for each concept, one without a concept for each list as a whole, and those of the parts of the account
        that are in no list, ``other names, no name, tokens, remainder``. docs/outputs.md has the columns.
    """
    found, parts = {number: (columns["source_image"][rows], arrays) for number, rows, arrays in groups}, []
    units = names[(names["model"] == facts["model"]) & (names["layer"] == facts["layer"])]["unit"].max()
    nothing = np.zeros((0, 0 if pd.isna(units) else int(units) + 1))
    nothing = np.zeros(0, object), dict.fromkeys(ARRAYS[:2], nothing) | dict.fromkeys(_OTHERS, np.zeros(0))
    for number in (number for number, name in enumerate(called) if name in lists):
        about = {**{name: facts[name] for name in ("model", "layer")}, "class": number, "class_name": called[number]}
        source_images, arrays = found.get(number, nothing)
        own = names_of_layer(names, facts, arrays["contributions"].shape[1])
        rng = np.random.default_rng([seed, number])
        rows = _rows(arrays, source_images, own, lists[called[number]], rng)
        parts.append(pd.DataFrame(rows).assign(**about))
    return pd.concat(parts)[_COLUMNS] if parts else pd.DataFrame(columns=_COLUMNS)


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Adjust the p-values of `tabulate`, of all models together (Benjamini-Hochberg), and say what they amount to."""
    table = table.assign(p_adjusted=benjamini_hochberg(table["p_value"].astype(float)))
    return table.assign(verdict=[_verdict(row) for row in table.to_dict("records")])


def _rows(
    arrays: Mapping[str, np.ndarray],
    source_images: np.ndarray,
    names: pd.DataFrame,
    lists: Mapping[str, Sequence[str]],
    rng: np.random.Generator,
) -> list[dict[str, object]]:
    contributions, tokens, remainder = (arrays[name].astype(np.float64) for name in ("contributions", *_OTHERS))
    whole = np.abs(contributions).sum(1) + np.abs(tokens) + np.abs(remainder)
    known = whole > 0
    contributions, tokens, remainder = (values[known] for values in (contributions, tokens, remainder))
    whole, source_images = whole[known, None], source_images[known]
    shares, activity = np.abs(contributions) / whole, arrays["activity"][known] / whole
    called = names["name"].where(names["status"] == "named", "").to_numpy(object)
    sets = {}
    for part in LISTS:
        concepts = list(lists.get(part, []))
        of_part = {(part, ""): concepts} if concepts else {}
        sets |= {
            key: np.isin(called, own) for key, own in (of_part | {(part, each): [each] for each in concepts}).items()
        }
    listed = [concept for part in LISTS for concept in lists.get(part, [])]
    tested = len(sets)
    sets[("other names", "")] = (called != "") & ~np.isin(called, listed)
    sets[("no name", "")] = called == ""
    chosen = np.stack(list(sets.values()))  # (sets, units)
    chance, p_values = _deal(_mean(shares), _mean(activity), chosen[:tested], rng)
    if len(np.unique(source_images.astype(str))) < FEWEST_GROUPS:
        p_values[:] = np.nan  # no verdict, so no test that the others are adjusted for
    rows = []
    for place, ((part, concept), units) in enumerate(sets.items()):
        about = {"part": part, "concept": concept, "units": int(units.sum())}
        about |= {"share_units": units.mean() if len(units) else np.nan, "chance": np.nan, "p_value": np.nan}
        if place < tested:
            about |= {"chance": chance[place], "p_value": p_values[place]}
        rows.append(about | _mean_share(shares[:, units].sum(1), contributions[:, units].sum(1), source_images))
    for part, values in zip(_OTHERS, (tokens, remainder), strict=True):
        about = {"part": part, "concept": "", "units": 0, "share_units": np.nan, "chance": np.nan, "p_value": np.nan}
        rows.append(about | _mean_share(np.abs(values) / whole[:, 0], values, source_images))
    return rows


def _mean_share(share: np.ndarray, contribution: np.ndarray, source_images: np.ndarray) -> dict[str, object]:
    interval = mean_with_interval(share, groups=source_images)
    found = dict(zip(("n", "source_images", "mean", "low", "high"), interval, strict=True))
    return found | {"contribution": contribution.mean() if len(contribution) else np.nan}


def _mean(values: np.ndarray) -> np.ndarray:
    """Average (n, units) over the images; 0 where there is none."""
    return values.mean(0) if len(values) else np.zeros(values.shape[1])


def _deal(
    share: np.ndarray, activity: np.ndarray, chosen: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Deal the weights of active units anew: mean shares of sets (sets, units), and p-values of what they have.

    `share` and `activity` (units,) are means over images. The p-value is one-sided, of shares as large by chance; NaN
    for sets without an active unit, and where fewer than two units are active.
    """
    live = activity > 0
    weights, carried = share[live] / activity[live], chosen[:, live] * activity[live]
    if live.sum() < 2:
        return np.full((2, len(chosen)), np.nan)
    observed, total, reached = carried @ weights, np.zeros(len(chosen)), np.zeros(len(chosen))
    for start in range(0, DEALS, _BLOCK):
        dealt = rng.permuted(np.tile(weights, (min(_BLOCK, DEALS - start), 1)), axis=1) @ carried.T  # (deals, sets)
        total += dealt.sum(0)
        reached += (dealt >= observed * (1 - 1e-9)).sum(0)
    empty = ~(carried > 0).any(1)
    return np.where(empty, np.nan, total / DEALS), np.where(empty, np.nan, (1 + reached) / (1 + DEALS))


def _verdict(row: Mapping[str, object]) -> str:
    if row["part"] not in LISTS:
        return ""
    if not row["n"]:
        return "no account of the class"
    if row["source_images"] < FEWEST_GROUPS:
        return "too few source images"
    if pd.isna(row["p_value"]):
        return "no active unit has this name"
    if row["p_adjusted"] > ALPHA:
        return "not shown"
    return "leans on it" if row["contribution"] > 0 else "counts it against the class"
