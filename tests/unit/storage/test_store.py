import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from unitlens.storage import arrays as arrays_module
from unitlens.storage import shards as shards_module
from unitlens.storage.arrays import read_batches, write_arrays
from unitlens.storage.shards import (
    by_folder,
    concatenate,
    join,
    picking,
    picking_by_folder,
    read_blocks,
    read_column,
    read_groups,
)

ROOT = {"PYTHONPATH": str(Path(__file__).parents[3] / "scripts")}


def write(path, rows=3, value=0.0, **attributes):
    image_ids = np.array([f"é{i}" for i in range(rows)], dtype=str)
    arrays = {"activations": np.full((rows, 4), value, np.float32), "image_id": image_ids}
    arrays_module.write_arrays(path, arrays, {"model": "m", **attributes})
    return arrays


def in_a_process(code, *arguments):
    """Run Python code that has `store`; give its status, what it printed and its errors."""
    command = [sys.executable, "-c", f"from unitlens.storage import arrays, shards\n{code}", *map(str, arguments)]
    ended = subprocess.run(command, env=ROOT, capture_output=True, text=True, timeout=120)
    return ended.returncode, ended.stdout, ended.stderr


def test_what_is_written_is_read(tmp_path):
    arrays = write(tmp_path / "a" / "00000.h5")
    read, attributes = arrays_module.read_arrays(tmp_path / "a" / "00000.h5")
    np.testing.assert_array_equal(read["activations"], arrays["activations"])
    assert read["image_id"].tolist() == ["é0", "é1", "é2"]
    assert attributes["model"] == "m"
    assert attributes["unitlens"]


def test_datasets_and_rows_are_read_on_request(tmp_path):
    write(tmp_path / "0.h5")
    arrays, _ = arrays_module.read_arrays(tmp_path / "0.h5", rows=2, names=["image_id"])
    assert list(arrays) == ["image_id"] and arrays["image_id"].tolist() == ["é0", "é1"]


def test_same_arrays_give_the_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_rows_that_come_in_parts_are_written_as_those_that_come_at_once(tmp_path):
    made = {"images": np.arange(700 * 3000, dtype=np.uint16).reshape(700, 3000), "score": np.arange(700.0)}
    arrays_module.write_arrays(tmp_path / "whole.h5", made, {"model": "m"})
    facts = {}
    with arrays_module.create_arrays(tmp_path / "parts.h5", 700, facts) as add:
        for start in range(0, 700, 64):
            add(**{name: array[start : start + 64] for name, array in made.items()})
        facts["model"] = "m"
        assert [path.suffix for path in tmp_path.iterdir() if path.name != "whole.h5"] == [".part"]
    whole, parts = (arrays_module.read_arrays(tmp_path / f"{name}.h5") for name in ("whole", "parts"))
    assert whole[1] == parts[1] and not arrays_module.damage(tmp_path / "parts.h5")
    for name, array in made.items():
        np.testing.assert_array_equal(parts[0][name], array)
        assert parts[0][name].dtype == whole[0][name].dtype
    with h5py.File(tmp_path / "whole.h5") as one, h5py.File(tmp_path / "parts.h5") as other:
        assert all(one[name].chunks == other[name].chunks for name in made)


def test_fewer_rows_than_were_expected_are_as_many_as_came(tmp_path):
    with arrays_module.create_arrays(tmp_path / "0.h5", 7, {}) as add:
        add(images=np.ones((0, 2)), nothing=np.ones((0, 3)))
        add(images=np.ones((3, 2)))
        add(images=np.zeros((1, 2)), image_id=["a", "b", "c", "d"], nothing=np.ones((4, 3)))
    read, _ = arrays_module.read_arrays(tmp_path / "0.h5")
    assert read["images"].tolist() == [[1, 1]] * 3 + [[0, 0]] and read["image_id"].tolist() == list("abcd")
    with arrays_module.create_arrays(tmp_path / "0.h5", 7, {}) as add:
        add(images=np.ones((0, 2)), image_id=[])
    assert arrays_module.read_arrays(tmp_path / "0.h5")[0]["images"].shape == (0, 2)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{"a": [1, 2]}, {"a": [3, 4]}], r"a got its rows 2 to 4; allowed: at most 3"),
        ([{"a": ["x"]}, {"a": ["y"]}], r"a got its rows 1 to 2; allowed: text at once"),
        ([{"a": [1, 2], "b": [1]}], r"same number of rows, got \{'a': 2, 'b': 1\}"),
        ([{"a": [1]}, {"a": [2.5]}], r"a got rows of float64 \(\); allowed: int64 \(\), as the first rows"),
        ([{"a": np.zeros(1, np.uint8)}, {"a": [300]}], r"a got rows of int64 \(\); allowed: uint8 \(\)"),
        ([{"a": np.zeros((1, 3))}, {"a": np.ones((2, 1))}], r"rows of float64 \(1,\); allowed: float64 \(3,\)"),
        ([{"a": np.zeros((1, 3))}, {"a": np.ones(2)}], r"rows of float64 \(\); allowed: float64 \(3,\)"),
        ([{"a": [1, 2], "b": np.zeros((0, 4))}], r"same number of rows, got \{'a': 2, 'b': 0\}"),
    ],
)
def test_parts_that_do_not_fit_leave_no_file(tmp_path, parts, message):
    with pytest.raises(ValueError, match=message), arrays_module.create_arrays(tmp_path / "0.h5", 3, {}) as add:
        for part in parts:
            add(**part)
    assert not list(tmp_path.iterdir())


def test_an_error_while_a_file_is_written_is_its_own_and_leaves_no_file(tmp_path):
    with (
        pytest.raises(OSError, match=r"^elsewhere$"),
        arrays_module.create_arrays(tmp_path / "0.h5", 3, {}) as add,
    ):
        add(a=[1, 2, 3])
        raise OSError("elsewhere")
    assert not list(tmp_path.iterdir())


def test_rows_must_agree(tmp_path):
    with pytest.raises(ValueError, match=r"same number of rows, got \{'a': 2, 'b': 3\}"):
        arrays_module.write_arrays(tmp_path / "x.h5", {"a": np.zeros(2), "b": np.zeros(3)}, {})
    with pytest.raises(ValueError, match=r"same number of rows, got \{'a': 'no'\}"):
        arrays_module.write_arrays(tmp_path / "x.h5", {"a": 3}, {})


@pytest.mark.parametrize("value", [None, 3, b"x", "a\0b", "\udcff", float("nan")])
def test_what_is_no_text_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"x\.h5: word holds .* at 1; allowed: Unicode text without zero characters"):
        arrays_module.write_arrays(tmp_path / "x.h5", {"word": np.array(["a", value], dtype=object)}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [None, "a\0", "\udcff"])
def test_attributes_that_cannot_be_kept_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"x\.h5: the attribute 'note' cannot be "):
        arrays_module.write_arrays(tmp_path / "x.h5", {"a": np.zeros(2)}, {"note": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["", "é" * 40_000, 7, 0.5, True])
def test_attributes_come_back(tmp_path, value):
    arrays_module.write_arrays(tmp_path / "x.h5", {"a": np.zeros(2)}, {"note": value})
    with arrays_module.open_arrays(tmp_path / "x.h5") as file:
        assert arrays_module.attributes_of(file)["note"] == value


def test_numbers_that_are_not_real_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"x\.h5: a holds complex128; allowed: numbers, bool and text"):
        arrays_module.write_arrays(tmp_path / "x.h5", {"a": np.zeros(2, complex)}, {})


def test_a_file_without_rows_is_read(tmp_path):
    arrays_module.write_arrays(tmp_path / "x.h5", {"word": np.array([], dtype=object), "maps": np.zeros((0, 2, 2))}, {})
    arrays, _ = arrays_module.read_arrays(tmp_path / "x.h5")
    assert arrays["word"].tolist() == [] and arrays["maps"].shape == (0, 2, 2)


def write_groups(folder):
    """Three shards of one number a row, the second without rows and the third without the second dataset."""
    for number, values in enumerate(([0.0, 1, 2], [], [3.0, 4])):
        arrays = {"a": np.array(values), "image_id": np.array([str(each) for each in values], dtype=object)}
        extra = {"b": np.array(values) * 10} if number < 2 else {}
        arrays_module.write_arrays(folder / f"{number}.h5", arrays | extra, {"model": "m"})
    return [folder / f"{number}.h5" for number in range(3)]


@pytest.mark.parametrize(("most_bytes", "passes"), [(8, 3), (15, 3), (16, 2), (31, 2), (32, 1)])
def test_as_many_groups_are_read_at_once_as_fit_into_memory(tmp_path, monkeypatch, most_bytes, passes):
    """Groups of two, one and one row of eight bytes; a row belongs to none. No group is divided."""
    read, seen = shards_module._read_rows, []
    monkeypatch.setattr(shards_module, "_read_rows", lambda *given: seen.append(given) or read(*given))
    groups = read_groups(write_groups(tmp_path), ["a"], np.array([2, 0, 7, -1, 0]), most_bytes=most_bytes)
    found = [(number, rows.tolist(), own["a"].tolist()) for number, rows, own in groups]
    assert found == [(0, [1, 4], [1, 4]), (2, [0], [0]), (7, [2], [2])]
    assert len(seen) == passes


def test_what_a_shard_lacks_is_filled_up_in_groups(tmp_path):
    (one,) = read_groups(write_groups(tmp_path), ["a", "b", "none"], np.zeros(5, int))
    np.testing.assert_array_equal(one[2]["b"], [0, 10, 20, np.nan, np.nan])
    assert list(one[2]) == ["a", "b"] and one[2]["a"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("files", [([0.5], [7]), ([7], [0.5])])
def test_a_group_keeps_the_finest_numbers_of_all_shards(tmp_path, files):
    for number, values in enumerate(files):
        arrays_module.write_arrays(tmp_path / f"{number}.h5", {"a": np.array(values)}, {})
    ((_, _, found),) = read_groups([tmp_path / "0.h5", tmp_path / "1.h5"], ["a"], np.zeros(2, int))
    assert found["a"].tolist() == [*files[0], *files[1]]


def test_groups_of_rows_with_other_axes_are_refused(tmp_path):
    for number, values in enumerate((np.ones((1, 2)), np.ones((1, 2, 3)))):
        arrays_module.write_arrays(tmp_path / f"{number}.h5", {"a": values}, {})
    with pytest.raises(ValueError, match=r"1.h5 holds a of shape \(2, 3\) a row, others \(2,\); run one again"):
        list(read_groups([tmp_path / "0.h5", tmp_path / "1.h5"], ["a"], np.zeros(2, int)))


def test_rows_are_picked_by_the_name_of_the_folder(tmp_path):
    paths = []
    for name, values in (("x", [1.0, 2]), ("y", [3.0])):
        (tmp_path / name).mkdir()
        for number, value in enumerate(values):
            paths.append(tmp_path / name / f"{number}.h5")
            arrays_module.write_arrays(paths[-1], {"a": np.array([value])}, {"model": "m"})
    picked = picking_by_folder(paths, "a")
    assert {name: pick(np.arange(1 + (name == "x"))).tolist() for name, pick in picked.items()} == {
        "x": [1, 2],
        "y": [3],
    }


# ---- damage


def test_a_truncated_file_is_named(tmp_path):
    write(tmp_path / "0.h5", rows=1000)
    content = (tmp_path / "0.h5").read_bytes()
    (tmp_path / "0.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(OSError, match=r"0\.h5 is truncated or not an HDF5 file"):
        arrays_module.read_arrays(tmp_path / "0.h5")


ARRAYS = {
    "activations": np.random.default_rng(0).random((3, 4), np.float32),
    "image_id": np.array(["é1", "", "img_3"], dtype=object),
    "mask": np.eye(5, dtype=np.uint16)[None].repeat(3, axis=0),
}
FACTS = {"model": "m", "weights_sha256": "0f" * 32, "seed": 0, "share": 0.5, "percentiles": [10.0, 50.0], "lime": "{}"}


def outcome(path):
    """Tell whether a file is read as it was written, or named as what it is."""
    try:
        arrays, facts = arrays_module.read_arrays(path)
    except OSError as error:
        assert str(path) in str(error) and error.errno is None
        return "damaged"
    assert arrays.keys() == ARRAYS.keys() and facts.keys() == {*FACTS, "unitlens"}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
    for key, value in FACTS.items():
        np.testing.assert_array_equal(facts[key], value)
    return "same"


@pytest.mark.parametrize(("extra", "flips"), [(0, 300), (12, 100)])  # HDF5 keeps names in another way from nine on
def test_a_flipped_bit_anywhere_changes_nothing_or_is_named(tmp_path, extra, flips, monkeypatch):
    for number in range(extra):
        monkeypatch.setitem(ARRAYS, f"more{number}", np.arange(3))
        monkeypatch.setitem(FACTS, f"more{number}", f"text {number}")
    arrays_module.write_arrays(tmp_path / "good", ARRAYS, FACTS)
    good = (tmp_path / "good").read_bytes()
    rng, outcomes = np.random.default_rng(0), {}
    for place in rng.permutation(len(good))[:flips]:
        content = bytearray(good)
        content[place] ^= 1 << rng.integers(8)
        path = tmp_path / "flipped" / f"{place}.h5"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        outcomes[path] = outcome(path)
        assert bool(arrays_module.damage(path)) == (outcomes[path] == "damaged")
    reasons = arrays_module.remove_damaged(tmp_path)
    damaged = {path for path, found in outcomes.items() if found == "damaged"}
    assert len(reasons) == len(damaged) > flips / 2 and all(
        any(str(path) in each for each in reasons) for path in damaged
    )
    assert set((tmp_path / "flipped").iterdir()) == outcomes.keys() - damaged


def flip(path, pattern):
    content = bytearray(path.read_bytes())
    content[content.index(pattern)] ^= 1
    path.write_bytes(content)


NUMBERS = np.full(4, 7.25, np.float32).tobytes()


@pytest.fixture
def shards(tmp_path):
    paths = [tmp_path / "0.h5", tmp_path / "1.h5"]
    for path in paths:
        write(path, value=7.25)
    return paths


READERS = {
    "read": lambda paths: arrays_module.read_arrays(paths[1]),
    "concatenate": concatenate,
    "column": lambda paths: read_column(paths, "activations"),
    "blocks": lambda paths: list(read_blocks(paths, ["activations"], 2)),
    "picking": lambda paths: pick(paths, range(6)),
}


def pick(paths, rows):
    return picking(paths, "activations")(np.array(rows))


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_a_damaged_shard(shards, reader):
    flip(shards[1], NUMBERS)
    with pytest.raises(OSError, match=r"1\.h5 is damaged \(activations: .*\); delete it and run the workflow again"):
        READERS[reader](shards)


FAILING = """
def failing(*_):  # h5py has the number of the system's error in the message only
    raise KeyError("Unable to open object (file read failed: errno = 5, error message = 'Input/output error')")
"""


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_a_shard_whose_disk_fails(shards, reader, monkeypatch):
    inside = {"__name__": "h5py._hl.dataset"}
    exec(FAILING, inside)
    monkeypatch.setattr(h5py.Dataset, "__getitem__", inside["failing"])
    with pytest.raises(OSError, match=r"1\.h5") as raised:
        READERS[reader](shards[::-1] if reader != "read" else shards)
    assert raised.value.errno == errno.EIO


def test_what_a_reader_asks_for_in_vain_is_named(shards):
    arrays, facts = concatenate(shards)
    with pytest.raises(OSError, match=r"0\.h5 has no dataset 'mask', but activations, image_id; delete it and run"):
        arrays["mask"]
    with pytest.raises(OSError, match=r"0\.h5 has no attribute 'geometry', but model, unitlens"):
        facts["geometry"]
    with pytest.raises(OSError, match=r"0\.h5 has no dataset 'mask'"):
        read_column(shards, "mask")
    with (
        pytest.raises(OSError, match=r"0\.h5 lacks what is needed of it \(.*object 'mask' doesn't exist"),
        arrays_module.open_arrays(shards[0]) as file,
    ):
        file["mask"]
    with (
        pytest.raises(OSError, match=r"0\.h5 has no attribute 'geometry'"),
        arrays_module.open_arrays(shards[0]) as file,
    ):
        arrays_module.attributes_of(file)["geometry"]


def test_an_error_of_the_block_is_not_taken_for_damage(shards):
    flip(shards[0], NUMBERS)
    for error in (OSError("no image"), KeyError("no class"), ValueError("no layer")):
        with pytest.raises(type(error)) as raised, arrays_module.open_arrays(shards[0]):
            raise error
        assert raised.value is error


@pytest.mark.parametrize(
    "what", ["soft link", "external link", "group", "type", "external", "virtual", "scalar", "rows"]
)
def test_nothing_but_datasets_of_the_file_itself_is_read(tmp_path, what):
    write(tmp_path / "other.h5")
    write(tmp_path / "0.h5")
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        if what == "soft link":
            file["x"] = h5py.SoftLink("/activations")
        elif what == "external link":
            file["x"] = h5py.ExternalLink("other.h5", "/activations")
        elif what == "group":
            file.create_group("x")
        elif what == "type":
            file["x"] = np.dtype("f4")
        elif what == "external":
            file.create_dataset("x", (3,), "u1", external=[("/etc/passwd", 0, 3)])
        elif what == "virtual":
            layout = h5py.VirtualLayout((3, 4), "f4")
            layout[:] = h5py.VirtualSource("other.h5", "activations", (3, 4))
            file.create_virtual_dataset("x", layout)
        else:
            file["x"] = 3.0 if what == "scalar" else np.zeros(4)
    with pytest.raises(OSError, match=r"0\.h5 is damaged \((x |its datasets differ in their number of rows)"):
        arrays_module.read_arrays(tmp_path / "0.h5")


def test_a_changed_attribute_does_not_have_its_checksum(shards):
    with h5py.File(shards[0], "r+") as file:
        file.attrs["seed"] = 7
    with pytest.raises(OSError, match=r"0\.h5 is damaged \(its attributes do not have their checksum\)"):
        arrays_module.read_arrays(shards[0])


def test_damaged_files_are_named_and_removed(shards):
    folder = shards[0].parent
    assert arrays_module.remove_damaged(folder) == []
    flip(shards[0], NUMBERS)
    shards[1].write_bytes(b"")
    write(folder / "deep" / "2.h5")
    (folder / "text.txt").touch()
    first, second = arrays_module.remove_damaged(folder)
    assert "0.h5 is damaged (activations: " in first and "1.h5 is truncated or not" in second
    assert {path.name for path in folder.iterdir()} == {"deep", "text.txt"}
    assert [path.name for path in (folder / "deep").iterdir()] == ["2.h5"]


def test_a_damaged_file_that_is_gone_by_then_is_told_too(tmp_path, monkeypatch):
    def damage(path):
        path.unlink()  # another `make check` was faster
        return f"{path} is damaged"

    (tmp_path / "a.h5").touch()
    monkeypatch.setattr(arrays_module, "damage", damage)
    assert arrays_module.remove_damaged(tmp_path) == [f"{tmp_path}/a.h5 is damaged"]


def test_large_arrays_are_kept_in_pieces_of_a_mebibyte(tmp_path):
    values = np.arange(300_000, dtype=np.float64)
    arrays_module.write_arrays(tmp_path / "a.h5", {"values": values, "rows": values.reshape(-1, 1).repeat(3, 1)}, {})
    with arrays_module.open_arrays(tmp_path / "a.h5") as file:
        assert file["values"].chunks == (2**20 // 8,) and file["rows"].chunks == (2**20 // 24, 3)
    assert (arrays_module.read_arrays(tmp_path / "a.h5")[0]["values"] == values).all()


def test_masks_maps_and_texts_are_compressed_and_all_have_checksums(tmp_path):
    kinds = {"mask": bool, "map": np.uint16, "text": "U3", "image": np.uint8, "saliency": np.float32}
    arrays_module.write_arrays(tmp_path / "a.h5", {name: np.zeros((4, 3), kind) for name, kind in kinds.items()}, {})
    with arrays_module.open_arrays(tmp_path / "a.h5") as file:
        assert {name: file[name].compression for name in kinds} == {
            **dict.fromkeys(("mask", "map", "text"), "gzip"), "image": None, "saliency": None
        }  # fmt: skip
        assert all(file[name].fletcher32 and file[name].chunks == (4, 3) for name in kinds)
    arrays_module.write_arrays(tmp_path / "new/deep/b.h5", {"mask": np.zeros((1000, 10), bool)}, {})
    with arrays_module.open_arrays(tmp_path / "new/deep/b.h5") as file:
        assert file["mask"].id.get_storage_size() < 1000


def test_files_behind_linked_folders_are_checked_once(tmp_path):
    write(tmp_path / "scratch" / "0.h5")
    (tmp_path / "results").mkdir()
    for name in ("a", "b"):
        (tmp_path / "results" / name).symlink_to(tmp_path / "scratch")
    (tmp_path / "scratch" / "round").symlink_to(tmp_path / "results")
    flip(tmp_path / "scratch" / "0.h5", b"m")
    assert len(arrays_module.remove_damaged(tmp_path / "results")) == 1


# ---- what cannot be read


def test_what_is_missing_or_no_file_is_named(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    (tmp_path / "link.h5").symlink_to("nowhere")
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    for name in ("missing", "link"):
        with pytest.raises(FileNotFoundError, match=rf"{name}\.h5 does not exist; run the rule that writes it"):
            arrays_module.read_arrays(tmp_path / f"{name}.h5")
    for name, number in {"folder": errno.EISDIR, "pipe": errno.EINVAL, "loop": errno.ELOOP}.items():
        with pytest.raises(OSError, match=rf"{name}\.h5") as raised:
            arrays_module.read_arrays(tmp_path / f"{name}.h5")
        assert raised.value.errno == number
    told = arrays_module.remove_damaged(tmp_path)
    assert [text.partition(" cannot be read (")[0] for text in told] == [
        str(tmp_path / f"{name}.h5") for name in ("link", "loop", "pipe")
    ]
    assert all(text.endswith("); it was left alone") for text in told) and len(list(tmp_path.iterdir())) == 4
    assert arrays_module.remove_damaged(tmp_path / "nothing") == [
        f"{tmp_path}/nothing cannot be read (No such file or directory); it was left alone"
    ]


def test_a_file_that_may_not_be_read_is_left_alone():
    told = """
import os, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o777)
    for name in ("open", "closed"):
        arrays.write_arrays(f"{folder}/{name}/0.h5", {"a": [1.0]}, {})
    os.chmod(f"{folder}/open/0.h5", 0)
    os.chmod(f"{folder}/closed", 0)
    if not os.geteuid():
        os.seteuid(65534)
    print(*arrays.remove_damaged(folder), sep="\\n")
    try:
        arrays.read_arrays(f"{folder}/open/0.h5")
    except PermissionError as error:
        print(error)
    os.seteuid(os.getuid())
    os.chmod(f"{folder}/closed", 0o777)
    print(sorted(os.listdir(f"{folder}/open") + os.listdir(f"{folder}/closed")))
"""
    status, text, errors = in_a_process(told)
    assert status == 0, errors
    closed, opened, raised, left = text.splitlines()
    assert closed.endswith("closed cannot be read (Permission denied); it was left alone")
    assert opened.endswith("open/0.h5 cannot be read (Permission denied); it was left alone")
    assert raised.startswith("[Errno 13] Permission denied: ") and left == "['0.h5', '0.h5']"


MANY = 300
FEW = """
import resource, sys
import numpy as np
paths = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
pick = shards.picking(paths, "activations")
print(float(pick(np.arange(2 * len(paths))).sum()))
print(float(shards.read_column(paths, "activations").sum()))
print(sum(float(block["activations"].sum()) for block in shards.read_blocks(paths, ["activations"], 2)))
print(float(shards.concatenate(paths)[0]["activations"].sum()))
held = []
try:
    while True:
        held.append(open("/dev/null"))
except OSError:
    pass
try:
    arrays.read_arrays(paths[0])
except OSError as error:
    print(error.errno, paths[0] in str(error))
try:
    arrays.damage(paths[0])
except OSError as error:
    print(error.errno, paths[0] in str(error))
"""


def test_many_shards_are_read_with_few_descriptors_and_none_left_is_no_damage(tmp_path):
    paths = [tmp_path / f"{number:05d}.h5" for number in range(MANY)]
    for number, path in enumerate(paths):
        write(path, rows=2, value=number + 1)
    status, text, errors = in_a_process(FEW, *paths)
    assert status == 0, errors
    everything = str(float(8 * sum(range(1, MANY + 1))))
    assert text.splitlines() == [everything] * 4 + [f"{errno.EMFILE} True"] * 2


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="fails where the disk would")
def test_a_failing_disk_is_no_damage(shards):
    with pytest.raises(OSError, match=r"0\.h5") as raised, arrays_module.open_arrays(shards[0]) as file:
        memory = os.open("/proc/self/mem", os.O_RDONLY)  # reading its first bytes is an input/output error
        os.dup2(memory, file.id.get_vfd_handle())
        file["activations"][:]
    assert raised.value.errno == errno.EIO
    os.close(memory)


def test_damage_that_is_gone_at_the_second_look_was_none(shards, monkeypatch):
    answers = iter([OSError("file signature not found")])
    real = h5py.File

    def once(*arguments, **options):
        for error in answers:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(h5py, "File", once)
    assert arrays_module.damage(shards[0]) == ""


# ---- writing


def test_a_failed_write_leaves_no_file_and_keeps_the_old_one(tmp_path, monkeypatch):
    write(tmp_path / "0.h5", value=1)
    before = (tmp_path / "0.h5").read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", full)
    with pytest.raises(OSError, match=r"cannot be written: No space left on device: '.*0\.h5'"):
        write(tmp_path / "0.h5", value=2)
    assert (tmp_path / "0.h5").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["0.h5"]


FULL = """
import errno, os, resource, signal, sys
import numpy as np
folder = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
made = {f"a{i}": np.random.default_rng(i).random((300, 500)) for i in range(3)}
made |= {f"image_id{i}": [f"image {row}" for row in range(300)] for i in range(8)}
facts = {f"note{i}": "x" * 100 for i in range(12)}
arrays.write_arrays(f"{folder}/whole.h5", made, facts)
size = os.path.getsize(f"{folder}/whole.h5")
failed = 0
for limit in [*range(0, 20_000, 500), *range(20_000, size, size // 40), size - 1]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        arrays.write_arrays(f"{folder}/0.h5", made, facts)
    except OSError as error:
        failed += error.errno == errno.EFBIG and f"{folder}/0.h5" in str(error)
    assert os.listdir(folder) == ["whole.h5"], limit
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
arrays.write_arrays(f"{folder}/0.h5", made, facts)
for limit in (10_000, size // 2, size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        whole = arrays.open_arrays(f"{folder}/whole.h5")
        with whole as file, arrays.create_arrays(f"{folder}/1.h5", 300, facts) as add:
            for name in list(file):
                for part in arrays.read_batches(file[name], 300 if name.startswith("image_id") else 7):
                    add(**{name: part.astype(str) if name.startswith("image_id") else part})
    except OSError as error:
        failed += error.errno == errno.EFBIG and f"{folder}/1.h5" in str(error)
    assert sorted(os.listdir(folder)) == ["0.h5", "whole.h5"], limit
print(failed, os.path.getsize(f"{folder}/0.h5") == size)
"""


def test_a_full_disk_leaves_nothing_and_the_process_alive(tmp_path):
    """Full at any byte; HDF5 by itself ends the process with a segmentation fault."""
    status, text, errors = in_a_process(FULL, tmp_path)
    assert (status, errors) == (0, "")
    failed, whole = text.split()
    assert int(failed) > 83 and whole == "True"


def test_what_a_killed_job_of_this_host_left_is_removed(tmp_path):
    host = socket.gethostname()
    names = [f"0.h5.{host}-4194305.part", f"0.h5.{host}-{os.getppid()}.part", "0.h5.elsewhere-1.part"]  # above any pid
    for name in names:
        (tmp_path / name).touch()
    write(tmp_path / "0.h5")
    assert {path.name for path in tmp_path.iterdir()} == {"0.h5", *names[1:]}


# ---- one below the other


def test_what_another_job_removes_first_is_no_error(tmp_path, monkeypatch):
    part = tmp_path / f"a.h5.{socket.gethostname()}-0.part"
    part.touch()
    exists = arrays_module.Path.exists

    def removed(path):
        if path == arrays_module.Path("/proc/0"):
            part.unlink()
        return exists(path)

    monkeypatch.setattr(arrays_module.Path, "exists", removed)
    arrays_module.write_arrays(tmp_path / "a.h5", {"values": np.arange(3)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_shards_are_concatenated_in_the_order_given(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.h5", rows=i, value=i)
    arrays, attributes = concatenate(tmp_path / f"{i}.h5" for i in (2, 0, 1))
    assert arrays["activations"][:, 0].tolist() == [2, 2, 1]
    assert arrays["image_id"].tolist() == ["é0", "é1", "é0"]
    assert attributes == arrays_module.read_arrays(tmp_path / "2.h5")[1]


@pytest.mark.parametrize(("rows", "expected"), [(0, []), (1, [2]), (2, [2, 2]), (4, [2, 2, 1]), (None, [2, 2, 1])])
def test_the_first_rows_are_those_of_all_shards_together(tmp_path, rows, expected):
    for i in range(3):
        write(tmp_path / f"{i}.h5", rows=i, value=i)
    arrays, _ = concatenate([tmp_path / f"{i}.h5" for i in (2, 0, 1)], rows=rows)
    assert arrays["activations"][:, 0].tolist() == expected
    assert len(arrays["image_id"]) == len(expected)


def test_folders_are_read_apart_and_each_up_to_so_many_rows(tmp_path):
    for place, folder in enumerate(("b", "a")):
        for shard in range(2):
            write(tmp_path / folder / f"{shard}.h5", rows=2, value=10 * place + shard)
    paths = [str(tmp_path / folder / f"{shard}.h5") for folder in ("b", "a") for shard in range(2)]
    for rows, expected in ((None, [[0, 0, 1, 1], [10, 10, 11, 11]]), (3, [[0, 0, 1], [10, 10, 11]])):
        read = by_folder(paths, rows=rows)
        assert [arrays["activations"][:, 0].tolist() for arrays, _ in read] == expected


def test_shards_that_differ_in_a_fact_are_not_concatenated(tmp_path):
    write(tmp_path / "0.h5")
    write(tmp_path / "1.h5", encoder="clip")
    with pytest.raises(ValueError, match=r"1\.h5 has encoder = 'clip', .*0\.h5 has None; run the older one again"):
        concatenate([tmp_path / "0.h5", tmp_path / "1.h5"])
    (tmp_path / "1.h5").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.h5 does not exist"):
        concatenate([tmp_path / "0.h5", tmp_path / "1.h5"])
    with pytest.raises(ValueError, match="there is no shard to read"):
        concatenate([])


def test_what_was_skipped_in_each_shard_is_listed(tmp_path):
    for i, skipped in enumerate(([], [["a", "broken"]], [["b", "missing"]])):
        write(tmp_path / f"{i}.h5", skipped=json.dumps(skipped), passes=["", "traced", "traced"][i])
    _, facts = concatenate([tmp_path / f"{i}.h5" for i in range(3)])
    assert json.loads(facts["skipped"]) == [["a", "broken"], ["b", "missing"]] and facts["passes"] == "traced"


def joined(*parts):
    """Join shards by their arrays, in the order given and backwards; give the first, the rows of both must be alike."""
    forwards, backwards = (join([(part, {}) for part in each])[0] for each in (parts, parts[::-1]))
    assert forwards.keys() == backwards.keys()
    own = np.repeat(np.arange(len(parts)), [len(part["image_id"]) for part in parts])
    order = np.argsort(-own, kind="stable")
    for name, array in forwards.items():
        np.testing.assert_array_equal(backwards[name], array[order])
    return forwards


IDS = {n: np.array([f"i{row}" for row in range(n)], dtype=object) for n in range(4)}


def test_rows_of_unequal_width_are_filled_up(tmp_path):
    arrays = joined(
        {"image_id": IDS[1], "coefficients": np.array([[1.0]]), "top": np.array([[7]])},
        {"image_id": IDS[2], "coefficients": np.array([[2.0, 3.0], [4.0, np.nan]]), "top": np.array([[1, 2], [3, 4]])},
    )
    np.testing.assert_array_equal(arrays["coefficients"], [[1, np.nan], [2, 3], [4, np.nan]])
    assert arrays["top"].tolist() == [[7, -1], [1, 2], [3, 4]]


def test_what_some_shards_lack_is_filled_up_so_that_it_can_be_told():
    maps = np.ones((2, 3, 3), np.uint16)
    arrays = joined(
        {"image_id": IDS[1], "has_mask": np.array([False])},
        {
            "image_id": IDS[2],
            "has_mask": np.array([True, False]),
            "mask": maps,
            "superpixels": maps.astype(np.int64),
            "segments": maps.astype(np.int32),
            "selected": maps.astype(bool),
            "stability": np.array([0.5, 1.0]),
            "word": np.array(["dog", "cat"], dtype=object),
        },
        {"image_id": IDS[0]},
    )
    assert arrays["has_mask"].tolist() == [False, True, False]
    assert {name: array.dtype for name, array in arrays.items() if name in ("mask", "segments", "selected")} == {
        "mask": np.uint16,
        "segments": np.int32,
        "selected": bool,
    }
    firsts = {name: array.reshape(3, -1)[:, 0].tolist() for name, array in arrays.items()}
    assert firsts["mask"] == firsts["superpixels"] == [0, 1, 1] and firsts["segments"] == [-1, 1, 1]
    assert firsts["selected"] == [False, True, True] and firsts["word"] == ["", "dog", "cat"]
    np.testing.assert_array_equal(firsts["stability"], [np.nan, 0.5, 1])


def test_one_mask_a_row_stands_beside_several():
    arrays = joined(
        {"image_id": IDS[1], "mask": np.full((1, 2, 2), 5, np.uint16)},
        {"image_id": IDS[1], "mask": np.full((1, 3, 2, 2), 6, np.uint16)},
        {"image_id": IDS[1]},
    )
    assert arrays["mask"][..., 0, 0].tolist() == [[5, 0, 0], [6, 6, 6], [0, 0, 0]]


def test_a_shard_without_rows_changes_nothing_of_the_others():
    rows = {"image_id": IDS[2], "activations": np.ones((2, 4), np.float32), "label": np.array([1, 2])}
    nothing = {"image_id": IDS[0], "activations": np.zeros(0), "label": np.zeros(0)}
    arrays = joined(nothing, rows, nothing)
    assert arrays["activations"].dtype == np.float32 and arrays["label"].dtype == np.int64
    np.testing.assert_array_equal(arrays["activations"], rows["activations"])
    assert len(joined(nothing, nothing)["image_id"]) == 0


@pytest.mark.parametrize(
    "other",
    [np.zeros((1, 3, 4), np.float32), np.zeros((1, 2, 4, 4), np.float32), np.array([[["a"] * 4] * 4], dtype=object)],
)
def test_maps_of_another_size_or_kind_are_refused(tmp_path, other):
    arrays_module.write_arrays(tmp_path / "0.h5", {"saliency": np.zeros((1, 4, 4), np.float32)}, {})
    arrays_module.write_arrays(tmp_path / "1.h5", {"saliency": other}, {})
    with pytest.raises(ValueError, match=r"\.h5 holds \S+ \(.*\) as saliency, .*\.h5 \S+ \(.*\); run one again"):
        concatenate([tmp_path / "0.h5", tmp_path / "1.h5"])


def test_images_are_never_filled_up():
    with pytest.raises(ValueError, match=r"part 1 holds uint8 \(1, 5, 4, 3\) as images, part 0 uint8 \(1, 4, 4, 3\)"):
        join([({"images": np.zeros((1, side, 4, 3), np.uint8)}, {}) for side in (4, 5)])


def test_a_column_of_shards_that_lack_it_is_filled_up(tmp_path):
    write(tmp_path / "0.h5", rows=2)
    arrays_module.write_arrays(tmp_path / "1.h5", {"stability": [0.5]}, {"model": "m"})
    column = read_column([tmp_path / f"{i}.h5" for i in (0, 1)], "stability")
    np.testing.assert_array_equal(column, [np.nan, np.nan, 0.5])


@pytest.mark.parametrize(("size", "lengths"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_batches_hold_every_row_once_and_in_order(tmp_path, size, lengths):
    arrays_module.write_arrays(tmp_path / "0.h5", {"images": np.arange(30).reshape(5, 2, 3)}, {})
    with arrays_module.open_arrays(tmp_path / "0.h5") as file:
        batches = list(read_batches(file["images"], size))
    assert [len(batch) for batch in batches] == lengths
    np.testing.assert_array_equal(np.concatenate(batches), np.arange(30).reshape(5, 2, 3))


def test_blocks_hold_what_a_shard_has(tmp_path):
    for number, arrays in enumerate(({"a": [1, 2, 3], "mask": [4, 5, 6]}, {"a": []}, {"a": [7]})):
        arrays_module.write_arrays(tmp_path / f"{number}.h5", arrays, {})
    blocks = list(read_blocks([tmp_path / f"{number}.h5" for number in range(3)], ["a", "mask"], 2))
    assert [{name: array.tolist() for name, array in block.items()} for block in blocks] == [
        {"a": [1, 2], "mask": [4, 5]},
        {"a": [3], "mask": [6]},
        {"a": [7]},
    ]


READ = """
import sys
with arrays.open_arrays(sys.argv[1]) as file:
    rows = sum(map(len, arrays.read_batches(file["activations"], 64)))
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(rows, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_rows_that_are_read(tmp_path):
    """Each process reads a shard in batches, of 8 MiB or of 128."""
    peaks = []
    for rows in (2048, 16 * 2048):
        path = tmp_path / f"{rows}.h5"
        arrays_module.write_arrays(path, {"activations": np.ones((rows, 1024), np.float32)}, {})
        status, text, errors = in_a_process(READ, path)
        assert status == 0, errors
        read, peak = map(int, text.split())
        assert read == rows
        peaks.append(peak * 1024)
    assert peaks[1] - peaks[0] < 120 * 2**20 / 8


def test_rows_are_picked_from_any_shard(tmp_path):
    values = np.arange(30).reshape(10, 3)
    for i, (start, stop) in enumerate([(0, 4), (4, 5), (5, 5), (5, 10)]):
        image_ids = np.array([f"é{row}" for row in range(start, stop)], dtype=object)
        arrays_module.write_arrays(tmp_path / f"{i}.h5", {"images": values[start:stop], "image_id": image_ids}, {})
    paths = [tmp_path / f"{i}.h5" for i in range(4)]
    assert read_column(paths, "image_id").tolist() == [f"é{row}" for row in range(10)]
    picked = picking(paths, "images")
    for rows in ([0], [3, 4, 5], [1, 9], [4], list(range(10))):
        np.testing.assert_array_equal(picked(np.array(rows)), values[rows])
    assert picked(np.array([], int)).shape == (0, 3)
    with pytest.raises(IndexError, match="rows 9 to 10 of images were asked for; there are 10"):
        picked(np.array([9, 10]))


def test_rows_of_each_group_are_read_wherever_they_are(tmp_path):
    wide, narrow = np.arange(8.0).reshape(4, 2), np.array([[8.0], [9.0]])
    files = [
        {"a": wide, "b": np.arange(4)},
        {"a": np.zeros((0, 2)), "b": np.arange(0)},
        {"a": narrow, "b": np.arange(2)},
    ]
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    for path, arrays in zip(paths, files, strict=True):
        write_arrays(path, arrays, {})
    groups = np.array([5, -1, 0, 5, 0, 5])
    for most_bytes in (2**20, 1):
        found = list(read_groups(paths, ["a", "b"], groups, most_bytes=most_bytes))
        assert [(number, rows.tolist()) for number, rows, _ in found] == [(0, [2, 4]), (5, [0, 3, 5])]
        assert np.array_equal(found[0][2]["a"], [[4, 5], [8, np.nan]], equal_nan=True)
        assert found[1][2]["b"].tolist() == [0, 3, 1]
    with pytest.raises(ValueError, match="the shards have 6 rows, 5 were expected"):
        list(read_groups(paths, ["a"], groups[:5]))
    assert list(read_groups(paths, ["a"], np.full(6, -1))) == []


def test_files_without_rows_have_the_same_bytes_in_every_process(tmp_path):
    """Python orders sets of names anew in every process."""
    arrays = "{name: np.zeros(0) for name in ('set', 'image_id', 'class', 'score')}"
    script = "import sys, numpy as np; from unitlens.storage.arrays import write_arrays; "
    for seed in "123":
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", f"{script}write_arrays('{seed}.h5', {arrays}, {{}})"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert len({(tmp_path / f"{seed}.h5").read_bytes() for seed in "123"}) == 1
