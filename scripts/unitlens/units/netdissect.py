"""Network Dissection: label every unit with the concept whose masks its strongest activations overlap most.

Bau et al., CVPR 2017. The intersection over union is summed over the images that are annotated with the concept's
category, as in the paper; NetDissect-Lite counts a unit's mask only where a pixel of the category lies inside it, so
its numbers differ. Thresholds are exact, tested against numpy's quantiles. Two passes over the images; of the maps,
only the largest activations are kept, 0.5 % of them. Where even these are too many, further passes count their bits.

A label is compared with the largest overlap of any concept where the label maps are given to other source images that
are annotated with the same categories (max-T, Westfall & Young 1993): so what it costs to choose among the concepts is
paid for. What a half's concept overlaps on the other half, beyond chance, is the held-out score.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unitlens.images.label_maps import label_maps, shown_often
from unitlens.jobs.progress import progress
from unitlens.networks.layer_outputs import as_grid
from unitlens.units import mask_chance
from unitlens.units.label_sets import shortfall
from unitlens.units.permutation import group_rows, halves

SHARE = 0.005  # of a unit's activations that lie above its threshold
DRAWS = 1000  # of label maps given to other source images
_HELD = 2**28  # most bytes that the search for thresholds holds
_BLOCK = 2**24  # most numbers of an enlarged map held at once


class Overlap(NamedTuple):
    """Pixels, summed over images, and where the concepts occur."""

    both: Tensor  # (units, concepts): in the unit's mask and the concept's
    unit: Tensor  # (units, categories): in the unit's mask, over the images annotated with the category
    concept: Tensor  # (concepts,): in the concept's mask


class Dissection(NamedTuple):
    """What the units of a layer overlap."""

    iou: np.ndarray  # (units, concepts), 0 for concepts that fewer than `FEWEST_SHOWING` source images show
    thresholds: np.ndarray  # (units,)
    shows: np.ndarray  # (images, concepts) bool: which concepts an image is annotated with
    halves: np.ndarray  # (2, units) the best concept on each half of the source images, -1 where there is none
    short: np.ndarray  # (2, units) how far the other half's concept overlaps less than a half's own, NaN for none
    held_out: np.ndarray  # (units,) overlap of a half's concept on the other half, less its chance; mean of both
    p_value: np.ndarray  # (units,) NaN where no concept overlaps
    p_floor: float  # the smallest that a p-value can be


def of_units(dissection: Dissection, part: slice) -> Dissection:
    """Give what some units of a layer overlap."""
    halves, short = dissection.halves[:, part], dissection.short[:, part]
    ious, limits, held_out, p = (
        each[part] for each in (dissection.iou, dissection.thresholds, dissection.held_out, dissection.p_value)
    )
    return Dissection(ious, limits, dissection.shows, halves, short, held_out, p, dissection.p_floor)


def dissect(
    forward: Callable[[np.ndarray], Tensor],
    blocks: Callable[[Sequence[str]], Iterable[Mapping[str, np.ndarray]]],
    *,
    values: np.ndarray,
    categories: np.ndarray,
    source: str,
    source_images: Sequence[str],
    share: float = SHARE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Dissection | None:
    """Dissect one layer of a network, whose output `forward` gives for uint8 images (n, h, w, 3).

    `blocks` starts anew to read arrays of the images by name, a few rows at a time: ``images``, and those that
    `label_maps` needs, as far as they are there; `source_images`, (images,), is what each was cut from. `values` and
    `categories`, (concepts,), are those of the label maps or the labels of boxes; the source is ``masks`` or ``boxes``.
    Halves and `draws` come from the seed. None for a layer without space, of outputs (n, units). ValueError if no unit
    is finite on every image, a value has no word, no concept is annotated often enough (`shown_often`), or there are
    fewer than three source images.
    """
    images = len(source_images)

    def maps(block: Mapping[str, np.ndarray]) -> Tensor:
        with torch.inference_mode():
            output = forward(block["images"])
            images = torch.from_numpy(block["images"]).movedim(3, 1)
            return output if output.ndim == 2 else as_grid(output, images, "this layer")

    if maps(next(iter(blocks(["images"])))).ndim == 2:
        return None
    through_blocks = partial(progress, total=images, what="images", size=lambda block: len(block["images"]))
    limits = thresholds(lambda: (maps(block) for block in through_blocks(blocks(["images"]))), images, share=share)
    category = torch.from_numpy(np.unique(categories, return_inverse=True)[1])
    sources, rngs = group_rows(source_images), [np.random.default_rng([seed, purpose]) for purpose in range(2)]
    second = np.isin(np.arange(images), halves(sources, rngs[0])[1])
    shows, grids, totals = [], [], [None, None]
    for block in through_blocks(blocks(["images", "label", "box", "mask"])):
        labels = label_maps(block, values, source=source)
        shows.append(_present(labels, len(values)))
        rows = shows[-1].any(1).nonzero()[0]
        if len(rows):  # all of the block are run: on a GPU every new size of a batch costs a search for kernels
            found, labels = maps(block)[rows], torch.from_numpy(labels[rows]).to(limits.device)
            rows += sum(map(len, shows[:-1]))
            for half in range(2):
                own = torch.from_numpy(second[rows] == half)
                totals[half] = overlaps([(found[own], labels[own])], limits, category, totals[half])
            side = mask_chance.grid_side(len(limits), images, share)
            grids.append(mask_chance.on_grid(found, labels, limits, rows, side))
    if not grids:
        raise ValueError(f"no image has {source}: give the sheet some, or take `netdissect` out of the config")
    shown = np.concatenate(shows)
    usable = shown_often(shown, source_images)
    ious = [np.where(usable, iou(each, category), 0) for each in (*totals, _sum(totals))]
    best = np.stack([np.where(each.max(1) > 0, each.argmax(1), -1) for each in ious])
    scores = [candidates(each) for each in ious[:2]]
    short = np.stack([shortfall(*each) for each in zip(scores, torch.from_numpy(best[[1, 0]]), strict=True)])
    grid, annotated = mask_chance.join(grids, images), mask_chance.annotated_categories(shown, category)
    held_out = mask_chance.held_out(grid, ious[:2], best[:2], category, shown, annotated, sources, second)
    p_value = mask_chance.p_values(grid, best[2], usable, category, annotated, sources, draws, rngs[1])
    return Dissection(ious[2], limits.cpu().numpy(), shown, best[:2], short, held_out, p_value, 1 / (1 + draws))


def thresholds(
    maps: Iterable[Tensor] | Callable[[], Iterable[Tensor]], images: int, *, share: float = SHARE, memory: int = _HELD
) -> Tensor:
    """Compute the value (units,) that a given share of a unit's activations exceeds, at all positions and images.

    The smallest activation that at most that share exceeds: exact, numpy's quantile of 1 - share by the method
    ``inverted_cdf``. NaN for units that are NaN or infinite somewhere; ValueError where all are, and where there are
    more or fewer than `images`.

    `maps` are batches (n, units, h, w) of all images, of one h and w, or a callable that starts them anew. Where the
    largest activations, that share of them, fit into `memory` (bytes, beside a batch), one pass finds the value. Else
    bits of all are counted, the highest first and as many at a time as fit: for float32 two passes with up to 512
    units, three with up to 131,072; an iterator cannot be read again.
    """
    start = maps if callable(maps) else lambda: maps
    largest, broken = None, set()
    for part in _checked(start(), images, broken):
        values = _by_unit(part)
        keep = int(share * images * part[0, 0].numel() * (1 + 1e-12)) + 1
        if keep * part.shape[1] * part.element_size() > memory:
            break
        values = values if largest is None else torch.cat([largest, values], dim=1)
        largest = values.topk(min(keep, values.shape[1]), dim=1).values
    else:
        return _without(broken, largest.amin(1))
    return _without(broken, _counted_thresholds(lambda: _checked(start(), images, broken), keep, memory))


def _checked(maps: Iterable[Tensor], images: int, broken: set[int]) -> Iterator[Tensor]:
    """Collect in `broken` the units that are not finite; refuse maps of such alone, and another number of images."""
    seen = 0
    for part in maps:
        if len(found := (~part.isfinite().flatten(2).all(2)).nonzero()):  # of row and unit
            broken.update(found[:, 1].tolist())
            if len(broken) == part.shape[1]:
                where = f"an activation of unit {found[0, 1]} at image row {seen + found[0, 0]} is NaN or infinite"
                raise ValueError(f"no unit is finite on every image: {where}")
        seen += len(part)
        yield part
    if seen != images:
        raise ValueError(f"`images` is {images}, but there were maps of {seen}")


def _without(broken: set[int], limits: Tensor) -> Tensor:
    return limits.index_fill(0, torch.tensor(sorted(broken), dtype=torch.int64, device=limits.device), torch.nan)


def _by_unit(part: Tensor) -> Tensor:
    return part.transpose(0, 1).flatten(1)  # (n, units, h, w) -> (units, n * h * w)


def _counted_thresholds(maps: Callable[[], Iterable[Tensor]], rank: int, memory: int) -> Tensor:
    """Find the activation of each unit that has `rank` - 1 larger ones, by counting its bits, the highest first."""
    kind, found, known, width = None, None, 0, 64
    while known < width:
        counts = None
        for part in maps():
            keys = _keys(_by_unit(part))  # (units, m)
            if counts is None:
                units, device, kind, width = len(keys), part.device, part.dtype, 8 * part.element_size()
                bits = min(max(int(math.log2(memory / (8 * units))), 1), width - known)
                counts = torch.zeros(units * 2**bits, dtype=torch.int64, device=device)
                found = torch.zeros(units, 1, dtype=torch.int64, device=device) if found is None else found
                if known == 0:
                    ranks = torch.full((units, 1), rank, device=device)
                lowest = (found << bits) if known else found - 2 ** (bits - 1)
            of_found = (keys >> (width - known) == found) if known else torch.ones_like(keys, dtype=torch.bool)
            place = (keys >> (width - known - bits)) - lowest + torch.arange(units, device=device)[:, None] * 2**bits
            one = torch.ones(1, dtype=torch.int64, device=device)
            counts.index_add_(0, place[of_found], one.expand(of_found.sum()))
        larger = counts.view(units, -1).flip(1).cumsum_(1)  # so many from the highest down to each
        step = (larger < ranks).sum(1, keepdim=True)  # places from the highest
        ranks = ranks - larger.gather(1, (step - 1).clamp(min=0)).masked_fill(step == 0, 0)
        found, known = lowest + larger.shape[1] - 1 - step, known + bits
    return _values(found[:, 0], kind)


def _keys(values: Tensor) -> Tensor:
    """Give whole numbers of as many bits as the floats have, in the same order."""
    whole = (values + 0.0).contiguous().view({4: torch.int32, 8: torch.int64}[values.element_size()])  # no minus zero
    return torch.where(whole < 0, whole ^ torch.iinfo(whole.dtype).max, whole).long()


def _values(keys: Tensor, kind: torch.dtype) -> Tensor:
    """Undo `_keys`."""
    whole = keys.to({torch.float32: torch.int32, torch.float64: torch.int64}[kind])
    return torch.where(whole < 0, whole ^ torch.iinfo(whole.dtype).max, whole).view(kind)


def overlaps(
    annotated: Iterable[tuple[Tensor, Tensor]], limits: Tensor, category: Tensor, total: Overlap | None = None
) -> Overlap | None:
    """Count the pixels that units and concepts share, and add them to a total; None where there is no image.

    Of maps (n, units, h, w) and label maps (n, layers, H, W) of the same images: 1 + the concept, 0 where there is
    none. An image may have several label maps, which may overlap; it is annotated with the categories, (concepts,), of
    the concepts that it shows. A unit's mask is where its map, enlarged bilinearly to the label maps, exceeds its
    limit, (units,).
    """
    for maps, labels in annotated:
        if total is None:
            zeros = partial(torch.zeros, dtype=torch.int64, device=maps.device)
            both, unit = zeros(len(limits), len(category)), zeros(len(limits), int(category.max()) + 1)
            total = Overlap(both, unit, zeros(len(category)))
        for one, layers in zip(maps, labels.to(maps.device), strict=True):
            _add(total, one, layers, limits, category.to(maps.device))
    return total


def _add(total: Overlap, maps: Tensor, layers: Tensor, limits: Tensor, category: Tensor) -> None:
    """Count one image: maps (units, h, w), label maps (layers, H, W)."""
    shown = layers.unique()
    shown = shown[shown > 0].long()
    if not len(shown):
        return
    concept = (layers == shown[:, None, None, None]).any(1).flatten(1)  # (shown, H * W)
    total.concept[shown - 1] += concept.sum(1)
    of = category[shown - 1].unique()
    # Enlarging never exceeds the maximum: the other units' masks are empty.
    active = (maps.amax((1, 2)) > limits).nonzero()[:, 0]
    columns = torch.cat([concept, torch.ones_like(concept[:1])]).float().T  # (H * W, shown + 1): the last counts all
    for units in active.split(max(1, _BLOCK // layers[0].numel())) if len(active) else ():
        mask = F.interpolate(maps[units][None], layers.shape[1:], mode="bilinear", align_corners=False)[0]
        mask = mask.gt_(limits[units, None, None]).flatten(1)  # (units, H * W), 1 or 0
        both, whole = (mask.to(columns) @ columns).long().split([len(shown), 1], dim=1)  # exact: below 2^24
        total.both[units[:, None], shown - 1] += both
        total.unit[units[:, None], of] += whole


def iou(overlap: Overlap, category: Tensor) -> np.ndarray:
    """Divide shared pixels by those of either mask, (units, concepts), 0 where neither has a pixel.

    `category`, (concepts,), is that of each concept.
    """
    either = overlap.unit[:, category.to(overlap.unit.device)] + overlap.concept - overlap.both
    return (overlap.both.double() / either.clamp_min(1)).cpu().numpy()


def candidates(ious: np.ndarray) -> Tensor:
    """Give overlaps (units, concepts) as scores: minus infinity for units that overlap no concept."""
    return torch.from_numpy(np.where(ious.any(1, keepdims=True), ious, -np.inf))


def _sum(parts: Sequence[Overlap]) -> Overlap:
    return Overlap(*(sum(counts) for counts in zip(*parts, strict=True)))


def _present(labels: np.ndarray, concepts: int) -> np.ndarray:
    """Tell which concepts each image shows, (n, concepts): by the first pixel of every run, a third of the time."""
    pixels, shown = labels.reshape(len(labels), -1), np.zeros((len(labels), concepts + 1), dtype=bool)
    for one, found in zip(pixels, shown, strict=True):
        found[one[0]] = True
        found[one[1:][one[1:] != one[:-1]]] = True
    return shown[:, 1:]
