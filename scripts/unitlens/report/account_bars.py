"""Lay out accounts of predictions as bars for the page of explanations: which units raise and lower a class, and where.

Bars of single units carry a picture of what the unit contributes at each position: orange raises, purple lowers.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
from PIL import Image

from unitlens.explainers.items import LOWERING
from unitlens.jobs.sheets import class_names
from unitlens.report.pages import compressed, data_uri
from unitlens.report.unit_gallery import Pick, encode_thumbnails
from unitlens.tables import accounts

BEST = (56, 45)  # side in pixels and quality of the image that activates a unit most
RAISES, LOWERS = (179, 88, 6), (84, 39, 136)  # RGB


def collect(
    files: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    names: pd.DataFrame,
    classes: Mapping[str, str | int],
    *,
    pages: Mapping[tuple[str, int], tuple[str, str]] | None = None,
    maps: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]] = (),
    probe: Mapping[str, Pick] | None = None,
) -> dict[tuple[str, str], dict[str, object]]:
    """Give what the page shows of each account, by model and image.

    Parameters
    ----------
    files : iterable of (arrays, facts)
        Files of accounts, of all models.
    names : pandas.DataFrame
        What units are called, of `unit_gallery.read_words`.
    classes : mapping
        The `class_names` argument of each model.
    pages : mapping, optional
        Of `class_pages.links`.
    maps : iterable of (arrays, facts)
        For layers whose units have cards, ``row`` of `exemplars.top_source_images`, with ``model, layer, geometry``.
    probe : mapping, optional
        For each geometry of these, a function from ascending rows to uint8 images (n, h, w, 3).

    Returns
    -------
    dict
        ``layer, class_page``, the link to that of the explained class or None, ``labeled``, whether the layer's units
        have labels, ``warning``, and by the keys of `accounts.KINDS` ``accounts``: ``score, units, tokens, remainder``,
        sums of the account, ``runner_up``, that class or an empty text, ``named, selective``, their shares of the
        absolute account, ``share_named, share_selective`` of the units, and
        ``bars``: ``title, unit`` (None for sums), ``called`` and ``linear``, what is said of a unit, ``value, left,
        width`` (percent of the axis), ``place``, a picture, and ``best``, the image that activates the unit most, or
        nothing. Without an account there are none.
    """
    collected = {}
    for arrays, facts in files:
        called = [*class_names(classes[facts["model"]]), ""]  # of number -1: there is none
        own = accounts.names_of_layer(names, facts, arrays["contributions"].shape[1])
        parts = accounts.units_of_parts(own)
        of_units = {f"share_{part}": float(chosen.mean()) for part, chosen in parts.items() if len(chosen)}
        shares = {kind: accounts.shares(arrays, kind, parts) for kind in accounts.KINDS}
        for row, image_id in enumerate(arrays["image_id"]):
            about = {"runner_up": called[arrays["runner_up"][row]], **of_units}
            kinds = {
                kind: account | about | {part: float(np.nan_to_num(shares[kind][part][row])) for part in parts}
                for kind, start in accounts.KINDS.items()
                if (account := _account(arrays, start, row, own))
            }
            collected[(facts["model"], image_id)] = {
                "layer": facts["layer"],
                "class_page": (pages or {}).get((facts["model"], int(arrays["target"][row]))),
                "labeled": bool(len(names[(names["model"] == facts["model"]) & (names["layer"] == facts["layer"])])),
                "warning": arrays["warning"][row],
                "accounts": kinds,
            }
    _add_best(collected, maps, probe or {})
    return collected


def _add_best(
    collected: Mapping[tuple[str, str], Mapping],
    maps: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    probe: Mapping[str, Pick],
) -> None:
    """Give each bar of a unit the image that activates the unit most; each is read and encoded once."""
    known = {
        (facts["model"], facts["layer"]): (facts["geometry"], arrays["row"][:, 0])
        for arrays, facts in maps
        if facts["geometry"] in probe
    }
    wanted: dict[tuple[str, int], list[dict]] = {}
    for (model, _), card in collected.items():
        geometry, rows = known.get((model, card["layer"]), ("", ()))
        for bar in (bar for each in card["accounts"].values() for bar in each["bars"] if bar["unit"] is not None):
            if len(rows) > bar["unit"] and rows[bar["unit"]] >= 0:
                wanted.setdefault((geometry, int(rows[bar["unit"]])), []).append(bar)
    by_geometry = {name: np.array(sorted(row for own, row in wanted if own == name)) for name, _ in wanted}
    keys = [(name, row) for name, rows in by_geometry.items() for row in rows.tolist()]
    for key, content in zip(keys, encode_thumbnails(by_geometry, probe, *BEST), strict=True):
        for bar in wanted[key]:
            bar["best"] = data_uri(content, "webp")


def _account(arrays: Mapping[str, np.ndarray], start: str, row: int, names: pd.DataFrame) -> dict | None:
    values = arrays[f"{start}contributions"][row].astype(np.float64)
    if not len(values) or not np.isfinite(values).all():
        return None
    score, tokens, remainder = (float(arrays[start + name][row]) for name in ("score", "tokens", "remainder"))
    named = names["status"].eq("named").to_numpy()
    shown, places = arrays[f"{start}shown"][row], arrays[f"{start}places"][row]
    bars, single = [], np.zeros(len(values), dtype=bool)
    for place, unit in enumerate(shown.tolist()):
        raises = place < len(shown) - min(LOWERING, len(values))
        if single[unit] or (values[unit] > 0) != raises or not values[unit]:
            continue
        single[unit] = True
        label = {"unit": unit, "called": names["title"].iloc[unit] or "no label", "linear": names["linear"].iloc[unit]}
        bars.append(_bar(f"unit {unit}", values[unit], **label, place=_picture(places[place])))
    for title, chosen in (("other named units", named & ~single), ("other units, without a name", ~named & ~single)):
        if chosen.any():
            bars.append(_bar(f"{chosen.sum():,} {title}", values[chosen].sum()))
    if tokens:
        bars.append(_bar("tokens without a place, as the class token", tokens))
    bars.append(_bar("the rest: biases after the layer", remainder))
    largest = max(abs(bar["value"]) for bar in bars) or 1.0
    for bar in bars:
        bar["width"] = 50 * abs(bar["value"]) / largest
        bar["left"] = 50 - bar["width"] * (bar["value"] < 0)
    return {
        "score": score,
        "units": float(values.sum()),
        "tokens": tokens,
        "remainder": remainder,
        "bars": bars,
    }


def _bar(title: str, value: float, **more: object) -> dict[str, object]:
    return {
        "title": title,
        "value": float(value),
        "unit": None,
        "called": "",
        "linear": "",
        "place": "",
        "best": "",
    } | more


def _picture(values: np.ndarray) -> str:
    """Draw contributions (h, w) as an overlay, the stronger the more opaque; nothing for a layer without positions."""
    if values.size < 2:
        return ""
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] > 0, RAISES, LOWERS)
    pixels[..., 3] = np.rint(230 * np.abs(values) / (np.abs(values).max() or 1))
    return data_uri(compressed(Image.fromarray(pixels), "png", optimize=True), "png")
