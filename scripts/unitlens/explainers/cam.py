"""Class activation maps: what a prediction looks at, seen from one layer.

Grad-CAM (Selvaraju 2017), HiResCAM (Draelos 2020), Grad-CAM++ (Chattopadhay 2018), XGrad-CAM (Fu 2020), LayerCAM
(Jiang 2021), Ablation-CAM (Desai 2020) and Score-CAM (Wang 2020), batched over images. Tested against `grad-cam` 1.5.7,
except where that package departs from the paper: Ablation-CAM of layers whose minimum is not 0, or with Y < 0.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unitlens.explainers import items
from unitlens.explainers.tail import as_logits, find_tail
from unitlens.jobs.progress import progress
from unitlens.networks.hooks import capture
from unitlens.networks.layer_outputs import as_grid, channel_axis, check_rows
from unitlens.networks.memory import is_out_of_memory

__all__ = ["METHODS", "ablation_mode", "explain", "passes", "raw_maps", "rescale"]

logger = logging.getLogger(__name__)


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
    down where Y < 0.
    """
    images, targets = _check_arguments(images, targets, method, chunk)
    maps, start = [], 0
    with _frozen(model), torch.inference_mode(False), torch.no_grad():
        while start < len(images):
            part = slice(start, start + chunk)
            try:
                part_maps = METHODS[method].maps(model, layer, images[part], targets[part], chunk, start)
            except RuntimeError as error:
                if chunk == 1 or not is_out_of_memory(error):
                    raise
                chunk //= 2
                logger.warning("out of memory: going on with chunk=%d", chunk)
                continue
            _check_finite(part_maps, "saliency", layer, start)
            maps.append(part_maps.relu())
            start = part.stop
    return torch.cat(maps)


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
    with _frozen(model), torch.inference_mode():
        images = torch.as_tensor(images)
        return find_tail(model, layer, images, *_forward(model, layer, images))[0]


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
        activations, logits = _forward(model, layer, images, first)
        score = _pick(logits, targets, first).sum()
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
    activations, logits = _checked_forward(model, layer, images, first)
    score = _pick(logits, targets, first)
    grid = as_grid(activations, images, layer)
    _, tail = find_tail(model, layer, images, activations, logits)
    axis = channel_axis(activations, *images.shape[-2:])

    def without_channel(image: Tensor, channel: Tensor) -> Tensor:
        ablated = activations[image]
        ablated.movedim(axis, 1)[torch.arange(len(image), device=image.device), channel] = 0
        return tail(ablated, image)

    scores = _channel_scores(without_channel, targets, grid.shape[1], chunk)
    _check_finite(scores, "logits", layer, first)
    return _weighted_sum(score[:, None] - scores, grid)


@torch.inference_mode()
def _score_maps(model: nn.Module, layer: str, images: Tensor, targets: Tensor, chunk: int, first: int) -> Tensor:
    activations, logits = _checked_forward(model, layer, images, first)
    _pick(logits, targets, first)  # checks the targets before the long work
    grid = as_grid(activations, images, layer)

    def behind_mask(image: Tensor, channel: Tensor) -> Tensor:
        masks = grid[image, channel][:, None]  # (m, 1, h, w)
        masks = F.interpolate(masks, images.shape[-2:], mode="bilinear", align_corners=True)
        return model(images[image] * _min_max(masks, 1e-8).to(images.dtype))

    scores = _channel_scores(behind_mask, targets, grid.shape[1], chunk)
    _check_finite(scores, "logits", layer, first)
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


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Keep `model` in evaluation mode and its parameters without gradients inside the block."""
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        _set(training, trainable, False)
        yield
    finally:
        _set(training, trainable, True)


def _set(training: list[nn.Module], trainable: list[nn.Parameter], value: bool) -> None:
    for module in training:
        module.training = value
    for parameter in trainable:
        parameter.requires_grad_(value)


def _forward(model: nn.Module, layer: str, images: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return the layer's output and the logits; where gradients are enabled, from the layer onwards and checked."""
    with capture(model, [layer], leaf=torch.is_grad_enabled()) as outputs:
        logits = as_logits(model(images), len(images))
    if layer not in outputs or (torch.is_grad_enabled() and not logits.requires_grad):
        raise ValueError(f"layer {layer!r} does not influence the output")
    check_rows(outputs[layer], len(images), layer)
    _check_finite(logits, "logits", layer, first)
    return outputs[layer], logits


def _checked_forward(model: nn.Module, layer: str, images: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Do as `_forward` without gradients, after its checks on the first image."""
    with torch.inference_mode(False), torch.enable_grad():
        activations, logits = _forward(model, layer, images[:1], first)
    if len(images) == 1:
        return activations.detach(), logits.detach()
    return _forward(model, layer, images, first)


def _pick(logits: Tensor, targets: Tensor, first: int) -> Tensor:
    """Return each image's logit of its target (n,)."""
    bad = ((targets < 0) | (targets >= logits.shape[1])).nonzero().flatten()
    if len(bad):
        index, classes = int(bad[0]), logits.shape[1]
        raise ValueError(f"`targets` of image {first + index}: got {int(targets[index])}, allowed 0 to {classes - 1}")
    return logits.gather(1, targets[:, None])[:, 0]


def _weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Sum channels (n, c, h, w) by weights (n, c)."""
    return torch.einsum("nc,nchw->nhw", weights, activations)


def _min_max(maps: Tensor, epsilon: float) -> Tensor:
    """Scale each map (..., h, w) to [0, 1]."""
    low, high = torch.aminmax(maps.flatten(-2), dim=-1, keepdim=True)
    return (maps - low[..., None]) / (high - low + epsilon)[..., None]


def _check_finite(values: Tensor, what: str, layer: str, first: int) -> None:
    """Raise if the values (n, ...) of an image are not all finite; `first` is the index of the first image."""
    if bad := items.not_finite(values, first=first):
        raise items.ItemError(f"NaN or infinite {what}: layer {layer!r}, image {next(iter(bad))}", bad)


def _check_arguments(images: Tensor, targets: Tensor, method: str, chunk: int) -> tuple[Tensor, Tensor]:
    images = torch.as_tensor(images).detach()
    targets = torch.as_tensor(targets, device=images.device)
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise ValueError(f"`images` must be float (n, channels, h, w), got {images.dtype} {tuple(images.shape)}")
    if targets.shape != images.shape[:1] or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"`targets` must be int ({len(images)},), got {targets.dtype} {tuple(targets.shape)}")
    if method not in METHODS:
        raise ValueError(f"`method` is {method!r}; allowed: {', '.join(METHODS)}")
    if chunk < 1:
        raise ValueError(f"`chunk` must be at least 1, got {chunk}")
    return images, targets.long()
