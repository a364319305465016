"""Load an image classifier: architecture by name, weights by layout, and what is known about its input and its classes.

Architectures come from torchvision, timm or any importable function; weights from a file that was retrieved before.
`checkpoints` reads these files.
"""

import ctypes
import difflib
import hashlib
import importlib
import importlib.util
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import torch
import torchvision
from torch import Tensor, nn

from unitlens import __version__, checkpoints, tables
from unitlens.hooks import capture, find_layer


def build(architecture: str, *, classes: int | None = None) -> nn.Module:
    """Make an untrained network.

    Parameters
    ----------
    architecture : str
        ``torchvision:<name>``, ``timm:<name>``, ``<path of a file>.py:<function>`` or ``<installed
        module>:<function>``, where the function takes no argument and returns a network. Modules beside the file can be
        imported by it; the working folder is never searched.
    classes : int, optional
        Number of outputs of a torchvision or timm network, where it is not the library's own.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        If the library has no such name, or the module has no such function.
    FileNotFoundError, ModuleNotFoundError
        If there is no such file or module.
    """
    library, _, name = architecture.rpartition(":")
    outputs = {} if classes is None else {"num_classes": classes}
    if library == "torchvision":
        if name not in torchvision.models.list_models():
            raise ValueError(
                f"torchvision has no model {name!r}; nearest: {nearest(name, torchvision.models.list_models())}"
            )
        return torchvision.models.get_model(name, weights=None, **outputs)
    if library == "timm":
        import timm  # a second and a half that only timm's models pay

        if not timm.is_model(name):
            raise ValueError(f"timm has no model {name!r}; nearest: {nearest(name, timm.list_models())}")
        return timm.create_model(name, pretrained=False, **outputs)
    module = _module_of_file(Path(library)) if library.endswith(".py") else _installed_module(library)
    if not callable(getattr(module, name, None)):
        functions = [key for key, value in vars(module).items() if callable(value)]
        raise ValueError(f"module {library!r} has no function {name!r}; nearest: {nearest(name, functions)}")
    return getattr(module, name)()


def _module_of_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"`architecture`: there is no file {path}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last: a file beside it hides no package
    name = f"unitlens_user_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def _installed_module(name: str) -> ModuleType:
    """Import a module, but not one that happens to lie in the working folder, which Snakemake puts on the path."""
    path, here = list(sys.path), Path.cwd()
    sys.path[:] = [folder for folder in path if folder and Path(folder).resolve() != here]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"`architecture`: there is no installed module {name!r}; a file of your own is given by its path, "
            f"for example models/{name}.py:<function>"
        ) from error
    finally:
        sys.path[:] = path


def load(
    architecture: str, weights: str | Path, *, layout: str = "named", device: str = "cpu", classes: int | None = None
) -> nn.Module:
    """Load a classifier for inference.

    Parameters
    ----------
    architecture, classes
        See `build`.
    weights : str or Path
        The checkpoint.
    layout : {"named", "ordered", "squeezenet_caffe"}
        How the checkpoint maps to the parameters. ``named``: by key (a ``state_dict`` entry and a ``module.`` prefix
        are removed; the counters of batch normalisation, which torch did not save before 0.4.1, may be missing).
        ``ordered``: by position, every shape checked; for a re-implementation with other names. ``squeezenet_caffe``: a
        pickle of numpy arrays in height-width-in-out order for BGR input, folded to torchvision's convention.
    device : {"cpu", "cuda", "auto"}
        Where the network goes.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, without gradients for its parameters, channels last, with no in-place activation. From here
        on cuDNN takes deterministic algorithms only.

    Raises
    ------
    ValueError
        If `weights` is no checkpoint, or its keys do not fit: see `checkpoints.read` and `checkpoints.fill`.
    RuntimeError
        If `device` is "cuda" and there is none.
    """
    device = pick_device(device)
    if device.type == "cpu":
        _keep_freed_memory()
    torch.backends.cudnn.deterministic = True  # or gradients would differ from run to run in their last bits
    model = build(architecture, classes=classes)
    checkpoints.fill(model, checkpoints.read(weights, layout, model), weights, classes=classes)
    for module in model.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False
    return model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)


def load_network(
    network: Mapping[str, object], weights: str | Path, facts: str | Path, *, device: str
) -> tuple[nn.Module, Callable[[Tensor], Tensor], dict[str, str]]:
    """Load what a job needs: the network, its normaliser, and the facts that its outputs carry.

    Parameters
    ----------
    network : mapping
        ``architecture, layout, classes, precision, mean`` and ``std`` from the config.
    weights : str or Path
        The checkpoint.
    facts : str or Path
        What `check_model` wrote, for the name and the hash of the weights.
    device : {"cpu", "cuda", "auto"}

    Returns
    -------
    model : torch.nn.Module
    normalise : callable
        See `normaliser`.
    facts : dict
        ``model, weights_sha256, torch`` and ``precision``.
    """
    start = time.monotonic()
    known = read_facts(facts)
    model = load(
        network["architecture"],
        weights,
        layout=network["layout"],
        device=device,
        classes=len(class_names(network["classes"])),
    )
    where = next(model.parameters()).device
    print(f"{known['model']} loaded on {where} in {time.monotonic() - start:.1f} s", flush=True)
    facts = {name: known[name] for name in ("model", "weights_sha256")}
    model, dtype = set_precision(model, network["precision"])
    normalise = normaliser(network["mean"], network["std"], device=where, dtype=dtype)
    return model, normalise, facts | {"torch": torch.__version__, "precision": network["precision"]}


def read_facts(path: str | Path) -> dict[str, object]:
    """Read what `check_model` wrote about a model."""
    return json.loads(Path(path).read_text())


def versions() -> str:
    """Name the versions of Unitlens and torch."""
    return f"Unitlens {__version__}, torch {torch.__version__}"


def set_precision(model: nn.Module, precision: str) -> tuple[nn.Module, torch.dtype]:
    """Choose the arithmetic of a network for the rest of the process.

    Parameters
    ----------
    model : torch.nn.Module
    precision : {"tf32", "float32", "bf16"}
        ``tf32``: convolutions round their factors to 10 bits on GPUs that can, torch's own default, and are float32
        elsewhere. ``float32``: strict. ``bf16``: weights and activations have 8 bits of precision; two to three times
        faster, and saliency maps differ visibly.

    Returns
    -------
    model : torch.nn.Module
    dtype : torch.dtype
        What its input must be.
    """
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return model.to(dtype), dtype


def pick_device(device: str) -> torch.device:
    """Resolve ``auto``, ``cuda`` or ``cpu``; a CUDA device that is asked for and missing is an error, never the CPU.

    Parameters
    ----------
    device : {"cpu", "cuda", "auto"}

    Returns
    -------
    torch.device

    Raises
    ------
    RuntimeError
        If CUDA was asked for and torch sees no device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"device: cuda was configured, but torch {torch.__version__} (built for CUDA {torch.version.cuda}) sees no "
            "GPU; check the driver with nvidia-smi, or set device: cpu"
        )
    return torch.device(device)


def normaliser(
    mean: Sequence[float], std: Sequence[float], *, device: torch.device | str, dtype: torch.dtype = torch.float32
) -> Callable[[Tensor], Tensor]:
    """Make the function from decoded pictures to network input, run on the device.

    Parameters
    ----------
    mean, std : sequence of three floats
        Per channel, for pixel values scaled to [0, 1].
    device : torch.device or str
        Pictures are moved there as uint8, a quarter of the bytes, and only then converted.
    dtype : torch.dtype
        Of the result; the arithmetic is float32.

    Returns
    -------
    callable
        uint8 (n, h, w, 3) -> `dtype` (n, 3, h, w), channels last.
    """
    mean, std = (torch.tensor(values, device=device, dtype=torch.float32) for values in (mean, std))
    scale, shift = 1 / (255 * std), -mean / std

    def normalise(images: Tensor) -> Tensor:
        images = torch.as_tensor(images).to(device, non_blocking=True)
        n, height, width, _ = images.shape
        rows = images.float().reshape(n, height, width * 3)  # long: broadcasting three numbers is four times slower
        rows = rows.mul_(scale.repeat(width)).add_(shift.repeat(width))
        return rows.view(n, height, width, 3).permute(0, 3, 1, 2).to(dtype)

    return normalise


def predictor(model: nn.Module, normalise: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Make the function from uint8 pictures (n, h, w, 3) to class probabilities (n, classes)."""

    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        return model(normalise(images)).float().softmax(1)

    return predict


def choose_targets(probabilities: Tensor, labels: Sequence[int], target: str | int, image_ids: Sequence[str]) -> Tensor:
    """Choose the class that is explained for each picture.

    Parameters
    ----------
    probabilities : Tensor, shape (n, classes)
    labels : sequence of int
        The sheet's labels; -1 where there is none.
    target : {"predicted", "label"} or int
        The class of highest probability, the sheet's, or the number of one class for all pictures.
    image_ids : sequence of str
        For messages.

    Returns
    -------
    Tensor, shape (n,), int64
        On the device of `probabilities`; -1 where there is none: for the sheet's class without a label, for the
        predicted one where a probability is NaN.

    Raises
    ------
    ValueError
        If a class or label is asked for that the model has no output for.
    """
    if target == "predicted":
        return predicted_class(probabilities)
    n, classes = probabilities.shape
    if target != "label":
        if not 0 <= target < classes:
            raise ValueError(f"explain.target is class {target}; the model's classes are 0 to {classes - 1}")
        return torch.full((n,), target, device=probabilities.device)
    for image_id, label in zip(image_ids, labels, strict=True):
        if label >= classes:
            raise ValueError(f"image {image_id!r} has label {label}; the model's classes are 0 to {classes - 1}")
    return torch.as_tensor(labels, device=probabilities.device).long()


def predicted_class(probabilities: Tensor) -> Tensor:
    """Give the class of highest probability (n,), -1 where one of (n, classes) is NaN or infinite."""
    return probabilities.argmax(1).masked_fill(~probabilities.isfinite().all(1), -1)


def class_names(classes: str | int) -> list[str]:
    """Name a model's outputs.

    Parameters
    ----------
    classes : str or int
        ``imagenet``, the path of a text file with one name a line, or how many there are, without names.

    Returns
    -------
    list of str

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    """
    if isinstance(classes, int):
        return [f"class {number}" for number in range(classes)]
    if classes == "imagenet":
        return list(torchvision.models._meta._IMAGENET_CATEGORIES)
    if not Path(classes).is_file():
        raise FileNotFoundError(f"classes: {classes} is neither 'imagenet' nor a file with one class name a line")
    return Path(classes).read_text(encoding="utf-8-sig").splitlines()


def mask_words(masks: str | None = None, boxes: str | None = None, *, ours: bool = False) -> pd.DataFrame:
    """Say what the masks or boxes of the probe set mark.

    Parameters
    ----------
    masks : str, optional
        CSV file with the columns ``value, word, category``.
    boxes : str, optional
        Names of the classes that the sheet's labels number, as for `class_names`.
    ours : bool
        `masks` was written by the workflow, and not by its user.

    Returns
    -------
    pandas.DataFrame
        ``value, word, category``; boxes mark objects.
    """
    if masks:
        table = tables.read(masks) if ours else tables.read_texts(masks)
        return table[["value", "word", "category"]].astype({"value": int})
    names = class_names(boxes)
    return pd.DataFrame({"value": range(len(names)), "word": names, "category": "object"})


def prediction_table(
    arrays: Mapping[str, np.ndarray], facts: Mapping[str, object], classes: Mapping[str, str]
) -> pd.DataFrame:
    """Tabulate what a model predicts for the pictures of one shard of explanations.

    Parameters
    ----------
    arrays, facts : mapping
        A file of explanations as `store.read` gives it.
    classes : mapping
        From a model's name to its `class_names` argument.

    Returns
    -------
    pandas.DataFrame
        ``model, image_id, label, label_name, predicted, predicted_name, probability, correct, target, target_name,
        target_probability``; the label's columns are empty where the sheet gives none, those of a class where the
        network returns NaN or, explaining labels, there is none.

    Raises
    ------
    ValueError
        If a picture's label is no class of the model.
    """
    names = np.array([*class_names(classes[facts["model"]]), ""], dtype=object)  # of number -1: there is none
    label, predicted, target = (arrays[name] for name in ("label", "predicted", "target"))
    for image_id, number in zip(arrays["image_id"], label, strict=True):
        if number >= len(names) - 1:
            raise ValueError(
                f"image {image_id!r} has label {number}; {facts['model']} has {len(names) - 1} classes, from 0"
            )
    table = pd.DataFrame(
        {
            "model": facts["model"],
            "image_id": arrays["image_id"],
            "label": label.astype(object),
            "label_name": names[label],
            "predicted": predicted.astype(object),
            "predicted_name": names[predicted],
            "probability": arrays["predicted_probability"],
            "correct": (predicted == label).astype(object),
            "target": target.astype(object),
            "target_name": names[target],
            "target_probability": arrays["target_probability"],
        }
    )
    table.loc[label < 0, ["label", "label_name"]] = ""
    table.loc[predicted < 0, "predicted"] = ""
    table.loc[target < 0, "target"] = ""
    table.loc[(label < 0) | (predicted < 0), "correct"] = ""
    return table


def predictions(
    explanations: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]], classes: Mapping[str, str]
) -> pd.DataFrame:
    """Put the tables of `prediction_table` of several files of explanations below each other, every picture once."""
    parts = [prediction_table(arrays, facts, classes) for arrays, facts in explanations]
    return pd.concat(parts).drop_duplicates(["model", "image_id"], ignore_index=True)


def captions(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object], classes: Mapping[str, str]) -> list[str]:
    """Name every picture's explained class with its probability, and what is wrong with its map, if anything.

    Arguments are as in `prediction_table`, with ``warning`` among the arrays.
    """
    table = prediction_table(arrays, facts, classes)
    named = zip(table.target_name, table.target_probability, arrays["warning"], strict=True)
    return [", ".join(filter(None, [explained_class(name, p), warning])) for name, p, warning in named]


def explained_class(name: str, probability: float) -> str:
    """Name a class with its probability, for a caption."""
    return f"{name}, p = {probability:.2f}" if name else "no class"


def weights_source(weights: Mapping[str, str]) -> dict[str, str]:
    """Turn a library's name of weights into the url where they are published, and their hash where it is, too.

    Parameters
    ----------
    weights : mapping
        With ``torchvision: <Enum>.<MEMBER>``, or ``timm: <network>.<tag>``, and perhaps a ``sha256`` of one's own;
        others are kept.

    Returns
    -------
    dict
        As `sources.fetch` takes it. Of timm the file on huggingface.co, whose keys are those of the network; those of
        older addresses are not always.

    Raises
    ------
    ValueError
        If the library has no such weights.
    """
    if "torchvision" in weights:
        try:
            url = torchvision.models.get_weight(weights["torchvision"]).url
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"torchvision has no weights {weights['torchvision']!r}: {error}") from None
        found = {"url": url} | hash_in_name(url)
    elif "timm" in weights:
        repository = _timm_settings(weights["timm"]).hf_hub_id
        if not repository:
            raise ValueError(f"timm does not publish the weights {weights['timm']!r} on huggingface.co; give a `url`")
        found = {"url": hub_url(repository, "model.safetensors")}
    else:
        return dict(weights)
    return found | {key: value for key, value in weights.items() if key == "sha256"}


def hash_in_name(url: str) -> dict[str, str]:
    """Give the first digits of the sha256 that a name such as ``resnet18-f37072fd.pth`` ends with."""
    found = re.search(r"-([0-9a-f]{8})\.\w+\Z", url)
    return {"sha256": found[1]} if found else {}


def hub_url(repository: str, file: str) -> str:
    """Give the address of a file of a repository on huggingface.co."""
    return f"https://huggingface.co/{repository}/resolve/main/{file}"


def _timm_settings(name: str) -> "timm.models.PretrainedCfg":
    """Give what timm knows about pretrained weights."""
    import timm

    try:
        settings = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the network is known, the tag is not
        settings = None
    if settings is None:
        raise ValueError(f"timm has no weights {name!r}; nearest: {nearest(name, timm.list_pretrained())}")
    return settings


def published_input(architecture: str, weights: Mapping[str, str]) -> dict[str, object] | None:
    """State how the publisher of some weights prepares pictures, in the words of the config.

    Parameters
    ----------
    architecture : str
        See `build`.
    weights : mapping
        Where they come from, as in the config.

    Returns
    -------
    dict or None
        ``fit, resize, crop, interpolation, mean`` and ``std``, from the ``transforms()`` of torchvision's weights, the
        ``pretrained_cfg`` of timm's network, or the example published with the networks of Places365. None where none
        of them states them in these words.
    """
    if weights.get("url", "").startswith(_PLACES365_ADDRESS):
        return dict(_PLACES365_INPUT)
    if "torchvision" in weights:
        transform = torchvision.models.get_weight(weights["torchvision"]).transforms()
        (crop,), (resize,) = transform.crop_size, transform.resize_size
        keys = {"fit": "short", "resize": resize, "crop": crop, "interpolation": transform.interpolation.value}
        return keys | {"mean": list(transform.mean), "std": list(transform.std)}
    library, _, name = architecture.partition(":")
    if library != "timm":
        return None
    import timm

    settings = timm.data.resolve_data_config(pretrained_cfg=_timm_settings(weights.get("timm", name)).to_dict())
    fits = {"center": "short", "squash": "squash"}
    height, width = settings["input_size"][1:]
    if settings["crop_mode"] not in fits or settings["interpolation"] not in ("bilinear", "bicubic") or height != width:
        return None
    resize = math.floor(height / settings["crop_pct"])
    keys = {"fit": fits[settings["crop_mode"]], "resize": resize, "crop": height}
    keys["interpolation"] = settings["interpolation"]
    return keys | {"mean": list(settings["mean"]), "std": list(settings["std"])}


_PLACES365_ADDRESS = "http://places2.csail.mit.edu/models_places365/"
_PLACES365_INPUT = {  # run_placesCNN_basic.py of CSAILVision/places365
    **{"fit": "squash", "resize": 256, "crop": 224, "interpolation": "bilinear"},
    **{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def departures(used: Mapping[str, object], published: Mapping[str, object] | None) -> list[str]:
    """Say in a line each where the input of the config departs from the published one; none where that is not known."""
    return [f"{key}: {used[key]}, published {value}" for key, value in (published or {}).items() if used[key] != value]


def nearest(name: str, names: Sequence[str]) -> str:
    """Name the three of `names` most like `name`, for error messages."""
    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0)) or "none"


def describe(
    model: nn.Module, layers: Sequence[str], *, crop: int, classes: Sequence[str], name: str
) -> dict[str, object]:
    """Run one black picture and say what the configured layers give.

    Parameters
    ----------
    model : torch.nn.Module
    layers : sequence of str
        Dotted names.
    crop : int
        Side of the input in pixels.
    classes : sequence of str
        Names of the outputs.
    name : str
        The model's name, for messages.

    Returns
    -------
    dict
        ``parameters``, ``classes``, and for each layer its output ``shape`` without the image axis.

    Raises
    ------
    ValueError
        If a layer does not exist (all of them at once, nearest names shown), does not run or returns something else
        than one tensor, if the network cannot take pictures of this size, or if the number of outputs is not the number
        of class names.
    """
    problems = []
    for layer in layers:
        try:
            find_layer(model, layer, model_name=name)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    device = next(model.parameters()).device
    try:
        with torch.inference_mode(), capture(model, list(layers)) as outputs:
            logits = model(torch.zeros(1, 3, crop, crop, device=device))
    except (RuntimeError, AssertionError) as error:  # too small for its strides, or not the size of a transformer
        raise ValueError(
            f"{name} cannot take pictures of {crop} x {crop} pixels; set `preprocessing.crop` to what it was trained "
            f"with ({error})"
        ) from error
    if missing := [layer for layer in layers if layer not in outputs]:
        raise ValueError(f"{name}: the forward pass does not run {', '.join(missing)}")
    if logits.ndim != 2 or logits.shape[1] != len(classes):
        raise ValueError(
            f"{name} returns {tuple(logits.shape[1:])} outputs an image, but its classes list {len(classes)} names"
        )
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "classes": len(classes),
        "layers": {layer: list(outputs[layer].shape[1:]) for layer in layers},
    }


def _keep_freed_memory() -> None:
    """Let glibc keep the memory that tensors free.

    By default every large activation is mapped afresh and given back, and the kernel clears its pages each time: up to
    three quarters of the run time of a convolutional network on the CPU. Other C libraries are left alone.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        trim_threshold, mmap_threshold, mmap_max = -1, -3, -4  # M_TRIM_THRESHOLD, ... of malloc.h
        if not libc.mallopt(mmap_threshold, 1 << 30):  # more than glibc before 2.35 allows
            libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
