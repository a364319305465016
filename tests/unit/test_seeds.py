"""Seeds of images by hand; a seed that a function takes decides what it returns and is passed on wherever it can."""

import ast
import importlib
import inspect
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
import toy
from PIL import Image
from unitlens.explainers import hadamard, items, lime, lime_samples, run, segment, surrogate
from unitlens.explainers.masks import cut_explanations, equal_area_mask, mask_stability
from unitlens.images import textures
from unitlens.measures import (
    agreement,
    faithfulness,
    lime_sweep,
    localization,
    perturbation,
    reference_checks,
    sanity,
)
from unitlens.measures import word_controls as measured
from unitlens.networks.network import Network, class_names, normalizer
from unitlens.report import class_pages, text
from unitlens.storage.arrays import write_arrays
from unitlens.tables import agreement as agreement_tables
from unitlens.tables import (
    audit,
    classes,
    comparison,
    diversity,
    interventions,
    labeling,
    linear_labels,
    resampling,
    summaries,
    tuning,
    word_controls,
)
from unitlens.tables import complexity as complexity_tables
from unitlens.tables import faithfulness as faithfulness_tables
from unitlens.tables import localization as localization_tables
from unitlens.tables import netdissect as netdissect_tables
from unitlens.tables import sanity as sanity_tables
from unitlens.units import dissect, netdissect, permutation

SCRIPTS = Path(__file__).parents[2] / "scripts"
NAMES = ("seed", "seeds", "control_seeds", "generator", "rng")


def test_image_seeds_are_the_same_on_every_machine_and_use_63_bits():
    assert items.image_seed(0, "a") == 6612858177627257344
    assert items.image_seed(1, "a") == 6104050150092007499
    assert items.image_seed(0, "b") == 6784266294602954560
    many = [items.image_seed(7, f"{number}") for number in range(200)]
    assert min(many) >= 0 and 2**62 < max(many) < 2**63 and len(set(many)) == 200
    assert items.stream_seeds(7, "lime", ["x", "y"]) == [items.image_seed(7, "lime/x"), items.image_seed(7, "lime/y")]


def test_repeats_name_the_images_as_they_are_first():
    assert items.repeated_ids(("a", "b"), 1) == [["a", "b"]]
    assert items.repeated_ids(("a", "b"), 3) == [["a", "b"], ["a/1", "b/1"], ["a/2", "b/2"]]


def test_one_seed_is_that_of_every_image():
    assert items.one_each(5, 3, "seed") == items.one_each(np.int64(5), 3, "seed") == [5, 5, 5]
    assert items.one_each(np.array([1, 2]), 2, "seed") == [1, 2]
    with pytest.raises(ValueError, match="`tie_seeds` holds 2 seeds for 3 images; give one, or one per image"):
        items.one_each([1, 2], 3, "tie_seeds")


# what other seeds give


N = 18  # source images: their 2^18 sign flips are too many to be taken all, so that p-values are drawn
ORIGIN = {"model": "m", "explained_class": "predicted", "geometry": "g"}
IDS = [f"i{number}" for number in range(N)]
FLAT = torch.ones(2, 8, 8)
ONES = torch.ones(2, dtype=torch.int64)
MASK = torch.eye(8, dtype=torch.bool).expand(2, 8, 8)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


PICTURES = (noise(2, 8, 8, 3) * 255).to(torch.uint8)
SQUARES = segment.grid(PICTURES, size=4)
SHARD = {
    "images": PICTURES.numpy(),
    "image_id": np.array(["a", "b"], object),
    "source_image": np.array(["a", "b"], object),
}


def predict(batch):
    shares = batch.double().mean((1, 2)) * torch.tensor([1, 2, 3])
    return shares / shares.sum(1, keepdim=True)


def rows(*kinds, value="value"):
    """A table of random values, a row for each kind of row and image."""
    images = {**ORIGIN, "image_id": IDS, "source_image": IDS}
    values = np.random.default_rng(0).normal(size=(len(kinds), N))
    return pd.concat([pd.DataFrame({**images, **kind, value: own}) for kind, own in zip(kinds, values, strict=True)])


def pairs(**columns):
    names = ({"explainer_a": "lime", "explainer_b": other} for other in ("cam", "rise"))
    also = {
        "measure": "equal_area_iou",
        "cut": 0.2,
        "prediction": "right",
        "floor": 0.1,
        "tied_share": 0.0,
        "ceiling": 1.0,
    }
    return rows(*(name | also | columns for name in names))


def explainers(measure, *names, **columns):
    return rows(*({"explainer": name, "measure": measure, **columns} for name in (*names, "random", "gaussian")))


def files(maps):
    known = {"label": np.zeros(2), "predicted": np.zeros(2)} | SHARD
    return [({**known, "saliency": np.asarray(maps)}, {**ORIGIN, "explainer": name}) for name in ("lime", "cam")]


def labeled_units():
    words = np.random.default_rng(0).choice(["dog", "sky"], size=60)
    parts = zip(("a", "b", "c"), np.split(words, [15, 35]), strict=True)
    units = [pd.DataFrame({"layer": layer, "concept": own, "unit": range(len(own))}) for layer, own in parts]
    table = pd.concat(units).assign(model="m", status="selective", encoder="clip", similarity="wpmi")
    return table.assign(group=table.concept, category=table.concept, concept_list="two")


def better_than_chance():
    """A layer's table, of which sentences take these columns."""
    facts = {
        "status": ["selective", "not selective"] * 10,
        "source_images": N,
        "images": N,
        "alpha": 0.05,
        "p_floor": 0.01,
        "kept": 1.0,
    }
    q = {"q_value": [0.01, 0.2] * 10, "p_value": 0.01, "held_out_correlation": np.linspace(0, 1, 20) ** 3}
    return pd.DataFrame(q).assign(**facts, kept_group=1.0)


def probe(images=240, units=5):
    rng = np.random.default_rng(0)
    names = np.array([f"p{number}" for number in range(images)], object)
    shown = {"features": rng.normal(size=(images, 6)).astype(np.float32), "image_id": names, "source_image": names}
    words = np.array([*"abcd"], object)
    concepts = {"features": rng.normal(size=(4, 6)).astype(np.float32), "word": words, "category": words}
    return {"activations": rng.normal(size=(images, units)).astype(np.float32), "image_id": names}, shown, concepts


def relabeled(seed):
    activations, images, concepts = probe()
    arrays = activations["activations"], images["features"], concepts["features"]
    options = {"similarity": "cos_similarity", "source_images": images["source_image"], "groups": np.array([*"abcd"])}
    return diversity.relabel_subsets(*arrays, seed=seed, **options)


def randomized(seed):
    network = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with torch.no_grad():
        network[0].weight.copy_(torch.arange(16.0).view(4, 4))
    sanity.randomize(network, ["0"], seed=seed)
    return network[0].weight


def controls_of_words(seed):
    activations, images, concepts = probe()
    values, layers = activations["activations"], {"x": noise(len(images["image_id"]), 40).numpy()}
    options = {"similarity": "cos_similarity", "encoders": ("clip", "clip"), "null_draws": 9, "alpha": 0.5}
    names = [*"abcd", *["none"] * values.shape[1]][: values.shape[1]]
    return word_controls.score(values, layers, images["image_id"], images, concepts, None, names, seed=seed, **options)


def outputs_of_shuffled(seed):
    torch.manual_seed(0)
    model = two_layers()
    net = Network(model, lambda images: torch.as_tensor(images)[:, 0, :4, 0].float(), None, "cpu", {})
    measured.shuffle(model, seed=seed)
    return measured.outputs(net, model, [np.arange(32.0).reshape(2, 1, 16, 1)], poolings={"1": "avg"})[1]["1"]


def weights_of_shuffled(seed):
    torch.manual_seed(0)
    settings = {"architecture": "torchvision:resnet18", "layout": "named", "classes": 2, "precision": "float32"}
    with tempfile.TemporaryDirectory() as folder:
        weights, facts = Path(folder, "weights.bin"), Path(folder, "model.json")
        torch.save(torchvision.models.resnet18(num_classes=2).state_dict(), weights)
        facts.write_text('{"model": "m", "weights_sha256": "ab", "input": {"crop": 32}}')
        settings |= {"mean": [0.5] * 3, "std": [0.5] * 3}
        net, shuffled = measured.load(settings, weights, facts, device="cpu", layers=["conv1"], seed=seed)
    assert not torch.equal(net.model.fc.weight, shuffled.fc.weight)
    return shuffled.fc.weight


def maps_of_shuffled(seed):
    torch.manual_seed(0)
    model, own = torch.nn.Sequential(torch.nn.Conv2d(1, 100, 1)), torch.zeros(2, 100, 4, 4)
    net = Network(model, lambda images: torch.as_tensor(images).movedim(3, 1).float(), None, "cpu", {})
    return measured.beside_shuffled(net, model, "0", lambda _: own, seed=seed)(np.arange(32.0).reshape(2, 4, 4, 1))


def two_layers():
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    with torch.no_grad():
        network[1].weight.copy_(torch.arange(16.0).view(4, 4))
    return network


def weights_of(network):
    return {"x": network[1].weight.detach().clone()}


def check_randomization(seed, maps):
    images = pd.DataFrame({**ORIGIN, "image_id": ["a", "b"], "source_image": ["a", "b"]})
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3))
    with torch.no_grad():
        network[0].weight.copy_(torch.arange(9.0).view(1, 1, 3, 3))
    return sanity_tables.check_randomization(network, maps, images, stages=1, area=0.3, seed=seed)


def stability_of_lime(seed):
    drawn = lime_samples.sample(predict, PICTURES, SQUARES, ONES, n_samples=40, seeds=[1, 2])
    images = pd.DataFrame({"image_id": ["a", "b"]})
    options = {"counts": [40], "top": 2, "area": 0.1, "options": {}}
    return sanity_tables.check_stability([drawn, drawn], SQUARES, images, seed=seed, **options)


def score_of(seed, objective):
    options = {"objective": objective, "reference": FLAT, "explainer": "cam", "area": 0.3, "steps": 4}
    options |= {"baseline": "mean", "batch_size": 8}
    return lime_sweep.make_score(predict, PICTURES, ONES, ["a", "b"], seed=seed, **options)


SETTING = {"n_samples": 30, "superpixels": {"method": "grid", "size": 4}, "hide": "mean", "num_features": 2}
GRID = {"alpha": [0.1, 1, 2], "n_samples": [30, 40, 50]}


def tuned():
    """Scores of a few settings, and those."""
    swept = lime_sweep.all_settings(SETTING, {"n_samples": [30, 40]})
    return (
        rows(*({"setting": name, "mask_area": 0.1, "ceiling": 1.0} for name in swept), value="score"),
        swept,
        next(iter(swept)),
    )


def all_tuned(seed, part):
    scores, _, _ = tuned()
    options = {"default": SETTING, "grid": {"n_samples": [30, 40]}, "presets": {}, "count": None}
    seconds = pd.DataFrame(
        {"model": ["m"] * 2, "part": ["superpixels", "sample"], "segmentation": ["grid, size 4", ""]}
    )
    return tuning.tables(
        scores.assign(objective="x", seed=0), seconds.assign(images=2, seconds=1.0), seed=seed, **options
    )[part]


def verified(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = toy.network().eval().requires_grad_(False)
    images = (noise(2, 32, 32, 3) * 255).to(torch.uint8)
    lime_options = {"superpixels": {"method": "grid", "size": 8}, "hide": "mean"}
    options = {"name": "toy", "layer": "relu2", "cams": [], "lime_options": lime_options, "samples": 40}
    normalize = normalizer([0.5] * 3, [0.25] * 3, device="cpu")
    return reference_checks.compare(network, normalize, images, ONES, ["a", "b"], batch_size=8, seed=seed, **options)[0]


PLAN = perturbation.Plan(steps=4, baselines=["mean"], percentiles=[50])
TRIPLE = predict, PICTURES, FLAT, ONES
EXPLANATION = SHARD | {"saliency": FLAT.numpy(), "target": np.ones(2, int), "target_probability": np.ones(2)}
CURVES = {"lime:deletion:mean": noise(N, 4).numpy(), "source_image": np.array(IDS, object)}
SCORED = {"plan": PLAN, "batch_size": 9}
LIME = {"n_samples": 40, "batch_size": 8}
EXPLAINER = LIME | {"superpixels": {"method": "grid", "size": 4}, "hide": "mean", "num_features": 1}
VALUES = noise(N, 2).numpy().T


def detectors():
    table = pd.DataFrame({"model": "m", "layer": "x", "masks": "masks", "cosine": VALUES[0], "mask_concept": IDS})
    table["held_out_iou"] = VALUES[0]
    facts = {"annotated_source_images": 9, "status": "named", "clip_candidate": IDS[::-1], "clip_status": "selective"}
    facts |= {"shuffled_units": 9, "shuffled_selective": 1, "shuffled_named": 0}
    return table.assign(detector=True, mask_category="object", same=False, **facts)


def drawn(write, name):
    """The pixels of one image that is written with a seed."""
    with tempfile.TemporaryDirectory() as folder:
        write(folder)
        return np.asarray(Image.open(Path(folder, name)))


def dissected(seed):
    maps, masks = noise(20, 3, 4, 4), (noise(20, 4, 4, seed=1) > 0.5).numpy().astype(int)
    return netdissect.dissect(
        lambda images: torch.from_numpy(images).movedim(3, 1),
        lambda names: iter([{"images": maps.movedim(1, 3).numpy(), "mask": masks}]),
        values=np.array([1]),
        categories=np.array(["c"]),
        source="masks",
        source_images=[*IDS, "x", "y"],
        share=0.3,
        draws=50,
        seed=seed,
    ).p_value


# ---- accounts of units, by classes


LABELS = np.repeat([0, 1], N)  # of 2 N images, each a source image of its own
NAMED = pd.DataFrame({"model": "m", "layer": "4", "unit": range(8), "name": [*"aabbccdd"], "status": "named"})
OF_LAYER = {"model": "m", "layer": "4"}


def accounts_of_classes():
    names = np.array([f"i{number:02d}" for number in range(2 * N)], object)
    rest = noise(2 * N).numpy()
    columns = {"image_id": names, "source_image": names, "label": LABELS, "target": LABELS, "score": rest}
    columns |= {"warning": np.full(2 * N, "", object), "tokens": 0 * rest, "remainder": rest}
    arrays = {name: noise(2 * N, 8, seed=k).numpy() - 0.3 for k, name in enumerate(interventions.CHOSEN.values())}
    return columns, arrays


def tabulated(tabulate, seed, *also):
    columns, arrays = accounts_of_classes()
    rows = {number: np.flatnonzero(number == LABELS) for number in (0, 1)}
    parts = columns | arrays
    groups = [(number, own, {name: values[own] for name, values in parts.items()}) for number, own in rows.items()]
    return tabulate(groups, columns, OF_LAYER, NAMED, ["cat", "dog"], *also, seed=seed)


def of_file(tabulate):
    """What is tabulated of the accounts of two classes in one file."""
    columns, arrays = accounts_of_classes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m", "00000.h5")
        path.parent.mkdir()
        write_arrays(path, columns | arrays, OF_LAYER)
        return tabulate([path])


def chosen_units(seed):
    columns, arrays = accounts_of_classes()
    return interventions.choose(columns, [arrays], OF_LAYER, NAMED, units=[2], images=20, seed=seed)[0]["units"]


def planned(seed):
    columns, arrays = accounts_of_classes()
    rows = interventions.halves(columns, images=20, seed=1)
    numbers, means = interventions.class_means([arrays], rows[~rows["test"]], 2 * N)
    return interventions.plan(rows, numbers, means, NAMED, sizes=[2], seed=seed)[0]["units"]


def falls_of_classes():
    kinds = [("contribution", "the class"), ("activity", "the class"), ("weight", "the class"), ("random", "the class")]
    tables = []
    for number, (chosen, of) in enumerate([*kinds, ("contribution", "others")]):
        own = pd.DataFrame({**OF_LAYER, "class": range(N), "k": 1, "chosen": chosen, "of": of})
        fall = np.random.default_rng(number).normal(size=N)
        tables.append(own.assign(fall=fall, accuracy=1.0, accuracy_off=1 - fall / 9))
    return pd.concat(tables)


def pages_of_classes():
    own = {"model": "m", "layer": "4", "class": range(N), "accounts": 12, "images": 12, "source_images": 12}
    own |= {"class_name": IDS, "halves": noise(N).numpy(), "other_classes": 0.4 + noise(N, seed=1).numpy() / 9}
    return pd.DataFrame(own)


# From a function, or one and which of its results is meant, to what it gives for a seed.
CASES = {
    "masks.equal_area_mask": lambda s: equal_area_mask(FLAT, 0.3, seed=s),
    "agreement.equal_area_iou": lambda s: agreement.equal_area_iou(FLAT, FLAT, 0.3, seeds=(s, 99)),
    "agreement.equal_area_iou b": lambda s: agreement.equal_area_iou(FLAT, FLAT, 0.3, seeds=(99, s)),
    "agreement.score_block": lambda s: agreement.score_block(
        {"a": FLAT, "b": FLAT}, {"a": [s, s], "b": [98, 99]}, areas=[0.3], threshold=0.5
    ),
    "agreement.score_pairs": lambda s: agreement_tables.score_pairs(
        files(FLAT), area=0.3, areas=[], threshold=0.5, seed=s
    ),
    "agreement.match": lambda s: agreement_tables.match(files(FLAT), area=0.3, areas=[], threshold=0.5, seed=s),
    "agreement.cross_scores": lambda s: agreement.cross_scores(
        {"a": FLAT, "b": FLAT}, {"a": [s, s], "b": [98, 99]}, areas=[0.3], threshold=0.5
    ),
    "agreement.compare_pairs": lambda s: agreement_tables.compare_pairs(pairs(), area=0.2, seed=s),
    "comparison.trend": lambda s: comparison.trend(labeled_units(), seed=s),
    "diversity.relabel_subsets": relabeled,
    "dissect.rank_reorder": lambda s: dissect.rank_reorder(noise(60, 3), noise(60, 5), noise(4, 5), seed=s),
    "labeling.label_layers": lambda s: labeling.label_table(
        *probe(), similarity="wpmi", encoders=("clip", "clip"), seed=s, resamples=5, null_draws=50
    ),
    "run.lime_explainer": lambda s: run.lime_explainer(predict, seed=s, **EXPLAINER)(PICTURES, ONES, ["a", "b"]),
    "run.lime_explainer package": lambda s: run.lime_explainer(predict, seed=s, engine="lime", **EXPLAINER)(
        PICTURES, ONES, ["a", "b"]
    ),
    "masks.cut_explanations": lambda s: cut_explanations(FLAT, 0.3, seeds=[s, s]),
    "masks.mask_stability": lambda s: mask_stability([FLAT, FLAT], 0.3, seeds=[[s, s], [98, 99]]),
    "run.cut_masks": lambda s: run.cut_masks(files(FLAT), area=0.3, threshold=0.5, seed=s),
    "faithfulness.deletion": lambda s: faithfulness.deletion(*TRIPLE, steps=4, baseline="mean", seeds=s),
    "faithfulness.insertion": lambda s: faithfulness.insertion(*TRIPLE, steps=4, baseline="mean", seeds=s),
    "faithfulness.road": lambda s: faithfulness.road(*TRIPLE, percentiles=[50], order="morf", seeds=s),
    "faithfulness.curves": lambda s: faithfulness.curves(predict, PICTURES, {"a": FLAT}, ONES, plan=PLAN, seeds=s),
    "perturbation.stacks": lambda s: [
        stack for stack, _ in perturbation.stacks(PICTURES, {"a": FLAT}, [1, 1], PLAN, [s, s])
    ],
    "sanity.random_saliency": lambda s: sanity.random_saliency((8, 8), seeds=[s]),
    "sanity.make_control_maps": lambda s: sanity.make_control_maps((8, 8), seeds=[s])["random"][0](),
    "faithfulness.score_shard": lambda s: faithfulness_tables.score_shard(
        predict, {"lime": EXPLANATION}, SHARD["images"], seeds=[s, s], control_seeds=[1, 2], **SCORED
    )[0].query("explainer == 'lime'"),
    "faithfulness.score_shard controls": lambda s: faithfulness_tables.score_shard(
        predict, {"lime": EXPLANATION}, SHARD["images"], seeds=[1, 2], control_seeds=[s, s], **SCORED
    )[0].query("explainer == 'random'"),
    "faithfulness.summarize": lambda s: faithfulness_tables.summarize(
        explainers("road", "lime", baseline="imputed", flat=False), seed=s
    )["p_value"],
    "faithfulness.compare": lambda s: faithfulness_tables.compare(
        explainers("road", "lime", baseline="imputed", flat=False), seed=s
    ),
    "localization.object_iou": lambda s: localization.object_iou(FLAT, MASK, seeds=[s, s]),
    "localization.score": lambda s: localization_tables.score(
        files(FLAT), SHARD | {"box": np.full((2, 4), [1.0, 1, 5, 5])}, seed=s
    ).query("explainer == 'lime'"),
    "localization.score controls": lambda s: localization_tables.score(
        files(FLAT), SHARD | {"box": np.full((2, 4), [1.0, 1, 5, 5])}, seed=s
    ).query("explainer == 'random' and measure == 'energy'"),
    "localization.summarize": lambda s: localization_tables.summarize(
        explainers("iou", "lime", reference="box", chance=0.2), seed=s
    )[1]["p_value"],
    "lime_samples.perturbations": lambda s: lime_samples.perturbations(9, 20, torch.Generator().manual_seed(s)),
    "lime_samples.shared_top": lambda s: lime_samples.shared_top(
        lime_samples.sample(predict, PICTURES, SQUARES, ONES, seeds=[1, 2], **LIME),
        num_features=4,
        options=surrogate.DEFAULTS,
        seeds=[s, s],
        paired=False,
    ),
    "surrogate.shared_by_halves": lambda s: surrogate.shared_by_halves(
        torch.eye(9)[torch.arange(60) % 9], noise(60), surrogate.DEFAULTS, top=4, seed=s
    ),
    "lime.explain": lambda s: lime.explain(predict, PICTURES, SQUARES, ONES, seeds=[s, s], **LIME).coefficients,
    "lime_samples.sample": lambda s: (
        lime_samples.sample(predict, PICTURES, SQUARES, ONES, seeds=[s, s], **LIME).designs
    ),
    "lime_samples.sample noise": lambda s: (
        lime_samples.sample(
            predict, PICTURES, SQUARES, ONES, seeds=[s, s], hide="noise", designs=[torch.eye(40, 4)] * 2, **LIME
        ).predictions
    ),
    "lime.explain_with_package": lambda s: (
        lime.explain_with_package(predict, PICTURES, SQUARES, ONES, seeds=[s, s], **LIME).coefficients
    ),
    "netdissect.dissect": dissected,
    "resampling.matching_test": lambda s: resampling.matching_test(noise(N, N).numpy(), seed=s).p_value,
    "textures.generate": lambda s: textures.generate(1, size=16, seed=s)[0],
    "textures.write_images": lambda s: drawn(
        lambda folder: textures.write_images(f"{folder}/set", 1, size=16, seed=s), "set/texture_00000.png"
    ),
    "textures.draw_images": lambda s: drawn(
        lambda folder: textures.draw_images(folder, "textures", size=1, pixels=16, seed=s)[0].rename(f"{folder}/set"),
        "set/textures/texture_00000.png",
    ),
    "netdissect.summarize": lambda s: netdissect_tables.summarize(detectors(), IDS, noise(N, 5).numpy(), seed=s),
    "complexity.summarize_shape": lambda s: complexity_tables.summarize_shape(
        explainers("gini", "cam-x", "lime"), seed=s
    )[1]["p_value"],
    "complexity.correlate_complexity": lambda s: complexity_tables.correlate_complexity(
        rows({}).drop(columns="value").assign(**dict.fromkeys(text.COMPLEXITY_TITLES, VALUES[0] ** 2)),
        pairs(),
        area=0.2,
        seed=s,
    ),
    "word_controls.score": controls_of_words,
    "word_controls.shuffle": outputs_of_shuffled,
    "word_controls.load": weights_of_shuffled,
    "word_controls.beside_shuffled": maps_of_shuffled,
    "sanity.randomize": randomized,
    "sanity.cascade_maps": lambda s: [
        maps["x"] for *_, maps in sanity.cascade_maps(two_layers(), weights_of, stages=2, seed=s)
    ],
    "sanity.seed_stability": lambda s: sanity.seed_stability(
        {9: torch.ones(2, 4)}, SQUARES[0], top=2, area=0.3, image_id="a", seed=s
    ),
    "sanity.check_randomization": lambda s: check_randomization(s, lambda _: {"x": FLAT}),
    "sanity.check_randomization layers": lambda s: check_randomization(
        s, lambda model: {"x": model[0].weight.detach().view(1, 3, 3).repeat(2, 1, 1)}
    ).query("measure == 'spearman'"),
    "sanity.draw": lambda s: [
        own.designs
        for own in sanity.draw(
            predict, PICTURES, SQUARES, ONES, ["a", "b"], repeats=2, n_samples=20, hide="mean", batch_size=8, seed=s
        )[0]
    ],
    "sanity.check_stability": stability_of_lime,
    "hadamard.balanced_rows": lambda s: hadamard.balanced_rows(9, 20, torch.Generator().manual_seed(s)),
    "audit.tabulate": lambda s: tabulated(audit.tabulate, s, {"cat": {"expected": ["a"], "unexpected": []}})[
        ["chance", "p_value"]
    ],
    "audit.of_models": lambda s: of_file(
        lambda paths: audit.of_models(paths, NAMED, {"m": 2}, {class_names(2)[0]: {"expected": ["a"]}}, seed=s)
    )[["chance", "p_value"]],
    "classes.halves_agree": lambda s: classes.halves_agree(noise(N, 5).numpy(), IDS, seed=s),
    "class_pages.class_findings": lambda s: class_pages.class_findings(pages_of_classes(), seed=s),
    "classes.summarize": lambda s: list(tabulated(classes.summarize, s)),
    "classes.of_models": lambda s: of_file(
        lambda paths: [list(tables) for tables in classes.of_models(paths, NAMED, {"m": 2}, seed=s)]
    ),
    "interventions.choose": chosen_units,
    "interventions.halves": lambda s: interventions.halves(accounts_of_classes()[0], images=20, seed=s)["test"],
    "interventions.plan": planned,
    "interventions.compare": lambda s: interventions.compare(falls_of_classes(), seed=s)["p_value"],
    "linear_labels.linear_table": lambda s: linear_labels.linear_table(
        *probe(),
        labeling.label_table(*probe(), similarity="wpmi", encoders=("clip", "clip"), seed=0, resamples=5, null_draws=9),
        seed=s,
    ),
    "permutation.splits": lambda s: permutation.splits(permutation.group_rows([*IDS]), s)[0],
    "items.image_seed": lambda s: items.image_seed(s, "a"),
    "items.stream_seeds": lambda s: items.stream_seeds(s, "a", ["b"]),
    "items.one_each": lambda s: items.one_each(s, 2, "seeds"),
    "segment.quickshift": lambda s: segment.quickshift(
        np.zeros((1, 30, 30, 3), np.uint8), kernel_size=1, max_dist=5, seed=s
    ),
    "resampling.simultaneous_intervals": lambda s: resampling.simultaneous_intervals(noise(12, 9).numpy(), seed=s),
    "resampling.matching": lambda s: resampling.matching(noise(20, 20), seed=s).p_value,
    "resampling.paired_permutation_test": lambda s: resampling.paired_permutation_test(*VALUES, seed=s),
    "resampling.rank_correlation": lambda s: resampling.rank_correlation(*VALUES, seed=s)[2:4],
    "resampling.rank_correlation test": lambda s: resampling.rank_correlation(*VALUES, seed=s).p_value,
    "summaries.paired_tests p": lambda s: summaries.paired_tests(pairs(), ["model"], "explainer_b", seed=s)["p_value"],
    "lime_sweep.drawn": lambda s: sorted(lime_sweep.drawn(SETTING, GRID, count=3, seed=s)),
    "lime_sweep.all_settings": lambda s: sorted(lime_sweep.all_settings(SETTING, GRID, count=3, seed=s)),
    "lime_sweep.to_explain_instance": lambda s: lime_sweep.to_explain_instance(lime_sweep.complete(SETTING), seed=s),
    "lime_sweep.make_score": lambda s: score_of(s, "equal_area_iou")(FLAT, MASK, [0, 1]),
    "lime_sweep.make_score insertion": lambda s: score_of(s, "insertion")(FLAT, MASK, [0, 1]),
    "lime_sweep.sweep": lambda s: lime_sweep.sweep(
        predict,
        PICTURES,
        ONES,
        ["a", "b"],
        tuned()[1],
        lambda maps, masks, rows: (maps.sum((1, 2)), torch.ones(len(rows))),
        seed=s,
        batch_size=8,
    )[0],
    "tuning.leaderboard tests": lambda s: tuning.leaderboard(*tuned()[:2], default=tuned()[2], seed=s)["p_value"],
    "tuning.tables settings": lambda s: all_tuned(s, "settings"),
    "reference_checks.compare": verified,
}


def plain(result):
    """Turn a result into lists of numbers that can be compared; a column that only repeats the seed does not count."""
    if isinstance(result, pd.DataFrame):
        return result.drop(columns="seed", errors="ignore").astype(object).fillna("").to_numpy().tolist()
    if isinstance(result, pd.Series):
        return result.fillna(-1).tolist()
    if isinstance(result, torch.Tensor | np.ndarray):
        return np.nan_to_num(result.tolist(), nan=-1).tolist() if result.dtype != object else result.tolist()
    if isinstance(result, dict):
        return {key: plain(value) for key, value in result.items()}
    return [plain(each) for each in result] if isinstance(result, list | tuple) else result


@pytest.mark.parametrize("name", CASES)
def test_the_seed_decides(name):
    first, again, *others = (plain(CASES[name](seed)) for seed in (1, 1, 2, 3))
    assert first == again
    assert any(other != first for other in others)


def library():
    """Functions of the library by the last part of their module's name and their own."""
    for path in sorted((SCRIPTS / "unitlens").rglob("*.py")):
        dotted = ".".join(path.relative_to(SCRIPTS).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(dotted)
        for name, function in vars(module).items():
            if inspect.isfunction(function) and function.__module__ == dotted:
                yield f"{path.stem}.{name}", function


def seeds_of(function):
    return {name: each for name, each in inspect.signature(function).parameters.items() if name in NAMES}


def test_every_function_with_a_seed_is_tried():
    public = {name for name, function in library() if "._" not in name and set(seeds_of(function)) - {"rng"}}
    assert public == {name.split()[0] for name in CASES}


def test_a_seed_that_is_not_given_is_0():
    """But for scikit-image's own in quickshift, and the two orders of equal pixels that `equal_area_iou` compares."""
    others = {"segment.quickshift": 42, "agreement.equal_area_iou": (0, 1)}
    defaults = {name: [each.default for each in seeds_of(function).values()] for name, function in library()}
    for name, given in defaults.items():
        assert set(given) <= {others.get(name, 0), None, inspect.Parameter.empty}, name
    assert defaults.items() >= {name: [seed] for name, seed in others.items()}.items()


# Calls that need no seed: where a result holds no draw.
SEEDLESS = {"complexity: masks.equal_area_mask"}


def test_no_call_forgets_a_seed_that_has_a_default():
    """A function that is called without its seed takes the default's, whatever the config says."""
    optional = {}
    for name, function in library():
        if names := {key for key, each in seeds_of(function).items() if each.default is not inspect.Parameter.empty}:
            optional[name] = names
    forgotten, seen = [], 0
    for path in [*SCRIPTS.glob("*.py"), *(SCRIPTS / "unitlens").rglob("*.py")]:
        tree = ast.parse(path.read_text())
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        origin = {
            alias.asname or alias.name: f"{node.module.split('.')[-1]}.{alias.name}"
            for node in imports
            for alias in node.names
        }
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            match call.func:
                case ast.Attribute(value=ast.Name(id=module), attr=name):
                    called = f"{origin.get(module, module).split('.')[-1]}.{name}"
                case ast.Name(id=name):
                    called = origin.get(name, f"{path.stem}.{name}")
                case _:
                    continue
            if called in optional:
                seen += 1
                given = {keyword.arg for keyword in call.keywords}
                if None not in given and not given & optional[called]:
                    forgotten.append(f"{path.stem}: {called}")
    assert set(forgotten) <= SEEDLESS and len(forgotten) <= len(SEEDLESS)
    assert seen > 20
