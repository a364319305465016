"""Intervals and tests for the tables, on values that may come in groups.

Crops of one photograph are one sample: where `groups` is given, whole groups are resampled and flipped. Percentile
bootstrap, sign-flip permutation test and Benjamini-Hochberg (1995) by way of scipy.stats.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

BATCH_ELEMENTS = 2**22  # most numbers that scipy's resampling holds at once


class MeanInterval(NamedTuple):
    """A mean with its bootstrap interval, of `n` values in `n_groups` groups."""

    n: int
    n_groups: int
    mean: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """The mean of a - b and the two-sided p-value of no difference."""

    difference: float
    p_value: float


def mean_with_interval(
    values: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0, groups: ArrayLike | None = None
) -> MeanInterval:
    """Mean of `values` and its bootstrap interval.

    Parameters
    ----------
    values, level, n_resamples, seed, groups
        As in `bootstrap_interval`.

    Returns
    -------
    MeanInterval
        n, n_groups, mean, low, high. The mean is NaN where there are no values.

    Raises
    ------
    ValueError
        As `bootstrap_interval` does.
    """
    low, high = bootstrap_interval(values, level=level, n_resamples=n_resamples, seed=seed, groups=groups)
    sums, sizes = _by_group(values, groups)
    mean = float(np.mean(values)) if len(sums) else np.nan
    return MeanInterval(int(sizes.sum()), len(sums), mean, low, high)


def bootstrap_interval(
    values: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0, groups: ArrayLike | None = None
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Parameters
    ----------
    values : array, shape (n,)
        Finite numbers.
    level : float
        Confidence level, between 0 and 1.
    n_resamples : int
        Number of resamples.
    seed : int
        Seed of the resampling.
    groups : array, shape (n,), optional
        Group of each value, such as its photograph: groups are resampled whole. By default each value is a group.

    Returns
    -------
    low, high : float
        NaN and NaN where there are fewer than three groups: those say nothing of the spread.

    Raises
    ------
    ValueError
        If a value is not finite, or `values` and `groups` are not one-dimensional and equally long.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` is {level}; it must lie between 0 and 1")
    sums, sizes = _by_group(values, groups)
    if len(sums) < 3:
        return np.nan, np.nan
    interval = stats.bootstrap(
        (sums, sizes),
        lambda total, size, axis: total.sum(axis) / size.sum(axis),
        paired=True,
        confidence_level=level,
        n_resamples=n_resamples,
        batch=max(1, BATCH_ELEMENTS // len(sums)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def paired_permutation_test(
    a: ArrayLike, b: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0, n_resamples: int = 9999
) -> PairedTest:
    """Test of no difference between paired values, by flipping the signs of their differences.

    Parameters
    ----------
    a, b : array, shape (n,)
        Paired finite values.
    groups : array, shape (n,), optional
        Group of each pair: the differences of a group change sign together. By default each pair is a group.
    seed : int
        Seed of the flips.
    n_resamples : int
        Number of random flips; where there are no more than that many different ones, each is taken once and the
        test is exact.

    Returns
    -------
    PairedTest
        Mean of a - b, and the two-sided p-value: at least 2 / (n_resamples + 1), or 2 / 2^groups where exact.

    Raises
    ------
    ValueError
        If the inputs are empty, not finite, not one-dimensional or not equally long.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"`a` and `b` must be paired and not empty, got shapes {a.shape} and {b.shape}")
    sums, sizes = _by_group(a - b, groups)
    difference = float(sums.sum() / sizes.sum())
    if len(sums) == 1:
        return PairedTest(difference, 1.0)  # scipy wants two; either sign of one group is as extreme
    test = stats.permutation_test(
        (sums,),
        lambda total, axis: total.sum(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(1, BATCH_ELEMENTS // len(sums)),
        rng=np.random.default_rng(seed),
    )
    return PairedTest(difference, float(test.pvalue))


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """Adjust p-values for the false discovery rate.

    Parameters
    ----------
    p : array, shape (n,)
        p-values; NaN where there was no test, as for a dead unit: these are not counted.

    Returns
    -------
    array, shape (n,)
        Adjusted p-values: rejecting those below q keeps the expected share of false rejections below q. NaN stays NaN.

    Raises
    ------
    ValueError
        If a p-value lies outside 0 to 1.
    """
    adjusted = np.array(p, dtype=np.float64)
    tested = ~np.isnan(adjusted)
    adjusted[tested] = stats.false_discovery_control(adjusted[tested])
    return adjusted


def gini(counts: ArrayLike) -> float:
    """Gini coefficient: how unevenly `counts` are spread.

    Parameters
    ----------
    counts : array, shape (n,)
        Non-negative numbers.

    Returns
    -------
    float
        0 where all are equal, (n - 1) / n where one has everything; NaN where they sum to 0.

    Raises
    ------
    ValueError
        If a count is negative or not finite.

    Notes
    -----
    With the counts ascending, sum_i (2 i - n - 1) x_i / (n sum_i x_i), i from 1.
    """
    counts = np.sort(_finite(counts, "counts"))
    if (counts < 0).any():
        raise ValueError(f"`counts` must not be negative, got {counts[0]}")
    n, total = len(counts), counts.sum()
    if total == 0:
        return np.nan
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total))


def _by_group(values: ArrayLike, groups: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each group."""
    values = _finite(values, "values")
    if groups is None:
        return values, np.ones(len(values))
    groups = np.asarray(groups)
    if groups.shape != values.shape:
        raise ValueError(f"`groups` has shape {groups.shape}, the values have {values.shape}")
    _, number = np.unique(groups, return_inverse=True)
    return np.bincount(number, weights=values), np.bincount(number)


def _finite(values: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"`{name}` must be one-dimensional, got shape {values.shape}")
    if not np.isfinite(values).all():
        first = np.flatnonzero(~np.isfinite(values))[0]
        raise ValueError(f"`{name}` holds {values[first]} at {first}; drop such rows and state how many")
    return values
