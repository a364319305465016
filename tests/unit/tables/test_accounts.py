"""Tables of accounts: what units may be called, what stands in a row, and which share named units carry."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from unitlens.explainers import contributions
from unitlens.storage.tables import write_table
from unitlens.tables import accounts

FACTS = {"model": "net", "layer": "4"}


def labels(**changes):
    """Labels of five units: named, selective, not selective, dead, and named in another layer."""
    table = pd.DataFrame(
        {
            "model": "net",
            "layer": ["4", "4", "4", "4", "1.10"],
            "unit": [0, 1, 2, 3, 2],
            "status": ["named", "selective", "not selective", "dead", "named"],
            "concept": ["cat", "", "", "", "owl"],
        }
    )
    return table.assign(**changes)


def masks():
    return pd.DataFrame(
        {
            "model": "net",
            "layer": "4",
            "unit": [0, 1, 2, 3],
            "status": ["not selective", "named", "selective", "not selective"],
            "mask_concept": ["red", "dotted", "blue", "green"],
        }
    )


def account(contributions_, *, margin=None, tokens=0.0, remainder=0.0):
    """Arrays of accounts (n, units) as a file holds them."""
    values = np.asarray(contributions_, dtype=np.float32)
    n = len(values)
    arrays = {"image_id": np.array([f"i{row}" for row in range(n)], dtype=object)}
    arrays |= {"source_image": arrays["image_id"], "target": np.arange(n), "runner_up": np.full(n, 7)}
    for start, each in (("", values), ("margin_", values if margin is None else np.asarray(margin, np.float32))):
        arrays[f"{start}contributions"] = each
        arrays[f"{start}tokens"], arrays[f"{start}remainder"] = np.full(n, tokens), np.full(n, remainder)
        arrays[f"{start}score"] = each.sum(1, dtype=np.float64) + tokens + remainder
    return arrays


def test_a_unit_is_called_by_its_label_or_by_masks_and_not_by_what_is_only_selective():
    names = accounts.unit_names(labels(), masks())
    found = {(row.layer, row.unit): (row.name, row.status, row.title) for row in names.itertuples(index=False)}
    assert names.index.equals(pd.RangeIndex(5))
    assert found == {
        ("4", 0): ("cat", "named", "cat"),
        ("4", 1): ("dotted", "named", "dotted (by masks)"),
        ("4", 2): ("", "selective", "selective, no name"),
        ("4", 3): ("", "not selective", "not selective"),
        ("1.10", 2): ("owl", "named", "owl"),
    }
    assert len(accounts.unit_names(labels(), None)) == 5 and len(accounts.unit_names(None, None)) == 0


def test_names_are_read_from_the_files_that_there_are(tmp_path):
    write_table(labels(), tmp_path / "labels.csv")
    write_table(masks(), tmp_path / "masks.csv")
    files = [tmp_path / "labels.csv", tmp_path / "masks.csv"]
    pd.testing.assert_frame_equal(accounts.read_unit_names(*files), accounts.unit_names(labels(), masks()))
    pd.testing.assert_frame_equal(accounts.read_unit_names(files[0], ""), accounts.unit_names(labels(), None))


def test_a_theme_has_its_words_and_no_name():
    sets = {"set": ["", "red; orange", "", "", ""], "set_size": [1, 2, 40, np.nan, 1]}
    names = accounts.unit_names(labels(**sets).replace({"status": {"selective": "theme"}}), None)
    own = accounts.names_of_layer(names, FACTS, 5)
    assert own["title"].tolist() == ["cat", "a theme: red, orange (2 groups)", "not selective", "dead", ""]
    assert own["name"].tolist() == ["cat", "", "", "", ""]


def test_rows_are_units_and_the_other_items_of_the_first_images():
    arrays = account([[1, -2, 3, 0], [4, 5, 6, 0], [7, 8, 9, 0]], margin=np.ones((3, 4)), tokens=0.5, remainder=-1)
    table = accounts.item_table(arrays, FACTS, accounts.unit_names(labels(), masks()), images=2)
    assert table.index.equals(pd.RangeIndex(2 * (4 + 2))) and list(table["image_id"].unique()) == ["i0", "i1"]
    first = table[table["image_id"] == "i0"]
    assert first["contribution"].tolist() == [1, -2, 3, 0, 0.5, -1]
    assert first["margin_contribution"].tolist() == [1, 1, 1, 1, 0.5, -1]
    assert first["name"].tolist() == ["cat", "dotted", "", "", "", ""]
    assert first["item"].tolist() == ["unit"] * 4 + ["tokens", "remainder"] and first["unit"].isna().sum() == 2
    assert set(table["target"]) == {0, 1} and set(table["runner_up"]) == {7}


def test_coverage_is_the_share_of_absolute_contributions():
    arrays = account([[1, -2, 3, 0]] * 6, margin=[[0, 0, 1, 1]] * 6, remainder=-4)
    table = accounts.coverage([(arrays, FACTS)], accounts.unit_names(labels(), masks()))
    found = table.set_index(["account", "part"])["mean"]
    assert found["class"].to_dict() == pytest.approx({"named": 0.3, "selective": 0.6, "tokens": 0, "remainder": 0.4})
    assert found["runner-up"].to_dict() == pytest.approx(
        {"named": 0, "selective": 1 / 6, "tokens": 0, "remainder": 4 / 6}
    )
    units = table.set_index(["account", "part"])["units"]["class"]
    assert units["named"] == 0.5 and units["selective"] == 0.75 and np.isnan(units["remainder"])
    assert set(table["n"]) == {6} and (table["low"] <= table["mean"]).all()


def test_units_at_random_carry_at_most_their_share():
    """Over all ways to name two of four units; without tokens and remainder it is their share."""
    values = np.random.default_rng(0).normal(size=(6, 4))
    for remainder, expected in ((0, 0.5), (-4, 0.5 * np.mean(np.abs(values).sum(1) / (np.abs(values).sum(1) + 4)))):
        found = []
        for two in combinations(range(4), 2):
            status = ["named" if unit in two else "not selective" for unit in range(4)]
            names = accounts.unit_names(labels()[:4].assign(status=status, concept="cat"), None)
            table = accounts.coverage([(account(values, remainder=remainder), FACTS)], names)
            found.append(table.set_index(["account", "part"]).loc[("class", "named"), ["mean", "units"]])
        assert np.mean(found, 0).tolist() == pytest.approx([expected, 0.5])


@pytest.mark.parametrize(("kind", "start"), accounts.KINDS.items())
def test_a_row_that_does_not_add_up_to_its_score_is_named(kind, start):
    names = accounts.unit_names(labels(), None)

    def off(by, *, values=(1, 2)):
        arrays = account([values] * 3, margin=[values] * 3, remainder=0.5)
        arrays[f"{start}score"][1] += by
        arrays[f"{start}score"][2] = np.nan  # has no account
        return accounts.coverage([(arrays, FACTS)], names)

    off(0.9e-4), off(1.9, values=(1e6, -1e6)), off(np.nan)
    for wrong in ({"by": 1.1e-4}, {"by": 2.1, "values": (1e6, -1e6)}):
        with pytest.raises(ValueError, match=f"^the account of net 4, image 'i1', {kind}, adds up to .*; run account_"):
            off(**wrong)


def test_layers_without_labels_and_without_accounts_are_told():
    other = {"model": "net", "layer": "unlabeled"}
    names = accounts.unit_names(labels(), None)
    shares = accounts.coverage([(account([[1, 2]] * 5), other)], names).set_index(["account", "part"])["mean"]
    assert shares["class"]["named"] == 0
    none = {name: array.numpy() for name, array in contributions.nothing(5).items()}
    none |= {name: account([[1]] * 5)[name] for name in ("image_id", "source_image", "target")}
    assert list(accounts.item_table(none, FACTS, names, images=3)) == list(
        accounts.item_table(account([[1]]), FACTS, names, images=1)
    )
    shares = accounts.coverage([(none, FACTS)], names)
    assert shares["mean"].isna().all() and set(shares["undefined"]) == {5}


def test_a_silent_account_has_no_share():
    shares = accounts.coverage([(account([[0, 0]] * 5), FACTS)], accounts.unit_names(labels(), None))
    assert shares["mean"].isna().all() and set(shares["undefined"]) == {5}
