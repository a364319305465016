"""Which units are switched off for a class, on which half of its images, and what the tables say of the outcome."""

import numpy as np
import pandas as pd
import pytest
from unitlens.tables import interventions

FACTS = {"model": "net", "layer": "4"}
NO_NAMES = pd.DataFrame({"name": [""] * 8, "status": [""] * 8})


def columns(labels, **changes):
    """Accounts of images with these labels, each a source image of its own and explained as its label."""
    names = np.array([f"i{row}" for row in range(len(labels))], dtype=object)
    same = {"image_id": names, "source_image": names, "label": np.asarray(labels), "target": np.asarray(labels)}
    return same | {"warning": np.full(len(labels), "", dtype=object)} | changes


def halves(labels, *, images=20, seed=1, **changes):
    return interventions.halves(columns(labels, **changes), images=images, seed=seed)


def test_a_class_is_divided_in_halves_of_at_most_so_many_source_images():
    rows = halves([0] * 30 + [1] * 11 + [2] * 9 + [-1] * 40)
    sizes = rows.groupby(["class", "test"]).size().to_dict()
    assert sizes == {(0, False): 10, (0, True): 10, (1, False): 6, (1, True): 5}  # nine images are too few
    assert rows["row"].tolist() == [int(name[1:]) for name in rows["image_id"]]
    again, other = halves([0] * 30, seed=1), halves([0] * 30, seed=2)
    assert rows[rows["class"] == 0]["image_id"].tolist() == again["image_id"].tolist() != other["image_id"].tolist()


def test_crops_of_one_source_image_stand_in_one_half():
    sources = np.array([f"s{row // 3}" for row in range(30)], dtype=object)
    rows = halves([0] * 30, source_image=sources)
    assert rows.groupby("source_image")["test"].nunique().eq(1).all() and len(rows) == 30
    assert len(halves([0] * 30, source_image=np.array([f"s{row // 4}" for row in range(30)], dtype=object))) == 0


def test_units_are_chosen_on_accounts_of_the_class_and_tried_on_all_its_images():
    rows = halves([0] * 40, images=40, target=np.array([0, 1] * 20))
    chosen, tried = rows[~rows["test"]], rows[rows["test"]]
    assert len(tried) == 20 and 5 <= len(chosen) < 20 and set(chosen["row"] % 2) == {0}
    assert len(halves([0] * 20, target=np.full(20, 7))) == 0
    failed = np.full(20, "", dtype=object)
    failed[:11] = "the network returns NaN or infinity"
    assert len(halves([0] * 20, warning=failed)) == 0


def blocks(arrays, size):
    names = interventions.CHOSEN.values()
    return [
        {name: arrays[name][start : start + size] for name in names}
        for start in range(0, len(arrays["activity"]), size)
    ]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_means_of_classes_need_no_more_than_a_block_at_once(size):
    rng = np.random.default_rng(0)
    arrays = {name: rng.random((7, 4)).astype(np.float32) for name in interventions.CHOSEN.values()}
    rows = pd.DataFrame({"row": [6, 0, 2, 3], "class": [5, 5, 9, 9]})
    classes, means = interventions.class_means(blocks(arrays, size), rows, 7)
    assert classes.tolist() == [5, 9]
    for name, values in arrays.items():
        np.testing.assert_allclose(means[name], [values[[0, 6]].mean(0), values[[2, 3]].mean(0)], rtol=1e-6)


MEANS = {  # of two classes and eight units
    "contributions": np.array([[9, 8, 7, 6, 0, 0, 0, -9], [-1, 0, 0, 0, 1, 2, 3, 4]], dtype=float),
    "activity": np.array([[1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1]], dtype=float),
    "gradient": np.array([[0, 0, 0, 0, 5, 0, 1, 0], [1, 2, 3, 4, 5, 6, 7, 8]], dtype=float),
}


def plan(names=NO_NAMES, sizes=(2,), labels=(3,) * 10 + (8,) * 10, **changes):
    rows = halves(list(labels))
    classes = np.unique(rows["class"])
    means = {name: values[: len(classes)] for name, values in MEANS.items()} | changes
    return rows[rows["test"]], *interventions.plan(rows, classes, means, names, sizes=sizes, seed=1)


def units_of(sets, number, kind):
    chosen = (sets["class"] == number) & (sets["kind"] == kind)
    return [np.flatnonzero(units).tolist() for units in sets["units"][chosen]]


def test_units_of_the_largest_means_are_chosen_and_random_ones_beside_them():
    _, sets, _ = plan()
    assert units_of(sets, 3, "contribution") == [[0, 1]] and units_of(sets, 8, "contribution") == [[6, 7]]
    assert units_of(sets, 3, "activity") == [[6, 7]] and units_of(sets, 8, "activity") == [[0, 1]]
    assert units_of(sets, 3, "weight") == [[4, 6]]
    random = units_of(sets, 3, "random")
    assert len(random) == 5 and all(len(set(units)) == 2 and not {0, 1} & set(units) for units in random)
    assert sets["activity"][(sets["class"] == 3) & (sets["kind"] == "weight")].tolist() == [5 + 7]
    assert set(sets["k"]) == {2} and set(sets["name"]) == {""}


def test_random_units_are_as_active_as_those_chosen():
    rng = np.random.default_rng(0)
    activity, contributions = rng.permutation(400) ** 2.0, rng.random(400)
    means = {"contributions": contributions, "activity": activity, "gradient": contributions}
    _, sets, _ = plan(labels=[3] * 10, sizes=(20,), **{name: values[None] for name, values in means.items()})
    (chosen,) = sets["activity"][sets["kind"] == "contribution"]
    np.testing.assert_allclose(sets["activity"][sets["kind"] == "random"], chosen, rtol=0.1)


def test_more_than_half_of_the_units_are_never_switched_off():
    _, sets, _ = plan(sizes=(4, 5, 20))
    assert set(sets["k"]) == {4}
    _, sets, trials = plan(sizes=(5,))
    assert sets["units"].shape == (0, 8) and len(trials["set"]) == 0


def test_a_name_of_half_of_the_units_is_switched_off_and_one_of_more_is_not():
    for units, found in ((4, {"", "red"}), (5, {""})):
        own = np.arange(8) < units
        names = NO_NAMES.assign(name=np.where(own, "red", ""), status=np.where(own, "named", ""))
        assert set(plan(names)[1]["name"]) == found


def test_each_image_is_tried_without_the_units_of_its_class_and_of_one_other():
    test, sets, trials = plan(labels=[3] * 10 + [8] * 10, sizes=(1, 2))
    assert set(trials["image_id"]) == set(test["image_id"])
    table = pd.DataFrame(trials).assign(of=sets["class"][trials["set"]])
    assert (table.groupby("image_id")["of"].nunique() == 2).all()
    assert (table.groupby("image_id").size() == 2 * 2 * (3 + 5)).all()
    assert table.groupby("image_id")["class"].nunique().eq(1).all()
    _, sets, trials = plan(labels=[3] * 10)
    assert set(sets["class"]) == set(trials["class"]) == {3}  # there is no other class


def test_all_units_of_a_name_are_switched_off_where_they_contribute_most():
    names = NO_NAMES.assign(name=["red"] * 2 + ["blue"] * 2 + ["all"] * 4, status=["named"] * 4 + ["selective"] * 4)
    _, sets, trials = plan(names)
    red = sets["name"] == "red"
    assert units_of({name: each[red] for name, each in sets.items()}, -1, "name") == [[0, 1]]
    assert (sets["kind"][red] == "beside name").sum() == interventions.NAME_DRAWS and set(sets["name"]) == {
        "",
        "red",
        "blue",
    }
    tried = set(trials["class"][np.isin(trials["set"], np.flatnonzero(red))])
    assert tried == {3}  # to the other class red contributes -1
    lowering = NO_NAMES.assign(name=[""] * 7 + ["red"], status="named")
    _, sets, _ = plan(lowering, labels=[3] * 10)
    assert "red" not in sets["name"]


def outcomes(trials):
    """Outcomes of trials: set, class of the image, score, fall, and whether it is right before and after."""
    own = np.array(trials, dtype=float).reshape(-1, 6)
    arrays = {name: own[:, place].astype(int) for place, name in enumerate(("set", "class"))}
    names = np.array([f"i{row}" for row in range(len(own))], dtype=object)
    arrays |= {"image_id": names, "source_image": names, "score": own[:, 2], "score_off": own[:, 2] - own[:, 3]}
    right = {"predicted": own[:, 4], "predicted_off": own[:, 5]}
    arrays |= {name: np.where(values == 1, own[:, 1], -5).astype(int) for name, values in right.items()}
    sets = {
        "kind": np.array(["contribution", "random", "random", "contribution"], dtype=object),
        "k": np.array([2] * 4),
        "class": np.array([3, 3, 3, 8]),
        "name": np.array([""] * 4, dtype=object),
        "activity": np.array([5.0, 6, 8, 1]),
        "units": np.zeros((4, 8), bool),
    }
    return interventions.outcomes(sets, arrays, FACTS)


def test_hand_computed_falls_of_a_class_and_of_others():
    table = outcomes(
        [(0, 3, 10, 4, 1, 0), (0, 3, 20, 8, 1, 1), (0, 8, 5, 1, 0, 0), (1, 3, 10, 1, 1, 1), (2, 3, 10, 3, 1, 0)]
    )
    found = interventions.by_class(table).set_index(["class", "chosen", "of"])
    own = found.loc[(3, "contribution", "the class")]
    assert own[["n", "source_images", "score", "score_off", "fall"]].tolist() == [2, 2, 15, 9, 6]
    assert own[["accuracy", "accuracy_off", "activity"]].tolist() == [1, 0.5, 5]
    assert found.loc[(3, "contribution", "others"), "fall"] == 1
    assert found.loc[(3, "random", "the class"), ["fall", "accuracy_off", "activity"]].tolist() == [2, 0.5, 7]


def classes(falls, *, score=10.0):
    """Falls of classes by how units were chosen: of the class, and of others."""
    rows = [
        ["net", "4", number, chosen, 20, of, 5, 5, 1.0, score, score - value, value, 1.0, 1 - value / 10]
        for (chosen, of), values in falls.items()
        for number, value in enumerate(values)
    ]
    names = ["model", "layer", "class", "chosen", "k", "of", "n", "source_images", "activity"]
    return pd.DataFrame(rows, columns=[*names, "score", "score_off", "fall", "accuracy", "accuracy_off"])


def test_means_over_classes_have_students_interval_and_n():
    table = classes({("contribution", "the class"): [1, 2, 3, 4, 5]})
    found = interventions.summarize(table).set_index("measure")
    assert found.loc["fall", ["n", "undefined", "before", "mean"]].tolist() == [5, 0, 10, 3]
    half = 3.182446 * np.std([1, 2, 3, 4, 5], ddof=1) / 5**0.5  # t of 3 degrees of freedom
    assert found.loc["fall", ["low", "high"]].tolist() == pytest.approx([3 - half, 3 + half], rel=1e-5)
    assert found.loc["share", "mean"] == pytest.approx(0.3) and found.loc["accuracy", "mean"] == pytest.approx(0.3)
    few = interventions.summarize(table[:4]).set_index("measure")
    assert few.loc["fall", "n"] == 4 and np.isnan(few.loc["fall", "low"])
    below = interventions.summarize(classes({("contribution", "the class"): [1.0] * 5}, score=-2.0)).set_index(
        "measure"
    )
    assert below.loc["share", ["n", "undefined"]].tolist() == [0, 5] and np.isnan(below.loc["share", "mean"])


def test_contributions_are_tested_against_other_units_and_other_classes():
    rng = np.random.default_rng(0)
    falls = {("contribution", "the class"): 5 + rng.random(12), ("activity", "the class"): 5 + rng.random(12)}
    falls |= {("weight", "the class"): 9 + rng.random(12), ("random", "the class"): rng.random(12)}
    falls[("contribution", "others")] = rng.random(12)
    table = interventions.compare(classes(falls), seed=0)
    found = table[table["measure"] == "fall"].set_index("comparison")
    assert found.index.tolist() == ["activity", "weight", "random", "other classes"] and set(table["n"]) == {12}
    assert (
        found.loc["activity", "p_adjusted"]
        > 0.05
        > found.loc[["weight", "random", "other classes"], "p_adjusted"].max()
    )
    assert found.loc["weight", "difference"] < 0 < found.loc["random", "low"] < found.loc["random", "difference"]
    assert set(table["measure"]) == {"fall", "accuracy"} and (table["p_adjusted"] >= table["p_value"]).all()
    doubled = pd.concat([classes(falls), classes(falls).assign(layer="7")])
    both = interventions.compare(doubled, seed=0)
    pd.testing.assert_frame_equal(both, pd.concat([table, table.assign(layer="7")], ignore_index=True))
    alone = interventions.compare(classes({("contribution", "the class"): [1.0, 2.0]}), seed=0)
    assert set(alone["n"]) == {0} and alone["p_adjusted"].isna().all()


def of_names(falls):
    """Outcomes of names: the fall without its units, and without random sets, all on two images."""
    rows = [
        {"model": "net", "layer": "4", "name": name, "kind": "beside name" if draw else "name", "draw": draw, "k": 3}
        | {
            "image_id": f"i{image}",
            "source_image": f"i{image}",
            "own": image,
            "activity": 1.0,
            "score": 9.0,
            "fall": fall,
        }
        for name, own in falls.items()
        for draw, fall in enumerate(own)
        for image in range(2)
    ]
    return pd.DataFrame(rows)


def test_the_p_value_of_a_name_is_its_rank_among_random_units():
    found = interventions.by_name(of_names({"red": [5, *range(4), 5], "blue": [9, *[1] * 99]})).set_index("name")
    assert found.loc["red", ["p_value", "fall", "fall_random", "highest_random"]].tolist() == pytest.approx(
        [2 / 6, 5, 2.2, 5]
    )
    assert found.loc["blue", ["p_value", "p_adjusted"]].tolist() == pytest.approx([0.01, 0.02])
    assert found.loc["red", ["units", "classes", "n", "source_images"]].tolist() == [3, 2, 2, 2]


def test_names_of_units_that_are_like_any_others_are_found_at_the_stated_rate():
    rng, found = np.random.default_rng(0), 0
    for _ in range(100):
        falls = {f"name {number}": rng.standard_normal(100) for number in range(10)}
        found += (interventions.by_name(of_names(falls))["p_adjusted"] <= 0.05).any()
    assert found <= 11  # of 100 families at 0.05: more has a probability below 0.01


def test_nothing_to_switch_off_gives_tables_with_all_columns():
    table = outcomes([])
    full = outcomes([(0, 3, 10, 4, 1, 0)])
    for make in (interventions.by_class, interventions.by_name):
        assert list(make(table)) == list(make(full)) and len(make(table)) == 0
    none, some = interventions.by_class(table), interventions.by_class(full)
    assert list(interventions.summarize(none)) == list(interventions.summarize(some))
    assert list(interventions.compare(none, seed=0)) == list(interventions.compare(some, seed=0))


def test_all_is_chosen_from_files_of_accounts():
    labels = [3] * 10 + [8] * 10
    arrays = {name: values[[0] * 10 + [1] * 10] for name, values in MEANS.items()}
    names = pd.DataFrame({"model": "net", "layer": "4", "unit": [0, 1], "name": "red", "status": "named"})
    options = {"units": [1, 2], "images": 20, "seed": 1}
    sets, trials, about = interventions.choose(columns(labels), blocks(arrays, 7), FACTS, names, **options)
    assert about == FACTS | {"classes": 2, "most": 10} and set(sets["name"]) == {"", "red"}
    assert units_of(sets, 8, "contribution") == [[7], [6, 7]] and len(trials["set"]) > 0
    few, none, about = interventions.choose(columns([0] * 3), blocks(arrays, 7), FACTS, names, **options)
    assert about == FACTS | {"classes": 0, "most": 3} and len(few["kind"]) == len(none["set"]) == 0
    nothing = {name: np.zeros((3, 0)) for name in arrays}
    refused = columns([0] * 3, warning=np.full(3, "an account needs float32", dtype=object))
    *_, about = interventions.choose(refused, blocks(nothing, 7), FACTS, names, **options)
    assert about["most"] == 0
