"""The real networks of the demonstration, loaded as the workflow loads them, on real labeled source images."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from unitlens.explainers import cam
from unitlens.images.decode import decode_images
from unitlens.measures import agreement
from unitlens.networks import encoders, network, pretrained
from unitlens.storage.fetch import fetch, fetch_images, installed
from unitlens.tables import agreement as agreement_tables

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())


@pytest.fixture(scope="module")
def source_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source_images")
    folder, _ = fetch_images(CONFIG["images"]["explain"]["sources"], folder, folder / "downloads")
    paths = sorted(folder.glob("foolbox/data/imagenet_*.jpg"))
    return paths, torch.tensor([int(path.stem.split("_")[-1]) for path in paths])


def decode(paths, preprocessing):
    geometry = {key: preprocessing[key] for key in ("fit", "resize", "crop", "interpolation")}
    rows = [([{"image_id": path.stem, "path": path.name}], path.parent) for path in paths]
    return torch.cat([torch.as_tensor(decode_images(*each, geometry)[0]) for each in rows])


def retrieve(file, folder):
    return fetch(pretrained.weights_source(file), folder)


@pytest.mark.parametrize(("name", "top1", "top5"), [("squeezenet1_1", 14, 20), ("efficientnet_lite0", 18, 19)])
def test_accuracy_is_that_of_the_published_weights(name, top1, top5, source_images, tmp_path):
    paths, labels = source_images
    settings = CONFIG["models"][name]
    weights = retrieve(settings["weights"], tmp_path)
    model = network.load_classifier(settings["architecture"], weights, layout=settings["layout"])
    mean, std = settings["preprocessing"]["mean"], settings["preprocessing"]["std"]
    predict = network.predictor(model, network.normalizer(mean, std, device="cpu"))
    best = predict(decode(paths, settings["preprocessing"])).topk(5).indices
    assert len(labels) == 20
    assert (best[:, 0] == labels).sum() >= top1
    assert (best == labels[:, None]).any(1).sum() >= top5


@pytest.mark.parametrize(("name", "lowest"), [("squeezenet1_1", 0.13), ("efficientnet_lite0", 0.2)])
def test_the_chance_of_agreement_is_what_maps_of_other_source_images_score(name, lowest, source_images, tmp_path):
    """Against each map with each of the nine other images, by itself; unrelated pixels score 0.11."""
    settings, paths = CONFIG["models"][name], source_images[0][::2]
    model = network.load_classifier(
        settings["architecture"], retrieve(settings["weights"], tmp_path), layout=settings["layout"]
    )
    normalize = network.normalizer(*(settings["preprocessing"][key] for key in ("mean", "std")), device="cpu")
    images = normalize(decode(paths, settings["preprocessing"]))
    with torch.no_grad():
        targets = model(images).argmax(1)
    ids = np.array([path.stem for path in paths], dtype=object)
    about = {"image_id": ids, "source_image": ids, "label": targets.numpy(), "predicted": targets.numpy()}
    facts = {"model": name, "explained_class": "predicted", "geometry": "square"}
    maps = {
        method: cam.explain(model, settings["cam_layer"], images, targets, method=method)
        for method in ("gradcam", "gradcam++")
    }
    files = [({**about, "saliency": own.numpy()}, {**facts, "explainer": method}) for method, own in maps.items()]
    found = agreement_tables.match(files, area=0.2, areas=[], threshold=0.5, seed=0).set_index("measure")
    pairs = [(maps["gradcam"][i], maps["gradcam++"][j]) for i, j in permutations(range(len(ids)), 2)]
    level = np.mean([agreement.equal_area_iou(*pair, 0.2).item() for pair in pairs])
    assert len(pairs) == 90 and found.chance["equal_area_iou"] == pytest.approx(level, abs=0.02)
    assert level > lowest, "the layer's maps lie in the same places whatever an image shows"


def test_the_surrogate_encoder_finds_the_word_for_a_source_image(tmp_path):
    settings = CONFIG["encoder"]
    files = {name: retrieve(file, tmp_path / name) for name, file in settings["files"].items()}
    encoder = encoders.conse(
        files,
        architecture=settings["architecture"],
        layout=settings["layout"],
        mean=settings["preprocessing"]["mean"],
        std=settings["preprocessing"]["std"],
        device="cpu",
    )
    assert "ConSE" in encoder.title
    assert "CLIP" not in encoder.title
    words = ["cat", "coffee", "rocket", "motorcycle", "temple"]
    names = ["skimage/data/chelsea.png", "skimage/data/coffee.png", "skimage/data/rocket.jpg"]
    names += ["skimage/data/motorcycle_left.png", "sklearn/datasets/images/china.jpg"]
    for package in ("skimage", "sklearn"):
        installed(package, [name.removeprefix(f"{package}/") for name in names if name.startswith(package)], tmp_path)
    images = decode([tmp_path / name for name in names], settings["preprocessing"])
    features, texts = encoder.image(images), encoder.text(words)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(5))
    assert (features @ texts.T).argmax(1).tolist() == [0, 1, 2, 3, 4]
