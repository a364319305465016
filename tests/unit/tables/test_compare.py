"""Counts of learned concepts by hand, rarefaction against all subsets, intervals by their coverage."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from unitlens.report import concept_findings, pages
from unitlens.storage.tables import read_table, write_table
from unitlens.tables import comparison, diversity, unit_labels
from unitlens.units import dissect

TABLES = {
    "frequent": comparison.frequent,
    "layers": comparison.layers,
    "rarefaction": diversity.rarefaction,
    "categories": comparison.categories,
    "models": comparison.models,
    "category_differences": comparison.category_differences,
    "unique_concepts": comparison.unique_concepts,
    "trend": comparison.trend,
}
CATEGORY = {"dog": "object", "cat": "object", "sky": "scene", "red": "color"}


def units(model, layer, concepts, *, dead=0, encoder="clip", similarity="soft_wpmi"):
    """Labels as `labeling.label_table` tabulates them: a unit for each word, and some dead ones."""
    words = [*concepts.split(), *[""] * dead]
    return pd.DataFrame(
        {
            "model": model,
            "layer": layer,
            "unit": range(len(words)),
            "status": ["named" if word else "dead" for word in words],
            "candidate": words,
            "group": words,
            "category": [CATEGORY.get(word, "") for word in words],
            "encoder": encoder,
            "similarity": similarity,
            "top_k": 100,
            "concept_list": "4 words",
        }
    )


@pytest.fixture
def concepts():
    return pd.concat(
        [
            units("a", "layer3", "sky dog cat dog", dead=1),
            units("a", "layer4", "cat dog"),
            units("b", "conv9", "red red sky red", dead=2),
        ],
        ignore_index=True,
    )


@pytest.mark.parametrize("counts", [[1, 1, 1], [5], [4, 2, 1, 1], [3, 3, 0]])
def test_rarefaction_is_the_mean_over_all_subsets(counts):
    drawn_from = [concept for concept, count in enumerate(counts) for _ in range(count)]
    for size in range(len(drawn_from) + 1):
        distinct = [len(set(subset)) for subset in combinations(drawn_from, size)]
        assert diversity.rarefy(counts, size) == pytest.approx(np.mean(distinct), abs=1e-12)


def test_rarefaction_of_large_layers_stays_exact():
    assert diversity.rarefy([1] * 2048, 512) == pytest.approx(512, rel=1e-9)
    assert diversity.rarefy([2048], 512) == pytest.approx(1)
    assert diversity.rarefy([], 0) == 0
    with pytest.raises(ValueError, match="`size` is 4, but there are 3 units"):
        diversity.rarefy([2, 1], 4)


def test_frequent_concepts_by_hand(concepts):
    table = comparison.frequent(concepts)
    assert list(table.columns) == ["model", "layer", "concept", "category", "units", "others", "share"]
    assert list(table.itertuples(index=False, name=None)) == [
        ("a", "layer3", "dog", "object", 2, 0, 0.5),
        ("a", "layer3", "cat", "object", 1, 0, 0.25),  # of equal counts, by name
        ("a", "layer3", "sky", "scene", 1, 0, 0.25),
        ("a", "layer4", "cat", "object", 1, 0, 0.5),
        ("a", "layer4", "dog", "object", 1, 0, 0.5),
        ("a", "all", "dog", "object", 3, 0, 0.5),
        ("a", "all", "cat", "object", 2, 0, pytest.approx(1 / 3)),
        ("a", "all", "sky", "scene", 1, 0, pytest.approx(1 / 6)),
        ("b", "conv9", "red", "color", 3, 0, 0.75),
        ("b", "conv9", "sky", "scene", 1, 0, 0.25),
        ("b", "all", "red", "color", 3, 0, 0.75),
        ("b", "all", "sky", "scene", 1, 0, 0.25),
    ]


def test_tables_come_back_as_they_were_written(concepts, tmp_path):
    for make in (comparison.frequent, comparison.layers, comparison.models):
        write_table(make(concepts), tmp_path / "table.csv")
        pd.testing.assert_frame_equal(read_table(tmp_path / "table.csv"), make(concepts), check_dtype=False, rtol=1e-5)


def test_selective_units_stand_beside_named_ones(concepts):
    concepts.loc[concepts.candidate == "dog", "status"] = ["selective", "theme", "selective"]
    table = comparison.frequent(concepts)
    own = table[table.layer == "layer3"]
    assert own.concept.tolist() == ["cat", "sky", "dog"]
    assert (own.units.tolist(), own.others.tolist(), own.share.tolist()) == ([1, 1, 0], [0, 0, 2], [0.5, 0.5, 0])
    table = comparison.layers(concepts).set_index(["layer", "claim"])
    assert table.loc["layer3", ["units_counted", "distinct"]].to_numpy().tolist() == [[2, 2], [4, 3]]
    table = comparison.models(concepts).set_index("claim")
    assert table.distinct_a.to_dict() == {"named": 2, "selective": 3}
    assert set(comparison.categories(concepts).query("layer == 'layer3'").units) == {0, 1, 3}
    without = comparison.frequent(concepts.assign(status=concepts.status.replace("named", "theme")))
    assert without.share.isna().all() and without.others.tolist()[:3] == [2, 1, 1]


def test_the_order_of_the_units_does_not_matter(concepts):
    shuffled = pd.concat(
        [group.sample(frac=1, random_state=3) for _, group in concepts.groupby(["model", "layer"], sort=False)]
    )
    for name in TABLES:
        pd.testing.assert_frame_equal(TABLES[name](shuffled), TABLES[name](concepts))


def test_layers_by_hand(concepts):
    table, beside = (comparison.layers(concepts).query(f"claim == '{claim}'") for claim in ("named", "selective"))
    assert (table.drop(columns="claim").to_numpy() == beside.drop(columns="claim").to_numpy())[:, :8].all(), "all named"
    columns = [
        "model",
        "layer",
        "units",
        "dead",
        "units_counted",
        "distinct",
        "rarefied_units",
        "top_concept",
        "top_units",
    ]
    assert list(table[columns].itertuples(index=False, name=None)) == [
        ("a", "layer3", 5, 1, 4, 3, 2, "dog", 2),
        ("a", "layer4", 2, 0, 2, 2, 2, "cat", 1),
        ("b", "conv9", 6, 2, 4, 2, 2, "red", 3),
    ]
    # two of {dog, dog, cat, sky}: 1 of 6 pairs has one concept; two of {red, red, red, sky}: 3 of 6 pairs
    assert table.distinct_rarefied.tolist() == pytest.approx([11 / 6, 2, 3 / 2])
    assert table.gini.tolist() == pytest.approx([1 / 6, 0, 1 / 4])
    assert table.top10_share.tolist() == [1, 1, 1]
    assert table.filter(regex="_low|_high").isna().all(axis=None), "so few units give no interval"


def test_a_layer_without_labels_is_told_and_does_not_spoil_the_others(concepts):
    table = comparison.layers(pd.concat([concepts, units("b", "conv10", "", dead=3)], ignore_index=True))
    table = table[table.claim == "named"]
    assert table.distinct_rarefied.tolist() == pytest.approx([11 / 6, 2, 3 / 2, np.nan], nan_ok=True)
    last = table[["model", "layer", "units", "dead", "units_counted", "distinct", "top_concept", "top_units"]].iloc[-1]
    assert last.tolist() == ["b", "conv10", 3, 3, 0, 0, "", 0]


def test_only_selective_units_count(concepts):
    unsure = units("a", "layer3", "dog dog red").assign(status="not selective")
    with_unsure = pd.concat([concepts, unsure], ignore_index=True)
    assert comparison.layers(with_unsure).units.tolist() == [8, 8, 2, 2, 6, 6]
    for name in set(TABLES) - {"layers"}:
        pd.testing.assert_frame_equal(TABLES[name](with_unsure), TABLES[name](concepts))


def test_titles_say_what_a_label_may_claim():
    table = pd.DataFrame(
        {
            "status": ["named", "theme", "selective", "not selective", "dead"],
            "concept": ["dog", "", "", "", ""],
            "set_size": [1, 7, 30, 30, np.nan],
            "set": ["dog", "dog; wolf; fox", "dog; cat", "dog; cat", ""],
        }
    )
    titles = ["dog", "a theme: dog, wolf, fox (7 groups)", "selective, no name", "not selective", "dead"]
    assert unit_labels.titles(table).tolist() == titles
    assert unit_labels.titles(table.drop(columns=["set", "set_size"])[2:]).tolist() == titles[2:]


def test_near_duplicates_count_as_their_group(concepts):
    grouped = concepts.assign(group=concepts.candidate.replace({"cat": "animal", "dog": "animal"}))
    assert comparison.layers(grouped).distinct.tolist()[::2] == [2, 1, 2]
    top = comparison.frequent(grouped).iloc[0]
    assert (top.concept, top.category, top.units) == ("animal", "object", 3)


def test_rarefaction_curve_runs_from_one_unit_to_all(concepts):
    table = diversity.rarefaction(concepts)
    curve = table[(table.model == "a") & (table.layer == "layer3") & (table.claim == "named")]
    assert curve.units.tolist() == [1, 2, 3, 4]
    assert curve.distinct.tolist() == pytest.approx([1, 11 / 6, 2.5, 3])
    assert set(table.layer) == {"layer3", "layer4", "conv9", "all"}


@pytest.mark.parametrize("size", [60, 128, 256])
def test_intervals_of_counts_hold_the_expected_count(size):
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 401)
    samples = [counts[counts > 0] for counts in rng.multinomial(256, shares / shares.sum(), size=200)]
    rows = np.array([diversity.rarefy_with_interval(counts, size) for counts in samples])
    held = (rows[:, 1] <= rows[:, 0].mean()) & (rows[:, 0].mean() <= rows[:, 2])
    assert held.mean() > 0.93


@pytest.mark.parametrize("more", [1.0, 0.6])
def test_intervals_of_a_difference_of_counts_hold_it(more):
    """Of two networks of 80 and 160 units, from pools of concepts that are alike or not; a zero is seldom left out."""
    rng, size = np.random.default_rng(0), 80
    pools = [shares / shares.sum() for shares in (1 / np.arange(1, 201), 1 / np.arange(1, 201) ** more)]
    truth = np.subtract(*((1 - (1 - shares) ** size).sum() for shares in pools))
    rows = []
    for _ in range(300):
        names = (rng.choice(200, units, p=shares) for units, shares in zip((size, 160), pools, strict=True))
        words = (" ".join(f"w{number}" for number in own) for own in names)
        pair = pd.concat([units(model, "x", own) for model, own in zip("ab", words, strict=True)])
        rows.append(comparison.models(pair).loc[0, ["rarefied_units", "difference_low", "difference_high"]])
    sizes, low, high = np.array(rows, dtype=float).T
    assert (sizes == size).all() and abs(truth) == pytest.approx(0 if more == 1 else 15, abs=3)
    assert 0.93 - 2 * np.sqrt(0.05 * 0.95 / len(rows)) <= ((low <= truth) & (truth <= high)).mean()


def test_models_that_draw_from_one_pool_are_seldom_said_to_differ():
    """Of 100 pairs, by any category and by any concept that one of both has alone: more than 11 has a chance of 1 %."""
    rng, found = np.random.default_rng(1), np.zeros(2)
    words = np.array(["dog", "cat", "sky", "red", *(f"w{number}" for number in range(30))])
    shares = np.array([0.2, 0.1, 0.2, 0.2, *[0.01] * 30])
    for _ in range(100):
        drawn = [(model, " ".join(rng.choice(words, n, p=shares))) for model, n in (("a", 150), ("b", 100))]
        pair = pd.concat([units(model, "x", own) for model, own in drawn])
        tables = comparison.category_differences(pair), comparison.unique_concepts(pair)
        found += [(table.p_adjusted < 0.05).any() for table in tables]
    assert (found <= 11).all(), found


def test_so_few_units_miss_a_half_beside_a_quarter():
    """The power of Fisher's test, whatever it is adjusted for: of fewer units than the sentence says below a half."""
    few = pages._sentences("networks").FEW - 1
    counts = np.arange(few + 1)
    p = [[stats.fisher_exact([[a, few - a], [b, few - b]]).pvalue for b in counts] for a in counts]
    power = stats.binom.pmf(counts, few, 0.5) @ (np.array(p) < 0.05) @ stats.binom.pmf(counts, few, 0.25)
    assert 0.3 < power < 0.5


def test_intervals_of_concentration_hold_its_expectation():
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 401)
    rows = []
    for counts in rng.multinomial(256, shares / shares.sum(), size=100):
        words = " ".join(f"word{number}" for number in np.repeat(np.arange(400), counts))
        rows.append(comparison.layers(units("a", "x", words)).iloc[0])
    table = pd.DataFrame(rows)
    for name, low, high in [("gini", "gini_low", "gini_high"), ("top10_share", "top10_low", "top10_high")]:
        expected = table[name].mean()
        assert ((table[low] <= expected) & (expected <= table[high])).mean() > 0.9


def test_concentration_without_an_answer_of_the_jackknife_is_empty():
    words = " ".join(f"word{number} word{number}" for number in range(30))
    row = comparison.layers(units("a", "x", words)).iloc[0]
    assert row.top10_share == pytest.approx(20 / 60)
    assert np.isnan(row.top10_low)  # whichever unit is left out, the ten most frequent name as many


def test_intervals_need_fifty_units():
    for counts, known in (([30, 11, 9], True), ([30, 11, 8], False)):
        _, *interval = diversity.rarefy_with_interval(np.array(counts), 10)
        assert np.isfinite(interval).all() == known


def test_the_interval_of_a_count_by_hand():
    """Of two units drawn from 30 and 20, 1 + P(two concepts) = 1 + 2 * 30 * 20 / (50 * 49) are expected.

    Without one of the 30 these are 1 + 1160 / 2352, without one of the 20 1 + 1140 / 2352, on average 1 + 1152 / 2352.
    """
    half = 1.959964 * np.sqrt(49 / 50 * (30 * 8**2 + 20 * 12**2)) / 2352
    assert diversity.rarefied([30, 20], 2) == pytest.approx((1 + 1200 / 2450, half))


def test_category_shares_have_wilsons_interval(concepts):
    table = comparison.categories(concepts).set_index(["model", "layer", "category"]).sort_index()
    assert table.index.get_level_values("category").unique().tolist() == ["color", "object", "scene"]
    assert table.loc[("a", "all"), "units"].tolist() == [0, 5, 1]
    assert table.loc[("b", "conv9"), "share"].tolist() == [0.75, 0, 0.25]
    # Wilson (1927): (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)
    n, z = 6, 1.959963984540054
    for category, share in {"object": 5 / 6, "scene": 1 / 6, "color": 0.0}.items():
        middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        row = table.loc[("a", "all", category)]
        assert (row.low, row.high) == pytest.approx(
            ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)), abs=1e-12
        )


def test_two_models_by_hand(concepts):
    row, beside = comparison.models(concepts).to_dict("records")
    assert row | {"claim": "selective"} == pytest.approx(beside, nan_ok=True), "all are named"
    assert [row[name] for name in ("model_a", "model_b", "distinct_a", "distinct_b")] == ["a", "b", 3, 2]
    assert [row[name] for name in ("shared", "only_a", "only_b", "jaccard")] == [1, 2, 1, 0.25]
    # four of {dog x 3, cat x 2, sky}: not dog 0 of 15, not cat 1 of 15, not sky 5 of 15
    assert (row["rarefied_units"], row["rarefied_a"], row["rarefied_b"]) == (4, pytest.approx(3 - 6 / 15), 2)
    assert row["rarefied_difference"] == pytest.approx(0.6)
    assert np.isnan([row["difference_low"], row["difference_high"]]).all()  # too few units
    # color, object, scene: a 0 5 1, b 3 0 1; expected a 1.8 3 1.2, b 1.2 2 0.8
    chi_square = 1.8 + 4 / 3 + 0.04 / 1.2 + 1.8**2 / 1.2 + 2 + 0.04 / 0.8
    assert row["chi_square"] == pytest.approx(chi_square)
    assert row["p_value"] == pytest.approx(np.exp(-chi_square / 2))  # two degrees of freedom
    assert row["cramers_v"] == pytest.approx(np.sqrt(chi_square / 10))


def test_equal_models_share_everything():
    table = comparison.models(pd.concat([units("a", "x", "dog sky red"), units("b", "y", "dog sky red")]))
    row, _ = table.to_dict("records")
    assert (row["jaccard"], row["chi_square"], row["cramers_v"]) == (1, 0, 0)
    assert row["p_value"] == pytest.approx(stats.chi2.sf(0, 2))


def test_two_by_two_shares_are_compared_without_continuity_correction():
    table = comparison.models(pd.concat([units("a", "x", "dog dog dog sky"), units("b", "x", "dog sky sky sky")]))
    assert table.chi_square[0] == pytest.approx(4 * 1**2 / 2)  # every expected count is 2
    assert table.cramers_v[0] == pytest.approx(0.5)


def test_a_model_without_labels_has_no_test_and_no_share(concepts):
    table = comparison.models(pd.concat([concepts[concepts.model == "a"], units("c", "x", "", dead=2)]))
    row, _ = table.to_dict("records")
    assert (row["distinct_a"], row["distinct_b"], row["shared"], row["only_a"], row["rarefied_units"]) == (
        3,
        0,
        0,
        3,
        0,
    )
    assert np.isnan([row["chi_square"], row["p_value"], row["cramers_v"]]).all()


def test_every_pair_of_models_is_compared_once(concepts):
    table = comparison.models(pd.concat([concepts, units("c", "x", "cat")]))
    assert (
        list(zip(table.model_a, table.model_b, strict=True)) == [("a", "b")] * 2 + [("a", "c")] * 2 + [("b", "c")] * 2
    )


def test_one_model_alone_gives_an_empty_table_with_its_columns(concepts):
    table = comparison.models(concepts[concepts.model == "a"])
    assert len(table) == 0
    assert list(table.columns) == list(comparison.models(concepts).columns)


@pytest.mark.parametrize("column", ["encoder", "similarity", "concept_list"])
@pytest.mark.parametrize("name", TABLES)
def test_labels_of_different_origin_are_not_compared(concepts, column, name):
    concepts.loc[concepts.model == "b", column] = "other"
    kind = column.replace("_", " ")
    with pytest.raises(ValueError, match=f"labels of different {kind}s cannot be compared: .*, other"):
        TABLES[name](concepts)


def test_category_differences_by_hand():
    pair = pd.concat(
        [units("a", "x", " ".join(["dog"] * 56 + ["sky"] * 14)), units("b", "x", " ".join(["dog"] * 48 + ["sky"] * 32))]
    )
    table = comparison.category_differences(pair)
    assert list(zip(table.layer, table.category, strict=True)) == [
        ("x", "object"),
        ("x", "scene"),
        ("all", "object"),
        ("all", "scene"),
    ]
    row = table.iloc[0]
    assert (row.units_a, row.labeled_a, row.units_b, row.labeled_b) == (56, 70, 48, 80)
    # Newcombe (1998), table II, contrast a, method 10
    assert (row.difference, row.low, row.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert row.p_value == pytest.approx(stats.fisher_exact([[56, 14], [48, 32]]).pvalue)
    assert table.p_adjusted.tolist() == pytest.approx([row.p_value] * 4)  # four tests of the same p-value


def test_models_with_different_layers_are_compared_over_all_of_them(concepts):
    assert set(comparison.category_differences(concepts).layer) == {"all"}


def test_unique_concepts_by_hand(concepts):
    table = comparison.unique_concepts(concepts)
    rows = table.drop(columns=["p_value", "p_adjusted"]).itertuples(index=False, name=None)
    assert list(rows) == [
        ("a", "dog", "object", 3, 6, 4, 5),
        ("a", "cat", "object", 2, 6, 4, 5),
        ("b", "red", "color", 3, 4, 6, 5),
    ]
    # three of a's six units and none of b's four: C(6, 3) / C(10, 3), and as extreme: C(4, 3) / C(10, 3)
    assert table.p_value.tolist()[0] == pytest.approx((20 + 4) / 120)
    assert comparison.unique_concepts(concepts[concepts.model == "a"]).empty


def test_a_model_does_not_differ_from_itself(concepts):
    control = concepts[concepts.model == "a"]
    both = pd.concat([control, control.assign(model="control")])
    row, _ = comparison.models(both).to_dict("records")
    assert (row["shared"], row["jaccard"], row["rarefied_difference"], row["p_value"]) == (3, 1, 0, 1)
    differences = comparison.category_differences(both)
    assert set(differences.difference) == {0} and set(differences.p_adjusted) == {1}
    assert comparison.unique_concepts(both).empty


def test_trend_is_found_where_it_is_planted():
    share = {"l1": 2, "l2": 10, "l3": 18}
    rows = [units("a", layer, " ".join(["dog"] * n + ["sky"] * (20 - n) + ["red"] * 10)) for layer, n in share.items()]
    table = comparison.trend(pd.concat(rows)).set_index("category")
    row = table.loc["object"]
    assert (row["first"], row["last"], row.layers, row.labeled) == ("l1", "l3", 3, 90)
    assert row.slope == pytest.approx(8 / 30)
    assert 0.15 < row.low < row.slope < row.high < 0.35
    assert row.p_value == pytest.approx(1e-4)  # the least that 9,999 permutations can tell
    assert table.loc["color", "slope"] == pytest.approx(0) and table.loc["color", "p_value"] == 1


def test_trend_of_unequal_layers_is_the_slope_over_units():
    rows = [units("a", "l1", "dog sky"), units("a", "l2", "dog dog sky sky sky"), units("a", "l3", "dog")]
    table = comparison.trend(pd.concat(rows)).set_index("category")
    depth, dog = [0, 0, 1, 1, 1, 1, 1, 2], [1, 0, 1, 1, 0, 0, 0, 1]
    assert table.loc["object", "slope"] == pytest.approx(np.polyfit(depth, dog, 1)[0])


def test_trend_needs_two_layers(concepts):
    assert set(comparison.trend(concepts).model) == {"a"}


def test_permuted_trend_holds_its_level():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        words = rng.choice(["dog", "sky"], size=60)
        rows = [units("a", f"l{number}", " ".join(part)) for number, part in enumerate(np.split(words, [15, 35]))]
        p_values.append(comparison.trend(pd.concat(rows), n_resamples=999).p_value[0])
    assert 0.01 < np.mean(np.array(p_values) < 0.05) < 0.09


def test_intervals_of_slopes_hold_the_planted_one():
    rng, sizes, truth, held = np.random.default_rng(2), (30, 60, 45), 0.15, []
    for _ in range(300):
        rows = [
            units("a", f"l{number}", " ".join(np.where(rng.random(n) < 0.2 + truth * number, "dog", "sky")))
            for number, n in enumerate(sizes)
        ]
        row = comparison.trend(pd.concat(rows), n_resamples=1).set_index("category").loc["object"]
        held.append(row.low <= truth <= row.high)
    assert 0.93 - 2 * np.sqrt(0.05 * 0.95 / len(held)) <= np.mean(held)


def probe():
    """Twelve images of six source images; unit n answers to concept n, except unit 3, which is dead."""
    features = np.eye(6)[np.repeat(np.arange(6), 2)]
    activations = np.column_stack([features[:, :3], np.zeros(12)])
    return activations, features, np.eye(6)[:4], np.repeat([f"{name}.jpg" for name in "abcdef"], 2)


def relabel(activations=None, **options):
    own, images, texts, source_images = probe()
    options = {
        "similarity": "cos_similarity",
        "groups": list("wxyz"),
        "seed": 1,
        "source_images": source_images,
    } | options
    return diversity.relabel_subsets(own if activations is None else activations, images, texts, **options)


def test_relabeling_draws_source_images_whole_and_nested():
    table = relabel(fractions=(0.3, 0.5, 1), draws=4)
    assert table.groupby("fraction").size().tolist() == [4, 4, 1]
    assert table.source_images.tolist() == [2] * 4 + [3] * 4 + [6] and (table.images == 2 * table.source_images).all()
    units = table.pivot(index="draw", columns="fraction", values="units")
    assert (units[0.3] <= units[0.5]).all(), "the smaller part lies in the larger one"
    last = table.iloc[-1]
    assert (last.units, last.distinct, last.kept) == (3, 3, 1)
    found = table[table.units > 0]
    assert (found.kept == found.units / 3).all() and (found.distinct == found.units).all()
    pd.testing.assert_frame_equal(relabel(draws=2), relabel(draws=2))


def test_relabeling_takes_a_unit_that_is_not_finite_for_a_dead_one():
    activations, *_ = probe()
    activations[:, 0] = 0
    dead = relabel(activations)
    activations[3, 0] = np.nan
    assert dead.units.iloc[-1] == 2
    pd.testing.assert_frame_equal(relabel(activations), dead, check_exact=True)


def test_relabeling_on_sizes_that_are_smaller_than_the_probe_set():
    table = relabel(fractions=(0.5, 1), sizes=(4, 6, 1000), draws=2)
    assert table.source_images.tolist() == [3, 3, 4, 4, 6]
    assert table.fraction.tolist() == [0.5, 0.5, 4 / 6, 4 / 6, 1]


def test_parts_up_to_a_half_are_compared_with_another_part():
    noise = np.random.default_rng(0).normal(size=(12, 4))  # no unit is dead on any part
    table = relabel(noise, fractions=(1 / 3, 0.5, 2 / 3, 1), draws=2)
    assert table.source_images.tolist() == [2, 2, 3, 3, 4, 4, 6] and (table.units == 4).all()
    assert table.both.tolist() == [4] * 4 + [0] * 3, "more than a half leaves too few source images"
    assert table.again.notna().tolist() == [True] * 4 + [False] * 3


def test_parts_that_are_compared_share_no_source_image():
    """A unit that is active on one source image alone is dead on one of two parts that share none."""
    table = relabel(fractions=(1 / 3, 0.5), draws=8)
    assert table.both.eq(0).all() and table.units.gt(0).any()


def test_relabeling_counts_groups():
    assert relabel(groups=["w", "w", "y", "z"]).distinct.iloc[-1] == 2


def test_relabeling_says_where_there_are_too_few_images():
    table = relabel(similarity="wpmi")
    assert (table.units == 0).all() and table[["distinct", "kept"]].isna().all(axis=None)


def test_probe_sizes_give_means_and_extremes():
    one = relabel(fractions=(0.5, 1), draws=3)
    draws = pd.concat([one.assign(model="b", layer="x"), one.assign(model="a", layer="y")])
    draws["kept"], draws["again"] = np.arange(8) / 10, np.arange(8) ** 2 / 100
    table = diversity.probe_sizes(draws)
    assert table.model.tolist() == ["b", "b", "a", "a"], "the order of the run"
    assert table.draws.tolist() == [3, 1] * 2
    half = draws[:3]  # of b
    for name in ("distinct", "kept", "again"):
        found = table.iloc[0][[name, f"{name}_lowest", f"{name}_highest"]]
        assert found.tolist() == pytest.approx([half[name].mean(), half[name].min(), half[name].max()])


@pytest.mark.parametrize("similarity", dissect.SIMILARITIES)
def test_fewest_images_are_what_the_similarity_takes(similarity):
    fewest = dissect.FEWEST_IMAGES[similarity]
    rng = np.random.default_rng(0)
    score = dissect.SIMILARITIES[similarity]
    images = torch.eye(fewest, 3) if similarity == "auc" else torch.as_tensor(rng.random((fewest, 3)))
    texts = torch.eye(3) if similarity == "auc" else torch.as_tensor(rng.random((4, 3)))
    scores = score(torch.as_tensor(rng.random((fewest, 3))), images, texts)
    assert (dissect.label(scores).concept >= 0).all()
    if fewest > 2:
        with pytest.raises(ValueError, match="images"):
            score(*(torch.as_tensor(rng.random((rows, 3))) for rows in (fewest - 1, fewest - 1, 4)))


def tables(concepts):
    names = ("layers", "models", "category_differences", "unique_concepts", "trend")
    draws = relabel(fractions=(0.5, 1), draws=2).assign(model="a", layer="layer3")
    return [*(TABLES[name](concepts) for name in names), diversity.probe_sizes(draws)]


def test_findings_say_what_is_not_supported(concepts):
    text = " ".join(concept_findings.concept_findings(*tables(concepts)))
    assert "Among 4 named units of each, a names 3 and b 2 distinct concepts; without an interval" in text
    assert "No difference of category shares between a and b is supported at 6 and 4 selective units" in text
    assert "No rise or fall of a category's share is supported from layer3 to layer4 of a (2 layers, 6 sel" in text
    assert "2 concepts occur in a only, most often dog (3 of 6 selective units); for none of them" in text
    assert "layer3 2 on 3 and 3 on 6 source images (50 % of the units keep" in text
    assert "nan" not in text


def test_models_and_layers_stay_in_the_order_of_the_run(concepts):
    turned = concepts.replace({"model": {"a": "z"}, "layer": {"layer3": "stem", "layer4": "head"}})
    order = [("z", "stem"), ("z", "head"), ("z", "all"), ("b", "conv9"), ("b", "all")]
    for name in ("frequent", "rarefaction"):
        table = TABLES[name](turned)
        assert list(dict.fromkeys(zip(table.model, table.layer, strict=True))) == order
    table = comparison.categories(turned)
    assert list(dict.fromkeys(zip(table.model, table.layer, strict=True))) == [
        *order[:2],
        order[3],
        order[2],
        order[4],
    ]


@pytest.mark.parametrize("richer", ["a", "b"])
def test_findings_say_which_model_names_more(richer):
    words = {model: " ".join(f"w{number % 40}" for number in range(60)) for model in "ab"}
    words[{"a": "b", "b": "a"}[richer]] = " ".join(["dog"] * 57 + ["cat", "cat", "sky"])
    rows = pd.concat([units(model, "x", own) for model, own in words.items()])
    first, *_ = concept_findings.concept_findings(*tables(rows))
    assert first.endswith(f"): a difference is supported, {richer} names more.")


def test_findings_compare_the_smallest_part_of_the_probe_set_with_all_of_it(concepts):
    draws = relabel(fractions=(0.5, 0.75, 1), draws=2).assign(model="a", layer="layer3")
    text = concept_findings.concept_findings(*tables(concepts)[:-1], diversity.probe_sizes(draws))
    assert any("layer3 2 on 3 and 3 on 6 source images" in sentence for sentence in text)


def test_findings_give_differences_with_interval_and_p():
    sides = {"a": ["dog"] * 100 + ["sky"] * 20, "b": ["dog"] * 60 + ["sky"] * 60}
    rows = [units(model, "x", " ".join(words)) for model, words in sides.items()]
    text = " ".join(concept_findings.concept_findings(*tables(pd.concat(rows))))
    assert "object 83.3 % and 50 % (difference +33.3 points, 95 % interval +21.6 to +43.8; p < 0.001)" in text
