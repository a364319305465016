"""Pooling of layer outputs, against hand-computed maps."""

import math

import numpy as np
import pytest
import torch
from unitlens.networks import layer_outputs

MAPS = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [-1.0, -3.0]]]])  # (1, 2, 2, 2)


def as_maps(images):
    """Images (n, h, w, 3) as the maps (n, 3, h, w) of a layer."""
    return 2 * images.permute(0, 3, 1, 2)


def test_maps_are_pooled_over_space():
    assert layer_outputs.pool(MAPS).tolist() == [[3.0, -1.0]]
    assert layer_outputs.pool(MAPS, "max").tolist() == [[6.0, 0.0]]


def test_maps_with_units_last():
    maps = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    for pooling in ("avg", "max"):
        torch.testing.assert_close(
            layer_outputs.pool(maps.permute(0, 2, 3, 1), pooling), layer_outputs.pool(maps, pooling)
        )


@pytest.mark.parametrize(
    ("prefix", "grid", "pooling", "expected"),
    [
        (0, (4, 4), "avg", 7.5),  # patch t carries t, tokens before the patches 100
        (1, (4, 4), "avg", 7.5),
        (2, (4, 4), "max", 15.0),
        (5, (4, 4), "avg", 7.5),
        (1, (4, 4), "cls", 100.0),
        (0, (2, 6), "avg", 5.5),
        (1, (2, 6), "max", 11.0),
    ],
)
def test_planted_tokens_pool_to_the_documented_number(prefix, grid, pooling, expected):
    rows, columns = grid
    values = torch.cat([torch.full((prefix,), 100.0), torch.arange(rows * columns).float()])
    tokens = torch.stack([values, -values], dim=1).expand(3, -1, -1)  # (n, tokens, units)
    pooled = layer_outputs.pool(tokens, pooling, images=(3, 16 * rows, 16 * columns))
    assert pooled[:, 0].tolist() == [expected] * 3
    assert layer_outputs.pool(tokens[:, 1], pooling).equal(tokens[:, 1])


def test_what_is_no_grid_over_the_images_is_refused():
    nested, windows = torch.zeros(2, 16, 196, 96), torch.zeros(32, 49, 96)
    with pytest.raises(ValueError, match=r"\(2, 16, 196, 96\) for images of 224 x 224: not a spatial grid"):
        layer_outputs.pool(nested, images=(2, 224, 224))
    with pytest.raises(ValueError, match="32 rows for 2 images, such as one a window"):
        layer_outputs.pool(windows, images=(2, 224, 224))
    with pytest.raises(ValueError, match=r"maps .* have no class token; allowed: avg, max"):
        layer_outputs.pool(MAPS, "cls")


def test_numpy_and_half_precision_are_accepted():
    assert layer_outputs.pool(MAPS.numpy()).tolist() == [[3.0, -1.0]]
    large = torch.full((1, 1, 64, 64), 1000.0, dtype=torch.float16)
    assert layer_outputs.pool(large).item() == 1000.0
    assert layer_outputs.pool(large).dtype == torch.float32


def pooled_of(forward, batches):
    return torch.cat([pooled for pooled, _ in layer_outputs.extract(forward, batches)])


def test_outputs_are_remembered_while_they_fit():
    calls = []

    def forward(images):
        calls.append(len(images))
        return torch.from_numpy(images).float()

    remembered = layer_outputs.remembering(forward, memory=2 * 4 * 4 * 3 * 4)  # of two images
    images = np.random.default_rng(0).integers(0, 9, (4, 4, 4, 3), dtype=np.uint8)
    for _ in range(2):
        for part in (images[:1], images[1:3], images[3:]):
            assert torch.equal(remembered(part), torch.from_numpy(part).float())
    assert calls == [1, 2, 1, 2]  # the second batch has no place
    assert remembered(images[3:]) is remembered(images[3:].copy())


def test_extract_pools_batch_by_batch():
    images = torch.rand(7, 5, 5, 3, generator=torch.Generator().manual_seed(0))
    whole = pooled_of(as_maps, [images])
    parts, maps = zip(*layer_outputs.extract(as_maps, images.split(3)), strict=True)
    assert [len(part) for part in parts] == [len(part) for part in maps] == [3, 3, 1]
    assert torch.equal(torch.cat(parts), whole)
    torch.testing.assert_close(torch.cat(maps).mean((2, 3)), whole)
    assert torch.is_inference_mode_enabled() is False


def test_extract_finds_the_units_on_either_axis():
    images = torch.rand(4, 6, 5, 3, generator=torch.Generator().manual_seed(0))  # units last, as they are
    first, last = (pooled_of(forward, [images]) for forward in (as_maps, lambda x: 2 * x))
    assert first.shape == (4, 3)
    torch.testing.assert_close(first, last)


def test_extract_tells_tokens_by_the_sides_of_the_images():
    """Four tokens are two rows and columns of a square, and a class token and a row of three of an image like it."""
    tokens = torch.tensor([100.0, 1, 2, 6])[None, :, None]
    for height, width, expected in ((32, 32, 109 / 4), (16, 48, 3)):
        (pooled,) = pooled_of(lambda _: tokens, [torch.zeros(1, height, width, 3)])
        assert pooled.item() == pytest.approx(expected)


def test_a_unit_that_is_not_finite_stays_as_it_is_and_one_of_all_is_named():
    images = torch.ones(7, 5, 5, 3)
    images[5, 0, 0, 2] = math.nan
    pooled = pooled_of(as_maps, images.split(3))
    assert pooled.isnan().nonzero().tolist() == [[5, 2]] and set(pooled[:, :2].flatten().tolist()) == {2}
    images[5] = math.nan
    with pytest.raises(ValueError, match="activation of unit 0 is nan at image row 5"):
        list(layer_outputs.extract(as_maps, images.split(3)))
    with pytest.raises(ValueError, match="no unit is finite on every image: activation of unit 1 is inf"):
        layer_outputs.pool(torch.tensor([[0.0, math.inf], [-math.inf, 0]]))


def test_units_that_are_not_finite_are_silenced():
    values = torch.tensor([[1.0, 2.0, math.inf], [3.0, math.nan, 4.0]])
    assert layer_outputs.silenced(values).tolist() == [[1, 0, 0], [3, 0, 0]]
    assert layer_outputs.silenced(values[:, :1]).data_ptr() == values.data_ptr()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="`pooling` is 'median'; allowed: avg, max, cls"):
        layer_outputs.pool(MAPS, "median")
    with pytest.raises(ValueError, match=r"2, 3 or 4 dimensions, got shape \(4,\)"):
        layer_outputs.pool(torch.zeros(4))
    with pytest.raises(ValueError, match="one tensor, got a tuple"):
        layer_outputs.pool((MAPS, None))
