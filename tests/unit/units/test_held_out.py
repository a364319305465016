"""Held-out scores: by hand, against scikit-learn, the sanity of each, and what chance is."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score
from unitlens.tables import resampling
from unitlens.units import held_out
from unitlens.units.permutation import group_rows, splits


def one(activations, scores):
    """Give the five scores of one unit, nothing subtracted."""
    values = [np.asarray(each, dtype=float)[:, None] for each in (activations, scores)]
    (found,) = held_out.compute(*values, np.arange(len(activations))[None])
    return dict(zip(held_out.SCORES, found[:, 0], strict=True))


# sanity


def recall(active, scores):
    return (active & scores).sum() / active.sum()


def precision(active, scores):
    return (active & scores).sum() / scores.sum()


def auprc_of_the_unit(active, scores):
    return one(scores, active)["auprc"]


def falls(score, frequency, change):
    """Tell whether a score falls, over seeds and by more than a thousandth of its range, when a label gets worse.

    `change` takes half of the concept's images away (missing labels) or adds as many others (extra labels).
    """
    size = 100_000
    active = np.arange(size) < frequency * size
    losses = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        if change == "missing":
            worse = active & (rng.random(size) < 0.5)
        else:
            worse = active.copy()
            worse[rng.choice(np.flatnonzero(~active), active.sum(), replace=False)] = True
        losses.append(score(active, active) - score(active, worse))
    return np.mean(losses) > 0.001 + 1e-9


@pytest.mark.parametrize("change", ["missing", "extra"])
@pytest.mark.parametrize("frequency", [0.499, 0.1, 0.01, 0.001, 0.0001])
@pytest.mark.parametrize("name", held_out.SCORES)
def test_each_score_falls_when_a_label_gets_worse(name, frequency, change):
    assert falls(lambda active, scores: one(active, scores)[name], frequency, change)


@pytest.mark.parametrize(
    ("score", "change", "frequency"),
    [(recall, "extra", 0.01), (precision, "missing", 0.01), (auprc_of_the_unit, "extra", 0.499)],
)
def test_scores_that_are_not_offered_do_not_fall(score, change, frequency):
    assert not falls(score, frequency, change)


# against others, and by hand


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_scores_are_those_of_scikit_learn_also_with_ties(digits):
    rng = np.random.default_rng(0)
    activations = rng.normal(size=500).round(max(1, digits))
    scores = (activations + rng.normal(size=500)).round(digits)
    active, present = (values >= np.sort(values)[-25] for values in (activations, scores))
    found = one(activations, scores)
    assert found["correlation"] == pytest.approx(np.corrcoef(activations, scores)[0, 1])
    cosine = activations @ scores / np.linalg.norm(activations) / np.linalg.norm(scores)
    assert found["cosine"] == pytest.approx(cosine)
    assert found["auprc"] == pytest.approx(average_precision_score(active, scores))
    assert found["f1"] == pytest.approx(f1_score(active, present))
    assert found["iou"] == pytest.approx(jaccard_score(active, present))


def test_what_is_active():
    assert held_out.most_active(np.arange(40.0)).nonzero()[0].tolist() == [38, 39]
    assert held_out.most_active(np.array([0.0] * 39 + [2.0])).sum() == 1
    assert held_out.most_active(np.zeros(40)).sum() == 0
    shown = np.arange(40) % 4 == 0
    assert (held_out.most_active(shown * 0.5) == shown).all(), "an annotation that a quarter of the images has"
    both = held_out.most_active(np.stack([np.arange(40.0), shown], axis=1))
    assert both.sum(0).tolist() == [2, 10]


def test_constants_have_no_score():
    assert all(np.isnan(value) for value in one(np.ones(20), np.arange(20)).values())
    assert all(np.isnan(value) for value in one(np.arange(20), np.ones(20)).values())
    beside = np.stack([np.ones(20), np.arange(20)], 1)
    (found,) = held_out.compute(beside, np.stack([np.arange(20)] * 2, 1), np.arange(20)[None])
    assert np.isnan(found).all(0).tolist() == [True, False] and not np.isnan(found[:, 1]).any()


# chance


def scored(activations, images, names, labels=None, seed=0):
    source_images = group_rows(names)
    halved = splits(source_images, seed)
    labels = np.zeros((len(halved), 2, activations.shape[1]), int) if labels is None else labels
    values = [torch.as_tensor(each) for each in (activations, images)]
    return held_out.score(*values, torch.eye(images.shape[1]).double(), source_images, halved, labels,
                          np.random.default_rng(1))  # fmt: skip


@pytest.mark.parametrize("size", [60, 400])
@pytest.mark.parametrize("crops", [1, 4])
def test_units_that_ignore_the_concept_score_nothing_beyond_chance(size, crops):
    rng = np.random.default_rng(size + crops)
    names = np.arange(size).repeat(crops).astype(str)
    images = rng.random((size, 1)).repeat(crops, 0) + 0.1 * rng.random((size * crops, 1))
    activations = np.exp(rng.normal(size=(size, 300))).repeat(crops, 0) + 0.1 * rng.random((size * crops, 300))
    found = scored(activations, images, names)
    for name, values in zip(held_out.SCORES, found.scores, strict=True):
        assert abs(values.mean()) < 0.01 + 4 * values.std() / np.sqrt(300), name
    raw = held_out.compute(activations, images.repeat(300, 1), np.arange(size * crops)[None])[0]
    assert raw[1].mean() > 0.5, "a cosine without its chance says nothing"
    assert (found.images == size * crops).all()


@pytest.mark.parametrize(("n", "chance"), [(100, 0.09), (500, 0.06), (20000, 0.05)])
def test_chance_of_the_precision_recall_curve_is_what_docs_say(n, chance):
    rng = np.random.default_rng(0)
    found = [one(np.arange(n), rng.random(n))["auprc"] for _ in range(max(20, 10**5 // n))]
    assert np.mean(found) == pytest.approx(chance, abs=0.005)


def test_a_planted_concept_scores_and_a_wrong_one_does_not():
    rng = np.random.default_rng(3)
    names = np.arange(300).astype(str)
    images = rng.random((300, 2))
    activations = images[:, :1] + 0.2 * rng.random((300, 4))
    labels = np.zeros((10, 2, 4), int)
    labels[:, :, 2:] = 1
    found = scored(activations, images, names, labels).scores
    assert (found[[0, 2, 3, 4], :2] > 0.3).all() and (np.abs(found[:, 2:]) < 0.2).all()


def test_a_unit_that_is_silent_on_one_half_is_scored_on_the_other():
    """The first unit has a label by one half alone, and the second is the same on all images of the other."""
    activations = np.array([[0.0, 1], [1, 0], [2, 0], [3, 7], [4, 7], [6, 7]])
    images = np.array([[0.0, 1], [1, 0], [0.6, 0.8], [1, 0], [0.8, 0.6], [0.6, 0.8]])
    halved = [[np.arange(3), np.arange(3, 6)]]
    labels = np.array([[[0, 1], [-1, 1]]])
    source_images = group_rows(list("abcdef"))
    values = [torch.as_tensor(each) for each in (activations, images)]
    found = held_out.score(*values, torch.eye(2).double(), source_images, halved, labels, np.random.default_rng(0))
    by_hand = [np.corrcoef([3, 4, 6], [1, 0.8, 0.6])[0, 1], np.corrcoef([1, 0, 0], [1, 0, 0.8])[0, 1]]
    np.testing.assert_allclose(found.scores[0], by_hand, atol=0.1)  # less the chance of many draws
    assert found.images.tolist() == [3, 3]


def test_halves_of_two_source_images_have_no_score():
    rng = np.random.default_rng(0)
    found = scored(rng.random((20, 3)), rng.random((20, 1)), np.arange(4).repeat(5).astype(str))
    assert np.isnan(found.scores).all() and not found.images.any()


# images that annotations show


@pytest.mark.parametrize("digits", [0, 6])
def test_auc_and_difference_are_those_of_scikit_learn_and_move_as_with_heavier_images(digits):
    rng = np.random.default_rng(0)
    shown = rng.random(80) < 0.3
    values = (shown + rng.normal(size=80)).round(digits)
    (auc, difference), influence = held_out._between(values, shown)
    assert auc == pytest.approx(roc_auc_score(shown, values))
    assert difference == pytest.approx((values[shown].mean() - values[~shown].mean()) / values[~shown].std())
    step = 1e-5
    for row in range(80):
        weights = 1 + step * (np.arange(80) == row)
        mine, others = (np.average(values[kind], weights=weights[kind]) for kind in (shown, ~shown))
        deviation = np.average((values[~shown] - others) ** 2, weights=weights[~shown]) ** 0.5
        by_weight = [
            roc_auc_score(shown, values, sample_weight=weights) - auc,
            (mine - others) / deviation - difference,
        ]
        np.testing.assert_allclose(influence[:, row], np.array(by_weight) / step, atol=1e-4)


def annotated(names, shown, activations, seed=0):
    source_images = group_rows(names)
    halved = splits(source_images, seed)
    labels = np.zeros((10, 2, activations.shape[1]), int)
    found = held_out.score_annotated(torch.as_tensor(activations), shown, source_images, halved, labels)
    low, high = resampling.student_intervals(*found.auc, found.source_images)
    return found, low, high


@pytest.mark.parametrize(("showing", "crops"), [(10, 1), (48, 3)])
def test_intervals_on_annotated_images_hold_the_truth(showing, crops):
    """Over planted units the interval of the AUC holds its true value, also where crops of a source image are alike."""
    rng = np.random.default_rng(1)
    truth = 0.7602  # of normal values whose means differ by a deviation
    shown = (np.arange(120) < showing).repeat(crops)
    values = shown[:, None] + rng.normal(size=(120, 400)).repeat(crops, 0)
    found, low, high = annotated(np.arange(120).repeat(crops).astype(str), np.stack([shown, ~shown], 1), values)
    assert np.nanmean(found.auc[0]) == pytest.approx(truth, abs=0.01) and (found.source_images == showing).all()
    assert 0.9 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
    if crops > 1:
        _, narrow, wide = annotated(np.arange(360).astype(str), np.stack([shown, ~shown], 1), values)
        assert ((high - low) > 1.4 * (wide - narrow)).mean() > 0.9


def test_there_is_no_interval_of_fewer_than_five_source_images_with_a_concept_or_without():
    activations = np.random.default_rng(0).random((40, 1))
    for count in (4, 5, 35, 36):
        shown = np.arange(40) < count
        found, low, high = annotated(np.arange(40).astype(str), np.stack([shown, ~shown], 1), activations)
        assert found.source_images.tolist() == [min(count, 40 - count)]
        assert np.isnan(low).all() == np.isnan(high).all() == (count in (4, 36)) and not np.isnan(found.auc).any()


def test_right_words_have_an_auc_that_is_a_fifth_above_that_of_wrong_ones():
    rng = np.random.default_rng(0)
    shown = np.eye(4, dtype=bool)[rng.integers(0, 4, 200)]
    activations = torch.as_tensor(shown[:, [0] * 20 + [1] * 20] + rng.normal(size=(200, 40)))
    source_images = group_rows(np.arange(200).astype(str))
    halved, labels = splits(source_images, 0), np.zeros((10, 2, 40), int)
    auc = held_out.score_annotated(activations, shown, source_images, halved, labels).auc[0]
    assert auc[:20].mean() - auc[20:].mean() >= 0.2 and auc[20:].mean() < 0.5, "one that shows another concept"


@pytest.mark.filterwarnings("error")
def test_images_without_annotations_and_concepts_that_all_show_take_no_part():
    rng = np.random.default_rng(0)
    activations = rng.random((40, 2))
    shown = np.zeros((40, 3), bool)
    shown[:20] = np.eye(3)[np.arange(20) % 2]
    found, *_ = annotated(np.arange(40).astype(str), shown, activations)
    activations[20:] = 100
    again, *_ = annotated(np.arange(40).astype(str), shown, activations)
    np.testing.assert_array_equal(found.auc, again.auc)
    shown[:20] = [1, 0, 0]
    assert np.isnan(annotated(np.arange(40).astype(str), shown, activations)[0].auc).all()
