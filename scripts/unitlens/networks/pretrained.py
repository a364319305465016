"""Published weights and the input that they were trained for."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from unitlens.jobs.characters import nearest
from unitlens.jobs.inputs import download_folder, hub_folder
from unitlens.jobs.sheets import sides
from unitlens.networks import hub
from unitlens.storage.download import SETTINGS, WEIGHTS
from unitlens.storage.fetch import fetch
from unitlens.storage.kept import keep

if TYPE_CHECKING:
    import timm

_PLACES365_ADDRESS = "http://places2.csail.mit.edu/models_places365/"

_PLACES365_INPUT = {  # run_placesCNN_basic.py of CSAILVision/places365
    **{"fit": "squash", "resize": 256, "crop": 224, "interpolation": "bilinear"},
    **{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def retrieve(weights: Mapping[str, str], folder: str | Path, *, lock: str | Path, progress: IO[str]) -> Path:
    """Bring the file of some weights of the config, as `fetch.fetch` does, and what belongs to them.

    Of ``huggingface: <org/name>`` (with a ``revision``, by default main) it is an archive of `hub.CLASSIFIER_FILES`; of
    ``open_clip``, where the tokenizer lies on huggingface.co, one of the weights and `hub.TOKENIZER_FILES`. `folder` is
    where downloads land, `lock` the file of their hashes. A ValueError if a library has no such weights.
    """
    folder, options = Path(folder), {"lock": lock, "progress": progress}

    def get(repository: str, names: tuple[str, ...], revision: str = "main", **hashes: str) -> dict[str, Path]:
        kinds = {name: WEIGHTS if name.endswith(".safetensors") else SETTINGS for name in names}
        own = folder / hub_folder(repository, revision)  # files of all repositories have the same names
        return {
            name: fetch({"url": hub.url(repository, name, revision)} | hashes, own, kinds=kinds[name], **options)
            for name in names
        }

    if "huggingface" in weights:
        repository, revision = weights["huggingface"], weights.get("revision", "main")
        settings, tensors, about = hub.CLASSIFIER_FILES
        hashes = {key: weights[key] for key in ("sha256",) if key in weights}
        files = get(repository, (settings,), revision) | get(repository, (tensors,), revision, **hashes)
        try:
            files |= get(repository, (about,), revision)
        except OSError as error:
            if "404" not in str(error):
                raise
            print(f"{repository} publishes no {about}: how it prepares images is not known")
        return hub.pack(files, folder / "classifier.zip")
    file = fetch(weights_source(weights), folder, **options)
    repository = tokenizer_repository(weights["open_clip"].partition(":")[0]) if "open_clip" in weights else None
    if not repository:
        return file
    return hub.pack({hub.WEIGHTS_FILE: file} | get(repository, hub.TOKENIZER_FILES), folder / "encoder.zip")


def retrieve_and_keep(weights: Mapping[str, str], store: str | Path, link: str | Path, *, progress: IO[str]) -> None:
    """Bring the file of some weights as `retrieve` does, and keep it in the folder `store` as `kept.keep` does.

    Downloads and the file of their hashes lie beside `store`. A ValueError if a library has no such weights.
    """
    beside = Path(store).parent
    folder = beside / "downloads" / download_folder(weights)
    file = retrieve(weights, folder, lock=beside / "lock.json", progress=progress)
    with file.open("rb") as reader:
        print(f"{file} has sha256 {keep(reader, store, link)}")


def tokenizer_repository(architecture: str) -> str | None:
    """Give the repository of huggingface.co with the tokenizer of open_clip's architecture; None: it brings one."""
    import open_clip

    return (open_clip.get_model_config(architecture) or {}).get("text_cfg", {}).get("hf_tokenizer_name")


def weights_source(weights: Mapping[str, str]) -> dict[str, str]:
    """Turn a library's name of weights into the url where they are published, and their hash where it is, too.

    ``torchvision: <Enum>.<MEMBER>``, ``timm: <network>.<tag>`` and ``open_clip: <architecture>:<weights>`` may have a
    ``sha256`` of one's own beside them; others are kept. The result is a source of `fetch.fetch`. Of timm it is the
    file on huggingface.co, whose keys are those of the network; those of older addresses are not always. A ValueError
    if the library has no such weights.
    """
    if "torchvision" in weights:
        import torchvision

        try:
            url = torchvision.models.get_weight(weights["torchvision"]).url
        except (ValueError, KeyError, AttributeError) as error:
            raise ValueError(f"torchvision has no weights {weights['torchvision']!r}: {error}") from None
        found = {"url": url} | _hash_in_name(url)
    elif "timm" in weights:
        repository = _timm_settings(weights["timm"]).hf_hub_id
        if not repository:
            raise ValueError(f"timm does not publish the weights {weights['timm']!r} on huggingface.co; give a `url`")
        found = {"url": hub.url(repository, "model.safetensors")}
    elif "open_clip" in weights:
        found = _open_clip_source(weights["open_clip"])
    else:
        return dict(weights)
    return found | {key: value for key, value in weights.items() if key == "sha256"}


def _open_clip_source(name: str) -> dict[str, str]:
    import open_clip

    architecture, _, tag = name.partition(":")
    settings = open_clip.get_pretrained_cfg(architecture, tag)
    if not settings:
        known = [":".join(names) for names in open_clip.list_pretrained()]
        raise ValueError(f"open_clip has no weights {name!r}; nearest: {nearest(name, known)}")
    if url := settings.get("url"):
        digest = openai_hash(url)
        return {"url": url} | ({"sha256": digest} if digest else _hash_in_name(url))
    repository, _, file = settings["hf_hub"].rpartition("/")
    return {"url": hub.url(repository, file or "open_clip_model.safetensors")}


def openai_hash(url: str) -> str | None:
    """Give the sha256 of one of OpenAI's files, which stands in its address."""
    found = re.search(r"^https://openaipublic\.azureedge\.net/clip/models/([0-9a-f]{64})/", url)
    return found and found[1]


def _hash_in_name(url: str) -> dict[str, str]:
    """Give the first digits of the sha256 that a name such as ``resnet18-f37072fd.pth`` ends with."""
    found = re.search(r"-([0-9a-f]{8})\.\w+\Z", url)
    return {"sha256": found[1]} if found else {}


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


def published_input(
    architecture: str, weights: Mapping[str, str], file: str | Path | None = None
) -> dict[str, object] | None:
    """State how the publisher of some weights, which lie in `file`, prepares images, in the words of the config.

    These are ``fit, resize, crop, interpolation, mean`` and ``std``, from the ``transforms()`` of torchvision's
    weights, the ``pretrained_cfg`` of timm's network, the ``preprocessor_config.json`` of one of transformers, or the
    example published with the networks of Places365. None
    where none of them states them in these words.
    """
    if weights.get("url", "").startswith(_PLACES365_ADDRESS):
        return dict(_PLACES365_INPUT)
    if "torchvision" in weights:
        import torchvision

        transform = torchvision.models.get_weight(weights["torchvision"]).transforms()
        (crop,), (resize,) = transform.crop_size, transform.resize_size
        keys = {"fit": "short", "resize": resize, "crop": crop, "interpolation": transform.interpolation.value}
        return keys | {"mean": list(transform.mean), "std": list(transform.std)}
    library, _, name = architecture.partition(":")
    if library == "transformers" and file:
        return hub.published_input(file)
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


def departures(used: Mapping[str, object], published: Mapping[str, object] | None) -> list[str]:
    """Say in a line each where the input of the config departs from the published one; none where that is not known."""

    def of(key: str, value: object) -> object:
        return sides(value) if key in ("resize", "crop") else value

    return [
        f"{key}: {used[key]}, published {value}"
        for key, value in (published or {}).items()
        if of(key, used[key]) != of(key, value)
    ]
