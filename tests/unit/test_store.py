import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from unitlens import store


def write(path, rows=3, value=0.0, **attributes):
    image_ids = np.array([f"é{i}" for i in range(rows)], dtype=str)
    arrays = {"activations": np.full((rows, 4), value, np.float32), "image_id": image_ids}
    store.create(path, arrays, {"model": "m", **attributes})
    return arrays


def test_what_is_written_is_read(tmp_path):
    arrays = write(tmp_path / "a" / "00000.h5")
    read, attributes = store.read(tmp_path / "a" / "00000.h5")
    np.testing.assert_array_equal(read["activations"], arrays["activations"])
    assert read["image_id"].tolist() == ["é0", "é1", "é2"]
    assert attributes["model"] == "m"
    assert attributes["unitlens"]


def test_same_arrays_give_the_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_same_shards_give_an_index_of_the_same_bytes(index):
    before = index.read_bytes()
    time.sleep(1.1)  # HDF5 would note the second
    store.index(index, [index.parent / "0.h5", index.parent / "1.h5"])
    assert index.read_bytes() == before


def test_rows_must_agree(tmp_path):
    with pytest.raises(ValueError, match=r"same number of rows, got \{'a': 2, 'b': 3\}"):
        store.create(tmp_path / "x.h5", {"a": np.zeros(2), "b": np.zeros(3)}, {})


def test_index_reads_like_the_concatenation_and_survives_a_move(tmp_path):
    for i in range(3):
        write(tmp_path / "run" / "layer" / f"{i:05d}.h5", rows=i, value=i)
    store.index(tmp_path / "run" / "layer.h5", sorted((tmp_path / "run" / "layer").glob("*.h5")))
    (tmp_path / "run").rename(tmp_path / "moved")
    read, attributes = store.read(tmp_path / "moved" / "layer.h5")
    assert read["activations"][:, 0].tolist() == [1, 2, 2]
    assert read["image_id"].tolist() == ["é0", "é0", "é1"]
    assert attributes["model"] == "m"


def test_a_missing_shard_is_an_error_not_a_fill_value(tmp_path):
    write(tmp_path / "00000.h5")
    store.index(tmp_path / "index.h5", [tmp_path / "00000.h5"])
    (tmp_path / "00000.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"00000\.h5, which is missing"):
        store.read(tmp_path / "index.h5")


def test_shards_of_different_models_are_not_mixed(tmp_path):
    write(tmp_path / "0.h5", layer="a")
    write(tmp_path / "1.h5", layer="b")
    with pytest.raises(ValueError, match=r"1\.h5 has layer = 'b', .*0\.h5 has 'a'"):
        store.index(tmp_path / "index.h5", [tmp_path / "0.h5", tmp_path / "1.h5"])
    assert not (tmp_path / "index.h5").exists()


def test_a_truncated_file_is_named(tmp_path):
    write(tmp_path / "0.h5", rows=1000)
    content = (tmp_path / "0.h5").read_bytes()
    (tmp_path / "0.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"0\.h5 is truncated or not an HDF5 file"):
        store.read(tmp_path / "0.h5")


def flip(path, pattern):
    content = bytearray(path.read_bytes())
    content[content.index(pattern)] ^= 1
    path.write_bytes(content)


NUMBERS, TEXT = np.full(4, 7.25, np.float32).tobytes(), b"img_1"


@pytest.fixture
def index(tmp_path):
    """Two shards below an index."""
    for i in range(2):
        store.create(
            tmp_path / f"{i}.h5",
            {"activations": np.full((3, 4), 7.25 * i, np.float32), "image_id": [f"img_{i}{row}" for row in range(3)]},
            {},
        )
    store.index(tmp_path / "index.h5", [tmp_path / "0.h5", tmp_path / "1.h5"])
    return tmp_path / "index.h5"


@pytest.mark.parametrize("pattern", [NUMBERS, TEXT])
@pytest.mark.parametrize("name", ["1.h5", "index.h5"])
def test_a_flipped_bit_is_an_error_that_names_the_shard(index, name, pattern):
    flip(index.parent / "1.h5", pattern)
    with pytest.raises(OSError, match=r"1\.h5 is damaged \(.*(activations|image_id).*\); delete it"):
        store.read(index.parent / name)


def test_a_truncated_shard_is_named_by_its_index(index):
    shard = index.parent / "1.h5"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(OSError, match=r"1\.h5 is truncated"):
        store.read(index)


def test_a_shard_of_another_size_is_named_by_its_index(index):
    shard = index.parent / "1.h5"
    store.create(shard, {"activations": np.zeros((2, 4), np.float32), "image_id": ["a", "b"]}, {})
    with pytest.raises(OSError, match=r"1\.h5 holds \(2, 4\) as activations, .*index\.h5 expects \(3, 4\)"):
        store.read(index)


def test_an_error_of_the_block_is_not_taken_for_damage(index):
    with pytest.raises(OSError, match=r"^no picture$"), store.open(index):
        raise OSError("no picture")


def test_damaged_files_are_named_and_removed(index):
    folder = index.parent
    assert store.remove_damaged(folder) == []
    flip(folder / "0.h5", b"img_01")
    (folder / "1.h5").write_bytes(b"")
    first, second = store.remove_damaged(folder)
    assert "0.h5 is damaged (the text of image_id" in first and "1.h5 is truncated or not" in second
    assert [path.name for path in folder.iterdir()] == ["index.h5"]


def test_a_full_disk_leaves_no_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    write(tmp_path / "0.h5", value=1)
    before = (tmp_path / "0.h5").read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "0.h5", value=2)
    assert (tmp_path / "0.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["0.h5"]


def test_what_a_killed_job_of_this_host_left_is_removed(tmp_path):
    host = socket.gethostname()
    names = [f"0.h5.{host}-4194305.part", f"0.h5.{host}-{os.getppid()}.part", "0.h5.elsewhere-1.part"]  # above any pid
    for name in names:
        (tmp_path / name).touch()
    write(tmp_path / "0.h5")
    assert {path.name for path in tmp_path.iterdir()} == {"0.h5", *names[1:]}


def test_shards_are_concatenated_in_the_order_given(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.h5", rows=i, value=i)
    arrays, attributes = store.concatenate(tmp_path / f"{i}.h5" for i in (2, 0, 1))
    assert arrays["activations"][:, 0].tolist() == [2, 2, 1]
    assert arrays["image_id"].tolist() == ["é0", "é1", "é0"]
    assert attributes == store.read(tmp_path / "2.h5")[1]


@pytest.mark.parametrize(("rows", "expected"), [(0, []), (1, [2]), (2, [2, 2]), (4, [2, 2, 1]), (None, [2, 2, 1])])
def test_the_first_rows_are_those_of_all_shards_together(tmp_path, rows, expected):
    for i in range(3):
        write(tmp_path / f"{i}.h5", rows=i, value=i)
    arrays, _ = store.concatenate([tmp_path / f"{i}.h5" for i in (2, 0, 1)], rows=rows)
    assert arrays["activations"][:, 0].tolist() == expected
    assert len(arrays["image_id"]) == len(expected)


def test_shards_that_differ_in_a_fact_are_not_concatenated(tmp_path):
    write(tmp_path / "0.h5")
    write(tmp_path / "1.h5", encoder="clip")
    with pytest.raises(ValueError, match=r"1\.h5 has encoder = 'clip', .*0\.h5 has None; run the older one again"):
        store.concatenate([tmp_path / "0.h5", tmp_path / "1.h5"])
    (tmp_path / "1.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.h5 does not exist"):
        store.concatenate([tmp_path / "0.h5", tmp_path / "1.h5"])


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_batches_hold_every_row_once_and_in_order(tmp_path, size, lengths):
    store.create(tmp_path / "0.h5", {"images": np.arange(30).reshape(5, 2, 3)}, {})
    with store.open(tmp_path / "0.h5") as file:
        batches = list(store.batches(file["images"], size))
    assert [len(batch) for batch in batches] == lengths
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(30).reshape(5, 2, 3))


def test_batches_cross_the_shards_of_an_index(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.h5", rows=3, value=i)
    store.index(tmp_path / "index.h5", [tmp_path / f"{i}.h5" for i in range(3)])
    with store.open(tmp_path / "index.h5") as file:
        batches = [batch[:, 0].tolist() for batch in store.batches(file["activations"], 4)]
    assert batches == [[0, 0, 0, 1], [1, 1, 2, 2], [2]]


READ = """
import sys
from unitlens import store
with store.open(sys.argv[1]) as file:
    rows = sum(map(len, store.batches(file["activations"], 64)))
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(rows, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_rows_that_are_read(tmp_path):
    """Each process reads shards of 8 MiB through an index, two or thirty-two of them."""
    peaks = []
    for n in (2, 32):
        shards = [tmp_path / str(n) / f"{number:05d}.h5" for number in range(n)]
        for shard in shards:
            store.create(shard, {"activations": np.ones((2048, 1024), np.float32)}, {})
        store.index(tmp_path / f"{n}.h5", shards)
        command = [sys.executable, "-c", READ, tmp_path / f"{n}.h5"]
        path = {"PYTHONPATH": str(Path(store.__file__).parents[1])}
        rows, peak = map(int, subprocess.run(command, env=path, capture_output=True, check=True).stdout.split())
        assert rows == n * 2048
        peaks.append(peak * 1024)
    assert peaks[1] - peaks[0] < 30 * 2**20 / 4  # HDF5 by itself keeps 1 MiB or more of each of the 30 shards


def test_rows_are_picked_from_any_shard(tmp_path):
    values = np.arange(30).reshape(10, 3)
    for i, (start, stop) in enumerate([(0, 4), (4, 5), (5, 10)]):
        arrays = {"images": values[start:stop], "image_id": [f"é{row}" for row in range(start, stop)]}
        store.create(tmp_path / f"{i}.h5", arrays, {})
    paths = [tmp_path / f"{i}.h5" for i in range(3)]
    assert store.column(paths, "image_id").tolist() == [f"é{row}" for row in range(10)]
    with store.picking(paths, "images") as pick:
        for rows in ([0], [3, 4, 5], [1, 9], [4], list(range(10))):
            np.testing.assert_array_equal(pick(np.array(rows)), values[rows])
