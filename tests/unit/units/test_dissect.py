"""The five similarities against plain loops, and labels, top images and dead units by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from unitlens.tables import labeling, unit_labels
from unitlens.units import dissect, exemplars
from unitlens.units.dissect import factors_at_once, hard_terms

N_IMAGES, N_UNITS, N_CONCEPTS, DIMENSION = 120, 7, 11, 6


@pytest.fixture
def inputs():
    """Random activations after a ReLU, features whose cosines are mostly positive, neither normalized."""
    rng = np.random.default_rng(0)
    activations = np.maximum(rng.normal(0.3, 1, (N_IMAGES, N_UNITS)), 0)
    images = rng.normal(0.4, 1, (N_IMAGES, DIMENSION)) * 3
    texts = rng.normal(0.4, 1, (N_CONCEPTS, DIMENSION)) * 5
    return activations, images, texts


def cosines(images, texts):
    return np.array([[i @ t / math.sqrt((i @ i) * (t @ t)) for t in texts] for i in images])


def descending_order(column):
    return sorted(range(len(column)), key=lambda row: (-column[row], row))


def loop_information(activations, images, texts, top_k, a, lam, log_term):
    n_units = activations.shape[1]
    exponentials = np.exp(a * cosines(images, texts))
    softmax = exponentials / exponentials.sum(1, keepdims=True)
    likelihood = np.zeros((n_units, len(texts)))
    for unit in range(n_units):
        for rank, row in enumerate(descending_order(activations[:, unit])[:top_k]):
            for concept in range(len(texts)):
                likelihood[unit, concept] += log_term(rank, softmax[row, concept])
    prior = [math.log(sum(math.exp(x) for x in column) / n_units) for column in likelihood.T]
    return likelihood - lam * np.array(prior)


def loop_soft_wpmi(activations, images, texts):
    def log_term(rank, s):
        p = 0.998 - rank / 100 * (0.998 - 0.97)
        return math.log(1 + p * (s - 1) + 1e-7)

    return loop_information(activations, images, texts, 100, 10, 1.0, log_term)


def loop_wpmi(activations, images, texts):
    return loop_information(activations, images, texts, 28, 2, 0.6, lambda rank, s: math.log(s + 1e-7))


def loop_rank_reorder(activations, images, texts, seed=0):
    cosine = cosines(images, texts)
    n_top = int(0.05 * len(images))
    generator = torch.Generator().manual_seed(seed)
    permutations = [torch.randperm(n_top, generator=generator).tolist() for _ in range(5)]
    scores = np.zeros((activations.shape[1], len(texts)))
    for unit, column in enumerate(activations.T):
        rows = descending_order(column)[:n_top]
        t = [column[row] for row in rows]
        s = t[::-1]
        base = np.mean([abs(s[i] - s[j]) ** 3 for order in permutations for i, j in enumerate(order)])
        for concept in range(len(texts)):
            c = [cosine[row, concept] for row in rows]
            reordered = [s[sum(other < one for other in c)] for one in c]
            error = np.mean([abs(x - y) ** 3 for x, y in zip(t, reordered, strict=True)])
            mean = np.mean(c)
            scores[unit, concept] = -error / base / mean**0.5 if mean > 0 else -np.inf
    return scores


def loop_cos_similarity(activations, images, texts):
    cosine = cosines(images, texts)
    return np.array(
        [[u @ c / (np.linalg.norm(u) * np.linalg.norm(c)) for c in cosine.T] for u in activations.T],
    )


def loop_cos_similarity_cubed(activations, images, texts):
    def prepared(column):
        cubed = (column - column.mean()) ** 3
        return cubed / max(np.linalg.norm(cubed), 1e-3)

    cosine = cosines(images, texts)
    return np.array([[prepared(u) @ prepared(c) for c in cosine.T] for u in activations.T])


def loop_auc(activations, images, texts):
    cosine = cosines(images, texts)
    known = [row for row in range(len(images)) if max(cosine[row]) > 0]
    scores = np.zeros((activations.shape[1], len(texts)))
    for unit, column in enumerate(activations.T):
        for concept in range(len(texts)):
            shown = [column[row] for row in known if cosine[row, concept] > 0]
            others = [column[row] for row in known if cosine[row, concept] <= 0]
            wins = [(one > other) + (one == other) / 2 for one in shown for other in others]
            scores[unit, concept] = np.mean(wins) if wins else np.nan
    return scores


LOOPS = {
    "soft_wpmi": loop_soft_wpmi,
    "wpmi": loop_wpmi,
    "rank_reorder": loop_rank_reorder,
    "cos_similarity": loop_cos_similarity,
    "cos_similarity_cubed": loop_cos_similarity_cubed,
    "auc": loop_auc,
}
each_similarity = pytest.mark.parametrize("name", LOOPS)


def test_every_similarity_has_a_loop_to_compare_with():
    assert dissect.SIMILARITIES.keys() == LOOPS.keys()


@each_similarity
def test_scores_are_those_of_plain_loops(name, inputs):
    scores = dissect.SIMILARITIES[name](*inputs)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores, LOOPS[name](*inputs), rtol=1e-9, atol=1e-9)


@each_similarity
def test_single_precision_is_close(name, inputs):
    scores = dissect.SIMILARITIES[name](*(torch.from_numpy(array).float() for array in inputs))
    np.testing.assert_allclose(scores, LOOPS[name](*inputs), rtol=1e-4, atol=1e-4)


def test_concepts_far_from_all_images_fall_under_the_floor(inputs):
    activations, images, texts = inputs
    nearly_equal = images[:1] + images * 1e-3
    expected = loop_cos_similarity_cubed(activations, nearly_equal, texts)
    assert np.abs(expected).max() < 1e-4
    scores = dissect.cos_similarity_cubed(activations, nearly_equal, texts)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-15)


def test_auc_by_hand():
    """Images of which nothing is known take no part; a concept that all others have, or none, is no candidate."""
    shares = np.array([[0.5, 1, 0], [0, 1, 0], [1, 0.2, 0], [0, 0.9, 0], [0, 0, 0]])
    images = np.hstack([shares / 2, np.sqrt(1 - np.square(shares / 2).sum(1, keepdims=True))])
    activations = np.array([[3.0, 1], [2, 1], [2, 1], [0, 0], [9, 0]])
    found = dissect.auc(activations, images, np.eye(3, 4))
    np.testing.assert_allclose(found, [[7 / 8, np.nan, np.nan], [3 / 4, np.nan, np.nan]])
    assert dissect.label(found).concept.tolist() == [0, 0]


def test_the_seed_of_rank_reorder_changes_its_scale_only(inputs):
    first, second = (dissect.rank_reorder(*inputs, seed=seed) for seed in (0, 5))
    np.testing.assert_allclose(second, loop_rank_reorder(*inputs, seed=5), rtol=1e-9)
    finite = first.isfinite()
    ratio = (first / second).where(finite, torch.nan)
    assert not first.equal(second)
    assert torch.allclose(ratio[finite], ratio.nanmean(1, keepdim=True).expand_as(ratio)[finite])


@each_similarity
@pytest.mark.parametrize("block_elements", [1, 40, 500])
def test_block_size_does_not_change_scores(name, block_elements, inputs, monkeypatch):
    expected = dissect.SIMILARITIES[name](*inputs)
    monkeypatch.setattr(exemplars, "BLOCK_ELEMENTS", block_elements)
    np.testing.assert_allclose(dissect.SIMILARITIES[name](*inputs), expected, rtol=1e-10, atol=1e-12)


@each_similarity
def test_row_order_does_not_change_scores(name, inputs):
    activations, images, texts = inputs
    activations = activations + np.random.default_rng(1).random(activations.shape)  # no ties
    order = np.random.default_rng(2).permutation(N_IMAGES)
    expected = dissect.SIMILARITIES[name](activations, images, texts)
    scores = dissect.SIMILARITIES[name](activations[order], images[order], texts)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


@each_similarity
def test_scale_of_features_does_not_matter(name, inputs):
    activations, images, texts = inputs
    scores = dissect.SIMILARITIES[name](activations, images * 7, texts / 3)
    np.testing.assert_allclose(scores, dissect.SIMILARITIES[name](*inputs), rtol=1e-9, atol=1e-9)


@each_similarity
def test_dead_units_get_no_score_and_do_not_touch_the_others(name, inputs):
    activations, images, texts = inputs
    expected = dissect.SIMILARITIES[name](*inputs)
    with_dead = np.insert(activations, [0, 3], [0.0, 2.5], axis=1)  # units 0 and 4
    scores = dissect.SIMILARITIES[name](with_dead, images, texts)
    assert scores[[0, 4]].isnan().all()
    np.testing.assert_allclose(scores[[1, 2, 3, 5, 6, 7, 8]], expected, rtol=1e-12)
    assert dissect.label(scores).concept[[0, 4]].tolist() == [-1, -1]
    all_dead = dissect.SIMILARITIES[name](np.zeros_like(activations), images, texts)
    assert all_dead.shape == (N_UNITS, N_CONCEPTS)
    assert all_dead.isnan().all()


def test_a_unit_with_equal_top_activations_has_no_rank_reorder_score(inputs):
    activations, images, texts = inputs
    activations[:50, 2] = 9.0
    scores = dissect.rank_reorder(activations, images, texts)
    assert scores[2].isnan().all()
    assert not scores[[0, 1, 3]].isnan().any()


def test_a_planted_concept_is_found(inputs):
    activations, images, texts = inputs
    planted = np.maximum(cosines(images, texts)[:, 4], 0)
    activations[:, 3] = planted
    for name, similarity in dissect.SIMILARITIES.items():
        best = dissect.label(similarity(activations, images, texts)).concept[3].item()
        assert best == 4, name


def test_dead_units_are_zero_or_constant():
    activations = torch.tensor([[0.0, 2.0, 0.0, -1.0], [0.0, 2.0, 1e-6, -1.0]])
    assert exemplars.dead_units(activations).tolist() == [True, True, False, True]


def test_top_images_break_ties_by_index():
    activations = torch.tensor([[0.0, 3.0], [5.0, 3.0], [0.0, 1.0], [5.0, 4.0], [0.0, 3.0]])
    assert exemplars.top_images(activations, 1).tolist() == [[1], [3]]
    assert exemplars.top_images(activations, 3).tolist() == [[1, 3, 0], [3, 0, 1]]
    assert exemplars.top_images(activations, 5).tolist() == [[1, 3, 0, 2, 4], [3, 0, 1, 4, 2]]
    assert exemplars.top_images(activations.half(), 2).dtype == torch.int64


@pytest.mark.parametrize("k", [1, 30, 120])
def test_top_images_are_those_of_a_stable_sort(k, inputs):
    rounded = inputs[0].round(1)
    expected = [descending_order(column)[:k] for column in rounded.T]
    assert exemplars.top_images(rounded, k).tolist() == expected


def test_label_by_hand():
    nan, inf = math.nan, math.inf
    scores = [[1.0, 3.0, 2.0], [4.0, 4.0, 0.0], [nan, nan, nan], [-inf, 2.0, nan], [-inf, -inf, -inf]]
    labels = dissect.label(scores)
    assert labels.concept.tolist() == [1, 0, -1, 1, -1]
    assert labels.second.tolist() == [2, 1, -1, -1, -1]
    np.testing.assert_array_equal(labels.score, [3.0, 4.0, nan, 2.0, nan])
    np.testing.assert_array_equal(labels.margin, [1.0, 0.0, nan, nan, nan])


@each_similarity
def test_bad_input_is_named(name, inputs):
    similarity = dissect.SIMILARITIES[name]
    activations, images, texts = inputs
    broken = activations.copy()
    broken[17, 3] = math.nan
    zero = texts.copy()
    zero[2] = 0
    with pytest.raises(ValueError, match="unit 3 is nan at image row 17"):
        similarity(broken, images, texts)
    with pytest.raises(ValueError, match="dimension 6, `text_features` 5"):
        similarity(activations, images, texts[:, :5])
    with pytest.raises(ValueError, match="119 images, `activations` has 120"):
        similarity(activations, images[1:], texts)
    with pytest.raises(ValueError, match=r"`text_features` row 2 has norm 0\.0"):
        similarity(activations, images, zero)
    with pytest.raises(ValueError, match=r"`text_features` must be .* got shape \(0, 6\)"):
        similarity(activations, images, texts[:0])
    with pytest.raises(ValueError, match="`activations` must be"):
        similarity(activations[:, 0], images, texts)
    with pytest.raises(ValueError, match=r"`activations` must be .*, none of them 0, got \(120, 0\)"):
        similarity(activations[:, :0], images, texts)


def test_what_is_no_candidate_takes_no_place_among_the_best():
    scores = torch.tensor([[-math.inf, 1, 2, 3, 4, 5, math.nan, 6], [math.nan] * 7 + [1]])
    assert labeling._best_words(scores, np.array(list("abcdefgh"), dtype=object)) == ["h; f; e; d; c", "h"]


def test_terms_are_those_of_the_published_code_and_many_are_multiplied_at_once():
    hard = hard_terms()
    assert hard.offset.min().item() == pytest.approx(1e-7)
    factors = factors_at_once(hard)
    assert factors > 10 and hard.offset.min().item() ** factors > 0


@pytest.mark.parametrize(
    ("name", "few", "message"),
    [
        ("soft_wpmi", 99, "`top_k` is 100 but there are 99 images"),
        ("wpmi", 27, "`top_k` is 28 but there are 27 images"),
        ("rank_reorder", 39, "39 images. = 1, at least 2"),
    ],
)
def test_too_few_images_are_named(name, few, message, inputs):
    activations, images, texts = inputs
    with pytest.raises(ValueError, match=message):
        dissect.SIMILARITIES[name](activations[:few], images[:few], texts)


@pytest.mark.parametrize("k", [0, 121])
def test_top_images_names_both_numbers(k, inputs):
    with pytest.raises(ValueError, match=f"`k` is {k}; allowed: 1 to 120"):
        exemplars.top_images(inputs[0], k)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_similarity
def test_cuda_agrees(name, inputs):
    scores = dissect.SIMILARITIES[name](*(torch.from_numpy(array).cuda() for array in inputs))
    assert scores.is_cuda
    np.testing.assert_allclose(scores.cpu(), LOOPS[name](*inputs), rtol=1e-9, atol=1e-9)


# tables


@pytest.fixture
def layer():
    """Four images along four axes, three units that follow the first, the third and no image, four concepts."""
    ids = np.array(["w", "x", "y", "z"], dtype=object)
    activations = np.array([[9.0, 0.0, 2.0], [1.0, 1.0, 2.0], [0.0, 7.0, 2.0], [3.0, 2.0, 2.0]])
    concepts = {
        "features": np.eye(4)[[2, 0, 1, 3]],
        "word": np.array(["sea", "dog", "sky", "red"], dtype=object),
        "category": np.array(["scene", "object", "scene", "color"], dtype=object),
    }
    return {"activations": activations, "image_id": ids}, {"features": np.eye(4), "image_id": ids.copy()}, concepts


def label_table(activations, images, concepts, *, similarity, encoders):
    labeling.check_origin(activations, images, concepts, encoders)
    parts = activations["activations"], images["features"], concepts["features"]
    scores = dissect.SIMILARITIES[similarity](*map(torch.as_tensor, parts))
    return labeling.tabulate(scores, activations, concepts, similarity=similarity, encoder=encoders[0])


def test_the_label_table_by_hand(layer):
    table = label_table(*layer, similarity="cos_similarity", encoders=("clip", "clip"))
    assert table.unit.tolist() == [0, 1, 2]
    assert table.status.tolist() == ["not selective", "not selective", "constant"]
    assert table.candidate.tolist() == ["dog", "sea", ""]
    assert table.category.tolist() == ["object", "scene", ""]
    assert table.second_concept.tolist() == ["red", "red", ""]
    assert table.top_concepts.tolist() == ["dog; red; sky; sea", "sea; red; sky; dog", ""]
    assert table.top_images.tolist() == ["w z x y", "y z x w", ""]
    assert set(table.encoder) == {"clip"}
    assert set(table.similarity) == {"cos_similarity"}
    activations, images, concepts = layer
    scores = dissect.cos_similarity(activations["activations"], images["features"], concepts["features"])
    best, second = scores[[0, 1], [1, 0]], scores[[0, 1], [3, 3]]
    assert table.score[:2].tolist() == best.tolist()
    assert table.margin[:2].tolist() == (best - second).tolist()
    assert table.loc[2, ["score", "margin"]].isna().all()


def test_the_five_strongest_images_are_named(layer):
    activations, images, concepts = (dict(part) for part in layer)
    for part in (activations, images):
        part["image_id"] = np.array([f"{name}{i}" for i in range(2) for name in part["image_id"]], dtype=object)
    activations["activations"], images["features"] = (
        np.tile(activations["activations"], (2, 1)),
        np.tile(np.eye(4), 2).T,
    )
    table = label_table(activations, images, concepts, similarity="cos_similarity", encoders=("clip", "clip"))
    assert table.top_images[0] == "w0 w1 z0 z1 x0"


def test_a_living_unit_without_an_answer_has_no_word(layer, monkeypatch):
    monkeypatch.setitem(dissect.SIMILARITIES, "none", lambda *_: torch.full((3, 4), math.nan))
    table = label_table(*layer, similarity="none", encoders=("clip", "clip"))
    assert table.status.tolist() == ["not selective", "not selective", "constant"]
    assert table.candidate.tolist() == ["", "", ""]
    assert table.top_images[0] == "w z x y"


def test_labels_of_mixed_origin_are_refused(layer):
    activations, images, concepts = layer
    with pytest.raises(ValueError, match="images were embedded with 'clip', concepts with 'conse'"):
        label_table(*layer, similarity="cos_similarity", encoders=("clip", "conse"))
    images["image_id"] = images["image_id"][[1, 0, 2, 3]]
    with pytest.raises(ValueError, match="not of the same images in the same order"):
        label_table(activations, images, concepts, similarity="cos_similarity", encoders=("clip", "clip"))


def test_common_words_follow_the_list_and_repeat_none_of_it():
    concepts = pd.DataFrame({"word": ["dog", "people"], "category": ["object", "object"]})
    assert unit_labels.with_common_words(concepts, 0) is concepts
    longer = unit_labels.with_common_words(concepts, 300)
    assert longer[:2].equals(concepts)
    added = longer.word[2:]
    assert set(longer.category[2:]) == {"word"}
    assert longer.word.is_unique
    assert {"the", "and", "time"} <= set(added)
    assert all(word.isalpha() and len(word) >= 3 for word in added)
    assert len(added) == 299  # "people" is among the 300, "dog" is not
    assert unit_labels.with_common_words(concepts, 200).word.tolist() == longer.word[: 2 + 199].tolist()
