"""Networks as their library builds them for the weights that it publishes: one forward pass, on random weights."""

import sys
import types

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models._api import WeightsEnum
from unitlens.networks import build
from unitlens.networks.network import load_classifier

QUICK = ("googlenet", "inception_v3", "resnet18", "mobilenet_v3_small", "squeezenet1_0")
PUBLISHED = [
    (name, weights.name)
    for name in torchvision.models.list_models(module=torchvision.models)
    for weights in torchvision.models.get_model_weights(name)
]


def published(name, weights, monkeypatch):
    """The library's own network for some of its weights, which are random here and not downloaded."""
    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(WeightsEnum, "get_state_dict", lambda *_, **__: {})
        patch.setattr(nn.Module, "load_state_dict", lambda *_, **__: None)
        return torchvision.models.get_model(name, weights=weights).eval()


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        pytest.param(
            name, weights, marks=() if name in QUICK else (pytest.mark.slow, pytest.mark.many), id=f"{name}-{weights}"
        )
        for name, weights in PUBLISHED
    ],
)
def test_every_classifier_of_torchvision_is_built_as_for_its_published_weights(name, weights, monkeypatch, tmp_path):
    reference = published(name, weights, monkeypatch)
    torch.save(reference.state_dict(), tmp_path / "weights.bin")
    ours = load_classifier(f"torchvision:{name}", tmp_path / "weights.bin", classes=1000)
    (tmp_path / "weights.bin").unlink()
    side = torchvision.models.get_model_weights(name)[weights].transforms().crop_size[0]
    side = side if name.startswith(("vit", "maxvit")) else min(side, 96)
    images = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = reference(images)
        torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_other_networks_than_classifiers_are_refused():
    with pytest.raises(
        ValueError, match=r"^torchvision has no classifier 'lraspp_mobilenet_v3_large'; nearest: mobilenet"
    ):
        build.build("torchvision:lraspp_mobilenet_v3_large")


@pytest.mark.parametrize(
    "download",
    [
        lambda: torch.hub.load_state_dict_from_url("http://127.0.0.1:9/no-such-weights.pth", "/nonexistent"),
        lambda: torchvision.models.resnet18(weights="DEFAULT"),
        lambda: __import__("timm").create_model("resnet10t", pretrained=True),
    ],
)
def test_a_builder_that_downloads_is_refused(download, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    module = types.ModuleType("downloading")
    module.network = download
    monkeypatch.setitem(sys.modules, "downloading", module)
    with pytest.raises(ValueError, match=r"^`architecture`: downloading:network tries to download something; build"):
        build.build("downloading:network")
