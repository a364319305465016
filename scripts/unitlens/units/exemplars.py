"""What activates a unit most: its top images, its top source images and their maps."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from unitlens.jobs.progress import progress
from unitlens.networks.hooks import run_to
from unitlens.networks.layer_outputs import as_floating, as_grid, silenced

SOURCE_IMAGES = 5
_UNITS_AT_ONCE = 256
BLOCK_ELEMENTS = 2**24  # most numbers of an images x concepts block held at once: 64 MB in float32


def top_source_images(
    activations: np.ndarray,
    image_ids: Sequence[str],
    decoded_ids: Sequence[str],
    source_images: Sequence[str],
    *,
    k: int = SOURCE_IMAGES,
) -> dict[str, np.ndarray]:
    """Find the rows that activate each unit most, at most one of a source image: its crops would fill a unit's list.

    `activations` (rows, units) are an array or open dataset, read in blocks of units, of the rows `image_ids`; the
    decoded images, cut from `source_images`, must be those rows, or it is a ValueError. Gives ``row`` (units, k) int64,
    fewer where there are fewer source images, the most active first (of equal activations what comes first), -1 for
    dead units and for those that are not finite on every image; ``activation`` and ``image_id``, both (units, k), of
    those rows.
    """
    if list(image_ids) != list(decoded_ids):
        raise ValueError("activations and decoded images are not of the same images in the same order; run both again")
    _, first, source_image = np.unique(np.asarray(source_images, dtype=str), return_index=True, return_inverse=True)
    source_image = first.argsort().argsort()[source_image]  # (rows,): numbered in the order of appearance
    order = source_image.argsort(kind="stable")
    starts = np.searchsorted(source_image[order], np.arange(len(first)))
    parts = []
    for start in range(0, activations.shape[1], _UNITS_AT_ONCE):
        values = torch.as_tensor(activations[:, start : start + _UNITS_AT_ONCE])
        values = silenced(values).numpy()[order]  # (rows, units), by source image
        best = torch.from_numpy(np.maximum.reduceat(values, starts))  # (source_images, units)
        top = top_images(best, min(k, len(best))).numpy()  # (units, k)
        rows = np.stack([_best_rows(values[:, unit], order, starts, chosen) for unit, chosen in enumerate(top)])
        dead = dead_units(torch.from_numpy(values)).numpy()
        parts.append((np.where(dead[:, None], -1, rows), np.take_along_axis(best.numpy().T, top, 1)))
    rows, strongest = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {"row": rows, "activation": strongest, "image_id": np.append(image_ids, "").astype(object)[rows]}


def _best_rows(values: np.ndarray, order: np.ndarray, starts: np.ndarray, source_images: np.ndarray) -> list[int]:
    stops = np.append(starts[1:], len(order))
    return [order[starts[p] + values[starts[p] : stops[p]].argmax()] for p in source_images]


def activation_maps(
    model: nn.Module,
    layer: str,
    rows: np.ndarray,
    read: Callable[[np.ndarray], np.ndarray],
    normalize: Callable[[np.ndarray], Tensor],
    *,
    batch_size: int,
) -> dict[str, np.ndarray]:
    """Run a network to a layer on the rows that are wanted, each once, and keep the maps that are wanted.

    `rows` (units, k) are those of `top_source_images`; `read` gives uint8 images of ascending rows, `normalize` the
    network's input of those. Gives ``maps`` (units, k, h, w) uint8, 255 at the map's maximum and 0 where the activation
    is not positive, and ``peak`` (units, k) float32, that maximum, 0 where nothing is positive. A map whose maximum is
    NaN or infinite is 0. Empty for layers without space, of outputs (n, units). ValueError if the layer's output is not
    a spatial grid, or has another number of channels than there are units.
    """
    needed = np.unique(rows[rows >= 0])
    maps = peak = None
    batches = [needed[start : start + batch_size] for start in range(0, len(needed), batch_size)]
    for batch in progress(batches, len(needed), "source images"):
        with torch.inference_mode():
            images = normalize(read(batch))
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


def top_images(activations: Tensor, k: int) -> Tensor:
    """Give the `k` images that activate each unit most, of finite pooled activations (images, units).

    Rows of images, (units, k) int64, the most active first; of equal activations the lower row comes first. ValueError
    unless `k` is 1 to the number of images.
    """
    activations = checked_activations(activations)
    if not 1 <= k <= len(activations):
        raise ValueError(f"`k` is {k}; allowed: 1 to {len(activations)}, the number of images")
    unit_step = max(1, BLOCK_ELEMENTS // len(activations))
    return torch.cat([top_columns(block.T.contiguous(), k) for block in activations.split(unit_step, dim=1)])


def dead_units(activations: Tensor) -> Tensor:
    """Tell which units (units,) say nothing: the same activation, zero or other, on every image of (images, units)."""
    activations = checked_activations(activations)
    return activations.amax(0) == activations.amin(0)


def checked_activations(activations: Tensor) -> Tensor:
    """Give activations as a floating tensor; ValueError where they are not (images, units), or not finite."""
    activations = as_floating(activations)
    if activations.ndim != 2 or 0 in activations.shape:
        raise ValueError(f"`activations` must be (images, units), none of them 0, got {tuple(activations.shape)}")
    if not (finite := activations.isfinite()).all():
        row, unit = (~finite).nonzero()[0].tolist()
        value = activations[row, unit].item()
        raise ValueError(f"activation of unit {unit} is {value} at image row {row}; it must be finite")
    return activations


def top_columns(values: Tensor, k: int) -> Tensor:
    """Columns (rows, k) of the largest values of each row, descending; of equals, which `topk` shuffles, by index."""
    threshold = values.topk(k, dim=1).values[:, -1:]
    above = values > threshold
    tied = values == threshold
    missing = k - above.sum(1, keepdim=True)
    chosen = above | (tied & (tied.cumsum(1, dtype=torch.int32) <= missing))
    columns = chosen.nonzero()[:, 1].view(-1, k)  # (rows * k,) -> (rows, k), ascending
    order = values.gather(1, columns).argsort(dim=1, descending=True, stable=True)
    return columns.gather(1, order)
