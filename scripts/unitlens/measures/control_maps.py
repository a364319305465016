"""Maps that know nothing of a model, against which explainers are measured."""

from collections.abc import Sequence

import torch
from torch import Tensor

CONTROLS = ("random", "gaussian")
_GAUSSIAN_WIDTH = 0.25  # standard deviation of the centered Gaussian, as a share of each side


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


def make_control_maps(shape: tuple[int, int], *, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Make the maps (n, h, w) of each of `CONTROLS`; arguments as of `random_saliency`."""
    gaussian = centered_gaussian(shape).expand(len(seeds), -1, -1)
    return dict(zip(CONTROLS, (random_saliency(shape, seeds=seeds), gaussian), strict=True))


def is_flat(saliency: Tensor) -> Tensor:
    """Tell which maps (n, h, w) name no pixel before another, because they are constant or not finite; (n,) bool."""
    pixels = torch.as_tensor(saliency).flatten(1)
    return (pixels.amax(1) == pixels.amin(1)) | ~pixels.isfinite().all(1)
