"""Masks, IoU and rank correlation of saliency maps, against hand-computed answers and scipy."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from unitlens.explainers import run
from unitlens.explainers.masks import equal_area_mask, iou, peak_share_mask
from unitlens.measures import agreement, sanity
from unitlens.report import evaluation_findings
from unitlens.tables import agreement as agreement_tables
from unitlens.tables import resampling, summaries


def sparse_map(first: int, count: int, side: int = 100) -> torch.Tensor:
    """Zero everywhere but at `count` pixels in reading order, which descend from 1."""
    saliency = torch.zeros(side * side)
    saliency[first : first + count] = torch.linspace(1, 0.5, count)
    return saliency.view(side, side)


def test_equal_area_mask_marks_the_largest_pixels():
    saliency = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.0], [0.4, 0.5, 0.7]])
    mask = equal_area_mask(saliency, 1 / 3)
    assert mask.tolist() == [[False, True, False], [True, False, False], [False, False, True]]


@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.501, 1.0])
def test_equal_area_mask_has_the_exact_area_even_on_a_constant_map(fraction):
    mask = equal_area_mask(torch.zeros(2, 7, 9), fraction)
    assert mask.sum((1, 2)).tolist() == [round(fraction * 63)] * 2


def test_ties_are_taken_in_random_order():
    saliency = sparse_map(0, 500)
    mask = equal_area_mask(saliency, 0.2)
    assert mask.view(-1)[:500].all()
    share_per_fifth = mask.view(-1)[500:].view(5, -1).double().mean(1)
    assert torch.allclose(share_per_fifth, torch.full((5,), 1500 / 9500, dtype=torch.float64), atol=0.03)
    assert not mask.equal(equal_area_mask(saliency, 0.2, seed=1))


def test_two_disjoint_sparse_maps_score_by_chance():
    a, b = sparse_map(0, 500), sparse_map(5000, 500)
    scores = torch.stack([agreement.equal_area_iou(a, b, 0.2, seeds=(2 * i, 2 * i + 1)) for i in range(20)])
    # each mask: 500 own pixels and 1500 of 9500 tied ones; expected overlap 2 * 500 * p + 9000 * p^2 with p = 1500/9500
    p = 1500 / 9500
    overlap = 2 * 500 * p + 9000 * p**2
    assert scores.mean().item() == pytest.approx(overlap / (4000 - overlap), abs=0.002)
    assert overlap / (4000 - overlap) == pytest.approx(0.106, abs=5e-4)
    assert agreement.chance_iou(0.2) == pytest.approx(1 / 9)


def test_identical_maps_without_ties_agree_fully():
    saliency = torch.rand(3, 11, 13, generator=torch.Generator().manual_seed(0))
    assert agreement.equal_area_iou(saliency, saliency, 0.2).tolist() == [1.0] * 3
    assert agreement.spearman(saliency, saliency).tolist() == pytest.approx([1.0] * 3)
    assert agreement.peak_distance(saliency, saliency).tolist() == [0.0] * 3


def test_the_ceiling_is_what_a_map_scores_against_itself_with_ties_drawn_again():
    for support, ceiling in ((0.02, 0.154), (0.05, 0.226), (0.10, 0.387), (0.15, 0.624)):
        own = sparse_map(0, round(support * 10000))
        drawn = [agreement.equal_area_iou(own, own, 0.2, seeds=(2 * i, 2 * i + 1)).item() for i in range(20)]
        assert agreement.self_iou(own, 0.2).item() == pytest.approx(np.mean(drawn), abs=0.003)
        assert agreement.self_iou(own, 0.2).item() == pytest.approx(ceiling, abs=0.006)
    assert agreement.self_iou(torch.stack([sparse_map(0, 2000), sparse_map(5, 3000)]), 0.2).tolist() == [1, 1]


def smooth_maps(n, *, kind, seed, side=24):
    """Maps of as many images: coarse noise, an explainer's own and the image's, times a Gaussian in the middle."""
    prior = sanity.centered_gaussian((side, side))
    image, own = (sanity.random_saliency((side, side), seeds=range(start, start + n)) for start in (seed, kind))
    return (own + 0.5 * image) * prior


def explained(a, b, ids, source_images):
    known = {"label": [0] * len(a), "predicted": [0] * len(a)}
    return explanations({"a": a.numpy(), "b": b.numpy()}, ids=ids, source_images=source_images, **known)


def matched(a, b, source_images=None, **options):
    ids = [f"i{number}" for number in range(len(a))]
    files = explained(a, b, ids, source_images or ids)
    options = {"area": 0.2, "areas": [], "threshold": 0.5, "seed": 0} | options
    return agreement_tables.match(files, **options).set_index("measure")


def test_chance_is_what_maps_of_other_images_score():
    n = 40
    a, b = (smooth_maps(n, kind=kind, seed=10**6) for kind in (1, 10**3))
    row = matched(a, b).loc["equal_area_iou"]
    others = [smooth_maps(200, kind=kind, seed=seed) for kind, seed in ((10**4, 10**7), (10**5, 10**8))]
    level = agreement.equal_area_iou(*others, 0.2).mean().item()
    assert row["chance"] == pytest.approx(level, abs=0.02)
    assert level > agreement.chance_iou(0.2) + 0.2, "the floor is no chance level of smooth maps"
    assert row["matched"] == n and row["p_value"] < 0.001
    own = agreement.equal_area_iou(a, b, 0.2, seeds=(list(range(n)), list(range(n, 2 * n)))).mean().item()
    assert row["chance"] + row["excess"] == pytest.approx(own, abs=0.005)
    assert row["excess_low"] < row["excess"] < row["excess_high"]


def test_what_is_compared_across_images_says_where_it_was_cut():
    rows = matched(torch.rand(3, 4, 4), torch.rand(3, 4, 4))
    assert rows.loc[["equal_area_iou", "threshold_iou"], "cut"].tolist() == [0.2, 0.5]
    assert rows.loc[["spearman", "peak_distance", "peak_distance_pixels"], "cut"].isna().all()


def test_every_measure_is_compared_across_images_by_hand():
    a = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0))
    b = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(1))
    options = {"areas": [0.2], "threshold": 0.4}
    maps, seeds = {"a": a, "b": b}, {"a": [1, 2, 3], "b": [4, 5, 6]}
    crossed = agreement.cross_scores(maps, seeds, **options)
    for i in range(3):
        for j in range(3):
            one = {"a": a[i : i + 1], "b": b[j : j + 1]}
            alone = agreement.score_block(one, {"a": seeds["a"][i : i + 1], "b": seeds["b"][j : j + 1]}, **options)
            assert crossed.keys() == alone.keys()
            assert all(crossed[key][i, j] == pytest.approx(alone[key][0][0]) for key in alone)


def test_equal_peaks_are_at_no_distance_however_many_images_there_are():
    maps = torch.zeros(30, 40, 50)
    for number, own in enumerate(maps):  # their peaks lie between pixels
        own[number, number + 9 : number + 11] = own[number + 1, number + 10] = 1
    scores = agreement.cross_scores({"a": maps, "b": maps}, {"a": range(30), "b": range(30)}, areas=[], threshold=0.5)
    assert not scores["a", "b", "peak_distance_pixels", None].diagonal().any()


def test_crops_of_one_source_image_are_not_compared_as_different_images():
    a, b = (smooth_maps(6, kind=kind, seed=10**6) for kind in (1, 10**3))
    scores = agreement.cross_scores({"a": a, "b": b}, {"a": range(6), "b": range(6, 12)}, areas=[0.2], threshold=0.5)
    own = scores["a", "b", "equal_area_iou", 0.2]
    result = resampling.matching(own, groups=[*"pppqqr"])
    between = [own[:3, 3:5], own[:3, 5:], own[3:5, :3], own[3:5, 5:], own[5:, :3], own[5:, 3:5]]
    assert result.n_groups == 3
    assert result.chance == pytest.approx(np.mean([block.mean() for block in between]))
    diagonal = np.mean([own.diagonal()[:3].mean(), own.diagonal()[3:5].mean(), own[5, 5]])
    assert result.excess == pytest.approx(diagonal - result.chance)
    assert math.isnan(matched(a[:2], b[:2], ["p", "p"]).loc["spearman", "chance"]), "there is no other source image"


def test_images_without_a_map_are_left_out_of_the_chance():
    a, b = (smooth_maps(6, kind=kind, seed=10**6) for kind in (1, 10**3))
    a[2], b[4] = 0, 1
    rows = matched(a, b)
    flat = dict.fromkeys(("spearman", "peak_distance", "peak_distance_pixels"), 4)
    assert rows["matched"].to_dict() == {"equal_area_iou": 5, "threshold_iou": 5} | flat
    kept = [0, 1, 3, 5]
    ids = [f"i{number}" for number in kept]
    fewer = explained(a[kept], b[kept], ids, ids)
    options = {"area": 0.2, "areas": [], "threshold": 0.5, "seed": 0}
    other = agreement_tables.match(fewer, **options).set_index("measure")
    assert rows.loc["spearman", "chance"] == pytest.approx(other.loc["spearman", "chance"])
    nothing = agreement_tables.match(explained(a[:0], b[:0], [], []), **options)
    assert len(nothing) == 5 and nothing["chance"].isna().all() and nothing["matched"].eq(0).all()


def test_constant_maps_agree_by_chance_only():
    flat = torch.zeros(200, 200)
    assert agreement.equal_area_iou(flat, flat, 0.3).item() == pytest.approx(agreement.chance_iou(0.3), abs=0.01)


def test_an_image_does_not_depend_on_its_batch():
    a = torch.stack([sparse_map(10 * i, 300, side=40) for i in range(4)])
    b = torch.stack([sparse_map(200 * i, 300, side=40) for i in range(4)])
    seeds = ([3, 5, 7, 9], [4, 6, 8, 10])
    together = agreement.equal_area_iou(a, b, 0.4, seeds=seeds)
    alone = [agreement.equal_area_iou(a[i], b[i], 0.4, seeds=(seeds[0][i], seeds[1][i])) for i in (2, 0, 3, 1)]
    assert together[[2, 0, 3, 1]].tolist() == [score.item() for score in alone]
    batched = equal_area_mask(a, 0.4, seed=5)
    assert all(batched[i].equal(equal_area_mask(a[i], 0.4, seed=5)) for i in range(4))


def test_iou_by_hand():
    a = torch.tensor([[[1, 1], [0, 0]], [[1, 1], [1, 1]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], dtype=torch.bool)
    b = torch.tensor([[[1, 0], [1, 0]], [[1, 1], [1, 1]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]], dtype=torch.bool)
    scores = iou(a, b)
    assert scores[:3].tolist() == [1 / 3, 1.0, 0.0]
    assert scores[3].isnan()
    assert iou(a[0].numpy(), b[0].numpy()).item() == 1 / 3


def test_peak_share_mask_is_strict_and_of_each_maps_own_maximum():
    saliency = torch.tensor([[[0.0, 0.5], [0.6, 1.0]], [[2.0, 1.0], [1.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert peak_share_mask(saliency, 0.5).tolist() == [
        [[False, False], [True, True]],
        [[True, False], [True, False]],
        [[False, False], [False, False]],
    ]


def test_tied_share_by_hand():
    saliency = torch.tensor([[9.0, 8.0, 1.0, 1.0, 1.0]])
    assert agreement.tied_share(saliency, 0.4).item() == 0.0
    assert agreement.tied_share(saliency, 0.6).item() == pytest.approx(1 / 3)
    assert agreement.tied_share(saliency, 0.8).item() == pytest.approx(2 / 4)
    assert agreement.tied_share(saliency, 1.0).item() == 0.0  # all tied pixels are marked: nothing to choose
    assert agreement.tied_share(torch.zeros(2, 4, 5), 0.5).tolist() == [1.0, 1.0]
    assert agreement.tied_share(sparse_map(0, 500), 0.2).item() == pytest.approx(0.75)


def test_spearman_is_scipys_with_ties():
    generator = torch.Generator().manual_seed(1)
    a = torch.randint(0, 4, (3, 8, 9), generator=generator).float()
    b = a + torch.randint(0, 6, (3, 8, 9), generator=generator)
    expected = [stats.spearmanr(x.view(-1), y.view(-1)).statistic for x, y in zip(a, b, strict=True)]
    assert agreement.spearman(a, b).tolist() == pytest.approx(expected, abs=1e-12)
    assert agreement.spearman(a, -a).tolist() == pytest.approx([-1.0] * 3)
    assert agreement.spearman(a[0], torch.zeros(8, 9)).isnan()


def test_peak_distance_by_hand():
    a, b = torch.zeros(2, 6, 8)
    a[1, 2] = 1
    b[4, 5:8] = 1  # its peak is the middle of the three
    assert agreement.peak_distance(a, b).item() == pytest.approx(5.0)  # 3 down, 4 to the right
    assert agreement.peak_distance(a, torch.ones(6, 8)).isnan()


def test_bad_input_is_named():
    saliency = torch.rand(2, 4, 4)
    with pytest.raises(ValueError, match=r"`saliency` goes down to -0\.5; allowed: 0 or more"):
        peak_share_mask(torch.tensor([[0.0, -0.5]]), 0.5)
    broken = saliency.clone()
    broken[1, 2, 3] = math.nan
    for measure in (agreement.spearman, agreement.peak_distance):
        with pytest.raises(ValueError, match=r"NaN at \(1, 2, 3\)"):
            measure(saliency, broken)
    with pytest.raises(ValueError, match=r"`fraction` is 0\.01: 0 pixels"):
        equal_area_mask(saliency, 0.01)
    with pytest.raises(ValueError, match=r"`fraction` is 1\.5"):
        agreement.tied_share(saliency, 1.5)
    with pytest.raises(ValueError, match="3 seeds for 2 images"):
        equal_area_mask(saliency, 0.5, seed=[1, 2, 3])
    with pytest.raises(ValueError, match=r"got \(2, 4, 4\) and \(4, 4\)"):
        iou(saliency > 0.5, saliency[0] > 0.5)
    with pytest.raises(ValueError, match="`b` is no mask"):
        iou(saliency > 0.5, saliency)


# tables of images and pairs


ORIGIN = {"model": "m", "explained_class": "predicted", "geometry": "g"}


def explanations(maps, *, ids="xy", source_images="pp", label=(0, 0), predicted=(0, 0)):
    """Files of explanations, one a name of `maps`."""
    images = {"image_id": np.array([*ids], dtype=object), "source_image": np.array([*source_images], dtype=object)}
    images |= {"label": np.array(label), "predicted": np.array(predicted)}
    return [({**images, "saliency": np.array(own)}, {**ORIGIN, "explainer": name}) for name, own in maps.items()]


def table_of(values, source_images, **columns):
    """Scores as `score_pairs` gives them, an image a value."""
    columns = {"explainer_a": "lime", "explainer_b": "cam", "measure": "equal_area_iou", "cut": 0.2} | columns
    columns = {**ORIGIN, "prediction": np.nan, **columns, "floor": 1 / 9, "tied_share": [0.5] * len(values)}
    columns["ceiling"] = 0.8
    images = [f"{source_image}{number}" for number, source_image in enumerate(source_images)]
    return pd.DataFrame({"value": values, "source_image": list(source_images), "image_id": images, **columns})


def matching_of(*rows):
    """A table as of `match`: of (explainer_a, explainer_b, chance, excess, p_value), all the equal-area IoU at 0.2."""
    columns = ["explainer_a", "explainer_b", "chance", "excess", "p_value"]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], float))
    facts = {**ORIGIN, "measure": "equal_area_iou", "cut": 0.2, "matched": 5, "excess_low": 0.1, "excess_high": 0.3}
    return table.assign(**facts)


def summarized(scores, *matching):
    return agreement_tables.summarize(scores, matching_of(*matching))


def test_pairs_are_scored_by_hand():
    maps = {
        "a": [[[9.0, 8.0, 1.0, 0.0]], [[0.0, 0.0, 0.0, 0.0]]],
        "b": [[[7.0, 1.0, 6.0, 0.0]], [[4.0, 3.0, 2.0, 1.0]]],
        "c": [[[0.0, 1.0, 2.0, 3.0]], [[4.0, 3.0, 2.0, 1.0]]],
    }
    files = explanations(maps, label=[1, -1])
    table = agreement_tables.score_pairs(files, area=0.5, areas=[0.25, 1], threshold=0.4, seed=0)
    assert len(table) == 3 * 7 * 2  # pairs, three areas and four other measures, images
    assert table.index.equals(pd.RangeIndex(len(table)))
    assert table.columns[:3].tolist() == [*ORIGIN] and table["model"].unique().tolist() == ["m"]
    assert table.set_index("image_id").loc["x", "prediction"].unique().tolist() == ["wrong"]
    assert table.set_index("image_id").loc["y", "prediction"].isna().all()
    table = table.set_index(["explainer_a", "explainer_b", "measure", "cut", "image_id"]).sort_index()
    assert table.loc[("a", "b"), "source_image"].unique().tolist() == ["p"]

    equal_area = table.loc[("a", "b", "equal_area_iou", 0.5)]
    assert equal_area.loc["x", ["value", "floor", "tied_share", "ceiling"]].tolist() == [
        pytest.approx(1 / 3),
        pytest.approx(1 / 3),
        0,
        1,
    ]
    without = table.loc[("a", "b")].xs("y", level="image_id")  # a is zero everywhere there: no map, no score
    assert without[["value", "tied_share", "ceiling"]].isna().all(axis=None)
    assert table.loc[("a", "b", "equal_area_iou", 0.25, "x"), ["value", "floor"]].tolist() == [1, 0.25 / 1.75]
    assert (table.loc[("b", "c", "equal_area_iou", 1.0), ["value", "floor"]] == 1).all(axis=None)
    threshold = table.loc[("a", "b", "threshold_iou", 0.4)]
    assert threshold.loc["x", "value"] == pytest.approx(1 / 3)
    assert threshold["floor"].isna().all()
    table = table.droplevel("cut")
    spearman = table.loc[("a", "b", "spearman")]
    assert spearman.loc["x", "value"] == pytest.approx(0.8)  # ranks 4 3 2 1 and 4 2 3 1: 1 - 6 * 2 / (4 * 15)
    assert spearman["tied_share"].isna().all() and spearman["floor"].tolist() == [0, 0]
    assert table.loc[("a", "c", "peak_distance"), "floor"].isna().all()
    assert math.isnan(spearman.loc["y", "value"])
    assert table.loc[("b", "c", "spearman", "y"), "value"].item() == pytest.approx(1)
    assert table.loc[("a", "c", "peak_distance_pixels", "x"), "value"].item() == 3
    assert table.loc[("a", "c", "peak_distance", "x"), "value"].item() == pytest.approx(3 / 17**0.5)


def test_masks_of_the_table_are_those_of_the_masks_file():
    files = explanations({"a": np.ones((2, 6, 6)), "b": np.ones((2, 6, 6))})
    masks = run.cut_masks(files, area=0.5, threshold=0.5, seed=3)
    table = agreement_tables.score_pairs(files, area=0.5, areas=[0.5], threshold=0.5, seed=3)
    expected = iou(masks["a:equal_area"], masks["b:equal_area"]).tolist()
    assert table[table["measure"] == "equal_area_iou"]["value"].tolist() == expected
    other = agreement_tables.score_pairs(files, area=0.5, areas=[0.5], threshold=0.5, seed=4)
    assert other[other["measure"] == "equal_area_iou"]["value"].tolist() != expected


def test_files_of_other_images_are_refused():
    files = explanations({"a": np.zeros((2, 2, 2))}) + explanations({"b": np.zeros((2, 2, 2))}, ids="xz")
    with pytest.raises(ValueError, match="the explanations by b are of other images than those by a"):
        agreement_tables.score_pairs(files, area=0.5, areas=[], threshold=0.5, seed=0)


def test_the_summary_takes_source_images_as_groups():
    values, source_images = [0.1, 0.2, 0.3, 0.8, 0.9, 0.4, 0.5, 0.1], "ppqqrrst"
    (row,) = summarized(table_of(values, source_images)).to_dict("records")
    *_, low, high = resampling.mean_with_interval(values, groups=list(source_images))
    assert (row["n"], row["source_images"], row["undefined"]) == (8, 5, 0)
    assert row["mean"] == pytest.approx(3.3 / 8)
    assert (row["low"], row["high"]) == (low, high)
    assert (row["low"], row["high"]) != resampling.mean_with_interval(values)[3:]
    assert (row["floor"], row["tied_share"], row["ceiling"], row["cut"]) == (1 / 9, 0.5, pytest.approx(0.8), 0.2)


def test_undefined_scores_are_counted_and_left_out():
    values = [0.1, math.nan, 0.3, 0.5, math.nan]
    (row,) = summarized(table_of(values, "pqrst")).to_dict("records")
    assert (row["n"], row["source_images"], row["undefined"], row["mean"]) == (3, 3, 2, pytest.approx(0.3))
    (row,) = summarized(table_of([math.nan, math.nan], "pq")).to_dict("records")
    assert (row["n"], row["source_images"], row["undefined"]) == (0, 0, 2)
    assert all(math.isnan(row[name]) for name in ("mean", "low", "high"))


def test_fewer_than_three_source_images_give_no_interval():
    (row,) = summarized(table_of([0.2, 0.4, 0.6, 0.8], "ppqq")).to_dict("records")
    assert (row["n"], row["source_images"], row["mean"]) == (4, 2, pytest.approx(0.5))
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])


def test_models_pairs_and_measures_are_kept_apart():
    scores = pd.concat(
        [
            table_of([0.2] * 5, "pqrst"),
            table_of([0.4] * 5, "pqrst", measure="spearman", cut=math.nan),
            table_of([0.6] * 5, "pqrst", explainer_b="rise"),
            table_of([0.8] * 5, "pqrst", model="other"),
        ]
    )
    summary = summarized(scores)
    assert summary["mean"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert summary.low.tolist() == summary.high.tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert summary.cut.tolist() == pytest.approx([0.2, math.nan, 0.2, 0.2], nan_ok=True)
    assert summary.model.tolist() == ["m", "m", "m", "other"]
    shuffled = summarized(scores.sample(frac=1, random_state=0))
    keys = ["model", "explainer_b", "measure"]
    pd.testing.assert_frame_equal(
        shuffled.sort_values(keys, ignore_index=True), summary.sort_values(keys, ignore_index=True)
    )


def test_right_and_wrong_predictions_are_summarized_apart():
    scores = table_of([0.1, 0.2, 0.3, 0.8], "pqrs", prediction=["right", "right", np.nan, "wrong"])
    summary = summarized(scores).set_index("subset")
    assert summary["n"].to_dict() == {"all": 4, "right": 2, "wrong": 1}
    assert summary["mean"].to_dict() == pytest.approx({"all": 0.35, "right": 0.15, "wrong": 0.8})
    assert summary.loc[["right", "wrong"], "low"].isna().all()


def test_headline_and_tests_are_of_one_area():
    scores = pd.concat(
        [
            table_of([0.3, 0.4, 0.5], "pqr", cut=1 / 3, prediction="right"),
            table_of([0.1, 0.2, 0.3], "pqr", cut=1 / 3, explainer_b="rise", prediction="right"),
            table_of([0.9, 0.9, 0.9], "pqr", cut=0.5, prediction="right"),
            table_of([1.0, 2.0, 3.0], "pqr", measure="peak_distance", cut=np.nan, prediction="right"),
        ]
    )
    rounded = summarized(scores).round(6)  # as tables are written
    assert agreement_tables.headline(rounded, area=1 / 3)["mean"].tolist() == pytest.approx([0.4, 0.2])
    (test,) = agreement_tables.compare_pairs(scores.round(6), area=1 / 3, seed=7).to_dict("records")
    assert test["seed"] == 7
    assert (test["pair_a"], test["pair_b"]) == ("lime & cam", "lime & rise")
    assert (test["difference"], test["n"], test["p_value"]) == (pytest.approx(0.2), 3, 0.25)


def test_rank_correlations_are_tested_too_and_adjusted_by_themselves():
    """Of one pair of explainers by two measures, both with a p-value that two tests would double; none by distance."""
    measures = {"spearman": [0.5, 0.6, 0.7], "equal_area_iou": [0.3, 0.4, 0.5], "peak_distance": [1, 2, 3]}
    scores = pd.concat(
        table_of([value - step for value in values], "pqr", explainer_b=name, measure=measure, cut=cut)
        for (measure, values), cut in zip(measures.items(), (math.nan, 0.2, math.nan), strict=True)
        for name, step in (("cam", 0), ("rise", 0.1))
    )
    tests = agreement_tables.compare_pairs(scores, area=0.2)
    assert tests["measure"].tolist() == ["spearman", "equal_area_iou"]
    pair = matching_of(("lime", "cam", 0.3, 0.1, 0.02))
    matching = pd.concat([pair, pair.assign(measure="spearman", cut=math.nan)], ignore_index=True)
    summary = agreement_tables.summarize(scores[scores["explainer_b"] == "cam"], matching)
    assert summary.set_index("measure")["p_adjusted"].to_dict() == pytest.approx(
        {"spearman": 0.02, "equal_area_iou": 0.02, "peak_distance": math.nan}, nan_ok=True
    )


def test_findings_say_what_the_numbers_say():
    scores = pd.concat(
        [
            table_of([0.3, 0.4, 0.4, 0.4, 0.5], "pqrst", explainer_b="gradcam-x"),
            table_of([0.1, 0.1, 0.1, 0.1, 0.1], "pqrst", explainer_b="scorecam-x"),
        ]
    )
    matching = [("lime", "gradcam-x", 0.3, 0.1, 0.02), ("lime", "scorecam-x", 0.15, -0.05, 0.2)]
    summary, tests = summarized(scores, *matching), agreement_tables.compare_pairs(scores, area=0.2)
    assert summary["p_adjusted"].tolist() == [0.04, 0.2]
    assert evaluation_findings.agreement_findings(summary, tests, area=0.2) == [
        "m: cut at 20 % of the image, LIME and Grad-CAM agree most: IoU 0.40 (95 % interval 0.30 to 0.50, n = 5), "
        "+0.10 to the 0.30 of maps of different source images; LIME and Score-CAM least: 0.10 (no interval, for all "
        "values are equal; n = 5), -0.05 to the 0.15 of maps of different source images. Unrelated pixels have 0.11, "
        "and ties alone keep the first pair below 0.80. On the same source image 1 of 2 pairs agrees more than on "
        "different ones (source images permuted, p < 0.05 adjusted for 2 tests; smallest p = 0.04). The first pair "
        "agrees more than 0 of 1 other pair (paired permutation test by source image, p < 0.05 adjusted for 1 test: "
        "one clear result alone can give no less than 0.062 at n = 5; smallest p = 0.062)."
    ]


def test_label_0_is_a_label():
    arrays, facts = explanations({"a": np.zeros((3, 2, 2))}, ids="xyz", source_images="ppp")[0]
    arrays |= {"label": np.array([0, 0, -1]), "predicted": np.array([0, 1, 0])}
    assert summaries.image_table(arrays, facts)["prediction"].fillna("none").tolist() == ["right", "wrong", "none"]


def test_findings_name_the_first_and_the_last_of_all_pairs_and_its_own_tests():
    means = {("a", "b"): 0.3, ("a", "c"): 0.5, ("b", "c"): 0.1}
    scores = pd.concat(
        table_of([mean, mean + 0.01, mean - 0.01], "pqr", explainer_a=a, explainer_b=b, model=model)
        for model in ("z", "m")
        for (a, b), mean in means.items()
    )
    summary, tests = summarized(scores), agreement_tables.compare_pairs(scores, area=0.2)
    sentences = evaluation_findings.agreement_findings(summary, tests, area=0.2)
    assert [sentence[:2] for sentence in sentences] == ["z:", "m:"]
    for sentence in sentences:
        assert "a and c agree most: IoU 0.50" in sentence and "b and c least: 0.10" in sentence
        assert "more than 0 of 2 other pairs" in sentence
