"""LIME for images: hide random superpixels, predict, and fit a weighted ridge that explains the prediction locally.

Ribeiro, Singh and Guestrin, "Why Should I Trust You?" (KDD 2016), tested end to end against the `lime` package. Unlike
there, everything runs on the device of the images, for many targets at once, and one seed per image fixes the
explanation whatever its batch or neighbors. `explain_with_package` runs the package itself.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from unitlens.explainers import items, lime_samples, surrogate
from unitlens.explainers.lime_samples import perturbations
from unitlens.explainers.surrogate import fit
from unitlens.images import fill

__all__ = ["LimeResult", "explain", "explain_with_package", "fit", "mask", "no_explanation", "perturbations"]
NAME = "lime"  # of the explainer, in files and tables


class LimeResult(NamedTuple):
    """Explanations of n images; the axis of t targets is there if the `targets` had it."""

    saliency: torch.Tensor  # (n, [t,] h, w) float32: the coefficient of each pixel's superpixel, negative ones 0
    coefficients: torch.Tensor  # (n, [t,] d) float64, d the most superpixels of an image; NaN beyond an image's own
    stderr: torch.Tensor  # (n, [t,] d) float64, see `fit_with_errors`; NaN also where a superpixel was not selected
    intercept: torch.Tensor  # (n, [t]) float64
    r2: torch.Tensor  # (n, [t]) float64, the local R^2
    n_used: torch.Tensor  # (n,) int64, the samples that the surrogate was fitted to


def explain(
    predict: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    segments: torch.Tensor,
    targets: torch.Tensor,
    *,
    n_samples: int | str = 1000,
    hide: float | str | None = None,
    batch_size: int = 10,
    seeds: Sequence[int],
    kernel_width: float = 0.25,
    distance: str = "cosine",
    alpha: float = 1.0,
    n_features: int | None = None,
    selection: str = "auto",
    num_features: int = 5,
    design: str = "bernoulli",
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
        (n, h, w) integers, each image's dense from 0 (see `segment`), at least two and at most `n_samples` of them
        (4000 by "auto").
    targets : torch.Tensor
        (n,) or (n, t) class indices.
    n_samples : int or "auto"
        Perturbed images for each image, the unperturbed one included. By "auto" 250, 500, 1000, 2000 or 4000 of them
        (`lime_samples.LOOKS`; of paired samples one more, for the unperturbed image has no partner), as few as it takes
        until two halves of them are expected to have 90 % of the `num_features` most important superpixels in common,
        for every target: see `surrogate.shared_by_halves`.
    hide : None, number, "blur" or "noise"
        What a hidden superpixel shows: its mean color, truncated to uint8 as in the reference; a gray level from 0 to
        255; the image under a Gaussian blur of 10 pixels; uniform random colors.
    batch_size : int
        Most images in one call of `predict`. Halved, with a logged warning, whenever memory runs out.
    seeds : sequence of int
        One for each image: fixes its perturbations and noise.
    kernel_width, distance, alpha, n_features, selection
        See `Surrogate`.
    num_features : int
        Superpixels of the largest coefficients, which decide how many samples "auto" draws; for nothing else.
    design : "bernoulli" or "balanced"
        Samples of independent superpixels, or pairs of samples that are orthogonal: see `perturbations`.
    designs : sequence of torch.Tensor, optional
        For each image a (n_samples, segments) design to use in place of the seeded one, to compare implementations;
        paired where `design` says so.
    image_ids : sequence, optional
        What messages call the images; their index by default.

    Returns
    -------
    LimeResult
        One explanation for each image, independent of the other images, their order, and `batch_size`.

    Raises
    ------
    ValueError
        If an input has the wrong shape, type or range; the message names the images.
    ItemError
        A ValueError, with the reasons by image: some have one superpixel or more than samples, predictions that are not
        finite, or superpixels that depend on each other where `alpha` is 0.
    torch.OutOfMemoryError
        If not even one image at a time fits.
    """
    options = surrogate.Surrogate(distance, kernel_width, alpha, n_features, selection)
    samples = lime_samples.sample(
        predict,
        images,
        segments,
        targets,
        n_samples=n_samples,
        hide=hide,
        batch_size=batch_size,
        seeds=seeds,
        num_features=num_features,
        options=options,
        design=design,
        designs=designs,
        image_ids=image_ids,
    )
    result = of_samples(samples, segments, options, paired=lime_samples.is_paired(design))
    return result if torch.as_tensor(targets).ndim == 2 else of_first_target(result)


def of_samples(
    samples: lime_samples.Samples, segments: torch.Tensor, options: surrogate.Surrogate, *, paired: bool
) -> LimeResult:
    """Fit a surrogate to the samples of each image, with superpixels `segments` (n, h, w).

    The result has the axis of targets. ItemError where superpixels depend on each other and `alpha` is 0.
    """
    fits, stderr = [], []
    for i, (z, y, n) in enumerate(zip(*samples, strict=True)):
        try:
            own = surrogate.fit_with_errors(z[:n], y[:n], options, paired=paired)
        except surrogate.DependentError as error:
            raise items.ItemError(str(error), {i: items.DEPENDENT}) from error
        fits.append(own[0])
        stderr.append(own[1])
    segments = torch.as_tensor(segments, device=samples.predictions.device).long()
    return _result(fits, stderr, samples.n_used, segments)


def of_first_target(result: LimeResult) -> LimeResult:
    """Leave out the axis of targets, of which there is one."""
    *per_target, n_used = result
    return LimeResult(*(values.squeeze(1) for values in per_target), n_used)


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
    """Explain the prediction for one class (n,) of each image with the `lime` package, an image at a time.

    Arguments, result and errors are as of `explain`, but `hide` is None or a gray level, a batch that does not fit into
    memory is not halved, the standard errors are NaN, and R^2 is the package's, a number also where all predictions are
    equal. Numpy's generator takes the lowest 32 bits of a seed. So does torch's on the CPU, and both draw the same
    perturbations: there the explanation is that of `explain`. ValueError where the package cannot do what is asked.
    """
    from lime.lime_image import LimeImageExplainer
    from sklearn.linear_model import Ridge

    images, segments, n_segments, image_ids = lime_samples.checked_images(images, segments, n_samples, image_ids)
    classes = lime_samples.checked_targets(targets, images)  # (n, 1)
    if classes.shape[1] != 1:
        raise ValueError(f"`targets` have shape {tuple(classes.shape)}; allowed with the `lime` package: (n,)")
    if hide is not None and not fill.is_gray(hide):
        raise ValueError(f"`hide` is {hide!r}; allowed with the `lime` package: None or a whole number 0-255")
    lime_samples.check_one_each("seeds", seeds, images)

    def explain_image(i: int) -> surrogate.Fit:
        target, labels = int(classes[i]), segments[i].cpu().numpy()

        def classify(batch: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                probabilities = predict(torch.as_tensor(batch, device=images.device))
            lime_samples.check_probabilities(probabilities, len(batch), target)
            lime_samples.check_finite(probabilities[None, :, target], image_ids, first=i)
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
        return surrogate.Fit(coefficients.to(images.device), *rest.to(images.device).split(1))

    fits = [explain_image(i) for i in range(len(images))]
    stderr = [torch.full_like(own.coefficients, torch.nan) for own in fits]
    return of_first_target(_result(fits, stderr, [n_samples] * len(fits), segments))


def no_explanation(segments: torch.Tensor) -> LimeResult:
    """Make the result of images (n, h, w) of which none can be explained: zeros, NaN and no samples."""
    count, device = len(segments), segments.device
    unknown = torch.full((count, 1), torch.nan, dtype=torch.float64, device=device)
    saliency = torch.zeros(segments.shape, device=device)
    n_used = torch.zeros(count, dtype=torch.int64, device=device)
    return LimeResult(saliency, unknown, unknown, unknown[:, 0], unknown[:, 0], n_used)


def mask(coefficients: torch.Tensor, segments: torch.Tensor, *, num_features: int = 5) -> torch.Tensor:
    """Return LIME's mask: the at most `num_features` superpixels with the largest positive coefficients.

    Of coefficients (n, d) or (n, t, d) and segments (n, h, w) as of `explain`: (n, h, w) or (n, t, h, w) bool, empty
    where no coefficient is positive. ValueError if `num_features` is below 1.
    """
    if num_features < 1:
        raise ValueError(f"`num_features` is {num_features}; allowed: 1 or more")
    coefficients = torch.as_tensor(coefficients)
    segments = torch.as_tensor(segments, device=coefficients.device)
    return painted(surrogate.largest(coefficients.nan_to_num(0), num_features) & (coefficients > 0), segments.long())


def painted(values: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
    """Give every pixel of segments (n, h, w) what values (n, [t,] d) hold of its superpixel: (n, [t,] h, w)."""
    return torch.stack([own[..., labels] for own, labels in zip(values, segments, strict=True)])


def _result(
    fits: Sequence[surrogate.Fit],
    stderr: Sequence[torch.Tensor],
    n_used: list[int],
    segments: torch.Tensor,
) -> LimeResult:
    coefficients = padded([own.coefficients for own in fits])
    per_target = (
        painted(coefficients.clamp(min=0), segments).float(),  # (n, t, h, w)
        coefficients,
        padded(stderr),
        torch.stack([own.intercept for own in fits]),
        torch.stack([own.r2 for own in fits]),
    )
    return LimeResult(*per_target, torch.tensor(n_used, device=segments.device))


def padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack tensors (t, d) of different d into (n, t, largest d), filled up with NaN."""
    widest = max(own.shape[1] for own in rows)
    return torch.stack([torch.nn.functional.pad(own, (0, widest - own.shape[1]), value=torch.nan) for own in rows])
