"""How faithful saliency maps are: what the model predicts once pixels are removed in the order of their saliency.

Deletion and insertion (Petsiuk et al., BMVC 2018), ROAD (Rong et al., ICML 2022), average drop and increase
(Chattopadhay et al., WACV 2018). Equal pixels are taken in a random order of each image, so that sparse and binary maps
are scored as they are. Arguments that do not fit each other or are out of range are a ValueError.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from unitlens.explainers.items import one_each
from unitlens.measures import perturbation
from unitlens.measures.scales import BETTER
from unitlens.networks.memory import to_float64

__all__ = ["BETTER", "curves", "deletion", "insertion", "road", "scores", "upside_down"]

Predict = Callable[[Tensor], Tensor]  # uint8 images (n, h, w, 3) -> probabilities (n, classes)


def deletion(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    *,
    steps: int,
    baseline: str,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Remove the most salient pixels first, and follow the probability of the explained class.

    Parameters
    ----------
    predict : callable
        uint8 images (n, h, w, 3) -> probabilities (n, classes).
    images : Tensor, uint8, shape (n, h, w, 3)
    saliency : Tensor, shape (n, h, w)
    targets : Tensor, int, shape (n,)
        The explained classes.
    steps : int
        Points of the curve, 2 or more. Point i is the image with round(i / (steps - 1) * h * w) pixels removed: the
        first is the image itself, the last the baseline.
    baseline : {"blur", "mean"}
        What takes the place of a removed pixel: the image under a Gaussian blur of 10 pixels, or its mean color.
    seeds : int or sequence of int
        Order of equal pixels; one for all images, or one for each. A map that is constant or not finite has no order
        of its own and gets this one (see `is_flat`).
    batch_size : int
        Images in one call of `predict`; results do not depend on it.

    Returns
    -------
    curve : Tensor, float64, shape (n, steps)
        Probabilities, not normalized by that of the image.
    auc : Tensor, float64, shape (n,)
        Area under the curve by the trapezoidal rule over the share removed, from 0 to 1. Lower is more faithful.
    """
    plan = perturbation.Plan(steps, [baseline], measures=["deletion"])
    curve = _only_curve(predict, images, saliency, targets, plan, seeds, batch_size)
    return curve, _area(curve)


def insertion(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    *,
    steps: int,
    baseline: str,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Insert the most salient pixels first into the baseline, and follow the probability of the explained class.

    Arguments and results are as of `deletion`, with the share inserted from 0 (the baseline) to 1 (the image). Higher
    is more faithful.
    """
    plan = perturbation.Plan(steps, [baseline], measures=["insertion"])
    curve = _only_curve(predict, images, saliency, targets, plan, seeds, batch_size)
    return curve, _area(curve)


def road(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    *,
    percentiles: Sequence[float],
    order: str,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Remove and debias: replace pixels by noisy linear imputation, the most or the least salient ones first.

    Arguments are as of `deletion`, with the noise of each image by its seed too. `percentiles` are shares of the pixels
    that are REMOVED, in percent, above 0 and below 100 (`grad-cam` counts those it keeps); `order` is "morf", most
    relevant first, or "lerf", least; ValueError for another. Gives the probabilities of the explained class (n,
    percentiles) float64 and their mean (n,): the lower for "morf", and the higher for "lerf", the more faithful.
    """
    if order not in ("morf", "lerf"):
        raise ValueError(f"`order` is {order!r}; allowed: 'morf' (most relevant first) or 'lerf' (least)")
    plan = perturbation.Plan(percentiles=percentiles, measures=[f"road_{order}"])
    curve = _only_curve(predict, images, saliency, targets, plan, seeds, batch_size)
    return curve, curve.mean(1)


def curves(
    predict: Predict,
    images: Tensor,
    saliencies: Mapping[str, Tensor],
    targets: Tensor,
    *,
    plan: perturbation.Plan,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> dict[tuple[str, str, str], Tensor]:
    """Follow the probability of the explained class through the perturbations of all explanations of the images.

    All perturbed images, of every image, explainer and measure, go through the model in common batches. The arguments
    are as of `deletion`, with `saliencies` from explainer to its maps (n, h, w). Gives, by (explainer, measure,
    baseline), probabilities, float64 (n, points) on the CPU; by ``("", "image", "")`` those of the images, (n, 1).
    """
    images, targets = torch.as_tensor(images), torch.as_tensor(targets)
    saliencies = {name: torch.as_tensor(maps).to(images.device) for name, maps in saliencies.items()}
    _check(images, saliencies, targets, plan, batch_size)
    seeds = one_each(seeds, len(images), "seeds")
    stacks = perturbation.stacks(images, saliencies, targets.tolist(), plan, seeds)
    found = _target_probabilities(predict, stacks, batch_size).view(len(images), -1)  # (n, all points of an image)
    keys = [(measure, baseline) for measure in plan.measures for baseline in perturbation.baselines_of(measure, plan)]
    ends = dict(zip(["image", *plan.baselines], found.split(1, dim=1), strict=False))
    result = {("", "image", ""): ends["image"]}
    start = len(ends)
    for name in saliencies:
        for measure, baseline in keys:
            points = len(perturbation.inner_shares(measure, plan))
            inner, start = found[:, start : start + points], start + points
            result[name, measure, baseline] = torch.cat(_with_ends(measure, ends, baseline, inner), dim=1)
    return result


def upside_down(curves: Mapping[tuple[str, str, str], Tensor]) -> dict[tuple[str, str, str], Tensor]:
    """Give the `curves` of maps with the opposite order of pixels, which show the network the same images.

    To insert the last pixels of an order is to delete its first ones. What is masked by the map itself is another
    image, and not in the result; equal pixels keep their order where they should turn it, too.
    """
    opposite = {"deletion": "insertion", "insertion": "deletion", "road_morf": "road_lerf", "road_lerf": "road_morf"}
    turned = {}
    for name, measure, baseline in curves:
        if measure in opposite:
            curve = curves[name, opposite[measure], baseline]
            turned[name, measure, baseline] = curve if measure.startswith("road") else curve.flip(1)
    return turned


def scores(curves: Mapping[tuple[str, str, str], Tensor]) -> dict[tuple[str, str, str], Tensor]:
    """Condense what `curves` returns for all measures to a number an image, (n,), by explainer, measure and baseline.

    The measures are the keys of `BETTER`; ``road`` is half of what least-relevant-first leaves over
    most-relevant-first.
    """
    found = {}
    for (explainer, measure, baseline), curve in curves.items():
        if measure in ("deletion", "insertion"):
            found[explainer, measure, baseline] = _area(curve)
        elif measure in ("road_morf", "road_lerf"):
            found[explainer, measure, baseline] = curve.mean(1)
        elif measure == "masked":
            drop, increase = _drop(curves["", "image", ""], curve)
            found |= {(explainer, "average_drop", baseline): drop, (explainer, "increase", baseline): increase}
        if measure == "road_lerf":
            gap = found[explainer, measure, baseline] - found[explainer, "road_morf", baseline]
            found[explainer, "road", baseline] = gap / 2
    return found


def _only_curve(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    plan: perturbation.Plan,
    seeds: int | Sequence[int],
    batch_size: int,
) -> Tensor:
    """Follow the one curve of a plan of one measure and one baseline."""
    _, curve = curves(predict, images, {"": saliency}, targets, plan=plan, seeds=seeds, batch_size=batch_size).values()
    return curve


def _with_ends(measure: str, ends: Mapping[str, Tensor], baseline: str, inner: Tensor) -> list[Tensor]:
    if measure == "deletion":
        return [ends["image"], inner, ends[baseline]]
    if measure == "insertion":
        return [ends[baseline], inner, ends["image"]]
    return [inner]


# ---- predictions


def _target_probabilities(predict: Predict, stacks: Iterable[tuple[Tensor, int]], batch_size: int) -> Tensor:
    """Predict stacks of images in batches that run across them; float64 on the CPU, in the order of the images."""
    found: list[Tensor] = []
    images: list[Tensor] = []
    targets: list[int] = []
    for stack, target in stacks:
        images.append(stack)
        targets += [target] * len(stack)
        if len(targets) >= batch_size:
            waiting = torch.cat(images)
            while len(targets) >= batch_size:
                found.append(_probabilities(predict, waiting[:batch_size], targets[:batch_size]))
                waiting, targets = waiting[batch_size:], targets[batch_size:]
            images = [waiting]
    if targets:
        found.append(_probabilities(predict, torch.cat(images), targets))
    return torch.cat(found).cpu()


def _probabilities(predict: Predict, images: Tensor, targets: Sequence[int]) -> Tensor:
    probabilities = predict(images)
    columns = torch.tensor(targets, device=probabilities.device)[:, None]
    return to_float64(probabilities.gather(1, columns)[:, 0])


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def _drop(image: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    """Compare probabilities (n, 1) of the image, Y, and of the image times the map, scaled to [0, 1], O.

    The drop max(0, Y - O) / Y, whose mean over images is the average drop, and the increase, 1 where Y < O, else 0.
    """
    drop = (image - masked).clamp(min=0) / image
    increase = (masked > image).double().where(~(masked - image).isnan(), torch.nan)
    return drop[:, 0], increase[:, 0]


# ---- checks


def _check(
    images: Tensor, saliencies: Mapping[str, Tensor], targets: Tensor, plan: perturbation.Plan, batch_size: int
) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise ValueError(f"`images` must be uint8 (n, h, w, 3), got {images.dtype} {tuple(images.shape)}")
    for name, maps in saliencies.items():
        if maps.shape != images.shape[:3]:
            what = f"`saliency` {name}".rstrip()
            raise ValueError(f"{what} has shape {tuple(maps.shape)}; allowed: {tuple(images.shape[:3])}, the images'")
    if targets.shape != images.shape[:1] or targets.is_floating_point():
        raise ValueError(f"`targets` must be one class for each of {len(images)} images, got {tuple(targets.shape)}")
    if plan.steps < 2:
        raise ValueError(f"`steps` is {plan.steps}; allowed: 2 or more")
    for baseline in plan.baselines:
        if baseline not in perturbation.BASELINES:
            raise ValueError(f"`baseline` is {baseline!r}; allowed: {', '.join(perturbation.BASELINES)}")
    for percentile in plan.percentiles:
        if not 0 < percentile < 100:
            raise ValueError(f"`percentiles` holds {percentile}; allowed: above 0 and below 100 percent")
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; allowed: 1 or more")
