"""Render templates: into sentences, and into pages that hold all they need.

Images and outlines are embedded, nothing is loaded.
"""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import skimage
from jinja2.environment import TemplateModule
from markupsafe import Markup, escape
from PIL import Image

from unitlens.jobs.characters import visible
from unitlens.report import text
from unitlens.tables import unit_labels

LARGEST_REPORT_PAGE = 1_500_000  # bytes; in base64 it stays below 2 MB, the longest address of a frame in Chromium
LARGEST_PNG = 500_000  # bytes; larger ones show source images, and are embedded as JPEG
LEVEL = 0.5  # of a map's maximum: where the outline runs
CANVAS = 128  # side of the square that outlines are drawn on
_FINE = 64  # side to which a map is enlarged before it is cut
_MOST_PARTS = 12  # of a region; the largest are kept
_DEVIATION = 0.35  # about how far a point of the outline may lie off the polygon, as `_FINE` counts
_TEMPLATES = Path(__file__).parent / "templates"
_TAG = re.compile(r"\{%((?!%\}).)*%\}")  # matched with a whole line
_FILTERS = (  # how templates write numbers and names
    *(
        text.samples_of_maps,
        text.thousands,
        text.counted,
        text.plural,
        text.decimals,
        text.percent,
        text.percents,
        text.points,
    ),
    *(text.in_seconds, text.estimate, text.mean_estimate, text.p_value),
    *(text.explainer_title, text.pair_title, text.listed, visible),
)


def write_page(path: str | Path, template: str, page: Mapping[str, object]) -> None:
    """Write a page from a template."""
    Path(path).write_text(render(template, page), encoding="utf-8")


def render(template: str, page: Mapping[str, object]) -> str:
    """Fill the template of a page."""
    environment = _environment(autoescape=True, finalize=_show, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(page)


def write_text(path: str | Path, template: str, page: Mapping[str, object]) -> None:
    """Write reStructuredText from a template; no character of what is filled in is taken for markup."""
    environment = _environment(finalize=_plain, trim_blocks=True, lstrip_blocks=True)
    Path(path).write_text(environment.get_template(template).render(page), encoding="utf-8")


def say(sentence: str, /, **values: object) -> list[str]:
    """Fill a sentence, or several, of a template in templates/findings.

    There a line break is a space (except before punctuation) and a blank line ends a sentence, as in Markdown; a line
    that holds nothing but a tag vanishes with its line break.

    Parameters
    ----------
    sentence : str
        Template and macro, for instance ``networks.trend``.
    **values
        Arguments of the macro.

    Returns
    -------
    list of str
        None, where the macro leaves everything out. The first is a `Finding` where templates/findings/verdicts.j2 has a
        verdict of the same name.
    """
    topic, macro = sentence.split(".")
    said = _lines(getattr(_sentences(topic), macro)(**values))
    verdict = getattr(_sentences("verdicts"), f"{topic}_{macro}", None)
    if said and verdict:
        said[0] = Finding(said[0])
        said[0].verdict = " ".join(_lines(verdict(**values)))
    return said


class Finding(str):
    """A sentence, and the verdict that stands in bold before it."""

    verdict = ""


def marked(sentences: Sequence[str]) -> list[str]:
    """Put verdicts before their sentences, between ``**``."""
    return [f"**{said.verdict}** {said}" if getattr(said, "verdict", "") else str(said) for said in sentences]


def finding(sentence: str) -> Markup:
    """Write a sentence of `marked` as HTML: its verdict in bold, its numbers, and folded what follows, as tests."""
    verdict, text = re.fullmatch(r"(?:\*\*(.+?)\*\* )?(.*)", str(_show(sentence)), re.DOTALL).groups()
    if not verdict:
        return escape(text)
    named = verdict.partition(": ")[0]
    for about in (f"{named}: ", f"{named.partition(', ')[0]}: "):  # of what the verdict has said
        if text.startswith(about):
            text = text[len(about) :][:1].upper() + text[len(about) + 1 :]
            break
    numbers, _, tests = text.partition(next(iter(re.findall(r"\. (?=[A-Z0-9])", text)), "\n"))
    shown = Markup("<strong>{}</strong> {}").format(verdict, f"{numbers}." if tests else numbers)
    folded = Markup("<details><summary>More numbers and tests</summary>{}</details>").format(tests)
    return shown + " " + folded if tests else shown


def _lines(text: str) -> list[str]:
    return [line.strip(" ") for line in text.split("\n") if line.strip(" ")]


@cache
def _sentences(topic: str) -> TemplateModule:
    source = (_TEMPLATES / "findings" / f"{topic}.j2").read_text(encoding="utf-8")
    return _environment().from_string(_join_lines(source)).module


def _join_lines(source: str) -> str:
    """Make line breaks of a template mean what `say` promises."""
    joined = []
    for line in map(str.strip, source.splitlines()):
        if not line:
            joined.append("\n")
        else:
            joined.append(line if _TAG.fullmatch(line) or line[0] in ".,;:)" else f" {line}")
    return "".join(joined)


def _environment(**options: object) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), undefined=jinja2.StrictUndefined, **options
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {write.__name__: write for write in _FILTERS}
    environment.filters["finding"] = finding
    environment.filters["anchor"] = lambda title: title.lower().replace(" ", "-")
    environment.tests["known"] = pd.notna
    environment.globals |= {"SIGNIFICANT": text.SIGNIFICANT, "ANNOTATIONS": unit_labels.ANNOTATIONS}
    return environment


def write_findings(path: str | Path, sentences: Sequence[str]) -> None:
    """Keep sentences for a section of the overview, and print them."""
    said = marked(sentences)
    Path(path).write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(*said, sep="\n")


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
            kind, content = "jpeg", compressed(image.convert("RGB"), "jpeg", quality=88)
    return {"uri": Markup(data_uri(content, kind)), "width": round(width)}


def compressed(image: Image.Image, kind: str, **options: object) -> bytes:
    """Encode an image as ``jpeg``, ``png`` or ``webp``, with options of `Image.save`."""
    buffer = io.BytesIO()
    image.save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def data_uri(content: bytes, kind: str) -> str:
    """Write the content of an image's file as an address that holds it; `kind` is what follows ``image/``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _show(value: object) -> object:
    """Show hidden characters, and keep a percent sign on the line of its number, as in ``n = 10`` and ``p < 0.05``."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    shown = visible(value, keep="\n").replace(" %", "\u00a0%")
    return re.sub(r"\b([npq]) ([=<≤]) (?=\d)", "\\1\u00a0\\2\u00a0", shown)


def _plain(value: object) -> str:
    """Show hidden characters and line breaks, and put a backslash before every character that could be markup."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", visible(str(value)))


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
        As `activation_maps` gives it; it is enlarged bilinearly to the image.

    Returns
    -------
    str
        Closed polygons (holes among them, to be filled by the even-odd rule), at most 12, the largest; empty where the
        map is zero.
    """
    if not activation_map.any():
        return ""
    level = LEVEL * activation_map.max()
    padded = np.pad(_enlarged(activation_map), 1)  # zeros around close what runs into the edge
    found = skimage.measure.find_contours(padded, level)
    contours = [(contour - 0.5).clip(0, _FINE) for contour in found]  # pixel centers lie at .5
    polygons = [_polygon(contour) for contour in sorted(contours, key=_doubled_area, reverse=True)[:_MOST_PARTS]]
    return "".join(polygons)


def _enlarged(values: np.ndarray) -> np.ndarray:
    """Bring a map (h, w) to a side of `_FINE`, float32, as torch's bilinear `interpolate` does, to the last bit."""
    values = values.astype(np.float32)
    (upper, lower, up, down), (left, right, near, far) = map(_neighbors, values.shape)
    rows = [values[place][:, left] * near + values[place][:, right] * far for place in (upper, lower)]
    return rows[0] * up[:, None] + rows[1] * down[:, None]


def _neighbors(side: int) -> tuple[np.ndarray, ...]:
    """Give the two places in a side that each place of `_FINE` lies between, and their weights, (64,) each."""
    place = (np.arange(_FINE, dtype=np.float32) + 0.5) * np.float32(side / _FINE) - 0.5
    place = place.clip(0)
    first = place.astype(np.int64)
    share = place - first.astype(np.float32)
    return first, np.minimum(first + 1, side - 1), 1 - share, share


def _polygon(contour: np.ndarray) -> str:
    import cv2  # here: only one page has outlines

    corners = cv2.approxPolyDP(contour[:-1, None].astype(np.float32), _DEVIATION, closed=True)[:, 0]
    corners = np.rint(corners * (CANVAS / _FINE)).astype(int)  # (n, 2): y, x
    return "M" + " ".join(f"{x} {y}" for y, x in corners) + "Z" if len(corners) > 2 else ""


def _doubled_area(contour: np.ndarray) -> float:
    y, x = contour.T
    return abs(y[1:] @ x[:-1] - x[1:] @ y[:-1])  # it is closed: the first point is the last one, too
