"""Do explanations depend on what they should, and only on that: control maps, randomized networks, LIME drawn again.

Control maps know nothing of a model; explainers are measured against them.

Cascading randomization (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018): a network loses its layers
from the last one down, and a map that explains the network must change. LIME's stability over seeds and numbers of
samples: the surrogate is fitted to prefixes of one set of samples a seed. Tested by hand and with planted explainers.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import scipy
import torch
from torch import Tensor, nn

from unitlens.explainers import items, lime_samples, masks, run, surrogate
from unitlens.explainers.items import image_seed, repeated_ids, stream_seeds
from unitlens.images import fill
from unitlens.jobs.progress import each
from unitlens.measures.agreement import chance_iou, self_iou
from unitlens.measures.scales import CONTROLS

CONTROL_DRAWS = 10  # random maps of an image, whose scores are averaged: one moves the mean of ten images by 0.03
_GAUSSIAN_WIDTH = 0.25  # standard deviation of the centered Gaussian, as a share of each side


# ---- control maps


def random_saliency(shape: tuple[int, int], *, seeds: Sequence[int], cells: int = 7) -> Tensor:
    """Draw maps (n, h, w) in [0, 1] that know neither image nor model, one for each seed.

    Uniform numbers are drawn on a grid of so many `cells` a side and interpolated bilinearly. Such a map is as coarse
    as a class activation map: scattered single pixels would fool a network, whatever they show.
    """
    grids = torch.empty(len(seeds), 1, cells, cells)
    for grid, seed in zip(grids, seeds, strict=True):
        torch.rand(1, cells, cells, generator=torch.Generator().manual_seed(seed), out=grid)
    return torch.nn.functional.interpolate(grids, shape, mode="bilinear")[:, 0] if len(seeds) else grids.view(0, *shape)


def centered_gaussian(shape: tuple[int, int]) -> Tensor:
    """Make the map (h, w) that only knows where photographers aim: a Gaussian, its deviation a quarter of each side."""
    across, down = (
        torch.exp(-(torch.linspace(-1, 1, size) ** 2) / (2 * (2 * _GAUSSIAN_WIDTH) ** 2)) for size in reversed(shape)
    )
    return down[:, None] * across


def make_control_maps(shape: tuple[int, int], *, seeds: Sequence[int]) -> dict[str, list[Callable[[], Tensor]]]:
    """Make the maps (n, h, w) of each of `CONTROLS`, one draw after the other; arguments as of `random_saliency`.

    There are `CONTROL_DRAWS` of the random maps and one of the Gaussian; each is made when called. Random maps come in
    pairs, by the next seeds: one, and the same upside down, whose errors cancel in a mean.
    """

    def random(draw: int, upside_down: bool) -> Tensor:
        maps = random_saliency(shape, seeds=[seed + draw for seed in seeds])
        return 1 - maps if upside_down else maps

    gaussian = [lambda: centered_gaussian(shape).expand(len(seeds), -1, -1)]
    random = [partial(random, draw, turned) for draw in range(CONTROL_DRAWS // 2) for turned in (False, True)]
    return dict(zip(CONTROLS, (random, gaussian), strict=True))


# ---- randomized networks


def cascade(n_layers: int, stages: int) -> list[int]:
    """Give how many of the last layers are randomized at each stage: from one to all, in about equal steps."""
    return sorted({round(float(n)) for n in np.linspace(1, n_layers, stages)}) if stages > 1 else [n_layers]


def layers_with_weights(model: nn.Module) -> list[str]:
    """Name the modules that have parameters of their own, in the order of their definition."""
    return [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]


@torch.no_grad()
def randomize(model: nn.Module, layers: Sequence[str], *, seed: int) -> None:
    """Shuffle the values within every parameter and running statistic of some layers, in place.

    What a layer has learned is lost and its scale is not: new draws from an initial distribution would let the
    activations of a deep network vanish, whose maps would then be empty and tell nothing. Layers are dotted names of
    modules; parameters of modules inside them are left alone. Seed and name fix the order.
    """
    for name in layers:
        generator = torch.Generator().manual_seed(image_seed(seed, name))
        layer = model.get_submodule(name)
        for values in [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            order = torch.randperm(values.numel(), generator=generator).to(values.device)
            values.copy_(values.flatten()[order].view_as(values))


def cascade_maps(
    model: nn.Module, explain: Callable[[nn.Module], Mapping[str, Tensor]], *, stages: int, seed: int
) -> Iterator[tuple[int, str, Mapping[str, Tensor]]]:
    """Explain a copy of a network as its layers are randomized from the last one down.

    Yields how many layers are randomized, the name of the deepest of them, and what `explain` returns for the network.
    """
    names = layers_with_weights(model)
    broken, done = copy.deepcopy(model), 0
    for count in each(cascade(len(names), stages), "stages of randomization"):
        randomize(broken, names[len(names) - count : len(names) - done], seed=seed)
        done = count
        yield count, names[-count], explain(broken)


def cam_maps(
    model: nn.Module, *, inputs: Tensor, targets: Tensor, layer: str, methods: Sequence[str], chunk: int
) -> dict[str, Tensor]:
    """Explain normalized `inputs` by several class activation maps, on the CPU; arguments as of `run.cam_maps`."""
    return {
        f"{method}-{layer}": run.cam_maps(model, layer, inputs, targets, method=method, chunk=chunk)[0][
            "saliency"
        ].cpu()
        for method in methods
    }


def next_source_image(names: Sequence[str]) -> Tensor | None:
    """Index (n,) of the next image of another source image, around the end; None where there is but one."""
    if len(set(names)) < 2:
        return None
    steps = (((i + step) % len(names) for step in range(1, len(names))) for i in range(len(names)))
    return torch.tensor([next(j for j in own if names[j] != names[i]) for i, own in enumerate(steps)])


# ---- LIME drawn again


def draw(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    segments: Tensor,
    targets: Tensor,
    image_ids: Sequence[str],
    *,
    repeats: int,
    n_samples: int,
    hide: str,
    batch_size: int,
    seed: int,
    design: str = "bernoulli",
    known: Sequence[Tensor] | None = None,
) -> tuple[list[lime_samples.Samples | None], dict[int, str]]:
    """Draw the samples of LIME several times, each time with another seed; the first are those of the explanation.

    The arguments are as of `lime_samples.sample`, `hide` a key of `fill.HIDE`; as in `run.lime_explainer` the seed,
    image id and repeat fix the samples. `known` are the predictions of the explanation. Gives the samples of each
    repeat, None where LIME can explain no image, and why it cannot explain an image, by its number.
    """
    options = {"n_samples": n_samples, "hide": fill.HIDE[hide], "batch_size": batch_size, "design": design}
    draw_once = partial(lime_samples.sample, predict, **options)

    def sample(places: list[int]) -> list[lime_samples.Samples]:
        samples = []
        for names in each(repeated_ids(image_ids, repeats), "draws of LIME"):
            own = {"seeds": [image_seed(seed, name) for name in names], "image_ids": image_ids}
            own |= {"known": known} if known is not None and not samples else {}
            samples.append(lime_samples.on_rows(draw_once, places, images, segments, targets, **own))
        return samples

    unknown = items.reasons_where(targets < 0, items.NO_LABEL)
    samples, reasons = items.without_failing(sample, len(images), unknown)
    return samples or [None] * repeats, reasons


def expected_jaccard(n: int, k: int) -> float:
    """Mean Jaccard index of two sets of `k` of `n` things that are drawn at random."""
    shared = np.arange(max(0, 2 * k - n), k + 1)
    return float((scipy.stats.hypergeom(n, k, k).pmf(shared) * shared / (2 * k - shared)).sum())


def top_superpixels(coefficients: Tensor, size: int) -> Tensor:
    """Mark the largest coefficients of each row of (draws, superpixels) but none of 0, which are not selected."""
    return surrogate.largest(coefficients, size) & (coefficients != 0)


def mean_jaccard(sets: Tensor) -> float:
    """Average the Jaccard index over all pairs of sets, (draws, superpixels) bool."""
    return torch.stack([(a & b).sum() / (a | b).sum() for a, b in combinations(sets, 2)]).double().mean().item()


def _mean_iou(maps: Tensor, area: float, name: str, seed: int) -> tuple[float, float]:
    """Average the equal-area IoU over all pairs of maps (draws, h, w), and what ties let it reach; NaN without one."""
    seeds = stream_seeds(seed, name, [str(repeat) for repeat in range(len(maps))])
    mean = masks.mask_stability(maps[:, None], area, seeds=[[own] for own in seeds]).item()
    ceiling = float(np.mean([min(pair) for pair in combinations(self_iou(maps, area).tolist(), 2)]))
    return mean, np.nan if np.isnan(mean) else ceiling


def seed_stability(
    coefficients: Mapping[int, Tensor], labels: Tensor, *, top: int, area: float, image_id: str, seed: int
) -> dict[int, dict[str, tuple[float, float, float]]]:
    """Tell how much LIME's explanation of one image, with superpixels `labels` (h, w), varies from seed to seed.

    `coefficients` are (seeds, superpixels) by the number of samples; the largest is the full count. Image id and seed
    fix the order of ties; `top` and `area` are as of `tables.sanity.check_stability`. Gives, by the number of samples,
    for each of `scales.STABILITY_MEASURES` the value, what chance gives and what ties let it reach, NaN where unknown.
    """
    d = int(labels.max()) + 1
    size = min(top, d)
    final = top_superpixels(coefficients[max(coefficients)], size)
    found = {}
    for n, own in coefficients.items():
        best = top_superpixels(own, size)
        maps = own.clamp(min=0)[:, labels]
        iou, ceiling = _mean_iou(maps, area, f"{image_id}/{n}", seed)
        found[n] = {
            "top_jaccard": (mean_jaccard(best), expected_jaccard(d, size), np.nan),
            "equal_area_iou": (iou, chance_iou(area), ceiling),
            "kept": ((best & final).double().sum(1).div(size).mean().item(), size / d, np.nan),
        }
    return found
