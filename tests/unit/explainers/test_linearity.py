"""Which operations after a layer let one backward pass stand for the ablation of every channel."""

import operator

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import fx, nn
from unitlens.explainers import cam, tail
from unitlens.explainers.linearity import is_linear


class Tail(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.modules_ = function, nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.modules_)


def pooled(x, *rest):
    x = x.mean((2, 3))
    for module in rest:
        x = module(x)
    return x


LINEAR = {
    "mean, linear": Tail(pooled, nn.Linear(6, 3)),
    "two linear layers": Tail(pooled, nn.Linear(6, 5), nn.Linear(5, 3, bias=False)),
    "dropout in evaluation": Tail(pooled, nn.Dropout(), nn.Linear(6, 3)),
    "normalization by stored statistics": Tail(pooled, nn.BatchNorm1d(6), nn.Linear(6, 3)),
    "pooling and flattening": nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)),
    "a convolution for a head": nn.Sequential(nn.Conv2d(6, 3, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 3)),
    "view by a size": Tail(lambda x, head: head(x.sum((2, 3)).view(x.size(0), -1)), nn.Linear(6, 3)),
    "shape": Tail(lambda x, head: head(x.reshape(x.shape[0], -1)), nn.Linear(96, 3)),
    "functional": Tail(lambda x, head: head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)), nn.Linear(6, 3)),
    "functional dropout": Tail(lambda x, head: head(F.dropout(x.mean((2, 3)), 0.5, training=False)), nn.Linear(6, 3)),
    "a sum of two heads": Tail(lambda x, a, b: a(x.mean((2, 3))) + b(x.mean((2, 3))), nn.Linear(6, 3), nn.Linear(6, 3)),
    "scaled by a number": Tail(lambda x, head: head(x.mean((2, 3)) * 0.5), nn.Linear(6, 3)),
    "nested": nn.Sequential(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), Tail(lambda x, h: h(x), nn.Linear(6, 3))
    ),
    "timm's pooling": nn.Sequential(timm.layers.SelectAdaptivePool2d(flatten=True), nn.Linear(6, 3)),
}
OTHERS = {
    "relu": Tail(pooled, nn.ReLU(), nn.Linear(6, 3)),
    "a relu in place": nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "functional relu": Tail(lambda x: F.relu(x).mean((2, 3))),
    "maximum": nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()),
    "the largest value": Tail(lambda x: x.amax((2, 3))),
    "softmax": Tail(pooled, nn.Linear(6, 3), nn.Softmax(1)),
    "layer norm": Tail(pooled, nn.LayerNorm(6), nn.Linear(6, 3)),
    "normalization by the batch": Tail(pooled, nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3)),
    "timm's normalization with an activation": nn.Sequential(
        timm.layers.BatchNormAct2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "a product with itself": Tail(lambda x: (x * x).mean((2, 3))),
    "a gate": Tail(lambda x, gate: (x * gate(x.mean((2, 3)))[:, :, None, None]).mean((2, 3)), nn.Linear(6, 6)),
    "divided by itself": Tail(lambda x: (1 / x).mean((2, 3))),
    "absolute": Tail(lambda x: x.mean((2, 3)).abs()),
    "functional dropout in training": Tail(lambda x: F.dropout(x, 0.5, training=True).mean((2, 3))),
    "a branch on values": Tail(lambda x: x.mean((2, 3)) if x.sum() > 0 else -x.mean((2, 3))),
}


def graph_of(module):
    return fx.Tracer().trace(module)


@pytest.mark.parametrize("module", LINEAR.values(), ids=LINEAR)
def test_linear_tails_are_seen_and_are_linear(module):
    module.eval()
    assert is_linear(module, graph_of(module))
    a, b = torch.randn(2, 6, 4, 4), torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(module(a) + module(b) - module(0 * a), module(a + b), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", OTHERS)
def test_other_tails_are_ablated_channel_by_channel(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), OTHERS[name].eval())
    assert cam.ablation_mode(model, "0", torch.rand(2, 3, 4, 4)) != "linear"


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "a branch on values"])  # which is not traced
def test_other_tails_are_no_linear_graphs(name):
    """`cam.ablation_mode` asks an image, too, which might hide that a graph is taken for linear."""
    module = OTHERS[name].eval()
    assert not is_linear(module, graph_of(module))


def test_a_hook_on_a_linear_module_is_in_doubt():
    head = nn.Linear(6, 3)
    head.register_forward_hook(lambda module, args, output: output.relu())
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    assert not is_linear(module, graph_of(module))


@pytest.mark.parametrize(
    ("function", "adds_up"),
    [
        (lambda x: 2 * x + 1, True),
        (lambda x: (x + 100) - 100, True),  # but for rounding
        *((torch.relu, False), (torch.square, False), (lambda x: x * x.mean(), False)),
    ],
)
def test_what_is_taken_for_linear_must_add_up(function, adds_up):
    activations, image = torch.rand(1, 6, 4, 4) - 0.5, torch.tensor([0])

    def follow(activations, image):
        return function(activations).sum((2, 3))

    assert tail._adds_up(follow, activations, image, follow(activations, image)) == adds_up


def test_what_does_not_depend_on_the_layer_may_be_anything():
    graph = fx.Graph()
    layer, other = graph.placeholder("layer"), graph.placeholder("other")
    graph.output(graph.call_function(operator.add, (layer, graph.call_function(F.relu, (other,)))))
    assert is_linear(nn.Module(), graph)
