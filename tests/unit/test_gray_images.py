"""A network of one channel, and one whose images are not square, give what their twins of three channels give."""

import numpy as np
import pytest
import torch
import toy
from torch import nn
from unitlens.explainers import run
from unitlens.measures import faithfulness
from unitlens.networks.network import normalizer, predictor

SIZE = (24, 40)
GRAY = ([0.4], [0.2])


@pytest.fixture
def twins():
    """A network of one channel, and one of three that sees the same where all three are equal."""
    torch.manual_seed(0)
    gray = toy.network()
    gray.conv1 = nn.Conv2d(1, 6, 3, stride=2, padding=1)
    gray.head.weight.data *= 20
    color = toy.network()
    color.load_state_dict(gray.state_dict() | {"conv1.weight": gray.conv1.weight.repeat(1, 3, 1, 1) / 3})
    nets = [(gray, normalizer(*GRAY, device="cpu")), (color, normalizer(*(3 * each for each in GRAY), device="cpu"))]
    return [(model.eval().requires_grad_(False), normalize) for model, normalize in nets]


@pytest.fixture
def images():
    """Three gray images: noise in which a rectangle stands."""
    pixels = np.random.default_rng(0).integers(0, 120, (3, *SIZE, 1), dtype=np.uint8)
    pixels[:, 6:18, 10:30] += 120
    facts = {"image_id": np.array(["a", "b", "c"], object), "source_image": np.array(["a", "b", "c"], object)}
    return {"images": pixels.repeat(3, 3), "label": np.array([0, 1, -1]), **facts}


def test_the_normalizer_takes_one_channel(images):
    one = normalizer(*GRAY, device="cpu")(images["images"])
    assert one.shape == (3, 1, *SIZE)
    np.testing.assert_allclose(one[:, 0], (images["images"][..., 0] / 255 - 0.4) / 0.2, atol=1e-5)
    assert normalizer(*GRAY, device="cpu")(images["images"][:0]).shape == (0, 1, *SIZE)


def explained(twin, images, make):
    model, normalize = twin
    predict = predictor(model, normalize)
    return run.explain_images(images, make(model, normalize, predict), predict, target="predicted", batch_size=2)[0]


@pytest.mark.parametrize(
    "method", ["gradcam", "hirescam", "gradcam++", "xgradcam", "layercam", "ablationcam", "scorecam"]
)
def test_class_activation_maps(twins, images, method):
    def make(model, normalize, predict):
        return run.cam_explainer(model, "relu2", normalize, method=method, batch_size=4)

    one, three = (explained(twin, images, make) for twin in twins)
    assert one["saliency"].shape == (3, *SIZE) and one["saliency"].max() == pytest.approx(1)
    np.testing.assert_allclose(one["saliency"], three["saliency"], atol=1e-4)
    np.testing.assert_allclose(one["predicted_probability"], three["predicted_probability"], atol=1e-5)


@pytest.mark.parametrize("engine", ["unitlens", "lime"])
@pytest.mark.parametrize(
    "superpixels",
    [
        {"method": "quickshift", "max_dist": 6, "kernel_size": 2},
        {"method": "slic", "n_segments": 12, "compactness": 50},
        {"method": "felzenszwalb", "scale": 100, "min_size": 30},
        {"method": "grid", "size": 9},
    ],
    ids=lambda options: options["method"],
)
def test_lime(twins, images, superpixels, engine):
    options = {"n_samples": 400, "superpixels": superpixels, "hide": "mean", "num_features": 3, "engine": engine}

    def make(model, normalize, predict):
        return run.lime_explainer(predict, seed=1, batch_size=50, **options)

    one, three = (explained(twin, images, make) for twin in twins)
    assert one["warning"].tolist() == [""] * 3 and one["segments"].shape == (3, *SIZE)
    np.testing.assert_array_equal(one["segments"], three["segments"])
    np.testing.assert_allclose(one["coefficients"], three["coefficients"], atol=1e-4)


def test_faithfulness(twins, images):
    pixels, targets = torch.as_tensor(images["images"]), torch.tensor([0, 1, 2])
    saliency = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(2))
    for measure in (faithfulness.deletion, faithfulness.insertion):
        for baseline in ("blur", "mean"):
            one, three = (
                measure(predictor(*twin), pixels, saliency, targets, steps=5, baseline=baseline)[0] for twin in twins
            )
            np.testing.assert_allclose(one, three, atol=1e-5)
    curves = [
        faithfulness.road(predictor(*twin), pixels, saliency, targets, percentiles=[50], order="morf") for twin in twins
    ]
    assert all(np.isfinite(np.asarray(each[0])).all() for each in curves)
