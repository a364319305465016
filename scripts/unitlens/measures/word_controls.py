"""Run a network for the controls of its words: outputs whose names are known, and layers that have learned nothing."""

import copy
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from unitlens.measures.sanity import layers_with_weights, randomize
from unitlens.networks import hooks, layer_outputs
from unitlens.networks.memory import halving
from unitlens.networks.network import Network

MASKED_UNITS = 64  # of a layer with shuffled weights, at random, that masks are compared with


def outputs(
    net: Network, batches: Iterable[Tensor], *, poolings: Mapping[str, str], seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Give the scores (n, classes) of a network, and layers (n, units) of a copy of it whose weights are shuffled.

    `batches` are of uint8 images (n, h, w, channels), read once; `poolings` says how each layer is pooled, as
    `layer_outputs.pool` does. Values of the copy that are not finite count as 0.
    """
    shuffled = _shuffled(net, seed)
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
    net: Network, layer: str, forward: Callable[[np.ndarray], Tensor], *, seed: int
) -> Callable[[np.ndarray], Tensor]:
    """Make the function that puts maps of a copy with shuffled weights behind a layer's own, (n, units, h, w).

    So a pass over annotated images serves both. Of the copy there are at most `MASKED_UNITS`, at random; its values
    that are not finite count as 0. `forward` gives the layer's output of uint8 images (n, h, w, channels), which is
    given as it is where that is (n, units).
    """
    shuffled = _shuffled(net, seed)

    def of_copy(images: np.ndarray) -> Tensor:
        inputs = net.normalize(images)
        with torch.inference_mode():
            maps = hooks.run_to(shuffled, layer, inputs).nan_to_num(0, 0, 0)
        maps = layer_outputs.as_grid(maps, inputs, layer)
        return maps[:, np.sort(np.random.default_rng(seed).permutation(maps.shape[1])[:MASKED_UNITS])]

    other = layer_outputs.remembering(of_copy)

    def both(images: np.ndarray) -> Tensor:
        own = forward(images)
        if own.ndim == 2:
            return own
        own = layer_outputs.as_grid(own, torch.from_numpy(images).movedim(3, 1), layer)
        return torch.cat([own, other(images)], 1)

    return both


def _shuffled(net: Network, seed: int) -> nn.Module:
    """Copy a network and shuffle its weights within every tensor."""
    model = copy.deepcopy(net.model)
    randomize(model, layers_with_weights(model), seed=seed)
    return model
