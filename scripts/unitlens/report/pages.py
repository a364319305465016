"""Render templates into pages that hold all they need: pictures and outlines are embedded, nothing is loaded."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
import torch
import torch.nn.functional as F
from markupsafe import Markup
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from unitlens.jobs.characters import visible

LARGEST_REPORT_PAGE = 1_500_000  # bytes; in base64 it stays below 2 MB, the longest address of a frame in Chromium
LARGEST_PNG = 500_000  # bytes; larger ones are photographs, and embedded as JPEG
LEVEL = 0.5  # of a map's maximum: where the outline runs
CANVAS = 128  # side of the square that outlines are drawn on
_FINE = 64  # side to which a map is enlarged before it is cut
_MOST_PARTS = 12  # of a region; the largest are kept


def write_page(path: str | Path, template: str, page: Mapping[str, object]) -> None:
    """Write a page from a template."""
    Path(path).write_text(render(template, page), encoding="utf-8")


def render(template: str, page: Mapping[str, object]) -> str:
    """Fill a template."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = lambda title: title.lower().replace(" ", "-")
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["visible"] = visible
    return environment.get_template(template).render(page)


def write_findings(path: str | Path, sentences: Sequence[str]) -> None:
    """Keep sentences for a section of the overview, and print them."""
    Path(path).write_text(json.dumps(sentences, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(*sentences, sep="\n")


def embed(path: str | Path) -> dict[str, object]:
    """Encode a figure as a data URI, with its width in CSS pixels at its natural size."""
    path = Path(path)
    content = path.read_bytes()
    if path.suffix == ".svg":
        points = re.search(rb'<svg[^>]*?\bwidth="([\d.]+)pt"', content)[1]
        kind, width = "svg+xml", float(points) * 96 / 72
    else:
        image = Image.open(io.BytesIO(content))
        kind, width = "png", image.width * 96 / image.info["dpi"][0]
        if len(content) > LARGEST_PNG:
            kind, buffer = "jpeg", io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=88)
            content = buffer.getvalue()
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"uri": Markup(uri), "width": round(width)}


# ---- words


def _show(value: object) -> object:
    """Show hidden characters, and keep a percent sign on the line of its number, as in ``n = 10`` and ``p < 0.05``."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = visible(value, keep="\n")
    return re.sub(r"\b([npq]) ([=<≤]) (?=\d)", "\\1\u00a0\\2\u00a0", text.replace(" %", "\u00a0%"))


def visible_data(data: object) -> object:
    """Show the hidden characters in all texts of what a page holds as JSON."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {key: visible_data(value) for key, value in data.items()}
    return [visible_data(value) for value in data] if isinstance(data, list) else data


def outline(activation_map: np.ndarray) -> str:
    """Outline the part of a map that exceeds half its maximum, as an SVG path on a square of side `CANVAS`.

    Parameters
    ----------
    activation_map : (h, w) uint8 array
        As `activation_maps` gives it; it is enlarged bilinearly to the photograph.

    Returns
    -------
    str
        Closed polygons (holes among them, to be filled by the even-odd rule), at most 12, the largest; empty where the
        map is zero.
    """
    if not activation_map.any():
        return ""
    level = LEVEL * activation_map.max()
    fine = F.interpolate(torch.tensor(activation_map, dtype=torch.float32)[None, None], (_FINE, _FINE), mode="bilinear")
    padded = np.pad(fine[0, 0].numpy(), 1)  # zeros around close what runs into the edge
    contours = [(contour - 0.5).clip(0, _FINE) for contour in find_contours(padded, level)]  # pixel centres lie at .5
    polygons = [_polygon(contour) for contour in sorted(contours, key=_area, reverse=True)[:_MOST_PARTS]]
    return "".join(polygons)


def _polygon(contour: np.ndarray) -> str:
    corners = np.rint(approximate_polygon(contour, 0.35)[:-1] * (CANVAS / _FINE)).astype(int)  # (n, 2): y, x
    return "M" + " ".join(f"{x} {y}" for y, x in corners) + "Z" if len(corners) > 2 else ""


def _area(contour: np.ndarray) -> float:
    y, x = contour.T
    return abs(y @ np.roll(x, 1) - x @ np.roll(y, 1)) / 2
