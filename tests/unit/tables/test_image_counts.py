"""Counts of image sets, by hand: shards that differ, copies, files left out, and what may be wrong with the images."""

import json

import numpy as np
import pandas as pd
import pytest
from unitlens.storage.arrays import write_arrays
from unitlens.tables.explanations import image_set_counts


def counts(folder, shards, *, bits=16, sheet="image_id,path,duplicate_of\na,a.png,\n", left_out="ending,files\n"):
    """Count shards of (set, geometry, source images, skipped, remarks), which all share a sheet."""
    files = []
    for number, (name, geometry, source_images, skipped, remarks) in enumerate(shards):
        kept = {"image_id": np.array([path[:-4] for path in source_images], dtype=str)}
        kept["source_image"] = np.array(source_images, dtype=str)
        facts = {"geometry": geometry, "skipped": json.dumps(skipped), "remarks": json.dumps(remarks)}
        write_arrays(folder / f"{number}.h5", kept, facts)
        files.append((name, folder / f"{number}.h5"))
    (folder / "sheet.csv").write_text(sheet)
    (folder / "left_out.csv").write_text(left_out)
    names = dict(files)
    tables = (dict.fromkeys(names, folder / f"{which}.csv") for which in ("sheet", "left_out"))
    return image_set_counts(files, *tables, dict.fromkeys(names, bits))


def test_what_is_counted_of_several_shards(tmp_path):
    """A source image that stands twice counts once; one that lacks only its label map is kept, so not skipped."""
    lacks_map, unreadable = ["a", "no label map"], ["x", "x.png: cut short"]
    table = counts(
        tmp_path,
        [
            ("probe", "square", ["a.png", "a.png", "b.png"], [lacks_map], [[], [], 0]),
            ("eval", "tall", ["c.png"], [], [[], [], 0]),
            ("probe", "square", ["c.png"], [unreadable], [[], [], 0]),
            ("eval", "square", ["c.png"], [], [[], [], 0]),
        ],
        sheet="image_id,path,duplicate_of\na,a.png,\nb,b.png,a\nc,c.png,a\n",
        left_out="ending,files\n.heic,2\nnone,11\n",
    )
    pd.testing.assert_frame_equal(
        table,
        pd.DataFrame(
            {
                "set": ["probe", "eval", "eval"],  # the order of the run
                "geometry": ["square", "tall", "square"],
                "images": [4, 1, 1],
                "source_images": [3, 1, 1],
                "skipped": [1, 0, 0],
                "problems": ["a: no label map; x: x.png: cut short", "", ""],
                "copies": 2,
                "copied": "b.png of a; c.png of a",
                "warning": "",
                "left_out": 13,
                "left_out_endings": "2 .heic, 11 none",
            }
        ),
    )


@pytest.mark.parametrize(
    ("brightest", "bits", "expected"),
    [
        (0, 16, None),
        (1, 16, 8),
        (255, 16, 8),
        (256, 16, 9),
        (4095, 16, 12),
        (16383, 16, 14),
        (16384, 16, None),
        (4095, 12, None),
    ],
)
def test_dark_images_of_sixteen_bits_are_warned_of(tmp_path, brightest, bits, expected):
    """The brightest of all shards counts; a file of several crops is one."""
    shards = [("probe", "square", ["a.png"], [], [[], ["a.png", "b.png"], brightest])]
    shards += [("probe", "square", ["b.png"], [], [[], ["b.png"], 0])]
    told = (
        f"the values in 2 files of 16 bits end at {brightest}, so that these images are dark; if they have {expected} "
        "bits, set images.probe.bits to that"
    )
    assert counts(tmp_path, shards, bits=bits).warning.tolist() == [told if expected else ""]


def test_files_of_several_frames_are_named(tmp_path):
    shards = [("probe", "square", ["a.gif"], [], [["a.gif", "b.gif"], [], 0])]
    shards += [("probe", "square", ["b.gif"], [], [["b.gif"], ["c.png"], 5])]
    assert counts(tmp_path, shards).warning.tolist() == [
        "several frames or pages, of which the first is used, have 2 (a.gif, b.gif); the values in 1 files of 16 bits "
        "end at 5, so that these images are dark; if they have 8 bits, set images.probe.bits to that"
    ]


def test_a_set_without_a_readable_image_is_refused(tmp_path):
    shards = [("probe", "square", ["a.png"], [], [[], [], 0])]
    shards += [("eval", "square", [], [["x", "cut short"], ["y", "empty"]], [[], [], 0])]
    with pytest.raises(ValueError, match=r"no source image of images\.eval can be read.*: x: cut short, y: empty$"):
        counts(tmp_path, shards)
