"""One pass of a classifier for explainers that read a layer: its output and the scores, and what is checked of both."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from unitlens.explainers import items
from unitlens.explainers.tail import as_logits
from unitlens.networks.hooks import capture
from unitlens.networks.layer_outputs import check_rows
from unitlens.networks.memory import is_out_of_memory

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Keep `model` in evaluation mode and its parameters without gradients inside the block."""
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        _set(training, trainable, False)
        yield
    finally:
        _set(training, trainable, True)


def forward(model: nn.Module, layer: str, images: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return the layer's output (n, ...) and the logits (n, classes) of images (n, channels, h, w).

    Where gradients are enabled, they reach from the logits to the layer. A ValueError if the layer does not influence
    the output; `first` is the index of the first image in errors.
    """
    with capture(model, [layer], leaf=torch.is_grad_enabled()) as outputs:
        logits = as_logits(model(images), len(images))
    if layer not in outputs or (torch.is_grad_enabled() and not logits.requires_grad):
        raise ValueError(f"layer {layer!r} does not influence the output")
    check_rows(outputs[layer], len(images), layer)
    check_finite(logits, "logits", layer, first)
    return outputs[layer], logits


def checked_forward(model: nn.Module, layer: str, images: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Do as `forward` for images (n, channels, h, w) without gradients, after its checks on the first image."""
    with torch.inference_mode(False), torch.enable_grad():
        activations, logits = forward(model, layer, images[:1], first)
    if len(images) == 1:
        return activations.detach(), logits.detach()
    return forward(model, layer, images, first)


def pick(logits: Tensor, targets: Tensor, first: int = 0) -> Tensor:
    """Return each image's logit (n,) of its target; a ValueError names the first target out of range."""
    bad = ((targets < 0) | (targets >= logits.shape[1])).nonzero().flatten()
    if len(bad):
        index, classes = int(bad[0]), logits.shape[1]
        raise ValueError(f"`targets` of image {first + index}: got {int(targets[index])}, allowed 0 to {classes - 1}")
    return logits.gather(1, targets[:, None])[:, 0]


def check_finite(values: Tensor, what: str, layer: str, first: int = 0) -> None:
    """Raise an `ItemError` if values (n, ...) of an image are not all finite; `first` is the first one's index."""
    if bad := items.not_finite(values, first=first):
        raise items.ItemError(f"NaN or infinite {what}: layer {layer!r}, image {next(iter(bad))}", bad)


def check_arguments(images: Tensor, targets: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Return `images` (n, channels, h, w) without gradients and `targets` (n,) as int64; a ValueError if ill-formed."""
    images = torch.as_tensor(images).detach()
    targets = torch.as_tensor(targets, device=images.device)
    if images.ndim != 4 or not len(images) or not images.is_floating_point():
        raise ValueError(f"`images` must be float (n, channels, h, w), got {images.dtype} {tuple(images.shape)}")
    if targets.shape != images.shape[:1] or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"`targets` must be int ({len(images)},), got {targets.dtype} {tuple(targets.shape)}")
    if chunk < 1:
        raise ValueError(f"`chunk` must be at least 1, got {chunk}")
    return images, targets.long()


def in_chunks(
    run: Callable[[Tensor, Tensor, int, int], Result], images: Tensor, targets: Tensor, chunk: int
) -> list[Result]:
    """Give what ``run(images, targets, chunk, index of the first)`` makes of each part of images (n, channels, h, w).

    Parts are halved, with a warning in the log, when the device runs out of memory.
    """
    results, start = [], 0
    while start < len(images):
        part = slice(start, start + chunk)
        try:
            results.append(run(images[part], targets[part], chunk, start))
        except RuntimeError as error:
            if chunk == 1 or not is_out_of_memory(error):
                raise
            chunk //= 2
            logger.warning("out of memory: going on with chunk=%d", chunk)
            continue
        start = part.stop
    return results


def _set(training: list[nn.Module], trainable: list[nn.Parameter], value: bool) -> None:
    for module in training:
        module.training = value
    for parameter in trainable:
        parameter.requires_grad_(value)
