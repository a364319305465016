"""Evidence for labels: by hand, against plain loops, on planted networks, and the sanity of the held-out scores."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from noise import OF_ALL_IMAGES, OF_TOP_IMAGES
from scipy import stats
from unitlens.report import concept_findings
from unitlens.tables import labeling, unit_labels
from unitlens.units import dissect, evidence, exemplars, label_sets, permutation
from unitlens.units.dissect import TERMS, log_likelihood, normalized, soft_terms, term_of_layer

N_CONCEPTS, DIMENSION = 40, 48
PLANTED, NULL = 40, 80


def planted_layer(source_images, crops, seed=0):
    """Forty units that respond to a concept each, and eighty that respond to source images, whatever these show.

    A source image shows one concept, a crop of it almost the same. Every unit, planted or not, responds alike to the
    crops of one source image.
    """
    rng = np.random.default_rng(seed)
    texts = rng.normal(size=(N_CONCEPTS, DIMENSION))
    shown = rng.permutation(np.arange(source_images) % N_CONCEPTS)
    content = texts[shown] + rng.normal(scale=0.7, size=(source_images, DIMENSION))
    source_image = np.repeat(np.arange(source_images), crops)
    features = content[source_image] + rng.normal(scale=0.3, size=(len(source_image), DIMENSION))
    unit_features, unit_texts = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, texts))
    responses = unit_features @ unit_texts.T + rng.normal(scale=0.05, size=(len(source_image), PLANTED))
    whims = rng.normal(size=(source_images, NULL))[source_image] + rng.normal(scale=0.3, size=(len(source_image), NULL))
    ids = np.array([f"image{row}" for row in range(len(source_image))], dtype=object)
    activations = {"activations": np.hstack([responses, whims]).astype(np.float32), "image_id": ids}
    images = {"features": features.astype(np.float32), "image_id": ids, "source_image": source_image.astype(str)}
    words = np.array([f"concept{number}" for number in range(N_CONCEPTS)], dtype=object)
    return activations, images, {"features": texts.astype(np.float32), "word": words, "category": words}


def label(layer, similarity="soft_wpmi", **options):
    settings = {"encoders": ("clip", "clip"), "seed": 0, "resamples": 20, "null_draws": 2000} | options
    return labeling.label_table(*layer, similarity=similarity, **settings).assign(layer="4")


def probe(layer):
    activations, images, concepts = layer
    texts = normalized(concepts["features"], "texts")
    return permutation.Probe(
        torch.as_tensor(activations["activations"]),
        normalized(images["features"], "images"),
        texts,
        permutation.group_rows(images["source_image"]),
        np.arange(len(texts)),
    )


# planted networks


@pytest.fixture(scope="module", params=[(1200, 1), (400, 4)], ids=["source_images", "crops"])
def planted(request):
    layer = planted_layer(*request.param)
    return layer, label(layer)


def test_planted_units_are_found_and_null_units_are_not_selective(planted):
    (_, _, concepts), table = planted
    selective = table.status.isin(unit_labels.CLAIMS)
    right = (table.candidate[:PLANTED] == concepts["word"][:PLANTED]) & selective[:PLANTED]
    assert right.mean() >= 0.95  # recall
    assert right.sum() / selective.sum() >= 0.95  # precision
    allowed = stats.binom.ppf(0.999, NULL, 0.05)
    assert (table.p_value[PLANTED:] <= 0.05).sum() <= allowed
    assert selective[PLANTED:].sum() <= stats.binom.ppf(0.999, selective.sum(), 0.05)
    assert set(table.status) <= set(unit_labels.STATUSES)


def test_units_that_are_not_named_keep_their_candidate_only(planted):
    _, table = planted
    assert ((table.concept == "") == (table.status != "named")).all()
    weak = table[table.status == "not selective"]
    assert len(weak) >= 0.9 * NULL
    assert (weak.candidate != "").all() and weak[["score", "p_value", "q_value", "kept"]].notna().all(axis=None)
    assert (weak.q_value > 0.05).all()
    assert (table.q_value >= table.p_value - 1e-12).all() and (table.p_value >= table.p_floor).all()


def test_units_that_ignore_the_images_get_many_different_words(planted):
    _, table = planted
    assert table.candidate[PLANTED:].nunique() > 0.6 * N_CONCEPTS


def test_planted_labels_are_stable_and_hold_on_other_source_images(planted):
    (_, images, _), table = planted
    assert table.kept[:PLANTED].median() == 1 and (table.kept_group >= table.kept).all()
    assert table.kept[PLANTED:].median() < 0.7
    assert (
        table.held_out_correlation[:PLANTED].median() > 0.6 > 0.2 > table.held_out_correlation[PLANTED:].abs().median()
    )
    assert table.held_out_auprc[:PLANTED].median() > 0.6
    assert (table.held_out_images == len(images["image_id"])).all()
    assert (table.score_low <= table.score_high).all()
    assert table.score.between(table.score_low, table.score_high)[:PLANTED].mean() > 0.5
    assert set(table.source_images) == {len(set(images["source_image"]))}


def test_crops_that_count_as_source_images_would_give_null_units_labels():
    layer = planted_layer(400, 4)
    activations, images, concepts = layer
    wrong = {**images, "source_image": images["image_id"]}
    tables = [label(each)[PLANTED:] for each in (layer, (activations, wrong, concepts))]
    found = [(table.p_value <= 0.05).mean() for table in tables]
    assert found[0] < 0.15 and found[1] > 2 * found[0] + 0.1
    beyond, kept = ([table[name].mean() for table in tables] for name in ("held_out_correlation", "kept"))
    assert abs(beyond[0]) < 0.01 and beyond[1] > 0.02 and kept[1] > kept[0] + 0.1


@pytest.mark.parametrize("similarity", ["wpmi", "cos_similarity", "rank_reorder"])
def test_other_similarities_find_planted_units(similarity):
    layer = planted_layer(200, 3)
    table = label(layer, similarity, resamples=5, null_draws=400)
    selective = table.status[:PLANTED].isin(unit_labels.CLAIMS)
    right = (selective & (table.candidate[:PLANTED] == layer[2]["word"][:PLANTED])).mean()
    assert right > 0.8
    assert (table.p_value[PLANTED:] <= 0.05).sum() <= stats.binom.ppf(0.999, NULL, 0.05)
    assert table.kept[:PLANTED].mean() > 0.7
    assert table.held_out_correlation[:PLANTED].median() > 0.5
    draws = 200 if similarity == "wpmi" else 20 * len(table)  # of each of two strata; twenty of every unit
    assert set(table.p_floor) == {1 / (1 + draws)}


def noise_layer(seed, kinds, source_images, crops):
    """Units that ignore what images show, 100 of each kind; a kind makes activations of noise by source and image."""
    _, images, concepts = planted_layer(source_images, crops, seed=seed)
    rng, ids = np.random.default_rng([seed, 1]), images["image_id"]
    shapes = (source_images, 100), (len(ids), 100)
    noise = [[rng.normal(size=shape) for shape in shapes] for _ in kinds]
    made = [kind(own[images["source_image"].astype(int)], each) for kind, (own, each) in zip(kinds, noise, strict=True)]
    return {"activations": np.hstack(made).astype(np.float32), "image_id": ids}, images, concepts


@pytest.mark.parametrize(
    ("similarity", "kinds", "probe_set", "runs", "top_k"),
    [
        ("soft_wpmi", OF_TOP_IMAGES, (400, 4), 12, "published"),
        ("soft_wpmi", OF_TOP_IMAGES, (400, 4), 24, "auto"),
        ("wpmi", OF_TOP_IMAGES, (400, 4), 12, "published"),
        ("cos_similarity", OF_ALL_IMAGES, (200, 1), 6, "published"),
        ("cos_similarity_cubed", OF_ALL_IMAGES, (200, 1), 6, "published"),
        ("rank_reorder", OF_ALL_IMAGES, (200, 1), 6, "published"),
    ],
)
def test_units_that_ignore_the_images_reach_a_p_value_of_a_twentieth_that_often_whatever_their_kind(
    similarity, kinds, probe_set, runs, top_k
):
    """With one null for all, by image or dense 0 to 5 % reach it, sparse or alike in crops 11 to 13 %."""
    options = {"resamples": 0, "null_draws": 2000, "held_out_splits": 0, "top_k": top_k}
    tables = [label(noise_layer(seed, kinds, *probe_set), similarity, seed=seed, **options) for seed in range(runs)]
    p = np.stack([table.p_value for table in tables]).reshape(len(tables), len(kinds), 100)
    reached = {kind.__name__: (p[:, number] <= 0.05).mean() for number, kind in enumerate(kinds)}
    assert all(0.03 <= share <= 0.07 for share in reached.values()), reached
    assert np.isnan(p).mean() < 0.01


def test_strata_by_hand():
    """Top images are from 1, 2, 4, 1.6 (3 + 1), 4 and 1.6 source images; a stratum of 200 draws spans a factor of 2."""
    source_images = permutation.group_rows([*"aaaabbbbccccdddd"])
    tops = np.array([[0, 1, 2, 3], [0, 4, 1, 5], [0, 4, 8, 12], [12, 13, 14, 0], [4, 8, 0, 12], [4, 5, 6, 8]])
    assert permutation.strata(tops, source_images, 800).tolist() == [0, 1, 2, 1, 2, 1]
    assert permutation.strata(tops, source_images, 200).tolist() == [0, 0, 1, 0, 1, 0]
    assert permutation.strata(tops, source_images, 199).tolist() == [0] * 6
    assert permutation.strata(tops[:0], source_images, 400).tolist() == []


@pytest.mark.parametrize(("draws", "expected"), [(799, 7), (800, 8), (10_000, 8)])
def test_there_are_at_most_eight_strata_and_one_for_a_hundred_draws(draws, expected):
    """The top images of unit j come from j of 256 source images, as evenly as they can: spreads of 1 to 256."""
    tops = np.stack([np.arange(256) % sources for sources in range(1, 257)])
    source_images = permutation.group_rows([str(number) for number in range(256)])
    assert permutation.strata(tops, source_images, draws).max() + 1 == expected


def test_scores_are_scaled_by_the_draws_of_their_unit():
    drawn = np.array([[1.0, 10, 5, np.nan], [2, 30, 5, 1], [3, 20, 5, 3], [np.nan, 40, 5, 2]])
    observed, null = evidence.standardized(np.array([4.0, 25, 6, 2]), drawn)
    np.testing.assert_allclose(observed, [2 / np.sqrt(4 / 3), 0, np.nan, 0])
    first = [-1.5 / (np.sqrt(0.5) * np.sqrt(1.5)), -20 / (10 * np.sqrt(4 / 3))]
    np.testing.assert_allclose(null[:2], first)
    assert len(null) == 3 + 4 + 3


def test_source_images_that_all_show_the_same_make_no_unit_selective():
    activations, images, concepts = planted_layer(300, 1)
    images["features"] = np.ones_like(images["features"]) + 1e-6 * images["features"]
    table = label((activations, images, concepts))
    assert set(table.status) == {"not selective"}
    assert (table.p_value > 0.5).all()


def test_a_list_in_which_no_word_fits_says_so():
    activations, images, concepts = planted_layer(300, 1)
    images["features"][:, :24] = 0  # what images show
    concepts["features"][:, 24:] = 0  # what words mean
    concepts["features"][:, :24] += 1
    images["features"][:, 24:] = np.random.default_rng(5).normal(size=images["features"][:, 24:].shape)
    table = label((activations, images, concepts))
    assert set(table.status) == {"not selective"}
    assert (
        "Not supported at n = 300 source images (300 images): that any unit responds to what the encoder sees. So "
        "nothing can be named." in concept_findings.evidence_findings(table)
    )


def test_the_same_seed_gives_the_same_table_and_another_seed_other_draws():
    layer = planted_layer(150, 2)
    first, second, other = (label(layer, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert not first.kept.equals(other.kept) and first.score.equals(other.score)


@pytest.mark.parametrize("elements", [150, 3000])
def test_block_sizes_do_not_matter(elements, monkeypatch):
    layer = planted_layer(130, 1)
    expected = label(layer, null_draws=200)
    monkeypatch.setattr(exemplars, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(permutation, "_LIST_ELEMENTS", max(1, elements // 7))
    pd.testing.assert_frame_equal(label(layer, null_draws=200), expected, atol=5e-3)


# how many top images


def test_the_choice_of_top_images_is_that_of_the_best_held_out_correlation():
    """Of noisy units, whose top images are chance, more images say more."""
    layer = planted_layer(400, 1)
    values = layer[0]["activations"][:, :PLANTED]
    values += np.random.default_rng(1).normal(scale=1.2, size=values.shape).astype(np.float32)
    layer[0]["activations"] = values
    each = probe(layer)
    axes, parts, means = each.texts - each.texts.mean(0), permutation.splits(each.source_images, 0)[0], []
    for top_k in evidence.TOP_KS[:-1]:
        found = []
        for own, other in (parts, parts[::-1]):
            scores = dissect.soft_wpmi(each.activations[own], each.images[own], each.texts, top_k=top_k)
            cosines = each.images[other] @ axes[dissect.label(scores).concept].T
            pairs = zip(each.activations[other].T, cosines.T, strict=True)
            found += [np.corrcoef(unit, concept)[0, 1] for unit, concept in pairs]
        means.append(np.mean(found))
    best = evidence.TOP_KS[int(np.argmax(means))]
    assert best != 100 and sorted(means)[-1] - sorted(means)[-2] > 0.005
    assert evidence.choose_top_k(each, axes, parts, np.random.default_rng(0)) == best
    longer = axes * torch.where(torch.arange(N_CONCEPTS) == 2, 1000, 1)[:, None]
    assert evidence.choose_top_k(each, longer, parts, np.random.default_rng(0)) == best, "of whatever length axes are"
    assert evidence.choose_top_k(each, axes, [part[:49] for part in parts], np.random.default_rng(0)) == 25
    table = label(layer, top_k="auto", resamples=1, null_draws=200, held_out_splits=1)
    expected = dissect.label(dissect.soft_wpmi(*each[:3], top_k=best)).score
    assert set(table.top_k) == {best} and np.allclose(table.score, expected, atol=1e-6)


def test_the_numbers_of_top_images_to_choose_from_are_those_that_the_schema_names():
    schema = yaml.safe_load((Path(__file__).parents[2] / "config/schema.yaml").read_text(encoding="utf-8"))
    told = schema["properties"]["dissect"]["properties"]["top_k"]["description"].partition("`auto`, of ")[2]
    assert tuple(map(int, re.findall(r"\d+", told))) == evidence.TOP_KS


def test_held_out_scores_are_of_labels_by_halves_that_chose_for_themselves():
    """Whatever the other half shows, a half chooses and says the same; so what is scored has not chosen."""
    each = probe(planted_layer(300, 1))
    axes = each.texts - each.texts.mean(0)
    halved = [[np.arange(150), np.arange(150, 300)]]
    found = evidence.label_halves(each, axes, halved, np.random.default_rng(0))
    other = each._replace(activations=each.activations.clone(), images=each.images.clone())
    other.activations[150:], other.images[150:] = other.activations[150:].flip(0), other.images[150:].roll(7, 0)
    again = evidence.label_halves(other, axes, halved, np.random.default_rng(0))
    assert (found[0, 0] == again[0, 0]).all() and (found[0, 1] != again[0, 1]).any()
    few = evidence.label_halves(each, axes, [[np.arange(49), np.arange(49, 300)]], np.random.default_rng(0))
    assert (few[0, 0] == -1).all() and (few[0, 1] >= 0).all()


def test_the_published_number_of_top_images_stays_unless_a_layer_is_to_choose():
    layer = planted_layer(240, 1)
    table = label(layer, resamples=1, null_draws=20)
    assert set(table.top_k) == {unit_labels.PUBLISHED_TOP_K} and len(soft_terms().slope) == unit_labels.PUBLISHED_TOP_K
    assert label(layer, "cos_similarity", resamples=1, null_draws=20).top_k.isna().all()
    with pytest.raises(ValueError, match="`top_k` is 'auto', which `soft_wpmi` alone can have"):
        label(layer, "wpmi", top_k="auto")


# what labels may claim


def test_planted_units_are_named_and_their_sets_hold_the_truth(planted):
    (_, _, concepts), table = planted
    own, named = table[:PLANTED], table.status == "named"
    assert named[:PLANTED].mean() >= 0.9
    assert (own.candidate == concepts["word"][:PLANTED])[named].mean() >= 0.95
    assert (table.set_size[named] == 1).all() and (own.set == own.group)[named].all()


def test_a_word_can_come_again_and_be_wrong_where_the_right_one_is_not_listed():
    """The calibration cannot see this, and docs/evidence.md says so."""
    activations, images, concepts = planted_layer(600, 1, seed=2)
    table = label((activations, images, {name: each[20:] for name, each in concepts.items()}))
    assert (table.status[:20] == "named").mean() > 0.5
    assert (table.status[20:PLANTED] == "named").all()


def test_both_halves_are_tabulated(monkeypatch):
    collect = evidence.collect_from_top_images

    def with_halves(*arguments):
        found = collect(*arguments)
        found.halves[0] = [[3], [-1]]
        return found

    monkeypatch.setattr(evidence, "collect_from_top_images", with_halves)
    table = label(planted_layer(150, 1), null_draws=20)
    assert set(table.first_half) == {"concept3"} and set(table.second_half) == {""}


def test_a_set_holds_the_groups_near_the_best_in_their_order():
    scores = torch.tensor([[5.0, 4.5, 3, 4.9], [1, 2, 2, -torch.inf], [torch.nan] * 4], dtype=torch.float64)
    groups = np.array([0, 1, 2, 0])
    found = label_sets.sets(scores, 1.0, groups)
    assert [each.tolist() for each in found] == [[0, 1], [1, 2, 0], []]
    assert [each.tolist() for each in label_sets.sets(scores, 0.0, groups)] == [[0], [1, 2], []]
    assert [each.tolist() for each in label_sets.sets(scores, np.inf, groups)] == [[0, 1, 2], [1, 2, 0], []]


@pytest.mark.parametrize(("selective", "expected"), [(8, np.inf), (9, 8.0), (20, 18.0)])
def test_few_selective_units_calibrate_nothing(selective, expected):
    """The order statistic that a further unit does not exceed with a probability of 0.9: of nine units the largest."""
    table = pd.DataFrame({"status": ["selective"] * selective + ["not selective"]})
    short = np.tile(np.arange(selective + 1.0), (2, 1))
    short[:, -1] = 100  # of a unit that is not selective
    scores = torch.tensor([[20.0, 12.5, 0]] * (selective + 1))
    found = labeling.with_sets(table, scores, short, np.arange(3), np.array(["a", "b", "c"], object))
    assert set(found.gap) == {expected}
    assert set(found.set_size) == {3 if expected > 20 else 2}
    assert set(found.status[:-1]) == {"selective" if expected > 20 else "theme"}


@pytest.mark.parametrize(("listed", "status"), [(2, "selective"), (3, "theme")])
def test_a_set_that_is_the_whole_list_is_no_theme(listed, status):
    """A gap of 5 is calibrated, and two words lie within it: of a list of two that says nothing."""
    table, short = pd.DataFrame({"status": ["selective"] * 12}), np.full((2, 12), 5.0)
    scores, words = torch.tensor([[20.0, 15, 0]] * 12)[:, :listed], np.array(["a", "b", "c"][:listed], object)
    found = labeling.with_sets(table, scores, short, np.arange(listed), words)
    assert set(found.gap) == {5} and set(found.set_size) == {2} and set(found.status) == {status}


def test_of_one_meaning_alone_no_unit_is_named():
    """Neither of a list of one word nor of one in several spellings: there is nothing to choose from."""
    table = pd.DataFrame({"status": ["selective"] * 12})
    scores, short = torch.tensor([[2.0, 1.9]] * 12), np.zeros((2, 12))
    for groups, columns in ((np.zeros(2, int), 2), (np.zeros(1, int), 1)):
        words = np.array(["color", "colour"][:columns], object)
        found = labeling.with_sets(table, scores[:, :columns], short, groups, words)
        assert set(found.status) == {"selective"} and set(found.set_size) == {1}
    found = labeling.with_sets(table, scores, short, np.arange(2), np.array(["a", "b"], object))
    assert set(found.status) == {"named"}
    activations, images, concepts = planted_layer(240, 1)
    one = {name: each[:1] for name, each in concepts.items()}
    table = label((activations, images, one), "cos_similarity", null_draws=200)
    assert "selective" in set(table.status) and not set(table.status) & {"named", "theme"}
    said = "Nothing can be named, because the list has one meaning only: a name is a choice among several."
    assert said in concept_findings.evidence_findings(table)
    weak = label((activations, images, one), null_draws=20)
    assert set(weak.status) == {"not selective"} and said in concept_findings.evidence_findings(weak)
    spellings = {name: np.concatenate([each[:1]] * 2) for name, each in concepts.items()}
    spellings["word"] = np.array(["Dog", "dog"], object)
    twice = label((activations, images, spellings), "cos_similarity", null_draws=200)
    assert set(twice.status) <= {"selective", "not selective"}
    assert said in concept_findings.evidence_findings(twice)
    two = label((activations, images, {name: each[:2] for name, each in concepts.items()}), null_draws=20)
    assert said not in concept_findings.evidence_findings(two)


@pytest.mark.parametrize(("words", "apart"), [(20, 0.0), (3, 0.5)])
def test_one_word_in_two_spellings_is_one_name(words, apart):
    """The second spellings have the features of the first, or others, of a cosine of 0.9 to these."""
    activations, images, concepts = planted_layer(600, 1)
    twice = {name: np.concatenate([each, each[:words]]) for name, each in concepts.items()}
    twice["word"] = np.array([*concepts["word"], *(f"{word}s" for word in concepts["word"][:words])], dtype=object)
    other = np.random.default_rng(1).normal(scale=apart, size=(words, DIMENSION))
    twice["features"] = np.concatenate([concepts["features"], 1.001 * concepts["features"][:words] + other], dtype="f4")
    table = label((activations, images, twice))
    assert (table.status[:PLANTED] == "named").mean() >= 0.9 and (table.status[:words] == "named").all()
    assert (table.group[:words] == concepts["word"][:words]).mean() >= 0.95, "the group has the name of its first word"


def test_without_halves_no_unit_is_named():
    table = label(planted_layer(150, 1))
    assert set(table.gap) == {np.inf} and set(table.set_size) == {N_CONCEPTS}
    assert set(table.status) <= {"selective", "not selective"}
    assert any("nothing is named" in line for line in concept_findings.evidence_findings(table))


# against loops


@pytest.mark.parametrize("elements", [exemplars.BLOCK_ELEMENTS, 2000])
def test_lists_score_as_units_do_in_blocks_of_any_size(elements, monkeypatch):
    monkeypatch.setattr(exemplars, "BLOCK_ELEMENTS", elements)
    layer = planted_layer(250, 1)
    activations, images, texts, *_ = each = probe(layer)
    for similarity, terms in TERMS.items():
        terms = terms()
        log_norms = permutation.log_normalizers(images, texts, terms.a)
        lists = exemplars.top_images(activations, len(terms.slope))
        blocks = list(permutation._list_likelihoods(lists, each, terms, log_norms))
        found = torch.cat([block for _, block in blocks], dim=1)
        expected = log_likelihood(activations, images, texts, terms)
        assert (found - expected).abs().max() < 2e-4, similarity  # float32 products
        assert len(lists[:1].unique()) < len(images)
        few = torch.cat([block for _, block in permutation._list_likelihoods(lists[:1], each, terms, log_norms)], dim=1)
        assert (few - expected[:1]).abs().max() < 2e-4, similarity
        many = permutation._list_likelihoods(lists[:1].expand(1500, -1), each, terms, log_norms)
        assert max(block.numel() for _, block in many) <= elements
        null, (winners,) = permutation.rank_lists([lists[:7], lists[7:9]], [lists], each, terms, log_norms)
        concepts = torch.arange(len(lists)) % len(texts)
        own = permutation.likelihood_of(lists, concepts, each, terms, log_norms)
        assert (own - expected.gather(1, concepts[:, None])[:, 0]).abs().max() < 2e-4, similarity
        np.testing.assert_allclose(winners.layer_term, term_of_layer(expected), atol=2e-4)
        assert winners.concept.tolist() == dissect.label(dissect.SIMILARITIES[similarity](*each[:3])).concept.tolist()
        alone, (found,) = permutation.rank_lists([one[None] for one in lists[:9]], [lists], each, terms, log_norms)
        best = found.score + terms.lam * found.layer_term[found.concept]  # L
        np.testing.assert_allclose(alone.mean[range(9), found.concept[:9]], best[:9], rtol=1e-12)  # of one draw
        for rows, largest in zip((slice(7), slice(7, 9)), null.largest, strict=True):
            z = (expected[rows] - expected[rows].mean(0)) / expected[rows].std(0, correction=0)
            np.testing.assert_allclose(largest, z.amax(1), atol=2e-3)


@pytest.mark.parametrize("crops", [1, 4])
def test_the_bootstrap_labels_as_on_rows_that_are_there_several_times(crops):
    layer = planted_layer(160 // crops, crops)
    activations, images, texts, source_images, _ = each = probe(layer)
    terms = soft_terms()
    likelihood = log_likelihood(activations, images, texts, terms)
    layer_term = term_of_layer(likelihood)
    scores, log_norms = likelihood - layer_term, permutation.log_normalizers(images, texts, terms.a)
    found = evidence.bootstrap_top_images(each, scores, layer_term, terms, log_norms, 4, np.random.default_rng(5))

    rng = np.random.default_rng(5)
    resampled = []
    for _ in range(4):
        rows = np.repeat(np.arange(len(images)), permutation.resample(source_images, rng)[source_images.number])
        resampled.append(log_likelihood(activations[rows], images[rows], texts, terms) - layer_term)
    kept = torch.stack([each.argmax(1) == scores.argmax(1) for each in resampled]).double().mean(0)
    of_label = torch.stack([each.gather(1, scores.argmax(1)[:, None])[:, 0] for each in resampled]).numpy()
    np.testing.assert_array_equal(found.kept, kept)
    np.testing.assert_allclose(found.low, np.quantile(of_label, 0.05, axis=0), atol=1e-3)
    np.testing.assert_allclose(found.high, np.quantile(of_label, 0.95, axis=0), atol=1e-3)


def test_resamples_of_all_images_label_as_on_rows_that_are_there_several_times():
    each = probe(planted_layer(40, 2))
    activations, images, texts, source_images, _ = each
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    found = evidence.collect_from_all_images(each, "cos_similarity", 7, 5, permutation.splits(source_images, 0), rngs)

    rng, similarity = np.random.default_rng(0), dissect.SIMILARITIES["cos_similarity"]
    labels = similarity(activations, images, texts).argmax(1)
    resampled = []
    for _ in range(7):
        rows = np.repeat(np.arange(len(images)), permutation.resample(source_images, rng)[source_images.number])
        resampled.append(similarity(activations[rows], images[rows], texts))
    np.testing.assert_array_equal(
        found.stability.kept, torch.stack([each.argmax(1) == labels for each in resampled]).double().mean(0)
    )
    of_label = torch.stack([each.gather(1, labels[:, None])[:, 0] for each in resampled]).numpy()
    np.testing.assert_allclose(found.stability.low, np.quantile(of_label, 0.05, axis=0), atol=1e-6)
    np.testing.assert_allclose(found.stability.high, np.quantile(of_label, 0.95, axis=0), atol=1e-6)


# what is shared and what is left out


@pytest.mark.parametrize("similarity", list(TERMS))
def test_scores_of_the_evidence_are_those_of_the_similarity(similarity):
    """They are sums of logarithms of float32 products, the similarity's of float64."""
    each = probe(planted_layer(250, 1))
    each.activations[:, 3] = 1.5
    terms, halved = TERMS[similarity](), permutation.splits(each.source_images, 3)[:1]
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    log_norms = permutation.log_normalizers(each.images, each.texts, terms.a)
    found = evidence.collect_from_top_images(each, terms, log_norms, 2, 20, halved, rngs)
    expected = dissect.SIMILARITIES[similarity](*each[:3])
    np.testing.assert_allclose(found.scores, expected, atol=2e-4)
    assert found.scores[3].isnan().all() and not found.scores.isnan().all(1)[[*range(3), *range(4, 120)]].any()
    np.testing.assert_array_equal(found.scores.argmax(1), expected.argmax(1))


def test_layers_are_labeled_as_each_alone_and_what_is_of_the_images_is_computed_once(monkeypatch):
    layer, images, concepts = planted_layer(250, 1)
    values, ids = layer["activations"], layer["image_id"]
    layers = {"a": values[:, 20:60], "b": values[:, ::2]}
    alone = [label(({"activations": each, "image_id": ids}, images, concepts)) for each in layers.values()]
    counted = []
    for module, name in ((evidence, "near_duplicates"), (labeling, "log_normalizers")):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, f=function: counted.append(f.__name__) or f(*given))
    settings = {"encoders": ("clip", "clip"), "seed": 0, "resamples": 20, "null_draws": 2000}
    found = list(labeling.label_layers(layers.values(), ids, images, concepts, similarity="soft_wpmi", **settings))
    for each, one in zip(found, alone, strict=True):
        pd.testing.assert_frame_equal(each.table.assign(layer="4"), one)
        best = dissect.label(each.scores).concept.numpy()
        assert concepts["word"][best].tolist() == one.candidate.tolist()
    assert sorted(counted) == ["log_normalizers", "near_duplicates"]


@pytest.mark.parametrize("similarity", ["soft_wpmi", "cos_similarity"])
def test_what_is_not_asked_for_is_not_known_and_changes_nothing_else(similarity):
    settings = {"similarity": similarity, "null_draws": 200, "resamples": 3}
    whole = label(planted_layer(240, 1), **settings, held_out_splits=1)
    bare = label(planted_layer(240, 1), **settings | {"resamples": 0}, held_out_splits=0)
    columns = ["kept", "kept_group", "score_low", "score_high"]
    columns += [name for name in whole if name.startswith("held_out_") and "auc" not in name and "diff" not in name]
    assert bare[columns].drop(columns="held_out_images").isna().all(axis=None) and (bare.held_out_images == 0).all()
    assert whole[columns].notna().all(axis=None)
    pd.testing.assert_frame_equal(bare.drop(columns=columns), whole.drop(columns=columns))


# by hand


def test_rows_of_source_images():
    found = permutation.group_rows(["a", "b", "a", "c", "b", "a"])
    assert found.number.tolist() == [0, 1, 0, 2, 1, 0]
    assert found.place.tolist() == [0, 0, 1, 0, 1, 2]
    assert found.size.tolist() == [3, 2, 1]
    assert found.rows[found.start].tolist() == [0, 1, 3]


@pytest.mark.parametrize("names", [["a"], ["a", "a", "b"]])
def test_too_few_source_images(names):
    with pytest.raises(ValueError, match=rf"has {len(set(names))} source image\(s\), 3 are the fewest"):
        permutation.group_rows(names)


def test_exchanged_rows_stay_together_in_source_images_of_their_size():
    source_images = permutation.group_rows(list("aabbccddeffghi"))
    given = np.array([0, 9, 1, 3, 8])  # both rows of a, the first row of f, the second of b, the one of e
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        rows = permutation.exchange(source_images, permutation.pattern(source_images, given), rng)
        number = source_images.number[rows]
        assert number[0] == number[2] and len(set(number)) == 4
        assert source_images.place[rows].tolist() == source_images.place[given].tolist()
        assert source_images.size[number].tolist() == [2, 2, 2, 2, 1]
        seen.add(tuple(rows))
    assert len(seen) > 100


def test_a_shuffle_is_a_permutation_of_whole_source_images():
    source_images = permutation.group_rows(list("abcabcddeeabcffg"))
    rows = permutation.shuffle(source_images, np.random.default_rng(0))
    assert sorted(rows) == list(range(16))
    for name in range(len(source_images.size)):
        assert len(set(source_images.number[rows[source_images.number == name]])) == 1
    assert (source_images.size[source_images.number[rows]] == source_images.size[source_images.number]).all()


def test_halves_share_no_source_image():
    source_images = permutation.group_rows(list("aabbccddeeff"))
    first, second = permutation.halves(source_images, np.random.default_rng(3))
    assert sorted([*first, *second]) == list(range(12)) and len(first) == len(second) == 6
    assert not set(source_images.number[first]) & set(source_images.number[second])


@pytest.mark.parametrize(("images", "count"), [(60, 10), (20_000, 10), (63_300, 3), (500_000, 1)])
def test_many_images_are_split_less_often(images, count):
    source_images = permutation.group_rows(np.arange(images) // 10)
    found = permutation.splits(source_images, 0)
    assert len(found) == count
    first = permutation.halves(source_images, np.random.default_rng([0, 2]))
    np.testing.assert_array_equal(found[0][0], first[0])


def test_p_values_by_hand():
    null = np.array([1.0, 2.0, 3.0, 4.0])
    found = permutation.p_values(np.array([5.0, 4.0, 2.5, 0.0, np.nan]), null)
    np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 1.0, np.nan])


def test_margin_to_another_group_by_hand():
    scores = torch.tensor([[5.0, 4.0, 1.0], [2.0, 3.0, 2.5], [float("nan")] * 3], dtype=torch.float64)
    np.testing.assert_allclose(evidence.margin_to_other_group(scores, np.array([0, 0, 2])), [4.0, 0.5, np.nan])


def at(*degrees):
    angles = np.radians(degrees)
    return torch.tensor(np.stack([np.cos(angles), np.sin(angles)], axis=1))


@pytest.mark.parametrize("elements", [16, 2**24])
def test_near_duplicates_join_the_nearest_leader_and_no_chain(elements, monkeypatch):
    monkeypatch.setattr(exemplars, "BLOCK_ELEMENTS", elements)
    monkeypatch.setattr(evidence, "NEAREST_PAIRS", 0.5)

    def groups(*degrees):  # with their opposites, the mean of the features is 0
        return evidence.near_duplicates(torch.cat([at(*degrees), -at(*degrees)]))[: len(degrees)].tolist()

    assert groups(0, 10, 20, 30, 90) == [0, 0, 2, 2, 4]
    assert groups(0, 18, 10) == [0, 1, 1]


def test_near_duplicates_have_a_cosine_of_a_half_at_least(monkeypatch):
    monkeypatch.setattr(evidence, "NEAREST_PAIRS", 10)  # more pairs than there are
    for degrees, expected in ((59, [0, 0]), (61, [0, 1])):
        texts = torch.cat([at(0, degrees), -at(0, degrees)])  # whose mean is 0
        assert evidence.near_duplicates(texts)[:2].tolist() == expected


@pytest.mark.parametrize("elements", [100, 2**24])
def test_near_duplicates_are_the_nearest_sixteenth_of_pairs_whatever_all_words_share(elements, monkeypatch):
    monkeypatch.setattr(exemplars, "BLOCK_ELEMENTS", elements)
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(48, 32))
    texts[[17, 30, 40]] = texts[[5, 6, 7]] + 0.1 * rng.normal(size=(3, 32))
    texts[41] = texts[8] + 0.8 * rng.normal(size=32)  # the fourth nearest pair of 48 words, whose bar is the third
    expected = np.arange(48)
    expected[[17, 30, 40]] = [5, 6, 7]
    for shared in (0, 20):
        found = evidence.near_duplicates(
            normalized(texts / np.linalg.norm(texts, axis=1)[:, None] + shared / 32, "texts")
        )
        assert found.tolist() == expected.tolist()


def test_words_of_one_meaning_are_near_duplicates_in_the_smallest_lists_and_words_of_none_never():
    assert evidence.near_duplicates(at(20)).tolist() == [0]
    assert evidence.near_duplicates(at(20, 20)).tolist() == [0, 0]
    assert evidence.near_duplicates(at(20, 100, 20)).tolist() == [0, 1, 0]
    assert evidence.near_duplicates(at(20, 21)).tolist() == [0, 1]
    assert evidence.near_duplicates(torch.eye(40)).tolist() == list(range(40)), "as annotations are"
    assert len(set(evidence.near_duplicates(torch.eye(40)[np.arange(80) % 40]).tolist())) == 40


def test_a_group_has_the_name_of_its_first_word():
    activations, images, concepts = planted_layer(150, 1)
    features = np.vstack([concepts["features"], concepts["features"][:3] * 1.01])
    words = np.append(concepts["word"], ["copy0", "copy1", "copy2"])
    table = label((activations, images, {"features": features, "word": words, "category": words}), alpha=1)
    assert table.candidate[:3].isin(["concept0", "copy0", "concept1", "copy1", "concept2", "copy2"]).all()
    assert table.group[:3].tolist() == ["concept0", "concept1", "concept2"]
    assert (table.margin[:3].abs() < 1e-3).all() and (table.margin_group[:3] > 0.05).all()
    assert (table.kept_group[:3] >= table.kept[:3]).all()


def test_silent_units_are_named_and_have_no_evidence():
    activations, images, concepts = planted_layer(150, 1)
    values = activations["activations"]
    values[:, 0], values[:, 1], values[:, 2] = 0, 2.5, 0
    values[:60, 2] = 1 + np.arange(60)  # top 100 images are filled up with images it says nothing of
    table = label((activations, images, concepts))
    assert table.status[:3].tolist() == ["dead", "constant", "not selective"]
    assert (
        table.loc[:1, ["score", "kept", "score_low", "p_value", "q_value", "held_out_correlation"]]
        .isna()
        .all(axis=None)
    )
    assert table.candidate[:2].tolist() == ["", ""] and table.candidate[2] != ""
    assert np.isnan(table.p_value[2]) and table.kept[2] >= 0
    assert table.held_out_images[0] == 0


@pytest.mark.parametrize(("similarity", "source_images"), [("soft_wpmi", 150), ("cos_similarity", 60)])
def test_a_unit_that_is_not_finite_has_no_label_and_leaves_the_others_as_a_dead_one_does(similarity, source_images):
    activations, images, concepts = planted_layer(source_images, 1)
    few = {"resamples": 3, "null_draws": 120}
    values = activations["activations"]
    values[:, [0, 50]] = 0
    dead = label((activations, images, concepts), similarity, **few)
    values[3, 0], values[:, 50] = np.nan, -np.inf
    table = label((activations, images, concepts), similarity, **few)
    assert table.status[[0, 50]].tolist() == ["not finite"] * 2 and set(dead.status[[0, 50]]) == {"dead"}
    assert (table.loc[[0, 50], ["concept", "candidate", "top_concepts", "top_images"]] == "").all(axis=None)
    pd.testing.assert_frame_equal(table.drop(columns="status"), dead.drop(columns="status"), check_exact=True)
    assert table.status.drop([0, 50]).equals(dead.status.drop([0, 50]))
    values[5] = np.inf
    with pytest.raises(ValueError, match="no unit is finite on every image: activation of unit 50 is -inf"):
        label((activations, images, concepts), similarity, **few)


def test_sentences_tell_units_that_are_not_finite():
    table = label(planted_layer(150, 1), resamples=2, null_draws=50)
    table.loc[:2, "status"] = ["dead", "not finite", "not finite"]
    assert (
        "better than by chance" in (first := concept_findings.evidence_findings(table)[0])
        and " of 117 active units (" in first
    )
    assert first.endswith("3 units are dead, constant or not finite.")
    assert concept_findings.evidence_findings(table[:3]) == [
        "None of the 3 units responds to anything: all are dead, constant or not finite."
    ]


def test_a_layer_of_dead_units():
    activations, images, concepts = planted_layer(120, 1)
    activations["activations"][:] = 0
    for similarity in ("soft_wpmi", "cos_similarity"):
        table = label((activations, images, concepts), similarity, resamples=2, null_draws=50)
        assert set(table.status) == {"dead"} and table.p_value.isna().all()
        assert concept_findings.evidence_findings(table) == [
            "None of the 120 units responds to anything: all are dead or constant."
        ]


def test_an_alpha_of_one_counts_as_the_usual_one():
    layer = planted_layer(150, 1)
    pd.testing.assert_frame_equal(label(layer, alpha=1), label(layer))
    lenient = label(layer, alpha=0.5)
    assert lenient.status.isin(unit_labels.CLAIMS).equals(lenient.q_value <= 0.5) and set(lenient.alpha) == {0.5}


def test_half_a_probe_set_can_be_too_few_images():
    table = label(planted_layer(150, 1))
    assert table.held_out_correlation.isna().all() and set(table.held_out_images) == {0}
    assert concept_findings.evidence_findings(table)[-1].startswith(
        "There is no held-out check: half of the probe set is fewer images"
    )


def test_findings_say_numbers(planted):
    _, table = planted
    better = int((table.q_value <= 0.05).sum())
    lines = concept_findings.evidence_findings(table)
    assert lines[0].startswith(
        f"{better} of 120 active units ({100 * better / 120:.0f} %) are selective: a word fits better than by chance"
    )
    whole = table.p_floor.max() < 0.0006  # units of cropped source images share the draws of their likes
    assert f"no p-value can be below {'0.0005' if whole else '0.001'})" in lines[0]
    assert any("correlates with its unit on the other half by" in line and "95 % interval" in line for line in lines)
    assert "better than by chance at q = 0.2 (" in concept_findings.evidence_findings(table.assign(alpha=0.2))[0]
    weak = concept_findings.evidence_findings(table.assign(status="not selective"))
    assert any(line.startswith("Not supported at n = ") for line in weak)


def test_bad_input_is_named():
    activations, images, concepts = planted_layer(120, 1)
    with pytest.raises(ValueError, match=r"concept 'concept0' \(row 5\) is empty or there twice"):
        words = concepts["word"].copy()
        words[5] = "concept0"
        label((activations, images, {**concepts, "word": words}))
    with pytest.raises(ValueError, match=r"concept ' ' \(row 2\) is empty or there twice"):
        words = concepts["word"].copy()
        words[2] = " "
        label((activations, images, {**concepts, "word": words}))
    with pytest.raises(ValueError, match="`image_features` has dimension 48, `text_features` 47"):
        label((activations, images, {**concepts, "features": concepts["features"][:, :-1]}))
    with pytest.raises(ValueError, match=r"has 1 source image\(s\), 3 are the fewest"):
        label((activations, {**images, "source_image": ["one"] * 120}, concepts))
    few = [{name: each[:99] for name, each in part.items()} for part in (activations, images)]
    with pytest.raises(ValueError, match="`top_k` is 100 but there are 99 images"):
        label((*few, concepts))


@pytest.mark.parametrize("similarity", ["soft_wpmi", "cos_similarity"])
def test_every_half_of_ten_splits_is_labeled_by_itself(similarity):
    each = probe(planted_layer(240, 1))
    halved = permutation.splits(each.source_images, 3)
    rngs = [np.random.default_rng(seed) for seed in range(2)]
    by_kind = {"soft_wpmi": evidence.collect_from_top_images, "cos_similarity": evidence.collect_from_all_images}
    how = (similarity,)
    if similarity in TERMS:
        how = (terms := soft_terms()), permutation.log_normalizers(each.images, each.texts, terms.a)
    collected = by_kind[similarity](each, *how, 2, 5, halved, rngs)
    found = collected.halves
    assert found.shape == (10, 2, PLANTED + NULL)
    score = dissect.SIMILARITIES[similarity]
    by_half = [score(each.activations[half], each.images[half], each.texts).double() for half in halved[0]]
    for own, other, short in zip(by_half, found[0][::-1], collected.short, strict=True):
        expected = own.amax(1) - own[range(len(own)), other]
        np.testing.assert_allclose(short, expected, atol=1e-3)
    agree = found[0][0] == found[0][1]
    assert agree.any() and (collected.short[:, agree] == 0).all() and (collected.short[:, ~agree] > 0.01).any()
    for rows, labels in zip(halved, found, strict=True):
        assert not set(rows[0]) & set(rows[1]) and len(rows[0]) == len(rows[1]) == 120
        for half, label_of in zip(rows, labels, strict=True):
            expected = dissect.label(score(each.activations[half], each.images[half], each.texts)).concept
            assert (expected.numpy() == label_of).mean() > 0.99  # ties of float32 products
    assert len({tuple(rows[0]) for rows in halved}) == 10
