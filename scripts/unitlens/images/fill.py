"""What stands where pixels are taken away: mean color, gray, blur, or what is imputed from the pixels around.

ROAD's imputation (Rong et al., ICML 2022), without its noise: every removed pixel is the weighted mean of its eight
neighbors, 1/6 for the direct and 1/12 for the diagonal ones; at the border the weights of those that exist are scaled
to 1. That is a linear system, symmetric and positive definite, solved here for a batch on the device by conjugate
gradients under a multigrid preconditioner, in a number of rounds that hardly grows with the size of a hole. Tested
against the sparse solver of `grad-cam`.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

HIDE = {"mean": None, "gray": 128, "black": 0, "white": 255, "blur": "blur", "noise": "noise"}
COLORS = {name: value for name, value in HIDE.items() if not isinstance(value, str)}  # what `lime` knows too

# Standard deviation in pixels of the blur that hides superpixels: Fong and Vedaldi, "Interpretable Explanations of
# Black Boxes by Meaningful Perturbation" (ICCV 2017).
_BLUR_SIGMA = 10
# Gray levels: estimated error at which an image is done. Images are rounded to whole levels afterwards.
TOLERANCE = 0.05
_MOST_ROUNDS = 100
_COARSEST = 4  # pixels
_COARSEST_SWEEPS = 8


def hidden_fill(
    images: Tensor,
    segments: Tensor,
    n_segments: list[int],
    hide: float | str | None,
    generators: list[torch.Generator],
) -> Tensor:
    """Give what stands where superpixels are hidden in `images` (n, h, w, 3), uint8, or a broadcast of it.

    `segments` are (n, h, w). A ValueError if `hide` is not allowed.
    """
    if hide is None:
        return torch.stack([_mean_colors(*pair) for pair in zip(images, segments, n_segments, strict=True)])
    if hide == "blur":
        return blurred(images)
    if hide == "noise":
        noise = [torch.randint(0, 256, images.shape[1:], generator=g, dtype=torch.uint8) for g in generators]
        return torch.stack(noise).to(images.device)
    if not is_gray(hide):
        raise ValueError(f'`hide` is {hide!r}; allowed: None (mean color), a whole number 0-255, "blur" or "noise"')
    return torch.full_like(images, int(hide))


def is_gray(hide: float | str) -> bool:
    """Tell whether superpixels are hidden by one gray value."""
    return not isinstance(hide, str) and 0 <= hide <= 255 and hide == int(hide)


def _mean_colors(image: Tensor, labels: Tensor, n_segments: int) -> Tensor:  # (h, w, 3) uint8
    colors, labels_flat = image.reshape(-1, 3).long(), labels.flatten()
    sums = colors.new_zeros(n_segments, 3).index_add(0, labels_flat, colors)
    return (sums // torch.bincount(labels_flat)[:, None]).to(torch.uint8)[labels]


def blurred(images: Tensor) -> Tensor:
    """Blur images (n, h, w, 3), uint8, with a Gaussian of 10 pixels, their borders repeated."""
    radius = 3 * _BLUR_SIGMA
    given = images.cpu() if images.device.type == "mps" else images  # Apple's GPUs have no float64
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64, device=given.device)
    kernel = torch.softmax(-offset.square() / (2 * _BLUR_SIGMA**2), 0).expand(3, 1, 1, -1)
    pixels = given.permute(0, 3, 1, 2).double()  # (n, 3, h, w)
    for _ in range(2):  # along the width, then, transposed, along the height
        padded = functional.pad(pixels, (radius, radius, 0, 0), mode="replicate")
        pixels = functional.conv2d(padded, kernel, groups=3).mT
    return pixels.permute(0, 2, 3, 1).round().to(torch.uint8).contiguous().to(images.device)


# ---- imputation


class Level(NamedTuple):
    """The system at one resolution: diagonal * pixel - weighted sum of its neighbors, for every unknown pixel."""

    unknown: Tensor  # (n, 1, h, w), 1 or 0
    diagonal: Tensor  # (1, 1, h, w): sum of the weights of the neighbors that exist
    inverse: Tensor  # (n, 1, h, w): 1 / diagonal, 0 at known pixels

    def apply(self, x: Tensor) -> Tensor:
        """Multiply `x`, zero at known pixels where it is a correction, by the matrix."""
        return (self.diagonal * x).sub_(_neighbors(x)).mul_(self.unknown)

    def sweep(self, x: Tensor, right: Tensor) -> Tensor:
        """Solve for every unknown pixel with its neighbors as they are: one round of Jacobi's method."""
        return _neighbors(x).add_(right).mul_(self.inverse)


def impute(images: Tensor, removed: Tensor) -> Tensor:
    """Fill the removed pixels, (n, h, w) bool, of each image (n, h, w, channels), float32 gray levels.

    The known pixels stay as they are, the others come within `TOLERANCE` of the solution. An image's result does not
    depend on its batch. ValueError if an image has no pixel left, or the shapes differ; RuntimeError if the solution
    is not reached.
    """
    if removed.shape != images.shape[:3]:
        raise ValueError(f"`removed` has shape {tuple(removed.shape)}, the images have {tuple(images.shape[:3])}")
    if removed.flatten(1).all(1).any():
        raise ValueError("`removed` leaves no pixel of an image to fill the others from")
    unknown = removed[:, None].float()  # (n, 1, h, w)
    known = images.permute(0, 3, 1, 2).float() * (1 - unknown)  # (n, channels, h, w)
    levels = _levels(unknown)
    mean = known.sum((2, 3), keepdim=True) / (1 - unknown).sum((2, 3), keepdim=True)
    start = known + unknown * mean
    return _solve(levels, start).permute(0, 2, 3, 1)


def _solve(levels: list[Level], x: Tensor) -> Tensor:
    """Preconditioned conjugate gradients from `x`, whose known pixels hold; an image that is done stays as it is."""
    finest = levels[0]
    residual = -finest.apply(x)
    direction, product = torch.zeros_like(x), None
    for _ in range(_MOST_ROUNDS):
        error = _cycle(levels, residual)
        active = error.abs().amax((1, 2, 3), keepdim=True) > TOLERANCE
        if not active.any():
            return x + error
        last, product = product, _dot(residual, error)
        direction = error if last is None else error + _ratio(product, last) * direction
        image = finest.apply(direction)
        step = torch.where(active, _ratio(product, _dot(direction, image)), 0)
        x, residual = x + step * direction, residual - step * image
    raise RuntimeError(f"imputation has not come within {TOLERANCE} gray levels after {_MOST_ROUNDS} rounds")


def _cycle(levels: list[Level], right: Tensor) -> Tensor:
    """Estimate the solution for a right-hand side: smooth, correct from half the resolution, smooth."""
    level, *coarser = levels
    x = level.sweep(level.inverse * right, right)
    if not coarser:
        for _ in range(_COARSEST_SWEEPS):
            x = level.sweep(x, right)
        return x
    height, width = x.shape[2:]
    residual = _even(right - level.apply(x))
    residual = residual[..., ::2, :] + residual[..., 1::2, :]
    residual = residual[..., ::2] + residual[..., 1::2]
    correction = _cycle(coarser, coarser[0].unknown * residual).repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = x + level.unknown * correction[..., :height, :width]
    return level.sweep(level.sweep(x, right), right)


def _levels(unknown: Tensor) -> list[Level]:
    """Set the system up at ever half the resolution; a pixel is unknown there if all that it stands for are."""
    exists, levels = torch.ones_like(unknown[:1]), []
    while True:
        diagonal = _neighbors(exists)
        levels.append(Level(unknown, diagonal, _ratio(unknown, diagonal)))
        if min(unknown.shape[2:]) <= _COARSEST or not unknown.any():
            return levels
        known = functional.max_pool2d(_even(exists - unknown), 2)
        exists = functional.max_pool2d(_even(exists), 2)
        unknown = exists - known


def _neighbors(x: Tensor) -> Tensor:
    """Sum the neighbors, the direct ones twice and the diagonal ones once; there is nothing beyond the border."""
    padded = functional.pad(x, (1, 1, 1, 1))
    rows = (padded[..., :-2, :] + padded[..., 2:, :]).add_(padded[..., 1:-1, :], alpha=2)
    return (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2).sub_(x, alpha=4)


def _even(x: Tensor) -> Tensor:
    return functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Divide a by b, giving 0 where b is 0: nothing is left to do there."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))
