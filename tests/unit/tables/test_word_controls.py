"""Words where the truth is known: planted classes that are listed, not listed, listed twice, and layers of noise."""

import copy
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from scipy import stats
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from unitlens.measures import word_controls as measured
from unitlens.networks import heads, network
from unitlens.report import concept_findings, read_first
from unitlens.tables import labeling, unit_labels, word_controls
from unitlens.tables.word_controls import CLASSES, SHUFFLED, UNLISTED
from unitlens.units import exemplars

CLASS_NAMES = [f"thing_{number}, also called {number}" for number in range(40)]
IMAGES, DIMENSION = 900, 48


def planted(*, listed=20, again=0, noise=0.05, alike=0.0, seed=0):
    """Classes that answer to a concept each, of which so many are on the list, and some of these twice; 60 more words.

    Concepts come in tens that are `alike`, by the share that they have in common. Gives scores, a layer that answers to
    nothing, the images' names, what they show, the concepts, and the words of
    the classes that these lack.
    """
    rng = np.random.default_rng(seed)
    kinds = rng.normal(size=(10, DIMENSION))[np.arange(100) % 10]
    own = rng.normal(size=(len(CLASS_NAMES) + 60, DIMENSION))
    texts = (np.sqrt(alike) * kinds + np.sqrt(1 - alike) * own).astype(np.float32)
    shown = rng.permutation(np.arange(IMAGES) % len(texts))
    features = (texts[shown] + rng.normal(scale=0.7, size=(IMAGES, DIMENSION))).astype(np.float32)
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, texts)]
    scores = units[0] @ units[1][: len(CLASS_NAMES)].T
    scores = (scores + rng.normal(scale=noise, size=scores.shape)).astype(np.float32)
    ids = np.array([f"i{row}" for row in range(IMAGES)], dtype=object)
    images = {"features": features, "image_id": ids, "source_image": ids.astype(str)}
    words = [unit_labels.spoken(name) for name in CLASS_NAMES] + [f"other {number}" for number in range(60)]
    rows = [*range(listed), *range(len(CLASS_NAMES), len(words))]
    doubles = [f"{words[row]} again" for row in range(again)]
    concepts = {
        "word": np.array([words[row] for row in rows] + doubles, dtype=object),
        "category": np.full(len(rows) + again, "object", dtype=object),
        "features": np.concatenate([texts[rows], 1.001 * texts[:again]]),
    }
    added = np.arange(listed, len(CLASS_NAMES))
    others = {"word": np.array(words, dtype=object)[added], "features": texts[added]}
    return scores, {"layer": rng.normal(size=(IMAGES, 80)).astype(np.float32)}, ids, images, concepts, others


def score(made, names=CLASS_NAMES, **options):
    settings = {"similarity": "soft_wpmi", "encoders": ("clip", "clip"), "seed": 0, "null_draws": 2000} | options
    return word_controls.score(*made, names, **settings)


@pytest.fixture(scope="module")
def table():
    return score(planted())


def test_the_names_of_planted_classes_are_right_and_their_sets_hold_them(table):
    row = table.set_index("control").loc[CLASSES]
    assert (row.words, row.units) == (100, 40) and row.why == ""
    assert row.selective >= 38 and row.named >= 30 and row.named_right >= 0.95
    assert row.selective_right >= 0.95 and row.covered >= 0.9 and row.right_covered >= 0.9
    assert row.set_size == 1 and row.right_size == 1
    for name in ("named_right", "selective_right", "covered", "right_covered", "named_share"):
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    assert row.selective_share == row.selective / 40


def test_class_outputs_choose_how_many_images_they_look_at_as_layers_do(table):
    chosen = score(planted(), top_k="auto").set_index("control")
    assert chosen.selective_right[CLASSES] >= 0.95 and chosen.named[CLASSES] >= 30
    assert chosen.selective[SHUFFLED] <= stats.binom.ppf(0.999, 80, 0.05)


def test_names_that_are_taken_off_the_list_are_missed_by_some(table):
    row = table.set_index("control").loc[UNLISTED]
    assert (row.words, row.units) == (80, 20)
    assert row.selective >= 10, "a unit without its word is selective all the same"
    assert np.isnan(row.named_right) and np.isnan(row.selective_right)


def test_noise_is_seldom_selective(table):
    row = table.set_index("control").loc[SHUFFLED]
    assert (row.layer, row.words, row.units) == ("layer", 80, 80), "the run's own list"
    assert row.selective <= stats.binom.ppf(0.999, 80, 0.05)


def test_a_name_that_stands_there_twice_is_right_either_way():
    row = score(planted(listed=40, again=40)).set_index("control").loc[CLASSES]
    assert row.words == 140 and row.selective_right >= 0.95 and row.named_right >= 0.95


def test_of_concepts_that_are_alike_sets_hold_what_they_state_and_names_are_right():
    """Classes whose best word is wrong for a quarter; the gap is judged on classes that did not calibrate it."""
    rows = [score(planted(noise=0.3, alike=0.6, seed=seed), null_draws=500).iloc[0] for seed in range(6)]
    counts = np.array([[row.selective, row.right_covered * row.selective, row.named] for row in rows])
    names = sum(row.named_right * row.named for row in rows)
    selective, covered, named = counts.sum(0)
    assert np.mean([row.selective_right for row in rows]) < 0.85 and selective > 200 and named > 30
    low, high = stats.binom.ppf([0.001, 0.999], selective, 0.9)
    assert low <= round(covered) <= high
    assert names / named >= word_controls.SOUGHT


@pytest.mark.parametrize(
    ("names", "why"),
    [([], "the names of the classes are not known"), (["a"] * 40, "no class name is among the concepts")],
)
def test_a_control_that_cannot_be_made_says_why(names, why):
    *made, _ = planted()
    table = score((*made, None), names)
    assert table.control.tolist() == [CLASSES, UNLISTED, SHUFFLED]
    assert table.why.tolist() == [why, why, ""] and table.units.tolist() == [0, 0, 80]
    assert table.near_copies.eq(0).all(), "copies are counted all the same"
    lines = concept_findings.control_findings(word_controls.beside(table.assign(model="m"), concepts()))
    assert lines[0] == f"m: how often words are right cannot be told, for {why}."
    assert read_first._controls({"controls": table.assign(model="m")}) == [
        "How often names are right is not known: there are no classes whose names are on the list."
    ]


def test_one_name_cannot_be_taken_off():
    table = score(planted(), [CLASS_NAMES[0], *["nothing"] * 39]).set_index("control")
    assert table.units[CLASSES] == 1 and table.why[UNLISTED] == "one class name alone is listed"
    assert np.isnan(table.right_covered[CLASSES]), "too few to calibrate with"


def test_sets_are_judged_by_classes_that_did_not_calibrate_them():
    """Of ten classes the gap reaches the farthest truth, which covers all of them and ten in eleven of others."""
    rng, covered = np.random.default_rng(0), []
    table = pd.DataFrame({"status": ["named"] * 20, "set_size": 1, "gap": 0.0})
    for seed in range(100):
        labeled = labeling.Labeled(table, torch.as_tensor(rng.random((20, 30))), np.arange(30))
        found = word_controls._judged(labeled, rng.integers(0, 30, 20), seed)
        assert found["right_covered"].notna().all() and found["right_size"].notna().all(), "both halves are judged"
        covered.append(found["right_covered"].mean())
    assert np.mean(covered) == pytest.approx(10 / 11, abs=0.025)


def test_labels_by_annotations_are_judged_alike():
    made = planted(listed=40)
    names = (unit_labels.ANNOTATIONS,) * 2
    table = score(made, similarity="auc", encoders=names, null_draws=300)
    row = table.set_index("control").loc[CLASSES]
    assert min(row.named_right, row.covered, row.right_covered) >= 0.9 and np.isnan(row.near_copies)


class LargeTensors(TorchDispatchMode):
    """Keep the places in memory of what has at least so many numbers."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.held = numbers, []

    def __torch_dispatch__(self, function, types, given=(), options=None):
        made = function(*given, **(options or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, torch.Tensor) and each.numel() >= self.numbers:
                storage = each.untyped_storage()  # kept, so that none comes to the place of another
                self.held += [storage] * all(storage.data_ptr() != known.data_ptr() for known in self.held)
        return made


def test_one_matrix_alone_of_classes_and_words_is_held_at_a_time(monkeypatch):
    """One labels the classes with all words, one without half of their names: the words left are 130 and 110."""
    made = planted(listed=40)
    more = 30
    rng = np.random.default_rng(3)
    made[4]["word"] = np.append(made[4]["word"], [f"more {number}" for number in range(more)])
    made[4]["category"] = np.append(made[4]["category"], ["object"] * more)
    extra = rng.normal(size=(more, DIMENSION)).astype(np.float32)
    made[4]["features"] = np.concatenate([made[4]["features"], extra])
    scores = np.repeat(made[0], 10, axis=1)  # 400 classes
    monkeypatch.setattr(exemplars, "BLOCK_ELEMENTS", 20_000)
    with LargeTensors(400 * 110) as large:
        score((scores, {}, *made[2:5], None), names=CLASS_NAMES * 10, null_draws=100)
    assert [each.nbytes() for each in large.held if each.nbytes() > 400 * 900 * 4] == []
    sizes = sorted(each.nbytes() // 8 for each in large.held if each.nbytes() // 8 in (400 * 130, 400 * 110))
    assert sizes == [400 * 110, 400 * 130]


def test_near_copies_are_counted_by_source_image(monkeypatch):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(7, 30)).astype(np.float32)
    features[1] = 2 * features[0]  # of one source image
    features[3] = features[2] + 0.01 * rng.normal(size=30)
    features[6] = -features[4]
    assert word_controls.near_copies(features, list("aabcdef")) == 2
    monkeypatch.setattr(exemplars, "BLOCK_ELEMENTS", 14)
    assert word_controls.near_copies(features, list("aabcdef")) == 2
    assert word_controls.near_copies(features, list("abbcdef")) == 3


def test_near_copies_are_told(table):
    assert not any("nearly the same" in line for line in told(table)[0]), "there are none"
    for copies, images in ((1, "1 source image is"), (3, "3 source images are")):
        said = f"To the encoder {images} nearly the same as another"
        assert any(said in line for line in told(table, near_copies=copies)[0])


def test_words_for_classes():
    assert unit_labels.spoken("golden_retriever,  dog") == "golden retriever"
    assert word_controls.names_to_add(["Tench", "dog"], ["tench, fish", "a_b", "A b", "", "c"]) == ["A b", "c"]
    assert word_controls._truth(["dog", "Dog", "cat"], ["DOG", "cat, tom", "owl"]).tolist() == [0, 2, -1]


def concepts():
    return pd.DataFrame({"model": "m", "layer": "layer", "status": ["named", "theme", "not selective", "dead"]})


def test_layers_stand_beside_those_with_shuffled_weights(table):
    found = word_controls.beside(table.assign(model="m"), concepts()).set_index("control")
    assert found.loc[SHUFFLED, ["network_selective", "network_named"]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.loc[CLASSES, ["network_selective", "network_named"]].isna().all()


def told(table, **changes):
    changed = table.assign(model="m", **changes)
    return concept_findings.control_findings(word_controls.beside(changed, concepts())), read_first._controls(
        {"controls": changed}
    )


def test_names_that_are_right_too_rarely_are_told_on_the_first_screen(table):
    lines, (first,) = told(table, named=50, named_right=0.6, named_right_low=0.46, named_right_high=0.72)
    assert "50 are named, and 60 % (95 % interval 46 % to 72 %) of the names are right, fewer than the 85 %" in lines[0]
    assert "(95 % interval 46 % to 72 %; fewer than 85 %: do not quote names of this run)." in first
    assert "hidden units are right, this cannot say" in first and "they cannot say" in lines[-1]
    lines, (first,) = told(table, named=50, named_right=0.8, named_right_low=0.7, named_right_high=0.9)
    assert "the interval leaves open whether it is the 85 % that should be." in lines[0] and "quote" not in first
    off = "With their names taken off the list, 20 of 20 class outputs are selective all the same and "
    for named, said in ((0, "none named."), (3, "3 named, by other words.")):
        assert any(f"{off}{said}" in line for line in told(table, units=20, selective=20, named=named)[0])
    lines, (first,) = told(table, named=0, named_right=np.nan, named_right_low=np.nan, named_right_high=np.nan)
    assert "None is named, so that this run does not say how often names are right." in lines[0]
    assert first.startswith("Of class outputs, whose names are known, none of 40 of m is named. Their best words are")


def copy_of(model, seed):
    shuffled = copy.deepcopy(model)
    measured.shuffle(shuffled, seed=seed)
    return shuffled


def test_outputs_are_those_of_the_network_and_of_its_shuffled_copy():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 4)).eval()
    heads.attach(model, classes=4)
    normalize = network.normalizer([0.5] * 3, [0.5] * 3, device="cpu")
    net = network.Network(model, normalize, None, torch.device("cpu"), {})
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    with torch.no_grad():
        expected = model(normalize(torch.as_tensor(images)))
    for batches in ([images], [images[:2], images[2:]]):
        scores, layers = measured.outputs(net, copy_of(model, 0), batches, poolings={"0": "avg", "1": "max"})
        torch.testing.assert_close(scores, expected)
        assert {name: tuple(each.shape) for name, each in layers.items()} == {"0": (5, 6), "1": (5, 6)}
        own = model[0](normalize(torch.as_tensor(images))).mean((2, 3))
        assert (layers["0"] - own).abs().max() > 0.01
    run = partial(measured.outputs, net, batches=[images], poolings={"0": "avg"})
    again, other = (run(copy_of(model, seed))[1]["0"] for seed in (0, 1))
    torch.testing.assert_close(again, layers["0"])
    assert not torch.equal(other, again)


def test_maps_of_some_units_of_a_shuffled_copy_stand_behind_a_layers_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 100, 3), nn.ReLU(), nn.Flatten(), nn.Linear(100 * 36, 4)).eval()
    normalize = network.normalizer([0.5] * 3, [0.5] * 3, device="cpu")
    net = network.Network(model, normalize, None, torch.device("cpu"), {})
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    with torch.no_grad():
        own = model[1](model[0](normalize(images)))
        expected = measured.outputs(net, copy_of(model, 3), [images], poolings={"1": "avg"})[1]["1"]
    beside = partial(measured.beside_shuffled, net, copy_of(model, 3), "1", seed=3)
    both = beside(lambda _: own)(images)
    assert both.shape == (5, 164, 6, 6) and torch.equal(both[:, :100], own)
    near = (both[:, 100:].mean((2, 3))[:, :, None] - expected[:, None]).abs().amax(0) < 1e-5
    assert near.sum(1).tolist() == [1] * 64 and near.sum(0).max() == 1, "64 of its units, each once"
    assert torch.equal(beside(lambda _: own[:, :, 0, 0])(images), own[:, :, 0, 0])
    for value in (torch.inf, -torch.inf, torch.nan):
        broken = copy_of(model, 3)
        nn.init.constant_(broken[0].bias, value)
        broken[1] = nn.Identity()
        both = measured.beside_shuffled(net, broken, "1", lambda _: own, seed=3)(images)
        assert both[:, 100:].eq(0).all(), "what is not finite counts as 0"


def test_both_networks_are_folded_but_for_the_layers_that_are_read(tmp_path):
    weights, facts = tmp_path / "weights.bin", tmp_path / "model.json"
    torch.save(torchvision.models.resnet18(num_classes=2).state_dict(), weights)
    facts.write_text('{"model": "m", "weights_sha256": "ab", "input": {"crop": 32}}')
    settings = {"architecture": "torchvision:resnet18", "layout": "named", "classes": 2, "precision": "float32"}
    settings |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    net, shuffled = measured.load(settings, weights, facts, device="cpu", layers=["conv1"], seed=0)
    for model in (net.model, shuffled):
        assert isinstance(model.bn1, nn.BatchNorm2d) and not isinstance(model.layer4[1].bn2, nn.BatchNorm2d)


class Wide(nn.Module):
    """Tokens of an image of 8 x 16 pixels, a class token before them, beside a layer of numbers that are not finite."""

    def __init__(self):
        super().__init__()
        self.patches, self.tokens, self.broken = nn.Conv2d(3, 4, 4, stride=4), nn.Identity(), nn.Identity()

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = self.tokens(torch.cat([100 + torch.zeros_like(patches[:, :1]), patches], 1))
        self.broken(images.new_tensor([np.nan, np.inf, -np.inf, 7]).expand(len(images), 4))
        return tokens.mean(1)


def test_tokens_are_pooled_over_the_image_and_what_is_not_finite_is_0():
    model = Wide().eval()
    heads.attach(model, classes=4)
    normalize = network.normalizer([0.5] * 3, [0.5] * 3, device="cpu")
    net = network.Network(model, normalize, None, torch.device("cpu"), {})
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 16, 3), np.uint8)
    _, layers = measured.outputs(net, model, [images], poolings={"tokens": "avg", "broken": "avg"})
    assert layers["broken"].tolist() == [[0, 0, 0, 7]] * 3
    assert layers["tokens"].abs().max() < 10, "without the class token"
