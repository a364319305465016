"""Keep what is retrieved by its content, so that runs may share its folders; each run names its own by links.

A kept file is named after its sha256 and a kept folder after those of its files: what lies there is never replaced by
something else, and whoever uses it can tell whether it is still what it was.
"""

import hashlib
import io
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from unitlens.storage.files import mismatch, naming_a_full_disk, naming_a_read_only_folder, read_facts, sha256, write


def keep(reader: IO[bytes], store: str | Path, link: str | Path, ending: str = ".bin") -> str:
    """Keep a file in the folder `store` under its sha256, which is given, and let `link` lead to it.

    Several processes may do so at once. A kept file that has changed since is written again. OSErrors name a full disk
    and a folder that cannot be written.
    """
    store, link = Path(store), Path(link)
    own = f"{socket.gethostname()}-{os.getpid()}"
    with naming_a_read_only_folder(store), naming_a_full_disk(store):
        write(reader, new := store / f"{own}.new")
        digest = sha256(new)
        kept = store / f"{digest}{ending}"
        if kept.is_file() and sha256(kept) == digest:
            new.unlink()
        else:
            new.replace(kept)
    link.parent.mkdir(parents=True, exist_ok=True)
    part = link.with_name(f"{own}.part")
    part.unlink(missing_ok=True)  # of a killed process
    part.symlink_to(os.path.relpath(kept.absolute(), link.parent.resolve()))
    part.replace(link)
    return digest


def check(file: str | Path) -> None:
    """Raise a ValueError if a kept file, or what a link leads to, no longer has the sha256 that it is named after."""
    kept = Path(file).resolve()
    if re.fullmatch(r"[0-9a-f]{64}", name := kept.name.partition(".")[0]) and (got := sha256(kept)) != name:
        raise ValueError(mismatch(kept, name, got, "it was changed; remove it, and run again to retrieve it anew"))


def digest_of(content: object) -> str:
    """Name a folder after what it holds: 32 hex digits of the sha256 of a JSON object."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def keep_folder(folder: str | Path, store: str | Path) -> Path:
    """Copy the files of a folder into one of `store` that is named after them; give that one."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in paths]
    kept = Path(store) / digest_of(dict(zip(names, map(sha256, paths), strict=True)))
    with naming_a_full_disk(kept):
        for path, name in zip(paths, names, strict=True):
            with path.open("rb") as reader:
                write(reader, kept / name)
    return kept


def keep_source_images(
    folder: str | Path, sources: list[Mapping[str, object]], store: str | Path, link: str | Path
) -> None:
    """Keep the facts where the source images of a set lie and what `sources` they come from, as `keep` does."""
    facts = {"folder": str(folder), "kept": Path(store) in Path(folder).parents, "sources": sources}
    keep(io.BytesIO(f"{json.dumps(facts, indent=2)}\n".encode()), store, link, ".json")


def source_images(facts: str | Path) -> str:
    """Give the folder of source images that `keep_source_images` wrote down."""
    return read_facts(facts)["folder"]


def check_source_images(facts: str | Path, hashes: Mapping[str, str]) -> None:
    """Raise a ValueError if a source image or label map that is kept is not the one that was listed.

    Parameters
    ----------
    facts
        The file of `keep_source_images`. Files in a folder of one's own may change.
    hashes
        The sha256 of each file that is to be used, by its path below the folder; missing ones are passed over.
    """
    told = read_facts(facts)
    for name, digest in hashes.items() if told["kept"] else ():
        file = Path(told["folder"]) / name
        if digest and file.is_file() and (got := sha256(file)) != digest:
            raise ValueError(mismatch(file, digest, got, f"it was changed; remove {facts}, and run again"))
