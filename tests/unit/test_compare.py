"""Counts of learned concepts by hand, rarefaction against all subsets."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from unitlens import compare

CATEGORY = {"dog": "object", "cat": "object", "sky": "scene", "red": "color"}


def units(model, layer, concepts, *, dead=0, encoder="clip", similarity="soft_wpmi"):
    """Labels as `dissect.label_table` tabulates them: a unit for each word, and some dead ones."""
    words = [*concepts.split(), *[""] * dead]
    return pd.DataFrame(
        {
            "model": model,
            "layer": layer,
            "unit": range(len(words)),
            "status": ["labelled" if word else "dead" for word in words],
            "concept": words,
            "category": [CATEGORY.get(word, "") for word in words],
            "encoder": encoder,
            "similarity": similarity,
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
        assert compare.rarefy(counts, size) == pytest.approx(np.mean(distinct), abs=1e-12)


def test_rarefaction_of_large_layers_stays_exact():
    assert compare.rarefy([1] * 2048, 512) == pytest.approx(512, rel=1e-9)
    assert compare.rarefy([2048], 512) == pytest.approx(1)
    assert compare.rarefy([], 0) == 0
    with pytest.raises(ValueError, match="`size` is 4, but there are 3 units"):
        compare.rarefy([2, 1], 4)


def test_frequent_concepts_by_hand(concepts):
    table = compare.frequent(concepts)
    assert list(table.columns) == ["model", "layer", "concept", "category", "units", "share"]
    assert list(table.itertuples(index=False, name=None)) == [
        ("a", "layer3", "dog", "object", 2, 0.5),
        ("a", "layer3", "cat", "object", 1, 0.25),  # of equal counts, by name
        ("a", "layer3", "sky", "scene", 1, 0.25),
        ("a", "layer4", "cat", "object", 1, 0.5),
        ("a", "layer4", "dog", "object", 1, 0.5),
        ("a", "all", "dog", "object", 3, 0.5),
        ("a", "all", "cat", "object", 2, pytest.approx(1 / 3)),
        ("a", "all", "sky", "scene", 1, pytest.approx(1 / 6)),
        ("b", "conv9", "red", "color", 3, 0.75),
        ("b", "conv9", "sky", "scene", 1, 0.25),
        ("b", "all", "red", "color", 3, 0.75),
        ("b", "all", "sky", "scene", 1, 0.25),
    ]


def test_the_order_of_the_units_does_not_matter(concepts):
    shuffled = pd.concat(
        [group.sample(frac=1, random_state=3) for _, group in concepts.groupby(["model", "layer"], sort=False)]
    )
    for name in ("frequent", "layers", "categories", "models"):
        pd.testing.assert_frame_equal(getattr(compare, name)(shuffled), getattr(compare, name)(concepts))


def test_layers_by_hand(concepts):
    table = compare.layers(concepts)
    rows = list(table.drop(columns="distinct_rarefied").itertuples(index=False, name=None))
    assert rows == [
        ("a", "layer3", 5, 1, 3, 2, "dog", 2),
        ("a", "layer4", 2, 0, 2, 2, "cat", 1),
        ("b", "conv9", 6, 2, 2, 2, "red", 3),
    ]
    # two of {dog, dog, cat, sky}: 1 of 6 pairs has one concept; two of {red, red, red, sky}: 3 of 6 pairs
    assert table.distinct_rarefied.tolist() == pytest.approx([11 / 6, 2, 3 / 2])


def test_a_layer_without_labels_is_told_and_does_not_spoil_the_others(concepts):
    table = compare.layers(pd.concat([concepts, units("b", "conv10", "", dead=3)], ignore_index=True))
    assert table.distinct_rarefied.tolist() == pytest.approx([11 / 6, 2, 3 / 2, np.nan], nan_ok=True)
    last = table.drop(columns="distinct_rarefied").iloc[-1]
    assert last.tolist() == ["b", "conv10", 3, 3, 0, 2, "", 0]


def test_category_shares_have_wilsons_interval(concepts):
    table = compare.categories(concepts).set_index(["model", "layer", "category"]).sort_index()
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
    (row,) = compare.models(concepts).to_dict("records")
    assert [row[name] for name in ("model_a", "model_b", "distinct_a", "distinct_b")] == ["a", "b", 3, 2]
    assert [row[name] for name in ("shared", "only_a", "only_b", "jaccard")] == [1, 2, 1, 0.25]
    # four of {dog x 3, cat x 2, sky}: not dog 0 of 15, not cat 1 of 15, not sky 5 of 15
    assert (row["rarefied_units"], row["rarefied_a"], row["rarefied_b"]) == (4, pytest.approx(3 - 6 / 15), 2)
    # color, object, scene: a 0 5 1, b 3 0 1; expected a 1.8 3 1.2, b 1.2 2 0.8
    chi_square = 1.8 + 4 / 3 + 0.04 / 1.2 + 1.8**2 / 1.2 + 2 + 0.04 / 0.8
    assert row["chi_square"] == pytest.approx(chi_square)
    assert row["p_value"] == pytest.approx(np.exp(-chi_square / 2))  # two degrees of freedom
    assert row["cramers_v"] == pytest.approx(np.sqrt(chi_square / 10))


def test_equal_models_share_everything():
    table = compare.models(pd.concat([units("a", "x", "dog sky red"), units("b", "y", "dog sky red")]))
    (row,) = table.to_dict("records")
    assert (row["jaccard"], row["chi_square"], row["cramers_v"]) == (1, 0, 0)
    assert row["p_value"] == pytest.approx(stats.chi2.sf(0, 2))


def test_two_by_two_shares_are_compared_without_continuity_correction():
    table = compare.models(pd.concat([units("a", "x", "dog dog dog sky"), units("b", "x", "dog sky sky sky")]))
    assert table.chi_square.item() == pytest.approx(4 * 1**2 / 2)  # every expected count is 2
    assert table.cramers_v.item() == pytest.approx(0.5)


def test_a_model_without_labels_has_no_test_and_no_share(concepts):
    table = compare.models(pd.concat([concepts[concepts.model == "a"], units("c", "x", "", dead=2)]))
    (row,) = table.to_dict("records")
    assert (row["distinct_a"], row["distinct_b"], row["shared"], row["only_a"], row["rarefied_units"]) == (
        3,
        0,
        0,
        3,
        0,
    )
    assert np.isnan([row["chi_square"], row["p_value"], row["cramers_v"]]).all()


def test_every_pair_of_models_is_compared_once(concepts):
    table = compare.models(pd.concat([concepts, units("c", "x", "cat")]))
    assert list(zip(table.model_a, table.model_b, strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_one_model_alone_gives_an_empty_table_with_its_columns(concepts):
    table = compare.models(concepts[concepts.model == "a"])
    assert len(table) == 0
    assert list(table.columns) == list(compare.models(concepts).columns)


@pytest.mark.parametrize("column", ["encoder", "similarity"])
def test_labels_of_different_origin_are_not_compared(concepts, column):
    concepts.loc[concepts.model == "b", column] = "other"
    with pytest.raises(ValueError, match=f"labels of different {column}s cannot be compared: .*, other"):
        compare.models(concepts)
