"""Checks and phrases that every floor needs."""

import difflib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

_NAMED = 5  # files that a message lists


def first_few(things: Iterable) -> str:
    """List the first few of many things in a message."""
    names = list(map(str, things))
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def nearest(name: str, names: Sequence[str]) -> str:
    """Name the three of `names` most like `name`, for error messages."""
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0)) or "none"


def finite(values: ArrayLike, name: str) -> np.ndarray:
    """Give values as a float64 vector, and raise unless all are finite."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"`{name}` must be one-dimensional, got shape {values.shape}")
    if not np.isfinite(values).all():
        first = np.flatnonzero(~np.isfinite(values))[0]
        raise ValueError(f"`{name}` holds {values[first]} at {first}; drop such rows and state how many")
    return values
