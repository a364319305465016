"""The public names of the library, which checks are written against, stay importable from the package."""

import importlib

import pytest

PUBLIC = {
    "cam": ["explain"],
    "contributions": ["account"],
    "lime": ["explain", "fit", "perturbations", "LimeResult"],
    "segment": ["quickshift", "slic", "felzenszwalb", "grid"],
    "dissect": ["SIMILARITIES", "calibrated_gap", "soft_wpmi", "top_images"],
    "agreement": ["equal_area_mask", "iou", "equal_area_iou"],
    "faithfulness": ["deletion", "insertion", "road"],
    "textures": ["generate"],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_served_by_the_package(module):
    served = getattr(importlib.import_module("unitlens"), module)
    assert [name for name in PUBLIC[module] if name not in served.__all__ or not hasattr(served, name)] == []


def test_other_names_are_refused():
    with pytest.raises(ImportError, match="no_such_module"):
        from unitlens import no_such_module  # noqa: F401
