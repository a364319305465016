"""Batch normalization folded into the convolution before it: the same function of the images, computed sooner."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

from unitlens.networks.hooks import FOLDED, split_call

TOLERANCE = 1e-4  # of the largest output: what float32 rounds is a hundredth of that, another function is far off


def fold_batch_norm(model: nn.Module, run: Callable[[], Tensor], *, layers: Iterable[str] = ()) -> int:
    """Fold batch normalizations into the convolutions before them, in place, and count them.

    A convolution is folded where its output is what a normalization takes and both run once. Its weights change then,
    and its own output; what every other module gives is what it was, to rounding. Nothing changes where the output of
    the model would differ by more than `TOLERANCE`, as where something else takes the convolution's output, too.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode and float32.
    run : callable
        Runs the model on images and gives one of its outputs, of any shape.
    layers : iterable of str
        Dotted names of layers whose output will be read: of these no convolution is folded.
    """
    names = dict(model.named_modules(remove_duplicate=False))
    read = {names.get(split_call(layer)[0]) for layer in layers}
    with torch.inference_mode(False), torch.no_grad():
        expected, pairs = _normalized(model, run)
        pairs = {norm: conv for norm, conv in pairs.items() if conv not in read and _can_fold(norm, conv)}
        if not pairs:
            return 0
        before = [(conv, conv.weight, conv.bias) for conv in pairs.values()]
        for norm, conv in pairs.items():
            statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics)
        # What a normalization of another library does besides, as timm's activations, are modules inside of it.
        rest = {norm: nn.Sequential() for norm in pairs}
        for norm, after in rest.items():
            for name, child in norm.named_children():
                after.add_module(name, child)
        _replace(model, rest)
        try:
            same = (run() - expected).abs().max() <= TOLERANCE * expected.abs().max()
        except Exception:  # whatever the code of a network wants of a normalization
            same = False
    if not same:
        _replace(model, {after: norm for norm, after in rest.items()})
        for conv, weight, bias in before:
            conv.weight, conv.bias = weight, bias
        return 0
    for conv in pairs.values():
        setattr(conv, FOLDED, True)
    return len(pairs)


def _normalized(model: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, dict[_BatchNorm, _ConvNd]]:
    """Run a model, and find whose output each batch normalization takes, where both ran once."""
    calls, made, found = Counter(), {}, {}

    def count(module: nn.Module, args: tuple) -> None:
        calls[module] += 1
        if isinstance(module, _BatchNorm) and args and id(args[0]) in made:
            conv, output, version = made[id(args[0])]
            if output._version == version:  # no activation has worked in place
                found[module] = conv

    def keep(module: nn.Module, args: tuple, output: Tensor) -> None:
        made[id(output)] = module, output, output._version  # which holds it, so that nothing else gets its number

    kinds = [module for module in model.modules() if isinstance(module, _BatchNorm | _ConvNd)]
    handles = [module.register_forward_pre_hook(count) for module in kinds]
    handles += [module.register_forward_hook(keep) for module in kinds if isinstance(module, _ConvNd)]
    try:
        expected = run()
    finally:
        for handle in handles:
            handle.remove()
    return expected, {norm: conv for norm, conv in found.items() if calls[norm] == calls[conv] == 1}


def _can_fold(norm: _BatchNorm, conv: _ConvNd) -> bool:
    """Tell whether a normalization is a fixed scale and shift, and the weights are the convolution's own."""
    fixed = not norm.training and norm.running_mean is not None
    return fixed and "weight" in conv._parameters and not isinstance(conv, _ConvTransposeNd)


def _replace(model: nn.Module, others: Mapping[nn.Module, nn.Module]) -> None:
    """Put other modules into the places of some, wherever these are registered."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in others:
                setattr(parent, name, others[child])
