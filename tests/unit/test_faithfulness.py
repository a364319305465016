"""Deletion, insertion, ROAD, drop: hand-computed curves, maps by chance at the floor, a planted explanation on top."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from unitlens.explainers import masks
from unitlens.measures import faithfulness, perturbation, sanity
from unitlens.report import evaluation_findings
from unitlens.tables import faithfulness as faithfulness_tables

ALL = perturbation.Plan(steps=6, baselines=["mean", "blur"], percentiles=[20, 60])
SIDE = 32
PATCH = slice(1, 9)


def brightness(images):
    """A model whose probability of class 1 is the mean brightness: linear in the pixels."""
    share = images.double().mean((1, 2, 3)) / 255
    return torch.stack([1 - share, share], dim=1)


def patch_only(images):
    """A model that looks only at how far a patch differs from mid gray."""
    contrast = (images[:, PATCH, PATCH].double() - 128).abs().mean((1, 2, 3)) / 128
    return torch.stack([1 - contrast, contrast], dim=1)


def noise_images(n, seed=0):
    return torch.randint(0, 256, (n, SIDE, SIDE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def planted_images(n):
    """Noise of low contrast with a checked patch of full contrast."""
    images = (noise_images(n).double() / 8 + 112).to(torch.uint8)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 255
    images[:, PATCH, PATCH] = checks[None, :, :, None].to(torch.uint8)
    return images


def planted_map(n):
    saliency = torch.zeros(n, SIDE, SIDE)
    saliency[:, PATCH, PATCH] = 1
    return saliency


def ones(n):
    return torch.ones(n, dtype=torch.int64)


def two_rows():
    """One image of 2 x 2 pixels, white above black, and a map that ranks its pixels in reading order."""
    image = torch.tensor([255, 255, 0, 0], dtype=torch.uint8).view(1, 2, 2, 1).repeat(1, 1, 1, 3)
    return image, torch.tensor([[[0.9, 0.8], [0.7, 0.1]]])


def test_deletion_by_hand():
    curve, auc = faithfulness.deletion(brightness, *two_rows(), ones(1), steps=5, baseline="mean")
    # the mean color is 127.5, rounded to 128: 0.5019; white, white, black, black become it one after the other
    mean = 128 / 255
    expected = [2 / 4, (1 + mean) / 4, 2 * mean / 4, 3 * mean / 4, mean]
    assert curve[0].tolist() == pytest.approx(expected)
    assert auc.tolist() == pytest.approx([sum((a + b) / 2 for a, b in pairwise(expected)) / 4])


def test_insertion_by_hand():
    curve, auc = faithfulness.insertion(brightness, *two_rows(), ones(1), steps=3, baseline="mean")
    expected = [128 / 255, (2 + 2 * 128 / 255) / 4, 2 / 4]
    assert curve[0].tolist() == pytest.approx(expected)
    assert auc.tolist() == pytest.approx([(expected[0] + 2 * expected[1] + expected[2]) / 4])


def drop_and_increase(images, maps, targets):
    plan = perturbation.Plan(measures=["masked"])
    scores = faithfulness.scores(faithfulness.curves(brightness, images, {"": maps}, targets, plan=plan))
    return scores["", "average_drop", "black"], scores["", "increase", "black"]


def test_drop_and_increase_by_hand():
    image, saliency = two_rows()
    images, maps = image.repeat(2, 1, 1, 1), torch.cat([saliency, saliency])
    # saliency scaled to [0, 1] is 1, 0.875, 0.75, 0: the brightness falls from 2 / 4 to (255 + 223) / 255 / 4
    drop, increase = drop_and_increase(images, maps, torch.tensor([1, 0]))
    kept = (255 + 223) / 255 / 4
    assert drop.tolist() == pytest.approx([(0.5 - kept) / 0.5, 0])
    assert increase.tolist() == [0, 1]  # class 0, darkness, gains


@pytest.mark.parametrize(("order", "last"), [("morf", 0), ("lerf", 255)])
def test_road_by_hand(order, last, monkeypatch):
    monkeypatch.setattr(perturbation, "_NOISE", 0.0)
    image = torch.tensor([255, 255, 0, 0], dtype=torch.uint8).view(1, 1, 4, 1).repeat(1, 1, 1, 3)
    curve, mean = faithfulness.road(
        brightness, image, torch.tensor([[[4.0, 3, 2, 1]]]), ones(1), percentiles=[25, 50, 75], order=order
    )
    # one pixel gone: its neighbor has the same value; two or three: all become the value that is left
    assert curve[0].tolist() == pytest.approx([0.5, last / 255, last / 255])
    assert mean.item() == pytest.approx(curve.mean().item())


def test_a_quarter_is_a_quarter():
    seen = []

    def predict(images):
        seen.append(images)
        return brightness(images)

    black = torch.zeros(1, SIDE, SIDE, 3, dtype=torch.uint8)
    black[0, 0, 0] = 255  # so that the mean color is not black
    faithfulness.deletion(predict, black, torch.rand(1, SIDE, SIDE), ones(1), steps=5, baseline="blur")
    faithfulness.road(predict, noise_images(1), torch.zeros(1, SIDE, SIDE), ones(1), percentiles=[25], order="morf")
    changed = (seen[1][1] != noise_images(1)[0]).any(-1).double().mean()
    assert changed.item() == pytest.approx(0.25, abs=0.01)  # a few are imputed with the value that they had


def test_random_maps_give_the_expected_line_for_a_linear_model():
    images = noise_images(20).clone()
    images[:, :16] //= 2
    maps = torch.rand(20, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    curve, auc = faithfulness.deletion(brightness, images, maps, ones(20), steps=5, baseline="mean")
    # the expected brightness stays that of the image, which is that of its mean color, at every share
    assert torch.allclose(curve, curve[:, :1].expand_as(curve), atol=0.02)
    assert auc.mean().item() == pytest.approx(curve[:, 0].mean().item(), abs=0.005)


def rows_of(scores, source_images):
    """The long table of scores that `summarize` takes."""
    return pd.concat(
        pd.DataFrame(
            {
                "model": "toy",
                "image_id": [str(i) for i in range(source_images)],
                "source_image": [str(i) for i in range(source_images)],
                "explainer": explainer,
                "measure": measure,
                "baseline": baseline,
                "value": values.numpy(),
                "flat": False,
            }
        )
        for (explainer, measure, baseline), values in scores.items()
    )


@pytest.fixture(scope="module")
def planted():
    """The true patch, random maps and the Gaussian, for a model that looks at the patch only."""
    n = 12
    maps = {
        "true": planted_map(n),
        "other": sanity.random_saliency((SIDE, SIDE), seeds=range(100, 100 + n)),
        "random": sanity.random_saliency((SIDE, SIDE), seeds=range(n)),
        "gaussian": sanity.centered_gaussian((SIDE, SIDE)).expand(n, -1, -1),
    }
    found = faithfulness.curves(patch_only, planted_images(n), maps, ones(n), plan=ALL, seeds=range(n))
    return rows_of(faithfulness.scores(found), n)


def test_every_measure_has_a_direction():
    assert set(faithfulness.BETTER.values()) == {1, -1} and faithfulness.BETTER["increase"] == 1


MEASURES = [measure for measure in faithfulness.BETTER if measure != "increase"]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_planted_map_wins_every_measure(planted, measure):
    tests = faithfulness_tables.compare(planted[planted.measure == measure])
    true = tests[(tests.explainer_a == "true") | (tests.explainer_b == "true")]
    assert set(true.more_faithful) == {"true"} and (true.p_adjusted < 0.05).all()


def test_two_random_maps_do_not_differ(planted):
    tests = faithfulness_tables.compare(planted[planted.explainer.isin(["other", "random"])])
    assert len(tests) == 9  # deletion and insertion on two baselines, three of ROAD, drop and increase
    assert (tests.p_adjusted > 0.05).all()


def test_summary(planted):
    summary = faithfulness_tables.summarize(planted).set_index(["explainer", "measure", "baseline"])
    one = planted[(planted.explainer == "true") & (planted.measure == "road")]
    random = planted[(planted.explainer == "random") & (planted.measure == "road")]
    row = summary.loc["true", "road", "imputed"]
    assert row["mean"] == pytest.approx(one.value.mean()) and row.n == row.source_images == 12
    assert row.over_random == pytest.approx(one.value.mean() - random.value.mean())
    assert row.low < row["mean"] < row.high and row.p_adjusted < 0.05 and row.better == "higher"
    assert np.isnan(summary.loc["random", "road", "imputed"].p_value)


def test_two_source_images_have_no_interval(planted):
    few = planted[planted.source_image.isin(["0", "1"])]
    assert faithfulness_tables.summarize(few)[["low", "high", "over_low"]].isna().all(axis=None)
    assert "2 source images are too few for a test" in " ".join(evaluation_findings.faithfulness_findings(*both(few)))


def both(table):
    return faithfulness_tables.summarize(table), faithfulness_tables.compare(table)


def test_findings_name_the_winner(planted):
    text = " ".join(evaluation_findings.faithfulness_findings(*both(planted)))
    assert text.count("true scores best") == 3
    assert (
        "1 of 2 explainers beat random maps (p < 0.05 adjusted for 27 tests; not supported at n = 12 for other)" in text
    )
    assert "true over the second, other: supported (adjusted p" in text


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_batch_size_changes_nothing(batch_size):
    maps = {
        "a": torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(2)),
        "zero": torch.zeros(3, SIDE, SIDE),
    }
    images, options = noise_images(3), {"plan": ALL, "seeds": [5, 6, 7]}
    whole = faithfulness.curves(patch_only, images, maps, ones(3), batch_size=64, **options)
    parts = faithfulness.curves(patch_only, images, maps, ones(3), batch_size=batch_size, **options)
    last = {name: each[2:] for name, each in maps.items()}
    alone = faithfulness.curves(patch_only, images[2:], last, ones(1), plan=ALL, seeds=[7])
    for key, curve in whole.items():
        assert torch.allclose(parts[key], curve, atol=1e-9) and torch.allclose(alone[key], curve[2:], atol=1e-9)


def test_batches_are_full():
    sizes = []

    def predict(images):
        sizes.append(len(images))
        return brightness(images)

    maps = {"a": torch.rand(3, SIDE, SIDE), "b": torch.rand(3, SIDE, SIDE)}
    faithfulness.curves(predict, noise_images(3), maps, ones(3), plan=ALL, batch_size=10)
    images = 3 * (3 + 2 * (2 * 2 * 4 + 2 * 2 + 1))  # 3 whole; 4 inner steps, 2 percentiles of 2 orders, 1 masked
    assert sizes == [10] * (images // 10) + [images % 10]


def test_a_map_upside_down_shows_the_network_the_same_images():
    n = 3
    order = torch.stack([torch.randperm(SIDE * SIDE) for _ in range(n)]).view(n, SIDE, SIDE).double()

    def own(maps):
        return faithfulness.curves(patch_only, planted_images(n), {"": maps}, ones(n), plan=plan, seeds=range(n))

    plan = perturbation.Plan(SIDE + 1, ["mean", "blur"], [25, 50])
    expected, turned = own(-order), faithfulness.upside_down(own(order))
    assert turned.keys() == expected.keys() - {("", "image", ""), ("", "masked", "black")}
    for key, curve in turned.items():
        torch.testing.assert_close(curve, expected[key], rtol=0, atol=1e-12)


def test_random_maps_are_asked_for_their_images_once():
    n, asked = 2, []

    def counting(images):
        asked.append(len(images))
        return patch_only(images)

    explanation = {
        "saliency": np.ones((n, SIDE, SIDE), np.float32) * np.arange(SIDE, dtype=np.float32),
        "target": np.ones(n, dtype=int),
        "target_probability": np.ones(n),
        "image_id": np.array(["a", "b"], dtype=object),
        "source_image": np.array(["a", "b"], dtype=object),
    }
    plan = perturbation.Plan(6, ["mean"], [25, 50])
    options = {"seeds": range(n), "control_seeds": range(n), "batch_size": 16}
    faithfulness_tables.score_shard(counting, {"x": explanation}, planted_images(n).numpy(), plan=plan, **options)
    a_map, ends = 2 * 4 + 2 * 2 + 1, 2
    first = ends + 3 * a_map  # the explainer, the Gaussian and a random map
    others = 4 * (ends + a_map) + 5 * (1 + 1)  # four more random maps; five upside down, masked by themselves only
    assert sum(asked) == n * (first + others)


def test_class_0_is_a_class_and_no_class_is_none():
    target = np.array([0, 1, -1])
    shard = {"target": target, "target_probability": np.ones(3), "saliency": planted_map(3).numpy()}
    shard |= {name: np.array([*"abc"], dtype=object) for name in ("image_id", "source_image")}
    options = {"plan": perturbation.Plan(2, ["mean"], [50]), "seeds": range(3), "control_seeds": range(3)}
    images = planted_images(3).numpy()
    table, _ = faithfulness_tables.score_shard(patch_only, {"x": shard}, images, batch_size=16, **options)
    assert table["target"].fillna(-1).tolist() == target.tolist() * (len(table) // 3)
    assert table["value"].notna().groupby(table["image_id"]).all().tolist() == [True, True, False]


def test_ties_are_random_and_seeded():
    images, flat = noise_images(1), torch.zeros(1, SIDE, SIDE)
    plan = {"steps": 4, "baseline": "mean"}
    first, second, other = (
        faithfulness.deletion(brightness, images, flat, ones(1), seeds=seed, **plan)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)


@pytest.mark.parametrize("value", [0.0, 0.7, torch.nan, torch.inf])
def test_maps_without_an_order_get_a_random_one_and_are_flagged(value):
    images, maps = noise_images(2), torch.rand(2, SIDE, SIDE)
    maps[1] = value
    assert masks.is_flat(maps).tolist() == [False, True]
    zeros = torch.zeros_like(maps)
    scored = faithfulness.curves(patch_only, images, {"a": maps, "zero": zeros}, ones(2), plan=ALL, seeds=[1, 2])
    for measure in ("deletion", "insertion"):
        assert torch.equal(scored["a", measure, "mean"][1], scored["zero", measure, "mean"][1])
    assert torch.equal(scored["a", "masked", "black"][1], scored["zero", "masked", "black"][1])


def test_floors():
    maps = sanity.random_saliency((40, 50), seeds=[1, 2, 1])
    assert maps.shape == (3, 40, 50) and torch.equal(maps[0], maps[2]) and not torch.equal(maps[0], maps[1])
    gaussian = sanity.centered_gaussian((5, 9))
    assert gaussian.shape == (5, 9) and gaussian.argmax() == 2 * 9 + 4 and torch.equal(gaussian, gaussian.flip(0, 1))
    # one standard deviation, a quarter of the side, is half way to the border
    assert gaussian[2, 2].item() == pytest.approx(np.exp(-0.5))


def test_shard():
    n = 4
    explanation = {
        "saliency": planted_map(n).numpy(),
        "target": np.ones(n, dtype=int),
        "target_probability": np.full(n, 0.5),
        "image_id": np.array(list("abcd"), dtype=object),
        "source_image": np.array(list("aacd"), dtype=object),
    }
    table, arrays = faithfulness_tables.score_shard(
        patch_only,
        {"lime": explanation, "gradcam-x": explanation | {"saliency": np.zeros((n, SIDE, SIDE), np.float32)}},
        planted_images(n).numpy(),
        plan=ALL,
        seeds=range(n),
        control_seeds=range(n),
        batch_size=16,
    )
    assert set(table.explainer) == {"lime", "gradcam-x", "random", "gaussian"}
    assert len(table) == 4 * 9 * n
    assert table[table.flat].explainer.unique().tolist() == ["gradcam-x"]
    assert arrays["lime:deletion:mean"].shape == (n, 6) and arrays["image"].shape == (n, 1)
    drawn = []
    for draw in range(5):
        maps = sanity.random_saliency((SIDE, SIDE), seeds=range(draw, n + draw))
        options = {"steps": 6, "baseline": "mean", "seeds": range(n)}
        for each in (maps, 1 - maps):
            drawn.append(faithfulness.deletion(patch_only, planted_images(n), each, ones(n), **options)[1])
    random = table[(table.explainer == "random") & (table.measure == "deletion") & (table.baseline == "mean")]
    assert (
        random.value.tolist() == pytest.approx(torch.stack(drawn).mean(0).tolist()) != pytest.approx(drawn[0].tolist())
    )
    road = table[(table.explainer == "random") & (table.measure == "road")]
    assert road.value.abs().max() < 1e-12  # what either end of an order leaves, the other end of its opposite leaves
    other = explanation | {"target": np.zeros(n, dtype=int)}
    with pytest.raises(ValueError, match="explanations by b have other values of target than those by a"):
        faithfulness_tables.score_shard(
            patch_only,
            {"a": explanation, "b": other},
            planted_images(n).numpy(),
            plan=ALL,
            seeds=range(n),
            control_seeds=range(n),
            batch_size=16,
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 1}, "`steps` is 1; allowed: 2 or more"),
        ({"baseline": "black"}, "`baseline` is 'black'; allowed: blur, mean"),
        ({"seeds": [1]}, "`seeds` holds 1 seeds for 2 images"),
        ({"batch_size": 0}, "`batch_size` is 0; allowed: 1 or more"),
        ({"images": torch.rand(2, SIDE, SIDE, 3)}, r"`images` must be uint8 \(n, h, w, 3\), got torch.float32"),
        ({"saliency": torch.rand(2, SIDE, 5)}, r"`saliency` has shape \(2, 32, 5\); allowed: \(2, 32, 32\)"),
        ({"targets": torch.tensor([1])}, "`targets` must be one class for each of 2 images"),
    ],
)
def test_bad_input(change, message):
    given = {"images": noise_images(2), "saliency": torch.rand(2, SIDE, SIDE), "targets": ones(2)}
    given |= {"steps": 3, "baseline": "mean"} | change
    with pytest.raises(ValueError, match=message):
        faithfulness.deletion(brightness, given.pop("images"), given.pop("saliency"), given.pop("targets"), **given)


def test_bad_order_and_percentiles():
    inputs = brightness, noise_images(1), torch.rand(1, SIDE, SIDE), ones(1)
    with pytest.raises(ValueError, match="`order` is 'first'; allowed: 'morf'"):
        faithfulness.road(*inputs, percentiles=[10], order="first")
    with pytest.raises(ValueError, match="`percentiles` holds 100; allowed: above 0 and below 100"):
        faithfulness.road(*inputs, percentiles=[50, 100], order="morf")


def test_scores_by_hand():
    curves = {
        ("", "image", ""): [[0.8]],
        ("a", "deletion", "mean"): [[1.0, 0.5, 0.0]],
        ("a", "road_morf", "imputed"): [[0.2, 0.4]],
        ("a", "road_lerf", "imputed"): [[0.9, 0.7]],
        ("a", "masked", "black"): [[0.6]],
    }
    found = faithfulness.scores({key: torch.tensor(curve, dtype=torch.float64) for key, curve in curves.items()})
    assert {key[1]: value.item() for key, value in found.items()} == {
        "deletion": pytest.approx((1 / 2 + 0.5 + 0) / 2),
        "road_morf": pytest.approx(0.3),
        "road_lerf": pytest.approx(0.8),
        "road": pytest.approx((0.8 - 0.3) / 2),
        "average_drop": pytest.approx(0.25),
        "increase": 0,
    }


def test_the_noise_of_road_is_a_hundredth_of_the_range():
    seen = []

    def predict(images):
        seen.append(images)
        return brightness(images)

    gray = torch.full((10, SIDE, SIDE, 3), 128, dtype=torch.uint8)
    faithfulness.road(
        predict, gray, torch.rand(10, SIDE, SIDE), ones(10), percentiles=[75], order="morf", seeds=range(10)
    )
    imputed = torch.cat(seen)[1::2].double() - 128
    changed = imputed.square().sum() / (10 * 0.75 * SIDE * SIDE * 3)
    # 0.01 of 255 gray levels and what rounding adds; 23,040 draws: 0.02 are more than four standard errors
    assert changed.sqrt().item() == pytest.approx((2.55**2 + 1 / 12) ** 0.5, rel=0.02)


def test_a_flat_map_is_masked_by_its_random_order_from_one_to_zero():
    white = torch.full((1, SIDE, SIDE, 3), 255, dtype=torch.uint8)
    drop, increase = drop_and_increase(white, torch.zeros(1, SIDE, SIDE), ones(1))
    assert drop.item() == pytest.approx(0.5, abs=1e-3)  # half a gray level of 255 is lost in rounding
    assert increase.item() == 0
    ranks = torch.tensor([[2, 0], [3, 1]])
    scaled = perturbation._scaled(torch.zeros(2, 2), ranks, True)
    assert scaled.flatten().tolist() == pytest.approx([1 / 3, 1, 0, 2 / 3], abs=1e-6)


def curve_files():
    """Curves of two shards of two models; the second model comes first in the alphabet."""
    for model, shift in (("z", 0.0), ("a", 0.5)):
        for shard in (0, 1):
            curve = np.array([[0.4, 0.2, 0.0], [0.2, 0.0, 0.0]]) + 0.1 * shard + shift
            arrays = {"lime:deletion:mean": curve, "lime:road_morf:imputed": curve[:, :2], "lime:masked:black": curve}
            names = np.array([f"p{shard}", f"q{shard}"], dtype=object)
            yield arrays | {"image": curve[:, :1], "source_image": names}, {"model": model, "percentiles": [20, 60]}


def test_mean_curves_by_hand():
    table = faithfulness_tables.mean_curves(curve_files())
    assert table.index.equals(pd.RangeIndex(10))
    assert table[["model", "measure", "baseline", "explainer"]].drop_duplicates().to_numpy().tolist() == [
        ["z", "deletion", "mean", "lime"],
        ["z", "road_morf", "imputed", "lime"],
        ["a", "deletion", "mean", "lime"],
        ["a", "road_morf", "imputed", "lime"],
    ]
    rows = table.set_index(["model", "measure"]).loc[("z", "deletion")]
    assert rows["share"].tolist() == [0, 0.5, 1]
    assert rows["mean"].tolist() == pytest.approx([0.35, 0.15, 0.05])
    assert rows["n"].tolist() == rows["source_images"].tolist() == [4, 4, 4]
    rows = table.set_index(["model", "measure"]).loc[("a", "road_morf")]
    assert rows["share"].tolist() == [0.2, 0.6]
    assert rows["mean"].tolist() == pytest.approx([0.85, 0.65])


def test_without_curves_the_table_is_empty():
    table = faithfulness_tables.mean_curves([])
    assert table.empty and list(table) == list(faithfulness_tables.mean_curves(curve_files()))


def test_of_equal_explainers_none_is_more_faithful():
    same = {(name, "deletion", "mean"): torch.tensor([0.1, 0.2, 0.3]) for name in ("one", "other")}
    worse = {("worse", "deletion", "mean"): torch.tensor([0.2, 0.3, 0.4])}
    tests = faithfulness_tables.compare(rows_of(same | worse, 3))
    assert tests["more_faithful"].tolist() == ["", "one", "other"]


def test_findings_keep_the_order_of_models_and_support_only_what_is_tested():
    """Lower is better for deletion: `good` wins by a little on average, but not on every source image."""
    rng = np.random.default_rng(0)
    noise = {name: torch.tensor(rng.normal(mean, 0.3, 12)) for name, mean in (("good", 0.5), ("bad", 0.9))}
    controls = {"random": torch.tensor(rng.normal(2, 0.1, 12)), "gaussian": noise["good"] + 0.001}
    table = rows_of({(name, "deletion", "mean"): values for name, values in (noise | controls).items()}, 12)
    table.loc[table.explainer == "gaussian", "value"] += np.tile([0.3, -0.3], 6)
    sentences = evaluation_findings.faithfulness_findings(
        *both(pd.concat([table.assign(model="z"), table.assign(model="a")]))
    )
    assert [sentence[:2] for sentence in sentences] == ["z:", "a:"]
    assert "good scores best" in sentences[0]
    assert "good over the second, bad: supported (" in sentences[0]
    assert "; over a Gaussian in the middle: not supported at n = 12 (" in sentences[0]
