"""Every table of the overview by hand, cell for cell, with what is missing in it."""

import pandas as pd
import pytest
from unitlens.report import overview_tables

NAN = float("nan")
INPUT = {"fit": "short", "resize": 256, "crop": 224, "interpolation": "bicubic", "mean": [0.5, 0.25], "std": [1, 2]}
FACT = {
    "model": "m",
    "architecture": "timm:net",
    "weights": {"url": "https://example.org/a.pth", "sha256": "0123456789abcdef", "member": "a"},
    "weights_sha256": "fedcba9876543210",
    "parameters": 1234567,
    "classes": 1000,
    "layers": {"stem": [3, 7, 7], "head": [2], "block": [4]},
    "units": {"stem": {"pooling": "max"}, "block": {"pooling": "cls", "calls": [0, 1]}},
    "input": INPUT,
    "published_input": {"resize": 256},
    "departures": [],
    "output": {"head": "softmax", "read": "the first of 2"},
}
PREDICTIONS = pd.DataFrame(
    [
        ["m", "one", 0, "tench", 0, "tench", 0.9, True, 0, "tench", 0.9],
        ["m", "two", 4, "drake", 5, "gun", 0.4, False, 4, "drake", 0.25],
        ["k", "three", NAN, "", NAN, "", NAN, NAN, NAN, "", NAN],
    ],
    columns=[
        *("model", "image_id", "label", "label_name", "predicted", "predicted_name", "probability", "correct"),
        *("target", "target_name", "target_probability"),
    ],
)


@pytest.mark.parametrize(
    ("read", "told"),
    [
        ({"pooling": "cls", "grid": [4, 4], "prefix_tokens": 1}, "a: 17×12 (class token, 4×4 patches behind 1 token)"),
        (
            {"pooling": "positions", "grid": [4, 4], "prefix_tokens": 5},
            "a: 21×12 (all patches, 4×4 patches behind 5 tokens)",
        ),
        ({"pooling": "max", "grid": [3, 4], "prefix_tokens": 0}, "a: 12×12 (maximum, 3×4 patches)"),
    ],
)
def test_layers_of_tokens_say_how_they_are_read(read, told):
    tokens = read["grid"][0] * read["grid"][1] + read["prefix_tokens"]
    fact = FACT | {"layers": {"a": [tokens, 12]}, "units": {"a": read}}
    (row,) = [row for row in overview_tables.models_table([fact], None) if row[""] == "layers"]
    assert row["m"] == told


def test_models_have_a_column_each():
    other = FACT | {"model": "k", "weights": "torchvision: X", "published_input": None}
    other = {key: value for key, value in other.items() if key not in ("output", "units")}
    table = overview_tables.models_table([FACT, other], PREDICTIONS)
    columns = {row[""]: (str(row["m"]), str(row["k"])) for row in table}
    assert [list(row) for row in table] == [["", "m", "k"]] * len(table)
    shared = {
        "architecture": "timm:net",
        "sha256 of the weights": '<abbr title="fedcba9876543210">fedcba987654</abbr>',
        "parameters": "1,234,567",
        "classes": "1,000",
        "input": "short to 256, center crop 224, bicubic",
        "mean and standard deviation": "0.5, 0.25 and 1, 2",
    }
    assert columns == {name: (cell, cell) for name, cell in shared.items()} | {
        "weights": ("https://example.org/a.pth; a", "torchvision: X"),
        "input as published with the weights": ("yes", "not known"),
        "output": ("softmax, the first of 2", "not known"),
        "layers": (
            "stem: 3×7×7 (maximum); head: 2; block: 4 (class token, of 2 calls)",
            "stem: 3×7×7; head: 2; block: 4",
        ),
        "right predictions": (
            "1 of 2 labeled source images (50 %; 95 % interval 9.5 % to 91 %)",
            "no labeled source image",
        ),
    }
    departs = FACT | {"departures": ["resize: 256, published 248", "crop: 224, published 240"]}
    rows = {row[""]: row["m"] for row in overview_tables.models_table([departs], None)}
    assert rows["input as published with the weights"] == "no; resize: 256, published 248; crop: 224, published 240"
    assert rows["right predictions"] == "not known"
    assert overview_tables.models_table([], None) == []


def test_image_sets_are_told_what_is_remarkable_of_them():
    images = pd.DataFrame(
        [
            ["probe", "square", 2, "a: broken; b: cut", 3, "dark", 13, "2 .heic, 11 none"],
            ["probe", "tall", 9, "not looked at", 9, "", 0, ""],
            ["eval", "square", 1200, "c: cut", 0, "", 0, ""],
        ],
        columns=["set", "geometry", "skipped", "problems", "copies", "warning", "left_out", "left_out_endings"],
    )
    assert overview_tables.images_facts(images) == {
        "images left out as unreadable": "1,202 (c: cut; a: broken; b: cut)",
        "copies among the eval source images": 0,
        "copies among the probe source images": 3,
        "remarks on the probe source images": "dark",
        "probe files left out": "2 .heic, 11 none",
    }
    assert (
        overview_tables.images_facts(images[1:2].assign(skipped=0, problems=""))["images left out as unreadable"] == 0
    )


def test_predictions_show_what_is_not_known():
    names = ["model", "source image", "label", "predicted", "probability", "right", "explained", "its probability"]
    rows = [
        ["m", "one", "tench", "tench", "0.900", "yes", "tench", "0.900"],
        ["m", "two", "drake", "gun", "0.400", "no", "drake", "0.250"],
        ["k", "three", "none", "none", "–", "–", "none", "–"],
    ]
    assert overview_tables.predictions_table(PREDICTIONS) == [dict(zip(names, row, strict=True)) for row in rows]
    many = pd.concat([PREDICTIONS[:1]] * 201)
    assert len(overview_tables.predictions_table(many)) == 200


def test_layers_have_their_five_most_frequent_concepts():
    rows = [("a", "named", 1200, 1, 40, 1000, 2, 1.25), ("b", "selective", 5, 5, 0, 0, 2, NAN)]
    layers = pd.DataFrame(
        [["m", *row] for row in [*rows, ("c", "named", 5, 5, 0, 0, 2, NAN)]],
        columns=[
            "model",
            "layer",
            "claim",
            "units",
            "dead",
            "units_counted",
            "distinct",
            "rarefied_units",
            "distinct_rarefied",
        ],
    )
    places = [("m", "a")] * 6 + [("k", "a"), ("m", "all")]
    frequent = pd.DataFrame(places, columns=["model", "layer"]).assign(concept=list("uvwxyzst"), units=range(8, 0, -1))
    selective = [frequent[:1].assign(layer=layer, units=0) for layer in "bc"]  # where named units count, too
    frequent = pd.concat([frequent, *selective]).assign(others=1)
    names = ["model", "layer", "units", "dead or constant", "counted", "distinct concepts", "expected distinct"]
    names.append("most frequent (units)")
    rows = [
        ["m", "a", "1,200", "1", "40 named", "1,000", "1.2 among 2", "u (8), v (7), w (6), x (5), y (4)"],
        ["m", "b", "5", "5", "0 selective", "0", "– among 2", "u (1)"],
        ["m", "c", "5", "5", "0 named", "0", "– among 2", "none"],
    ]
    assert overview_tables.layers_table(layers, frequent) == [dict(zip(names, row, strict=True)) for row in rows]


def test_categories_have_shares_with_intervals():
    table = pd.DataFrame(
        [["m", "a", "object", 1200, 0.5, 0.15, 0.85], ["m", "a", "color", 0, 0.05, NAN, NAN]],
        columns=["model", "layer", "category", "units", "share", "low", "high"],
    )
    names = ["model", "layer", "category", "units", "share", "95 % interval"]
    rows = [
        ["m", "a", "object", "1,200", "50 %", "15 % to 85 %"],
        ["m", "a", "color", "0", "5 %", "none"],
    ]
    assert overview_tables.categories_table(table) == [dict(zip(names, row, strict=True)) for row in rows]


def test_pairs_of_models_have_a_column_each():
    names = ["distinct_a", "distinct_b", "shared", "only_a", "only_b", "jaccard", "rarefied_units", "rarefied_a"]
    names += ["rarefied_b", "chi_square", "p_value", "cramers_v"]
    pair = dict(
        zip(names, [1001, 1002, 1003, 1004, 1005, 0.1236, 1006, 7.06, 8.04, 12.36, 0.0004, 0.2136], strict=True)
    )
    unknown = pair | dict.fromkeys(("jaccard", "chi_square", "p_value", "cramers_v"), NAN)
    models = pd.DataFrame(
        [
            {"model_a": "m", "model_b": "k", "claim": "named"} | pair,
            {"model_a": "m", "model_b": "z", "claim": "selective"} | unknown,
        ]
    )
    columns = {row.pop(""): tuple(row.values()) for row in overview_tables.comparison_table(models)}
    assert columns == {
        **{"concepts of A": ("1,001",) * 2, "concepts of B": ("1,002",) * 2, "in both": ("1,003",) * 2},
        **{"only in A": ("1,004",) * 2, "only in B": ("1,005",) * 2, "Jaccard index": ("0.124", "–")},
        **{"units drawn of each": ("1,006",) * 2, "expected concepts of A": ("7.1",) * 2},
        "expected concepts of B": ("8.0",) * 2,
        "chi-square of category shares": ("12.4 (p < 0.001)", "– (–)"),
        "Cramér's V": ("0.214", "–"),
    }
    assert list(overview_tables.comparison_table(models)[0]) == [
        "",
        "A m, B k: named units",
        "A m, B z: selective units",
    ]


def test_seconds_of_an_explainer_name_the_machine():
    timings = pd.DataFrame(
        [["m", "gradcam-x", 1200, 123.45, 0.0249, "cpu", 2]],
        columns=["model", "explainer", "images", "seconds", "seconds_per_image", "device", "threads"],
    )
    names = ["model", "explainer", "images", "seconds", "an image", "device"]
    row = ["m", "Grad-CAM", "1,200", "123.5", "0.025 s", "CPU, 2 threads"]
    assert overview_tables.timings_table(timings) == [dict(zip(names, row, strict=True))]


def test_checks_without_a_timing_or_a_tolerance_stay():
    checks = pd.DataFrame(
        [["m", "gradcam", "grad-cam 1.5.7", 3, 0.00000123, 0.001, NAN], ["m", "lime", "lime", 2, NAN, NAN, "left out"]],
        columns=["model", "check", "reference", "images", "largest_difference", "tolerance", "note"],
    )
    timings = pd.DataFrame([["m", "gradcam", 5.82]], columns=["model", "check", "speed_ratio"])
    names = ["model", "check", "reference", "n", "largest difference", "allowed", "times as fast", "note"]
    rows = [
        ["m", "gradcam", "grad-cam 1.5.7", 3, "1.2e-06", "0.001", "5.8", ""],
        ["m", "lime", "lime", 2, "–", "any", "–", "left out"],
    ]
    assert overview_tables.verification_table(checks, timings) == [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("correct", "words"),
    [
        ([True, False, NAN], "1 of 2 labeled source images (50 %; 95 % interval 9.5 % to 91 %)"),
        ([False, False], "0 of 2 labeled source images (0 %; 95 % interval 0 % to 66 %)"),
        ([NAN], "no labeled source image"),
    ],
)
def test_accuracy_is_of_labeled_source_images(correct, words):
    assert overview_tables.accuracy(pd.DataFrame({"correct": correct})) == words
