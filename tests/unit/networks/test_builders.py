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


VISION = {"encoder.pos_embedding": torch.zeros(1, 50, 8), "conv_proj.weight": torch.zeros(8, 3, 6, 4)}


@pytest.mark.parametrize(
    ("architecture", "state", "options"),
    [
        ("torchvision:googlenet", {"aux1.fc1.weight": torch.zeros(1)}, {"aux_logits": True}),
        ("torchvision:inception_v3", {"AuxLogits.fc.weight": torch.zeros(1)}, {"aux_logits": True}),
        ("torchvision:googlenet", {"fc.weight": torch.zeros(1)}, {"aux_logits": False}),
        ("torchvision:vit_b_16", VISION, {"image_size": 28}),  # 7 x 7 patches of 4 pixels, and a class token
        ("torchvision:vit_b_16", VISION | {"encoder.pos_embedding": torch.zeros(50, 8)}, {}),
        ("torchvision:vit_b_16", VISION | {"conv_proj.weight": torch.zeros(8, 3, 4)}, {}),
        ("torchvision:vit_b_16", {"conv_proj.weight": torch.zeros(8, 3, 4, 4)}, {}),
        ("timm:vit_b_16", VISION, {}),
        ("timm:googlenet", {"aux1.fc1.weight": torch.zeros(1)}, {}),
        ("torchvision:resnet18", {"aux1.fc1.weight": torch.zeros(1)}, {}),
    ],
)
def test_a_checkpoint_tells_how_its_network_was_built(architecture, state, options):
    assert build.options_of(architecture, state) == options


def test_googlenet_and_inception_see_what_their_published_weights_saw():
    for name in ("googlenet", "inception_v3"):
        assert build.build(f"torchvision:{name}", classes=2, aux_logits=False).transform_input is True
