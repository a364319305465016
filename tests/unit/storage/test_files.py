"""What lies below a folder, file by file; files that are written whole, and what is said where a disk is full."""

import errno
import hashlib
import io
import json
import os
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
from unitlens.storage import files


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")


def test_what_lies_below_a_folder(tmp_path):
    """Names in order, whatever their case; what a system or an editor puts there is hidden, with all that it holds."""
    fill(tmp_path, "b.png", "a/deep/er/c.PNG", "a/b.txt", "a/none", "z.tar.gz", ".ipynb_checkpoints/b.png", "a/._b.png")
    fill(tmp_path, "a/Thumbs.db", "__MACOSX/b.png", "a.gif")
    (tmp_path / "empty").mkdir()
    listing = files.list_files(tmp_path, {".png", ".gif"})
    assert listing.named == ["a.gif", "a/deep/er/c.PNG", "b.png"]
    assert listing.others == ["a/b.txt", "a/none", "z.tar.gz"]
    assert listing.hidden == [".ipynb_checkpoints", "__MACOSX", "a/._b.png", "a/Thumbs.db"]
    assert listing.loops == []
    assert files.list_folders(tmp_path) == ["a", "empty"]


def test_links_are_followed_but_not_in_a_circle(tmp_path):
    """A folder that two links lead to is listed twice; one that leads back is named, one to itself is a file."""
    fill(tmp_path, "set/b/x.png", "elsewhere/y.png")
    (tmp_path / "set/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/b/up").symlink_to(tmp_path / "set")
    (tmp_path / "set/b/again").symlink_to(tmp_path / "set/b")
    (tmp_path / "set/self").symlink_to(tmp_path / "set/self")
    assert files.list_files(tmp_path / "set", {".png"}) == (
        ["a/y.png", "b/x.png", "c/y.png"],
        ["self"],
        [],
        ["b/again", "b/up"],
    )
    assert files.list_folders(tmp_path / "set") == ["a", "b", "c"]


def test_names_that_no_table_can_hold_are_refused(tmp_path):
    """Only among the files that are asked for: others are only counted."""
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("x")
    assert files.list_files(tmp_path, {".png"}).named == []
    (tmp_path / os.fsdecode(b"\xe4.png")).write_text("x")
    with pytest.raises(ValueError, match=r"names must be in UTF-8, or no table could hold them; rename b'\\xe4.png'"):
        files.list_files(tmp_path, {".png"})


@pytest.mark.parametrize(("code", "ends"), [(errno.EIO, True), (errno.ELOOP, False)])
def test_a_disk_that_fails_is_no_link_to_itself(code, ends):
    class Entry:
        def is_dir(self):
            raise OSError(code, "text")

    if ends:
        with pytest.raises(OSError, match="text"):
            files._is_folder(Entry())
    else:
        assert files._is_folder(Entry()) is False


def test_a_file_is_written_whole_and_an_equal_one_left_alone(tmp_path):
    target = tmp_path / "new/file"
    content = bytes(range(256)) * 5000  # more than is read at once
    files.write(io.BytesIO(content), target, size=len(content))
    assert target.read_bytes() == content
    os.utime(target, (1, 1))
    files.write(io.BytesIO(content), target)
    assert target.stat().st_mtime == 1
    other = b"!" + content[1:]
    files.write(io.BytesIO(other), target)
    assert target.read_bytes() == other and target.stat().st_mtime > 1
    for size in (len(content) - 1, len(content) + 1):
        with pytest.raises(tarfile.ReadError, match=f"file has other than the {size:,} bytes that the archive decl"):
            files.write(io.BytesIO(content), target, size=size)
    assert target.read_bytes() == other
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert files.sha256(target) == hashlib.sha256(other).hexdigest()


def test_one_byte_too_many_is_seen_where_all_is_read_that_is_declared(tmp_path):
    with pytest.raises(tarfile.ReadError, match="other than the 1,048,576 bytes"):
        files.write(io.BytesIO(bytes(files.CHUNK + 1)), tmp_path / "file", size=files.CHUNK)


def test_a_file_of_the_same_size_and_time_is_replaced_by_another(tmp_path):
    (tmp_path / "file").write_bytes(bytes(files.CHUNK))
    os.utime(tmp_path / "file", (1, 1))

    class Reader(io.BytesIO):
        def read(self, size):
            chunk = super().read(size)
            for part in [] if chunk else tmp_path.glob("*.part"):
                os.utime(part, (1, 1))
            return chunk

    files.write(Reader(b"!" * files.CHUNK), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"!" * files.CHUNK


def test_a_file_is_copied_whole(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    files.copy(str(tmp_path / "a"), str(tmp_path / "new/b"))
    assert (tmp_path / "new/b").read_bytes() == b"content"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "no space left in folder, 1,234 bytes are needed: free some, or choose another folder"),
        (errno.EDQUOT, "no space left in folder, 1,234 bytes are needed: free some, or choose another folder"),
        (errno.EIO, "text"),
    ],
)
def test_only_a_full_disk_is_called_one(code, message):
    with pytest.raises(OSError) as raised, files.naming_a_full_disk("folder", 1234):
        raise OSError(code, "text")
    assert raised.value.strerror == message
    assert raised.value.errno == (errno.EIO if code == errno.EIO else errno.ENOSPC)


def test_space_is_looked_for_before_it_is_needed(tmp_path, monkeypatch):
    files.check_space(tmp_path, 1)
    with pytest.raises(OSError, match=f"no space left in {tmp_path}, 1,152,921,504,606,846,976 bytes are needed"):
        files.check_space(tmp_path, 1 << 60)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    files.check_space(tmp_path, 10)
    with pytest.raises(OSError, match="11 bytes are needed"):
        files.check_space(tmp_path, 11)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, code):
    with pytest.raises(OSError) as raised, files.naming_a_read_only_folder(tmp_path):
        raise OSError(code, "text", "a.part")
    own = f"{tmp_path} must be readable and writable (text: a.part): change that, or put a link to a folder of yours in"
    assert isinstance(raised.value, PermissionError) == (code != errno.EIO)
    assert raised.value.errno == code
    assert raised.value.strerror == (f"{own} its place" if code != errno.EIO else "text")


def test_a_hash_is_compared_with_its_beginning(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    whole = hashlib.sha256(b"content").hexdigest()
    for source in ({}, {"sha256": None}, {"sha256": whole}, {"sha256": whole[:8]}):
        files.verify(tmp_path / "a", source, "remedy")
    with pytest.raises(ValueError, match=f"a has sha256 {whole}, but {whole[1:9]} is expected: get it again$"):
        files.verify(tmp_path / "a", {"sha256": whole[1:9]}, "get it again")


class FullDisk(io.FileIO):
    """Takes so many bytes."""

    def write(self, data):
        if self.tell() + len(data) > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)

    def truncate(self, size):
        if size > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().truncate(size)


def test_what_a_full_disk_cannot_be_made_long_enough_for_is_as_long_in_memory(tmp_path):
    file = files.Unfinished(tmp_path / "a")
    file.file = FullDisk(tmp_path / "a", "w+")
    assert file.truncate(1000) == 1000 and file.error is None
    assert file.truncate(200_000) == 200_000 == file.seek(0, io.SEEK_END)
    with pytest.raises(OSError, match="No space left"):
        file.check()
    file.close()


def test_what_a_full_disk_does_not_take_is_kept_beside_what_lies_on_it(tmp_path):
    """As HDF5 does: anything is written over, read back and cut, after the error as before it."""
    rng = np.random.default_rng(0)
    file, expected = files.Unfinished(tmp_path / "a"), io.BytesIO()
    file.file = FullDisk(tmp_path / "a", "w+")
    for _ in range(300):
        start, length = int(rng.integers(0, 200_000)), int(rng.integers(1, 70_000))
        data = rng.bytes(length)
        for each in (file, expected):
            each.seek(min(start, expected.seek(0, io.SEEK_END)))
            each.write(data)
        start, buffers = int(rng.integers(0, 300_000)), [bytearray(int(rng.integers(1, 70_000))) for _ in range(2)]
        buffers[1] = bytearray(len(buffers[0]))
        counts = []
        for each, buffer in zip((file, expected), buffers, strict=True):
            each.seek(start)
            counts.append(each.readinto(buffer))
        assert counts[0] == counts[1] and buffers[0] == buffers[1]
    assert file.seek(0, io.SEEK_END) == expected.seek(0, io.SEEK_END)
    assert file.error.errno == errno.ENOSPC
    file.truncate(1000)
    assert file.seek(0, io.SEEK_END) == 1000
    file.close()


def test_the_facts_of_a_model_are_read_as_they_were_written(tmp_path):
    (tmp_path / "a.json").write_bytes('{"model": "Bär"}'.encode())
    assert files.read_facts(tmp_path / "a.json") == {"model": "Bär"}


@pytest.mark.parametrize("content", [b"", b'{"model": "B', b"\xff", b"[1]"])
def test_facts_that_cannot_be_read_are_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.json is damaged \(.*\); remove it, and run again"):
        files.read_facts(tmp_path / "a.json")


def test_the_facts_of_layers_stand_with_those_of_their_model(tmp_path):
    facts = [{"model": "a", "size": 1}, {"model": "b"}]
    facts += [{"model": name, "layers": {layer: 2}, "units": {layer: 3}} for name in "ac" for layer in ("1", "2")]
    for number, each in enumerate(facts):
        (tmp_path / f"{number}.json").write_text(json.dumps(each))
    paths = [tmp_path / f"{number}.json" for number in range(6)]
    assert files.read_all_facts(paths[:2], paths[2:]) == [
        {"model": "a", "size": 1, "layers": {"1": 2, "2": 2}, "units": {"1": 3, "2": 3}},
        {"model": "b", "layers": {}, "units": {}},
    ]
