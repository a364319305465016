"""Audits of classes: hand-computed shares, the test of dealt weights, verdicts, and names that do not exist."""

import itertools

import numpy as np
import pandas as pd
import pytest
from unitlens.images import textures
from unitlens.jobs import audit as jobs_audit
from unitlens.networks.network import class_names
from unitlens.tables import audit

FACTS = {"model": "net", "layer": "4"}
CALLED = ["cat", "dog", "owl"]


def names(*called, status="named"):
    table = pd.DataFrame({"model": "net", "layer": "4", "unit": range(len(called)), "name": called})
    return table.assign(status=[status if name else "unnamed" for name in called])


def account(contributions, *, activity=None, tokens=0.0, remainder=0.0):
    values = np.asarray(contributions, dtype=np.float32)
    others = {"tokens": np.full(len(values), tokens), "remainder": np.full(len(values), remainder)}
    return {"contributions": values, "activity": np.abs(values) if activity is None else np.asarray(activity)} | others


def audited(arrays, lists, called, *, number=0, source_images=None):
    n = len(arrays["contributions"])
    sources = np.array([f"s{row}" for row in range(n)] if source_images is None else source_images, dtype=object)
    groups = [(number, np.arange(n), arrays)] if n else []
    table = audit.tabulate(groups, {"source_image": sources}, FACTS, called, CALLED, lists, seed=0)
    return audit.with_verdicts(table)


def test_hand_computed_shares_add_up_to_one():
    arrays = account([[4, -2, 1, 1, 0]] * 6, tokens=-1, remainder=1)  # of 10 in all
    lists = {"cat": {"expected": ["fur", "ear"], "unexpected": ["grass"]}}
    table = audited(arrays, lists, names("fur", "grass", "ear", "", "sky"))
    found = table.set_index(["part", "concept"])
    assert found["mean"].to_dict() == pytest.approx(
        {
            ("expected", ""): 0.5,
            ("expected", "fur"): 0.4,
            ("expected", "ear"): 0.1,
            ("unexpected", ""): 0.2,
            ("unexpected", "grass"): 0.2,
            ("other names", ""): 0,
            ("no name", ""): 0.1,
            ("tokens", ""): 0.1,
            ("remainder", ""): 0.1,
        }
    )
    assert found.loc[("unexpected", "grass"), "contribution"] == -2 and found.loc[("expected", ""), "contribution"] == 5
    assert found.loc[("expected", ""), ["units", "share_units", "n", "source_images"]].tolist() == [2, 0.4, 6, 6]
    whole = table[(table["concept"] == "") | (table["part"] == "other names")]
    assert whole["mean"].sum() == pytest.approx(1)
    assert set(table["class"]) == {0} and set(table["class_name"]) == {"cat"}
    assert table.loc[~table["part"].isin(audit.LISTS), ["chance", "p_value"]].isna().all(axis=None)


def test_the_share_has_an_interval_over_source_images():
    arrays = account([[1, 3], [2, 2], [3, 1], [1, 3], [2, 2], [3, 1]])
    table = audited(arrays, {"cat": {"expected": ["fur"]}}, names("fur", ""))
    row = table.iloc[0]
    assert row["mean"] == pytest.approx(0.5) and row["low"] < 0.5 < row["high"]
    crops = audited(arrays, {"cat": {"expected": ["fur"]}}, names("fur", ""), source_images=list("aabbcc")).iloc[0]
    assert np.isnan(crops["low"]) and crops["n"] == 6 and crops["verdict"] == "too few source images"
    assert np.isnan(crops["p_value"]) and crops["chance"] > 0 and row["p_value"] > 0


def test_chance_and_p_value_are_those_of_all_ways_to_deal_the_weights():
    activity, weights = np.array([1.0, 2, 3, 4, 5]), np.array([7.0, 1, 2, 9, 3])
    share, chosen = (
        activity * weights / 100,
        np.array([[True, False, False, True, False], [False, True, True, False, False]]),
    )
    chance, p = audit._deal(share, activity / 100, chosen, np.random.default_rng(0))
    dealt = np.array([chosen @ (activity / 100 * order) for order in itertools.permutations(weights)])
    np.testing.assert_allclose(chance, dealt.mean(0), rtol=0.02)
    np.testing.assert_allclose(p, (dealt >= chosen @ share - 1e-12).mean(0), atol=0.015)


def test_silent_units_are_dealt_nothing():
    activity = np.array([1.0, 1, 0, 0])
    chosen = np.array([[True, False, True, False], [False, False, True, True]])
    chance, p = audit._deal(np.array([0.6, 0.4, 0, 0]), activity, chosen, np.random.default_rng(0))
    assert (
        chance[0] == pytest.approx(0.5, abs=0.01)
        and p[0] == pytest.approx(0.5, abs=0.02)
        and np.isnan([chance[1], p[1]]).all()
    )
    chance, p = audit._deal(np.array([0.6, 0]), np.array([1.0, 0]), np.eye(2, dtype=bool), np.random.default_rng(0))
    assert np.isnan(chance).all() and np.isnan(p).all()


def leaning(sign=1):
    """Forty units as active as each other, of which those called fur have thirty times the weight of the others."""
    rng = np.random.default_rng(0)
    activity = 1 + rng.random((8, 40))
    weights = np.where(np.arange(40) < 4, 30.0 * sign, rng.choice([-1.0, 1.0], 40))
    return account(activity * weights, activity=activity), names(*["fur"] * 4, *["sky"] * 4, *[""] * 32)


def test_verdicts_say_what_the_class_leans_on_and_what_is_not_shown():
    arrays, called = leaning()
    lists = {"cat": {"expected": ["fur", "tail"], "unexpected": ["sky"]}}
    verdicts = audited(arrays, lists, called).set_index(["part", "concept"])["verdict"]
    assert verdicts["expected"].to_dict() == {
        "": "leans on it",
        "fur": "leans on it",
        "tail": "no active unit has this name",
    }
    assert verdicts["unexpected"].to_dict() == {"": "not shown", "sky": "not shown"}
    assert verdicts["no name"].tolist() == [""]
    arrays, called = leaning(sign=-1)
    verdicts = audited(arrays, {"cat": {"unexpected": ["fur"]}}, called).set_index("concept")["verdict"]
    assert verdicts["fur"] == "counts it against the class"


def test_a_verdict_needs_an_adjusted_p_value_of_at_most_a_twentieth():
    row = {"part": "expected", "n": 6, "source_images": 6, "contribution": 1.0}
    for p_value, verdict in ((0.05, "leans on it"), (0.06, "not shown")):
        assert audit.with_verdicts(pd.DataFrame([row | {"p_value": p_value}]))["verdict"].tolist() == [verdict]


def test_classes_without_accounts_and_silent_accounts_are_told():
    nothing = account(np.zeros((0, 3)))
    table = audited(nothing, {"dog": {"expected": ["fur"]}}, names("fur", "", ""))
    assert set(table["verdict"]) == {"no account of the class", ""} and set(table["n"]) == {0}
    unlabeled = audit.tabulate([], {}, FACTS, names(), CALLED, {"dog": {"expected": ["fur"]}}, seed=0)
    assert set(unlabeled["units"]) == {0} and unlabeled["share_units"].isna().all(), "of a layer without labels"
    silent = audited(account(np.zeros((6, 3))), {"cat": {"expected": ["fur"]}}, names("fur", "", ""))
    assert set(silent["n"]) == {0} and silent["mean"].isna().all()
    several = audit.tabulate(
        [], {"source_image": np.zeros(0)}, FACTS, names("fur"), [*CALLED, "cat"], {"cat": {"expected": ["fur"]}}, seed=0
    )
    assert sorted(several["class"].unique()) == [0, 3]  # two classes of one name
    assert list(audit.tabulate([], {}, FACTS, names("fur"), CALLED, {"bat": {}}, seed=0)) == list(several)


def test_images_are_those_whose_account_is_of_an_audited_class():
    warning = np.array(["", "", "", "the network returns NaN or infinity"], dtype=object)
    columns = {"target": np.array([0, 1, 2, 0]), "warning": warning}
    assert audit.audited(columns, CALLED, {"cat": {}, "owl": {}}).tolist() == [0, -1, 2, -1]


def test_concepts_that_no_unit_can_be_called_by_are_refused():
    lists = {"cat": {"expected": ["fur"], "unexpected": ["gras"]}}
    audit.check_concepts(lists, ["fur", "gras"])
    with pytest.raises(
        ValueError, match=r"^audit.cat: 'gras' is no concept of this run; nearest: 'grass', 'sky', 'fur'$"
    ):
        audit.check_concepts(lists, ["fur", "sky", "grass"])


def test_words_and_classes_that_the_checks_of_the_config_know_are_those_of_the_library():
    assert list(jobs_audit.TEXTURE_WORDS) == [word for word, _ in textures.WORDS]
    for classes in ("imagenet", 4):
        assert jobs_audit.class_list(classes) == class_names(classes)


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, ["cat", "dog"]),
        ({"netdissect": {"masks": "textures"}}, ["cat", "dog", *jobs_audit.TEXTURE_WORDS]),
        ({"netdissect": {"masks": "masks.csv"}}, ["cat", "dog", "frame"]),
        ({"netdissect": {"boxes": "classes.txt"}}, ["cat", "dog", "one", "two"]),
        ({"netdissect": {"masks": "broden"}}, None),
        ({"concepts": {"list": "list.csv", "common_words": 10}}, None),
        ({"concepts": {"list": "missing.csv"}}, None),
        ({"dissect": {"method": "annotations", "annotations": {"labels": "folders"}}}, None),
        ({"dissect": {"method": "annotations", "annotations": {"labels": "classes.txt"}}}, ["one", "two"]),
    ],
)
def test_words_are_known_before_the_first_job_where_files_list_them(changes, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("word,category\ncat,animal\ndog,animal\n")
    (tmp_path / "masks.csv").write_text("value,word,category\n1,frame,part\n")
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    config = {"images": {}, "dissect": {"method": "encoder"}, "concepts": {"list": "list.csv"}} | changes
    assert jobs_audit.known_words(config) == known
