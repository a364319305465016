"""Class activation maps: what a prediction looks at, seen from one layer.

Grad-CAM (Selvaraju 2017), HiResCAM (Draelos 2020), Grad-CAM++ (Chattopadhay 2018), XGrad-CAM (Fu 2020), LayerCAM
(Jiang 2021), Ablation-CAM (Desai 2020) and Score-CAM (Wang 2020), batched over images. Tested against `grad-cam` 1.5.7,
except where that package departs from the paper: Ablation-CAM of layers whose minimum is not 0, or with Y < 0.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitlens.explainers.forward import (
    check_arguments,
    check_finite,
    checked_forward,
    forward,
    frozen,
    in_chunks,
    pick,
)
from unitlens.explainers.tail import as_logits, find_tail
from unitlens.jobs.progress import progress
from unitlens.networks.layer_outputs import as_grid, channel_axis

__all__ = ["METHODS", "ablation_mode", "explain", "explain_and_count", "passes", "raw_maps", "rescale"]


def explain(model: nn.Module, layer: str, images: Tensor, targets: Tensor, *, method: str, chunk: int = 64) -> Tensor:
    """Explain one output per image by a saliency map from `layer`.

    The map ReLU(sum_k w_k A_k) is scaled to [0, 1], resized bilinearly to the image, and scaled again.

    Parameters
    ----------
    model : nn.Module
        Classifier returning logits (n, classes), or (n,) if it has one output. It runs in evaluation mode; its
        state is left as found.
    layer : str
        Dotted name of a layer with outputs (n, c, h, w), (n, h, w, c) or tokens (n, t, c); of a module that runs
        several times its last call, ``<name>#1`` the first.
    images : (n, channels, h, w) float Tensor
        Normalized as the model expects, on its device.
    targets : (n,) int Tensor
        The output to explain for each image.
    method : str
        A key of `METHODS`.
    chunk : int
        The most images in flight at once, which bounds the memory; the maps do not depend on it. It is halved, with a
        warning in the log, when the device runs out of memory.

    Returns
    -------
    (n, h, w) Tensor in [0, 1]
        All zeros where the raw map is constant.

    Raises
    ------
    ValueError
        If an argument is out of range; if the layer is unknown, has no spatial grid or does not influence the output;
        if logits are NaN or infinite (the message names layer and image).

    Notes
    -----
    Ablation-CAM lives on small differences between logits: run it in float32. It sets a channel to 0 in all tokens,
    the class token among them; no other method reads the class token.
    """
    return explain_and_count(model, layer, images, targets, method=method, chunk=chunk)[0]


def explain_and_count(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, *, method: str, chunk: int = 64
) -> tuple[Tensor, Tensor]:
    """Do as `explain`, and tell how many passes of channels (n,) int64 each image did not need.

    Score-CAM runs channels whose masks are equal once; Ablation-CAM runs none that is 0 everywhere, and none at all
    where `ablation_mode` is "linear". Methods by gradients have no such passes: 0.
    """
    maps, saved = _raw_maps(model, layer, images, targets, method, chunk)
    return rescale(maps, images.shape[2:]), saved


def raw_maps(model: nn.Module, layer: str, images: Tensor, targets: Tensor, *, method: str, chunk: int = 64) -> Tensor:
    """Return the unscaled maps (n, grid height, grid width) of the layer's own resolution; arguments as of `explain`.

    The weights of Ablation-CAM are Y - Y_-k; the division by Y would cancel in the scaling, and turn the map upside
    down where Y < 0. The errors are those of `explain`, a ValueError for an unknown `method` among them.
    """
    return _raw_maps(model, layer, images, targets, method, chunk)[0]


def _raw_maps(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, method: str, chunk: int
) -> tuple[Tensor, Tensor]:
    images, targets = check_arguments(images, targets, chunk)
    if method not in METHODS:
        raise ValueError(f"`method` is {method!r}; allowed: {', '.join(METHODS)}")

    def run(images: Tensor, targets: Tensor, chunk: int, first: int) -> tuple[Tensor, Tensor]:
        found = METHODS[method].maps(model, layer, images, targets, chunk, first)
        maps, saved = found if isinstance(found, tuple) else (found, torch.zeros_like(targets))
        check_finite(maps, "saliency", layer, first)
        return maps.relu(), saved

    with frozen(model), torch.inference_mode(False), torch.no_grad():
        maps, saved = zip(*in_chunks(run, images, targets, chunk), strict=True)
        return torch.cat(maps), torch.cat(saved)


def rescale(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale maps (n, h, w) to [0, 1], resize them bilinearly to `size` (height, width), and scale them again.

    To scale is (x - min) / (max - min + 1e-7) for each map; a constant map becomes zeros.
    """
    maps = torch.as_tensor(maps)
    maps = _min_max(maps.to(torch.promote_types(maps.dtype, torch.float32)), 1e-7)  # 1e-7 is lost in half precision
    maps = F.interpolate(maps[:, None], tuple(size), mode="bilinear", align_corners=False)[:, 0]
    return _min_max(maps, 1e-7)


def ablation_mode(model: nn.Module, layer: str, images: Tensor) -> str:
    """Tell how Ablation-CAM re-runs `model` for each channel of `layer`; one image (1, 3, h, w) is enough.

    ``"linear"``: not at all, for what follows the layer is linear, so that one backward pass tells what each channel
    contributes. ``"traced"``: only the operations after the layer, as found by torch.fx. ``"replayed"``: all, but for
    the modules that ran before the layer, whose outputs are kept. ``"full"``: the whole network. Empty where there is
    no image.
    """
    if not len(images):
        return ""
    with frozen(model), torch.inference_mode():
        images = torch.as_tensor(images)
        return find_tail(model, layer, images, *forward(model, layer, images))[0]


def passes(model: nn.Module, layer: str, images: Tensor, *, method: str) -> str:
    """Tell what `method` runs for each channel of `layer`, for tables; one image (1, 3, h, w) is enough.

    That of `ablation_mode` for Ablation-CAM, ``"full"`` for Score-CAM; empty for the others, which run one backward
    pass for all channels.
    """
    return METHODS[method].passes(model, layer, images)


# ---- methods by gradients


def _gradient_maps(
    formula: Callable, model: nn.Module, layer: str, images: Tensor, targets: Tensor, chunk: int, first: int
) -> Tensor:
    with torch.enable_grad():
        activations, logits = forward(model, layer, images, first)
        score = pick(logits, targets, first).sum()
    (gradients,) = torch.autograd.grad(score, activations)
    activation_grid, gradient_grid = (as_grid(values.detach(), images, layer) for values in (activations, gradients))
    if gradients.ndim == 3 and gradients.any() and not gradient_grid.any():
        raise ValueError(f"only the class token of layer {layer!r} influences the output; name an earlier layer")
    return formula(activation_grid, gradient_grid)


def _gradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    return _weighted_sum(gradients.mean((2, 3)), activations)


def _hirescam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients * activations).sum(1)


def _gradcam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    totals = activations.sum((2, 3), keepdim=True)
    alpha = gradients**2 / (2 * gradients**2 + totals * gradients**3 + 1e-6)
    return _weighted_sum((alpha * gradients.relu()).sum((2, 3)), activations)


def _xgradcam(activations: Tensor, gradients: Tensor) -> Tensor:
    totals = activations.sum((2, 3)) + 1e-7
    return _weighted_sum((gradients * activations).sum((2, 3)) / totals, activations)


def _layercam(activations: Tensor, gradients: Tensor) -> Tensor:
    return (gradients.relu() * activations).sum(1)


# ---- methods by more forward passes, as many as channels that differ


@torch.inference_mode()
def _ablation_maps(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, chunk: int, first: int
) -> tuple[Tensor, Tensor]:
    activations, logits = checked_forward(model, layer, images, first)
    score = pick(logits, targets, first)
    grid = as_grid(activations, images, layer)
    mode, tail = find_tail(model, layer, images, activations, logits)
    axis = channel_axis(activations, *images.shape[2:])
    if mode == "linear":
        drops = _linear_drops(model, layer, images, targets, axis, first)
        return _weighted_sum(drops, grid), torch.full_like(targets, grid.shape[1])

    def without_channel(image: Tensor, channel: Tensor) -> Tensor:
        ablated = activations[image]
        ablated.movedim(axis, 1)[torch.arange(len(image), device=image.device), channel] = 0
        return tail(ablated, image)

    active = activations.movedim(axis, 1).flatten(2).any(2)  # without a channel that is 0 everywhere nothing changes
    image, channel = active.nonzero().T
    scores = score[:, None].repeat(1, grid.shape[1])
    scores[image, channel] = _scores(without_channel, image, channel, targets, chunk).to(scores.dtype)
    check_finite(scores, "logits", layer, first)
    return _weighted_sum(score[:, None] - scores, grid), (~active).sum(1)


def _linear_drops(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, axis: int, first: int
) -> Tensor:  # (n, channels)
    """Tell what the targets' logits lose without each channel where only linear operations follow the layer."""
    with torch.inference_mode(False), torch.enable_grad():
        activations, logits = forward(model, layer, images, first)
        (gradients,) = torch.autograd.grad(pick(logits, targets, first).sum(), activations)
    exact = torch.promote_types(gradients.dtype, torch.float32)
    return (gradients.to(exact) * activations.detach()).movedim(axis, 1).flatten(2).sum(2)


@torch.inference_mode()
def _score_maps(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, chunk: int, first: int
) -> tuple[Tensor, Tensor]:
    activations, logits = checked_forward(model, layer, images, first)
    pick(logits, targets, first)  # checks the targets before the long work
    grid = as_grid(activations, images, layer)
    above = grid.to(torch.promote_types(grid.dtype, torch.float32))  # 1e-8 is lost in half precision
    above = above - above.amin((2, 3), keepdim=True)  # a constant channel is exactly 0, however it is resized

    def behind_mask(image: Tensor, channel: Tensor) -> Tensor:
        masks = F.interpolate(above[image, channel][:, None], images.shape[2:], mode="bilinear", align_corners=True)
        return model(images[image] * _min_max(masks, 1e-8).to(images.dtype))

    same = torch.stack([_equal_rows(own) for own in _min_max(above, 1e-8).flatten(2)])  # (n, channels)
    image, channel = (same == torch.arange(same.shape[1], device=same.device)).nonzero().T
    scores = logits.new_zeros(same.shape)
    scores[image, channel] = _scores(behind_mask, image, channel, targets, chunk).to(scores.dtype)
    scores = scores.gather(1, same)
    check_finite(scores, "logits", layer, first)
    return _weighted_sum(scores.softmax(1), grid), same.shape[1] - image.bincount(minlength=len(images))


def _equal_rows(rows: Tensor) -> Tensor:
    """Give for each of rows (k, d) the first one (k,) that equals it."""
    group = rows.cpu().unique(dim=0, return_inverse=True)[1]  # "mps" has none for rows
    first = torch.full_like(group, len(group)).scatter_reduce(0, group, torch.arange(len(group)), "amin")
    return first[group].to(rows.device)


def _scores(
    run: Callable[[Tensor, Tensor], Tensor], image: Tensor, channel: Tensor, targets: Tensor, chunk: int
) -> Tensor:
    """Return the target's score (m,) of ``run(image, channel)`` for indices (m,) of images and of channels."""
    scores = [torch.zeros(0, device=targets.device)]
    parts = torch.arange(len(image), device=image.device).split(chunk) if len(image) else ()
    for part in progress(parts, len(image), "channels"):
        logits = as_logits(run(image[part], channel[part]), len(part))
        scores.append(logits.gather(1, targets[image[part], None])[:, 0])
    return torch.cat(scores)


class Method(NamedTuple):
    """A class activation map: all that a new one adds is such an entry, and its formula."""

    # Of model, layer, images, targets, chunk, index of the first image: maps, or (maps, passes saved).
    maps: Callable[..., Tensor | tuple[Tensor, Tensor]]
    passes: Callable[..., str] = lambda *_: ""  # what it runs for each channel, of model, layer, images


METHODS = {
    "gradcam": Method(partial(_gradient_maps, _gradcam)),
    "hirescam": Method(partial(_gradient_maps, _hirescam)),
    "gradcam++": Method(partial(_gradient_maps, _gradcam_plus_plus)),
    "xgradcam": Method(partial(_gradient_maps, _xgradcam)),
    "layercam": Method(partial(_gradient_maps, _layercam)),
    "ablationcam": Method(_ablation_maps, ablation_mode),
    "scorecam": Method(_score_maps, lambda *_: "full"),
}


# ---- what all methods share


def _weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Sum channels (n, c, h, w) by weights (n, c)."""
    return torch.einsum("nc,nchw->nhw", weights, activations)


def _min_max(maps: Tensor, epsilon: float) -> Tensor:
    """Scale each map (..., h, w) to [0, 1]."""
    low, high = torch.aminmax(maps.flatten(-2), dim=-1, keepdim=True)
    return (maps - low[..., None]) / (high - low + epsilon)[..., None]
