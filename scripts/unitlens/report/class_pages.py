"""Write a page for every class that has enough explained images: what speaks for it and against it, and where.

Tables are those of `tables.classes`; docs/outputs.md has their columns.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from unitlens.report import pages
from unitlens.report.pages import say
from unitlens.report.text import counted
from unitlens.report.unit_gallery import Pick, encode_thumbnails
from unitlens.tables import resampling
from unitlens.tables.accounts import BY_MASKS
from unitlens.tables.classes import FEWEST_IMAGES, SIDES, SIGNIFICANT

FORM = (72, 50)  # side in pixels and quality of thumbnails
FOLDER = "classes"  # beside the other pages
INDEX = f"{FOLDER}/index"
_TOP = 3  # items that the list of all classes names


def class_findings(classes: pd.DataFrame, *, seed: int) -> list[str]:
    """Say of each model how many classes have a page, and how far two halves of their source images give the same."""
    if none := nothing(classes):
        return [none]
    sentences = []
    for model, group in classes.groupby("model", sort=False):
        shown = with_page(group)
        both = shown[shown[["halves", "other_classes"]].notna().all(axis=1)]
        halves = resampling.mean_with_interval(shown["halves"].dropna())._asdict()
        others = resampling.mean_with_interval(both["other_classes"])._asdict()
        difference = None
        if len(both):
            difference = resampling.paired_permutation_test(both["halves"], both["other_classes"], seed=seed)._asdict()
        sentences += say(
            "classes.pages",
            model=model,
            classes=len(group),
            shown=len(shown),
            fewest=FEWEST_IMAGES,
            halves=halves,
            others=others,
            difference=difference,
        )
    return sentences


def nothing(classes: pd.DataFrame) -> str:
    """Say why no class has a page; empty where one has."""
    if len(with_page(classes)):
        return ""
    most = int(classes["accounts"].max()) if len(classes) else 0
    return say("classes.nothing", fewest=FEWEST_IMAGES, most=most)[0]


def with_page(classes: pd.DataFrame) -> pd.DataFrame:
    """Choose the classes that have a page."""
    return classes[classes["source_images"].notna()]


def beside(names: Sequence[str], classes: pd.DataFrame | None) -> list[str]:
    """Leave the pages of classes out of the pages that lie beside another one, if there are none."""
    known = classes is not None and len(with_page(classes)) > 0
    return [name for name in names if name != INDEX or known]


def links(names: Sequence[str], classes: pd.DataFrame | None) -> dict[tuple[str, int], tuple[str, str]]:
    """Give address and text of the link to each page of a class, by model and class, where these lie beside a page."""
    if INDEX not in beside(names, classes):
        return {}
    return {
        (row.model, row.number): (
            f"{FOLDER}/{_file(row.model, row.number)}",
            f"{row.class_name} in all {counted(int(row.accounts), 'explained image')}",
        )
        for row in with_page(classes).rename(columns={"class": "number"}).itertuples()
    }


def write_pages(
    folder: str | Path,
    classes: pd.DataFrame,
    items: pd.DataFrame,
    leaning: pd.DataFrame,
    *,
    image_ids: Mapping[str, np.ndarray],
    images: Mapping[str, Pick],
    geometries: Mapping[str, str],
    labeled: Sequence[Sequence[str]],
    words: pd.DataFrame,
) -> None:
    """Write ``<model>-<class>.html`` for every class with a page, and ``index.html``, the list of them; else nothing.

    Parameters
    ----------
    folder : path
        Is made.
    classes, items, leaning : pandas.DataFrame
        ``classes, contributions, leaning`` of `tables.classes.Tables`, of all models.
    image_ids : mapping
        The ids (n,) of the decoded images of each geometry, in their order.
    images : mapping
        For each geometry, a function from ascending rows to uint8 images (n, h, w, 3).
    geometries : mapping
        The geometry of each model.
    labeled : sequence of (str, str)
        Model and layer of the units that the page of units shows.
    words : pandas.DataFrame
        What units are called, of `unit_gallery.read_words`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shown = with_page(classes)
    if shown.empty:
        return
    thumbnails = _thumbnails(leaning, image_ids, images, geometries)
    said = words[["model", "layer", "unit", "title", "linear"]].rename(columns={"title": "called"})
    items = items.merge(said.astype({"unit": float}), on=["model", "layer", "unit"], how="left")
    masks = words[words["title"].str.endswith(BY_MASKS)]
    masks = masks.assign(name=masks["title"].str.removesuffix(BY_MASKS))[["model", "layer", "name"]]
    masks = masks.value_counts().rename("by_masks").reset_index()
    items = items.merge(masks, on=["model", "layer", "name"], how="left")
    items = items.fillna({"called": "", "linear": "", "by_masks": 0})
    by_class = dict(iter(items.groupby(["model", "class"], sort=False)))
    its_images = dict(iter(leaning.groupby(["model", "class"], sort=False)))
    listed = []
    for told in shown.to_dict("records"):
        key, name = (told["model"], told["class"]), _file(told["model"], told["class"])
        parts, used = _parts(by_class[key], its_images.get(key, leaning[:0]))
        thumbs = {each: thumbnails[geometries[told["model"]], each] for each in used}
        linked = (told["model"], told["layer"]) in set(map(tuple, labeled))
        page = {"told": told, "parts": parts, "thumbs": thumbs, "numbers": {each: n for n, each in enumerate(used)}}
        page |= {"linked": linked, "significant": SIGNIFICANT}
        pages.write_page(folder / name, "class.html.j2", page)
        tops = {side: [bar["title"] for bar in parts[side][:_TOP]] for side in SIDES}
        listed.append(told | tops | {"file": name})
    page = {"classes": listed, "fewest": FEWEST_IMAGES, "all": len(classes), "top": _TOP}
    pages.write_page(folder / "index.html", "classes.html.j2", page)


def _file(model: str, number: int) -> str:
    return f"{model}-{number}.html"


def _thumbnails(
    leaning: pd.DataFrame,
    image_ids: Mapping[str, np.ndarray],
    images: Mapping[str, Pick],
    geometries: Mapping[str, str],
) -> dict[tuple[str, str], str]:
    """Encode the images that lean on anything as data URIs, by geometry and id; they are read once, in their order."""
    of_geometry = leaning.groupby(leaning["model"].map(geometries), sort=False)
    wanted = of_geometry["image_id"].unique()
    rows = {name: np.flatnonzero(np.isin(image_ids[name].astype(str), ids.astype(str))) for name, ids in wanted.items()}
    keys = [(name, image_ids[name][row]) for name, own in rows.items() for row in own]
    encoded = encode_thumbnails(rows, images, *FORM)
    return {key: pages.data_uri(content, "webp") for key, content in zip(keys, encoded, strict=True)}


def _parts(items: pd.DataFrame, leaning: pd.DataFrame) -> tuple[dict[str, list[dict]], list[str]]:
    """Lay the items of a class out as bars, by what they speak for and the rest, and list the images that they show."""
    listed = items["part"].isin(SIDES)  # sums of hundreds of units have an axis of their own
    ends = items[["mean", "low", "high"]].abs().max(axis=1).groupby(listed).transform("max").fillna(0).replace(0, 1)
    bars = [_bar(row, largest) for row, largest in zip(items.to_dict("records"), ends, strict=True)]
    by_item = dict(iter(leaning.groupby(["part", "rank"], sort=False)))
    for bar in bars:
        own = by_item.get((bar["part"], bar["rank"]))
        bar["images"] = [] if own is None else own[["image_id", "contribution"]].to_dict("records")
    parts = {side: [bar for bar in bars if bar["part"] == side] for side in SIDES}
    parts["rest"] = [bar for bar in bars if bar["part"] not in SIDES and (bar["mean"] or bar["units"])]
    return parts, list(dict.fromkeys(leaning["image_id"]))


def _bar(row: Mapping[str, object], largest: float) -> dict[str, object]:
    """Give a row its title and its places on an axis of `largest` to either side, in percent."""
    units, name = int(row["units"]), row["name"] if pd.notna(row["name"]) else ""
    if row["part"] not in SIDES:
        title = {"tokens": "tokens without a place", "remainder": "the rest: biases after the layer"}.get(
            row["part"], f"{units:,} {row['part']}"
        )
    else:
        title = name or f"unit {row['unit']:.0f}"
    ends = {each: 50 + 50 * row[each] / largest for each in ("mean", "low", "high")}
    left, right = sorted((50, ends["mean"]))
    return row | {"title": title, "name": name, "left": left, "width": right - left, "ends": ends}
