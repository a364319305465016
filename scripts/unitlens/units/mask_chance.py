"""What units overlap by chance: label maps are given to other source images, annotated with the same categories.

Overlaps are counted at the points of a grid. A unit's overlap with its concept is compared with the largest overlap of
any concept under the exchange (max-T, Westfall & Young 1993); on images that did not choose the concept, with what is
expected of it.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unitlens.jobs.progress import each
from unitlens.units.held_out import mean_of_known
from unitlens.units.permutation import SourceImages, shuffle

_POINTS, _FEWEST_POINTS = 28, 7  # a side of the grid
_PAIRS = 2**24  # about as many points in units' masks are held, if the grid is not finer than its fewest points


class Grid(NamedTuple):
    """Units' masks and label maps at the points of a grid; the masks as a list of points."""

    unit: Tensor  # (m,) int32, of each point in a unit's mask
    row: Tensor  # (m,) int32, the image
    point: Tensor  # (m,) int32, the number of the point in it
    labels: Tensor  # (layers, images, points) int32: 1 + the concept, each once a point, 0 where there is none


def grid_side(units: int, images: int, share: float) -> int:
    """Choose the points a side of the grid: so many that the points in masks are about `_PAIRS`, and at most 28."""
    return min(_POINTS, max(_FEWEST_POINTS, math.isqrt(int(_PAIRS / (units * images * share)))))


def on_grid(
    maps: Tensor, labels: Tensor, limits: Tensor, rows: np.ndarray, points: int
) -> tuple[Tensor, np.ndarray, Tensor]:
    """Find which points of a grid lie in units' masks, (3, m), and the concepts there, (n, layers, points)."""
    pixels = []  # of the points, down and across
    for side in labels.shape[2:]:
        count = min(points, side)
        pixels.append((2 * torch.arange(count, device=maps.device) + 1) * side // (2 * count))
    marked = labels[:, :, pixels[0]][:, :, :, pixels[1]].flatten(2).int()
    for layer in range(1, marked.shape[1]):
        marked[:, layer][(marked[:, :layer] == marked[:, layer, None]).any(1)] = 0
    y, x = ((2 * at + 1) / side - 1 for at, side in zip(pixels, labels.shape[2:], strict=True))
    grid = torch.stack(torch.broadcast_tensors(x, y[:, None]), 2)[None].to(maps.dtype)  # (1, h, w, 2)
    found = [torch.empty(3, 0, dtype=torch.int32, device=maps.device)]
    for row, one in zip(rows.tolist(), maps, strict=True):
        active = (one.amax((1, 2)) > limits).nonzero()[:, 0]
        values = F.grid_sample(one[active][None], grid, padding_mode="border", align_corners=False)[0].flatten(1)
        unit, point = (values > limits[active, None]).nonzero(as_tuple=True)
        found.append(torch.stack([active[unit], torch.full_like(unit, row), point]).int())
    return torch.cat(found, 1), rows, marked


def join(parts: Sequence[tuple[Tensor, np.ndarray, Tensor]], images: int) -> Grid:
    """Put what `on_grid` finds in parts of so many images together."""
    layers, points = max(marked.shape[1] for *_, marked in parts), parts[0][2].shape[2]
    labels = parts[0][2].new_zeros(layers, images, points)
    for _, rows, marked in parts:
        labels[: marked.shape[1], rows] = marked.transpose(0, 1)
    return Grid(*torch.cat([found for found, *_ in parts], 1), labels)


def annotated_categories(shown: np.ndarray, category: Tensor) -> np.ndarray:
    """Tell with which categories images are annotated, (images, categories), that show concepts (images, concepts)."""
    of_concept = category.numpy()
    return np.stack([shown[:, of_concept == each].any(1) for each in range(of_concept.max() + 1)], 1)


def _kinds(annotated: np.ndarray, sources: SourceImages) -> np.ndarray:
    """Tell source images, (source_images,), apart by the categories with which their rows are annotated."""
    rows_of = np.split(sources.rows, sources.start[1:])
    return np.unique([hashlib.sha256(annotated[rows].tobytes()).digest() for rows in rows_of], return_inverse=True)[1]


def held_out(
    grid: Grid,
    ious: Sequence[np.ndarray],
    best: np.ndarray,
    category: Tensor,
    shown: np.ndarray,
    annotated: np.ndarray,
    sources: SourceImages,
    second: np.ndarray,
) -> np.ndarray:
    """Give the overlap of each half's concept on the other half, less its chance, (units,): the mean of both ways.

    `ious` (units, concepts) are those of the halves, `best` (2, units) their concepts, `second` (images,) says which
    images are of the second. Chance is the overlap of the expected pixels if the half's source images exchanged their
    label maps as in `p_values`. NaN for units without a concept, or whose concept the other half does not show.
    """
    device, points, units = grid.labels.device, grid.labels.shape[2], best.shape[1]
    kind = np.stack([second, _kinds(annotated, sources)[sources.number], sources.place])
    group = np.unique(kind, axis=1, return_inverse=True)[1].ravel()  # rows that may change places
    size = np.bincount(group)
    order = torch.from_numpy(group).to(device)[grid.row.long()].argsort(stable=True)
    counts = np.bincount(group[grid.row.cpu().numpy()], minlength=len(size)).tolist()
    place = (grid.unit.long() * points + grid.point)[order].split(counts)
    alike = np.split(group.argsort(kind="stable"), size.cumsum()[:-1])
    chosen = torch.from_numpy(best[[1, 0]].copy()).to(device)  # by the other half
    both, either = (torch.zeros(2, units, dtype=torch.float64, device=device) for _ in range(2))
    of_category = torch.from_numpy(np.append(category.numpy(), 0)).to(device)  # -1, no concept, is the last
    for rows, at in zip(alike, place, strict=True):
        half = int(second[rows[0]])
        marks = grid.labels[:, rows].long() * points + torch.arange(points, device=device)
        marks = marks.flatten().bincount(minlength=(len(category) + 1) * points).view(-1, points)
        masks = at.bincount(minlength=units * points).view(-1, points)
        own = marks[chosen[half] + 1]
        both[half] += (masks * own).sum(1) / len(rows)
        of = torch.from_numpy(annotated[rows[0]]).to(device)[of_category[chosen[half]]]
        either[half] += own.sum(1) + masks.sum(1) * of
    chance = (both / (either - both).clamp_min(1)).cpu().numpy()
    found = np.stack([of_half[np.arange(units), concept] for of_half, concept in zip(ious, best[[1, 0]], strict=True)])
    there = np.stack([shown[second == half].any(0)[best[1 - half]] for half in range(2)])
    return mean_of_known(np.where((best[[1, 0]] >= 0) & there, found - chance, np.nan))


def p_values(
    grid: Grid,
    best: np.ndarray,
    usable: np.ndarray,
    category: Tensor,
    annotated: np.ndarray,
    sources: SourceImages,
    draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Compare the overlap of each unit with its best concept, (units,), -1 for none, with the largest under the null.

    `usable` are the concepts, (concepts,), that compete; `annotated` is of `annotated_categories`. Source images
    exchange their label maps with others whose rows are annotated with the same categories, so that only what is shared
    can change. Gives p-values (units,).
    """
    device, concepts = grid.labels.device, len(usable)
    kinds = _kinds(annotated, sources)
    unit, row, step, points = grid.unit.long(), grid.row.long(), concepts + 1, grid.labels.shape[2]
    of_category = torch.from_numpy(annotated).to(device)
    in_mask = torch.stack([unit[column[row]].bincount(minlength=len(best)) for column in of_category.T], 1)
    in_concept = grid.labels.flatten().bincount(minlength=step)[1:]
    either = in_mask[:, category.to(device)] + in_concept
    usable = torch.from_numpy(usable).to(device)
    place, first = (row * points + grid.point).int(), (unit * step).int()  # of each point, in label maps and in pairs

    def overlap(target: np.ndarray) -> Tensor:
        source = torch.from_numpy(target).to(device)
        pairs = (layer[source].flatten().index_select(0, place).add_(first) for layer in grid.labels)
        shared = sum(own.bincount(minlength=len(best) * step) for own in pairs)
        both = shared.view(-1, step)[:, 1:]
        return both.double() / (either - both).clamp_min(1) * usable

    chosen = torch.from_numpy(best).to(device)
    observed = overlap(np.arange(len(annotated))).gather(1, chosen.clamp_min(0)[:, None])[:, 0]
    reached = torch.zeros(len(best), dtype=torch.int64, device=device)
    for _ in each(range(draws), "exchanges of label maps"):
        reached += overlap(shuffle(sources, rng, kinds=kinds)).amax(1) >= observed
    return np.where(best < 0, np.nan, (1 + reached.cpu().numpy()) / (1 + draws))
