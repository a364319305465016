"""Tell from the operations of a network whether its output is linear, up to a constant, in a layer's output."""

import operator

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.fx.node import map_arg

_MODULES = {
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Identity, nn.Flatten, nn.Unflatten, nn.ZeroPad2d),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d),
    *(
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.AlphaDropout,
        nn.FeatureAlphaDropout,
    ),  # which do nothing in evaluation
}
_NORMALIZATIONS = {nn.BatchNorm1d, nn.BatchNorm2d}
_FUNCTIONS = {
    *(F.linear, F.conv2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.adaptive_avg_pool1d, torch.neg, operator.neg),
    *(torch.flatten, torch.mean, torch.sum, torch.squeeze, torch.unsqueeze, torch.reshape, torch.permute),
    *(torch.transpose, operator.getitem, operator.mul, operator.truediv, torch.mul, torch.div),
}
_METHODS = {
    *("flatten", "mean", "sum", "squeeze", "unsqueeze", "reshape", "view", "permute", "transpose", "contiguous"),
}
_SUMS = {operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub}
_FACTS = {"size", "dim", "shape", "ndim", "device", "dtype"}  # of a tensor, whatever its values


def is_linear(module: nn.Module, graph: fx.Graph) -> bool:
    """Tell whether what `graph` computes is linear, up to a constant, in its first input; False where in doubt.

    `module`, in evaluation mode, holds what the graph calls.
    """
    first, *_ = graph.nodes
    changing = {first}
    for node in graph.nodes:
        if node.op == "output" or changing.isdisjoint(node.all_input_nodes) or _is_fact(node):
            continue
        if not _keeps_linear(module, node, changing):
            return False
        changing.add(node)
    return True


def _is_fact(node: fx.Node) -> bool:
    return (node.op == "call_method" and node.target in _FACTS) or (node.target is getattr and node.args[1] in _FACTS)


def _keeps_linear(module: nn.Module, node: fx.Node, changing: set[fx.Node]) -> bool:
    if node.op == "call_function" and node.target in _SUMS:
        return True
    inputs: list[fx.Node] = []
    map_arg((node.args, node.kwargs), inputs.append)
    if [each for each in inputs if each in changing] != [*node.args[:1]]:
        return False  # what changes is a weight, an index, or there twice
    if node.op == "call_module":
        return _module_is_linear(module.get_submodule(node.target))
    if node.target is F.dropout:
        return node.kwargs.get("training") is False
    return node.target in (_METHODS if node.op == "call_method" else _FUNCTIONS)


def _module_is_linear(module: nn.Module) -> bool:
    if module._forward_hooks or module._forward_pre_hooks:
        return False
    if type(module) in _MODULES:
        return True
    if type(module) in _NORMALIZATIONS:
        return module.running_mean is not None
    try:
        graph = fx.Tracer().trace(module)
    except Exception:  # tracing runs the module's code on stand-ins, which may fail in any way
        return False
    return is_linear(module, graph)
