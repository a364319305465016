"""Perturb the superpixels of images, predict what is left, and stop once other samples would answer the same.

The perturbations are as of the `lime` package (Ribeiro et al., KDD 2016): every superpixel is hidden with probability
1/2, the first sample hides none. One seed per image fixes its samples, whatever its batch or neighbors.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import torch

from unitlens.explainers import hadamard, items, segment
from unitlens.explainers.items import image_seed
from unitlens.explainers.surrogate import DEFAULTS, DependentError, Surrogate, shared_by_halves
from unitlens.images import fill
from unitlens.jobs.progress import stage
from unitlens.networks.memory import float64_device, is_out_of_memory, to_float64

_logger = logging.getLogger(__name__)
DESIGNS = ("bernoulli", "balanced")
AUTO = "auto"  # in place of a number of samples: as few as it takes
LOOKS = (
    250,
    500,
    1000,
    2000,
    4000,
)  # samples after which it is told whether they suffice; doubled, for looks cost luck
ENOUGH = 0.9  # share of the most important superpixels that two halves of the samples have in common


class Samples(NamedTuple):
    """Perturbations of n images and what the model predicts for them: all that a surrogate is fitted to."""

    designs: list[torch.Tensor]  # for each image (n_samples, segments) uint8, see `perturbations`
    predictions: torch.Tensor  # (n, n_samples, targets) float64, the targets' probabilities
    n_used: list[int]  # the samples of each image that were predicted


def perturbations(
    n_segments: int, n_samples: int, generator: torch.Generator, *, design: str = "bernoulli"
) -> torch.Tensor:
    """Draw which superpixels each sample shows: 1 or 0 with equal probability, all of them in the first row.

    By the `design` "bernoulli" the rows are independent, as in the `lime` package; by "balanced" those after the first
    are `hadamard.balanced_rows`. Gives (n_samples, n_segments) uint8 on the device of the generator, of which the same
    seed gives other numbers on another device type. The first m rows are those that are drawn where `n_samples` is m.
    ValueError if one of the numbers is below 1, or there is no such design.
    """
    if n_segments < 1 or n_samples < 1:
        raise ValueError(f"`n_segments` is {n_segments} and `n_samples` {n_samples}; allowed: 1 or more")
    if is_paired(design):
        rows = hadamard.balanced_rows(n_segments, n_samples - 1, generator)
        return torch.cat([rows.new_ones(1, n_segments), rows])
    shape = (n_samples, n_segments)
    rows = torch.randint(0, 2, shape, generator=generator, device=generator.device, dtype=torch.uint8)
    rows[0] = 1
    return rows


def is_paired(design: str) -> bool:
    """Tell whether the rows of a design come in pairs, but for the first; ValueError where there is no such design."""
    if design not in DESIGNS:
        raise ValueError(f"`design` is {design!r}; allowed: {', '.join(map(repr, DESIGNS))}")
    return design == "balanced"


def sample(
    predict: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    segments: torch.Tensor,
    targets: torch.Tensor,
    *,
    n_samples: int | str = 1000,
    hide: float | str | None = None,
    batch_size: int = 10,
    seeds: Sequence[int],
    num_features: int = 5,
    options: Surrogate = DEFAULTS,
    design: str = "bernoulli",
    designs: Sequence[torch.Tensor] | None = None,
    known: Sequence[torch.Tensor] | None = None,
    image_ids: Sequence[object] | None = None,
) -> Samples:
    """Perturb a set of images and predict; `fit` then explains them, as often as wanted.

    Arguments and errors are as of `lime.explain`; `options` and `num_features` matter to "auto" only. The first m
    samples of an image are those that are drawn where `n_samples` is m. `known` holds for each image the targets'
    probabilities (m, targets) of its first samples, of the same seed and superpixels, which are not predicted again.
    """
    looks = _looks(n_samples, paired=is_paired(design))
    n_samples = looks[-1]
    images, segments, n_segments, image_ids = checked_images(images, segments, n_samples, image_ids)
    classes = checked_targets(targets, images)  # (n, t)
    check_one_each("seeds", seeds, images)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    # Noise is drawn before the design, whose length it must not depend on.
    hidden = fill.hidden_fill(images, segments, n_segments, hide, generators)
    if designs is None:
        drawn = zip(n_segments, generators, strict=True)
        designs = [perturbations(d, n_samples, generator, design=design) for d, generator in drawn]
    designs = _checked_designs(designs, n_samples, n_segments, images.device)
    parts = _Parts(hidden, images - hidden, segments, designs, is_paired(design))
    known = [classes.new_zeros(0, classes.shape[1])] * len(classes) if known is None else known
    check_one_each("known", known, images)

    def enough(image: int, own: torch.Tensor) -> bool:
        shared = _shared_top(designs[image], own, num_features, options, seeds[image], parts.paired)
        return shared.min() >= ENOUGH or not own.isfinite().all()  # of those that are not finite no more are asked for

    predictions, n_used = _sample(predict, parts, classes, known, looks, batch_size, enough)
    check_finite(predictions, image_ids)
    return Samples(designs, predictions, n_used)


def _looks(n_samples: int | str, *, paired: bool) -> list[int]:
    """Give after how many samples it is told whether they suffice; the last number is the most."""
    if n_samples == AUTO:
        return [number + paired for number in LOOKS]  # the first sample has no partner
    if isinstance(n_samples, str):
        raise ValueError(f"`n_samples` is {n_samples!r}; allowed: a number or {AUTO!r}")
    return [n_samples]


def shared_top(
    samples: Samples, *, num_features: int, options: Surrogate, seeds: Sequence[int], paired: bool
) -> torch.Tensor:
    """Tell for each image what "auto" goes by, however many samples were drawn: `surrogate.shared_by_halves`.

    Gives (n, targets) float64; `seeds` are those of the samples.
    """
    drawn = zip(*samples, seeds, strict=True)
    return torch.stack([_shared_top(z, y[:n], num_features, options, seed, paired) for z, y, n, seed in drawn])


def _shared_top(
    design: torch.Tensor, predictions: torch.Tensor, top: int, options: Surrogate, seed: int, paired: bool
) -> torch.Tensor:
    shared = {"top": top, "paired": paired, "seed": image_seed(seed, "halves")}
    try:
        return shared_by_halves(design[: len(predictions)], predictions, options, **shared)
    except DependentError:  # without a penalty, of so few samples
        return predictions.new_zeros(predictions.shape[1])


def kept(explanations: Mapping[str, np.ndarray], device: torch.device | str) -> list[torch.Tensor] | None:
    """Give the predictions (m, 1) of each image that a file of explanations holds, as `sample` takes them.

    None where it holds none, as of the `lime` package.
    """
    if "predictions" not in explanations:
        return None
    rows = zip(explanations["predictions"], explanations["n_used"], strict=True)
    return [torch.as_tensor(own[:used, None]).to(device) for own, used in rows]


def used_by_auto(explanations: Mapping[str, np.ndarray], n_samples: int | str) -> list[int]:
    """Give the samples of each image that a file of explanations holds where they were "auto"; none of a number."""
    return explanations["n_used"].tolist() if n_samples == AUTO else []


def on_rows(
    run: Callable,
    rows: Sequence[int],
    images: torch.Tensor,
    segments: torch.Tensor,
    targets: torch.Tensor,
    **own: Sequence,
) -> object:
    """Run `sample` or `lime.explain` on some rows of images (n, h, w, 3), of all else that images have `own`."""
    picked = {name: [values[row] for row in rows] for name, values in own.items()}
    return run(images[rows], segments[rows], targets[rows], **picked)


class _Parts(NamedTuple):
    """What perturbed images are made of, by image."""

    hidden: torch.Tensor  # (n, h, w, 3) uint8
    change: torch.Tensor  # (n, h, w, 3) uint8, image - hidden modulo 256
    segments: torch.Tensor  # (n, h, w) int64
    designs: list[torch.Tensor]  # (n_samples, d) uint8
    paired: bool  # their rows, but for the first


def _sample(
    predict: Callable[[torch.Tensor], torch.Tensor],
    parts: _Parts,
    classes: torch.Tensor,
    known: Sequence[torch.Tensor],
    looks: Sequence[int],
    batch_size: int,
    enough: Callable[[int, torch.Tensor], bool],
) -> tuple[torch.Tensor, list[int]]:
    """Return the targets' probabilities (n, samples, t) of all perturbed images and the samples used by image.

    At each of the `looks` but the last `enough` tells by the number of an image and its probabilities whether they
    suffice.
    """
    n_samples = looks[-1]
    samples = torch.zeros(
        len(classes), n_samples, classes.shape[1], dtype=torch.float64, device=float64_device(classes.device)
    )
    for own, given in zip(samples, known, strict=True):
        own[: len(given)] = given[:n_samples]
    n_used = [n_samples] * len(classes)
    highest = int(classes.max())

    def predict_batch(batch: list[tuple[int, int]]) -> None:
        spans = _spans(batch)
        with torch.no_grad():
            probabilities = predict(_compose(parts, spans))
        check_probabilities(probabilities, len(batch), highest)
        rows = probabilities.split([stop - start for _, start, stop in spans])
        for (image, start, stop), own in zip(spans, rows, strict=True):
            samples[image, start:stop] = to_float64(own.index_select(1, classes[image]))

    active = list(range(len(classes)))
    for start, stop in pairwise([0, *looks]):
        work = [(image, row) for image in active for row in range(max(start, len(known[image])), stop)]
        batch_size = _in_batches(predict_batch, work, batch_size)
        if stop < n_samples:
            for image in active:
                n_used[image] = stop if enough(image, samples[image, :stop]) else n_samples
            active = [image for image in active if n_used[image] == n_samples]
    return samples, n_used


def _in_batches(run: Callable[[list], None], work: list, batch_size: int) -> int:
    """Run all the work, in halves where memory runs out, and return the batch size that fitted."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; allowed: 1 or more")
    with stage(len(work), "samples") as this:
        while this.done < len(work):
            batch = work[this.done : this.done + batch_size]
            try:
                run(batch)
            except RuntimeError as error:
                if batch_size == 1 or not is_out_of_memory(error):
                    raise
                batch_size //= 2
                _logger.warning("out of memory: `batch_size` goes down to %d", batch_size)
            else:
                this.done += len(batch)
    return batch_size


def _spans(batch: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Return (image, first row, row after the last) for each image of a batch of consecutive (image, row) pairs."""
    rows = {image: [row for _, row in group] for image, group in groupby(batch, key=lambda pair: pair[0])}
    return [(image, own[0], own[-1] + 1) for image, own in rows.items()]


def _compose(parts: _Parts, spans: list[tuple[int, int, int]]) -> torch.Tensor:
    """Return the perturbed images (b, h, w, 3) uint8: hidden + visible (image - hidden), exact modulo 256."""
    images = []
    for image, start, stop in spans:
        visible = parts.designs[image][start:stop].index_select(1, parts.segments[image].flatten())  # (b, h w)
        visible = visible.view(-1, *parts.segments.shape[1:], 1)  # (b, h, w, 1)
        images.append((visible * parts.change[image]).add_(parts.hidden[image]))
    return images[0] if len(images) == 1 else torch.cat(images)


def checked_images(
    images: torch.Tensor, segments: torch.Tensor, n_samples: int, image_ids: Sequence[object] | None
) -> tuple[torch.Tensor, torch.Tensor, list[int], list]:
    """Check images (n, h, w, 3), superpixels (n, h, w), samples and ids; count the superpixels of each image.

    ValueError where one is not as `lime.explain` needs it, ItemError where that is so of some images only.
    """
    images = segment.checked_images(images)
    segments = torch.as_tensor(segments, device=images.device)
    if segments.shape != images.shape[:3] or segments.dtype.is_floating_point or segments.dtype == torch.bool:
        raise ValueError(
            f"`segments` are {segments.dtype} {tuple(segments.shape)}; allowed: integers {tuple(images.shape[:3])}"
        )
    segments = segments.long()
    n_segments = [len(labels.unique()) for labels in segments]
    highest = (segments.flatten(1).amax(1) + 1).tolist()
    dense = (segments.flatten(1).amin(1) == 0).tolist()
    image_ids = list(range(len(images)) if image_ids is None else image_ids)
    check_one_each("image_ids", image_ids, images)
    if wrong := [image_ids[i] for i, d in enumerate(n_segments) if not dense[i] or d != highest[i]]:
        raise ValueError(f"`segments` of images {wrong} are not numbered 0, 1, 2, ... without gaps: relabel them")
    if single := [i for i, d in enumerate(n_segments) if d == 1]:
        raise items.ItemError(
            f"images {[image_ids[i] for i in single]} have only one superpixel; allowed: two or more, so segment them "
            "more finely",
            dict.fromkeys(single, items.ONE_SUPERPIXEL),
        )
    if many := {i: d for i, d in enumerate(n_segments) if d > n_samples}:
        counts = {image_ids[i]: d for i, d in many.items()}
        raise items.ItemError(
            f"`n_samples` is {n_samples}, fewer than the superpixels of these images (image: superpixels): "
            f"{counts}; allowed: at least as many samples as superpixels, so draw more or segment more coarsely",
            {i: items.MANY_SUPERPIXELS.format(superpixels=d, samples=n_samples) for i, d in many.items()},
        )
    return images, segments, n_segments, image_ids


def check_one_each(name: str, values: Sequence[object], images: torch.Tensor) -> None:
    """Raise a ValueError unless there is one value for each of the images (n, h, w, 3)."""
    if len(values) != len(images):
        raise ValueError(f"`{name}` has length {len(values)}; allowed: one for each of {len(images)} images")


def checked_targets(targets: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Check target classes (n, [t]) and give them as (n, t); ValueError if they are no class indices."""
    targets = torch.as_tensor(targets, device=images.device)
    wrong_shape = targets.ndim not in (1, 2) or len(targets) != len(images) or 0 in targets.shape
    if wrong_shape or targets.dtype.is_floating_point:
        raise ValueError(
            f"`targets` are {targets.dtype} {tuple(targets.shape)}; allowed: integers (n,) or (n, t), n = {len(images)}"
        )
    if (targets < 0).any():
        raise ValueError(f"`targets` go down to {int(targets.min())}; allowed: class indices from 0")
    return targets.long().view(len(images), -1)


def _checked_designs(
    designs: Sequence[torch.Tensor], n_samples: int, n_segments: list[int], device: torch.device
) -> list[torch.Tensor]:
    designs = [torch.as_tensor(design, device=device).to(torch.uint8) for design in designs]
    allowed = [(n_samples, d) for d in n_segments]
    if [tuple(design.shape) for design in designs] != allowed:
        raise ValueError(f"`designs` have shapes {[tuple(design.shape) for design in designs]}; allowed: {allowed}")
    return designs


def check_probabilities(probabilities: torch.Tensor, n_images: int, highest: int) -> None:
    """Raise a ValueError unless there are probabilities (n_images, classes), class `highest` among them."""
    if probabilities.ndim != 2 or len(probabilities) != n_images:
        raise ValueError(
            f"`predict` returned shape {tuple(probabilities.shape)} for {n_images} images; "
            f"allowed: ({n_images}, classes)"
        )
    if highest >= probabilities.shape[1]:
        raise ValueError(
            f"`targets` go up to {highest}; allowed: 0 to {probabilities.shape[1] - 1}, the model's classes"
        )


def check_finite(samples: torch.Tensor, image_ids: list, *, first: int = 0) -> None:
    """Raise an ItemError that names the images whose samples (n, ...) are not finite."""
    if bad := items.not_finite(samples, first=first):
        raise items.ItemError(
            f"`predict` returned NaN or infinite probabilities for images {[image_ids[i] for i in bad]}", bad
        )
