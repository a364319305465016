"""Randomized networks and LIME drawn again, by hand and with explainers that ignore or follow the weights."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
import toy
from unitlens.explainers import lime_samples, run, segment, surrogate
from unitlens.measures import sanity, scales
from unitlens.report import evaluation_findings
from unitlens.tables import sanity as sanity_tables

FACTS = {"model": "m", "explained_class": "predicted", "geometry": "g"}


def table_of(n):
    images = {"image_id": [f"i{i}" for i in range(n)], "source_image": [f"p{i}" for i in range(n)]}
    return pd.DataFrame({**FACTS, **images})


@pytest.fixture
def network():
    torch.manual_seed(0)
    return toy.network().eval()


# randomized networks


def test_the_cascade_goes_from_the_last_layer_to_all():
    assert sanity.cascade(26, 4) == [1, 9, 18, 26]
    assert sanity.cascade(3, 10) == [1, 2, 3]
    assert sanity.cascade(3, 1) == [3]


def test_layers_are_those_with_weights_of_their_own(network):
    assert sanity.layers_with_weights(network) == ["conv1", "conv2", "head"]
    nested = torch.nn.Sequential(torch.nn.Sequential(torch.nn.BatchNorm2d(3)), torch.nn.ReLU())
    assert sanity.layers_with_weights(nested) == ["0.0"]


def test_randomizing_shuffles_values_of_those_layers_alone(network):
    before = copy.deepcopy(network.state_dict())
    sanity.randomize(network, ["conv2"], seed=1)
    after = network.state_dict()
    for name, values in before.items():
        assert torch.equal(values, after[name]) == (not name.startswith("conv2"))
        assert torch.equal(values.flatten().sort().values, after[name].flatten().sort().values)
    again = copy.deepcopy(network)
    again.load_state_dict(before)
    sanity.randomize(again, ["conv2"], seed=1)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), after.values(), strict=True))
    other = copy.deepcopy(network)
    other.load_state_dict(before)
    sanity.randomize(other, ["conv2"], seed=2)
    assert not torch.equal(other.conv2.weight, network.conv2.weight)


def test_what_lies_inside_a_layer_is_left_alone():
    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.own, self.inside = torch.nn.Parameter(torch.arange(50.0)), torch.nn.BatchNorm1d(50)
            self.inside.running_var.copy_(torch.arange(50.0))

    outer = Outer()
    sanity.randomize(torch.nn.Sequential(outer), ["0"], seed=0)
    assert not torch.equal(outer.own, torch.arange(50.0)) and torch.equal(outer.inside.running_var, torch.arange(50.0))


def test_running_statistics_are_shuffled_and_variances_stay_positive():
    norm = torch.nn.BatchNorm2d(50)
    norm.running_var.copy_(torch.rand(50) + 0.1)
    before = norm.running_var.clone()
    sanity.randomize(torch.nn.Sequential(norm), ["0"], seed=0)
    assert not torch.equal(before, norm.running_var) and (norm.running_var > 0).all()


def test_modules_inside_a_randomized_one_are_left_alone():
    layer = torch.nn.Sequential(torch.nn.Linear(9, 9))
    layer.own, inside = torch.nn.Parameter(torch.arange(99.0)), layer[0].weight.detach().clone()
    sanity.randomize(torch.nn.Sequential(layer), ["0"], seed=0)
    assert layer[0].weight.equal(inside) and not layer.own.equal(torch.arange(99.0))


def test_random_maps_are_drawn_on_a_grid_and_interpolated():
    (found,) = sanity.random_saliency((4, 4), seeds=[3], cells=2)
    grid = torch.rand(2, 2, generator=torch.Generator().manual_seed(3))
    weights = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    torch.testing.assert_close(found, weights @ grid @ weights.T)


def check(network, explainers, n=6, **options):
    def maps(model):
        return {name: explainer(model) for name, explainer in explainers.items()}

    options = {"stages": 3, "area": 0.2, "seed": 0} | options
    return sanity_tables.check_randomization(network, maps, table_of(n), **options)


def test_an_explainer_that_ignores_the_network_is_found(network):
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    weights = copy.deepcopy(network.state_dict())
    noise = torch.Generator().manual_seed(2)
    explainers = {"edges": lambda _: images.mean(1), "gradcam-x": lambda _: torch.rand(6, 32, 32, generator=noise)}
    scores = check(network, explainers)
    assert all(torch.equal(weights[name], values) for name, values in network.state_dict().items()), "left as it was"
    assert scores["randomized"].unique().tolist() == [0, 1, 2, 3] and set(scores["layers"]) == {3}
    assert scores.index.equals(pd.RangeIndex(len(scores)))
    assert scores.drop_duplicates("randomized")["deepest"].tolist() == ["", "head", "conv2", "conv1"]
    chance = scores.groupby("measure")["chance"].unique().map(list)
    assert chance.to_dict() == {"equal_area_iou": [pytest.approx(0.2 / 1.8)], "spearman": [0]}
    summary = sanity_tables.summarize_randomization(scores)
    rows = summary[(summary["randomized"] == 3)].set_index(["explainer", "measure"])
    assert rows.loc[("edges", "equal_area_iou"), "mean"] == 1 and rows.loc[
        ("edges", "spearman"), "mean"
    ] == pytest.approx(1)
    assert rows.loc[("gradcam-x", "equal_area_iou"), "mean"] == pytest.approx(0.2 / 1.8, rel=0.1)
    assert rows.loc[("gradcam-x", "spearman"), ["mean", "chance"]].tolist() == [pytest.approx(0, abs=0.04), 0]
    (sentence,) = evaluation_findings.randomization_findings(summary)
    assert sentence.startswith("m, all 3 layers randomized: equal-area IoU with the original map: edges 1.00 (no")
    assert sentence.endswith("still above both: edges.")


def test_an_explainer_that_depends_on_the_network_alone_is_seldom_said_to_ignore_it(network):
    """Maps that are new for every network and image, all of them brighter in the middle; of 100 runs at 0.05."""
    found, seeds = 0, iter(range(10**6))
    middle = sanity.centered_gaussian((32, 32))

    def new(_):
        return sanity.random_saliency((32, 32), seeds=[next(seeds) for _ in range(8)]) * middle

    for _ in range(100):
        summary = sanity_tables.summarize_randomization(check(network, {"gradcam-x": new}, n=8, stages=1))
        found += "still above" in evaluation_findings.randomization_findings(summary)[0]
    assert found <= 11


def test_class_activation_maps_change_with_the_network(network):
    inputs = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    options = {"inputs": inputs, "targets": torch.zeros(4).long(), "layer": "relu2", "chunk": 2}
    maps = sanity.cam_maps(network, methods=["gradcam", "layercam"], **options)
    assert list(maps) == ["gradcam-relu2", "layercam-relu2"] and maps["gradcam-relu2"].shape == (4, 32, 32)
    one = sanity.cam_maps(network, methods=["layercam"], **options)
    assert torch.equal(one["layercam-relu2"], maps["layercam-relu2"])


def test_the_other_source_image_is_no_crop_of_the_same(network):
    images = pd.DataFrame({"source_image": [*"aabc"]})
    assert sanity.next_source_image(images["source_image"]).tolist() == [2, 2, 3, 0]
    assert sanity.next_source_image(pd.Series([*"ab"])).tolist() == [1, 0]
    assert sanity.next_source_image(pd.Series([*"aa"])) is None
    flat = {"edges": lambda _: torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))}
    scores = check(network, flat, n=1)
    assert set(scores["comparison"]) == {scales.RANDOMIZED}
    summary = sanity_tables.summarize_randomization(scores)
    assert "too few source images to say" in evaluation_findings.randomization_findings(summary)[0]


# LIME drawn again


def test_expected_jaccard_by_hand():
    # of 3 things, pairs share 1 of 3 (2 of 3 times) or both (1 of 3 times)
    assert sanity.expected_jaccard(3, 2) == pytest.approx(2 / 3 * 1 / 3 + 1 / 3)
    assert sanity.expected_jaccard(5, 5) == pytest.approx(1)
    rng = np.random.default_rng(0)
    pairs = [(set(rng.choice(20, 5, replace=False)), set(rng.choice(20, 5, replace=False))) for _ in range(4000)]
    assert sanity.expected_jaccard(20, 5) == pytest.approx(
        np.mean([len(a & b) / len(a | b) for a, b in pairs]), abs=0.01
    )


def linear_samples(n_samples, seeds, noise, d=12):
    """Samples of a model that sees the first three superpixels, and noise."""
    samples = []
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        design = lime_samples.perturbations(d, n_samples, generator)
        clean = design[:, :3].double() @ torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
        noisy = clean + noise * torch.randn(n_samples, generator=generator)
        samples.append(lime_samples.Samples([design, design], noisy[None, :, None].expand(2, -1, -1), [n_samples] * 2))
    return samples


OPTIONS = {"counts": [20, 100, 400], "area": 0.25, "seed": 0, "options": {"hide": "mean", "alpha": 1.0}}


def test_planted_superpixels_settle():
    segments = torch.arange(12).repeat_interleave(12).view(1, 12, 12).expand(2, -1, -1)
    scores = sanity_tables.check_stability(linear_samples(400, 3, 0.05), segments, table_of(2), top=3, **OPTIONS)
    assert len(scores) == 2 * 3 * 3 and set(scores["superpixels"]) == {12} and set(scores["seeds"]) == {3}
    full = scores[scores["n_samples"] == 400].groupby("measure")["value"].mean()
    assert full["top_jaccard"] == 1 and full["kept"] == 1
    assert full["equal_area_iou"] == 1  # a quarter of the image are the three planted superpixels
    summary = sanity_tables.summarize_stability(scores)
    assert summary["low"].isna().all()  # two source images
    assert sanity_tables.settled_at(summary) == 100
    assert (
        "superpixels are settled at 100 samples"
        in evaluation_findings.stability_findings(summary, top=3, n_samples=400)[0]
    )


def test_stability_by_hand():
    segments = torch.arange(12).repeat_interleave(12).view(1, 12, 12).expand(2, -1, -1)
    samples = linear_samples(400, 3, 1.0)
    scores = sanity_tables.check_stability(samples, segments, table_of(2), top=3, **OPTIONS | {"counts": [400, 20]})

    def top(own, n):
        return {*surrogate.fit(own.designs[1][:n], own.predictions[1, :n]).coefficients[0].topk(3).indices.tolist()}

    found = scores[scores["image_id"] == "i1"].set_index(["n_samples", "measure"])
    for n in (20, 400):
        a, b, c = (top(own, n) for own in samples)
        jaccard = np.mean([len(x & y) / len(x | y) for x, y in ((a, b), (a, c), (b, c))])
        assert found.loc[(n, "top_jaccard"), "value"] == pytest.approx(jaccard)
        kept = np.mean([len(top(own, n) & top(own, 400)) / 3 for own in samples])
        assert found.loc[(n, "kept"), "value"] == pytest.approx(kept)
    assert found["value"].between(0.1, 0.9).sum() >= 4, "neither all nor nothing, or the test would show little"
    assert found["chance"].unique().tolist() == [sanity.expected_jaccard(12, 3), 0.25 / 1.75, 3 / 12]


def test_maps_of_auto_are_compared_at_the_number_that_each_took():
    segments = torch.arange(12).repeat_interleave(12).view(1, 12, 12).expand(2, -1, -1)
    options = OPTIONS | {"counts": [20, 100], "own": [400, 20]}
    samples = linear_samples(400, 3, 1.0)
    scores = sanity_tables.check_stability(samples, segments, table_of(2), top=3, **options)
    fixed = sanity_tables.check_stability(samples, segments, table_of(2), top=3, **OPTIONS | {"counts": [20, 100, 400]})
    own = scores[scores["n_samples"].isna()]
    assert scores["n_samples"].tolist() == ([20] * 3 + [100] * 3 + [pd.NA] * 3) * 2
    for image, n in (("i0", 400), ("i1", 20)):
        there = fixed[(fixed["image_id"] == image) & (fixed["n_samples"] == n) & (fixed["measure"] != "kept")]
        here = own[(own["image_id"] == image) & (own["measure"] != "kept")]
        assert here["value"].tolist() == there["value"].tolist()
    summary = sanity_tables.summarize_stability(scores)
    at_maps = sanity_tables.at_maps(summary, "auto").set_index("measure")["mean"]
    assert at_maps["top_jaccard"] == pytest.approx(own[own["measure"] == "top_jaccard"]["value"].mean())
    for better, said in ((True, "are settled at 20 samples ("), (False, "are not settled at 100 samples (")):
        moved = summary.assign(mean=0.9 if better else 0.7)
        assert sanity_tables.has_settled(moved, "auto") is better
        text = evaluation_findings.stability_findings(moved, top=3, n_samples="auto")[0]
        assert f"most important superpixels {said}" in text and "With the samples that each map took it is" in text
        verdict = "has settled" if better else "has not settled"
        assert text.verdict == f"m: LIME {verdict} at the samples that each map took."


def test_noise_stays_at_chance_and_does_not_settle():
    segments = torch.arange(12).repeat_interleave(12).view(1, 12, 12).expand(2, -1, -1)
    samples = linear_samples(400, 40, 1e6)
    scores = sanity_tables.check_stability(samples, segments, table_of(2), top=3, **OPTIONS)
    full = scores[scores["n_samples"] == 400].set_index("measure")
    assert full.loc["top_jaccard", "value"].mean() == pytest.approx(sanity.expected_jaccard(12, 3), abs=0.02)
    summary = sanity_tables.summarize_stability(scores)
    assert sanity_tables.settled_at(summary) is None
    assert "are not settled at 400 samples" in evaluation_findings.stability_findings(summary, top=3, n_samples=400)[0]


def test_too_few_samples_for_a_fit_without_a_penalty_cost_these_values_alone():
    """Twelve superpixels in ten samples have no single solution where `alpha` is 0."""
    segments = torch.arange(12).repeat_interleave(12).view(1, 12, 12).expand(2, -1, -1)
    options = OPTIONS | {"counts": [10, 400], "options": {"hide": "mean", "alpha": 0}}
    scores = sanity_tables.check_stability(linear_samples(400, 3, 0.05), segments, table_of(2), top=3, **options)
    assert scores["n_samples"].tolist() == ([10] * 3 + [400] * 3) * 2
    few, full = (scores[scores["n_samples"] == n] for n in (10, 400))
    assert few["value"].isna().all() and full["value"].eq(1).all()


def test_settled_means_from_there_on():
    def summary(*means):
        return pd.DataFrame({"measure": "top_jaccard", "n_samples": [100, 200, 300], "mean": means})

    assert sanity_tables.settled_at(summary(0.9, 0.7, 0.8)) == 300
    assert sanity_tables.settled_at(summary(0.9, 0.8, 0.85)) == 100
    assert sanity_tables.settled_at(summary(0.9, 0.9, 0.79)) is None
    more = pd.DataFrame({"measure": ["kept", "top_jaccard"], "n_samples": [400, pd.NA], "mean": [0.1, 0.1]})
    assert sanity_tables.settled_at(pd.concat([summary(0.9, 0.8, 0.85), more])) == 100, "by its measure and numbers"
    for mean, settled in ((0.8, True), (0.79, False)):
        at_maps = pd.DataFrame({"measure": ["top_jaccard"], "n_samples": [pd.NA], "mean": [mean]})
        assert sanity_tables.has_settled(at_maps, "auto") is settled


def test_superpixels_that_were_not_selected_do_not_agree():
    top = sanity.top_superpixels(torch.tensor([[0.0, 0.5, 0.0, 0.2], [0.0, 0.0, 0.0, 0.1]]), 3)
    assert top.int().tolist() == [[0, 1, 0, 1], [0, 0, 0, 1]]
    assert sanity.mean_jaccard(top) == pytest.approx(0.5)
    assert sanity.top_superpixels(torch.ones(1, 500), 3)[0].nonzero()[:, 0].tolist() == [0, 1, 2], "the first of equals"
    assert math.isnan(sanity.mean_jaccard(torch.zeros(2, 4, dtype=torch.bool)))


def test_the_first_draw_is_that_of_the_explanation(network):
    images = torch.randint(0, 256, (2, 32, 32, 3), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    segments = segment.grid(images, size=8)

    def predict(batch):
        return network(batch.permute(0, 3, 1, 2).float() / 255).softmax(1)

    settings = {"n_samples": 40, "hide": "mean", "batch_size": 8, "seed": 5}
    targets, ids = torch.tensor([0, 1]), ["a", "b"]
    draws, _ = sanity.draw(predict, images, segments, targets, ids, repeats=2, **settings)
    explainer = run.lime_explainer(
        predict, superpixels={"method": "grid", "size": 8}, num_features=3, repeats=2, **settings
    )
    explanation = explainer(images, targets, ids)
    expected = explanation["coefficients"]
    own = torch.stack([surrogate.fit(draws[0].designs[i], draws[0].predictions[i]).coefficients[0] for i in range(2)])
    torch.testing.assert_close(own, expected)
    assert not torch.equal(draws[0].designs[0], draws[1].designs[0])

    seen = []
    known = lime_samples.kept({name: explanation[name].numpy() for name in ("predictions", "n_used")}, "cpu")
    counted = lambda batch: seen.append(len(batch)) or predict(batch)  # noqa: E731
    again, _ = sanity.draw(counted, images, segments, targets, ids, repeats=2, known=known, **settings)
    assert sum(seen) == 2 * 40, "of the second draw alone"
    for before, after in zip(draws, again, strict=True):
        torch.testing.assert_close(after.predictions, before.predictions, rtol=0, atol=1e-6)  # kept in float32
