"""What a network is shown when faithfulness is measured: deleted, inserted, imputed and masked pixels."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unitlens.explainers.masks import is_flat
from unitlens.images import fill
from unitlens.jobs.progress import each

CURVES = ("deletion", "insertion", "road_morf", "road_lerf", "masked")
_NOISE = 2.55  # standard deviation of ROAD's noise, in gray levels: 0.01 of the range, as in the authors' code
BASELINES = {
    "blur": lambda image: fill.blurred(image[None])[0],
    "mean": lambda image: _mean_color(image).to(image.device).expand_as(image),
}


class Plan(NamedTuple):
    """Which curves are asked for, and where they are sampled."""

    steps: int = 2  # points of a deletion or insertion curve, both ends among them
    baselines: Sequence[str] = ()  # what takes the place of a removed pixel in deletion and insertion
    percentiles: Sequence[float] = ()  # shares of pixels that ROAD removes, in percent
    measures: Sequence[str] = CURVES


class Case(NamedTuple):
    """One explanation of one image, and what perturbed images are made from."""

    image: Tensor  # (h, w, 3) uint8
    baselines: Mapping[str, Tensor]  # (h, w, 3) uint8
    noise: Tensor  # (h, w, 3), gray levels
    saliency: Tensor  # (h, w), scaled to [0, 1]
    ranks: Tensor  # (h, w) int64, 0 at the most salient pixel


def _mean_color(image: Tensor) -> Tensor:
    """Average an image (h, w, 3), uint8; on the CPU, since not every GPU has float64."""
    return image.cpu().double().mean((0, 1)).round().to(torch.uint8)


# ---- perturbed images


def stacks(
    images: Tensor, saliencies: Mapping[str, Tensor], targets: Sequence[int], plan: Plan, seeds: Sequence[int]
) -> Iterator[tuple[Tensor, int]]:
    """Make all perturbed images (k, h, w, 3) of one image after the other, with the image's target."""
    height, width = images.shape[1:3]
    cases = list(zip(images, targets, seeds, strict=True))
    flat = {name: is_flat(maps).tolist() for name, maps in saliencies.items()}
    for index, (image, target, seed) in enumerate(each(cases, "source images")):
        generator = torch.Generator().manual_seed(seed)
        shuffle = torch.randperm(height * width, generator=generator).to(images.device)
        noise = (_NOISE * torch.randn(height, width, 3, generator=generator)).to(images.device)
        baselines = {name: BASELINES[name](image) for name in plan.baselines}
        yield torch.stack([image, *baselines.values()]), target
        for name, maps in saliencies.items():
            ranks = _ranks(maps[index], shuffle, flat[name][index])
            case = Case(image, baselines, noise, _scaled(maps[index], ranks, flat[name][index]), ranks)
            for measure in plan.measures:
                counts = _counts(inner_shares(measure, plan), ranks)
                for baseline in baselines_of(measure, plan):
                    if len(counts):
                        yield _PERTURB[measure](case, counts, baseline), target


def _deleted(case: Case, counts: Tensor, baseline: str) -> Tensor:
    return torch.where((case.ranks < counts)[..., None], case.baselines[baseline], case.image)


def _inserted(case: Case, counts: Tensor, baseline: str) -> Tensor:
    return torch.where((case.ranks < counts)[..., None], case.image, case.baselines[baseline])


def _most_relevant_imputed(case: Case, counts: Tensor, _: str) -> Tensor:
    return _imputed(case, case.ranks < counts)


def _least_relevant_imputed(case: Case, counts: Tensor, _: str) -> Tensor:
    return _imputed(case, case.ranks >= case.ranks.numel() - counts)


def _imputed(case: Case, removed: Tensor) -> Tensor:
    filled = fill.impute(case.image.expand(*removed.shape, 3), removed)
    return (filled + case.noise * removed[..., None]).round().clamp(0, 255).to(torch.uint8)


def _masked(case: Case, _: Tensor, __: str) -> Tensor:
    return (case.image * case.saliency[..., None]).round().to(torch.uint8)[None]


_PERTURB = {
    "deletion": _deleted,
    "insertion": _inserted,
    "road_morf": _most_relevant_imputed,
    "road_lerf": _least_relevant_imputed,
    "masked": _masked,
}


def baselines_of(measure: str, plan: Plan) -> Sequence[str]:
    """Give the baselines that a measure is taken with."""
    return {"masked": ["black"], "road_morf": ["imputed"], "road_lerf": ["imputed"]}.get(measure, plan.baselines)


def inner_shares(measure: str, plan: Plan) -> list[float]:
    """Shares of pixels at which an explanation is asked for; the ends of deletion and insertion need none."""
    if measure == "masked":
        return [0.0]
    if measure.startswith("road"):
        return [percentile / 100 for percentile in plan.percentiles]
    return [point / (plan.steps - 1) for point in range(1, plan.steps - 1)]


def _counts(shares: Sequence[float], ranks: Tensor) -> Tensor:
    """Pixels, (k, 1, 1)."""
    return torch.tensor([round(share * ranks.numel()) for share in shares], device=ranks.device).view(-1, 1, 1)


def _ranks(saliency: Tensor, shuffle: Tensor, flat: bool) -> Tensor:
    """Place of every pixel of a map (h, w) in the order of saliency; equal ones as `shuffle`, (h * w,), has them."""
    pixels = torch.zeros_like(saliency) if flat else saliency
    order = shuffle[pixels.flatten()[shuffle].argsort(descending=True, stable=True)]
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)).view_as(saliency)


def _scaled(saliency: Tensor, ranks: Tensor, flat: bool) -> Tensor:
    """Scale a map (h, w) to [0, 1]; a flat one becomes its random order."""
    if flat:
        return 1 - ranks / (ranks.numel() - 1)
    return (saliency - saliency.amin()) / (saliency.amax() - saliency.amin())
