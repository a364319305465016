"""Intervals and tests, against closed forms and hand-computed answers."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from unitlens.measures import complexity
from unitlens.tables import resampling, summaries


def test_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    result = resampling.mean_with_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (result.n, result.n_groups, result.mean) == (400, 400, values.mean())
    assert (result.low, result.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def test_interval_of_a_mean_by_hand():
    # mean 3, standard deviation sqrt(2.5), t of 3 degrees of freedom 3.182446
    half = 3.182446 * math.sqrt(2.5 / 5)
    assert resampling.mean_with_interval([1, 2, 3, 4, 5]) == pytest.approx((5, 5, 3, 3 - half, 3 + half))
    # sums 3, 3, 4, 5, 6 of 2, 1, 1, 1, 1 values: mean 3.5, residuals -4, -.5, .5, 1.5, 2.5
    half = 3.182446 * math.sqrt(5 / 4 * 25) / 6
    result = resampling.mean_with_interval([1, 2, 3, 4, 5, 6], groups=[*"aabcde"])
    assert result == pytest.approx((6, 5, 3.5, 3.5 - half, 3.5 + half))


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize(
    ("draw", "mean"),
    [
        (lambda rng, n: rng.normal(size=n), 0),
        (lambda rng, n: rng.beta(2, 6, n), 0.25),
        (lambda rng, n: rng.beta(0.4, 0.6, n), 0.4),
    ],
    ids=["normal", "skewed", "U-shaped"],
)
def test_intervals_of_few_values_cover_the_mean_as_often_as_docs_say(draw, mean, n):
    rng, runs = np.random.default_rng(5), 2500
    intervals = [resampling.mean_with_interval(draw(rng, n)) for _ in range(runs)]
    covered = np.mean([one.low <= mean <= one.high for one in intervals])
    error = 2 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.93 - error <= covered <= 0.97 + error


@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_excess_over_mismatched_pairs_is_covered_and_tested(n):
    """Scores of maps a of image i and b of image j: what each has with any, noise, and 0.3 if i is j."""
    rng, runs, inside, rejected = np.random.default_rng(8), 600, 0, 0
    for _ in range(runs):
        null = rng.normal(size=(n, 1)) + rng.normal(size=n) + rng.normal(size=(n, n))
        result = resampling.matching(null + 0.3 * np.eye(n))
        inside += result.low <= 0.3 <= result.high
        rejected += resampling.matching_test(null, n_resamples=199).p_value <= 0.05
    error = 2 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.93 - error <= inside / runs <= 0.97 + error
    assert rejected / runs == pytest.approx(0.05, abs=0.002 + error)


@pytest.mark.parametrize("n", [5, 10, 20])
def test_intervals_of_many_items_cover_all_together(n):
    rng, runs, items = np.random.default_rng(10), 400, 40
    covered = 0
    for _ in range(runs):
        values = 0.6 * rng.normal(size=(n, 1)) + 0.8 * rng.normal(size=(n, items))
        low, high = resampling.simultaneous_intervals(values, n_resamples=399)
        covered += bool(((low <= 0) & (high >= 0)).all())
    error = 2 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.93 - error <= covered / runs <= 0.97 + error


def test_simultaneous_intervals_of_one_item_are_students_at_least():
    values = np.random.default_rng(11).normal(size=(12, 1))
    low, high = resampling.simultaneous_intervals(values)
    *_, alone_low, alone_high = resampling.mean_with_interval(values[:, 0])
    assert low[0] <= alone_low + 1e-12 and high[0] >= alone_high - 1e-12
    assert np.isnan(resampling.simultaneous_intervals(values[:4])).all()
    assert np.array(resampling.simultaneous_intervals(np.ones((6, 2)))).tolist() == [[1, 1], [1, 1]]
    constant = np.ones((6, 39))
    beside = np.array(resampling.simultaneous_intervals(np.hstack([values[:6], constant])))
    alone = np.array(resampling.simultaneous_intervals(values[:6]))
    np.testing.assert_allclose(beside[:, : values.shape[1]], alone)  # what is constant is no further item
    assert resampling.smallest_p(3) == 0.25 and resampling.smallest_p(40) == 2 / 10000


def test_an_item_of_large_values_leaves_the_others_as_they_are():
    sums = np.array([[1.0, 2, 3, 4, 6], [1e20, 2e20, 3e20, 4e20, 6e20]])
    both = np.array(resampling.means_with_intervals(sums, np.ones(5)))
    np.testing.assert_allclose(both[:, :1], resampling.means_with_intervals(sums[:1], np.ones(5)))
    assert both[1, 0] < both[0, 0] < both[2, 0]


def test_copies_of_an_item_widen_its_interval_below_ten_groups_only():
    """Copies vary together, which max-T sees; Bonferroni, below ten groups, counts them as 40 items."""
    values = np.random.default_rng(11).normal(size=(10, 1))
    alone, copied = (resampling.simultaneous_intervals(each) for each in (values, values.repeat(40, 1)))
    np.testing.assert_allclose(copied, np.repeat(alone, 40, 1))
    low, high = resampling.simultaneous_intervals(values[:9].repeat(40, 1))
    half = scipy.stats.t.ppf(1 - 0.05 / 40 / 2, 7) * values[:9].std(ddof=1) / 3
    np.testing.assert_allclose(high - low, 2 * half)


def test_signs_under_which_no_residual_is_left_to_vary_count_as_the_largest():
    """Of 64 flips of 1, -1, 1, -1, 1, -1 two make all equal: fewer than 5 %, so that the interval is Student's."""
    values = np.array([1.0, -1] * 3)
    low, high = resampling.simultaneous_intervals(values[:, None])
    assert (low.item(), high.item()) == pytest.approx(resampling.mean_with_interval(values)[3:])


def test_matching_by_hand():
    scores = np.array([[5.0, 1, 3], [2, 6, 1], [4, 1, 7]])
    result = resampling.matching(scores)
    assert result[:3] == (3, 2, 4) and np.isnan(result[3:5]).all(), "three images are too few for an interval"
    assert result.p_value == 1 / 6
    unknown = np.where([[0, 0, 1], [0, 0, 0], [0, 0, 0]], np.nan, scores)
    assert resampling.matching(unknown).chance == 9 / 5
    assert np.isnan(resampling.matching([[1.0]])[1:]).all() and resampling.matching(np.empty((0, 0))).n_groups == 0
    with pytest.raises(ValueError, match="scores of pairs"):
        resampling.matching([[np.nan, 1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match=r"a row for each of `groups`, got \(2, 2\) and 3"):
        resampling.matching(np.eye(2), groups=[1, 2, 3])


def test_crops_are_covered_as_their_source_images_are():
    rng, runs = np.random.default_rng(6), 2500
    groups = np.repeat(np.arange(10), rng.permutation([1, 1, 2, 2, 3, 3, 4, 4, 5, 5]))
    own = rng.normal(size=(runs, 10))[:, groups] + 0.3 * rng.normal(size=(runs, len(groups)))
    intervals = [resampling.mean_with_interval(values, groups=groups) for values in own]
    assert np.mean([one.low <= 0 <= one.high for one in intervals]) == pytest.approx(0.95, abs=0.03)


def test_groups_are_resampled_whole():
    source_images = np.random.default_rng(1).normal(size=100)
    crops, groups = source_images.repeat(9), np.arange(100).repeat(9)
    whole = resampling.mean_with_interval(source_images)[3:]
    assert resampling.mean_with_interval(crops, groups=groups)[3:] == pytest.approx(whole)
    *_, low, high = resampling.mean_with_interval(crops)
    assert (high - low) < 0.5 * (whole[1] - whole[0])


def test_group_names_and_row_order_do_not_matter():
    values, groups = np.arange(12.0), np.array([*"aabbbccddeee"])
    order = np.random.default_rng(2).permutation(12)
    shuffled = resampling.mean_with_interval(values[order], groups=groups[order])
    assert shuffled == pytest.approx(resampling.mean_with_interval(values, groups=groups))
    same = resampling.mean_with_interval([0.1] * 12, groups=groups)
    assert same.low == same.high == same.mean, "each sum goes with its own number"
    assert (shuffled.n, shuffled.n_groups, shuffled.mean) == (12, 5, 5.5)


def test_few_groups_have_no_interval():
    assert np.isnan(resampling.mean_with_interval([1.0, 2.0, 3.0, 4.0])[3:]).all()
    n, n_groups, mean, low, high = resampling.mean_with_interval([1.0, 2.0, 3.0, 4.0], groups=[0, 0, 1, 1])
    assert (n, n_groups, mean) == (4, 2, 2.5)
    assert np.isnan([low, high]).all()
    n, n_groups, mean, low, high = resampling.mean_with_interval([])
    assert (n, n_groups) == (0, 0)
    assert np.isnan([mean, low, high]).all()
    assert resampling.mean_with_interval([2.0] * 5)[3:] == (2.0, 2.0)


def test_sign_flips_are_exact_for_few_pairs():
    # four positive differences: of the 16 sign patterns only all-plus and all-minus are as extreme
    assert resampling.paired_permutation_test([2, 3, 4, 5], [1, 1, 1, 1]) == pytest.approx((2.5, 2 / 16))
    assert resampling.paired_permutation_test([1.0, 2.0], [2.0, 1.0]).p_value == 1.0
    assert resampling.paired_permutation_test([1.0], [0.0]).p_value == 1.0


def test_grouped_pairs_flip_together():
    a, b = np.ones(12), np.zeros(12)
    assert resampling.paired_permutation_test(a, b).p_value == pytest.approx(2 / 2**12)
    assert resampling.paired_permutation_test(a, b, groups=np.arange(4).repeat(3)).p_value == pytest.approx(2 / 2**4)


def test_random_sign_flips_find_a_difference_and_only_that():
    rng = np.random.default_rng(4)
    a = rng.normal(size=60)
    assert resampling.paired_permutation_test(a + 1, a + rng.normal(size=60) * 0.5).p_value < 0.001
    null = [
        resampling.paired_permutation_test(x, y, n_resamples=199).p_value for x, y in rng.normal(size=(1000, 2, 20))
    ]
    assert np.mean(np.array(null) <= 0.05) == pytest.approx(0.05, abs=0.02)  # three standard errors


def test_benjamini_hochberg_by_hand():
    # sorted p times 5 / rank: .05 .05 .05 .0625 .9, already monotone
    adjusted = resampling.benjamini_hochberg([0.02, np.nan, 0.01, 0.9, 0.05, 0.03])
    np.testing.assert_allclose(adjusted, [0.05, np.nan, 0.05, 0.9, 0.0625, 0.05])
    assert np.isnan(resampling.benjamini_hochberg([np.nan, np.nan])).all()
    assert resampling.benjamini_hochberg([]).shape == (0,)
    p = np.random.default_rng(3).beta(0.5, 2, size=200).round(2)  # with ties
    np.testing.assert_array_equal(resampling.benjamini_hochberg(p), scipy.stats.false_discovery_control(p))
    for wrong in (-0.01, 1.01):
        with pytest.raises(ValueError, match="allowed: 0 to 1"):
            resampling.benjamini_hochberg([0.5, wrong])


def test_rank_correlation_is_scipys_and_exact_for_few_pairs():
    x, y = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 4.0, 3.0, 5.0]
    result = resampling.rank_correlation(x, y)
    assert (result.n_groups, result.correlation) == (5, pytest.approx(0.8))
    perfect = resampling.rank_correlation(x, x)
    assert (perfect.correlation, perfect.low, perfect.high) == pytest.approx((1, 1, 1))
    assert perfect.p_value == pytest.approx(2 / math.factorial(5))  # one order of 120 is as high, doubled for two sides
    a, b = np.random.default_rng(6).normal(size=(2, 60))
    test = scipy.stats.spearmanr(a, a + b)
    result = resampling.rank_correlation(a, a + b)
    assert result.correlation == pytest.approx(test.statistic)
    assert result.low < test.statistic < result.high
    assert result.p_value < 0.001


def test_rank_correlation_of_noise_is_not_significant():
    draws = np.random.default_rng(7).normal(size=(500, 2, 10))
    p_values = [resampling.rank_correlation(x, y, n_resamples=2, n_permutations=199).p_value for x, y in draws]
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.04)  # three standard errors


@pytest.mark.parametrize("n", [10, 40])
def test_intervals_of_rank_correlations_hold_the_planted_one(n):
    """Of normal values with a correlation r Spearman's is 6 / pi asin(r / 2)."""
    rng, runs, truth = np.random.default_rng(12), 300, 6 / math.pi * math.asin(0.6 / 2)
    inside = 0
    for _ in range(runs):
        x = rng.normal(size=n)
        found = resampling.rank_correlation(x, 0.6 * x + 0.8 * rng.normal(size=n), n_resamples=399, n_permutations=2)
        inside += found.low <= truth <= found.high
    error = 2 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.93 - error <= inside / runs <= 0.97 + error


def test_rank_correlation_takes_groups_as_one():
    x, y, groups = [1.0, 3.0, 5.0, 7.0, 1.0, 4.0, 9.0], [2.0, 4.0, 1.0, 5.0, 0.0, 2.0, 9.0], [*"aabbcde"]
    assert resampling.rank_correlation(x, y, groups=groups) == resampling.rank_correlation(
        [2.0, 6.0, 1.0, 4.0, 9.0], [3.0, 3.0, 0.0, 2.0, 9.0]
    )


@pytest.mark.parametrize("y", [[1.0, 2.0, 3.0, 4.0], [1.0] * 5])
def test_rank_correlation_needs_five_groups_and_a_spread(y):
    assert all(math.isnan(number) for number in resampling.rank_correlation(range(len(y)), y)[1:])
    with pytest.raises(ValueError, match="must be paired"):
        resampling.rank_correlation([1.0, 2.0], [1.0, 2.0, 3.0])


def scores(values, names, images):
    table = pd.DataFrame({"model": "m", "value": values, "explainer": list(names), "image_id": list(images)})
    return table.assign(source_image=table["image_id"].str[0])


def test_mean_table_by_hand():
    table = scores([1.0, 3.0, math.nan, 5.0], "aaab", "pqrp")
    rows = summaries.mean_table(table, ["model", "explainer"])
    assert rows.columns.tolist() == [
        *("model", "explainer", "n", "source_images", "undefined", "mean", "low", "high"),
    ]
    assert rows.iloc[:, :6].values.tolist() == [["m", "a", 2, 2, 1, 2.0], ["m", "b", 1, 1, 0, 5.0]]
    assert rows[["low", "high"]].isna().all(axis=None)


def test_rows_keep_their_order_and_an_empty_key_is_one():
    table = pd.concat(
        [scores([1.0, 2.0], "zz", "pq").assign(cut=np.nan), scores([3.0, 5.0], "aa", "pq").assign(cut=0.2)]
    )
    rows = summaries.mean_table(table, ["explainer", "cut"], also={"image_id": "first"})
    assert rows[["explainer", "mean", "image_id"]].values.tolist() == [["z", 1.5, "p"], ["a", 4.0, "p"]]
    table = pd.concat([table.assign(pair="x"), table.assign(pair="y", value=0.0)])
    tests = summaries.paired_tests(table, ["explainer", "cut"], "pair")
    assert tests["explainer"].tolist() == ["z", "a"] and tests["cut"].isna().tolist() == [True, False]
    assert tests["difference"].tolist() == [1.5, 4.0]


def test_paired_tests_by_hand():
    values = [1.0, 2.0, 3.0, 0.0, 0.0, 0.0, math.nan, 9.0, 9.0]
    tests = summaries.paired_tests(scores(values, "aaabbbccc", "pqrpqrpqr"), ["model"], "explainer")
    assert tests[["explainer_a", "explainer_b", "n", "source_images"]].values.tolist() == [
        ["a", "b", 3, 3],
        ["a", "c", 2, 2],
        ["b", "c", 2, 2],
    ]
    assert tests["difference"].tolist() == [2.0, -6.5, -9.0]
    assert tests["p_value"].tolist() == [2 / 2**3, 2 / 2**2, 2 / 2**2]
    assert tests["p_adjusted"].tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert tests["low"].isna().all()
    (only,) = summaries.paired_tests(
        scores(values, "aaabbbccc", "pqrpqrpqr"), ["model"], "explainer", pairs=lambda _: [("c", "a")]
    ).to_dict("records")
    assert (only["difference"], only["p_adjusted"]) == (6.5, 0.5)


def test_crops_of_one_source_image_are_tested_together():
    table = scores([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0], "aaaabbbb", ["p1", "p2", "q1", "q2"] * 2)
    (row,) = summaries.paired_tests(table, ["model"], "explainer").to_dict("records")
    assert (row["n"], row["source_images"], row["p_value"]) == (4, 2, 0.5)


def test_items_without_a_common_image_stand_in_the_table_without_a_test():
    table = scores([1.0, 2.0, 3.0, 3.0], "aabc", "pqrp")
    tests = summaries.paired_tests(table, ["model"], "explainer").set_index(["explainer_a", "explainer_b"])
    assert tests["n"].tolist() == [0, 1, 0] and tests["source_images"].tolist() == [0, 1, 0]
    results = ["difference", "low", "high", "p_value", "p_adjusted"]
    assert tests.loc[[("a", "b"), ("b", "c")], results].isna().all(axis=None)
    assert tests.loc[("a", "c"), ["difference", "p_value", "p_adjusted"]].tolist() == [-2, 1, 1]


def test_no_rows_give_no_tests():
    empty = scores([1.0], "a", "p")[:0]
    assert len(summaries.paired_tests(empty, ["model"], "explainer")) == 0
    assert "p_adjusted" in summaries.paired_tests(empty, ["model"], "explainer")


def test_gini_by_hand():
    assert complexity.gini_coefficient([3, 3, 3]) == 0
    assert complexity.gini_coefficient([0, 0, 0, 8]) == pytest.approx(3 / 4)
    assert complexity.gini_coefficient([3, 1]) == pytest.approx(
        1 / 4
    )  # mean |difference| over all pairs, 1, by twice the mean, 4
    assert np.isnan(complexity.gini_coefficient([0, 0]))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="nan at 1"):
        resampling.mean_with_interval([1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match=r"`groups` has shape \(2,\)"):
        resampling.mean_with_interval([1.0, 2.0, 3.0], groups=[0, 1])
    with pytest.raises(ValueError, match="one-dimensional"):
        resampling.mean_with_interval(np.ones((3, 2)))
    with pytest.raises(ValueError, match="`a` and `b` must be paired"):
        resampling.paired_permutation_test([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="not empty"):
        resampling.paired_permutation_test([], [])
    for wrong in (np.ones(3), np.ones((2, 3)), np.empty((0, 0)), [[1.0, np.nan], [0.0, 1.0]]):
        with pytest.raises(ValueError, match="must be square, not empty and finite, got shape"):
            resampling.matching_test(wrong)
    with pytest.raises(ValueError, match="must not be negative"):
        complexity.gini_coefficient([1, -1])
    with pytest.raises(ValueError, match="allowed: 0 to 1"):
        resampling.benjamini_hochberg([0.5, 1.5])
