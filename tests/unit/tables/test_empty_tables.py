"""Tables of no row, of one, and without a number: what summarizes them ends no run, and keeps its columns."""

import numpy as np
import pandas as pd
import pytest
from unitlens.measures.scales import RANDOMIZED
from unitlens.report import concept_findings, evaluation_findings, text
from unitlens.tables import (
    agreement,
    comparison,
    diversity,
    faithfulness,
    job_resources,
    localization,
    netdissect,
    summaries,
)
from unitlens.tables.complexity import complexity_points, correlate_complexity, summarize_shape
from unitlens.tables.sanity import summarize_randomization, summarize_stability

ORIGIN = dict.fromkeys(summaries.ORIGIN, "m")
EXPLAINERS = ["gradcam-x", "scorecam-x", "lime", "random", "gaussian"]


def images(n=3):
    return pd.DataFrame({**ORIGIN, "image_id": [f"i{i}" for i in range(n)], "source_image": "p", "prediction": "right"})


def each(column, names, n=3, **facts):
    """Rows of every image and item."""
    rows = [images(n).assign(**{column: name}, value=np.linspace(0.1, 0.9, n)) for name in names]
    return pd.concat(rows, ignore_index=True).assign(**facts)


def pairs():
    table = each(
        "explainer_a", ["gradcam-x", "scorecam-x"], explainer_b="lime", cut=0.2, floor=0.1, tied_share=0.0, ceiling=1.0
    )
    return pd.concat([table.assign(measure=name) for name in ("equal_area_iou", "spearman")], ignore_index=True)


def matching(table):
    keys = ["model", "explained_class", "geometry", "explainer_a", "explainer_b", "measure", "cut"]
    names = ("chance", "excess", "excess_low", "excess_high", "p_value")
    return table.drop_duplicates(keys)[keys].assign(matched=3, **dict.fromkeys(names, 0.1))


def scored():
    facts = {"measure": "deletion", "baseline": "blur", "flat": False}
    return each("explainer", EXPLAINERS, **facts)


def randomized():
    facts = {"comparison": RANDOMIZED, "randomized": 1, "layers": 1, "deepest": "x", "cut": 0.2}
    return each("explainer", EXPLAINERS[:1], measure="equal_area_iou", **facts)


def complexity():
    return images().assign(**{name: [0.1, 0.5, 0.3] for name in text.COMPLEXITY_TITLES})


def concepts(status="selective"):
    words = ["dog", "dog", "sky"]
    facts = {"model": "m", "layer": ["x", "x", "y"], "unit": [0, 1, 0], "encoder": "e", "similarity": "s", "top_k": 100}
    return pd.DataFrame({**facts, "concept_list": "l", "status": status, "candidate": words, "group": words}).assign(
        category=["object", "object", "scene"]
    )


def dissected():
    words = {"mask_concept": "dog", "mask_category": "object", "masks": "masks", "detector": True}
    words |= {"clip_candidate": "cat", "clip_status": "selective"}
    numbers = {"annotated_source_images": 9, "cosine": 0.5, "same": True, "held_out_iou": 0.1}
    numbers |= {"shuffled_units": 64, "shuffled_selective": 1, "shuffled_named": 0}
    return concepts().assign(**words, **numbers)


def draws():
    facts = {"model": "m", "layer": "x", "fraction": 1.0, "draw": 0, "source_images": 3, "images": 3}
    compared = {"both": 2, "again": 0.5, "median_rank": 2.0, "names_in_set": 3.0}
    return pd.DataFrame([facts | {"units": 2, "distinct": 1.0, "kept": 1.0} | compared])


def jobs():
    table = pd.DataFrame([dict.fromkeys(job_resources.read_jobs("no", "no"), 1.0)])
    return table.assign(rule="r", job="j", counted="images")


def curve_files(table):
    """Files of curves of as many source images as the table has rows."""
    n = len(table)
    arrays = {"lime:deletion:blur": np.full((n, 3), 0.5), "source_image": np.array(["p"] * n, dtype=object)}
    return [(arrays, {"model": "m", "percentiles": [50]})][: n or 1]


SUMMARIES = {
    "agreement.summarize": (pairs, lambda table: agreement.summarize(table, matching(table))),
    "agreement.compare_pairs": (pairs, lambda table: agreement.compare_pairs(table, area=0.2)),
    "complexity.summarize_shape": (lambda: each("explainer", EXPLAINERS[:3], measure="gini"), summarize_shape),
    "complexity.correlate_complexity": (
        pairs,
        lambda table: correlate_complexity(complexity()[: len(table)], table, area=0.2),
    ),
    "faithfulness.summarize": (scored, faithfulness.summarize),
    "faithfulness.compare": (scored, faithfulness.compare),
    "faithfulness.mean_curves": (scored, lambda table: faithfulness.mean_curves(curve_files(table))),
    "localization.summarize": (
        lambda: each("explainer", EXPLAINERS, reference="box", measure="iou", chance=0.1),
        localization.summarize,
    ),
    "sanity.summarize_randomization": (randomized, summarize_randomization),
    "sanity.summarize_stability": (
        lambda: each("measure", text.STABILITY_TITLES, seeds=2, n_samples=100, chance=0.1, ceiling=1.0),
        summarize_stability,
    ),
    "netdissect.summarize": (dissected, lambda table: netdissect.summarize(table, ["cat", "dog"], np.eye(2))),
    "diversity.probe_sizes": (draws, diversity.probe_sizes),
    "job_resources.efficiency": (jobs, job_resources.efficiency),
    "job_resources.slowest": (jobs, job_resources.slowest),
    "summaries.mean_table": (scored, lambda table: summaries.mean_table(table, ["model", "explainer"])),
    "summaries.paired_tests": (scored, lambda table: summaries.paired_tests(table, ["model"], "explainer")),
    "diversity.rarefaction": (concepts, diversity.rarefaction),
} | {
    f"comparison.{name}": (concepts, getattr(comparison, name))
    for name in (
        *("frequent", "layers", "categories"),
        *("models", "category_differences", "trend", "unique_concepts"),
    )
}
SIZES = {
    "empty": lambda table: table[:0],
    "one row": lambda table: table[:1],
    "no number": lambda table: without(table),
}


def without(table):
    """The table with no value that was measured."""
    measured = [name for name in ("value", "cosine", "cosine_chance", "distinct", "kept") if name in table]
    return table.assign(**dict.fromkeys(measured, np.nan))


def columns(result):
    return [list(each) for each in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SUMMARIES)
def test_summaries_of_next_to_nothing_have_the_columns_of_others(name, size):
    make, summarize = SUMMARIES[name]
    assert columns(summarize(SIZES[size](make()))) == columns(summarize(make()))


@pytest.mark.parametrize("name", SUMMARIES)
def test_rows_are_numbered(name):
    """Columns are joined by these numbers."""
    make, summarize = SUMMARIES[name]
    result = summarize(make())
    for table in result if isinstance(result, tuple) else (result,):
        assert table.index.equals(pd.RangeIndex(len(table)))


@pytest.mark.parametrize("name", [name for name, (make, _) in SUMMARIES.items() if make is concepts])
def test_a_run_in_which_no_unit_has_a_label_has_its_tables(name):
    _, summarize = SUMMARIES[name]
    table = summarize(concepts("not selective"))
    assert list(table) == list(summarize(concepts()))
    assert len(table) == (4 if name == "comparison.layers" else 0)  # the layers are told, with no label


def test_two_networks_without_a_label_are_compared_as_such():
    none = pd.concat([concepts("not selective"), concepts("not selective").assign(model="n")])
    row, _ = comparison.models(none).to_dict("records")
    assert (row["distinct_a"], row["distinct_b"], row["shared"], row["rarefied_units"]) == (0, 0, 0, 0)
    tables = [
        getattr(comparison, name)(none) for name in ("layers", "models", "category_differences", "unique_concepts")
    ]
    assert (
        len(concept_findings.concept_findings(*tables, comparison.trend(none), diversity.probe_sizes(draws()[:0]))) == 1
    )


def test_points_of_no_source_image():
    found = correlate_complexity(complexity()[:0], pairs()[:0], area=0.2)
    points, correlations = complexity_points(pairs()[:0], complexity()[:0], found, area=0.2)
    assert points.empty and correlations.empty and evaluation_findings.complexity_findings(found) == []
