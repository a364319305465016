"""Intervals and tests for the tables, on values that may come in groups.

Crops of one source image are one sample: where `groups` is given, whole groups are resampled and flipped. Student's t,
percentile bootstrap, permutation tests and Benjamini-Hochberg (1995). scipy.stats, which takes half a second to import,
is used for tests and ranks only; Student's t is that of scipy.special.
"""

from typing import NamedTuple

import numpy as np
import scipy
from numpy.typing import ArrayLike

from unitlens.measures.scales import finite

FEWEST_GROUPS = 5  # that tell something of the spread
BATCH_ELEMENTS = 2**22  # most numbers that scipy's resampling holds at once
LEVEL = 0.95  # of all intervals


class MeanInterval(NamedTuple):
    """A mean with its interval, of `n` values in `n_groups` groups."""

    n: int
    n_groups: int
    mean: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """The mean of a - b and the two-sided p-value of no difference."""

    difference: float
    p_value: float


class Correlation(NamedTuple):
    """Spearman's rank correlation over `n_groups` groups, its bootstrap interval and the p-value of no relation."""

    n_groups: int
    correlation: float
    low: float
    high: float
    p_value: float


class Matching(NamedTuple):
    """What pairs score beyond chance, which is the mean of mismatched pairs, with an interval and a test."""

    n_groups: int
    chance: float
    excess: float
    low: float
    high: float
    p_value: float


def mean_with_interval(values: ArrayLike, *, groups: ArrayLike | None = None) -> MeanInterval:
    """Average finite `values` (n,), with Student's t interval over whole groups.

    `groups` (n,) may name the group of each value, such as its source image; by default each value is one. The mean is
    the ratio of the groups' sums and sizes, its variance by linearization. There are two degrees of freedom fewer than
    groups, not one: so means of five skewed values in [0, 1] are covered, too. The mean is NaN where there are no
    values, the interval where there are fewer than five groups: those say little of the spread. ValueError if a value
    is not finite, or the arrays are not one-dimensional and equally long.
    """
    sums, sizes = _by_group(values, groups)
    n, n_groups = int(sizes.sum()), len(sums)
    mean = float(np.mean(values)) if n_groups else np.nan
    if n_groups < FEWEST_GROUPS:
        return MeanInterval(n, n_groups, mean, np.nan, np.nan)
    low, high = student_intervals(mean, _standard_error(sums, sizes), n_groups)
    return MeanInterval(n, n_groups, mean, float(low), float(high))


def student_intervals(means: ArrayLike, errors: ArrayLike, groups: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Give low and high of means (n,) with standard errors over so many groups each, as of `mean_with_interval`."""
    groups = np.asarray(groups)
    degrees = np.where(groups < FEWEST_GROUPS, np.nan, groups - 2)
    half = scipy.special.stdtrit(degrees, (1 + LEVEL) / 2) * errors
    return means - half, means + half


def means_with_intervals(sums: ArrayLike, sizes: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Average many items over the same groups as `mean_with_interval` does one, and test each mean against 0.

    `sums` (items, groups) are finite, of the values of each group, `sizes` (groups,) how many these are. Gives (items,)
    means, low, high and the two-sided p-values of Student's t; those are NaN where all values are 0, and with the
    intervals below five groups.
    """
    sums, sizes = np.asarray(sums, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    means, n = sums.sum(1) / sizes.sum(), len(sizes)
    if n < FEWEST_GROUPS:
        return means, *np.full((3, len(sums)), np.nan)
    errors = _standard_error(sums, sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * scipy.special.stdtr(n - 2, -np.abs(means) / errors)
    return means, *student_intervals(means, errors, n), p


def simultaneous_intervals(
    values: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0, n_resamples: int = 999
) -> tuple[np.ndarray, np.ndarray]:
    """Give intervals, (items,) low and high, that together cover the means of finite `values` (n, items) in 95 %.

    Max-T by the wild bootstrap: signs of whole groups' residuals are flipped, and the 95 % quantile of the largest
    Student's t of any item takes the place of that of one. Below ten groups there are too few signs: Bonferroni's
    quantile is taken where it is larger. `groups` are as in `mean_with_interval`; below five there are no intervals.
    ValueError as there.
    """
    values = np.asarray(values, dtype=np.float64)
    by_item = [_by_group(own, groups) for own in values.T]
    if not by_item or len(by_item[0][1]) < FEWEST_GROUPS:
        return np.full((2, len(by_item)), np.nan)
    sums, sizes = np.stack([own for own, _ in by_item]), by_item[0][1]  # (items, groups), (groups,)
    means, n = sums.sum(1) / sizes.sum(), len(sizes)
    errors = _standard_error(sums, sizes)
    residuals = (sums - means[:, None] * sizes)[errors > 0]
    flipped = np.random.default_rng(seed).choice([-1.0, 1.0], (n_resamples, n)) @ residuals.T  # (resamples, items)
    spread = np.sqrt(n / (n - 1) * np.maximum((residuals**2).sum(1) - flipped**2 / n, 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.nan_to_num(np.abs(flipped) / spread, posinf=np.inf).max(1, initial=0)
    levels = [LEVEL] if n >= 10 else [LEVEL, 1 - (1 - LEVEL) / max(1, len(residuals))]
    least = (scipy.special.stdtrit(n - 2, (1 + level) / 2) for level in levels)
    half = max(np.quantile(largest, LEVEL), *least) * errors
    return means - half, means + half


def wilson(count: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, NaN where the total is 0."""
    if not total:
        return np.nan, np.nan
    interval = scipy.stats.binomtest(int(count), int(total)).proportion_ci(method="wilson")
    return interval.low, interval.high


def paired_permutation_test(
    a: ArrayLike, b: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0, n_resamples: int = 9999
) -> PairedTest:
    """Test that paired finite values (n,) do not differ, by flipping signs of differences, whole groups together.

    `groups` are as in `mean_with_interval`. Where there are no more than `n_resamples` different flips, each is taken
    once and the test is exact. The p-value is at least 2 / (n_resamples + 1), or 2 / 2^groups where exact. ValueError
    if the inputs are empty, not finite, not one-dimensional or not equally long.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"`a` and `b` must be paired and not empty, got shapes {a.shape} and {b.shape}")
    sums, sizes = _by_group(a - b, groups)
    difference = float(sums.sum() / sizes.sum())
    if len(sums) == 1:
        return PairedTest(difference, 1.0)  # scipy wants two; either sign of one group is as extreme
    test = scipy.stats.permutation_test(
        (sums,),
        lambda total, axis: total.sum(axis),
        permutation_type="samples",
        n_resamples=n_resamples,
        batch=max(1, BATCH_ELEMENTS // len(sums)),
        rng=np.random.default_rng(seed),
    )
    return PairedTest(difference, float(test.pvalue))


def smallest_p(n_groups: int, *, n_resamples: int = 9999) -> float:
    """Give the smallest p-value that `paired_permutation_test` can give for so many groups."""
    return max(2 / 2**n_groups, 2 / (n_resamples + 1))


def matching_test(scores: ArrayLike, *, seed: int = 0, n_resamples: int = 9999) -> PairedTest:
    """Test whether pairs score otherwise than if their second members were shuffled among them.

    `scores` (n, n) are finite, of each first member with each second one, those of the pairs on the diagonal. Where
    there are no more than `n_resamples` different matchings, each is taken once and the test is exact. The difference
    is that of the mean score of the pairs and of all matchings. ValueError if `scores` is empty, not square or not
    finite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or not 0 < len(scores) == scores.shape[1] or not np.isfinite(scores).all():
        raise ValueError(f"`scores` must be square, not empty and finite, got shape {scores.shape}")
    first, chance = np.arange(len(scores)), scores.mean()
    difference = float(np.diagonal(scores).mean() - chance)
    if len(scores) == 1:
        return PairedTest(difference, 1.0)
    test = scipy.stats.permutation_test(
        (first,),
        lambda second, axis: np.abs(scores[first, np.moveaxis(second, axis, -1)].mean(-1) - chance),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=n_resamples,
        batch=max(1, BATCH_ELEMENTS // len(scores)),
        rng=np.random.default_rng(seed),
    )
    return PairedTest(difference, float(test.pvalue))


def matching(scores: ArrayLike, *, groups: ArrayLike | None = None, seed: int = 0) -> Matching:
    """Compare pairs, on the diagonal of `scores` (n, n), with all pairs of members that do not belong together.

    `groups` (n,) are as in `mean_with_interval`; members of one group are not matched with each other, and whole groups
    are permuted by `matching_test`. The excess is the mean of each group's own score less its scores with others, of
    either side, plus the mean of all of these: its interval is that of this mean. NaN scores of mismatched pairs are
    left out of the chance; below two groups there is none, below five no interval. ValueError if a score of a pair is
    not finite, or shapes do not fit.
    """
    scores = np.asarray(scores, dtype=np.float64)
    finite(np.diagonal(scores), "scores of pairs")
    number = np.arange(len(scores)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if scores.shape != (len(number), len(number)):
        raise ValueError(f"`scores` must be square, a row for each of `groups`, got {scores.shape} and {len(number)}")
    one_hot = (number == np.arange(number.max(initial=-1) + 1)[:, None]).astype(float)  # (groups, n)
    known = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        between = one_hot @ np.where(known, scores, 0) @ one_hot.T / (one_hot @ known @ one_hot.T)
    n = len(between)
    np.fill_diagonal(between, one_hot @ np.diagonal(scores) / one_hot.sum(1))
    if n < 2:
        return Matching(n, *[np.nan] * 5)
    others = np.where(np.eye(n, dtype=bool), np.nan, between)
    chance = float(np.nanmean(others))
    between = np.where(np.isnan(between), chance, between)
    own = np.diagonal(between) - np.nanmean(others, 0) - np.nanmean(others, 1) + chance
    _, _, excess, low, high = mean_with_interval(own)
    return Matching(n, chance, excess, low, high, matching_test(between, seed=seed).p_value)


def rank_correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    n_resamples: int = 2000,
    n_permutations: int = 9999,
) -> Correlation:
    """Spearman's rank correlation of paired finite values (n,), with its bootstrap interval and a permutation test.

    A group enters with the means of its x and of its y; `groups` are as in `mean_with_interval`. Where there are no
    more than `n_permutations` different ones, each is taken once and the test is exact. All but the number of groups is
    NaN below five groups or where x or y is constant; resamples in which one is constant are left out of the interval.
    ValueError if the inputs are not finite, not one-dimensional or not equally long.
    """
    (sum_x, sizes), (sum_y, sizes_y) = _by_group(x, groups), _by_group(y, groups)
    if len(sizes) != len(sizes_y):
        raise ValueError(f"`x` and `y` must be paired, got {int(sizes.sum())} and {int(sizes_y.sum())} values")
    x, y = sum_x / sizes, sum_y / sizes
    if len(x) < FEWEST_GROUPS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(len(x), np.nan, np.nan, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    resamples = rng.integers(len(x), size=(n_resamples, len(x)))
    resampled = _rank_correlations(x[resamples], y[resamples])
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(resampled, [tail, 1 - tail])
    test = scipy.stats.permutation_test(
        (x,),
        lambda shuffled, axis: _rank_correlations(np.moveaxis(shuffled, axis, -1), y),
        permutation_type="pairings",
        n_resamples=n_permutations,
        batch=max(1, BATCH_ELEMENTS // len(x)),
        rng=rng,
    )
    return Correlation(len(x), float(_rank_correlations(x, y)), float(low), float(high), float(test.pvalue))


def benjamini_hochberg(p: ArrayLike) -> np.ndarray:
    """Adjust p-values, shape (n,), for the false discovery rate; NaN, where there was no test, stays NaN, uncounted.

    Rejecting adjusted p-values below q keeps the expected share of false rejections below q. ValueError if a p-value
    lies outside 0 to 1. Tested against scipy's `false_discovery_control`, which a job of it alone takes a second to
    import.
    """
    adjusted = np.array(p, dtype=np.float64)
    order = adjusted.argsort()  # NaN last
    order = order[: np.count_nonzero(~np.isnan(adjusted))]
    ranked = adjusted[order]
    if len(ranked) and not 0 <= ranked[0] <= ranked[-1] <= 1:
        raise ValueError(f"`p` holds {ranked[0]} to {ranked[-1]}; allowed: 0 to 1")
    ranked *= len(ranked) / np.arange(1, len(ranked) + 1)
    adjusted[order] = np.minimum.accumulate(ranked[::-1])[::-1].clip(0, 1)
    return adjusted


def _rank_correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation along the last axis; NaN where x or y is constant."""
    return correlations(*(scipy.stats.rankdata(each, axis=-1) for each in (x, y)))


def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Give Pearson's correlations (...,) along the last axis of arrays (..., n); NaN where x or y is constant."""
    x, y = (each - each.mean(-1, keepdims=True) for each in (x, y))
    with np.errstate(invalid="ignore"):
        return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


def _standard_error(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Give the standard error of the ratio of sums (..., groups) and sizes (groups,); 0 where all have one mean."""
    n = len(sizes)
    residuals = sums - sizes * (sums.sum(-1, keepdims=True) / sizes.sum())
    residuals[np.abs(residuals) < 1e-12 * np.abs(sums).max(-1, keepdims=True)] = 0
    return np.sqrt(n / (n - 1) * (residuals**2).sum(-1)) / sizes.sum()


def _by_group(values: ArrayLike, groups: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each group."""
    values = finite(values, "values")
    if groups is None:
        return values, np.ones(len(values))
    groups = np.asarray(groups)
    if groups.shape != values.shape:
        raise ValueError(f"`groups` has shape {groups.shape}, the values have {values.shape}")
    _, number = np.unique(groups, return_inverse=True)
    return np.bincount(number, weights=values), np.bincount(number)
