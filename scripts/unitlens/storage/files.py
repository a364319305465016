"""Write files whole: copies, hashes, locks, what to say of a full disk; and list what lies below a folder."""

import contextlib
import errno
import fcntl
import filecmp
import hashlib
import io
import json
import os
import shutil
import socket
import sys
import tarfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from unitlens.jobs.characters import first_few

CHUNK = 1 << 20  # bytes
_PAGE = 2**16  # bytes
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_OF_SYSTEMS = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information", "thumbs.db", "desktop.ini"})
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def copy(file: str | Path, target: str | Path) -> None:
    """Copy a file, whole or not at all, whatever else writes it; the error of a full disk names the folder."""
    with naming_a_full_disk(Path(target).parent), Path(file).open("rb") as reader:
        write(reader, Path(target))


def sha256(path: str | Path) -> str:
    """Give the SHA-256 of a file as 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(file: Path, source: Mapping[str, str], remedy: str) -> None:
    """Raise a ValueError if a file does not have the hash that its source names."""
    expected = source.get("sha256") or ""
    if expected and not (got := sha256(file)).startswith(expected):
        raise ValueError(mismatch(file, expected, got, remedy))


def mismatch(what: object, expected: str, got: str, remedy: str) -> str:
    """Say that something does not have the hash that was expected."""
    return f"{what} has sha256 {got}, but {expected} is expected: {remedy}"


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
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
def naming_a_full_disk(folder: str | Path, needed: int | None = None) -> Iterator[None]:
    """Turn the error of a full disk into one that says how much is free, and needed."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise _disk_full(folder, needed) from error


@contextlib.contextmanager
def naming_a_read_only_folder(folder: Path) -> Iterator[None]:
    """Turn the error of a folder that cannot be written into a PermissionError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        remedy = "change that, or put a link to a folder of yours in its place"
        what = f"{folder} must be readable and writable ({error.strerror}: {error.filename}): {remedy}"
        raise PermissionError(error.errno, what) from error


def check_space(folder: Path, needed: int) -> None:
    """Raise if a folder's disk has less space than is needed."""
    if needed > shutil.disk_usage(folder).free:
        raise _disk_full(folder, needed)


def _disk_full(folder: str | Path, needed: int | None) -> OSError:
    amount = "" if needed is None else f", {needed:,} bytes are needed"
    return OSError(errno.ENOSPC, f"no space left in {folder}{amount}: free some, or choose another folder")


def write(reader: IO[bytes], target: Path, *, size: int | None = None) -> None:
    """Write a file whole or not at all; leave an equal one untouched, its time stamp too.

    Other than `size` bytes, where given, are a ReadError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{socket.gethostname()}-{os.getpid()}.part")
    try:
        with part.open("wb") as writer:
            written = 0
            while (size is None or written <= size) and (chunk := reader.read(CHUNK)):
                written += len(chunk)
                writer.write(chunk)
        if size not in (None, written):
            raise tarfile.ReadError(f"{target.name} has other than the {size:,} bytes that the archive declares")
        if not (target.is_file() and filecmp.cmp(part, target, shallow=False)):
            part.replace(target)
    finally:
        part.unlink(missing_ok=True)


# ---- folders


class Listing(NamedTuple):
    """What lies below a folder, as paths below it in their order."""

    named: list[str]  # files whose names have one of some endings
    others: list[str]  # other files
    hidden: list[str]  # files and folders that an operating system or an editor has put there
    loops: list[str]  # links that lead back to a folder above them


def read_facts(path: str | Path) -> dict[str, object]:
    """Read a JSON object, as what `check_model` wrote about a model; a ValueError names a file that holds none."""
    try:
        facts = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and run again") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is damaged (it holds no facts by name); remove it, and run again")
    return facts


def read_all_facts(models: Iterable[str | Path], layers: Iterable[str | Path]) -> list[dict[str, object]]:
    """Read what `check_model` wrote about each model, with what `check_layer` wrote about its layers."""
    found = {facts["model"]: facts | {"layers": {}, "units": {}} for facts in map(read_facts, models)}
    for facts in map(read_facts, layers):
        for name in ("layers", "units") if facts["model"] in found else ():
            found[facts["model"]][name] |= facts[name]
    return list(found.values())


def list_files(root: Path, suffixes: Container[str]) -> Listing:
    """List what lies below a folder, files with one of the endings `suffixes` (in lower case) apart from others.

    Links to folders are followed, but never in a circle. What begins with a dot is hidden, as ``.ipynb_checkpoints``
    and ``._1.png``, and so is `_OF_SYSTEMS`. An OSError if a folder cannot be read; a ValueError if a name with one of
    the endings is not UTF-8, for no table can hold it.
    """
    listing = Listing([], [], [], [])
    _look(root, "", (), listing, suffixes)
    if alien := [os.fsencode(path) for path in listing.named if any("\ud800" <= each <= "\udfff" for each in path)]:
        raise ValueError(f"{root}: names must be in UTF-8, or no table could hold them; rename {first_few(alien)}")
    return Listing(*map(sorted, listing))


def list_folders(root: Path) -> list[str]:
    """Name the folders that lie directly in a folder, in their order; those that are left out are not among them."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if not _is_hidden(entry.name) and _is_folder(entry))


def _look(
    root: Path, folder: str, above: tuple[tuple[int, int], ...], listing: Listing, suffixes: Container[str]
) -> None:
    """Add what lies in a folder below `root` to a listing; `above` are the folders that it lies in."""
    place = root / folder
    facts = place.stat()
    above = (*above, (facts.st_dev, facts.st_ino))
    if above[-1] in above[:-1]:
        listing.loops.append(folder)
        return
    with os.scandir(place) as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if _is_hidden(entry.name):
                listing.hidden.append(path)
            elif _is_folder(entry):
                _look(root, path, above, listing, suffixes)
            else:
                known = os.path.splitext(entry.name)[1].lower() in suffixes  # noqa: PTH122 (Path's is slow)
                (listing.named if known else listing.others).append(path)


def _is_folder(entry: os.DirEntry) -> bool:
    """Tell whether an entry is a folder or a link to one; a link to itself is none."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def array_files_below(folder: str | Path, leave: Callable[[OSError], None]) -> Iterator[Path]:
    """Give the array files below a folder, also behind links to folders, each folder once; errors are passed on."""
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=leave, followlinks=True):
        folders.sort()
        if (here := os.path.realpath(parent)) in seen:
            folders.clear()
        elif not seen.add(here):
            yield from (Path(parent, name) for name in sorted(names) if name.endswith(".h5"))


class Unfinished:
    """A file that HDF5 writes: its first error is kept, and what is written after it goes to memory, a page at a time.

    HDF5 ends the process, at once or at its exit, where it cannot write; so it never learns of the error. What lies on
    the disk by then is read from there: a large file takes no more memory than a small one.
    """

    def __init__(self, path: Path) -> None:
        self.file, self.error = io.FileIO(path, "w+"), None

    def __getattr__(self, name: str) -> object:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        start, left = self.file.tell(), memoryview(data).cast("B")
        try:
            while left:
                left = left[self.file.write(left) :]
        except OSError as error:
            self._go_on_in_memory(error)
            self.file.seek(start)
            self.file.write(data)
        return memoryview(data).nbytes

    def truncate(self, size: int) -> int:
        """Make the file as long as `size` says."""
        try:
            return self.file.truncate(size)
        except OSError as error:
            self._go_on_in_memory(error)
            return self.file.truncate(size)

    def check(self) -> None:
        """Raise the first error, an OSError, if there was one."""
        if self.error:
            raise self.error

    def _go_on_in_memory(self, error: OSError) -> None:
        self.file, self.error = _Pages(self.file), error


class _Pages:
    """A file (as `io.RawIOBase`) that keeps what is written to it as pages above those of another one."""

    def __init__(self, below: io.FileIO) -> None:
        self.below, self.pages, self.place, self.size = below, {}, 0, os.fstat(below.fileno()).st_size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: bytearray) -> int:
        into = memoryview(buffer).cast("B")
        into = into[: max(min(len(into), self.size - self.place), 0)]
        for page, own, part in self._parts(len(into)):
            into[part] = (self.pages.get(page) or self._from_below(page))[own]
        self.place += len(into)
        return len(into)

    def write(self, data: bytes) -> int:
        written = memoryview(data).cast("B")
        for page, own, part in self._parts(len(written)):
            self.pages.setdefault(page, self._from_below(page))[own] = written[part]
        self.place += len(written)
        self.size = max(self.size, self.place)
        return len(written)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None:
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.below.close()

    def _parts(self, count: int) -> list[tuple[int, slice, slice]]:
        """Split the next bytes by pages: the page, where in it, where in the bytes."""
        parts, done = [], 0
        while done < count:
            page, first = divmod(self.place + done, _PAGE)
            length = min(_PAGE - first, count - done)
            parts.append((page, slice(first, first + length), slice(done, done + length)))
            done += length
        return parts

    def _from_below(self, page: int) -> bytearray:
        return bytearray(os.pread(self.below.fileno(), _PAGE, page * _PAGE).ljust(_PAGE, b"\0"))
