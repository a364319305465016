import numpy as np
import pytest
import torch
from skimage import data, segmentation, transform
from sklearn.datasets import load_sample_image
from unitlens.explainers import segment

SOURCE_IMAGES = {
    "astronaut": data.astronaut,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "rocket": data.rocket,
    "grass": lambda: np.stack([data.grass()] * 3, -1),
    "page": lambda: np.stack([data.page()] * 3, -1),
    "china": lambda: load_sample_image("china.jpg"),
    "flower": lambda: load_sample_image("flower.jpg"),
}


def reference(image, **options):
    return segmentation.quickshift(image, **{"kernel_size": 4, "max_dist": 200, "ratio": 0.2} | options)


def resized(name, h, w):
    return transform.resize(SOURCE_IMAGES[name](), (h, w), preserve_range=True).astype(np.uint8)


@pytest.mark.parametrize("size", [(224, 224), (97, 150)])
def test_labels_equal_scikit_image_on_source_images(size):
    images = np.stack([resized(name, *size) for name in SOURCE_IMAGES])
    labels = segment.quickshift(images).numpy()
    for name, image, own in zip(SOURCE_IMAGES, images, labels, strict=True):
        np.testing.assert_array_equal(own, reference(image), err_msg=name)


def test_labels_equal_scikit_image_at_full_size():
    image = SOURCE_IMAGES["flower"]()[:300, :400].copy()
    np.testing.assert_array_equal(segment.quickshift(image[None])[0].numpy(), reference(image))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 2.5, "ratio": 1.0},
        {"max_dist": 6, "ratio": 0.5},
        {"max_dist": 0},
        {"ratio": 0.0},
    ],
)
def test_options_mean_what_they_mean_in_scikit_image(options):
    image = resized("china", 80, 120)
    np.testing.assert_array_equal(segment.quickshift(image[None], **options)[0].numpy(), reference(image, **options))


def test_seed_is_scikit_images_rng():
    flat = np.full((50, 60, 3), 77, dtype=np.uint8)
    labels = segment.quickshift(flat[None], seed=7)[0].numpy()
    np.testing.assert_array_equal(labels, reference(flat, rng=7))
    assert (labels != reference(flat)).any()


def test_noise_and_two_colors_where_ties_abound():
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (90, 90, 3), dtype=np.uint8)
    two = (generator.integers(0, 2, (90, 90, 1)) * np.array([90, 30, 200])).astype(np.uint8)
    labels = segment.quickshift(torch.as_tensor(np.stack([noise, two]))).numpy()
    np.testing.assert_array_equal(labels[0], reference(noise))
    np.testing.assert_array_equal(labels[1], reference(two))
