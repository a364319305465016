"""The linear model that LIME fits to a network's predictions: weighted ridge regression and its standard errors.

Coefficients, intercept and local R^2 are tested against the `lime` package for the same perturbations.

With d the distance of a sample z to the row of ones, 1 - sqrt(|z| / segments) for cosine and sqrt(segments - |z|) for
l2, its weight is w = sqrt(exp(-d^2 / kernel_width^2)). With x and y centered at their w-weighted means, the
coefficients are b = (x^T W x + alpha I)^-1 x^T W y on the selected columns, and R^2 = 1 - sum w (y - x b)^2 / sum w
y^2.
"""

import logging
from typing import NamedTuple

import torch

from unitlens.networks.memory import to_float64

_logger = logging.getLogger(__name__)
_FORWARD_UP_TO = 6  # features that `selection="auto"` selects forward, as the reference does
_RANKING_ALPHA = 0.01  # of the ridge that ranks features for "highest_weights", as in the reference
_HALVES = 200  # ways of dealing the samples to two halves
_COLLINEAR = 1e-10  # share of a superpixel's variance below which the superpixels selected before it determine it


class Surrogate(NamedTuple):
    """How predictions are explained linearly; what is out of range is a ValueError when it is used."""

    distance: str = "cosine"  # of a sample to the whole image; or "l2"
    # Of the proximity kernel, above 0: 0.25 is made for cosine distances, which are at most 1; l2 distances grow with
    # the square root of the number of superpixels and need a width to match.
    kernel_width: float = 0.25
    alpha: float = 1.0  # ridge penalty, at least 0; 0 needs linearly independent columns
    n_features: int | None = None  # superpixels to select for each target; all by default
    # By "highest_weights", the largest absolute coefficients of a ridge on all superpixels (penalty 0.01); by
    # "forward_selection", one by one whatever raises the R^2 of an unpenalized fit most; "auto" goes forward up to 6
    # superpixels; "none" takes all.
    selection: str = "auto"


DEFAULTS = Surrogate()


class Fit(NamedTuple):
    """Local linear surrogate in float64: prediction = intercept + sum of the coefficients of visible superpixels."""

    coefficients: torch.Tensor  # (targets, segments); 0 where a superpixel was not selected
    intercept: torch.Tensor  # (targets,)
    r2: torch.Tensor  # (targets,), the weighted R^2; NaN where all predictions are equal


def fit(
    design: torch.Tensor,
    predictions: torch.Tensor,
    *,
    kernel_width: float = 0.25,
    distance: str = "cosine",
    alpha: float = 1.0,
    n_features: int | None = None,
    selection: str = "auto",
) -> Fit:
    """Fit the weighted ridge surrogate of every target, on the device of `design`.

    `design` is (samples, segments), 1 where a superpixel is visible and else 0; `predictions` are (samples, targets),
    or (samples,) of one target; for the rest see `Surrogate`. ValueError if shapes do not match, an option is out of
    its range, or `alpha` is 0 and the columns are dependent.
    """
    options = Surrogate(distance, kernel_width, alpha, n_features, selection)
    return fit_with_errors(design, predictions, options)[0]


class DependentError(ValueError):
    """Superpixels are linearly dependent in the samples of an image."""


def fit_with_errors(
    design: torch.Tensor, predictions: torch.Tensor, options: Surrogate, *, paired: bool = False
) -> tuple[Fit, torch.Tensor]:
    """Do as `fit`, and estimate the standard error of each coefficient, from one draw of the samples to another.

    The errors are (targets, segments) float64, NaN where a superpixel was not selected. The surrogate is linear and the
    network is not, so the residuals e are misfit of unequal size: the robust (HC3) estimate of MacKinnon and White,
    Journal of Econometrics 29 (1985). With H = (x^T W x + alpha I)^-1 x^T W, so that the coefficients are H y, and the
    leverages L = (1, ..., 1)^T w^T / sum w + x H, the squared error of coefficient j is sum_i H_ji^2 u_i^2, where
    u_i = e_i / (1 - L_ii). Where samples are `paired`, all but the first with the next one, pairs take their place
    (CR3; Bell and McCaffrey, Survey Methodology 28, 2002): the sum is of (sum_i H_ji u_i)^2, i of a pair, where
    u = (I - L)^-1 e, L of the pair. It covers neither the bias from `alpha` nor the selection, which is taken as given.
    """
    solved = _solve(design, predictions, options, paired=paired)
    squares = solved.hat.square() @ solved.adjusted.square()[..., None]
    if paired:
        across = _partners(solved.hat), _partners(solved.adjusted)
        squares = squares + (solved.hat * across[0]) @ (solved.adjusted * across[1])[..., None]
    stderr = torch.full_like(solved.fit.coefficients, torch.nan)
    return solved.fit, stderr.scatter(1, solved.selected, squares.clamp(min=0).sqrt()[..., 0])


def shared_by_halves(
    design: torch.Tensor, predictions: torch.Tensor, options: Surrogate, *, top: int, seed: int, paired: bool = False
) -> torch.Tensor:
    """Expect which share of the `top` superpixels two halves of the samples have in common, (targets,) float64.

    Named are the `top` superpixels of the largest coefficients, of fewer superpixels all but one. The arguments are as
    of `fit_with_errors`, but all superpixels are selected. Samples, or pairs, are dealt to two halves at random, 200
    times, by the `seed`. To first order one half then has the coefficients b + H s u and the other b - H s u, with the
    fit's own b, H and u and a sign s for each sample (the wild bootstrap; Wu, Annals of Statistics 14, 1986), but the
    first, which every draw of samples has. Their mean is the fit to all, and their difference varies as that of two
    independent draws of half as many samples. So the share is what two such draws agree on, on average, without the
    optimism of errors around one estimate, whose gaps are too wide because its largest coefficients are so partly by
    chance; two draws of as many samples as these agree on more. 0 where the errors are not known.
    """
    solved = _solve(design, predictions, options._replace(selection="none"), paired=paired)
    count = solved.adjusted.shape[1]
    groups = torch.arange(count) // 2 if paired else torch.arange(count)
    generator = torch.Generator().manual_seed(int(seed))
    signs = 2 * torch.randint(0, 2, (_HALVES, int(groups[-1]) + 1), generator=generator) - 1
    signs[:, 0] = 0
    signs = signs[:, groups].to(solved.adjusted)  # (halves, samples)
    size, shares = min(top, design.shape[1] - 1), []
    for own, hat, adjusted in zip(
        solved.fit.coefficients, solved.hat.expand(len(solved.adjusted), -1, -1), solved.adjusted, strict=True
    ):
        shift = (adjusted * signs) @ hat.T  # (halves, segments)
        shared = (largest(own + shift, size) & largest(own - shift, size)).sum(1).double().mean() / size
        shares.append(shared.where(shift.isfinite().all(), 0))
    return torch.stack(shares)


class _Solved(NamedTuple):
    """A fit and what its errors are made of; paired samples have one of 0 before the first, so that pairs align."""

    fit: Fit
    selected: torch.Tensor  # (targets, k)
    hat: torch.Tensor  # (targets or 1, k, samples): the coefficients are `hat` @ y
    adjusted: torch.Tensor  # (targets, samples): residuals, each divided by what the fit leaves of it


def _solve(design: torch.Tensor, predictions: torch.Tensor, options: Surrogate, *, paired: bool) -> _Solved:
    design, predictions = _checked_samples(design, predictions)
    weights = proximity(design, options)
    share = weights / weights.sum()
    design_mean, prediction_mean = share @ design, share @ predictions
    x = design - design_mean
    # Exactly 0 where rounding errors would otherwise be explained: for a constant prediction, and under a kernel so
    # narrow that all perturbed images together weigh hardly more than their square, which the whole image adds.
    perturbed = share[design.sum(1) < design.shape[1]].sum()
    nothing = (predictions == predictions[0]).all(0) | (perturbed < torch.finfo(share.dtype).eps ** 1.5)
    y = torch.where(nothing, 0, predictions - prediction_mean)
    selected = select_columns(x, y, weights, options)  # (targets or 1, k)

    columns = x.T[selected]  # (targets or 1, k, samples)
    hat = torch.cholesky_solve(
        columns * weights, cholesky_factor(columns, weights, options.alpha)
    )  # coefficients = hat @ y
    solution = (hat @ y.T[..., None])[..., 0]  # (targets, k)
    selected = selected.expand_as(solution)
    coefficients = solution.new_zeros(y.shape[1], x.shape[1]).scatter(1, selected, solution)
    residual = y - x @ coefficients.T  # (samples, targets)
    r2 = 1 - weights @ residual.square() / (weights @ y.square())
    fit = Fit(coefficients, prediction_mean - coefficients @ design_mean, r2)
    return _Solved(fit, selected, *_adjusted(columns, hat, share, residual.T, paired=paired))


def _adjusted(
    columns: torch.Tensor, hat: torch.Tensor, share: torch.Tensor, residual: torch.Tensor, *, paired: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give `hat` and the adjusted residuals of `_Solved`.

    `columns` and `hat` are (targets or 1, k, samples), the `share` of all weight (samples,), residuals (targets,
    samples).
    """
    left = 1 - share - (columns * hat).sum(1)  # (targets or 1, samples)
    if not paired:
        return hat, residual / left
    # Rows of 0, which add nothing, are the partners of the first sample and, where it has none, of the last.
    pad = (1, (len(share) + 1) % 2)
    columns, hat, residual = (torch.nn.functional.pad(values, pad) for values in (columns, hat, residual))
    left, share = (torch.nn.functional.pad(values, pad, value=value) for values, value in ((left, 1), (share, 0)))
    across = _partners(share) + (columns * _partners(hat)).sum(1)  # leverage of the partner
    determinant = left * _partners(left) - across * _partners(across)
    return hat, (_partners(left) * residual + across * _partners(residual)) / determinant


def _partners(values: torch.Tensor) -> torch.Tensor:
    return values.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


def largest(coefficients: torch.Tensor, count: int) -> torch.Tensor:
    """Mark the `count` largest of coefficients (..., d) along the last axis, the first of equal ones."""
    places = coefficients.sort(dim=-1, descending=True, stable=True).indices[..., :count]
    return torch.zeros_like(coefficients, dtype=torch.bool).scatter(-1, places, True)


def proximity(design: torch.Tensor, options: Surrogate) -> torch.Tensor:
    """Weigh each sample (samples,) by its proximity to the whole image; ValueError where an option is out of range."""
    if options.kernel_width <= 0:
        raise ValueError(f"`kernel_width` is {options.kernel_width}; allowed: above 0")
    n_segments, visible = design.shape[1], design.sum(1)
    if options.distance == "cosine":
        away = 1 - (visible / n_segments).sqrt()
    elif options.distance == "l2":
        away = (n_segments - visible).sqrt()
    else:
        raise ValueError(f'`distance` is {options.distance!r}; allowed: "cosine" or "l2"')
    weights = (-(away**2) / options.kernel_width**2).exp().sqrt()
    if weights.sum() ** 2 < 2 * weights.square().sum():
        _logger.warning(
            "`kernel_width` %g at %s distance leaves %d samples the weight of less than two; widen it",
            options.kernel_width,
            options.distance,
            len(weights),
        )
    return weights


def select_columns(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, options: Surrogate) -> torch.Tensor:
    """Select superpixels for each target, (targets, k), or (1, segments) for all; ValueError if no such selection."""
    n_features, selection = options.n_features, options.selection
    if selection not in ("auto", "none", "highest_weights", "forward_selection"):
        raise ValueError(
            f'`selection` is {selection!r}; allowed: "auto", "none", "highest_weights" or "forward_selection"'
        )
    if n_features is not None and n_features < 1:
        raise ValueError(f"`n_features` is {n_features}; allowed: 1 or more, or None for all")
    if selection == "none" or n_features is None or n_features >= x.shape[1]:
        return torch.arange(x.shape[1], device=x.device)[None]
    gram, moment = x.T @ (weights[:, None] * x), (weights[:, None] * y).T @ x  # (d, d), (targets, d)
    if selection == "forward_selection" or (selection == "auto" and n_features <= _FORWARD_UP_TO):
        return _forward(gram, moment, n_features)
    gram.diagonal().add_(_RANKING_ALPHA)
    ranking = torch.linalg.solve(gram, moment.T).T.abs()  # (targets, d)
    return ranking.sort(descending=True, stable=True).indices[:, :n_features]


def _forward(gram: torch.Tensor, moment: torch.Tensor, n_features: int) -> torch.Tensor:  # (targets, n_features)
    """Select, one by one, the column that lowers the residual sum of squares of least squares most.

    The columns not yet selected, and the target, are kept orthogonal to the selected ones (Gram-Schmidt), in terms of
    their inner products alone: `with_target` and `norm`. A column then lowers the sum by with_target^2 / norm.
    """
    with_target, norm = moment.clone(), gram.diagonal().repeat(len(moment), 1)  # (targets, d)
    floor = _COLLINEAR * gram.diagonal()
    directions: list[torch.Tensor] = []
    selected: list[torch.Tensor] = []
    for _ in range(n_features):
        gain = torch.where(norm > floor, with_target.square() / norm, 0)
        for column in selected:
            gain = gain.scatter(1, column, -1)
        best = gain.argmax(1, keepdim=True)  # (targets, 1), the first one of equals
        per_length = torch.where(norm.gather(1, best) > floor[best], norm.gather(1, best).rsqrt(), 0)
        direction = (gram[best[:, 0]] - sum(old.gather(1, best) * old for old in directions)) * per_length
        with_target = with_target - direction * with_target.gather(1, best) * per_length
        norm = norm - direction.square()
        directions.append(direction)
        selected.append(best)
    return torch.cat(selected, 1)


def cholesky_factor(columns: torch.Tensor, weights: torch.Tensor, alpha: float) -> torch.Tensor:
    """Factorize x^T W x + alpha I of the selected columns, (targets, k, samples) with 1 for targets that share them.

    ValueError where `alpha` is negative, DependentError where it is 0 and columns depend on each other.
    """
    if alpha < 0:
        raise ValueError(f"`alpha` is {alpha}; allowed: 0 or more")
    gram = (columns * weights) @ columns.mT
    if alpha == 0 and (torch.linalg.matrix_rank(gram, hermitian=True) < gram.shape[1]).any():
        raise DependentError("`alpha` is 0 but superpixels are linearly dependent in the samples; allowed: above 0")
    gram.diagonal(dim1=1, dim2=2).add_(alpha)
    return torch.linalg.cholesky(gram)


def _checked_samples(design: torch.Tensor, predictions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    design, predictions = torch.as_tensor(design), torch.as_tensor(predictions)
    predictions = predictions[:, None] if predictions.ndim == 1 else predictions
    if design.ndim != 2 or predictions.ndim != 2 or len(design) != len(predictions) or 0 in design.shape:
        raise ValueError(
            f"`design` has shape {tuple(design.shape)} and `predictions` {tuple(predictions.shape)}; "
            "allowed: (samples, segments) and (samples, targets)"
        )
    design = to_float64(design)
    return design, predictions.to(design.device, torch.float64)
