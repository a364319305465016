"""What is kept by its content: found again, never replaced by other content, and not used once it has changed."""

import hashlib
import io
import json
import os
import re
import shutil
import socket
from concurrent.futures import ProcessPoolExecutor

import pytest
from unitlens.storage import kept


def keep(folder, content, run="a"):
    digest = kept.keep(io.BytesIO(content), folder / "store", folder / run / "weights/m.bin")
    assert digest == hashlib.sha256(content).hexdigest()
    return folder / run / "weights/m.bin"


def visible(folder):
    return sorted(path.name for path in folder.iterdir())


def test_runs_of_one_store_have_their_own_content_each(tmp_path):
    links = [keep(tmp_path, content, run) for run, content in (("a", b"first"), ("b", b"second"), ("c", b"first"))]
    assert [link.read_bytes() for link in links] == [b"first", b"second", b"first"]
    assert keep(tmp_path, b"third", "b").read_bytes() == b"third"
    assert [link.read_bytes() for link in links] == [b"first", b"third", b"first"]
    names = sorted(hashlib.sha256(content).hexdigest() + ".bin" for content in (b"first", b"second", b"third"))
    assert visible(tmp_path / "store") == names and visible(links[0].parent) == ["m.bin"]
    for link in links:
        kept.check(link)


def test_a_kept_file_that_has_changed_is_refused_and_kept_again(tmp_path):
    link = keep(tmp_path, b"content")
    file = link.resolve()
    file.write_bytes(b"other")
    digests = [hashlib.sha256(content).hexdigest() for content in (b"other", b"content")]
    told = f"{file} has sha256 {digests[0]}, but {digests[1]} is expected: it was changed; remove it, and run again"
    with pytest.raises(ValueError, match=re.escape(told)):
        kept.check(link)
    assert keep(tmp_path, b"content").read_bytes() == b"content"
    kept.check(link)


def test_a_file_of_another_name_is_not_checked(tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    kept.check(tmp_path / "weights.bin")


def test_a_link_follows_its_run_folder_and_leads_nowhere_after_a_purge(tmp_path):
    (tmp_path / "run/resources").mkdir(parents=True)
    link = tmp_path / "run/results/retrieved/m.bin"
    kept.keep(io.BytesIO(b"content"), tmp_path / "run/resources/weights", link)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert (moved / "results/retrieved/m.bin").read_bytes() == b"content"
    shutil.rmtree(moved / "resources/weights")
    assert not (moved / "results/retrieved/m.bin").exists()


def keep_often(folder, run):
    for number in range(30):
        assert keep(folder, b"%d" % (number + run), str(run)).read_bytes() == b"%d" % (number + run)


def test_processes_may_keep_at_the_same_moment(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        for done in [pool.submit(keep_often, tmp_path, run) for run in range(2)]:
            done.result()
    assert len(visible(tmp_path / "store")) == 31


def test_the_source_images_of_a_set_are_checked_where_they_are_kept(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.png").write_bytes(b"a")
    folder, hashes = kept.keep_folder(tmp_path / "own", tmp_path / "store"), {"a.png": hashlib.sha256(b"a").hexdigest()}
    for place in (folder, tmp_path / "own"):
        facts = tmp_path / f"{place.name}.json"
        kept.keep_source_images(place, [{"folder": "own"}], tmp_path / "store", facts)
        assert kept.source_images(facts) == str(place)
        assert json.loads(facts.read_text())["sources"] == [{"folder": "own"}]
        kept.check_source_images(facts, hashes | {"missing.png": "0" * 64})
        (place / "a.png").write_bytes(b"b")
    kept.check_source_images(facts, hashes)  # one's own may change
    with pytest.raises(
        ValueError, match=rf"a\.png has sha256 .*: it was changed; remove .*{folder.name}\.json, and run"
    ):
        kept.check_source_images(tmp_path / f"{folder.name}.json", hashes)
    assert kept.keep_folder(tmp_path / "own", tmp_path / "store") != folder


def test_a_folder_is_named_after_what_it_holds_in_any_order():
    name = hashlib.sha256(b'{"a.png": "1", "b.png": "2"}').hexdigest()[:32]
    assert kept.digest_of({"b.png": "2", "a.png": "1"}) == kept.digest_of({"a.png": "1", "b.png": "2"}) == name


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(tmp_path):
    (tmp_path / "a/weights").mkdir(parents=True)
    (tmp_path / f"a/weights/{socket.gethostname()}-{os.getpid()}.part").symlink_to("nowhere")
    assert keep(tmp_path, b"content").read_bytes() == b"content"
    assert visible(tmp_path / "a/weights") == ["m.bin"]
