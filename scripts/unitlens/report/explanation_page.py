"""Collect what the page of explanations shows: every image as every model sees it, its maps, masks and scores."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from unitlens.explainers import items
from unitlens.measures import localization
from unitlens.report import explanation_figures, pages
from unitlens.report.text import SCORE_TITLES, counted, explainer_title

# Longest side in pixels and quality of the images, the best first; None leaves them as the model sees them.
FORMS = ((None, 85), (224, 80), (192, 75), (160, 70), (128, 65), (96, 60), (64, 50))
_OUTSIDE = 165  # of 255: how dark the source image is outside of a mask


def collect(
    explanations: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    masks: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    images: Mapping[str, Mapping[str, np.ndarray]],
    *,
    predictions: pd.DataFrame,
    faithfulness: pd.DataFrame | None,
    source_images: int,
) -> list[dict[str, object]]:
    """Collect the data of the page.

    Parameters
    ----------
    explanations, masks : iterable of (arrays, facts)
        Files of explanations and of masks of all models, those that there are: images are found by ``image_id``.
    images : mapping from geometry to mapping
        Decoded source images ``image_id``, ``images``, ``box`` and, where there are any, ``mask`` with ``has_mask``.
    predictions, faithfulness : pandas.DataFrame
        Tables of all models, of `explanations.prediction_table` and `faithfulness.score_shard`, if that is there.
    source_images : int
        How many are shown, the first ones.

    Returns
    -------
    list of dict
        For each source image ``image_id, label`` and its ``rows``, one a model: ``model, caption, verdict``,
        ``image`` (h, w, 3) uint8, ``aspect`` (width / height), ``object`` (an SVG path on a square of side
        `pages.CANVAS`, empty where the sheet gives no object) and ``maps``: ``title``, ``heat`` (h, w, 3) uint8,
        ``mask`` (h, w) bool or None, ``scores, warning``.

    Raises
    ------
    ValueError
        As `explanation_figures.blend` does.
    """
    told, scores = predictions.set_index(["model", "image_id"]), _scores(faithfulness)
    cut = {
        (facts["model"], image_id): (arrays, i)
        for arrays, facts in masks
        for i, image_id in enumerate(arrays["image_id"])
    }
    rows = {
        geometry: {image_id: i for i, image_id in enumerate(its["image_id"][:source_images])}
        for geometry, its in images.items()
    }
    outlines = {geometry: _outlines(its) for geometry, its in images.items()}
    cards: dict[tuple[str, str], dict] = {}  # by image and model
    for arrays, facts in explanations:
        model, explainer, its_rows = facts["model"], facts["explainer"], rows[facts["geometry"]]
        for place, image_id in enumerate(arrays["image_id"]):
            if image_id not in its_rows:
                continue
            i = its_rows[image_id]
            image = images[facts["geometry"]]["images"][i]
            card = _card(told.loc[(model, image_id)], image, outlines[facts["geometry"]][i])
            card = cards.setdefault((image_id, model), {"model": model} | card)
            shown = _map(explainer, arrays, place, image, cut.get((model, image_id)))
            card["maps"].append(shown | {"scores": scores.get((model, image_id, explainer), [])})
    order = list(dict.fromkeys(image_id for its_rows in rows.values() for image_id in its_rows))
    rows_of = {image_id: [card for (each, _), card in cards.items() if each == image_id] for image_id in order}
    return [{"image_id": each, "label": own[0]["label"], "rows": own} for each, own in rows_of.items() if own]


def encode(cards: Sequence[Mapping], form: tuple[int | None, int]) -> list[dict[str, object]]:
    """Replace the images of `collect` by data URIs, in one of `FORMS`."""
    return [card | {"rows": [_encode_row(row, *form) for row in card["rows"]]} for card in cards]


def explain_page(cards: Sequence[Mapping], area: float, explained: int) -> dict[str, object]:
    """Say in words what the page of `collect` shows, with masks that cover a share `area` of the image.

    The page may show the first of all `explained` source images.
    """
    of = f"{len(cards):,} of " if explained > len(cards) else ""
    rows = [row for card in cards for row in card["rows"]]
    models = list(dict.fromkeys(row["model"] for row in rows))
    titles = list(dict.fromkeys(each["title"] for row in rows for each in row["maps"]))
    return {
        "summary": f"{of}{counted(explained, 'source image')}, explained for {' and '.join(models)} by "
        f"{', '.join(titles)}. Slide from the source image over the heat map to the mask.",
        "notes": [
            "Above each row: the model, the class that is explained and its probability. Every image is shown as the "
            "model sees it, cut and resized.",
            "Heat map: saliency over the source image in gray, from 0 (gray) to the map's own maximum (yellow); "
            "brightness is not comparable between maps. White lines in LIME's map bound the superpixels; only positive "
            "weights show.",
            f"Mask: the most salient {100 * area:g} % of the image stay bright, so masks of all explainers are "
            "equally large. Of pixels that are equally salient, as in LIME's superpixels, some are taken at random.",
            "Dashed outline: the object, where the sheet of source images gives a mask or a box.",
            "Scores say how faithful this map is on this image: deletion (lower is better), insertion and ROAD "
            "(higher is better). One image proves nothing; the report has means with intervals and tests.",
            "Keys: Tab to the slider, then ← and →.",
        ],
        "objects": any(row["object"] for row in rows),
        "canvas": pages.CANVAS,
    }


def write(
    path: str | Path,
    cards: Sequence[Mapping],
    *,
    area: float,
    explained: int,
    missing: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> None:
    """Write the page, below `pages.LARGEST_REPORT_PAGE`, with the images of `collect` as large as that allows.

    Masks cover a share `area` of the image; of all `explained` source images the page shows the first; explanations
    that are `missing` are left out because the run is not finished. Pages that lie `beside` it are linked.
    """
    words = explain_page(cards, area, explained) | {"missing": missing, "beside": beside}
    for form in FORMS:
        page = words | {"source_images": encode(cards, form)}
        text = pages.render("explanations.html.j2", page)
        if len(text.encode()) < pages.LARGEST_REPORT_PAGE:
            break
    Path(path).write_text(text, encoding="utf-8")


def _card(told: pd.Series, image: np.ndarray, outline: str) -> dict[str, object]:
    """Say what one model makes of a source image (h, w, 3); its maps are added one by one."""
    return {
        "caption": explanation_figures.explained_class(told.target_name, told.target_probability),
        "label": told.label_name if _has_label(told) else "",
        "verdict": _verdict(told),
        "image": image,
        "aspect": "{1} / {0}".format(*image.shape[:2]),
        "object": outline,
        "maps": [],
    }


def _map(
    name: str, arrays: Mapping[str, np.ndarray], i: int, image: np.ndarray, cut: tuple[Mapping, int] | None
) -> dict[str, object]:
    """Draw a map of one explainer beside its mask, if one was cut."""
    (saliency,) = explanation_figures.scale(arrays["saliency"][i : i + 1])
    superpixels = arrays["segments"][i] if "segments" in arrays else None
    return {
        "title": explainer_title(name),
        "heat": np.rint(255 * explanation_figures.blend(image, saliency, superpixels)).astype(np.uint8),
        "mask": cut[0][f"{name}:equal_area"][cut[1]] if cut else None,
        "warning": arrays["warning"][i],
    }


def _scores(table: pd.DataFrame | None) -> dict[tuple[str, str, str], list[tuple[str, str]]]:
    """Name and value of every score of a map, for the first baseline of each measure."""
    if table is None:
        return {}
    first = table.drop_duplicates(["model", "measure"])[["model", "measure", "baseline"]]
    shown = table[table["measure"].isin(list(SCORE_TITLES))].merge(first)
    scores: dict[tuple[str, str, str], list] = {}
    for row in shown[shown["value"].notna()].itertuples():
        value = f"{row.value:.2f}".replace("-", "\u2212")
        scores.setdefault((row.model, row.image_id, row.explainer), []).append((SCORE_TITLES[row.measure], value))
    return scores


def _outlines(decoded: Mapping[str, np.ndarray]) -> list[str]:
    """Outline the object of every source image, its mask if there is one, else its box."""
    outlines = [""] * len(decoded["image_id"])
    for objects, given in reversed(localization.reference_masks(decoded).values()):
        for i in given.nonzero().ravel().tolist():
            outlines[i] = pages.outline(objects[i].numpy().astype(np.uint8))
    return outlines


def _verdict(row: pd.Series) -> str:
    """Say whether the model is right, and what it predicts where another class is explained."""
    if pd.isna(row.predicted):
        return items.NOT_FINITE
    if row.target != row.predicted:
        return f"predicts {row.predicted_name}, p = {row.probability:.2f}"
    return ("right" if row.correct else "wrong") if _has_label(row) else ""


def _has_label(row: pd.Series) -> bool:
    return pd.notna(row.label) and row.label != ""


def _encode_row(row: Mapping[str, object], side: int | None, quality: int) -> dict[str, object]:
    maps = []
    for each in row["maps"]:
        mask = None if each["mask"] is None else _shade(each["mask"], side)
        maps.append(each | {"heat": _webp(each["heat"], side, quality), "mask": mask})
    return row | {"image": _webp(row["image"], side, quality), "maps": maps}


def _webp(image: np.ndarray, side: int | None, quality: int) -> str:
    return pages.data_uri(pages.compressed(_shrunk(image, side), "webp", quality=quality), "webp")


def _shade(mask: np.ndarray, side: int | None) -> str:
    """Encode darkness that leaves the mask open: black, with an opacity of two steps."""
    levels = np.asarray(_shrunk(np.where(mask, 0, 255).astype(np.uint8), side))
    shade = Image.fromarray((levels > 127).astype(np.uint8))
    shade.putpalette([0, 0, 0] * 2)
    return pages.data_uri(
        pages.compressed(shade, "png", transparency=bytes([0, _OUTSIDE]), bits=1, optimize=True), "png"
    )


def _shrunk(pixels: np.ndarray, side: int | None) -> Image.Image:
    image = Image.fromarray(pixels)
    if side is not None:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)  # which only shrinks
    return image
