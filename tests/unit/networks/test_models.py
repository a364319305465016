"""Loading of classifiers on random weights: architectures by name, checkpoints of every layout, hostile files."""

import json
import os
import pickle
import sys
import types
from collections import OrderedDict
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn
from unitlens.explainers import run
from unitlens.networks import build, network, pretrained
from unitlens.networks.network import (
    class_names,
    load_classifier,
    load_configured,
    load_network,
    normalizer,
    pick_device,
    predictor,
    set_precision,
)
from unitlens.report import explanation_page, overview, overview_tables
from unitlens.storage.tables import read_table, write_table
from unitlens.tables import explanations, netdissect

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture
def toy(monkeypatch):
    """The module of a user's own network: two convolutions, a ReLU in place, a head, and a branch that never runs."""

    class Network(nn.Sequential):
        def __init__(self):
            super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 1))
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.head = nn.Flatten()
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            for i in range(4):
                x = self[i](x)
            return self.head(self.pool(x))

    module = types.ModuleType("own_networks")
    module.network = Network
    monkeypatch.setitem(sys.modules, "own_networks", module)
    return "own_networks:network"


@pytest.fixture
def state(toy):
    torch.manual_seed(0)
    return build.build(toy).state_dict()


class Malicious:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, path):
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


def save(content, path):
    torch.save(content, path)
    return path


# architectures


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("torchvision:resnet81", "^torchvision has no model 'resnet81'; nearest: .*resnet18"),
        ("timm:tf_efficientnet_lite9", "^timm has no model 'tf_efficientnet_lite9'; nearest: tf_efficientnet_lite"),
        ("own_networks:netwrok", "^module 'own_networks' has no function 'netwrok'; nearest: network"),
        ("own_networks:", "^module 'own_networks' has no function ''"),
    ],
)
def test_an_unknown_architecture_is_answered_with_the_nearest(toy, architecture, message):
    with pytest.raises(ValueError, match=message):
        build.build(architecture)


def test_an_architecture_comes_from_torchvision_timm_or_ones_own_module(toy):
    assert isinstance(build.build("torchvision:squeezenet1_1"), torchvision.models.SqueezeNet)
    assert type(build.build("timm:resnet10t")).__name__ == "ResNet"
    assert type(build.build(toy)).__name__ == "Network"
    assert build.build("torchvision:squeezenet1_1", classes=7).classifier[1].out_channels == 7
    assert build.build("timm:resnet10t", classes=7).fc.out_features == 7
    with pytest.raises(ModuleNotFoundError, match="no_such_networks"):
        build.build("no_such_networks:network")


def test_what_an_installed_module_lacks_is_named_and_not_the_module(tmp_path, monkeypatch):
    (tmp_path / "networks_with_a_gap.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_dependency'$"):
        build.build("networks_with_a_gap:network")


def test_ones_own_file_is_taken_from_its_path_and_nowhere_else(tmp_path, monkeypatch):
    folder, here = tmp_path / "own models", tmp_path / "here"
    folder.mkdir(), here.mkdir()
    (folder / "nets.py").write_text("import parts_of_nets\ndef network():\n    return parts_of_nets.Network()\n")
    (folder / "parts_of_nets.py").write_text("from torch.nn import Flatten as Network\n")
    for name in ("nets", "here"):
        (here / f"{name}.py").write_text("raise SystemExit('imported by accident')")
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend("")
    monkeypatch.syspath_prepend(str(here))
    assert isinstance(build.build(f"{folder}/nets.py:network"), nn.Flatten)
    assert isinstance(build.build("../own models/nets.py:network"), nn.Flatten)
    with pytest.raises(ValueError, match="has no function 'net'; nearest: network"):
        build.build(f"{folder}/nets.py:net")
    with pytest.raises(FileNotFoundError, match=f"there is no file {here}/other.py"):
        build.build("other.py:network")
    with pytest.raises(
        ModuleNotFoundError, match="no installed module 'here'; a file of your own is given by its path"
    ):
        build.build("here:network")
    assert sys.path[:2] == [str(here), ""]


# checkpoints


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 90, "arch": "toy", "state_dict": state, "best_prec1": 54.2},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_named_weights_are_loaded_whatever_their_wrapping(toy, state, tmp_path, wrap, zipped):
    torch.save(wrap(state), tmp_path / "weights.bin", _use_new_zipfile_serialization=zipped)
    loaded = load_classifier(toy, tmp_path / "weights.bin").state_dict()
    assert all(loaded[key].equal(value) for key, value in state.items())


class Torch02Pickler(pickle._Pickler):
    """Write as Python 2 and torch 0.2 did: byte strings, tensors that were on a GPU."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text):
        content = b"cuda:0" if text == "cpu" else text.encode("ascii")
        self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) + content)
        self.memoize(text)

    def save_global(self, what, name=None):
        if what is torch.FloatStorage:
            return self.write(b"ctorch.cuda\nFloatStorage\n")
        return super().save_global(what, name)

    dispatch[str], dispatch[type] = save_str, save_global


def test_checkpoint_of_torch_02_is_read_as_places365_publishes_it(tmp_path, monkeypatch):
    torch.manual_seed(0)
    expected = build.build("torchvision:resnet18", classes=365).state_dict()
    state = {f"module.{key}": value for key, value in expected.items() if "num_batches_tracked" not in key}
    content = {"epoch": 90, "arch": "resnet18", "state_dict": OrderedDict(state), "best_prec1": 54.5}

    def reduce(tensor, _):
        place = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        return torch._utils._rebuild_tensor, (tensor._typed_storage(), *place)

    module = types.SimpleNamespace(Pickler=Torch02Pickler, dump=pickle.dump, __name__="torch02")
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "__reduce_ex__", reduce)
        torch.save(content, tmp_path / "resnet18_places365.pth.tar", module, 2, _use_new_zipfile_serialization=False)
    assert b"ctorch.cuda\nFloatStorage" in (tmp_path / "resnet18_places365.pth.tar").read_bytes()
    loaded = load_classifier("torchvision:resnet18", tmp_path / "resnet18_places365.pth.tar", classes=365).state_dict()
    assert all(loaded[key].equal(value) for key, value in expected.items())
    with pytest.raises(
        ValueError,
        match=r"\(fc.weight: \(365, 512\) instead of \(364, 512\), fc.bias: .*\); `classes` lists 364$",
    ):
        load_classifier("torchvision:resnet18", tmp_path / "resnet18_places365.pth.tar", classes=364)


def test_safetensors_are_told_by_their_content(toy, state, tmp_path):
    safetensors.torch.save_file(state, tmp_path / "weights.bin")
    loaded = load_classifier(toy, tmp_path / "weights.bin").state_dict()
    assert all(loaded[key].equal(value) for key, value in state.items())


def test_a_loaded_network_is_ready_for_inference_and_hooks(monkeypatch, toy, state, tmp_path):
    called = []
    monkeypatch.setattr(network, "_keep_freed_memory", lambda: called.append("memory"))
    model = load_classifier(toy, save(state, tmp_path / "weights.bin"), device="cpu")
    assert called == ["memory"]
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(getattr(module, "inplace", False) for module in model.modules())


@pytest.mark.parametrize(
    ("largest", "called"),
    [
        (1 << 30, [("M_MMAP_THRESHOLD", 1 << 30), ("M_TRIM_THRESHOLD", 2**31 - 1)]),
        (1 << 25, [("M_MMAP_THRESHOLD", 1 << 30), ("M_MMAP_MAX", 0), ("M_TRIM_THRESHOLD", 2**31 - 1)]),  # before 2.35
        (None, []),  # another C library
    ],
)
def test_glibc_keeps_the_memory_that_tensors_free(monkeypatch, largest, called):
    names, calls = {-1: "M_TRIM_THRESHOLD", -3: "M_MMAP_THRESHOLD", -4: "M_MMAP_MAX"}, []  # of malloc.h

    def mallopt(option, value):
        calls.append((names[option], value))
        return int(names[option] != "M_MMAP_THRESHOLD" or value <= largest)

    libc = types.SimpleNamespace(mallopt=mallopt, **({} if largest is None else {"gnu_get_libc_version": None}))
    monkeypatch.setattr(network.ctypes, "CDLL", lambda name: libc)
    network._keep_freed_memory()
    assert calls == called


def test_weights_of_two_networks_are_told_apart_by_their_prefix(toy, state, tmp_path):
    both = {f"teacher.{key}": value for key, value in state.items()}
    both |= {f"student.{key}": 2 * value for key, value in state.items()}
    path = save(both, tmp_path / "weights.bin")
    loaded = load_classifier(toy, path, checkpoint_prefix="student.").state_dict()
    assert all(loaded[key].equal(2 * value) for key, value in state.items())


def test_ordered_weights_go_by_position(toy, state, tmp_path):
    renamed = {f"other.{i}": value for i, value in enumerate(state.values())}
    loaded = load_classifier(toy, save(renamed, tmp_path / "weights.bin"), layout="ordered").state_dict()
    assert all(loaded[key].equal(value) for key, value in state.items())
    with pytest.raises(
        ValueError, match=r"not fit .* 10 missing .* 11 not in the architecture \(other\.0: \(4, 3, 3, 3\), "
    ):
        load_classifier(toy, tmp_path / "weights.bin")
    renamed.pop("other.3")
    with pytest.raises(ValueError, match="holds 10 tensors, the architecture has 11"):
        load_classifier(toy, save(renamed, tmp_path / "weights.bin"), layout="ordered")


def test_ordered_weights_of_another_shape_are_refused(toy, state, tmp_path):
    swapped = dict(zip(state, reversed(state.values()), strict=True))
    with pytest.raises(ValueError, match=r"of another shape \(0\.weight: \(2,\) instead of \(4, 3, 3, 3\)"):
        load_classifier(toy, save(swapped, tmp_path / "weights.bin"), layout="ordered")


def test_everything_that_does_not_fit_is_told_at_once(toy, state, tmp_path):
    state["0.weight"] = torch.zeros(7, 3, 3, 3)
    state["fc.weight"] = state.pop("3.bias")
    message = (
        r"weights\.bin does not fit the architecture: 1 missing \(3\.bias: \(5,\)\); "
        r"1 not in the architecture \(fc\.weight: \(5,\)\); "
        r"1 of another shape \(0\.weight: \(7, 3, 3, 3\) instead of \(4, 3, 3, 3\)\)$"
    )
    with pytest.raises(ValueError, match=message):
        load_classifier(toy, save(state, tmp_path / "weights.bin"))


def test_the_first_five_keys_that_do_not_fit_are_named(toy, state, tmp_path):
    state |= {f"extra.{number}": torch.zeros(number) for number in range(7)}
    named = ", ".join(rf"extra\.{number}: \({number},\)" for number in range(5))
    with pytest.raises(ValueError, match=rf"architecture: 7 not in the architecture \({named}, \.\.\.\)$"):
        load_classifier(toy, save(state, tmp_path / "weights.bin"))


@pytest.mark.parametrize("layout", ["named", "ordered", "squeezenet_caffe"])
@pytest.mark.parametrize("zipped", [True, False, None])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_is_refused_and_never_run(toy, tmp_path, layout, zipped):
    content = {"conv1": Malicious(tmp_path / "executed")}
    if zipped is None:
        (tmp_path / "weights.bin").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "weights.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"weights\.bin is no"):
        load_classifier(toy, tmp_path / "weights.bin", layout=layout)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name", ["numpy.load", "numpy.core.multiarray.fromfile", "evil.numpy.ndarray", "builtins.eval"]
)
def test_the_numpy_unpickler_knows_nothing_but_arrays(tmp_path, name):
    module, _, function = name.rpartition(".")
    (tmp_path / "weights.bin").write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(ValueError, match=f"no pickle of numpy arrays: the file asks for {name}; only numpy arrays"):
        load_classifier("torchvision:squeezenet1_1", tmp_path / "weights.bin", layout="squeezenet_caffe")


@pytest.mark.parametrize(
    "content", [b"", b"hello world\n", b"<!DOCTYPE html><p>please log in", b"\x00" * 8 + b"{}", b"PK\x03\x04 cut"]
)
def test_a_damaged_checkpoint_is_named(toy, tmp_path, content):
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.bin is no checkpoint of tensors"):
        load_classifier(toy, tmp_path / "weights.bin")


def test_a_truncated_checkpoint_is_named(toy, state, tmp_path):
    content = save(state, tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"weights\.bin is no checkpoint of tensors"):
        load_classifier(toy, tmp_path / "weights.bin")


def test_a_checkpoint_of_something_else_is_named(toy, tmp_path):
    with pytest.raises(ValueError, match="holds a list, not a dictionary of tensors"):
        load_classifier(toy, save([torch.zeros(1)], tmp_path / "weights.bin"))
    with pytest.raises(
        ValueError, match=r"holds 'epoch', which is no plain tensor with a name; .* by `checkpoint_key`"
    ):
        load_classifier(toy, save({"epoch": 3}, tmp_path / "weights.bin"))


# Caffe's SqueezeNet


@pytest.fixture(scope="module")
def caffe_arrays():
    """Random weights of SqueezeNet 1.1 under Caffe's names: (height, width, in, out) kernels for BGR input."""
    rng = np.random.default_rng(0)

    def layer(size, fan_in, fan_out):
        kernel = rng.normal(0, (2 / (size * size * fan_in)) ** 0.5, (size, size, fan_in, fan_out))
        return kernel.astype(np.float32), rng.normal(0, 0.1, fan_out).astype(np.float32)

    arrays, fan_in = {"conv1": layer(3, 3, 64)}, 64
    for number, squeeze in enumerate([16, 16, 32, 32, 48, 48, 64, 64], start=2):
        arrays[f"fire{number}/squeeze1x1"] = layer(1, fan_in, squeeze)
        arrays[f"fire{number}/expand1x1"] = layer(1, squeeze, 4 * squeeze)
        arrays[f"fire{number}/expand3x3"] = layer(3, squeeze, 4 * squeeze)
        fan_in = 8 * squeeze
    return {**arrays, "conv10": layer(1, fan_in, 1000)}


def pickled(arrays, path):
    path.write_bytes(pickle.dumps(arrays, protocol=4))
    return path


def caffe_forward(arrays, pixels):
    """SqueezeNet 1.1 as Caffe runs it, on (n, h, w, 3) RGB pixels."""

    def convolve(name, x, stride=1, padding=0):
        kernel, bias = (torch.from_numpy(array).double() for array in arrays[name])
        kernel = torch.einsum("hwio->oihw", kernel)
        return nn.functional.conv2d(x, kernel, bias, stride=stride, padding=padding).relu()

    def pool(x):
        return nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)

    blue_green_red = torch.as_tensor(pixels).double()[..., [2, 1, 0]] - torch.tensor([104.006, 116.669, 122.679])
    x = pool(convolve("conv1", blue_green_red.permute(0, 3, 1, 2), stride=2))
    for number in range(2, 10):
        x = convolve(f"fire{number}/squeeze1x1", x)
        expanded = [convolve(f"fire{number}/expand1x1", x), convolve(f"fire{number}/expand3x3", x, padding=1)]
        x = torch.cat(expanded, dim=1)
        x = pool(x) if number in (3, 5) else x
    return convolve("conv10", x).mean((2, 3))


def test_caffes_input_convention_is_folded_into_the_first_layer(caffe_arrays, tmp_path):
    weights = pickled(caffe_arrays, tmp_path / "weights.pkl")
    model = load_classifier("torchvision:squeezenet1_1", weights, layout="squeezenet_caffe")
    pixels = torch.randint(0, 256, (2, 67, 67, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    normalize = normalizer(MEAN, STD, device="cpu")
    expected = caffe_forward(caffe_arrays, pixels)
    torch.testing.assert_close(model(normalize(pixels)).double(), expected, rtol=0, atol=1e-5 * expected.max().item())
    swapped = model(normalize(pixels.flip(3))).double()  # the order of the channels matters
    assert (swapped - expected).abs().max() > 0.01 * expected.max()


def test_caffe_layers_that_do_not_fit_are_named(caffe_arrays, tmp_path):
    arrays = {key: value for key, value in caffe_arrays.items() if key != "fire9/expand3x3"}
    arrays |= {"fire11/squeeze1x1": caffe_arrays["fire9/squeeze1x1"], "loss": caffe_arrays["conv10"]}
    message = r"2 missing \(features\.12\.expand3x3\.weight: .*4 not in .*\(features\.fire11\.squeeze\.weight: .*loss"
    with pytest.raises(ValueError, match=message):
        load_classifier(
            "torchvision:squeezenet1_1", pickled(arrays, tmp_path / "weights.pkl"), layout="squeezenet_caffe"
        )


# input


def test_the_normalizer_scales_as_published():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).T.reshape(2, 8, 16, 3).contiguous()
    before = pixels.clone()
    images = normalizer(MEAN, STD, device="cpu")(pixels)
    expected = (pixels.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images.double(), expected.permute(0, 3, 1, 2), rtol=0, atol=1e-6)
    assert pixels.equal(before)


def test_the_normalizer_takes_numpy_and_views():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    normalize = normalizer(MEAN, STD, device="cpu")
    whole = normalize(pixels)
    part = normalize(torch.from_numpy(pixels)[:, 2:6, 1:5])
    assert part.equal(whole[:, :, 2:6, 1:5])
    assert normalize(torch.from_numpy(pixels).transpose(1, 2)).equal(whole.transpose(2, 3))


@pytest.mark.parametrize(("cuda", "mps", "auto"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch, cuda, mps, auto):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto").type == auto and pick_device("cpu").type == "cpu"
    for device, there in (("cuda", cuda), ("mps", mps)):
        if there:
            assert pick_device(device).type == device
        else:
            with pytest.raises(RuntimeError, match=f"^device: {device} was configured, but torch .*set device: cpu$"):
                pick_device(device)


def test_cuda_that_is_missing_is_an_error(monkeypatch, toy, state, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    message = rf"device: cuda was configured, but torch {torch.__version__.replace('+', '.')} .* sees no GPU"
    with pytest.raises(RuntimeError, match=message):
        load_classifier(toy, save(state, tmp_path / "weights.bin"), device="cuda")


def test_a_job_gets_network_normalizer_and_facts(toy, state, tmp_path, capsys):
    network = {"architecture": toy, "layout": "named", "classes": 5, "precision": "tf32", "mean": MEAN, "std": STD}
    (tmp_path / "toy.json").write_text(json.dumps({"model": "toy", "weights_sha256": "ab", "layers": {}}))
    weights = save(state, tmp_path / "weights.bin")
    net = load_network(network, weights, tmp_path / "toy.json", device="cpu")
    assert net.device == next(net.model.parameters()).device
    assert net.facts == {"model": "toy", "weights_sha256": "ab", "torch": torch.__version__, "precision": "tf32"}
    assert capsys.readouterr().out.startswith("toy loaded on cpu in ")
    probabilities = net.predict(torch.zeros(3, 8, 8, 3, dtype=torch.uint8))
    assert probabilities.shape == (3, 5)
    assert probabilities.sum(1).tolist() == pytest.approx([1, 1, 1])
    half = load_network(network | {"precision": "bf16"}, weights, tmp_path / "toy.json", device="cpu")
    images = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    assert half.normalize(images).dtype == next(half.model.parameters()).dtype == torch.bfloat16


def test_a_network_is_changed_before_its_normalizations_are_folded(tmp_path):
    weights = save(torchvision.models.resnet18(num_classes=5).state_dict(), tmp_path / "weights.bin")
    network = {"architecture": "torchvision:resnet18", "layout": "named", "classes": 5, "precision": "float32"}
    (tmp_path / "toy.json").write_text(json.dumps({"model": "toy", "weights_sha256": "ab", "input": {"crop": 32}}))
    load = partial(load_network, network | {"mean": MEAN, "std": STD}, weights, tmp_path / "toy.json", device="cpu")
    images = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)

    def change(model):
        torch.nn.init.constant_(model.bn1.weight, 3)

    plain, changed, folded = load(), load(change=change), load(layers=(), change=change)
    assert isinstance(changed.model.bn1, torch.nn.BatchNorm2d) and not isinstance(
        folded.model.bn1, torch.nn.BatchNorm2d
    )
    torch.testing.assert_close(folded.predict(images), changed.predict(images))
    assert (changed.predict(images) - plain.predict(images)).abs().max() > 1e-3
    others = [plain.model, load(layers=["layer1"]).model, load_configured(network, weights)]
    assert folded.model.relu.inplace and not any(model.relu.inplace for model in others)


def test_targets_are_the_predicted_classes_or_the_labels():
    probabilities = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    assert run.choose_targets(probabilities, [-1, -1], "predicted", ["a", "b"]).tolist() == [1, 0]
    assert run.choose_targets(probabilities, np.array([0, 1]), "label", ["a", "b"]).tolist() == [0, 1]
    assert run.choose_targets(probabilities, np.array([0, -1]), "label", ["a", "b"]).tolist() == [0, -1]
    with pytest.raises(ValueError, match="image 'b' has label 2; the model's classes are 0 to 1"):
        run.choose_targets(probabilities, [0, 2], "label", ["a", "b"])
    assert run.choose_targets(probabilities, [-1, -1], 0, ["a", "b"]).tolist() == [0, 0]
    for target in (-1, 2):
        with pytest.raises(ValueError, match=f"explain.target is class {target}; the model's classes are 0 to 1"):
            run.choose_targets(probabilities, [-1, -1], target, ["a", "b"])
    probabilities[1, 0] = torch.nan
    assert run.choose_targets(probabilities, [-1, -1], "predicted", ["a", "b"]).tolist() == [1, -1]


def test_class_names_come_from_imagenet_a_file_or_a_number(tmp_path):
    imagenet = class_names("imagenet")
    assert len(imagenet) == 1000
    assert (imagenet[0], imagenet[207], imagenet[999]) == ("tench", "golden retriever", "toilet tissue")
    (tmp_path / "scenes.txt").write_text("café\nattic\n", encoding="utf-8-sig")
    assert class_names(str(tmp_path / "scenes.txt")) == ["café", "attic"]
    assert class_names(2) == ["class 0", "class 1"]
    with pytest.raises(FileNotFoundError, match="classes: imagnet is neither 'imagenet' nor a file"):
        class_names("imagnet")


def explained(**changes):
    arrays = {
        "image_id": np.array(["x", "y"], dtype=object),
        "label": np.array([2, -1]),
        "predicted": np.array([2, 0]),
        "predicted_probability": np.array([0.75, 0.5]),
        "target": np.array([2, 1]),
        "target_probability": np.array([0.75, 0.25]),
    }
    return arrays | changes


def test_the_prediction_table_by_hand(tmp_path):
    (tmp_path / "pets.txt").write_text("cat\ndog\nfish\n")
    table = explanations.prediction_table(explained(), {"model": "m"}, {"m": str(tmp_path / "pets.txt")})
    assert table.to_dict("records") == [
        {
            **{"model": "m", "image_id": "x", "label": 2, "label_name": "fish", "predicted": 2},
            **{"predicted_name": "fish", "probability": 0.75, "correct": True, "target": 2, "target_name": "fish"},
            "target_probability": 0.75,
        },
        {
            **{"model": "m", "image_id": "y", "label": "", "label_name": "", "predicted": 0},
            **{"predicted_name": "cat", "probability": 0.5, "correct": "", "target": 1, "target_name": "dog"},
            "target_probability": 0.25,
        },
    ]


def test_a_label_that_is_the_number_of_classes_is_no_class():
    with pytest.raises(ValueError, match="image 'x' has label 3; m has 3 classes, from 0"):
        explanations.prediction_table(explained(label=np.array([3, 0])), {"model": "m"}, {"m": 3})


def test_networks_of_places365_take_imagenets_mean_and_deviation():
    url = "http://places2.csail.mit.edu/models_places365/resnet18_places365.pth.tar"
    published = pretrained.published_input("torchvision:resnet18", {"url": url})
    assert (published["mean"], published["std"]) == (MEAN, STD)
    assert (published["fit"], published["resize"], published["crop"]) == ("squash", 256, 224)


def test_label_0_is_a_label_and_class_0_may_be_explained(tmp_path):
    """In the table, in what is read from its file, and in the sentences and pages that count labels."""
    arrays = explained(label=np.array([0, 0]), predicted=np.array([0, 1]), target=np.array([0, 0]))
    table = explanations.prediction_table(arrays, {"model": "m"}, {"m": 3})
    assert table[["label", "correct", "target"]].to_numpy().tolist() == [[0, True, 0], [0, False, 0]]
    write_table(table, tmp_path / "predictions.csv")
    read = read_table(tmp_path / "predictions.csv")
    assert overview.accuracy_sentences(read)[0].startswith("m predicts the label of 1 of 2 labeled source images")
    assert [row["right"] for row in overview_tables.predictions_table(read)] == ["yes", "no"]
    assert [explanation_page._verdict(row) for _, row in read.iterrows()] == ["right", "predicts class 1, p = 0.50"]
    probabilities = torch.tensor([[0.1, 0.9]])
    assert run.choose_targets(probabilities, [-1], 0, ["a"]).tolist() == [0]


def test_a_label_that_the_model_does_not_know_is_named():
    with pytest.raises(ValueError, match="image 'y' has label 3; m has 3 classes, from 0"):
        explanations.prediction_table(explained(label=np.array([2, 3])), {"model": "m"}, {"m": 3})


def test_published_input_in_the_words_of_the_config():
    v2 = pretrained.published_input("torchvision:resnet50", {"torchvision": "ResNet50_Weights.IMAGENET1K_V2"})
    assert v2 == {"fit": "short", "resize": 232, "crop": 224, "interpolation": "bilinear", "mean": MEAN, "std": STD}
    lite = pretrained.published_input("timm:tf_efficientnet_lite0", {"path": "a"})
    half = [0.5] * 3
    assert lite == {"fit": "short", "resize": 256, "crop": 224, "interpolation": "bicubic", "mean": half, "std": half}
    assert pretrained.published_input("torchvision:resnet18", {"url": "https://a/b.pth"}) is None
    assert pretrained.departures({**v2, "resize": 256}, v2) == ["resize: 256, published 232"]
    other = {**v2, "crop": [224, 224], "resize": [232, 300]}  # the first is a square, too
    assert pretrained.departures(other, v2) == ["resize: [232, 300], published 232"]
    assert pretrained.departures(v2, v2) == pretrained.departures(v2, None) == []


def test_torchvisions_weights_become_url_and_hash():
    source = pretrained.weights_source({"torchvision": "ResNet18_Weights.IMAGENET1K_V1"})
    assert source == {"url": "https://download.pytorch.org/models/resnet18-f37072fd.pth", "sha256": "f37072fd"}
    own = {"url": "https://example.org/a.pth", "sha256": "0123abcd"}
    assert pretrained.weights_source(own) == own
    pinned = pretrained.weights_source({"torchvision": "ResNet18_Weights.IMAGENET1K_V1", "sha256": "f37072fd00"})
    assert pinned["sha256"] == "f37072fd00"
    for name in ("ResNet18_Weights.NOPE", "ResNet19_Weights.IMAGENET1K_V1", "resnet18"):
        with pytest.raises(ValueError, match=f"torchvision has no weights '{name}'"):
            pretrained.weights_source({"torchvision": name})


def test_timms_weights_become_an_address_whose_keys_are_the_networks():
    url = "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    assert pretrained.weights_source({"timm": "resnet18.a1_in1k"}) == {"url": url}
    assert pretrained.weights_source({"timm": "resnet18", "sha256": "0123abcd"}) == {"url": url, "sha256": "0123abcd"}
    for name in ("resnet18.a9_in1k", "resnet18x"):
        with pytest.raises(ValueError, match=f"timm has no weights '{name}'; nearest: resnet18"):
            pretrained.weights_source({"timm": name})
    first, other = ({"timm": f"resnet50.{tag}_in1k"} for tag in ("a1", "tv"))
    assert pretrained.published_input("timm:resnet50", first)["interpolation"] == "bicubic"
    assert pretrained.published_input("timm:resnet50", other)["interpolation"] == "bilinear"


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("bf16", 0.05)])
def test_precision_changes_the_arithmetic_and_not_the_types(precision, tolerance):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8)
    mean, std = [0.5] * 3, [0.25] * 3
    expected = predictor(network, normalizer(mean, std, device="cpu"))(images)
    model, dtype = set_precision(network, precision)
    predict = predictor(model, normalizer(mean, std, device="cpu", dtype=dtype))
    assert next(model.parameters()).dtype == dtype
    assert predict(images).dtype == torch.float32
    torch.testing.assert_close(predict(images), expected, rtol=0, atol=tolerance)


def test_words_of_masks_are_text_and_their_values_numbers(tmp_path):
    words = {"value": [7, 300], "word": ["=1", "null"], "category": ["1.10", "NA"]}
    write_table(pd.DataFrame(words), tmp_path / "ours.csv")
    assert netdissect.mask_words(str(tmp_path / "ours.csv"), ours=True).to_dict("list") == words
    (tmp_path / "users.csv").write_text("word,value,category\n'=1,007,\n1e5,300,part\n")
    read = netdissect.mask_words(str(tmp_path / "users.csv"))
    assert read.to_dict("list") == {"value": [7, 300], "word": ["'=1", "1e5"], "category": ["", "part"]}
