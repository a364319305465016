"""What a network is, told by running it on a few images: its layers, what pools them, how its output is to be read.

Nothing is known of a network but how it behaves. Whatever cannot be told for certain is an error that names the key of
the config that says it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unitlens.networks import heads
from unitlens.networks.hooks import capture, find_layer, split_call
from unitlens.networks.layer_outputs import as_grid, prefix_tokens

_IMAGES = 3  # what windows or blocks of an image are counted against
_RESHAPING = ("View", "Unsafe", "Squeeze", "Unsqueeze", "Clone", "ToCopy", "Alias", "Slice", "Select", "Transpose", "T")


class Call(NamedTuple):
    """One run of a module in a forward pass."""

    module: str
    number: int  # from 1, of the runs of this module
    shape: tuple[int, ...] | str  # of its output, or what that is


def describe(
    model: nn.Module,
    layers: Sequence[str],
    *,
    crop: int | Sequence[int],
    classes: Sequence[str],
    name: str,
    channels: int = 3,
    pooling: str = "auto",
) -> dict[str, object]:
    """Run a few images of `crop` pixels (a side, or height and width), and say what a model and its layers give.

    Parameters
    ----------
    model : nn.Module
        Of which `heads.attach` says how its output is read; by default it returns logits.
    layers : sequence of str
        Dotted names; ``<name>#<number>`` for another than the last call.
    classes : sequence of str
        Names of the classes.
    name : str
        What messages call the model.
    pooling : {"auto", "avg", "max", "cls"}
        How positions of a layer become one number: see `layer_outputs.pool`. ``auto`` takes the class token if the head
        of the network reads one, and all positions else.

    Returns
    -------
    dict
        ``parameters``; ``classes``; ``channels_last``, whether its maps lie so in memory; ``output``, what the network
        returns and how it is read; ``layers``, each one's shape without the image axis; and ``units``, for each layer
        ``units`` (how many), ``grid`` (rows and columns of its positions), ``prefix_tokens`` (that precede the
        patches), ``pooling`` ("avg", "max", "cls", "positions": as ``dissect.pooling`` says, "none": it has no
        positions) and ``calls``, the shape of every call where there are several.

    Raises
    ------
    ValueError
        If a layer does not exist (all of them at once, nearest names shown), does not run or has no units to speak of;
        if the network cannot take images of this size; if its output does not fit `classes` and the head.
    """
    problems = []
    for layer in layers:
        try:
            find_layer(model, layer, model_name=name)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    height, width = (crop, crop) if isinstance(crop, int) else crop
    device = next(model.parameters()).device
    noise = torch.rand(_IMAGES - 1, channels, height, width, generator=torch.Generator().manual_seed(0))
    images = torch.cat([torch.zeros(1, channels, height, width), 4 * noise - 2]).to(device)
    given = images.clone()
    images, last = _as_it_takes(model, images)
    try:
        with torch.inference_mode(), heads.untouched(model), _watched(model) as calls:
            raw = model(images)
    except (RuntimeError, ValueError, AssertionError) as error:  # too small for strides, or not a transformer's size
        raise ValueError(
            f"{name} cannot take images of {height} x {width} pixels; set `preprocessing.crop` to what it was trained "
            f"with ({error})"
        ) from error
    except Exception as error:  # whatever the code of a network raises
        told = f"{tuple(images.shape)}, and nothing else: {type(error).__name__}: {error}"
        raise ValueError(f"{name} does not take a batch of images, {told}") from error
    if not images.equal(given):
        what = "changes the images that it is given, by an operation in place such as `x -= 0.5`"
        raise ValueError(f"{name} {what}; let it begin with a copy, `x = x - 0.5`")
    if missing := [layer for layer in layers if not any(_is(call, layer) for call in calls)]:
        raise ValueError(f"{name}: the forward pass does not run {', '.join(missing)}")
    facts = {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "classes": len(classes),
        "channels_last": last,
        "output": _check_output(model, raw, images, len(classes), name),
    }
    found = {layer: _read_layer(model, layer, calls, images, pooling, name) for layer in layers}
    return facts | {
        "layers": {layer: list(_call_of(calls, layer).shape[1:]) for layer in layers},
        "units": found,
    }


def _as_it_takes(model: nn.Module, images: Tensor) -> tuple[Tensor, bool]:
    """Lay images out channels last; as usual, with the model, where its code needs that, as `view` after maps does."""
    last = images.contiguous(memory_format=torch.channels_last)
    try:
        with torch.inference_mode(), heads.untouched(model):
            model(last)
    except RuntimeError as error:
        if "view size is not compatible" in str(error):
            model.to(memory_format=torch.contiguous_format)
            return images, False
    except Exception:  # which is told where they are watched
        pass
    return last, True


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[Call]]:
    """List the calls of all modules inside the block, in the order in which they end."""
    calls: list[Call] = []
    numbers: dict[nn.Module, int] = {}

    def watch(module: nn.Module, args: object, output: object) -> None:
        numbers[module] = numbers.get(module, 0) + 1
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        calls.extend(Call(name, numbers[module], shape) for name in names[module])

    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).extend([name] if name else [])
    handles = [module.register_forward_hook(watch) for module in names]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _is(call: Call, layer: str) -> bool:
    module, number = split_call(layer)
    return call.module == module and number in (None, call.number)


def _call_of(calls: Sequence[Call], layer: str) -> Call:
    return [call for call in calls if _is(call, layer)][-1]


# ---- output


def _check_output(model: nn.Module, raw: object, images: Tensor, classes: int, name: str) -> dict[str, object]:
    """Read the output as the config says; refuse what would give other probabilities than the network's."""
    head = vars(model).get("unitlens_head") or heads.Head("softmax", None, classes)
    try:
        chosen = heads.select(raw, head, len(images))
        scores = heads.read(model, raw, len(images))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    _check_steady(model, images, scores, name)
    ends = _last_function(model, images[:1], head)
    summing = chosen.ndim == 2 and chosen.shape[1] > 1 and bool(((chosen >= 0) & (chosen <= 1)).all())
    summing = summing and torch.allclose(
        chosen.float().sum(1), torch.ones(len(chosen), device=chosen.device), atol=1e-3
    )
    if head.kind != "probabilities" and (ends in ("softmax", "sigmoid") or summing):
        what = "sum to 1 on every image" if summing else f"come out of a {ends}"
        raise ValueError(
            f"{name} already returns probabilities (its outputs {what}): set `head: probabilities`, or give the logits"
        )
    if head.kind == "sigmoid" and ends == "log_softmax":
        raise ValueError(f"{name} ends in a log-softmax, so its classes exclude each other: set `head: softmax`")
    one = chosen.ndim == 1 or chosen.shape[1:].numel() == 1
    if one and head.kind in ("softmax", "sigmoid") and not (head.kind == "sigmoid" and classes == 1):
        raise ValueError(
            f"{name} returns one number an image, of which a softmax is always 1: set `head: binary`, and `classes` to "
            "two, of which the second is what the number speaks for"
        )
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.shape[1] != classes:
        shape = tuple(scores.shape[1:]) if isinstance(scores, Tensor) else type(scores).__name__
        raise ValueError(f"{name} returns {shape} outputs an image, but its classes list {classes} names")
    kind = type(raw).__name__
    return {
        "returns": kind,
        "read": "the tensor itself" if isinstance(raw, Tensor) else str(head.output or _name_of(raw, chosen)),
        "shape": list(chosen.shape[1:]),
        "head": head.kind,
    }


def _check_steady(model: nn.Module, images: Tensor, scores: object, name: str) -> None:
    """Refuse scores that are not numbers, or that change from run to run or with the other images of a batch."""
    if not isinstance(scores, Tensor):
        return
    if (scores.isnan() | (scores == torch.inf)).flatten(1).any(1).all():
        raise ValueError(
            f"{name} returns NaN or infinity for each of {len(images)} test images: are its weights those of its code?"
        )
    with torch.inference_mode():
        if _differ(scores, model(images)):
            raise ValueError(
                f"{name} gives the same images other scores when it runs again: something in it is random, such as "
                "dropout that is always on; leave that out of the network that is explained"
            )
        try:
            alone = torch.cat([model(image) for image in images.split(1)])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{name} does not take one image alone ({error}); explanations need that") from error
    if _differ(scores, alone):
        raise ValueError(
            f"{name} gives an image other scores alone than beside others, as a batch norm without running statistics "
            "does: an explanation would depend on the batch; use statistics of the training images"
        )


def _differ(scores: Tensor, others: Tensor) -> bool:
    """Tell whether scores (n, classes) differ by more than rounding, a thousandth of the largest."""
    scores, others = scores.double().nan_to_num(), others.double().nan_to_num()
    return bool((scores - others).abs().max() > 1e-3 * scores.abs().max())


def _name_of(raw: object, chosen: Tensor) -> str:
    return next(key for key, value in heads.parts(raw).items() if value is chosen)


def _last_function(model: nn.Module, image: Tensor, head: heads.Head) -> str:
    """Name the function that made a network's output: "softmax", "sigmoid", "log_softmax", "other"; "" if unknown."""
    with torch.enable_grad(), heads.untouched(model):
        chosen = heads.select(model(image.clone().requires_grad_()), head, 1)
    node = chosen.grad_fn
    while node is not None and node.name().removesuffix("0").removesuffix("Backward").startswith(_RESHAPING):
        node = node.next_functions[0][0]
    words = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid", "LogSoftmaxBackward0": "log_softmax"}
    return words.get(node.name(), "other") if node is not None else ""


# ---- layers


def _read_layer(
    model: nn.Module, layer: str, calls: Sequence[Call], images: Tensor, pooling: str, name: str
) -> dict[str, object]:
    """Say how a layer's output is read; a ValueError names the nearest layer that works."""
    call = _call_of(calls, layer)
    if reason := _unfit(call, calls, images):
        raise ValueError(f"{name}: layer {layer!r} {reason}; {_nearest_fit(call, calls, images)}")
    shape, (height, width) = call.shape, images.shape[2:]
    same = [each for each in calls if each.module == call.module]
    facts = {"calls": [list(each.shape[1:]) for each in same]} if len(same) > 1 else {}
    if len(shape) == 2:
        return {"units": shape[1], "grid": [], "prefix_tokens": 0, "pooling": "none"} | facts
    maps = as_grid(torch.empty(shape, device="meta"), images, layer)
    prefix = prefix_tokens(shape[1], height, width) if len(shape) == 3 else 0
    try:
        chosen = _pooling(model, calls, call, images, prefix, pooling)
    except ValueError as error:
        raise ValueError(f"{name}: layer {layer!r} {error}") from error
    grid = list(maps.shape[2:])
    return {"units": maps.shape[1], "grid": grid, "prefix_tokens": prefix, "pooling": chosen} | facts


def _pooling(model: nn.Module, calls: Sequence[Call], call: Call, images: Tensor, prefix: int, pooling: str) -> str:
    if pooling == "cls" and len(call.shape) == 4:
        raise ValueError("gives maps, which have no class token; `pooling` allows auto, avg and max for it")
    if pooling != "auto":
        return pooling
    if not prefix:
        return "positions"
    reads = _tokens_read(model, calls, call, images, prefix)
    if reads == "patches":
        return "positions"
    if reads == "class token":
        return "cls"
    raise ValueError(
        f"gives {prefix} token{'s' * (prefix > 1)} before the patches, and what the network's head makes of them is "
        f"not certain ({reads}); set `pooling` to cls (the first token), avg or max (the patches)"
    )


def _tokens_read(model: nn.Module, calls: Sequence[Call], call: Call, images: Tensor, prefix: int) -> str:
    """Tell which tokens the head reads, by the gradients of the scores at the last output of as many tokens.

    The first token alone (or others before the patches, too): "class token". The patches alone: "patches".
    """
    alike = [each for each in calls if len(each.shape) == 3 and each.shape[:2] == call.shape[:2] and each.module]
    last = f"{alike[-1].module}#{alike[-1].number}"
    try:
        with _without_blanks(model), torch.enable_grad(), capture(model, [last], leaf=True) as outputs:
            scores = model(images[1:2])
            weights = torch.linspace(1, 2, scores.shape[1], device=scores.device)
            (gradient,) = torch.autograd.grad((scores * weights).sum(), outputs[last])
    except RuntimeError as error:  # no way from there to the scores
        return f"the scores do not follow from {last}: {error}"
    size = gradient[0].abs().amax(1)  # (tokens,)
    first, before, patches = size[0] > 0, (size[:prefix] > 0).any(), size[prefix:] > 0
    if first and not patches.any():
        return "class token"
    if patches.any() and not before:
        return "patches"
    return "it reads these and the patches" if patches.any() else "it does not read the first one"


@contextmanager
def _without_blanks(model: nn.Module) -> Iterator[None]:
    """Fill matrices of zeros, which an untrained head may be and which let nothing through, inside the block."""
    blanks = [parameter for parameter in model.parameters() if parameter.ndim > 1 and not parameter.any()]
    try:
        with torch.no_grad():
            for blank in blanks:
                blank.copy_(torch.linspace(-1, 1, blank.numel(), device=blank.device).sin().view_as(blank))
        yield
    finally:
        with torch.no_grad():
            for blank in blanks:
                blank.zero_()


def _unfit(call: Call, calls: Sequence[Call], images: Tensor) -> str:
    """Say why the output of a layer cannot be pooled to units; nothing if it can."""
    shape, (count, _, height, width) = call.shape, images.shape
    if isinstance(shape, str):
        return f"returns a {shape}, not a tensor"
    if not shape or shape[0] != count:
        rows = f", {shape[0] // count} for each" if shape and shape[0] and shape[0] % count == 0 else ""
        return f"returns {tuple(shape)} for {count} images{rows}: its rows are not images but, for example, windows"
    if len(shape) == 2:
        return ""
    try:
        grid = as_grid(torch.empty(shape, device="meta"), images, call.module).shape[2:]
    except ValueError:
        return f"returns {tuple(shape)} for images of {height} x {width}, which is not a spatial grid"
    tokens = {each.shape[1] for each in calls if len(each.shape) == 3 and not isinstance(each.shape, str)}
    if (
        len(shape) == 4
        and grid[0] == grid[1]
        and grid[0] in tokens
        and prefix_tokens(grid[0], height, width) is not None
    ):
        return f"returns {tuple(shape)}, which is one weight for each pair of {grid[0]} tokens, not a map"
    if (
        len(shape) == 3
        and (seen := _maps_before(call, calls, images))
        and not any(_halved(grid, each) for each in seen)
    ):
        largest = " x ".join(map(str, seen[-1]))
        return f"returns {tuple(shape)}, whose {shape[1]} rows are not the positions of the maps before it ({largest})"
    return ""


def _maps_before(call: Call, calls: Sequence[Call], images: Tensor) -> list[tuple[int, int]]:
    """List rows and columns of the maps that the network made before a call."""
    found = []
    for each in calls[: calls.index(call)]:
        if len(each.shape) == 4 and not isinstance(each.shape, str) and each.shape[0] == len(images):
            try:
                found.append(tuple(as_grid(torch.empty(each.shape, device="meta"), images, each.module).shape[2:]))
            except ValueError:
                continue
    return list(dict.fromkeys(found))


def _halved(grid: Sequence[int], maps: Sequence[int]) -> bool:
    """Tell whether a grid is that of some maps, or a coarser one by a whole number."""
    return any(
        all(size in (side // step, -(-side // step)) for size, side in zip(grid, maps, strict=True))
        for step in range(1, max(maps) + 1)
    )


def _nearest_fit(call: Call, calls: Sequence[Call], images: Tensor) -> str:
    """Name the innermost module around a layer that can be pooled, or else the next one that runs."""
    ends = {}  # the last call of each module: what its name means
    for each in calls:
        if each.module:
            ends[each.module] = each
    names = call.module.split(".")
    around = [ends[name] for depth in range(len(names) - 1, 0, -1) if (name := ".".join(names[:depth])) in ends]
    place = calls.index(call)
    for each in [*around, *calls[place + 1 :], *reversed(calls[:place])]:
        spatial = ends.get(each.module) is each and not isinstance(each.shape, str) and len(each.shape) > 2
        if spatial and not _unfit(each, calls, images):
            return f"the nearest layer that works is {each.module!r}, {tuple(each.shape[1:])} an image"
    return "no layer of the network gives a spatial grid"


def pooling_of(facts: Mapping[str, object], layer: str, positions: str) -> str:
    """Give what pools a layer: as `describe` told it, or over its positions as `positions` ("avg" or "max") says."""
    chosen = facts["units"][layer]["pooling"]
    return positions if chosen in ("positions", "none") else chosen
