"""CAMs on networks whose maps can be computed by hand, and what every method promises on any network."""

import copy
import logging
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock
from unitlens.explainers import cam, tail
from unitlens.networks import layer_outputs

RESNET_LAYERS = ["layer1", "layer2", "layer3", "layer4", "layer4.conv2", "layer4.downsample"]


def hand_model(*, scale=1.0, bias=0.0):
    """Two channels (x, 2x) -> 1 x 1 maps kept -> a linear head on the 2 x 2 positions of both."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
        head = torch.tensor([[1.0, 1.0, 0.0, 2.0, -1.0, 0.0, 0.0, 1.0], [0.0] * 8])
        model[2].weight.copy_(scale * head)
        model[2].bias.fill_(bias)
    return model


HAND_IMAGE = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
FIRST, SECOND = HAND_IMAGE[0, 0], 2 * HAND_IMAGE[0, 0]  # the two channels of the layer
GRADIENTS = torch.tensor([[[1.0, 1.0], [0.0, 2.0]], [[-1.0, 0.0], [0.0, 1.0]]])
# Grad-CAM++: alpha g^2 / (2 g^2 + sumA g^3), sums 10 and 20: channel 1: g=1: 1/12, twice; g=2: 4/88, times 2
PLUS_PLUS = (2 / 12 + 2 * 4 / 88, 1 / 22)
HAND_MAPS = {
    "gradcam": 1.0 * FIRST + 0.0 * SECOND,
    "hirescam": torch.tensor([[1.0 - 2, 2], [0, 8 + 8]]).relu(),
    "gradcam++": PLUS_PLUS[0] * FIRST + PLUS_PLUS[1] * SECOND,
    "xgradcam": (1 + 2 + 8) / 10 * FIRST + (-2 + 8) / 20 * SECOND,
    "layercam": torch.tensor([[1.0, 2], [0, 8 + 8]]),
    "ablationcam": (1 + 2 + 8) * FIRST + (-2 + 8) * SECOND,  # Y = 17, without channel 1: 6, without channel 2: 11
}


@pytest.mark.parametrize("method", HAND_MAPS)
def test_hand_computed_map(method):
    found = cam.raw_maps(hand_model(), "0", HAND_IMAGE, torch.tensor([0]), method=method)
    torch.testing.assert_close(found[0], HAND_MAPS[method], rtol=1e-5, atol=1e-5)


def test_xgradcam_divides_by_the_sum_and_a_little_more():
    # Activations 1 and -1 sum to 0, so the weight (1 - 0) / 1e-7 has the sign of what is added.
    found = cam._xgradcam(torch.tensor([[[[1.0, -1.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))
    torch.testing.assert_close(found, torch.tensor([[[1e7, -1e7]]]))


def test_no_image_has_no_way_to_be_ablated():
    assert cam.ablation_mode(hand_model(), "0", HAND_IMAGE[:0]) == ""


def test_rows_of_a_batch_are_picked_and_what_is_no_batch_stays():
    batch, scale, other = torch.arange(6.0).view(3, 2), torch.tensor(2.0), torch.arange(4.0)
    picked = tail._rows({"batch": batch, "rest": (scale, other)}, torch.tensor([2, 0]), 3)
    assert picked["batch"].tolist() == [[4, 5], [0, 1]] and picked["rest"] == (scale, other)


def test_hand_computed_score_cam():
    # Both channels scale to the same mask (0, 1/3, 2/3, 1), so both weights are 1/2.
    found = cam.raw_maps(hand_model(), "0", HAND_IMAGE, torch.tensor([0]), method="scorecam")
    torch.testing.assert_close(found[0], (FIRST + SECOND) / 2)

    # One channel is constant: its mask, and with it the image, is 0, and so is its logit.
    # The other one sees x * mask = (0, 2/3, 2, 4) with logit 0 + 2/3 + 0 + 2 * 4.
    model = hand_model()
    with torch.no_grad():
        model[0].weight[1] = 0
    found = cam.raw_maps(model, "0", HAND_IMAGE, torch.tensor([0]), method="scorecam")
    weight = torch.tensor([2 / 3 + 8, 0.0]).softmax(0)[0]
    torch.testing.assert_close(found[0], weight * FIRST)


def test_ablation_does_not_turn_over_where_the_logit_is_negative_or_zero():
    for bias in (-100.0, -17.0):
        found = cam.raw_maps(hand_model(bias=bias), "0", HAND_IMAGE, torch.tensor([0]), method="ablationcam")
        torch.testing.assert_close(found[0], HAND_MAPS["ablationcam"], rtol=1e-4, atol=1e-4)


def test_explain_scales_twice():
    maps = torch.tensor([[[1.0, 3.0], [3.0, 5.0]], [[2.0, 2.0], [2.0, 2.0]]])
    scaled = cam.rescale(maps, (1, 2))  # the mean over the rows of (0, .5, .5, 1) is (.25, .75)
    torch.testing.assert_close(scaled, torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]]]))


def test_captum_golden():
    class OneConvolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.relu1 = nn.Conv2d(1, 2, 3), nn.ReLU()
            self.fc1, self.relu2 = nn.Linear(8, 4), nn.ReLU()
            with torch.no_grad():
                self.conv1.weight.fill_(1)
                self.conv1.bias.copy_(torch.tensor([-50.0, -75.0]))
                self.fc1.weight.copy_(torch.tensor([1.0] * 5 + [-1.0] * 3).expand(4, 8))
                self.fc1.bias.fill_(0)

        def forward(self, x):
            return self.relu2(self.fc1(self.relu1(self.conv1(x)).view(-1, 8)))

    image = torch.arange(16.0).view(1, 1, 4, 4)
    golden = {"conv1": [[11.25, 13.5], [20.25, 22.5]], "relu1": [[0.0, 4.0], [28.0, 32.5]]}
    for in_place in (False, True):
        model = OneConvolution()
        model.relu1.inplace = in_place
        for layer, expected in golden.items():
            found = cam.raw_maps(model, layer, image, torch.tensor([0]), method="gradcam")
            torch.testing.assert_close(found, torch.tensor([expected]))


def test_identities_of_a_pooled_linear_head():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    )
    images, targets = torch.randn(3, 3, 21, 21), torch.tensor([0, 4, 2])
    activations = model[:2](images)  # (3, 16, 10, 10)
    weights = model[4].weight[targets]  # (3, 16)
    expected = torch.einsum("nc,nchw->nhw", weights, activations).relu() / 100
    for method in ("gradcam", "hirescam", "xgradcam"):
        torch.testing.assert_close(cam.raw_maps(model, "1", images, targets, method=method), expected)
    closed_form = torch.einsum("nc,nchw->nhw", weights * activations.mean((2, 3)), activations).relu()
    found = cam.raw_maps(model, "1", images, targets, method="ablationcam")
    torch.testing.assert_close(found, closed_form, rtol=1e-4, atol=1e-5)


class ResNet(nn.Module):
    """Four residual blocks of torchvision, narrow."""

    def __init__(self):
        super().__init__()
        widths = [8, 8, 16, 16, 24]
        self.conv1 = nn.Conv2d(3, widths[0], 3, 2)
        for index, (width, wider) in enumerate(pairwise(widths), start=1):
            shortcut = None if width == wider else nn.Conv2d(width, wider, 1, 2)
            stride = 1 if width == wider else 2
            self.add_module(f"layer{index}", BasicBlock(width, wider, stride, shortcut))
        self.fc = nn.Linear(widths[-1], 7)

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        return self.fc(x.mean((2, 3)))


@pytest.fixture(scope="module")
def small():
    """Return a residual network with realistic statistics, five images, and targets."""
    torch.manual_seed(0)
    model, images = ResNet(), torch.randn(5, 3, 33, 33)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.randn(16, 3, 33, 33))
    return model.eval(), images, torch.tensor([3, 0, 6, 6, 1])


@pytest.mark.parametrize("method", cam.METHODS)
def test_maps_do_not_depend_on_chunk_batch_or_order(small, method):
    model, images, targets = small
    whole = cam.explain(model, "layer3", images, targets, method=method)
    assert whole.shape == (5, 33, 33)
    assert whole.amin() >= 0
    assert whole.amax() <= 1
    for chunk in (2, 7):
        torch.testing.assert_close(cam.explain(model, "layer3", images, targets, method=method, chunk=chunk), whole,
                                   rtol=0, atol=1e-4)  # fmt: skip
    backwards = cam.explain(model, "layer3", images.flip(0), targets.flip(0), method=method)
    torch.testing.assert_close(backwards.flip(0), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam"])
def test_the_model_is_left_as_found(small, method):
    model, images, targets = copy.deepcopy(small[0]), *small[1:]
    model.train()
    model.layer2.eval()
    model.conv1.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    states = [(module.training, [p.requires_grad for p in module.parameters()]) for module in model.modules()]
    found = cam.explain(model, "layer4", images, targets, method=method)
    assert states == [(module.training, [p.requires_grad for p in module.parameters()]) for module in model.modules()]
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or "forward" in vars(module) for module in model.modules())
    torch.testing.assert_close(found, cam.explain(small[0], "layer4", images, targets, method=method))


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam"])
def test_gradients_and_inference_mode_of_the_caller_do_not_matter(small, method):
    model, images, targets = small
    expected = cam.explain(model, "layer4", images, targets, method=method)
    with torch.inference_mode():
        found = cam.explain(model, "layer4", images, targets, method=method)
    torch.testing.assert_close(found, expected)
    found = cam.explain(model, "layer4", images.clone().requires_grad_(), targets, method=method)
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad
    assert not found.is_inference()


def test_channels_last_and_numpy_give_the_same_maps(small):
    model, images, targets = small
    expected = cam.explain(model, "layer4", images, targets, method="ablationcam")
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    for given in (images.to(memory_format=torch.channels_last), np.asarray(images)):
        found = cam.explain(last, "layer4", given, np.asarray(targets), method="ablationcam")
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


# ---- Ablation-CAM runs the tail alone


def full_reruns(model, layer, images, targets):
    """Compute Ablation-CAM by running the whole network for every channel, one at a time."""
    module, maps = model.get_submodule(layer), []
    with torch.no_grad():
        for image, target in zip(images, targets, strict=True):
            seen = []
            handle = module.register_forward_hook(lambda m, a, output, seen=seen: seen.append(output.clone()))
            logit = model(image[None])[0, target]
            handle.remove()
            total = 0
            for channel in range(seen[0].shape[1]):

                def ablate(m, a, output, channel=channel):
                    output[:, channel] = 0
                    return output

                handle = module.register_forward_hook(ablate)
                total = total + (logit - model(image[None])[0, target]) * seen[0][0, channel]
                handle.remove()
            maps.append(total.relu())
    return torch.stack(maps)


@pytest.mark.parametrize("layer", RESNET_LAYERS)
def test_ablation_equals_full_reruns(small, layer):
    model, images, targets = (part[:2] if isinstance(part, torch.Tensor) else part for part in small)
    found = cam.raw_maps(model, layer, images, targets, method="ablationcam", chunk=50)
    expected = full_reruns(model, layer, images, targets)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.max()))
    assert cam.ablation_mode(model, layer, images[:1]) == ("linear" if layer == "layer4" else "traced")


class Branching(nn.Module):
    """Cannot be traced (a condition on values); a module runs before and after the layer, another one beside it."""

    def __init__(self):
        super().__init__()
        self.stem, self.skip, self.layer = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(8, 4)

    def forward(self, x):
        if x.abs().max() > 1e6:
            raise RuntimeError("values out of range")
        x = self.relu(self.stem(x))
        x = self.skip(x).mean((2, 3), keepdim=True) + self.relu(self.layer(x))
        return self.head(x.mean((2, 3)))


class Table(nn.Module):
    """A parameter with as many rows as the test has images."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(3, 4))

    def forward(self):
        return self.rows


class BranchingWithTable(Branching):
    """Cannot be replayed either: the rows of the table look like a batch."""

    def __init__(self):
        super().__init__()
        self.table = Table()

    def forward(self, x):
        offset = self.table().sum(0)
        return super().forward(x) + offset


@pytest.mark.parametrize(("network", "mode"), [(Branching, "replayed"), (BranchingWithTable, "full")])
def test_networks_that_cannot_be_traced(network, mode, caplog):
    torch.manual_seed(0)
    model, images, targets = network(), torch.randn(3, 3, 8, 8), torch.tensor([0, 3, 1])
    expected = full_reruns(model, "layer", images, targets)
    with caplog.at_level(logging.INFO):
        assert cam.ablation_mode(model, "layer", images) == mode
    assert "layer 'layer' cannot be traced: TraceError" in caplog.text
    found = cam.raw_maps(model, "layer", images, targets, method="ablationcam", chunk=5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert "forward" not in vars(model.stem)


class Counted(nn.Conv2d):
    images = 0

    def forward(self, x):
        self.images += len(x)
        return super().forward(x)


@pytest.mark.parametrize("mode", ["traced", "replayed"])
def test_what_precedes_the_layer_is_not_run_per_channel(mode):
    model, layer = Branching(), "layer"
    model.stem = stem = Counted(3, 8, 3)
    if mode == "traced":
        model = nn.Sequential(stem, model.layer, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head)
        layer = "1"
    images, targets = torch.randn(3, 3, 8, 8), torch.zeros(3, dtype=torch.long)
    assert cam.ablation_mode(model, layer, images) == mode
    stem.images = 0
    cam.explain(model, layer, images, targets, method="ablationcam")
    assert stem.images == 1 + 3 + 3 * (mode == "replayed")  # check, clean pass, recording; not 8 channels x 3


@pytest.mark.parametrize("method", ["ablationcam", "scorecam"])
def test_no_more_images_than_the_chunk_are_in_flight(small, method):
    model, images, targets = copy.deepcopy(small[0]), *small[1:]
    batches = []
    model.fc.register_forward_hook(lambda m, a, output: batches.append(len(output)))
    cam.explain(model, "layer3", images, targets, method=method, chunk=8)
    assert max(batches) == 8
    assert sum(size == 8 for size in batches) == 5 * 16 // 8  # images share batches


# ---- transformers


def test_vision_transformer_tokens_become_a_grid_without_the_class_token():
    torch.manual_seed(0)
    model = torchvision.models.VisionTransformer(48, 16, 2, 2, 16, 32, num_classes=5)
    nn.init.normal_(model.heads.head.weight)
    images, targets = torch.randn(2, 3, 48, 48), torch.tensor([1, 4])
    layer = "encoder.layers.encoder_layer_1.ln_1"
    for method in cam.METHODS:
        maps = cam.raw_maps(model, layer, images, targets, method=method)
        assert maps.shape == (2, 3, 3)
        assert maps.amax() > 0
    assert cam.ablation_mode(model, layer, images) == "traced"
    with pytest.raises(ValueError, match=r"only the class token of layer 'encoder\.layers\.encoder_layer_1'"):
        cam.explain(model, "encoder.layers.encoder_layer_1", images, targets, method="gradcam")
    with pytest.raises(ValueError, match="returns a tuple"):
        cam.explain(model, "encoder.layers.encoder_layer_1.self_attention", images, targets, method="gradcam")


def test_tokens_keep_their_place_in_an_image_that_is_not_square():
    tokens = torch.arange(1.0, 8.0).view(1, 7, 1)  # a class token, then 2 x 3 patches
    grid = layer_outputs.as_grid(tokens, torch.zeros(1, 3, 32, 48), "layer")
    assert grid.tolist() == [[[[2, 3, 4], [5, 6, 7]]]]
    with pytest.raises(ValueError, match=r"layer 'layer' returns \(1, 7, 1\) for images of 16 x 128"):
        layer_outputs.as_grid(tokens, torch.zeros(1, 3, 16, 128), "layer")


def test_channels_last_outputs_give_the_maps_of_channels_first():
    class ToChannelsLast(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1)

    class ToChannelsFirst(nn.Module):
        def forward(self, x):
            return x.permute(0, 3, 1, 2)

    torch.manual_seed(0)
    body = [nn.Conv2d(3, 6, 3), nn.Tanh(), ToChannelsLast(), ToChannelsFirst(), nn.Conv2d(6, 4, 2), nn.ReLU()]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    images, targets = torch.randn(2, 3, 8, 12), torch.tensor([2, 0])
    for method in cam.METHODS:
        first = cam.explain(model, "1", images, targets, method=method)
        torch.testing.assert_close(cam.explain(model, "2", images, targets, method=method), first)


# ---- bad input


@pytest.mark.parametrize("method", cam.METHODS)
def test_constant_and_dead_maps_are_zeros(method):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].bias.fill_(-100)  # every unit is dead
    images, targets = torch.randn(2, 3, 4, 4), torch.tensor([0, 1])
    assert torch.equal(cam.explain(model, "1", images, targets, method=method), torch.zeros(2, 4, 4))
    with torch.no_grad():
        model[0].weight.fill_(0)
        model[0].bias.fill_(1)  # every unit is constant
        model[4].weight.fill_(1)
    assert torch.equal(cam.explain(model, "1", images, targets, method=method), torch.zeros(2, 4, 4))


@pytest.mark.parametrize("method", cam.METHODS)
def test_one_output_with_or_without_its_axis(method):
    torch.manual_seed(0)
    with_axis = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(36, 1))
    images, targets = torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    expected = cam.explain(with_axis, "1", images, targets, method=method)
    without = nn.Sequential(*with_axis, nn.Flatten(0))
    assert torch.equal(cam.explain(without, "1", images, targets, method=method), expected)


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam"])
def test_errors_say_what_and_where(small, method):
    model, images, targets = small

    def explain(layer="layer4", images=images, targets=targets, model=model, method=method, **options):
        cam.explain(model, layer, images, targets, method=method, **options)

    with pytest.raises(ValueError, match="ResNet has no layer 'layer9'; nearest: layer4, layer3"):
        explain("layer9")
    with pytest.raises(ValueError, match="layer 'fc' returns"):
        explain("fc")
    with pytest.raises(ValueError, match="`targets` of image 3: got 7, allowed 0 to 6"):
        explain(targets=torch.tensor([0, 1, 2, 7, 3]), chunk=2)
    with pytest.raises(ValueError, match="`targets` of image 0: got -1"):
        explain(targets=torch.tensor([-1, 1, 2, 1, 3]))
    with pytest.raises(ValueError, match=r"`targets` must be int \(5,\), got torch.int64 \(2,\)"):
        explain(targets=targets[:2])
    with pytest.raises(ValueError, match=r"`targets` must be int \(5,\), got torch.float32"):
        explain(targets=targets.float())
    with pytest.raises(ValueError, match="`images` must be float"):
        explain(images=images.byte())
    with pytest.raises(ValueError, match="`method` is 'eigencam'; allowed: gradcam, "):
        explain(method="eigencam")
    with pytest.raises(ValueError, match="`chunk` must be at least 1, got 0"):
        explain(chunk=0)
    broken = images.clone()
    broken[3, 0, 5, 5] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite logits: layer 'layer4', image 3"):
        explain(images=broken, chunk=2)
    with pytest.raises(ValueError, match="NaN or infinite logits: layer 'layer4', image 3"):
        cam.ablation_mode(model, "layer4", broken)
    with pytest.raises(ValueError, match=r"must return logits \(1, classes\)|must return logits \(5, classes\)"):
        explain(model=nn.Sequential(nn.Conv2d(3, 2, 1)), layer="0")


@pytest.mark.parametrize("method", ["ablationcam", "scorecam"])
def test_logits_that_are_not_finite_without_a_channel_are_named(method):
    """The logarithm of the first channel's sum is finite, but not where the other channel is all that is left."""

    class Log(nn.Module):
        def forward(self, maps):
            return maps.sum((2, 3))[:, :1].log().expand(-1, 2)

    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), Log()).requires_grad_(False)
    model[0].weight.copy_(torch.eye(2).view(2, 2, 1, 1))
    images = torch.tensor([[[[1.0, 0]], [[0, 1]]]])
    with pytest.raises(ValueError, match="NaN or infinite logits: layer '0', image 0"):
        cam.explain(model, "0", images, torch.tensor([0]), method=method)


class Thrice(nn.Module):
    """A ReLU that runs three times, as one module and, `apart`, as three."""

    def __init__(self, apart, traced):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.relu, self.fc = nn.ReLU(), nn.Linear(6, 4)
        self.steps = nn.ModuleList(nn.ReLU() for _ in range(3)) if apart else [self.relu] * 3
        self.traced = traced

    def forward(self, x):
        if not self.traced:  # on what tracing does not know
            x = x * bool(x.isfinite().any())
        first = self.steps[0](self.one(x))
        second = self.steps[1](self.two(first) + first[:, :6, 1:-1, 1:-1])
        return self.fc(self.steps[2](second - second.mean((1, 2, 3), keepdim=True)).mean((2, 3)))


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize(("name", "step"), [("relu", 2), ("relu#1", 0), ("relu#2", 1), ("relu#3", 2)])
@pytest.mark.parametrize("method", cam.METHODS)
def test_a_call_of_a_module_that_runs_several_times_is_explained_as_a_module_of_its_own(method, name, step, traced):
    torch.manual_seed(0)
    shared, apart = Thrice(False, traced), Thrice(True, traced)
    apart.load_state_dict(shared.state_dict())
    images, targets = torch.randn(3, 3, 12, 12), torch.tensor([0, 3, 1])
    ours = cam.raw_maps(shared.eval(), name, images, targets, method=method)
    torch.testing.assert_close(ours, cam.raw_maps(apart.eval(), f"steps.{step}", images, targets, method=method))
    mode = ("linear" if step == 2 else "traced") if traced else "replayed"
    assert cam.ablation_mode(shared, name, images) == cam.ablation_mode(apart, f"steps.{step}", images) == mode


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam"])
def test_a_layer_without_influence_is_an_error(method):
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.aside, self.never = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x):
            self.aside(x)
            return self.used(x).mean((2, 3))

    for layer in ("aside", "never"):
        with pytest.raises(ValueError, match=f"layer '{layer}' does not influence the output"):
            cam.explain(Aside(), layer, torch.randn(2, 3, 4, 4), torch.tensor([0, 1]), method=method)


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam"])
def test_out_of_memory_halves_the_chunk_and_says_so(small, method, caplog):
    model, images, targets = copy.deepcopy(small[0]), *small[1:]

    def small_device(module, args):
        if len(args[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    model.fc.register_forward_pre_hook(small_device)
    with caplog.at_level(logging.WARNING):
        found = cam.explain(model, "layer4", images, targets, method=method, chunk=8)
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory: going on with chunk=4",
        "out of memory: going on with chunk=2",
    ]
    expected = cam.explain(small[0], "layer4", images, targets, method=method)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)

    model.fc.register_forward_pre_hook(lambda module, args: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError, match="full"):
        cam.explain(model, "layer4", images, targets, method=method, chunk=8)


def test_passes_say_what_is_run_for_each_channel():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    images = torch.rand(1, 3, 8, 8)
    said = {method: cam.passes(model, "1", images, method=method) for method in ("gradcam", "ablationcam", "scorecam")}
    assert said == {"gradcam": "", "ablationcam": "linear", "scorecam": "full"}
    assert cam.passes(model, "0", images, method="ablationcam") == "traced"


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_score_cam_runs_as_many_images_as_there_are_different_masks(chunk):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 9, 3)
    with torch.no_grad():
        convolution.weight[2] = convolution.weight[5] = convolution.weight[0]
        convolution.bias[2] = convolution.bias[5] = convolution.bias[0]
        convolution.weight[[1, 7]] = 0  # constant, at 3 and at -3
        convolution.bias[[1, 7]] = torch.tensor([3.0, -3.0])
    head = nn.Sequential(nn.Conv2d(9, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    model, images, targets = nn.Sequential(convolution, head), torch.rand(3, 3, 13, 13), torch.tensor([0, 1, 1])
    rows = []
    hook = convolution.register_forward_hook(lambda module, args, output: rows.append(len(output)))
    maps, saved = cam.explain_and_count(model, "0", images, targets, method="scorecam", chunk=chunk)
    hook.remove()
    assert saved.tolist() == [3, 3, 3]  # of 9 channels: two copies, one constant beside another
    assert max(rows) <= chunk
    checks = 1 if chunk == 1 else 2
    assert sum(rows) == checks + 3 + 3 * 6
    torch.testing.assert_close(maps, cam.rescale(every_mask(model, convolution, images, targets).relu(), (13, 13)))


def every_mask(model, layer, images, targets):
    """Score-CAM with a pass for each channel, an image at a time."""
    maps = []
    for image, target in zip(images[:, None], targets, strict=True):
        with torch.no_grad():
            grid = layer(image)
            constant = grid.amin((2, 3), keepdim=True) == grid.amax((2, 3), keepdim=True)
            masks = nn.functional.interpolate(grid, image.shape[-2:], mode="bilinear", align_corners=True)
            masks = masks - masks.amin((2, 3), keepdim=True)
            masks = torch.where(constant, 0, masks / (masks.amax((2, 3), keepdim=True) + 1e-8))
            weights = torch.cat([model(image * mask)[:, target] for mask in masks[0]]).softmax(0)
            maps.append((weights[:, None, None] * grid[0]).sum(0))
    return torch.stack(maps)


def test_ablation_runs_no_channel_that_is_zero_everywhere(small):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 2))
    with torch.no_grad():
        model[0].weight[[1, 4]] = 0
        model[0].bias[[1, 4]] = -1
    images, targets = torch.randn(2, 3, 8, 8), torch.tensor([1, 0])
    images[1] = -images[1].abs() * 100 * model[0].weight[0].sum().sign()
    ran, active = [], model[1](model[0](images)).flatten(2).any(2).sum(1)
    model[2].register_forward_hook(lambda module, args, output: ran.append(len(output)))
    maps, saved = cam.explain_and_count(model, "1", images, targets, method="ablationcam")
    assert saved.tolist() == (6 - active).tolist() and saved.min() >= 2
    assert sum(ran) == 1 + 2 + 2 + int(active.sum())  # the check, the clean pass, the tail's check, the channels
    torch.testing.assert_close(maps, cam.rescale(full_reruns(model, "1", images, targets), (8, 8)), rtol=0, atol=1e-4)


def test_ablation_of_a_linear_tail_needs_no_pass_of_a_channel(small):
    model, images, targets = small
    ran = []
    hook = model.layer3.register_forward_hook(lambda module, args, output: ran.append(len(output)))
    maps, saved = cam.explain_and_count(model, "layer4", images, targets, method="ablationcam", chunk=8)
    hook.remove()
    assert saved.tolist() == [24] * len(images)
    assert [rows for rows in ran if rows > 1] == [5, 5]  # a pass for the scores and one for their gradients
    expected = cam.rescale(full_reruns(model, "layer4", images, targets), images.shape[-2:])
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4)
    rounded = cam.explain(copy.deepcopy(model).bfloat16(), "layer4", images.bfloat16(), targets, method="ablationcam")
    assert rounded.isfinite().all() and rounded.amax() > 0.9


class Wobbly(nn.Module):
    """Gives batches of another size than three a share more."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        return x * (1 if len(x) == 3 else 1 + self.share)


@pytest.mark.parametrize(
    ("dtype", "share", "mode"),
    [
        (torch.float32, 0.005, "traced"),
        (torch.float32, 0.02, "full"),
        (torch.float16, 0.02, "traced"),  # allowed: the root of the type's precision, 3 % here and 9 % below
        (torch.float16, 0.05, "full"),
        (torch.bfloat16, 0.05, "traced"),
    ],
)
def test_half_precision_allows_what_its_rounding_may_change(dtype, share, mode, caplog):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5), Wobbly(share))
    model = model.eval().to(dtype)
    with caplog.at_level(logging.INFO):
        assert cam.ablation_mode(model, "0", torch.randn(3, 3, 8, 8).to(dtype)) == mode
    told = "layer '0' cannot be traced: the outputs differ from the network's" in caplog.text
    assert told == (mode == "full")
