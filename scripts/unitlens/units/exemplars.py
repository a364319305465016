"""What activates a unit most: its top images, its top source images and their maps."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unitlens.jobs.progress import progress
from unitlens.networks.layer_outputs import as_floating, extract, silenced

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
    fewer where there are fewer source images, the most active first (of equal activations the lower row), -1 for
    dead units and for those that are not finite on every image; ``activation`` and ``image_id``, both (units, k), of
    those rows.
    """
    if list(image_ids) != list(decoded_ids):
        raise ValueError("activations and decoded images are not of the same images in the same order; run both again")
    source_image = number_sources(source_images).numpy()
    order = source_image.argsort(kind="stable")
    starts = np.searchsorted(source_image[order], np.arange(source_image.max(initial=-1) + 1))
    parts = []
    for start in range(0, activations.shape[1], _UNITS_AT_ONCE):
        values = torch.as_tensor(activations[:, start : start + _UNITS_AT_ONCE])
        values = silenced(values).numpy()[order]  # (rows, units), by source image
        best = np.maximum.reduceat(values, starts)  # (source_images, units)
        at_best = np.where(values == best[source_image[order]], order[:, None], len(order))
        rows = np.minimum.reduceat(at_best, starts)  # (source_images, units), the first row of equals
        by_row = rows.argsort(0)
        rows, best = (np.take_along_axis(each, by_row, 0) for each in (rows, best))
        top = top_images(torch.from_numpy(best), min(k, len(best))).numpy()  # (units, k)
        rows, best = (np.take_along_axis(each.T, top, 1) for each in (rows, best))
        dead = dead_units(torch.from_numpy(values)).numpy()
        parts.append((np.where(dead[:, None], -1, rows), best))
    rows, strongest = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {"row": rows, "activation": strongest, "image_id": np.append(image_ids, "").astype(object)[rows]}


class Kept(NamedTuple):
    """What activates every unit most, of the images seen so far, each of another source image."""

    images: int  # seen
    row: Tensor  # (units, k) int64, -1 where there is none yet
    source: Tensor  # (units, k) int64, the number of the source image
    activation: Tensor  # (units, k), pooled, descending, minus infinity where there is none yet
    maps: Tensor | None  # (units, k, h, w) uint8, 255 at the map's maximum, 0 where the activation is not positive
    peak: Tensor  # (units, k) float32, that maximum, 0 where nothing is positive


def keep(kept: Kept | None, pooled: Tensor, maps: Tensor | None, sources: Tensor, *, k: int = SOURCE_IMAGES) -> Kept:
    """Keep the maps of what activates every unit most, of what was kept and of a batch more.

    `pooled` (n, units) and `maps` (n, units, h, w), None for a layer without space, are those of `extract`; `sources`,
    (images,) whole numbers from 0, tell from which source image each of all images was cut. What is kept is what
    `top_source_images` would choose of the same images, but of units that are dead. A map whose maximum is NaN or
    infinite is 0.
    """
    n, units = pooled.shape
    if kept is None:
        none = torch.full((units, k), -1, device=pooled.device)
        empty = None if maps is None else none.new_zeros((units, k, *maps.shape[2:]), dtype=torch.uint8)
        kept = Kept(0, none, none, pooled.new_full((units, k), -torch.inf), empty, none.new_zeros((units, k)).float())
    rows = torch.arange(kept.images, kept.images + n, device=pooled.device)
    sources = sources.to(pooled.device)[rows]
    row, source = (torch.cat([old, new.expand(units, n)], 1) for old, new in ((kept.row, rows), (kept.source, sources)))
    activation = torch.cat([kept.activation, pooled.T.masked_fill(~pooled.T.isfinite(), -torch.inf)], 1)
    place, left = torch.full_like(kept.row, -1), activation
    for rank in range(k):  # the first of equals is the lower row
        best = left.argmax(1, keepdim=True)  # (units, 1)
        place[:, rank] = best.masked_fill(left.gather(1, best) == -torch.inf, -1)[:, 0]
        left = left.masked_fill(source == source.gather(1, best), -torch.inf)
    none, place = place < 0, place.clamp_min(0)
    row, source = (each.gather(1, place).masked_fill(none, -1) for each in (row, source))
    activation = activation.gather(1, place).masked_fill(none, -torch.inf)
    unit = torch.arange(units, device=pooled.device)[:, None]
    old = unit, place.clamp_max(k - 1)
    peak = kept.peak[old].masked_fill(none, 0)
    if maps is not None:
        shown = kept.maps[old] * ~none[:, :, None, None]
        unit, rank = ((place >= k) & ~none).nonzero(as_tuple=True)
        picked = maps[place[unit, rank] - k, unit].clamp_min(0)  # (m, h, w)
        highest = picked.amax((1, 2))
        scaled = picked / highest.clamp_min(torch.finfo(highest.dtype).tiny)[:, None, None]
        shown[unit, rank], peak[unit, rank] = (scaled * 255).nan_to_num(0).round().to(torch.uint8), highest.float()
    return Kept(kept.images + n, row, source, activation, None if maps is None else shown, peak)


def number_sources(source_images: Sequence[str]) -> Tensor:
    """Give the source images that images were cut from, (images,) int64, numbers from 0, as `keep` takes them."""
    _, numbers = np.unique(np.asarray(source_images, dtype=str), return_inverse=True)
    return torch.from_numpy(numbers)


def as_arrays(kept: Kept | None, image_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Give what a file holds of what was kept of a shard: ``image_id`` (units, k), empty for none, ``maps, peak``."""
    if kept is None:  # of a shard without images
        return {"image_id": np.full((0, SOURCE_IMAGES), "", object)}
    arrays = {"image_id": np.append(image_ids, "").astype(object)[kept.row.cpu().numpy()]}
    return arrays if kept.maps is None else arrays | {"maps": kept.maps.cpu().numpy(), "peak": kept.peak.cpu().numpy()}


def with_maps(top: Mapping[str, np.ndarray], shards: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Add to the arrays of `top_source_images` the maps of these images, from what was kept of each shard.

    Gives ``maps`` (units, k, h, w) uint8 and ``peak`` (units, k) float32, as of `Kept`, 0 for units without images, in
    addition; nothing more for a layer without space. A ValueError if the shards are of other images.
    """
    maps = peak = None
    missing = top["row"] >= 0
    for shard in shards:
        if "maps" not in shard:
            continue
        if maps is None:
            maps = np.zeros((*missing.shape, *shard["maps"].shape[2:]), np.uint8)
            peak = np.zeros(missing.shape, np.float32)
        found = (top["image_id"][:, :, None] == shard["image_id"][:, None]) & missing[:, :, None]
        unit, place, at = found.nonzero()
        maps[unit, place], peak[unit, place] = shard["maps"][unit, at], shard["peak"][unit, at]
        missing[unit, place] = False
    if maps is None:
        return {**top}
    if missing.any():
        raise ValueError(f"{missing.sum()} maps of units are missing; extract the layer's activations again")
    return {**top, "maps": maps, "peak": peak}


def top_maps(
    forward: Callable[[np.ndarray], Tensor],
    blocks: Iterable[Mapping[str, np.ndarray]],
    image_ids: Sequence[str],
    source_images: Sequence[str],
    *,
    pooling: str = "avg",
) -> dict[str, np.ndarray]:
    """Find the top source images of every unit and their maps, in one pass over the ``images`` of blocks.

    `forward` and `pooling` are those of `extract`, `image_ids` and `source_images` (images,) of all blocks. Arrays and
    errors are those of `top_source_images` and `with_maps`.
    """
    kept, pooled, sources = None, [], number_sources(source_images)
    outputs = extract(forward, (block["images"] for block in blocks), pooling=pooling)
    for activations, maps in progress(outputs, len(image_ids), "images", size=lambda each: len(each[0])):
        pooled.append(activations.cpu())
        kept = keep(kept, activations, maps, sources)
    top = top_source_images(torch.cat(pooled).numpy(), image_ids, image_ids, source_images)
    return with_maps(top, [as_arrays(kept, image_ids)])


def top_images(activations: Tensor, k: int) -> Tensor:
    """Give the `k` images that activate each unit most, of finite pooled activations (images, units).

    Rows of images, (units, k) int64, the most active first; of equal activations the lower row comes first. ValueError
    unless `k` is 1 to the number of images.
    """
    activations = checked_activations(activations)
    if not 1 <= k <= len(activations):
        raise ValueError(f"`k` is {k}; allowed: 1 to {len(activations)}, the number of images")
    unit_step = max(1, BLOCK_ELEMENTS // 4 // len(activations))  # a quarter: `top_columns` holds what it compares
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


def row_blocks(values: Tensor) -> tuple[Tensor, ...]:
    """Split (rows, columns) into blocks of rows of at most `BLOCK_ELEMENTS` numbers, or of one row."""
    return values.split(max(1, BLOCK_ELEMENTS // max(1, values.shape[1])))


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
