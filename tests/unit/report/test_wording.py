"""Names of explainers and machines, and numbers in sentences."""

import math
import re
from pathlib import Path

import jinja2
import pandas as pd
import pytest
from unitlens.explainers import cam
from unitlens.measures.scales import IMAGE_MEASURES, STABILITY_MEASURES
from unitlens.report import pages, text


def test_explainers_and_machines_have_titles():
    titles = [text.explainer_title(f"{method}-features.12") for method in cam.METHODS]
    assert titles == ["Grad-CAM", "HiResCAM", "Grad-CAM++", "XGrad-CAM", "LayerCAM", "Ablation-CAM", "Score-CAM"]
    assert [text.explainer_title(name) for name in ("lime", "random")] == ["LIME", "Random map"]
    assert text.explainer_title("shap-fc") == "shap"
    assert text.machine_title("cpu", 1) == "CPU, 1 thread"
    assert text.machine_title("NVIDIA H100", 4) == "NVIDIA H100, 4 threads"
    assert text.pair_title("gradcam-layer4", "lime") == "Grad-CAM and LIME"


def test_numbers_in_sentences():
    assert text.estimate(0.312, 0.22, 0.404, 10) == "0.31 (95 % interval 0.22 to 0.40, n = 10)"
    assert text.estimate(0.5, math.nan, math.nan, 4) == "0.50 (n = 4 is too small for an interval)"
    assert text.p_value(0.0001) == "p < 0.001"
    assert text.p_value(0.0432) == "p = 0.043"
    assert [text.p_value(p) for p in (0.001, 0.00149)] == ["p = 0.001", "p = 0.0015"]
    assert text.estimate(math.nan, math.nan, math.nan, 0) == "undefined (n = 0)"
    row = pd.Series({"mean": 0.312, "low": 0.22, "high": 0.404, "n": 10, "method": "lime"})
    assert text.mean_estimate(row) == "0.31 (95 % interval 0.22 to 0.40, n = 10)"
    assert text.mean_estimate(dict(row) | {"low": 0.22, "high": 0.22}) == (
        "0.31 (no interval, for all values are equal; n = 10)"
    )
    assert text.p_value(math.nan) == "–"
    shares = [0, 0.00123, 0.01, 0.0987, 0.0994, 0.0996, 0.125, 0.994, 0.996, 0.99996, 1]
    assert [text.percent(share) for share in shares] == [
        *("0 %", "0.12 %", "1 %", "9.9 %", "9.9 %", "10 %", "12 %", "99 %", "99.6 %", "99.9 %", "100 %")
    ]
    assert text.percent(0.12345, 3) == "12.3 %"
    assert [text.percents(0.05, 0.5), text.percents(math.nan, math.nan)] == ["5 % to 50 %", "none"]
    assert [text.points(share) for share in (0.333, -0.002, 0)] == ["+33.3", "-0.2", "+0.0"]
    assert text.thousands(1234567) == "1,234,567"
    assert [text.decimals(value, 2) for value in (0.126, -0.001, math.nan, 3)] == ["0.13", "0.00", "–", "3.00"]
    assert [text.in_seconds(seconds) for seconds in (0.0251, 9.94, 10, 123.4)] == ["0.025 s", "9.9 s", "10 s", "123 s"]
    assert [text.counted(1, "unit"), text.counted(1024, "unit")] == ["1 unit", "1,024 units"]
    assert [text.plural(n, "box", "boxes") for n in (0, 1, 2)] == ["boxes", "box", "boxes"]
    assert [text.listed(names) for names in ([], "a", "ab", "abc")] == ["none", "a", "a and b", "a, b and c"]


def test_a_difference_counts_where_its_adjusted_p_is_below_5_percent_and_it_is_not_zero():
    tests = pd.DataFrame(
        [(0.2, 0.049), (0.9, 0.001), (0.3, 0.05), (-0.1, 0.01), (-0.2, 0.06), (0.0, 0.02), (math.nan, math.nan)],
        columns=["difference", "p_adjusted"],
    )
    assert text.above_and_below(tests) == (2, 1)
    assert text.adjusted(tests) == "adjusted for 6 tests"
    assert text.significant(tests[:1]) == "p < 0.05 adjusted for 1 test"
    test = "paired permutation test by source image, p < 0.05 adjusted for"
    assert text.paired_test(tests[2:4]) == f"{test} 2 tests; smallest p = 0.01"
    assert text.paired_test(tests[2:4], tests) == f"{test} 6 tests; smallest p = 0.01"
    assert text.paired_test(tests[-1:], tests) == "no source image to test on"


@pytest.mark.parametrize(
    ("tests", "n", "least"),
    [(3, 2, "1 at n = 2"), (2, 6, "0.062 at n = 6"), (250, 20, "0.05 at n = 20"), (249, 20, "")],
)
def test_where_no_result_could_be_significant_it_is_said(tests, n, least):
    family = pd.DataFrame({"p_adjusted": [0.5] * tests, "p_value": 0.1, "source_images": n})
    clear = f": one clear result alone can give no less than {least}"
    assert text.adjusted(family) == f"adjusted for {tests} tests{clear * bool(least)}"


def test_every_measure_has_a_title_and_every_title_a_measure():
    assert tuple(text.COMPLEXITY_TITLES) == IMAGE_MEASURES
    assert tuple(text.STABILITY_TITLES) == STABILITY_MEASURES


REPORT = Path(pages.__file__).parent
TEMPLATE = """
{# A comment. #}

{% macro counts(names, n) %}
{% if names %}
Units of
    {{ names | join(" and ") }}
{% if n > 1 %}
; {{ n | counted("layer") }}{{ ", many" if n > 9 }}
{% endif %}
.
{% endif %}

{% for name in names %}
{{ name }} is
one.

{% endfor %}
{% endmacro %}
"""


@pytest.fixture
def counts(tmp_path, monkeypatch):
    (tmp_path / "findings").mkdir()
    (tmp_path / "findings/planted.j2").write_text(TEMPLATE)
    pages._sentences("verdicts")  # read once, from where they are
    monkeypatch.setattr(pages, "_TEMPLATES", tmp_path)
    return lambda **values: pages.say("planted.counts", **values)


def test_lines_of_a_template_become_sentences(counts):
    assert counts(names=["a"], n=1) == ["Units of a.", "a is one."]
    assert counts(names=["a", "b"], n=2) == ["Units of a and b; 2 layers.", "a is one.", "b is one."]
    assert counts(names=["a  <b> ;"], n=1000) == ["Units of a  <b> ;; 1,000 layers, many.", "a  <b> ; is one."]
    assert counts(names=[], n=1) == []


def test_a_sentence_without_its_numbers_is_no_sentence(counts):
    with pytest.raises(jinja2.UndefinedError, match="n' was not provided"):
        counts(names=["a"])
    with pytest.raises(jinja2.UndefinedError):
        pages._environment().from_string("{{ absent }}").render()


def test_what_a_page_shows_keeps_its_line_breaks_and_findings_their_letters(tmp_path):
    assert pages._show("a\nb\x07 5 %") == "a\nb\\x07 5\u00a0%"
    pages.write_findings(tmp_path / "a.json", ["q ≤ 0.05 ü"])
    assert "≤" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_every_sentence_is_said_and_every_name_of_one_is_there():
    said = {name for path in REPORT.glob("*.py") for name in re.findall(r'"(\w+\.\w+)"', path.read_text())}
    for path in (REPORT / "templates/findings").glob("*.j2"):
        source = path.read_text()
        macros = set(re.findall(r"{% macro (\w+)\(", source))
        if path.stem == "verdicts":
            assert len(macros) > 10 and macros <= {name.replace(".", "_") for name in said}
            continue
        nested = {name for name in macros if re.search(rf"{{{{.*\b{name}\(", source)}
        assert {name.partition(".")[2] for name in said if name.startswith(f"{path.stem}.")} == macros - nested


def test_every_sentence_names_the_tests_that_fail_once_its_claim_is_no_longer_true():
    """As `{# held by tests/unit/test_a.py: test_one, test_two; tests/unit/test_b.py: test_three #}`, right above it."""
    root = Path(__file__).parents[3]
    for path in (REPORT / "templates/findings").glob("*.j2"):
        source = path.read_text()
        for above, name in re.findall(r"(?:{# held by ([^#]+) #}\n)?{% macro (\w+)\(", source):
            if not above and re.search(rf"{{{{.*\b{name}\(", source):
                continue  # a part of other sentences
            assert above, f"{path.name} names no test of {name}"
            for each in above.split(";"):
                file, _, tests = each.strip().partition(":")
                there = re.findall(r"^def (test_\w+)", (root / file).read_text(), re.MULTILINE)
                unknown = set(re.split(r",?\s+", tests.strip())) - set(there)
                assert not unknown, f"{path.name}, {name}: {file} has no {', '.join(sorted(unknown))}"
