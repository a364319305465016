"""A layer's output as maps and as one number per image and unit: channel axis, tokens to a grid, pooling.

CLIP-Dissect (Oikarinen & Weng, ICLR 2023, arXiv 2204.10965) pools a convolution's map by its mean or maximum and
keeps a transformer's class token. Tested against hand-computed maps.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

POOLINGS = ("avg", "max", "cls")
REMEMBERED = 2**29  # most bytes of outputs that are held for another pass over the images
MOST_PREFIX_TOKENS = 5  # class, distillation and register tokens that precede the patches of a vision transformer


def extract(
    forward: Callable[[Tensor], Tensor], batches: Iterable[Tensor], *, pooling: str = "avg"
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Pool a layer's output (n, units), one batch of images at a time, as `pool` does, and lay it out as maps.

    The maps are (n, units, h, w), as of `as_grid`; None for a layer without space. A ValueError where they are no
    spatial grid.

    Parameters
    ----------
    forward : callable
        Maps one batch of images to the output of the layer. Which axis of it holds the units, `channel_axis` tells.
    batches : iterable of Tensor
        Batches of images (n, h, w, channels), in the order of the probe set: errors count rows over all of them.
    """
    first_row = 0
    for images in batches:
        with torch.inference_mode():
            output = forward(images)
            pooled = pool(output, pooling, images=images.shape[:3], first_row=first_row)
            maps = None if output.ndim == 2 else _grid(as_floating(output), *images.shape[1:3], "this layer")
        first_row += len(pooled)
        yield pooled, maps


def remembering(forward: Callable[[np.ndarray], Tensor], *, memory: int = REMEMBERED) -> Callable[[np.ndarray], Tensor]:
    """Make the function that runs `forward` on the same uint8 images (n, h, w, 3) once, while outputs fit into memory.

    So many bytes of outputs are held on their device; what follows is computed anew each time.
    """
    known: dict[bytes, Tensor] = {}

    def remembered(images: np.ndarray) -> Tensor:
        key = hashlib.sha256(images).digest()
        if key in known:
            return known[key]
        output = forward(images)
        held = sum(each.nbytes for each in known.values())
        return known.setdefault(key, output) if held + output.nbytes <= memory else output

    return remembered


def pool(
    output: Tensor, pooling: str = "avg", *, images: tuple[int, int, int] | None = None, first_row: int = 0
) -> Tensor:
    """Pool a layer's output to one number per image and unit, (n, units) of at least float32.

    Parameters
    ----------
    output : Tensor, shape (n, units, h, w), (n, h, w, units), (n, tokens, units) or (n, units)
        2-D outputs are returned as they are.
    pooling : {"avg", "max", "cls"}
        Mean or maximum over the positions, of tokens without those that precede the patches (see `prefix_tokens`); or
        the first token, the class token of a network that has one.
    images : tuple of int
        How many images of what height and width, of the network's input; by default squares.
    first_row : int
        Row of the probe set that the first image is, for the error message.

    Raises
    ------
    ValueError
        For an unknown `pooling`, an output that is no tensor or whose positions are not a grid over the images, and
        where no unit is finite on every image.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` is {pooling!r}; allowed: {', '.join(POOLINGS)}")
    if isinstance(output, (tuple, list, dict)):
        raise ValueError(f"`output` must be one tensor, got a {type(output).__name__}; choose a layer that gives one")
    output = as_floating(output)
    if output.ndim not in (2, 3, 4):
        raise ValueError(f"`output` must have 2, 3 or 4 dimensions, got shape {tuple(output.shape)}")
    count, height, width = images or (len(output), 1, 1)
    check_rows(output, count, "this layer")
    if output.ndim == 2:
        pooled = output
    elif pooling == "cls":
        if output.ndim == 4:
            raise ValueError(f"`pooling: cls`, but maps {tuple(output.shape)} have no class token; allowed: avg, max")
        pooled = output[:, 0]  # (n, tokens, units) -> (n, units)
    else:
        maps = _grid(output, height, width, "this layer")
        pooled = maps.mean((2, 3)) if pooling == "avg" else maps.amax((2, 3))  # (n, units)
    check_finite(pooled, first_row=first_row)
    return pooled


def check_finite(activations: Tensor, *, first_row: int = 0) -> None:
    """Raise a ValueError where no unit of `activations` (n, units) is finite on every image: one alone gets no label.

    It names the first unit and its row of the probe set, of which `first_row` is that of the first image.
    """
    finite = activations.isfinite()
    if not finite.all() and not finite.all(0).any():
        row, unit = (~finite).nonzero()[0].tolist()
        value = activations[row, unit].item()
        raise ValueError(
            f"no unit is finite on every image: activation of unit {unit} is {value} at image row {first_row + row}"
        )


def silenced(activations: Tensor) -> Tensor:
    """Set units of `activations` (n, units) that are not finite on every image to zero, so that they count as dead."""
    broken = ~activations.isfinite().all(0)
    return activations.masked_fill(broken, 0) if broken.any() else activations


def as_floating(values: Tensor) -> Tensor:
    """Return a tensor or array `values` (...,) as a tensor of at least float32, on the same device."""
    values = torch.as_tensor(values)
    return values.to(torch.promote_types(values.dtype, torch.float32))


def as_grid(values: Tensor, images: Tensor, layer: str) -> Tensor:
    """Lay the outputs of a layer out as maps (n, c, h, w), without class tokens, in float32 or better.

    `values` are (n, c, h, w), (n, h, w, c) or tokens (n, t, c), up to five of which may precede the patches; `images`
    are what the network was run on, of which only the shape (n, channels, height, width) is used. A ValueError names
    `layer` if the outputs are not a spatial grid.
    """
    return _grid(as_floating(values), *images.shape[2:], layer)


def _grid(values: Tensor, height: int, width: int, layer: str) -> Tensor:
    if values.ndim == 4 and _is_grid(values.movedim(channel_axis(values, height, width), 1), height, width):
        return values.movedim(channel_axis(values, height, width), 1)
    if values.ndim == 3 and (prefix := prefix_tokens(values.shape[1], height, width)) is not None:
        rows = _rows_of(values.shape[1] - prefix, height, width)
        return values[:, prefix:].transpose(1, 2).unflatten(2, (rows, -1))  # (n, c, rows, columns)
    raise ValueError(
        f"layer {layer!r} returns {tuple(values.shape)} for images of {height} x {width}: not a spatial grid"
    )


def check_rows(values: Tensor, count: int, layer: str) -> None:
    """Raise a ValueError, which names `layer`, unless its output (n, ...) has a row for each of so many images."""
    if values.ndim and len(values) != count:
        raise ValueError(
            f"layer {layer!r} returns {len(values)} rows for {count} images, such as one a window; name the layer "
            "around it"
        )


def _is_grid(maps: Tensor, height: int, width: int) -> bool:
    """Tell whether maps (n, c, h, w) have the shape of the image, but for what strides round away."""
    return abs(maps.shape[2] * width - maps.shape[3] * height) <= height + width


def prefix_tokens(tokens: int, height: int, width: int) -> int | None:
    """Tell how many tokens precede the patches, for an input of so many pixels: the fewest that leave a grid over it.

    None where no number up to `MOST_PREFIX_TOKENS` does.
    """
    found = (number for number in range(MOST_PREFIX_TOKENS + 1) if _rows_of(tokens - number, height, width))
    return next(found, None)


def _rows_of(patches: int, height: int, width: int) -> int:
    """Give the rows of a grid of `patches` over an input of so many pixels; 0 where there is none."""
    rows = round(math.sqrt(max(patches, 0) * height / width))
    return rows if rows and patches % rows == 0 and rows * width == patches // rows * height else 0


def channel_axis(values: Tensor, height: int, width: int) -> int:
    """Tell which axis of a layer's output holds the channels, for an input of so many pixels.

    `values` are maps (n, c, h, w) or (n, h, w, c), as torchvision's Swin gives them, or tokens (n, t, c). Of maps it is
    the layout in which h / w is nearest to height / width, (n, c, h, w) where both are as near.
    """
    if values.ndim == 3:
        return 2
    channels_last, channels_first = (
        abs(math.log(values.shape[axis] * width / (values.shape[axis + 1] * height))) for axis in (1, 2)
    )
    return 3 if channels_last < channels_first else 1
