"""Tables of classes: units of one name summed, means with intervals, halves, what is shown, images that lean."""

import numpy as np
import pandas as pd
import pytest
from unitlens.report import class_pages
from unitlens.storage.arrays import write_arrays
from unitlens.storage.shards import concatenate, read_groups
from unitlens.storage.tables import read_table, write_table
from unitlens.tables import classes
from unitlens.tables.accounts import names_of_layer
from unitlens.tables.resampling import mean_with_interval

FACTS = {"model": "net", "layer": "4"}
CALLED = ["cat", "dog", "owl"]


def unit_names(named, units):
    """What units of the layer are called: `named` has the name of some."""
    rows = [{**FACTS, "unit": unit, "name": named.get(unit, "")} for unit in range(units)]
    return pd.DataFrame(rows).assign(status=["named" if row["name"] else "selective" for row in rows])


def accounts(contributions, target, *, source_images=None, remainder=0.5):
    """Arrays of a file of accounts (n, units); rows of NaN have none."""
    values = np.asarray(contributions, dtype=np.float32)
    rest = np.where(np.isnan(values).any(1), np.nan, remainder) if values.shape[1] else np.full(len(values), np.nan)
    ids = np.array([f"i{row:03d}" for row in range(len(values))], dtype=object)
    return {
        "contributions": values,
        "tokens": rest * 0,
        "remainder": rest,
        "score": values.astype(np.float64).sum(1) + rest,
        "target": np.broadcast_to(target, len(values)),
        "image_id": ids,
        "source_image": ids if source_images is None else np.asarray(source_images, dtype=object),
    }


def summarize(folder, arrays, named=None, *, sizes=(1000,), facts=FACTS, called=CALLED, **options):
    """Write accounts in shards of such sizes, and tabulate their classes."""
    paths, start = [], 0
    for size in sizes:
        paths.append(folder / f"{len(paths):05d}.h5")
        write_arrays(paths[-1], {name: values[start : start + size] for name, values in arrays.items()}, facts)
        start += size
    columns, facts = concatenate(paths, names=classes.COLUMNS)
    names = unit_names(named or {}, arrays["contributions"].shape[1])
    groups = read_groups(paths, classes.ARRAYS, classes.grouped(columns), **options)
    return classes.summarize(groups, columns, facts, names, called)


def test_units_of_one_name_are_one_item_and_a_unit_without_a_name_stays_itself():
    names = names_of_layer(unit_names({0: "red", 3: "red", 2: "dog"}, 5), FACTS, 5)
    items = classes.items_of_units(names)
    assert items.table[["name", "units", "status"]].values.tolist() == [
        ["red", 2, "named"],
        ["", 1, "selective"],
        ["dog", 1, "named"],
        ["", 1, "selective"],
    ]
    assert items.table["unit"].tolist()[1:] == [1, 2, 4] and np.isnan(items.table["unit"][0])
    values = classes.contributions_of_items(np.float32([[1, 10, 100, 1000, 1e4], [-1, 0, 0, 1e6, 0]]), items)
    assert values.tolist() == [[1001, 10, 100, 1e4], [1e6 - 1, 0, 0, 0]]


def test_a_name_is_no_claim_of_a_unit_that_is_not_named():
    names = names_of_layer(unit_names({0: "red", 1: "red"}, 2).assign(status=["named", "theme"]), FACTS, 2)
    items = classes.items_of_units(names)
    assert items.table[["name", "units"]].values.tolist() == [["red", 1], ["", 1]]


def test_means_have_the_intervals_of_source_images():
    rng = np.random.default_rng(0)
    values, source_images = rng.normal(size=(30, 3)), [f"s{row // 3}" for row in range(30)]
    values[:, 1], values[:, 2] = 0, 2.5
    table = classes.mean_contributions(values, source_images)
    for item in range(3):
        own = mean_with_interval(values[:, item], groups=source_images)
        assert table.loc[item, ["mean", "low", "high"]].tolist() == pytest.approx(own[2:])
    assert np.isnan(table["p_value"][1]) and table["part"].tolist()[1:] == ["", "for"]
    few = classes.mean_contributions(values[:12], source_images[:12])
    assert few[["low", "high", "p_value"]].isna().all(axis=None) and set(few["part"]) == {""}


def test_an_item_speaks_for_a_class_where_its_interval_is_above_0():
    values = np.array([[-2.0], [-1], [0], [1], [2]])  # the interval of whose mean reaches 2.25 to both sides
    for mean, part in ((2.3, "for"), (2.2, ""), (-2.2, ""), (-2.3, "against")):
        (row,) = classes.mean_contributions(values + mean, list("abcde")).to_dict("records")
        assert row["part"] == part and (row["low"] * row["high"] > 0) == bool(part)


def test_halves_agree_where_images_do_and_not_where_they_are_noise():
    rng = np.random.default_rng(1)
    page = rng.normal(size=400)
    ids = [f"s{row}" for row in range(12)]
    noise = rng.normal(size=(12, 400))
    alike, rank = classes.halves_agree(page + 0.1 * noise, ids)
    assert alike > 0.99 and rank > 0.99
    assert abs(classes.halves_agree(noise, ids)[0]) < 0.2
    outlier = noise.copy()
    outlier[:, 0] = 1e6
    pearson, rank = classes.halves_agree(outlier, ids)
    assert pearson > 0.999 and abs(rank) < 0.2  # one unit makes the first, all make the second
    assert np.isnan(classes.halves_agree(np.ones((12, 3)), ids)).all()
    assert np.isnan(classes.halves_agree(noise, ["one"] * 12)).all()


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(6)
    values, ids = rng.normal(size=(12, 50)), [f"s{row // 2}" for row in range(12)]
    names = names_of_layer(unit_names({0: "red", 49: "red"}, 50), FACTS, 50)

    def all_of():
        sums = classes.contributions_of_items(values, classes.items_of_units(names))
        return sums, classes.mean_contributions(sums, ids).drop(columns="part"), classes.halves_agree(sums, ids)

    whole = all_of()
    monkeypatch.setattr(classes, "_AT_ONCE", 30)
    for one, other in zip(whole, all_of(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_a_class_has_a_page_from_ten_images_with_an_account(tmp_path):
    values = np.ones((40, 3)) * [2, -1, 0] + np.random.default_rng(0).normal(size=(40, 3)) * [0.1, 0.1, 0]
    target = np.repeat([0, 1, 2, -1], [10, 9, 11, 10])
    values[[19, 20]] = np.nan  # two images of the third class have no account
    tables = summarize(tmp_path, accounts(values, target))
    told = tables.classes.set_index("class_name")
    assert told["images"].to_dict() == {"cat": 10, "dog": 9, "owl": 11}
    assert told["accounts"].to_dict() == {"cat": 10, "dog": 9, "owl": 9}
    assert told["source_images"].notna().tolist() == [True, False, False]
    assert set(tables.contributions["class_name"]) == set(tables.leaning["class_name"]) == {"cat"}
    assert told.loc["cat", ["items", "items_for", "items_against"]].tolist() == [3, 1, 1]
    assert tables.units["class"].tolist() == [0] and tables.units["mean"].shape == (1, 3)
    assert np.isnan(told["other_classes"]).all()  # there is none


def test_rows_of_a_class_add_up_to_its_mean_score(tmp_path):
    rng = np.random.default_rng(2)
    values = rng.exponential(size=(60, 50)) * rng.normal(size=50)
    tables = summarize(tmp_path, accounts(values, np.arange(60) % 3), {0: "red", 1: "red", 7: "dog"})
    for number, own in tables.contributions.groupby("class"):
        score = tables.classes.set_index("class")["score"][number]
        assert own["mean"].sum() == pytest.approx(score)
        assert own["units"].sum() == 50 and own["part"].tolist()[-4:] == list(classes.SUMS)
    shown = tables.contributions[tables.contributions["part"].isin(classes.SIDES)]
    assert (np.sign(shown["mean"]) == np.where(shown["part"] == "for", 1, -1)).all()
    assert (shown["p_adjusted"] <= classes.SIGNIFICANT).all()
    assert {"red", "dog"} <= set(shown["name"])  # named ones by themselves
    for _, own in shown.groupby(["class", "part"]):
        assert own["rank"].iloc[0] == 1 and own["rank"].is_monotonic_increasing
        assert own["mean"].abs().is_monotonic_decreasing
    assert shown[shown["name"] == ""].groupby(["class", "part"]).size().max() == classes.MOST_ITEMS


def test_images_lean_most_on_an_item_in_their_order(tmp_path):
    values = np.zeros((12, 2))
    values[:, 0], values[:, 1] = np.arange(12, 0, -1), -np.arange(12)
    tables = summarize(tmp_path, accounts(values, 0), {0: "red"})
    for part, ids in (("for", range(10)), ("against", range(11, 1, -1))):
        own = tables.leaning[tables.leaning["part"] == part]
        assert own["image_id"].tolist() == [f"i{row:03d}" for row in ids]
        assert own["place"].tolist() == list(range(1, 11))
    values[:, 1] = np.where(np.arange(12) < 7, -1, 0)
    tables = summarize(tmp_path, accounts(values, 0))
    assert len(tables.leaning[tables.leaning["part"] == "against"]) == 7  # those that lean on it at all


def test_what_noise_contributes_speaks_for_nothing(tmp_path):
    values = np.random.default_rng(3).normal(size=(40, 200))
    tables = summarize(tmp_path, accounts(values, 1))
    assert tables.classes["items_for"].sum() + tables.classes["items_against"].sum() <= 2
    assert tables.classes["halves"].abs().max() < 0.3


def test_pages_are_compared_with_those_of_other_classes(tmp_path):
    pages = np.array([[1, 2, 3.0], [2, 4, 6], [3, 2, 1]])
    target = np.repeat([0, 1, 2], 10)
    tables = summarize(tmp_path, accounts(pages[target], target))
    assert tables.classes["other_classes"].tolist() == pytest.approx([0, 0, -1])
    first = tables.contributions[(tables.contributions["class"] == 0) & (tables.contributions["unit"] == 0)]
    assert first["other_classes"].tolist() == pytest.approx([2.5])


def test_pages_of_classes_that_are_alike_are_seldom_called_their_own(tmp_path):
    """Eight classes of one page and noise; half as many images make the halves of a class differ more than classes."""
    rng, target, page = np.random.default_rng(7), np.repeat(np.arange(8), 10), np.random.default_rng(8).normal(size=30)
    verdicts = []
    for own in [0] * 30 + [1] * 3:
        pages = page + own * rng.normal(size=(8, 30))
        tables = summarize(tmp_path, accounts(pages[target] + rng.normal(size=(80, 30)), target), called=[*"abcdefgh"])
        verdicts.append(class_pages.class_findings(tables.classes, seed=0)[0].verdict)
    theirs = np.array(verdicts) == "net: the pages of classes are their own."
    assert theirs[:30].sum() <= 4 and theirs[30:].all()


@pytest.mark.parametrize("sizes", [(60,), (25, 0, 10, 25)])
@pytest.mark.parametrize("most_bytes", [2**29, 1])
def test_tables_depend_on_no_shard_and_no_pass(tmp_path, sizes, most_bytes):
    rng = np.random.default_rng(4)
    arrays = accounts(rng.normal(size=(60, 8)), np.arange(60) % 3, source_images=[f"s{row // 2}" for row in range(60)])
    whole = summarize(tmp_path, arrays)
    parts = summarize(tmp_path, arrays, sizes=sizes, most_bytes=most_bytes)
    for one, other in zip(whole[:3], parts[:3], strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert all(np.array_equal(whole.units[name], parts.units[name]) for name in whole.units)


@pytest.mark.parametrize("values", [np.zeros((12, 0)), np.full((12, 3), np.nan), np.ones((3, 2)), np.zeros((0, 2))])
def test_where_no_class_has_ten_accounts_the_tables_are_there_without_rows(tmp_path, values):
    tables = summarize(tmp_path, accounts(values, 1))
    assert len(tables.contributions) == len(tables.leaning) == 0
    assert tables.units["class"].shape == (0,) and tables.units["mean"].shape == (0, 0)
    assert tables.classes["images"].sum() == len(values)
    write_arrays(tmp_path / "units.h5", tables.units, {})
    for table in tables[:3]:
        write_table(table, tmp_path / "table.csv")
        assert list(read_table(tmp_path / "table.csv")) == list(table)


def test_one_unit_of_a_million_and_constant_images_change_no_other_row(tmp_path):
    rng = np.random.default_rng(5)
    values = rng.exponential(size=(20, 6))
    before = summarize(tmp_path, accounts(values, 0)).contributions.set_index("unit")["mean"]
    values[:, 2] = 1e6
    after = summarize(tmp_path, accounts(values, 0)).contributions.set_index("unit")["mean"]
    units = [0, 1, 3, 4, 5]
    assert after[units].tolist() == pytest.approx(before[units].tolist()) and after[2] == 1e6
    same = summarize(tmp_path, accounts(np.ones((12, 3)), 0, source_images=["one"] * 12))
    assert same.classes["source_images"].tolist() == [1] and same.classes["items_for"].tolist() == [0]
    assert np.isnan(same.classes["halves"]).all() and same.contributions["low"].isna().all()
