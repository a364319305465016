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

__all__ = ["METHODS", "ablation_mode", "explain", "passes", "raw_maps", "rescale"]


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
    maps = raw_maps(model, layer, images, targets, method=method, chunk=chunk)
    return rescale(maps, images.shape[-2:])


def raw_maps(model: nn.Module, layer: str, images: Tensor, targets: Tensor, *, method: str, chunk: int = 64) -> Tensor:
    """Return the unscaled maps (n, grid height, grid width) of the layer's own resolution; arguments as of `explain`.

    The weights of Ablation-CAM are Y - Y_-k; the division by Y would cancel in the scaling, and turn the map upside
    down where Y < 0. The errors are those of `explain`, a ValueError for an unknown `method` among them.
    """
    images, targets = check_arguments(images, targets, chunk)
    if method not in METHODS:
        raise ValueError(f"`method` is {method!r}; allowed: {', '.join(METHODS)}")

    def run(images: Tensor, targets: Tensor, chunk: int, first: int) -> Tensor:
        maps = METHODS[method].maps(model, layer, images, targets, chunk, first)
        check_finite(maps, "saliency", layer, first)
        return maps.relu()

    with frozen(model), torch.inference_mode(False), torch.no_grad():
        return torch.cat(in_chunks(run, images, targets, chunk))


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

    ``"traced"``: only the operations after the layer, as found by torch.fx. ``"replayed"``: all, but for the modules
    that ran before the layer, whose outputs are kept. ``"full"``: the whole network. Empty where there is no image.
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


# ---- methods by one more forward pass per channel


@torch.inference_mode()
def _ablation_maps(model: nn.Module, layer: str, images: Tensor, targets: Tensor, chunk: int, first: int) -> Tensor:
    activations, logits = checked_forward(model, layer, images, first)
    score = pick(logits, targets, first)
    grid = as_grid(activations, images, layer)
    _, tail = find_tail(model, layer, images, activations, logits)
    axis = channel_axis(activations, *images.shape[-2:])

    def without_channel(image: Tensor, channel: Tensor) -> Tensor:
        ablated = activations[image]
        ablated.movedim(axis, 1)[torch.arange(len(image), device=image.device), channel] = 0
        return tail(ablated, image)

    scores = _channel_scores(without_channel, targets, grid.shape[1], chunk)
    check_finite(scores, "logits", layer, first)
    return _weighted_sum(score[:, None] - scores, grid)


@torch.inference_mode()
def _score_maps(model: nn.Module, layer: str, images: Tensor, targets: Tensor, chunk: int, first: int) -> Tensor:
    activations, logits = checked_forward(model, layer, images, first)
    pick(logits, targets, first)  # checks the targets before the long work
    grid = as_grid(activations, images, layer)

    def behind_mask(image: Tensor, channel: Tensor) -> Tensor:
        masks = grid[image, channel][:, None]  # (m, 1, h, w)
        masks = F.interpolate(masks, images.shape[-2:], mode="bilinear", align_corners=True)
        return model(images[image] * _min_max(masks, 1e-8).to(images.dtype))

    scores = _channel_scores(behind_mask, targets, grid.shape[1], chunk)
    check_finite(scores, "logits", layer, first)
    return _weighted_sum(scores.softmax(1), grid)


def _channel_scores(run: Callable[[Tensor, Tensor], Tensor], targets: Tensor, channels: int, chunk: int) -> Tensor:
    """Return the target's score (n, channels) of ``run(image indices, channel indices)`` for every channel."""
    scores = []
    pairs_of_all = torch.arange(len(targets) * channels, device=targets.device)
    for pairs in progress(pairs_of_all.split(chunk), len(pairs_of_all), "channels"):
        image, channel = pairs // channels, pairs % channels
        logits = as_logits(run(image, channel), len(pairs))
        scores.append(logits.gather(1, targets[image, None])[:, 0])
    return torch.cat(scores).view(-1, channels)


class Method(NamedTuple):
    """A class activation map: all that a new one adds is such an entry, and its formula."""

    maps: Callable[..., Tensor]  # of model, layer, images, targets, chunk, index of the first image
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
