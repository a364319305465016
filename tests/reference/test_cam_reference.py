"""CAMs against `grad-cam` 1.5.7, and Ablation-CAM's tail against re-running the whole network.

Random weights with batch statistics set from random images, so that signals neither vanish nor explode. Tolerance 1e-4
of the range: both sides add up hundreds of channels in float32, in different orders (about 5e-6 on one machine).
"""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet
from unitlens.explainers import cam, tail
from unitlens.networks.layer_outputs import channel_axis

gradcam = pytest.importorskip("pytorch_grad_cam")
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402

REFERENCES = {
    "gradcam": gradcam.GradCAM,
    "hirescam": gradcam.HiResCAM,
    "gradcam++": gradcam.GradCAMPlusPlus,
    "xgradcam": gradcam.XGradCAM,
    "layercam": gradcam.LayerCAM,
    "ablationcam": gradcam.AblationCAM,
    "scorecam": gradcam.ScoreCAM,
}
# Layers whose output no in-place module changes afterwards (the reference would take the changed values) and whose
# minimum is 0 (elsewhere the reference ablates to minimum - 1e7 in place of 0).
CASES = {
    "resnet10": (lambda: ResNet(BasicBlock, [1, 1, 1, 1]), "layer3", 64),
    "squeezenet1_1": (torchvision.models.squeezenet1_1, "features.7", 64),
    "tf_mobilenetv3_small_minimal_100": (lambda: timm.create_model("tf_mobilenetv3_small_minimal_100"), "blocks.5", 64),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small batches gain nothing from threads, which stall on a machine that runs other things."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def calibrated(build, size):
    """Return a random network in evaluation mode whose batch statistics come from random images."""
    torch.manual_seed(0)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(8, 3, size, size))
    return model.eval()


@pytest.fixture(scope="module", params=CASES)
def case(request):
    build, layer, size = CASES[request.param]
    model = calibrated(build, size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        targets = model(images).argmax(1)  # a positive logit: the reference divides by it, sign included
    return model, layer, images, targets


@pytest.mark.parametrize("method", REFERENCES)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_equals_grad_cam(case, method, batch_size, monkeypatch):
    for module in (gradcam.ablation_cam, gradcam.score_cam):
        monkeypatch.setattr(module.tqdm, "tqdm", lambda steps: steps)
    model, layer, images, targets = case
    images, targets = images[:batch_size], targets[:batch_size]
    with REFERENCES[method](model=model, target_layers=[model.get_submodule(layer)]) as reference:
        expected = reference(images, [ClassifierOutputTarget(int(target)) for target in targets])
    found = cam.explain(model, layer, images, targets, method=method)
    assert found.amax() > 0.99
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=0, atol=1e-4)


TAILS = [
    (torchvision.models.resnet18, 64, ["layer1", "layer2", "layer3", "layer4"]),
    (torchvision.models.squeezenet1_1, 64, ["features.7", "features.12"]),
    (lambda: timm.create_model("tf_efficientnet_lite0"), 64, ["blocks.4", "blocks.6", "bn2", "blocks.4.1.conv_dw"]),
    (torchvision.models.densenet121, 64, ["features.denseblock3", "features.denseblock4.denselayer3"]),
    (torchvision.models.swin_t, 64, ["features.5", "features.7"]),
    (lambda: timm.create_model("vit_tiny_patch16_224", img_size=64), 64, ["blocks.9", "blocks.11.norm1"]),
]


LINEAR = ("layer4", "bn2")  # followed by pooling and one linear layer


@pytest.mark.parametrize(("build", "size", "layers"), TAILS)
def test_the_tail_equals_full_reruns(build, size, layers):
    model = calibrated(build, size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))
    for layer in layers:
        module, recorded = model.get_submodule(layer), []
        with torch.inference_mode():
            handle = module.register_forward_hook(lambda m, a, output, to=recorded: to.append(output.clone()))
            model(images)
            handle.remove()
            image = torch.tensor([1, 0, 0, 1, 1])
            ablated = recorded[0][image]
            ablated.movedim(channel_axis(ablated, *images.shape[-2:]), 1)[torch.arange(5), torch.arange(5)] = 0

            handle = module.register_forward_hook(lambda m, a, output, ablated=ablated: ablated.clone())
            expected = model(images[image])
            handle.remove()
            for build_tail in (tail._traced_tail, tail._replayed_tail):
                found = build_tail(model, layer, images)[0](ablated.clone(), image)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
        mode = "linear" if layer in LINEAR else "traced"
        assert cam.ablation_mode(model, layer, images) == mode
