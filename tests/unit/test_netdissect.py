"""Network Dissection: thresholds against numpy, overlaps by hand and against a loop, a planted network."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from unitlens.images import label_maps
from unitlens.jobs import logs
from unitlens.networks import hooks
from unitlens.report import concept_findings
from unitlens.storage import arrays
from unitlens.tables import labeling, netdissect, unit_labels
from unitlens.units import mask_chance, permutation
from unitlens.units import netdissect as units_netdissect


def in_batches(values, size):
    return iter(torch.as_tensor(values, dtype=torch.float32).split(size))


@pytest.mark.parametrize("share", [0.005, 0.1, 0.37])
@pytest.mark.parametrize("size", [1, 3, 20])
def test_thresholds_are_numpys_quantiles(share, size):
    maps = np.random.default_rng(0).standard_normal((20, 3, 5, 7)).astype(np.float32)
    values = maps.swapaxes(0, 1).reshape(3, -1)
    expected = np.quantile(values, 1 - share, axis=1, method="inverted_cdf")
    found = units_netdissect.thresholds(in_batches(maps, size), 20, share=share).numpy()
    np.testing.assert_array_equal(found, expected)
    assert ((values > found[:, None]).mean(1) <= share).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize(("memory", "passes"), [(8 * 3 * 2**16, 2), (8 * 3 * 2**11, 3), (8 * 3 * 2, 32)])
def test_thresholds_are_as_exact_where_the_largest_activations_do_not_fit(monkeypatch, kind, memory, passes):
    rng = np.random.default_rng(0)
    maps = np.stack([rng.standard_normal((500, 5, 7)), rng.integers(-2, 3, (500, 5, 7)), -rng.random((500, 5, 7))], 1)
    maps = (maps * [[[[1]], [[1]], [[1e-30]]]]).astype(kind)
    maps[7, 1] = -0.0
    held, started, zeros = [], [], torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *args, **options: held.append(made := zeros(*args, **options)) or made)

    def start():
        started.append(1)
        return torch.as_tensor(maps).split(64)

    values = maps.swapaxes(0, 1).reshape(3, -1)
    for share in (0.8, 0.37, 0.9999):
        started.clear()
        found = units_netdissect._counted_thresholds(start, int(share * values.shape[1] * (1 + 1e-12)) + 1, memory)
        np.testing.assert_array_equal(found, np.quantile(values, 1 - share, axis=1, method="inverted_cdf"))
        assert len(started) == passes * (2 if kind is np.float64 else 1)
        whole = units_netdissect.thresholds(start, 500, share=share)
        np.testing.assert_array_equal(units_netdissect.thresholds(start, 500, share=share, memory=memory), whole)
    assert max(each.nbytes for each in held) <= memory


def test_an_iterator_is_enough_where_the_largest_activations_fit():
    maps = np.random.default_rng(0).standard_normal((9, 2, 3, 3)).astype(np.float32)
    once, again = in_batches(maps, 2), units_netdissect.thresholds(lambda: in_batches(maps, 2), 9)
    assert units_netdissect.thresholds(once, 9).equal(again)
    with pytest.raises(ValueError, match="an activation of unit 0 at image row 8 is NaN"):
        maps[8] = np.nan
        units_netdissect.thresholds(lambda: in_batches(maps, 2), 9, share=1, memory=8)


def test_tied_activations_lie_above_the_threshold_at_most_as_often_as_asked():
    maps = np.random.default_rng(0).integers(0, 3, (50, 2, 4, 4))
    found = units_netdissect.thresholds(in_batches(maps, 7), 50, share=0.005)
    assert found.tolist() == [2, 2]  # a third of the activations is 2: none lies above


@pytest.mark.parametrize("memory", [2**28, 8])
def test_a_unit_that_is_not_finite_has_no_threshold_and_leaves_the_others(memory):
    maps = np.random.default_rng(0).standard_normal((9, 4, 3, 3)).astype(np.float32)
    expected = units_netdissect.thresholds(lambda: in_batches(maps, 2), 9, share=0.3)
    maps[3, 1, 0, 0], maps[8, 2] = np.nan, -np.inf
    found = units_netdissect.thresholds(lambda: in_batches(maps, 2), 9, share=0.3, memory=memory)
    assert found.isnan().tolist() == [False, True, True, False] and found[[0, 3]].equal(expected[[0, 3]])


def test_activations_of_which_none_is_finite_are_named():
    maps = np.zeros((4, 2, 3, 3))
    maps[3, 1, 0, 0], maps[3, 0, 1, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"no unit is finite on every image: .* of unit 0 at image row 3"):
        units_netdissect.thresholds(in_batches(maps, 2), 4)
    with pytest.raises(ValueError, match="`images` is 5, but there were maps of 4"):
        units_netdissect.thresholds(in_batches(np.zeros((4, 2, 3, 3)), 2), 5)


def test_overlaps_by_hand():
    # two images of 2 x 2; concepts 1 and 2 of category 0, concept 3 of category 1
    labels = torch.tensor([[[[1, 1], [2, 0]]], [[[3, 0], [0, 0]]]])
    maps = torch.tensor([[[[1.0, 0], [1, 1]]], [[[1, 1], [0, 0]]]])  # one unit
    overlap = units_netdissect.overlaps([(maps, labels)], torch.tensor([0.5]), torch.tensor([0, 0, 1]))
    assert overlap.both.tolist() == [[1, 1, 1]]
    assert overlap.unit.tolist() == [[3, 2]]  # category 0 is annotated in the first image only, 1 in the second
    assert overlap.concept.tolist() == [2, 1, 1]
    assert units_netdissect.iou(overlap, torch.tensor([0, 0, 1])).tolist() == [[1 / 4, 1 / 3, 1 / 2]]


def test_an_image_without_any_active_unit_counts_for_the_concept():
    overlap = units_netdissect.overlaps(
        [(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 2, 2))], torch.zeros(1), torch.tensor([0])
    )
    assert (overlap.both.item(), overlap.unit.item(), overlap.concept.item()) == (0, 0, 4)


def test_several_label_maps_of_an_image_may_overlap():
    labels = torch.tensor([[[[1, 1], [0, 0]], [[2, 0], [1, 0]]]])
    overlap = units_netdissect.overlaps([(torch.ones(1, 1, 2, 2), labels)], torch.tensor([0.5]), torch.tensor([0, 1]))
    assert overlap.concept.tolist() == [3, 1] and overlap.both.tolist() == [[3, 1]]
    assert overlap.unit.tolist() == [[4, 4]]


@pytest.mark.parametrize("size", [1, 4, 9])
def test_overlaps_against_a_loop_over_pixels(size, monkeypatch):
    monkeypatch.setattr(units_netdissect, "_BLOCK", 200)  # one unit at a time
    rng = np.random.default_rng(1)
    maps = torch.from_numpy(rng.standard_normal((9, 4, 3, 4)))
    labels = torch.from_numpy(rng.integers(0, 6, (9, 2, 10, 13)) * rng.integers(0, 2, (9, 1, 1, 1)))
    category = torch.tensor([0, 0, 1, 2, 2])
    limits = torch.tensor([0.2, 1.0, 5.0, -9.0], dtype=torch.float64)
    batches = zip(maps.split(size), labels.split(size), strict=True)
    found = units_netdissect.iou(units_netdissect.overlaps(batches, limits, category), category)

    large = F.interpolate(maps, (10, 13), mode="bilinear", align_corners=False).numpy()
    for unit in range(4):
        for concept in range(5):
            both = either = 0
            for image in range(9):
                shown = set(labels[image].unique().tolist()) - {0}
                if category[concept] not in [category[other - 1] for other in shown]:
                    continue
                mask = large[image, unit] > limits[unit].item()
                marked = (labels[image].numpy() == concept + 1).any(0)
                both, either = both + (mask & marked).sum(), either + (mask | marked).sum()
            assert found[unit, concept] == pytest.approx(both / either if either else 0)


def test_boxes_become_label_maps():
    block = {
        "images": np.zeros((3, 4, 5, 3), np.uint8),
        "label": np.array([7, 9, -1]),
        "box": np.array([[1, 0, 3, 2], [np.nan] * 4, [0, 0, 5, 4]], np.float32),
    }
    labels = label_maps.label_maps(block, np.array([9, 7]), source="boxes")
    assert labels.shape == (3, 1, 4, 5)
    assert labels[0, 0].tolist() == [[0, 2, 2, 0, 0], [0, 2, 2, 0, 0], [0] * 5, [0] * 5]
    assert not labels[1:].any()  # a box without a label, and a label without a box, mark nothing
    block["label"][0] = 0  # the first class
    assert label_maps.label_maps(block, np.array([9, 7, 0]), source="boxes")[0, 0, 0].tolist() == [0, 3, 3, 0, 0]


def test_masks_become_label_maps():
    images = np.zeros((1, 2, 2, 3), np.uint8)
    mask = np.array([[[0, 300], [4, 4]]], np.uint16)
    labels = label_maps.label_maps({"images": images, "mask": mask}, np.array([4, 300]), source="masks")
    assert labels.tolist() == [[[[0, 2], [1, 1]]]]
    assert not label_maps.label_maps({"images": images}, np.array([4]), source="masks").any()
    with pytest.raises(ValueError, match=r"marks 300, which has no word; values with one: 4$"):
        label_maps.label_maps({"images": images, "mask": mask}, np.array([4]), source="masks")
    for many, listed in ((5, "0, 1, 2, 3, 4"), (6, r"0, 1, 2, 3, 4, \.\.\.")):
        with pytest.raises(ValueError, match=f"; values with one: {listed}$"):
            label_maps.label_maps({"images": images, "mask": mask}, np.arange(many), source="masks")


SIDE = 32
WORDS = pd.DataFrame({"value": [1, 2], "word": ["stripes", "dots"], "category": "texture"})


class Planted(nn.Module):
    """Unit 0 is the red of an image, unit 1 the green, unit 2 answers to nothing, unit 3 to one noisy channel."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 1, bias=False)
        self.layer.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]])[..., None, None]

    def forward(self, images):
        return self.layer(images)


def composites(n=60):
    """Gray images, a third with a red patch and a third with a green one, noise in the blue channel; the masks."""
    rng = np.random.default_rng(0)
    images, masks = np.zeros((n, SIDE, SIDE, 3), np.uint8), np.zeros((n, SIDE, SIDE), np.uint16)
    images[..., 2] = rng.integers(0, 256, images.shape[:3])
    for row in range(n):
        left, top = rng.integers(0, SIDE - 3, 2)
        patch = (row, slice(top, top + 3), slice(left, left + 3))
        if row % 3:
            images[(*patch, row % 3 - 1)] = rng.integers(100, 256, (3, 3))
            masks[patch] = row % 3
    return images, masks


def dissect(images, masks, network=None, **options):
    def blocks(names):
        return ({"images": images[i : i + 8], "mask": masks[i : i + 8]} for i in range(0, len(images), 8))

    def normalize(pixels):
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()

    source_images = np.arange(len(images)) // 2
    options = {"words": WORDS, "source": "masks", "source_images": source_images} | options
    words, source, source_images = (options.pop(name) for name in ("words", "source", "source_images"))
    options |= {"values": words["value"].to_numpy(), "categories": words["category"].to_numpy(), "source": source}
    options = {"draws": 99} | options
    network = network or Planted()
    dissection = units_netdissect.dissect(
        lambda pixels: hooks.run_to(network, "layer", normalize(pixels)), blocks, source_images=source_images, **options
    )
    return netdissect.tabulate(dissection, words, source_images, source=source)


def test_planted_units_are_found_and_shuffled_masks_are_not():
    images, masks = composites()
    table = dissect(images, masks)
    assert table.mask_concept.tolist()[:3] == ["stripes", "dots", ""]
    assert table.iou.tolist()[:2] == [1, 1] and table.iou[3] < 0.04
    assert table.detector.tolist() == [True, True, False, False]
    assert table.status.tolist() == ["selective", "selective", "not selective", "not selective"]  # two calibrate no set
    assert set(table.gap) == {np.inf} and table.set_size.tolist()[:2] == [2, 2]
    assert (
        table.q_value.tolist()[:2] == [0.015, 0.015] and table.q_value[3] > 0.05
    )  # of the three units that are tested
    assert table.p_value.isna().tolist() == [False, False, True, False] and set(table.p_floor) == {0.01}
    assert table.first_half.tolist()[:3] == table.second_half.tolist()[:3] == ["stripes", "dots", ""]
    assert table.threshold.tolist()[:3] == [0, 0, 0]
    assert table.mask_images.tolist()[:3] == [20, 20, 0] and table.mask_source_images[0] == 20
    assert set(table.masks) == {"masks"}
    shuffled = dissect(images, np.roll(masks.reshape(len(masks), -1), 500, axis=1).reshape(masks.shape))
    assert (shuffled.iou < 0.04).all() and not shuffled.detector.any() and set(shuffled.status) == {"not selective"}


def test_a_unit_that_is_not_finite_names_no_concept_and_leaves_the_others():
    network = Planted()
    network.layer.weight.data[1, 1] = np.nan
    table, sound = (dissect(*composites(), each) for each in (network, Planted()))
    left = ["q_value"]  # is adjusted for the units that are tested
    pd.testing.assert_frame_equal(table.drop(1).drop(columns=left), sound.drop(1).drop(columns=left), check_exact=True)
    assert table.loc[1, ["threshold", "iou", "second_iou", "p_value"]].isna().all() and not table.detector[1]
    assert table.status.tolist() == ["selective", "not finite", "not selective", "not selective"]
    assert table.loc[1, ["mask_concept", "mask_category", "second_mask_concept"]].tolist() == ["", "", ""]
    assert table.loc[1, ["mask_images", "mask_source_images"]].tolist() == [0, 0]


def test_the_log_counts_images(tmp_path, capsys):
    with logs.log_to(tmp_path / "log"):
        dissect(*composites(), source_images=np.arange(60))
    counts = [line.split(",")[0] for line in capsys.readouterr().out.splitlines() if " images" in line]
    assert counts == ["60 of 60 images"] * 2  # once for the thresholds, once for the overlaps


def test_a_probe_set_without_masks_is_refused():
    images, masks = composites(6)
    with pytest.raises(ValueError, match="no image has masks: give the sheet some"):
        dissect(images, 0 * masks)
    with pytest.raises(ValueError, match=r"no concept is shown by 5 .* nothing can be named; most are shown by 2"):
        dissect(images, masks)


def test_a_layer_without_space_gives_no_row():
    images, masks = composites(2)
    dissection = units_netdissect.dissect(
        lambda pixels: torch.from_numpy(pixels).flatten(1).float(),
        lambda names: iter([{"images": images, "mask": masks}]),
        values=WORDS["value"].to_numpy(),
        categories=WORDS["category"].to_numpy(),
        source="masks",
        source_images=["a", "b"],
    )
    table = netdissect.tabulate(dissection, WORDS, np.arange(2), source="masks")
    assert table.empty and netdissect.with_control(dissection, WORDS, np.arange(2), source="masks").empty
    columns = "unit threshold status gap set_size set mask_concept mask_category iou second_mask_concept second_iou"
    columns += " p_value q_value p_floor first_half second_half held_out_iou detector mask_images mask_source_images"
    columns += " annotated_source_images masks"
    assert " ".join(table) == columns


def labels(words, q_value):
    return pd.DataFrame(
        {
            "model": "a",
            "layer": "x",
            "unit": range(len(words)),
            "status": ["selective" if word and q_value <= 0.05 else "not selective" for word in words],
            "candidate": words,
            "category": "object",
            "q_value": q_value,
        }
    )


def dissected(words):
    table = pd.DataFrame({"model": "a", "layer": "x", "unit": range(len(words)), "mask_concept": words})
    detector = table.mask_concept != ""
    table = table.assign(mask_category="object", detector=detector, masks="masks", annotated_source_images=9)
    status, beyond = np.where(detector, "named", "not selective"), np.where(detector, 0.2 + table.unit / 100, 0.9)
    control = {"shuffled_units": 64, "shuffled_selective": 2, "shuffled_named": 1}
    return table.assign(status=status, held_out_iou=beyond, **control)


def agreement(masks, clip, *, q_value=0.01):
    """The table, and what `summarize` makes of it."""
    table = netdissect.beside_labels(dissected(masks), labels(clip, q_value))
    words = netdissect.words_of(table)
    features = np.eye(len(words)) * 3
    if "dogs" in words:
        features[words.index("dogs")] = 3 * features[words.index("dog")]
    table = netdissect.with_agreement(table, words, features)
    return table, netdissect.summarize(table, words, features)


def test_agreement_by_hand():
    table, summary = agreement(["dog", "cat", "", "sky"], ["dogs", "sky", "cat", ""])
    assert table.cosine.tolist() == pytest.approx([1, 0, np.nan, np.nan], nan_ok=True)
    assert table.same.tolist()[:2] == [True, False] and table.same[2:].isna().all()
    words = netdissect.words_of(table)
    exactly = netdissect.with_agreement(
        table[["model", "layer", "mask_concept", "clip_candidate"]], words, np.eye(5)[[0, 1, 1, 2]], same=1
    )
    assert exactly.same.tolist()[:2] == [True, False], "from `same` on"
    (row,) = summary.to_dict("records")
    assert (row["units"], row["detectors"], row["unique_detectors"], row["compared"], row["same"]) == (4, 3, 3, 2, 1)
    assert (row["named"], row["selective"], row["not_selective"], row["annotated_source_images"]) == (3, 0, 1, 9)
    assert (row["cosine"], row["cosine_chance"], row["p_value"]) == (0.5, 0.25, 1)  # of the two matchings
    assert (row["held_out_units"], row["held_out_iou"]) == (3, pytest.approx((0.2 + 0.21 + 0.23) / 3))
    assert np.isnan([row["held_out_iou_low"], row["held_out_iou_high"]]).all(), "of three units there is no interval"
    assert (row["same_low"], row["same_high"]) == pytest.approx((0.0945, 0.9055), abs=1e-4)  # Wilson's, of 1 in 2


def test_labels_are_shuffled_among_the_units_that_are_compared():
    """All other units of the layer are called "sun": against these, whatever detectors share would be agreement."""
    words = ["dog", "cat"] * 8
    _, summary = agreement(words + [""] * 50, ["dog"] * 16 + ["sun"] * 50)
    assert summary.compared.item() == 16 and summary.cosine_chance.item() == 0.5 and summary.p_value.item() == 1


def test_labels_that_are_not_selective_are_not_compared():
    words = ["dog", "cat", "sky", "sea"] * 5
    table, summary = agreement(words, words, q_value=0.051)
    assert table.same.all() and summary.compared.item() == 0 and np.isnan(summary.p_value.item())


def test_agreement_beyond_chance_is_said_and_what_is_not_supported_too():
    words = ["dog", "cat", "sky", "sea"] * 5
    table, summary = agreement(words, words)
    named, sentence, meaning = concept_findings.netdissect_findings(summary, table)
    assert named == (
        "a x: Network Dissection (masks; 9 source images) names 20 of 20 units, by category object 20, most often cat "
        "5, dog 5, sea 5; 0 more are selective, 0 not. A concept found on one half of the source images overlaps its "
        "unit's masks on the other half by 0.295 more than by chance (intersection over union; mean of the selective "
        "units, 95 % interval 0.267 to 0.323, n = 20 units taken as independent, one split). Of 64 units of the layer "
        "with shuffled weights 2 are selective (95 % interval 0.86 % to 11 %), 1 named."
    )
    assert (
        "Of the 20 units of x of a, Network Dissection (masks) calls 20 detectors, of 4 different concepts" in sentence
    )
    assert (
        "cosine of 1.00, against 0.25 if shuffled among these units: agreement beyond chance is supported (p < 0.001"
        in sentence
    )
    assert "20 name the same (95 % interval 84 % to 100 %)" in sentence and meaning.startswith("Selective: ")
    table, summary = agreement(words, ["sun"] * 20)
    sentence = concept_findings.netdissect_findings(summary, table)[1]
    assert "is not supported (p = 1, adjusted for 1 test, units taken as independent); 0 name" in sentence
    assert "the same (95 % interval 0 % to 16 %)" in sentence


def test_no_detector_with_a_label_leaves_nothing_to_compare():
    table, summary = agreement(["dog", ""], ["", "dog"])
    assert summary.compared.item() == 0 and np.isnan(summary.p_value.item())
    assert summary.cosine.dtype == summary.cosine_chance.dtype == float
    assert "none of them has a selective CLIP label" in concept_findings.netdissect_findings(summary, table)[1]


def test_layers_stay_in_the_order_of_the_run_and_a_run_without_any_has_an_empty_summary():
    table, summary = agreement(["dog", "cat"], ["dog", "cat"])
    given = netdissect.words_of(table), np.eye(2)
    assert netdissect.summarize(table.assign(layer=["z", "a"]), *given).layer.tolist() == ["z", "a"]
    nothing = netdissect.summarize(table[:0], *given)
    assert list(nothing.columns) == list(summary.columns) and nothing.empty
    assert concept_findings.netdissect_findings(nothing, table[:0]) == []


def test_the_defaults_are_those_of_the_paper():
    """Bau et al.: 0.5 % of the activations lie above the threshold, a detector has an IoU of more than 4 %."""
    values = np.random.default_rng(0).standard_normal((40, 1, 10, 10)).astype(np.float32)
    expected = np.quantile(values, 0.995, method="inverted_cdf")
    assert units_netdissect.thresholds(in_batches(values, 9), 40).item() == expected
    assert (units_netdissect.SHARE, netdissect.DETECTOR) == (0.005, 0.04)


def test_a_single_concept_has_no_second():
    images, masks = composites()
    table = dissect(images, (masks == 1).astype(np.uint16), words=WORDS[:1])
    assert table.mask_concept[0] == "stripes" and table.iou[0] == 1
    assert set(table.second_mask_concept) == {""} and set(table.second_iou) == {0}


def test_a_table_by_hand():
    """Units: selective ones, one above the bar of q, one without overlap, one that is not finite; no set for so few."""
    iou = [[0.5, 0.2, 0.1], [0.3, 0.3, 0.3], [0.1, 0.5, 0], [0.03, 0, 0], [0, 0, 0], [0, 0, 0]]
    p = [0.025, 0.02, 0.9, 0.001, np.nan, np.nan]  # of four units that have one, times 4 / 3, 4 / 2, 1, 4 / 1
    shows = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    halves = np.array([[0, 0, 1, 0, -1, -1], [0, 1, 1, 0, -1, -1]])
    limits = [1.0, 2, 3, 4, 5, np.nan]
    short = np.array([[0, 0, 0, 0, np.nan, np.nan], [0, 0.1, 0, 0, np.nan, np.nan]])
    beyond = np.array([0.4, 0.1, 0, 0.01, np.nan, np.nan])
    found = np.array(iou), np.array(limits), shows, halves, short, beyond, np.array(p), 0.001
    found = units_netdissect.Dissection(*found)
    words = pd.DataFrame({"value": [1, 2, 3], "word": ["sky", "sea", "sand"], "category": ["far", "far", "near"]})
    table = netdissect.tabulate(found, words, np.array(["a", "a", "b", "c", "d"]), source="masks", detector=0.3)
    q = [0.1 / 3, 0.1 / 3, 0.9, 0.004, np.nan, np.nan]
    np.testing.assert_allclose(table.q_value, q)
    assert table.status.tolist() == [
        "selective",
        "selective",
        "not selective",
        "selective",
        "not selective",
        "not finite",
    ]
    assert table.set.tolist() == ["sky; sea; sand", "sky; sea; sand", "sea; sky; sand", "sky; sea; sand", "", ""]
    np.testing.assert_array_equal(table.set_size, [3, 3, 3, 3, np.nan, np.nan])
    assert table.mask_concept.tolist() == ["sky", "sky", "sea", "sky", "", ""]
    assert table.mask_category.tolist() == ["far", "far", "far", "far", "", ""]
    np.testing.assert_array_equal(table.iou, [0.5, 0.3, 0.5, 0.03, 0, np.nan])
    assert table.second_mask_concept.tolist() == ["sea", "sea", "sky", "", "", ""]
    np.testing.assert_array_equal(table.second_iou, [0.2, 0.3, 0.1, 0, 0, np.nan])
    assert table.first_half.tolist() == ["sky", "sky", "sea", "sky", "", ""]
    assert table.second_half.tolist() == ["sky", "sea", "sea", "sky", "", ""]
    np.testing.assert_array_equal(table.held_out_iou, beyond)
    assert table.detector.tolist() == [True, True, False, False, False, False]
    assert table.mask_images.tolist() == [2, 2, 2, 2, 0, 0]
    assert table.mask_source_images.tolist() == [1, 1, 2, 1, 0, 0]
    assert set(table.annotated_source_images) == {3} and set(table.p_floor) == {0.001} and set(table.masks) == {"masks"}
    assert table.threshold.tolist()[:5] == limits[:5] and table.p_value.tolist()[:4] == p[:4]


def test_units_are_named_where_no_other_concept_is_within_the_gap_of_the_halves():
    """Of twenty units two halves differ, by 0.1 and 0.2; the gap covers 18.9 of 20, both directions: 0.1."""
    iou = np.tile([0.5, 0.35, 0.1], (20, 1))
    iou[5] = [0.5, 0.45, 0.1]
    short = np.zeros((2, 20))
    short[:, 0], short[:, 1] = 0.1, 0.2
    halves, shows = np.zeros((2, 20), int), np.ones((6, 3), bool)
    found = units_netdissect.Dissection(iou, np.ones(20), shows, halves, short, np.zeros(20), np.full(20, 0.001), 0.001)
    words = pd.DataFrame({"value": [1, 2, 3], "word": ["sky", "sea", "sand"], "category": ["far", "far", "near"]})
    table = netdissect.tabulate(found, words, np.array(list("abcdef")), source="masks")
    assert set(table.gap) == {0.1} and table.set[5] == "sky; sea" and table.status[5] == "theme"
    assert set(table.status.drop(5)) == {"named"} and set(table.set.drop(5)) == {"sky"}


def test_a_unit_whose_q_value_is_the_bar_is_selective():
    iou, one, half = np.array([[0.5]]), np.ones((3, 1), bool), np.zeros((2, 1), int)
    short, p = np.zeros((2, 1)), np.array([netdissect.ALPHA])
    found = units_netdissect.Dissection(iou, np.ones(1), one, half, short, np.zeros(1), p, 0.001)
    words = pd.DataFrame({"value": [1], "word": ["sky"], "category": ["far"]})
    table = netdissect.tabulate(found, words, np.array(["a", "b", "c"]), source="masks")
    assert (table.status[0], table.detector[0]) == ("selective", True), "of one concept alone none is named"
    rest = found._replace(p_value=np.array([0.051]))
    assert netdissect.tabulate(rest, words, np.array(["a", "b", "c"]), source="masks").status[0] == "not selective"


def test_labels_by_masks_are_labels_of_an_encoder_that_is_masks():
    facts = {"model": "m", "layer": "l", "status": ["named", "dead"], "q_value": 0.01}
    given = pd.DataFrame(facts | {"unit": [0, 1], "mask_concept": ["sky", ""], "mask_category": ["far", ""]})
    labels = netdissect.as_labels(given)
    assert labels.candidate.tolist() == labels.group.tolist() == ["sky", ""]
    assert labels.encoder.tolist() == ["masks", "masks"] and labels.category.tolist() == ["far", ""]


def test_one_pixel_shows_a_concept():
    labels = np.array([[[[0, 2], [0, 0]]], [[[0, 0], [0, 0]]]])
    assert units_netdissect._present(labels, 3).tolist() == [[False, True, False], [False] * 3]
    mixed = np.random.default_rng(0).integers(0, 8, (9, 2, 2, 2))
    assert units_netdissect._present(mixed, 7).tolist() == [[np.any(each == c) for c in range(1, 8)] for each in mixed]


def test_label_maps_are_not_read_for_the_thresholds():
    rng, read = np.random.default_rng(0), []
    maps, labels = patchwork(rng, units=3)

    def blocks(names):
        read.append(sorted(names))
        return iter([{"images": maps.transpose(0, 2, 3, 1), "mask": labels}])

    given = {"values": np.arange(1, 8), "categories": MADE_WORDS["category"].to_numpy(), "source": "masks"}
    units_netdissect.dissect(
        lambda images: torch.from_numpy(images).movedim(3, 1), blocks, source_images=np.arange(60), draws=9, **given
    )
    assert read == [["images"], ["images"], ["box", "images", "label", "mask"]]


# ---- the permutation of source images


def patchwork(rng, *, images=60, rows=1, units=24, truth=()):
    """Label maps whose quarters each show one of four textures, below them a color of all of the image; and maps of
    units that have blobs anywhere, the same in all rows of a source image. Units of `truth` follow a concept, mostly.
    """
    textures = rng.integers(1, 5, (images * rows, 1, 2, 2)).repeat(8, 2).repeat(8, 3)
    colors = np.broadcast_to(rng.integers(5, 8, (images * rows, 1, 1, 1)), textures.shape)
    blobs = rng.standard_normal((images, units, 4, 4)) * rng.gamma(0.3, size=(images, units, 1, 1))
    maps = np.repeat(blobs, rows, 0)
    labels = np.concatenate([textures, colors], 1)
    for unit, concept in enumerate(truth):
        follows = (labels[:, :, 2::4, 2::4] == concept).any(1) & (rng.random((images * rows, 1, 1)) < 0.9)
        maps[:, unit] = rng.random((images * rows, 4, 4)) * np.where(follows, 2, 1)
    return maps.astype(np.float32), labels.astype(np.uint16)


MADE_WORDS = pd.DataFrame({"value": range(1, 8), "word": list("abcdefg"), "category": ["texture"] * 4 + ["color"] * 3})


def of_patchwork(maps, labels, *, rows=1, tabulate=netdissect.tabulate, **options):
    def blocks(names):
        parts = (slice(i, i + 32) for i in range(0, len(maps), 32))
        return ({"images": maps[part].transpose(0, 2, 3, 1), "mask": labels[part]} for part in parts)

    sources = np.arange(len(maps)) // rows
    given = {"values": MADE_WORDS["value"].to_numpy(), "categories": MADE_WORDS["category"].to_numpy()}
    given |= {"source": "masks", "source_images": sources, "share": 0.05, "draws": 199} | options
    # every unit is a channel of the image, which shows what was put there
    dissection = units_netdissect.dissect(lambda images: torch.from_numpy(images).movedim(3, 1), blocks, **given)
    return tabulate(dissection, MADE_WORDS, sources, source="masks", detector=0.04)


@pytest.mark.parametrize("units", [10, 100])
def test_units_behind_a_layer_are_a_control_of_their_own_and_change_nothing_of_it(units):
    """A layer whose first twelve units follow a concept, behind it a control of noise units, of which four do."""
    rng = np.random.default_rng(0)
    maps, labels = patchwork(rng, units=units + min(64, units), truth=[1, 2, 3, 4, 5, 6] * 2)
    maps[:, units : units + 4] = maps[:, :4]
    own = of_patchwork(maps[:, :units], labels, draws=399)
    table = of_patchwork(maps, labels, draws=399, tabulate=netdissect.with_control)
    columns = ["shuffled_units", "shuffled_selective", "shuffled_named"]
    pd.testing.assert_frame_equal(table.drop(columns=columns), own)
    assert (own.status[:10] != "not selective").all()
    counts = table[columns].drop_duplicates().to_numpy().tolist()
    assert counts == [[min(64, units), 4, 0]], "four selective units calibrate no set"


def test_noise_with_shuffled_weights_is_selective_at_the_stated_rate():
    counts = []
    for seed in range(3):
        maps, labels = patchwork(np.random.default_rng(seed), units=128)
        table = of_patchwork(maps, labels, tabulate=netdissect.with_control, seed=seed)
        counts.append(table[["shuffled_units", "shuffled_selective", "shuffled_named"]].to_numpy()[0])
    units, selective, named = np.sum(counts, axis=0)
    assert units > 150 and selective <= 0.05 * units and not named


@pytest.mark.parametrize("rows", [1, 4])
def test_noise_units_are_detectors_by_overlap_alone_and_not_selective(rows):
    """Bars of overlap call most of these units detectors; rows of one source image are one sample."""
    made = [patchwork(np.random.default_rng(run), rows=rows) for run in range(8)]
    tables = [of_patchwork(*each, rows=rows, seed=run) for run, each in enumerate(made)]
    p = np.stack([table.p_value for table in tables])
    assert (np.stack([table.iou for table in tables]) >= 0.04).mean() > 0.5
    assert 0.02 < (p <= 0.05).mean() < 0.08 and 0.4 < (p <= 0.5).mean() < 0.6
    assert sum((table.status != "not selective").any() for table in tables) <= 1
    assert not any(table.detector.any() for table in tables[:1])
    beyond = np.stack([table.held_out_iou for table in tables])
    assert abs(beyond.mean()) < 4 * beyond.mean(1).std(ddof=1) / np.sqrt(len(tables)) < 0.02, "chance is subtracted"


def test_planted_units_are_named_among_noise_units():
    truth = [1, 2, 3, 4, 5, 6, 7] * 2
    table = of_patchwork(*patchwork(np.random.default_rng(0), truth=truth))
    planted, noise = table[: len(truth)], table[len(truth) :]
    right = planted.mask_concept == MADE_WORDS.word.to_numpy()[np.array(truth) - 1]
    assert (right & (planted.status == "named") & planted.detector).mean() > 0.9
    assert (noise.status != "not selective").mean() < 0.2 and (planted.status[~right] != "named").all()
    assert (planted.held_out_iou[right] > 0.02).all() and planted.held_out_iou[right].mean() > 0.05
    assert abs(noise.held_out_iou.mean()) < 0.01


def test_label_maps_go_to_source_images_that_are_annotated_with_the_same_categories():
    """Half of the images have textures only, and units that are active on these; what texture it is does not matter."""
    maps, labels = patchwork(np.random.default_rng(3), images=80)
    labels[:40, 1], labels[40:, 0] = 0, 0
    maps[40:, :12] = np.minimum(maps[40:, :12], 0)
    table = of_patchwork(maps, labels)
    assert set(table.mask_category[:12]) == {"texture"} and (table.p_value <= 0.05).mean() < 0.13


def test_a_concept_of_fewer_than_five_source_images_does_not_compete():
    for shown, name in ((5, "a"), (4, "")):
        maps, labels = patchwork(np.random.default_rng(0), units=3)
        labels[:, 1], labels[labels == 1], labels[labels > 1] = 0, 0, 0
        labels[:shown, 0], labels[10:, 0], maps[:, 0] = 1, 2, 0
        maps[:shown, 0] = 1
        table = of_patchwork(maps, labels, share=0.2)
        assert table.mask_concept[0] == name and table.annotated_source_images[0] == shown + len(labels) - 10
        assert table.mask_source_images[0] == (5 if name else 0)


def test_overlaps_at_a_grid_of_every_pixel_are_those_of_all_pixels():
    rng = np.random.default_rng(4)
    maps, labels = (torch.from_numpy(each) for each in patchwork(rng, images=9, units=5))
    labels = labels.long()
    labels[0, 1] = labels[0, 0]  # the same concepts in both layers count once
    limits = torch.tensor([0.3, 0.5, 1, 9, -1.0])
    rows = np.arange(9)
    grid = mask_chance.join([mask_chance.on_grid(maps, labels, limits, rows, 99)], 9)
    both = torch.zeros(5, 8, dtype=torch.int64)
    for layer in grid.labels:
        both += (grid.unit * 8 + layer[grid.row, grid.point]).bincount(minlength=40).view(5, 8)
    category = torch.zeros(7, dtype=torch.int64)
    assert both[:, 1:].equal(units_netdissect.overlaps([(maps, labels)], limits, category).both)
    assert mask_chance.grid_side(512, 240, 0.01) == 28 and 7 < mask_chance.grid_side(512, 63_305, 0.005) < 12


def test_chance_on_a_half_is_that_of_all_exchanges_of_its_label_maps():
    """Rows 0 to 3 are the first half; those of four others with colors alone change places among themselves."""
    maps, labels = patchwork(np.random.default_rng(5), images=13, units=5)
    maps, labels = torch.from_numpy(maps), torch.from_numpy(labels.astype(int))
    labels[[2, 3, 10, 11], 0] = 0
    second, kinds = np.arange(13) >= 4, np.isin(np.arange(13), [2, 3, 10, 11])
    limits, category = torch.tensor([0.3, 0.1, 0.2, 0.4, 0.0]), torch.tensor([0, 0, 0, 0, 1, 1, 1])
    grid = mask_chance.join([mask_chance.on_grid(maps, labels, limits, np.arange(13), 99)], 13)
    shown = units_netdissect._present(labels.numpy(), 7)
    best = np.array([[0, 1, 2, 4, -1], [4, 5, 3, 0, 1]])
    sources, annotated = permutation.group_rows([*"abcdefghijklm"]), mask_chance.annotated_categories(shown, category)
    assert annotated.all(1).tolist() == (~kinds).tolist()
    ious = np.full((2, 5, 7), 0.9)
    found = mask_chance.held_out(grid, ious, best, category, shown, annotated, sources, second)
    masks = F.interpolate(maps, (16, 16), mode="bilinear", align_corners=False) > limits[:, None, None]
    expected = np.full((2, 5), np.nan)
    for half, unit in np.argwhere(best[::-1] >= 0):
        concept = best[1 - half, unit]
        mask, marked = masks[:, unit].numpy(), (labels == concept + 1).any(1).numpy()
        both = 0
        for kind in (False, True):
            rows = np.flatnonzero((second == half) & (kinds == kind))
            turns = [np.roll(rows, turn) for turn in range(len(rows))]
            both += np.mean([(mask[rows] & marked[turned]).sum() for turned in turns])
        rows = (second == half) & annotated[:, category[concept]]
        expected[half, unit] = 0.9 - both / (mask[rows].sum() + marked[rows].sum() - both)
    np.testing.assert_allclose(found, np.nanmean(expected, 0))
    shown[4:, 0] = False
    alone = mask_chance.held_out(grid, ious, best, category, shown, annotated, sources, second)
    assert alone[0] == pytest.approx(expected[0, 0]), "the second half does not show the first one's concept"


# ---- units labeled by annotations: the same evidence as with an encoder


def annotated_layer(seed=0, images=120):
    """Units 0 to 11 answer to a class, two to each, the others to nothing; a third of the images has no label."""
    rng = np.random.default_rng(seed)
    labels = np.where(np.arange(images) % 3 == 2, -1, rng.integers(0, 6, images))
    activations = rng.standard_normal((images, 40)).astype(np.float32)
    activations[:, :12] += 3 * (labels[:, None] == np.arange(12) % 6)
    block = {"images": np.zeros((images, 2, 2, 3), np.uint8), "label": labels}
    words = pd.DataFrame({"value": range(7), "word": ["crane", *"bcdef", "crane"], "category": "class"})
    features = label_maps.concept_features(block, np.arange(7), source="labels")
    ids = np.array([f"i{row}" for row in range(images)], dtype=object)
    shown = netdissect.shown_concepts(words, features, ids)
    given = {"features": features, "image_id": ids, "source_image": ids}
    axes = label_maps.concept_axes(len(words))[shown.index]
    concepts = {"features": axes, "word": shown.word.to_numpy(object), "category": shown.category.to_numpy(object)}
    return {"activations": activations, "image_id": ids}, given, concepts


@pytest.mark.parametrize("similarity", ["auc", "cos_similarity"])
def test_planted_units_are_named_by_labels_of_whole_images(similarity):
    names = unit_labels.ANNOTATIONS, unit_labels.ANNOTATIONS
    options = {"similarity": similarity, "seed": 0, "resamples": 10, "null_draws": 2000}
    table = labeling.label_table(*annotated_layer(), encoders=names, **options)
    own = table[:12]
    assert own.concept.tolist() == 2 * ["crane", *"bcdef"]  # the other crane is shown by no image
    assert (own.status.eq("named") & (own.kept > 0.8)).all() and (table.status[12:] == "named").mean() < 0.1
    assert (table.p_value[12:] <= 0.05).mean() < 0.15
    assert (own.first_half == own.concept).all() and (own.second_half == own.concept).all()
    assert set(own.set_size) == {1} and set(table.gap) == {0}
    assert own.held_out_auc.between(own.held_out_auc_low, own.held_out_auc_high).all()
    assert (own.held_out_auc_low > 0.8).all() and (own.held_out_difference_low > 1).all()
    noise = table[12:]
    assert abs(noise.held_out_auc.mean() - 0.5) < 0.1 and (noise.held_out_auc_high > 0.5).mean() > 0.8
    by_encoder = labeling.label_table(*annotated_layer(), encoders=("clip", "clip"), **options)
    assert by_encoder.status.equals(table.status) and by_encoder.held_out_auc.isna().all()


def test_words_of_an_encoder_are_tested_on_images_that_are_annotated_with_them(tmp_path):
    """On the same words they score as by annotations; a word that nothing is annotated with has no score."""
    activations, images, concepts = annotated_layer()
    store = {"image_id": images["image_id"], "source_image": images["source_image"], "features": images["features"]}
    for part, rows in enumerate((slice(0, 50), slice(50, None))):
        arrays.write_arrays(tmp_path / f"{part}.h5", {name: values[rows] for name, values in store.items()}, {})
    arrays.write_arrays(
        tmp_path / "words.h5", concepts | {"word": np.array([*"bcdef", "Crane"], object)[[5, 0, 1, 2, 3, 4]]}, {}
    )
    annotated = labeling.read_annotated([tmp_path / "0.h5", tmp_path / "1.h5"], tmp_path / "words.h5")
    assert labeling.read_annotated([], []) is None
    options = {"similarity": "cos_similarity", "seed": 0, "resamples": 2, "null_draws": 100}
    by_annotations = labeling.label_table(*annotated_layer(), encoders=2 * (unit_labels.ANNOTATIONS,), **options)
    table = labeling.label_table(activations, images, concepts, encoders=("clip",) * 2, annotated=annotated, **options)
    columns = [name for name in table if name.startswith(("held_out_auc", "held_out_difference"))]
    pd.testing.assert_frame_equal(table[:12][columns], by_annotations[:12][columns])
    fewer = annotated | {"shown": annotated["shown"][:, 1:], "word": annotated["word"][1:]}
    table = labeling.label_table(activations, images, concepts, encoders=("clip",) * 2, annotated=fewer, **options)
    own = table[:12].held_out_auc
    assert own[table.candidate[:12] == "crane"].isna().all() and own[table.candidate[:12] != "crane"].gt(0.8).all()
    with pytest.raises(ValueError, match="activations and annotations are not of the same images in the same order"):
        labeling.label_table(
            activations,
            images,
            concepts,
            encoders=("clip",) * 2,
            annotated=annotated | {"image_id": [*"abc"]},
            **options,
        )


def test_few_selective_units_have_no_names_by_annotations_either():
    names = unit_labels.ANNOTATIONS, unit_labels.ANNOTATIONS
    activations, images, concepts = annotated_layer()
    activations["activations"] = activations["activations"][:, 6:30]
    options = {"similarity": "auc", "seed": 0, "resamples": 2, "null_draws": 2000}
    table = labeling.label_table(activations, images, concepts, encoders=names, **options)
    assert (table.status[:6] == "selective").all() and set(table.gap) == {np.inf} and set(table.set_size) == {6}


def test_words_that_stand_twice_are_told_apart_and_concepts_that_few_images_show_left_out():
    words = pd.DataFrame({"value": [3, 4, 9], "word": ["crane", "crane", "rare"], "category": ["bird", "tool", "tool"]})
    features = np.array([[1, 1, 0, 0]] * 5 + [[0, 0, 1, 0]] * 8)
    sources = np.array([*"abcde", *"ffffghij"])
    shown = netdissect.shown_concepts(words, features, sources)
    assert shown.word.tolist() == ["crane (bird 3)", "crane (tool 4)", "rare"]
    sources[-1] = "f"
    assert netdissect.shown_concepts(words, features, sources).index.tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"no concept is shown by 5 source images or more, .* most are shown by 3"):
        netdissect.shown_concepts(words, features, np.array(list("aabbc" + "ffffgghh")))


def test_folders_name_their_classes(tmp_path):
    rows = [
        "image_id,path,label,class_name,duplicate_of",
        "a,a.png,1,'=b,",
        "b,b.png,0,a,",
        "c,c.png,1,'=b,",
        "d,d.png,,,",
    ]
    (tmp_path / "probe.csv").write_text("\n".join(rows) + "\n")
    words = netdissect.mask_words(labels=str(tmp_path / "probe.csv"), ours=True)
    assert words.to_dict("list") == {"value": [0, 1], "word": ["a", "=b"], "category": ["class"] * 2}
    (tmp_path / "classes.csv").write_text("x\ny\n")
    assert netdissect.mask_words(labels=str(tmp_path / "classes.csv")).word.tolist() == ["x", "y"]
