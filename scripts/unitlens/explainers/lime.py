"""LIME for images: hide random superpixels, predict, and fit a weighted ridge that explains the prediction locally.

Ribeiro, Singh and Guestrin, "Why Should I Trust You?" (KDD 2016). Coefficients, intercept and local R^2 are tested
against the `lime` package, for the same perturbations and end to end. Unlike there, everything runs on the device of
the images, for many targets at once, and one seed per image fixes the explanation whatever its batch or neighbours.
`explain_with_package` runs the package itself.
"""

import logging
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch

from unitlens import items
from unitlens.logs import stage

_logger = logging.getLogger(__name__)

SURROGATE = ("distance", "kernel_width", "alpha", "n_features", "selection")  # options of `fit`
# Standard deviation in pixels of the blur that hides superpixels: Fong and Vedaldi, "Interpretable Explanations of
# Black Boxes by Meaningful Perturbation" (ICCV 2017).
_BLUR_SIGMA = 10
# Samples between two looks at the stability of the ranking.
_STABILITY_STEP = 100
# Up to so many features `selection="auto"` selects forward, as the reference does.
_FORWARD_UP_TO = 6
# Penalty of the ridge that ranks features for "highest_weights", as in the reference.
_RANKING_ALPHA = 0.01
# Share of a superpixel's variance below which the superpixels selected before it determine it.
_COLLINEAR = 1e-10


class Fit(NamedTuple):
    """Local linear surrogate: prediction = intercept + sum of the coefficients of the visible superpixels.

    Attributes
    ----------
    coefficients : torch.Tensor
        (targets, segments) float64; 0 where a superpixel was not selected.
    intercept : torch.Tensor
        (targets,) float64.
    r2 : torch.Tensor
        (targets,) float64, the weighted R^2; NaN where all predictions are equal.
    """

    coefficients: torch.Tensor
    intercept: torch.Tensor
    r2: torch.Tensor


class LimeResult(NamedTuple):
    """Explanations of n images; the axis of t targets is there if the `targets` had it.

    Attributes
    ----------
    saliency : torch.Tensor
        (n, [t,] h, w) float32: the coefficient of each pixel's superpixel, negative ones 0.
    coefficients : torch.Tensor
        (n, [t,] d) float64, d the largest number of superpixels in an image; NaN beyond an image's own.
    stderr : torch.Tensor
        (n, [t,] d) float64, see `fit_with_errors`; NaN also where a superpixel was not selected.
    intercept : torch.Tensor
        (n, [t]) float64.
    r2 : torch.Tensor
        (n, [t]) float64, the local R^2.
    n_used : torch.Tensor
        (n,) int64, the samples that the surrogate was fitted to.
    """

    saliency: torch.Tensor
    coefficients: torch.Tensor
    stderr: torch.Tensor
    intercept: torch.Tensor
    r2: torch.Tensor
    n_used: torch.Tensor


class Samples(NamedTuple):
    """Perturbations of n images and what the model predicts for them: all that a surrogate is fitted to.

    Attributes
    ----------
    designs : list of torch.Tensor
        For each image (n_samples, segments) uint8, see `perturbations`.
    predictions : torch.Tensor
        (n, n_samples, targets) float64, the targets' probabilities.
    n_used : list of int
        The samples of each image that were predicted.
    """

    designs: list[torch.Tensor]
    predictions: torch.Tensor
    n_used: list[int]


def perturbations(n_segments: int, n_samples: int, generator: torch.Generator) -> torch.Tensor:
    """Draw which superpixels each sample shows: 1 or 0 with equal probability, all of them in the first row.

    Parameters
    ----------
    n_segments, n_samples : int
        Number of superpixels and of samples, at least 1.
    generator : torch.Generator
        Source of randomness; its device is the design's. The same seed gives other numbers on another device type.

    Returns
    -------
    torch.Tensor
        (n_samples, n_segments) uint8, 1 = visible.

    Raises
    ------
    ValueError
        If a number is below 1.
    """
    if n_segments < 1 or n_samples < 1:
        raise ValueError(f"`n_segments` is {n_segments} and `n_samples` {n_samples}; allowed: 1 or more")
    shape = (n_samples, n_segments)
    design = torch.randint(0, 2, shape, generator=generator, device=generator.device, dtype=torch.uint8)
    design[0] = 1
    return design


def fit(
    design: torch.Tensor,
    predictions: torch.Tensor,
    *,
    kernel_width: float = 0.25,
    distance: str = "cosine",
    alpha: float = 1.0,
    n_features: int | None = None,
    selection: str = "auto",
) -> Fit:
    """Fit the weighted ridge surrogate of every target.

    Parameters
    ----------
    design : torch.Tensor
        (samples, segments) zeros and ones, 1 = visible.
    predictions : torch.Tensor
        (samples, targets), or (samples,) for one target.
    kernel_width : float
        Width of the proximity kernel, above 0. 0.25 is made for cosine distances, which are at most 1; l2 distances
        grow with the square root of the number of superpixels and need a width to match.
    distance : {"cosine", "l2"}
        Distance of a sample to the whole image.
    alpha : float
        Ridge penalty, at least 0; 0 needs linearly independent columns.
    n_features : int, optional
        Number of superpixels to select for each target; all by default.
    selection : {"auto", "none", "highest_weights", "forward_selection"}
        How to select: the largest absolute coefficients of a ridge on all superpixels (penalty 0.01), or one by one
        whatever raises the R^2 of an unpenalised fit most. "auto" goes forward up to 6 features; "none" takes all.

    Returns
    -------
    Fit
        Coefficients, intercept and local R^2 in float64 on the device of `design`.

    Raises
    ------
    ValueError
        If shapes do not match, an option is out of its range, or `alpha` is 0 and the columns are dependent.

    Notes
    -----
    d is the distance of row z to the row of ones: 1 - sqrt(|z| / segments) for cosine, sqrt(segments - |z|) for l2.
    w = sqrt(exp(-d^2 / kernel_width^2)). With x and y centred at their w-weighted means, the coefficients are
    (x^T W x + alpha I)^-1 x^T W y on the selected columns, and R^2 = 1 - sum w (y - x b)^2 / sum w y^2.
    """
    return fit_with_errors(design, predictions, kernel_width, distance, alpha, n_features, selection)[0]


def explain(
    predict: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    segments: torch.Tensor,
    targets: torch.Tensor,
    *,
    n_samples: int = 1000,
    hide: float | str | None = None,
    batch_size: int = 10,
    seeds: Sequence[int],
    kernel_width: float = 0.25,
    distance: str = "cosine",
    alpha: float = 1.0,
    n_features: int | None = None,
    selection: str = "auto",
    stop_when_stable: int | None = None,
    designs: Sequence[torch.Tensor] | None = None,
    image_ids: Sequence[object] | None = None,
) -> LimeResult:
    """Explain the predictions for some classes of a set of images, whose perturbations share batches.

    Parameters
    ----------
    predict : callable
        Maps a (b, h, w, 3) uint8 batch, b at most `batch_size`, to (b, classes) probabilities.
    images : torch.Tensor
        (n, h, w, 3) uint8. Everything runs on their device.
    segments : torch.Tensor
        (n, h, w) integers, each image's dense from 0 (see `segment`), at least two and at most `n_samples` of them.
    targets : torch.Tensor
        (n,) or (n, t) class indices.
    n_samples : int
        Perturbed pictures for each image, the unperturbed one included.
    hide : None, number, "blur" or "noise"
        What a hidden superpixel shows: its mean colour, truncated to uint8 as in the reference; a grey level from 0 to
        255; the image under a Gaussian blur of 10 pixels; uniform random colours.
    batch_size : int
        Most pictures in one call of `predict`. Halved, with a logged warning, whenever memory runs out.
    seeds : sequence of int
        One for each image: fixes its perturbations and noise.
    kernel_width, distance, alpha, n_features, selection
        As in `fit`.
    stop_when_stable : int, optional
        Look after every 100 samples, and stop sampling an image once two surrogates, each fitted to every other
        sample, name the same `stop_when_stable` superpixels as those with the largest coefficients, for every target.
    designs : sequence of torch.Tensor, optional
        For each image a (n_samples, segments) design to use in place of the seeded one, to compare implementations.
    image_ids : sequence, optional
        What messages call the images; their index by default.

    Returns
    -------
    LimeResult
        One explanation for each image, independent of the other images, their order, and `batch_size`.

    Raises
    ------
    ValueError
        If an input has the wrong shape, type or range, or a prediction is NaN or infinite; the message names the
        images.
    ItemError
        A ValueError, with the reasons by image: some have one superpixel or more than samples, predictions that are not
        finite, or superpixels that depend on each other where `alpha` is 0.
    torch.OutOfMemoryError
        If not even one picture at a time fits.
    """
    ridge = (kernel_width, distance, alpha)
    samples = sample(
        predict,
        images,
        segments,
        targets,
        n_samples=n_samples,
        hide=hide,
        batch_size=batch_size,
        seeds=seeds,
        stop=None if stop_when_stable is None else (stop_when_stable, *ridge),
        designs=designs,
        image_ids=image_ids,
    )
    fits, stderr = [], []
    for i, (z, y, n) in enumerate(zip(*samples, strict=True)):
        try:
            own = fit_with_errors(z[:n], y[:n], *ridge, n_features, selection)
        except _DependentError as error:
            raise items.ItemError(str(error), {i: items.DEPENDENT}) from error
        fits.append(own[0])
        stderr.append(own[1])
    segments = torch.as_tensor(segments, device=samples.predictions.device).long()
    return _result(fits, stderr, samples.n_used, segments, with_target_axis=torch.as_tensor(targets).ndim == 2)


def sample(
    predict: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    segments: torch.Tensor,
    targets: torch.Tensor,
    *,
    n_samples: int = 1000,
    hide: float | str | None = None,
    batch_size: int = 10,
    seeds: Sequence[int],
    stop: tuple[int, float, str, float] | None = None,
    designs: Sequence[torch.Tensor] | None = None,
    image_ids: Sequence[object] | None = None,
) -> Samples:
    """Perturb a set of images and predict; `fit` then explains them, as often as wanted.

    Parameters
    ----------
    predict, images, segments, targets, n_samples, hide, batch_size, seeds, designs, image_ids
        As in `explain`.
    stop : tuple, optional
        ``stop_when_stable, kernel_width, distance, alpha`` of `explain`, to stop early.

    Returns
    -------
    Samples
        The first m samples of an image are those that are drawn where `n_samples` is m.

    Raises
    ------
    ValueError, torch.OutOfMemoryError
        As `explain` does.
    """
    images, segments, n_segments, image_ids = _checked_images(images, segments, n_samples, image_ids)
    classes = _checked_targets(targets, images)  # (n, t)
    _check_one_each("seeds", seeds, images)
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    # Noise is drawn before the design, whose length it must not depend on.
    hidden = _hidden(images, segments, n_segments, hide, generators)
    if designs is None:
        designs = [perturbations(d, n_samples, generator) for d, generator in zip(n_segments, generators, strict=True)]
    designs = _checked_designs(designs, n_samples, n_segments, images.device)
    parts = _Parts(hidden, images - hidden, segments, designs)
    stop_when_stable, *ridge = stop or (None,)
    predictions, n_used = _sample(predict, parts, classes, n_samples, batch_size, stop_when_stable, tuple(ridge))
    _check_finite(predictions, image_ids)
    return Samples(designs, predictions, n_used)


def explain_with_package(
    predict: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    segments: torch.Tensor,
    targets: torch.Tensor,
    *,
    n_samples: int = 1000,
    hide: float | None = None,
    batch_size: int = 10,
    seeds: Sequence[int],
    kernel_width: float = 0.25,
    distance: str = "cosine",
    alpha: float = 1.0,
    n_features: int | None = None,
    selection: str = "auto",
    image_ids: Sequence[object] | None = None,
) -> LimeResult:
    """Explain the prediction for one class of each image with the `lime` package, an image at a time.

    Parameters
    ----------
    predict, images, segments, n_samples, batch_size, kernel_width, distance, alpha, n_features, selection, image_ids
        As in `explain`.
    targets : torch.Tensor
        (n,) class indices.
    hide : None or number
        What a hidden superpixel shows: its mean colour or a grey level from 0 to 255.
    seeds : sequence of int
        One for each image; numpy's generator takes the lowest 32 bits. So does torch's on the CPU, and both draw the
        same perturbations: the explanation is that of `explain`.

    Returns
    -------
    LimeResult
        As of `explain`, with standard errors of NaN. R^2 is the package's, a number also where all predictions are
        equal.

    Raises
    ------
    ValueError
        If an input has the wrong shape, type or range, or a prediction is NaN or infinite; the message names the
        images.
    torch.OutOfMemoryError
        If a batch does not fit; it is not halved.
    """
    from lime.lime_image import LimeImageExplainer
    from sklearn.linear_model import Ridge

    images, segments, n_segments, image_ids = _checked_images(images, segments, n_samples, image_ids)
    classes = _checked_targets(targets, images)  # (n, 1)
    if classes.shape[1] != 1:
        raise ValueError(f"`targets` have shape {tuple(classes.shape)}; allowed with the `lime` package: (n,)")
    if hide is not None and not _is_grey(hide):
        raise ValueError(f"`hide` is {hide!r}; allowed with the `lime` package: None or a whole number 0-255")
    _check_one_each("seeds", seeds, images)

    def explain_image(i: int) -> Fit:
        target, labels = int(classes[i]), segments[i].cpu().numpy()

        def classify(batch: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                probabilities = predict(torch.as_tensor(batch, device=images.device))
            _check_probabilities(probabilities, len(batch), target)
            _check_finite(probabilities[None, :, target], image_ids, first=i)
            return probabilities.double().cpu().numpy()

        explainer = LimeImageExplainer(kernel_width, feature_selection=selection, random_state=int(seeds[i]) % 2**32)
        explanation = explainer.explain_instance(
            images[i].cpu().numpy(),
            classify,
            labels=[target],
            hide_color=hide,
            top_labels=None,
            num_features=n_features or n_segments[i],
            num_samples=n_samples,
            batch_size=batch_size,
            segmentation_fn=lambda _: labels,
            distance_metric=distance,
            model_regressor=Ridge(alpha=alpha),
            random_seed=0,  # would be drawn, and shift the perturbations; the superpixels are there
        )
        coefficients = torch.zeros(1, n_segments[i], dtype=torch.float64)
        for superpixel, weight in explanation.local_exp[target]:
            coefficients[0, superpixel] = weight
        rest = torch.tensor([explanation.intercept[target], explanation.score], dtype=torch.float64)
        return Fit(coefficients.to(images.device), *rest.to(images.device).split(1))

    fits = [explain_image(i) for i in range(len(images))]
    stderr = [torch.full_like(own.coefficients, torch.nan) for own in fits]
    return _result(fits, stderr, [n_samples] * len(fits), segments, with_target_axis=False)


def no_explanation(segments: torch.Tensor) -> LimeResult:
    """Make the result of images (n, h, w) of which none can be explained: zeros, NaN and no samples."""
    count, device = len(segments), segments.device
    unknown = torch.full((count, 1), torch.nan, dtype=torch.float64, device=device)
    saliency = torch.zeros(segments.shape, dtype=torch.float32, device=device)
    n_used = torch.zeros(count, dtype=torch.int64, device=device)
    return LimeResult(saliency, unknown, unknown, unknown[:, 0], unknown[:, 0], n_used)


def mask(coefficients: torch.Tensor, segments: torch.Tensor, *, num_features: int = 5) -> torch.Tensor:
    """Return LIME's mask: the superpixels with the largest positive coefficients.

    Parameters
    ----------
    coefficients : torch.Tensor
        (n, d) or (n, t, d) as `explain` returns them.
    segments : torch.Tensor
        (n, h, w) integers, dense from 0.
    num_features : int
        Most superpixels in the mask, at least 1.

    Returns
    -------
    torch.Tensor
        (n, h, w) or (n, t, h, w) bool; empty where no coefficient is positive.

    Raises
    ------
    ValueError
        If `num_features` is below 1.
    """
    if num_features < 1:
        raise ValueError(f"`num_features` is {num_features}; allowed: 1 or more")
    coefficients, segments = torch.as_tensor(coefficients), torch.as_tensor(segments)
    largest = coefficients.nan_to_num(0).sort(dim=-1, descending=True, stable=True).indices[..., :num_features]
    shown = torch.zeros_like(coefficients, dtype=torch.bool).scatter(-1, largest, True) & (coefficients > 0)
    return torch.stack([own[..., labels] for own, labels in zip(shown, segments.long(), strict=True)])


class _DependentError(ValueError):
    """Superpixels are linearly dependent in the samples of an image."""


class _Parts(NamedTuple):
    """What perturbed pictures are made of, by image."""

    hidden: torch.Tensor  # (n, h, w, 3) uint8
    change: torch.Tensor  # (n, h, w, 3) uint8, image - hidden modulo 256
    segments: torch.Tensor  # (n, h, w) int64
    designs: list[torch.Tensor]  # (n_samples, d) uint8


def _sample(
    predict: Callable[[torch.Tensor], torch.Tensor],
    parts: _Parts,
    classes: torch.Tensor,
    n_samples: int,
    batch_size: int,
    stop_when_stable: int | None,
    ridge: tuple,
) -> tuple[torch.Tensor, list[int]]:
    """Return the targets' probabilities (n, n_samples, t) of all perturbed pictures and the samples used by image."""
    samples = torch.zeros(len(classes), n_samples, classes.shape[1], dtype=torch.float64, device=classes.device)
    n_used = [n_samples] * len(classes)
    highest = int(classes.max())

    def predict_batch(batch: list[tuple[int, int]]) -> None:
        spans = _spans(batch)
        with torch.no_grad():
            probabilities = predict(_compose(parts, spans))
        _check_probabilities(probabilities, len(batch), highest)
        rows = probabilities.split([stop - start for _, start, stop in spans])
        for (image, start, stop), own in zip(spans, rows, strict=True):
            samples[image, start:stop] = own.index_select(1, classes[image]).double()

    if stop_when_stable is not None and stop_when_stable < 1:
        raise ValueError(f"`stop_when_stable` is {stop_when_stable}; allowed: 1 or more, or None to draw every sample")
    step = n_samples if stop_when_stable is None else _STABILITY_STEP
    active = list(range(len(classes)))
    for start in range(0, n_samples, step):
        stop = min(start + step, n_samples)
        work = [(image, row) for image in active for row in range(start, stop)]
        batch_size = _in_batches(predict_batch, work, batch_size)
        if stop_when_stable is not None and stop < n_samples:
            for image in active:
                if _stable(parts.designs[image][:stop], samples[image, :stop], stop_when_stable, ridge):
                    n_used[image] = stop
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
            except torch.OutOfMemoryError:
                if batch_size == 1:
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
    """Return the perturbed pictures (b, h, w, 3) uint8: hidden + visible (image - hidden), exact modulo 256."""
    pictures = []
    for image, start, stop in spans:
        visible = parts.designs[image][start:stop].index_select(1, parts.segments[image].flatten())  # (b, h w)
        visible = visible.view(-1, *parts.segments.shape[1:], 1)  # (b, h, w, 1)
        pictures.append((visible * parts.change[image]).add_(parts.hidden[image]))
    return pictures[0] if len(pictures) == 1 else torch.cat(pictures)


def _result(
    fits: Sequence[Fit],
    stderr: Sequence[torch.Tensor],
    n_used: list[int],
    segments: torch.Tensor,
    *,
    with_target_axis: bool,
) -> LimeResult:
    saliency = [own.coefficients.clamp(min=0)[:, labels] for own, labels in zip(fits, segments, strict=True)]
    per_target = (
        torch.stack(saliency).float(),  # (n, t, h, w)
        _padded([own.coefficients for own in fits]),
        _padded(stderr),
        torch.stack([own.intercept for own in fits]),
        torch.stack([own.r2 for own in fits]),
    )
    if not with_target_axis:
        per_target = tuple(values.squeeze(1) for values in per_target)
    return LimeResult(*per_target, torch.tensor(n_used, device=segments.device))


def _padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack (t, d) tensors of different d into (n, t, largest d), filled up with NaN."""
    widest = max(own.shape[1] for own in rows)
    return torch.stack([torch.nn.functional.pad(own, (0, widest - own.shape[1]), value=torch.nan) for own in rows])


def _stable(design: torch.Tensor, predictions: torch.Tensor, k: int, ridge: tuple) -> bool:
    """Tell whether surrogates of the even and of the odd samples name the same k superpixels for every target."""
    k = min(k, design.shape[1] - 1)
    fits = (fit_with_errors(design[half::2], predictions[half::2], *ridge, None, "none")[0] for half in (0, 1))
    even, odd = (fit.coefficients.topk(k).indices.sort().values for fit in fits)
    return torch.equal(even, odd)


def _hidden(
    images: torch.Tensor,
    segments: torch.Tensor,
    n_segments: list[int],
    hide: float | str | None,
    generators: list[torch.Generator],
) -> torch.Tensor:  # (n, h, w, 3) uint8
    if hide is None:
        return torch.stack([_mean_colours(*pair) for pair in zip(images, segments, n_segments, strict=True)])
    if hide == "blur":
        return blurred(images)
    if hide == "noise":
        noise = [torch.randint(0, 256, images.shape[1:], generator=g, dtype=torch.uint8) for g in generators]
        return torch.stack(noise).to(images.device)
    if not _is_grey(hide):
        raise ValueError(f'`hide` is {hide!r}; allowed: None (mean colour), a whole number 0-255, "blur" or "noise"')
    return torch.full_like(images, int(hide))


def _is_grey(hide: float | str) -> bool:
    return not isinstance(hide, str) and 0 <= hide <= 255 and hide == int(hide)


def _mean_colours(image: torch.Tensor, labels: torch.Tensor, n_segments: int) -> torch.Tensor:  # (h, w, 3) uint8
    colours, labels_flat = image.reshape(-1, 3).long(), labels.flatten()
    sums = colours.new_zeros(n_segments, 3).index_add(0, labels_flat, colours)
    return (sums // torch.bincount(labels_flat)[:, None]).to(torch.uint8)[labels]


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Blur pictures (n, h, w, 3), uint8, with a Gaussian of 10 pixels, their borders repeated."""
    radius = 3 * _BLUR_SIGMA
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64, device=images.device)
    kernel = torch.softmax(-offset.square() / (2 * _BLUR_SIGMA**2), 0).expand(3, 1, 1, -1)
    pixels = images.permute(0, 3, 1, 2).double()  # (n, 3, h, w)
    for _ in range(2):  # along the width, then, transposed, along the height
        padded = torch.nn.functional.pad(pixels, (radius, radius, 0, 0), mode="replicate")
        pixels = torch.nn.functional.conv2d(padded, kernel, groups=3).mT
    return pixels.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous()


def fit_with_errors(
    design: torch.Tensor,
    predictions: torch.Tensor,
    kernel_width: float,
    distance: str,
    alpha: float,
    n_features: int | None,
    selection: str,
) -> tuple[Fit, torch.Tensor]:
    """Do as `fit`, and estimate how much each coefficient would vary from one draw of the samples to another.

    Parameters
    ----------
    design, predictions, kernel_width, distance, alpha, n_features, selection
        As in `fit`.

    Returns
    -------
    Fit
        As of `fit`.
    stderr : torch.Tensor
        (targets, segments) float64; NaN where a superpixel was not selected.

    Notes
    -----
    The surrogate is linear and the network is not, so the residuals e are misfit of unequal size: the robust (HC3)
    estimate. With H = (x^T W x + alpha I)^-1 x^T W, so that the coefficients are H y, and the leverages
    l_i = w_i / sum w + (x H)_ii, the squared error of coefficient j is sum_i H_ji^2 (e_i / (1 - l_i))^2. It covers
    neither the bias from `alpha` nor the selection, which is taken as given.

    References
    ----------
    MacKinnon and White, "Some heteroskedasticity-consistent covariance matrix estimators with improved finite sample
    properties", Journal of Econometrics 29 (1985).
    """
    design, predictions = _checked_samples(design, predictions)
    weights = _weights(design, kernel_width, distance)
    share = weights / weights.sum()
    design_mean, prediction_mean = share @ design, share @ predictions
    x = design - design_mean
    # Exactly 0 for a constant prediction, whose rounding errors would otherwise be explained.
    y = torch.where((predictions == predictions[0]).all(0), 0, predictions - prediction_mean)
    selected = _selected(x, y, weights, n_features, selection)  # (targets or 1, k)

    columns = x.T[selected]  # (targets or 1, k, samples)
    hat = torch.cholesky_solve(columns * weights, _factor(columns, weights, alpha))  # coefficients = hat @ y
    solution = (hat @ y.T[..., None])[..., 0]  # (targets, k)
    selected = selected.expand_as(solution)
    coefficients = solution.new_zeros(y.shape[1], x.shape[1]).scatter(1, selected, solution)
    residual = y - x @ coefficients.T  # (samples, targets)
    r2 = 1 - weights @ residual.square() / (weights @ y.square())

    leverage = share + (columns * hat).sum(1)  # (targets or 1, samples)
    variance = hat.square() @ (residual.T / (1 - leverage)).square()[..., None]  # (targets, k, 1)
    stderr = torch.full_like(coefficients, torch.nan).scatter(1, selected, variance[..., 0].sqrt())
    return Fit(coefficients, prediction_mean - coefficients @ design_mean, r2), stderr


def _weights(design: torch.Tensor, kernel_width: float, distance: str) -> torch.Tensor:  # (samples,)
    if kernel_width <= 0:
        raise ValueError(f"`kernel_width` is {kernel_width}; allowed: above 0")
    n_segments, visible = design.shape[1], design.sum(1)
    if distance == "cosine":
        away = 1 - (visible / n_segments).sqrt()
    elif distance == "l2":
        away = (n_segments - visible).sqrt()
    else:
        raise ValueError(f'`distance` is {distance!r}; allowed: "cosine" or "l2"')
    weights = (-(away**2) / kernel_width**2).exp().sqrt()
    if weights.sum() ** 2 < 2 * weights.square().sum():
        _logger.warning(
            "`kernel_width` %g at %s distance leaves %d samples the weight of less than two; widen it",
            kernel_width,
            distance,
            len(weights),
        )
    return weights


def _selected(
    x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, n_features: int | None, selection: str
) -> torch.Tensor:  # (targets, k), or (1, segments) for all
    if selection not in ("auto", "none", "highest_weights", "forward_selection"):
        raise ValueError(
            f'`selection` is {selection!r}; allowed: "auto", "none", "highest_weights" or "forward_selection"'
        )
    if n_features is not None and n_features < 1:
        raise ValueError(f"`n_features` is {n_features}; allowed: 1 or more, or None for all")
    if selection == "none" or n_features is None or n_features >= x.shape[1]:
        return torch.arange(x.shape[1], device=x.device)[None]
    gram, moment = x.T @ (weights[:, None] * x), (weights[:, None] * y).T @ x  # (d, d), (targets, d)
    if selection == "forward_selection" or (selection == "auto" and n_features <= _FORWARD_UP_TO):
        return _forward(gram, moment, n_features)
    gram.diagonal().add_(_RANKING_ALPHA)
    ranking = torch.linalg.solve(gram, moment.T).T.abs()  # (targets, d)
    return ranking.sort(descending=True, stable=True).indices[:, :n_features]


def _forward(gram: torch.Tensor, moment: torch.Tensor, n_features: int) -> torch.Tensor:  # (targets, n_features)
    """Select, one by one, the column that lowers the residual sum of squares of least squares most.

    The columns not yet selected, and the target, are kept orthogonal to the selected ones (Gram-Schmidt), in terms of
    their inner products alone: `with_target` and `norm`. A column then lowers the sum by with_target^2 / norm.
    """
    with_target, norm = moment.clone(), gram.diagonal().repeat(len(moment), 1)  # (targets, d)
    floor = _COLLINEAR * gram.diagonal()
    directions: list[torch.Tensor] = []
    selected: list[torch.Tensor] = []
    for _ in range(n_features):
        gain = torch.where(norm > floor, with_target.square() / norm, 0)
        for column in selected:
            gain = gain.scatter(1, column, -1)
        best = gain.argmax(1, keepdim=True)  # (targets, 1), the first one of equals
        per_length = torch.where(norm.gather(1, best) > floor[best], norm.gather(1, best).rsqrt(), 0)
        direction = (gram[best[:, 0]] - sum(old.gather(1, best) * old for old in directions)) * per_length
        with_target = with_target - direction * with_target.gather(1, best) * per_length
        norm = norm - direction.square()
        directions.append(direction)
        selected.append(best)
    return torch.cat(selected, 1)


def _factor(columns: torch.Tensor, weights: torch.Tensor, alpha: float) -> torch.Tensor:  # (targets or 1, k, k)
    if alpha < 0:
        raise ValueError(f"`alpha` is {alpha}; allowed: 0 or more")
    gram = (columns * weights) @ columns.mT
    if alpha == 0 and (torch.linalg.matrix_rank(gram, hermitian=True) < gram.shape[1]).any():
        raise _DependentError("`alpha` is 0 but superpixels are linearly dependent in the samples; allowed: above 0")
    gram.diagonal(dim1=1, dim2=2).add_(alpha)
    return torch.linalg.cholesky(gram)


def _checked_samples(design: torch.Tensor, predictions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    design, predictions = torch.as_tensor(design), torch.as_tensor(predictions)
    predictions = predictions[:, None] if predictions.ndim == 1 else predictions
    if design.ndim != 2 or predictions.ndim != 2 or len(design) != len(predictions) or 0 in design.shape:
        raise ValueError(
            f"`design` has shape {tuple(design.shape)} and `predictions` {tuple(predictions.shape)}; "
            "allowed: (samples, segments) and (samples, targets)"
        )
    return design.double(), predictions.to(design.device, torch.float64)


def _checked_images(
    images: torch.Tensor, segments: torch.Tensor, n_samples: int, image_ids: Sequence[object] | None
) -> tuple[torch.Tensor, torch.Tensor, list[int], list]:
    images = torch.as_tensor(images)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(f"`images` are {images.dtype} {tuple(images.shape)}; allowed: uint8 (n, h, w, 3), no size 0")
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
    _check_one_each("image_ids", image_ids, images)
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


def _check_one_each(name: str, values: Sequence[object], images: torch.Tensor) -> None:
    if len(values) != len(images):
        raise ValueError(f"`{name}` has length {len(values)}; allowed: one for each of {len(images)} images")


def _checked_targets(targets: torch.Tensor, images: torch.Tensor) -> torch.Tensor:  # (n, t)
    targets = torch.as_tensor(targets, device=images.device)
    if (
        targets.ndim not in (1, 2)
        or len(targets) != len(images)
        or targets.dtype.is_floating_point
        or 0 in targets.shape
    ):
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


def _check_probabilities(probabilities: torch.Tensor, n_pictures: int, highest: int) -> None:
    if probabilities.ndim != 2 or len(probabilities) != n_pictures:
        raise ValueError(
            f"`predict` returned shape {tuple(probabilities.shape)} for {n_pictures} pictures; "
            f"allowed: ({n_pictures}, classes)"
        )
    if highest >= probabilities.shape[1]:
        raise ValueError(
            f"`targets` go up to {highest}; allowed: 0 to {probabilities.shape[1] - 1}, the model's classes"
        )


def _check_finite(samples: torch.Tensor, image_ids: list, *, first: int = 0) -> None:
    finite = samples.isfinite().flatten(1).all(1)  # (n,)
    if bad := (first + (~finite).nonzero()[:, 0]).tolist():
        raise items.ItemError(
            f"`predict` returned NaN or infinite probabilities for images {[image_ids[i] for i in bad]}",
            dict.fromkeys(bad, items.NOT_FINITE),
        )
