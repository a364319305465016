"""Network Dissection: label every unit with the concept whose masks its strongest activations overlap most.

Bau et al., CVPR 2017. The intersection over union is summed over the images that are annotated with the concept's
category, as in the paper; NetDissect-Lite counts a unit's mask only where a pixel of the category lies inside it, so
its numbers differ. Thresholds are exact, tested against numpy's quantiles. Two passes over the images; of the maps,
only the largest activations are kept, 0.5 % of them. Where even these are too many, further passes count their bits.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitlens import stats, wording
from unitlens.cam import as_grid
from unitlens.hooks import run_to
from unitlens.image_sets import _some
from unitlens.images import box_pixels
from unitlens.logs import progress

SHARE = 0.005  # of a unit's activations that lie above its threshold
DETECTOR = 0.04  # intersection over union from which on a unit is a detector
SOURCES = {"masks": "masks", "boxes": "boxes, so coarse"}
COLUMNS = [
    "unit",
    "threshold",
    "mask_concept",
    "mask_category",
    "iou",
    "second_mask_concept",
    "second_iou",
    "detector",
    "mask_images",
    "mask_photographs",
    "masks",
]
_HELD = 2**28  # most bytes that the search for thresholds holds
_BLOCK = 2**24  # most numbers of an enlarged map held at once


class Overlap(NamedTuple):
    """Pixels, summed over images, and where the concepts occur."""

    both: Tensor  # (units, concepts): in the unit's mask and the concept's
    unit: Tensor  # (units, categories): in the unit's mask, over the images annotated with the category
    concept: Tensor  # (concepts,): in the concept's mask


def dissect(
    model: nn.Module,
    layer: str,
    normalise: Callable[[np.ndarray], Tensor],
    blocks: Callable[[], Iterable[Mapping[str, np.ndarray]]],
    *,
    words: pd.DataFrame,
    source: str,
    photographs: np.ndarray,
    share: float = SHARE,
    detector: float = DETECTOR,
) -> pd.DataFrame:
    """Dissect one layer of a network.

    Parameters
    ----------
    model, layer
        The network, on its device, and the dotted name of the layer.
    normalise : callable
        From uint8 pictures (n, h, w, 3) to the network's input.
    blocks : callable
        Starts anew to read the probe set, a few rows at a time: ``images``, and what `label_maps` needs.
    words : pandas.DataFrame
        ``value, word, category``: what the values of the label maps (or the labels of boxes) mean.
    source : str
        ``masks`` or ``boxes``.
    photographs : array, shape (images,)
        What each image was cut from.
    share, detector : float
        As `SHARE` and `DETECTOR`.

    Returns
    -------
    pandas.DataFrame
        A row a unit: ``unit, threshold, mask_concept, mask_category, iou, second_mask_concept, second_iou, detector,
        mask_images, mask_photographs`` (how many show the concept)``, masks`` (what they are). A unit that overlaps no
        mask has no concept and an IoU of 0; one that is NaN or infinite somewhere has no concept, and its threshold and
        IoU are NaN. A layer without space, of outputs (n, units), gives no row.

    Raises
    ------
    ValueError
        If no unit is finite on every image, a value has no word, or nothing is annotated.
    """

    def maps(block: Mapping[str, np.ndarray]) -> Tensor:
        with torch.inference_mode():
            images = normalise(block["images"])
            output = run_to(model, layer, images)
            return output if output.ndim == 2 else as_grid(output, images, layer)

    if maps(next(iter(blocks()))).ndim == 2:
        return pd.DataFrame(columns=COLUMNS)
    n = len(photographs)
    through_blocks = partial(progress, total=n, what="images", size=lambda block: len(block["images"]))
    limits = thresholds(lambda: (maps(block) for block in through_blocks(blocks())), n, share=share)
    shows: list[np.ndarray] = []

    def annotated() -> Iterator[tuple[Tensor, Tensor]]:
        for block in through_blocks(blocks()):
            labels = label_maps(block, words.value.to_numpy(), source=source)
            shows.append(_present(labels, len(words)))
            rows = shows[-1].any(1).nonzero()[0]
            if len(rows):  # all of the block are run: on a GPU every new size of a batch costs a search for kernels
                yield maps(block)[rows], torch.from_numpy(labels[rows])

    category = torch.from_numpy(np.unique(words.category, return_inverse=True)[1])
    overlap = overlaps(annotated(), limits, category)
    if overlap is None:
        raise ValueError(
            f"no image of the probe set has {source}: give its sheet some, or take `netdissect` out of the config"
        )
    table = _tabulate(iou(overlap, category), limits, words, np.concatenate(shows), photographs)
    return table.assign(detector=table.iou >= detector, masks=SOURCES[source])[COLUMNS]


def thresholds(
    maps: Iterable[Tensor] | Callable[[], Iterable[Tensor]], images: int, *, share: float = SHARE, memory: int = _HELD
) -> Tensor:
    """Compute the value of each unit that a given share of its activations exceeds, over all positions and images.

    Parameters
    ----------
    maps : iterable of Tensor, shape (n, units, h, w), or callable
        All images, a batch at a time; h and w stay the same. A callable starts anew; of an iterator, which cannot be
        read again, the largest activations must fit into `memory`.
    images : int
        How many images there are in all.
    share : float
        Of the ``images * h * w`` activations.
    memory : int
        Bytes to hold beside a batch. Where the largest activations, that share of them, fit, one pass finds the value.
        Else bits of all are counted, the highest first and as many at a time as fit: for float32 two passes with up to
        512 units, three with up to 131,072.

    Returns
    -------
    Tensor, shape (units,)
        The smallest activation that at most that share exceeds: exact, numpy's quantile of 1 - share by the method
        ``inverted_cdf``. NaN for units that are NaN or infinite somewhere.

    Raises
    ------
    ValueError
        If no unit is finite on every image, or there are more or fewer images.
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
                ranks = torch.full((units, 1), rank, device=device) if known == 0 else ranks
                lowest = (found << bits) if known else found - 2 ** (bits - 1)
            of_found = (keys >> (width - known) == found) if known else torch.ones_like(keys, dtype=torch.bool)
            place = (keys >> (width - known - bits)) - lowest + torch.arange(units, device=device)[:, None] * 2**bits
            counts.index_add_(
                0, place[of_found], torch.ones(1, dtype=torch.int64, device=device).expand(of_found.sum())
            )
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


def overlaps(annotated: Iterable[tuple[Tensor, Tensor]], limits: Tensor, category: Tensor) -> Overlap | None:
    """Count the pixels that units and concepts share.

    Parameters
    ----------
    annotated : iterable of (Tensor, Tensor)
        Maps (n, units, h, w) and label maps (n, layers, H, W) of the same images: 1 + the concept, 0 where there is
        none. An image may have several label maps, which may overlap.
    limits : Tensor, shape (units,)
        A unit's mask is where its map, enlarged bilinearly to the label maps, exceeds its limit.
    category : Tensor, shape (concepts,), int64
        Category of each concept. An image is annotated with the categories of the concepts that it shows.

    Returns
    -------
    Overlap or None
        None where there is no image.
    """
    total = None
    for maps, labels in annotated:
        if total is None:
            zeros = torch.zeros(
                len(limits), len(category) + int(category.max()) + 1, dtype=torch.int64, device=maps.device
            )
            both, unit = zeros.split([len(category), int(category.max()) + 1], dim=1)
            total = Overlap(both, unit, torch.zeros(len(category), dtype=torch.int64, device=maps.device))
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
    active = (maps.amax((1, 2)) > limits).nonzero()[
        :, 0
    ]  # enlarging never exceeds the maximum: the others' masks are empty
    for units in active.split(max(1, _BLOCK // layers[0].numel())) if len(active) else ():
        large = F.interpolate(maps[units][None], layers.shape[1:], mode="bilinear", align_corners=False)[0]
        mask = (large > limits[units, None, None]).flatten(1)  # (units, H * W)
        both = mask.float() @ concept.float().T  # exact: whole numbers below 2^24
        total.both[units[:, None], shown - 1] += both.long()
        total.unit[units[:, None], of] += mask.sum(1, keepdim=True)


def iou(overlap: Overlap, category: Tensor) -> np.ndarray:
    """Divide shared pixels by those of either mask.

    Parameters
    ----------
    overlap : Overlap
        As `overlaps` counts it.
    category : Tensor, shape (concepts,)
        Category of each concept.

    Returns
    -------
    array, shape (units, concepts)
        0 where neither has a pixel.
    """
    either = overlap.unit[:, category.to(overlap.unit.device)] + overlap.concept - overlap.both
    return (overlap.both.double() / either.clamp_min(1)).cpu().numpy()


def label_maps(block: Mapping[str, np.ndarray], values: np.ndarray, *, source: str) -> np.ndarray:
    """Bring masks or boxes into label maps of concepts.

    Parameters
    ----------
    block : mapping
        For masks, ``mask`` (n, h, w) or (n, layers, h, w) of whole numbers, 0 where nothing is marked; without it
        nothing is. For boxes, ``images`` (n, h, w, 3), ``label`` (n,) and ``box`` (n, 4): left, top, right, bottom in
        pixels, NaN where there is none; `images.box_pixels` says which pixels it covers.
    values : array, shape (concepts,)
        The value, or the label, that means each concept.
    source : str
        ``masks`` or ``boxes``.

    Returns
    -------
    array of int64, shape (n, layers, h, w)
        1 + the concept, 0 where there is none.

    Raises
    ------
    ValueError
        If a value has no concept.
    """
    shape = block["images"].shape[:3]
    marked = np.zeros((shape[0], 1, *shape[1:]), dtype=np.int64)
    if source == "masks":
        marked = np.asarray(block.get("mask", marked), dtype=np.int64)
        marked = marked if marked.ndim == 4 else marked[:, None]
        return _concepts(marked, values, known={0: 0})
    boxed = (~np.isnan(block["box"]).any(1) & (block["label"] >= 0)).nonzero()[0]
    inside = box_pixels(block["box"][boxed], shape[1:])
    concepts = _concepts(block["label"][boxed], values, known={})
    marked[boxed, 0] = np.where(inside, concepts[:, None, None], 0)
    return marked


def _concepts(found: np.ndarray, values: np.ndarray, *, known: dict[int, int]) -> np.ndarray:
    places = known | {int(value): place for place, value in enumerate(values, 1)}
    distinct, inverse = np.unique(found, return_inverse=True)
    if unknown := [int(value) for value in distinct if int(value) not in places]:
        raise ValueError(f"the probe set marks {unknown[0]}, which has no word; values with one: {_some(values)}")
    return np.array([places[int(value)] for value in distinct], dtype=np.int64)[inverse].reshape(found.shape)


def _present(labels: np.ndarray, concepts: int) -> np.ndarray:
    """Tell which concepts each image shows, (n, concepts)."""
    return np.stack([np.bincount(each.ravel(), minlength=concepts + 1)[1:] > 0 for each in labels])


def _tabulate(
    ious: np.ndarray, limits: Tensor, words: pd.DataFrame, shows: np.ndarray, photographs: np.ndarray
) -> pd.DataFrame:
    order = np.argsort(-ious, axis=1, kind="stable")[:, :2]
    best, second = order[:, 0], order[:, -1] if ious.shape[1] > 1 else np.full(len(ious), -1)
    units = np.arange(len(ious))
    score, runner_up = ious[units, best], np.where(second < 0, 0, ious[units, second])
    names = words.word.to_numpy(object)
    _, photograph = np.unique(photographs, return_inverse=True)
    on = np.array([len(set(photograph[column])) for column in shows.T])
    none, known = score == 0, np.where(limits.isnan().cpu(), np.nan, 1)
    return pd.DataFrame(
        {
            "unit": units,
            "threshold": limits.cpu().numpy(),
            "mask_concept": np.where(none, "", names[best]),
            "mask_category": np.where(none, "", words.category.to_numpy(object)[best]),
            "iou": known * score,
            "second_mask_concept": np.where(runner_up == 0, "", names[second]),
            "second_iou": known * runner_up,
            "mask_images": np.where(none, 0, shows.sum(0)[best]),
            "mask_photographs": np.where(none, 0, on[best]),
        }
    )


def beside_labels(dissected: pd.DataFrame, concepts: pd.DataFrame) -> pd.DataFrame:
    """Put the labels of CLIP-Dissect beside those of Network Dissection.

    Parameters
    ----------
    dissected : pandas.DataFrame
        Tables of `dissect`, with ``model`` and ``layer``.
    concepts : pandas.DataFrame
        Labels of the same units, with ``model, layer, unit, status, concept, category``.

    Returns
    -------
    pandas.DataFrame
        `dissected` with ``clip_status, clip_concept, clip_category``; words are empty where a unit has none.
    """
    columns = {"status": "clip_status", "concept": "clip_concept", "category": "clip_category"}
    keys = ["model", "layer", "unit"]
    table = dissected.merge(concepts[[*keys, *columns]].rename(columns=columns), on=keys, how="left", validate="1:1")
    texts = ["mask_concept", "mask_category", "clip_concept", "clip_category"]
    return table.assign(**table[texts].fillna(""))


def with_agreement(table: pd.DataFrame, words: list[str], features: np.ndarray, *, same: float = 0.9) -> pd.DataFrame:
    """Say how near the two labels of a unit are.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `beside_labels`.
    words : list of str
        Every word of both columns, as `words_of` lists them.
    features : array, shape (words, d)
        Their text features.
    same : float
        Cosine from which on two words are near-duplicates, and so the same.

    Returns
    -------
    pandas.DataFrame
        `table` with ``cosine`` and ``same``, which are empty where a unit lacks one of the labels; and with
        ``cosine_chance``, the mean cosine of its mask concept with the CLIP labels of all units of the layer that have
        both.
    """
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    place = {word: row for row, word in enumerate(words)}
    both = table[(table.mask_concept != "") & (table.clip_concept != "")]
    parts = []
    for _, group in both.groupby(["model", "layer"], sort=False):
        masks, labels = (vectors[[place[word] for word in group[name]]] for name in ("mask_concept", "clip_concept"))
        values = {"cosine": (masks * labels).sum(1), "cosine_chance": masks @ labels.mean(0)}
        parts.append(pd.DataFrame(values, index=group.index))
    agreement = pd.concat(parts) if parts else pd.DataFrame(columns=["cosine", "cosine_chance"], dtype=float)
    return table.join(agreement.assign(same=agreement.cosine >= same))


def words_of(table: pd.DataFrame) -> list[str]:
    """List every word of a table of `beside_labels` once; an empty one where there is none, for encoders want one."""
    return sorted({*table.mask_concept, *table.clip_concept} - {""}) or [""]


def summarise(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Count detectors by layer, and test whether both methods name the same.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `with_agreement`.
    seed : int
        Seed of the permutations.

    Returns
    -------
    pandas.DataFrame
        ``model, layer, masks, units, detectors, unique_detectors, on_one_photograph`` (detectors of a concept that one
        photograph shows)``, compared`` (detectors with a CLIP label)``, same, cosine, cosine_chance, p_value,
        p_adjusted``: the mean cosine of the two labels, that expected if the layer's CLIP labels were dealt to its
        units at random, and a sign-flip test of their difference, which takes units as independent; adjusted over the
        layers (Benjamini-Hochberg).
    """
    rows = []
    for (model, layer), group in table.groupby(["model", "layer"], sort=False):
        detectors = group[group.detector.astype(bool)]
        compared = detectors[detectors.cosine.notna()]
        pair = compared.cosine, compared.cosine_chance
        p = stats.paired_permutation_test(*pair, seed=seed).p_value if len(compared) else np.nan
        rows.append(
            {
                "model": model,
                "layer": layer,
                "masks": group.masks.iloc[0],
                "units": len(group),
                "detectors": len(detectors),
                "unique_detectors": len(detectors[["mask_concept", "mask_category"]].drop_duplicates()),
                "on_one_photograph": int((detectors.mask_photographs == 1).sum()),
                "compared": len(compared),
                "same": int(compared.same.sum()),
                "cosine": compared.cosine.mean(),
                "cosine_chance": compared.cosine_chance.mean(),
                "p_value": p,
            }
        )
    columns = "model layer masks units detectors unique_detectors on_one_photograph compared same cosine cosine_chance"
    summary = pd.DataFrame(rows, columns=[*columns.split(), "p_value"])
    return summary.assign(p_adjusted=stats.benjamini_hochberg(summary.p_value))


def findings(summary: pd.DataFrame) -> list[str]:
    """Say in sentences what Network Dissection finds, and how it compares with the CLIP labels.

    Parameters
    ----------
    summary : pandas.DataFrame
        Of `summarise`.

    Returns
    -------
    list of str
    """
    sentences = []
    for row in summary.itertuples():
        sentence = (
            f"Of the {wording.counted(row.units, 'unit')} of {row.layer} of {row.model}, "
            f"Network Dissection ({row.masks}) calls "
            f"{wording.counted(row.detectors, 'detector')}, of "
            f"{wording.counted(row.unique_detectors, 'different concept')}"
        )
        if row.on_one_photograph:
            sentence += f" ({row.on_one_photograph:,} of what a single photograph shows)"
        if not row.compared:
            sentences.append(f"{sentence}; none of them has a CLIP label to compare.")
            continue
        verdict = "agreement beyond chance is not supported"
        if row.p_adjusted < wording.SIGNIFICANT:
            above = row.cosine > row.cosine_chance
            verdict = f"{'agreement beyond' if above else 'less agreement than by'} chance is supported"
        sentences.append(
            f"{sentence}. The two labels of {row.compared:,} of them have a mean text cosine of {row.cosine:.2f}, "
            f"against {row.cosine_chance:.2f} if dealt at random: {verdict} ({wording.p_value(row.p_adjusted)}, "
            f"{wording.adjusted(summary)}, units taken as independent); {row.same:,} "
            f"{'names' if row.same == 1 else 'name'} the same."
        )
    return sentences
