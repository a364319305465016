"""Run a network for the controls of its words: outputs whose names are known, and layers that have learned nothing."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unitlens.measures.sanity import layers_with_weights, randomize
from unitlens.networks import hooks, layer_outputs
from unitlens.networks.memory import halving
from unitlens.networks.network import Network, load_network

MASKED_UNITS = 64  # of a layer with shuffled weights, at random, that masks are compared with


def load(
    settings: Mapping[str, object], *files: str | Path, device: str, layers: Sequence[str], seed: int
) -> tuple[Network, nn.Module]:
    """Load a network of which `layers` will be read, and once more with shuffled weights; see `load_network`."""
    load_once = partial(load_network, settings, *files, device=device, layers=layers)
    return load_once(), load_once(change=partial(shuffle, seed=seed)).model


def shuffle(model: nn.Module, *, seed: int) -> None:
    """Shuffle the weights of a network within every tensor, in place."""
    randomize(model, layers_with_weights(model), seed=seed)


def outputs(
    net: Network, shuffled: nn.Module, batches: Iterable[Tensor], *, poolings: Mapping[str, str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Give the scores (n, classes) of a network, and layers (n, units) of it with its weights `shuffled`.

    `batches` are of uint8 images (n, h, w, channels), read once; `poolings` says how each layer is pooled, as
    `layer_outputs.pool` does. Values of shuffled weights that are not finite count as 0.
    """
    sizes = []

    @halving
    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        inputs = net.normalize(images)
        parts = [layer_outputs.pool(net.model(inputs))]
        with hooks.capture(shuffled, poolings) as layers:
            shuffled(inputs)
        for layer, pooling in poolings.items():
            parts.append(layer_outputs.pool(layers[layer].nan_to_num(0, 0, 0), pooling, images=images.shape[:3]))
        sizes[:] = [part.shape[1] for part in parts]
        return torch.cat([part.float().cpu() for part in parts], 1)

    rows = torch.cat([run(torch.as_tensor(images)) for images in batches])
    scores, *layers = rows.split(sizes, 1)
    return scores, dict(zip(poolings, layers, strict=True))


def beside_shuffled(
    net: Network, shuffled: nn.Module, layer: str, forward: Callable[[np.ndarray], Tensor], *, seed: int
) -> Callable[[np.ndarray], Tensor]:
    """Make the function that puts a layer's maps with weights `shuffled` behind its own, (n, units, h, w).

    So a pass over annotated images serves both. With shuffled weights there are at most `MASKED_UNITS` units, at
    random; values that are not finite count as 0. `forward` gives the layer's output of uint8 images (n, h, w,
    channels), which is given as it is where that is (n, units).
    """

    def with_shuffled(images: np.ndarray) -> Tensor:
        inputs = net.normalize(images)
        with torch.inference_mode():
            maps = hooks.run_to(shuffled, layer, inputs).nan_to_num(0, 0, 0)
        maps = layer_outputs.as_grid(maps, inputs, layer)
        return maps[:, np.sort(np.random.default_rng(seed).permutation(maps.shape[1])[:MASKED_UNITS])]

    other = layer_outputs.remembering(with_shuffled)

    def both(images: np.ndarray) -> Tensor:
        own = forward(images)
        if own.ndim == 2:
            return own
        own = layer_outputs.as_grid(own, torch.from_numpy(images).movedim(3, 1), layer)
        return torch.cat([own, other(images)], 1)

    return both
