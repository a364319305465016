"""Load a classifier with its weights, and what it needs to predict: input, device, precision, class names.

Weights come from a file that was retrieved before; `checkpoints` reads it.
"""

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unitlens.jobs.sheets import class_names, sides
from unitlens.networks import checkpoints, folding, heads, hub
from unitlens.networks.build import build, options_of
from unitlens.networks.memory import halving
from unitlens.storage import kept
from unitlens.storage.files import read_facts


class Network(NamedTuple):
    """A classifier that is ready to run."""

    model: nn.Module
    normalize: Callable[[Tensor], Tensor]  # uint8 images (n, h, w, 3) to its input, see `normalizer`
    predict: Callable[[Tensor], Tensor]  # uint8 images (n, h, w, 3) to probabilities (n, classes)
    device: torch.device
    facts: dict[str, str]  # model, weights_sha256, torch, precision: what its outputs carry


def load_classifier(
    architecture: str,
    weights: str | Path,
    *,
    layout: str = "named",
    device: str = "cpu",
    classes: int | None = None,
    head: str = "softmax",
    output: str | int | None = None,
    checkpoint_key: str | None = None,
    checkpoint_prefix: str | None = None,
    in_place: bool = False,
) -> nn.Module:
    """Load a classifier for inference.

    Parameters
    ----------
    architecture
        See `build`; or ``transformers:<org/name>``, with `weights` as `pretrained.retrieve` gives them.
    classes, head, output
        How many classes there are, by default as many as the library's own network has, and how its output is read: see
        `heads.attach`. Without `classes` the network returns what its code does.
    layout : {"named", "ordered", "squeezenet_caffe"}
        How the checkpoint maps to the parameters. ``named``: by key (the counters of batch normalization, which torch
        did not save before 0.4.1, may be missing).
        ``ordered``: by position, every shape checked; for a re-implementation with other names. ``squeezenet_caffe``: a
        pickle of numpy arrays in height-width-in-out order for BGR input, folded to torchvision's convention.
    device : {"cpu", "cuda", "mps", "auto"}
        See `pick_device`.
    checkpoint_key, checkpoint_prefix
        Which entry of the checkpoint holds the weights, and what precedes their names there: see `checkpoints.read`.
    in_place
        Let activations work in place where the code of the network says so: a few percent sooner, but what is given to
        a layer, or kept of it, may change.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, float32, without gradients for its parameters, channels last.
        From here on cuDNN takes deterministic algorithms only.

    Raises
    ------
    ValueError
        `weights` were kept by their sha256 and have changed since; they do not fit.
    """
    kept.check(weights)
    device = pick_device(device)
    if device.type == "cpu":
        _keep_freed_memory()
    torch.backends.cudnn.deterministic = True  # or gradients would differ from run to run in their last bits
    outputs = classes and heads.outputs_of(head, classes)
    if architecture.startswith("transformers:"):
        model = hub.load_classifier(weights)
    else:
        model = build(architecture, classes=outputs)
        state = checkpoints.read(weights, layout, model, key=checkpoint_key, prefix=checkpoint_prefix)
        if options := options_of(architecture, state):
            model = build(architecture, classes=outputs, **options)
        checkpoints.fill(model, state, weights, classes=classes)
    if classes:
        heads.attach(model, kind=head, output=output, classes=classes)
    for module in model.modules():
        if getattr(module, "inplace", None) is True:
            module.inplace = in_place
    return model.eval().requires_grad_(False).float().to(device, memory_format=torch.channels_last)


def load_network(
    network: Mapping[str, object],
    weights: str | Path,
    facts: str | Path,
    *,
    device: str,
    layers: Sequence[str] | None = None,
    change: Callable[[nn.Module], None] = lambda _: None,
) -> Network:
    """Load what a job needs of a network; its settings are those of `load_configured` and ``precision, mean, std``.

    `weights` is the checkpoint, and `facts` what `check_model` wrote, for the model's name, the hash of the weights and
    the size of images. A job that reads no weights says whose outputs it reads, `layers`, if any: batch normalization
    is folded for it, see `folding`; where it reads none, activations work in place. `change` is done to the network
    first.
    """
    start = time.monotonic()
    known = read_facts(facts)
    nothing_read = layers is not None and not layers
    model = load_configured(network, weights, device=device, in_place=nothing_read)
    where = next(model.parameters()).device
    print(f"{known['model']} loaded on {where} in {time.monotonic() - start:.1f} s", flush=True)
    about = {name: known[name] for name in ("model", "weights_sha256")}
    about |= {"torch": torch.__version__, "precision": network["precision"]}
    layout = torch.channels_last if known.get("channels_last", True) else torch.contiguous_format
    normalize_to = partial(normalizer, network["mean"], network["std"], device=where, layout=layout)
    model, dtype = set_precision(model.to(memory_format=layout), "float32")
    change(model)
    if layers is not None:
        images = normalize_to(dtype=dtype)(noise(known["input"]["crop"]))
        folding.fold_batch_norm(model, lambda: model(images), layers=layers)
    model, dtype = set_precision(model, network["precision"])
    normalize = normalize_to(dtype=dtype)
    return Network(model, normalize, predictor(model, normalize), where, about)


def load_configured(
    network: Mapping[str, object], weights: str | Path, *, device: str = "cpu", in_place: bool = False
) -> nn.Module:
    """Load a classifier by its settings ``architecture, layout, classes`` and, if given, ``head, output``."""
    keys = ("layout", "head", "output", "checkpoint_key", "checkpoint_prefix")
    options = {key: network[key] for key in keys if network.get(key) is not None}
    classes = len(class_names(network["classes"]))
    options |= {"device": device, "classes": classes, "in_place": in_place}
    return load_classifier(network["architecture"], weights, **options)


def set_precision(model: nn.Module, precision: str) -> tuple[nn.Module, torch.dtype]:
    """Choose the arithmetic of a network for the rest of the process; give it, and the type that its input must have.

    ``tf32``: convolutions round their factors to 10 bits on GPUs that can, torch's own default, and are float32
    elsewhere. ``float32``: strict. ``bf16``: weights and activations have 8 bits of precision; two to three times
    faster, and saliency maps differ visibly. Complex weights stay as they are.
    """
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    if precision == "bf16":
        return model.bfloat16(), torch.bfloat16
    return model.float(), torch.float32


def noise(crop: int | Sequence[int]) -> Tensor:
    """Make two uint8 images (2, h, w, 3) of random pixels; `crop` is a side, or height and width."""
    return torch.from_numpy(np.random.default_rng(0).integers(256, size=(2, *sides(crop), 3), dtype=np.uint8))


def pick_device(device: str) -> torch.device:
    """Resolve ``auto``, ``cuda``, ``mps`` or ``cpu``; a GPU that is asked for and missing is a RuntimeError."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError(
            f"device: mps was configured, but torch {torch.__version__} sees no GPU of Apple's; set device: cpu"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"device: cuda was configured, but torch {torch.__version__} (built for CUDA {torch.version.cuda}) sees no "
            "GPU; check the driver with nvidia-smi, or set device: cpu"
        )
    return torch.device(device)


def normalizer(
    mean: Sequence[float],
    std: Sequence[float],
    *,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.channels_last,
) -> Callable[[Tensor], Tensor]:
    """Make the function from decoded images, uint8 (n, h, w, 3), to input, `dtype` (n, channels, h, w).

    `mean` and `std` are per channel, for pixel values scaled to [0, 1]; with one of each the first channel is taken, of
    images whose channels are equal. Images are moved to the device as uint8, a quarter of the bytes, and only then
    converted; the arithmetic is float32.
    """
    mean, std = (torch.tensor(values, device=device, dtype=torch.float32) for values in (mean, std))
    scale, shift = 1 / (255 * std), -mean / std

    def normalize(images: Tensor) -> Tensor:
        images = torch.as_tensor(images).to(device, non_blocking=True)
        n, height, width, _ = images.shape
        images = images[..., : len(mean)]
        rows = images.float().reshape(n, height, width * len(mean))  # long: broadcasting three is slow
        rows = rows.mul_(scale.repeat(width)).add_(shift.repeat(width))
        pixels = rows.view(n, height, width, len(mean)).permute(0, 3, 1, 2)
        return pixels.to(dtype).contiguous(memory_format=layout)

    return normalize


def predictor(model: nn.Module, normalize: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Make the function from uint8 images (n, h, w, channels) to class probabilities (n, classes)."""

    @halving
    @torch.inference_mode()
    def predict(images: Tensor) -> Tensor:
        return heads.probabilities(model, model(normalize(images)))

    return predict


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
