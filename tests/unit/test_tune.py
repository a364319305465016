"""Settings, sweeps that share predictions, the leaderboard's arithmetic, and keywords of the lime package."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from unitlens.explainers import lime, lime_samples, masks, segment
from unitlens.explainers import run as run_module
from unitlens.explainers.items import stream_seeds
from unitlens.images import fill
from unitlens.measures import faithfulness, lime_sweep
from unitlens.report import evaluation_findings, pages
from unitlens.tables import tuning

SQUARES = {"method": "grid", "size": 4}
DEFAULT = {"n_samples": 80, "superpixels": SQUARES, "hide": "gray", "num_features": 2}
GRID = {
    "superpixels": [SQUARES, {"method": "grid", "size": 8}],
    "hide": ["mean", "noise", "black"],
    "n_samples": [20, 50, 80],
    "kernel": [{"distance": "cosine", "kernel_width": 0.25}, {"distance": "l2", "kernel_width": 2}],
    "alpha": [0.1, 1],
    "n_features": [None, 3],
}
IDS = ["a", "b", "c"]
PUBLIC = {
    "labels": [1],
    "hide_color": None,
    "top_labels": 5,
    "num_features": 8,
    "num_samples": 1000,
    "batch_size": 10,
    "segmentation_fn": "quickshift",
    "distance_metric": "cosine",
    "model_regressor": "Ridge",
    "random_seed": 42,
    "progress_bar": True,
}


@pytest.fixture(scope="module")
def some_images():
    return torch.randint(0, 256, (3, 16, 16, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.fixture(scope="module")
def reference():
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))


def predict(batch):
    """Two classes by the brightness of the upper left and the lower right corner; each image by itself."""
    light = batch.double() / 255
    first = light[:, :8, :6].mean((1, 2, 3)) * (1 + light[:, 4:8, 4:8].mean((1, 2, 3)))
    return torch.softmax(torch.stack([3 * first, light[:, 9:, 11:].mean((1, 2, 3))], 1), 1)


def score_of(objective, some_images, reference, *, predict=predict, ids=IDS, targets=(0, 1, 0), area=0.25):
    options = {"explainer": "gradcam-x", "area": area, "steps": 5, "baseline": "mean", "seed": 7, "batch_size": 16}
    return lime_sweep.make_score(
        predict, some_images, torch.tensor(targets), ids, objective=objective, reference=reference, **options
    )


def run(some_images, reference, swept, *, ids=IDS, objective="equal_area_iou", targets=(0, 1, 0), **options):
    options = {"predict": predict, "seed": 7, "batch_size": 16, "area": 0.25} | options
    own, area = options.pop("predict"), options.pop("area")
    score = score_of(objective, some_images, reference, predict=own, ids=ids, targets=targets, area=area)
    made = lime_sweep.sweep(own, some_images, torch.tensor(targets), ids, swept, score, **options)
    return tuple(map(pd.DataFrame, made))


def with_source_images(scores):
    return scores.assign(model="m", source_image=scores.image_id)


def test_grid_is_a_cross_product_with_the_default_first():
    swept = lime_sweep.all_settings(DEFAULT, GRID)
    assert len(swept) == 1 + 2 * 3 * 3 * 2 * 2 * 2
    assert next(iter(swept.values())) == lime_sweep.complete(DEFAULT)
    assert all(
        list(setting) == list(lime_sweep.KEYS) and lime_sweep.setting_id(setting) == name
        for name, setting in swept.items()
    )
    assert {setting["num_features"] for setting in swept.values()} == {2}, "a key that the grid lacks is the default's"


def test_a_setting_has_one_name_whatever_the_order_of_its_keys():
    assert lime_sweep.setting_id({"b": 1, "a": 2}) == lime_sweep.setting_id({"a": 2, "b": 1}) == "sabe6763b"


def test_predictions_that_an_explanation_has_kept_are_not_asked_for_again(some_images, reference):
    swept = lime_sweep.all_settings(DEFAULT, GRID)
    asked = []
    options = {"predict": lambda batch: asked.append(len(batch)) or predict(batch)}
    scores, seconds = run(some_images, reference, swept, **options)
    without = asked.copy()
    options_of_lime = DEFAULT | {"n_samples": 150, "seed": 7, "batch_size": 16}
    explain = run_module.lime_explainer(predict, **options_of_lime)
    arrays = {name: values.numpy() for name, values in explain(some_images, torch.tensor([0, 1, 0]), IDS).items()}
    asked.clear()
    known = lime_sweep.complete(DEFAULT), lime_samples.kept(arrays, "cpu")
    again, fewer = run(some_images, reference, swept, known=known, **options)
    assert sum(without) - sum(asked) == 3 * 80, "all samples of the default's superpixels and hiding"
    assert seconds["images"].iloc[-1] - fewer["images"].iloc[-1] == 3 * 80
    pd.testing.assert_frame_equal(again, scores, rtol=1e-6)
    assert lime_samples.kept({"n_used": arrays["n_used"]}, "cpu") is None, "the package keeps none"


def test_auto_draws_its_own_samples_and_uses_those_of_the_explanation(some_images, reference):
    default = DEFAULT | {"n_samples": "auto", "num_features": 6}
    explain = run_module.lime_explainer(predict, seed=7, batch_size=16, **default)
    arrays = {name: values.numpy() for name, values in explain(some_images, torch.tensor([0, 1, 0]), IDS).items()}
    drawn = arrays["n_used"].tolist()
    assert len(set(drawn)) > 1, "or the test would show little"
    options = {"grid": {"n_samples": [20, 80], "hide": ["gray", "white"]}}
    swept = lime_sweep.all_settings(default, **options)
    assert len(swept) == 5
    known, asked = (lime_sweep.complete(default), lime_samples.kept(arrays, "cpu")), []
    counting = {"predict": lambda batch: asked.append(len(batch)) or predict(batch), "known": known}
    scores, seconds = run(some_images, reference, swept, **counting)
    assert sum(asked) == seconds["images"].iloc[-1] == 3 * 80, "those hidden by white"
    own = scores[scores.setting == lime_sweep.setting_id(lime_sweep.complete(default))]
    assert own.samples.tolist() == drawn
    alone, taken = run(some_images, reference, {own.setting.iloc[0]: lime_sweep.complete(default)})
    assert alone.samples.tolist() == drawn and taken["images"].iloc[-1] == sum(drawn)
    torch.testing.assert_close(alone.score.to_numpy(), own.score.to_numpy(), rtol=1e-6, atol=0)
    options |= {"default": default, "presets": {}, "count": None, "seed": 7}
    facts = {"objective": "agreement", "explained_class": "predicted", "geometry": "square", "seed": 7}
    made = tuning.tables(with_source_images(scores).assign(**facts), seconds.assign(model="m"), **options)
    board = made["settings"].set_index("n_samples")
    assert board.forward_passes["auto"] == round(np.mean(drawn)) and set(board.forward_passes[80]) == {80}
    seconds_of = made["timings"].set_index("n_samples").seconds
    assert seconds_of["auto"] > seconds_of[80].max()
    written = lime_sweep.to_explain_instance(lime_sweep.complete(default), seed=7)
    assert "num_samples" not in written["explain_instance"] and "num_samples is left out" in written["notes"][0]
    row = board.loc["auto"].to_dict() | {"n_samples": "auto"}
    assert (
        f"hidden by gray; on average {row['forward_passes']:,} samples;" in pages.say("evaluation.setting", row=row)[0]
    )


def test_a_tuning_without_a_source_image_is_refused_in_a_line():
    none = pd.DataFrame(columns=["setting", "image_id", "superpixels", "score", "mask_area", "model", "source_image"])
    with pytest.raises(ValueError, match="none of the source images that LIME is tuned on could be read; fix them"):
        tuning.tables(none, none, default=DEFAULT, grid=GRID, presets={}, count=None, seed=0)


def test_draw_depends_on_no_order_and_on_the_seed():
    turned = {key: values[::-1] for key, values in reversed(GRID.items())}
    drawn = lime_sweep.all_settings(DEFAULT, GRID, count=10, seed=3)
    assert len(drawn) == 11
    assert list(lime_sweep.all_settings(DEFAULT, turned, count=10, seed=3)) == list(drawn)
    assert set(lime_sweep.all_settings(DEFAULT, GRID, count=10, seed=4)) != set(drawn)
    assert set(drawn) <= set(lime_sweep.all_settings(DEFAULT, GRID, count=40, seed=3)), (
        "a larger draw adds to a smaller one"
    )


def test_one_setting_written_in_two_ways_is_one():
    full = {"method": "quickshift", "kernel_size": 4.0, "max_dist": 200, "ratio": 0.2}
    grid = {"superpixels": [{"method": "quickshift"}, full], "alpha": [1, 1.0]}
    assert len(lime_sweep.all_settings({**DEFAULT, "superpixels": {"method": "quickshift"}}, grid)) == 1


@pytest.mark.parametrize("hide", ["mean", "gray", "black", "noise", "blur"])
def test_coefficients_are_those_of_lime_explain(some_images, hide):
    segments = segment.grid(some_images, size=4)
    options = {"hide": fill.HIDE[hide], "seeds": [5, 6, 7]}
    shared = lime_samples.sample(
        predict, some_images, segments, torch.tensor([0, 1, 0]), n_samples=80, batch_size=13, **options
    )
    for setting in lime_sweep.all_settings(
        {**DEFAULT, "hide": hide}, {key: GRID[key] for key in GRID if key != "hide"}
    ).values():
        if setting["superpixels"] != SQUARES:
            continue
        keys = ("n_samples", "distance", "kernel_width", "alpha", "n_features", "selection")
        own = {key: setting[key] for key in keys} | options
        alone = lime.explain(predict, some_images, segments, torch.tensor([0, 1, 0]), batch_size=16, **own)
        for row in range(3):
            fit = lime_sweep.surrogate(setting, shared.designs[row], shared.predictions[row])
            torch.testing.assert_close(fit.coefficients[0], alone.coefficients[row], rtol=0, atol=1e-12)
            torch.testing.assert_close(fit.r2[0], alone.r2[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", ["equal_area_iou", "mask_iou"])
def test_scores_are_those_of_the_explainer_of_the_workflow(some_images, reference, objective):
    swept = lime_sweep.all_settings(DEFAULT, GRID, count=12)
    scores, _ = run(some_images, reference, swept, objective=objective)
    facts = {"image_id": np.array(IDS), "source_image": np.array(IDS)}
    for name, setting in swept.items():
        explainer = run_module.lime_explainer(predict, seed=7, batch_size=16, **setting)
        arrays = {key: value.numpy() for key, value in explainer(some_images, torch.tensor([0, 1, 0]), IDS).items()}
        files = [
            (facts | {"saliency": reference.numpy()}, {"explainer": "gradcam-x"}),
            (facts | arrays, {"explainer": "lime"}),
        ]
        masks = run_module.cut_masks(files, area=0.25, threshold=0.5, seed=7)
        kind = {"equal_area_iou": "equal_area", "mask_iou": "selected"}[objective]
        for row, ours in scores[scores.setting == name].reset_index().iterrows():
            theirs, own = masks["gradcam-x:equal_area"][row], masks[f"lime:{kind}"][row]
            assert ours.score == pytest.approx((theirs & own).sum() / (theirs | own).sum(), abs=1e-12)
            assert ours.mask_area == masks["lime:selected"][row].mean()


def test_insertion_is_that_of_the_saliency(some_images, reference):
    swept = lime_sweep.all_settings(DEFAULT, {"n_features": [None, 3]})
    scores, _ = run(some_images, reference, swept, objective="insertion")
    for name, setting in swept.items():
        explainer = run_module.lime_explainer(predict, seed=7, batch_size=16, **setting)
        saliency = explainer(some_images, torch.tensor([0, 1, 0]), IDS)["saliency"]
        options = {"steps": 5, "baseline": "mean", "seeds": stream_seeds(7, "lime", IDS)}
        _, area = faithfulness.insertion(predict, some_images, saliency, torch.tensor([0, 1, 0]), **options)
        assert scores[scores.setting == name].score.tolist() == pytest.approx(area.tolist(), abs=1e-12)


def test_order_of_settings_images_and_batches_does_not_matter(some_images, reference):
    swept = lime_sweep.all_settings(DEFAULT, GRID, count=15)
    scores, _ = run(some_images, reference, swept)
    order = [2, 0, 1]
    turned, _ = run(
        some_images[order],
        reference[order],
        dict(reversed(swept.items())),
        ids=[IDS[row] for row in order],
        targets=(0, 0, 1),
        batch_size=5,
    )
    index = ["setting", "image_id"]
    pd.testing.assert_frame_equal(scores.set_index(index).sort_index(), turned.set_index(index).sort_index())


def test_predictions_are_shared_and_timed(some_images, reference, monkeypatch):
    calls = []

    def counted(batch):
        calls.append(len(batch))
        return predict(batch)

    swept = lime_sweep.all_settings(DEFAULT, {**GRID, "hide": ["gray"], "superpixels": [SQUARES]})
    looks = iter([1.0, 3.0, 10.0, 14.0])  # before and after the superpixels, and the predictions
    monkeypatch.setattr(run_module, "now", lambda device: next(looks))
    _, seconds = run(some_images, reference, swept, predict=counted)
    assert len(swept) == 24 and sum(calls) == 3 * 80
    assert seconds[["part", "images", "seconds"]].to_numpy().tolist() == [["superpixels", 3, 2], ["sample", 240, 4]]


def test_more_samples_find_the_planted_superpixels(some_images):
    planted = torch.zeros(3, 16, 16)
    planted[:, :4, 4:12] = 1  # superpixels 1 and 2 of 16

    def linear(batch):
        own = (batch[:, :4, 4:12].double().mean((1, 2, 3)) - 128) / 255
        noise = torch.sin(1e3 * batch.double().mean((1, 2, 3)))  # what few samples cannot average out
        return torch.stack([0.5 + 0.2 * own + 0.2 * noise] * 2, 1)

    bright = torch.full_like(some_images, 250)
    bright[:, 3, 3] = torch.tensor([0, 10, 20], dtype=torch.uint8)
    swept = lime_sweep.all_settings(DEFAULT, {"n_samples": [16, 1000]})
    options = {"predict": linear, "objective": "mask_iou", "area": 32 / 256, "targets": (0, 0, 0)}
    scores, _ = run(bright, planted, swept, **options)
    by_samples = {swept[name]["n_samples"]: group.score.mean() for name, group in scores.groupby("setting")}
    assert by_samples[1000] == 1.0
    assert by_samples[16] < 1.0


def test_empty_masks_count_and_score_nothing(some_images, reference):
    def dark(batch):  # every visible superpixel lowers the class
        light = batch.double().mean((1, 2, 3)) / 255
        return torch.stack([1 - light, light], 1)

    swept = lime_sweep.all_settings({**DEFAULT, "hide": "black"}, {})
    scores, _ = run(some_images, reference, swept, predict=dark, objective="mask_iou", targets=(0, 0, 0))
    board = tuning.leaderboard(with_source_images(scores), swept, default=next(iter(swept)))
    assert scores.score.tolist() == [0, 0, 0]
    assert board["empty"].tolist() == [3] and board["mean"].tolist() == [0]


def test_a_setting_with_fewer_samples_than_superpixels_has_no_rank(some_images, reference):
    swept = lime_sweep.all_settings(DEFAULT, {"n_samples": [15, 16]})
    scores, _ = run(some_images, reference, swept)
    board = tuning.leaderboard(with_source_images(scores), swept, default=next(iter(swept)))
    refused = board[board.n_samples == 15].iloc[0]
    assert refused.refused == 3 and math.isnan(refused["mean"]) and refused["rank"] is pd.NA and not refused.front
    assert set(board["rank"].dropna()) == {1, 2}
    effects = tuning.main_effects(with_source_images(scores), {k: v for k, v in swept.items() if v["n_samples"] < 80})
    assert effects[["level", "settings", "refused"]].to_numpy().tolist() == [["15", 0, 1], ["16", 1, 0]]


def test_a_setting_without_a_penalty_is_refused_where_its_samples_have_no_single_solution(some_images, reference):
    swept = lime_sweep.all_settings({**DEFAULT, "alpha": 0}, {"n_samples": [16, 80]})
    scores, _ = run(some_images, reference, swept)
    few = scores["setting"] == next(name for name, setting in swept.items() if setting["n_samples"] == 16)
    assert scores[few]["score"].isna().all() and scores[~few]["score"].notna().all()


def test_images_without_finite_predictions_have_no_score(some_images, reference):
    swept = lime_sweep.all_settings(DEFAULT, {})
    scores, _ = run(some_images, reference, swept, predict=lambda batch: predict(batch) * math.nan)
    assert len(scores) == 3 and scores[["score", "mask_area", "ceiling"]].isna().all(axis=None)


def test_auto_takes_images_of_as_many_superpixels_as_it_may_draw_samples(some_images, reference, monkeypatch):
    monkeypatch.setattr(lime_samples, "LOOKS", (8, 12, 400))  # there are 16 superpixels
    swept = lime_sweep.all_settings(DEFAULT | {"n_samples": "auto"}, {})
    assert run(some_images, reference, swept)[0].score.notna().all()
    monkeypatch.setattr(lime_samples, "LOOKS", (8, 12))
    assert run(some_images, reference, swept)[0].score.isna().all()


def test_ties_of_the_reference_are_those_of_the_maps_of_its_explainer(some_images):
    flat = torch.zeros(3, 16, 16).index_fill_(1, torch.arange(8), 0.5)  # a quarter is to be cut out of a half
    score, selected = score_of("mask_iou", some_images, flat), torch.zeros(3, 16, 16, dtype=torch.bool)
    selected[:, :4] = True
    seeds = stream_seeds(7, "gradcam-x", IDS)
    theirs = masks.equal_area_mask(flat, 0.25, seed=seeds)
    found, _ = score(flat, selected, [0, 1, 2])
    assert found.equal(masks.iou(selected, theirs)) and len(set(found.tolist())) == 3


def test_all_settings_refused(some_images, reference):
    swept = lime_sweep.all_settings({**DEFAULT, "n_samples": 10}, {})
    scores, seconds = run(some_images, reference, swept)
    board = tuning.leaderboard(with_source_images(scores), swept, default=next(iter(swept)))
    assert seconds.images.tolist() == [3, 0]
    choice = tuning.selection(with_source_images(scores), board, default=next(iter(swept)))
    assert choice["what"].tolist() == ["best", "held out", "cheapest", "default"] and choice["n"].eq(0).all()
    facts = {"model": "m", "objective": "agreement"}
    assert evaluation_findings.tuning_findings(board.assign(**facts), choice.assign(**facts)) == [
        "m: 3 source images left out of the tuning, for no setting of LIME could be scored there.",
        "m: none of 1 setting of LIME could be used on every source image, so there is no best one, and the default "
        "stays.",
    ]
    options = {"default": {**DEFAULT, "n_samples": 10}, "grid": {}}
    assert tuning.best_settings(board.assign(model="m"), **options) == {"m": next(iter(swept.values()))}


def table(values, source_images=None):
    """Scores by setting, an image each."""
    rows = [
        {"setting": name, "image_id": f"i{number}", "score": value, "mask_area": 0.1, "ceiling": 1.0}
        for name, own in values.items()
        for number, value in enumerate(own)
    ]
    names = source_images or [f"i{number}" for number in range(len(next(iter(values.values()))))]
    return pd.DataFrame(rows).assign(model="m", source_image=names * len(values))


def plain(**options):
    return lime_sweep.complete({**DEFAULT, **options})


def test_pareto_front_by_hand():
    #        front  beaten by 0  front  beaten by 2 (same cost)  front with its twin   no score
    score = [0.30, 0.20, 0.50, 0.40, 0.60, 0.60, np.nan]
    cost = [100, 100, 200, 200, 900, 900, 1]
    assert tuning.pareto_front(score, cost).tolist() == [True, False, True, False, True, True, False]


def test_leaderboard_by_hand():
    swept = {"d": plain(), "x": plain(n_samples=40), "y": plain(n_samples=20), "z": plain(n_samples=60)}
    scores = table({"d": [0.1, 0.2, 0.3], "x": [0.4, 0.5, 0.6], "y": [0.1, 0.2, 0.3], "z": [0.4, 0.5, 0.6]})
    board = tuning.leaderboard(scores, swept, default="d", names={"d": "default"}, notes={"z": "why"})
    assert board.setting.tolist() == ["x", "z", "y", "d"], "equal means: fewer passes first"
    assert board["rank"].tolist() == [1, 2, 3, 4]
    assert board["mean"].tolist() == pytest.approx([0.5, 0.5, 0.2, 0.2])
    assert board.front.tolist() == [True, False, True, False]
    assert board.difference[:3].tolist() == pytest.approx([0.3, 0.3, 0])
    assert board.p_value[:3].tolist() == [0.25, 0.25, 1.0], "three images: 2 of 8 signs are as extreme"
    assert board.p_adjusted[:3].tolist() == [0.375, 0.375, 1.0]
    assert board.iloc[3][["difference", "p_value"]].isna().all() and board.name.tolist() == ["", "", "", "default"]
    assert board.note.tolist() == ["", "why", "", ""]
    assert board[["low", "high"]].isna().all(axis=None)


def test_two_source_images_give_no_interval():
    board = tuning.leaderboard(table({"d": [0.1, 0.3, 0.2]}, ["p", "p", "q"]), {"d": plain()}, default="d")
    assert board[["n", "source_images"]].to_numpy().tolist() == [[3, 2]]
    assert board[["low", "high"]].isna().all(axis=None)


def test_main_effects_by_hand():
    swept = {
        "a": plain(n_samples=20, alpha=1),
        "b": plain(n_samples=20, alpha=2),
        "c": plain(n_samples=40, alpha=1),
        "d": plain(n_samples=40, alpha=2),
    }
    scores = table({"a": [0.1, 0.2, 0.3], "b": [0.3, 0.4, 0.5], "c": [0.5, 0.6, 0.7], "d": [0.9, 0.8, 0.7]})
    effects = tuning.main_effects(scores, swept)
    found = {(parameter, level): mean for parameter, level, mean in effects[["parameter", "level", "mean"]].to_numpy()}
    assert found == {
        ("alpha", "1"): pytest.approx(0.4),
        ("alpha", "2"): pytest.approx(0.6),
        ("n_samples", "20"): pytest.approx(0.3),
        ("n_samples", "40"): pytest.approx(0.7),
    }
    assert effects.settings.tolist() == [2] * 4 and effects.n.tolist() == [3] * 4


def test_levels_come_by_size_and_words_last():
    swept = {name: plain(n_features=value) for name, value in {"a": None, "b": 10, "c": 3}.items()}
    effects = tuning.main_effects(table({name: [0.1, 0.2, 0.3] for name in swept}), swept)
    assert effects.level.tolist() == ["3", "10", "all"]


def test_selection_by_hand():
    # y is best without i0 (0.65 to 0.25), x without i1 (0.45 to 0.35) and without i2 (0.7 to 0.3)
    scores = table({"d": [0.2, 0.2, 0.2], "x": [0.9, 0.5, 0.0], "y": [0.0, 0.6, 0.7]})
    swept = {"d": plain(), "x": plain(n_samples=20), "y": plain(n_samples=40)}
    board = tuning.leaderboard(scores, swept, default="d")
    table_of = tuning.selection(scores, board, default="d").set_index("what")
    assert table_of.loc["held out", "mean"] == pytest.approx((0.0 + 0.5 + 0.0) / 3)
    assert table_of.loc["held out", "setting"] == "2 chosen"
    assert table_of.loc["best", ["setting", "mean"]].tolist() == ["x", pytest.approx(1.4 / 3)]
    assert table_of.loc["default", "mean"] == pytest.approx(0.2)
    assert table_of.loc["held out", "difference"] == pytest.approx(0.5 / 3 - 0.2)


def said(values, passes, source_images=None):
    swept = {name: plain(n_samples=number) for name, number in passes.items()}
    scores = table(values, source_images)
    board = tuning.leaderboard(scores, swept, default="d").assign(model="m", objective="agreement", left_out=0)
    choice = tuning.selection(scores, tuning.leaderboard(scores, swept, default="d"), default="d").assign(model="m")
    return " ".join(evaluation_findings.tuning_findings(board, choice))


def test_findings_at_three_source_images_support_nothing():
    text = said({"d": [0.1, 0.2, 0.3], "x": [0.4, 0.5, 0.6]}, {"d": 1000, "x": 200})
    assert text.startswith("m, scored by agreement: the best of 2 settings of LIME is grid, size 4; hidden by gray;")
    assert "0.50 (n = 3 is too small for an interval)." in text and "The default scores 0.20 (" in text
    least = "one clear result alone can give no less than 0.25 at n = 3"
    assert f"the difference is +0.30, p = 0.25: not supported at n = 3 (adjusted for 1 test: {least})." in text
    assert "80 % fewer forward passes than the default (1000)" in text
    assert "+0.30 to the default. Whether choosing pays cannot be said at n = 3." in text


def test_findings_at_ten_source_images_support_a_constant_gain_and_name_a_cheaper_setting():
    default = [0.1 + 0.01 * number for number in range(10)]
    values = {"d": default, "x": [each + 0.3 for each in default], "y": [each + 0.1 for each in default]}
    text = said(values, {"d": 500, "x": 1000, "y": 50})
    assert "+0.30 to the default. That choosing pays is supported (interval of the best one's difference, tog" in text
    assert "not supported" not in text and "100 % more forward passes than the default (500)" in text
    start = "the cheapest setting that scores no less than the default is grid, size 4; hidden by gray; 50 samples;"
    assert start in text and "90 % fewer forward passes than the default (500). Chosen in this way" in text
    assert "settings score +0.10 to the default on the one held out. That it loses less than 0.02 is supported" in text


def planted(rng, n, true):
    """Scores of a default and of 20 cheaper settings whose true scores differ by `true`."""
    own = rng.beta(2, 4, n)
    scores = {"d": own} | {f"s{number:02d}": own + rng.normal(true, 0.06, n) for number in range(20)}
    swept = {name: plain(n_samples=1000 if name == "d" else 100 + number) for number, name in enumerate(scores)}
    return table({name: values.tolist() for name, values in scores.items()}), swept


def cheapest_of(scores, swept):
    board = tuning.leaderboard(scores, swept, default="d")
    return tuning.selection(scores, board, default="d").set_index("what").loc["cheapest"]


def test_a_cheaper_setting_is_seldom_said_to_lose_little_where_all_lose_more():
    rng, runs = np.random.default_rng(9), 40
    found = [cheapest_of(*planted(rng, 10, -tuning.MARGIN - 0.001)) for _ in range(runs)]
    assert sum(row.setting != "d" for row in found) > 0.8 * runs, "one scores no less than the default by luck"
    assert sum(row.non_inferior for row in found) / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    clear = [cheapest_of(*planted(rng, 10, 0.2)) for _ in range(5)]
    assert all(row.non_inferior and row.setting == "s00" for row in clear)


def pays(scores, swept):
    board = tuning.leaderboard(scores, swept, default="d").assign(model="m", objective="agreement", left_out=0)
    choice = tuning.selection(scores, board, default="d").assign(model="m")
    verdicts = [each.verdict for each in evaluation_findings.tuning_findings(board, choice)]
    return "m: choosing a setting pays on other source images." in verdicts


def test_choosing_is_seldom_said_to_pay_where_all_settings_are_alike():
    rng, runs, found = np.random.default_rng(10), 40, 0
    for _ in range(runs):
        found += pays(*planted(rng, 10, 0))
    assert found / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)
    assert all(pays(*planted(rng, 10, 0.2)) for _ in range(5))


def test_the_cheapest_setting_is_chosen_on_the_other_source_images():
    # without i0 y scores less than the default (0.1 to 0.3), so that x is the cheapest; with it y is
    scores = table({"d": [0.3, 0.3, 0.3], "x": [0.4, 0.4, 0.4], "y": [0.9, 0.1, 0.1]})
    swept = {"d": plain(n_samples=100), "x": plain(n_samples=50), "y": plain(n_samples=20)}
    row = cheapest_of(scores, swept)
    assert row.setting == "y" and row["mean"] == pytest.approx((0.4 + 0.1 + 0.1) / 3) and not row.non_inferior


def test_findings_where_the_default_is_best_or_there_is_one_source_image():
    assert said({"d": [0.4, 0.5], "x": [0.1, 0.2]}, {"d": 80, "x": 40}).endswith("It is the default.")
    text = said({"d": [0.1], "x": [0.2]}, {"d": 80, "x": 40})
    assert "too small for an interval" in text and "held out" not in text


def test_crops_of_one_source_image_are_held_out_together():
    scores = table({"d": [0.5, 0.5, 0.4, 0.4], "x": [1.0, 1.0, 0.0, 0.0]}, ["p", "p", "q", "q"])
    board = tuning.leaderboard(scores, {"d": plain(), "x": plain(n_samples=20)}, default="d")
    table_of = tuning.selection(scores, board, default="d").set_index("what")
    assert table_of.loc["held out", "mean"] == pytest.approx((0.5 + 0.5 + 0 + 0) / 4)


def test_modeled_cost_by_hand():
    swept = {"d": plain(), "x": plain(superpixels={"method": "grid", "size": 8}, n_samples=20)}
    board = tuning.leaderboard(table({"d": [0.1] * 3, "x": [0.1] * 3}), swept, default="d")
    seconds = pd.DataFrame(
        [["superpixels", "grid, size 4", 3, 0.3], ["superpixels", "grid, size 8", 3, 6.0], ["sample", "", 100, 0.5]],
        columns=["part", "segmentation", "images", "seconds"],
    )
    cost = tuning.modeled_cost(board, pd.concat([seconds, seconds])).set_index("setting")
    assert cost.loc["d", "seconds"] == pytest.approx(0.1 + 80 * 0.005)
    assert cost.loc["x", "seconds"] == pytest.approx(2 + 20 * 0.005)
    assert cost.front.to_dict() == {"d": True, "x": False}
    assert board.set_index("setting").front.to_dict() == {"d": False, "x": True}, "fewer passes"


def test_tables_of_two_models_lie_below_each_other_in_the_order_of_the_run():
    options = {"default": DEFAULT, "grid": {"n_samples": [100, 20, 40]}, "presets": {"public": PUBLIC}, "count": None}
    swept = lime_sweep.all_settings(**options)
    scores = [table({name: [0.1, 0.2, 0.3] for name in swept}).assign(model=model) for model in ("z", "a")]
    facts = {"objective": "agreement", "explained_class": "predicted", "geometry": "square", "seed": 7}
    seconds = [["superpixels", lime_sweep.superpixel_text(each["superpixels"]), 3, 0.3] for each in swept.values()]
    seconds = pd.DataFrame([*seconds, ["sample", "", 100, 0.5]], columns=["part", "segmentation", "images", "seconds"])
    made = tuning.tables(
        pd.concat(scores).assign(**facts),
        pd.concat([seconds.assign(model=model) for model in ("z", "a")]),
        **options,
        seed=0,
    )
    for name, each in made.items():
        assert each.columns[0] == "model" and list(each.model.unique()) == ["z", "a"], name
        assert each.index.tolist() == list(range(len(each))), name
        assert name == "timings" or list(each.columns[-4:]) == list(facts), name
    named = made["settings"].set_index("name")
    assert named.loc["default", "note"].tolist() == ["", ""] and named.loc["default", "n_samples"].tolist() == [80, 80]
    assert named.loc["public", "note"].iloc[0].startswith("public ignores labels: the class is chosen by")
    assert named.loc["public", "num_features"].tolist() == [2, 2], "of the mask: that of the default"
    assert made["effects"].level.tolist() == ["20", "40", "100"] * 2, "by size, without preset and default"


def test_one_setting_on_one_image_is_a_tuning():
    (only,) = lime_sweep.all_settings(DEFAULT, {})
    facts = {"objective": "agreement", "explained_class": "predicted", "geometry": "square", "seed": 7}
    seconds = [["superpixels", lime_sweep.superpixel_text(SQUARES), 1, 0.1], ["sample", "", 80, 0.4]]
    seconds = pd.DataFrame(seconds, columns=["part", "segmentation", "images", "seconds"]).assign(model="m")
    scores, options = table({only: [0.5]}).assign(**facts), {"presets": {}, "count": None, "seed": 0}
    made = tuning.tables(scores, seconds, default=DEFAULT, grid={}, **options)
    assert made["settings"][["mean", "n", *facts]].to_numpy().tolist() == [[0.5, 1, *facts.values()]]


def test_public_preset():
    setting, ignored = lime_sweep.from_explain_instance(PUBLIC)
    assert setting == lime_sweep.complete(
        {
            "superpixels": {"method": "quickshift", "kernel_size": 4, "max_dist": 200, "ratio": 0.2},
            "hide": "mean",
            "n_samples": 1000,
            "n_features": 8,
        }
    )
    assert [note.partition(":")[0] for note in ignored] == [
        "labels",
        "top_labels",
        "batch_size",
        "random_seed",
        "progress_bar",
    ]
    assert "0.2.0.1" in ignored[-1]


def test_without_keywords_a_setting_is_the_default_of_the_package():
    setting, ignored = lime_sweep.from_explain_instance({})
    assert (setting["alpha"], setting["n_samples"], setting["distance"], ignored) == (1, 1000, "cosine", [])
    assert lime_sweep.from_explain_instance({"model_regressor": "Ridge"})[0] == setting


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_sample": 5}, "unknown keyword 'num_sample'; allowed: labels, hide_color, "),
        ({"hide_color": 7}, r"`hide_color` is 7; allowed: \[None, 128, 0, 255\]"),
        ({"hide_color": "blur"}, "`hide_color` is 'blur'"),
        ({"segmentation_fn": "grid"}, "`segmentation_fn` is 'grid'; allowed: quickshift, slic, felzenszwalb"),
        ({"segmentation_fn": {"algo_type": "slic", "ratio": 1}}, r"unknown options \['ratio'\] for slic"),
        ({"model_regressor": "Lasso"}, "`model_regressor` is 'Lasso'; allowed: Ridge"),
        ({"distance_metric": "l1"}, "`distance_metric` is 'l1'; allowed: cosine, l2"),
    ],
)
def test_keywords_that_cannot_be_used_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        lime_sweep.from_explain_instance(PUBLIC | change)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hide": "black", "n_features": 3, "distance": "l2", "alpha": 0.5},
        {"superpixels": {"method": "slic", "n_segments": 30}, "hide": "mean"},
    ],
)
def test_keywords_read_back(options):
    setting = lime_sweep.complete({"superpixels": {"method": "quickshift"}, "n_samples": 50, **options})
    written = json.loads(json.dumps(lime_sweep.to_explain_instance(setting, seed=42)))
    assert lime_sweep.from_explain_instance(written["explain_instance"])[0] == setting


def test_what_the_package_cannot_do_is_noted():
    written = lime_sweep.to_explain_instance(plain(hide="blur"), seed=42)
    assert not {"hide_color", "segmentation_fn"} & set(written["explain_instance"])
    assert [note.split()[0] for note in written["notes"]] == ["hide_color", "segmentation_fn", "segmentation_fn"]


def test_keywords_are_those_of_the_package():
    from inspect import getsource, signature

    from lime.lime_base import LimeBase
    from lime.lime_image import ImageExplanation, LimeImageExplainer

    written = lime_sweep.to_explain_instance(plain(superpixels={"method": "quickshift"}), seed=42)
    assert set(written["explain_instance"]) <= set(signature(LimeImageExplainer.explain_instance).parameters)
    assert set(written["LimeImageExplainer"]) <= set(signature(LimeImageExplainer).parameters)
    assert set(written["get_image_and_mask"]) <= set(signature(ImageExplanation.get_image_and_mask).parameters)
    assert written["get_image_and_mask"]["positive_only"], "as our masks are"
    theirs = {name: each.default for name, each in signature(LimeImageExplainer.explain_instance).parameters.items()}
    assert all(written["explain_instance"][name] == theirs[name] for name in ("num_features", "batch_size"))
    ours = lime_sweep._KEYWORDS
    inside = {"segmentation_fn", "model_regressor"}  # None, and made where they are used
    assert {name: value for name, value in ours.items() if name not in inside} == {
        name: theirs[name] for name in ours if name not in inside
    }
    method, options = (
        ours["segmentation_fn"]["algo_type"],
        ours["segmentation_fn"].items() - {("algo_type", "quickshift")},
    )
    written_there = getsource(LimeImageExplainer.explain_instance)
    assert all(f"{name}={value}" in written_there for name, value in options) and f"'{method}'" in written_there
    assert ours["model_regressor"] == {"Ridge": {"alpha": 1}} and "Ridge(alpha=1," in getsource(LimeBase)
    kernel_width = signature(LimeImageExplainer).parameters["kernel_width"].default
    assert written["LimeImageExplainer"]["kernel_width"] == kernel_width


def test_setting_as_config():
    setting = plain()
    assert lime_sweep.complete(yaml.safe_load(yaml.safe_dump(lime_sweep.to_config(setting)))) == setting
    assert "n_features" not in lime_sweep.to_config(setting)


def test_a_shard_without_an_image_has_tables_without_rows(some_images, reference):
    swept = lime_sweep.all_settings(DEFAULT, {})
    none = lime_sweep.sweep(predict, some_images[:0], torch.tensor([]), [], swept, None, seed=7, batch_size=16)
    assert [pd.DataFrame(table).empty for table in none] == [True, True]
    assert [list(table) for table in none] == [list(table) for table in run(some_images, reference, swept)]


def test_unknown_objective(some_images, reference):
    with pytest.raises(ValueError, match="`objective` is 'iou'; allowed: equal_area_iou, mask_iou, insertion"):
        score_of("iou", some_images, reference)
