"""Accounts of predictions by units: hand-computed, adding up to the score, and refused where they cannot."""

import pytest
import torch
import torchvision
from torch import nn
from unitlens.explainers import cam, contributions, items, run
from unitlens.networks import heads

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.randn(5, 3, 64, 64, generator=GENERATOR)
TARGETS = torch.tensor([0, 1, 2, 3, 6])


def planted(*, classes=7, bias=True):
    """A convolution, ReLU, the mean over positions and a linear head, with random weights."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, classes, bias=bias),
    )


class Tokens(nn.Module):
    """A class token and patches of 16 pixels; the head reads a weighted sum of the tokens."""

    def __init__(self, weights):
        super().__init__()
        torch.manual_seed(2)
        self.patches = nn.Conv2d(3, 4, 16, stride=16)
        self.block = nn.Identity()
        self.head = nn.Linear(4, 3, bias=False)
        self.register_buffer("weights", weights)

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = self.block(torch.cat([torch.ones_like(patches[:, :1]), patches], 1))
        return self.head(torch.einsum("t,ntc->nc", self.weights, tokens))


def test_hand_computed_account():
    # one image [[1, 2], [3, 4]], channels x and 2x; logit 0: x11 + x12 + 2 x22 - 2 x11 + 2 x22 + bias 3
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(8, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
        model[2].weight.copy_(torch.tensor([[1.0, 1, 0, 2, -1, 0, 0, 1], [0.0] * 8, [0.0, 0, 0, 0, 1, 0, 0, 0]]))
        model[2].bias.copy_(torch.tensor([3.0, 1.0, 2.0]))  # logits 20, 1, 4
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    units, remainder, logits = contributions.account(model, "0", image, torch.tensor([0]))
    assert units.tolist() == [[1 + 2 + 8, -2 + 8]] and remainder.tolist() == [3] and logits.tolist() == [20]
    of_class, of_margin, runner_up = contributions.explain(model, "0", image, torch.tensor([0]))
    assert of_class.shown.tolist() == [[0, 1, 1, 0]]  # raising, then lowering: few units stand in both
    assert of_class.places[0, 1].tolist() == [[-2, 0], [0, 8]]
    assert runner_up.tolist() == [2] and of_margin.score.tolist() == [16]
    assert of_margin.contributions.tolist() == [[11, 6 - 2]] and of_margin.remainder.tolist() == [1]


def test_runner_up_of_a_class_that_is_not_predicted_is_the_predicted_one():
    model = planted()
    logits = model(IMAGES)
    _, of_margin, runner_up = contributions.explain(model, "1", IMAGES, logits.argmin(1))
    assert torch.equal(runner_up, logits.argmax(1)) and (of_margin.score < 0).all()


def test_pooling_and_a_linear_head_give_the_exact_product():
    model = planted()
    units, remainder, logits = contributions.account(model, "1", IMAGES, TARGETS)
    pooled = model[:4](IMAGES).detach()
    torch.testing.assert_close(units, (pooled * model[4].weight[TARGETS]).double().detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(remainder, model[4].bias[TARGETS].double().detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(logits, model(IMAGES).gather(1, TARGETS[:, None])[:, 0].double().detach())


@pytest.mark.parametrize(
    ("build", "layer"), [("squeezenet1_1", "features.12"), ("resnet18", "layer3"), ("swin_t", "features.5")]
)
def test_accounts_add_up_in_real_architectures_and_their_maps_to_hirescam(build, layer):
    torch.manual_seed(3)
    model = torchvision.models.get_model(build, weights=None, num_classes=7).eval()
    units, remainder, logits = contributions.account(model, layer, IMAGES, TARGETS)
    expected = model(IMAGES).detach().gather(1, TARGETS[:, None])[:, 0].double()
    torch.testing.assert_close(units.sum(1) + remainder, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    raw = cam.raw_maps(model, layer, IMAGES, TARGETS, method="hirescam")
    of_class, *_ = contributions.explain(model, layer, IMAGES, TARGETS)
    assert of_class.places.shape[2:] == raw.shape[1:]
    few, size = 2, raw.shape[1:]
    grids = torch.stack([_all_places(model, layer, IMAGES[i : i + 1], TARGETS[i : i + 1]) for i in range(few)])
    torch.testing.assert_close(grids.sum(1).relu(), raw[:few].view(few, *size), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grids.sum((2, 3)).double(), units[:few], rtol=1e-4, atol=1e-5)


def _all_places(model, layer, image, target):
    """What each unit of a layer contributes at each position (units, h, w), with gradients of the whole network."""
    kept = {}
    handle = model.get_submodule(layer).register_forward_hook(lambda *args: kept.update(output=args[2]))
    score = model(image.clone().requires_grad_())[0, target]
    handle.remove()
    (gradient,) = torch.autograd.grad(score.sum(), kept["output"])
    products = (kept["output"] * gradient).detach()[0]
    return products.movedim(-1, 0) if layer.startswith("features.5") else products


def test_a_class_token_is_an_item_of_its_own():
    patches = 16
    model = Tokens(torch.cat([torch.tensor([3.0]), torch.full((patches,), 0.5)]))
    targets = torch.tensor([0, 1, 2, 0, 1])
    of_class, *_ = contributions.explain(model, "block", IMAGES, targets)
    torch.testing.assert_close(of_class.tokens, 3 * model.head.weight[targets].sum(1).double().detach())
    assert of_class.remainder.abs().max() < 1e-5 and of_class.places.shape == (5, 7, 4, 4)
    _, remainder, _ = contributions.account(model, "block", IMAGES, targets)
    torch.testing.assert_close(remainder, of_class.tokens, rtol=0, atol=1e-5)
    only = Tokens(torch.cat([torch.tensor([1.0]), torch.zeros(patches)]))
    of_class, *_ = contributions.explain(only, "block", IMAGES, targets)
    assert not of_class.contributions.any() and of_class.tokens.abs().min() > 0


def test_units_without_positions_have_an_account():
    model = planted()
    units, _, _ = contributions.account(model, "3", IMAGES, TARGETS)
    torch.testing.assert_close(units, contributions.account(model, "1", IMAGES, TARGETS)[0], rtol=1e-4, atol=1e-6)
    assert contributions.explain(model, "3", IMAGES, TARGETS)[0].places.shape == (5, 8, 1, 1)


def test_one_logit_is_the_second_of_two():
    model, twin = planted(classes=1), planted(classes=2)
    with torch.no_grad():
        twin[4].weight.copy_(torch.cat([torch.zeros_like(model[4].weight), model[4].weight]))
        twin[4].bias.copy_(torch.cat([torch.zeros_like(model[4].bias), model[4].bias]))
    heads.attach(model, kind="binary", classes=2)
    targets = torch.tensor([0, 1, 0, 1, 1])
    for ours, theirs in zip(
        *(contributions.explain(each, "1", IMAGES, targets)[:2] for each in (model, twin)), strict=True
    ):
        torch.testing.assert_close(ours.contributions, theirs.contributions)
        torch.testing.assert_close(ours.score, theirs.score)


def test_one_class_has_no_runner_up():
    model = planted(classes=1)
    of_class, of_margin, runner_up = contributions.explain(model, "1", IMAGES, torch.zeros(5, dtype=int))
    assert (runner_up == -1).all() and of_margin.contributions.isnan().all() and of_margin.score.isnan().all()
    assert of_class.contributions.isfinite().all()


@pytest.mark.parametrize("chunk", [1, 2, 64])
def test_parts_do_not_change_the_account(chunk):
    whole = contributions.account(planted(), "1", IMAGES, TARGETS)
    for ours, theirs in zip(contributions.account(planted(), "1", IMAGES, TARGETS, chunk=chunk), whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_network_is_left_as_it_was():
    model = planted().train()
    contributions.account(model, "1", IMAGES, TARGETS)
    assert model.training and all(each.requires_grad and each.grad is None for each in model.parameters())


def test_a_unit_of_a_million_and_a_constant_image():
    model = planted(bias=False)
    with torch.no_grad():
        model[0].weight[0] *= 1e6
    images = torch.cat([IMAGES[:1], torch.zeros_like(IMAGES[:1])])
    units, remainder, logits = contributions.account(model, "1", images, torch.tensor([0, 1]))
    assert ((units.sum(1) + remainder - logits).abs() <= 1e-4 * units.abs().sum(1).clamp(min=1)).all()


class Root(nn.Module):
    def forward(self, x):
        return x.sqrt()


def test_an_image_whose_contributions_are_not_finite_is_named():
    """The slope of a root is infinite at 0, where the logit is finite."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), Root(), nn.Flatten(), nn.Linear(8, 3))
    nn.init.ones_(model[0].weight)
    images = torch.ones(3, 1, 2, 2)
    images[2] = 0
    with pytest.raises(items.ItemError, match="NaN or infinite contributions: layer '0', image 2") as error:
        contributions.explain(model, "0", images, torch.tensor([0, 1, 2]))
    assert list(error.value.reasons) == [2]


def test_predictions_without_an_account_have_nothing_known():
    none = contributions.nothing(2)
    assert none["runner_up"].tolist() == [-1, -1] and none["contributions"].shape == (2, 0)
    assert none["margin_score"].isnan().all()


def test_images_of_half_precision_are_explained_without_an_account_and_say_why():
    account = run.account_explainer(planted(), "1", lambda images: images.bfloat16(), batch_size=2)
    found = account(IMAGES, TARGETS, [*"abcde"])
    assert found["contributions"].shape == (5, 0)
    assert len(found["warning"]) == 5 and all("an account needs float32" in text for text in found["warning"])


def test_what_has_no_account_is_refused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.relu, self.unused = planted(), nn.ReLU(), nn.Linear(1, 1)

        def forward(self, images):
            return self.relu(self.inner(self.relu(images)))

    targets = TARGETS
    with pytest.raises(ValueError, match="'relu' runs 2 times"):
        contributions.account(Twice(), "relu", IMAGES, targets)
    with pytest.raises(ValueError, match="'unused' does not influence the output"):
        contributions.account(Twice(), "unused", IMAGES, targets)
    with pytest.raises(ValueError, match=r"needs float32: in torch\.bfloat16"):
        contributions.account(planted(), "1", IMAGES.bfloat16(), targets)
    with pytest.raises(ValueError, match="`targets` of image 4: got 7, allowed 0 to 6"):
        contributions.account(planted(), "1", IMAGES, torch.tensor([0, 1, 2, 3, 7]))
    broken = IMAGES.clone()
    broken[3] = torch.nan
    with pytest.raises(items.ItemError, match="layer '1', image 3") as caught:
        contributions.account(planted(), "1", broken, targets, chunk=2)
    assert caught.value.reasons == {3: items.NOT_FINITE}
