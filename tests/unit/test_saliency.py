"""Shape of maps and complexity of images, against hand-computed answers, controls of noise and planted structure."""

import numpy as np
import pandas as pd
import pytest
import torch
from skimage import feature
from unitlens.measures.complexity import (
    connected_components,
    edge_density,
    entropy,
    gini,
    half_area,
    jpeg_bits,
    to_gray,
    untied_mask,
)
from unitlens.measures.scales import IMAGE_MEASURES
from unitlens.report import evaluation_findings, text
from unitlens.tables import complexity as complexity_tables

ORIGIN = {"model": "m", "explained_class": "predicted", "geometry": "g"}


def disc(side=41, radius=8.0):
    """A cone of saliency in the middle."""
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    return torch.tensor(np.maximum(0, radius - np.hypot(rows, columns)))


def explanation(name, maps, source_images="pqr"):
    images = {"image_id": np.array([*"abc"], dtype=object), "source_image": np.array([*source_images], dtype=object)}
    facts = {
        "label": np.zeros(3, int),
        "predicted": np.zeros(3, int),
        "predicted_probability": np.array([0.2, 0.5, 0.9]),
    }
    return {**images, **facts, "saliency": np.asarray(maps)}, {**ORIGIN, "explainer": name}


# shape


def test_half_area_and_gini_by_hand():
    maps = torch.tensor([[[4.0, 2.0], [3.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 8.0]], [[0.0] * 2] * 2])
    assert half_area(maps)[:3].tolist() == [0.5, 1.0, 0.25]
    assert gini(maps)[:3].tolist() == pytest.approx([(-1 * 2 + 1 * 3 + 3 * 4) / (4 * 9), 0.0, 0.75])
    assert half_area(maps)[3].isnan() and gini(maps)[3].isnan()
    assert half_area(maps).dtype == gini(maps).dtype == torch.float64


def test_a_planted_spot_is_narrow_and_noise_is_not():
    noise = torch.rand(41, 41, generator=torch.Generator().manual_seed(0))
    maps = torch.stack([disc(), noise])
    spot, even = half_area(maps).tolist()
    rows, columns = np.mgrid[:41, :41] - 20
    assert spot == (rows**2 + columns**2 < 4**2).mean()  # half of the cone's radius
    assert even == pytest.approx(0.5, rel=0.03)
    spot, even = gini(maps).tolist()
    assert even == pytest.approx(1 / 3, abs=0.02)  # of a uniform distribution
    assert spot > 0.9


def test_equals_at_the_cut_are_marked_whole_and_the_minimum_never():
    superpixels = torch.tensor([[[3.0, 3.0, 2.0, 2.0, 2.0, 2.0, 0.0, 0.0]]])
    assert untied_mask(superpixels, 3 / 8).sum() == 6  # the cut falls into the superpixel of 2
    assert untied_mask(superpixels, 7 / 8).sum() == 6  # and here among the zeros
    assert not untied_mask(torch.zeros(1, 4, 4), 0.5).any()


def test_pieces_by_hand():
    mask = torch.zeros(3, 5, 5, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 1, 1] = True  # touch at a corner
    mask[0, 4, 0] = True
    mask[1] = True
    assert connected_components(mask)[:2].tolist() == [2, 1]
    assert connected_components(mask)[2].isnan()


def test_ties_do_not_break_maps_into_pieces():
    zeros_around = disc(radius=3.0)  # about 28 of 1681 pixels; 20 % reach far into the zeros
    noise = torch.rand(41, 41, generator=torch.Generator().manual_seed(1))
    whole, broken = connected_components(untied_mask(torch.stack([zeros_around, noise]), 0.2)).tolist()
    assert whole == 1
    assert broken > 50


def test_shapes_are_tabulated_and_tested_against_lime():
    narrow, zero = torch.stack([disc()] * 3), torch.stack([disc(), disc(), torch.zeros(41, 41)])
    broad = torch.stack([disc(radius=20.0)] * 3)
    files = [explanation("gradcam-x", broad), explanation("zero-x", zero), explanation("lime", narrow)]
    scores = complexity_tables.score_shape(files, area=0.2)
    assert len(scores) == 3 * 3 * 3  # explainers, measures, images
    pieces = scores[scores["measure"] == "pieces"].set_index(["explainer", "image_id"])
    assert pieces.loc[("gradcam-x", "a"), ["value", "marked"]].tolist() == [1, pytest.approx(0.2, abs=0.01)]
    assert pieces.loc[("lime", "a"), "marked"] == pytest.approx((disc() > 0).double().mean())
    summary, tests = complexity_tables.summarize_shape(scores)
    zeros = summary[(summary["explainer"] == "zero-x")]
    assert zeros["n"].tolist() == [2, 2, 2] and zeros["undefined"].tolist() == [1, 1, 1]
    assert tests[["explainer_a", "explainer_b"]].values.tolist() == [["gradcam-x", "lime"], ["zero-x", "lime"]] * 3
    rows, columns = np.mgrid[:41, :41] - 20
    distance = rows**2 + columns**2
    assert tests["difference"][0] == pytest.approx((distance < 10**2).mean() - (distance < 4**2).mean())
    assert tests["p_value"][0] == 0.25  # three source images can give no less
    assert set(tests["seed"]) == set(summary["seed"]) == {0}
    assert all(set(table["seed"]) == {3} for table in complexity_tables.summarize_shape(scores, seed=3))
    assert evaluation_findings.shape_findings(summary, tests)[0] == (
        "m, share of the image above half of the maximum: Grad-CAM 0.18 (n = 3 is too small for an interval), LIME "
        "0.03 (n = 3 is too small for an interval). Of 2 class activation maps 0 above LIME, 0 below it (paired "
        "permutation test by source image, p < 0.05 adjusted for 2 tests: one clear result alone can give no less "
        "than 0.5 at n = 3; smallest p = 0.5)."
    )


def test_negative_saliency_is_named():
    for measure in (half_area, gini):
        with pytest.raises(ValueError, match="-1"):
            measure(torch.tensor([[[1.0, -1.0]]]))


# complexity


def one_image(columns):
    """Gray image of one row that is repeated, (16, w, 3) uint8."""
    return np.repeat(np.array(columns, np.uint8)[None, :, None], 16, 0).repeat(3, 2)


def test_complexity_by_hand():
    flat, halves = one_image([90] * 16), one_image([0] * 8 + [255] * 8)
    assert entropy(flat) == 0.0 and edge_density(flat) == 0.0
    assert np.copysign(1, entropy(flat)) == 1, "no minus zero"
    assert entropy(halves) == 1.0
    assert entropy(one_image(range(0, 256, 16))) == 4.0
    assert 0 < edge_density(halves) <= 2 / 16
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    plain = np.full((64, 64, 3), 90, np.uint8)
    for measure in (edge_density, entropy, jpeg_bits):
        assert measure(noise) > measure(plain)
    assert to_gray(np.array([[[255, 0, 0]]], np.uint8)) == 76  # 0.299 of 255


def test_edges_are_those_of_canny_with_the_documented_thresholds():
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    gray = noise @ [0.299, 0.587, 0.114] / 255
    edges = feature.canny(gray, sigma=1.0, low_threshold=0.1, high_threshold=0.2)
    assert 0.05 < edge_density(noise) == pytest.approx(edges.mean(), rel=0.02)  # gray is rounded there
    fading = np.zeros((64, 64), np.uint8)  # an edge that fades: the low threshold says how far it is followed
    fading[:, 32:] = np.linspace(200, 0, 64).astype(np.uint8)[:, None]
    for low in (0.1, 0.15):
        same = feature.canny(fading / 255, sigma=1.0, low_threshold=low, high_threshold=0.2).mean()
        assert (edge_density(np.dstack([fading] * 3)) == same) == (low == 0.1)


def test_jpeg_bits_count_the_file(tmp_path):
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.jpg", quality=75)
    assert jpeg_bits(noise) == 8 * (tmp_path / "x.jpg").stat().st_size / (24 * 32)


def test_complexity_is_tabulated():
    arrays, facts = explanation("lime", np.zeros((3, 16, 16)))
    arrays["superpixels"] = np.array([2, 4, 0])  # 0: there is no label map of them
    images = np.stack([one_image([90] * 16), one_image([0] * 8 + [255] * 8), one_image(range(0, 256, 16))])
    table = complexity_tables.measure_complexity(
        images, [explanation("gradcam-x", arrays["saliency"]), (arrays, facts)]
    )
    assert table.columns[-5:].tolist() == ["edge_density", "entropy", "jpeg_bits", "superpixels", "confidence"]
    assert table["entropy"].tolist() == [0, 1, 4]
    assert table["superpixels"].tolist() == [2, 4, pd.NA]
    assert table["confidence"].tolist() == [0.2, 0.5, 0.9]
    assert sorted(IMAGE_MEASURES) == sorted(table.columns[-5:])


def tables(n, relation, source_images=None, seed=0):
    """Complexity at random and an IoU that falls with the edge density, or has nothing to do with it."""
    rng = np.random.default_rng(seed)
    images = {
        **ORIGIN,
        "image_id": [f"i{i}" for i in range(n)],
        "source_image": source_images or [f"p{i}" for i in range(n)],
    }
    complexity = pd.DataFrame({**images, **{name: rng.random(n) for name in text.COMPLEXITY_TITLES}})
    value = 1 - complexity["edge_density"] if relation else rng.random(n)
    pairs = {"explainer_a": "gradcam-x", "explainer_b": "lime", "measure": "equal_area_iou", "cut": 0.2}
    other = {**pairs, "explainer_a": "scorecam-x"}
    scores = [pd.DataFrame({**images, **pair, "value": value}) for pair in (pairs, other, {**pairs, "cut": 0.5})]
    scores.append(pd.DataFrame({**images, **pairs, "measure": "threshold_iou", "value": rng.random(n)}))  # at 0.2 too
    return complexity, pd.concat(scores, ignore_index=True)


def test_a_planted_relation_is_found_and_named():
    complexity, scores = tables(30, relation=True)
    found = complexity_tables.correlate_complexity(complexity, scores, area=0.2)
    assert found["agreement"].unique().tolist() == ["gradcam-x & lime", complexity_tables.MEAN_OF_PAIRS]
    edges = found[found["measure"] == "edge_density"]
    assert edges["correlation"].tolist() == pytest.approx([-1, -1])
    assert (edges["p_adjusted"] < 0.01).all() and (edges["n"] == 30).all()
    first, mean = evaluation_findings.complexity_findings(found)
    assert first.startswith(
        "m, does complexity explain agreement? Equal-area IoU of Grad-CAM and LIME: Spearman correlations that differ "
        "from zero: edge density -1.00 (95 % interval -1.00 to -1.00, n = 30), p"
    )
    assert "Equal-area IoU, mean of all pairs: " in mean


def test_no_relation_is_not_supported():
    found = complexity_tables.correlate_complexity(*tables(10, relation=False, seed=1), area=0.2)
    assert (found["p_adjusted"] > 0.05).all()
    assert (
        "not supported at n = 10; the clearest Spearman correlation"
        in evaluation_findings.complexity_findings(found)[0]
    )


def test_crops_of_two_source_images_give_no_correlation():
    found = complexity_tables.correlate_complexity(*tables(6, relation=True, source_images=[*"ppqqqq"]), area=0.2)
    assert found["correlation"].isna().all() and (found["source_images"] == 2).all() and (found["n"] == 6).all()
    assert "no correlation can be computed from 2 source images" in evaluation_findings.complexity_findings(found)[0]


def test_points_are_those_of_the_first_pair():
    complexity, scores = tables(5, relation=True)
    found = complexity_tables.correlate_complexity(complexity, scores, area=0.2)
    points, correlations = complexity_tables.complexity_points(scores, complexity, found, area=0.2)
    assert len(points) == 5 and set(points["agreement"]) == {"gradcam-x & lime"} == set(correlations["agreement"])
    assert (points["value"] + points["edge_density"]).tolist() == pytest.approx([1] * 5)
