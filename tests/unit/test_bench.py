import pytest
from bench import table
from bench.table import Time

TIMES = [
    Time("LIME", ours=2.0, reference=3.0, limit=1.6),
    Time("LIME, bfloat16", ours=1.0, reference=1.8, limit=1.0),
    Time("Ablation-CAM", ours=0.02, reference=3.9, limit=None),
]


def rows(page):
    """Return {(what, ratio): (bound, measured, met)} of a table of targets."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()[2:]]
    return {(what, ratio): tuple(others) for what, ratio, *others in cells}


def row(page, what, ratio):
    (found,) = [value for key, value in rows(page).items() if key[0].endswith(what) and key[1] == ratio]
    return found


def test_ratios():
    assert table.ratios(TIMES) == {
        ("LIME", "reference"): 1.5,
        ("LIME", "limit"): 1.25,
        ("LIME, bfloat16", "reference"): 1.8,
        ("LIME, bfloat16", "limit"): 1.0,
        ("Ablation-CAM", "reference"): pytest.approx(195),
    }


def test_targets_are_met_or_not():
    page = table.targets(table.ratios(TIMES), "cpu")
    speed, share = "speed, reference / ours", "time, ours / forward passes"
    assert row(page, "2 CPU cores, float32", speed) == ("≥ 1.1", "1.5", "yes")
    assert row(page, "2 CPU cores, float32", share) == ("≤ 1.15", "1.25", "**no**")
    assert row(page, "2 CPU cores, bfloat16", speed) == ("≥ 1.8", "1.8", "yes")  # at the bound
    assert row(page, "2 CPU cores, bfloat16", share) == ("≤ 1.15", "1", "yes")
    assert row(page, "Ablation-CAM, last block, 2 CPU cores", speed) == ("≥ 200", "195", "**no**")


@pytest.mark.parametrize("where", ["cpu", "H100", "another GPU"])
def test_a_machine_is_measured_by_its_own_targets(where):
    measured = {target.key: 1.0 for target in table.TARGETS}
    found = rows(table.targets(measured, where))
    assert list(found) == [(target.what, target.ratio) for target in table.TARGETS if target.where == where]
    assert {value for _, value, _ in found.values()} <= {"1"}


@pytest.mark.parametrize("where", ["cpu", "H100"])
def test_without_figures_nothing_is_measured(where):
    assert {values[1:] for values in rows(table.targets({}, where)).values()} == {("not measured",) * 2}


def test_a_missing_number_is_a_dash_in_the_table_of_seconds():
    assert table.seconds(TIMES).splitlines()[2:] == [
        "| LIME | 2 | 3 | 1.5 | 1.6 | 1.25 |",
        "| LIME, bfloat16 | 1 | 1.8 | 1.8 | 1 | 1 |",
        "| Ablation-CAM | 0.02 | 3.9 | 195 | – | – |",
    ]


@pytest.mark.parametrize(("value", "text"), [(0.0123456, "0.01235"), (12.3456, "12.35"), (1234.5678, "1235"), (7, "7")])
def test_numbers_keep_four_digits(value, text):
    assert table.number(value) == text


def test_the_plot_is_the_same_bytes_for_the_same_times(tmp_path):
    for name in ("a", "b"):
        table.draw(TIMES, tmp_path / f"{name}.svg", machine="CPU, 2 cores")
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == (tmp_path / "b.svg").read_bytes()
    assert b"<dc:date>" not in drawn
