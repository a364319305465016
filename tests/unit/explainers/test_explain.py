"""Explaining sets of images with explainers made for the test, and cutting the maps to masks."""

import h5py
import numpy as np
import pytest
import torch
from unitlens.explainers import lime as lime_module
from unitlens.explainers import lime_samples, segment
from unitlens.explainers import masks as masks_module
from unitlens.explainers import run as run_module
from unitlens.explainers.items import image_seed
from unitlens.measures import agreement
from unitlens.report import explanation_figures
from unitlens.storage.arrays import open_arrays, write_arrays
from unitlens.tables.explanations import explanation_table, timing_table

IDS = [f"photo{i}-crop{j}" for i in range(4) for j in range(2)][:7]


@pytest.fixture
def images():
    """Seven images of 16 x 16, the left half of one color, the right half of another."""
    halves = np.random.default_rng(0).integers(0, 256, (7, 2, 3), dtype=np.uint8)
    return {
        "images": halves.repeat(8, axis=1)[:, None].repeat(16, axis=1),
        "image_id": np.array(IDS, dtype=object),
        "source_image": np.array([name.partition("-")[0] for name in IDS], dtype=object),
        "label": np.array([0, 1, 2, 0, 1, 2, -1]),
    }


def mean_color(pixels):
    """Three classes, the red, green and blue share of an image."""
    colors = pixels.double().mean((1, 2))
    return colors / colors.sum(1, keepdim=True)


def channel_as_saliency(pixels, targets, image_ids):
    """The target's color channel as saliency; coefficients as many as the id's last digit and two."""
    width = 2 + max(int(name[-1]) for name in image_ids)
    rows = [[float(i) if i < 2 + int(name[-1]) else np.nan for i in range(width)] for name in image_ids]
    saliency = torch.stack([image[..., target] for image, target in zip(pixels, targets, strict=True)])
    return {"saliency": saliency.float(), "coefficients": torch.tensor(rows)}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.parametrize("batch_size", [2, 3, 7, 100])
def test_batch_size_does_not_change_an_explanation(images, batch_size):
    def run(size):
        return run_module.explain_images(images, channel_as_saliency, mean_color, target="predicted", batch_size=size)[
            0
        ]

    assert_equal(run(batch_size), run(1))


def test_the_arrays_by_hand(images):
    arrays, seconds = run_module.explain_images(
        images, channel_as_saliency, mean_color, target="predicted", batch_size=3, device=torch.device("cpu")
    )
    shares = images["images"].mean((1, 2)) / images["images"].mean((1, 2)).sum(1, keepdims=True)
    np.testing.assert_array_equal(arrays["target"], shares.argmax(1))
    np.testing.assert_array_equal(arrays["predicted"], shares.argmax(1))
    np.testing.assert_allclose(arrays["target_probability"], shares.max(1))
    np.testing.assert_allclose(arrays["predicted_probability"], shares.max(1))
    np.testing.assert_array_equal(arrays["saliency"][5], images["images"][5, ..., shares[5].argmax()])
    np.testing.assert_array_equal(arrays["coefficients"][:2], [[0, 1, np.nan], [0, 1, 2]])
    for name in ("image_id", "source_image", "label"):
        np.testing.assert_array_equal(arrays[name], images[name])
    assert seconds >= 0


def test_only_the_seconds_of_the_explainer_count(images, monkeypatch):
    looks = iter([10.0, 12.0, 100.0, 103.0, 1000.0, 1004.0])  # before and after each of three batches
    monkeypatch.setattr(run_module, "now", lambda device: next(looks))
    _, seconds = run_module.explain_images(images, channel_as_saliency, mean_color, target="predicted", batch_size=3)
    assert seconds == 2 + 3 + 4


def test_the_label_may_be_the_target(images):
    labeled = {name: array[:6] for name, array in images.items()}
    arrays, _ = run_module.explain_images(labeled, channel_as_saliency, mean_color, target="label", batch_size=4)
    shares = mean_color(torch.from_numpy(labeled["images"])).numpy()
    np.testing.assert_array_equal(arrays["target"], labeled["label"])
    np.testing.assert_array_equal(arrays["target_probability"], shares[range(6), labeled["label"]])
    np.testing.assert_array_equal(arrays["predicted"], shares.argmax(1))
    images["label"][2] = 3
    with pytest.raises(ValueError, match="image 'photo1-crop0' has label 3; the model's classes are 0 to 2"):
        run_module.explain_images(images, channel_as_saliency, mean_color, target="label", batch_size=4)


def test_one_class_may_be_the_target_of_all(images):
    arrays, _ = run_module.explain_images(images, channel_as_saliency, mean_color, target=1, batch_size=4)
    np.testing.assert_array_equal(arrays["target"], np.ones(7))
    np.testing.assert_array_equal(arrays["saliency"], images["images"][..., 1])
    with pytest.raises(ValueError, match=r"explain\.target is class 3; the model's classes are 0 to 2"):
        run_module.explain_images(images, channel_as_saliency, mean_color, target=3, batch_size=4)


def test_images_are_read_from_an_open_file_batch_by_batch(images, tmp_path):
    write_arrays(tmp_path / "images.h5", images, {})
    read = []

    class Watched(h5py.Dataset):
        def __getitem__(self, rows):
            read.append((rows.start, rows.stop))
            return super().__getitem__(rows)

    with open_arrays(tmp_path / "images.h5") as file:
        stored = dict(file) | {"images": Watched(file["images"].id)}
        arrays, _ = run_module.explain_images(stored, channel_as_saliency, mean_color, target="predicted", batch_size=3)
    expected, _ = run_module.explain_images(images, channel_as_saliency, mean_color, target="predicted", batch_size=3)
    assert_equal(arrays, expected)
    assert read == [(0, 3), (3, 6), (6, 7)]


def test_a_shard_without_images_is_explained_and_joins_the_others(images):
    def run(rows):
        own = {name: array[rows] for name, array in images.items()}
        arrays, _ = run_module.explain_images(own, channel_as_saliency, mean_color, target="predicted", batch_size=3)
        return arrays, {"explainer": "lime"}

    empty, whole = run(slice(0)), run(slice(None))
    assert empty[0]["saliency"].shape == (0, 16, 16) and len(empty[0]["image_id"]) == 0
    for shards in ([empty, whole], [run(slice(2)), empty, run(slice(2, 3)), run(slice(3, None))]):
        assert_equal(run_module.by_explainer(shards)["lime"][0], whole[0])


def test_image_seeds_are_the_same_everywhere():
    assert image_seed(42, "bull_mastiff") == 6966241123671523024
    assert image_seed(0, "é") == 6498527011590299414
    assert image_seed(43, "bull_mastiff") != image_seed(42, "bull_mastiff")
    seeds = [image_seed(1, f"image{i}") for i in range(1000)]
    assert len(set(seeds)) == 1000
    assert 0 <= min(seeds) <= max(seeds) < 2**63


# LIME


def brightness_of_the_corner(pixels):
    """Two classes: how bright the upper left 8 x 8 pixels are, and the rest."""
    corner = pixels[:, :8, :8].double().mean((1, 2, 3)) / 255
    return torch.stack([corner, 1 - corner], dim=1)


def explain_corner(images, *, ids=IDS[:2], predict=brightness_of_the_corner, **options):
    fixed = {"n_samples": 200, "superpixels": {"method": "grid", "size": 8}, "num_features": 1}
    explainer = run_module.lime_explainer(predict, **{"seed": 7, "batch_size": 16, "hide": "mean"} | fixed | options)
    return explainer(images, torch.zeros(len(images), dtype=torch.int64), ids)


@pytest.fixture
def planted():
    """Two images of 24 x 32 that are bright in the upper left corner only."""
    pixels = torch.zeros(2, 24, 32, 3, dtype=torch.uint8)
    pixels[0, :8, :8], pixels[1, :8, :8] = 250, 180
    return pixels


@pytest.mark.parametrize("engine", ["unitlens", "lime"])
def test_lime_finds_the_planted_region(planted, engine):
    result = explain_corner(planted, hide="gray", engine=engine)
    assert result["segments"].shape == (2, 24, 32)
    assert result["segments"].unique().tolist() == list(range(12))
    corner = torch.zeros(24, 32, dtype=torch.bool)
    corner[:8, :8] = True
    for selected, saliency in zip(result["selected"], result["saliency"], strict=True):
        assert selected.equal(corner)
        assert (saliency[corner].min() > 20 * saliency[~corner].max()).item()
    # hidden, the corner shows 128: its effect, a little shrunk by the ridge, and that of no other superpixel
    effects = (torch.tensor([250, 180]).double() - 128) / 255
    assert ((result["coefficients"][:, 0] / effects > 0.9) & (result["coefficients"][:, 0] < effects)).all()
    assert result["r2"].min() > 0.9


def test_lime_takes_the_users_label_maps(images):
    """Any numbers serve: 0, 7 and 9 are three superpixels. A row without a map is named."""
    labels = np.zeros((7, 16, 16), np.uint16)
    labels[:, :, 8:], labels[:, 8:, 8:] = 7, 9
    given = segment.given_superpixels(images | {"superpixels": labels})
    explainer = run_module.lime_explainer(
        mean_color,
        seed=0,
        batch_size=8,
        n_samples=20,
        hide="mean",
        num_features=1,
        given=given,
        superpixels={"method": "given"},
    )
    arrays, _ = run_module.explain_images(images, explainer, mean_color, target="predicted", batch_size=3)
    np.testing.assert_array_equal(arrays["segments"], np.searchsorted([0, 7, 9], labels))


def test_limes_result_depends_on_seed_and_id_alone(planted):
    together = explain_corner(planted, hide="noise")
    for batch_size in (1, 64):
        again = explain_corner(planted, hide="noise", batch_size=batch_size)
        torch.testing.assert_close(again["coefficients"], together["coefficients"], rtol=0, atol=1e-9)
    alone = explain_corner(planted[1:], ids=IDS[1:2], hide="noise")
    torch.testing.assert_close(alone["coefficients"], together["coefficients"][1:], rtol=0, atol=1e-9)
    other = explain_corner(planted, hide="noise", seed=8)
    assert (other["coefficients"] - together["coefficients"]).abs().max() > 1e-6


def patches(pixels):
    """Two classes: a weighted sum of how bright four of the 8 x 8 patches are, one with a negative weight."""
    bright = pixels.unflatten(1, (3, 8)).unflatten(3, (4, 8)).double().mean((2, 4, 5)).flatten(1) / 255  # (n, 12)
    weights = torch.tensor([0.4, 0, 0, 0.2, 0, -0.3, 0, 0, 0, 0, 0.1, 0], dtype=torch.float64)
    score = 0.3 + bright @ weights
    return torch.stack([score, 1 - score], dim=1)


def test_the_engines_agree(planted):
    white = torch.full_like(planted, 255)
    ours, theirs = (
        explain_corner(white, predict=patches, hide="gray", engine=engine)["coefficients"]
        for engine in ("unitlens", "lime")
    )
    for coefficients in (ours, theirs):
        assert coefficients.topk(3).indices.tolist() == [[0, 3, 10]] * 2
        assert coefficients.argmin(1).tolist() == [5, 5]
        assert (coefficients[:, 5] < -0.1).all()
    # torch and numpy draw the same perturbations for the same seed
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_the_lime_package_depends_on_seed_and_id_alone(planted):
    together = explain_corner(planted, engine="lime", hide="gray")
    alone = explain_corner(planted[1:], ids=IDS[1:2], engine="lime", hide="gray", batch_size=64)
    torch.testing.assert_close(alone["coefficients"], together["coefficients"][1:], rtol=0, atol=1e-9)
    assert together.keys() | {"predictions", "shared_top"} == explain_corner(planted, hide="gray").keys()
    assert together["stderr"].isnan().all()
    assert together["n_used"].tolist() == [200, 200]
    other = explain_corner(planted, engine="lime", hide="gray", seed=8)
    assert (other["coefficients"] - together["coefficients"]).abs().max() > 1e-6


def test_limes_options_reach_the_surrogate(planted):
    usual = explain_corner(planted, predict=patches, hide="gray")
    spelled_out = {"distance": "cosine", "kernel_width": 0.25, "alpha": 1.0, "selection": "auto", "repeats": 1}
    assert_equal(explain_corner(planted, predict=patches, hide="gray", engine="unitlens", **spelled_out), usual)
    for options in ({"distance": "l2"}, {"kernel_width": 0.5}, {"alpha": 0.01}, {"n_features": 2}):
        changed = explain_corner(planted, predict=patches, hide="gray", **options)
        assert (changed["coefficients"] - usual["coefficients"]).abs().max() > 1e-6, options
    assert ((changed["coefficients"] != 0).sum(1) == 2).all()
    for selection, entered in (("none", 12), ("highest_weights", 2), ("forward_selection", 2)):
        result = explain_corner(planted, predict=patches, hide="gray", n_features=2, selection=selection)
        assert (~result["stderr"].isnan()).sum(1).tolist() == [entered] * 2
    auto = explain_corner(planted, hide="gray", n_samples="auto", num_features=1)
    assert auto["n_used"].tolist() == [250, 250] and auto["predictions"].shape == (2, 250)
    assert auto["shared_top"].tolist() == [1, 1]


@pytest.mark.parametrize("engine", ["unitlens", "lime"])
def test_repeats_change_nothing_but_tell_the_stability(planted, engine):
    once = explain_corner(planted, hide="gray", engine=engine)
    repeated = explain_corner(planted, hide="gray", engine=engine, repeats=3)
    stability = repeated.pop("stability")
    assert_equal(repeated, once)
    assert stability.shape == (2,) and stability.dtype == torch.float64
    alone = explain_corner(planted[1:], ids=IDS[1:2], hide="gray", engine=engine, repeats=3)
    torch.testing.assert_close(alone["stability"], stability[1:], rtol=0, atol=0)


def test_repeats_take_seeds_of_their_own(monkeypatch, planted):
    seen, sample = [], lime_samples.sample

    def watched(*arguments, seeds, **options):
        seen.append(seeds)
        return sample(*arguments, seeds=seeds, **options)

    monkeypatch.setattr(lime_samples, "sample", watched)
    explain_corner(planted, repeats=3)
    assert seen == [[image_seed(7, i + suffix) for i in IDS[:2]] for suffix in ("", "/1", "/2")]


def test_repeats_are_compared_by_a_fifth_of_the_image(monkeypatch, planted):
    areas = []
    monkeypatch.setattr(run_module, "mask_stability", lambda maps, area, *, seeds: areas.append(area) or torch.zeros(2))
    explain_corner(planted, repeats=2)
    assert areas == [0.2]


def test_stability_by_hand():
    maps = torch.zeros(3, 2, 2, 5)  # two images of ten pixels, two of which are marked
    maps[:, 0, 0, :2] = 1  # the same pixels three times
    maps[0, 1, 0, :2], maps[1, 1, 0, 1:3], maps[2, 1, 1, :2] = 1, 1, 1  # overlaps of one pixel of three, none, none
    result = masks_module.mask_stability(list(maps), 0.2, seeds=[[0, 1], [2, 3], [4, 5]])
    assert result.tolist() == pytest.approx([1, 1 / 9])


def test_stability_of_flat_maps_is_that_of_chance_and_without_a_map_there_is_none():
    seeds = [range(repeat * 400, (repeat + 1) * 400) for repeat in range(2)]
    flat = torch.ones(400, 20, 20)
    result = masks_module.mask_stability([flat] * 2, 0.2, seeds=seeds)
    assert result.mean().item() == pytest.approx(agreement.chance_iou(0.2), abs=0.005)
    one_empty = flat.index_fill(0, torch.tensor([7]), 0)
    result = masks_module.mask_stability([flat, one_empty], 0.2, seeds=seeds)
    assert result.isnan().nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("engine", ["explain", "explain_with_package"])
def test_images_that_lime_cannot_explain_are_named(planted, engine):
    run, targets = getattr(lime_module, engine), torch.zeros(2, dtype=torch.int64)
    options = {"seeds": [0, 1], "image_ids": IDS[:2]}
    with pytest.raises(
        ValueError, match=r"images \['photo0-crop0', 'photo0-crop1'\] have only one superpixel"
    ) as error:
        run(brightness_of_the_corner, planted, torch.zeros(2, 24, 32, dtype=torch.int64), targets, **options)
    assert error.value.reasons == dict.fromkeys(range(2), "there is only one superpixel, LIME needs two")
    grid = segment.grid(planted, size=8)
    with pytest.raises(
        ValueError, match=r"`n_samples` is 11, fewer .*: \{'photo0-crop0': 12, 'photo0-crop1': 12\}"
    ) as error:
        run(brightness_of_the_corner, planted, grid, targets, n_samples=11, **options)
    assert error.value.reasons[1] == "there are 12 superpixels, more than LIME's 11 samples"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fast"}, "`engine` is 'fast'; allowed: 'unitlens' or 'lime'"),
        ({"repeats": 0}, "`repeats` is 0; allowed: 1 or more"),
        (
            {"engine": "lime", "hide": "noise"},
            "`hide` is 'noise'; allowed with `engine` 'lime': mean, gray, black, white",
        ),
        ({"engine": "lime", "n_samples": "auto"}, "`n_samples` is 'auto'; allowed with `engine` 'lime': a number"),
    ],
)
def test_options_that_do_not_go_together_are_named(planted, options, message):
    with pytest.raises(ValueError, match=message):
        explain_corner(planted, **options)


# masks


def explanations(**saliency_of):
    ids = {"image_id": np.array(IDS[:3], dtype=object), "source_image": np.array(["p", "p", "q"], dtype=object)}
    return [({**ids, "saliency": saliency}, {"explainer": name}) for name, saliency in saliency_of.items()]


def test_masks_have_the_exact_area_and_the_threshold_of_each_maps_own_maximum():
    saliency = np.zeros((3, 5, 4), dtype=np.float32)  # the third is no map
    saliency[0].flat[:4] = [8, 5, 4, 3]
    saliency[1] = np.arange(20).reshape(5, 4) / 1000
    masks = run_module.cut_masks(explanations(cam=saliency), area=0.25, threshold=0.5, seed=0)
    assert list(masks) == ["image_id", "source_image", "cam:equal_area", "cam:threshold"]
    assert masks["cam:equal_area"].sum((1, 2)).tolist() == [5, 5, 0]
    assert masks["cam:equal_area"][0].flat[:4].all()
    assert np.flatnonzero(masks["cam:equal_area"][1]).tolist() == [15, 16, 17, 18, 19]
    assert np.flatnonzero(masks["cam:threshold"][0]).tolist() == [0, 1]  # 4 is not above half of 8
    assert np.flatnonzero(masks["cam:threshold"][1]).tolist() == list(range(10, 20))
    assert not masks["cam:threshold"][2].any()


def test_ties_are_broken_in_an_order_of_its_own_for_each_image_and_explainer():
    flat = np.ones((3, 20, 20), dtype=np.float32)
    masks = run_module.cut_masks(explanations(a=flat, b=flat), area=0.5, threshold=0.5, seed=0)
    maps = [*masks["a:equal_area"], *masks["b:equal_area"]]
    overlaps = [(x & y).sum() for i, x in enumerate(maps) for y in maps[:i]]
    assert 70 <= min(overlaps) <= max(overlaps) <= 130  # 100 by chance
    alone = run_module.cut_masks(explanations(b=flat), area=0.5, threshold=0.5, seed=0)
    np.testing.assert_array_equal(alone["b:equal_area"], masks["b:equal_area"])
    other = run_module.cut_masks(explanations(b=flat), area=0.5, threshold=0.5, seed=1)
    assert (other["b:equal_area"] != masks["b:equal_area"]).any()


def test_an_explainers_own_selection_is_kept():
    files = explanations(lime=np.ones((3, 4, 4), dtype=np.float32), cam=np.ones((3, 4, 4), dtype=np.float32))
    files[0][0]["selected"] = np.eye(4, dtype=bool)[None].repeat(3, axis=0)
    masks = run_module.cut_masks(files, area=0.25, threshold=0.5, seed=0)
    np.testing.assert_array_equal(masks["lime:selected"], files[0][0]["selected"])
    assert "cam:selected" not in masks


def test_explanations_of_other_images_are_refused():
    files = explanations(lime=np.ones((3, 4, 4)), cam=np.ones((3, 4, 4)))
    files[1][0]["image_id"] = files[1][0]["image_id"][::-1]
    with pytest.raises(ValueError, match="explanations by cam are of other images than those by lime"):
        run_module.cut_masks(files, area=0.25, threshold=0.5, seed=0)


def test_scale_divides_by_each_maps_own_maximum():
    saliency = np.array([[[0, 2], [4, 1]], [[0, 0], [0, 0]]], dtype=np.float32)
    np.testing.assert_array_equal(explanation_figures.scale(saliency), [[[0, 0.5], [1, 0.25]], [[0, 0], [0, 0]]])


def test_shards_are_gathered_by_explainer():
    shards = [
        ({"saliency": np.full((n, 2, 2), n), "coefficients": np.ones((n, n))}, {"explainer": name, "model": "m"})
        for n, name in [(1, "lime"), (1, "cam"), (2, "lime")]
    ]
    gathered = run_module.by_explainer(iter(shards))
    assert list(gathered) == ["lime", "cam"]
    arrays, facts = gathered["lime"]
    assert facts == {"explainer": "lime", "model": "m"}
    assert arrays["saliency"][:, 0, 0].tolist() == [1, 2, 2]
    np.testing.assert_array_equal(arrays["coefficients"], [[1, np.nan], [1, 1], [1, 1]])


def test_the_timing_table_is_one_row():
    table = timing_table({"model": "m", "explainer": "lime"}, 10, 2.5, torch.device("cpu"))
    assert table.to_dict("records") == [
        {
            **{"model": "m", "explainer": "lime", "images": 10, "seconds": 2.5},
            **{"device": "cpu", "threads": torch.get_num_threads()},
        }
    ]


def test_a_map_of_zeros_is_named_and_what_an_explainer_lacks_is_empty():
    arrays = {"image_id": np.array(["a", "b"], object), "target": np.array([0, -1]), "saliency": np.zeros((2, 3, 3))}
    arrays["warning"] = np.array(["", "the map is zero everywhere"], object)
    table = explanation_table(arrays, {"model": "m", "explainer": "gradcam-x"})
    assert table.warning.tolist() == ["", "the map is zero everywhere"]
    assert table.target[0] == 0 and table.target.isna().tolist() == [False, True], "class 0 is one, -1 is none"
    assert table[["superpixels", "samples", "r2", "stability"]].isna().all(axis=None)
    lime = arrays | {"superpixels": np.array([5, 2]), "n_used": np.array([9, 9]), "r2": np.ones(2)}
    assert explanation_table(lime, {"model": "m", "explainer": "lime"}).superpixels.tolist() == [5, 2]
