"""Run only what follows a layer, checked against the whole network.

Ablation-CAM changes a layer's output for each of its channels; what comes before need not run again.
"""

import inspect
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate, map_arg

from unitlens.explainers.linearity import is_linear
from unitlens.networks import heads
from unitlens.networks.hooks import capture, find_layer, last_call, split_call
from unitlens.networks.memory import is_out_of_memory

logger = logging.getLogger(__name__)
Tail = Callable[[Tensor, Tensor], Tensor]  # (outputs of a layer (m, ...), index of the image of each (m,)) -> logits


def find_tail(model: nn.Module, layer: str, images: Tensor, activations: Tensor, logits: Tensor) -> tuple[str, Tail]:
    """Return the cheapest tail that agrees with the network, after the name of its mode (see `cam.ablation_mode`).

    `images` (n, channels, h, w) gave the layer's `activations` (n, ...) and `logits` (n, classes).
    """
    last = len(images) - 1
    image = torch.tensor([last] if last else [0, 0], device=images.device)  # a batch of another size than `images`
    tolerance = max(1e-2, torch.finfo(activations.dtype).eps ** 0.5) * logits.abs().max()
    for mode, build in (("traced", _traced_tail), ("replayed", _replayed_tail)):
        try:
            tail, linear = build(model, layer, images)
            outputs = as_logits(tail(activations[image], image), len(image))
        except Exception as error:  # tracing runs the model's code on stand-ins, which may fail in any way
            if is_out_of_memory(error):
                raise
            logger.info("layer %r cannot be %s: %s: %s", layer, mode, type(error).__name__, error)
            continue
        if (outputs - logits[image]).abs().max() <= tolerance:
            linear = linear and _adds_up(tail, activations[image[:1]], image[:1], logits[image[:1]])
            return "linear" if linear else mode, tail
        logger.info("layer %r cannot be %s: the outputs differ from the network's", layer, mode)
    return "full", partial(_replay, model, layer, images, {})


class _PathTracer(fx.Tracer):
    """Traces the code of the modules on `path`; any other module is one opaque step."""

    def __init__(self, path: set[nn.Module]):
        super().__init__()
        self.path = path

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return module not in self.path


def _traced_tail(model: nn.Module, layer: str, images: Tensor) -> tuple[Tail, bool]:
    """Cut the traced network at `layer`, and tell whether only linear operations follow.

    Values from before the layer that are needed after it are computed once, here.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    nodes = list(_PathTracer(_path_to(model, layer)).trace(model, defaults).nodes)
    calls = [node for node in nodes if node.op == "call_module"]
    places = [node for node in calls if model.get_submodule(node.target) is find_layer(model, layer)]
    cut = places[last_call(model, layer, images) - 1]
    after = _downstream(nodes, cut)
    before = _downstream(nodes, nodes[0]) - after
    kept = [node for node in nodes if node in before and not (after - {cut}).isdisjoint(node.users)]
    values = _subgraph(model, nodes, nodes[:1], kept).forward(images) if kept else []
    follow = _subgraph(model, nodes, [cut, *kept], nodes[-1].args[0])

    def tail(activations: Tensor, image: Tensor) -> Tensor:
        # calling the module itself would print a traceback on any error
        return heads.read(model, follow.forward(activations, *_rows(values, image, len(images))), len(image))

    return tail, is_linear(follow, follow.graph)


def _downstream(nodes: list[fx.Node], root: fx.Node) -> set[fx.Node]:
    """Return `root` and the nodes that depend on it; `nodes` are in the order of execution."""
    found = {root}
    for node in nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _subgraph(model: nn.Module, nodes: list[fx.Node], inputs: list[fx.Node], outputs: object) -> fx.GraphModule:
    """Return what computes the values of a nest of nodes, `outputs`, from those of the nodes `inputs`."""
    needed: set[fx.Node] = set()
    map_arg(outputs, needed.add)
    for node in reversed(nodes):
        if node in needed and node not in inputs:
            needed.update(node.all_input_nodes)
    graph = fx.Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    for node in nodes:
        if node in needed and node not in copies:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(map_arg(outputs, copies.__getitem__))
    return fx.GraphModule(model, graph)


def _adds_up(tail: Tail, activations: Tensor, image: Tensor, logits: Tensor) -> bool:
    """Tell whether two parts of the outputs (1, ...) of a layer give `logits` (1, classes) together, less the rest."""
    share = torch.linspace(-1, 2, activations.numel(), device=activations.device, dtype=activations.dtype)
    share = share.view(activations.shape)
    parts = torch.cat([activations * share, activations * (1 - share), activations * 0])
    first, second, rest = as_logits(tail(parts, image.repeat(3)), 3)
    tolerance = torch.finfo(activations.dtype).eps ** 0.5 * logits.abs().max()
    return bool((first + second - rest - logits[0]).abs().max() <= tolerance)


def _replayed_tail(model: nn.Module, layer: str, images: Tensor) -> tuple[Tail, bool]:
    """Keep the outputs of the modules that run before `layer`, beside the path to it, and replay them.

    Where the module of the layer ran before the call that is named, it is one of these.
    """
    path = _path_to(model, layer)
    beside = {child for module in path for child in module.children()} - path | {find_layer(model, layer)}
    recorded = defaultdict(list)

    def recording(module: nn.Module, forward: Callable) -> Callable:
        def record(*args, **kwargs):
            output = forward(*args, **kwargs)
            recorded[module].append(map_aggregate(output, lambda x: x.clone() if isinstance(x, Tensor) else x))
            return output

        return record

    last_call(model, layer, images)  # counts the calls before they are recorded
    recorders = {module: recording(module, module.forward) for module in beside}
    with _forwards_replaced(recorders), capture(model, [layer], stop=True):
        model(images)
    return partial(_replay, model, layer, images, recorded), False


def _replay(
    model: nn.Module, layer: str, images: Tensor, recorded: dict[nn.Module, list], activations: Tensor, image: Tensor
) -> Tensor:
    """Run `model` with `layer` returning `activations`, and the first calls of modules what they have `recorded`."""
    target, call = find_layer(model, layer), last_call(model, layer, images)

    def replaying(module: nn.Module) -> Callable:
        forward, calls = module.forward, count(1)

        def replay(*args, **kwargs):
            number = next(calls)
            if module is target and number == call:
                return activations
            if number <= len(recorded.get(module, ())):
                return _rows(recorded[module][number - 1], image, len(images))
            return forward(*args, **kwargs)

        return replay

    with _forwards_replaced({module: replaying(module) for module in {target, *recorded}}):
        return model(images[image])


@contextmanager
def _forwards_replaced(replacements: dict[nn.Module, Callable]) -> Iterator[None]:
    """Give modules other forward methods inside the block."""
    own = {module: vars(module).get("forward") for module in replacements}
    try:
        for module, forward in replacements.items():
            module.forward = forward
        yield
    finally:
        for module, forward in own.items():
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward


def _path_to(model: nn.Module, layer: str) -> set[nn.Module]:
    """Return the modules that contain `layer`, the model among them."""
    names = split_call(layer)[0].split(".")
    return {model.get_submodule(".".join(names[:depth])) for depth in range(len(names))}


def _rows(values: object, image: Tensor, n: int) -> object:
    """Pick the rows `image` of every batch of `n` in a nest of values."""

    def rows(value):
        is_batch = isinstance(value, Tensor) and value.ndim > 0 and len(value) == n
        return value[image] if is_batch else value

    return map_aggregate(values, rows)


def as_logits(outputs: object, n: int) -> Tensor:
    """Return the outputs of a model as (n, classes), in float32 or better; ValueError where they are anything else."""
    if isinstance(outputs, Tensor) and outputs.ndim == 1:
        outputs = outputs[:, None]
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != n:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"the model must return logits ({n}, classes), got {got}")
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
