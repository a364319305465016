from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from unitlens.networks import hooks
from unitlens.report import pages
from unitlens.units import exemplars

IDS = ["a0", "a1", "b0", "b1", "c0"]
SOURCE_IMAGES = ["z", "z", "y", "y", "x"]  # first seen last in the alphabet


def top(activations, k=2, ids=IDS):
    return exemplars.top_source_images(np.array(activations, dtype=np.float32), ids, IDS, SOURCE_IMAGES, k=k)


def test_each_source_image_gives_its_best_row_once():
    arrays = top([[9, 0, 1], [8, 0, 1], [1, 5, 1], [2, 5, 1], [3, 7, 1]], k=3)
    assert arrays["row"].tolist() == [[0, 4, 3], [4, 2, 0], [-1, -1, -1]]  # ties: what comes first; the last is dead
    assert arrays["image_id"].tolist() == [["a0", "c0", "b1"], ["c0", "b0", "a0"], ["", "", ""]]
    assert arrays["activation"][:2].tolist() == [[9, 3, 2], [7, 5, 0]]


def test_a_unit_that_is_not_finite_has_no_source_images(monkeypatch):
    monkeypatch.setattr(exemplars, "_UNITS_AT_ONCE", 1)
    values = [[9, np.nan, np.inf], [8, 0, 1], [1, 5, 1], [2, 5, 1], [3, 7, 1]]
    assert top(values)["row"].tolist() == [[0, 4], [-1, -1], [-1, -1]]


def test_fewer_source_images_than_wanted():
    assert top(np.arange(5)[:, None], k=9)["row"].tolist() == [[4, 3, 1]]


def test_many_units_are_taken_in_blocks(monkeypatch):
    values = np.random.default_rng(0).normal(size=(5, 7))
    whole = top(values)
    monkeypatch.setattr(exemplars, "_UNITS_AT_ONCE", 3)
    for name, array in top(values).items():
        np.testing.assert_array_equal(array, whole[name])


def test_images_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="not of the same images in the same order"):
        top(np.zeros((5, 1)), ids=IDS[::-1])


class Pooled(nn.Module):
    """Red and blue means of four quarters as tokens or maps, or of the whole, as the last layer asks."""

    def __init__(self, form):
        super().__init__()
        self.form, self.layer = form, nn.Identity()

    def forward(self, images):
        maps = nn.functional.avg_pool2d(images, images.shape[-1] // 2)[:, [0, 2]]  # (n, 2, 2, 2)
        tokens = maps.flatten(2).mT  # (n, 4, 2)
        forms = {
            "maps": maps,
            "channels last": maps.movedim(1, -1),
            "tokens": torch.cat([torch.full_like(tokens[:, :1], 99), tokens], 1),
            "logits": maps.mean((2, 3)),
        }
        return self.layer(forms[self.form])


def some_images():
    """Image i is red i + 1 in its upper left quarter; its blue is -1 everywhere once normalized."""
    images = np.zeros((3, 8, 8, 3), np.uint8)
    for i, image in enumerate(images):
        image[:4, :4, 0] = i + 1
    return images


def normalize(images):
    images = torch.from_numpy(images).float().movedim(-1, 1)
    images[:, 2] = -1
    return images


def top_maps(form, batch_size=2, normalize=normalize, source_images="abc"):
    network, images = Pooled(form), some_images()
    return exemplars.top_maps(
        lambda batch: hooks.run_to(network, "layer", normalize(batch)),
        [{"images": images[start : start + batch_size]} for start in range(0, 3, batch_size)],
        ["i", "j", "k"],
        list(source_images),
    )


@pytest.mark.parametrize("form", ["maps", "tokens"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_maps_of_the_top_images(form, batch_size):
    arrays = top_maps(form, batch_size)
    assert arrays["row"].tolist() == [[2, 1, 0], [-1, -1, -1]]  # blue is constant
    assert arrays["peak"].tolist() == [[3, 2, 1], [0, 0, 0]]
    assert arrays["maps"][0].tolist() == [[[255, 0], [0, 0]]] * 3 and not arrays["maps"][1].any()
    assert arrays["maps"].dtype == np.uint8 and arrays["peak"].dtype == np.float32
    one_source = top_maps(form, batch_size, source_images="aba")
    assert one_source["row"][0].tolist() == [2, 1] and one_source["image_id"][0].tolist() == ["k", "j"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_empty(value):
    maps = torch.tensor([[[[1.0, 3.0]], [[2.0, 2.0]]], [[[value, 0.0]], [[1.0, 4.0]]]])  # (n, units, h, w)
    kept = exemplars.keep(None, torch.tensor([[1.0, 2.0], [5.0, 3.0]]), maps, torch.arange(2), k=2)
    assert kept.row.tolist() == [[1, 0], [1, 0]]
    assert not kept.maps[0, 0].any() and kept.maps[0, 1].tolist() == [[85, 255]]
    assert kept.maps[1].tolist() == [[[64, 255]], [[255, 255]]]
    assert not kept.peak[0, 0].isfinite() and kept.peak[0, 1] == 3


def test_there_are_no_more_rows_than_source_images():
    maps = torch.rand(3, 2, 1, 2)
    pooled = torch.tensor([[1.0, 2.0], [5.0, 3.0], [4.0, 9.0]])
    kept, sources = None, torch.tensor([0, 1, 1])
    for part in (slice(2), slice(2, None)):
        kept = exemplars.keep(kept, pooled[part], maps[part], sources, k=4)
    assert kept.row.tolist() == [[1, 0, -1, -1], [2, 0, -1, -1]]
    assert kept.activation[:, 2:].isneginf().all() and not kept.maps[:, 2:].any() and not kept.peak[:, 2:].any()


def test_a_layer_without_space_has_no_maps():
    assert top_maps("logits").keys() == {"row", "activation", "image_id"}


def test_what_is_kept_of_shards_holds_the_top_images_of_all(rounds=40):
    """With ties, source images in several shards and units that are dead or not finite."""
    rng, most = np.random.default_rng(0), exemplars.SOURCE_IMAGES
    for _ in range(rounds):
        n, units, shards = 24, 6, [0, *sorted(rng.choice(np.arange(1, 24), 2, replace=False)), 24]
        maps = torch.from_numpy(rng.integers(0, 4, (n, units, 1, 2))).float()
        maps[:, 1] = 1
        maps[3, 2] = torch.nan
        source_images = [f"s{each}" for each in rng.integers(0, 9, n)]
        ids, pooled, parts = [f"i{row}" for row in range(n)], maps.mean((2, 3)), []
        top = exemplars.top_source_images(pooled.numpy(), ids, ids, source_images)
        for start, stop in pairwise(shards):
            kept, sources = None, exemplars.number_sources(source_images[start:stop])
            for row in range(start, stop, 3):
                part = slice(row, min(row + 3, stop))
                kept = exemplars.keep(kept, pooled[part], maps[part], sources)
            parts.append(exemplars.as_arrays(kept, ids[start:stop]))
        found = exemplars.with_maps(top, [*parts, exemplars.as_arrays(None, [])])
        assert (top["row"] < 0).all(1).tolist() == [False, True, True, False, False, False]
        for unit, rank in np.argwhere(top["row"] >= 0):
            own = maps[top["row"][unit, rank], unit]
            assert found["peak"][unit, rank] == own.max()
            shown = (255 * own / max(own.max().item(), 1)).round()
            assert found["maps"][unit, rank].tolist() == shown.tolist()
        assert not found["maps"][1:3].any() and not found["peak"][1:3].any() and top["row"].shape[1] <= most
    with pytest.raises(ValueError, match="maps of units are missing; extract the layer's activations again"):
        exemplars.with_maps(top, parts[:1])


def corners(path):
    return [[tuple(map(int, pair)) for pair in zip(*[iter(part.split())] * 2, strict=True)]
            for part in path.replace("Z", "").split("M")[1:]]  # fmt: skip


def test_outline_of_a_quarter_closes_along_the_edge():
    (polygon,) = corners(pages.outline(np.array([[255, 0], [0, 0]], np.uint8)))
    assert (0, 0) in polygon or {(0, 1), (1, 0)} & set(polygon)
    assert max(x for x, _ in polygon) == max(y for _, y in polygon) == 64  # half the maximum: half the image


def test_outline_of_everything_nothing_and_a_ring():
    assert pages.outline(np.zeros((7, 7), np.uint8)) == ""
    (whole,) = corners(pages.outline(np.full((3, 5), 200, np.uint8)))
    assert {min(map(min, whole)), max(map(max, whole))} == {0, 128}
    ring = np.zeros((5, 5), np.uint8)
    ring[1:4, 1:4] = 255
    ring[2, 2] = 0
    outer, inner = corners(pages.outline(ring))
    assert max(map(max, outer)) > max(map(max, inner)) and min(map(min, outer)) < min(map(min, inner))


def test_outline_of_noise_stays_short():
    noise = np.random.default_rng(0).integers(0, 256, (56, 56), dtype=np.uint8)
    assert pages.outline(noise).count("M") <= 12


def test_outline_runs_where_the_map_has_half_its_maximum():
    (polygon,) = corners(pages.outline(np.array([[255, 0], [0, 0]], np.uint8)))
    edges = [(a, b) for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True) if min(*a, *b) > 32]
    assert len(edges) > 2  # between the centers of the four pixels
    for edge in edges:
        x, y = (sum(ends) / 2 for ends in zip(*edge, strict=True))
        assert (1 - (x - 32) / 64) * (1 - (y - 32) / 64) == pytest.approx(0.5, abs=0.012)


def test_outline_keeps_the_largest_parts_and_no_slivers():
    parts = np.zeros((64, 64), np.uint8)
    parts[20:60, 40:60] = 255
    parts[5, 50:52] = 128  # hardly above half: a line
    (block,) = corners(pages.outline(parts))
    parts[2:60:8, 2:30:8] = 255  # 32 dots
    largest, *rest = corners(pages.outline(parts))
    assert largest == block and len(rest) == 11


def test_no_outline_has_fewer_corners_than_a_triangle():
    triangle = np.array([[0, 0], [0, 20], [20, 0], [0, 0]], float)  # y, x, on a square of side 64
    assert pages._polygon(triangle) == "M0 40 0 0 40 0Z"
    assert pages._polygon(triangle[[0, 1, 0]]) == ""
