"""Small networks of every kind that people have, and what the code of their authors gives.

Each is an architecture ``kinds:<name>``, a function without arguments, where `tests` is on PYTHONPATH.
"""

import dataclasses
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
import toy
from torch import nn
from transformers import ViTConfig, ViTForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput

CLASSES = 5
TWO = "config/two.txt"  # the names of two classes


class Convolutions(nn.Module):
    """Two convolutions and a linear layer; `ending` turns the logits (n, outputs) into what is returned."""

    def __init__(self, ending=lambda logits: logits, outputs=CLASSES, channels=3):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.fc, self.ending = nn.Linear(8, outputs), ending

    def forward(self, x):
        features = self.conv2(self.conv1(x).relu()).relu().mean((2, 3))
        return self.ending(20 * self.fc(features))


class SharedRelu(nn.Module):
    """One ReLU after each of two convolutions, of 6 and of 8 channels."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(8, CLASSES)

    def forward(self, x):
        x = self.relu(self.conv1(x))
        return 20 * self.fc(self.relu(self.conv2(x)).mean((2, 3)))


class Tokens(nn.Module):
    """Patches of 8 pixels as tokens behind `prefix` others, two blocks, and a head that reads some of them."""

    def __init__(self, prefix=0, reads="patches"):
        super().__init__()
        self.patches, self.before = nn.Conv2d(3, 12, 8, 8), nn.Parameter(torch.randn(1, prefix, 12))
        self.blocks = nn.Sequential(*(nn.TransformerEncoderLayer(12, 2, 16, batch_first=True) for _ in range(2)))
        self.head, self.prefix, self.reads = nn.Linear(12, CLASSES), prefix, reads

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.blocks(torch.cat([self.before.expand(len(x), -1, -1), x], dim=1))
        first, patches = x[:, 0], x[:, self.prefix :].mean(1)
        return 3 * self.head({"first": first, "patches": patches, "both": first + patches}[self.reads])


class Mixer(nn.Module):
    """Linear layers over patches and over channels in turn: tokens, none of which is a class token."""

    def __init__(self):
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 12, 8, 8), nn.LayerNorm(12)
        self.mix, self.block = nn.Linear(16, 16), nn.Linear(12, 12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return 5 * self.head(self.block(x).tanh().mean(1))


class ChannelsLast(nn.Module):
    """Maps (n, h, w, units), as Swin has them."""

    def __init__(self):
        super().__init__()
        self.patches, self.block, self.head = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 10), nn.Linear(10, CLASSES)

    def forward(self, x):
        x = self.block(self.patches(x).movedim(1, 3))
        return 8 * self.head(x.tanh().mean((1, 2)))


class Windows(nn.Module):
    """Four windows of an image as rows of the batch, then maps again."""

    def __init__(self, nested=False):
        super().__init__()
        self.patches, self.attention, self.nested = nn.Conv2d(3, 6, 4, 4), nn.Linear(6, 6), nested
        self.merged, self.head = nn.Conv2d(6, 8, 1), nn.Linear(8, CLASSES)

    def forward(self, x):
        maps = self.patches(x)  # (n, 6, 8, 8)
        windows = maps.unflatten(2, (2, 4)).unflatten(4, (2, 4)).permute(0, 2, 4, 3, 5, 1)  # (n, 2, 2, 4, 4, 6)
        shape = (len(x), 4, 16, 6) if self.nested else (-1, 16, 6)
        windows = self.attention(windows.reshape(shape)).reshape(len(x), 2, 2, 4, 4, 6)
        maps = windows.permute(0, 5, 1, 3, 2, 4).reshape(len(x), 6, 8, 8)
        return self.head(self.merged(maps).mean((2, 3)))


class PixelsOfItsOwn(Convolutions):
    """Another preparation of the input inside, as torchvision's `transform_input`."""

    def forward(self, x):
        return super().forward(torch.stack([2 * x[:, 0] + 0.1, 0.5 * x[:, 1], x[:, 2] - 0.2], dim=1))


class Views(nn.Module):
    """Maps whose positions become features by `view`, which needs them as torch lays them out by default."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 4, 1)
        self.fc = nn.Linear(8 * 16, CLASSES)

    def forward(self, x):
        maps = self.conv2(self.conv1(x.view(len(x), 3, -1).view(x.shape)).relu()).relu()
        return 8 * self.fc(maps.view(len(maps), -1))


class Fourier(nn.Module):
    """A filter of complex weights between convolutions."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)
        self.filter = nn.Parameter(torch.randn(6, 16, 9, dtype=torch.cfloat))
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = torch.fft.irfft2(torch.fft.rfft2(self.conv1(x)) * self.filter, s=(16, 16))
        return 10 * self.fc(self.conv2(x.relu()).relu().mean((2, 3)))


class InPlace(Convolutions):
    """What follows a layer overwrites its output."""

    def forward(self, x):
        maps = self.conv2(self.conv1(x).relu_()).mul_(2).relu_()
        return 20 * self.fc(maps.mean((2, 3)))


class Norms(Convolutions):
    """A batch norm that has no running statistics: what an image gives depends on its batch."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6, track_running_stats=False)

    def forward(self, x):
        return 20 * self.fc(self.conv2(self.norm(self.conv1(x)).relu()).relu().mean((2, 3)))


class BatchesOnly(Convolutions):
    """The same of one number a channel: one image alone has no variance."""

    def forward(self, x):
        features = self.conv2(self.conv1(x).relu()).relu().mean((2, 3))
        return self.fc(nn.functional.batch_norm(features, None, None, training=True))


@dataclasses.dataclass
class Result:
    embedding: torch.Tensor
    scores: torch.Tensor


def _side(logits):
    return logits.new_zeros(len(logits), 7)


def plain():
    return Convolutions()


def sequence():
    layers = {"conv1": nn.Conv2d(3, 6, 3, 2, 1), "relu": nn.ReLU(inplace=True), "conv2": nn.Conv2d(6, 8, 3, 2, 1)}
    return nn.Sequential(
        OrderedDict(layers | {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": nn.Linear(8, 5)})
    )


def shared_relu():
    return SharedRelu()


def class_token():
    return Tokens(1, "first")


def registers():
    return Tokens(5, "first")


def no_class_token():
    return Tokens()


def unread_token():
    return Tokens(1)


def both_tokens():
    return Tokens(1, "both")


def mixer():
    return Mixer()


def channels_last():
    return ChannelsLast()


def windows():
    return Windows()


def nested():
    return Windows(nested=True)


def dictionary():
    return Convolutions(lambda logits: {"loss": None, "logits": logits, "probs": logits.softmax(1)})


def dictionary_by_key():
    return Convolutions(lambda logits: {"auxiliary": -logits, "main": logits})


def with_features():
    return Convolutions(lambda logits: (logits, _side(logits)))


def by_index():
    return Convolutions(lambda logits: [-logits, logits])


def model_output():
    return Convolutions(lambda logits: ImageClassifierOutput(logits=logits, hidden_states=(_side(logits),)))


def by_attribute():
    return Convolutions(lambda logits: SimpleNamespace(auxiliary=-logits, main=logits))


def of_a_class():
    return Convolutions(lambda logits: Result(_side(logits), logits))


def nest():
    return Convolutions(lambda logits: ({"head": {"out": logits}}, -logits))


def pixel_maps():
    return Convolutions(lambda logits: logits[..., None, None])


def transposed():
    return Convolutions(lambda logits: logits.T.contiguous().T)


def one_logit():
    return Convolutions(outputs=1)


def one_flat_logit():
    return Convolutions(lambda logits: logits[:, 0], outputs=1)


def ends_in_softmax():
    return Convolutions(lambda logits: logits.softmax(1))


def ends_in_sigmoid():
    return Convolutions(torch.sigmoid, outputs=1)


def gray():
    return Convolutions(channels=1)


def four_channels():
    return Convolutions(channels=4)


def pixels_of_its_own():
    return PixelsOfItsOwn()


def in_place():
    return InPlace()


def views():
    return Views()


def fourier():
    return Fourier()


def halves():
    return Convolutions().half()


def no_statistics():
    return Norms()


def batches_only():
    return BatchesOnly()


def always_drops():
    return Convolutions(lambda logits: nn.functional.dropout(logits, 0.5, training=True))


def never_finite():
    return Convolutions(lambda logits: logits * torch.nan)


def whole_numbers():
    return Convolutions(lambda logits: logits.round().long())


def only_the_class():
    return Convolutions(lambda logits: logits.argmax(1))


def one_class():
    return Convolutions(outputs=1)


def many_classes():
    return Convolutions(outputs=100_000)


# ---- what their authors write and read


class Kind(NamedTuple):
    """A network, what the config says of it, and how its author reads it."""

    build: Callable[[], torch.nn.Module]
    settings: dict = {}  # noqa: RUF012
    layer: str = "conv2"
    scores: Callable = lambda output: output  # (n, classes), of what the network returns
    probabilities: Callable = lambda scores: scores.softmax(1)
    maps: Callable = lambda output: output  # (n, units, h, w), of what the layer returns
    pooled: Callable | None = None  # (n, units), of what the layer returns; by default the mean of the maps
    saved: Callable = lambda state: state  # what lies in the checkpoint


def grid(prefix):
    return lambda tokens: tokens[:, prefix:].transpose(1, 2).unflatten(2, (4, 4))


def first(tokens):
    return tokens[:, 0]


def zero_and(logit):
    return torch.cat([0 * logit, logit], dim=1)


def tokens(build, prefix=0, pooled=None, **settings):
    return Kind(build, settings, "blocks.0", maps=grid(prefix), pooled=pooled)


def below(*keys, prefix=""):
    """Put a state below keys of a checkpoint, its names behind a prefix."""

    def save(state):
        content = {prefix + name: values for name, values in state.items()}
        for key in keys:
            content = {key: content, "epoch": 3}
        return content

    return save


def averaged(state):
    return {"model": {name: values + 1 for name, values in state.items()}, "model_ema": state}


def vit():
    sizes = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8, num_labels=5))


def googlenet():
    return torchvision.models.googlenet(num_classes=5, transform_input=True, init_weights=False, aux_logits=False)


NARROW = toy.PREPROCESSING | {"resize": [24, 40], "crop": [24, 40]}
GRAY = toy.PREPROCESSING | {"mean": [0.5], "std": [0.25]}
KINDS = {
    "plain": Kind(plain),
    "sequence": Kind(sequence),
    "shared_relu": Kind(shared_relu, layer="relu"),
    "shared_relu_first": Kind(shared_relu, layer="relu#1"),
    "class_token": tokens(class_token, 1, first),
    "registers": tokens(registers, 5, first),
    "no_class_token": tokens(no_class_token),
    "unread_token": tokens(unread_token, 1),
    "both_tokens_cls": tokens(both_tokens, 1, first, pooling="cls"),
    "both_tokens_max": tokens(both_tokens, 1, lambda output: output[:, 1:].amax(1), pooling="max"),
    "mixer": Kind(mixer, layer="block", maps=grid(0)),
    "channels_last": Kind(channels_last, layer="block", maps=lambda output: output.movedim(3, 1)),
    "around_windows": Kind(windows, layer="merged"),
    "dictionary": Kind(dictionary, scores=lambda output: output["logits"]),
    "dictionary_by_key": Kind(dictionary_by_key, {"output": "main"}, scores=lambda output: output["main"]),
    "with_features": Kind(with_features, scores=lambda output: output[0]),
    "by_index": Kind(by_index, {"output": 1}, scores=lambda output: output[1]),
    "model_output": Kind(model_output, scores=lambda output: output.logits),
    "by_attribute": Kind(by_attribute, {"output": "main"}, scores=lambda output: output.main),
    "of_a_class": Kind(of_a_class, scores=lambda output: output.scores),
    "nest": Kind(nest, {"output": "0.head.out"}, scores=lambda output: output[0]["head"]["out"]),
    "pixel_maps": Kind(pixel_maps, scores=lambda output: output[..., 0, 0]),
    "transposed": Kind(transposed),
    "one_logit": Kind(one_logit, {"head": "binary", "classes": TWO}, scores=zero_and),
    "one_flat_logit": Kind(
        one_flat_logit, {"head": "binary", "classes": TWO}, scores=lambda output: zero_and(output[:, None])
    ),
    "several_labels": Kind(plain, {"head": "sigmoid"}, probabilities=torch.sigmoid),
    "ends_in_softmax": Kind(ends_in_softmax, {"head": "probabilities"}, probabilities=lambda scores: scores),
    "ends_in_sigmoid": Kind(
        ends_in_sigmoid,
        {"head": "probabilities", "classes": TWO},
        scores=lambda output: torch.cat([1 - output, output], dim=1),
        probabilities=lambda scores: scores,
    ),
    "gray": Kind(gray, {"preprocessing": GRAY}),
    "not_square": Kind(plain, {"preprocessing": NARROW}),
    "pixels_of_its_own": Kind(pixels_of_its_own),
    "googlenet": Kind(googlenet, {"architecture": "torchvision:googlenet"}, "inception4e"),
    "in_place": Kind(in_place),
    "halves": Kind(halves),
    "views": Kind(views),
    "fourier": Kind(fourier),
    "parallel": Kind(plain, saved=below("model_state_dict", prefix="module.")),
    "lightning": Kind(plain, saved=below("state_dict", prefix="model.")),
    "compiled": Kind(plain, saved=below("model", prefix="_orig_mod.")),
    "averaged": Kind(plain, {"checkpoint_key": "model_ema"}, saved=averaged),
    "hugging_face": Kind(
        vit,
        {"architecture": "transformers:org/tiny-vit"},
        "vit.layers.0",
        scores=lambda output: output.logits,
        maps=grid(1),
        pooled=first,
    ),
}


def author(name):
    """The network as its author has it, of random weights that depend on its name alone."""
    torch.manual_seed(zlib.crc32(name.encode()))
    return KINDS[name].build().eval()


def settings_of(name):
    kind = KINDS[name]
    given = {"architecture": f"kinds:{kind.build.__name__}", "weights": {"path": f"weights/{name}.bin"}}
    given |= {"classes": CLASSES, "preprocessing": toy.PREPROCESSING}
    return given | {"layers": [kind.layer], "cam_layer": kind.layer} | kind.settings


def save(name, path):
    if KINDS[name].build is not vit:
        torch.save(KINDS[name].saved(author(name).state_dict()), path)
        return
    author(name).save_pretrained(folder := path.with_suffix(""))
    with zipfile.ZipFile(path, "w") as archive:
        for file in ("config.json", "model.safetensors"):
            archive.write(folder / file, file)


def expected(name, pixels):
    """What the author's code gives for images (n, h, w, 3), uint8: Grad-CAM by autograd among it."""
    kind, settings = KINDS[name], settings_of(name)["preprocessing"]
    model = author(name).float()
    x = torch.as_tensor(pixels)[..., : len(settings["mean"])].permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor(settings["mean"])[:, None, None]) / torch.tensor(settings["std"])[:, None, None]
    module, _, call = kind.layer.partition("#")
    calls = []

    def keep(module, args, output):
        calls.append(output.clone())
        return calls[-1].clone()

    handle = model.get_submodule(module).register_forward_hook(keep)
    scores = kind.scores(model(x.contiguous()))
    handle.remove()
    output = calls[int(call or 0) - 1]
    probabilities = kind.probabilities(scores).detach()
    targets = probabilities.argmax(1)
    (gradient,) = torch.autograd.grad(scores.gather(1, targets[:, None]).sum(), output)
    output, gradient = output.detach(), gradient.detach()
    weights = kind.maps(gradient).mean((2, 3), keepdim=True)
    maps = scaled((weights * kind.maps(output)).sum(1).relu())
    saliency = scaled(F.interpolate(maps[:, None], x.shape[2:], mode="bilinear", align_corners=False)[:, 0])
    activations = kind.pooled(output) if kind.pooled else kind.maps(output).mean((2, 3))
    return {"probabilities": probabilities, "targets": targets, "saliency": saliency, "activations": activations}


def scaled(maps):
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low + 1e-7)


REFUSED = [  # network, what the config says of it, and what it is told
    (
        "both_tokens",
        {"layer": "blocks.0"},
        r"what the network's head .* is not certain .*; set `pooling` to",
    ),
    ("windows", {"layer": "attention"}, r"returns \(12, 16, 6\) for 3 images, 4 for each: .*; the nearest layer that"),
    (
        "nested",
        {"layer": "attention"},
        r"returns \(3, 4, 16, 6\) .* not a spatial grid; the nearest layer",
    ),
    (
        "dictionary_by_key",
        {},
        r"a dict with 2 outputs of 5 numbers an image; name one by `output`; it returns",
    ),
    ("one_logit", {"classes": 2}, "returns one number an image, of which a softmax is always 1: set `head: binary`"),
    ("one_class", {"classes": 1}, "returns one number an image, of which a softmax is always 1: set `head: binary`"),
    ("ends_in_softmax", {}, "already returns probabilities .*: set `head: probabilities`"),
    (
        "ends_in_sigmoid",
        {"head": "binary", "classes": 2},
        "already returns probabilities .*: set `head: probabilities`",
    ),
    ("plain", {"head": "probabilities"}, "`head: probabilities`, but the network returns .* take `head` out"),
    ("plain", {"layer": "conv9"}, "has no layer 'conv9'; nearest: conv"),
    ("plain", {"classes": 4}, r"returns \(5,\) outputs an image, but its classes list 4 names"),
    ("shared_relu", {"layer": "relu#3"}, "the forward pass does not run relu#3"),
    ("no_statistics", {}, "gives an image other scores alone than beside others"),
    ("batches_only", {}, "does not take one image alone"),
    ("always_drops", {}, "gives the same images other scores when it runs again"),
    ("never_finite", {}, "returns NaN or infinity for each of 3 test images"),
    ("whole_numbers", {}, "returns numbers of torch.int64, which have no gradient"),
    ("only_the_class", {}, "returns numbers of torch.int64, which have no gradient"),
]
