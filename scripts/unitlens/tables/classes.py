"""What speaks for a class and against it: accounts averaged over the explained images of each class.

Units of one name are a concept, whose contribution is their sum; a unit without a name stays itself.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy

from unitlens.jobs.sheets import class_names
from unitlens.tables.accounts import names_of_layer, read_classes
from unitlens.tables.resampling import benjamini_hochberg, correlations, means_with_intervals

FEWEST_IMAGES = 10  # with an account, of a class that has a page
ARRAYS = ("contributions", "tokens", "remainder", "score")  # what is averaged of files of accounts
COLUMNS = ("target", "image_id", "source_image", "score")  # and what is to know of all of their images
MOST_ITEMS, MOST_IMAGES = 10, 10  # of each side of a page; that lean most on an item
SIGNIFICANT = 0.05  # largest adjusted p of what speaks for a class or against it
SPLITS = 20  # of the source images of a class into two halves
SIDES = ("for", "against")
SUMS = ("other named units", "other units without a name", "tokens", "remainder")  # of what a page does not show singly
_AT_ONCE = 2**23  # numbers in a block
_ORIGIN = ["model", "layer", "class", "class_name"]
_CLASS = ["images", "accounts", "source_images", "score", "score_low", "score_high", "items", "items_for"]
_CLASS += ["items_against", "halves", "halves_rank", "other_classes"]
_ITEM = ["part", "rank", "name", "status", "unit", "units", "mean", "low", "high", "p_value", "p_adjusted"]
_ITEM += ["other_classes"]
_IMAGE = ["part", "rank", "name", "unit", "units", "place", "image_id", "contribution"]

_UNITS = ("class", "images", "source_images", "mean", "low", "high")


class Items(NamedTuple):
    """What the account of a class is made of: concepts, and units without a name."""

    table: pd.DataFrame  # name, empty for a unit; unit, NaN where it sums several; status; units, how many it sums
    number: np.ndarray  # (units of the layer,) the row of the table that each unit belongs to


class Tables(NamedTuple):
    """Tables of the classes of one model, and the means of all units; docs/outputs.md has the columns."""

    classes: pd.DataFrame
    contributions: pd.DataFrame
    leaning: pd.DataFrame
    units: dict[str, np.ndarray]
    facts: Mapping[str, object]  # of the files of accounts


def items_of_units(names: pd.DataFrame) -> Items:
    """Put the units of one name together, by `names` of `accounts.names_of_layer`, a row for each unit of the layer."""
    named = names["status"].eq("named").to_numpy()
    each = zip(names["name"], named, strict=True)
    keys = [name if known else unit for unit, (name, known) in enumerate(each)]
    number, _ = pd.factorize(pd.Series(keys, dtype=object))
    first, units = np.unique(number, return_index=True, return_counts=True)[1:]
    table = pd.DataFrame(
        {
            "name": names["name"].where(named, "").to_numpy(object)[first],
            "unit": np.where(units == 1, first, np.nan),
            "status": names["status"].to_numpy(object)[first],
            "units": units,
        }
    )
    return Items(table, number)


def contributions_of_items(contributions: np.ndarray, items: Items) -> np.ndarray:
    """Sum the contributions (n, units) of each item's units: (n, items) float64, in the order of the table."""
    order = np.argsort(items.number, kind="stable")
    starts = np.searchsorted(items.number[order], np.arange(len(items.table)))
    sums = np.zeros((len(contributions), len(items.table)))
    for rows in _blocks(*contributions.shape) if len(starts) else ():
        sums[rows] = np.add.reduceat(contributions[rows][:, order], starts, axis=1, dtype=np.float64)
    return sums


def mean_contributions(values: np.ndarray, source_images: Sequence[str]) -> pd.DataFrame:
    """Average contributions (n, items) over the source images (n,) of a class, and test the means against 0.

    Gives ``mean, low, high, p_value, p_adjusted`` and ``part``, a row for each item: Student's t over source images,
    two-sided, adjusted for all items (Benjamini-Hochberg); the part is one of `SIDES` where that is at most
    `SIGNIFICANT`, else empty. Items that never contribute are not tested; below five source images there is no interval
    and no test.
    """
    blocks = [means_with_intervals(*each) for each in _sums_by_source_image(values, source_images)]
    mean, low, high, p = map(np.concatenate, zip(*blocks, strict=True))
    adjusted = benjamini_hochberg(p)
    part = np.where(adjusted <= SIGNIFICANT, np.where(mean > 0, *SIDES), "")
    return pd.DataFrame({"mean": mean, "low": low, "high": high, "p_value": p, "p_adjusted": adjusted, "part": part})


def halves_agree(values: np.ndarray, source_images: Sequence[str], *, seed: int = 0) -> tuple[float, float]:
    """Tell how far two halves of the source images (n,) of a class give the same means of contributions (n, items).

    Gives the correlation over items of the means of two random halves, Pearson's and Spearman's, each a mean over
    `SPLITS` splits; NaN where the means of a half do not differ, or below two source images.
    """
    n = len(np.unique(np.asarray(source_images, dtype=str)))
    if n < 2:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    first = np.stack([rng.permutation(n) < n // 2 for _ in range(SPLITS)]).astype(np.float64)
    both = np.concatenate([first, 1 - first])  # (2 splits, groups)
    blocks = [both @ sums.T / (both @ sizes)[:, None] for sums, sizes in _sums_by_source_image(values, source_images)]
    halves = np.split(np.concatenate(blocks, axis=1), 2)  # (splits, items) each
    ranks = [scipy.stats.rankdata(half, axis=1) for half in halves]
    return float(correlations(*halves).mean()), float(correlations(*ranks).mean())


def _sums_by_source_image(values: np.ndarray, source_images: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Sum values (n, items) of each source image: (items, groups), a block of items at a time, and count, (groups,)."""
    _, number, sizes = np.unique(np.asarray(source_images, dtype=str), return_inverse=True, return_counts=True)
    order, starts = np.argsort(number, kind="stable"), np.cumsum([0, *sizes[:-1]])
    for items in _blocks(*values.T.shape):
        yield np.add.reduceat(values[:, items][order], starts, axis=0, dtype=np.float64).T, sizes


def _blocks(rows: int, width: int) -> Iterator[slice]:
    """Cut rows of so many numbers into blocks of `_AT_ONCE` numbers; one block if there are none."""
    step = max(1, _AT_ONCE // max(1, width))
    return (slice(start, start + step) for start in range(0, max(1, rows), step))


def grouped(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Give the class (n,) of each image with an account, by `COLUMNS`; -1 without one and in classes without a page."""
    known = np.where(np.isfinite(columns["score"]), columns["target"], -1)
    numbers, counts = np.unique(known, return_counts=True)
    return np.where(np.isin(known, numbers[counts >= FEWEST_IMAGES]), known, -1)


def of_models(
    paths: Iterable[str | Path], names: pd.DataFrame, lists: Mapping[str, str | int], *, seed: int = 0
) -> list[Tables]:
    """Tabulate the classes of every model: files of accounts that follow each other, by `summarize`.

    `names` are of `accounts.unit_names`, `lists` gives the `class_names` argument of each model.
    """
    models = read_classes(paths, COLUMNS, ARRAYS, lambda columns, facts: grouped(columns))
    return [
        summarize(groups, columns, facts, names, class_names(lists[facts["model"]]), seed=seed)
        for groups, columns, facts in models
    ]


def summarize(
    groups: Iterable[tuple[int, np.ndarray, Mapping[str, np.ndarray]]],
    columns: Mapping[str, np.ndarray],
    facts: Mapping[str, object],
    names: pd.DataFrame,
    called: Sequence[str],
    *,
    seed: int = 0,
) -> Tables:
    """Tabulate what speaks for each class of a model, and against it.

    Parameters
    ----------
    groups : iterable
        Of `shards.read_groups` by `grouped`: a class, the rows of its images, and their `ARRAYS`.
    columns : mapping
        `COLUMNS` (n,) of all images.
    facts : mapping
        Of the files of accounts: ``model, layer``.
    names : pandas.DataFrame
        Of `accounts.unit_names`.
    called : sequence of str
        The names of the model's classes.
    seed : int
        Of the halves.

    Returns
    -------
    Tables
        All classes, and what speaks for and against those with `FEWEST_IMAGES` images that have an account.
    """
    own, pages, items, images, units, kinds = [], [], [], [], [], None
    for number, rows, arrays in groups:
        if kinds is None:
            kinds = items_of_units(names_of_layer(names, facts, arrays["contributions"].shape[1]))
        source_images = columns["source_image"][rows]
        values = contributions_of_items(arrays["contributions"], kinds)
        means = kinds.table.join(mean_contributions(values, source_images))
        shown = _shown(means)
        counts = [len(means), *(int(means["part"].eq(side).sum()) for side in SIDES)]
        score = _mean_of(arrays["score"], source_images)
        source_count = len(np.unique(source_images.astype(str)))
        own.append([number, source_count, *score, *counts, *halves_agree(values, source_images, seed=seed)])
        rest = _rest(arrays, values, means, shown.index, source_images)
        items.append(pd.concat([shown.rename_axis("item").reset_index(), rest]).assign(number=number, page=len(pages)))
        images.append(_leaning(values, shown, columns["image_id"][rows]).assign(number=number))
        pages.append(means["mean"].to_numpy())
        single = mean_contributions(arrays["contributions"], source_images)[["mean", "low", "high"]]
        units.append((number, len(rows), source_count, *np.float32(single).T))
    pages = np.stack(pages) if pages else np.zeros((0, 0))

    def told(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        number = table["number"].astype(int)
        about = {"model": facts["model"], "layer": facts["layer"], "class": number}
        return table.assign(**about, class_name=[called[each] for each in number])[[*_ORIGIN, *names]]

    return Tables(
        told(_class_table(columns, own, pages), _CLASS),
        told(_item_table(items, pages), _ITEM),
        told(_join(images, _IMAGE), _IMAGE),
        {name: np.array(each) for name, each in zip(_UNITS, zip(*units, strict=True), strict=True)}
        if units
        else {name: np.zeros((0, 0) if name in _UNITS[3:] else 0, np.float32) for name in _UNITS},
        facts,
    )


def _class_table(columns: Mapping[str, np.ndarray], own: Sequence[Sequence[float]], pages: np.ndarray) -> pd.DataFrame:
    """Count the images of every class, and put what is known of those with a page beside it."""
    explained, known = columns["target"], np.isfinite(columns["score"])
    counts = pd.DataFrame({"number": explained, "accounts": known})[explained >= 0]
    counts = counts.groupby("number")["accounts"].agg(images="size", accounts="sum").reset_index()
    told = pd.DataFrame(own, columns=["number", *_CLASS[2:-1]]).assign(other_classes=_like_others(pages))
    return counts.merge(told, on="number", how="left")


def _like_others(pages: np.ndarray) -> np.ndarray:
    """Give the mean correlation (classes,) of each page of means (classes, items) with those of the other classes."""
    centered = pages - pages.mean(1, keepdims=True) if pages.size else pages
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    unit = np.divide(centered, norms, out=np.zeros_like(centered), where=norms > 0)
    others = int((norms > 0).sum()) - 1
    like = np.einsum("ci,ci->c", unit, unit.sum(0) - unit)
    return np.where(norms[:, 0] > 0, like / others, np.nan) if others > 0 else np.full(len(pages), np.nan)


def _item_table(items: Sequence[pd.DataFrame], pages: np.ndarray) -> pd.DataFrame:
    """Put the items of all classes together, beside their mean over the means of the other classes."""
    table = _join(items, [*_ITEM[:-1], "item", "page"])
    single = table["item"].notna().to_numpy() & (len(pages) > 1)
    place = tuple(table.loc[single, name].astype(int) for name in ("page", "item"))
    others = np.full(len(table), np.nan)
    others[single] = (pages.sum(0)[place[1]] - pages[place]) / max(1, len(pages) - 1)
    return table.assign(other_classes=others)


def _shown(means: pd.DataFrame) -> pd.DataFrame:
    """Choose the items that speak most for the class and against it: of all, and of those with a name."""
    parts = []
    for side in SIDES:
        own = means[means["part"] == side]
        own = own.iloc[np.argsort(-own["mean"].abs(), kind="stable")]
        named = own["name"].ne("")
        own = own.assign(rank=np.arange(1, len(own) + 1))
        parts.append(own[(own["rank"] <= MOST_ITEMS) | (named & (named.cumsum() <= MOST_ITEMS))])
    return pd.concat(parts)


def _rest(
    arrays: Mapping[str, np.ndarray],
    values: np.ndarray,
    means: pd.DataFrame,
    shown: pd.Index,
    source_images: np.ndarray,
) -> pd.DataFrame:
    """Average the sums of what is not shown, so that all rows of a class add up to its mean score."""
    others, named = ~means.index.isin(shown), means["name"].ne("").to_numpy()
    parts = [others & named, others & ~named]
    sums = [*(values[:, part].sum(1) for part in parts), arrays["tokens"], arrays["remainder"]]
    units = [*(int(means.loc[part, "units"].sum()) for part in parts), 0, 0]
    rows = [[*own, *_mean_of(each, source_images)] for *own, each in zip(SUMS, units, sums, strict=True)]
    return pd.DataFrame(rows, columns=["part", "units", "mean", "low", "high"])


def _mean_of(values: np.ndarray, source_images: np.ndarray) -> list[float]:
    """Average values (n,) over source images: mean, low, high."""
    return mean_contributions(values[:, None], source_images).loc[0, ["mean", "low", "high"]].tolist()


def _leaning(values: np.ndarray, shown: pd.DataFrame, image_ids: np.ndarray) -> pd.DataFrame:
    """List the images (n,) that lean most on each item that is shown, by the contributions (n, items) of all items."""
    own = values[:, shown.index]
    toward = np.where(shown["part"] == "for", own, -own)
    best = np.argsort(-toward, axis=0, kind="stable")[:MOST_IMAGES]  # (places, shown)
    place, column = np.nonzero(np.take_along_axis(toward, best, axis=0) > 0)
    order = np.lexsort((place, column))
    place, column = place[order], column[order]
    image = best[place, column]
    about = shown[_IMAGE[:5]].iloc[column].reset_index(drop=True)
    return about.assign(place=place + 1, image_id=image_ids[image], contribution=own[image, column])


def _join(parts: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["number", *columns])
