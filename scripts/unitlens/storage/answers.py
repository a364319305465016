"""Tell whether what a server sent is the file that was asked for, from how it begins."""

import contextlib
import http.client
import re
import tarfile
import urllib.request
import zlib
from collections.abc import Mapping, Sequence

HEAD = 1 << 16  # bytes, from which the kind of a file is told


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
WEIGHTS = ("zip", "pickle", "safetensors")
ARCHIVES = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
PHOTOGRAPHS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "AVIF", "JPEG 2000", "PPM")


_OTHERS = {  # what comes instead of a file, for messages
    "an empty file": rb"\Z",
    "a web page": rb"(\xef\xbb\xbf)?(\s|<!--.*?-->|<\?.*?\?>)*<(!doctype\s+html|html|head|title|body)",
    "JSON": rb"(\xef\xbb\xbf)?\s*[\[{]",
    "a pointer of git-lfs": rb"version https://git-lfs",
    "a gzip-compressed file": rb"\x1f\x8b",
    "text": rb"[^\x00-\x08\x0e-\x1f\x80-\xff]+\Z",
}


def check_kind(head: bytes, source: Mapping[str, str], kinds: Sequence[str], words: str) -> None:
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


def check_answer(source: Mapping[str, str], response: http.client.HTTPResponse, *, resumed: bool) -> None:
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
