"""Collect what the page of explanations shows: every image as every model sees it, its maps, masks and scores."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from PIL import Image

from unitlens.explainers import items
from unitlens.images.label_maps import reference_masks
from unitlens.measures.scales import chance_iou
from unitlens.report import charts, explanation_figures, pages
from unitlens.report.text import SCORE_TITLES, counted, explainer_title
from unitlens.tables.agreement import equal_area

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
    agreement: pd.DataFrame | None = None,
    area: float = 0.2,
    accounts: Mapping[tuple[str, str], Mapping[str, object]] | None = None,
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
    agreement : pandas.DataFrame, optional
        Table of all models, of `agreement.score_pairs`.
    area : float
        Share of the image that masks cover.
    accounts : mapping, optional
        Which units made the predictions, of `account_bars.collect`.

    Returns
    -------
    list of dict
        For each source image ``image_id, label`` and its ``rows``, one a model: ``model, caption, verdict``,
        ``image`` (h, w, 3) uint8, ``aspect`` (width / height), ``object`` (an SVG path on a square of side
        `pages.CANVAS`, empty where the sheet gives no object), ``account`` or None, ``pairs``, from two explainers'
        titles to the IoU of their maps, and ``maps``: ``title``, ``heat`` (h, w, 3) uint8, ``mask`` (h, w) bool or
        None, ``covers``, the share of the image that a mask of whole superpixels covers, ``samples`` (0 of other
        explainers than LIME) and ``shared``, as ``shared_top`` in docs/outputs.md, ``scores, warning``.

    Raises
    ------
    ValueError
        As `explanation_figures.blend` does.
    """
    told, scores = predictions.set_index(["model", "image_id"]), _scores(faithfulness)
    pairs = _pairs(agreement, area)
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
            card |= {"model": model, "pairs": pairs.get((model, image_id), {})}
            card["account"] = (accounts or {}).get((model, image_id))
            card = cards.setdefault((image_id, model), card)
            shown = _map(explainer, arrays, place, image, cut.get((model, image_id)), area)
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
        "heat_maps": _mean_pairs(cards),
        "summary": f"{of}{counted(explained, 'source image')}, explained for {' and '.join(models)} by "
        f"{', '.join(titles)}. Slide from the source image over the heat map to the mask.",
        "notes": [
            "Above each row: the model, the class that is explained and its probability. Every image is shown as the "
            "model sees it, cut and resized.",
            "Heat map: saliency over the source image in gray, from 0 (gray) to the map's own maximum (yellow); "
            "brightness is not comparable between maps. White lines in LIME's map bound the superpixels; only positive "
            "weights show.",
            f"Mask: the most salient {100 * area:g} % of the image stay bright. Masks of explainers with "
            "superpixels, as LIME, show whole superpixels, as many as come closest to that; below such a map stands "
            "what they cover.",
            "Below LIME's map: the perturbed images it is made of (samples), and the share of its most important "
            "superpixels that two halves of them are expected to name both. Other samples agree on at least as many.",
            f"IoU: how far the masks of two explainers overlap (intersection over union), both cut to exactly "
            f"{100 * area:g} % of the image, of equally salient pixels some at random; unrelated pixels have "
            f"{chance_iou(area):.2f}, maps of different source images more (see the report). Order by disagreement: "
            "the source images with the lowest mean IoU first.",
            "Dashed outline: the object, where the sheet of source images gives a mask or a box.",
            "Scores say how faithful this map is on this image: deletion (lower is better), insertion and ROAD "
            "(higher is better). One image proves nothing; the report has means with intervals and tests.",
            "Why: what a unit contributes is its activation times the gradient of the score, summed over positions. "
            "Units, tokens without a place and the rest add up to the score. Orange raises it, purple lowers it; point "
            "at a bar to see where the unit acts. The account compares with silent units: units that act together "
            "share the credit, and three names are never the whole reason. The small image beside a unit is the one of "
            "the probe set that activates it most.",
            "Keys: Tab to the slider, then ← and →.",
        ],
        "objects": any(row["object"] for row in rows),
        "accounts": any(row["account"] for row in rows),
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
    classes: str = "",
) -> None:
    """Write the page, below `pages.LARGEST_REPORT_PAGE`, with the images of `collect` as large as that allows.

    Masks cover a share `area` of the image; of all `explained` source images the page shows the first; explanations
    that are `missing` are left out because the run is not finished. Pages that lie `beside` it are linked. `classes`
    may say why no class has a page.
    """
    words = explain_page(cards, area, explained) | {"missing": missing, "beside": beside, "classes": classes}
    words["best"] = {uri: number for number, uri in enumerate(_best_images(cards))}
    for form in FORMS:
        page = words | {"source_images": encode(cards, form)}
        text = pages.render("explanations.html.j2", page)
        if len(text.encode()) < pages.LARGEST_REPORT_PAGE:
            break
    Path(path).write_text(text, encoding="utf-8")


def _best_images(cards: Sequence[Mapping]) -> list[str]:
    """List the images that bars of accounts show of their units, each once."""
    accounts = [row["account"]["accounts"] for card in cards for row in card["rows"] if row["account"]]
    bars = [bar for account in accounts for each in account.values() for bar in each["bars"]]
    return list(dict.fromkeys(bar["best"] for bar in bars if bar["best"]))


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
    name: str, arrays: Mapping[str, np.ndarray], i: int, image: np.ndarray, cut: tuple[Mapping, int] | None, area: float
) -> dict[str, object]:
    """Draw a map of one explainer beside its mask, if one was cut."""
    (saliency,) = explanation_figures.scale(arrays["saliency"][i : i + 1])
    superpixels = arrays["segments"][i] if "segments" in arrays else None
    mask = cut[0][f"{name}:equal_area"][cut[1]] if cut else None
    if cut and superpixels is not None:
        mask = whole_superpixels(saliency, superpixels, area)
    return {
        "title": explainer_title(name),
        "heat": np.rint(255 * explanation_figures.blend(image, saliency, superpixels)).astype(np.uint8),
        "mask": mask,
        "covers": None if mask is None or superpixels is None else float(mask.mean()),
        "samples": int(arrays["n_used"][i]) if "n_used" in arrays else 0,
        "shared": float(arrays["shared_top"][i]) if "shared_top" in arrays else np.nan,
        "warning": arrays["warning"][i],
    }


def whole_superpixels(saliency: np.ndarray, segments: np.ndarray, area: float) -> np.ndarray:
    """Mark the most salient superpixels, as many as come closest to a share of the image.

    Parameters
    ----------
    saliency : array, shape (h, w)
        One value in each superpixel; superpixels of 0 are never marked.
    segments : array of int, shape (h, w)
        Superpixels; what is below 0 is none.
    area : float
        Share of the image.

    Returns
    -------
    array, bool, shape (h, w)
    """
    names, first, place, sizes = np.unique(segments, return_index=True, return_inverse=True, return_counts=True)
    values = np.where(names >= 0, saliency.ravel()[first], 0)
    order = np.argsort(-values, kind="stable")
    order = order[values[order] > 0]
    covered = np.cumsum(sizes[order]) / segments.size
    chosen = order[: np.abs(covered - area).argmin() + 1] if len(order) else order
    return np.isin(place.reshape(segments.shape), chosen)


def _pairs(scores: pd.DataFrame | None, area: float) -> dict[tuple[str, str], dict[tuple[str, str], float]]:
    """Give the IoU of every two maps of an image, by model and image."""
    pairs: dict[tuple[str, str], dict] = {}
    for row in scores[equal_area(scores, area) & scores["value"].notna()].itertuples() if scores is not None else ():
        titles = explainer_title(row.explainer_a), explainer_title(row.explainer_b)
        pairs.setdefault((row.model, row.image_id), {})[titles] = row.value
    return pairs


def _mean_pairs(cards: Sequence[Mapping]) -> list[dict[str, object]]:
    """Average the IoU of every two explainers over the source images that are shown, a heat map for each model."""
    values: dict[str, dict[tuple[str, str], list[float]]] = {}
    for row in [row for card in cards for row in card["rows"] if row["pairs"]]:
        for pair, iou in row["pairs"].items():
            values.setdefault(row["model"], {}).setdefault(pair, []).append(iou)
    return [
        {"model": model, "n": max(map(len, own.values()))}
        | heat_map({pair: np.mean(each) for pair, each in own.items()})
        for model, own in values.items()
    ]


def heat_map(pairs: Mapping[tuple[str, str], float]) -> dict[str, object]:
    """Arrange numbers of pairs in [0, 1] as a table, darker where they are larger.

    Gives ``columns``, and ``rows``: a title and its cells, of each ``text, color, ink``; None where there is no pair.
    """
    columns = list(dict.fromkeys(b for _, b in pairs))
    rows = [(a, [_cell(pairs.get((a, b))) for b in columns]) for a in dict.fromkeys(a for a, _ in pairs)]
    return {"columns": columns, "rows": rows}


def _cell(value: float | None) -> dict[str, str] | None:
    if value is None:
        return None
    ink = "#fff" if value > 0.55 else "#000"
    return {"text": f"{value:.2f}", "color": to_hex(charts.AMOUNT_MAP(float(value))), "ink": ink}


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
    for objects, given in reversed(reference_masks(decoded).values()):
        for i in np.flatnonzero(given):
            outlines[i] = pages.outline(objects[i].astype(np.uint8))
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
    iou = float(np.mean(list(row["pairs"].values()))) if row["pairs"] else None
    shown = {"image": _webp(row["image"], side, quality), "maps": maps, "pairs": heat_map(row["pairs"])}
    return row | shown | {"iou": iou}


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
