"""The demonstration's image sheets: the facts that its speed and its report rest on."""

import csv
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
IMAGES = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())["images"]
each_sheet = pytest.mark.parametrize("name", [name for name, images in IMAGES.items() if "sheet" in images])


def rows_of(name):
    with (ROOT / IMAGES[name]["sheet"]).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@each_sheet
def test_ids_are_unique_and_no_image_is_listed_twice(name):
    rows = rows_of(name)
    assert max(Counter(row["image_id"] for row in rows).values()) == 1
    assert max(Counter((row["path"], row["crop"]) for row in rows).values()) == 1


@each_sheet
def test_the_crops_of_a_source_image_are_consecutive(name):
    """Decoding keeps the last source image open: scattered crops would be decoded over and over."""
    runs = [path for path, _ in groupby(row["path"] for row in rows_of(name))]
    assert len(runs) == len(set(runs))


@each_sheet
def test_crops_are_boxes_within_the_source_image(name):
    for row in rows_of(name):
        if row["crop"]:
            left, top, right, bottom = map(float, row["crop"].split())
            assert 0 <= left < right <= 1, row
            assert 0 <= top < bottom <= 1, row


@each_sheet
def test_boxes_lie_within_the_source_image_and_belong_to_a_label(name):
    boxed = [row for row in rows_of(name) if row["box"]]
    assert len({row["path"] for row in boxed}) == {"probe": 19, "explain": 10}[name]
    for row in boxed:
        left, top, right, bottom = map(float, row["box"].split())
        assert 0 <= left < right <= 1, row
        assert 0 <= top < bottom <= 1, row
        assert row["path"].removesuffix(".jpg").split("_")[-1] == row["label"]


@each_sheet
def test_every_path_is_among_the_files_that_are_retrieved(name):
    patterns = [
        f"{source['installed']}/{pattern}" if "installed" in source else pattern
        for source in IMAGES[name]["sources"]
        for pattern in source["files"]
    ]
    paths = {row["path"] for row in rows_of(name)}
    assert [path for path in paths if not any(Path(path).match(pattern) for pattern in patterns)] == []


def test_the_probe_set_holds_every_source_image_whole_and_about_a_thousand_rows():
    rows = rows_of("probe")
    assert {row["path"] for row in rows if not row["crop"]} == {row["path"] for row in rows}
    assert 800 <= len(rows) <= 1200


def test_ten_labeled_source_images_are_explained():
    rows = rows_of("explain")
    assert len(rows) == len({row["path"] for row in rows}) == IMAGES["explain"]["shard_size"] == 10
    assert not any(row["crop"] for row in rows)
    for row in rows:  # foolbox names its source images by number and class
        assert row["path"].removesuffix(".jpg").split("_")[-1] == row["label"]
