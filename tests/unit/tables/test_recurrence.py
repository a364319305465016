"""Words that come again on other source images: by hand, and a forecast that is checked, fails or is too far."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special
from unitlens.report import concept_findings
from unitlens.tables import recurrence

NAN = float("nan")


def test_two_parts_are_compared_by_hand():
    first = torch.tensor([[3.0, 2, 1, 0], [3, 2, 1, 0], [0, 1, 2, 3], [NAN] * 4], dtype=torch.float64)
    second = torch.tensor([[3.0, 2, 1, 0], [2, 3, 1, 0], [3, 2, 1, 0.5], [1, 2, 3, 4]], dtype=torch.float64)
    found = recurrence.compare(first, second, np.array(list("abcd"), object))
    # ranks 1 1, 2 2, 4 4; short of the best by 0 0, 1 1, 3 2.5, so that a gap of 3 covers 90 %: all four words
    assert found == (3, pytest.approx(1 / 3), 2, 4)
    assert recurrence.compare(first, second, np.array(list("aacd"), object)).again == pytest.approx(2 / 3)
    assert recurrence.compare(first[3:], second[3:], np.array(list("abcd"), object))[0] == 0


def draws(logits, sizes=(125, 250, 500), units=10_000, whole=1000):
    rows = [["m", "x", size, units, special.expit(value)] for size, value in zip(sizes, logits, strict=True)]
    rows.append(["m", "x", whole, 0, NAN])
    return pd.DataFrame(rows, columns=["model", "layer", "source_images", "both", "again"])


def test_a_forecast_is_the_line_through_the_logits():
    (row,) = recurrence.forecast(draws([-3, -2.5, -2])).to_dict("records")
    assert (row["source_images"], row["units"], row["sizes"]) == (500, 10_000, 3)
    assert row["again"] == pytest.approx(special.expit(-2)) and row["predicted"] == pytest.approx(
        row["again"], rel=0.01
    )
    assert row["factor"] == pytest.approx(1, abs=0.01)
    assert row["at_all"] == pytest.approx(special.expit(-1.5), rel=0.01)
    assert row["needed"] == pytest.approx(8000, rel=0.01)  # four doublings from 500


@pytest.mark.parametrize(
    ("logits", "told"),
    [
        ([-3, -2.5, -1.2], "no forecast; smaller parts said 12 %"),  # 23 % were found, more than 1.5 times as many
        ([-2, -2, -2], "no forecast; smaller parts said 12 %"),  # it does not rise
        ([-3, -2.95, -2.9], "50 % is beyond what can be forecast"),
        ([-3, -2.5, -2], "50 % at about 8,0"),
        ([-3.75, -3.25, -2.75], "50 % at about 22,"),  # 45 times as many source images as the largest part has
    ],
)
def test_what_is_said_of_a_forecast(logits, told):
    (sentence,) = concept_findings.forecast_findings(recurrence.forecast(draws(logits)))
    assert told in sentence and "of 10,000 active units of x get the same word at 500 source images each" in sentence


def test_two_sizes_are_too_few():
    table = recurrence.forecast(draws([-3, -2], sizes=(250, 500)))
    assert table["at_all"].isna().all() and table["predicted"].isna().all()
    assert "(too few sizes for a forecast)" in concept_findings.forecast_findings(table)[0]


def test_no_part_that_was_compared_says_nothing():
    table = recurrence.forecast(draws([], sizes=()))
    assert table["again"].isna().all() and concept_findings.forecast_findings(table) == []


def test_shares_that_are_zero_have_a_line():
    table = draws([-9, -9, -9], units=20).assign(again=[0, 0, 0.05, NAN])
    (row,) = recurrence.forecast(table).to_dict("records")
    assert 0 < row["predicted"] < 0.05 and np.isnan(row["needed"])


@pytest.mark.parametrize("units", [100, 300])
def test_a_planted_growth_is_forecast_within_the_stated_factor(units):
    """Shares drawn by the line itself: of most runs the check is passed, and what is forecast is within the factor."""
    rng = np.random.default_rng(0)
    logits, whole = np.array([-1.5, -0.9, -0.3]), special.expit(0.3)
    told, needed = [], []
    for _ in range(100):
        shares = rng.binomial(5 * units, special.expit(logits)) / (5 * units)
        (row,) = recurrence.forecast(draws(special.logit(shares), units=units)).itertuples()
        told.append(row.at_all)
        needed.append(row.needed)
    known = np.array(told)[~np.isnan(told)]
    assert len(known) >= 90
    assert ((known / whole < recurrence.WITHIN) & (whole / known < recurrence.WITHIN)).mean() >= 0.99
    missed = np.array(needed)[~np.isnan(needed)] / (500 * 2**0.5)  # half a doubling from the largest part
    assert len(missed) >= 90 and ((missed < recurrence.WITHIN) & (1 / missed < recurrence.WITHIN)).mean() >= 0.95
