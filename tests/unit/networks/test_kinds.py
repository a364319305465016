"""Networks of every kind: each gives what its author's code gives, or says in one line why not.

What a network's author computes is written by hand, in `kinds`, without the library.
"""

import kinds
import numpy as np
import pytest
import torch
from unitlens.explainers import cam, lime, segment
from unitlens.networks import heads
from unitlens.networks.describe import describe, pooling_of
from unitlens.networks.hooks import run_to
from unitlens.networks.layer_outputs import pool
from unitlens.networks.network import load_configured, normalizer, predictor


def load(name, folder, **settings):
    kinds.save(name, folder / "weights.bin")
    (folder / "two.txt").write_text("no\nyes\n")
    given = kinds.settings_of(name) | settings
    given["classes"] = str(folder / "two.txt") if given["classes"] == kinds.TWO else given["classes"]
    return given | {"layout": "named"}, folder / "weights.bin"


@pytest.mark.parametrize("name", kinds.KINDS)
def test_every_kind_gives_what_its_author_computes(name, tmp_path):
    settings, weights = load(name, tmp_path)
    prepared, (layer,) = settings["preprocessing"], settings["layers"]
    model = load_configured(settings, weights)
    crop, channels = prepared["crop"], len(prepared["mean"])
    height, width = (crop, crop) if isinstance(crop, int) else crop
    names = list(range(model.unitlens_head.classes))
    pooling = settings.get("pooling", "auto")
    facts = describe(model, [layer], crop=crop, classes=names, name=name, channels=channels, pooling=pooling)
    layout = torch.channels_last if facts["channels_last"] else torch.contiguous_format
    normalize = normalizer(prepared["mean"], prepared["std"], device="cpu", layout=layout)
    pixels = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    pixels = pixels[..., :1].repeat(3, axis=3) if channels == 1 else pixels
    expected = kinds.expected(name, pixels)

    predict = predictor(model, normalize)
    probabilities = predict(torch.as_tensor(pixels))
    np.testing.assert_allclose(probabilities, expected["probabilities"], rtol=0, atol=1e-5)
    targets = probabilities.argmax(1)
    assert targets.tolist() == expected["targets"].tolist()
    maps = cam.explain(model, layer, normalize(pixels), targets, method="gradcam")
    np.testing.assert_allclose(maps, expected["saliency"], rtol=0, atol=1e-3)
    with torch.inference_mode():
        output = run_to(model, layer, normalize(pixels))
        pooled = pool(output, pooling_of(facts, layer, "avg"), images=pixels.shape[:3])
    np.testing.assert_allclose(pooled, expected["activations"], rtol=1e-4, atol=1e-5)
    found = lime.explain(
        predict,
        torch.as_tensor(pixels),
        segment.grid(torch.as_tensor(pixels), size=8),
        targets,
        n_samples=30,
        seeds=range(4),
    )
    assert found.saliency.isfinite().all()


@pytest.mark.parametrize(
    ("name", "settings", "message"), kinds.REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_cannot_be_explained_is_refused_in_one_line(name, settings, message):
    torch.manual_seed(0)
    model = getattr(kinds, name)().eval().requires_grad_(False).float()
    given = {"layer": "conv2", "head": "softmax", "classes": kinds.CLASSES} | settings
    heads.attach(model, kind=given["head"], classes=given["classes"])
    with pytest.raises(ValueError, match=message) as told:
        describe(model, [given["layer"]], crop=32, classes=range(given["classes"]), name="net")
    assert str(told.value).startswith("net") and "\n" not in str(told.value)


def test_a_hundred_thousand_classes_are_a_matter_of_size_alone():
    torch.manual_seed(0)
    model = kinds.many_classes().eval().requires_grad_(False)
    heads.attach(model, classes=100_000)
    facts = describe(model, ["conv2"], crop=32, classes=range(100_000), name="net")
    assert facts["classes"] == 100_000
    images = torch.randn(2, 3, 32, 32)
    targets = model(images).argmax(1)
    assert cam.explain(model, "conv2", images, targets, method="gradcam").isfinite().all()
