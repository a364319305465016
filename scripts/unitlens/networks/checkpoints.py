"""Read files of weights as data: nothing that a file asks for is imported or called.

torch's files are read with ``weights_only=True``, after the check sums of a zip. A pickle of numpy arrays is read from
the list of its operations, which the standard library gives, and its arrays are made here.
"""

import contextlib
import errno
import math
import mmap
import pickle
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from unitlens.jobs.characters import first_few
from unitlens.networks import pickles

_FOLDER = 0x10  # in the attributes of a member; torch's reader then takes what the memory happens to hold
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # narrower ones come with scales
_COUNTER = ".num_batches_tracked"  # of batch normalization, not used for inference

_OF_TENSORS = re.compile(r"torch\._utils\.|torch\.\w*Storage\b|torch\.storage\.|collections\.|\w+\.set$")
_HARMFUL = (
    "posix",
    "nt",
    "os",
    "subprocess",
    "sys",
    "builtins",
    "__builtin__",
    "runpy",
    "importlib",
    "shutil",
    "socket",
)

# What torch's reader, that of safetensors and the standard library raise on files that are no checkpoints.
_UNREADABLE = (pickle.UnpicklingError, zipfile.BadZipFile, safetensors.SafetensorError, struct.error, zlib.error)
_UNREADABLE += (RuntimeError, ArithmeticError, EOFError, LookupError, MemoryError, ValueError, TypeError)
_UNREADABLE += (AttributeError, AssertionError)


def read(
    path: str | Path, layout: str, model: nn.Module, *, key: str | None = None, prefix: str | None = None
) -> dict[str, Tensor]:
    """Read a checkpoint's tensors under the names of a model's parameters, in a `layout` of `network.load_classifier`.

    `key` names the entry that holds them, dots leading inside, where there are several or none is found by itself;
    `prefix` is what precedes their names, by default ``module.`` or whatever precedes all of the model's own. A
    ValueError if `path` is no file, is damaged, holds anything but tensors by name, or leaves a choice.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'no file'}; weights are one file")
    if layout == "squeezenet_caffe":
        return _squeezenet_caffe(path, model)
    state = _read_tensors(path, key)
    return _ordered(path, state, model) if layout == "ordered" else _named(path, state, model, prefix)


def fill(model: nn.Module, state: Mapping[str, Tensor], path: str | Path, *, classes: int | None = None) -> None:
    """Give a model its weights by name; the counters of batch normalization may be missing.

    A ValueError names `path`, the file they come from, and the first five keys that are missing, left over, of another
    shape or kind of number, or without a shape in the model; and `classes`, how many class names the config lists,
    where shapes differ.
    """
    own = model.state_dict()
    if lazy := [key for key, value in own.items() if is_lazy(value)]:
        raise ValueError(
            f"{path} cannot be compared with the architecture: {first_few(lazy)} have no shape before the first images "
            "come (nn.LazyLinear and the like); run it once on images in the function that builds it"
        )
    state = OrderedDict({key: own[key] for key in own if key.endswith(_COUNTER)} | dict(state))
    _check_state(state, own, path, classes)
    state._metadata = own._metadata  # without the version of their layout some modules refuse to load
    model.load_state_dict(state)


def is_program(path: str | Path) -> bool:
    """Tell whether a file is a TorchScript archive, which holds code beside tensors."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.rpartition("/")[2] == "constants.pkl" for name in file.namelist())
    except _UNREADABLE:  # no archive
        return False


def _named(path: Path, state: Mapping[str, Tensor], model: nn.Module, prefix: str | None) -> dict[str, Tensor]:
    """Take away what precedes the names of parameters in a checkpoint."""
    own = [key for key in model.state_dict() if not key.endswith(_COUNTER)]
    if prefix is None:
        state = _rename({key: key.removeprefix("module.") for key in state}, state, path)
        if not own or any(key in state for key in own):
            return state
        ends = f".{own[0]}"
        found = [key.removesuffix(own[0]) for key in state if key.endswith(ends)]
        found = [start for start in found if all(f"{start}{key}" in state for key in own)]
        if len(found) > 1:
            raise ValueError(
                f"{path} holds the parameters more than once, behind {' and '.join(map(repr, found))}; choose one by "
                "`checkpoint_prefix` (ema: a running mean of the others)"
            )
        if not found:
            return state  # `fill` says what is missing
        (prefix,) = found
    taken = {key: key.removeprefix(prefix) for key in state if key.startswith(prefix)}
    if not taken:
        raise ValueError(
            f"{path} has no name that begins with {prefix!r}; it has, for example, {first_few(list(state))}"
        )
    left = [key for key in state if key not in taken]
    print(f"{path}: names without {prefix!r}" + (f"; left out: {first_few(left)}" if left else ""))
    return _rename(taken, state, path)


def _rename(names: Mapping[str, str], values: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Give values other names; two that would get the same one are an error, or one would be lost."""
    first = {}
    for old, new in names.items():
        if first.setdefault(new, old) != old:
            raise ValueError(f"{path} holds both {first[new]!r} and {old!r}, which are the same parameter {new!r}")
    return {new: values[old] for new, old in first.items()}


def _ordered(path: Path, state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give the checkpoint's tensors the model's names, by position; `fill` then compares the shapes."""
    own = model.state_dict()
    if len(own) != len(state):
        raise ValueError(
            f"{path} holds {len(state)} tensors, the architecture has {len(own)}; layout: ordered needs as many"
        )
    return dict(zip(own, state.values(), strict=True))


def _squeezenet_caffe(path: Path, model: nn.Module) -> dict[str, Tensor]:
    """Map Caffe's SqueezeNet 1.1 to torchvision's names, its input convention (BGR, 0..255, mean) folded into conv1."""
    places = dict(zip((f"fire{i}" for i in range(2, 10)), (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
    names, values = {}, {}
    for key, (kernel, bias) in _read_arrays(path).items():
        block, _, part = key.partition("/")
        if part:
            name = f"features.{places.get(block, block)}.{part.replace('squeeze1x1', 'squeeze')}"
        else:
            name = {"conv1": "features.0", "conv10": "classifier.1"}.get(block, block)
        names |= {f"{key} (kernel)": f"{name}.weight", f"{key} (bias)": f"{name}.bias"}
        values[f"{key} (kernel)"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))  # HWIO -> OIHW
        values[f"{key} (bias)"] = torch.from_numpy(bias)
    state, own = _rename(names, values, path), model.state_dict()
    folded = ("features.0.weight", "features.0.bias")
    if any(name not in state or name not in own or state[name].shape != own[name].shape for name in folded):
        return state  # `fill` says what is wrong
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    caffe_mean = torch.tensor([122.679, 116.669, 104.006])  # RGB
    kernel = state["features.0.weight"].flip(1)  # BGR -> RGB
    state["features.0.bias"] += (kernel * (255 * mean - caffe_mean).view(1, 3, 1, 1)).sum((1, 2, 3))
    state["features.0.weight"] = kernel * (255 * std).view(1, 3, 1, 1)
    return state


def _check_state(state: Mapping[str, Tensor], own: Mapping[str, Tensor], path: str | Path, classes: int | None) -> None:
    both = [key for key in own if key in state]
    problems = {
        "missing": [f"{key}: {tuple(own[key].shape)}" for key in own if key not in state],
        "not in the architecture": [f"{key}: {tuple(state[key].shape)}" for key in state if key not in own],
        "of another shape": [
            f"{key}: {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in both
            if state[key].shape != own[key].shape
        ],
        "of another kind of number": [
            f"{key}: {_word(state[key])} instead of {_word(own[key])}"
            for key in both
            if _kind(state[key]) != _kind(own[key]) and not key.endswith(_COUNTER)
        ],
    }
    if lines := [f"{len(keys)} {kind} ({first_few(keys)})" for kind, keys in problems.items() if keys]:
        hint = f"; `classes` lists {classes}" if problems["of another shape"] and classes else ""
        raise ValueError(f"{path} does not fit the architecture: {'; '.join(lines)}{hint}")


def _kind(tensor: Tensor) -> str:
    """Name what may be converted into each other without a loss of meaning; other types only into themselves."""
    if tensor.dtype in _FLOATS:
        return "floating point"
    whole = tensor.dtype != torch.bool and not (tensor.is_floating_point() or tensor.is_complex())
    return "whole number" if whole else _word(tensor)


def _word(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _read_tensors(path: Path, key: str | None = None) -> dict[str, Tensor]:
    """Read a dictionary of tensors from a torch or safetensors file, of the entry `key` where there is one."""
    if is_program(path):
        raise ValueError(f"{path} is a TorchScript archive, which is a program, not weights; save model.state_dict()")
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if head.endswith(b"{"):  # safetensors: the length of a JSON header in eight bytes, then the header
            state = safetensors.torch.load_file(path)
        else:
            _check_torch_file(path, zipped=head.startswith(b"PK"))
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ValueError(_why_unreadable(path, zipped=head.startswith(b"PK"))) from error
    state = _entry(state, key, path)
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a dictionary of tensors; save model.state_dict()")
    for key, value in state.items():
        plain = type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and value.device.type == "cpu"
        if not isinstance(key, str) or not plain or value.is_quantized or value.is_nested:
            remedy = "save model.state_dict(), or name the entry that holds the weights by `checkpoint_key`"
            raise ValueError(f"{path} holds {key!r}, which is no plain tensor with a name; {remedy}")
    return state


def _is_state(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(each, Tensor) for each in value.values())


def _entry(content: object, key: str | None, path: Path) -> object:
    """Choose the entry of a checkpoint that holds the weights."""
    if key is not None:
        found = content
        for name in [key] if isinstance(content, dict) and key in content else key.split("."):
            if not isinstance(found, dict) or name not in found:
                has = first_few(list(map(str, found))) if isinstance(found, dict) else f"a {type(found).__name__}"
                raise ValueError(f"{path} has no entry {key!r} (`checkpoint_key`); it has {has}")
            found = found[name]
        return found
    if not isinstance(content, dict) or _is_state(content):
        return content
    states = [str(name) for name, value in content.items() if _is_state(value) and value]
    if len(states) > 1:
        raise ValueError(
            f"{path} holds weights under {' and '.join(map(repr, states))}; choose one by `checkpoint_key` (ema: a "
            "running mean of the others, which is often what was evaluated)"
        )
    if states:
        print(f"{path}: weights of the entry {states[0]!r}")
    return content[states[0]] if states else content


def _why_unreadable(path: Path, *, zipped: bool) -> str:
    """Say why a file is not read as data: it is damaged, or asks for objects of classes, with the way out of that."""
    names: list[str] = []
    with contextlib.suppress(Exception):  # it may be damaged in any way
        if zipped:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        else:
            found = re.findall(rb"c([A-Za-z_][\w.]*)\n([A-Za-z_]\w*)\n", path.read_bytes()[: 1 << 20])
            names = [b".".join(pair).decode() for pair in found]
            names = [name for name in dict.fromkeys(names) if not _OF_TENSORS.match(name)]
    layers = [name for name in names if name.startswith("torch.nn.modules.")]
    if not names:
        return f"{path} is no checkpoint of tensors: it is damaged or holds other objects; save model.state_dict()"
    if harmful := [name for name in names if name.split(".")[0] in _HARMFUL]:
        return f"{path} is no checkpoint of tensors: it asks for {first_few(harmful)}, which weights never need"
    load = f"torch.load({path.name!r}, weights_only=False)"
    if layers:
        whole = first_few([name for name in names if name not in layers] or layers)
        return (
            f"{path} is a whole pickled network ({whole}), which is a program and is not run; where you trust it, "
            f"export its weights: torch.save({load}.state_dict(), 'weights.pth')"
        )
    return (
        f"{path} is no checkpoint of tensors alone: it holds other objects ({first_few(names)}), which only a program "
        f"can read; where you trust it, export the weights alone: torch.save({load}['model'], 'weights.pth'), "
        "or under what name they lie"
    )


def _check_torch_file(path: Path, *, zipped: bool) -> None:
    """Refuse a file with a wrong check sum, and pickles that would end the process in torch's reader."""
    if not zipped:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for _ in range(5):  # of torch before 1.6: a magic number, a version, the system, the objects, the storages
                pickles.operate(content)
        return
    with zipfile.ZipFile(path) as file:
        if len(set(file.namelist())) < len(file.namelist()):
            raise zipfile.BadZipFile("two members have one name")
        if sum(info.file_size for info in file.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile("its members overlap or are compressed, which torch.save never does")
        if any(info.external_attr & _FOLDER or info.compress_type != zipfile.ZIP_STORED for info in file.infolist()):
            raise zipfile.BadZipFile("a member is marked as a folder or compressed, which torch.save never does")
        try:
            damaged = file.testzip()
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise zipfile.BadZipFile("a member begins before the file") from error
        if damaged:
            raise zipfile.BadZipFile(f"the check sum of {damaged} is wrong")
        for name in file.namelist():
            if name.endswith(".pkl"):
                with file.open(name) as content:
                    pickles.operate(content)


def _read_arrays(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read a pickled dictionary of pairs of arrays, kernel (h, w, in, out) and bias (out,), each of its own memory."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            pairs = pickles.operate(content, pickles.ARRAYS)
    except _UNREADABLE as error:
        raise ValueError(f"{path} is no pickle of numpy arrays: {error}") from error
    if not isinstance(pairs, dict):
        what = {pickles.Name: "name", pickles.Made: "single object"}.get(type(pairs), type(pairs).__name__)
        raise ValueError(f"{path} is no pickle of numpy arrays: it holds a {what}")
    arrays = {}
    for key, pair in pairs.items():
        if not isinstance(key, str) or not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"{path}: {str(key)[:80]!r} must be a pair of numpy arrays, kernel and bias, by name")
        try:
            kernel, bias = arrays[key] = (_array(pair[0]), _array(pair[1]))
        except ValueError as error:
            raise ValueError(f"{path}: {key!r} is no pair of numpy arrays: {error}") from error
        if kernel.ndim != 4 or bias.ndim != 1:
            raise ValueError(
                f"{path}: {key!r} has shapes {kernel.shape} and {bias.shape}; a kernel has four axes, a bias one"
            )
    return arrays


def _array(made: object) -> np.ndarray:
    """Make one array of floating-point numbers from what a pickle says of it."""
    match made:
        case pickles.Made(
            "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct",
            state=(
                _,
                tuple() as shape,
                pickles.Made("numpy.dtype", arguments=(str() as code, *_), state=state),
                fortran,
                data,
            ),
        ):
            pass
        case _:
            raise ValueError("it holds something else")
    if not re.fullmatch(r"f[248]", code):
        raise ValueError(f"numbers of type {code[:20]!r}; allowed are f2, f4 and f8, floating point")
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "="
    if order not in ("<", ">", "="):
        raise ValueError("a byte order other than <, > or =")
    if not all(type(side) is int and side > 0 for side in shape) or len(shape) > pickles.NESTED:
        raise ValueError("a shape of other than positive whole numbers")
    data = data.encode("latin1") if isinstance(data, str) else data  # written by Python 2
    dtype = np.dtype(f"{order}{code}")
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"the shape {tuple(shape)} needs {math.prod(shape) * dtype.itemsize} bytes, there are others")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").astype(dtype.newbyteorder("="))
