"""Networks of transformers, and tokenizers, from files of huggingface.co that were retrieved before.

What belongs together is one zip archive: a classifier's ``config.json``, ``model.safetensors`` and
``preprocessor_config.json``, or the weights of an image-text encoder with the files of its tokenizer.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unitlens.storage.archives import unpack
from unitlens.storage.files import write

if TYPE_CHECKING:
    from torch import nn

CLASSIFIER_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")  # the last one may be missing
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
WEIGHTS_FILE = "weights.bin"  # of an encoder, beside its tokenizer
_FROM_ELSEWHERE = ("auto_map", "attn_implementation", "quantization_config")  # keys that lead to other code
_HARMLESS = (None, True, False, "eager", "sdpa")  # values of `attn_implementation` that are torch's own
_MOST = {"num_hidden_layers": 1000}  # of any other number: 2^20
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def url(repository: str, file: str, revision: str = "main") -> str:
    """Give the address of a file of a repository on huggingface.co, or on the mirror that HF_ENDPOINT names."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    return f"{endpoint}/{repository}/resolve/{revision}/{file}"


def pack(files: Mapping[str, Path], archive: Path) -> Path:
    """Put files, by name, into a zip archive, the same bytes for the same files; gives the archive."""
    part = archive.with_name(f"{archive.name}.{os.getpid()}.part")
    with zipfile.ZipFile(part, "w") as target:
        for name in sorted(files):
            with files[name].open("rb") as reader, target.open(zipfile.ZipInfo(name), "w", force_zip64=True) as writer:
                while chunk := reader.read(1 << 20):
                    writer.write(chunk)
    with part.open("rb") as reader:
        write(reader, archive)
    part.unlink()
    return archive


def members(archive: Path) -> set[str]:
    """Name what lies in an archive; nothing of a file that is none."""
    if not zipfile.is_zipfile(archive):
        return set()
    with zipfile.ZipFile(archive) as file:
        return set(file.namelist())


@contextmanager
def unpacked(archive: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """Give a folder with some files of an archive, for the block."""
    with tempfile.TemporaryDirectory() as folder:
        unpack(archive, folder, names)
        yield Path(folder)


def load_classifier(archive: str | Path) -> nn.Module:
    """Load an image classifier of transformers from its archive; nothing is looked up anywhere.

    A ValueError if the archive lacks a file, asks for code from elsewhere, holds no image classifier that this version
    of transformers knows, or not all of its weights.
    """
    archive = Path(archive)
    if missing := [name for name in CLASSIFIER_FILES[:2] if name not in members(archive)]:
        raise ValueError(
            f"{archive} holds no {missing[0]}: `architecture: transformers:...` needs `weights: {{huggingface: ...}}`, "
            f"or by `path` a zip archive with {' and '.join(CLASSIFIER_FILES[:2])}, as save_pretrained writes them"
        )
    import torch
    from transformers import AutoModelForImageClassification

    with unpacked(archive, CLASSIFIER_FILES[:2]) as folder:
        check_settings(folder / "config.json", archive)
        try:
            model, told = AutoModelForImageClassification.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except Exception as error:  # transformers raises nothing narrower
            raise ValueError(f"{archive} holds no image classifier: {str(error).partition(chr(10))[0]}") from error
    if absent := sorted([*told["missing_keys"], *(str(key) for key in told.get("mismatched_keys", ()))]):
        raise ValueError(
            f"{archive}: model.safetensors lacks {len(absent)} tensors of {type(model).__name__}, {absent[0]} first; a "
            "repository of a backbone alone has no classes to explain"
        )
    return model


def published_input(archive: str | Path) -> dict[str, object] | None:
    """State how the publisher prepares images, in the words of the config: see `pretrained.published_input`."""
    name = CLASSIFIER_FILES[2]
    if name not in members(Path(archive)):
        return None
    with unpacked(Path(archive), (name,)) as folder:
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
    size, crop = settings.get("size"), settings.get("crop_size")
    size = {"height": size, "width": size} if isinstance(size, int) else size or {}
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop or {}
    interpolation = _INTERPOLATIONS.get(settings.get("resample"))
    if not settings.get("do_resize", True) or not settings.get("do_rescale", True) or interpolation is None:
        return None
    if "shortest_edge" in size:
        fit, resize = "short", size["shortest_edge"]
        if "crop_pct" in settings and not settings.get("do_center_crop"):  # as ConvNeXt's: cut below 384 pixels
            if resize >= 384:
                return None
            crop, resize = {"height": resize, "width": resize}, int(resize / settings["crop_pct"])
        elif not settings.get("do_center_crop"):
            return None
    else:
        fit, resize = "squash", size.get("height")
        crop = crop if settings.get("do_center_crop") else size
        if resize is None or resize != size.get("width"):
            return None
    if crop.get("height") is None or crop.get("height") != crop.get("width"):
        return None
    normalized = settings.get("do_normalize", True)
    mean, std = (settings.get("image_mean"), settings.get("image_std")) if normalized else ([0.0] * 3, [1.0] * 3)
    if mean is None or std is None:
        return None
    keys = {"fit": fit, "resize": resize, "crop": crop["height"], "interpolation": interpolation}
    return keys | {"mean": mean, "std": std}


def check_settings(path: Path, archive: Path) -> None:
    """Refuse settings of a network that ask for code from elsewhere, or for more than any network has: a ValueError."""

    def check(items: list[tuple[str, object]]) -> dict[str, object]:
        for key, value in items:
            if any(name in key for name in _FROM_ELSEWHERE) and value not in _HARMLESS:
                raise ValueError(f"{key!r} asks for code from elsewhere, and none is run")
            most = _MOST.get(key, 1 << 20)
            if isinstance(value, int | float) and not abs(value) <= most:
                raise ValueError(f"{key} is {value!r}, and {most:,} is the most")
        return dict(items)

    try:
        settings = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=check)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{archive}: config.json is refused: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{archive}: config.json must hold the settings of a network, by name")
