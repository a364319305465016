"""Generated textures: exact label maps, images that do not depend on their number, and the set that is written."""

import numpy as np
import pytest
from PIL import Image
from unitlens import textures
from unitlens.images import datasets, label_maps
from unitlens.jobs import sheets

SIZE = 96
GEOMETRY = {"fit": "squash", "resize": SIZE, "crop": SIZE, "interpolation": "bilinear"}


def test_an_image_depends_on_the_seed_and_its_number_only():
    images, maps = textures.generate(6, size=SIZE, seed=1)
    assert images.shape == (6, SIZE, SIZE, 3) and maps.shape == (6, 2, SIZE, SIZE)
    assert images.dtype == maps.dtype == np.uint8
    fewer, their_maps = textures.generate(4, size=SIZE, seed=1)
    np.testing.assert_array_equal(fewer, images[:4])
    np.testing.assert_array_equal(their_maps, maps[:4])
    assert (textures.generate(1, size=SIZE, seed=2)[0] != images[:1]).any()
    assert len(textures.generate(0, size=SIZE, seed=1)[0]) == 0


def test_every_pixel_has_a_color_and_every_region_one_pattern():
    _, (colors, patterns) = (each.swapaxes(0, 1) for each in textures.generate(120, size=64, seed=0))
    words = datasets.words_of_maps("textures", "")
    assert words.category.tolist() == ["color"] * 11 + ["texture"] * 9
    assert words["value"].tolist() == list(range(1, 21)) and words.word.is_unique
    assert set(np.unique(colors)) == set(range(1, 12)) and set(np.unique(patterns)) == set(range(12, 21))
    assert all(1 <= len(np.unique(each)) <= 4 for each in patterns)


def test_what_the_maps_call_a_color_looks_like_it():
    images, maps = textures.generate(60, size=SIZE, seed=0)
    meant = np.array(list(textures.COLORS.values()))[maps[:, 0] - 1]
    inner = np.ones(maps[:, 0].shape, dtype=bool)  # away from edges, which are blurred
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
        inner &= maps[:, 0] == np.roll(maps[:, 0], step, axis)
    distance = np.linalg.norm(images[inner] - meant[inner].astype(float), axis=1)
    others = np.linalg.norm(images[inner][:, None] - np.array(list(textures.COLORS.values()), float), axis=2)
    assert np.median(distance) < 40 and (others.argmin(1) + 1 == maps[:, 0][inner]).mean() > 0.9


@pytest.mark.parametrize("pattern", textures.PATTERNS)
def test_a_pattern_has_its_share_of_the_second_color_at_any_size(pattern):
    share = {"plain": 0, "dotted": np.pi * 0.09, "grid": 0.36, "speckled": 0.25}.get(pattern, 0.5)
    y, x = np.mgrid[:200, :200] / 20.0 - 5
    rng = np.random.default_rng(0)

    def smooth(grains):
        return textures._smooth_noise(200, grains * 10, rng)

    assert textures.PATTERNS[pattern](y, x, smooth).mean() == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(
    ("pattern", "second"),
    [
        ("plain", [0, 0, 0, 0, 0, 0]),
        ("striped", [1, 1, 0, 0, 1, 0]),
        ("checkered", [0, 1, 1, 0, 0, 0]),
        ("dotted", [0, 1, 1, 0, 0, 0]),
        ("grid", [1, 0, 0, 0, 1, 0]),
        ("zigzag", [0, 0, 1, 1, 0, 1]),
        ("speckled", [0, 0, 0, 0, 1, 1]),
        ("marbled", [1, 1, 1, 0, 0, 1]),
        ("concentric", [1, 0, 0, 1, 1, 0]),
    ],
)
def test_where_a_pattern_has_its_second_color(pattern, second):
    u, v = np.array([[0.1, 0.3, 0.6, 0.9, 1.1, -0.2], [0.15, 0.7, 0.3, 0.8, 0.4, 0.5]])
    noise = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.9])
    assert textures.PATTERNS[pattern](u, v, lambda grains: grains * noise).tolist() == list(map(bool, second))


def test_an_image_is_the_same_on_every_machine():
    """Red at every 24th pixel of two images, whose last bits may differ, and what the label maps say there."""
    images, maps = textures.generate(2, size=SIZE, seed=1)
    images, maps = images[:, 8::24, 8::24, 0], maps[..., 8::24, 8::24]
    red = [[119, 129, 245, 126, 124, 116, 255, 120, 246, 35, 129, 119, 242, 73, 77, 126]]
    red += [[254, 245, 235, 90, 255, 140, 227, 106, 50, 141, 56, 52, 135, 137, 140, 141]]
    np.testing.assert_allclose(images.reshape(2, -1).astype(int), red, atol=1)
    assert maps[0].reshape(2, -1).tolist() == [
        [11, 11, 3, 11, 6, 11, 3, 11, 3, 5, 11, 11, 3, 6, 6, 11],
        [18, 18, 18, 18, 17, 18, 18, 18, 17, 20, 18, 18, 17, 20, 20, 18],
    ]


@pytest.mark.parametrize(("n", "size"), [(-1, 32), (3, 15)])
def test_what_cannot_be_drawn_is_refused(n, size):
    with pytest.raises(ValueError, match=f"`n` must be at least 0 and `size` at least 16 pixels, got {n} and {size}"):
        textures.generate(n, size=size, seed=0)


def test_the_set_that_is_written_is_the_one_that_is_generated(tmp_path):
    drawn = {"size": 5, "pixels": SIZE, "seed": 3}
    store = tmp_path / "run/kept"
    larger, _ = textures.draw_images(store, "textures", **drawn | {"size": 7})
    folder, sources = textures.draw_images(store, "textures", **drawn)
    assert sources == [{"kind": "textures"} | drawn] and sorted(store.iterdir()) == sorted([larger, folder])
    datasets.write_sheet(tmp_path / "sheet.csv", tmp_path / "left.csv", folder, sheet=None, kind="textures", size=5)
    rows = sheets.read_rows(tmp_path / "sheet.csv", 0, 9)
    assert [row["image_id"] for row in rows] == [f"texture_{number:05d}" for number in range(5)]
    assert [line for row in rows for line in sheets.check_row(row)] == []
    images, maps = textures.generate(5, size=SIZE, seed=3)
    read, _ = label_maps.read_label_maps(rows, folder, GEOMETRY)
    np.testing.assert_array_equal(read["mask"], maps)
    np.testing.assert_array_equal([np.asarray(Image.open(folder / row["path"])) for row in rows], images)
    words = datasets.words_of_maps("textures", folder)
    block = {"images": images, "mask": maps}
    assert (label_maps.label_maps(block, words["value"].to_numpy(), source="masks") == maps).all()


def test_no_other_kind_is_drawn(tmp_path):
    assert textures.draw_images(tmp_path, "image_folder", size=3, pixels=None, seed=0) is None
    assert not list(tmp_path.iterdir())


# ---- what an image shows, in place of an encoder's features


def test_the_cosine_with_a_concept_is_its_share_of_the_area():
    maps = np.zeros((2, 2, 4, 4), np.uint16)
    maps[0, 0, :2], maps[0, 1], maps[0, 1, 0, 0] = 7, 9, 7
    block = {"images": np.zeros((2, 4, 4, 3), np.uint8), "mask": maps}
    features = label_maps.concept_features(block, np.array([9, 7, 8]), source="masks")
    cosines = features @ label_maps.concept_axes(3).T
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(cosines * 8, [[15 / 16, 8 / 16, 0], [0, 0, 0]], rtol=1e-6)


def test_a_label_marks_all_of_its_image_and_a_box_what_it_covers():
    block = {
        "images": np.zeros((3, 4, 4, 3), np.uint8),
        "label": np.array([5, -1, 0]),  # 0 is a class as any other, -1 none
        "box": np.array([[0, 0, 2, 4], [0, 0, 4, 4], [0, 0, 1, 4]], np.float32),
    }
    found = [label_maps.concept_features(block, np.array([0, 5]), source=source) for source in ("labels", "boxes")]
    np.testing.assert_allclose(found[0][:, :2] * 8, [[0, 1], [0, 0], [1, 0]])
    np.testing.assert_allclose(found[1][:, :2] * 8, [[0, 0.5], [0, 0], [0.25, 0]])
    with pytest.raises(ValueError, match="marks 5, which has no word; values with one: 0"):
        label_maps.concept_features(block, np.array([0]), source="labels")


def test_more_concepts_than_fit_are_refused():
    block = {"images": np.zeros((1, 2, 2, 3), np.uint8), "mask": np.arange(1, 66)[None, :, None, None].repeat(2, 2)}
    block["mask"] = block["mask"].repeat(2, 3)
    with pytest.raises(ValueError, match="an image shows more than 64 concepts everywhere"):
        label_maps.concept_features(block, np.arange(1, 66), source="masks")
