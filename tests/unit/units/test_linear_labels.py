"""Linear labels: against scikit-learn and scipy, on planted units, and what the table says of held-out images."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.optimize import nnls
from sklearn.linear_model import OrthogonalMatchingPursuit, Ridge
from unitlens.report import concept_findings
from unitlens.tables import linear_labels as table_of
from unitlens.units import linear_labels
from unitlens.units.dissect import normalized
from unitlens.units.permutation import group_rows, splits

DIMENSION, CONCEPTS = 24, 40


def rng_of(seed=0):
    return np.random.default_rng(seed)


def layer(source_images, crops=1, seed=0):
    """Image features whose crops are alike, and directions of concepts."""
    rng = rng_of(seed)
    texts = normalized(torch.as_tensor(rng.normal(size=(CONCEPTS, DIMENSION))), "texts").float()
    content = rng.normal(size=(source_images, DIMENSION)).repeat(crops, 0)
    content += 0.3 * rng.normal(size=content.shape)
    names = np.arange(source_images).repeat(crops).astype(str)
    return normalized(torch.as_tensor(content), "images").float(), texts - texts.mean(0), names


def scores_of(images, axes):
    """Standardized scores (images, concepts) as plain loops have them."""
    scores = (images.double() @ axes.double().T).numpy()
    return (scores - scores.mean(0)) / scores.std(0)


def scaled(activations):
    return ((activations - activations.mean(0)) / activations.std(0, correction=0)).numpy()


def planted(images, axes, names, concepts, weights, noise, units=200, seed=1):
    """Units that are the same sum of concepts, and noise that crops of a source image share."""
    rng = rng_of(seed)
    whims = rng.normal(size=(len(set(names)), units))[names.astype(int)]
    return torch.as_tensor(scores_of(images, axes)[:, concepts] @ np.array(weights)[:, None] + noise * whims).float()


# against others


def test_the_pursuit_is_that_of_scikit_learn_where_all_weights_are_positive():
    images, axes, _ = layer(300)
    weights = rng_of(2).random((CONCEPTS, 150)) * (rng_of(3).random((CONCEPTS, 150)) < 0.1)
    activations = torch.as_tensor(scores_of(images, axes) @ weights + rng_of(1).normal(size=(300, 150))).float()
    found = linear_labels.fit(activations, images, axes, None, rng_of())
    compared = 0
    for unit, target in enumerate(scaled(activations).T):
        paths = [
            OrthogonalMatchingPursuit(n_nonzero_coefs=n, fit_intercept=False).fit(scores_of(images, axes), target).coef_
            for n in (1, 2, 3)
        ]
        if all((path >= 0).all() for path in paths):
            compared += 1
            expected = np.flatnonzero(paths[2])
            assert sorted(found.concepts[unit].tolist()) == expected.tolist()
            order = found.concepts[unit].argsort()
            np.testing.assert_allclose(found.weights[unit][order], paths[2][expected], rtol=1e-4)
    assert compared > 50


def test_weights_are_those_of_non_negative_least_squares():
    images, axes, _ = layer(200, seed=3)
    axes = torch.cat([axes, axes[:10] + 0.3 * axes[10:20]])  # correlated, so that weights fall to 0
    concepts = torch.as_tensor(np.array([rng_of(unit).choice(len(axes), 3, replace=False) for unit in range(100)]))
    concepts[:20, 2] = -1
    targets = linear_labels.standardized(torch.as_tensor(rng_of(5).normal(size=(200, 100))).float())
    features = images - images.mean(0)
    covariance = (features.T @ features / 200).double()
    solved = linear_labels._non_negative(
        linear_labels._scaled(axes, covariance), covariance, (features.T @ targets / 200).double(), concepts
    )
    zeros = 0
    for unit in range(100):
        there = concepts[unit][concepts[unit] >= 0]
        expected, _ = nnls(scores_of(images, axes)[:, there], targets[:, unit].double().numpy())
        np.testing.assert_allclose(solved[unit, : len(there)], expected, atol=2e-5)
        zeros += (expected == 0).sum()
    assert zeros > 50 and not solved[:20, 2].any()


@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_the_ridge_is_that_of_scikit_learn(penalty):
    images, _, _ = layer(120)
    activations = torch.as_tensor(rng_of(2).normal(size=(120, 5))).float()
    vectors, variances, cross = linear_labels._principal_axes(activations, images)
    found = vectors @ linear_labels._shrunk(cross, variances, penalty)
    features = (images - images.mean(0)).numpy()
    alpha = penalty * np.linalg.eigvalsh(features.T @ features).mean()
    expected = Ridge(alpha=alpha, fit_intercept=False).fit(features.astype(float), scaled(activations))
    np.testing.assert_allclose(found.T, expected.coef_, rtol=1e-3, atol=1e-4)


def test_correlations_are_those_of_numpy_and_of_constants_there_are_none():
    a, b = (torch.as_tensor(rng_of(seed).normal(size=(50, 4))) for seed in (0, 1))
    expected = [np.corrcoef(a[:, unit], b[:, unit])[0, 1] for unit in range(4)]
    np.testing.assert_allclose(linear_labels.correlations(a, b), expected)
    a[:, 0], b[:, 1] = 3, 0
    assert linear_labels.correlations(a, b).isnan().tolist() == [True, True, False, False]


# planted units


@pytest.mark.parametrize(("crops", "noise"), [(1, 0.3), (1, 1.5), (4, 1.0)])
def test_units_of_one_concept_get_a_second_one_in_a_twentieth(crops, noise):
    images, axes, names = layer(240, crops)
    activations = planted(images, axes, names, [7], [1.0], noise, units=400)
    found = linear_labels.fit(activations, images, axes, group_rows(names), rng_of())
    right = found.concepts[:, 0] == 7
    assert right.double().mean() > 0.97
    more = (found.concepts[right, 1] >= 0).sum().item()
    low, high = stats.binom.ppf([0.0005, 0.9995], right.sum().item(), 0.05)
    assert low <= more <= high


def test_crops_that_count_as_source_images_would_give_units_of_one_concept_a_second():
    images, axes, names = layer(100, 6)
    activations = planted(images, axes, names, [7], [1.0], 1.0)
    wrong = group_rows([f"{name}-{row}" for row, name in enumerate(names)])
    counts = [
        (linear_labels.fit(activations, images, axes, each, rng_of()).concepts[:, 1] >= 0).sum().item()
        for each in (group_rows(names), wrong)
    ]
    assert counts[0] < 0.15 * 200 and counts[1] > 0.6 * 200


@pytest.mark.parametrize(("concepts", "weights"), [([3, 30], [0.8, 0.5]), ([5, 11, 20], [0.8, 0.6, 0.5])])
def test_sums_are_found_with_their_weights(concepts, weights):
    images, axes, names = layer(800)
    activations = planted(images, axes, names, concepts, weights, 0.5)
    found = linear_labels.fit(activations, images, axes, group_rows(names), rng_of())
    size = len(concepts)
    assert (found.concepts[:, :size] == torch.tensor(concepts)).all(1).double().mean() > 0.9
    deviation = activations.std(0).mean().item()
    np.testing.assert_allclose(found.weights[:, :size].median(0).values, np.array(weights) / deviation, atol=0.03)
    if size == 2:
        assert (found.concepts[:, 2] >= 0).sum() <= stats.binom.ppf(0.9995, 200, 0.05)


def test_held_out_correlations_are_those_of_other_images():
    images, axes, names = layer(300)
    mixed = planted(images, axes, names, [3, 30, 9], [0.6, 0.6, 0.6], 1.0, units=60)
    noise = torch.as_tensor(rng_of(4).normal(size=(300, 300))).float()
    activations = torch.cat([mixed, noise], 1)
    rows = splits(group_rows(names), 0)[:3]
    found = linear_labels.held_out(activations, images, axes, group_rows(names), rows, rng_of())
    single = linear_labels.correlations(mixed, (images @ axes[3])[:, None].expand(-1, 60)).mean()
    assert found.linear[:60].mean() > 1.3 * single
    assert found.linear[:60].mean() == pytest.approx(np.sqrt(mixed_share(mixed, images, axes)), abs=0.08)
    for scores in (found.linear[60:], found.ridge[60:]):  # chance, where what was fitted has .25 and more
        assert abs(scores.mean()) < 4 * scores.std() / np.sqrt(300)
    assert found.again[:60].mean() > 0.8 > 0.2 > found.again[60:].mean()


def mixed_share(activations, images, axes):
    """Share of the variance that the three concepts explain."""
    fitted = scores_of(images, axes)[:, [3, 30, 9]].sum(1)
    return np.mean([np.corrcoef(unit, fitted)[0, 1] ** 2 for unit in activations.T.numpy()])


def test_the_ridge_is_above_few_concepts_where_a_unit_has_many():
    images, axes, names = layer(600)
    activations = planted(images, axes, names, list(range(12)), rng_of(8).normal(size=12), 0.5, units=40)
    found = linear_labels.held_out(
        activations, images, axes, group_rows(names), splits(group_rows(names), 1)[:2], rng_of()
    )
    assert found.ridge.mean() > found.linear.mean() + 0.1


def test_a_sum_of_wrong_words_predicts_better_than_one_of_them_where_the_right_ones_are_not_listed():
    images, axes, names = layer(600)
    activations = planted(images, axes, names, [3, 30], [0.8, 0.6], 0.5, units=60)
    rest = axes[[concept for concept in range(CONCEPTS) if concept not in (3, 30)]]
    rows = splits(group_rows(names), 0)[:2]
    found = linear_labels.held_out(activations, images, rest, group_rows(names), rows, rng_of())
    every = linear_labels.correlations(activations[:, :1].expand(-1, len(rest)), images @ rest.T)
    assert found.linear.mean() > every.max() + 0.05


def test_three_words_predict_better_than_the_ridge_where_source_images_are_few():
    images, axes, names = layer(40)
    activations = planted(images, axes, names, [3], [1.0], 1.0, units=200)
    found = linear_labels.held_out(activations, images, axes, group_rows(names), splits(group_rows(names), 0), rng_of())
    assert found.linear.mean() > found.ridge.mean() + 0.03


# invariances and edges


def test_neither_scale_nor_order_matters():
    images, axes, names = layer(200)
    activations = planted(images, axes, names, [3, 30], [0.8, 0.5], 0.5, units=20)
    expected = linear_labels.fit(activations, images, axes, group_rows(names), rng_of())
    scaled = linear_labels.fit(1e4 * activations + 7, images, axes, group_rows(names), rng_of())
    assert torch.equal(expected.concepts, scaled.concepts)
    np.testing.assert_allclose(expected.weights, scaled.weights, atol=1e-4)
    order = torch.as_tensor(rng_of(9).permutation(CONCEPTS))
    shuffled = linear_labels.fit(activations, images, axes[order], group_rows(names), rng_of())
    there = expected.concepts >= 0
    assert torch.equal(expected.concepts[there], order[shuffled.concepts[there]])


def test_a_block_at_a_time_gives_the_same(monkeypatch):
    images, axes, names = layer(120)
    activations = planted(images, axes, names, [3, 30], [0.8, 0.5], 0.5, units=20)
    expected = linear_labels.fit(activations, images, axes, group_rows(names), rng_of())
    monkeypatch.setattr(linear_labels.exemplars, "BLOCK_ELEMENTS", 3 * CONCEPTS)
    assert torch.equal(linear_labels.fit(activations, images, axes, group_rows(names), rng_of()).concepts,
                       expected.concepts)  # fmt: skip


def test_silent_units_and_constant_concepts_take_no_part():
    images, axes, names = layer(60)
    activations = planted(images, axes, names, [3], [1.0], 0.2, units=4)
    activations[:, 1], activations[:, 2] = 0, 2.5
    axes = torch.cat([axes, torch.zeros(1, DIMENSION), axes[3:4]])  # one says nothing, one says what another does
    found = linear_labels.fit(activations, images, axes, group_rows(names), rng_of())
    assert found.concepts[[1, 2]].eq(-1).all() and not found.weights[[1, 2]].any()
    assert found.concepts[0, 0] == 3 and not (found.concepts == CONCEPTS).any()
    assert not (found.concepts == CONCEPTS + 1).any()
    opposite = linear_labels.fit(-activations[:, :1], images, axes[3:4], group_rows(names), rng_of())
    assert opposite.concepts.eq(-1).all(), "weights are positive"
    held_out = linear_labels.held_out(
        activations, images, axes, group_rows(names), splits(group_rows(names), 0)[:1], rng_of()
    )
    assert np.isnan(held_out.linear).tolist() == [False, True, True, False]


def test_halves_of_few_source_images_have_no_scores():
    images, axes, names = layer(19, 5)
    activations = planted(images, axes, names, [3], [1.0], 0.2, units=4)
    found = linear_labels.held_out(activations, images, axes, group_rows(names), splits(group_rows(names), 0), rng_of())
    assert np.isnan(found.linear).all() and np.isnan(found.ridge).all() and np.isnan(found.again).all()


# the table


def table_of_layer(source_images=300):
    images, axes, names = layer(source_images)
    activations = planted(images, axes, names, [0, 30], [0.8, 0.5], 0.5, units=12)
    activations[:, 0] = 0
    words = np.array([f"word{number}" for number in range(CONCEPTS)], dtype=object)
    labels = pd.DataFrame({"unit": range(12), "status": ["dead"] + ["selective"] * 11, "candidate": ["word0"] * 12})
    labels = labels.assign(encoder="CLIP", held_out_correlation=[np.nan] + [0.6] * 11, first_half="word0")
    labels["second_half"] = np.where(labels.unit % 2, "word0", "word5")
    arrays = (
        {"activations": activations.numpy()},
        {"features": 3 * images.numpy(), "source_image": names},
        {"features": (2 * (axes + 0.3)).numpy(), "word": words},
    )
    return table_of.linear_table(*arrays, labels, seed=0).assign(model="net", layer="a")


def test_a_table_has_sums_and_scores_of_images_that_were_not_fitted():
    table = table_of_layer()
    assert table.columns[:4].tolist() == ["unit", "status", "concept_1", "weight_1"]
    texts = table_of.sums(table)
    assert texts[0] == "" and table.loc[0, ["linear_correlation", "ridge_correlation", "again"]].isna().all()
    first = table.loc[1]
    assert texts[1] == f"{first.weight_1:.2f} {first.concept_1} + {first.weight_2:.2f} {first.concept_2}"
    assert (first.concept_1, first.concept_2, first.concept_3) == ("word0", "word30", "")
    assert set(table.repeats) == {10} and set(table.source_images) == {300}
    assert (table.linear_correlation[1:] > 0.6).all() and table.label_again[1:].tolist() == [1.0, 0.0] * 5 + [1.0]


def test_the_comparison_and_its_sentence():
    table = table_of_layer(120)
    (row,) = table_of.compare(table).to_dict("records")
    own = table[1:]
    assert row["concepts"] == np.mean([sum(text != "" for text in unit) for unit in own.filter(like="concept_").values])
    assert row["units"] == 11 and row["linear"] == pytest.approx(own.linear_correlation.mean())
    assert row["gain"] == pytest.approx(own.linear_correlation.mean() - 0.6)
    assert row["gain_low"] < row["gain"] < row["gain_high"]
    (line,) = concept_findings.linear_findings(table)
    assert f"with a correlation of {row['linear']:.2f} (95 % interval" in line
    assert "n = 11 units taken as independent, 10 splits of 120 source images" in line
    assert line.endswith(f" of single labels {100 * row['label_again']:.0f} %.")
    assert concept_findings.linear_findings(table.assign(linear_correlation=np.nan)) == []
    few = concept_findings.linear_findings(table[:4])[0]
    assert "interval" not in few and "the single label with 0.60; all features" in few
