"""Networks with their batch normalizations folded give what they gave, and layers that are read stay what they were."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from unitlens.networks import folding, hooks


def images(side=64):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def trained(model):
    """Give normalizations statistics and weights as training does, far from a scale of 1 and a shift of 0."""
    chance = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for values in (module.running_mean, module.bias):
                values.data.normal_(generator=chance)
            for values in (module.running_var, module.weight):
                values.data.uniform_(0.5, 1.5, generator=chance)
    return model.eval().requires_grad_(False)


def fold(model, *layers):
    return folding.fold_batch_norm(model, lambda: model(images()), layers=layers)


class Toy(nn.Module):
    """A convolution whose output a normalization takes, and, where `twice`, a sum besides."""

    def __init__(self, *, twice=False):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.twice = twice

    def forward(self, x):
        made = self.conv(x)
        out = self.norm(made) + (made if self.twice else 0)
        return self.head(out.relu().mean((2, 3)))


@pytest.mark.parametrize(
    ("make", "folded"),
    [
        (torchvision.models.resnet18, 20),
        (torchvision.models.mobilenet_v3_small, 34),
        (torchvision.models.densenet121, 59),  # of 121: the others follow a concatenation
        (torchvision.models.squeezenet1_1, 0),
        (lambda: timm.create_model("tf_efficientnet_lite0"), 49),  # its normalizations hold activations
        (lambda: timm.create_model("convnext_atto"), 0),
    ],
)
def test_outputs_and_gradients_are_what_they_were(make, folded):
    torch.manual_seed(0)
    model, given = trained(make()), images().requires_grad_()
    before = model(given)
    slope = torch.autograd.grad(before[:, 0].sum(), given)[0]
    assert fold(model) == folded
    torch.testing.assert_close(model(given), before, rtol=0, atol=2e-5 * before.abs().max().item())
    after = torch.autograd.grad(model(given)[:, 0].sum(), given)[0]
    torch.testing.assert_close(after, slope, rtol=0, atol=2e-4 * slope.abs().max().item())


def test_a_layer_gives_what_it_gave_unless_it_was_folded_and_is_asked_for():
    """The normalization and the block do; the convolution only where it was named before, else it is refused."""
    torch.manual_seed(0)
    wanted = ["layer2.0.conv1", "layer2.0.bn1", "layer2.0", "layer4.1.bn2"]
    model = trained(torchvision.models.resnet18())
    before = {layer: hooks.run_to(model, layer, images()) for layer in wanted}
    assert fold(model, "layer2.0.conv1#1") == 19
    for layer, output in before.items():
        torch.testing.assert_close(hooks.run_to(model, layer, images()), output, rtol=1e-4, atol=1e-4)
    with pytest.raises(RuntimeError, match=r"layer2\.0\.conv2 holds the normalization after it"):
        hooks.run_to(model, "layer2.0.conv2", images())


def test_a_layer_is_left_alone_by_any_of_its_names():
    torch.manual_seed(0)
    model = trained(Toy())
    model.alias = model.conv
    assert fold(model, "alias") == 0 and fold(model) == 1


def test_activations_inside_a_normalization_keep_their_names():
    torch.manual_seed(0)
    model = trained(timm.create_model("tf_efficientnet_lite0"))
    before = hooks.run_to(model, "bn2.act", images())
    assert fold(model) == 49
    torch.testing.assert_close(hooks.run_to(model, "bn2.act", images()), before, rtol=1e-4, atol=1e-4)


def test_what_would_be_another_network_stays_as_it_is():
    """A convolution that something else reads, one that runs twice, and code that reads of its normalization."""
    torch.manual_seed(0)
    model = trained(Toy(twice=True))
    weight, before = model.conv.weight, model(images())
    assert fold(model) == 0 and model.conv.weight is weight and isinstance(model.norm, nn.BatchNorm2d)
    assert model(images()).equal(before)
    both = trained(nn.Sequential(shared := nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), shared, nn.Flatten()))
    assert fold(both) == 0
    model = trained(Toy())
    model.register_forward_pre_hook(lambda module, args: module.norm.weight.sum() and None)
    assert fold(model) == 0 and isinstance(model.norm, nn.BatchNorm2d)


def test_an_activation_in_place_keeps_a_normalization_from_the_convolution_before_it():
    torch.manual_seed(0)
    after = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()]
    model = trained(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(3), *after))
    before = model(images())
    with torch.inference_mode():
        assert fold(model) == 1
    assert isinstance(model[2], nn.BatchNorm2d) and not isinstance(model[4], nn.BatchNorm2d)
    torch.testing.assert_close(model(images()), before, rtol=1e-4, atol=1e-4)


def test_what_is_no_fixed_scale_of_own_weights_is_not_folded():
    torch.manual_seed(0)
    model = trained(Toy())
    model.norm.train()
    assert fold(model) == 0
    model = trained(Toy())
    model.norm = nn.BatchNorm2d(4, track_running_stats=False).eval()
    assert fold(model) == 0
    model = trained(Toy())
    nn.utils.parametrizations.weight_norm(model.conv)
    assert fold(model) == 0
    model = trained(nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten()))
    assert fold(model) == 0


def test_hooks_are_gone():
    model = trained(Toy())
    fold(model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
