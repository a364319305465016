"""Collect what the gallery shows of every unit: label, evidence, top source images, and the outlines of its regions.

Every thumbnail is there once, however many units share it; outlines are paths that the page draws over it. What cards
say of a unit in words, bars of accounts and pages of classes say, too (`read_words`).
"""

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import vl_convert
from markupsafe import Markup
from PIL import Image

from unitlens.report import charts, pages
from unitlens.report.text import counted, decimals
from unitlens.storage.tables import read_table
from unitlens.tables import accounts, linear_labels, unit_labels

LARGEST_PAGE = 37_000_000  # bytes of data; thumbnails are as large as that allows
# Side in pixels and quality of thumbnails, the best first: a reader sees the side before the quality.
FORMS = ((176, 75), (144, 70), (128, 60), (112, 50), (96, 40), (80, 30), (64, 30), (48, 30))
_AT_ONCE = 128  # images in memory
_SAMPLE = 96  # images that tell how large thumbnails get
_KEYS = ["model", "layer", "unit"]
_BY_MASKS = (
    "By masks: the name or theme that Network Dissection gives the unit. Order, search and filter go by it, too; "
    "score, q and all other evidence of a card are those of the encoder's word."
)
_WORTH = {"linear": "held-out r", "label": "alone", "ridge": "all features"}  # a column of correlations, and its name
Pick = Callable[[np.ndarray], np.ndarray]


class Evidence(NamedTuple):
    """A column of the table of labels, as the page shows it."""

    column: str
    name: str
    meaning: str
    on_card: bool = False
    low: bool = False  # low values speak for the label
    share: bool = False


EVIDENCE = [
    Evidence("score", "score", "Similarity of unit and label. Not comparable between layers.", on_card=True),
    Evidence("score_low", "score, low", "Lower end of the score's 90 % interval over resampled source images."),
    Evidence("score_high", "score, high", "Upper end of that interval."),
    Evidence("margin", "margin", "Score of the label minus that of the second concept.", on_card=True),
    Evidence("margin_group", "margin to another meaning", "The same to the best concept that is no near-synonym."),
    Evidence("kept", "kept", "Share of resamples of the source images that keep the label.", on_card=True, share=True),
    Evidence("kept_group", "kept, near-synonyms", "Share of resamples that keep it or a near-synonym.", share=True),
    Evidence("p_value", "p", "Permutation test: how often some word fits shuffled source images as well.", low=True),
    Evidence("q_value", "q", "p adjusted for the units of the layer (Benjamini-Hochberg).", on_card=True, low=True),
    Evidence(
        "held_out_correlation",
        "held-out r",
        "Correlation of unit and label on the half of the source images that did not choose the label, mean of "
        "repeated splits. Of all held-out scores the unit's own chance is subtracted.",
        on_card=True,
    ),
    Evidence("held_out_auprc", "held-out AUPRC", "There, how well the label finds the images that activate the unit."),
    Evidence("held_out_f1", "held-out F1", "There, how far the five percent of unit and label are the same images."),
    Evidence("held_out_iou", "held-out IoU", "The same, as intersection over union."),
    Evidence("held_out_cosine", "held-out cosine", "There, the cosine of unit and label."),
    Evidence(
        "held_out_auc",
        "held-out AUC",
        "There, on annotated images, how often the unit is more active where the label's word is shown than elsewhere.",
        share=True,
    ),
]


def collect(
    concepts: pd.DataFrame,
    maps: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    images: Mapping[str, Pick],
    *,
    models: Sequence[str] = (),
    linear: pd.DataFrame | None = None,
    masks: pd.DataFrame | None = None,
) -> dict[str, object]:
    """Collect the data of the page.

    Parameters
    ----------
    concepts : pandas.DataFrame
        Labels of the units, with those columns of `EVIDENCE` that there are.
    maps : iterable of (arrays, facts)
        For each model and layer of `concepts`: ``row, image_id, activation`` of `exemplars.top_source_images` and,
        where the layer has space, ``maps`` of `exemplars.activation_maps`; with ``model, layer`` and ``geometry``.
    images : mapping
        For each geometry, a function from ascending rows to uint8 images (n, h, w, 3).
    models : sequence of str
        All of the run, for the colors of the chart.
    linear, masks : pandas.DataFrame, optional
        Linear labels of these units, and what Network Dissection says of them, `netdissect.beside_labels`.

    Returns
    -------
    dict
        ``canvas, groups, statuses, columns, chart, units, ids`` and ``thumbs``, of types that JSON knows. Thumbnails
        are as large as `LARGEST_PAGE` allows.

    Raises
    ------
    ValueError
        If a layer lacks maps, or has those of another number of units.
    """
    layers = {(facts["model"], facts["layer"]): (arrays, facts["geometry"]) for arrays, facts in maps}
    rows = {geometry: _rows_of(layers.values(), geometry) for geometry in images}
    first = dict(zip(rows, np.cumsum([0, *map(len, rows.values())]).tolist(), strict=False))
    evidence = [each for each in EVIDENCE if each.column in concepts and concepts[each.column].notna().any()]
    groups, units, ids = [], [], {}
    concepts = _with_rank(with_masks(with_linear(concepts, linear), masks))
    for (model, layer), table in concepts.groupby(["model", "layer"], sort=False):
        arrays, geometry = _layer(layers, model, layer, len(table))
        thumbs = first[geometry] + np.searchsorted(rows[geometry], arrays["row"])  # (units, k)
        ids |= zip(thumbs[arrays["row"] >= 0].tolist(), arrays["image_id"][arrays["row"] >= 0], strict=True)
        for record in table.to_dict("records"):
            card = _card(record, evidence)
            units.append(card | {"group": len(groups), "images": _images(arrays, thumbs, card["unit"])})
        groups.append({"model": model, "layer": layer})
    data = {
        "canvas": pages.CANVAS,
        "groups": groups,
        "statuses": [
            *concepts.sort_values("claim", kind="stable")["status"].unique(),
            *map(_by_masks, filter(None, concepts.sort_values("claim_by_masks")["mask_status"].unique())),
        ],
        "columns": [each._asdict() for each in evidence],
        "chart": _chart([*models, *(group["model"] for group in groups)]),
        "units": units,
        "ids": [ids[thumb] for thumb in range(len(ids))],
    }
    budget = (LARGEST_PAGE - len(json.dumps(data))) * 3 // 4  # four letters of base64 hold three bytes
    data["thumbs"] = [base64.b64encode(each).decode() for each in _thumbnails(rows, images, budget)]
    return data


def explain(
    concepts: pd.DataFrame, data: Mapping[str, object], *, masks: pd.DataFrame | None = None
) -> dict[str, object]:
    """Say in words what the page of `collect` shows: ``summary`` and ``notes``."""
    models, counts = concepts["model"].nunique(), concepts["status"].value_counts()
    of = f"{counted(len(data['groups']), 'layer')} of {counted(models, 'model')}"
    summary = f"{counted(len(concepts), 'unit')} in {of}, labeled by {concepts['encoder'].iloc[0]}: "
    summary += ", ".join(f"{counts.get(name, 0):,} {name}" for name in unit_labels.STATUSES) + "."
    if masks is not None:
        named, theme = ((masks["status"] == claim).sum() for claim in unit_labels.TOLD)
        summary += f" Masks name {named:,} and give {theme:,} a theme."
    return {
        "summary": summary,
        "notes": [
            "Source images: the five that activate the unit most, strongest first. Where the probe set holds crops of "
            "a source image, only its strongest crop is shown. In the large view the number is the activation, pooled "
            "over the image.",
            "Outline: where the activation exceeds half its maximum in that image. The map of the layer is enlarged "
            "bilinearly; negative activations count as 0; of many parts the twelve largest are drawn. There is no "
            "outline where the activation is positive nowhere, and in layers without space. Of transformers, the class "
            "token ranks the source images and the other tokens are outlined.",
            "A word is the best of the listed concepts, not a proof that the unit stands for it. Selective: it fits "
            "better than the words of shuffled source images. A unit's set holds the words that score nearly as well "
            "as its best one; how nearly is calibrated, so that the set by one half of the source images holds the "
            "word of the other half for 90 % of the selective units. Named: these are near-synonyms; a theme: at most "
            "twelve groups of near-synonyms; with a larger set it has no name. Not selective: no word is shown to fit "
            "better than by chance. Without a name, the nearest words are shown, which are guesses. A unit that is "
            "dead or constant answers every source image alike."
            + (" One that is not finite returns NaN or infinity on some." if "not finite" in counts else "")
            + _bar(concepts),
            "Linear: a sum of at most three concepts, chosen one by one to come near to the unit, in standard "
            "deviations of unit and concepts. Held-out r: its correlation with the unit on source images that it was "
            "not fitted to; alone: that of the single label; all features: that of a ridge regression on all features "
            "of the encoder, fitted to the same source images. That is no ceiling: where these are few, three words "
            "can predict better. A sum may predict the unit better than one word does although none of its words is "
            "right. Sums whose held-out r is not above 0 are not shown.",
            *([_BY_MASKS] if masks is not None else []),
            "Cards come named first, then themes, then selective, then by the held-out correlation. Search finds units "
            "whose best word contains every word; in quotation marks, whose best word is exactly that. The address "
            "holds what is searched. "
            "Keys: / to search, Tab and Enter to open a card, ← and → for its neighbors, Esc to close.",
        ],
    }


def write(
    path: str | Path,
    *,
    concepts: pd.DataFrame,
    maps: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    images: Mapping[str, Pick],
    models: Sequence[str] = (),
    linear: pd.DataFrame | None = None,
    masks: pd.DataFrame | None = None,
    missing: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> None:
    """Write the gallery of units, from the arguments of `collect`: a card for each, to search, filter and sort.

    Layers that are `missing` are left out because the run is not finished. Pages that lie `beside` it are linked.
    """
    data = collect(concepts, maps, images, models=models, linear=linear, masks=masks)
    vega = Markup(vl_convert.javascript_bundle())  # Vega-Lite, so that the page needs no network
    page = {"data": pages.visible_data(data), "charts": vega, "missing": missing, "beside": beside}
    page["statuses"] = charts.STATUS_COLORS
    page |= explain(concepts, data, masks=masks)
    pages.write_page(path, "units.html.j2", page)


def read_words(concepts: str | Path, masks: str | Path | None, linear: Sequence[str | Path]) -> pd.DataFrame:
    """Read what units are called, as `accounts.read_unit_names` does, and add the linear labels of some layers."""
    names = accounts.read_unit_names(concepts, masks)
    return with_linear(names, read_table(linear) if linear else None)


def with_linear(units: pd.DataFrame, linear: pd.DataFrame | None) -> pd.DataFrame:
    """Add the column ``linear``, as ``0.41 owl, held-out r 0.18, alone 0.11, all features 0.22``.

    It is empty where the table of linear labels does not have the unit or one of the numbers, and where the held-out
    correlation is not above 0: such a sum says nothing of the unit. `units` has ``model, layer, unit``.
    """
    if linear is None:
        return units.assign(linear="")
    numbers = linear[[f"{name}_correlation" for name in _WORTH]]
    told = linear_labels.sums(linear)
    for name, text in _WORTH.items():
        told = told + linear[f"{name}_correlation"].map(lambda r: decimals(r, 2)).radd(f", {text} ")
    known = numbers.notna().all(axis=1) & linear["weight_1"].notna() & (linear["linear_correlation"] > 0)
    return _joined(units, linear[_KEYS].assign(linear=told.where(known, "")))


def with_masks(units: pd.DataFrame, masks: pd.DataFrame | None) -> pd.DataFrame:
    """Add what Network Dissection calls a unit, in empty texts where it has no name or theme for it.

    ``masks`` is the name or theme, ``mask_status`` which of the two it is, ``mask_word`` the best word.
    """
    if masks is None:
        return units.assign(masks="", mask_status="", mask_word="")
    titles, status = unit_labels.titles(masks.assign(concept=masks["mask_concept"])), masks["status"]
    words = {"masks": titles, "mask_status": status, "mask_word": masks["mask_concept"]}
    told = masks[_KEYS].assign(**words)[status.isin(unit_labels.TOLD)]
    return _joined(units.drop(columns="masks", errors="ignore"), told)


def _joined(units: pd.DataFrame, words: pd.DataFrame) -> pd.DataFrame:
    told = units.merge(words, on=_KEYS, how="left", validate="one_to_one")
    return told.assign(**{name: told[name].fillna("") for name in words.columns.drop(_KEYS)})


def _with_rank(concepts: pd.DataFrame) -> pd.DataFrame:
    """Add what each label may claim, and each unit's place: the strongest claim of encoder or masks first."""
    order = concepts.assign(title=unit_labels.titles(concepts))
    ranks = {name: rank for rank, name in enumerate(unit_labels.STATUSES)}
    order["claim"] = concepts["status"].map(ranks)
    order["claim_by_masks"] = concepts["mask_status"].map(ranks)
    order["most"] = order[["claim", "claim_by_masks"]].min(axis=1)
    order["fit"] = -concepts["held_out_correlation"] if "held_out_correlation" in concepts else 0.0
    ranked = order.reset_index().sort_values(["most", "claim", "fit"], kind="stable").index
    return order.assign(rank=pd.Series(range(len(order)), ranked).sort_index().to_numpy())


def _bar(concepts: pd.DataFrame) -> str:
    """Say up to which q units are selective, where the table tells."""
    if "alpha" not in concepts:
        return ""
    return (
        f" Units are selective up to a q of {concepts['alpha'].iloc[0]:g}; one of 1 means that words of shuffled "
        "source images fit as well."
    )


def _chart(models: Sequence[str]) -> dict[str, object]:
    """Specify a scatter plot of units in Vega-Lite; the page fills in ``units`` and the titles of the axes."""
    looks = charts.looks(models)
    colors = {"domain": list(looks), "range": [look["color"] for look in looks.values()]}
    number = {"type": "quantitative", "scale": {"zero": False}}
    return {
        "description": "Scatter plot of the units that the cards show, by two kinds of evidence",
        "width": "container",
        "height": 360,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "mark": {"type": "point", "filled": True, "opacity": 0.65, "size": 36, "cursor": "pointer"},
        "encoding": {
            "x": {"field": "x"} | number,
            "y": {"field": "y"} | number,
            "color": {"field": "model", "scale": colors, "legend": {"orient": "bottom"}},
            "shape": {"field": "status", "legend": {"orient": "bottom"}},
            "tooltip": [{"field": name, "title": name} for name in ("label", "category", "place", "unit")],
        },
        "config": {"font": "system-ui, DejaVu Sans, sans-serif", "view": {"stroke": None}},
    }


def _layer(layers: Mapping, model: str, layer: str, units: int) -> tuple[Mapping[str, np.ndarray], str]:
    if (model, layer) not in layers:
        raise ValueError(f"there are no maps of {model} {layer}")
    arrays, geometry = layers[model, layer]
    if len(arrays["row"]) != units:
        raise ValueError(f"{model} {layer} has {units} units in the table, but {len(arrays['row'])} with source images")
    return arrays, geometry


def _rows_of(layers: Iterable[tuple[Mapping[str, np.ndarray], str]], geometry: str) -> np.ndarray:
    rows = [arrays["row"].ravel() for arrays, its_geometry in layers if its_geometry == geometry]
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *rows]))
    return rows[rows >= 0]


def _card(record: Mapping[str, object], evidence: Sequence[Evidence]) -> dict[str, object]:
    concept, category, best = (
        record[name] if pd.notna(record[name]) else "" for name in ("candidate", "category", "top_concepts")
    )
    return {
        "unit": int(record["unit"]),
        "status": record["status"],
        "rank": record["rank"],
        "title": record["title"],
        "concept": concept,
        "category": category if record["status"] in unit_labels.CLAIMS else "",  # else it is that of a guess
        "best": best.split("; ") if best else [],
        "linear": record["linear"],
        "masks": record["masks"],
        "mask_claim": _by_masks(record["mask_status"]),
        "mask_word": record["mask_word"],
        "values": [_short(record[each.column]) for each in evidence],
    }


def _by_masks(status: str) -> str:
    """Call a status of Network Dissection, as the page does; an empty text where there is none."""
    return status and status + accounts.BY_MASKS


def _images(arrays: Mapping[str, np.ndarray], thumbs: np.ndarray, unit: int) -> list[dict[str, object]]:
    images = []
    for rank in np.flatnonzero(arrays["row"][unit] >= 0):
        image = {"thumb": int(thumbs[unit, rank]), "activation": _short(arrays["activation"][unit, rank])}
        if "maps" in arrays and (region := pages.outline(arrays["maps"][unit, rank])):
            image["region"] = region
        images.append(image)
    return images


def _thumbnails(rows: Mapping[str, np.ndarray], images: Mapping[str, Pick], budget: int) -> list[bytes]:
    """Encode the images of every geometry, as large as `budget` bytes allow."""
    count = sum(map(len, rows.values()))
    every = -(-count // _SAMPLE) if count else 1
    sample = {geometry: each[::every] for geometry, each in rows.items()}
    for form in FORMS[:-1]:
        mean = np.mean([len(thumbnail) for thumbnail in encode_thumbnails(sample, images, *form)] or [0])
        if count * mean <= 0.97 * budget:
            break
    else:
        form = FORMS[-1]
    return list(encode_thumbnails(rows, images, *form))


def encode_thumbnails(
    rows: Mapping[str, np.ndarray], images: Mapping[str, Pick], side: int, quality: int
) -> Iterator[bytes]:
    """Encode rows (n,) of the images of every geometry as WebP of a longest side, a few in memory at a time."""
    for geometry, its_rows in rows.items():
        for start in range(0, len(its_rows), _AT_ONCE):
            for image in images[geometry](its_rows[start : start + _AT_ONCE]):
                whole = Image.fromarray(image)
                size = [max(1, round(side * each / max(whole.size))) for each in whole.size]  # in its own proportions
                yield pages.compressed(whole.resize(size, Image.Resampling.LANCZOS), "webp", quality=quality)


def _short(number: float) -> float | None:
    """Round to four digits; None where there is no number."""
    return float(f"{number:.4g}") if np.isfinite(number) else None
