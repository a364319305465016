"""What networks return, read as scores and probabilities: every form against what the network's author computes."""

import copy
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from unitlens.explainers import cam, run
from unitlens.explainers.items import image_seed
from unitlens.measures import faithfulness, lime_sweep, perturbation
from unitlens.networks import heads
from unitlens.networks.describe import describe
from unitlens.networks.network import normalizer, predictor

CLASSES = 3
OBJECTIVE = {"objective": "insertion", "explainer": "gradcam-conv", "area": 0.2, "steps": 5, "baseline": "blur"}
SETTINGS = {"default": {"n_samples": 40, "superpixels": {"method": "grid", "size": 8}}, "grid": {"alpha": [0.5, 2.0]}}


class Body(nn.Module):
    """Convolutions and a linear layer; `ending` turns its numbers (n, outputs) into what is returned."""

    def __init__(self, ending=lambda logits: logits, outputs=CLASSES):
        super().__init__()
        self.conv, self.fc, self.ending = nn.Conv2d(3, 8, 5, 2), nn.Linear(8, outputs), ending

    def logits(self, x):
        return 4 * self.fc(self.conv(x).relu().mean((2, 3)))

    def forward(self, x):
        return self.ending(self.logits(x))


class Output(NamedTuple):
    features: torch.Tensor
    scores: torch.Tensor


def body(ending=lambda logits: logits, outputs=CLASSES):
    torch.manual_seed(1)
    return Body(ending, outputs).eval().requires_grad_(False)


def with_head(model, kind="softmax", output=None, classes=CLASSES):
    model = copy.deepcopy(model)
    heads.attach(model, kind=kind, output=output, classes=classes)
    return model


def pixels(n=4, side=24):
    return torch.randint(0, 256, (n, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


NORMALIZE = normalizer([0.5] * 3, [0.25] * 3, device="cpu")

RETURNS = {  # what a network returns; what the key `output` says
    "a tensor": (lambda logits: logits, None),
    "maps of one pixel": (lambda logits: logits[..., None, None], None),
    "a dictionary with logits": (lambda logits: {"loss": None, "logits": logits, "probs": logits.softmax(1)}, None),
    "a dictionary of one fitting tensor": (
        lambda logits: {"features": logits.new_zeros(len(logits), 8), "y": logits},
        None,
    ),
    "a dictionary by key": (lambda logits: {"a": -logits, "b": logits}, "b"),
    "a tuple": (lambda logits: (logits, logits.new_zeros(len(logits), 8)), None),
    "a tuple by index": (lambda logits: (-logits, logits), 1),
    "a list of one": (lambda logits: [logits], None),
    "a named tuple": (lambda logits: Output(logits.new_zeros(1), logits), None),
    "a named tuple by attribute": (lambda logits: Output(-logits, logits), "scores"),
    "a nest": (lambda logits: ({"head": {"out": logits}}, -logits), "0.head.out"),
}


@pytest.mark.parametrize("form", RETURNS)
def test_any_output_gives_the_scores(form):
    ending, output = RETURNS[form]
    model, images = with_head(body(ending), output=output), NORMALIZE(pixels())
    expected = body().logits(images)
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    torch.testing.assert_close(predictor(model, NORMALIZE)(pixels()), expected.softmax(1), rtol=0, atol=0)
    targets = torch.tensor([0, 1, 2, 0])
    for method in ("gradcam", "ablationcam", "scorecam"):
        maps = cam.explain(model, "conv", images, targets, method=method)
        torch.testing.assert_close(maps, cam.explain(body(), "conv", images, targets, method=method))
    facts = describe(model, ["conv"], crop=24, classes=list("abc"), name="net")
    assert facts["output"]["head"] == "softmax"


@pytest.mark.parametrize(
    ("ending", "output", "message"),
    [
        (
            lambda x: {"a": x, "b": -x},
            None,
            r"a dict with 2 outputs of 3 numbers an image; .* `output`; it returns a: \(3, 3\), b:",
        ),
        (lambda x: (x[:, :2], None), None, r"a tuple with 0 outputs of 3 .*; it returns 0: \(3, 2\), 1: NoneType"),
        (lambda x: {"a": x}, "c", r"`output` is 'c', which the network does not return; it returns a: \(3, 3\)"),
        (lambda x: x, 0, r"`output` is '0', .* one tensor of shape \(3, 3\): leave `output` out"),
        (lambda x: x[..., None, None].expand(-1, -1, 5, 5), None, r"returns \(3, 3, 5, 5\) for 3 images; a classifier"),
        (lambda x: x[:1], None, r"returns \(1, 3\) for 3 images"),
        (lambda x: x.mean(), None, r"returns \(\) for 3 images"),
    ],
)
def test_what_cannot_be_read_says_what_there_is(ending, output, message):
    with pytest.raises(ValueError, match=f"^net: .*{message}"):
        describe(with_head(body(ending), output=output), ["conv"], crop=24, classes=list("abc"), name="net")


@pytest.mark.parametrize(
    ("ending", "outputs", "kind", "classes", "message"),
    [
        (lambda x: x.softmax(1), 3, "softmax", 3, "already returns probabilities .*: set `head: probabilities`"),
        (nn.Softmax(1), 3, "softmax", 3, "already returns probabilities"),
        (lambda x: {"p": x.softmax(1)}, 3, "sigmoid", 3, "already returns probabilities"),
        (
            lambda x: torch.stack([*x.exp().T]).T / x.exp().sum(1, keepdim=True),
            3,
            "softmax",
            3,
            "sum to 1 on every image",
        ),
        (lambda x: x.sigmoid(), 3, "sigmoid", 3, "come out of a sigmoid"),
        (lambda x: x.sigmoid(), 3, "softmax", 3, "come out of a sigmoid"),
        (lambda x: x.sigmoid().squeeze(1), 1, "binary", 2, "come out of a sigmoid"),
        (lambda x: x.log_softmax(1), 3, "sigmoid", 3, "ends in a log-softmax, .*: set `head: softmax`"),
        (
            lambda x: x,
            3,
            "probabilities",
            3,
            "`head: probabilities`, but the network returns .* to .*; these are logits",
        ),
        (lambda x: x, 1, "softmax", 1, "one number an image, of which a softmax is always 1: set `head: binary`"),
        (lambda x: x[:, 0], 1, "softmax", 2, "one number an image, .*: set `head: binary`"),
        (lambda x: x, 3, "binary", 2, "`head: binary` reads one logit an image, but the network returns 3"),
    ],
)
def test_a_head_that_does_not_fit_is_refused_and_the_right_one_named(ending, outputs, kind, classes, message):
    model = with_head(body(ending, outputs), kind, classes=classes)
    with pytest.raises(ValueError, match=f"^net:? .*{message}"):
        describe(model, ["conv"], crop=24, classes=["a"] * classes, name="net")


@pytest.mark.parametrize(
    ("ending", "kind", "expected"),
    [
        (lambda x: x, "sigmoid", lambda x: x.sigmoid()),
        (lambda x: x.softmax(1), "probabilities", lambda x: x.softmax(1)),
        (lambda x: x.sigmoid(), "probabilities", lambda x: x.sigmoid()),
        (lambda x: x.log_softmax(1), "softmax", lambda x: x.softmax(1)),
    ],
)
def test_probabilities_are_those_of_the_network(ending, kind, expected):
    model = with_head(body(ending), kind)
    describe(model, ["conv"], crop=24, classes=list("abc"), name="net")
    found = predictor(model, NORMALIZE)(pixels())
    torch.testing.assert_close(found, expected(body().logits(NORMALIZE(pixels()))), rtol=0, atol=1e-6)


# ---- one logit z is the two logits 0 and z


def one_and_two(ending=lambda z: z):
    """A network of one logit, and the same one that returns the two logits 0 and z."""
    one = with_head(body(ending, 1), "binary", classes=2)
    two = body(lambda z: torch.cat([torch.zeros_like(z), z], dim=1), 1)
    return one, with_head(two, classes=2)


@pytest.mark.parametrize("ending", [lambda z: z, lambda z: z[:, 0], lambda z: {"logits": z}])
@pytest.mark.parametrize("target", [0, 1, "predicted"])
def test_one_logit_equals_two_logits_in_every_map_coefficient_and_curve(ending, target):
    images, found = pixels(), []
    ids = [str(number) for number in range(len(images))]
    for model in one_and_two(ending):
        predict = predictor(model, NORMALIZE)
        given = {"images": images.numpy(), "image_id": ids, "source_image": ids, "label": [0, 1, 0, 1]}
        options = {"target": target, "batch_size": 3}
        results = {}
        for method in cam.METHODS:
            explainer = run.cam_explainer(model, "conv", NORMALIZE, method=method, batch_size=3)
            results[method], _ = run.explain_images(given, explainer, predict, **options)
        superpixels = {"method": "grid", "size": 8}
        lime = run.lime_explainer(
            predict, seed=1, batch_size=5, n_samples=60, superpixels=superpixels, hide="mean", num_features=3
        )
        results["lime"], _ = run.explain_images(given, lime, predict, **options)
        targets = torch.as_tensor(results["lime"]["target"])
        maps = {name: torch.as_tensor(arrays["saliency"]) for name, arrays in results.items()}
        plan = perturbation.Plan(5, ["blur"], [20, 50])
        curves = faithfulness.curves(
            predict, images, maps, targets, plan=plan, seeds=[image_seed(0, name) for name in ids]
        )
        score = lime_sweep.make_score(
            predict, images, targets, ids, reference=maps["gradcam"], seed=0, batch_size=5, **OBJECTIVE
        )
        settings = lime_sweep.all_settings(**SETTINGS)
        tuned, _ = lime_sweep.sweep(predict, images, targets, ids, settings, score, seed=0, batch_size=5)
        found.append((results, curves, tuned))
    (ours, our_curves, our_tuning), (theirs, their_curves, their_tuning) = found
    for name in ours:
        for key, value in ours[name].items():
            if getattr(value, "dtype", None) not in (None, np.dtype(object)):
                torch.testing.assert_close(
                    torch.as_tensor(value), torch.as_tensor(theirs[name][key]), rtol=0, atol=1e-5, equal_nan=True
                )
    for key, curve in our_curves.items():
        torch.testing.assert_close(curve, their_curves[key], rtol=0, atol=1e-5)
    assert pd.DataFrame(our_tuning).equals(pd.DataFrame(their_tuning))
    z = body(outputs=1).logits(NORMALIZE(images))[:, 0]
    torch.testing.assert_close(predictor(one_and_two()[0], NORMALIZE)(images)[:, 1], z.sigmoid(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("value", "allowed"), [(-0.009, True), (-0.011, False), (1.009, True), (1.011, False)])
def test_a_probability_may_leave_its_range_by_what_rounding_takes(value, allowed):
    model, values = nn.Identity(), torch.tensor([[0.5, value]])
    heads.attach(model, kind="probabilities", classes=2)
    if allowed:
        assert model(values).equal(values)
    else:
        with pytest.raises(ValueError, match=f"returns .*{value}.*; these are logits"):
            model(values)


def test_maps_of_one_pixel_are_scores_and_larger_ones_are_refused():
    model = nn.Identity()
    heads.attach(model, kind="softmax", classes=3)
    scores = torch.arange(6.0).reshape(2, 3)
    assert model(scores[:, :, None, None]).equal(scores)
    for shape in ((2, 3, 2, 1), (2, 3, 1, 2)):
        with pytest.raises(ValueError, match="returns"):
            model(torch.zeros(shape))


def test_one_probability_is_that_of_the_second_of_two_classes():
    model = with_head(body(lambda z: z.sigmoid()[:, 0], 1), "probabilities", classes=2)
    facts = describe(model, ["conv"], crop=24, classes=["no", "yes"], name="net")
    assert facts["output"] == {"returns": "Tensor", "read": "the tensor itself", "shape": [], "head": "probabilities"}
    p = body(outputs=1).logits(NORMALIZE(pixels()))[:, 0].sigmoid()
    torch.testing.assert_close(predictor(model, NORMALIZE)(pixels()), torch.stack([1 - p, p], dim=1), rtol=0, atol=1e-6)
