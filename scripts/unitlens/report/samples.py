"""What the first screen shows as pictures: the units with the best evidence, and one image by every explainer."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from unitlens.report import explanation_figures, pages, text
from unitlens.storage.arrays import read_arrays
from unitlens.storage.shards import picking_by_folder
from unitlens.tables import unit_labels

_SIDE = 176  # pixels of a unit's images

_LARGE = 240  # and of an explained image
_QUALITY = 80

Units = tuple[pd.DataFrame | None, Iterable, Mapping[str, Callable[[np.ndarray], np.ndarray]]]


def read_units(table: pd.DataFrame | None, maps: Iterable[str | Path], images: Iterable[str | Path]) -> Units:
    """Give a table of units with the files of their maps and of the images these are of, as `best_units` takes them."""
    return table, map(read_arrays, maps), picking_by_folder(images, "images")


def best_units(annotated: Units, labeled: Units, *, count: int = 3) -> list[dict[str, object]]:
    """Show the units of a run with the best evidence, at most one of a concept.

    Named units come before selective ones and these before the others; equal ones by q-value and by how well the
    label fits: its overlap with masks, or its correlation on the half of the images that did not choose it.

    Parameters
    ----------
    annotated, labeled : tuple
        The table of `netdissect.beside_labels`, and that of all labels; of each, ``maps`` and ``images`` as of
        `unit_gallery.collect`. Without a table there is nothing to show.
    count : int
        How many units at most.

    Returns
    -------
    list of dict
        ``title, status, place, evidence, key`` and ``images``: of each ``uri`` and ``region``, an outline on a square
        of side `pages.CANVAS`.
    """
    candidates, sources = [], []
    for (table, maps, images), read in ((annotated, _by_masks), (labeled, _by_label)):
        layers = {
            (facts["model"], facts["layer"]): (arrays, facts["geometry"], images)
            for arrays, facts in maps
            if facts["geometry"] in images
        }
        if table is not None and layers:
            candidates.append(read(_tested(table)).assign(source=len(sources)))
            sources.append(layers)
    if not candidates:
        return []
    units = pd.concat(candidates, ignore_index=True)
    there = [(m, y) in sources[s] for m, y, s in zip(units["model"], units["layer"], units["source"], strict=True)]
    ranks = {name: rank for rank, name in enumerate(unit_labels.STATUSES)}
    units = units[there].assign(rank=units["status"].map(ranks), poor=-units["fit"])
    best = units.sort_values(["rank", "q_value", "poor"], kind="stable").drop_duplicates("word").head(count)
    return [_card(unit, *sources[unit["source"]][unit["model"], unit["layer"]]) for unit in best.to_dict("records")]


def _tested(units: pd.DataFrame) -> pd.DataFrame:
    """Choose active units with a q-value: those whose best word could be no accident."""
    return units[units["status"].isin(unit_labels.STATUSES) & units["q_value"].notna()]


def _by_masks(units: pd.DataFrame) -> pd.DataFrame:
    return units.assign(
        title=unit_labels.titles(units.assign(concept=units["mask_concept"])),
        word=units["mask_concept"],
        fit=units["iou"],
        what="overlap with its masks",
    )


def _by_label(units: pd.DataFrame) -> pd.DataFrame:
    return units.assign(
        title=unit_labels.titles(units), word=units["group"], fit=units["held_out_correlation"], what="held-out r"
    )


def _card(unit: Mapping, arrays: Mapping[str, np.ndarray], geometry: str, images: Mapping) -> dict[str, object]:
    rows = arrays["row"][unit["unit"]]
    ranks = np.flatnonzero(rows >= 0)
    order = rows[ranks].argsort()
    pixels = dict(zip(ranks[order].tolist(), images[geometry](rows[ranks][order]), strict=True)) if len(ranks) else {}
    q = text.p_value(unit["q_value"]).replace("p", "q")
    return {
        "title": unit["title"],
        "status": unit["status"],
        "place": f"{unit['model']} {unit['layer']}, unit {unit['unit']}",
        "evidence": f"{q}, {unit['what']} {text.decimals(unit['fit'], 2)}",
        "key": f"{unit['model']}/{unit['layer']}/{unit['unit']}",
        "images": [
            {
                "uri": _encoded(pixels[rank], _SIDE),
                "alt": str(arrays["image_id"][unit["unit"], rank]),
                "region": pages.outline(arrays["maps"][unit["unit"], rank]) if "maps" in arrays else "",
            }
            for rank in ranks.tolist()
        ],
    }


def example(
    explanations: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    images: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    predictions: pd.DataFrame | None,
) -> dict[str, object] | None:
    """Show one image of one model by all of its explainers: the right prediction of the highest probability.

    Where no prediction is right, that of the highest probability. `explanations` are files of the same images, `images`
    the file of those in the model's geometry. Gives what `first_screen.tiles` takes; None where anything is missing.
    """
    decoded = next(iter(images), None)
    if not explanations or decoded is None or predictions is None:
        return None
    images = decoded[0]
    model = next(facts["model"] for _, facts in explanations)
    ids = list(map(str, images["image_id"]))
    own = predictions[(predictions["model"] == model) & predictions["image_id"].isin(ids)]
    right = own[own["correct"].eq(True)]
    ranked = (right if len(right) else own).sort_values("probability", ascending=False, kind="stable")
    if ranked["probability"].isna().all():
        return None
    best = ranked.iloc[0]
    row = ids.index(best["image_id"])
    shown = [{"title": "the image", "uri": _encoded(images["images"][row], _LARGE)}]
    for arrays, facts in explanations:
        saliency = explanation_figures.scale(arrays["saliency"][row : row + 1])[0]
        segments = arrays["segments"][row] if "segments" in arrays else None
        heat = explanation_figures.blend(images["images"][row], saliency, segments)
        pixels = np.rint(255 * heat).astype(np.uint8)
        shown.append({"title": text.explainer_title(facts["explainer"]), "uri": _encoded(pixels, _LARGE)})
    return {
        "model": model,
        "image_id": best["image_id"],
        "predicted": best["predicted_name"] or best["image_id"],
        "probability": best["probability"],
        "images": [each | {"alt": f"{best['image_id']}: {each['title']}"} for each in shown],
    }


def _encoded(pixels: np.ndarray, width: int) -> str:
    """Encode an image (h, w, 3) uint8 at a width, in its own proportions."""
    image = Image.fromarray(pixels)
    size = (width, max(1, round(width * image.height / image.width)))
    image = image.resize(size, Image.Resampling.LANCZOS)
    return pages.data_uri(pages.compressed(image, "jpeg", quality=_QUALITY), "jpeg")
