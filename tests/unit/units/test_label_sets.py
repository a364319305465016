"""The gap of calibrated sets: by hand, and what sets cover on units that did not choose it."""

import math

import numpy as np
import pytest
import torch
from unitlens.units import dissect, label_sets


def test_the_gap_by_hand():
    a = torch.tensor([[5.0, 3, 1], [5, 3, 1], [5, 3, 1], [2, 2, 9]])
    b = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [0, 0, 9]])  # their winners lie 0, 2, 4 and 0 below the best
    for coverage, gap in ((0.5, 0), (0.51, 2), (0.75, 2), (0.76, 4), (1, 4)):
        assert dissect.calibrated_gap(a, b, coverage=coverage) == gap
    assert dissect.calibrated_gap(a, b) == 4
    assert dissect.calibrated_gap(a.numpy(), b.numpy(), coverage=0.75) == 2
    assert dissect.calibrated_gap(a, a, coverage=1) == 0


def test_units_without_a_best_concept_do_not_count_and_concepts_that_are_none_are_never_held():
    nan, inf = math.nan, math.inf
    a = torch.tensor([[5.0, 3], [nan, nan], [1, 0], [5, -inf], [4, 4]])
    b = torch.tensor([[0.0, 1], [0, 1], [nan, nan], [0, 1], [0, 1]])
    assert dissect.calibrated_gap(a, b, coverage=2 / 3) == 2
    assert dissect.calibrated_gap(a, b, coverage=0.9) == inf
    assert dissect.calibrated_gap(a[1:3], b[1:3]) == inf


@pytest.mark.parametrize("coverage", [0, -0.1, 1.1, math.nan])
def test_a_share_that_is_none(coverage):
    with pytest.raises(ValueError, match=r"`coverage` is .*; it must be above 0 and at most 1"):
        dissect.calibrated_gap(torch.zeros(2, 2), torch.zeros(2, 2), coverage=coverage)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,))])
def test_scores_of_two_halves_have_one_shape(shapes):
    with pytest.raises(ValueError, match=r"must have one shape, \(units, concepts\), got \(\d,"):
        dissect.calibrated_gap(*map(torch.zeros, shapes))


def test_sets_cover_what_they_state_on_other_units():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(40):
        truth = rng.normal(size=(600, 60))
        a, b = (torch.as_tensor(truth + rng.normal(size=truth.shape)) for _ in range(2))
        gap = dissect.calibrated_gap(a[:300], b[:300])
        winner = label_sets.label(b[300:]).concept[:, None]
        covered.append((a[300:].amax(1) - a[300:].gather(1, winner)[:, 0] <= gap).double().mean().item())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.012)  # four standard errors of 40 runs


def test_a_concept_that_is_no_candidate_is_infinitely_far_below_and_in_no_set():
    nan, inf = math.nan, math.inf
    scores = torch.tensor([[5, nan], [5, -inf], [nan, nan]])
    assert label_sets.shortfall(scores, torch.tensor([1, 1, 0]))[:2].tolist() == [inf, inf]
    found = label_sets.sets(scores, inf, np.array([0, 1]))
    assert [each.tolist() for each in found] == [[0], [0], []]


def test_a_score_that_overflowed_chooses_no_concept():
    found = label_sets.label(torch.tensor([[1, math.inf], [1, 2]]))
    assert found.concept.tolist() == [-1, 1] and found.score.isnan().tolist() == [True, False]
