"""One bad image costs that image: it is named with its reason, and the bytes of the others stay what they are."""

import numpy as np
import pandas as pd
import pytest
import torch
from unitlens.explainers import items, segment
from unitlens.explainers.cam import METHODS
from unitlens.explainers.run import cam_explainer, cut_masks, explain_images, lime_explainer
from unitlens.measures import lime_sweep, perturbation
from unitlens.measures.agreement import chance_iou
from unitlens.measures.reference_checks import compare
from unitlens.measures.sanity import cam_maps, draw
from unitlens.networks.network import predictor
from unitlens.report import evaluation_findings, explanation_figures, explanation_page, overview_tables, text
from unitlens.tables import faithfulness, localization, summaries, tuning
from unitlens.tables.agreement import match, score_pairs, summarize
from unitlens.tables.complexity import correlate_complexity, measure_complexity, score_shape
from unitlens.tables.explanations import explanation_table, prediction_table
from unitlens.tables.sanity import (
    check_randomization,
    check_stability,
    require_passed,
    summarize_randomization,
    summarize_stability,
)

SIDE = 16
IDS = np.array(["a", "b", "c", "d", "e"], dtype=object)
LIME = {"n_samples": 30, "superpixels": {"method": "felzenszwalb", "scale": 1, "sigma": 0, "min_size": 4}}
LIME |= {"hide": "black", "num_features": 2}


class Network(torch.nn.Module):
    """Two convolutions; an image whose first pixel is (1, 2, 3) gives NaN."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.conv = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.head = torch.nn.Linear(4, 3)

    def forward(self, images):
        logits = self.head(self.conv(images).relu().mean((2, 3)))
        broken = ((images[:, :, 0, 0] * 255).round() == torch.tensor([1, 2, 3])).all(1)
        return torch.where(broken[:, None], torch.nan, logits)


def normalize(images):
    return images.permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def network():
    return Network().eval()


def test_values_that_are_not_finite_are_counted_from_the_first_image():
    values = torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [0.0, 0.0], [1.0, torch.inf]])
    assert items.not_finite(values) == {1: items.NOT_FINITE, 3: items.NOT_FINITE}
    assert items.not_finite(values, first=10) == {11: items.NOT_FINITE, 13: items.NOT_FINITE}


def shard(**changed):
    """Five images of four plain quarters, some of them replaced."""
    rng = np.random.default_rng(0)
    quarters = rng.integers(20, 256, (5, 2, 2, 3), dtype=np.uint8)
    images = quarters.repeat(SIDE // 2, 1).repeat(SIDE // 2, 2)
    for image_id, image in changed.items():
        images[list(IDS).index(image_id)] = image
    return {"images": images, "image_id": IDS, "source_image": IDS, "label": np.array([0, 1, 2, 0, 1])}


def lime(network, images, *, target="predicted", batch_size=3, given=None, **options):
    predict = predictor(network, normalize)
    explainer = lime_explainer(predict, seed=7, batch_size=8, given=given, **LIME | options)
    return explain_images(images, explainer, predict, target=target, batch_size=batch_size)[0]


def cam(network, images, method="gradcam", *, target="predicted", batch_size=3):
    predict = predictor(network, normalize)
    explainer = cam_explainer(network, "conv", normalize, method=method, batch_size=batch_size)
    return explain_images(images, explainer, predict, target=target, batch_size=batch_size)[0]


def nan_image():
    image = shard()["images"][1].copy()
    image[0, 0] = 1, 2, 3
    return image


def assert_others_equal(bad, good, row):
    others = np.arange(len(IDS)) != row
    for name in good:
        a, b = bad[name][others], good[name][others]
        if name in ("coefficients", "stderr"):
            width = max(a.shape[1], b.shape[1])
            a, b = (np.pad(each, ((0, 0), (0, width - each.shape[1])), constant_values=np.nan) for each in (a, b))
        np.testing.assert_array_equal(a, b, err_msg=name)


# ---- the mechanism


def test_a_failing_place_gets_a_copy_of_the_first_good_one_and_the_rest_stays():
    seen = []

    def run(places):
        seen.append(places)
        if wrong := {place: f"{number} is odd" for place, number in enumerate(places) if number % 2}:
            raise items.ItemError("odd", wrong)
        return places

    assert items.without_failing(run, 4) == ([0, 0, 2, 0], {1: "1 is odd", 3: "3 is odd"})
    assert seen == [[0, 1, 2, 3], [0, 0, 2, 0]]
    assert items.without_failing(run, 3, {0: "given"}) == ([2, 2, 2], {0: "given", 1: "1 is odd"})
    assert items.without_failing(run, 1, {0: "given"}) == (None, {0: "given"})


def test_reasons_become_a_column_of_texts_of_any_length():
    error = items.ItemError("image 1 is broken", items.reasons_where(torch.tensor([False, True, False]), "broken"))
    assert (str(error), error.reasons) == ("image 1 is broken", {1: "broken"})
    column = items.reason_texts(error.reasons, 3)
    column[2] = "a longer reason is not cut"
    assert column.tolist() == ["", "broken", "a longer reason is not cut"]


def refuse_the_batch(places):
    raise ValueError("`batch_size` is 0; allowed: 1 or more")


def test_other_errors_are_not_taken_for_those_of_an_item():
    with pytest.raises(ValueError, match="is 0; allowed"):
        items.without_failing(refuse_the_batch, 2)


# ---- explainers


@pytest.mark.parametrize("engine", ["unitlens", "lime"])
@pytest.mark.parametrize(
    ("row", "image", "reason"),
    [
        (1, np.full((SIDE, SIDE, 3), 128, np.uint8), items.ONE_SUPERPIXEL),
        (0, np.zeros((SIDE, SIDE, 3), np.uint8), items.ONE_SUPERPIXEL),
        (4, nan_image(), items.NOT_FINITE),
    ],
)
def test_lime_goes_on_without_an_image_that_it_cannot_explain(network, engine, row, image, reason):
    bad = lime(network, shard(**{IDS[row]: image}), engine=engine, repeats=2)
    assert bad["warning"].tolist() == [reason if place == row else "" for place in range(5)]
    assert_others_equal(bad, lime(network, shard(), engine=engine, repeats=2), row)
    assert not bad["saliency"][row].any() and not bad["selected"][row].any() and bad["n_used"][row] == 0
    assert all(np.isnan(bad[name][row]).all() for name in ("coefficients", "stderr", "intercept", "r2", "stability"))
    known = reason is items.ONE_SUPERPIXEL
    assert bad["superpixels"][row] == known and np.isnan(bad["predicted_probability"][row]) == (not known)


def test_images_of_too_many_superpixels_or_without_a_label_map_are_named(network):
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    bad = lime(network, shard(c=noise), superpixels=LIME["superpixels"] | {"min_size": 1, "scale": 0.001})
    assert {*bad["warning"][[0, 1, 3, 4]]} <= {"", items.ZERO_MAP}
    assert bad["warning"][2] == f"there are {bad['superpixels'][2]} superpixels, more than LIME's 30 samples"
    labels = np.arange(SIDE**2).reshape(1, SIDE, SIDE).repeat(5, 0) // 64 + 1
    labels[3], labels[1] = 0, 5
    given = segment.given_superpixels(shard() | {"superpixels": labels})
    bad = lime(network, shard(), superpixels={"method": "given"}, given=given)
    assert bad["warning"][[1, 3]].tolist() == [items.ONE_SUPERPIXEL, items.NO_LABEL_MAP]
    assert {*bad["warning"][[0, 2, 4]]} <= {"", items.ZERO_MAP}
    assert bad["superpixels"].tolist() == [4, 1, 4, 0, 4]


def test_a_shard_of_bad_images_alone_has_the_datasets_of_any_other(network):
    plain = {name: array[:1] for name, array in shard(a=np.zeros((SIDE, SIDE, 3), np.uint8)).items()}
    alone, good = lime(network, plain, repeats=2), lime(network, shard(), repeats=2)
    assert alone.keys() == good.keys()
    assert {name: alone[name].dtype for name in alone} == {name: good[name].dtype for name in good}
    broken = {name: array[:1] for name, array in shard(a=nan_image()).items()}
    assert lime(network, broken)["warning"].tolist() == [items.NOT_FINITE]
    assert cam(network, broken)["warning"].tolist() == [items.NOT_FINITE]
    assert cam(network, broken).keys() == cam(network, shard()).keys()


@pytest.mark.parametrize("method", ["gradcam", "ablationcam", "scorecam"])
def test_class_activation_maps_go_on_without_an_image_that_gives_nan(network, method):
    bad = cam(network, shard(d=nan_image()), method)
    assert bad["warning"].tolist() == ["", "", "", items.NOT_FINITE, ""]
    assert_others_equal(bad, cam(network, shard(), method), 3)
    assert not bad["saliency"][3].any() and bad["target"][3] == bad["predicted"][3] == -1


class Blind(Network):
    """The same without the last of its channels, so that predictions are finite where that one is not."""

    def forward(self, images):
        seen = self.conv(images).relu().mean((2, 3))[:, :3]
        return torch.nn.functional.linear(seen, self.head.weight[:, :3], self.head.bias)


@pytest.mark.parametrize("method", METHODS)
def test_a_layer_with_a_channel_of_nan_has_no_map_but_the_reason(method):
    network = Blind().eval()
    assert not cam(network, shard(), method)["warning"].any()
    network.conv.bias.data[3] = torch.nan
    bad = cam(network, shard(), method)
    assert (bad["predicted"] >= 0).all() and set(bad["warning"]) == {items.NOT_FINITE}


def test_an_image_without_the_label_that_is_explained_is_named(network):
    images = shard()
    images["label"] = np.array([0, 1, -1, 0, 1])
    for arrays in (cam(network, images, target="label"), lime(network, images, target="label")):
        assert arrays["warning"][2] == items.NO_LABEL and {*arrays["warning"][[0, 1, 3, 4]]} <= {"", items.ZERO_MAP}
        assert arrays["target"].tolist() == [0, 1, -1, 0, 1] and np.isnan(arrays["target_probability"][2])
        assert arrays["predicted"][2] >= 0
    table = prediction_table(arrays, {"model": "m"}, {"m": 3})
    assert table.loc[2, ["label", "label_name", "correct", "target", "target_name"]].tolist() == [""] * 5
    arrays["label"][2] = 7
    with pytest.raises(ValueError, match="image 'c' has label 7"):
        cam(network, images | {"label": arrays["label"]}, target="label")


# ---- what reads the maps


@pytest.fixture(scope="module")
def files(network):
    """Explanations of five images: LIME fails on the second, no network predicts the fourth."""
    images = shard(b=np.full((SIDE, SIDE, 3), 9, np.uint8), d=nan_image())
    facts = {"model": "m", "explained_class": "predicted", "geometry": "g"}
    explained = [
        (cam(network, images), facts | {"explainer": "gradcam-conv"}),
        (cam(network, images, "layercam"), facts | {"explainer": "layercam-conv"}),
        (lime(network, images), facts | {"explainer": "lime"}),
    ]
    assert all((arrays["warning"][[0, 2, 4]] == "").all() for arrays, _ in explained)
    return images, explained


def test_scores_leave_out_what_has_no_map_and_count_it(files, network):
    images, explained = files
    scores = score_pairs(explained, area=0.2, areas=[0.2], threshold=0.5, seed=0)
    area = scores[scores["measure"] == "equal_area_iou"].set_index(["explainer_a", "explainer_b", "image_id"])["value"]
    known = area.notna().unstack()
    assert not known["d"].any() and known[["a", "c", "e"]].all(axis=None)
    assert not known.loc[("gradcam-conv", "lime"), "b"]
    matching = match(explained, area=0.2, areas=[0.2], threshold=0.5, seed=0)
    summary = summarize(scores, matching).set_index(["subset", "explainer_a", "explainer_b", "measure"])
    row = summary.loc[("all", "gradcam-conv", "lime", "equal_area_iou")]
    assert (row["n"], row["undefined"], row["source_images"]) == (3, 2, 3)

    shape = score_shape(explained, area=0.2).set_index(["explainer", "image_id"])["value"]
    assert shape.loc[[("lime", "b"), ("lime", "d"), ("gradcam-conv", "d")]].isna().all()
    complexity = measure_complexity(images["images"], explained)
    assert complexity["superpixels"].isna().tolist() == [False, False, False, True, False]
    correlations = correlate_complexity(complexity, scores, area=0.2)
    assert correlations["n"].unique().tolist() == [3]
    assert all("nan" not in sentence for sentence in evaluation_findings.complexity_findings(correlations))

    plan = perturbation.Plan(3, ["mean"], [50])
    explanations = {facts["explainer"]: arrays for arrays, facts in explained}
    table, curves = faithfulness.score_shard(
        predictor(network, normalize),
        explanations,
        images["images"],
        plan=plan,
        seeds=[1] * 5,
        control_seeds=[2] * 5,
        batch_size=8,
    )
    known = table.assign(known=table["value"].notna()).groupby(["explainer", "image_id"])["known"].agg(["all", "any"])
    assert known.loc[("lime", "b")].tolist() == [False, False] == known.loc[("random", "d")].tolist()
    assert (
        known["all"].sum()
        == known["any"].sum()
        == 5 * 5
        - 5
        - 1
        - (not known.loc[("gradcam-conv", "b"), "all"])
        - (not known.loc[("layercam-conv", "b"), "all"])
    )
    assert table.loc[table["image_id"] == "d", "target"].isna().all()
    assert np.isnan(curves["lime:deletion:mean"][1]).all() and np.isnan(curves["random:deletion:mean"][3]).all()
    means = faithfulness.mean_curves([(curves, {"model": "m", "percentiles": [50]})])
    assert set(means.loc[means["explainer"] == "lime", "n"]) == {3} and means["mean"].notna().all()


def test_localization_leaves_out_what_has_no_map_or_no_object(files):
    images, explained = files
    mask = np.zeros((5, SIDE, SIDE), np.uint16)
    mask[:4, :8] = 1
    mask[0] = 1  # everything; the last one nothing
    box = np.full((5, 4), np.nan, np.float32)
    images = images | {"mask": mask, "has_mask": np.ones(5, bool), "box": box}
    scores = localization.score(explained, images, seed=0)
    assert scores.loc[scores["image_id"] == "e", ["value", "chance"]].isna().all(axis=None)
    everything = scores[(scores["image_id"] == "a") & (scores["explainer"] == "gradcam-conv")]
    assert everything["value"].tolist() == everything["chance"].tolist() == [1, 1, 1]
    summary, tests = localization.summarize(scores)
    row = summary.set_index(["measure", "explainer"]).loc[("iou", "lime")]
    assert (row["n"], row["undefined"]) == (2, 3)
    assert row["chance"] == pytest.approx((1 + chance_iou(0.5)) / 2)  # of the same images
    assert all("nan" not in sentence for sentence in evaluation_findings.localization_findings(summary, tests))


def test_masks_of_what_has_no_map_are_empty(files):
    _, explained = files
    masks = cut_masks(explained, area=0.2, threshold=0.5, seed=0)
    assert not masks["lime:equal_area"][[1, 3]].any() and not masks["lime:selected"][[1, 3]].any()
    assert masks["lime:equal_area"][[0, 2, 4]].any((1, 2)).all()


def test_the_table_and_a_sentence_name_the_image_and_the_reason(files):
    _, explained = files
    table = pd.concat([explanation_table(arrays, facts) for arrays, facts in explained])
    lime_rows = table[table["explainer"] == "lime"].set_index("image_id")
    assert lime_rows["warning"].tolist() == ["", items.ONE_SUPERPIXEL, "", items.NOT_FINITE, ""]
    assert lime_rows.loc["d", ["target"]].isna().all()
    sentences = evaluation_findings.no_map_sentences(table)
    assert (
        "m: LIME has no map of 1 of 5 images, which count in no mean of its maps: there is only one superpixel, LIME "
        "needs two (b)." in sentences
    )
    many = pd.concat([table.assign(image_id=table["image_id"] + str(i)) for i in range(7)])
    assert any("7 of 35 images" in each and "and 2 more" in each for each in evaluation_findings.no_map_sentences(many))
    assert evaluation_findings.no_map_sentences(table[table["warning"] == ""]) == []


def test_captions_and_accuracy_count_no_prediction_that_is_not_there(files):
    _, explained = files
    arrays, facts = explained[2]
    captions = explanation_figures.captions([(arrays, facts)], {"m": 3})
    assert captions[1].endswith(f", {items.ONE_SUPERPIXEL}") and captions[3] == f"no class, {items.NOT_FINITE}"
    of_all = explanation_figures.captions(explained, {"m": 3})
    assert of_all[1] == captions[1].replace(items.ONE_SUPERPIXEL, f"LIME: {items.ONE_SUPERPIXEL}")
    assert of_all[3] == captions[3], "all explainers have the same"
    table = prediction_table(arrays, facts, {"m": 3}).replace("", np.nan)
    assert table.loc[3, ["predicted", "predicted_name", "probability", "correct"]].isna().all()
    assert " of 4 labeled source images" in overview_tables.accuracy(table)


def test_a_page_card_names_the_reason_and_shows_no_score(files):
    images, explained = files
    cut = cut_masks(explained, area=0.2, threshold=0.5, seed=0)
    arrays, facts = explained[2]
    predictions = prediction_table(arrays, facts, {"m": 3}).replace("", np.nan)
    predictions["target_name"] = predictions["target_name"].fillna("")
    scores = pd.DataFrame({"model": "m", "image_id": IDS, "explainer": "lime", "measure": "deletion"})
    scores = scores.assign(baseline="mean", value=[0.1, np.nan, 0.2, np.nan, 0.3])
    pixels = {"g": images | {"box": np.full((5, 4), np.nan)}}
    cards = explanation_page.collect(
        explained, [(cut, {"model": "m"})], pixels, predictions=predictions, faithfulness=scores, source_images=5
    )
    maps = [card["rows"][0]["maps"][2] for card in cards]
    assert [each["warning"] for each in maps] == arrays["warning"].tolist()
    assert [len(each["scores"]) for each in maps] == [1, 0, 1, 0, 1]
    assert cards[3]["rows"][0]["caption"] == "no class" and cards[3]["rows"][0]["verdict"] == items.NOT_FINITE


# ---- LIME drawn again, tuned, verified


def draws(network, images, arrays):
    return draw(
        predictor(network, normalize),
        torch.as_tensor(images["images"]),
        torch.as_tensor(arrays["segments"]),
        torch.as_tensor(arrays["target"]),
        list(IDS),
        repeats=2,
        n_samples=30,
        hide="black",
        batch_size=8,
        seed=7,
    )


def test_the_stability_of_lime_leaves_out_what_it_cannot_explain(files, network):
    images, explained = files
    arrays, facts = explained[2]
    samples, without = draws(network, images, arrays)
    assert without == {1: items.ONE_SUPERPIXEL, 3: items.NO_LABEL}
    options = {"counts": [20, 30], "top": 2, "area": 0.2, "seed": 7, "options": LIME, "without": without}
    segments = torch.as_tensor(arrays["segments"])
    scores = check_stability(samples, segments, summaries.image_table(arrays, facts), **options)
    assert scores.groupby("image_id")["value"].apply(lambda own: own.notna().any()).tolist() == [1, 0, 1, 0, 1]
    summary = summarize_stability(scores)
    assert (summary["n"] + summary["undefined"] == 5).all() and summary["undefined"].min() == 2
    nothing = check_stability(
        [None, None], segments, summaries.image_table(arrays, facts), **options | {"without": range(5)}
    )
    sentences = evaluation_findings.stability_findings(summarize_stability(nothing), top=2, n_samples=30)
    assert sentences == ["m: there is no source image on which LIME can be compared with itself."]


def test_sanity_checks_leave_out_what_has_no_map(files, network):
    images, explained = files
    arrays, facts = explained[0]

    def maps(model):
        inputs, targets = normalize(torch.as_tensor(images["images"])), torch.as_tensor(arrays["target"])
        return cam_maps(model, inputs=inputs, targets=targets, layer="conv", methods=["gradcam"], chunk=3)

    scores = check_randomization(network, maps, summaries.image_table(arrays, facts), stages=1, area=0.2, seed=0)
    assert scores.loc[scores["image_id"] == "d", "value"].isna().all()
    summary = summarize_randomization(scores)
    assert (summary["n"] + summary["undefined"] == 5).all()
    assert all("nan" not in sentence for sentence in evaluation_findings.randomization_findings(summary))


def test_tuning_leaves_out_an_image_that_no_setting_can_explain(files, network):
    images, explained = files
    arrays, facts = explained[0]
    predict, seeds = predictor(network, normalize), {"seed": 7, "batch_size": 8}
    inputs = (torch.as_tensor(images["images"]), torch.as_tensor(arrays["target"]), list(IDS))
    objective = {"objective": "equal_area_iou", "area": 0.2, "steps": 3, "baseline": "mean"}
    objective |= {"explainer": facts["explainer"]}
    reference = torch.as_tensor(arrays["saliency"]).clone()
    reference[2] = 0
    score = lime_sweep.make_score(predict, *inputs, reference=reference, **objective, **seeds)
    options = {"default": LIME, "grid": {"n_samples": [20, 30]}, "presets": {}, "count": None, "seed": 7}
    made = lime_sweep.sweep(predict, *inputs, lime_sweep.all_settings(**options), score, **seeds)
    scores, seconds = map(pd.DataFrame, made)
    scores = scores.assign(model="m", source_image=scores["image_id"], explained_class="predicted", geometry="g")
    scores = scores.assign(objective=text.objective_text(**objective), seed=7)
    tables = tuning.tables(scores, seconds.assign(model="m"), **options)
    settings = tables["settings"]
    assert settings["n"].unique().tolist() == [2] and settings["left_out"].unique().tolist() == [3]
    assert settings["rank"].notna().all()
    sentences = evaluation_findings.tuning_findings(settings, tables["selection"])
    assert sentences[0] == ("m: 3 source images left out of the tuning, for no setting of LIME could be scored there.")
    tables = tuning.tables(scores.assign(score=np.nan), seconds.assign(model="m"), **options)
    sentences = evaluation_findings.tuning_findings(tables["settings"], tables["selection"])
    assert sentences[1] == (
        "m: none of 2 settings of LIME could be used on every source image, so there is "
        "no best one, and the default stays."
    )
    assert tuning.best_settings(tables["settings"], **options) == {"m": lime_sweep.complete(LIME)}


@pytest.mark.parametrize("rows", [range(5), [1, 3]])
def test_verification_goes_on_without_what_cannot_be_explained(files, network, rows):
    images, explained = files
    rows = list(rows)
    made = compare(
        network,
        normalize,
        torch.as_tensor(images["images"])[rows],
        torch.as_tensor(explained[0][0]["target"])[rows],
        list(IDS[rows]),
        name="m",
        layer="conv",
        cams=["gradcam"],
        lime_options=LIME,
        samples=30,
        batch_size=8,
        seed=7,
    )
    differences, timings = map(pd.DataFrame, made)
    exact = differences[differences["reference"] != "float32"].set_index("check")
    others = dict.fromkeys(["gradcam", "account, map", "account, sum"], len(rows) - 1)
    assert exact["images"].to_dict() == others | {"lime": len(rows) - 2}
    assert exact.loc["lime", "note"] == f"without b: {items.ONE_SUPERPIXEL}; without d: {items.NOT_FINITE}"
    assert exact.loc["gradcam", "passed"] and (exact.loc["lime", "passed"] if len(rows) == 5 else True)
    require_passed(differences)
    assert timings["images"].tolist() == exact["images"].tolist()
