"""Soft-WPMI against the labels, similarities and top images that the reference code gave for ResNet-18."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from unitlens.units import dissect, exemplars

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "clip_dissect_resnet18_imagenet.h5"
UNITS = {"layer2": 128, "layer3": 256, "layer4": 512}

pytestmark = pytest.mark.skipif(not GOLDEN.exists(), reason="the golden file shared/golden/*.h5 is not here")


@pytest.fixture(scope="module")
def golden():
    with h5py.File(GOLDEN) as file:
        yield file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", UNITS)
def test_labels_top_images_and_similarities_of_every_unit(golden, layer, dtype):
    names = ("activations/" + layer, "clip_image_features", "clip_text_features")
    activations, images, texts = (torch.from_numpy(golden[name][:]).to(dtype) for name in names)
    expected = golden["expected"][layer]
    assert activations.shape == (1000, UNITS[layer])

    labels = dissect.label(dissect.soft_wpmi(activations, images, texts))

    found = golden["concepts"][:][labels.concept.numpy()]
    assert (found == expected["label"][:]).sum() == UNITS[layer]
    np.testing.assert_array_equal(exemplars.top_images(activations, 5), expected["top_images"][:])
    assert np.abs(labels.score.numpy() - expected["similarity"][:]).max() < 2.5e-4
