"""Units switched off: as if their weights were zero, whatever the layer gives, the batch and the trials' order."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from unitlens.explainers import contributions, interventions

IMAGES = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([0, 1, 2, 3, 6])


class Tokens(nn.Module):
    """A class token and patches of 8 pixels, a linear layer, attention over all tokens; the class token is read."""

    def __init__(self, classes=7):
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, 8, 8, stride=8), nn.Linear(8, 8)
        self.mix, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, classes)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([torch.ones_like(patches[:, :1]), patches], 1))
        return self.head((tokens + self.mix(tokens, tokens, tokens)[0])[:, 0])


def vector():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU(), nn.Linear(8, 7))


NETWORKS = {  # how each is built, the layer, whose weights make exactly one unit in each row
    "maps, within a residual block": (lambda: torchvision.models.resnet18(num_classes=7), "layer3.0.conv1"),
    "maps before pooling": (lambda: torchvision.models.squeezenet1_1(num_classes=7), "features.12.expand3x3"),
    "channels last": (lambda: torchvision.models.swin_t(num_classes=7), "features.1.0.mlp.3"),
    "tokens": (Tokens, "block"),
    "vectors": (vector, "1"),
}


def edited(model, layer, units):
    """The network whose weights and biases of these units are zero."""
    other = copy.deepcopy(model)
    module = other.get_submodule(layer)
    with torch.no_grad():
        module.weight[units] = 0
        if module.bias is not None:
            module.bias[units] = 0
    return other


@pytest.mark.parametrize("name", NETWORKS)
def test_switching_off_is_an_edit_of_the_weights(name):
    build, layer = NETWORKS[name]
    torch.manual_seed(1)
    model = build().eval()
    number = model.get_submodule(layer).weight.shape[0]
    off = torch.zeros(3, number, dtype=torch.bool)
    off[0, 2], off[1, [0, 3, 5]] = True, True  # the third set is empty
    trials = torch.tensor([[4, 0], [0, 1], [4, 1], [2, 2], [0, 0]])
    whole, without = interventions.switch_off(model, layer, IMAGES, TARGETS, off, trials, chunk=2)
    with torch.no_grad():
        expected = model(IMAGES)
        logits = torch.stack([edited(model, layer, off[s])(IMAGES)[i] for i, s in trials.tolist()])
    torch.testing.assert_close(whole.score, expected.gather(1, TARGETS[:, None])[:, 0], rtol=1e-4, atol=1e-5)
    assert whole.predicted.tolist() == expected.argmax(1).tolist()
    chosen = logits.gather(1, TARGETS[trials[:, 0]][:, None])[:, 0]
    torch.testing.assert_close(without.score, chosen, rtol=1e-4, atol=1e-5)
    assert without.predicted.tolist() == logits.argmax(1).tolist()
    torch.testing.assert_close(without.score[3], whole.score[2], rtol=1e-4, atol=1e-5)
    assert (without.score - whole.score[trials[:, 0]])[:3].abs().max() > 0


def test_behind_pooling_and_a_linear_head_the_fall_is_the_contribution():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 7))
    of_class, *_ = contributions.explain(model, "1", IMAGES, TARGETS)
    off = torch.eye(12, dtype=torch.bool)
    trials = torch.cartesian_prod(torch.arange(5), torch.arange(12))
    whole, without = interventions.switch_off(model, "1", IMAGES, TARGETS, off, trials)
    fall = (whole.score[:, None] - without.score.view(5, 12)).double()
    torch.testing.assert_close(fall, of_class.contributions, rtol=1e-4, atol=1e-5)
    weights = model[4].weight[TARGETS].detach()
    torch.testing.assert_close(of_class.gradient, weights, rtol=1e-4, atol=1e-6)
    pooled = model[1](model[0](IMAGES)).mean((2, 3)).detach()
    torch.testing.assert_close(of_class.activity, pooled)


def test_what_does_not_fit_is_refused():
    model, off = vector().eval(), torch.zeros(1, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="layer '1' has 8 units, the sets 9"):
        interventions.switch_off(model, "1", IMAGES, TARGETS, off, torch.tensor([[0, 0]]))
    with pytest.raises(ValueError, match="targets"):
        interventions.switch_off(model, "1", IMAGES, TARGETS + 7, off[:, :8], torch.tensor([[0, 0]]))


def normalize(images):
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_shards_run_their_own_trials_in_batches_of_any_size(batch_size):
    torch.manual_seed(1)
    model, generator = vector().eval(), torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=generator).numpy()
    ids = np.array([f"i{row}" for row in range(6)], dtype=object)
    files = {"images": pixels, "image_id": ids, "source_image": np.array(list("aabbcc"), dtype=object)}
    off = np.eye(8, dtype=bool)
    trials = {"image_id": ids[[5, 0, 5, 3]], "class": np.array([2, 1, 2, 0]), "set": np.array([7, 1, 0, 4])}
    shards = [{name: values[part] for name, values in files.items()} for part in (slice(0, 4), slice(4, 6))]
    first, second = (
        interventions.run_trials(each, off, trials, model, "1", normalize, batch_size=batch_size) for each in shards
    )
    assert first["image_id"].tolist() == ["i0", "i3"] and second["image_id"].tolist() == ["i5", "i5"]
    assert first["source_image"].tolist() == ["a", "b"] and second["set"].tolist() == [7, 0]
    image = normalize(torch.as_tensor(pixels[5:]))
    for row, unit in enumerate((7, 0)):
        for name, each in (("score", model), ("score_off", edited(model, "1", unit))):
            assert second[name][row] == pytest.approx(each(image)[0, 2].item(), abs=1e-5)
    several = {"image_id": ids[np.arange(40) % 3], "class": np.zeros(40, int), "set": np.arange(40) // 3 % 8}
    found = interventions.run_trials(shards[0], off, several, model, "1", normalize, batch_size=batch_size)
    assert found["set"].tolist() == [number % 8 for size in (14, 13, 13) for number in range(size)], "in their order"
    others = {name: values[:0] for name, values in trials.items()}
    nothing = interventions.run_trials(shards[0], off, others, model, "1", normalize, batch_size=batch_size)
    assert {name: len(values) for name, values in nothing.items()} == dict.fromkeys(first, 0)
