"""Layers by name and captured outputs, on networks small enough to check by eye."""

import pytest
import torch
from torch import nn
from unitlens.networks.hooks import capture, find_layer, last_call, run_to, split_call
from unitlens.networks.layer_outputs import channel_axis


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.same = nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(self.same(2 * x)) - 1


class Counting(nn.Identity):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return x


@pytest.fixture
def model():
    return nn.Sequential(Block(), Block(), Counting())


def hook_count(model):
    return sum(len(module._forward_hooks) for module in model.modules())


def test_find_layer_resolves_dotted_names(model):
    assert find_layer(model, "1.relu") is model[1].relu


def test_find_layer_names_the_nearest_layers():
    model = nn.ModuleDict({name: nn.Identity() for name in ("conv1", "layer1", "layer2", "layer3", "layer4", "fc")})
    with pytest.raises(ValueError, match=r"^resnet50 has no layer 'layer9'; nearest: layer4, layer3$"):
        find_layer(model, "layer9", model_name="resnet50")
    with pytest.raises(ValueError, match=r"^ModuleDict has no layer ''"):
        find_layer(model, "")
    with pytest.raises(ValueError, match=r"has no layer '#'; nearest: \w+, \w+$"):
        find_layer(model, "#")


def test_a_layer_that_has_two_names_is_found_by_both():
    shared = nn.ReLU()
    model = nn.Sequential(shared, nn.Identity(), shared)
    assert find_layer(model, "2") is find_layer(model, "0") is shared


def test_capture_keeps_the_layers_own_output_before_an_in_place_module(model):
    with capture(model, ["0.same", "0.relu", "1"]) as outputs:
        model(torch.tensor([-1.0, 3.0]))
    assert outputs["0.same"].tolist() == [-2.0, 6.0]
    assert outputs["0.relu"].tolist() == [0.0, 6.0]
    assert outputs["1"].tolist() == [-1.0, 9.0]


def test_capture_holds_the_last_forward_pass(model):
    with capture(model, ["1"]) as outputs:
        model(torch.tensor([3.0]))
        model(torch.tensor([1.0]))
    assert outputs["1"].tolist() == [1.0]


def test_capture_does_not_change_the_outputs(model):
    x = torch.randn(4)
    with capture(model, ["0", "0.same", "1.relu"]):
        captured = model(x.clone())
    assert torch.equal(captured, model(x.clone()))


def test_capture_keeps_the_gradient_graph(model):
    x = torch.tensor([3.0], requires_grad=True)
    with capture(model, ["0"]) as outputs:
        y = model(x)
    assert torch.autograd.grad(y, outputs["0"], retain_graph=True)[0].tolist() == [2.0]
    assert torch.autograd.grad(outputs["0"], x)[0].tolist() == [2.0]


def test_stop_ends_the_forward_pass_at_the_last_of_the_layers(model):
    with capture(model, ["1.same", "0"], stop=True) as outputs:
        model(torch.tensor([3.0]))
        pytest.fail("the block goes on")
    assert outputs["0"].tolist() == [5.0]
    assert outputs["1.same"].tolist() == [10.0]
    assert model[2].calls == 1  # the pass that counts the calls of each layer, the first time


def test_stop_of_a_layer_that_never_runs_is_an_error():
    model = nn.Sequential(nn.Identity())
    model.unused = nn.Identity()
    model.forward = lambda x: x
    with pytest.raises(ValueError, match="never ran 'unused'"), capture(model, ["unused"], stop=True):
        model(torch.zeros(1))


def test_stop_passes_through_an_inner_capture(model):
    with capture(model, ["0"], stop=True) as outer:
        with capture(model, ["1"]) as inner:
            model(torch.tensor([3.0]))
        pytest.fail("the outer block goes on")
    assert list(outer) == ["0"]
    assert inner == {}


def test_leaf_makes_what_follows_differentiable_at_the_layer_alone(model):
    with capture(model, ["0"], leaf=True) as outputs:
        y = model(torch.tensor([3.0], requires_grad=True))
    assert outputs["0"].is_leaf
    assert torch.autograd.grad(y, outputs["0"])[0].tolist() == [2.0]


class Repeated(nn.Module):
    """Run one module three times, on images of which each call sees another multiple and another size."""

    def __init__(self):
        super().__init__()
        self.step = nn.ReLU(inplace=True)
        self.other = self.step

    def forward(self, x):
        first = self.step(x)
        second = self.step(10 * first[:, :, ::2, ::2])
        return first.mean((2, 3)) + self.step(10 * second[..., :1]).sum((2, 3))


@pytest.mark.parametrize(
    ("name", "factor", "size"),
    [
        ("step", 100, (4, 1)),
        ("other", 100, (4, 1)),
        ("step#1", 1, (8, 8)),
        ("other#2", 10, (4, 4)),
        ("step#3", 100, (4, 1)),
    ],
)
def test_a_module_that_runs_several_times_means_its_last_call_or_the_numbered_one(name, factor, size):
    model, images = Repeated(), torch.rand(2, 3, 8, 8) + 0.1
    places = images[:, :, :: 8 // size[0], :: 8 // size[0]][..., : size[1]]
    expected = factor * places
    with capture(model, [name]) as outputs:
        whole = model(images)
    torch.testing.assert_close(outputs[name], expected)
    torch.testing.assert_close(run_to(model, name, images), expected)
    with capture(model, [name], leaf=True) as outputs:
        score = model(images)
    assert score.equal(whole)
    torch.testing.assert_close(outputs[name].detach(), expected)
    (gradient,) = torch.autograd.grad(score.sum(), outputs[name])
    assert gradient.shape == expected.shape
    assert gradient.any()
    assert last_call(model, name, images) == {1: 1, 10: 2, 100: 3}[factor]


def test_a_call_that_is_never_made_is_an_error():
    with pytest.raises(ValueError, match=r"never ran 'step#4'"):
        run_to(Repeated(), "step#4", torch.zeros(1, 3, 8, 8))
    assert split_call("a.b#12") == ("a.b", 12)
    assert split_call("a.b#0") == ("a.b#0", None)


def test_a_layer_returning_a_tuple_is_an_error():
    model = nn.Sequential(nn.LSTM(2, 2))
    with pytest.raises(ValueError, match="layer '0' returns a tuple"), capture(model, ["0"]):
        model(torch.zeros(1, 1, 2))
    assert hook_count(model) == 0


@pytest.mark.parametrize("options", [{}, {"stop": True}, {"leaf": True}])
def test_hooks_are_gone_after_the_block(model, options):
    with capture(model, ["0", "1.relu"], **options):
        assert hook_count(model) == 2
        model(torch.zeros(1))
    assert hook_count(model) == 0


@pytest.mark.parametrize("options", [{}, {"stop": True}])
def test_hooks_are_gone_after_an_exception(model, options):
    with pytest.raises(KeyError, match="from the block"), capture(model, ["0"], **options):
        raise KeyError("from the block")
    assert hook_count(model) == 0
    with pytest.raises(ValueError, match="no layer 'nowhere'"), capture(model, ["0", "nowhere"], **options):
        pass
    assert hook_count(model) == 0


def test_run_to_gives_the_layers_output_and_runs_nothing_behind_it(model):
    assert run_to(model, "1.same", torch.tensor([3.0])).tolist() == [10.0]
    calls = model[2].calls  # of the pass that counts them
    assert run_to(model, "1.same", torch.tensor([3.0])).tolist() == [10.0]
    assert model[2].calls == calls == 1
    assert hook_count(model) == 0
    assert run_to(model, "2", torch.tensor([3.0])).equal(model(torch.tensor([3.0])))


def test_run_to_a_layer_that_does_not_exist_or_run_is_an_error(model):
    with pytest.raises(ValueError, match="no layer '9'; nearest: "):
        run_to(model, "9", torch.zeros(1))
    model[0].unused = nn.Identity()
    with pytest.raises(ValueError, match=r"never ran '0\.unused'"):
        run_to(model, "0.unused", torch.zeros(1))
    assert hook_count(model) == 0


@pytest.mark.parametrize(
    ("shape", "size", "axis"),
    [
        ((2, 16, 4, 8), (32, 64), 1),
        ((2, 4, 8, 3), (32, 64), 3),
        ((2, 16, 8, 4), (64, 32), 1),
        ((2, 8, 4, 16), (64, 32), 3),
        ((2, 8, 8, 8), (64, 64), 1),  # either would do
        ((2, 4, 4, 16), (64, 64), 3),
        ((2, 7, 5, 5), (60, 64), 1),
        ((2, 50, 16), (64, 32), 2),
    ],
)
def test_channels_lie_where_the_rest_has_the_shape_of_the_input(shape, size, axis):
    assert channel_axis(torch.zeros(shape), *size) == axis
