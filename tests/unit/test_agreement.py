"""Masks, IoU and rank correlation of saliency maps, against hand-computed answers and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from unitlens import agreement
from unitlens import stats as intervals


def sparse_map(first: int, count: int, side: int = 100) -> torch.Tensor:
    """Zero everywhere but at `count` pixels in reading order, which descend from 1."""
    saliency = torch.zeros(side * side)
    saliency[first : first + count] = torch.linspace(1, 0.5, count)
    return saliency.view(side, side)


def test_equal_area_mask_marks_the_largest_pixels():
    saliency = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.0], [0.4, 0.5, 0.7]])
    mask = agreement.equal_area_mask(saliency, 1 / 3)
    assert mask.tolist() == [[False, True, False], [True, False, False], [False, False, True]]


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.501, 1.0])
def test_equal_area_mask_has_the_exact_area_even_on_a_constant_map(fraction):
    mask = agreement.equal_area_mask(torch.zeros(2, 7, 9), fraction)
    assert mask.sum((1, 2)).tolist() == [round(fraction * 63)] * 2


def test_ties_are_taken_in_random_order():
    saliency = sparse_map(0, 500)
    mask = agreement.equal_area_mask(saliency, 0.2)
    assert mask.view(-1)[:500].all()
    share_per_fifth = mask.view(-1)[500:].view(5, -1).double().mean(1)
    assert torch.allclose(share_per_fifth, torch.full((5,), 1500 / 9500, dtype=torch.float64), atol=0.03)
    assert not mask.equal(agreement.equal_area_mask(saliency, 0.2, seed=1))


def test_two_disjoint_sparse_maps_score_by_chance():
    a, b = sparse_map(0, 500), sparse_map(5000, 500)
    scores = torch.stack([agreement.equal_area_iou(a, b, 0.2, seeds=(2 * i, 2 * i + 1)) for i in range(20)])
    # each mask: 500 own pixels and 1500 of 9500 tied ones; expected overlap 2 * 500 * p + 9000 * p^2 with p = 1500/9500
    p = 1500 / 9500
    overlap = 2 * 500 * p + 9000 * p**2
    assert scores.mean().item() == pytest.approx(overlap / (4000 - overlap), abs=0.002)
    assert overlap / (4000 - overlap) == pytest.approx(0.106, abs=5e-4)
    assert agreement.chance_iou(0.2) == pytest.approx(1 / 9)


def test_identical_maps_without_ties_agree_fully():
    saliency = torch.rand(3, 11, 13, generator=torch.Generator().manual_seed(0))
    assert agreement.equal_area_iou(saliency, saliency, 0.2).tolist() == [1.0] * 3
    assert agreement.spearman(saliency, saliency).tolist() == pytest.approx([1.0] * 3)
    assert agreement.peak_distance(saliency, saliency).tolist() == [0.0] * 3


def test_constant_maps_agree_by_chance_only():
    flat = torch.zeros(200, 200)
    assert agreement.equal_area_iou(flat, flat, 0.3).item() == pytest.approx(agreement.chance_iou(0.3), abs=0.01)


def test_an_image_does_not_depend_on_its_batch():
    a = torch.stack([sparse_map(10 * i, 300, side=40) for i in range(4)])
    b = torch.stack([sparse_map(200 * i, 300, side=40) for i in range(4)])
    seeds = ([3, 5, 7, 9], [4, 6, 8, 10])
    together = agreement.equal_area_iou(a, b, 0.4, seeds=seeds)
    alone = [agreement.equal_area_iou(a[i], b[i], 0.4, seeds=(seeds[0][i], seeds[1][i])) for i in (2, 0, 3, 1)]
    assert together[[2, 0, 3, 1]].tolist() == [score.item() for score in alone]
    batched = agreement.equal_area_mask(a, 0.4, seed=5)
    assert all(batched[i].equal(agreement.equal_area_mask(a[i], 0.4, seed=5)) for i in range(4))


def test_iou_by_hand():
    a = torch.tensor([[[1, 1], [0, 0]], [[1, 1], [1, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], dtype=torch.bool)
    b = torch.tensor([[[1, 0], [1, 0]], [[1, 1], [1, 1]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]], dtype=torch.bool)
    scores = agreement.iou(a, b)
    assert scores[:3].tolist() == [1 / 3, 1.0, 0.0]
    assert scores[3].isnan()
    assert agreement.iou(a[0].numpy(), b[0].numpy()).item() == 1 / 3


def test_threshold_mask_is_strict():
    assert agreement.threshold_mask(torch.tensor([[0.0, 0.5], [0.6, 1.0]]), 0.5).tolist() == [
        [False, False],
        [True, True],
    ]


def test_tied_share_by_hand():
    saliency = torch.tensor([[9.0, 8.0, 1.0, 1.0, 1.0]])
    assert agreement.tied_share(saliency, 0.4).item() == 0.0
    assert agreement.tied_share(saliency, 0.6).item() == pytest.approx(1 / 3)
    assert agreement.tied_share(saliency, 0.8).item() == pytest.approx(2 / 4)
    assert agreement.tied_share(saliency, 1.0).item() == 0.0  # all tied pixels are marked: nothing to choose
    assert agreement.tied_share(torch.zeros(2, 4, 5), 0.5).tolist() == [1.0, 1.0]
    assert agreement.tied_share(sparse_map(0, 500), 0.2).item() == pytest.approx(0.75)


def test_spearman_is_scipys_with_ties():
    generator = torch.Generator().manual_seed(1)
    a = torch.randint(0, 4, (3, 8, 9), generator=generator).float()
    b = a + torch.randint(0, 6, (3, 8, 9), generator=generator)
    expected = [stats.spearmanr(x.view(-1), y.view(-1)).statistic for x, y in zip(a, b, strict=True)]
    assert agreement.spearman(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert agreement.spearman(a, -a).tolist() == pytest.approx([-1.0] * 3)
    assert agreement.spearman(a[0], torch.zeros(8, 9)).isnan()


def test_peak_distance_by_hand():
    a, b = torch.zeros(2, 6, 8)
    a[1, 2] = 1
    b[4, 5:8] = 1  # its peak is the middle of the three
    assert agreement.peak_distance(a, b).item() == pytest.approx(5.0)  # 3 down, 4 to the right
    assert agreement.peak_distance(a, torch.ones(6, 8)).isnan()


def test_bad_input_is_named():
    saliency = torch.rand(2, 4, 4)
    broken = saliency.clone()
    broken[1, 2, 3] = math.nan
    for measure in (agreement.spearman, agreement.peak_distance):
        with pytest.raises(ValueError, match=r"NaN at \(1, 2, 3\)"):
            measure(saliency, broken)
    with pytest.raises(ValueError, match=r"`fraction` is 0\.01: 0 pixels"):
        agreement.equal_area_mask(saliency, 0.01)
    with pytest.raises(ValueError, match=r"`fraction` is 1\.5"):
        agreement.tied_share(saliency, 1.5)
    with pytest.raises(ValueError, match="3 seeds for 2 images"):
        agreement.equal_area_mask(saliency, 0.5, seed=[1, 2, 3])
    with pytest.raises(ValueError, match=r"got \(2, 4, 4\) and \(4, 4\)"):
        agreement.iou(saliency > 0.5, saliency[0] > 0.5)
    with pytest.raises(ValueError, match="`b` is no mask"):
        agreement.iou(saliency > 0.5, saliency)


# tables of images and pairs


def table_of(values, photographs, **columns):
    """Scores as `score_pairs` gives them, an image a value."""
    columns = {"explainer_a": "lime", "explainer_b": "cam", "measure": "equal_area_iou", "cut": 0.2} | columns
    columns = {"model": "m", **columns, "chance": 1 / 9, "tied_share": [0.5] * len(values)}
    return pd.DataFrame({"value": values, "photograph": list(photographs), **columns})


def test_pairs_are_scored_by_hand():
    maps = {
        "a": np.array([[[9.0, 8.0, 1.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]]),
        "b": np.array([[[7.0, 1.0, 6.0, 0.0]], [[4.0, 3.0, 2.0, 1.0]]]),
        "c": np.array([[[0.0, 1.0, 2.0, 3.0]], [[4.0, 3.0, 2.0, 1.0]]]),
    }
    masks = {"image_id": np.array(["x", "y"], dtype=object), "photograph": np.array(["p", "p"], dtype=object)}
    for name, saliency in maps.items():
        masks[f"{name}:equal_area"] = agreement.equal_area_mask(saliency, 0.5).numpy()
        masks[f"{name}:threshold"] = saliency > 0.5 * saliency.max((1, 2), keepdims=True)
    table = agreement.score_pairs(masks, maps, area=0.5, threshold=0.4)
    assert len(table) == 3 * 3 * 2
    assert table.groupby("measure").chance.first().to_dict() == pytest.approx(
        {"equal_area_iou": 1 / 3, "spearman": 0.0, "threshold_iou": math.nan}, nan_ok=True
    )
    table = table.set_index(["explainer_a", "explainer_b", "measure", "image_id"]).sort_index()
    assert table.loc[("a", "b"), "photograph"].unique().tolist() == ["p"]

    equal_area = table.loc[("a", "b", "equal_area_iou")]
    assert equal_area.loc["x", ["cut", "value", "tied_share"]].tolist() == [0.5, pytest.approx(1 / 3), 0]
    assert equal_area.loc["y", "tied_share"] == 1  # the larger of 1 (constant) and 0
    threshold = table.loc[("a", "b", "threshold_iou")]
    assert threshold.loc["x", ["cut", "value"]].tolist() == [0.4, pytest.approx(1 / 3)]
    assert threshold.loc["y", "value"] == 0  # one mask is empty, the other is not
    spearman = table.loc[("a", "b", "spearman")]
    assert spearman.loc["x", "value"] == pytest.approx(0.8)  # ranks 4 3 2 1 and 4 2 3 1: 1 - 6 * 2 / (4 * 15)
    assert spearman[["cut", "tied_share"]].isna().all(axis=None)
    assert math.isnan(spearman.loc["y", "value"])
    assert table.loc[("b", "c", "spearman", "y"), "value"] == pytest.approx(1)
    assert table.loc[("a", "c", "equal_area_iou", "x"), "value"] == 0


def test_the_summary_takes_photographs_as_groups():
    values, photographs = [0.1, 0.2, 0.3, 0.8, 0.9, 0.4, 0.5], "ppqqrrs"
    (row,) = agreement.summarise(table_of(values, photographs), seed=3).to_dict("records")
    low, high = intervals.bootstrap_interval(values, groups=list(photographs), seed=3)
    assert (row["n"], row["photographs"], row["undefined"]) == (7, 4, 0)
    assert row["mean"] == pytest.approx(3.2 / 7)
    assert (row["low"], row["high"]) == (low, high)
    assert (row["low"], row["high"]) != intervals.bootstrap_interval(values, seed=3)
    assert (row["chance"], row["tied_share"], row["cut"]) == (1 / 9, 0.5, 0.2)


def test_undefined_scores_are_counted_and_left_out():
    values = [0.1, math.nan, 0.3, 0.5, math.nan]
    (row,) = agreement.summarise(table_of(values, "pqrst")).to_dict("records")
    assert (row["n"], row["photographs"], row["undefined"], row["mean"]) == (3, 3, 2, pytest.approx(0.3))
    (row,) = agreement.summarise(table_of([math.nan, math.nan], "pq")).to_dict("records")
    assert (row["n"], row["photographs"], row["undefined"]) == (0, 0, 2)
    assert all(math.isnan(row[name]) for name in ("mean", "low", "high"))


def test_fewer_than_three_photographs_give_no_interval():
    (row,) = agreement.summarise(table_of([0.2, 0.4, 0.6, 0.8], "ppqq")).to_dict("records")
    assert (row["n"], row["photographs"], row["mean"]) == (4, 2, pytest.approx(0.5))
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])


def test_models_pairs_and_measures_are_kept_apart():
    scores = pd.concat(
        [
            table_of([0.2] * 3, "pqr"),
            table_of([0.4] * 3, "pqr", measure="spearman", cut=math.nan),
            table_of([0.6] * 3, "pqr", explainer_b="rise"),
            table_of([0.8] * 3, "pqr", model="other"),
        ]
    )
    summary = agreement.summarise(scores)
    assert summary["mean"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert summary.low.tolist() == summary.high.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert summary.cut.tolist() == pytest.approx([0.2, math.nan, 0.2, 0.2], nan_ok=True)
    assert summary.model.tolist() == ["m", "m", "m", "other"]
    shuffled = agreement.summarise(scores.sample(frac=1, random_state=0))
    keys = ["model", "explainer_b", "measure"]
    pd.testing.assert_frame_equal(
        shuffled.sort_values(keys, ignore_index=True), summary.sort_values(keys, ignore_index=True)
    )
