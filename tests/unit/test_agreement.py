"""Masks, IoU and rank correlation of saliency maps, against hand-computed answers and scipy."""

import math

import pytest
import torch
from scipy import stats
from unitlens import agreement


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
