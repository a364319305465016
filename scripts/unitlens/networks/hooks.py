"""Layers by dotted name, and their outputs while a model runs.

`capture` is the one place that registers forward hooks: it always removes them, whatever happens inside its block.
"""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


class _Stop(Exception):
    """Ends a forward pass once every wanted layer was seen."""


def find_layer(model: nn.Module, name: str, *, model_name: str | None = None) -> nn.Module:
    """Return the layer of a model with a dotted name, for example ``layer4.1.conv2``.

    A ValueError if there is none names the nearest ones, and the model by `model_name` or its class.
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    del layers[""]
    if name not in layers:
        nearest = ", ".join(difflib.get_close_matches(name, layers, n=2, cutoff=0))
        raise ValueError(f"{model_name or type(model).__name__} has no layer {name!r}; nearest: {nearest}")
    return layers[name]


@contextmanager
def capture(
    model: nn.Module, layers: Iterable[str], *, stop: bool = False, leaf: bool = False
) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of `layers` while `model` runs inside the block.

    Yields a dict from dotted name to the layer's latest output, with its gradient graph. The network goes on with a
    copy, so that modules working in place (``ReLU(inplace=True)``) leave the captured tensor as the layer made it.

    Parameters
    ----------
    stop : bool
        End the forward pass, and with it the block, as soon as all the layers have run (each at its first run): put
        nothing but the call of the model into the block.
    leaf : bool
        Detach each captured tensor from what precedes it and let it require a gradient: what follows the layer can be
        differentiated at the layer. Each layer may run once only, for one forward pass.

    Raises
    ------
    ValueError
        If a layer does not exist, returns anything but a tensor, never ran (with `stop`), or ran twice (with `leaf`).

    Examples
    --------
    >>> with capture(model, ["layer3", "layer4"], stop=True) as outputs:
    ...     model(images)
    >>> outputs["layer4"].shape
    torch.Size([8, 512, 7, 7])
    """
    modules = {name: find_layer(model, name) for name in layers}
    outputs: dict[str, torch.Tensor] = {}
    finished = _Stop()

    def hook_of(name):
        def keep(module, args, output):
            if not isinstance(output, torch.Tensor):
                raise ValueError(f"layer {name!r} returns a {type(output).__name__}, not a tensor; name another layer")
            if leaf and name in outputs:
                raise ValueError(f"layer {name!r} runs more than once in a forward pass; name the layer around it")
            outputs[name] = output.detach().requires_grad_() if leaf else output
            if stop and len(outputs) == len(modules):
                raise finished
            return outputs[name].clone()

        return keep

    handles = [module.register_forward_hook(hook_of(name)) for name, module in modules.items()]
    try:
        yield outputs
    except _Stop as signal:
        if signal is not finished:  # an enclosing capture has seen its layers
            raise
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in modules if name not in outputs]
    if stop and missing:
        raise ValueError(f"the forward pass never ran {', '.join(map(repr, missing))}")


def run_to(model: nn.Module, layer: str, images: torch.Tensor) -> torch.Tensor:
    """Run a model on `images` (n, 3, h, w) up to `layer` and no further, and return that layer's output."""
    with capture(model, [layer], stop=True) as outputs:
        model(images)
    return outputs[layer]
