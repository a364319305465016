"""One image that fails costs that image: what cannot work on some images names them, and the rest goes on.

The text of every reason stands here, once; tables and pages quote it. Reasons are a mapping from the place of an image
in its batch to the text.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from torch import Tensor

NOT_FINITE = "the network returns NaN or infinity"
NO_LABEL = "the sheet gives no label to explain"
NO_LABEL_MAP = "the sheet gives no label map of superpixels"
ONE_SUPERPIXEL = "there is only one superpixel, LIME needs two"
MANY_SUPERPIXELS = "there are {superpixels} superpixels, more than LIME's {samples} samples"
DEPENDENT = "superpixels are linearly dependent in LIME's samples, and `alpha` is 0"
ZERO_MAP = "the map is zero everywhere"
Result = TypeVar("Result")


class ItemError(ValueError):
    """Some images of a batch cannot be worked on: the message names them, `reasons` says why, by their place."""

    def __init__(self, message: str, reasons: Mapping[int, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


def without_failing(
    run: Callable[[list[int]], Result], count: int, reasons: Mapping[int, str] | None = None
) -> tuple[Result | None, dict[int, str]]:
    """Run a batch of `count`; where some of its images fail, run it again with the first good one in their place.

    The batch keeps its size, so that the results of the others stay the same to the byte. Those at the places of the
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
