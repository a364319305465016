"""What a network is, told by running it: small networks whose layers and heads are known."""

import pytest
import torch
from torch import nn
from unitlens.networks import build, heads
from unitlens.networks import describe as describe_module
from unitlens.networks.describe import describe, pooling_of

CLASSES = list("abcde")


class Toy(nn.Sequential):
    """Two convolutions, a ReLU in place, a head, and a branch that never runs."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Flatten()
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        for i in range(4):
            x = self[i](x)
        return self.head(self.pool(x))


class Tokens(nn.Module):
    """Patches of 8 pixels as tokens, others before them, one mixing layer, and a head that reads some of them."""

    def __init__(self, prefix, reads):
        super().__init__()
        self.patches, self.before = nn.Conv2d(3, 6, 8, 8), nn.Parameter(torch.randn(1, prefix, 6))
        self.block, self.norm = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), nn.LayerNorm(6)
        self.head, self.reads = nn.Linear(12 if reads == "both" else 6, 5), reads

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        before = self.before.expand(len(x), -1, -1)
        x = self.norm(self.block(torch.cat([before, x], dim=1)))
        prefix = before.shape[1]
        first, patches = x[:, :prefix].flatten(1)[:, :6], x[:, prefix:].mean(1)
        read = {"first": first, "patches": patches, "all": x.mean(1), "both": torch.cat([first, patches], 1)}
        return self.head(read[self.reads] if prefix or self.reads == "patches" else x.mean(1))


def network(model):
    torch.manual_seed(0)
    return model.eval().requires_grad_(False)


def test_shapes_and_counts():
    facts = describe(network(Toy()), ["0", "3"], crop=10, classes=CLASSES, name="toy")
    # 4 * 3 * 9 + 4, 2 * 4, 5 * 4 + 5, 2 * 2 + 2
    unit = {"grid": [8, 8], "prefix_tokens": 0, "pooling": "positions"}
    assert facts == {
        "parameters": 112 + 8 + 25 + 6,
        "classes": 5,
        "channels_last": True,
        "output": {"returns": "Tensor", "read": "the tensor itself", "shape": [5], "head": "softmax"},
        "layers": {"0": [4, 8, 8], "3": [5, 8, 8]},
        "units": {"0": {"units": 4} | unit, "3": {"units": 5} | unit},
    }
    assert [pooling_of(facts, "0", positions) for positions in ("avg", "max")] == ["avg", "max"]


def test_images_that_are_not_square_and_other_channels():
    model = network(nn.Sequential(nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5)))
    facts = describe(model, ["0"], crop=[10, 20], channels=4, classes=CLASSES, name="toy")
    assert facts["units"]["0"]["grid"] == [8, 18]


def test_all_misspelt_layers_are_named_at_once():
    model = build.build("torchvision:resnet18").eval()
    message = (
        r"^resnet has no layer 'layer9'; nearest: .*layer\d.*; resnet has no layer 'layer4.1.conv9'; nearest: .*conv"
    )
    with pytest.raises(ValueError, match=message):
        describe(model, ["layer9", "layer4", "layer4.1.conv9"], crop=32, classes=["a"] * 1000, name="resnet")


@pytest.mark.parametrize(
    ("architecture", "crop"), [("torchvision:squeezenet1_1", 16), ("timm:vit_tiny_patch16_224", 227)]
)
def test_images_that_the_network_cannot_take_are_named(architecture, crop):
    """Too small for the strides of one, not the size that the other was built for."""
    with pytest.raises(ValueError, match=rf"net cannot take images of {crop} x {crop} pixels; set `preprocessing"):
        describe(build.build(architecture).eval(), [], crop=crop, classes=["a"] * 1000, name="net")


class Changed(Toy):
    """Its images are changed by a function before, its scores by one after."""

    def __init__(self, before=lambda x: x, after=lambda y: y):
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x):
        return self.after(super().forward(self.before(x)))


@pytest.mark.parametrize("before", [lambda x: x.sub_(0.5), lambda x: x[:, :3].relu_(), lambda x: x.clamp_(-1, 1)])
def test_a_network_that_changes_the_images_is_refused(before):
    """What runs on them afterwards would see others, without a word."""
    with pytest.raises(ValueError, match=r"toy changes the images that it is given, .* begin with a copy, `x = x - 0"):
        describe(network(Changed(before)), ["0"], crop=10, classes=CLASSES, name="toy")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_on_any_image_are_refused(value):
    def spoil(scores):
        return torch.cat([scores[:, :4], torch.full_like(scores[:, :1], value)], 1)

    with pytest.raises(ValueError, match="toy returns NaN or infinity for each of 3 test images"):
        describe(network(Changed(after=spoil)), ["0"], crop=10, classes=CLASSES, name="toy")


def test_a_class_of_minus_infinity_is_one_that_is_never_predicted():
    def forbid(scores):
        return torch.cat([scores[:, :4], torch.full_like(scores[:, :1], -torch.inf)], 1)

    assert describe(network(Changed(after=forbid)), ["0"], crop=10, classes=CLASSES, name="toy")["classes"] == 5


@pytest.mark.parametrize("error", [TypeError("missing 1 required argument: 'mask'"), KeyError("pixel_values")])
def test_whatever_the_code_of_a_network_raises_names_the_network(error):
    def fail(x):
        raise error

    told = rf"toy does not take a batch of images, \(3, 3, 10, 10\), and nothing else: {type(error).__name__}: {error}"
    with pytest.raises(ValueError, match=told):
        describe(network(Changed(fail)), ["0"], crop=10, classes=CLASSES, name="toy")


def test_what_the_config_cannot_mean_is_refused():
    model = network(Toy())
    with pytest.raises(ValueError, match=r"toy returns \(5,\) outputs an image, but its classes list 4 names"):
        describe(model, ["0"], crop=10, classes=list("abcd"), name="toy")
    with pytest.raises(ValueError, match="toy: the forward pass does not run unused, 0#2"):
        describe(model, ["0", "unused", "0#2"], crop=10, classes=CLASSES, name="toy")


# ---- calls


def test_a_module_that_runs_several_times_lists_its_calls():
    """ResNet-50's blocks run one ReLU after each convolution: the last one has four times as many channels."""
    model = network(build.build("torchvision:resnet50"))
    facts = describe(model, ["layer4.2.relu", "layer4.2.relu#1"], crop=64, classes=["a"] * 1000, name="resnet")
    calls = [[512, 2, 2], [512, 2, 2], [2048, 2, 2]]
    assert facts["layers"] == {"layer4.2.relu": [2048, 2, 2], "layer4.2.relu#1": [512, 2, 2]}
    assert [facts["units"][layer]["calls"] for layer in facts["layers"]] == [calls, calls]


# ---- tokens


@pytest.mark.parametrize(
    ("prefix", "reads", "pooling"),
    [
        (0, "patches", "positions"),
        (1, "first", "cls"),
        (2, "first", "cls"),
        (5, "first", "cls"),
        (1, "patches", "positions"),  # a class token that the head does not read
        (5, "patches", "positions"),
    ],
)
def test_the_class_token_is_taken_where_the_head_reads_it(prefix, reads, pooling):
    model = network(Tokens(prefix, reads))
    for layer in ("block", "norm"):
        facts = describe(model, [layer], crop=40, classes=CLASSES, name="net")["units"][layer]
        assert facts == {"units": 6, "grid": [5, 5], "prefix_tokens": prefix, "pooling": pooling}
        chosen = describe(model, [layer], crop=40, classes=CLASSES, name="net", pooling="max")
        assert pooling_of(chosen, layer, "avg") == "max"


@pytest.mark.parametrize("reads", ["all", "both"])
def test_an_inference_that_is_not_certain_names_the_key(reads):
    message = (
        r"^net: layer 'block' gives 1 token before the patches, and what the network's head makes of them is not "
        r"certain "
        r"\(it reads these and the patches\); set `pooling` to cls \(the first token\), avg or max \(the patches\)$"
    )
    with pytest.raises(ValueError, match=message):
        describe(network(Tokens(1, reads)), ["block"], crop=40, classes=CLASSES, name="net")
    facts = describe(network(Tokens(1, reads)), ["block"], crop=40, classes=CLASSES, name="net", pooling="cls")
    assert facts["units"]["block"]["pooling"] == "cls"


def test_a_class_token_of_maps_is_refused():
    with pytest.raises(
        ValueError, match=r"^toy: layer '0' gives maps, which have no class token; `pooling` allows auto"
    ):
        describe(network(Toy()), ["0"], crop=10, classes=CLASSES, name="toy", pooling="cls")


@pytest.mark.parametrize(
    ("architecture", "layer", "pooling"),
    [
        ("timm:mixer_s32_224", "blocks.3", "positions"),
        ("timm:cait_xxs24_224", "blocks.3", "positions"),
        ("timm:xcit_nano_12_p16_224", "blocks.3", "positions"),
        ("timm:xcit_nano_12_p16_224", "cls_attn_blocks.0", "cls"),
        ("timm:vit_tiny_patch16_224", "blocks.3", "cls"),
        ("timm:deit_tiny_distilled_patch16_224", "blocks.3", "cls"),
        ("timm:vit_xsmall_patch16_clip_224", "blocks.3", "cls"),
        ("timm:test_vit2", "blocks.1", "positions"),
        ("torchvision:vit_b_32", "encoder.layers.encoder_layer_3", "cls"),  # its untrained head is zero
    ],
)
def test_networks_with_and_without_class_token(architecture, layer, pooling):
    model = network(build.build(architecture))
    classes = getattr(model, "num_classes", 1000)
    heads.attach(model, classes=classes)
    crop = getattr(model, "default_cfg", {"input_size": [224]})["input_size"][-1]
    facts = describe(model, [layer], crop=crop, classes=["a"] * classes, name="net")
    assert facts["units"][layer]["pooling"] == pooling


@pytest.mark.parametrize(
    ("architecture", "layer", "message"),
    [
        (
            "timm:nest_tiny_jx",
            "levels.0.transformer_encoder.0",
            r"\(3, 16, 196, 96\) for images of 224 x 224, which is not a spatial grid; the nearest layer that works is "
            r"'levels.0', \(96, 56, 56\)",
        ),
        (
            "timm:swin_tiny_patch4_window7_224",
            "layers.1.blocks.0.attn",
            r"\(48, 49, 192\) for 3 images, 16 for each: its rows are not images but, for example, windows; the "
            r"nearest layer that works is 'layers.1.blocks.0'",
        ),
        ("timm:mixer_s32_224", "blocks.3.mlp_tokens", "not a spatial grid; the nearest layer that works is 'blocks.3'"),
        (
            "timm:vit_tiny_patch16_224",
            "blocks.3.attn.q_norm",
            "not a spatial grid; the nearest layer that works is 'blocks.3.attn'",
        ),
        ("torchvision:vit_b_16", "encoder.layers.encoder_layer_0.self_attention", "a tuple, not a tensor; the nearest"),
    ],
)
def test_what_cannot_be_pooled_names_the_nearest_layer_that_works(architecture, layer, message):
    model = network(build.build(architecture))
    with pytest.raises(ValueError, match=rf"^net: layer '{layer}' returns .*{message}"):
        describe(model, [layer], crop=224, classes=["a"] * 1000, name="net")


class Transposed(nn.Module):
    """Mixes tokens by a layer whose rows are channels, as many as a square number."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix, self.head = nn.Conv2d(3, 64, 8, 8), nn.Linear(25, 25), nn.Linear(64, 5)

    def forward(self, x):
        return self.head(self.mix(self.patches(x).flatten(2)).mean(2))


def test_rows_that_are_channels_are_not_taken_for_tokens():
    with pytest.raises(
        ValueError, match=r"\(3, 64, 25\), whose 64 rows are not the positions of the maps before it \(5 x"
    ):
        describe(network(Transposed()), ["mix"], crop=40, classes=CLASSES, name="net")


class Windows(nn.Module):
    """Four windows of an image as rows, wherever they are named."""

    def __init__(self):
        super().__init__()
        self.windows, self.mix = nn.Conv2d(3, 5, 4), nn.Linear(5, 5)

    def forward(self, x):
        rows = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        return self.mix(self.windows(rows).flatten(1)).view(len(x), 4, 5).mean(1)


def test_a_network_without_any_spatial_layer_says_so():
    message = r"^net: layer 'mix' returns \(12, 5\) for 3 images, 4 .*; no layer of the network gives a spatial grid$"
    with pytest.raises(ValueError, match=message):
        describe(network(Windows()), ["mix"], crop=8, classes=CLASSES, name="net")


class Several(nn.Module):
    """A list, and maps of windows, before tokens: neither says where the tokens lie."""

    def __init__(self):
        super().__init__()
        self.list, self.windows, self.tokens = Listed(), nn.Conv2d(3, 5, 2), nn.Linear(192, 5)

    def forward(self, x):
        (x,) = self.list(x)
        self.windows(x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(0, 2))
        patches = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5)
        return self.tokens(patches.flatten(3).flatten(1, 2)).mean(1)


class Listed(nn.Module):
    def forward(self, x):
        return [x]


def test_tokens_are_compared_with_maps_of_whole_images_alone():
    facts = describe(network(Several()), ["tokens"], crop=40, classes=CLASSES, name="net")
    assert facts["units"]["tokens"]["grid"] == [5, 5]


class Attention(nn.Module):
    """Gives the weights of an attention as a layer."""

    def __init__(self):
        super().__init__()
        self.tokens, self.weights, self.head = nn.Linear(192, 6), nn.Softmax(-1), nn.Linear(6, 5)

    def forward(self, x):
        patches = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
        tokens = self.tokens(patches)
        weights = self.weights((tokens @ tokens.transpose(1, 2))[:, None])
        return self.head((weights[:, 0] @ tokens).mean(1))


def test_weights_between_tokens_are_not_taken_for_maps():
    message = r"\(3, 1, 25, 25\), which is one weight for each pair of 25 tokens, not a map; the nearest .* 'tokens'"
    with pytest.raises(ValueError, match=message):
        describe(network(Attention()), ["weights"], crop=40, classes=CLASSES, name="net")


@pytest.mark.parametrize(
    ("grid", "maps", "halved"),
    [
        ((7, 7), (7, 7), True),
        ((3, 4), (7, 7), True),  # strides round down or up
        ((1, 1), (2, 2), True),
        ((1, 1), (7, 5), True),
        ((5, 5), (7, 7), False),
        ((7, 1), (7, 7), False),
        ((8, 8), (7, 7), False),
    ],
)
def test_a_grid_is_that_of_the_maps_before_it_or_a_coarser_one(grid, maps, halved):
    assert describe_module._halved(grid, maps) is halved


def test_a_network_is_tried_on_a_black_image_and_on_noise_that_is_always_the_same():
    seen = []

    class Recording(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images):
            seen.append(images)
            return self.conv(images).mean((2, 3))

    for seed in (1, 2):
        torch.manual_seed(seed)
        describe_module.describe(Recording(), ["conv"], crop=(8, 6), classes=list("abcd"), name="net")
    first, *others = (images for images in seen if len(images) == describe_module._IMAGES)
    assert len(others) % 2 == 1 and all(first.equal(images) for images in others) and first.shape[1:] == (3, 8, 6)
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not first[0].any() and -2 <= first[1:].min() < -1.5 and 1.5 < first[1:].max() <= 2


def test_matrices_of_zeros_are_filled_for_a_moment_and_nothing_else():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.zero_(), model[0].bias.zero_()
    before = [parameter.clone() for parameter in model.parameters()]
    with describe_module._without_blanks(model):
        blank, *others = model.parameters()
        assert blank.all() and len(set(blank.flatten().tolist())) == 6
        assert all(own.equal(old) for own, old in zip(others, before[1:], strict=True))
    assert all(own.equal(old) for own, old in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(("changed", "differ"), [(999.2, False), (998.8, True)])
def test_scores_differ_by_more_than_a_thousandth_of_the_largest(changed, differ):
    """Half precision rounds by up to half as much."""
    assert describe_module._differ(torch.tensor([[-1000.0, 3]]), torch.tensor([[-changed, 3]])) is differ


@pytest.mark.parametrize(("total", "refused"), [(1.0008, True), (1.0012, False), (0.9988, False)])
def test_outputs_that_sum_to_one_but_for_rounding_are_probabilities(total, refused):
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model[0].weight.data.zero_(), model[0].bias.data.fill_(total / 5)
    if refused:
        with pytest.raises(ValueError, match=r"already returns probabilities \(its outputs sum to 1 on every image\)"):
            describe(network(model), ["0"], crop=8, classes=CLASSES, name="net")
    else:
        assert describe(network(model), ["0"], crop=8, classes=CLASSES, name="net")["output"]["head"] == "softmax"
