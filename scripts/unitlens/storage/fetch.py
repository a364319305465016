"""Turn a source of the config into a verified local file, and keep the hashes of what was taken on trust."""

import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from unitlens.jobs.inputs import download_folder
from unitlens.storage import files
from unitlens.storage.archives import extract, unpack
from unitlens.storage.download import ARCHIVES, SOURCE_IMAGES, WEIGHTS, from_index, from_url
from unitlens.storage.kept import digest_of

_KINDS = ("path", "url", "package")


def fetch(
    source: Mapping[str, str],
    folder: str | Path,
    *,
    kinds: Sequence[str] = WEIGHTS,
    lock: str | Path | None = None,
    progress: IO[str] | None = None,
) -> Path:
    """Bring the one file that `source` describes, checked against its hash.

    Parameters
    ----------
    source
        Exactly one of `path` (a local file, returned where it lies), `url` (https; http only with a full `sha256` or a
        `lock`) and `package` (``name==version`` on the package index; pip's configuration applies). `sha256` is that of
        the local or downloaded file: 64 hex digits, for https also a prefix of at least 8; a package needs it. `member`
        is the path of one file in the downloaded archive, and the file that is returned.
    folder
        Where downloads and members land under stable names. One folder a source: names come from the publisher.
    kinds
        What a download without a known hash may be, told from how it begins; with `member` it is an archive.
    lock
        JSON file of the hashes of all files retrieved so far, by url or ``name==version``. A file that is not in it is
        trusted as it comes, if it is of one of `kinds`, and its hash recorded; one that is in it must have the same
        hash forever.
    progress
        Stream for a progress line, drawn only when it is a terminal (default: standard error).

    Raises
    ------
    ValueError
        `source` is malformed, the hash differs, or the answer is not the file: a web page, nothing of `kinds` without a
        hash, without an end, encoded, or from an address that is not https.
    FileNotFoundError
        There is no local file `path`, or the file is not in `folder` and UNITLENS_OFFLINE is set.
    ConnectionError, OSError
        The network cannot be reached, after some attempts; the server refuses or is slower than 1 KiB a second; the
        disk is full, or `folder` cannot be read or written.
    """
    source = _pinned(source, lock) if lock else source
    kind = _check_source(source, on_trust=lock is not None)
    folder = Path(folder)
    stream = progress or sys.stderr
    if kind == "path":
        file = Path(source["path"]).expanduser()
        if not file.is_file():
            hint = "; it is a folder, or something else that is no file" if file.exists() else ""
            raise FileNotFoundError(f"source `path`: there is no file {file}{hint}")
        files.verify(file, source, "correct `sha256`, or `path`")
    else:
        with files.naming_a_read_only_folder(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if kind == "url":
                file = from_url(source, folder, stream, ARCHIVES if source.get("member") else kinds)
            else:
                file = from_index(source, folder, stream)
        if lock:
            with files.naming_a_read_only_folder(Path(lock).parent):
                _record(source, file, Path(lock))
    return extract(file, source["member"], folder) if source.get("member") else file


def installed(package: str, patterns: Sequence[str], folder: str | Path) -> list[Path]:
    """Copy data files of an installed package, which is not imported, to ``folder/package/...``, and give the copies.

    `patterns` are relative to the package, as ``data/*.png`` of ``skimage``. FileNotFoundError: the package is not
    installed, or a pattern matches no file in it.
    """
    found = _data_files(package, patterns)
    targets = [Path(folder) / name for name in found]
    with files.naming_a_full_disk(folder):
        for path, target in zip(found.values(), targets, strict=True):
            with path.open("rb") as reader:
                files.write(reader, target)
    return targets


def _data_files(package: str, patterns: Sequence[str]) -> dict[str, Path]:
    """Find data files of an installed package, by their paths with the package's name."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"`package`: {package!r} is not an installed top-level Python package")
    root = Path(next(iter(spec.submodule_search_locations)))
    found = set()
    for pattern in patterns:
        matches = {path for path in root.glob(pattern) if path.is_file() and ".." not in path.relative_to(root).parts}
        if not matches:
            raise FileNotFoundError(f"the installed package {package!r} has no file {pattern!r} in {root}")
        found |= matches
    return {f"{package}/{path.relative_to(root).as_posix()}": path for path in sorted(found)}


def fetch_images(
    sources: Sequence[Mapping[str, object]],
    store: str | Path,
    downloads: str | Path,
    *,
    lock: str | Path | None = None,
    progress: IO[str] | None = None,
) -> tuple[Path, list[dict[str, object]]]:
    """Put the source images of a set into a folder of `store`; give it, and the sources with what they held.

    Each source has one of `folder`, `installed`, `package` and `url`, with `files`, the patterns to take; see
    `installed` and `unpack`. A `url` without `files` is a source image itself; a local `folder` is given as it lies.
    The folder is named after the sha256 of the archives and files that it comes from. Archives go to `downloads`, one
    folder an address; `lock` and `progress` are those of `fetch`.
    """
    for source in sources:
        if "folder" in source:
            return Path(source["folder"]), [dict(source)]
    found, told = [], []
    for source in sources:
        if "installed" in source:
            files_of = _data_files(source["installed"], source["files"])
            found.append(None)
            told.append(dict(source) | {"sha256": {name: files.sha256(path) for name, path in files_of.items()}})
        else:
            kinds = ARCHIVES if "files" in source else SOURCE_IMAGES
            wanted = {key: source[key] for key in source if key != "files"}
            folder = Path(downloads) / download_folder(source)
            found.append(fetch(wanted, folder, kinds=kinds, lock=lock, progress=progress))
            told.append(dict(source) | {"sha256": files.sha256(found[-1])})
    contents = [[each.get("files", file and file.name), each["sha256"]] for each, file in zip(told, found, strict=True)]
    target = Path(store) / digest_of(contents)
    for source, file in zip(sources, found, strict=True):
        if file is None:
            installed(source["installed"], source["files"], target)
        elif "files" in source:
            unpack(file, target, source["files"])
        else:
            files.copy(file, target / file.name)
    return target, told


def _pinned(source: Mapping[str, str], lock: str | Path) -> dict[str, str]:
    """Give `source` the hash that `lock` remembers for it."""
    address = source.get("url") or source.get("package")
    known, stated = _read_lock(Path(lock)).get(address), source.get("sha256") or ""
    if known is None:
        return dict(source)
    if not known.startswith(stated):
        raise ValueError(
            f"{address} has sha256 {stated} in the config, but {known} in {lock}: correct the config, or take the line "
            f"out of {lock} if the new file is wanted"
        )
    return {**source, "sha256": known}


def _record(source: Mapping[str, str], file: Path, lock: Path) -> None:
    """Remember the hash of a file that was retrieved; several processes may do so at once."""
    address = source.get("url") or source["package"]
    if address in _read_lock(lock):
        return
    digest = files.sha256(file)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with files.lock(lock):
        known = _read_lock(lock)
        part = lock.with_name(f"{lock.name}.part")
        part.write_text(json.dumps(known | {address: digest}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        part.replace(lock)
    if not source.get("sha256"):
        line = " and came over an open line" if address.startswith("http://") else ""
        print(f"{address} has no published hash{line}: trusted on first use, sha256 {digest} recorded in {lock}")


def _read_lock(lock: Path) -> dict[str, str]:
    if not lock.exists():
        return {}
    try:
        known = json.loads(lock.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{lock} is no JSON file ({error}): restore it, or remove it to record the hashes again"
        ) from error
    if not isinstance(known, dict) or not all(re.fullmatch(r"[0-9a-f]{64}", str(value)) for value in known.values()):
        raise ValueError(f"{lock} must map each address to a sha256 of 64 lower-case hex digits")
    return known


def _check_source(source: Mapping[str, str], *, on_trust: bool) -> str:
    """Give the kind of `source`, or say what is wrong with it."""
    unknown = set(source) - {*_KINDS, "sha256", "member"}
    kinds = [kind for kind in _KINDS if source.get(kind)]
    if unknown or len(kinds) != 1:
        raise ValueError(f"a source has one of {', '.join(_KINDS)}, and may have sha256 and member; got {dict(source)}")
    (kind,) = kinds
    expected = source.get("sha256") or ""
    url = source.get("url") or "https://"
    full = not (kind == "url" and url.startswith("https://"))  # a short prefix is no protection on an open line
    form = r"[0-9a-f]{64}" if full else r"[0-9a-f]{8,64}"
    if expected and not (isinstance(expected, str) and re.fullmatch(form, expected)):
        raise ValueError(
            f"`sha256` of {source[kind]} must be 64 lower-case hex digits (https: 8 or more), got {expected!r}"
        )
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"`url` must start with https:// or http://, got {url!r}")
    if full and kind != "path" and not expected and not (kind == "url" and on_trust):
        raise ValueError(f"{source[kind]} needs a `sha256`: only https and local files can do without")
    if kind == "package" and not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.!+-]+", source["package"], re.ASCII):
        raise ValueError(f"`package` must read name==version, got {source['package']!r}")
    return kind
