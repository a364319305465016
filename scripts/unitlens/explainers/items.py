"""What each image of a batch has to itself: why it fails, which costs no other, and its seed.

The text of every reason stands here, once; tables and pages quote it. Reasons are a mapping from the place of an image
in its batch to the text. What is random for an image depends on the run's seed and the image's id, and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

NOT_FINITE = "the network returns NaN or infinity"
NO_LABEL = "the sheet gives no label to explain"
NO_LABEL_MAP = "the sheet gives no label map of superpixels"
ONE_SUPERPIXEL = "there is only one superpixel, LIME needs two"
MANY_SUPERPIXELS = "there are {superpixels} superpixels, more than LIME's {samples} samples"
DEPENDENT = "superpixels are linearly dependent in LIME's samples, and `alpha` is 0"
ZERO_MAP = "the map is zero everywhere"
RAISING, LOWERING = 5, 3  # units whose places in an account are kept for each image
Result = TypeVar("Result")
Explanation = tuple[Mapping[str, np.ndarray], Mapping[str, object]]  # arrays and attributes of a file


class ItemError(ValueError):
    """Some images of a batch cannot be worked on: the message names them, `reasons` says why, by their place."""

    def __init__(self, message: str, reasons: Mapping[int, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


def without_failing(
    run: Callable[[list[int]], Result], count: int, reasons: Mapping[int, str] | None = None
) -> tuple[Result | None, dict[int, str]]:
    """Run a batch of `count`; where some of its images fail, run it again with the first good one in their place.

    The batch keeps its size, so that the results of the others stay identical byte for byte. Those at the places of the
    failing ones are copies, to be thrown away. `run` takes the places of images and raises `ItemError`; images with
    `reasons` are left out from the start. Gives the result, None where no image is good, and all reasons.
    """
    reasons = dict(reasons or {})
    while len(reasons) < count:
        first = min(set(range(count)) - reasons.keys())
        places = [first if place in reasons else place for place in range(count)]
        try:
            return run(places), dict(sorted(reasons.items()))
        except ItemError as error:
            reasons |= {places[place]: reason for place, reason in error.reasons.items()}
    return None, dict(sorted(reasons.items()))


def reasons_where(failing: Tensor, reason: str) -> dict[int, str]:
    """Give one reason to the images that `failing`, (count,) bool, marks, by their index."""
    return dict.fromkeys(failing.nonzero()[:, 0].tolist(), reason)


def not_finite(values: Tensor, *, first: int = 0) -> dict[int, str]:
    """Give the reason to images whose values (n, ...) are not all finite, by their index, counted from `first`."""
    bad = first + (~values.isfinite().flatten(1).all(1)).nonzero()[:, 0]
    return dict.fromkeys(bad.tolist(), NOT_FINITE)


def reason_texts(reasons: Mapping[int, str], count: int) -> np.ndarray:
    """Write reasons as a column (count,) of text, empty where there is none."""
    return np.array([reasons.get(place, "") for place in range(count)], dtype=object)


# ---- seeds


def image_seed(seed: int, image_id: str) -> int:
    """Derive a 63-bit seed from the run's seed and an image's id, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{image_id}".encode(), digest_size=8).digest()) >> 1


def stream_seeds(seed: int, stream: str, image_ids: Sequence[str]) -> list[int]:
    """Give every image a seed of its own for one use of randomness, such as the order of one explainer's ties."""
    return [image_seed(seed, f"{stream}/{image_id}") for image_id in image_ids]


def repeated_ids(image_ids: Sequence[str], repeats: int) -> list[list[str]]:
    """Name the images of each repeat: the first time as they are, so that repeats do not change the first result."""
    again = [[f"{image_id}/{repeat}" for image_id in image_ids] for repeat in range(1, repeats)]
    return [list(image_ids), *again]


def one_each(seeds: int | Sequence[int], n_images: int, name: str) -> list[int]:
    """Give each image its seed: the same, or its own; a ValueError if there is not one per image."""
    seeds = [int(seed) for seed in ([seeds] * n_images if isinstance(seeds, Integral) else seeds)]
    if len(seeds) != n_images:
        raise ValueError(f"`{name}` holds {len(seeds)} seeds for {n_images} images; give one, or one per image")
    return seeds
