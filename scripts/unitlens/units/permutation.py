"""Source images resampled, permuted and halved; what a label's score is where concepts and source images are unrelated.

Bootstrap and permutation null take source images whole: crops of one source image are one sample. A label is compared
with the best of all concepts under the null, so the choice of the label is accounted for (Westfall & Young 1993,
max-T).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unitlens.jobs import progress
from unitlens.jobs.sheets import FEWEST_SOURCE_IMAGES
from unitlens.units import dissect, exemplars

SPLITS = 10
ENOUGH_IMAGES = 200_000  # in all splits together; each costs two labelings
STRATUM = 1.25  # largest ratio of the spreads of units that share draws of the null
MOST_STRATA, FEWEST_DRAWS = 8, 100  # and draws that each of them has
_LEAST_DEVIATION = 1e-3  # of L under the null, in nats; below it only rounding varies
_LIST_ELEMENTS = 2**18  # numbers of a lists x concepts block that is worked on at once, so that it stays in the cache


class SourceImages(NamedTuple):
    """Which image rows are of which source image."""

    number: np.ndarray  # (images,) the source image of a row
    place: np.ndarray  # (images,) which of its source image's rows a row is
    size: np.ndarray  # (source_images,) rows
    start: np.ndarray  # (source_images,) where its rows begin in `rows`
    rows: np.ndarray  # (images,) the rows, source image by source image
    alike: dict[int, np.ndarray]  # the source images of so many rows


class Pattern(NamedTuple):
    """How image rows are spread over source images, whichever these are."""

    which: np.ndarray  # (n,) of the pattern's source images, the one of a row
    place: np.ndarray  # (n,) which of its source image's rows a row is
    sizes: dict[int, np.ndarray]  # of the pattern's source images those of so many rows


class Probe(NamedTuple):
    """A layer and what it is labeled with."""

    activations: Tensor  # (images, units)
    images: Tensor  # (images, d), of unit length
    texts: Tensor  # (concepts, d), of unit length
    source_images: SourceImages
    groups: np.ndarray  # (concepts,) of near-duplicates


class Winners(NamedTuple):
    """The best concepts of a layer's units, and what scores are made of."""

    concept: Tensor  # (units,)
    score: Tensor  # (units,)
    layer_term: Tensor  # (concepts,) D of these units


class Null(NamedTuple):
    """L under the permutation null of each stratum: its mean and deviation of every concept, and each draw's best z."""

    mean: Tensor  # (strata, concepts)
    deviation: Tensor  # (strata, concepts)
    largest: list[Tensor]  # (draws,) of each stratum, the largest z of all concepts


# ---- source images


def group_rows(source_image: Sequence[str]) -> SourceImages:
    """Find the rows of each source image, by the name of what each image was cut from.

    ValueError for fewer than three source images: nothing can be resampled or exchanged.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(source_image))}
    number = np.array([names[name] for name in source_image], dtype=np.int64)
    if len(names) < FEWEST_SOURCE_IMAGES:
        raise ValueError(
            f"the probe set has {len(names)} source image(s), {FEWEST_SOURCE_IMAGES} are the fewest that evidence for "
            "labels can come from (crops of one source image are one sample)"
        )
    rows = number.argsort(kind="stable")
    size = np.bincount(number)
    start = size.cumsum() - size
    place = np.empty_like(number)
    place[rows] = np.arange(len(number)) - start[number[rows]]
    return SourceImages(number, place, size, start, rows, _by_size(size))


def _by_size(size: np.ndarray) -> dict[int, np.ndarray]:
    order = np.argsort(size, kind="stable")
    sizes, first = np.unique(size[order], return_index=True)
    return dict(zip(sizes.tolist(), np.split(order, first[1:]), strict=True))


def resample(source_images: SourceImages, rng: np.random.Generator) -> np.ndarray:
    """Draw as many source images as there are, with replacement; return how often each came, (source_images,)."""
    n = len(source_images.size)
    return np.bincount(rng.integers(n, size=n), minlength=n)


def pattern(source_images: SourceImages, given: np.ndarray) -> Pattern:
    """Find how image rows `given`, (n,), are spread over source images."""
    chosen, which = np.unique(source_images.number[given], return_inverse=True)
    return Pattern(which, source_images.place[given], _by_size(source_images.size[chosen]))


def exchange(source_images: SourceImages, given: Pattern, rng: np.random.Generator) -> np.ndarray:
    """Give a pattern of image rows to other source images, drawn at random: the same places in those, (n,).

    Source images change places with source images of as many rows, so that a pattern within a source image stays what
    it is.
    """
    drawn = np.empty(sum(map(len, given.sizes.values())), np.int64)
    for size, to_fill in given.sizes.items():
        same = source_images.alike[size]
        drawn[to_fill] = same[rng.choice(len(same), len(to_fill), replace=False)]
    return source_images.rows[source_images.start[drawn[given.which]] + given.place]


def shuffle(source_images: SourceImages, rng: np.random.Generator, *, kinds: np.ndarray | None = None) -> np.ndarray:
    """Let all source images change places as in `exchange`; return for each row the row that comes to its place.

    They change places with others of their kind, (source_images,), if kinds are given: those must be of as many rows.
    """
    kinds = source_images.size if kinds is None else kinds
    drawn = np.empty_like(source_images.start)
    drawn[np.argsort(kinds, kind="stable")] = np.lexsort((rng.random(len(kinds)), kinds))
    return source_images.rows[source_images.start[drawn[source_images.number]] + source_images.place]


def halves(source_images: SourceImages, rng: np.random.Generator) -> list[np.ndarray]:
    """Split the source images at random into two halves; return the image rows of each, ascending."""
    order = rng.permutation(len(source_images.size))
    first = np.isin(source_images.number, order[: len(order) // 2])
    return [np.flatnonzero(first), np.flatnonzero(~first)]


def splits(source_images: SourceImages, seed: int) -> list[list[np.ndarray]]:
    """Draw the halves that held-out scores are means over: of ten splits, of fewer with more than 20,000 images."""
    rng = np.random.default_rng([seed, 2])
    count = min(SPLITS, max(1, ENOUGH_IMAGES // len(source_images.rows)))
    return [halves(source_images, rng) for _ in range(count)]


# ---- numbers that any similarity has


def testable(activations: Tensor, top_k: int | None = None) -> np.ndarray:
    """Tell of which units (units,) of activations (images, units) the null says something.

    Of a similarity that looks at `top_k` images, a unit at its lowest activation on so many images that some of them
    fill up its top images is not testable: there the order of the images decides.
    """
    alive = ~exemplars.dead_units(activations)
    if top_k is not None:
        alive &= ((activations > activations.amin(0)).sum(0) >= top_k) | (len(activations) == top_k)
    return alive.cpu().numpy()


def strata(tops: np.ndarray, source_images: SourceImages, draws: int) -> np.ndarray:
    """Tell which units, of their top images (units, k), are alike enough to share draws of the null, (units,), from 0.

    The fewer source images the top images come from, the more L varies under the null. With m of k images from each
    source image, units are alike whose k^2 / sum m^2, the number of source images where all m are equal, differ by a
    factor of at most `STRATUM`, or more where that would make more than `MOST_STRATA`, or more than one for every
    `FEWEST_DRAWS` of so many draws.
    """
    names = np.sort(source_images.number[tops], axis=1)
    counts = [np.diff(np.flatnonzero(np.diff(row, prepend=-1, append=-1))) for row in names]
    spread = np.array([names.shape[1] ** 2 / np.square(count).sum() for count in counts])
    if not len(spread):
        return np.empty(0, np.int64)
    order = np.argsort(spread, kind="stable")
    most = min(MOST_STRATA, max(1, draws // FEWEST_DRAWS))
    factor = max(STRATUM, (spread.max() / spread.min()) ** (1 / most)) * (1 + 1e-9)
    number, first, found = 0, spread[order[0]], np.empty(len(spread), np.int64)
    for unit in order:
        if spread[unit] > first * factor:
            number, first = number + 1, spread[unit]
        found[unit] = number
    return found


def p_values(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Compare observed statistics (units,), NaN where there is none, with those of draws of the null (draws,).

    ``(1 + draws that reach the statistic) / (1 + draws)``, NaN where there is none.
    """
    short = np.searchsorted(np.sort(null), observed - 1e-9 * np.abs(observed))  # draws that fall short
    return np.where(np.isnan(observed), np.nan, (1 + len(null) - short) / (1 + len(null)))


# ---- soft_wpmi and wpmi: only the top images count


def log_normalizers(images: Tensor, texts: Tensor, a: float) -> Tensor:
    """Compute the logarithm of the softmax's denominator, logsumexp over concepts of a x cosine, (images, 1)."""
    step = max(1, exemplars.BLOCK_ELEMENTS // len(texts))
    return torch.cat([(block @ texts.T).mul_(a).logsumexp(1, keepdim=True) for block in images.split(step)])


def rank_lists(
    draws: Sequence[Tensor],
    layers: Sequence[Tensor],
    probe: Probe,
    terms: dissect.Terms,
    log_norms: Tensor,
    told: Callable[[slice, Tensor], None] = lambda concepts, scores: None,
) -> tuple[Null, list[Winners]]:
    """Score lists of top images against all concepts, a block of concepts at a time.

    Image rows by rank, (draws, top_k) of the permutation null of each stratum, and (n, top_k) of the units of each
    layer; `log_norms`, (images, 1), is of `log_normalizers`. Gives the null of L, and of each layer the concepts with
    the best scores. `told` gets the scores (n, concepts of the block) of the first layer, and which concepts they are.
    """
    # What is kept is written in place: small tensors made anew between large ones would leave the memory in pieces.
    like = {"dtype": torch.float64, "device": probe.texts.device}
    mean, deviation = (torch.full((len(draws), len(probe.texts)), torch.nan, **like) for _ in range(2))
    largest = [torch.full((len(each),), -torch.inf, **like) for each in draws]
    winners = [
        Winners(each.new_zeros(len(each)), torch.full((len(each),), -torch.inf, **like), torch.zeros_like(mean[0]))
        for each in layers
    ]
    for concepts, totals in _list_likelihoods(torch.cat([*draws, *layers]), probe, terms, log_norms):
        blocks = totals.split([*map(len, draws), *map(len, layers)])
        for number, drawn in enumerate(filter(len, blocks[: len(draws)])):  # no unit tested: no draws
            center = mean[number, concepts] = drawn.mean(0)
            width = deviation[number, concepts] = drawn.std(0, correction=0).clamp_min(_LEAST_DEVIATION)
            torch.maximum(largest[number], drawn.sub_(center).div_(width).amax(1), out=largest[number])
        for number, (own, block) in enumerate(zip(winners, blocks[len(draws) :], strict=True)):
            term = own.layer_term[concepts] = dissect.term_of_layer(block)
            scores = block.sub_(terms.lam * term)
            if not number:
                told(concepts, scores)
            score, concept = scores.max(1)
            torch.where(score > own.score, concept + concepts.start, own.concept, out=own.concept)
            torch.maximum(own.score, score, out=own.score)
    return Null(mean, deviation, largest), winners


def likelihood_of(lists: Tensor, concepts: Tensor, probe: Probe, terms: dissect.Terms, log_norms: Tensor) -> Tensor:
    """Compute L (n,) of lists of images (n, top_k), each with one concept of `concepts` (n,)."""
    found = []
    for rows, words in zip(lists.split(64), concepts.split(64), strict=True):
        cosine = (probe.images[rows] @ probe.texts[words][:, :, None])[..., 0]
        softmax = (cosine.mul_(terms.a) - log_norms[rows, 0]).exp_().double()
        found.append((terms.offset.to(rows.device) + terms.slope.to(rows.device) * softmax).log().sum(1))
    return torch.cat([torch.empty(0, dtype=torch.float64, device=lists.device), *found])


def _list_likelihoods(
    lists: Tensor, probe: Probe, terms: dissect.Terms, log_norms: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Yield L (n, concepts) of lists of images (n, top_k), and which concepts: `BLOCK_ELEMENTS` numbers at a time."""
    if not len(lists):
        return
    needed, position = lists.unique(return_inverse=True)
    images, norms = probe.images, log_norms
    if len(needed) < len(images):  # else a copy
        images, norms = images[needed], norms[needed]
    ratio = (terms.slope / terms.offset).tolist()
    constant = terms.offset.log().sum().item()
    step = max(1, exemplars.BLOCK_ELEMENTS // max(len(needed), len(lists)))
    for start in progress.each(range(0, len(probe.texts), step), "blocks of concepts"):
        concepts = slice(start, start + step)
        softmax = (images @ probe.texts[concepts].T).mul_(terms.a).sub_(norms).exp_()
        factors = max(1, int(80 / math.log1p(max(ratio) * softmax.max().item())))  # float32 ends at exp(88)
        totals = torch.empty(len(lists), softmax.shape[1], dtype=torch.float64, device=softmax.device)
        at_once = max(1, _LIST_ELEMENTS // softmax.shape[1])
        for part, rows in zip(totals.split(at_once), position.split(at_once), strict=True):
            part[:] = _sum_logs(softmax, rows, ratio, factors)
        yield concepts, totals.add_(constant)


def _sum_logs(softmax: Tensor, position: Tensor, ratio: Sequence[float], factors: int) -> Tensor:
    """Sum of log(1 + ratio S) over ranks, with one logarithm for so many `factors`; exact but for float32 products."""
    total = torch.zeros(len(position), softmax.shape[1], dtype=torch.float64, device=softmax.device)
    product, chosen = (torch.ones_like(total, dtype=softmax.dtype) for _ in range(2))
    for rank, rows in enumerate(position.T.contiguous()):
        product.addcmul_(product, torch.index_select(softmax, 0, rows, out=chosen), value=ratio[rank])
        if (rank + 1) % factors == 0 or rank + 1 == len(ratio):
            total += product.log_()
            product.fill_(1)
    return total
