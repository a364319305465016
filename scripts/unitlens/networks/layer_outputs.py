"""A layer's output as maps and as one number per image and unit: channel axis, tokens to a grid, pooling.

CLIP-Dissect (Oikarinen & Weng, ICLR 2023, arXiv 2204.10965) pools a convolution's map by its mean or maximum and
keeps a transformer's class token. Tested against hand-computed maps.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

POOLINGS = ("avg", "max")
MOST_PREFIX_TOKENS = 5  # class, distillation and register tokens that precede the patches of a vision transformer


def extract(
    forward: Callable[[Tensor], Tensor], batches: Iterable[Tensor], *, pooling: str = "avg"
) -> Iterator[Tensor]:
    """Pool a layer's output (n, units), one batch of images at a time, as `pool` does.

    Parameters
    ----------
    forward : callable
        Maps one batch of images to the output of the layer. Which axis of it holds the units, `channel_axis` tells.
    batches : iterable of Tensor
        Batches of images (n, h, w, 3), in the order of the probe set: errors count rows over all of them.
    """
    first_row = 0
    for images in batches:
        with torch.inference_mode():
            output = forward(images)
            units_last = getattr(output, "ndim", 0) == 4 and channel_axis(output, *images.shape[1:3]) == 3
            pooled = pool(output, pooling, units_last=units_last, first_row=first_row)
        first_row += len(pooled)
        yield pooled


def pool(output: Tensor, pooling: str = "avg", *, units_last: bool = False, first_row: int = 0) -> Tensor:
    """Pool a layer's output to one number per image and unit, (n, units) of at least float32.

    Parameters
    ----------
    output : Tensor, shape (n, units, h, w), (n, tokens, units) or (n, units)
        4-D outputs are pooled over h and w; of 3-D outputs the class token (the first one) is kept; 2-D outputs
        are returned as they are.
    pooling : {"avg", "max"}
        Mean or maximum over h and w. Without effect on 3-D and 2-D outputs.
    units_last : bool
        4-D outputs are (n, h, w, units), as torchvision's Swin gives them.
    first_row : int
        Row of the probe set that the first image is, for the error message.

    Raises
    ------
    ValueError
        For an unknown `pooling`, an output that is no tensor or has another number of dimensions, and where no unit is
        finite on every image.
    """
    if pooling not in POOLINGS:
        raise ValueError(f"`pooling` is {pooling!r}; allowed: {', '.join(POOLINGS)}")
    if isinstance(output, (tuple, list, dict)):
        raise ValueError(f"`output` must be one tensor, got a {type(output).__name__}; choose a layer that gives one")
    output = as_floating(output)
    if output.ndim == 4:
        space = (1, 2) if units_last else (2, 3)
        pooled = output.mean(space) if pooling == "avg" else output.amax(space)  # (n, units)
    elif output.ndim == 3:
        pooled = output[:, 0]  # (n, tokens, units) -> (n, units)
    elif output.ndim == 2:
        pooled = output
    else:
        raise ValueError(f"`output` must have 2, 3 or 4 dimensions, got shape {tuple(output.shape)}")
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
    values = as_floating(values)
    height, width = images.shape[-2:]
    if values.ndim == 4:
        return values.movedim(channel_axis(values, height, width), 1)
    if values.ndim == 3:  # tokens (n, t, c)
        for prefix in range(MOST_PREFIX_TOKENS + 1):
            patches = values.shape[1] - prefix
            rows = round(math.sqrt(max(patches, 0) * height / width))
            if rows and patches % rows == 0 and rows * width == patches // rows * height:
                return values[:, prefix:].transpose(1, 2).unflatten(2, (rows, patches // rows))  # (n, c, rows, columns)
    raise ValueError(
        f"layer {layer!r} returns {tuple(values.shape)} for images of {height} x {width}: not a spatial grid"
    )


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
