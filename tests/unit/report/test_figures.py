import html
import inspect
import os
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image
from unitlens.report import charts as charts_module
from unitlens.report import concept_figures, cost_figures, evaluation_figures, explanation_figures
from unitlens.report.text import MEASURE_TITLES, METHOD_TITLES

LONG = "an_uncommonly_long_name_of_a_model_with_many_words-and-a-suffix"
MODELS = {
    "two models": {"squeezenet1_1": ["features.4", "features.12"], "efficientnet_lite0": ["blocks.4", "blocks.6"]},
    "one model and layer": {"resnet18": ["layer4"]},
    "four long names": {f"{LONG}_{i}": ["stages.0.blocks.11.pointwise_convolution_of_the_block"] for i in range(4)},
}
SMALL = np.zeros((20, 30, 3), np.uint8)
CATEGORIES = ["object", "scene", "part", "color", "not a known category"]


@pytest.fixture(params=list(MODELS))
def models(request):
    return MODELS[request.param]


def frequent(models):
    rows = [
        [model, layer, f"concept {i} " + "of many words " * (i == 3), CATEGORIES[i % 5], 30 - i, (30 - i) / 400]
        for model, layers in models.items()
        for layer in [*layers, "all"]
        for i in range(20)
    ]
    return pd.DataFrame(rows, columns=["model", "layer", "concept", "category", "units", "share"]).assign(others=2)


def layers(models):
    rows = [
        [model, layer, "named", 128, *((128, 0, 0, 40, 0) if i == 1 else (3, 90, 60, 40, 30.5)), None, 7]
        for model, names in models.items()
        for i, layer in enumerate(names)
    ]
    columns = [
        "model",
        "layer",
        "claim",
        "units",
        "dead",
        "units_counted",
        "distinct",
        "rarefied_units",
        "distinct_rarefied",
        "top_concept",
        "top_units",
    ]
    table = pd.DataFrame(rows, columns=columns)
    return pd.concat([table, table.assign(claim="selective", units_counted=110, distinct=70)], ignore_index=True)


def categories(models):
    rows = [
        [model, layer, category, 10, 0.2, np.nan if i == 2 else 0.15, np.nan if i == 2 else 0.27]
        for model, names in models.items()
        for layer in [*names, "all"]
        for i, category in enumerate(CATEGORIES)
    ]
    return pd.DataFrame(rows, columns=["model", "layer", "category", "units", "share", "low", "high"])


def sweep(models):
    rows = [
        [
            model,
            f"{method}-{names[-1]}",
            "lime",
            "equal_area_iou",
            "all",
            cut,
            cut,
            low,
            cut + 0.1 if low else np.nan,
            cut / 2,
        ]
        for model, names in models.items()
        for method, low in [("gradcam", 0.02), ("scorecam", None), ("gradcam++", 0.01), ("ablationcam", 0.01)]
        for cut in (0.05, 0.2, 0.5)
    ]
    columns = ["model", "explainer_a", "explainer_b", "measure", "subset", "cut", "mean", "low", "high", "chance"]
    return pd.DataFrame(rows, columns=columns)


def curve(models):
    rows = [
        [model, layer, size, 20 * size**0.5, low and 15 * size**0.5, low and 25 * size**0.5]
        for model, names in models.items()
        for layer in [*names, "all"]
        for size, low in [(1, np.nan), (30, np.nan), (100, 1.0)]
    ]
    return pd.DataFrame(rows, columns=["model", "layer", "units", "distinct", "low", "high"]).assign(claim="named")


def faithfulness(models, *, curves=False):
    """Table of scores, or of curves, of the first model."""
    kinds = [("deletion", "blur"), ("deletion", "mean"), ("insertion", "blur"), ("insertion", "mean")]
    kinds += (
        [("road_morf", "imputed"), ("road_lerf", "imputed")]
        if curves
        else [("road", "imputed"), ("average_drop", "black")]
    )
    rows = [
        [next(iter(models)), explainer, *kind, share, "lower", 0.5 - i / 20, low, 0.6 if low else np.nan]
        for i, (explainer, low) in enumerate(
            [("gradcam-layer4", 0.1), ("lime", None), ("random", 0.1), ("gaussian", 0)]
        )
        for kind in kinds
        for share in ([0, 0.5, 1] if curves else [0])
    ]
    columns = ["model", "explainer", "measure", "baseline", "share", "better", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def probe_sizes(models):
    rows = [
        [model, layer, source_images, distinct, distinct - 5, distinct + 5]
        for model, names in models.items()
        for layer in names
        for source_images, distinct in [(5, np.nan), (10, 100.0), (40, 180.0)]
    ]
    columns = ["model", "layer", "source_images", "distinct", "distinct_lowest", "distinct_highest"]
    table = pd.DataFrame(rows, columns=columns)
    shares = {"again": 0.002, "again_lowest": 0.001, "again_highest": 0.003}
    return table.assign(**{name: share * table["distinct"] for name, share in shares.items()})


def evidence(models):
    rng = np.random.default_rng(0)
    parts = []
    for model, names in models.items():
        for layer in names:
            statistic = rng.standard_normal(40) + 2
            facts = {"model": model, "layer": layer, "p_value": np.exp(-np.abs(statistic)), "alpha": 0.2}
            status = np.select([statistic > 3.3, statistic > 3], ["named", "selective"], "not selective")
            parts.append(pd.DataFrame(facts | {"status": status}))
    return pd.concat(parts)


def trend(models):
    rows = [
        [model, category, names[0], names[-1], 0.1, -0.05, 0.2, [0.01, 0.5][i % 2]]
        for model, names in models.items()
        for i, category in enumerate(CATEGORIES)
        if len(names) > 1
    ]
    return pd.DataFrame(rows, columns=["model", "category", "first", "last", "slope", "low", "high", "p_adjusted"])


def differences(models):
    rows = [
        [a, b, "all", category, 0.1, -0.05, 0.2, [0.01, 0.5][i % 2]]
        for a, b in combinations(models, 2)
        for i, category in enumerate(CATEGORIES)
    ]
    return pd.DataFrame(
        rows, columns=["model_a", "model_b", "layer", "category", "difference", "low", "high", "p_adjusted"]
    )


TITLES = {"half_area": "share of the image above half of the maximum", "pieces": "pieces"}


def shapes(models):
    rows = [
        [model, f"{method}-{names[-1]}", measure, 0.3, 0.2 if measure == "pieces" else np.nan, 0.4]
        for model, names in models.items()
        for method in ("gradcam", "a_method_without_a_title", "lime")
        for measure in TITLES
    ]
    return pd.DataFrame(rows, columns=["model", "explainer", "measure", "mean", "low", "high"])


def found(models):
    rows = [
        [model, reference, measure, explainer, 1.0, low, 1.0 if low else np.nan, 0.3]
        for model, names in models.items()
        for reference in ("mask", "box")
        for measure in TITLES
        for explainer, low in [(f"gradcam-{names[-1]}", 0.9), ("lime", None), ("gaussian", 0.2)]
    ]
    columns = ["model", "reference", "measure", "explainer", "mean", "low", "high", "chance"]
    return pd.DataFrame(rows, columns=columns)


def randomized(models):
    rows = [
        [model, f"{method}-{names[-1]}", "equal_area_iou", count, 99, mean, mean - 0.1, mean + 0.1, 1 / 9]
        for model, names in models.items()
        for method in ("gradcam", "layercam")
        for count, mean in [(0, 0.3), (1, 0.6), (50, 0.4), (99, 0.2)]
    ]
    columns = ["model", "explainer", "measure", "randomized", "layers", "mean", "low", "high", "chance"]
    return pd.DataFrame(rows, columns=columns)


def stable(models):
    rows = [
        [model, measure, count, mean, mean - 0.1, mean + 0.1, 0.1]
        for model in models
        for measure in TITLES
        for count, mean in [(50, 0.4), (1000, 0.9)]
    ]
    return pd.DataFrame(rows, columns=["model", "measure", "n_samples", "mean", "low", "high", "chance"])


def points(models):
    table = pd.concat([pd.DataFrame({"model": model, "value": [0.1, 0.9, 0.4]}) for model in models])
    return table.assign(half_area=[0.2, 1000.0, 30.0] * len(models), pieces=1.0, image_id=list("abc") * len(models))


def correlations(models):
    rows = [
        [model, m, r, r - 0.3, r + 0.4, 0.5] for model in models for m, r in [("half_area", -0.5), ("pieces", np.nan)]
    ]
    return pd.DataFrame(rows, columns=["model", "measure", "correlation", "low", "high", "p_adjusted"])


def summary(models):
    rows = [
        [model, f"{method}-{names[-1]}", "lime", measure, 10 - i, 10 - i, 0.3, low, 0.4 if low else np.nan, chance, 0.1]
        for model, names in models.items()
        for i, (method, low) in enumerate([("gradcam", 0.2), ("scorecam", None)])
        for measure, chance in [("equal_area_iou", 1 / 9), ("threshold_iou", np.nan), ("spearman", np.nan)]
    ]
    columns = [
        "model",
        "explainer_a",
        "explainer_b",
        "measure",
        "n",
        "source_images",
        "mean",
        "low",
        "high",
        "chance",
        "tied_share",
    ]
    return pd.DataFrame(rows, columns=columns).astype({"low": float, "high": float})


def timings(models, devices=("cpu",)):
    rows = [
        [model, explainer, 10, 10 * seconds, seconds, devices[i % len(devices)], 2]
        for model, names in models.items()
        for i, (explainer, seconds) in enumerate([(f"gradcam-{names[-1]}", 0.02), ("lime", 9.0)])
    ]
    columns = ["model", "explainer", "images", "seconds", "seconds_per_image", "device", "threads"]
    return pd.DataFrame(rows, columns=columns)


def some_images(n, size=(24, 30)):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, *size, 3), dtype=np.uint8)
    saliency = rng.random((n, *size))
    segments = np.broadcast_to(np.arange(size[1]) // 10, (n, *size))
    return images, saliency, segments


def used(rules):
    rows = [[f"rule_{i}", 3, 5.0, 9.0, 600, 900, 1500, np.nan] for i in range(rules)]
    columns = ["rule", "jobs", "seconds_mean", "seconds_max", "seconds_asked", "mem_mb_max", "mem_mb_asked", "gpu_busy"]
    return pd.DataFrame(rows, columns=columns)


def settings(models):
    rows = [
        [model, rank, name, passes, mean, mean - 0.1, mean + 0.1, front, 10, "IoU"]
        for model in models
        for rank, name, passes, mean, front in [
            (1, "", 1000, 0.6, True),
            (2, "default", 100, 0.5, True),
            (None, "", 50, np.nan, False),
        ]
    ]
    columns = ["model", "rank", "name", "forward_passes", "mean", "low", "high", "front", "n", "objective"]
    return pd.DataFrame(rows, columns=columns)


def effects(models):
    rows = [
        [model, parameter, level, 4, 0.5, 0.4, 0.6, 10, "IoU"]
        for model in models
        for parameter, level in [("alpha", "0.1"), ("alpha", "1"), ("hide", "mean"), ("hide", "gray")]
    ]
    columns = ["model", "parameter", "level", "settings", "mean", "low", "high", "n", "objective"]
    return pd.DataFrame(rows, columns=columns)


def forecast(models):
    rows = [
        [model, layer, 0.4 if number else np.nan]
        for model, names in models.items()
        for number, layer in enumerate(names)
    ]
    return pd.DataFrame(rows, columns=["model", "layer", "at_all"])


def controls(models):
    """Controls of words: two that are judged, and the layers with shuffled weights; a model has no named units."""
    rows = []
    for number, (model, names) in enumerate(models.items()):
        for control, layer in [
            ("class outputs", ""),
            ("name not listed", ""),
            *[("shuffled weights", n) for n in names],
        ]:
            row = {"model": model, "control": control, "layer": layer}
            for column in (
                "named_right",
                "selective_right",
                "covered",
                "right_covered",
                "selective_share",
                "named_share",
            ):
                known = control == "class outputs" or column.endswith("share")
                share = 0.5 if known and not (number and column == "named_right") else np.nan
                row |= {column: share, f"{column}_low": share - 0.1, f"{column}_high": share + 0.2}
            rows.append(row)
    return pd.DataFrame(rows)


def annotated(models):
    """Units of Network Dissection: named, selective, not selective, not finite; a layer has categories unheard of.

    Of one layer no unit with shuffled weights overlaps a mask.
    """
    kinds = [
        ("named", "color"),
        ("named", "texture"),
        ("selective", "color"),
        ("not selective", ""),
        ("not finite", ""),
    ]
    rows = [
        [model, layer, status, f"{category}{layer}" if layer == "b" else category, 0.01]
        for model in models
        for layer in ("a", "b", "c")
        for status, category in kinds[: 4 if layer == "c" else 5] * 3
    ]
    table = pd.DataFrame(rows, columns=["model", "layer", "status", "mask_category", "q_value"])
    shuffled = {"shuffled_units": 8, "shuffled_selective": 5, "shuffled_named": 2}
    return table.assign(**{name: n * (table["layer"] != "c") for name, n in shuffled.items()})


def switched_off(models):
    rows = [
        [model, names[-1], chosen, k, of, measure, 12, 0.3, low, 0.4 if low else np.nan]
        for model, names in models.items()
        for k in (1, 20)
        for chosen, low in [("contribution", 0.2), ("activity", None), ("random", 0.0)]
        for of in ("the class", "others")
        for measure in ("fall", "share")
    ]
    columns = ["model", "layer", "chosen", "k", "of", "measure", "n", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def charts(models):
    """Give every figure that is drawn from tables: function, tables, options."""
    encoder, first = {"encoder": "ConSE surrogate"}, {"model": next(iter(models))}
    curves = faithfulness(models, curves=True)
    return {
        "frequent": (concept_figures.frequent_concepts, [frequent(models)], encoder),
        "distinct": (concept_figures.distinct_concepts, [layers(models)], encoder),
        "shares": (concept_figures.category_shares, [categories(models)], encoder),
        "sweep": (evaluation_figures.agreement_sweep, [sweep(models)], {}),
        "rarefaction": (concept_figures.rarefaction, [curve(models), probe_sizes(models)], encoder),
        "annotated": (concept_figures.units_named_by_masks, [annotated(models)], {}),
        "again": (concept_figures.words_again, [probe_sizes(models), forecast(models)], encoder),
        "controls": (concept_figures.controls, [controls(models)], encoder),
        "null": (concept_figures.label_statuses, [evidence(models)], encoder),
        "trend": (concept_figures.category_trend, [trend(models)], encoder),
        "differences": (concept_figures.category_differences, [differences(models)], encoder),
        "found": (evaluation_figures.localization, [found(models)], {"titles": TITLES}),
        "randomized": (evaluation_figures.randomization, [randomized(models)], {}),
        "stable": (evaluation_figures.stability, [stable(models)], {"titles": TITLES}),
        "shape": (evaluation_figures.shape, [shapes(models)], {"titles": TITLES}),
        "complexity": (evaluation_figures.complexity, [points(models), correlations(models)], {"titles": TITLES}),
        "switched off": (evaluation_figures.interventions, [switched_off(models)], {}),
        "scores": (evaluation_figures.faithfulness_scores, [faithfulness(models)], first),
        "curves": (evaluation_figures.faithfulness_curves, [curves], first),
        "timings": (cost_figures.timings, [timings(models)], {}),
        "devices": (cost_figures.timings, [timings(models, ("cpu", "NVIDIA H100 80GB HBM3"))], {}),
        "resources": (cost_figures.resources, [used(3)], {}),
        "front": (cost_figures.tuning_front, [settings(models)], {"cost": "forward_passes"}),
        "effects": (cost_figures.tuning_effects, [effects(models)], {}),
    } | {measure: (evaluation_figures.agreement, [summary(models)], {"measure": measure}) for measure in MEASURE_TITLES}


def draw_all(models, folder, suffix, names=None):
    for name, (draw, tables, options) in charts(models).items():
        if names is None or name in names:
            draw(*tables, folder / f"{name}{suffix}", **options)
    return sorted(folder.glob(f"*{suffix}"))


def test_charts_are_drawn_within_bounds(models, tmp_path):
    paths = draw_all(models, tmp_path, ".png")
    assert len(paths) == len(charts(models))
    for path in paths:
        image = Image.open(path)
        assert round(image.info["dpi"][0]) == 150
        assert image.width <= 12 * 150
        border = np.concatenate(
            [np.asarray(image.convert("L"))[:, [0, -1]].ravel(), np.asarray(image.convert("L"))[[0, -1]].ravel()]
        )
        assert border.min() == 255, f"{path.name} is clipped"


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_same_input_gives_same_bytes(suffix, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        some = ["frequent", "sweep", "complexity", "shares", "effects"]  # all are saved by one function
        draw_all(MODELS["one model and layer"], tmp_path / folder, suffix, some)
        images, saliency, segments = some_images(1)
        explanation_figures.overlay(
            images[0], saliency[0], tmp_path / folder / f"overlay{suffix}", segments=segments[0], title="x"
        )
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_overlay_shows_each_pixel_as_equal_square(tmp_path):
    image = np.zeros((2, 3, 3), np.uint8)
    image[:] = np.array([[0, 60, 120], [180, 220, 255]])[..., None]
    explanation_figures.overlay(image, np.zeros((2, 3)), tmp_path / "overlay.png", title="nothing salient")
    drawn = np.asarray(Image.open(tmp_path / "overlay.png").convert("RGB"))[-300:]
    assert drawn.shape == (300, 450, 3)
    assert (np.abs(drawn.astype(int) - image.repeat(150, 0).repeat(150, 1)) <= 1).all()


def test_overlay_colors_the_salient_and_bounds_superpixels(tmp_path):
    image, saliency = np.full((30, 30, 3), 128, np.uint8), np.zeros((30, 30))
    saliency[:, 15:] = 1
    segments = np.repeat([[0] * 15 + [1] * 15], 30, axis=0)
    explanation_figures.overlay(image, saliency, tmp_path / "overlay.png", segments=segments, title="right half")
    left, contour, right = np.asarray(Image.open(tmp_path / "overlay.png").convert("RGB"))[-200, [50, 224, 400]].astype(
        int
    )
    assert np.ptp(left) <= 1
    assert np.ptp(right) > 60
    assert contour.min() > left.max() + 50


@pytest.mark.parametrize(
    ("saliency", "segments", "message"),
    [
        (np.zeros((5, 4)), None, "`saliency` has shape"),
        (np.zeros((4, 5)), np.zeros((5, 4), int), "`segments` has shape"),
        (np.full((4, 5), 1.5), None, "must lie in"),
        (np.full((4, 5), np.nan), None, "must lie in"),
    ],
)
def test_overlay_refuses_what_does_not_fit(saliency, segments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        explanation_figures.overlay(
            np.zeros((4, 5, 3), np.uint8), saliency, tmp_path / "x.png", segments=segments, title="x"
        )


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    "explainers", [["lime"], ["gradcam-a", "ablationcam-a", "scorecam-a", "lime"], [f"m{i}" for i in range(9)]]
)
def test_grid_has_a_row_a_source_image_and_a_column_an_explainer(n, explainers, tmp_path):
    images, saliency, segments = some_images(n, (40, 40))
    captions = ["a class with a very long name, of which there are many in ImageNet " * 3 + "(0.53)"] * n
    maps = dict.fromkeys(explainers, saliency)
    explanation_figures.explanation_grid(
        images, maps, tmp_path / "grid.png", captions=captions, segments={"lime": segments}, model=LONG
    )
    image = Image.open(tmp_path / "grid.png")
    assert image.width <= 12 * 150
    assert image.height > n * 200


def test_the_grid_says_what_each_row_and_column_shows(tmp_path):
    """Two rows of 40 pixels, five times as large: of 0.95 inches above, and 0.3 for each caption."""
    images, saliency, _ = some_images(2, (40, 40))
    maps = {"gradcam-a": saliency, "lime": saliency}
    explanation_figures.explanation_grid(images, maps, tmp_path / "x.svg", captions=["cat", "dog"], model="m")
    said = [
        "Explanations of m",
        "saliency, from 0 to 1 within each map",
        "Source image",
        "Grad-CAM",
        "LIME",
        "cat",
        "dog",
    ]
    assert sorted(text_of(tmp_path / "x.svg")) == sorted(said)
    explanation_figures.explanation_grid(images, maps, tmp_path / "x.png", captions=["cat", "dog"], model="m")
    cell = round(224 / 40) * 40
    assert Image.open(tmp_path / "x.png").size == (3 * cell + 4 * 9, round(0.95 * 150) + 2 * (cell + 45))


def test_maps_are_scaled_by_their_own_maximum():
    maps = np.array([[[0, 2], [4, 1]], [[0, 0], [0, 0]], [[5, 5], [5, 5]]], dtype=float)
    assert explanation_figures.scale(maps).tolist() == [
        [[0, 0.5], [1, 0.25]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]
    ]  # fmt: skip


def test_a_map_colors_the_gray_image_by_the_root_of_its_saliency():
    """A gray of 0.299 R + 0.587 G + 0.114 B; four fifths of the color at most; borders nearly white."""
    image, saliency = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8), np.array([[0, 0.25, 1]])
    plasma = charts_module.SALIENCY_MAP(saliency[0])[:, :3]
    gray, alpha = np.array([0.299, 0.587, 0.114])[:, None], np.array([0, 0.4, 0.8])[:, None]
    blended = (1 - alpha) * gray + alpha * plasma
    np.testing.assert_allclose(explanation_figures.blend(image, saliency)[0], blended)
    twice = explanation_figures.blend(image, saliency, np.array([[7, 7, 8]]), scale=2)
    assert twice.shape == (2, 6, 3)
    expected = blended.repeat(2, axis=0)
    expected[3:5] = 0.45 * expected[3:5] + 0.55  # both sides of the border between 7 and 8
    np.testing.assert_allclose(twice, np.stack([expected, expected]))


def test_grid_refuses_wrong_numbers(tmp_path):
    images, saliency, _ = some_images(2)
    with pytest.raises(ValueError, match="`captions` has 1 entries for 2"):
        explanation_figures.explanation_grid(
            images, {"lime": saliency}, tmp_path / "x.png", captions=["one"], model="m"
        )
    with pytest.raises(ValueError, match="`lime` has 1 entries for 2"):
        explanation_figures.explanation_grid(
            images, {"lime": saliency[:1]}, tmp_path / "x.png", captions=["a", "b"], model="m"
        )


def text_of(path):
    """Give the texts of an SVG, which Matplotlib writes as comments beside the outlines of their letters."""
    return [" ".join(each.split()) for each in re.findall(r"<!-- (.*?) -->", path.read_text(), re.DOTALL)]


ODD_NAMES = ["$x_{$", "_conv_head", "1.10", "4", "NA", "a < b & c", "Bär, größer"]


def test_names_are_drawn_as_they_are(tmp_path):
    """Not as mathematics, for which matplotlib takes what stands between two $; nor left out for a leading _."""
    models = {"_conv_head": ODD_NAMES}
    concept_figures.rarefaction(curve(models), probe_sizes(models), tmp_path / "a.svg", encoder="CLIP")
    drawn = [text.lstrip("\u200b") for text in re.findall("<!-- (.*) -->", (tmp_path / "a.svg").read_text())]
    assert [drawn.count(name) for name in map(html.escape, ODD_NAMES)] == [2, 3, 2, 2, 2, 2, 2]  # two panels, a legend


def test_powers_of_ten_need_no_mathematics(tmp_path):
    table = pd.DataFrame({"model": ["m", "m"], "explainer": ["gradcam-a", "lime"], "seconds_per_image": [0.01, 100]})
    cost_figures.timings(table.assign(device="cpu", threads=1), tmp_path / "a.svg")
    drawn = re.findall("<!-- (.*) -->", (tmp_path / "a.svg").read_text())
    assert {"0.01", "0.1", "1", "10", "100"} <= set(drawn)
    assert not [text for text in drawn if "$" in text]


def without_numbers(table):
    return table.assign(**dict.fromkeys(table.select_dtypes("number"), np.nan))


ONE = MODELS["one model and layer"]
SENTENCES = {  # of figures that have nothing to show
    "frequent": concept_figures.NO_LABEL,
    "distinct": concept_figures.NO_LABEL,
    "shares": concept_figures.NO_LABEL,
    "rarefaction": "No unit has a label, on all source images or on some.",
    "null": "No unit could be tested: none is above its lowest activation on enough images.",
    "trend": "No model has labels in two layers, so there is no trend.",
    "differences": "There is one model with labels, so there is no difference.",
    "annotated": "No unit overlaps a concept that enough source images show.",
    "found": "There is no source image with an object that a map can be scored against.",
    "randomized": "There is no source image on which maps of a randomized network can be compared.",
    "again": "No unit has a word on two parts of the source images.",
    "controls": "There is nothing to compare words with.",
    "stable": "There is no source image on which LIME can be compared with itself.",
    "shape": "There is no map that has a shape.",
    "switched off": "No class has enough labeled source images to switch units off.",
    "scores": evaluation_figures.NO_SCORE,
    "curves": evaluation_figures.NO_SCORE,
    "timings": "No explainer was timed.",
    "devices": "No explainer was timed.",
    "resources": "No job has left a benchmark.",
    "front": "No setting of LIME could be used on every source image.",
    "effects": "No parameter of LIME has two values that could be scored.",
}


def test_every_public_figure_is_walked():
    files = (concept_figures, cost_figures, evaluation_figures, explanation_figures)
    public = [(file, name) for file in files for name in vars(file) if name[0] != "_"]
    functions = [(file, name) for file, name in public if inspect.isfunction(vars(file)[name])]
    own = {name for file, name in functions if vars(file)[name].__module__ == file.__name__}
    assert own - {draw.__name__ for draw, *_ in charts(ONE).values()} == {
        "blend", "captions", "explained_class", "overlay", "explanation_grid", "scale",
    }  # fmt: skip


@pytest.mark.parametrize("change", [lambda table: table[:0], without_numbers], ids=["empty", "no number"])
@pytest.mark.parametrize("name", charts(ONE))
def test_a_figure_with_nothing_to_show_says_so(name, change, tmp_path):
    draw, tables, options = charts(MODELS["two models"])[name]
    draw(*map(change, tables), tmp_path / "x.svg", **options)
    assert " ".join(text_of(tmp_path / "x.svg")) == SENTENCES.get(name, evaluation_figures.NO_PAIR)


@pytest.mark.parametrize("name", charts(ONE))
def test_a_figure_of_any_one_row_is_drawn(name, tmp_path):
    draw, tables, options = charts(MODELS["two models"])[name]
    for row in range(0, len(tables[0]), max(1, len(tables[0]) // 3)):
        draw(tables[0][row : row + 1], *(each[:1] for each in tables[1:]), tmp_path / "x.svg", **options)
        assert (tmp_path / "x.svg").stat().st_size > 1000


def test_a_grid_of_no_source_image_says_so(tmp_path):
    explanation_figures.explanation_grid(some_images(1)[0][:0], {}, tmp_path / "x.svg", captions=[], model="m")
    assert text_of(tmp_path / "x.svg") == ["No source image was explained."]


def test_a_network_that_is_randomized_at_once_keeps_its_stage_without_another_source_image(tmp_path):
    table = randomized(ONE)
    evaluation_figures.randomization(table[table["randomized"] > 0], tmp_path / "x.svg")
    ticks = text_of(tmp_path / "x.svg")
    assert [ticks.index(each) for each in ("none", "1", "50", "99")] == [0, 1, 2, 3]


def test_the_bar_of_the_null_is_that_of_the_labels(tmp_path):
    concept_figures.label_statuses(evidence(ONE), tmp_path / "x.svg", encoder="CLIP")
    assert "selective: q ≤ 0.2 by the permutation null" in " ".join(text_of(tmp_path / "x.svg"))


def test_units_are_named_selective_or_not(panels_of):
    _, (panel,) = panels_of("null", {"m": ["a"]})
    table = evidence({"m": ["a"]})
    named, selective = ((table["status"] == name).sum() for name in ("named", "selective"))
    widths = [bar.get_width() * len(table) / 100 for bar in panel.patches]
    assert widths == pytest.approx([named, selective, len(table) - named - selective]) and named and selective
    assert [bar.get_x() for bar in panel.patches] == pytest.approx(np.cumsum([0, *widths[:2]]) * 100 / len(table))
    colors = [charts_module.STATUS_COLORS[name] for name in ("named", "selective", "not selective")]
    assert [to_hex(bar.get_facecolor()).upper() for bar in panel.patches] == colors


def test_concepts_of_one_unit_are_counted_only(tmp_path):
    table = pd.DataFrame({"model": "m", "layer": "all", "concept": list("abcd"), "category": "object"})
    for units, last in (([5, 2, 1, 1], "2 more of 1 unit"), ([5, 4, 3, 2], None)):
        concept_figures.frequent_concepts(table.assign(units=units, others=0), tmp_path / "x.svg", encoder="CLIP")
        drawn = text_of(tmp_path / "x.svg")
        assert f"m, {sum(units)} named + 0 others" in drawn and "Labels: CLIP" in drawn
        assert [name for name in "abcd" if name in drawn] == list("ab" if last else "abcd")
        assert last in drawn if last else not any("more of" in text for text in drawn)
    many = pd.concat([table.assign(concept=f"c{i}", units=1, others=19 - i)[:1] for i in range(17)], ignore_index=True)
    concept_figures.frequent_concepts(many, tmp_path / "x.svg", encoder="CLIP")
    assert "2 more of 4 to 5 units" in text_of(tmp_path / "x.svg")


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("trend", "No rise or fall of a category's share from layer to layer is supported, adjusted for 10 tests;"),
        (
            "differences",
            "No difference of a category's share between squeezenet1_1 and efficientnet_lite0 is supported,",
        ),
    ],
)
def test_what_does_not_differ_is_a_sentence(name, start, tmp_path):
    draw, tables, options = charts(MODELS["two models"])[name]
    draw(*(table.assign(p_adjusted=0.3) for table in tables), tmp_path / "x.svg", **options)
    sentence = " ".join(text_of(tmp_path / "x.svg"))
    assert sentence.startswith(start) and sentence.endswith("smallest p = 0.3. Labels: ConSE surrogate.")
    draw(*tables, tmp_path / "x.svg", **options)
    assert len(text_of(tmp_path / "x.svg")) > 5, "one that differs is a chart"


def test_concepts_are_counted_among_labeled_units(tmp_path):
    concept_figures.distinct_concepts(layers(ONE), tmp_path / "x.svg", encoder="CLIP")
    assert {"60 of 90 named units", "70 of 110 selective"} <= {*text_of(tmp_path / "x.svg")}


@pytest.mark.parametrize(("rules", "which"), [(25, "each rule"), (26, "the 25 of 26 rules that took most time")])
def test_resources_say_how_many_rules_are_shown(rules, which, tmp_path):
    cost_figures.resources(used(rules), tmp_path / "x.svg")
    assert f"What the jobs of {which} asked for and used (number of jobs)" in text_of(tmp_path / "x.svg")


# what is drawn, by Matplotlib's own account


@pytest.fixture
def panels_of(monkeypatch, tmp_path):
    """Draw a figure; give it and its panels."""

    def draw(name, models, change=lambda table: table, **more):
        function, tables, options = charts(models)[name]
        function(*map(change, tables), tmp_path / "x.svg", **options | more)
        return kept[-1], kept[-1].axes

    kept = []
    monkeypatch.setattr(charts_module, "save", lambda figure, path: kept.append(figure))
    return draw


@pytest.mark.parametrize(("mean", "ink"), [(0.3, "black"), (0.55, "black"), (0.56, "white")])
def test_agreement_is_colored_from_nothing_to_all_with_numbers_that_can_be_read(panels_of, mean, ink):
    _, (panel,) = panels_of("equal_area_iou", ONE, lambda table: table.assign(mean=mean))
    assert panel.images[0].get_clim() == (0, 1) and {text.get_color() for text in panel.texts} == {ink}


def test_networks_of_other_numbers_of_layers_keep_their_own_stages(panels_of):
    models = {"a": ["x"], "b": ["x"]}
    _, panels = panels_of("randomized", models, lambda table: table[(table.model == "a") | (table.randomized < 50)])
    ticks = [[text.get_text() for text in panel.get_xticklabels()] for panel in panels]
    assert ticks == [["none", "1", "50", "99"], ["none", "1"]]


RECORD = Path(__file__).with_name("figures.yaml")


def pairs(points):
    return " ".join(f"{x:.3g},{y:.3g}" for x, y in points)


def marks(panel):
    """Say what a panel draws, in its own coordinates."""
    for name in "xy":
        if getattr(panel, f"{name}axis").get_gridlines()[0].get_visible():
            yield f"grid of {name}"
    for line in panel.get_lines():
        if len(line.get_xdata()) < 20:  # not the curve of chance, which has a test
            style = f"{line.get_linestyle()} {line.get_drawstyle()}".replace(" default", "")
            yield f"{line.get_color()} {line.get_marker()} {style} {pairs(line.get_xydata())}"
    for each in panel.collections:
        if hasattr(each, "get_segments"):
            yield f"{to_hex(each.get_color()[0])} lines {' | '.join(map(pairs, each.get_segments()))}"
        elif len(each.get_offsets()) > 1:
            yield f"{to_hex(each.get_facecolor()[0])} dots {pairs(each.get_offsets())}"
        else:
            yield f"{to_hex(each.get_facecolor()[0])} band {pairs(each.get_paths()[0].vertices)}"
    for each in panel.patches:
        yield f"{to_hex(each.get_facecolor())} bar {each.get_x():.3g}+{each.get_width():.3g} at {each.get_y():.3g}"
    for each in panel.texts:
        yield f"{each.get_color()} {each.get_text()} {pairs([getattr(each, 'xy', each.get_position())])}"


@pytest.mark.parametrize("name", charts({"a": ["x", "y"], "b": ["z"]}))
def test_what_a_figure_says_and_draws(name, panels_of, tmp_path):
    """As recorded. Where that shall change, `RECORD=1 pytest -k says_and_draws` records it; read the difference."""
    models = {"a": ["x", "y"], "b": ["z"]}
    figure, panels = panels_of(name, models)
    figure.savefig(tmp_path / "x.svg")
    grid = panels[0].get_subplotspec().get_gridspec()
    found = {
        "inches": "{:.1f} x {:.1f}".format(*figure.get_size_inches()),
        "panels": f"{grid.nrows} x {grid.ncols}",
        "words": " / ".join(text_of(tmp_path / "x.svg")),
        "marks": ["; ".join(marks(each)) for each in panels],
    }
    recorded = yaml.safe_load(RECORD.read_text()) if RECORD.exists() else {}
    if os.environ.get("RECORD"):
        RECORD.write_text(yaml.safe_dump(recorded | {name: found}, width=10**9, allow_unicode=True))
    assert recorded.get(name) == found


def test_category_shares_are_per_cent_with_the_layers_on_the_axis(panels_of):
    _, panels = panels_of("shares", {"a": ["l1", "l2"], "b": ["l1"]})
    assert [panel.get_title(loc="left") for panel in panels] == [
        "object",
        "scene",
        "part",
        "color",
        "not a known category",
    ]
    for panel in panels:
        assert [label.get_text() for label in panel.get_yticklabels()] in (["l1", "l2", "l1"], [])
        assert [line.get_label() for line in panel.get_lines()] == ["a", "b"]
        drawn = np.concatenate([line.get_xydata() for line in panel.get_lines()])
        assert drawn[np.isfinite(drawn[:, 0])].tolist() == [[20, 0], [20, 1], [20, 2]], "each layer on its own row"
    (interval, *_) = panels[0].collections[0].get_segments()
    assert interval[:, 0].tolist() == [15, 27]
    assert [panel.get_xlabel() for panel in panels] == ["", "", "", *["share of the layer (%)"] * 2]


def test_a_color_means_one_thing():
    """Of models, explainers and statuses none has a color of another; a model keeps its own without the others."""
    sets = [charts_module.MODEL_COLORS, [*charts_module.EXPLAINER_COLORS.values()]]
    colors = [color.upper() for each in [*sets, [*charts_module.STATUS_COLORS.values()]] for color in each]
    assert len(set(colors)) == len(colors)
    assert set(charts_module.EXPLAINER_COLORS) == set(METHOD_TITLES) - {"random", "gaussian"}
    for several, alone in ((["a", "b", "c"], ["c"]), (["b", "c"], ["c", "b"])):
        of_run = charts_module.looks([*"abc", *several])
        assert of_run["c"] == charts_module.looks([*"abc", *alone])["c"]
    known = charts_module.explainer_looks(["new-x", "lime", "gradcam-x"])
    assert known["LIME"]["color"] == charts_module.EXPLAINER_COLORS["lime"] and len({*map(str, known.values())}) == 3


@pytest.mark.parametrize("name", charts(ONE))
def test_figures_fit_a_narrow_window_or_say_that_they_scroll(name, panels_of):
    """At 85 % of their size, as the overview shows the smallest, in the 368 pixels of a window of 400."""
    figure, _ = panels_of(name, MODELS["two models"])
    fits = figure.get_figwidth() * 96 * 0.85 <= 368
    assert fits != (name in ("curves", "resources"))


def test_a_heat_map_shows_each_pair_once(panels_of):
    rows = [["m", f"{a}-x", b, "equal_area_iou", 10, value, 1 / 9] for a, b, value in [
        ("gradcam", "scorecam-x", 0.75), ("gradcam", "lime", 0.25), ("scorecam", "lime", np.nan)]]  # fmt: skip
    columns = ["model", "explainer_a", "explainer_b", "measure", "n", "mean", "chance"]
    _, (panel,) = panels_of("equal_area_iou", ONE, lambda _: pd.DataFrame(rows, columns=columns))
    (image,) = panel.get_images()
    np.testing.assert_array_equal(np.asarray(image.get_array().filled(np.nan)), [[0.75, 0.25], [np.nan, np.nan]])
    assert [text.get_text() for text in panel.texts] == ["0.75", "0.25"]
    assert {(text.get_ha(), text.get_va()) for text in panel.texts} == {("center", "center")}
    assert [label.get_text() for label in panel.get_yticklabels()] == ["Grad-CAM", "Score-CAM"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["Score-CAM", "LIME"]


def test_the_sweep_has_a_line_of_maps_with_each_other_and_one_with_lime(panels_of):
    pairs = [("gradcam-x", "scorecam-x", 0.8), ("gradcam-x", "lime", 0.2), ("scorecam-x", "lime", 0.4)]
    rows = [["m", a, b, "equal_area_iou", "all", cut, mean, 0.15] for a, b, mean in pairs for cut in (0.1, 0.2)]
    columns = ["model", "explainer_a", "explainer_b", "measure", "subset", "cut", "mean", "chance"]
    _, (panel,) = panels_of("sweep", ONE, lambda _: pd.DataFrame(rows, columns=columns))
    with_lime, others, pixels, *different = panel.get_lines()
    named = [each.get_label() for each in (with_lime, others, pixels)]
    assert named == ["with LIME", "with each other", "unrelated pixels"]
    assert [each.get_ydata().tolist() for each in different] == [[0.15, 0.15]] * 2, "maps of different source images"
    assert with_lime.get_ydata() == pytest.approx([0.3, 0.3]) and others.get_ydata() == pytest.approx([0.8, 0.8])
    band = panel.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.2, 0.4), "from the lowest to the highest pair"


def test_the_source_images_stand_behind_the_closest_correlation(panels_of):
    def closest(table):
        return table.assign(correlation=[0.1, -0.3, 0.2, np.nan]) if "correlation" in table else table

    _, (above, below) = panels_of("complexity", {"a": ["l"], "b": ["l"]}, closest, thumbnails={"a": SMALL, "x": SMALL})
    assert [line.get_label() for line in above.get_lines()[:2]] == ["a", "b"]
    assert below.get_title(loc="left") == "a: r = \u22120.30, adj. p = 0.5" and below.get_xlabel() == "pieces"
    assert below.get_lines()[0].get_xdata().tolist() == [1, 1, 1] and below.get_lines()[0].get_label() != "b"
    (thumbnail,) = (each for each in below.artists if isinstance(each, AnnotationBbox))
    assert thumbnail.xy == (1, 0.1), "of the one image that is there, at its point"


def test_names_at_line_ends_keep_their_order_and_a_distance():
    apart = charts_module._apart
    assert apart(np.array([0.5, 0.5, 0.5]), 0.1) == pytest.approx([0.5, 0.6, 0.7])
    assert apart(np.array([1.0, 0.2, 1.0]), 0.1) == pytest.approx([0.9, 0.2, 1.0])
    assert apart(np.array([0.9, 0.2, 0.5]), 0.1).tolist() == [0.9, 0.2, 0.5], "these have it"
    assert apart(np.array([]), 0.1).tolist() == []


def test_series_have_colors_of_their_own(panels_of):
    _, panels = panels_of("found", {f"model {number}": ["l1"] for number in range(3)})
    colors = [line.get_color() for line in panels[0].get_lines() if line.get_label().startswith("model")]
    assert len(set(colors)) == len(colors) == 3


def test_the_counts_of_concepts_and_the_objects_have_names(panels_of):
    _, panels = panels_of("rarefaction", MODELS["two models"])
    assert [panel.get_ylabel() for panel in panels] == ["distinct concepts"] * 2
    _, panels = panels_of("found", ONE)
    assert [panel.get_title(loc="left") for panel in panels] == ["against the mask", "", "against the box", ""]


def test_the_front_shows_each_model_its_own_settings_at_their_cost(panels_of):
    def shifted(table):
        return table.assign(mean=table["mean"] + 0.1 * (table["model"] == "b"))

    _, panels = panels_of("front", {"a": ["l"], "b": ["l"], "c": ["l"]}, shifted)
    for panel, shift in zip(panels, (0, 0.1, 0), strict=True):
        every, _, best, default = panel.get_lines()
        assert every.get_xdata().tolist() == [1000, 100]
        assert every.get_ydata() == pytest.approx([0.6 + shift, 0.5 + shift])
        assert best.get_xdata().tolist() == [100, 1000], "at their cost"
        assert default.get_xdata() == pytest.approx([105]), "beside the one before"
    assert [bool(panel.get_ylabel()) for panel in panels] == [True, False, True], "two in a row"
    assert [bool(panel.get_xlabel()) for panel in panels] == [False, True, True], "those with nothing below"


def test_long_names_of_a_legend_stand_below_each_other(panels_of):
    columns = []
    for names in (["a", "b"], [LONG, f"{LONG}_2"]):
        figure, _ = panels_of("found", {name: ["l1"] for name in names})
        columns.append(figure.legends[0]._ncols)
    assert columns == [3, 1]  # with the line of chance


def test_an_unknown_suffix_is_an_error(tmp_path):
    for table in (timings(ONE), timings(ONE)[:0]):
        with pytest.raises(ValueError, match=r"'.gif'; allowed: .png, .svg"):
            cost_figures.timings(table, tmp_path / "x.gif")


def test_the_axis_of_times_has_room_for_the_numbers(panels_of):
    for seconds, most in (([0.5, 0.5], 3), ([0.5, 500], 500 * 1000**0.4)):
        _, (panel,) = panels_of("timings", ONE, lambda table, own=seconds: table.assign(seconds_per_image=own))
        assert panel.get_xlim() == pytest.approx((0.5 / 3, most))


def test_only_the_first_panel_of_a_row_names_its_axis(panels_of):
    _, panels = panels_of("randomized", {name: ["l"] for name in "abcde"})
    assert [bool(panel.get_ylabel()) for panel in panels] == [True, False, True, False, True]


def test_an_empty_panel_hides_nothing_in_the_next(panels_of):
    _, panels = panels_of("stable", MODELS["two models"], lambda table: table[table["measure"] == "pieces"])
    assert panels[0].get_xlim()[1] == panels[1].get_xlim()[1] > 1000


def test_a_legend_names_what_any_panel_shows(panels_of):
    figure, panels = panels_of(
        "randomized", {"a": ["l"], "b": ["l"]}, lambda table: table.query("model == 'b' or randomized > 0")
    )
    assert "another source image" not in panels[0].get_legend_handles_labels()[1]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["Grad-CAM", "LayerCAM", "chance", "another source image"]


def test_series_without_rows_leave_no_gap_and_keep_the_colors_of_the_others(panels_of):
    def without_b_in_boxes(table):
        return table[(table["model"] != "b") | (table["reference"] != "box")]

    _, panels = panels_of("found", {name: ["l"] for name in "abc"}, without_b_in_boxes)
    of_masks, of_boxes = (
        {line.get_label(): line for line in panels[place].get_lines() if line.get_label() in set("abc")}
        for place in (0, 2)
    )
    assert list(of_masks) == ["a", "b", "c"] and list(of_boxes) == ["a", "c"]
    assert of_boxes["c"].get_color() == of_masks["c"].get_color()
    assert of_boxes["c"].get_marker() == of_masks["c"].get_marker()
    assert of_boxes["a"].get_ydata() == pytest.approx([-0.175, 0.825, 1.825])
