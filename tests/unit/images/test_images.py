"""Source images of every mode and every way to be broken; geometry against torchvision's transforms."""

import inspect
import os
import re
import socket
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from torchvision import transforms
from unitlens.images import datasets, decode, label_maps
from unitlens.images import geometry as geometry_module
from unitlens.images.geometry import box_pixels
from unitlens.jobs import sheets
from unitlens.storage.arrays import create_arrays

IDENTITY = {"fit": "squash", "resize": 4, "crop": 4, "interpolation": "bilinear"}  # for images of 4 x 4 pixels
SIXTEEN = {"fit": "squash", "resize": 16, "crop": 16, "interpolation": "bilinear"}


@pytest.fixture
def noise():
    return np.random.default_rng(0)


def save(folder, array_or_image, name, **options):
    image = array_or_image if isinstance(array_or_image, Image.Image) else Image.fromarray(array_or_image)
    image.save(folder / name, **options)
    return folder / name


def read_label_maps(rows, root, geometry):
    arrays, problems = label_maps.read_label_maps(rows, root, geometry)
    assert problems == []
    return arrays


def load(path, *, crop=(), geometry):
    """Decode one source image."""
    rows = [row(path.name, crop=" ".join(map(str, crop or ())))]
    return decode.decode_images(rows, path.parent, geometry)[0][0]


def row(path, image_id="a", crop=""):
    return {"image_id": image_id, "path": path, "label": "", "mask": "", "crop": crop}


# geometry


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop"), [(256, 227), (256, 224), (64, 64), (65, 32), (33, 32)])
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (101, 101), (57, 331), (331, 57), (64, 64), (513, 65)])
def test_pixels_equal_torchvision(tmp_path, noise, size, resize, crop, interpolation):
    path = save(tmp_path, noise.integers(0, 256, (*size[::-1], 3), dtype=np.uint8), "a.png")
    mode = transforms.InterpolationMode(interpolation)
    for fit, argument in [("squash", (resize, resize)), ("short", resize)]:
        reference = transforms.Compose([transforms.Resize(argument, mode), transforms.CenterCrop(crop)])
        geometry = {"fit": fit, "resize": resize, "crop": crop, "interpolation": interpolation}
        got = load(path, geometry=geometry)
        assert got.dtype == np.uint8
        np.testing.assert_array_equal(got, np.asarray(reference(Image.open(path))))


@pytest.mark.parametrize("size", [(300, 200), (57, 331), (64, 64)])
def test_pixels_of_other_shapes_and_of_gray_equal_torchvision(tmp_path, noise, size):
    path = save(tmp_path, noise.integers(0, 256, (*size[::-1], 3), dtype=np.uint8), "a.png")
    common = {"interpolation": "bilinear", "crop": [32, 48]}
    for resize, fit in ([40, 64], "squash"), (60, "short"), (60, "squash"):
        side = (resize, resize) if fit == "squash" and isinstance(resize, int) else resize
        steps = [transforms.Resize(side, transforms.InterpolationMode.BILINEAR), transforms.CenterCrop((32, 48))]
        got = load(path, geometry={"fit": fit, "resize": resize, **common})
        assert got.shape == (32, 48, 3)
        np.testing.assert_array_equal(got, np.asarray(transforms.Compose(steps)(Image.open(path))))
        gray = load(path, geometry={"fit": fit, "resize": resize, **common, "gray": True})
        expected = np.asarray(transforms.Compose([transforms.Grayscale(), *steps])(Image.open(path)))
        np.testing.assert_array_equal(gray, np.repeat(expected[..., None], 3, 2))


def test_boxes_and_masks_follow_an_image_that_is_not_square(tmp_path):
    """Of 200 x 100 pixels to 30 x 60 and of these the middle 20 x 40: x * 60/200 - 10, y * 30/100 - 5."""
    save(tmp_path, np.zeros((100, 200, 3), np.uint8), "a.png")
    marked = np.zeros((100, 200), np.uint8)
    marked[20:80, 60:180] = 7
    save(tmp_path, marked, "m.png")
    geometry = {"fit": "squash", "resize": [30, 60], "crop": [20, 40], "interpolation": "bilinear"}
    truth = read_label_maps([annotated(box="0.3 0.2 0.9 0.8", mask="m.png")], tmp_path, geometry)
    np.testing.assert_allclose(truth["box"][0], [8, 1, 40, 19])
    assert truth["mask"].shape == (1, 20, 40)
    rows, columns = (truth["mask"][0] == 7).nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 18, 8, 39)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"crop": 257}, {"crop": 0}, {"fit": "long"}, {"interpolation": "nearest"}, {"resize": 256.0}, {"mean": 0}),
        *({"crop": [257, 9]}, {"crop": [9, 257]}, {"resize": [256, 300]}, {"resize": [256.0, 256]}),
    ],
)
def test_wrong_geometry_is_named(wrong):
    geometry = {"fit": "short", "resize": 256, "crop": 224, "interpolation": "bilinear"} | wrong
    with pytest.raises(ValueError, match="`geometry` must have"):
        decode.decode_images([], ".", geometry)


def test_as_many_pixels_as_are_allowed_are_not_too_many(tmp_path, monkeypatch):
    path = save(tmp_path, np.zeros((8, 16, 3), np.uint8), "wide.png")
    short = {"fit": "short", "resize": 4, "crop": 4, "interpolation": "bilinear"}
    monkeypatch.setattr(geometry_module, "_MOST_PIXELS", 32)
    assert load(path, geometry=short).shape == (4, 4, 3)
    monkeypatch.setattr(geometry_module, "_MOST_PIXELS", 31)
    with pytest.raises(ValueError, match="16 x 8 pixels would become 8 x 4: too elongated"):
        load(path, geometry=short)


def test_elongated_image_is_refused_before_it_fills_the_memory(tmp_path):
    path = save(tmp_path, np.zeros((1, 4000), np.uint8), "line.png")
    with pytest.raises(ValueError, match="too elongated"):
        load(path, geometry={"fit": "short", "resize": 256, "crop": 224, "interpolation": "bilinear"})


# crop


def test_crop_takes_fractions_of_the_image(tmp_path, noise):
    pixels = noise.integers(0, 256, (8, 16, 3), dtype=np.uint8)
    path = save(tmp_path, pixels, "a.png")
    got = load(path, crop=(0.25, 0.5, 0.5, 1.0), geometry=IDENTITY)
    np.testing.assert_array_equal(got, pixels[4:8, 4:8])


def test_crop_edges_round_to_the_nearest_pixel(tmp_path, noise):
    pixels = noise.integers(0, 256, (10, 10, 3), dtype=np.uint8)
    path = save(tmp_path, pixels, "a.png")
    got = load(path, crop=(0.26, 0.34, 0.74, 0.66), geometry=IDENTITY | {"resize": 4})
    reference = Image.fromarray(pixels[3:7, 3:7])
    np.testing.assert_array_equal(got, np.asarray(reference.resize((4, 4), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("crop", [(0, 0, 1), (0, 0, 0, 1), (-0.1, 0, 1, 1), (0, 0.5, 1, 1.01), (0, 0, 1, float("nan"))])
def test_wrong_crop_is_named(tmp_path, crop):
    path = save(tmp_path, np.zeros((4, 4), np.uint8), "a.png")
    with pytest.raises(ValueError, match="four fractions"):
        load(path, crop=crop, geometry=IDENTITY)


def test_crop_without_a_pixel_is_named(tmp_path):
    path = save(tmp_path, np.zeros((4, 4), np.uint8), "a.png")
    with pytest.raises(ValueError, match=r"a\.png: `crop` .* is empty in an image of 4 x 4 pixels"):
        load(path, crop=(0.0, 0.0, 0.1, 1.0), geometry=IDENTITY)


# modes


def flat(folder, image, name="flat.png", **options):
    """Color of a decoded one-colored image."""
    pixels = load(save(folder, image, name, **options), geometry=IDENTITY)
    assert (pixels == pixels[0, 0]).all()
    return pixels[0, 0].tolist()


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 90, [90, 90, 90]),
        ("1", 1, [255, 255, 255]),
        ("RGB", (10, 20, 30), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 255), [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), [255, 255, 255]),
        ("RGBA", (0, 100, 255, 51), [204, 224, 255]),  # 0.2 of the color on 0.8 of white
        ("LA", (100, 51), [224, 224, 224]),
    ],
)
def test_color_of_a_mode(tmp_path, mode, color, expected):
    assert flat(tmp_path, Image.new(mode, (4, 4), color)) == expected


def test_palette_with_and_without_transparency(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert flat(tmp_path, image) == [200, 100, 50]
    assert flat(tmp_path, image, "transparent.gif", transparency=1) == [255, 255, 255]
    assert flat(tmp_path, image, "half.png", transparency=bytes([0, 51])) == [244, 224, 214]


@pytest.mark.parametrize(("mode", "color"), [("L", 7), ("RGB", (7, 8, 9))])
def test_color_key_is_transparent(tmp_path, mode, color):
    assert flat(tmp_path, Image.new(mode, (4, 4), color), transparency=color) == [255, 255, 255]


def test_cmyk_jpeg(tmp_path):
    color = flat(tmp_path, Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "red.jpg", quality=100)
    np.testing.assert_allclose(color, [255, 0, 0], atol=3)


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (65535, 255), (257 * 90, 90), (257 * 90 + 129, 91)])
@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_are_divided_by_257(tmp_path, name, value, expected):
    assert flat(tmp_path, np.full((4, 4), value, np.uint16), name) == [expected] * 3


def test_sixteen_bit_orders_and_thirty_two_bit_integers(tmp_path):
    big_endian = Image.frombytes("I;16B", (4, 4), np.full((4, 4), 257 * 90, ">u2").tobytes())
    assert flat(tmp_path, big_endian, "big.tif") == [90] * 3
    assert flat(tmp_path, np.full((4, 4), 257 * 90, np.int32), "long.tif") == [90] * 3
    with pytest.raises(ValueError, match="values from 70000 to 70000: more than 16 bits"):
        flat(tmp_path, np.full((4, 4), 70000, np.int32), "longer.tif")


def sixteen_bits(folder, name, values, *, color):
    """Write a PNG of 16 bits, of one channel or of three (`color` 0 or 2), which Pillow cannot."""
    lines = b"".join(b"\0" + np.asarray(line, ">u2").tobytes() for line in values)
    size = struct.pack(">IIBBBBB", 4, 4, 16, color, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    content = [
        struct.pack(">I", len(each)) + kind + each + struct.pack(">I", zlib.crc32(kind + each)) for kind, each in chunks
    ]
    (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))
    return row(name, name)


def test_twelve_bits_in_files_of_sixteen(tmp_path):
    """Of 4095, 0, 2048 and 1000 in four columns; black at 16 bits, and told of; 255, 0, 128 (127.5...), 62 at 12."""
    columns = np.tile([4095, 0, 2048, 1000], (4, 1))
    one = sixteen_bits(tmp_path, "one.png", columns, color=0)
    save(tmp_path, columns.astype(np.uint16), "two.tif")
    for file in (one, row("two.tif")):
        dark, _, _, remarks = decode.decode_images([file], tmp_path, IDENTITY)
        assert dark[0, 0, :, 0].tolist() == [16, 0, 8, 4]
        assert remarks == ([], [file["path"]], 4095)
        right, _, _, _ = decode.decode_images([file], tmp_path, IDENTITY, bits=12)
        assert right[0, 0, :, 0].tolist() == [255, 0, 128, 62]
        with pytest.raises(ValueError, match="values from 0 to 4095: more than the 10 of `bits`"):
            decode.decode_images([file], tmp_path, IDENTITY, bits=10)
    three = sixteen_bits(tmp_path, "three.png", np.repeat(columns[..., None], 3, 2), color=2)
    dark, _, _, remarks = decode.decode_images([three], tmp_path, IDENTITY)
    assert dark[0, 0].tolist() == [[15] * 3, [0] * 3, [8] * 3, [3] * 3] and remarks.brightest == 15 * 257
    with pytest.raises(ValueError, match="of several channels of 16 bits the upper 8 are read"):
        decode.decode_images([three], tmp_path, IDENTITY, bits=12)


def test_a_file_that_says_its_bits_is_read_as_it_says(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 4 4 4095\n" + struct.pack(">4H", 4095, 0, 2048, 1000) * 4)
    for bits in (16, 10):
        got, _, _, remarks = decode.decode_images([row("a.pgm")], tmp_path, IDENTITY, bits=bits)
        assert got[0, 0, :, 0].tolist() == [255, 0, 128, 62] and remarks == ([], [], 0)


def test_sixteen_bits_in_which_white_is_zero(tmp_path):
    file = save(tmp_path, np.full((4, 4), 257 * 90, np.uint16), "negative.tif", tiffinfo={262: 0})
    assert load(file, geometry=IDENTITY)[0, 0].tolist() == [165] * 3


def test_larger_images_are_allowed_by_a_key(tmp_path):
    save(tmp_path, Image.new("1", (101, 100)), "large.png")
    with decode.pixel_limit(10_100):
        assert len(decode.decode_images([row("large.png")], tmp_path, SIXTEEN)[0]) == 1
    before = Image.MAX_IMAGE_PIXELS
    with (
        decode.pixel_limit(10_000),
        pytest.raises(ValueError, match=r"exceeds limit of 10000 .* key `max_pixels` of the"),
    ):
        decode.decode_images([row("large.png")], tmp_path, SIXTEEN)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("name", "color", "told"),
    [
        ("point.png", [9, 90, 200], ""),
        ("line.png", None, "12000 x 1 pixels would become 3072000 x 256: too elongated"),
        ("nothing.png", None, "cannot identify image file"),
        ("truncated.jpg", None, "image file is truncated"),
        ("palette.png", [200, 100, 50], ""),
        ("clear.png", [255, 255, 255], ""),
        ("print.jpg", [254, 0, 0], ""),
    ],
)
def test_an_odd_file_comes_out_right_or_is_refused_in_a_line(tmp_path, noise, name, color, told):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    save(tmp_path, Image.new("RGB", (1, 1), (9, 90, 200)), "point.png")
    save(tmp_path, Image.new("RGB", (12_000, 1)), "line.png")
    (tmp_path / "nothing.png").touch()
    save(tmp_path, noise.integers(0, 256, (64, 64, 3), dtype=np.uint8), "truncated.jpg")
    (tmp_path / "truncated.jpg").write_bytes((tmp_path / "truncated.jpg").read_bytes()[:1500])
    save(tmp_path, palette, "palette.png")
    save(tmp_path, Image.new("RGBA", (4, 4), (9, 90, 200, 0)), "clear.png")
    save(tmp_path, Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "print.jpg", quality=100)
    geometry = {"fit": "short", "resize": 256, "crop": 224, "interpolation": "bilinear"}
    images, kept, problems, _ = decode.decode_images([row(name)], tmp_path, geometry, on_bad_image="skip")
    if color:
        assert abs(images.astype(int) - color).max() <= (3 if name.endswith("jpg") else 0)
    else:
        assert told in problems[0][1] and "\n" not in problems[0][1] and len(kept) == 0


def test_floating_point_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"float\.tif: .*mode F"):
        flat(tmp_path, np.zeros((4, 4), np.float32), "float.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, noise, orientation):
    upright = noise.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),  # the viewer turns it clockwise
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, np.ascontiguousarray(stored), "turned.png", exif=exif)
    np.testing.assert_array_equal(load(path, geometry=IDENTITY), upright)
    wide = save(tmp_path, np.zeros((4, 8, 3), np.uint8), "wide.png", exif=exif)
    assert decode.upright_size(wide) == ((8, 4) if orientation < 5 else (4, 8))


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 65535])
@pytest.mark.parametrize(("kind", "channels"), [(np.uint8, ()), (np.uint8, (3,)), (np.uint8, (4,)), (np.uint16, ())])
def test_a_turned_tiff_is_read_as_any_other_file(tmp_path, noise, orientation, kind, channels):
    """Pillow turns TIFFs itself, and maps some into memory; an orientation that there is not turns nothing."""
    stored = noise.integers(0, 256, (6, 9, *channels)).astype(kind) * (257 if kind == np.uint16 else 1)
    if channels == (4,):
        stored[..., 3] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    sizes, pixels = [], []
    for name in ("turned.png", "turned.tif"):
        path = save(tmp_path, stored, name, exif=exif)
        sizes.append(decode.upright_size(path))
        pixels.append(load(path, geometry={"fit": "squash", "resize": 9, "crop": 9, "interpolation": "bilinear"}))
    assert sizes == [(6, 9) if orientation in (5, 6, 7, 8) else (9, 6)] * 2
    np.testing.assert_array_equal(*pixels)


@pytest.mark.parametrize("name", ["mask.png", "mask.tif"])
def test_a_label_map_is_turned_as_its_own_file_says(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    save(tmp_path, np.zeros((4, 4, 3), np.uint8), "a.png", exif=exif)
    stored = np.zeros((4, 4), np.uint8)
    stored[3] = 7
    save(tmp_path, stored, name, exif=exif)
    mask = read_label_maps([annotated("a.png", mask=name)], tmp_path, IDENTITY)["mask"][0]
    assert (mask[0] == 7).all() and not mask[1:].any()


def test_exif_rotation_comes_before_the_crop(tmp_path):
    stored = np.zeros((8, 16, 3), np.uint8)
    stored[:, :8] = (255, 0, 0)  # left half of the file = top half of the upright image
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path, stored, "turned.jpg", exif=exif, quality=100, subsampling=0)
    top = load(path, crop=(0, 0, 1, 0.5), geometry=IDENTITY)
    np.testing.assert_allclose(top, np.broadcast_to([255, 0, 0], (4, 4, 3)), atol=3)


def test_jpeg_is_decoded_in_full(tmp_path, noise):
    smooth = Image.fromarray(noise.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((512, 512))
    path = save(tmp_path, smooth, "large.jpg")
    reference = Image.open(path).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(load(path, geometry=SIXTEEN), np.asarray(reference))


# sheets


def sheet(folder, text):
    path = folder / "sheet.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_read_rows_gives_the_shard(tmp_path):
    path = sheet(tmp_path, "\ufeffimage_id,path,crop\n" + "\n".join(f"i{n},{n}.jpg,0 0 .5 1\n" for n in range(9)))
    rows = sheets.read_rows(path, 2, 4)
    assert rows == [dict.fromkeys(sheets.COLUMNS, "") | row(f"{n}.jpg", f"i{n}", "0 0 .5 1") for n in (2, 3)]
    assert [r["image_id"] for r in sheets.read_rows(path, 7, 12)] == ["i7", "i8"]
    assert sheets.parse_crop(rows[0]["crop"]) == (0, 0, 0.5, 1)
    assert sheets.parse_crop(" ") is None


@pytest.mark.parametrize(
    "edges", ["0 -.5 1 1", "-.1 0 1 1", "0 0 1.1 1", "0 0 1 1.1", ".5 0 .5 1", "0 .5 1 .5", "0 0 1"]
)
def test_a_rectangle_lies_within_the_image(edges):
    with pytest.raises(ValueError, match="`crop` must be 'left top right bottom', four fractions with 0 <= left"):
        sheets.parse_crop(edges)


def test_every_label_map_of_a_cell_stays_below_the_folder():
    known = {"image_id": "a", "path": "a;b.png", "label": "", "mask": "a.png;b/c.png"}
    assert sheets.check_row(known) == []
    assert sheets.check_row(known | {"mask": "a.png;/b.png"}) == [
        "mask 'a.png;/b.png' must stay below the folder of the source images"
    ]
    assert sheets.check_row(known | {"path": "a;/b.png"}) == [], "only masks are several"


def test_labels_are_read_from_0_and_names_without_a_byte_order_mark(tmp_path):
    read = [sheets.read_label({"label": cell}, "label", base) for cell, base in [("0", 0), ("3", 1), ("", 0), ("", 1)]]
    assert read == [0, 2, -1, -1] and sheets.read_label({}, "label", 0) == -1
    (tmp_path / "names.txt").write_text("größe\nred\n\n", encoding="utf-8-sig")
    assert sheets.read_names(tmp_path / "names.txt") == ["größe", "red"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column 'image_id'; its header is empty"),
        ("image_id,file\na,b\n", "lacks the column 'path'; its header is image_id,file"),
        ("image_id,path\n", "has no row 0"),
        ("image_id,path\na\n", "line 2: expected 2 cells"),
        ("image_id,path\na,b\n\n,c\n", "line 4: expected 2 cells, image_id and path not empty, got ',c'"),
    ],
)
def test_faulty_sheet_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        sheets.read_rows(sheet(tmp_path, text), 0, 5)


# decode


@pytest.fixture
def broken(tmp_path, noise, monkeypatch):
    """Folder with one good source image and one for every way to be unreadable, and their rows."""
    good = save(tmp_path, noise.integers(0, 256, (64, 64, 3), dtype=np.uint8), "good.jpg")
    (tmp_path / "truncated.jpg").write_bytes(good.read_bytes()[:1500])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    (tmp_path / "folder.jpg").mkdir()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    save(tmp_path, Image.new("1", (101, 100)), "bomb.png")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    names = ["good.jpg", "missing.jpg", *sorted(path.name for path in tmp_path.iterdir() if path != good), "good.jpg"]
    return [row(name, f"id-{index}") for index, name in enumerate(names)]


def test_all_unreadable_source_images_are_reported_at_once(tmp_path, broken):
    with pytest.raises(ValueError, match=r"^7 of 9 source images cannot be decoded:\n") as error:
        decode.decode_images(broken, tmp_path, SIXTEEN)
    lines = str(error.value).splitlines()
    assert len(lines) == 7
    assert lines[1] == (
        f"  image_id 'id-1': {tmp_path / 'missing.jpg'}: cannot be read as an image (No such file or directory)"
    )
    assert "bomb.png" in lines[2]
    assert lines[-1] == "  and 2 more"


def test_unreadable_source_images_are_skipped_and_listed(tmp_path, broken):
    pixels, kept, problems, _ = decode.decode_images(broken, tmp_path, SIXTEEN, on_bad_image="skip")
    expected = load(tmp_path / "good.jpg", geometry=SIXTEEN)
    np.testing.assert_array_equal(pixels, [expected, expected])
    assert kept.tolist() == [0, 8]
    assert [image_id for image_id, _ in problems] == [f"id-{index}" for index in range(1, 8)]
    assert all(r["path"] in message for r, (_, message) in zip(broken[1:], problems, strict=False))


def test_blocks_are_what_is_decoded_at_once(tmp_path, noise):
    """Of seven rows, of which two cannot be read, three at a time; there are two masks a row in both blocks."""
    for name in ("a.png", "m.png"):
        save(tmp_path, noise.integers(0, 256, (4, 4), dtype=np.uint8), name)
    (tmp_path / "b.png").write_bytes(b"broken")
    rows = [annotated(path="b.png" if index in (1, 5) else "a.png", mask=index % 2 * "m.png") for index in range(7)]
    rows[6]["mask"] = "m.png;7"
    found, problems = decode.Found(), []
    blocks = list(decode.decode_blocks(rows, tmp_path, IDENTITY, found, on_bad_image="skip", size=3))
    images, kept, left_out, remarks = decode.decode_images(rows, tmp_path, IDENTITY, on_bad_image="skip")
    assert [len(block) for block in blocks] == [3, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), images)
    assert found.kept == kept.tolist() == [0, 2, 3, 4, 6]
    assert found.problems == left_out and found.remarks() == remarks
    rows = [rows[index] for index in kept]
    parts = list(label_maps.read_label_map_blocks(rows, tmp_path, IDENTITY, problems, size=3))
    whole = read_label_maps(rows, tmp_path, IDENTITY)
    assert [len(part["box"]) for part in parts] == [3, 2] and whole["mask"].shape == (5, 2, 4, 4)
    for name, array in whole.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)


def test_memory_does_not_grow_with_the_shard(tmp_path):
    """Each row is 48 kB of pixels and 64 kB of masks; all rows are 14 MB or 70 MB."""
    save(tmp_path, np.zeros((128, 128, 3), np.uint8), "a.jpg")
    geometry, peaks = {"fit": "squash", "resize": 128, "crop": 128, "interpolation": "bilinear"}, []
    for count in (128, 640):
        rows = [annotated(path="a.jpg", mask="1;2") for _ in range(count)]
        tracemalloc.start()
        with create_arrays(tmp_path / "0.h5", count, {}) as add:
            for images in decode.decode_blocks(rows, tmp_path, geometry, decode.Found()):
                add(images=images)
            for truth in label_maps.read_label_map_blocks(rows, tmp_path, geometry, []):
                add(**truth)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] < 20 * 2**20


def test_a_shard_with_no_readable_source_image_has_no_rows(tmp_path):
    pixels, kept, problems, _ = decode.decode_images([row("missing.jpg")], tmp_path, SIXTEEN, on_bad_image="skip")
    assert kept.dtype == np.int64, "rows can be picked by it"
    assert pixels.shape == (0, 16, 16, 3) and kept.tolist() == []
    assert [image_id for image_id, _ in problems] == ["a"] and "missing.jpg" in problems[0][1]
    assert {name: array.shape for name, array in read_label_maps([], tmp_path, SIXTEEN).items()} == {
        "box": (0, 4),
        "has_mask": (0,),
    }


def test_crops_of_one_source_image_equal_single_loads(tmp_path, noise):
    for name in ("a.png", "b.png"):
        save(tmp_path, noise.integers(0, 256, (40, 60, 3), dtype=np.uint8), name)
    rows = [row(name, crop=crop) for name in ("a.png", "b.png", "a.png") for crop in ("", "0 0 0.5 1", "0.5 0 1 1")]
    pixels, kept, problems, _ = decode.decode_images(rows, tmp_path, SIXTEEN)
    for got, r in zip(pixels, rows, strict=True):
        single = load(tmp_path / r["path"], crop=sheets.parse_crop(r["crop"]), geometry=SIXTEEN)
        np.testing.assert_array_equal(got, single)
    assert kept.tolist() == list(range(9))
    assert problems == []


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "/etc/secret.png"])
def test_path_outside_the_root_is_never_skipped(tmp_path, path):
    with pytest.raises(ValueError, match="image_id 'a': `path` must stay inside"):
        decode.decode_images([row(path)], tmp_path, SIXTEEN, on_bad_image="skip")


def test_faulty_crop_is_never_skipped(tmp_path):
    with pytest.raises(ValueError, match=r"image_id 'a': `crop` must be .*got '0 0 one 1'"):
        decode.decode_images([row("a.png", crop="0 0 one 1")], tmp_path, SIXTEEN, on_bad_image="skip")


def test_an_unreadable_source_image_is_refused_unless_asked_otherwise(tmp_path, broken):
    """The default of the function, and that of the config, which is the one in use."""
    with pytest.raises(ValueError, match=r"^7 of 9 source images cannot be decoded"):
        decode.decode_images(broken, tmp_path, SIXTEEN)
    schema = yaml.safe_load((Path(__file__).parents[3] / "config/schema.yaml").read_text())
    found = [each["on_bad_image"] for each in properties(schema) if "on_bad_image" in each]
    assert [(each["default"], each["enum"]) for each in found] == [("fail", ["fail", "skip"])]
    assert inspect.signature(datasets.write_sheet).parameters["allow_missing"].default is False


def properties(schema):
    """All mappings of properties in a schema, however deep."""
    for key, value in schema.items() if isinstance(schema, dict) else ():
        if key == "properties":
            yield value
        yield from properties(value)


@pytest.fixture
def hostile(tmp_path):
    """Names of source images that are no files, each with the reason, or would fill the memory."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to("nowhere.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    server = socket.socket(socket.AF_UNIX)
    server.bind(os.path.relpath(tmp_path / "socket.png"))
    server.close()
    save(tmp_path, Image.new("1", (9, 9)), "bomb.png")
    size = struct.pack(">II", 30_000, 30_000)
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[16:24] = size
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    not_a_file = "it is a pipe, a socket or a device, not a file"
    return {
        "pipe.png": not_a_file,
        "socket.png": not_a_file,
        "zero.png": not_a_file,
        "loop.png": "Too many levels of symbolic links",
        "dangling.png": "No such file or directory",
        "a\0b.png": "embedded null byte",
        f"{'n' * 256}.png": "File name too long",
        "bomb.png": r"Image size \(900000000 pixels\) exceeds limit .*",
    }


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path, hostile):
    save(tmp_path, Image.new("RGB", (9, 9)), "good.png")
    rows = [row("good.png", "good"), *(row(name, f"id{number}") for number, name in enumerate(hostile))]
    _, kept, problems, _ = decode.decode_images(rows, tmp_path, SIXTEEN, on_bad_image="skip")
    assert kept.tolist() == [0]
    for (image_id, message), (number, reason) in zip(problems, enumerate(hostile.values()), strict=True):
        assert image_id == f"id{number}"
        assert re.fullmatch(rf".*: cannot be read as an image \({reason}\)", message)


def test_a_label_map_that_is_no_file_is_refused_and_never_waited_for(tmp_path, hostile):
    save(tmp_path, Image.new("RGB", (9, 9)), "good.png")
    for name, reason in hostile.items():
        for own in ({"path": "good.png", "mask": name}, {"path": name, "box": "0 0 1 1"}):
            with pytest.raises(ValueError, match=rf"image_id 'i': .* cannot be read as .*\({reason}\)"):
                read_label_maps([{"image_id": "i"} | own], tmp_path, SIXTEEN)


NAMES = [
    "a b.png",
    "$HOME.png",
    "a,b.png",
    "<b>.png",
    "größe.png",
    "gro\u0308\u00dfe.png",
    "😀👨‍👩‍👧.png",
    "a\nb.png",
    "#;'\".png",
    "-x.png",
]


def test_names_that_must_work(tmp_path):
    for number, name in enumerate(NAMES):
        save(tmp_path, Image.new("RGB", (9, 9), (number, 0, 0)), name)
    decoded, kept, problems, _ = decode.decode_images(
        [row(name, f"i{i}") for i, name in enumerate(NAMES)], tmp_path, SIXTEEN
    )
    assert problems == [] and decoded[:, 0, 0, 0].tolist() == kept.tolist() == list(range(len(NAMES)))


def test_the_first_image_of_an_animation_is_decoded(tmp_path):
    red, blue = (Image.new("RGB", (9, 9), color) for color in ("red", "blue"))
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[blue])
    red.save(tmp_path / "pages.tif", save_all=True, append_images=[blue])
    red.save(tmp_path / "one.gif")
    rows = [row(name, crop=crop) for name in ("moving.gif", "pages.tif", "one.gif") for crop in ("", "0 0 1 0.5")]
    pixels, _, _, remarks = decode.decode_images(rows, tmp_path, SIXTEEN)
    assert (pixels == [255, 0, 0]).all()
    assert remarks == (["moving.gif", "pages.tif"], [], 0)


def test_unknown_policy_is_named(tmp_path):
    with pytest.raises(ValueError, match="`on_bad_image` must be 'fail' or 'skip', got 'ignore'"):
        decode.decode_images([], tmp_path, SIXTEEN, on_bad_image="ignore")


def test_failing_disk_is_not_taken_for_a_bad_source_image(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    save(tmp_path, Image.new("RGB", (9, 9)), "a.png")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        decode.decode_images([row("a.png")], tmp_path, SIXTEEN, on_bad_image="skip")
    monkeypatch.undo()
    opened = Image.open
    monkeypatch.setattr(Image, "open", lambda path, **options: fail() if path.name == "m.png" else opened(path))
    save(tmp_path, Image.new("L", (9, 9)), "m.png")
    with pytest.raises(OSError, match="Input/output error"):
        label_maps.read_label_maps([annotated(mask="m.png")], tmp_path, SIXTEEN, on_bad_image="skip")


def test_decode_jobs_start_without_torch():
    code = "import sys, unitlens.images; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3] / "scripts")


# localization


def annotated(path="a.png", crop="", **columns):
    return row(path, crop=crop) | {"box": "", "superpixels": ""} | columns


def test_a_box_follows_resize_and_center_crop(tmp_path):
    """200 x 100 pixels, short side to 50: halved; the center 40 x 40 starts at (30, 5)."""
    save(tmp_path, np.zeros((100, 200, 3), np.uint8), "a.png")
    geometry = {"fit": "short", "resize": 50, "crop": 40, "interpolation": "bilinear"}
    truth = read_label_maps([annotated(box="0.4 0.2 0.5 1"), annotated()], tmp_path, geometry)
    np.testing.assert_allclose(truth["box"][0], [10, 5, 20, 40])
    assert np.isnan(truth["box"][1]).all()
    assert truth["has_mask"].tolist() == [False, False]
    assert set(truth) == {"box", "has_mask"}


def test_a_box_is_cut_to_the_crop_and_lost_outside(tmp_path):
    """The right half, squashed to 16 x 16: a box from 0.25 to 0.75 covers its left half."""
    save(tmp_path, np.zeros((100, 200, 3), np.uint8), "a.png")
    rows = [annotated(crop="0.5 0 1 1", box=box) for box in ("0.25 0 0.75 0.5", "0 0 0.5 1")]
    box = read_label_maps(rows, tmp_path, SIXTEEN)["box"]
    np.testing.assert_allclose(box[0], [0, 0, 8, 8])
    assert np.isnan(box[1]).all()


@pytest.mark.parametrize("crop", ["", "0 0.25 0.5 0.75"])
@pytest.mark.parametrize("geometry", [SIXTEEN, {**SIXTEEN, "fit": "short", "resize": 20}])
def test_a_mask_covers_what_its_source_image_shows(tmp_path, noise, geometry, crop):
    """A mask drawn into the source image stands, after decoding, where the source image is white."""
    mask = np.zeros((320, 320), np.uint8)
    mask[80:200, 40:120] = 7
    save(tmp_path, np.repeat((mask > 0)[..., None] * np.uint8(255), 3, axis=2), "a.png")
    save(tmp_path, mask, "m.png")
    one = annotated(mask="m.png", crop=crop)
    truth = read_label_maps([one, annotated()], tmp_path, geometry)
    image = decode.decode_images([one], tmp_path, geometry)[0][0, ..., 0]
    assert set(np.unique(truth["mask"][0])) == {0, 7}
    inside = (image < 5) | (image > 250)  # not the blurred edge
    np.testing.assert_array_equal((truth["mask"][0] == 7)[inside], (image > 250)[inside])
    assert not truth["mask"][1].any()
    assert truth["has_mask"].tolist() == [True, False]


def test_a_palette_counts_by_index_and_sixteen_bits_are_kept(tmp_path):
    save(tmp_path, np.zeros((4, 4, 3), np.uint8), "a.png")
    palette = Image.fromarray(np.full((4, 4), 3, np.uint8))
    palette.putpalette([200, 0, 0] * 256)
    save(tmp_path, palette, "p.png")
    save(tmp_path, np.full((4, 4), 40000, np.uint16), "q.png")
    truth = read_label_maps([annotated(mask="p.png", superpixels="q.png")], tmp_path, IDENTITY)
    assert (truth["mask"] == 3).all()
    assert (truth["superpixels"] == 40000).all()
    save(tmp_path, np.full((4, 4), 40000, ">u2"), "big_endian.tif")
    assert (read_label_maps([annotated(mask="big_endian.tif")], tmp_path, IDENTITY)["mask"] == 40000).all()
    save(tmp_path, np.full((4, 4), 65535, np.uint16), "most.png")
    assert (read_label_maps([annotated(mask="most.png")], tmp_path, IDENTITY)["mask"] == 65535).all()


def test_localization_of_a_turned_source_image_counts_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    save(tmp_path, np.zeros((10, 20, 3), np.uint8), "a.jpg", exif=exif)
    save(tmp_path, np.ones((20, 10), np.uint8), "upright.png")
    save(tmp_path, np.ones((10, 20), np.uint8), "lying.png")
    assert read_label_maps([annotated("a.jpg", mask="upright.png")], tmp_path, SIXTEEN)["mask"].all()
    with pytest.raises(ValueError, match=r"must be as large as the source image, 10 x 20 pixels, .*; got 20 x 10"):
        read_label_maps([annotated("a.jpg", mask="lying.png")], tmp_path, SIXTEEN)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"box": "0 0 1.2 1"}, r"image_id 'a': `box` must be 'left top right bottom'.*got '0 0 1.2 1'"),
        ({"mask": "rgb.png"}, r"image_id 'a': `mask` .*rgb.png must have one channel .* without blue, got mode RGB"),
        ({"mask": "none.png"}, r"image_id 'a': `mask` .*none.png cannot be read as a PNG or TIFF"),
        ({"superpixels": "../m.png"}, r"image_id 'a': `superpixels` must stay inside .*got '../m.png'"),
        ({"mask": "small.png"}, r"`mask` .*small.png must be as large .*4 x 4 pixels, or smaller by .*; got 3 x 4"),
        ({"mask": "7;70000"}, r"`mask` must hold 0 to 65535, got 70000"),
        ({"mask": "deep.tiff"}, r"`mask` .*deep.tiff must hold 0 to 65535, got 70000 to 70000"),
    ],
)
def test_bad_localization_is_named(tmp_path, columns, message):
    save(tmp_path, np.zeros((4, 4, 3), np.uint8), "a.png")
    save(tmp_path, np.ones((4, 4, 3), np.uint8), "rgb.png")
    save(tmp_path, np.zeros((4, 3), np.uint8), "small.png")
    save(tmp_path, np.full((4, 4), 70000, np.int32), "deep.tiff")
    with pytest.raises(ValueError, match=message):
        read_label_maps([annotated(**columns)], tmp_path, IDENTITY)


def test_several_masks_of_broden_overlap_and_a_number_marks_all(tmp_path):
    save(tmp_path, np.zeros((4, 4, 3), np.uint8), "a.png")
    color = np.zeros((2, 2, 3), np.uint8)  # half as large as the source image
    color[0, 1] = (5, 1, 0)
    save(tmp_path, color, "a_color.png")
    rows = [annotated(mask="a_color.png;300"), annotated(mask="7"), annotated()]
    truth = read_label_maps(rows, tmp_path, IDENTITY)
    assert truth["mask"].shape == (3, 2, 4, 4) and truth["mask"].dtype == np.uint16
    assert truth["mask"][0, 0].tolist() == [[0, 0, 261, 261]] * 2 + [[0, 0, 0, 0]] * 2
    assert np.unique(truth["mask"][0, 1]).tolist() == [300]
    assert truth["mask"][1, :, 0, 0].tolist() == [7, 0] and not truth["mask"][2].any()
    assert truth["has_mask"].tolist() == [True, True, False]
    assert read_label_maps(rows[1:], tmp_path, IDENTITY)["mask"].shape == (2, 4, 4)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("none.png", r"cannot be read as a PNG or TIFF \(No such file or directory\)"),
        ("rgb.png", "must have one channel of whole numbers, .* got mode RGB"),
        ("small.png", "must be as large as the source image, .* got 3 x 4"),
        ("deep.tiff", "must hold 0 to 65535, got 70000 to 70000"),
        ("cut.png", r"cannot be read as a PNG or TIFF \(.*\)"),
    ],
)
def test_a_row_goes_on_without_a_map_that_cannot_be_used(tmp_path, bad, reason):
    save(tmp_path, np.zeros((4, 4, 3), np.uint8), "a.png")
    save(tmp_path, np.ones((4, 4, 3), np.uint8), "rgb.png")
    save(tmp_path, np.zeros((4, 3), np.uint8), "small.png")
    save(tmp_path, np.full((4, 4), 70000, np.int32), "deep.tiff")
    good = save(tmp_path, np.full((4, 4), 3, np.uint8), "m.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(good[: len(good) // 2])
    rows = [annotated(mask="m.png"), annotated(mask=f"m.png;{bad};9"), annotated(mask="m.png", superpixels=bad)]
    rows = [row | {"image_id": name} for name, row in zip("xyz", rows, strict=True)]
    with pytest.raises(ValueError, match=f"image_id 'y': `mask` .*{reason}"):
        label_maps.read_label_maps(rows, tmp_path, IDENTITY)
    found, problems = label_maps.read_label_maps(rows, tmp_path, IDENTITY, on_bad_image="skip")
    bare = [rows[0], annotated(), annotated(mask="m.png"), annotated(mask="1;2;3", superpixels="5")]
    for name, array in read_label_maps(bare, tmp_path, IDENTITY).items():
        np.testing.assert_array_equal(found[name], array[:3])
    assert [(name, message.partition(" `")[0]) for name, message in problems] == [
        ("y", "goes without its mask, for"),
        ("z", "goes without its superpixels, for"),
    ]
    assert all(re.search(reason, message) for _, message in problems)
    with pytest.raises(ValueError, match="`mask` must stay inside"):  # a fault of the sheet
        label_maps.read_label_maps([annotated(mask="../m.png")], tmp_path, IDENTITY, on_bad_image="skip")


@pytest.mark.parametrize("name", ["a.tga", "a.pcx", "a.ico"])
def test_formats_beyond_those_of_source_images_are_not_tried(tmp_path, name):
    """The fewer parsers an image from outside reaches, the better; its name does not matter."""
    save(tmp_path, np.zeros((16, 16, 3), np.uint8), name).rename(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image \(cannot identify image file"):
        decode.decode_images([row("a.png")], tmp_path, SIXTEEN)
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as an image"):
        read_label_maps([annotated(box="0 0 1 1")], tmp_path, SIXTEEN)
    save(tmp_path, np.zeros((16, 16, 3), np.uint8), "good.png")
    save(tmp_path, np.zeros((16, 16), np.uint8), "m.bmp").rename(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"m\.png cannot be read as a PNG or TIFF"):
        read_label_maps([annotated("good.png", mask="m.png")], tmp_path, SIXTEEN)


def test_a_box_follows_a_crop_in_the_middle(tmp_path):
    """Columns 60 to 180 and rows 20 to 80 of 200 x 100: halved to 60 x 30, and of these the middle 30 x 30."""
    save(tmp_path, np.zeros((100, 200, 3), np.uint8), "a.png")
    geometry = {"fit": "short", "resize": 30, "crop": 30, "interpolation": "bilinear"}
    found = read_label_maps([annotated(box="0.5 0.3 0.65 0.7", crop="0.3 0.2 0.9 0.8")], tmp_path, geometry)["box"]
    # columns 100 to 130 are 40 to 70 of the crop, 20 to 35 halved, 5 to 20 less 15; rows 30 to 70 are 10 to 50, 5 to 25
    np.testing.assert_allclose(found[0], [5, 5, 20, 25], rtol=1e-6)


def test_no_rows_give_arrays_of_the_same_kinds(tmp_path):
    truth = read_label_maps([], tmp_path, SIXTEEN)
    assert truth["box"].shape == (0, 4) and truth["has_mask"].dtype == bool


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((1, 0, 3, 1), [(0, 1), (0, 2)]),
        ((0.5, 0.5, 2.5, 1.5), [(0, 0), (0, 1)]),  # an edge on a center takes it at the left and top, not again beyond
        ((2.5, 0.5, 3.5, 1.5), [(0, 2)]),  # what adjoins shares no pixel
        ((1.5, 0.5, 2.5, 1.5), [(0, 1)]),  # rounded to even it would be nothing
        ((0.6, 0.6, 1.4, 3.5), []),  # smaller than a pixel, between centers
        ((1.4, 1.4, 1.6, 1.6), [(1, 1)]),  # smaller than a pixel, around a center
        ((-3, -3, 1, 1), [(0, 0)]),
        ((3, 2, 9, 9), [(2, 3)]),
        ((9, 9, 12, 12), []),
        ((0, 0, 0, 3), []),
        ((np.nan,) * 4, []),
    ],
)
def test_a_box_has_the_pixels_whose_centers_it_holds_wherever_it_is_read(box, pixels):
    inside = box_pixels(np.array([box], np.float32), (3, 4))[0]
    assert list(zip(*(axis.tolist() for axis in inside.nonzero()), strict=True)) == pixels
    block = {"images": np.zeros((1, 3, 4, 3), np.uint8), "box": np.array([box], np.float32), "label": np.array([7])}
    np.testing.assert_array_equal(label_maps.label_maps(block, np.array([7]), source="boxes")[0, 0], inside)
    references = label_maps.reference_masks(block)
    np.testing.assert_array_equal(references["box"][0][0] if references else np.zeros((3, 4)), inside)
