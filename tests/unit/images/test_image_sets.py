"""Sheets of image sets: whatever their folders look like, with hashes and copies, and a miniature Broden."""

import csv
import errno
import hashlib
import os
import re

import numpy as np
import pytest
import scipy.io
import toy
from unitlens.images import datasets, label_maps
from unitlens.jobs import sheets


def write(root, *names, content=None):
    """Write files whose content is their own name, or `content`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content or name)


def listed(tmp_path, **options):
    """Write a sheet and read it again."""
    settings = {"sheet": None, "kind": "image_folder", "size": None} | options
    datasets.write_sheet(tmp_path / "out.csv", tmp_path / "left_out.csv", tmp_path / "set", **settings)
    with (tmp_path / "out.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_names_that_a_spreadsheet_would_run_come_back(tmp_path):
    write(tmp_path, "set/=a.png", "set/@b/-c.png", content="the same")
    write(tmp_path, "set/'=d.png")
    rows = listed(tmp_path, size=3)
    assert [row["path"] for row in rows] == ["''=d.png", "'=a.png", "'@b/-c.png"], "as written"
    read = sheets.read_rows(tmp_path / "out.csv", 0, 9)
    assert [row["path"] for row in read] == ["'=d.png", "=a.png", "@b/-c.png"]
    assert datasets.copies(tmp_path / "out.csv") == {"@b/-c.png": "_a.png"}
    (tmp_path / "sheet.csv").write_text("image_id,path\n007,'=d.png\n1.10,=a.png\n")
    read = sheets.read_rows(tmp_path / "sheet.csv", 0, 9)
    assert [(row["image_id"], row["path"]) for row in read] == [("007", "'=d.png"), ("1.10", "=a.png")], "as it is"
    listed(tmp_path, sheet=tmp_path / "sheet.csv")
    copied = sheets.read_rows(tmp_path / "out.csv", 0, 9)
    assert [(row["image_id"], row["path"]) for row in copied] == [("007", "'=d.png"), ("1.10", "=a.png")]


def test_users_rows_are_copied_and_missing_source_images_named(tmp_path):
    write(tmp_path, "set/a.png")
    (tmp_path / "sheet.csv").write_text("image_id,path,label\nfirst,a.png,3\nsecond,b.png,\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 source images are not below .*: b\.png \(second\)"):
        listed(tmp_path, sheet=tmp_path / "sheet.csv")
    first, second = listed(tmp_path, sheet=tmp_path / "sheet.csv", allow_missing=True)
    assert list(first) == [*sheets.COLUMNS, "class_name", "sha256", "maps_sha256", "duplicate_of"]
    assert [first[key] for key in ("image_id", "path", "label", "mask")] == ["first", "a.png", "3", ""]
    assert len(first["sha256"]) == 64 and second["sha256"] == ""


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path):
    write(tmp_path, "set/a.png")
    os.mkfifo(tmp_path / "set/b.png")
    (tmp_path / "set/c.png").symlink_to("c.png")
    names = ["a.png", "b.png", "c.png", "d" * 256]
    lines = [f"{name[0]},{name}\n" for name in names]
    (tmp_path / "sheet.csv").write_text("image_id,path\n" + "".join(lines))
    with pytest.raises(
        FileNotFoundError, match=r"3 of 4 source images are not below .*, or are no files: b\.png \(b\), c"
    ):
        listed(tmp_path, sheet=tmp_path / "sheet.csv")
    hashed = [bool(row["sha256"]) for row in listed(tmp_path, sheet=tmp_path / "sheet.csv", allow_missing=True)]
    assert hashed == [True, False, False, False]


def test_a_failing_disk_is_no_missing_source_image(tmp_path, monkeypatch):
    def fails(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    write(tmp_path, "set/a.png")
    (tmp_path / "sheet.csv").write_text("image_id,path\na,a.png\n")
    monkeypatch.setattr(datasets.Path, "is_file", fails)
    with pytest.raises(OSError, match=r"Input/output error: '.*a\.png'"):
        listed(tmp_path, sheet=tmp_path / "sheet.csv", allow_missing=True)


def test_of_many_missing_source_images_the_first_five_are_named(tmp_path):
    for count, end in ((5, "4.png (4)"), (6, "4.png (4), ...")):
        lines = [f"{number},{number}.png\n" for number in range(count)]
        (tmp_path / "sheet.csv").write_text("image_id,path\n" + "".join(lines))
        with pytest.raises(FileNotFoundError, match=f"^{count} of {count} .*: 0.png \\(0\\), .*{re.escape(end)}$"):
            listed(tmp_path, sheet=tmp_path / "sheet.csv")


def test_ids_that_cannot_name_files_are_refused(tmp_path):
    write(tmp_path, "set/a.png", "set/A.png")
    with pytest.raises(ValueError, match=r"the image_ids A\.png and a\.png differ in case only; write a sheet"):
        listed(tmp_path, size=2)
    (tmp_path / "set/A.png").unlink()
    write(tmp_path, f"set/{'b' * 100}/{'c' * 95}.png")
    assert len(listed(tmp_path, size=2)[1]["image_id"]) == 200, "so many are allowed"
    (tmp_path / f"set/{'b' * 100}/{'c' * 95}.png").unlink()
    write(tmp_path, f"set/{'b' * 100}/{'c' * 110}.png")
    with pytest.raises(
        ValueError, match=r"the image_id b+_c+\.png has 215 characters, at most 200 are allowed; write a sheet"
    ):
        listed(tmp_path, size=2)


def test_a_folder_with_the_name_of_an_image_is_none(tmp_path):
    write(tmp_path, "set/a.png/b.jpg")
    assert [row["path"] for row in listed(tmp_path, size=1)] == ["a.png/b.jpg"]


def test_a_missing_mask_is_named_with_its_row(tmp_path):
    write(tmp_path, "set/a.png")
    (tmp_path / "sheet.csv").write_text("image_id,path,mask\nfirst,a.png,m.png;17\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 1 label maps are not below .*: m\.png \(first\)"):
        listed(tmp_path, sheet=tmp_path / "sheet.csv")
    assert listed(tmp_path, sheet=tmp_path / "sheet.csv", allow_missing=True)[0]["mask"] == "m.png;17"


def test_every_image_of_a_folder_is_listed_and_held_to_the_size(tmp_path):
    write(tmp_path, "set/b c.png", "set/a/x.JPG", "set/notes.txt")
    rows = listed(tmp_path, size=2)
    assert [(row["image_id"], row["path"]) for row in rows] == [("a_x.JPG", "a/x.JPG"), ("b_c.png", "b c.png")]
    with pytest.raises(ValueError, match=r"holds 2 source images and .*, but the config says size: 3"):
        listed(tmp_path, size=3)
    write(tmp_path, "set/b_c.png")
    with pytest.raises(ValueError, match=r"the image_id b_c\.png stands for several source images"):
        listed(tmp_path, size=3)


def test_copies_are_reported(tmp_path, capsys):
    write(tmp_path, "set/b.png", "set/c.png", content="same")
    write(tmp_path, "set/a.png")
    rows = listed(tmp_path, size=3)
    assert [row["duplicate_of"] for row in rows] == ["", "", "b.png"]
    assert capsys.readouterr().out == "3 rows; 1 source image is a copy of another\n  c.png has the content of b.png\n"
    assert datasets.copies(tmp_path / "out.csv") == {"c.png": "b.png"}


def test_files_of_equal_content_are_one_source_image_also_where_a_sheet_of_ones_own_lists_them(tmp_path):
    write(tmp_path, "set/b.png", "set/c.png", "set/d.png", content="same")
    write(tmp_path, "set/a.png")
    (tmp_path / "sheet.csv").write_text("image_id,path,crop\nfirst,c.png,\n1,a.png,\n2,b.png,0 0 1 0.5\n3,d.png,\n")
    listed(tmp_path, sheet=tmp_path / "sheet.csv")
    paths = ["d.png", "a.png", "b.png", "c.png"]
    assert datasets.source_images(tmp_path / "out.csv", paths) == ["c.png", "a.png", "c.png", "c.png"]


def test_an_appended_copy_is_a_source_image_of_its_own_until_the_set_is_listed_again(tmp_path):
    write(tmp_path, "set/b.png", "set/c.png", content="same")
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("image_id,path\n1,b.png\n")
    listed(tmp_path, sheet=sheet)
    sheet.write_text("image_id,path\n1,b.png\n2,c.png\n")
    assert datasets.source_images(tmp_path / "out.csv", ["c.png"]) == ["c.png"]
    listed(tmp_path, sheet=sheet)
    assert datasets.source_images(tmp_path / "out.csv", ["c.png"]) == ["b.png"]


def test_crops_of_one_source_image_are_no_copies(tmp_path):
    write(tmp_path, "set/a.png")
    (tmp_path / "sheet.csv").write_text("image_id,path,crop\na1,a.png,0 0 1 0.5\na2,a.png,0 0.5 1 1\n")
    rows = listed(tmp_path, sheet=tmp_path / "sheet.csv")
    assert rows[0]["sha256"] == rows[1]["sha256"] and rows[1]["duplicate_of"] == ""


def test_one_folder_a_class(tmp_path):
    write(tmp_path, "set/dog/1.png", "set/cat/x/1.png", "set/cat/2.png")
    rows = listed(tmp_path, kind="class_folders", size=3)
    assert [(row["path"], row["label"], row["class_name"]) for row in rows] == [
        ("cat/2.png", "0", "cat"),
        ("cat/x/1.png", "0", "cat"),
        ("dog/1.png", "1", "dog"),
    ]
    write(tmp_path, "set/stray.png")
    with pytest.raises(ValueError, match=r"has images outside them: stray\.png"):
        listed(tmp_path, kind="class_folders", size=4)


def test_imagenet_by_folders_and_by_its_solution(tmp_path):
    write(tmp_path, "set/val/n01440764/ILSVRC2012_val_00000293.JPEG", "set/val/n15075141/ILSVRC2012_val_00000043.JPEG")
    rows = listed(tmp_path, kind="imagenet_val", size=2)
    assert [(row["image_id"], row["label"]) for row in rows] == [
        ("ILSVRC2012_val_00000293", "0"),
        ("ILSVRC2012_val_00000043", "999"),
    ]
    write(tmp_path, "set/flat/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match=r"00000001\.JPEG: no synset; it must lie in a folder"):
        listed(tmp_path, kind="imagenet_val", size=3)
    solution = "ImageId,PredictionString\nILSVRC2012_val_00000001,n01751748 111 108 230 255 \n"
    write(tmp_path, "set/LOC_val_solution.csv", content=solution)
    assert listed(tmp_path, kind="imagenet_val", size=3)[0]["label"] == "65"


ODDITIES = [  # what lies below a folder, and what it is: an image by its id, hidden, or another file by its ending
    ("a b.png", "a_b.png"),
    ("A.JPG", "A.JPG"),
    ("phone.jfif", "phone.jfif"),
    ("old.jpe", "old.jpe"),
    ("gray.pgm", "gray.pgm"),
    ("bits.pbm", "bits.pbm"),
    ("any.pnm", "any.pnm"),
    ("scan.tiff", "scan.tiff"),
    ("plane.jpx", "plane.jpx"),
    ("web.webp", "web.webp"),
    ("two.dots.png", "two.dots.png"),
    ("-x.png", "_x.png"),
    ("sub/b.png", "sub_b.png"),
    ("M\u00fcller.png", "Muller.png-78d0454d"),
    ("Mu\u0308ller.png", "Muller.png-4c8913cc"),
    ("M\u00f6ller.png", "Moller.png-45771ed3"),
    ("\u732b/\u72ac.png", "___.png-179ab988"),
    (".ipynb_checkpoints/a-checkpoint.png", "hidden"),
    ("._1.png", "hidden"),
    ("sub/.DS_Store", "hidden"),
    (".hidden.png", "hidden"),
    ("Thumbs.db", "hidden"),
    ("desktop.ini", "hidden"),
    ("__MACOSX/1.png", "hidden"),
    ("@eaDir/a.jpg/thumb.jpg", "hidden"),
    ("phone.heic", ".heic"),
    ("phone2.HEIC", ".heic"),
    ("notes.txt", ".txt"),
    ("README", "none"),
    ("raw.cr2", ".cr2"),
]


def test_a_folder_with_one_of_each_oddity(tmp_path, capsys):
    write(tmp_path, *(f"set/{name}" for name, _ in ODDITIES))
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path, "elsewhere/c.png")
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "set")
    (tmp_path / "set/itself").symlink_to(tmp_path / "set")
    (tmp_path / "set/twin.png").symlink_to("a b.png")
    expected = {name: kind for name, kind in ODDITIES if kind != "hidden" and not kind.startswith((".", "none"))}
    expected |= {"linked/c.png": "linked_c.png", "twin.png": "twin.png"}
    rows = listed(tmp_path, size=len(expected))
    assert {row["path"].lstrip("'"): row["image_id"].lstrip("'") for row in rows} == expected
    assert (tmp_path / "left_out.csv").read_text() == "ending,files\n.cr2,1\n.heic,2\n.txt,1\nnone,1\n"
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("left out, hidden: 8, ._1.png, .hidden.png, .ipynb_checkpoints, @eaDir, Thumbs.db, ...")
    assert told[1] == "left out, link that leads back to a folder above it: 2, itself, linked/back"
    assert told[2] == "left out, no image by the ending of its name: 1 .cr2, 2 .heic, 1 .txt, 1 none"
    message = r"holds 19 source images and files that are none \(1 \.cr2, 2 \.heic, 1 \.txt, 1 none\), .* size: 3"
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, size=3)


def test_a_name_that_no_table_can_hold_is_refused(tmp_path):
    write(tmp_path, "set/a.png")
    (tmp_path / "set" / os.fsdecode(b"M\xfcller.png")).write_text("latin-1")
    with pytest.raises(
        ValueError, match=r"names must be in UTF-8, or no table could hold them; rename b'M\\xfcller\.png'"
    ):
        listed(tmp_path, size=2)


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    write(tmp_path, "set/a/1.png", "set/b/2.png")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=r"Permission denied: '.*set/b'"):
        listed(tmp_path, size=2)


def test_a_class_without_an_image_keeps_its_number(tmp_path, capsys):
    write(tmp_path, "set/.ipynb_checkpoints/1.png", "set/ant/1.png", "set/bee/1.heic", "set/cat/1.png")
    assert [(row["class_name"], row["label"]) for row in listed(tmp_path, kind="class_folders", size=2)] == [
        ("ant", "0"),
        ("cat", "2"),
    ]
    assert "class 1: bee, 0 images" in capsys.readouterr().out.splitlines()


def test_folders_that_are_numbered_otherwise_than_classes_are_refused(tmp_path):
    write(tmp_path, "set/ant/1.png", "set/bee/1.png", "set/cat/1.png")
    (tmp_path / "sorted.txt").write_text("Ant\r\nBee\r\nCat\r\n\r\n")
    (tmp_path / "other.txt").write_text("cat\nbee\nant\n")
    (tmp_path / "words.txt").write_text("z\ny\nx")  # other words may mean the same
    for fits in (3, str(tmp_path / "sorted.txt"), str(tmp_path / "words.txt")):
        assert len(listed(tmp_path, kind="class_folders", size=3, classes=[fits])) == 3
    for classes, told in [
        ("imagenet", r"not 1000 \(imagenet\)"),
        (4, r"not 4 \(4\)"),
        (str(tmp_path / "other.txt"), "in another order than .*other.txt has them"),
    ]:
        with pytest.raises(ValueError, match=f"set has 3 folders of classes, {told}, so that their numbers would be"):
            listed(tmp_path, kind="class_folders", size=3, classes=[3, classes])
    listed(tmp_path, size=3, classes=[4])  # no labels, no check


@pytest.mark.parametrize(
    ("folders", "classes"),
    [
        (["polar_bear", "Zebra-fish"], ["zebra fish", "Polar Bear"]),
        (["u\u0308ber", "uhu"], ["uhu", "über"]),  # as some systems write umlauts
    ],
)
def test_the_same_classes_in_another_spelling_are_no_others(tmp_path, folders, classes):
    write(tmp_path, *(f"set/{name}/1.png" for name in folders))
    for name, order in (("same.txt", classes), ("other.txt", classes[::-1])):
        (tmp_path / name).write_text("\n".join(order))
    assert len(listed(tmp_path, kind="class_folders", size=2, classes=[str(tmp_path / "same.txt")])) == 2
    with pytest.raises(ValueError, match=r"in another order than .*other.txt"):
        listed(tmp_path, kind="class_folders", size=2, classes=[str(tmp_path / "other.txt")])


def test_labels_of_models_are_copied(tmp_path):
    write(tmp_path, "set/a.png")
    (tmp_path / "sheet.csv").write_text("image_id,path,label_b,label\na,a.png,7,3\n")
    (row,) = listed(tmp_path, sheet=tmp_path / "sheet.csv")
    assert (row["label"], row["label_b"]) == ("3", "7")


@pytest.fixture
def devkit(tmp_path):
    """Three flat source images among others, and a development kit of three leaves and one inner node."""
    write(tmp_path, *(f"set/val/ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3)))
    write(tmp_path, "set/train/n01440764/n01440764_18.JPEG", "set/test/ILSVRC2012_test_00000001.JPEG")
    folder = tmp_path / "set/ILSVRC2012_devkit_t12/data"
    folder.mkdir(parents=True)
    synsets = np.array(
        [
            (1, "n02119789", "kit fox", 0),
            (2, "n02100735", "setter", 0),
            (3, "n01440764", "tench", 0),
            (1001, "n1", "", 2),
        ],
        dtype=[("ILSVRC2012_ID", float), ("WNID", object), ("words", object), ("num_children", float)],
    )
    scipy.io.savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("3\n1\n3\n")
    return folder


def test_imagenet_by_its_development_kit(tmp_path, devkit):
    rows = listed(tmp_path, kind="imagenet_val", size=3)
    assert [(row["image_id"], row["label"], row["class_name"]) for row in rows] == [
        ("ILSVRC2012_val_00000001", "0", "n01440764"),
        ("ILSVRC2012_val_00000002", "278", "n02119789"),
        ("ILSVRC2012_val_00000003", "0", "n01440764"),
    ]


def test_a_development_kit_that_does_not_fit_is_named(tmp_path, devkit):
    truth = devkit / "ILSVRC2012_validation_ground_truth.txt"
    for text, message in (
        ("3\n1\n9\n", "ground_truth.txt and meta.mat beside it do not fit together, or are damaged: KeyError"),
        ("3\n1\n", r"val/ILSVRC2012_val_00000003\.JPEG: no synset; .* or be listed in LOC_val_solution\.csv or ILSVRC"),
        ("3\n1\n1001\n", r"val/ILSVRC2012_val_00000003\.JPEG: no synset"),
    ):
        truth.write_text(text)
        with pytest.raises(ValueError, match=message):
            listed(tmp_path, kind="imagenet_val", size=3)
    (devkit / "meta.mat").write_bytes(b"<html>please log in</html>" * 20)
    with pytest.raises(ValueError, match="or are damaged"):
        listed(tmp_path, kind="imagenet_val", size=3)
    (devkit / "meta.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"needs meta\.mat of the same development kit beside it"):
        listed(tmp_path, kind="imagenet_val", size=3)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "its reader ended with -11$"),
        ("while True: pass", "its reader finds no end in 2 seconds$"),
        ("print('no list')", "Expecting value: "),
    ],
)
def test_a_development_kit_ends_nothing_but_the_reading_of_it(tmp_path, devkit, monkeypatch, code, reason):
    """A flipped bit of `meta.mat` makes scipy's parser crash, another one lets it allocate and loop."""
    monkeypatch.setattr(datasets, "_LONGEST", 2)
    monkeypatch.setattr(datasets, "_READ_SYNSETS", code)
    message = f"ground_truth.txt and meta.mat beside it do not fit together, or are damaged: {reason}"
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, kind="imagenet_val", size=3)


def test_broden_lists_source_images_with_their_label_maps(tmp_path):
    toy.write_broden(tmp_path / "set")
    rows = listed(tmp_path, kind="broden", size=4)
    assert rows[0]["image_id"] == "ade20k_ADE_train_00000001.jpg"
    assert rows[0]["path"] == "broden1_224/images/ade20k/ADE_train_00000001.jpg"
    folder = "broden1_224/images/ade20k/ADE_train_00000001"
    assert (
        rows[0]["mask"] == ";".join(f"{folder}_{name}.png" for name in ("color", "object", "part_1", "part_2")) + ";7"
    )
    assert rows[3]["mask"] == "broden1_224/images/dtd/g_0106_color.png;8;9"
    assert all(row["path"].endswith(".jpg") for row in rows)
    geometry = {"fit": "squash", "resize": 32, "crop": 32, "interpolation": "bilinear"}
    truth = label_maps.read_label_maps(rows, tmp_path / "set", geometry)[0]
    assert truth["mask"].shape == (4, 5, 32, 32)
    assert set(np.unique(truth["mask"][0, 1])) == {0, 300}


def test_words_of_broden(tmp_path):
    toy.write_broden(tmp_path)
    words = datasets.broden_words(tmp_path)
    assert words.set_index("word").loc["wheel"].tolist() == [301, "part"], "the category it is most frequent in"
    assert set(words.category) == {"color", "object", "part", "scene", "texture"}
    assert {"red", "blue", "side street"} < set(words.word), "without the marks -c and -s"
    file = tmp_path / "broden1_224/label.csv"
    file.write_text(file.read_text().replace("color(4)", "color(4);texture(3)"))
    assert datasets.broden_words(tmp_path).set_index("word").category["red"] == "color"
    (tmp_path / "broden1_224/category.csv").write_text("name,first,last,count,frequency\ncolor,1,2,2,9\n")
    with pytest.raises(ValueError, match=r"label\.csv names the category 'object'; category\.csv has color"):
        datasets.broden_words(tmp_path)
    (tmp_path / "broden1_224/label.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"Broden needs one label\.csv below"):
        datasets.broden_words(tmp_path)


def test_broden_without_a_category_is_named(tmp_path):
    write(tmp_path, "set/index.csv", content="image,split,color\na.jpg,train,\n")
    with pytest.raises(ValueError, match="lacks the column 'object'; it has image, split, color"):
        listed(tmp_path, kind="broden", size=1)


def test_a_damaged_category_is_named(tmp_path):
    toy.write_broden(tmp_path)
    file = tmp_path / "broden1_224/label.csv"
    file.write_text(file.read_text().replace("color(4)", "color"))
    with pytest.raises(ValueError, match=r"expected a category as object\(12\);part\(3\), got 'color'"):
        datasets.broden_words(tmp_path)


def test_files_of_a_row_and_their_hashes_leave_out_numbers(tmp_path):
    row = {"path": "a.png", "mask": "b.png;17;c.png", "superpixels": "d.png"}
    assert datasets.files(row) == ["a.png", "b.png", "c.png", "d.png"]
    assert datasets.files({"path": "a.png", "mask": ""}) == ["a.png"]
    for name in ("a", "b", "d"):
        write(tmp_path, f"set/{name}.png", content=name)
    (tmp_path / "sheet.csv").write_text(
        "image_id,path,mask,superpixels\nfirst,a.png,b.png;17;c.png,d.png\nnext,b.png,,\n"
    )
    listed(tmp_path, sheet=tmp_path / "sheet.csv", allow_missing=True)
    expected = {f"{name}.png": hashlib.sha256(name.encode()).hexdigest() for name in ("a", "b", "d")}
    assert datasets.hashes(tmp_path / "out.csv") == expected | {"c.png": ""}


def test_copies_of_one_source_image_are_too_few(tmp_path):
    write(tmp_path, "set/a.png", "set/b.png", "set/c.png", content="the same")
    listed(tmp_path, size=3)
    with pytest.raises(ValueError, match=r"the 3 rows are 1 source image\(s\), 3 are the fewest .* copies of one"):
        sheets.check_source_images(tmp_path / "out.csv", sheets.FEWEST_SOURCE_IMAGES)
    sheets.check_source_images(tmp_path / "out.csv", 1)
    write(tmp_path, "set/d.png", "set/e.png")
    listed(tmp_path, size=5)
    sheets.check_source_images(tmp_path / "out.csv", sheets.FEWEST_SOURCE_IMAGES)
