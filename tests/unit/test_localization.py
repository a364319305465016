"""Scores against masks and boxes, by hand, with random maps at chance and a planted explanation at the top."""

import numpy as np
import pandas as pd
import pytest
import torch
from unitlens.explainers.items import stream_seeds
from unitlens.images.geometry import box_pixels
from unitlens.images.label_maps import reference_masks
from unitlens.measures import agreement, sanity
from unitlens.measures.localization import energy_inside, object_iou, pointing
from unitlens.report import evaluation_findings
from unitlens.tables.localization import score, summarize

FACTS = {"model": "m", "explained_class": "predicted", "geometry": "g"}


def shard(n=3, side=8, **arrays):
    """Decoded source images whose boxes are the upper left quarter."""
    images = {
        "images": np.zeros((n, side, side, 3), np.uint8),
        "image_id": np.array([f"i{i}" for i in range(n)], dtype=object),
        "source_image": np.array([f"p{i}" for i in range(n)], dtype=object),
        "box": np.tile(np.float32([0, 0, side / 2, side / 2]), (n, 1)),
    }
    return images | arrays


def explanation(name, maps, images):
    arrays = {key: images[key] for key in ("image_id", "source_image")}
    arrays |= {"label": np.zeros(len(maps), int), "predicted": np.zeros(len(maps), int), "saliency": np.asarray(maps)}
    return arrays, {**FACTS, "explainer": name}


def test_references_are_masks_of_any_palette_and_boxes():
    mask = np.zeros((3, 8, 8), np.uint16)
    mask[0, 0, 0], mask[1, 2:4] = 1, 255
    has_mask = np.array([True, True, False])
    references = reference_masks(shard(mask=mask, has_mask=has_mask))
    assert list(references) == ["mask", "box"]
    assert references["mask"][0].sum((1, 2)).tolist() == [1, 16, 0] and references["mask"][1].tolist() == [*has_mask]
    assert references["box"][0].sum((1, 2)).tolist() == [16] * 3
    nothing = np.full((3, 4), np.nan)
    assert reference_masks(shard(box=nothing)) == {}
    with pytest.raises(ValueError, match=r"`mask` has shape \(3, 4, 4\); allowed: \(3, 8, 8\)"):
        reference_masks(shard(mask=mask[:, :4, :4], has_mask=has_mask))


def test_measures_by_hand():
    saliency = torch.tensor([[[3.0, 1.0], [0.0, 0.0]], [[2.0, 2.0], [0.0, 4.0]], [[5.0, 5.0], [5.0, 0.0]]])
    mask = torch.tensor([[[1, 0], [1, 0]], [[1, 0], [0, 0]], [[1, 0], [0, 0]]], dtype=torch.bool)
    assert object_iou(saliency, mask, seeds=[0, 0, 0])[:2].tolist() == [1 / 3, 0]
    assert pointing(saliency, mask).tolist() == pytest.approx([1, 0, 1 / 3])  # a plateau of three pixels
    assert energy_inside(saliency, mask).tolist() == pytest.approx([3 / 4, 2 / 8, 1 / 3])


def test_negative_saliency_has_a_peak_too():
    mask = torch.tensor([[[False, True]]])
    assert pointing(torch.tensor([[[-2.0, -1]]]), mask).item() == 1
    with pytest.raises(ValueError, match=r"goes down to -2; allowed: 0 or more"):
        energy_inside(torch.tensor([[[-2.0, -1]]]), mask)


def test_nothing_to_point_at_and_maps_of_nothing_are_undefined():
    full, empty = torch.ones(1, 4, 4, dtype=torch.bool), torch.zeros(1, 4, 4, dtype=torch.bool)
    ramp, flat = torch.arange(16.0).view(1, 4, 4), torch.zeros(1, 4, 4)
    assert object_iou(ramp, empty, seeds=[0]).isnan()
    assert object_iou(ramp, full, seeds=[0]).item() == 1
    for measure in (pointing, energy_inside):
        assert measure(ramp, empty).isnan() and measure(flat, full).isnan()
        assert measure(ramp, full).item() == 1
        with pytest.raises(ValueError, match=r"got \(1, 4, 4\) and \(1, 2, 2\)"):
            measure(ramp, full[:, :2, :2])
        with pytest.raises(ValueError, match="holds NaN"):
            measure(ramp.log().sqrt(), full)
    with pytest.raises(ValueError, match=r"goes down to -1; allowed: 0 or more"):
        energy_inside(ramp - 1, full)


def test_random_maps_score_by_chance_and_a_planted_one_fully():
    images = shard(60, side=32)
    planted = torch.tensor(box_pixels(images["box"], (32, 32))).float()
    noise = torch.rand(60, 32, 32, generator=torch.Generator().manual_seed(0))
    files = [explanation("gradcam-x", planted, images), explanation("lime", noise, images)]
    scores = score(files, images, seed=1)
    assert len(scores) == 60 * 4 * 3 and scores["object_area"].unique().tolist() == [0.25]
    assert scores.groupby("measure")["chance"].first().to_dict() == {
        "iou": pytest.approx(0.25 / 1.75),
        "pointing": 0.25,
        "energy": 0.25,
    }
    means = scores.groupby(["explainer", "measure"])["value"].mean()
    assert means["gradcam-x"].tolist() == [1, 1, 1]
    assert means["lime"][["energy", "iou"]].tolist() == pytest.approx([0.25, agreement.chance_iou(0.25)], rel=0.05)
    peaks = [divmod(own.argmax().item(), 32) for own in noise]
    assert means["lime"]["pointing"] == np.mean([max(peak) < 16 for peak in peaks])
    seeds = stream_seeds(1, "random", images["image_id"])
    random = torch.stack([draw() for draw in sanity.make_control_maps((32, 32), seeds=seeds)["random"]])
    assert random.shape == (10, 60, 32, 32) and torch.equal(random[1::2], 1 - random[::2])
    shares = random[..., :16, :16].sum((2, 3)) / random.sum((2, 3))
    assert means["random"]["energy"] == pytest.approx(shares.mean().item()) == pytest.approx(0.25, rel=0.05)
    assert means["random"]["iou"] == pytest.approx(agreement.chance_iou(0.25), rel=0.1)  # coarse maps
    summary, tests = summarize(scores)
    assert tests[(tests["explainer_a"] == "gradcam-x")]["p_adjusted"].max() < 0.001
    first = evaluation_findings.localization_findings(summary, tests)[0]
    assert first.startswith(
        "m, IoU at the object's own area against the box: highest for Grad-CAM, 1.00 (no interval, for all "
        "values are equal; n = 60); a centered Gaussian has"
    )
    assert "Of 2 explainers 1 above the Gaussian, " in first


def test_only_images_with_a_reference_are_scored():
    box = shard()["box"]
    box[1] = np.nan
    mask, has_mask = np.zeros((3, 8, 8), np.uint16), np.array([False, False, True])
    images = shard(box=box, mask=mask, has_mask=has_mask)
    maps = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = score([explanation("lime", maps, images)], images, seed=0)
    assert scores.index.tolist() == list(range(len(scores)))
    counts = scores[scores["measure"] == "iou"].groupby(["reference", "explainer"])["image_id"].apply(list)
    assert counts["box", "lime"] == ["i0", "i2"] and counts["mask", "lime"] == ["i2"]
    assert scores.loc[scores["reference"] == "mask", "value"].isna().all()  # the mask is empty
    summary, _ = summarize(scores)
    assert set(summary.loc[summary["reference"] == "mask", "undefined"]) == {1}
    few = summary[(summary["reference"] == "box") & (summary["explainer"] == "lime")]
    assert few["source_images"].tolist() == [2] * 3 and few["low"].isna().all()


def test_a_shard_without_references_gives_a_table_without_rows():
    images = shard(box=np.full((3, 4), np.nan))
    scores = score([explanation("lime", np.ones((3, 8, 8)), images)], images, seed=0)
    assert len(scores) == 0 and "value" in scores
    both = pd.concat([scores, score([explanation("lime", np.ones((3, 8, 8)), shard())], shard(), seed=0)])
    assert len(summarize(both)[0]) == 3 * 3


def test_other_images_are_refused():
    images = shard()
    with pytest.raises(ValueError, match="the explanations by the decoded source images are of other images"):
        score([explanation("lime", np.ones((2, 8, 8)), shard(2))], images, seed=0)


def test_findings_are_of_each_models_own_tests_and_say_where_nothing_is_defined():
    images = shard(4)
    inside = torch.tensor(box_pixels(images["box"], (8, 8))).float()
    scores = score([explanation("lime", inside, images)], images, seed=1)
    flat = score([explanation("lime", inside * 0, images)], images, seed=1).assign(model="flat")
    summary, tests = summarize(pd.concat([scores, flat]), seed=3)
    assert set(summary["seed"]) == set(tests["seed"]) == {3}
    sentences = evaluation_findings.localization_findings(summary, tests)
    assert [sentence.partition(",")[0] for sentence in sentences] == ["m"] * 3 + ["flat"] * 3
    assert all("Of 1 explainer 0 above the Gaussian" in sentence for sentence in sentences[:3])
    assert sentences[3:] == [
        "flat, IoU at the object's own area against the box: undefined for every source image.",
        "flat, share of the peak inside (pointing game) against the box: undefined for every source image.",
        "flat, share of the saliency inside against the box: undefined for every source image.",
    ]
