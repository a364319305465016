import inspect
import logging
import math
from functools import partial

import numpy as np
import pytest
import torch
from unitlens.explainers import lime, lime_samples, segment, surrogate
from unitlens.images import fill

CLASSES = 4


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def some_images(n=3, h=12, w=16, seed=0):
    return torch.randint(0, 256, (n, h, w, 3), generator=seeded(seed), dtype=torch.uint8)


def predict(batch):
    """Softmax of a fixed random linear map of the pixels: cheap, and not linear in the superpixels."""
    pixels = batch.flatten(1).double() / 255
    weights = torch.randn(pixels.shape[1], CLASSES, generator=seeded(9), dtype=torch.float64)
    return (pixels @ weights / 5).softmax(1)


def explain(images, targets, segments=None, model=predict, **options):
    segments = segment.grid(images, size=4) if segments is None else segments
    options = {"n_samples": 60, "seeds": range(len(images)), "batch_size": 16} | options
    return lime.explain(model, images, segments, targets, **options)


def test_perturbations_are_seeded_coin_flips_below_a_row_of_ones():
    design = lime_samples.perturbations(40, 1000, seeded(3))
    assert design.shape == (1000, 40)
    assert design[0].tolist() == [1] * 40
    assert design.unique().tolist() == [0, 1]
    assert abs(design[1:].double().mean().item() - 0.5) < 0.01
    assert torch.equal(design, lime_samples.perturbations(40, 1000, seeded(3)))
    assert not torch.equal(design, lime_samples.perturbations(40, 1000, seeded(4)))


def test_fit_of_one_superpixel_by_hand():
    # z = 1, 1, 0, y = 3, 5, 1: distances 0, 0, 1 and weights 1, 1, w = exp(-1 / (2 * 0.5^2)) at a kernel width of 0.5.
    w = math.exp(-2)
    mean_z, mean_y = 2 / (2 + w), (8 + w) / (2 + w)
    covariance = 3 * (1 - mean_z) + 5 * (1 - mean_z) - w * mean_z
    variance = 2 * (1 - mean_z) ** 2 + w * mean_z**2
    slope = covariance / (variance + 0.1)
    intercept = mean_y - slope * mean_z
    residual = (3 - intercept - slope) ** 2 + (5 - intercept - slope) ** 2 + w * (1 - intercept) ** 2
    total = (3 - mean_y) ** 2 + (5 - mean_y) ** 2 + w * (1 - mean_y) ** 2

    own = surrogate.fit([[1], [1], [0]], [3.0, 5.0, 1.0], kernel_width=0.5, alpha=0.1)
    assert own.coefficients.item() == pytest.approx(slope, rel=1e-12)
    assert own.intercept.item() == pytest.approx(intercept, rel=1e-12)
    assert own.r2.item() == pytest.approx(1 - residual / total, rel=1e-12)


def standard_errors(design, predictions, **options):
    return surrogate.fit_with_errors(design, predictions, surrogate.Surrogate(**options))[1]


@pytest.mark.parametrize(("distance", "width"), [("cosine", 0.25), ("l2", 2.0)])
def test_fit_recovers_a_linear_model_for_many_targets_at_once(distance, width):
    design = lime_samples.perturbations(7, 200, seeded(0))
    truth = torch.randn(5, 7, generator=seeded(1), dtype=torch.float64)
    own = surrogate.fit(design, design.double() @ truth.T + 0.5, alpha=0, distance=distance, kernel_width=width)
    torch.testing.assert_close(own.coefficients, truth)
    torch.testing.assert_close(own.intercept, torch.full((5,), 0.5, dtype=torch.float64))
    torch.testing.assert_close(own.r2, torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("selection", ["highest_weights", "forward_selection", "auto"])
def test_selection_finds_each_targets_own_superpixels(selection):
    design = lime_samples.perturbations(12, 300, seeded(0))
    truth = torch.zeros(2, 12, dtype=torch.float64)
    truth[0, [2, 5, 11]] = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    truth[1, [0, 5, 7]] = torch.tensor([-1.0, 2.0, 1.5], dtype=torch.float64)
    noise = 0.1 * torch.randn(300, 2, generator=seeded(2), dtype=torch.float64)
    options = {"n_features": 3, "selection": selection}
    own = surrogate.fit(design, design.double() @ truth.T + noise, **options)
    assert torch.equal(own.coefficients != 0, truth != 0)
    errors = standard_errors(design, design.double() @ truth.T + noise, **options)
    assert torch.equal(errors.isfinite(), truth != 0)


def test_forward_selection_survives_columns_that_repeat_one_another():
    column = lime_samples.perturbations(1, 50, seeded(0))
    own = surrogate.fit(
        column.repeat(1, 4), column.double(), n_features=3, selection="forward_selection", kernel_width=9
    )
    assert own.coefficients.isfinite().all()
    assert own.r2.item() > 0.9


def test_constant_prediction_is_explained_by_nothing():
    design = lime_samples.perturbations(6, 50, seeded(0))
    own = surrogate.fit(design, torch.full((50, 1), 0.1, dtype=torch.float64))
    assert own.coefficients.tolist() == [[0.0] * 6]
    assert own.intercept.item() == pytest.approx(0.1)
    assert own.r2.isnan().all()


@pytest.mark.parametrize(("width", "explained"), [(0.001, False), (0.01, False), (0.05, True), (1e9, True)])
@pytest.mark.filterwarnings("ignore")
def test_a_kernel_that_is_too_narrow_explains_nothing_rather_than_rounding_errors(width, explained):
    generator = torch.Generator().manual_seed(0)
    design = lime.perturbations(4, 50, generator)
    predictions = torch.rand(50, 3, generator=generator, dtype=torch.float64)
    coefficients = surrogate.fit(design, predictions, kernel_width=width).coefficients
    if not explained:
        assert not coefficients.any()
        return
    away = 1 - design.double().mean(1).sqrt()  # by hand, in extended precision
    weights, x, y = (
        np.asarray(each, np.longdouble) for each in ((-((away / width) ** 2) / 2).exp(), design, predictions)
    )
    x, y = (each - weights @ each / weights.sum() for each in (x, y))
    gram = (x.T * weights) @ x + np.eye(4)
    expected = np.linalg.solve(gram.astype(float), ((x.T * weights) @ y).astype(float)).T
    np.testing.assert_allclose(coefficients, expected, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.01, "kernel_width": 0.5}, {"distance": "l2", "kernel_width": 2}])
def test_standard_errors_are_those_of_hc3(options):
    """The formulas in plain numpy, a sample after the other, where few samples make leverages large."""
    design = lime_samples.perturbations(4, 12, seeded(0)).double().numpy()
    y = torch.randn(12, generator=seeded(1), dtype=torch.float64).numpy()
    settings = {"alpha": 1.0, "kernel_width": 0.25, "distance": "cosine"} | options
    visible = design.sum(1)
    away = 1 - np.sqrt(visible / 4) if settings["distance"] == "cosine" else np.sqrt(4 - visible)
    w = np.sqrt(np.exp(-(away**2) / settings["kernel_width"] ** 2))
    x = design - w @ design / w.sum()
    hat = np.linalg.inv(x.T @ np.diag(w) @ x + settings["alpha"] * np.eye(4)) @ x.T @ np.diag(w)
    centered = y - w @ y / w.sum()
    residual = centered - x @ hat @ centered
    leverage = [w[i] / w.sum() + x[i] @ hat[:, i] for i in range(12)]
    expected = [sum((hat[j, i] * residual[i] / (1 - leverage[i])) ** 2 for i in range(12)) ** 0.5 for j in range(4)]
    assert max(leverage) > 0.25
    assert standard_errors(design, y, **options)[0].tolist() == pytest.approx(expected, rel=1e-9)


def test_standard_errors_equal_the_spread_over_draws():
    pull = torch.linspace(-1, 1, 10, dtype=torch.float64)
    draws, errors = [], []
    for seed in range(300):
        design = lime_samples.perturbations(10, 200, seeded(seed))
        predictions = torch.sigmoid(3 * design.double() @ pull + 2 * (design[:, 0] * design[:, 9]))
        draws.append(surrogate.fit(design, predictions).coefficients[0])
        errors.append(standard_errors(design, predictions)[0])
    ratio = torch.stack(errors).square().mean(0).sqrt() / torch.stack(draws).std(0)
    assert ratio.mean().item() == pytest.approx(1, abs=0.06)
    assert ((ratio > 0.85) & (ratio < 1.2)).all()


def test_explanation_finds_the_superpixel_that_the_model_looks_at():
    images = torch.full((1, 8, 8, 3), 200, dtype=torch.uint8)
    labels = segment.grid(images, size=4)

    def bright_corner(batch):
        share = batch[:, :4, 4:].double().mean((1, 2, 3)) / 255
        return torch.stack([share, 1 - share], 1)

    result = explain(images, torch.tensor([[0, 1]]), labels, bright_corner, hide=0, alpha=1e-9)
    seen = labels[0] == 1
    assert (result.saliency[0, 0][seen] > 0.5).all()
    assert (result.saliency[0, 0][~seen] < 1e-6).all()
    assert (result.saliency[0, 1][seen] == 0).all()
    assert lime.mask(result.coefficients[:, :1], labels, num_features=1)[0, 0].equal(seen)
    torch.testing.assert_close(result.coefficients[0, 0], -result.coefficients[0, 1])


@pytest.mark.parametrize("hide", [None, 37, "blur", "noise"])
def test_images_show_or_hide_whole_superpixels(hide):
    images = some_images(2)
    labels = segment.quickshift(images, kernel_size=1, max_dist=8)
    seen = []

    def watch(batch):
        seen.append(batch.clone())
        return predict(batch)

    design = [lime_samples.perturbations(int(own.max()) + 1, 80, seeded(5)) for own in labels]
    explain(
        images,
        torch.tensor([0, 1]),
        labels,
        watch,
        hide=hide,
        seeds=[91, 92],
        n_samples=80,
        designs=design,
        batch_size=30,
    )
    assert max(len(batch) for batch in seen) == 30
    seen = torch.cat(seen).view(2, 80, *images.shape[1:])
    for image, own, rows, batch in zip(images, labels, design, seen, strict=True):
        visible = rows.bool()[:, own]
        assert torch.equal(batch[0], image)
        assert torch.equal(batch[visible], image.expand_as(batch)[visible])
        shown_when_hidden = batch[
            visible.logical_not().long().argmax(0), *torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij")
        ]
        assert torch.equal(batch[~visible], shown_when_hidden.expand_as(batch)[~visible])
        if hide is None:
            for label in own.unique():
                mean = image[own == label].numpy().mean(0).astype(np.uint8)
                assert (shown_when_hidden[own == label].numpy() == mean).all()
        elif hide == 37:
            assert (shown_when_hidden == 37).all()
        else:
            assert (shown_when_hidden != image).any()


def test_blur_keeps_a_flat_image_and_the_mean_of_a_step():
    flat = torch.full((1, 5, 200, 3), 91, dtype=torch.uint8)
    assert torch.equal(fill.blurred(flat), flat)
    flat[:, :, 100:] = 191
    blurred = fill.blurred(flat)[0, 2, :, 0].double()
    assert (blurred.diff() >= 0).all()
    assert blurred.mean().item() == pytest.approx(141, abs=0.5)
    # The step under a Gaussian of 10 pixels, 10 pixels to the right of it: Phi(0.95..1.05).
    assert blurred[109].item() == pytest.approx(91 + 100 * 0.829, abs=1)


@pytest.mark.parametrize(
    "options", [{}, {"hide": "noise"}, {"n_features": 3}, {"num_features": 1, "n_samples": "auto"}]
)
def test_result_depends_neither_on_batches_nor_on_the_other_images(options):
    images, targets, seeds = some_images(3), torch.tensor([[0, 1], [1, 2], [3, 0]]), [11, 12, 13]
    labels = torch.stack([segment.grid(images[:1], size=size)[0] for size in (4, 6, 5)])
    whole = explain(images, targets, labels, seeds=seeds, **options)
    again = explain(images, targets, labels, seeds=seeds, **options)
    ones = explain(images, targets, labels, seeds=seeds, batch_size=1, **options)
    order = [2, 0]
    some = explain(images[order], targets[order], labels[order], seeds=[13, 11], batch_size=50, **options)
    for name, values in whole._asdict().items():
        torch.testing.assert_close(getattr(again, name), values, rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(getattr(ones, name), values, rtol=0, atol=1e-9, equal_nan=True, msg=name)
        own = values[order][..., : getattr(some, name).shape[-1]]
        torch.testing.assert_close(getattr(some, name), own, rtol=0, atol=1e-9, equal_nan=True, msg=name)


def test_targets_without_an_axis_give_results_without_it():
    images = some_images(2)
    one, many = (explain(images, targets) for targets in (torch.tensor([1, 2]), torch.tensor([[1], [2]])))
    assert one.saliency.shape == (2, 12, 16)
    assert one.coefficients.shape == (2, 12)
    assert one.intercept.shape == one.r2.shape == one.n_used.shape == (2,)
    assert many.saliency.shape == (2, 1, 12, 16)
    assert torch.equal(one.stderr, many.stderr[:, 0])
    assert one.n_used.tolist() == [60, 60]


def test_seeds_matter():
    images = some_images(1)
    first, second = (explain(images, torch.tensor([0]), seeds=[seed]) for seed in (1, 2))
    assert not torch.equal(first.coefficients, second.coefficients)


def test_mask_takes_only_positive_superpixels_and_at_most_so_many():
    labels = torch.arange(6).view(1, 2, 3)
    coefficients = torch.tensor([[[0.1, -9.0, 0.5, 0.0, 0.3, torch.nan], [-1.0, -2.0, -1.0, -1.0, -1.0, torch.nan]]])
    own = lime.mask(coefficients, labels, num_features=2)
    assert own.shape == (1, 2, 2, 3)
    assert own[0, 0].flatten().tolist() == [False, False, True, False, True, False]
    assert not own[0, 1].any()
    assert lime.mask(coefficients[:, 0], labels)[0].flatten().tolist() == [True, False, True, False, True, False]


def test_out_of_memory_halves_the_batch_and_goes_on(caplog):
    images, sizes = some_images(2), []

    def small_device(batch):
        sizes.append(len(batch))
        if len(batch) > 5:
            raise torch.OutOfMemoryError("toy device")
        return predict(batch)

    with caplog.at_level(logging.WARNING):
        result = explain(images, torch.tensor([0, 1]), model=small_device, batch_size=16)
    assert sizes[:4] == [16, 8, 4, 4]
    assert max(sizes[2:]) == 4
    assert "`batch_size` goes down to 4" in caplog.text
    torch.testing.assert_close(result.saliency, explain(images, torch.tensor([0, 1])).saliency)

    def no_device(batch):
        raise torch.OutOfMemoryError("toy device")

    with pytest.raises(torch.OutOfMemoryError):
        explain(images, torch.tensor([0, 1]), model=no_device)


def test_a_device_that_holds_one_image_is_enough():
    sizes = []

    def run(batch):
        sizes.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("toy device")

    assert lime_samples._in_batches(run, list(range(3)), 2) == 1
    assert sizes == [2, 1, 1, 1]


def test_samples_of_no_explanation_are_counted_in_whole_numbers():
    result = lime.no_explanation(torch.zeros(2, 4, 4, dtype=torch.int64))
    assert result.n_used.dtype == torch.int64 and result.n_used.tolist() == [0, 0]


def test_kernel_too_narrow_for_the_distance_is_reported(caplog):
    design = lime_samples.perturbations(50, 100, seeded(0))
    surrogate.fit(design, design[:, 0].double(), distance="l2")
    assert "`kernel_width` 0.25 at l2 distance" in caplog.text


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_predictions_that_are_not_finite_name_the_image(bad):
    images = some_images(3)

    def broken(batch):
        probabilities = predict(batch)
        probabilities[(batch[:, 0, 0] == images[1, 0, 0]).all(1)] = bad
        return probabilities

    targets, labels, ids = torch.tensor([0, 0, 0]), segment.grid(images, size=4), ["dog", "cat", "cow"]
    with pytest.raises(ValueError, match=r"NaN or infinite probabilities for images \[1\]"):
        explain(images, targets, model=broken)
    with pytest.raises(ValueError, match=r"NaN or infinite probabilities for images \[1\]"):
        explain(images, targets, model=broken, n_samples="auto", num_features=1)
    for function in (lime.explain, lime.explain_with_package):
        with pytest.raises(ValueError, match=r"NaN or infinite probabilities for images \['cat'\]"):
            function(broken, images, labels, targets, n_samples=60, seeds=[0, 1, 2], image_ids=ids)


@pytest.mark.parametrize("hide", [None, 128])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distance": "l2", "kernel_width": 2.0, "alpha": 0.1},
        {"n_features": 4, "kernel_width": 0.5},
        {"n_features": 7},
        {"n_features": 3, "selection": "highest_weights", "alpha": 10.0},
        {"n_features": 3, "selection": "none"},
    ],
)
def test_the_package_gives_the_same_for_its_perturbations(hide, options):
    images, targets, seeds = some_images(2), torch.tensor([1, 3]), [5, 2**40 + 6]
    labels = segment.grid(images, size=4)
    options = {"n_samples": 60, "batch_size": 16, "hide": hide, "seeds": seeds, **options}
    theirs = lime.explain_with_package(predict, images, labels, targets, **options)
    designs = [np.random.RandomState(seed).randint(0, 2, (60, 12)) for seed in (5, 6)]  # of the lowest 32 bits
    for design in designs:
        design[0] = 1
    ours = lime.explain(predict, images, labels, targets, designs=designs, **options)
    for name in ("saliency", "coefficients", "intercept", "r2", "n_used"):
        torch.testing.assert_close(getattr(theirs, name), getattr(ours, name), rtol=1e-6, atol=1e-9)
    assert theirs.stderr.isnan().all() and theirs.stderr.shape == ours.stderr.shape


def test_the_package_takes_images_of_different_numbers_of_superpixels():
    images, targets = some_images(2), torch.tensor([0, 1])
    labels = torch.cat([segment.grid(images[:1], size=4), segment.grid(images[1:], size=8)])
    together, alone = (
        lime.explain_with_package(predict, images[rows], labels[rows], targets[rows], n_samples=60, seeds=seeds)
        for rows, seeds in ((slice(2), [1, 2]), (slice(1, 2), [2]))
    )
    assert together.coefficients.shape == (2, 12)
    assert together.coefficients.isnan().sum(1).tolist() == [0, 8]
    torch.testing.assert_close(together.coefficients[1:, :4], alone.coefficients, rtol=0, atol=0)


def test_what_the_package_cannot_do_is_named():
    images, targets = some_images(2), torch.tensor([0, 1])
    run = partial(lime.explain_with_package, predict, images, segment.grid(images, size=4), n_samples=60)
    for hide in ("blur", 300, 0.5):
        with pytest.raises(ValueError, match=f"`hide` is {hide!r}; allowed with the `lime` package: None or a whole"):
            run(targets, seeds=[0, 1], hide=hide)
    with pytest.raises(ValueError, match=r"`targets` have shape \(2, 2\); allowed with the `lime` package: \(n,\)"):
        run(torch.tensor([[0, 1], [1, 2]]), seeds=[0, 1])
    with pytest.raises(ValueError, match=r"`targets` go up to 4; allowed: 0 to 3"):
        run(torch.tensor([0, 4]), seeds=[0, 1])
    with pytest.raises(ValueError, match=r"`seeds` has length 1; allowed: one for each of 2 images"):
        run(targets, seeds=[0])


def test_bad_input_is_named():
    images, targets = some_images(2), torch.tensor([0, 1])
    labels = segment.grid(images, size=4)
    with pytest.raises(ValueError, match=r"images \[1\] have only one superpixel"):
        explain(images, targets, torch.stack([labels[0], torch.zeros_like(labels[0])]))
    with pytest.raises(ValueError, match=r"`n_samples` is 11, fewer than .*\{0: 12, 1: 12\}"):
        explain(images, targets, n_samples=11)
    with pytest.raises(ValueError, match=r"`segments` of images \[0, 1\] are not numbered 0, 1, 2"):
        explain(images, targets, labels + 1)
    with pytest.raises(ValueError, match=r"`segments` of images \[0\] are not numbered"):
        explain(images, targets, torch.stack([labels[0] * 2, labels[1]]))
    with pytest.raises(ValueError, match=r"`segments` are torch.int64 \(2, 12, 15\); allowed: integers \(2, 12, 16\)"):
        explain(images, targets, labels[:, :, 1:])
    with pytest.raises(ValueError, match=r"`targets` go up to 4; allowed: 0 to 3"):
        explain(images, torch.tensor([0, 4]))
    with pytest.raises(ValueError, match=r"`targets` go down to -1"):
        explain(images, torch.tensor([0, -1]))
    with pytest.raises(ValueError, match=r"`targets` are torch.int64 \(3,\)"):
        explain(images, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"`seeds` has length 1; allowed: one for each of 2 images"):
        explain(images, targets, seeds=[1])
    with pytest.raises(ValueError, match=r"`image_ids` has length 1; allowed: one for each of 2 images"):
        explain(images, targets, image_ids=["a"])
    with pytest.raises(ValueError, match=r"`hide` is 'black'"):
        explain(images, targets, hide="black")
    with pytest.raises(ValueError, match=r"`hide` is 0.5"):
        explain(images, targets, hide=0.5)
    with pytest.raises(ValueError, match=r"`batch_size` is 0"):
        explain(images, targets, batch_size=0)
    with pytest.raises(ValueError, match=r"`n_samples` is 'few'; allowed: a number or 'auto'"):
        explain(images, targets, n_samples="few")
    with pytest.raises(ValueError, match=r"`predict` returned shape \(16,\) for 16 images"):
        explain(images, targets, model=lambda batch: predict(batch)[:, 0])
    with pytest.raises(ValueError, match=r"`designs` have shapes"):
        explain(images, targets, designs=[torch.ones(60, 12), torch.ones(60, 11)])
    with pytest.raises(ValueError, match=r"`images` are torch.float32"):
        explain(images.float(), targets, labels)


def test_bad_options_of_fit_are_named():
    design = lime_samples.perturbations(3, 20, seeded(0))
    predictions = design[:, 0].double()
    for options, message in (
        ({"distance": "l1"}, "`distance` is 'l1'"),
        ({"selection": "lasso"}, "`selection` is 'lasso'"),
        ({"kernel_width": 0}, "`kernel_width` is 0"),
        ({"alpha": -1}, "`alpha` is -1"),
        ({"n_features": 0}, "`n_features` is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            surrogate.fit(design, predictions, **options)
    with pytest.raises(ValueError, match=r"`design` has shape \(20, 3\) and `predictions` \(19, 1\)"):
        surrogate.fit(design, predictions[1:])
    with pytest.raises(ValueError, match=r"`alpha` is 0 but superpixels are linearly dependent"):
        surrogate.fit(design[:, [0, 0]], predictions, alpha=0)
    with pytest.raises(ValueError, match=r"`n_segments` is 0"):
        lime_samples.perturbations(0, 5, seeded(0))
    with pytest.raises(ValueError, match=r"`num_features` is 0"):
        lime.mask(torch.ones(1, 2), torch.zeros(1, 2, 2), num_features=0)


# the package's own signature


def defaults(function):
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


def test_defaults_are_those_of_the_package():
    from lime.lime_base import LimeBase
    from lime.lime_image import LimeImageExplainer
    from sklearn.linear_model import Ridge

    theirs = defaults(LimeImageExplainer.explain_instance)
    assert defaults(LimeBase.explain_instance_with_data)["model_regressor"] is None  # then Ridge(alpha=1)
    expected = {
        "n_samples": theirs["num_samples"],
        "batch_size": theirs["batch_size"],
        "hide": theirs["hide_color"],
        "distance": theirs["distance_metric"],
        "kernel_width": defaults(LimeImageExplainer)["kernel_width"],
        "selection": defaults(LimeImageExplainer)["feature_selection"],
        "alpha": defaults(Ridge)["alpha"],
    }
    for function in (lime.explain, lime.explain_with_package):
        assert expected.items() <= defaults(function).items()
    of_record = surrogate.Surrogate()._asdict()
    assert of_record == {key: expected.get(key) for key in of_record}
    for function in (surrogate.fit, lime.explain, lime.explain_with_package):
        assert of_record.items() <= defaults(function).items()
    assert of_record.keys() == set(defaults(surrogate.fit)) - {"design", "predictions"}


def test_the_package_is_called_with_every_option_under_a_keyword_of_its_own(monkeypatch):
    from lime import lime_image

    calls = []
    explainer, run = lime_image.LimeImageExplainer, lime_image.LimeImageExplainer.explain_instance

    def explain_instance(self, *arguments, **options):
        calls.append(inspect.signature(run).bind(self, *arguments, **options).arguments)
        return run(self, *arguments, **options)

    def build(*arguments, **options):
        calls.append(inspect.signature(explainer).bind(*arguments, **options).arguments)
        return explainer(*arguments, **options)

    monkeypatch.setattr(explainer, "explain_instance", explain_instance)
    monkeypatch.setattr(lime_image, "LimeImageExplainer", build)
    options = {"n_samples": 40, "hide": 9, "batch_size": 7, "kernel_width": 0.5, "distance": "l2", "alpha": 3.0}
    images = some_images(1)
    lime.explain_with_package(
        *(predict, images, segment.grid(images, size=4), torch.tensor([2])),
        **options | {"seeds": [2**32 + 5], "n_features": 4, "selection": "highest_weights"},
    )
    built, called = calls
    assert built == {"kernel_width": 0.5, "feature_selection": "highest_weights", "random_state": 5}
    regressor = called.pop("model_regressor")
    assert (type(regressor).__name__, regressor.alpha) == ("Ridge", 3.0)
    given = ("labels", "hide_color", "top_labels", "num_features", "num_samples", "batch_size", "distance_metric")
    assert [called[name] for name in (*given, "random_seed")] == [[2], 9, None, 4, 40, 7, "l2", 0]
    assert (
        not set(defaults(run))
        - {*given, "random_seed", "self", "image", "classifier_fn", "segmentation_fn"}
        - {"model_regressor"}
    )
