"""Where in its top photographs a unit responds: maps of those photographs alone, and outlines of the strongest part.

The rest of a layer's maps is never kept: 63,305 photographs x 512 units x 7 x 7 are 1.6 GB, five of each unit 125 kB.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from skimage.measure import approximate_polygon, find_contours
from torch import Tensor, nn

from unitlens import dissect
from unitlens.activations import silenced
from unitlens.cam import as_grid
from unitlens.hooks import run_to
from unitlens.logs import progress

PHOTOGRAPHS = 5
LEVEL = 0.5  # of a map's maximum: where the outline runs
CANVAS = 128  # side of the square that outlines are drawn on
_UNITS_AT_ONCE = 256
_FINE = 64  # side to which a map is enlarged before it is cut
_MOST_PARTS = 12  # of a region; the largest are kept


def top_photographs(
    activations: np.ndarray,
    image_ids: Sequence[str],
    decoded_ids: Sequence[str],
    photographs: Sequence[str],
    *,
    k: int = PHOTOGRAPHS,
) -> dict[str, np.ndarray]:
    """Find the rows that activate each unit most, at most one row of a photograph.

    Crops of one photograph would otherwise fill a unit's list.

    Parameters
    ----------
    activations : array or open dataset, shape (rows, units)
        Pooled activations; read in blocks of units.
    image_ids : sequence of str
        Of the rows of `activations`.
    decoded_ids, photographs : sequence of str
        Of the decoded pictures, which must be those rows: their ids, and the photograph that each was cut from.
    k : int
        How many photographs; fewer where there are not so many.

    Returns
    -------
    dict
        ``row`` (units, k) int64, the most active first (of equal activations what comes first), -1 for dead units and
        for those that are not finite on every image;
        ``activation`` (units, k) and ``image_id`` (units, k) of those rows.

    Raises
    ------
    ValueError
        If the decoded pictures are not those of the activations.
    """
    if list(image_ids) != list(decoded_ids):
        raise ValueError(
            "activations and decoded pictures are not of the same images in the same order; run both again"
        )
    _, first, photograph = np.unique(np.asarray(photographs, dtype=str), return_index=True, return_inverse=True)
    photograph = first.argsort().argsort()[photograph]  # (rows,): numbered in the order of appearance
    order = photograph.argsort(kind="stable")
    starts = np.searchsorted(photograph[order], np.arange(len(first)))
    parts = []
    for start in range(0, activations.shape[1], _UNITS_AT_ONCE):
        values = torch.as_tensor(activations[:, start : start + _UNITS_AT_ONCE])
        values = silenced(values).numpy()[order]  # (rows, units), by photograph
        best = torch.from_numpy(np.maximum.reduceat(values, starts))  # (photographs, units)
        top = dissect.top_images(best, min(k, len(best))).numpy()  # (units, k)
        rows = np.stack([_best_rows(values[:, unit], order, starts, chosen) for unit, chosen in enumerate(top)])
        dead = dissect.dead_units(torch.from_numpy(values)).numpy()
        parts.append((np.where(dead[:, None], -1, rows), np.take_along_axis(best.numpy().T, top, 1)))
    rows, strongest = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {"row": rows, "activation": strongest, "image_id": np.append(image_ids, "").astype(object)[rows]}


def _best_rows(values: np.ndarray, order: np.ndarray, starts: np.ndarray, photographs: np.ndarray) -> list[int]:
    stops = np.append(starts[1:], len(order))
    return [order[starts[p] + values[starts[p] : stops[p]].argmax()] for p in photographs]


def activation_maps(
    model: nn.Module,
    layer: str,
    rows: np.ndarray,
    read: Callable[[np.ndarray], np.ndarray],
    normalise: Callable[[np.ndarray], Tensor],
    *,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Run a network to a layer on the rows that are wanted, each once, and keep the maps that are wanted.

    Parameters
    ----------
    model, layer
        The network, on its device, and the dotted name of the layer.
    rows : (units, k) int array
        Rows of each unit, as `top_photographs` gives them; -1 is none.
    read : callable
        From ascending rows to uint8 pictures (n, h, w, 3).
    normalise : callable
        From those to the network's input.
    batch_size : int
        Pictures on the device at once.

    Returns
    -------
    dict
        ``maps`` (units, k, h, w) uint8, 255 at the map's maximum and 0 where the activation is not positive, and
        ``peak`` (units, k) float32, that maximum, 0 where nothing is positive. A map whose maximum is NaN or infinite
        is 0. Empty for layers without space, of outputs (n, units).

    Raises
    ------
    ValueError
        If the layer's output is not a spatial grid, or has another number of channels than there are units.
    """
    needed = np.unique(rows[rows >= 0])
    maps = peak = None
    batches = [needed[start : start + batch_size] for start in range(0, len(needed), batch_size)]
    for batch in progress(batches, len(needed), "photographs"):
        with torch.inference_mode():
            images = normalise(read(batch))
            output = run_to(model, layer, images)
            if output.ndim == 2:
                return {}
            output = as_grid(output, images, layer)
            if output.shape[1] != len(rows):
                raise ValueError(f"layer {layer!r} has {output.shape[1]} channels, but {len(rows)} units were pooled")
            if maps is None:
                maps = np.zeros((*rows.shape, *output.shape[2:]), np.uint8)
                peak = np.zeros(rows.shape, np.float32)
            unit, place = np.isin(rows, batch).nonzero()
            picked = output[np.searchsorted(batch, rows[unit, place]), unit].clamp_min(0)  # (m, h, w)
            highest = picked.amax((1, 2))
            scaled = picked / highest.clamp_min(torch.finfo(highest.dtype).tiny)[:, None, None]
            maps[unit, place] = (scaled * 255).nan_to_num(0).round().to(torch.uint8).cpu().numpy()
            peak[unit, place] = highest.cpu().numpy()
    return {} if maps is None else {"maps": maps, "peak": peak}


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
