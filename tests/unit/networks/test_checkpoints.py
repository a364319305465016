"""Files of weights as data: damage is seen, nothing that a file asks for runs, nothing is converted in silence."""

import argparse
import io
import os
import pickle
import random
import re
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from unitlens.networks import checkpoints

FOLDER = Path(__file__).parents[3] / "scripts"


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.fixture
def state():
    torch.manual_seed(0)
    return network().state_dict()


def save(content, path, **options):
    torch.save(content, path, **options)
    return path


def load(path, layout="named"):
    model = network()
    checkpoints.fill(model, checkpoints.read(path, layout, model), path)
    return model.state_dict()


# what fits


def test_both_names_of_one_parameter_are_named(state, tmp_path):
    path = save(state | {"module.0.bias": torch.ones(4)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights.pt holds both '0.bias' and 'module.0.bias', which are the same"):
        load(path)


@pytest.mark.parametrize(
    ("key", "dtype", "words"),
    [
        ("0.weight", torch.complex64, "complex64 instead of float32"),
        ("0.weight", torch.bool, "bool instead of float32"),
        ("0.weight", torch.int8, "int8 instead of float32"),
        ("0.weight", torch.float8_e4m3fn, "float8_e4m3fn instead of float32"),
    ],
)
def test_another_kind_of_number_is_refused(state, tmp_path, key, dtype, words):
    path = save(state | {key: state[key].to(dtype)}, tmp_path / "weights.pt")
    with pytest.raises(
        ValueError, match=rf"weights.pt does not fit .*: 1 of another kind of number \({key}: {words}\)"
    ):
        load(path)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float8_e4m3fn])
def test_odd_numbers_are_not_taken_for_whole_ones(dtype):
    model = nn.Identity()
    model.register_buffer("index", torch.arange(4))
    with pytest.raises(ValueError, match=r"another kind of number \(index: \w+ instead of int64\)"):
        checkpoints.fill(model, {"index": torch.zeros(4).to(dtype)}, "weights.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_numbers_are_converted(state, tmp_path, dtype):
    """As well as the counters of batch normalization, which averages of checkpoints hold as floats."""
    loaded = load(save({key: value.to(dtype) for key, value in state.items()}, tmp_path / "weights.pt"))
    assert all(loaded[key].equal(value.to(dtype).to(value.dtype)) for key, value in state.items())


@pytest.mark.parametrize(
    "value",
    [
        torch.eye(4).to_sparse(),
        torch.zeros(4, device="meta"),
        torch.quantize_per_tensor(torch.zeros(4), 1.0, 0, torch.quint8),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        None,
        "1.0",
        {"weight": {"0.bias": torch.zeros(4)}},
    ],
    ids=["sparse", "meta", "quantized", "nested", "nothing", "text", "a dictionary of dictionaries"],
)
@pytest.mark.filterwarnings("ignore")
def test_only_plain_tensors_are_weights(state, tmp_path, value):
    with pytest.raises(ValueError, match=r"weights.pt holds '0.bias', which is no plain tensor with a name"):
        load(save(state | {"0.bias": value}, tmp_path / "weights.pt"))


def test_parameters_without_a_shape_are_named(state, tmp_path):
    message = r"weights.pt cannot be compared with the architecture: 0.weight, 0.bias have no shape before the first"
    with pytest.raises(ValueError, match=message):
        checkpoints.fill(nn.Sequential(nn.LazyLinear(4)), state, tmp_path / "weights.pt")


def test_weights_have_names(state, tmp_path):
    with pytest.raises(ValueError, match=r"weights.pt holds 3, which is no plain tensor with a name"):
        load(save(state | {3: torch.zeros(1)}, tmp_path / "weights.pt"))


def test_an_expanded_tensor_costs_no_memory(state, tmp_path):
    path = save(state | {"0.bias": torch.zeros(1).expand(10**9, 10**9)}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"of another shape \(0.bias: \(1000000000, 1000000000\) instead of \(4,\)\)"):
        load(path)


@pytest.mark.parametrize("layout", ["named", "ordered", "squeezenet_caffe"])
def test_weights_are_one_file(tmp_path, layout):
    with pytest.raises(ValueError, match=f"{tmp_path} is a folder; weights are one file"):
        load(tmp_path, layout)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing"):
        with pytest.raises(ValueError, match=f"{tmp_path}/{name} is no file; weights are one file"):
            load(tmp_path / name, layout)


# damage


def test_a_flipped_bit_of_a_zip_is_seen(state, tmp_path):
    content = save(state, tmp_path / "weights.pt").read_bytes()
    attributes = content.index(b"PK\1\2", content.index(b"data/1PK\1\2")) + 38
    places = [content.index(state["0.weight"].numpy().tobytes()) * 8 + 40]  # in the numbers
    places += [attributes * 8 + 4]  # "a folder": torch reads nothing
    places += random.Random(0).sample(range(len(content) * 8), 300)  # all over the file
    refused = 0
    for place in places:
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        (tmp_path / "flipped.pt").write_bytes(flipped)
        try:
            loaded = load(tmp_path / "flipped.pt")
        except ValueError as error:
            assert f"{tmp_path}/flipped.pt" in str(error)
            refused += 1
        else:
            assert place not in places[:2]
            assert all(loaded[key].equal(value) for key, value in state.items())
    assert 100 < refused < 302  # the rest are in names of folders, dates and padding


def rewritten(source, path, *, compression=zipfile.ZIP_STORED, twice=False):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
            if twice and name.endswith("data/0"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    new.writestr(name, old.read(name))
    return path


def test_a_zip_that_torch_has_not_written_is_refused(state, tmp_path):
    source = save(state | {"0.weight": torch.zeros(1000, 1000)}, tmp_path / "weights.pt")
    for options in ({"compression": zipfile.ZIP_DEFLATED}, {"twice": True}):
        with pytest.raises(ValueError, match=r"other.pt is no checkpoint of tensors: it is damaged") as error:
            load(rewritten(source, tmp_path / "other.pt", **options))
        assert re.search(
            "two members have one name|compressed, which torch.save never does", str(error.value.__cause__)
        )


def test_a_program_is_not_taken_for_weights(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network()), tmp_path / "weights.pt")
    for layout in ("named", "ordered"):
        with pytest.raises(ValueError, match=r"weights.pt is a TorchScript archive, which is a program, not weights"):
            load(tmp_path / "weights.pt", layout)


# hostile pickles


def text(string):
    return b"X" + struct.pack("<I", len(string)) + string.encode()


def integer(number):
    return b"\x8a\x10" + number.to_bytes(16, "little", signed=True)


def numbers(*values):
    return b"(" + b"".join(map(integer, values)) + b"t"


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
NDARRAY = b"cnumpy\nndarray\n"
DTYPE = b"cnumpy\ndtype\n"


def dtype(code="f4", order=b"X\x01\0\0\0<"):
    return DTYPE + b"(" + text(code) + b"\x89\x88tR(K\x03" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"


def array(shape=(1, 1, 1, 1), data=b"\0\0\x80?", kind=None):
    content = data if data.startswith(b"]") else b"B" + struct.pack("<I", len(data)) + data
    made = RECONSTRUCT + b"(" + NDARRAY + numbers(0) + b"C\x01btR"
    return made + b"(K\x01" + numbers(*shape) + (kind or dtype()) + b"\x89" + content + b"tb"


def pair(kernel=None, bias=None):
    """A pickle of one pair of arrays, where something may stand in place of either."""
    return b"\x80\x02}" + text("conv1") + (kernel or array()) + (bias or array((1,))) + b"\x86s."


POINTERS = b"\x80\x02" + NDARRAY + numbers(1) + b"X\x01\0\0\0OC\x08\x01\x02\x03\x04\x05\x06\x07\x08\x87R."
HOSTILE = {
    "calls ndarray": (POINTERS, "single object"),
    "calls ndarray without its name": (
        pair(NDARRAY + numbers(1) + text("O") + b"C\x08ABCDEFGH\x87R"),
        "something else",
    ),
    "makes an ndarray": (pair(NDARRAY + numbers(1) + b"\x85\x81"), "something else"),
    "reconstructs a dtype": (pair(RECONSTRUCT + b"(" + DTYPE + numbers(0) + b"C\x01btR"), "something else"),
    "sets the state of a class": (pair(NDARRAY + b"}b"), "sets the state of something that it has not made"),
    "sets attributes of a function": (pair(RECONSTRUCT + b"N}\x86b"), "sets the state of something"),
    "objects": (pair(array(kind=dtype("O8"), data=b"ABCDEFGH")), "numbers of type 'O8'; allowed are f2, f4 and f8"),
    "objects in a list": (pair(array(kind=dtype("O8"), data=b"]")), "numbers of type 'O8'"),
    "a structure": (pair(array(kind=dtype("f4,O"))), "numbers of type 'f4,O'"),
    "an array in a number": (pair(array(kind=dtype("(1000000,1000000)f4"))), "numbers of type '\\(1000000,1000000"),
    "void": (pair(array(kind=dtype("V1000000000"))), "numbers of type 'V1000000000'"),
    "text": (pair(array(kind=dtype("U1"))), "numbers of type 'U1'"),
    "complex": (pair(array(kind=dtype("c8"), data=bytes(8))), "numbers of type 'c8'"),
    "a type twice over": (pair(array(kind=dtype("f4\nO"))), "numbers of type 'f4.nO'"),
    "no type": (pair(array(kind=b"N")), "something else"),
    "a byte order of its own": (pair(array(kind=dtype(order=b"K\x01"))), "a byte order other than"),
    "too few bytes": (pair(array((2, 1, 1, 1))), r"shape \(2, 1, 1, 1\) needs 8 bytes"),
    "too many bytes": (pair(array(data=bytes(8))), "needs 4 bytes"),
    "exabytes": (pair(array((1 << 62, 1, 1, 1))), "needs 18446744073709551616 bytes"),
    "a size that overflows to 4": (pair(array(((1 << 63) + 1, 2, 1, 1))), "needs 73786976294838206472 bytes"),
    "negative sides": (pair(array((-1, -1, 1, 1))), "a shape of other than positive whole numbers"),
    "a side of nothing": (pair(array((0, 1 << 62, 1, 1), data=b"")), "a shape of other than positive"),
    "a thousand axes": (pair(array((1,) * 1000)), "a shape of other than positive"),
    "a flat kernel": (pair(array((1,))), r"'conv1' has shapes \(1,\) and \(1,\); a kernel has four axes"),
    "one array": (b"\x80\x02}" + text("conv1") + array() + b"s.", "must be a pair of numpy arrays"),
    "a number as name": (b"\x80\x02}K\x01" + array() + array((1,)) + b"\x86s.", "must be a pair of numpy arrays"),
    "an extension": (b"\x80\x02\x82\x01.", "it holds the operation EXT1"),
    "a persistent name": (b"Pevil\n.", "it holds the operation PERSID"),
    "a persistent object": (b"\x80\x02K\x01Q.", "single object"),
    "an instance": (b"(ios\nsystem\n.", "it holds the operation INST"),
    "keywords": (b"\x80\x04" + NDARRAY + b")}\x92.", "it holds the operation NEWOBJ_EX"),
    "a buffer of exabytes": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".", "BYTEARRAY8|bytearray8"),
    "bytes of exabytes": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".", "expected 1152921504606846976 bytes"),
    "a frame of exabytes": (b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.", "holds a NoneType"),
    "a memo of gigabytes": (b"\x80\x02Nr\xff\xff\xff\x7f.", "holds a NoneType"),
    "a memo that was not set": (b"\x80\x02h\x05.", "no pickle of numpy arrays: 5"),
    "a tuple of a million tuples as name": (
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",
        "20 tuples lie in each other",
    ),
    "a list of a million lists": (b"\x80\x02" + b"]" * 1_000_000 + b"a" * 999_999 + b".", "holds a list"),
    "a dictionary in itself": (
        b"\x80\x02}q\0" + text("conv1") + b"h\0h\0\x86s.",
        "holds something else|something else",
    ),
    "nothing on the stack": (b"\x80\x02R.", "it takes more than it has put"),
    "a list as name": (b"\x80\x02}]Ns.", "unhashable type"),
    "nothing": (b"", "empty"),
    "a cut": (pair()[:-30], "no pickle of numpy arrays"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused(tmp_path, name):
    content, message = HOSTILE[name]
    (tmp_path / "weights.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        checkpoints.read(tmp_path / "weights.pkl", "squeezenet_caffe", network())
    assert f"{tmp_path}/weights.pkl" in str(error.value) and len(str(error.value)) < 400


def test_the_hostile_pickles_are_those_of_good_arrays_but_for_what_they_say(tmp_path):
    for order in ("<", ">", "="):
        (tmp_path / "weights.pkl").write_bytes(pair(array(kind=dtype(order=text(order)), data=struct.pack("<f", 1))))
        kernel, bias = checkpoints._read_arrays(tmp_path / "weights.pkl")["conv1"]
        assert kernel.shape == (1, 1, 1, 1) and bias.tolist() == [1] and kernel.dtype == np.float32
        assert (kernel.item() == 1) == (order != ">")


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_as_they_were_pickled(tmp_path, protocol, order):
    rng = np.random.default_rng(0)
    kernel = np.asarray(rng.normal(size=(2, 3, 4, 5)), order=order)
    content = {
        "a": (kernel.astype(">f8", order="K"), np.float16(rng.normal(size=3))),
        "b": [np.float32(kernel), kernel[0, 0, 0]],
    }
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps(content, protocol))
    arrays = checkpoints._read_arrays(tmp_path / "weights.pkl")
    for key, pair in content.items():
        assert all(
            (got == made).all() and got.dtype == made.dtype.newbyteorder("=")
            for got, made in zip(arrays[key], pair, strict=True)
        )


def test_a_pair_may_be_a_list_of_the_oldest_form(tmp_path):
    (tmp_path / "weights.pkl").write_bytes(b"\x80\x02}" + text("conv1") + b"(" + array() + array((1,)) + b"ls.")
    kernel, bias = checkpoints._read_arrays(tmp_path / "weights.pkl")["conv1"]
    assert (kernel.tolist(), bias.tolist()) == ([[[[1]]]], [1])


def test_caffes_first_layer_sees_blue_green_and_red_less_their_means(tmp_path):
    kernel = np.eye(3, dtype=np.float32)[None, None]  # (1, 1, in, out): each output is one channel
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"conv1": (kernel, np.ones(3, np.float32))}, 4))
    model = nn.ModuleDict({"features": nn.Sequential(nn.Conv2d(3, 3, 1))})
    checkpoints.fill(model, checkpoints.read(tmp_path / "weights.pkl", "squeezenet_caffe", model), "weights.pkl")
    red, green, blue = 10, 20, 30
    normalized = (torch.tensor([red, green, blue]) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    expected = torch.tensor([blue - 104.006, green - 116.669, red - 122.679]) + 1
    got = model["features"](normalized.view(1, 3, 1, 1)).flatten()
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_two_layers_with_one_place_are_named(tmp_path):
    layer = (np.zeros((1, 1, 1, 1)), np.zeros(1))
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps({"fire2/expand1x1": layer, "3/expand1x1": layer}, 4))
    with pytest.raises(ValueError, match=r"holds both 'fire2/expand1x1 \(kernel\)' and '3/expand1x1 \(kernel\)'"):
        checkpoints.read(tmp_path / "weights.pkl", "squeezenet_caffe", network())


def torch_file(path, objects, *, zipped):
    """A checkpoint whose pickled objects are those bytes."""
    if zipped:
        with zipfile.ZipFile(path, "w") as file:
            for name, content in {"data.pkl": objects, "version": b"3\n", "byteorder": b"little"}.items():
                file.writestr(f"weights/{name}", content)
    else:
        buffer = io.BytesIO()
        torch.save({}, buffer, _use_new_zipfile_serialization=False)
        path.write_bytes(buffer.getvalue().replace(b"\x80\x02}q\x00.\x80\x02]", objects + b"\x80\x02]"))
    return path


DEEP = b")" + b"\x85" * 1_000_000
CRASHES = {
    "key": b"\x80\x02}" + DEEP + b"Ns.",
    "call": b"\x80\x02ccollections\nOrderedDict\n(((" + DEEP + b"NttltR.",
    "storage": b"\x80\x02(" + text("storage") + b"ctorch\nFloatStorage\n" + DEEP + text("cpu") + b"K\1tQ.",
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", [*CRASHES, "numpy"])
def test_no_file_ends_the_process(tmp_path, name, zipped):
    """Each of these did: Python's hash of nested tuples, in torch's reader too, or pointers made of bytes."""
    path, layout = tmp_path / "weights.bin", "named"
    if name == "numpy":
        path.write_bytes(POINTERS)
        layout = "squeezenet_caffe"
    else:
        torch_file(path, CRASHES[name], zipped=zipped)
    code = (
        "import sys, torch; from unitlens.networks import checkpoints\n"
        "try: print(repr(checkpoints.read(sys.argv[1], sys.argv[2], torch.nn.Identity())))\n"
        "except ValueError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(path), layout]
    process = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith(f"{path} is no ")


# ---- keys, prefixes, other objects


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def prefixed(prefix, factor=1):
    return {f"{prefix}{key}": factor * value for key, value in linear().state_dict().items()}


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ({"model": prefixed(""), "optimizer": {"state": {}, "param_groups": []}, "epoch": 3}, {}),
        ({"model_state_dict": prefixed(""), "loss": 0.5}, {}),
        ({"state_dict_ema": prefixed("")}, {}),
        ({"state_dict": prefixed("model.") | {"criterion.weight": torch.ones(3)}, "hyper_parameters": {"lr": 1}}, {}),
        (prefixed("_orig_mod."), {}),
        (prefixed("module.module."), {}),
        ({"state_dict": prefixed("model._orig_mod.")}, {}),
        ({"model": prefixed(""), "model_ema": prefixed("", 7)}, {"key": "model"}),
        ({"model": prefixed("", 7), "model_ema": prefixed("")}, {"key": "model_ema"}),
        ({"runs": {"best": {"net": prefixed("")}}}, {"key": "runs.best.net"}),
        (prefixed("model.") | prefixed("ema_model.", 7), {"prefix": "model."}),
        (prefixed("model.", 7) | prefixed("ema_model."), {"prefix": "ema_model."}),
    ],
)
def test_weights_are_found_under_any_usual_key_and_prefix(content, options, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    model = linear()
    state = checkpoints.read(tmp_path / "weights.pt", "named", model, **options)
    assert all(state[key].equal(value) for key, value in model.state_dict().items())
    assert set(state) == set(model.state_dict())


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            {"state_dict": prefixed(""), "state_dict_ema": prefixed("")},
            {},
            "holds weights under 'state_dict' and 'state_dict_ema'; choose one by `checkpoint_key` \\(ema: ",
        ),
        (
            prefixed("model.") | prefixed("ema_model."),
            {},
            "behind 'model.' and 'ema_model.'; choose one by `checkpoint_p",
        ),
        ({"model": prefixed("")}, {"key": "state_dict"}, "no entry 'state_dict' \\(`checkpoint_key`\\); it has model"),
        (
            prefixed("model."),
            {"prefix": "net."},
            "no name that begins with 'net.'; it has, for example, model.0.weight",
        ),
    ],
)
def test_a_choice_of_weights_is_left_to_the_config(content, options, message, tmp_path):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=message):
        checkpoints.read(tmp_path / "weights.pt", "named", linear(), **options)


@pytest.mark.parametrize("zipped", [True, False])
def test_other_objects_and_whole_networks_are_refused_with_the_way_to_export_them(zipped, tmp_path):
    path = tmp_path / "weights.pt"
    content = {"model": prefixed(""), "args": argparse.Namespace(lr=0.1)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = (
        r"is no checkpoint of tensors alone: it holds other objects \(argparse.Namespace\), .* export the weights "
        r"alone: torch.save\(torch.load\('weights.pt', weights_only=False\)\['model'\], 'weights.pth'\)"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.read(path, "named", linear())
    torch.save(linear(), path, _use_new_zipfile_serialization=zipped)
    message = (
        r"is a whole pickled network \(.*\), which is a program and is not run; where you trust it, export its "
        r"weights: torch.save\(torch.load\('weights.pt', weights_only=False\).state_dict\(\), 'weights.pth'\)"
    )
    with pytest.raises(ValueError, match=message):
        checkpoints.read(path, "named", linear())
