"""Balanced designs of LIME: Hadamard matrices, pairs of complements, their standard errors, and early stopping."""

from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from unitlens.explainers import hadamard, lime, lime_samples, run, segment, surrogate
from unitlens.measures import lime_sweep, reference_checks, sanity

SQUARES = {"method": "grid", "size": 4}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def balanced(n_segments, n_samples, seed):
    return lime_samples.perturbations(n_segments, n_samples, seeded(seed), design="balanced")


def some_images(n):
    return torch.randint(0, 256, (n, 12, 16, 3), generator=seeded(n), dtype=torch.uint8)


def predict(batch):
    light = batch.double().mean(3).flatten(1) / 255
    pull = torch.randn(light.shape[1], 3, generator=seeded(0), dtype=torch.float64)
    return torch.softmax(light @ pull, 1)


def crossed(design):
    """Predictions with effects of one, two and three superpixels."""
    shown = design.double()
    main = shown @ torch.linspace(-1, 1, design.shape[1], dtype=torch.float64)
    pairs = (shown[:, :-1] * shown[:, 1:]).sum(1)
    return torch.sigmoid(main + pairs - 2 * shown[:, 0] * shown[:, 3] * shown[:, 5])


# ---- Hadamard matrices


def test_rows_of_every_matrix_are_orthogonal_and_all_orders_are_there_but_a_few():
    orders = []
    for least in range(1, 201):
        made = hadamard.matrix(least)
        assert made.dtype == torch.int8 and made.abs().eq(1).all() and made[:, 0].eq(1).all()
        made, order = made.double(), len(made)
        assert torch.equal(made @ made.T, order * torch.eye(order).double()), least
        orders.append(order)
    missing = (92, 116, 156, 172, 184, 188)
    there = [1, 2, *(order for order in range(4, 201, 4) if order not in missing)]
    assert orders == [min(order for order in there if order >= least) for least in range(1, 201)]


# ---- rows


@pytest.mark.parametrize("n_segments", [1, 2, 3, 7, 8, 34])
def test_a_block_is_balanced_and_free_of_products_of_two(n_segments):
    order = len(hadamard.matrix(n_segments + 1))
    rows = balanced(n_segments, 1 + 4 * order, seed=n_segments)
    assert rows.dtype == torch.uint8 and rows[0].eq(1).all()
    for block in rows[1:].split(2 * order):
        signs = 2 * block.double() - 1
        assert torch.equal(block[0::2], 1 - block[1::2]), "pairs of complements"
        assert torch.equal(signs.T @ signs, 2 * order * torch.eye(n_segments).double())
        assert block.double().mean(0).eq(0.5).all()
        for i, j in combinations(range(n_segments), 2):
            assert (signs.T @ (signs[:, i] * signs[:, j])).eq(0).all()


def test_a_single_row_is_as_of_independent_coins():
    powers, counts = 2 ** torch.arange(5), {row: torch.zeros(32) for row in (1, 2, 11, 17, 40)}
    for seed in range(1600):
        drawn = balanced(5, 41, seed).long() @ powers
        for row, count in counts.items():
            count[drawn[row]] += 1
    for row, count in counts.items():  # chi-squared of 31 degrees of freedom: 61 is its 99.9 % quantile
        assert ((count - 50) ** 2 / 50).sum() < 61, row


@pytest.mark.parametrize("design", lime_samples.DESIGNS)
def test_fewer_samples_are_the_first_of_more(design):
    most = lime_samples.perturbations(9, 100, seeded(3), design=design)
    for n in (1, 2, 3, 24, 25, 26, 49, 99):
        assert torch.equal(lime_samples.perturbations(9, n, seeded(3), design=design), most[:n])


def test_seeds_and_blocks_draw_other_rows():
    rows = balanced(9, 49, seed=1)
    assert torch.equal(rows, balanced(9, 49, seed=1)) and not torch.equal(rows, balanced(9, 49, seed=2))
    one, two = ({tuple(row) for row in block.tolist()} for block in rows[1:].split(24))
    assert one != two


def test_a_design_that_there_is_not_is_named():
    images, targets = some_images(1), torch.tensor([0])
    labels, message = segment.grid(images, size=4), r"`design` is 'sobol'; allowed: 'bernoulli', 'balanced'"
    with pytest.raises(ValueError, match=message):
        lime_samples.perturbations(3, 9, seeded(0), design="sobol")
    for designs in (None, [torch.ones(20, 12)]):
        with pytest.raises(ValueError, match=message):
            lime.explain(predict, images, labels, targets, n_samples=20, seeds=[0], design="sobol", designs=designs)


# ---- the fit and its errors


def test_the_package_gives_the_same_for_balanced_rows():
    image, rows = some_images(1)[0], balanced(12, 80, seed=5)
    labels = segment.grid(image[None], size=4)
    explainer = LimeImageExplainer(random_state=0)
    explainer.random_state = SimpleNamespace(randint=lambda low, high, size: rows.flatten().numpy().astype(int))
    theirs = explainer.explain_instance(
        image.numpy(),
        lambda batch: predict(torch.as_tensor(batch)).numpy(),
        labels=[1],
        top_labels=None,
        num_features=12,
        num_samples=80,
        segmentation_fn=lambda _: labels[0].numpy(),
        random_seed=0,
    )
    ours = lime.explain(predict, image[None], labels, torch.tensor([1]), n_samples=80, seeds=[5], design="balanced")
    expected = [weight for _, weight in sorted(theirs.local_exp[1])]
    np.testing.assert_allclose(ours.coefficients[0], expected, rtol=1e-8)
    assert ours.intercept.item() == pytest.approx(theirs.intercept[1], rel=1e-9)
    assert ours.r2.item() == pytest.approx(theirs.score, rel=1e-9)


@pytest.mark.parametrize("n_samples", [40, 41])
@pytest.mark.parametrize("options", [{}, {"kernel_width": 0.6}, {"distance": "l2", "kernel_width": 2}])
def test_errors_of_pairs_are_what_leaving_each_pair_out_changes(n_samples, options):
    options = surrogate.Surrogate(**options)._replace(alpha=0)
    design = balanced(6, n_samples, seed=2)
    predictions = torch.stack([crossed(design), torch.randn(n_samples, generator=seeded(1)).double()], 1)
    whole, errors = surrogate.fit_with_errors(design, predictions, options, paired=True)
    group = (torch.arange(n_samples) + 1) // 2
    squares = torch.zeros_like(errors)
    for one in group.unique():
        kept = group != one
        squares += (
            surrogate.fit(design[kept], predictions[kept], **options._asdict()).coefficients - whole.coefficients
        ) ** 2
    torch.testing.assert_close(errors, squares.sqrt(), rtol=1e-8, atol=1e-12)


def test_errors_of_pairs_with_a_penalty_are_the_formula():
    design = balanced(5, 24, seed=4).double().numpy()
    y = torch.randn(24, generator=seeded(1), dtype=torch.float64).numpy()
    w = np.sqrt(np.exp(-((1 - np.sqrt(design.sum(1) / 5)) ** 2) / 0.25**2))
    x = design - w @ design / w.sum()
    hat = np.linalg.inv(x.T @ np.diag(w) @ x + np.eye(5)) @ x.T @ np.diag(w)
    centered = y - w @ y / w.sum()
    residual, leverage = centered - x @ hat @ centered, np.ones((24, 1)) * w / w.sum() + x @ hat
    squares = np.zeros(5)
    for pair in [[0], *([i, i + 1] for i in range(1, 23, 2)), [23]]:
        inside = np.eye(len(pair)) - leverage[np.ix_(pair, pair)]
        squares += (hat[:, pair] @ np.linalg.solve(inside, residual[pair])) ** 2
    own = surrogate.fit_with_errors(torch.as_tensor(design), torch.as_tensor(y), surrogate.DEFAULTS, paired=True)[1]
    np.testing.assert_allclose(own[0], np.sqrt(squares), rtol=1e-9)


def test_errors_of_pairs_keep_what_is_not_selected_apart():
    design = balanced(8, 60, seed=0)
    predictions = torch.stack([design[:, 0] + 0.1 * crossed(design), design[:, 7] + 0.1 * crossed(design)], 1)
    options = surrogate.DEFAULTS._replace(n_features=3)
    fit, errors = surrogate.fit_with_errors(design, predictions, options, paired=True)
    assert torch.equal(errors.isnan(), fit.coefficients == 0) and errors.isnan().sum(1).tolist() == [5, 5]
    for target in range(2):
        own = surrogate.fit_with_errors(design, predictions[:, target], options, paired=True)[1]
        torch.testing.assert_close(own[0], errors[target], equal_nan=True)


def test_standard_errors_cover_the_spread_over_seeds_and_balance_halves_it():
    draws = {"bernoulli": [], "balanced": []}
    for design, drawn in draws.items():
        for seed in range(300):
            rows = lime_samples.perturbations(10, 240, seeded(seed), design=design)
            fit, errors = surrogate.fit_with_errors(
                rows, crossed(rows), surrogate.DEFAULTS, paired=lime_samples.is_paired(design)
            )
            drawn.append((fit.coefficients[0], errors[0]))
    variance = {}
    for design, drawn in draws.items():
        coefficients, errors = (torch.stack(values) for values in zip(*drawn, strict=True))
        mean, variance[design] = coefficients.mean(0), coefficients.var(0)
        assert ((coefficients - mean).abs() < 1.96 * errors).double().mean() > 0.945, design
        assert errors.square().mean(0).sum().item() < 1.4 * variance[design].sum().item(), "and are not much too wide"
    assert variance["balanced"].sum() < 0.6 * variance["bernoulli"].sum()


# ---- a run


def test_explanations_draws_and_sweeps_have_the_rows_of_the_design():
    images, targets, ids = some_images(2), torch.tensor([0, 1]), ["a", "b"]
    shared = {"hide": "mean", "batch_size": 16, "seed": 5}
    lime_options = {"n_samples": 60, "superpixels": SQUARES, "num_features": 3, "design": "balanced"}
    explained = run.lime_explainer(predict, **lime_options, **shared)(images, targets, ids)
    seeds = [run.image_seed(5, name) for name in ids]
    segments = segment.grid(images, size=4)
    alone = lime.explain(predict, images, segments, targets, n_samples=60, seeds=seeds, design="balanced")
    assert torch.equal(explained["coefficients"], alone.coefficients)
    draws, _ = sanity.draw(
        predict, images, segments, targets, ids, repeats=2, n_samples=60, design="balanced", **shared
    )
    assert torch.equal(draws[0].designs[1], balanced(12, 60, seeds[1]))

    seen = []
    default = {"n_samples": 60, "superpixels": SQUARES, "hide": "mean", "num_features": 3, "design": "balanced"}
    swept = lime_sweep.all_settings(default, {"n_samples": [30]})

    def score(saliency, selected, rows):
        seen.append(saliency)
        return torch.zeros(len(rows)), torch.zeros(len(rows))

    lime_sweep.sweep(predict, images, targets, ids, swept, score, seed=5, batch_size=16, design="balanced")
    assert any(torch.equal(saliency, explained["saliency"]) for saliency in seen)


def test_the_package_draws_no_balanced_rows():
    options = {"seed": 0, "batch_size": 4, "n_samples": 20, "superpixels": SQUARES, "hide": "mean", "num_features": 3}
    with pytest.raises(ValueError, match="`design` is 'balanced'; allowed with `engine` 'lime': 'bernoulli'"):
        run.lime_explainer(predict, engine="lime", design="balanced", **options)


def test_a_run_of_balanced_rows_is_verified_by_rows_of_the_package():
    images, segments = some_images(1), segment.grid(some_images(1), size=4)
    options = {"superpixels": SQUARES, "hide": "mean", "design": "balanced"}
    check = reference_checks._lime_check(predict, images, segments, torch.tensor([0]), [3], options, 60, 16)
    torch.testing.assert_close(check.ours(0), check.theirs(0), rtol=1e-6, atol=1e-9)
