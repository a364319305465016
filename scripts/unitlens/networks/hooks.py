"""Layers by dotted name, and their outputs while a model runs.

A module may run several times in a forward pass: its name means the last call, ``<name>#<number>`` another one, counted
from 1. `capture` is the one place that registers forward hooks: it always removes them, whatever happens in its block.
"""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn

from unitlens.networks.memory import halving

FOLDED = "unitlens_folded"  # attribute of a convolution whose output is that of the normalization after it
_KNOWN_CALLS: WeakKeyDictionary[nn.Module, Counter] = WeakKeyDictionary()  # of each module in a forward pass
_counting: set[nn.Module] = set()  # models whose calls are being counted: no hook does anything


class _Stop(Exception):
    """Ends a forward pass once every wanted layer was seen."""


def split_call(name: str) -> tuple[str, int | None]:
    """Split the name of a layer into that of the module and the number of its call, None for the last one."""
    found = re.fullmatch(r"(.+)#([1-9][0-9]*)", name)
    return (found[1], int(found[2])) if found else (name, None)


def find_layer(model: nn.Module, name: str, *, model_name: str | None = None) -> nn.Module:
    """Return the layer of a model with a dotted name, for example ``layer4.1.conv2``, whatever call of it is named.

    A ValueError if there is none names the nearest ones, and the model by `model_name` or its class; a RuntimeError if
    the layer was folded, see `folding`.
    """
    layers = dict(model.named_modules(remove_duplicate=False))
    del layers[""]
    module = split_call(name)[0]
    if module not in layers:
        nearest = ", ".join(difflib.get_close_matches(module, layers, n=2, cutoff=0))
        raise ValueError(f"{model_name or type(model).__name__} has no layer {module!r}; nearest: {nearest}")
    if getattr(layers[module], FOLDED, False):
        raise RuntimeError(f"{module} holds the normalization after it; load the network with this layer in `layers`")
    return layers[module]


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
        End the forward pass, and with it the block, as soon as all the layers have run: put nothing but the call of the
        model into the block.
    leaf : bool
        Detach each captured tensor from what precedes it and let it require a gradient: what follows the layer can be
        differentiated at the layer. For one forward pass.

    Raises
    ------
    ValueError
        If a layer does not exist, returns anything but a tensor, or never made the call that is named (with `stop`).

    Notes
    -----
    Which call is the last has to be known for `stop` and `leaf`: the first time that a model runs with one of these, it
    runs on the first image before, and the calls are counted.

    Examples
    --------
    >>> with capture(model, ["layer3", "layer4"], stop=True) as outputs:
    ...     model(images)
    >>> outputs["layer4"].shape
    torch.Size([8, 512, 7, 7])
    """
    modules = {name: find_layer(model, name) for name in layers}
    calls: Counter = Counter()  # of each of the modules, in the present forward pass
    outputs: dict[str, torch.Tensor] = {}
    finished = _Stop()

    def begin(_, args, kwargs):
        if not _counting:
            calls.clear()
            if stop or leaf:
                _count_calls(model, args, kwargs)

    def hook_of(name):
        wanted = split_call(name)[1]

        def keep(module, args, output):
            if _counting:
                return None
            calls[name] += 1
            last = wanted or ((stop or leaf) and _KNOWN_CALLS.get(model, {}).get(module))
            if last and calls[name] != last:
                return None
            if not isinstance(output, torch.Tensor):
                raise ValueError(f"layer {name!r} returns a {type(output).__name__}, not a tensor; name another layer")
            outputs[name] = output.detach().requires_grad_() if leaf else output
            if stop and len(outputs) == len(modules):
                raise finished
            return outputs[name].clone()

        return keep

    handles = [model.register_forward_pre_hook(begin, with_kwargs=True)]
    handles += [module.register_forward_hook(hook_of(name)) for name, module in modules.items()]
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
    """Run a model on `images` (n, channels, h, w) up to `layer` and no further, and return that layer's output.

    In halves of the batch where memory runs out.
    """

    def run(part: torch.Tensor) -> torch.Tensor:
        with capture(model, [layer], stop=True) as outputs:
            model(part)
        return outputs[layer]

    return halving(run)(images)


def last_call(model: nn.Module, layer: str, images: torch.Tensor) -> int:
    """Give the number, from 1, of the call that `layer` names, in a forward pass on `images` (n, channels, h, w)."""
    return split_call(layer)[1] or count_calls(model, layer, images)


def count_calls(model: nn.Module, layer: str, images: torch.Tensor) -> int:
    """Count how often the module of `layer` runs in a forward pass on `images` (n, channels, h, w)."""
    _count_calls(model, (images,), {})
    return _KNOWN_CALLS[model][find_layer(model, layer)]


def _count_calls(model: nn.Module, args: tuple, kwargs: dict) -> None:
    """Run a model on the first image once, and remember how often each module runs."""
    if model in _KNOWN_CALLS:
        return
    calls: Counter = Counter()

    def count(module, args, output):
        calls[module] += 1

    handles = [module.register_forward_hook(count) for module in model.modules()]
    first = tuple(value[:1] if isinstance(value, torch.Tensor) and value.ndim > 3 else value for value in args)
    _counting.add(model)
    try:
        with torch.no_grad():
            model(*first, **kwargs)
    finally:
        _counting.discard(model)
        for handle in handles:
            handle.remove()
    _KNOWN_CALLS[model] = calls
