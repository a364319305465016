import inspect
import math

import pytest
import torch
from skimage import segmentation
from unitlens.explainers import segment


def some_images(n=2, h=20, w=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, h, w, 3), generator=generator, dtype=torch.uint8)


def assert_dense(labels):
    for image in labels:
        assert image.unique().tolist() == list(range(int(image.max()) + 1))


@pytest.mark.parametrize(
    "cut",
    [
        lambda images: segment.quickshift(images, kernel_size=1),
        lambda images: segment.slic(images, n_segments=9),
        segment.felzenszwalb,
        lambda images: segment.grid(images, size=7),
    ],
)
def test_labels_are_dense_int64_and_independent_of_the_other_images(cut):
    images = some_images(3)
    labels = cut(images)
    assert labels.shape == (3, 20, 24)
    assert labels.dtype == torch.int64
    assert_dense(labels)
    torch.testing.assert_close(cut(images[[2, 0]]), labels[[2, 0]], rtol=0, atol=0)
    torch.testing.assert_close(cut(images.numpy()), labels, rtol=0, atol=0)


def test_quickshift_separates_two_flat_colors():
    images = torch.zeros(1, 12, 12, 3, dtype=torch.uint8)
    images[:, :, 6:] = 255
    labels = segment.quickshift(images, ratio=1.0, max_dist=20)
    assert not set(labels[0, :, :6].flatten().tolist()) & set(labels[0, :, 6:].flatten().tolist())


def test_quickshift_with_max_dist_zero_links_nothing():
    labels = segment.quickshift(some_images(1, 5, 6), max_dist=0)
    assert labels.flatten().tolist() == list(range(30))


def test_quickshift_noise_decides_between_equal_densities():
    flat = torch.full((1, 60, 60, 3), 9, dtype=torch.uint8)
    assert not torch.equal(segment.quickshift(flat, seed=1), segment.quickshift(flat, seed=2))


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 9), (3, 2)])
def test_quickshift_takes_images_smaller_than_its_window(h, w):
    assert_dense(segment.quickshift(some_images(2, h, w)))


def test_grid_by_hand():
    expected = [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert segment.grid(some_images(1, 3, 5), size=2)[0].tolist() == expected


def test_relabel_keeps_the_order_and_closes_gaps():
    labels = torch.tensor([[[7, 7], [-2, 100]], [[1, 2], [3, 4]]], dtype=torch.int16)
    assert segment.relabel(labels).tolist() == [[[1, 1], [0, 2]], [[0, 1], [2, 3]]]


def test_bad_input_is_named():
    images = some_images()
    with pytest.raises(ValueError, match=r"`images` are torch.float32 .*allowed: uint8"):
        segment.quickshift(images.float())
    with pytest.raises(ValueError, match=r"`images` .*\(2, 3, 20, 24\)"):
        segment.slic(images.permute(0, 3, 1, 2))
    with pytest.raises(ValueError, match=r"`kernel_size` is 0.5"):
        segment.quickshift(images, kernel_size=0.5)
    with pytest.raises(ValueError, match=r"`max_dist` is inf"):
        segment.quickshift(images, max_dist=math.inf)
    with pytest.raises(ValueError, match=r"`size` is 0"):
        segment.grid(images, size=0)
    with pytest.raises(TypeError, match=r"`labels` are torch.float32"):
        segment.relabel(torch.zeros(1, 2, 2))
    with pytest.raises(ValueError, match=r"`labels` have shape \(2, 2\)"):
        segment.relabel(torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"allowed: \(2, 20, 24\), that of the images"):
        segment.relabel(torch.zeros(2, 20, 25, dtype=torch.int64), shape=images.shape[:3])


@pytest.mark.parametrize(
    ("name", "options", "others"),
    [
        ("felzenszwalb", {"scale": 30.0, "sigma": 0.5, "min_size": 7}, {"scale": 300.0, "sigma": 2.0, "min_size": 80}),
        (
            "slic",
            {"n_segments": 12, "compactness": 5.0, "sigma": 1.0},
            {"n_segments": 40, "compactness": 60.0, "sigma": 3.0},
        ),
    ],
)
def test_every_option_reaches_scikit_image(name, options, others):
    images, cut, reference = some_images(1, 40, 48), getattr(segment, name), getattr(segmentation, name)
    labels = cut(images, **options)
    assert torch.equal(labels[0], segment.relabel(torch.as_tensor(reference(images[0].numpy(), **options))[None])[0])
    assert all(not torch.equal(cut(images, **options | {key: value}), labels) for key, value in others.items())
    theirs, ours = (inspect.signature(function).parameters for function in (reference, cut))
    assert all(ours[key].default == theirs[key].default for key in options)
