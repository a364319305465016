"""Bars of accounts: what they show of each prediction, and that they add up."""

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from unitlens.explainers import contributions
from unitlens.report import account_bars

UNITS = 12


@pytest.fixture
def arrays():
    """Accounts of two images by a network of twelve units, as a file holds them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, UNITS, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * UNITS, 3))
    images = torch.randn(2, 3, 8, 8)
    of_class, of_margin, runner_up = contributions.explain(model, "1", images, torch.tensor([0, 1]))
    both = {"": of_class, "margin_": of_margin}
    arrays = {f"{start}{name}": each.numpy() for start, one in both.items() for name, each in one._asdict().items()}
    ids = np.array(["a", "b"], dtype=object)
    arrays |= {"target": np.array([0, 1]), "runner_up": runner_up.numpy(), "image_id": ids}
    return arrays | {"warning": np.array(["", ""], dtype=object)}


NAMES = pd.DataFrame(  # of `unit_gallery.read_words`
    {
        "model": "net",
        "layer": "1",
        "unit": range(UNITS),
        "name": [f"word {unit}" if unit % 3 == 0 else "" for unit in range(UNITS)],
        "status": ["named" if unit % 3 == 0 else "selective" if unit % 3 == 1 else "" for unit in range(UNITS)],
    }
)
NAMES = NAMES.assign(title=NAMES["name"] + NAMES["status"].mask(NAMES["status"] == "named", ""), linear="")
FACTS = {"model": "net", "layer": "1"}


def test_bars_add_up_to_the_score_and_name_what_has_a_name(arrays):
    cards = account_bars.collect([(arrays, FACTS)], NAMES, {"net": 3})
    assert list(cards) == [("net", "a"), ("net", "b")] and cards[("net", "a")]["labeled"]
    for row, card in enumerate(cards.values()):
        for kind, start in (("class", ""), ("runner-up", "margin_")):
            own = card["accounts"][kind]
            values = arrays[f"{start}contributions"][row]
            assert sum(bar["value"] for bar in own["bars"]) == pytest.approx(own["score"], abs=1e-6)
            assert own["runner_up"] == f"class {arrays['runner_up'][row]}"
            single = [bar for bar in own["bars"] if bar["unit"] is not None]
            rising = [bar["value"] for bar in single if bar["value"] > 0]
            assert rising == sorted(values[values > 0], reverse=True)[:5]
            assert [bar["value"] for bar in single if bar["value"] < 0] == sorted(values[values < 0])[:3]
            assert all(bar["called"] == (NAMES["title"][bar["unit"]] or "no label") for bar in single)
            assert not any(bar["called"] or bar["linear"] for bar in own["bars"] if bar["unit"] is None)
            assert all(bar["left"] >= 0 and bar["left"] + bar["width"] <= 100.001 for bar in own["bars"])
            assert max(bar["width"] for bar in own["bars"]) == 50
            whole = np.abs(values).sum() + abs(own["remainder"])
            assert own["named"] == pytest.approx(np.abs(values[::3]).sum() / whole) and own["share_named"] == 4 / 12
            assert own["share_selective"] == 8 / 12 and own["selective"] > own["named"]


def test_a_bar_has_the_words_of_its_unit(arrays):
    unit = int(arrays["shown"][0, 0])
    told = NAMES.assign(title="a theme: red, orange (2 groups)", linear=[f"0.41 word {each}" for each in range(UNITS)])
    bar = account_bars.collect([(arrays, FACTS)], told, {"net": 3})[("net", "a")]["accounts"]["class"]["bars"][0]
    assert (bar["title"], bar["called"]) == (f"unit {unit}", "a theme: red, orange (2 groups)")
    assert bar["linear"] == f"0.41 word {unit}"


def test_an_account_is_linked_to_the_page_of_its_class(arrays):
    cards = account_bars.collect(
        [(arrays, FACTS)], NAMES, {"net": 3}, pages={("net", 1): ("classes/net-1.html", "dog")}
    )
    assert [card["class_page"] for card in cards.values()] == [None, ("classes/net-1.html", "dog")]


def test_bars_of_units_show_the_image_that_activates_them_most(arrays):
    rows = np.full((UNITS, 2), -1)
    shown = arrays["shown"][0]
    rows[shown[0], 0], rows[shown[1], 0] = 4, 2
    asked = []

    def pick(wanted):
        asked.append(wanted.tolist())
        return np.stack([np.full((8, 8, 3), 20 * row, np.uint8) for row in wanted])

    maps = [({"row": rows}, FACTS | {"geometry": "square"}), ({"row": rows}, FACTS | {"layer": "9", "geometry": "no"})]
    cards = account_bars.collect([(arrays, FACTS)], NAMES, {"net": 3}, maps=maps, probe={"square": pick})
    bars = cards[("net", "a")]["accounts"]["class"]["bars"]
    best = {bar["unit"]: bar["best"] for bar in bars}
    assert asked == [[2, 4]] and {unit for unit, uri in best.items() if uri} == set(shown[:2].tolist())
    picture = Image.open(io.BytesIO(base64.b64decode(best[shown[0]].partition(",")[2])))
    assert abs(int(np.asarray(picture).mean()) - 80) < 5


def test_a_picture_is_orange_where_a_unit_raises_the_score(arrays):
    arrays["places"][0, 0] = [[1, -2], [0, 0.5]]
    bar = account_bars.collect([(arrays, FACTS)], NAMES, {"net": 3})[("net", "a")]["accounts"]["class"]["bars"][0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(bar["place"].partition(",")[2]))).convert("RGBA"))
    assert pixels[0, 0].tolist() == [*account_bars.RAISES, 115] and pixels[0, 1].tolist() == [*account_bars.LOWERS, 230]
    assert pixels[1, 0, 3] == 0


def test_pictures_and_bars_have_the_same_two_colors():
    style = (Path(account_bars.__file__).parent / "templates/bars.css").read_text(encoding="utf-8")
    for name, color in (("raises", account_bars.RAISES), ("lowers", account_bars.LOWERS)):
        assert f".{name} {{ background: rgb({' '.join(map(str, color))}); }}" in style


def test_a_picture_of_no_contribution_shows_nothing():
    pixels = Image.open(io.BytesIO(base64.b64decode(account_bars._picture(np.zeros((2, 3))).partition(",")[2])))
    assert not np.asarray(pixels.convert("RGBA"))[..., 3].any()


def test_a_prediction_without_an_account_says_why(arrays):
    empty = {name: each.numpy() for name, each in contributions.nothing(1).items()}
    empty |= {"target": np.array([0])} | {
        "image_id": np.array(["a"], dtype=object),
        "warning": np.array(["no account"], dtype=object),
    }
    card = account_bars.collect([(empty, FACTS)], NAMES.iloc[:0], {"net": 3})[("net", "a")]
    assert card["accounts"] == {} and card["warning"] == "no account" and not card["labeled"]
    arrays["margin_contributions"][0] = np.nan
    accounts = account_bars.collect([(arrays, FACTS)], NAMES, {"net": 3})[("net", "a")]["accounts"]
    assert list(accounts) == ["class"]


def test_a_layer_of_two_units_has_a_bar_for_each(arrays):
    few = {name: each[:, :2] if name.endswith("contributions") else each for name, each in arrays.items()}
    few |= {
        f"{start}{name}": arrays[f"{start}{name}"][:, :4] for start in ("", "margin_") for name in ("shown", "places")
    }
    for start in ("", "margin_"):
        few[f"{start}contributions"] = np.array([[2.0, -1.0]] * 2)
        few[f"{start}shown"] = np.array([[0, 1, 1, 0]] * 2)
    bars = account_bars.collect([(few, FACTS)], NAMES, {"net": 3})[("net", "a")]["accounts"]["class"]["bars"]
    assert [bar["title"] for bar in bars] == ["unit 0", "unit 1", "the rest: biases after the layer"]
