"""Unpack zip and tar archives: nothing outside the folder, nothing beyond the disk."""

import bz2
import contextlib
import errno
import glob
import gzip
import lzma
import os
import re
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from unitlens.storage.files import CHUNK, check_space, naming_a_full_disk, write

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


def unpack(
    archive: str | Path,
    folder: str | Path,
    patterns: Sequence[str],
    *,
    max_bytes: int = 100 << 30,
    max_members: int = 5_000_000,
) -> list[Path]:
    """Extract the members of a zip, wheel or tar archive that match `patterns`, by their relative paths; give them.

    Patterns are matched from the right, a ``*`` within one path component: ``data/*.jpg`` matches
    ``foolbox/data/a.jpg`` but not ``data/more/a.jpg``. A member that is there already, byte for byte, is left
    untouched. The kind of the archive is told from its content. It is refused before anything is written if it declares
    more than `max_bytes` or `max_members`, or unpacks to more than 64 MiB and 100 times its own size; a member counts
    as 2 KiB at least.

    Raises
    ------
    ValueError
        Not an archive, damaged, a pattern without a match, a member that leaves `folder`, has the place of another one
        or is longer than it says, a link, or absurd sizes.
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
            check_space(folder, needed)
            with naming_a_full_disk(folder, needed), _parsing():
                for member, target in zip(members, targets, strict=True):
                    with member.content() as reader:
                        write(reader, target, size=member.size)
    except _DAMAGED as error:
        raise ValueError(
            f"{archive} cannot be unpacked, it may be damaged: {error}; remove it to fetch it again"
        ) from error
    return sorted(targets)


class _Member(NamedTuple):
    name: str
    size: int  # bytes, unpacked
    folder: bool
    regular: bool  # neither link nor device
    content: Callable[[], IO[bytes]]


class _Stream:
    """An unpacked tar archive of which only so much is read, at once and in all: a header may ask for anything."""

    def __init__(self, file: IO[bytes], limit: int):
        self.file, self.limit, self.tell = file, limit, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 16 * CHUNK:
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
        return tarfile.open(fileobj=_Stream(file, 2 * limit + 16 * CHUNK), mode="r:")
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
    while tar.fileobj.read(CHUNK):  # gzip checks its sum only at the very end
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


def extract(archive: Path, member: str, folder: Path) -> Path:
    """Unpack one member of an archive into a folder; a ValueError where `member` is not exactly one file."""
    found = unpack(archive, folder, [glob.escape(member)])
    if len(found) != 1:
        raise ValueError(f"`member` {member!r} of {archive} is not one file but {len(found)}: give more of its path")
    return found[0]
