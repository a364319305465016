"""Every finding says the right direction: whole sentences of hand-made tables, on both sides, and with next to "
"nothing."""

import inspect
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from unitlens.measures import faithfulness, scales
from unitlens.report import account_findings, concept_findings, evaluation_findings, overview, pages
from unitlens.report.text import STABILITY_TITLES

MODULES = [account_findings, concept_findings, evaluation_findings, overview]
NAN = np.nan


def means(key, rows, **same):
    """Rows of `summaries.mean_table`: of each item the mean, low, high, n."""
    table = pd.DataFrame(
        [[name, n, n, 0, mean, low, high] for name, (mean, low, high, n) in rows.items()],
        columns=[key, "n", "source_images", "undefined", "mean", "low", "high"],
    )
    return table.assign(model="m", **same)


def paired(key, rows, **same):
    """Rows of `summaries.paired_tests`: of each two items the difference and its adjusted p-value."""
    table = pd.DataFrame(
        [[*pair, difference, p] for pair, (difference, p) in rows.items()],
        columns=[f"{key}_a", f"{key}_b", "difference", "p_adjusted"],
    )
    return table.assign(model="m", n=10, source_images=10, **same)


# ---- agreement

PAIRS = {"g & l": ("gradcam-x", "lime"), "s & l": ("scorecam-x", "lime"), "g & s": ("gradcam-x", "scorecam-x")}


def agreeing(rows, p, **facts):
    summary = means("pair", rows, measure="equal_area_iou", cut=0.2, subset="all", chance=0.2, floor=1 / 9, ceiling=1.0)
    summary = summary.assign(excess=summary["mean"] - 0.2, p_adjusted=0.01).assign(**facts)
    summary[["explainer_a", "explainer_b"]] = [PAIRS[name] for name in summary["pair"]]
    names = [" & ".join(PAIRS[name]) for name in rows]
    tests = paired("pair", {(names[0], other): each for other, each in zip(names[1:], p, strict=True)})
    return evaluation_findings.agreement_findings(summary, tests.assign(measure="equal_area_iou"), area=0.2)


def test_agreement_above_and_below():
    rows = {"g & l": (0.6, 0.5, 0.7, 10), "s & l": (0.3, 0.2, 0.4, 10), "g & s": (0.05, 0.01, 0.1, 10)}
    first = (
        "m: cut at 20 % of the image, Grad-CAM and LIME agree most: IoU 0.60 (95 % interval 0.50 to 0.70, n = 10), "
        "+0.40 to the 0.20 of maps of different source images; Grad-CAM and Score-CAM least: 0.05 (95 % interval 0.01 "
        "to 0.10, n = 10), -0.15 to the 0.20 of maps of different source images. Unrelated pixels have 0.11. On the "
        "same source image 2 of 3 pairs agree more than on different ones and 1 less (source images permuted, p < "
        "0.05 adjusted for 3 tests; smallest p = 0.01). The first pair agrees more than {} (paired permutation test "
        "by source image, p < 0.05 adjusted for 2 tests; smallest {})."
    )
    of = "of 2 other pairs"
    assert agreeing(rows, [(0.3, 0.01), (0.5, 0.2)]) == [first.format(f"1 {of}", "p = 0.01")]
    assert agreeing(rows, [(-0.3, 0.01), (0.5, 0.0001)]) == [first.format(f"1 {of} and less than 1", "p < 0.001")]
    assert agreeing(rows, [(0.3, 0.05), (0.5, 0.2)]) == [first.format(f"0 {of}", "p = 0.05")]


def test_agreement_on_too_few_source_images():
    both = {"g & l": (0.6, NAN, NAN, 2), "s & l": (0.3, NAN, NAN, 2)}
    assert agreeing(both, [(0.3, 0.5)], chance=NAN, p_adjusted=NAN, ceiling=0.9) == [
        "m: cut at 20 % of the image, Grad-CAM and LIME agree most: IoU 0.60 (n = 2 is too small for an interval); "
        "Score-CAM and LIME least: 0.30 (n = 2 is too small for an interval). Unrelated pixels have 0.11, and ties "
        "alone keep the first pair below 0.90. The first pair agrees more than 0 of 1 other pair (paired permutation "
        "test by source image, p < 0.05 adjusted for 1 test; smallest p = 0.5)."
    ]
    assert agreeing({"g & l": (0.6, NAN, NAN, 2)}, [], p_adjusted=0.5) == [
        "m: cut at 20 % of the image, Grad-CAM and LIME agree: IoU 0.60 (n = 2 is too small for an interval), +0.40 "
        "to the 0.20 of maps of different source images. Unrelated pixels have 0.11. On the same source image 0 of 1 "
        "pair agree more than on different ones (source images permuted, p < 0.05 adjusted for 1 test; smallest p = "
        "0.5)."
    ]
    assert agreeing({"g & l": (NAN, NAN, NAN, 0), "s & l": (NAN, NAN, NAN, 0)}, [(NAN, NAN)]) == [
        "m: there is no source image on which two explainers can be compared."
    ]


# ---- shape and complexity


def shaped(explainers, against):
    summary = means("explainer", explainers, measure="gini")
    tests = paired("explainer", {(name, "lime"): each for name, each in against.items()}, measure="gini")
    return evaluation_findings.shape_findings(summary, tests)


def test_shape_above_and_below_lime():
    rows = {"gradcam-x": (0.5, 0.4, 0.6, 10), "scorecam-x": (0.2, 0.1, 0.3, 10), "lime": (0.3, 0.2, 0.4, 10)}
    first = (
        "m, Gini coefficient of the saliency: Grad-CAM 0.50 (95 % interval 0.40 to 0.60, n = 10), LIME 0.30 (95 % "
        "interval 0.20 to 0.40, n = 10). Of 2 class activation maps {} above LIME, {} below it (paired permutation "
        "test by source image, p < 0.05 adjusted for 2 tests; smallest p = {})."
    )
    sides = {(0.2, -0.1): (1, 1), (0.2, 0.1): (2, 0), (-0.2, -0.1): (0, 2)}
    for (one, two), counts in sides.items():
        against = {"gradcam-x": (one, 0.01), "scorecam-x": (two, 0.04)}
        assert shaped(rows, against) == [first.format(*counts, "0.01")]
    assert shaped(rows, {"gradcam-x": (0.2, 0.05), "scorecam-x": (-0.1, 0.5)}) == [first.format(0, 0, "0.05")]


def test_shape_of_nothing():
    none = (NAN, NAN, NAN, 0)
    assert shaped({"gradcam-x": none, "lime": none}, {"gradcam-x": (NAN, NAN)}) == [
        "m, Gini coefficient of the saliency: Grad-CAM undefined (n = 0), LIME undefined (n = 0). Of 1 class "
        "activation map 0 above LIME, 0 below it (no source image to test on)."
    ]


def complex_(*rows):
    columns = ["measure", "correlation", "low", "high", "p_value", "p_adjusted"]
    table = pd.DataFrame(rows, columns=columns).assign(model="m", agreement="gradcam-x & lime", source_images=1)
    return evaluation_findings.complexity_findings(
        table.assign(source_images=1 if table["correlation"].isna().all() else 20)
    )


def test_complexity_up_down_and_neither():
    start = "m, does complexity explain agreement? Equal-area IoU of Grad-CAM and LIME: "
    assert complex_(("entropy", -0.8, -0.9, -0.6, 0.001, 0.002), ("edge_density", 0.7, 0.5, 0.9, 0.01, 0.01)) == [
        f"{start}Spearman correlations that differ from zero: gray-level entropy -0.80 (95 % interval -0.90 to -0.60, "
        "n = 20), p = 0.002; edge density 0.70 (95 % interval 0.50 to 0.90, n = 20), p = 0.01 (adjusted for 2 tests)."
    ]
    assert complex_(("entropy", -0.3, -0.6, 0.1, 0.2, 0.3), ("confidence", NAN, NAN, NAN, NAN, NAN)) == [
        f"{start}not supported at n = 20; the clearest Spearman correlation is that of gray-level entropy -0.30 (95 % "
        "interval -0.60 to 0.10, n = 20), p = 0.3 (adjusted for 1 test)."
    ]
    assert complex_(("entropy", NAN, NAN, NAN, NAN, NAN)) == [
        f"{start}no correlation can be computed from 1 source image."
    ]


# ---- localization


def located(gaussian, against, n=10):
    spread = (0.1, NAN)[n < 3]
    rows = {
        "gradcam-x": (0.5, 0.5 - spread, 0.5 + spread, n),
        "lime": (0.4, 0.3, 0.5, n),
        "random": (0.2, 0.1, 0.3, n),
        "gaussian": (gaussian, 0.1, 0.9, n),
    }
    same = {"reference": "box", "measure": "pointing"}
    tests = {
        ("gradcam-x", "gaussian"): against[0],
        ("lime", "gaussian"): against[1],
        ("gradcam-x", "lime"): (0.1, 1e-9),
    }
    summary = means("explainer", rows, chance=0.25, **same)
    return evaluation_findings.localization_findings(summary, paired("explainer", tests, **same))


def test_localization_above_and_below_the_gaussian():
    first = (
        "m, share of the peak inside (pointing game) against the box: highest for Grad-CAM, 0.50 (95 % interval 0.40 "
        "to "
        "0.60, n = 10); a centered Gaussian has {}, chance is 0.25. Of 2 explainers {} above the Gaussian, {} below it "
        "(paired permutation test by source image, p < 0.05 adjusted for 3 tests; smallest p = {})."
    )
    assert located(0.3, [(0.2, 0.01), (0.1, 0.6)]) == [first.format("0.30", 1, 0, "0.01")]
    assert located(0.8, [(-0.3, 0.01), (-0.4, 0.02)]) == [first.format("0.80", 0, 2, "0.01")]
    assert located(0.5, [(0, 0.9), (-0.1, 0.7)]) == [first.format("0.50", 0, 0, "0.7")]
    assert "0.50 (n = 2 is too small for an interval)" in located(0.5, [(0, 1), (-0.1, 1)], n=2)[0]


# ---- faithfulness


def faithful(measure, scores, over, ahead, n=10):
    """Findings of two explainers: mean scores, p and difference to random maps, p and difference to each other."""
    better = {1: "higher", -1: "lower"}[faithfulness.BETTER[measure]]
    rows = {name: (mean, mean - 0.05, mean + 0.05, n) for name, mean in scores.items()}
    summary = means("explainer", rows, measure=measure, baseline="blur", better=better)
    summary["over_random"] = [over.get(name, (NAN,))[0] for name in summary["explainer"]]
    summary["p_adjusted"] = [over.get(name, (NAN, NAN))[1] for name in summary["explainer"]]
    tests = paired("explainer", ahead, measure=measure, baseline="blur")
    favor = np.sign(tests["difference"]) * faithfulness.BETTER[measure]
    tests["more_faithful"] = np.select([favor > 0, favor < 0], [tests["explainer_a"], tests["explainer_b"]], "")
    return evaluation_findings.faithfulness_findings(summary, tests)


SCORES = {"gradcam-x": 0.2, "lime": 0.4, "random": 0.5, "gaussian": 0.3}


def test_the_lower_deletion_is_the_better_one():
    over = {"gradcam-x": (-0.3, 0.01), "lime": (-0.1, 0.3), "gaussian": (-0.2, 0.01)}
    ahead = {("gradcam-x", "lime"): (-0.2, 0.02), ("gradcam-x", "gaussian"): (-0.1, 0.4)}
    assert faithful("deletion", SCORES, over, ahead) == [
        "m: by deletion (blur; lower is more faithful), Grad-CAM scores best with 0.20 (95 % interval 0.15 to 0.25, "
        "n = 10), random maps 0.50. 1 of 2 explainers beat random maps (p < 0.05 adjusted for 3 tests; not supported "
        "at n = 10 for LIME). Grad-CAM over the second, LIME: supported (adjusted p = 0.02); over a Gaussian in the "
        "middle: not supported at n = 10 (adjusted p = 0.4) (adjusted for 2 tests)."
    ]


def test_the_best_explainer_is_told_beside_the_second_only():
    ahead = {("gradcam-x", name): (-0.2, 0.02) for name in ("scorecam-x", "lime", "gaussian")}
    (said,) = faithful("deletion", SCORES | {"scorecam-x": 0.45}, {"lime": (-0.1, 0.3)}, ahead)
    assert "Grad-CAM over the second, LIME: supported" in said and "over a Gaussian" in said
    assert "Score-CAM" not in said.partition("over the second")[2]


def test_the_higher_insertion_is_the_better_one_and_what_is_worse_is_called_so():
    over = {"gradcam-x": (-0.3, 0.01), "lime": (-0.1, 0.04), "gaussian": (-0.2, 0.01)}
    ahead = {("gradcam-x", "lime"): (-0.2, 0.02), ("lime", "gaussian"): (-0.1, 0.001)}
    assert faithful("insertion", SCORES | {"gaussian": 0.6}, over, ahead) == [
        "m: by insertion (blur; higher is more faithful), LIME scores best with 0.40 (95 % interval 0.35 to 0.45, "
        "n = 10), random maps 0.50. 0 of 2 explainers beat random maps (p < 0.05 adjusted for 3 tests; worse than "
        "random "
        "maps: LIME, Grad-CAM). LIME over the second, Grad-CAM: supported (adjusted p = 0.02); over a Gaussian in the "
        "middle: the opposite is supported (adjusted p = 0.001) (adjusted for 2 tests)."
    ]


def test_all_beat_random_maps_by_road():
    over = {"gradcam-x": (0.3, 0.01), "lime": (0.1, 0.04)}
    assert faithful("road", SCORES, over, {}) == [
        "m: by ROAD (blur; higher is more faithful), LIME scores best with 0.40 (95 % interval 0.35 to 0.45, n = 10), "
        "random maps 0.50. 2 of 2 explainers beat random maps (p < 0.05 adjusted for 2 tests)."
    ]


def test_faithfulness_of_next_to_nothing():
    assert faithful("road", {"lime": 0.4}, {}, {}, n=1) == [
        "m: by ROAD (blur; higher is more faithful), LIME scores best with 0.40 (95 % interval 0.35 to 0.45, n = 1). "
        "1 source image is too few for a test."
    ]
    assert faithful("road", {"lime": NAN, "random": 0.5}, {}, {}, n=0) == [
        "m: by ROAD (blur; higher is more faithful), no explanation could be scored."
    ]


# ---- sanity


def randomized(rows, other=0.3, layers=5):
    last = means("explainer", rows, comparison=scales.RANDOMIZED, randomized=layers, layers=layers, chance=1 / 9)
    same = {name: (other, 0.2, 0.4, 10) for name in rows if not np.isnan(other)}
    between = means("explainer", same, comparison=scales.OTHER, randomized=0, layers=layers, chance=1 / 9)
    return evaluation_findings.randomization_findings(pd.concat([last, between]).assign(measure="equal_area_iou"))


def test_maps_that_do_not_change_are_named_and_only_those():
    start = "m, all {} randomized: equal-area IoU with the original map: Grad-CAM {}. Unrelated pixels have 0.11{}; {}."
    above, at = "0.80 (95 % interval 0.70 to 0.90, n = 10)", "0.35 (95 % interval 0.30 to 0.40, n = 10)"
    between, none = (
        ", maps of different source images 0.30",
        "so no explainer is shown to ignore what the network has learned",
    )
    assert randomized({"gradcam-x": (0.8, 0.7, 0.9, 10)}) == [
        start.format("5 layers", above, between, "still above both: Grad-CAM")
    ]
    assert randomized({"gradcam-x": (0.35, 0.3, 0.4, 10)}) == [
        start.format("5 layers", at, between, f"no interval lies above both, {none}")
    ]
    assert randomized({"gradcam-x": (0.35, 0.3, 0.4, 10)}, NAN, 1) == [
        start.format("1 layer", at, "", "still above it: Grad-CAM")
    ]
    assert randomized({"gradcam-x": (0.8, NAN, NAN, 2)}) == [
        start.format(
            "5 layers",
            "0.80 (n = 2 is too small for an interval)",
            between,
            "too few source images to say which explainers do not change",
        )
    ]
    assert randomized({"gradcam-x": (NAN, NAN, NAN, 0)}, NAN) == [
        "m: there is no source image on which maps of a randomized network can be compared."
    ]


def stable(jaccards, *, n_samples, top=5):
    tables = [
        means("measure", dict.fromkeys(STABILITY_TITLES, (mean, mean - 0.1, mean + 0.1, 10)), n_samples=count)
        for count, mean in jaccards.items()
    ]
    return evaluation_findings.stability_findings(
        pd.concat(tables).assign(seeds=3, chance=0.2, ceiling=0.95), top=top, n_samples=n_samples
    )


def test_stability_is_told_at_the_samples_of_the_maps():
    start = (
        "m: LIME's {} {} (mean Jaccard index of two seeds at least 0.8, over 3 seeds). With the {} samples of the "
        "maps it is {}, chance 0.20, and the equal-area IoU of two seeds' maps is {}, that of unrelated "
        "pixels 0.20, and at most 0.95 for ties."
    ).replace(", and the equal", " and the equal")
    five, low, high = (
        "5 most important superpixels are",
        "0.50 (95 % interval 0.40 to 0.60, n = 10)",
        "0.90 (95 % interval 0.80 to 1.00, n = 10)",
    )
    counts = {50: 0.2, 200: 0.5, 1000: 0.9}
    assert stable(counts, n_samples=1000) == [start.format(five, "settled at 1,000 samples", "1,000", high, high)]
    assert stable(counts, n_samples=200) == [
        start.format(five, "settled at 1,000 samples, more than the 200 of the maps", "200", low, low)
    ]
    assert stable(counts | {1000: 0.5}, n_samples=200, top=1) == [
        start.format("1 most important superpixel is", "not settled at 1,000 samples", "200", low, low)
    ]
    assert stable({200: NAN}, n_samples=200) == [
        "m: there is no source image on which LIME can be compared with itself."
    ]


# ---- networks compared


def rarefied(low, high, units=100):
    row = {
        "model_a": "a",
        "model_b": "b",
        "claim": "selective",
        "rarefied_units": units,
        "rarefied_a": 40.0,
        "rarefied_b": 30.0,
    }
    table = pd.DataFrame([row | {"difference_low": low, "difference_high": high}])
    return compared(models=table)[:-1]


def compared(**tables):
    columns = {
        "layers": ["model", "layer", "claim", "units_counted"],
        "models": ["rarefied_units"],
        "differences": ["model_a", "model_b", "layer", "p_adjusted"],
        "unique": ["model"],
        "trend": ["model", "p_adjusted"],
        "probe_sizes": ["model", "units"],
    }
    return concept_findings.concept_findings(
        **{name: tables.get(name, pd.DataFrame(columns=columns[name])) for name in columns}
    )


def test_a_difference_of_distinct_concepts_has_a_side():
    start = "Among 100 selective units of each, a names 40 and b 30 distinct concepts"
    assert rarefied(1, 9) == [
        f"{start} (95 % interval of the difference 1.0 to 9.0): a difference is supported, a names more."
    ]
    assert rarefied(-9, -1) == [
        f"{start} (95 % interval of the difference -9.0 to -1.0): a difference is supported, b names more."
    ]
    assert rarefied(-1, 9) == [f"{start} (95 % interval of the difference -1.0 to 9.0): a difference is not supported."]
    assert rarefied(0, 9) == [f"{start} (95 % interval of the difference 0.0 to 9.0): a difference is not supported."]
    assert rarefied(NAN, NAN) == [
        f"{start}; without an interval, for there are fewer than 50 units or none makes a difference."
    ]
    assert rarefied(NAN, NAN, units=0) == []


def shares(difference, p):
    row = {"model_a": "a", "model_b": "b", "layer": "all", "category": "scene", "labeled_a": 50, "labeled_b": 1}
    row |= {"share_a": 0.5 + difference, "share_b": 0.5, "difference": difference, "p_adjusted": p}
    row |= {"low": difference - 0.1, "high": difference + 0.1}
    other = row | {"layer": "x", "p_adjusted": 1.0}
    return compared(differences=pd.DataFrame([row, other]))[:-1]


def test_differences_of_shares_have_a_sign():
    start = "Category shares of a and b that differ (50 and 1 selective unit; p adjusted for 2 tests): scene "
    assert shares(0.2, 0.01) == [
        f"{start}70 % and 50 % (difference +20.0 points, 95 % interval +10.0 to +30.0; p = 0.01)."
    ]
    assert shares(-0.2, 0.01) == [
        f"{start}30 % and 50 % (difference -20.0 points, 95 % interval -30.0 to -10.0; p = 0.01)."
    ]
    assert shares(0.2, 0.05) == [
        "No difference of category shares between a and b is supported at 50 and 1 selective unit; smallest p = 0.05, "
        "adjusted for 2 tests; so few units could have shown large differences only."
    ]


@pytest.mark.parametrize(("p", "how_many"), [((0.01, 0.9), "1"), ((0.05, 0.9), "none"), ((0.01, 0.02), "2")])
def test_concepts_of_one_model_only(p, how_many):
    row = {"model": "a", "units": 3, "labeled": 6, "tests": 7}
    table = pd.DataFrame([row | {"concept": "dog", "p_adjusted": p[0]}, row | {"concept": "cat", "p_adjusted": p[1]}])
    end = f"for {how_many} of them is that more than chance (p < 0.05 adjusted for 7 tests)."
    start = "2 concepts occur in a only, most often dog (3 of 6 selective units)"
    assert compared(unique=table)[:-1] == [f"{start}; {end}"]
    assert compared(unique=table[1:])[0].startswith("1 concept occurs in a only, most often cat")


def rising(slope, p):
    row = {"model": "a", "category": "scene", "first": "x", "last": "y", "layers": 2, "labeled": 90, "slope": slope}
    row |= {"low": slope - 0.01, "high": slope + 0.01, "p_adjusted": p}
    return compared(trend=pd.DataFrame([row]))[:-1]


def test_trends_rise_fall_or_are_not_supported():
    start = "From x to y of a (2 layers, 90 selective units; p adjusted for 1 test): scene "
    assert rising(0.05, 0.01) == [f"{start}rises by 5.0 points a layer (95 % interval +4.0 to +6.0; p = 0.01)."]
    assert rising(-0.05, 0.01) == [f"{start}falls by 5.0 points a layer (95 % interval -6.0 to -4.0; p = 0.01)."]
    assert rising(0.05, 0.05) == [
        "No rise or fall of a category's share is supported from x to y of a (2 layers, 90 selective units); smallest "
        "p = 0.05, adjusted for 1 test."
    ]


# ---- labels


def labels(q, alpha, **changes):
    facts = {"source_images": 40, "images": 50, "p_floor": 0.001, "kept": 0.5, "kept_group": 0.75, "set_size": NAN}
    facts |= {"candidate": "dog", "margin_group": 0.1, "similarity": "soft_wpmi", "top_k": 100, "layer": "x"}
    table = pd.DataFrame({"p_value": q, "held_out_correlation": NAN}).assign(alpha=alpha, **facts)
    table["status"] = np.where(np.array(q) <= alpha, "selective", "not selective")
    return concept_findings.evidence_findings(table.assign(**changes))


def test_labels_are_better_than_chance_up_to_the_alpha_in_use():
    start = (
        "{} selective: a word fits better than by chance at q = {} (permutation of 40 source images (50 images), "
        "adjusted for the choice of the concept and for the units of a layer; no p-value can be below 0.001). 0 units "
        "are dead or constant."
    )
    q = [0.01, 0.1, 0.2, 0.5]
    assert labels(q, 0.2)[0] == start.format("3 of 4 active units (75 %) are", "0.2")
    assert labels(q, 0.05)[0] == start.format("1 of 4 active units (25 %) is", "0.05")
    assert labels(q, 0.001)[0] == start.format("0 of 4 active units (0 %) are", "0.001")
    assert labels(q, 0.001)[2] == (
        "Not supported at n = 40 source images (50 images): that any unit responds to what the encoder sees. So "
        "nothing can be named."
    )


def test_sets_say_how_many_units_are_named_and_how_many_have_a_theme():
    status = ["named", "theme", "theme", "selective", "selective", "not selective"]
    given = {"status": status, "set_size": [1, 2, 3, 20, 40, 7], "gap": 0.5}
    (told,) = (each for each in labels([0.01] * 5 + [0.5], 0.05, **given) if "Sets of words" in each)
    assert (
        "By all source images sets have 3 groups of near-duplicates in the median of 5 selective units: 1 unit is "
        "named by one group, 2 have" in told
    )
    assert not any("Sets of words" in each for each in labels([0.01], 0.05))
    assert concept_findings._claims(pd.DataFrame({"status": ["selective"], "set_size": [NAN], "gap": [NAN]})) == {}


def test_numbers_of_top_images_are_told_where_a_layer_has_chosen_another_than_the_published():
    assert not any("top" in sentence or "chosen" in sentence for sentence in labels([0.01, 0.1], 0.05))
    *_, told = labels([0.01, 0.1, 0.2], 0.05, layer=["x", "x", "y"], top_k=[400, 400, 100])
    assert told == (
        "Held-out scores have chosen how many of a unit's most active images its label looks at: 400 in x, 100 in y. "
        "Held-out scores that are shown are of labels by halves that chose for themselves."
    )
    assert not any("chosen" in sentence for sentence in labels([0.01], 0.05, similarity="wpmi", top_k=28))


def test_what_annotated_images_say_of_words_is_told_of_five_selective_units_or_more():
    q = [0.01] * 5 + [0.5]
    *_, told = labels(q, 0.05, held_out_correlation=0.2, held_out_auc=[0.6, 0.7, 0.7, 0.7, 0.8, 0.1])
    assert told == (
        "There, a selective unit is more active on an image that is annotated with the word than on another annotated "
        "one in 70 % of the pairs (mean AUC of 5 units whose words are annotated, taken as independent; 95 % interval "
        "60 % to 80 %); by chance in 50 %."
    )
    assert not any("annotated" in each for each in labels(q, 0.05, held_out_auc=[0.6, 0.7, 0.7, 0.7, NAN, 0.1]))


def test_words_are_of_one_meaning_only_where_there_are_words():
    units = pd.DataFrame({"candidate": ["red", "red", "", None], "margin_group": NAN})
    alone = [concept_findings._one_meaning(own) for own in (units, units[2:], units[:0])]
    assert alone == [True, False, False]
    assert not concept_findings._one_meaning(units.assign(margin_group=[0.1, NAN, NAN, NAN]))


def test_labels_that_could_not_be_tested():
    assert labels([NAN, NAN], 0.05) == [
        "None of 2 active units could be tested, so none is selective. 0 units are dead or constant."
    ]
    assert labels([NAN], 0.05, status="dead") == ["None of the 1 unit responds to anything: all are dead or constant."]


def dissected(cosine, p, detectors=10):
    row = {"model": "m", "layer": "x", "masks": "masks", "units": 20, "detectors": detectors, "unique_detectors": 1}
    row |= {"annotated_source_images": 9, "named": 0, "selective": 1, "not_selective": 19, "held_out_iou_low": NAN}
    row |= {"shuffled_units": 0}
    row |= {
        "compared": detectors,
        "same": 1,
        "same_low": 0.1,
        "same_high": 0.4,
        "cosine": cosine,
        "cosine_chance": 0.5,
        "p_value": p,
        "p_adjusted": p,
    }
    units = pd.DataFrame(columns=["model", "layer", "status", "mask_category", "mask_concept"])
    named, agreement, _ = concept_findings.netdissect_findings(pd.DataFrame([row]), units)
    assert named == "m x: Network Dissection (masks; 9 source images) names 0 of 20 units; 1 more is selective, 19 not."
    return [agreement]


def test_two_methods_agree_more_less_or_neither():
    text = (
        "Of the 20 units of x of m, Network Dissection (masks) calls 10 detectors, of 1 different concept. The two "
        "labels of 10 of them, whose CLIP labels are selective too, have a mean text cosine of {:.2f}, against 0.50 if "
        "shuffled among these units: {} (p = {}, adjusted for 1 test, units taken as independent); 1 names the same "
        "(95 % interval 10 % to 40 %)."
    )
    assert dissected(0.9, 0.01) == [text.format(0.9, "agreement beyond chance is supported", 0.01)]
    assert dissected(0.1, 0.01) == [text.format(0.1, "less agreement than by chance is supported", 0.01)]
    assert dissected(0.9, 0.05) == [text.format(0.9, "agreement beyond chance is not supported", 0.05)]
    assert dissected(NAN, NAN, detectors=0) == [
        "Of the 20 units of x of m, Network Dissection (masks) calls 0 detectors, of 1 different concept; none of them "
        "has a selective CLIP label to compare."
    ]


def test_words_by_masks_are_those_of_their_own_layer():
    row = {"model": "m", "masks": "masks", "units": 9, "detectors": 0, "unique_detectors": 0, "compared": 0, "same": 0}
    row |= {
        "annotated_source_images": 9,
        "named": 1,
        "selective": 0,
        "not_selective": 8,
        "p_adjusted": NAN,
        "held_out_iou_low": NAN,
        "shuffled_units": 0,
    }
    layers = pd.DataFrame([row | {"layer": layer} for layer in ("x", "y")])
    units = [
        ("m", "x", "named", "color", "red"),
        ("m", "y", "named", "texture", "dotted"),
        ("k", "x", "named", "a", "b"),
    ]
    units = pd.DataFrame(units, columns=["model", "layer", "status", "mask_category", "mask_concept"])
    first, _, second, _, _ = concept_findings.netdissect_findings(layers, units)
    assert "red" in first and "dotted" not in first and "dotted" in second and "red" not in second


def test_distinct_concepts_of_smaller_probe_sets_are_told_where_there_are_units():
    rows = [
        ("m", "x", 0.5, 9.6, 40.0, 3, 0.75),
        ("m", "x", 1.0, 12.0, 80.0, 3, 1.0),
        ("m", "y", 1.0, 5.0, 80.0, 3, 1.0),
    ]
    rows += [("m", "dead", 0.5, 0.0, 40.0, 0, NAN), ("m", "dead", 1.0, 0.0, 80.0, 0, NAN)]
    columns = ["model", "layer", "fraction", "distinct", "source_images", "units", "kept"]
    (said,) = compared(probe_sizes=pd.DataFrame(rows, columns=columns))[:-1]
    assert said == (
        "Distinct concepts of m on fewer source images, where every active unit has its best label whatever the "
        "evidence: x 10 on 40 and 12 on 80 source images (75 % of the units keep their concept)."
    )


def test_the_share_of_the_most_frequent_has_an_interval_where_there_is_one():
    rows = [("m", "x", "named", 60, 0.5, 0.4, 0.62), ("m", "y", "named", 1, 1.0, NAN, NAN)]
    columns = ["model", "layer", "claim", "units_counted", "top10_share", "top10_low", "top10_high"]
    table = pd.DataFrame([*rows, ("m", "z", "named", 0, NAN, NAN, NAN)], columns=columns)
    (said,) = compared(layers=table)[:-1]
    assert said == (
        "The ten most frequent names are those, of the named units of m, 50 % in x (60 units, 95 % interval 40 % to "
        "62 %); 100 % in y (1 unit)."
    )
    assert compared(layers=table.assign(claim="selective"))[0].startswith("The ten most frequent best words are those")


# ---- tuning


def tuned(gain, p, held_out, low, left_out=0):
    facts = {"objective": "IoU", "segmentation": "grid", "hide": "mean", "distance": "cosine", "kernel_width": 0.25}
    facts |= {"alpha": 1.0, "n_features": NAN, "model": "m", "refused": 0, "left_out": left_out, "ceiling": 1.0}
    rows = {"best": (0.5, 0.4, 0.6, 10), "default": (0.3, 0.2, 0.4, 10)}
    board = means("setting", rows).assign(rank=[1, 2], n_samples=[100, 200], forward_passes=[100, 200], **facts)
    board = board.assign(difference=[gain, NAN], p_adjusted=[p, NAN], difference_low=[low, NAN], difference_high=0.3)
    values = {"held out": (0.4, 0.3, 0.5, 10), "default": rows["default"], "cheapest": rows["default"]}
    chosen = means("what", values).assign(setting=["1 chosen", "default", "default"])
    chosen = chosen.assign(difference=[held_out, NAN, 0.0])
    return evaluation_findings.tuning_findings(board, chosen)[:2]


def test_gains_of_tuning_have_a_sign_and_a_test():
    best = (
        "m, scored by IoU: the best of 2 settings of LIME is grid; hidden by mean; 100 samples; cosine distance of "
        "width 0.25; alpha 1; all superpixels in the surrogate, 0.50 (95 % interval 0.40 to 0.60, n = 10). The default "
        "scores "
        "0.30 (95 % interval 0.20 to 0.40, n = 10); the difference is +0.20, {} (adjusted for 1 test). It takes 50 % "
        "fewer forward passes than the default (200)."
    )
    luck = (
        "m: the best of many settings looks better than it is (selection bias). Settings chosen on all other source "
        "images score 0.40 on the one held out, {} to the default. {}."
    )
    pays = (
        "That choosing pays is {}supported (interval of the best one's difference, together with those of all "
        "settings, {} to 0.30, n = 10)"
    )
    assert tuned(0.2, 0.01, 0.1, 0.02) == [best.format("p = 0.01"), luck.format("+0.10", pays.format("", "0.02"))]
    assert tuned(0.2, 0.05, -0.1, 0.02) == [
        best.format("p = 0.05: not supported at n = 10"),
        luck.format("-0.10", pays.format("not ", "0.02")),
    ]
    assert tuned(0.2, 0.01, 0.1, 0.02, left_out=3) == [
        "m: 3 source images left out of the tuning, for no setting of LIME could be scored there.",
        best.format("p = 0.01"),
    ]
    assert tuned(0.2, 0.01, 0.1, 0.0)[1] == luck.format("+0.10", pays.format("not ", "0.00"))
    assert tuned(0.2, 0.01, 0.1, NAN)[1] == luck.format("+0.10", "Whether choosing pays cannot be said at n = 10")


# ---- units switched off

OFF = {"contribution": 0.43, "activity": 0.28, "weight": 0.41, "random": 0.04}


def switched_off(p, *, sign=1, low=0.3, classes=12, names=(), others=0.02):
    """Sentences of 20 units; `p` are of the tests against activity, weight, random and other classes."""
    rows = [
        [chosen, 20, of, measure, 12, *values]
        for chosen, share in OFF.items()
        for of, lost in (("the class", share), ("others", others))
        for measure, values in (("share", [5.0, lost, low, 0.5]), ("accuracy", [0.66, lost, low, 0.5]))
    ]
    rows = [*rows, ["contribution", 5, "the class", "share", 12, 5.0, 0.1, low, 0.5]] if classes else []
    summary = pd.DataFrame(rows, columns=["chosen", "k", "of", "measure", "n", "before", "mean", "low", "high"])
    sides = [*list(OFF)[1:], "other classes"] if classes else []
    tests = pd.DataFrame(
        {"comparison": sides, "p_adjusted": p, "k": 20, "measure": "fall", "n": 12, "difference": sign}
    )
    tests = pd.concat([tests, tests.assign(k=5), tests.assign(measure="share")])  # only falls of the most are told
    falls = [[*each, place] for place, each in enumerate(names)]
    of_names = pd.DataFrame(falls, columns=["name", "p_adjusted", "fall"])
    tables = (each.assign(model="m", layer="x") for each in (summary, tests, of_names))
    about = pd.DataFrame([{"model": "m", "layer": "x", "classes": classes, "most": 1}])
    return account_findings.intervention_findings(about, *tables)


def test_units_that_contribute_most_cost_their_class_more():
    (said,) = switched_off([0.01, 0.5, 0.001, 0.01])
    assert said == (
        "m: without the 20 units of x that contribute most to a class, chosen on other images, the class loses 43 %"
        " (95 % interval 30 % to 50 %, n = 12 classes) of its logit; its accuracy changes from 66 % to 23 %. Other "
        "classes lose 2 % (95 % interval 30 % to 50 %, n = 12 classes) of theirs; their accuracy changes from 66 % "
        "to 64 %. Of as many other units, the most active cost the class 28 % of its logit, those of the largest "
        "weights 41 %, random ones of equal activity 4 %. The largest contributions cost the class more than the "
        "most active (supported, p = 0.01), those of the largest weights (not supported at n = 12, p = 0.5), random"
        " ones (supported, p = 0.001), and more than other classes (supported, p = 0.01); paired permutation tests "
        "of the fall by class, adjusted for all of the layer."
    )
    assert said.verdict == "m: units that contribute most matter more than others as active."
    (said,) = switched_off([0.01, 0.5, 0.05, 0.01])
    assert said.verdict == "m: that units that contribute most matter more than others as active is not shown."
    (said,) = switched_off([0.01, 0.01, 0.01, 0.01], sign=-1)
    assert said.count("(the opposite is supported, p = 0.01)") == 4 and "is not shown" in said.verdict


def test_units_switched_off_for_few_classes_or_none():
    (said,) = switched_off([NAN] * 4, low=NAN)
    assert "the class loses 43 % (n = 12 is too small for an interval) of its logit" in said
    assert "supported" not in said and said.verdict == "m: what units that contribute most do cannot be told."
    (said,) = switched_off([], classes=0)
    assert said == (
        "m: no unit of x was switched off. That takes a class with 10 labeled source images, half of them to choose"
        " units by accounts of that class; the most that a class has is 1."
    )
    assert said.verdict == "m: cannot be told."


def test_names_that_cost_more_are_listed():
    _, said = switched_off([0.01] * 4, names=[("red", 0.02), ("dotted", 0.05), *((f"n{i}", 0.01) for i in range(6))])
    assert said == (
        "m: of 8 names of units of x, 7 cost the classes to which its units contribute most, on other images, more "
        "than random sets of as many units of equal activity (n5, n4, n3, n2, n1 and 2 more): p < 0.05 adjusted "
        "for 8 tests, by the rank among 99 sets. The test is of what accounts say of these units, not of their "
        "name."
    )
    assert said.verdict == "m: switching off 7 of 8 names costs more than others as active."
    _, said = switched_off([0.01] * 4, names=[("red", 0.3)])
    assert "0 cost the classes" in said and said.verdict.startswith("m: switching off 0 of 1 name costs")


# ---- what accounts cover


def covered(named, selective, *, low=0.2, n=10):
    """The finding of one layer; of named and selective units the shares of the account and of the units."""
    rows = [
        ["m", "x", kind, part, n, n, share, low, 0.4, units]
        for kind in ("class", "runner-up")
        for part, (share, units) in (("named", named), ("selective", selective), ("remainder", (0.1, NAN)))
    ]
    columns = ["model", "layer", "account", "part", "n", "source_images", "mean", "low", "high", "units"]
    return account_findings.coverage_findings(pd.DataFrame(rows, columns=columns))


def test_coverage_stands_beside_the_share_of_units():
    (said,) = covered((0.27, 0.29), (0.44, 0.41))
    assert said == (
        "m: of the account of a class (contributions of the units of x and of the biases after it, without their "
        "signs) named units carry 27 % (95 % interval 20 % to 40 %, n = 10) and are 29 % of the units; selective ones, "
        "the named among them, carry 44 % (95 % interval 20 % to 40 %, n = 10) and are 41 %. As many units at random "
        "carry, on average, at most their share of the units. Of its lead over the runner-up named units carry 27 %, "
        "selective ones 44 % (n = 10)."
    )
    assert said.verdict == "m: named units carry 27 % of the account and are 29 % of the units."
    (said,) = covered((0, 0), (0.44, 0.41), low=NAN, n=3)
    assert "carry 0 % (n = 3 is too small for an interval) and are 0 %" in said
    assert said.verdict == "m: no unit of x has a name; selective ones carry 44 % of the account."
    (said,) = covered((0, 0), (0, 0))
    assert "no unit of x is selective or has a name" in said and said.verdict.endswith("cannot be told.")
    (said,) = covered((NAN, 0.3), (NAN, 0.4), n=0)
    assert said == "m: no prediction has an account by the units of x."


# ---- audits


def audits(rows, *, n=8):
    """Rows of an audit: list, concept, share, its low end, chance and verdict."""
    table = pd.DataFrame(rows, columns=["part", "concept", "mean", "low", "chance", "verdict"])
    same = {"model": "m", "class": 3, "class_name": "cat", "n": n, "source_images": n, "p_value": 0.5}
    return account_findings.audit_findings(table.assign(high=table["low"] + 0.2, **same))


def test_audits_name_what_classes_lean_on():
    rows = [
        ["expected", "", 0.3, 0.2, 0.1, "leans on it"],
        ["expected", "fur", 0.2, 0.1, 0.1, "leans on it"],
        ["expected", "ear", 0.1, 0.0, 0.1, "not shown"],
        ["unexpected", "", 0.05, 0.01, 0.06, "not shown"],
        ["unexpected", "grass", 0.05, 0.01, 0.06, "not shown"],
        ["no name", "", 0.65, 0.6, NAN, ""],
    ]
    (said,) = audits(rows)
    assert said == (
        "m, cat: expected concepts carry 30 % (95 % interval 20 % to 40 %, n = 8) of the absolute account, by chance "
        "10 %; unexpected concepts carry 5 % (95 % interval 1 % to 21 %, n = 8) of the absolute account, by chance 6 %."
        " Expected, leans on it: fur. Expected, not shown: ear. Unexpected, not shown: grass. Chance: the units' "
        "weights dealt anew; p < 0.05 adjusted for 6 tests."
    )
    assert said.verdict == "m, cat: is not shown to lean on anything unexpected."
    rows[4][-1] = "leans on it"
    assert audits(rows)[0].verdict == "m, cat: leans on grass, unexpectedly."
    assert audits(rows[:3])[0].verdict == "m, cat: leans on fur, as expected."
    assert audits([rows[0], rows[2]])[0].verdict == "m, cat: is not shown to lean on what is expected."
    for row in rows[3:5]:
        row[2:] = [0.0, 0.0, NAN, "no active unit has this name"]
    (said,) = audits(rows)
    assert "by chance 10 %; no active unit is called by an unexpected concept. Expected," in said
    assert said.verdict == "m, cat: leans on fur, as expected."
    assert audits(rows[3:])[0].verdict == "m, cat: cannot be told."
    rows[0][3] = NAN
    assert audits(rows, n=3)[0].verdict == "m, cat: cannot be told." and "n = 3 is too small" in audits(rows, n=3)[0]
    (said,) = audits(rows, n=0)
    assert said == "m, cat: no image has an account of this class, so there is nothing to audit."
    assert said.verdict == "m, cat: cannot be told."


# ---- every sentence of tables without rows


def test_every_finding_is_walked():
    found = {
        f"{module.__name__.rpartition('.')[2]}.{name}"
        for module in MODULES
        for name, each in vars(module).items()
        if name.endswith(("findings", "_sentences"))
        and name[0] != "_"
        and inspect.isfunction(each)
        and each.__module__ == module.__name__
    }
    assert found == set(EMPTY)


SUMMARY = [
    "model",
    "measure",
    "cut",
    "subset",
    "explainer_a",
    "explainer_b",
    "mean",
    "low",
    "high",
    "n",
    "chance",
    "floor",
]
SUMMARY += ["ceiling", "excess", "p_adjusted"]
EMPTY = {  # the columns of the tables, and options
    "evaluation_findings.agreement_findings": ([SUMMARY, ["model", "measure"]], {"area": 0.2}),
    "concept_findings.concept_findings": (
        [
            ["model", "claim", "units_counted"],
            ["rarefied_units"],
            ["model_a", "model_b", "layer", "p_adjusted"],
            ["model"],
            ["model", "p_adjusted"],
            ["model"],
        ],
        {},
    ),
    "concept_findings.evidence_findings": ([["status"]], {}),
    "evaluation_findings.faithfulness_findings": (
        [["model", "measure", "baseline"], ["model", "measure", "baseline"]],
        {},
    ),
    "evaluation_findings.localization_findings": ([["model", "reference", "measure"], ["model"]], {}),
    "concept_findings.forecast_findings": ([["model", "again"]], {}),
    "concept_findings.control_findings": ([["model", "control", "near_copies"]], {}),
    "concept_findings.linear_findings": (
        [["model", "layer", "linear_correlation", "label_correlation", "ridge_correlation", "again", "label_again"]],
        {},
    ),
    "concept_findings.netdissect_findings": ([["model"], ["model"]], {}),
    "evaluation_findings.shape_findings": ([["model", "measure"], ["model"]], {}),
    "evaluation_findings.complexity_findings": ([["model", "agreement"]], {}),
    "evaluation_findings.randomization_findings": ([["model", "measure"]], {}),
    "evaluation_findings.stability_findings": ([["model", "measure", "n_samples"]], {"top": 5, "n_samples": 100}),
    "account_findings.intervention_findings": (
        [["model"], ["model", "layer", "k"], ["model", "layer", "k"], ["model", "layer"]],
        {},
    ),
    "account_findings.coverage_findings": ([["model", "layer", "account"]], {}),
    "account_findings.audit_findings": ([["model", "class_name", "class", "part", "p_value"]], {}),
    "evaluation_findings.tuning_findings": ([["model"], ["model"]], {}),
    "overview.accuracy_sentences": ([["model"]], {}),
    "concept_findings.label_sentences": ([["model"]], {"encoder": "CLIP"}),
    "concept_findings.frequency_sentences": ([["model", "layer"]], {}),
    "concept_findings.category_sentences": ([["model", "layer"]], {}),
    "evaluation_findings.no_map_sentences": ([["model", "explainer", "warning"]], {}),
    "overview.timing_sentences": ([["model", "device", "threads"]], {}),
}


@pytest.mark.parametrize("name", EMPTY)
def test_tables_without_rows_give_no_claim(name):
    module, function = name.split(".")
    columns, options = EMPTY[name]
    finding = getattr(next(each for each in MODULES if each.__name__.endswith(f".{module}")), function)
    said = finding(*(pd.DataFrame(columns=own) for own in columns), **options)
    nothing = "None of the 0 units responds to anything: all are dead or constant."
    caveat = compared()[-1]
    assert said in ([], [nothing], [caveat])


def test_one_is_singular_everywhere():
    one = pd.DataFrame({"model": ["m"], "layer": ["x"], "status": ["named"], "concept": ["dog"], "group": ["dog"]})
    assert concept_findings.label_sentences(one, "CLIP") == [
        "The CLIP names 1 of the 1 unit in 1 layer of m, with 1 distinct concept."
    ]
    images = pd.DataFrame({"set": ["probe"], "images": [1], "source_images": [1]})
    lines = overview.caveats(pd.DataFrame({"image_id": ["a"]}), images, encoder="CLIP")
    assert any("labeled on 1 image, whole or cut from 1 source image;" in line for line in lines)
    assert any(line.startswith("1 source image was explained, which is few;") for line in lines)
    assert labels([0.5, 0.01], 0.05)[0].startswith("1 of 2 active units (50 %) is selective")


# ---- verdicts

FEW = {"gradcam-x": (0.8, NAN, NAN, 2)}
VERDICTS = [
    (lambda: rarefied(1, 9), "a is more varied than b."),
    (lambda: rarefied(-9, -1), "b is more varied than a."),
    (lambda: rarefied(-1, 9), "a and b: no difference in variety is shown."),
    (lambda: rarefied(NAN, NAN), "a and b: which is more varied cannot be told."),
    (lambda: shares(0.2, 0.01), "a and b: 1 category differs."),
    (lambda: shares(0.2, 0.05), "a and b: no category is shown to differ."),
    (lambda: rising(-0.05, 0.01), "a: scene falls."),
    (lambda: rising(0.05, 0.05), "a: no category is shown to rise or fall."),
    (lambda: complex_(("entropy", -0.8, -0.9, -0.6, 0.001, 0.002)), "m: agreement goes with gray-level entropy."),
    (lambda: complex_(("entropy", -0.3, -0.6, 0.1, 0.2, 0.3)), "m: no measure is shown to go with agreement."),
    (
        lambda: located(0.3, [(0.2, 0.01), (0.1, 0.6)]),
        "m, share of the peak inside (pointing game): 1 of 2 explainers beats a centered blob.",
    ),
    (
        lambda: located(0.8, [(-0.3, 0.01), (-0.4, 0.02)]),
        "m, share of the peak inside (pointing game): no explainer is shown to beat a centered blob.",
    ),
    (
        lambda: faithful("road", {"lime": 0.4, "random": 0.5}, {"lime": (0.1, 0.04)}, {}),
        "m, ROAD: 1 of 1 explainer beats random maps.",
    ),
    (
        lambda: faithful("road", {"lime": 0.4, "random": 0.5}, {"lime": (-0.1, 0.04)}, {}),
        "m, ROAD: no explainer is shown to beat random maps.",
    ),
    (lambda: faithful("road", {"lime": 0.4}, {}, {}, n=1), "m, ROAD: cannot be told."),
    (
        lambda: randomized({"gradcam-x": (0.8, 0.7, 0.9, 10)}),
        "m: maps of Grad-CAM stay alike without what the network learned.",
    ),
    (lambda: randomized({"gradcam-x": (0.3, 0.2, 0.4, 10)}), "m: no explainer is shown to ignore the network."),
    (lambda: randomized(FEW), "m: cannot be told."),
    (lambda: stable({50: 0.2, 200: 0.9}, n_samples=200), "m: LIME has settled at the 200 samples of the maps."),
    (lambda: stable({50: 0.2, 200: 0.9}, n_samples=50), "m: LIME has not settled at the 50 samples of the maps."),
    (lambda: dissected(0.9, 0.01), "m x: masks and CLIP labels agree more than by chance."),
    (lambda: dissected(0.1, 0.01), "m x: masks and CLIP labels agree less than by chance."),
    (lambda: dissected(0.9, 0.05), "m x: masks and CLIP labels are not shown to agree beyond chance."),
    (lambda: dissected(NAN, NAN, detectors=0), "m x: masks and CLIP labels cannot be compared."),
    (
        lambda: shaped({"gradcam-x": (0.5, 0.4, 0.6, 10), "lime": (0.3, 0.2, 0.4, 10)}, {"gradcam-x": (0.2, 0.01)}),
        "m, Gini coefficient of the saliency: 1 of 1 class activation map differs from LIME.",
    ),
]


BEST = SimpleNamespace(setting="b", p_adjusted=0.01)
DEFAULT = SimpleNamespace(setting="d", mean=0.5)
LAYERS = [SimpleNamespace(top10_share=0.25), SimpleNamespace(top10_share=0.5)]
SIZES = [(SimpleNamespace(distinct=3), SimpleNamespace(distinct=5)), (SimpleNamespace(distinct=5),) * 2]
ALONE = [  # verdicts of sentences, with the values that decide
    ("concepts_evidence", {"living": 4, "better": 1}, "1 of 4 active units matches a concept better than chance."),
    ("concepts_evidence", {"living": 4, "better": 0}, "No unit is shown to match a concept better than chance."),
    ("concepts_labels", {"model": "m", "units": 8, "named": 1}, "m: 1 of 8 units is named."),
    (
        "networks_forecast",
        {"model": "m", "layers": [SimpleNamespace(again=0.1), SimpleNamespace(again=0.25)]},
        "m: 10 % to 25 % of the words come again on other source images.",
    ),
    *[
        ("concepts_controls", {"model": "m", "sought": 0.85, "classes": SimpleNamespace(**classes)}, f"m: {said}")
        for classes, said in [
            ({"why": "x"}, "how often names are right is not known."),
            ({"why": "", "named": 0}, "how often names are right is not known."),
            (
                {"why": "", "named": 9, "named_right": 0.5, "named_right_high": 0.8},
                "names are right too rarely, 50 % of class outputs.",
            ),
            (
                {"why": "", "named": 9, "named_right": 0.9, "named_right_high": 0.95},
                "90 % of the names of class outputs are right.",
            ),
        ]
    ],
    *[
        ("concepts_linear", {"row": {"model": "m", "layer": "x", "gain_low": low, "gain_high": high}}, f"m x: {said}")
        for low, high, said in [
            (0.01, 0.02, "sums of concepts predict units better than single labels."),
            (-0.02, -0.01, "sums of concepts predict units worse than single labels."),
            (-0.01, 0.02, "sums of concepts are not shown to predict units better than single labels."),
            (NAN, NAN, "sums of concepts are not shown to predict units better than single labels."),
        ]
    ],
    (
        "networks_concentration",
        {"model": "m", "claim": "selective", "layers": LAYERS},
        "m: ten best words are those of 25 % to 50 % of a layer's selective units.",
    ),
    (
        "networks_probe_sizes",
        {"model": "m", "layers": SIZES},
        "m: more source images give more distinct concepts in 1 of 2 layers.",
    ),
    (
        "evaluation_best",
        {"model": "m", "best": BEST, "default": DEFAULT},
        "m: the best setting of LIME scores above the default.",
    ),
    (
        "evaluation_best",
        {"model": "m", "best": SimpleNamespace(setting="b", p_adjusted=0.05), "default": DEFAULT},
        "m: no setting of LIME is shown to score above the default.",
    ),
    (
        "evaluation_best",
        {"model": "m", "best": DEFAULT, "default": DEFAULT},
        "m: no setting of LIME scores above the default.",
    ),
    (
        "evaluation_best",
        {"model": "m", "best": BEST, "default": SimpleNamespace(setting="d", mean=NAN)},
        "m: the default cannot be compared.",
    ),
    *[
        (
            "evaluation_held_out",
            {"model": "m", "row": {"difference": gain}, "best": {"difference_low": low}},
            f"m: {said}",
        )
        for gain, low, said in [
            (0.1, 0.01, "choosing a setting pays on other source images."),
            (-0.1, 0.01, "that choosing a setting pays on other source images is not shown."),
            (0.1, 0.0, "that choosing a setting pays on other source images is not shown."),
            (0.1, NAN, "that choosing a setting pays on other source images is not shown."),
        ]
    ],
    (
        "evaluation_cheapest",
        {"model": "m", "held_out": SimpleNamespace(non_inferior=True)},
        "m: that a cheaper setting loses little is supported.",
    ),
    (
        "evaluation_cheapest",
        {"model": "m", "held_out": SimpleNamespace(non_inferior=False)},
        "m: that a cheaper setting loses little is not shown.",
    ),
    (
        "overview_times",
        {"model": "m", "ends": [SimpleNamespace(explainer="gradcam-x"), SimpleNamespace(explainer="lime")]},
        "m: Grad-CAM was the fastest explainer, LIME the slowest.",
    ),
    (
        "overview_times",
        {"model": "m", "ends": [SimpleNamespace(explainer="lime")]},
        "m: LIME was the fastest explainer.",
    ),
]


def test_verdicts_on_agreement():
    rows = {"g & l": (0.6, 0.5, 0.7, 10), "s & l": (0.3, 0.2, 0.4, 10)}
    assert agreeing(rows, [(0.3, 0.01)])[0].verdict == "m: Grad-CAM and LIME agree most."
    assert agreeing({"g & l": rows["g & l"]}, [])[0].verdict == "m: Grad-CAM and LIME agree."
    none = agreeing({"g & l": (NAN, NAN, NAN, 0)}, [])
    assert none[0].verdict == "m: agreement cannot be told."


@pytest.mark.parametrize(
    ("units", "verdict"),
    [
        ([3, 2], "m: dog is the most frequent name."),
        ([2, 2], "m: dog and cat are among the most frequent names."),
        ([1, 1], "m: no name occurs twice."),
        ([0, 0], "m: no unit is named."),
    ],
)
def test_verdicts_on_names_and_categories(units, verdict):
    table = pd.DataFrame({"model": "m", "layer": "all", "units": units, "others": 0, "share": 0.1, "low": 0, "high": 1})
    assert concept_findings.frequency_sentences(table.assign(concept=["dog", "cat"]))[0].verdict == verdict
    shares = table.assign(category=["animal", "scene"], share=units)
    (said,) = concept_findings.category_sentences(shares)
    largest = "animal is the largest category" if units[0] > units[1] else "animal and scene are the largest categories"
    assert said.verdict == f"m: {largest}."


@pytest.mark.parametrize(("name", "values", "verdict"), ALONE, ids=[verdict for *_, verdict in ALONE])
def test_verdict_follows_from_these_values(name, values, verdict):
    said = getattr(pages._sentences("verdicts"), name)(**values)
    assert " ".join(said.split()) == verdict


@pytest.mark.parametrize(("said", "verdict"), VERDICTS, ids=[verdict for _, verdict in VERDICTS])
def test_verdict_says_no_more_than_the_tests(said, verdict):
    assert said()[0].verdict == verdict


def test_a_finding_shows_verdict_and_numbers_and_folds_the_rest(tmp_path, capsys):
    pages.write_findings(tmp_path / "a.json", located(0.3, [(0.2, 0.01), (0.1, 0.6)]))
    (kept,) = json.loads((tmp_path / "a.json").read_text())
    assert capsys.readouterr().out == f"{kept}\n", "the log of the job has it, too"
    shown = pages.finding(kept)
    verdict, _, rest = shown.partition("</strong> ")
    numbers, _, tests = rest.partition(" <details>")
    assert verdict.startswith("<strong>m, share of the peak inside") and "0.50 (95\u00a0% interval" in numbers
    assert "0.05" not in numbers and "p\u00a0&lt;\u00a00.05" in tests and numbers.endswith("chance is 0.25.")


@pytest.mark.parametrize("name", ["<b>", "**x**", "a. B", "\u202e"])
def test_names_in_findings_stay_text(name):
    said = rarefied(1, 9)[0].replace("a names", f"{name} names")
    for sentence in (said, pages.marked([said])[0], f"**{name}** {said}"):
        assert "<b>" not in pages.finding(sentence) and "\u202e" not in pages.finding(sentence)
    assert pages.finding("plain. Text") == "plain. Text"
    assert pages.finding("**V.** One.") == "<strong>V.</strong> One."
    assert pages.finding("**m x: it works.** m x: one of two.") == "<strong>m x: it works.</strong> One of two."
