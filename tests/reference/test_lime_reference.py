from functools import partial

import numpy as np
import pytest
import torch
from lime.lime_base import LimeBase
from lime.lime_image import LimeImageExplainer
from skimage import data, segmentation, transform
from sklearn.metrics import pairwise_distances
from unitlens.explainers import lime, lime_samples, segment, surrogate

# Relative to the largest coefficient: both sides solve the same normal equations in float64.
TOLERANCE = 1e-9


def reference_kernel(distance, width):
    return np.sqrt(np.exp(-(distance**2) / width**2))


def neighborhood(seed, n_samples=400, n_segments=37, n_targets=3):
    """Return a design, and predictions that depend on it non-linearly."""
    generator = torch.Generator().manual_seed(seed)
    design = lime_samples.perturbations(n_segments, n_samples, generator)
    pull = torch.randn(n_segments, n_targets, generator=generator, dtype=torch.float64)
    return design, (design.double() @ pull * 0.7).softmax(1)


def reference_fit(design, predictions, target, *, distance, kernel_width, n_features, selection):
    z = design.double().numpy()
    distances = pairwise_distances(z, z[:1], metric=distance).ravel()
    base = LimeBase(partial(reference_kernel, width=kernel_width), random_state=0)
    intercept, features, score, local = base.explain_instance_with_data(
        z, predictions.numpy(), distances, target, n_features, feature_selection=selection
    )
    coefficients = np.zeros(z.shape[1])
    for feature, weight in features:
        coefficients[feature] = weight
    return coefficients, intercept, score, local[0]


@pytest.mark.parametrize(("distance", "kernel_width"), [("cosine", 0.25), ("cosine", 0.6), ("l2", 4.0)])
@pytest.mark.parametrize(
    ("selection", "n_features"),
    [
        ("none", 100000),
        ("auto", 100000),
        ("auto", 10),
        ("auto", 6),
        ("auto", 2),
        ("highest_weights", 1),
        ("highest_weights", 20),
        ("forward_selection", 1),
        ("forward_selection", 9),
    ],
)
def test_fit_equals_lime(distance, kernel_width, selection, n_features):
    design, predictions = neighborhood(seed=n_features % 7)
    options = {"distance": distance, "kernel_width": kernel_width, "n_features": n_features, "selection": selection}
    own = surrogate.fit(design, predictions, **options)
    for target in range(predictions.shape[1]):
        coefficients, intercept, score, local = reference_fit(design, predictions, target, **options)
        scale = np.abs(coefficients).max()
        np.testing.assert_allclose(own.coefficients[target], coefficients, rtol=0, atol=TOLERANCE * scale)
        assert own.intercept[target].item() == pytest.approx(intercept, rel=TOLERANCE)
        assert (own.intercept[target] + own.coefficients[target].sum()).item() == pytest.approx(local, rel=TOLERANCE)
        assert own.r2[target].item() == pytest.approx(score, rel=TOLERANCE)


@pytest.mark.parametrize(("n_samples", "n_segments"), [(30, 60), (100, 2), (61, 60)])
@pytest.mark.parametrize("selection", ["none", "highest_weights", "forward_selection"])
def test_fit_equals_lime_for_few_samples_and_few_superpixels(n_samples, n_segments, selection):
    design, predictions = neighborhood(3, n_samples, n_segments)
    options = {"distance": "cosine", "kernel_width": 0.25, "n_features": 8, "selection": selection}
    own = surrogate.fit(design, predictions, **options)
    for target in range(predictions.shape[1]):
        coefficients, intercept, score, _ = reference_fit(design, predictions, target, **options)
        np.testing.assert_allclose(
            own.coefficients[target], coefficients, rtol=0, atol=TOLERANCE * np.abs(coefficients).max()
        )
        assert own.intercept[target].item() == pytest.approx(intercept, rel=TOLERANCE)
        assert own.r2[target].item() == pytest.approx(score, rel=TOLERANCE)


def source_image(size=120):
    return transform.resize(data.chelsea()[:300, 50:350], (size, size), preserve_range=True).astype(np.uint8)


def predict(batch):
    """Softmax of a small random convolution, one image at a time: the same bits in any batch."""
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(6, 3, 9, 9, generator=generator, dtype=torch.float64) / 100
    head = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    pixels = torch.as_tensor(batch).permute(0, 3, 1, 2).double() - 120
    features = [torch.nn.functional.conv2d(own[None], weights, stride=4).relu().mean((2, 3)) for own in pixels]
    return (torch.cat(features) @ head.T).softmax(1)


def slic_from_one(image):
    """Return labels as LIME wants them; its own SLIC starts at 1, so that its last superpixel is never hidden."""
    return segmentation.slic(image, n_segments=20, start_label=1) - 1


@pytest.mark.parametrize("hide", [None, 0, 200])
@pytest.mark.parametrize("n_features", [100000, 8, 5])
@pytest.mark.parametrize("cut", ["quickshift", "slic"])
def test_explanation_of_a_source_image_equals_lime_image_explainer(hide, n_features, cut):
    image, n_samples, seed = source_image(), 150, 17
    if cut == "quickshift":
        labels = segment.quickshift(image[None])
        segment_image = partial(segmentation.quickshift, kernel_size=4, max_dist=200, ratio=0.2)
    else:
        labels = segment.slic(image[None], n_segments=20)
        segment_image = slic_from_one
    theirs = LimeImageExplainer(random_state=seed).explain_instance(
        image,
        lambda batch: predict(batch).numpy(),
        hide_color=hide,
        top_labels=3,
        num_features=n_features,
        num_samples=n_samples,
        segmentation_fn=segment_image,
        random_seed=0,  # None would draw from the random state first and shift the design
    )
    n_segments = int(labels.max()) + 1
    design = np.random.RandomState(seed).randint(0, 2, n_samples * n_segments).reshape(n_samples, n_segments)
    design[0] = 1

    targets = torch.tensor([theirs.top_labels])
    ours = lime.explain(
        predict,
        image[None],
        labels,
        targets,
        n_samples=n_samples,
        hide=hide,
        n_features=n_features,
        seeds=[0],
        designs=[torch.as_tensor(design)],
    )
    np.testing.assert_array_equal(labels[0], theirs.segments)
    for i, target in enumerate(theirs.top_labels):
        expected = np.zeros(n_segments)
        for feature, weight in theirs.local_exp[target]:
            expected[feature] = weight
        np.testing.assert_allclose(ours.coefficients[0, i], expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
        assert ours.intercept[0, i].item() == pytest.approx(theirs.intercept[target], rel=TOLERANCE)
        saliency = np.maximum(expected, 0)[theirs.segments]
        np.testing.assert_allclose(ours.saliency[0, i], saliency, rtol=0, atol=1e-6 * saliency.max())
        _, mask = theirs.get_image_and_mask(target)
        np.testing.assert_array_equal(lime.mask(ours.coefficients, labels)[0, i], mask.astype(bool))
    # The reference keeps the score of the label that it explains last: the most probable one.
    assert ours.r2[0, 0].item() == pytest.approx(theirs.score, rel=TOLERANCE)
