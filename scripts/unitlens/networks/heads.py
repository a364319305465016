"""What a network returns, read as one score a class, and the probabilities that the scores mean.

Explainers follow the score of a class; what LIME, the curves and the tables see are probabilities. One logit z is read
as the two logits 0 and z, whose softmax is the logistic function of z.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

HEADS = ("softmax", "sigmoid", "binary", "probabilities")
_TOLERANCE = 1e-2  # by which a probability may leave [0, 1]: what bfloat16 rounds away


class Head(NamedTuple):
    """How a network's output is read: see `attach`."""

    kind: str
    output: str | int | None
    classes: int


def outputs_of(kind: str, classes: int) -> int:
    """Count the numbers an image that a network of so many `classes` returns."""
    return 1 if kind == "binary" else classes


def attach(model: nn.Module, *, kind: str = "softmax", output: str | int | None = None, classes: int) -> None:
    """Let a network return one score a class, float32 or better (n, classes), whatever it returned before.

    Parameters
    ----------
    model : nn.Module
        Its output may be a tensor (n, classes), (n, classes, 1, 1), or, for one number an image, (n,) or (n, 1); or a
        mapping, tuple, list or object of tensors.
    kind : {"softmax", "sigmoid", "binary", "probabilities"}
        ``softmax``: logits of classes that exclude each other. ``sigmoid``: logits of classes that do not. ``binary``:
        one logit, that of the second of two classes; the first one's is 0. ``probabilities``: the network ends in a
        softmax or sigmoid; of one probability p, of the second of two classes, the first one's is 1 - p.
    output : str or int, optional
        Which of several outputs: a key, an attribute or an index; several, joined by dots, lead inside. By default
        ``logits``, or else the only tensor of the right shape.
    classes : int
        How many classes there are.

    Notes
    -----
    The model raises a ValueError where its output cannot be read so.
    """
    if kind not in HEADS:
        raise ValueError(f"`head` is {kind!r}; allowed: {', '.join(HEADS)}")
    model.unitlens_head = Head(kind, output, classes)
    model.register_forward_hook(_read_output)


def _read_output(model: nn.Module, args: tuple, output: object) -> Tensor | None:
    return read(model, output, len(args[0])) if args else output


def read(model: nn.Module, output: object, n: int) -> Tensor:
    """Read what the code of a model returned for `n` images as scores (n, classes); as it is without `attach`."""
    head = _head_of(model)
    return output if head is None else _scores(select(output, head, n), head, n)


def probabilities(model: nn.Module, scores: Tensor) -> Tensor:
    """Turn the scores (n, classes) of a model into probabilities (n, classes); by softmax without `attach`."""
    head, scores = _head_of(model), scores.float()
    if head is None or head.kind in ("softmax", "binary"):
        return scores.softmax(1)
    return scores.sigmoid() if head.kind == "sigmoid" else scores.clamp(0, 1)


@contextmanager
def untouched(model: nn.Module) -> Iterator[Head | None]:
    """Let a model return what its own code does, inside the block; gives its head."""
    head = vars(model).pop("unitlens_head", None)
    try:
        yield head
    finally:
        if head is not None:
            model.unitlens_head = head


def select(output: object, head: Head, n: int) -> Tensor:
    """Choose the tensor (n, ...) that holds the classes of `n` images; a ValueError lists what there is."""
    if head.output is not None:
        chosen = _follow(output, str(head.output))
        if not isinstance(chosen, Tensor):
            raise ValueError(f"`output` {head.output!r} is a {type(chosen).__name__}, not a tensor; {_listed(output)}")
        return chosen
    if isinstance(output, Tensor):
        return output
    named = parts(output)
    if isinstance(named.get("logits"), Tensor):
        return named["logits"]
    fitting = [value for value in named.values() if isinstance(value, Tensor) and _fits(value, head, n)]
    if len(fitting) != 1:
        raise ValueError(
            f"the network returns a {type(output).__name__} with {len(fitting)} outputs of {_wanted(head)} an image; "
            f"name one by `output`; {_listed(output)}"
        )
    return fitting[0]


def _head_of(model: nn.Module) -> Head | None:
    return vars(model).get("unitlens_head")


def _scores(chosen: Tensor, head: Head, n: int) -> Tensor:
    values = chosen.flatten(1) if chosen.ndim == 4 and chosen.shape[2:] == (1, 1) else chosen
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) != n:
        raise ValueError(
            f"the network returns {tuple(chosen.shape)} for {n} image{'s' * (n > 1)}; a classifier returns one row of "
            "scores an image"
        )
    if not values.is_floating_point():
        raise ValueError(
            f"the network returns numbers of {values.dtype}, which have no gradient; return the scores that they are "
            "made of"
        )
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if head.kind == "binary":
        if values.shape[1] != 1:
            raise ValueError(f"`head: binary` reads one logit an image, but the network returns {values.shape[1]}")
        return torch.cat([torch.zeros_like(values), values], dim=1)
    if head.kind != "probabilities":
        return values
    if (values.amin() < -_TOLERANCE or values.amax() > 1 + _TOLERANCE) if values.numel() else False:
        raise ValueError(
            f"`head: probabilities`, but the network returns {values.amin():g} to {values.amax():g}; these are logits: "
            "take `head` out, or set it to sigmoid or binary"
        )
    return torch.cat([1 - values, values], dim=1) if values.shape[1] == 1 and head.classes == 2 else values


def _wanted(head: Head) -> str:
    return f"{outputs_of(head.kind, head.classes)} number{'s' * (outputs_of(head.kind, head.classes) > 1)}"


def _fits(value: Tensor, head: Head, n: int) -> bool:
    """Tell whether a tensor may hold the classes."""
    count = outputs_of(head.kind, head.classes)
    return value.shape == (n, count) or (count == 1 and value.shape == (n,))


def parts(output: object) -> dict[str, object]:
    """Name what an output consists of."""
    if isinstance(output, Mapping):
        return {str(key): value for key, value in output.items()}
    if hasattr(output, "_asdict"):  # a named tuple
        return output._asdict()
    if isinstance(output, tuple | list):
        return {str(index): value for index, value in enumerate(output)}
    if dataclasses.is_dataclass(output):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return dict(getattr(output, "__dict__", {}))


def _follow(output: object, path: str) -> object:
    """Follow keys, attributes and indices into an output."""
    found = output
    for name in path.split("."):
        named = {} if isinstance(found, Tensor) else parts(found)
        name = list(named)[int(name)] if name not in named and name.isdigit() and int(name) < len(named) else name
        if name not in named:
            raise ValueError(f"`output` is {path!r}, which the network does not return; {_listed(output)}")
        found = named[name]
    return found


def _listed(output: object) -> str:
    """List the names and shapes of what a network returns."""
    if isinstance(output, Tensor):
        return f"it returns one tensor of shape {tuple(output.shape)}: leave `output` out"

    def shown(value: object) -> str:
        return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__

    listed = [f"{name}: {shown(value)}" for name, value in parts(output).items()]
    return f"it returns {', '.join(listed) or f'a {type(output).__name__}'}"
