"""The scripts, run as Snakemake runs them: outputs, bytes, and results that depend on no shard or batch size."""

import json
import re
import runpy
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import toy
import yaml
from PIL import Image
from snakemake.iocontainers import Namedlist
from unitlens.explainers import cam, run
from unitlens.images import datasets
from unitlens.jobs import config as job_config
from unitlens.jobs import schema
from unitlens.report import concept_findings, pages
from unitlens.storage import arrays as arrays_module
from unitlens.storage import kept
from unitlens.storage.files import read_all_facts
from unitlens.storage.shards import concatenate, read_column, read_columns
from unitlens.storage.tables import read_table, write_table
from unitlens.tables import unit_labels, word_controls

SCRIPTS = Path(__file__).parents[2] / "scripts"
GEOMETRY = {key: toy.PREPROCESSING[key] for key in ("fit", "resize", "crop", "interpolation")}
NETWORK = {
    "architecture": "toy:network",
    "layout": "named",
    "classes": "classes.txt",
    "precision": "float32",
    "mean": toy.PREPROCESSING["mean"],
    "std": toy.PREPROCESSING["std"],
}
LIME = {"n_samples": 30, "superpixels": {"method": "grid", "size": 8}, "hide": "mean", "num_features": 3}
LIME |= {"design": "balanced"}
AGREEMENT = {"area": 0.2, "areas": [0.1, 0.2], "threshold": 0.5}
CAMS = list(cam.METHODS)
IMAGES = 6
WITHOUT_ACCOUNTS = dict.fromkeys(
    ["accounts", "concepts", "netdissect", "linear", "classes", "maps", "probe_images"], ()
)
MODEL = "NA"  # which pandas takes for a missing value


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Six source images with labels, their sheet, and a model that was checked."""
    folder = tmp_path_factory.mktemp("adapters")
    rows = toy.write_source_images(folder / "source_images", IMAGES)
    toy.write_sheet(folder / "sheet.csv", rows)
    toy.save_checkpoint(folder / "toy.bin")
    (folder / "classes.txt").write_text("\n".join(toy.CLASSES) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        check_model()
        check_layer("relu1"), check_layer("relu2")
    return folder


@pytest.fixture(autouse=True)
def inside(inputs, monkeypatch):
    """Work in the folder of the inputs, and give torch its threads back afterwards."""
    monkeypatch.chdir(inputs)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def adapter(name, files, outputs, *, params=None, batch_size=4, **wildcards):
    """Run a script with what Snakemake would give it; files and outputs are dicts by name, or lists."""
    snakemake = SimpleNamespace(
        input=named(files),
        output=named(outputs),
        params=named(params or {}),
        wildcards=named({"dataset": "explain"} | wildcards),
        config={"images": {"explain": {"sheet": files["sheet"]}}} if "sheet" in files else {},
        resources=named({"batch_size": batch_size}),
        log=[f"logs/{name}.log"],
        threads=1,
    )
    for output in snakemake.output:
        for path in output if isinstance(output, list) else [output]:
            Path(path).parent.mkdir(parents=True, exist_ok=True)  # as Snakemake does
    runpy.run_path(str(SCRIPTS / f"{name}.py"), {"snakemake": snakemake})


def named(items):
    return Namedlist(fromdict=items) if isinstance(items, dict) else Namedlist(items)


def check_model():
    params = {"network": NETWORK, "preprocessing": toy.PREPROCESSING, "source": {"path": "toy.bin"}}
    adapter("check_model", {"weights": "toy.bin"}, ["toy.json"], params=params, model=MODEL)


def check_layer(layer):
    params = {"network": NETWORK, "preprocessing": toy.PREPROCESSING}
    adapter("check_layer", {"weights": "toy.bin"}, [f"{layer}.json"], params=params, model=MODEL, layer=layer)


def decode(output, start=0, stop=IMAGES, *, sheet="sheet.csv", on_bad_image="fail", base=0):
    params = {"geometry": GEOMETRY, "rows": [start, stop], "on_bad_image": on_bad_image}
    params |= {"label_base": base, "bits": 16, "max_pixels": 10**6}
    datasets.write_sheet("kept.csv", "left.csv", "source_images", sheet=sheet, kind="", size=0, allow_missing=True)
    kept.keep_source_images("source_images", [], "kept", "facts.json")
    inputs = {"sheet": sheet, "retrieved": "kept.csv", "facts": "facts.json"}
    adapter("decode_images", inputs, [output], params=params, geometry="squash36-crop32-bilinear")
    return output


def model_inputs(images):
    return {"model": "toy.json", "weights": "toy.bin", "layer": "relu2.json", "images": images}


def extract(output, images, *, batch_size=4):
    params = {"network": NETWORK, "device": "cpu", "pooling": "avg"}
    outputs = {"activations": output, "maps": maps_beside(output)}
    adapter("extract_activations", model_inputs(images), outputs, params=params, batch_size=batch_size, layer="relu2")
    return output


def maps_beside(activations):
    return activations.replace(".h5", ".maps.h5")


def label(activations, images, output, annotations=(), annotated=()):
    """Label the units of a layer on encoded images, of random features if they are decoded ones; give their maps."""
    rng, parts = np.random.default_rng(0), []
    for number, path in enumerate(images):
        about, _ = read_columns(path)
        parts.append(f"{output}.{number}.h5")
        features = {"features": rng.random((len(about["image_id"]), 4))}
        own = {name: about[name] for name in ("image_id", "source_image")} | features
        arrays_module.write_arrays(parts[-1], own, {"encoder": "ConSE surrogate"})
    words = np.array(["null", "dog", "sky"], dtype=object)
    listed = {"features": rng.random((3, 4)), "word": words, "category": words}
    arrays_module.write_arrays(f"{output}.concepts.h5", listed, {"encoder": "ConSE surrogate"})
    files = {"activations": activations, "maps": [*map(maps_beside, activations)], "images": parts}
    files |= {"annotations": annotations, "annotated": annotated}
    params = {"similarity": "cos_similarity", "seed": 1, "evidence": EVIDENCE}
    outputs = {"table": f"{output}.csv", "linear": f"{output}.linear.csv", "maps": output}
    wildcards = {"model": MODEL, "layer": "relu2"}
    adapter("label_units", files | {"concepts": f"{output}.concepts.h5"}, outputs, params=params, **wildcards)
    return arrays_module.read_arrays(output)


def explain(output, images, method, *, batch_size=4, target="predicted", options=LIME):
    """Explain with a CAM or with what needs no layer, such as LIME."""
    outputs = {"saliency": output, "timings": f"{output}.csv"}
    params = {"network": NETWORK, "device": "cpu", "target": target}
    if method in run.PERTURBING:
        params |= {"options": options, "seed": 42}
        wildcards = {"model": MODEL, "explainer": method}
        adapter("explain_perturbed", model_inputs(images), outputs, params=params, batch_size=batch_size, **wildcards)
    else:
        wildcards = {"model": MODEL, "method": method, "layer": "relu2"}
        adapter("explain_cam", model_inputs(images), outputs, params=params, batch_size=batch_size, **wildcards)
    return output


def account(output, images, *, batch_size=4, target="predicted"):
    params = {"network": NETWORK, "device": "cpu", "layer": "relu2", "target": target}
    adapter("account_units", model_inputs(images), [output], params=params, batch_size=batch_size, model=MODEL)
    return output


def measure(images, saliency, masks, shape, complexity):
    files, outputs = (
        {"images": images, "saliency": saliency},
        {"masks": masks, "shape": shape, "complexity": complexity},
    )
    adapter("measure_images", files, outputs, params={"area": 0.2, "threshold": 0.5, "seed": 42}, model=MODEL)


def compare(folder):
    """Explain all source images with one CAM and LIME, cut masks and score; return the paths written."""
    images = decode(f"{folder}/images.h5")
    saliency = [explain(f"{folder}/{method}/0.h5", images, method) for method in ("gradcam", "lime")]
    masks, scores = f"{folder}/masks.h5", f"{folder}/scores.csv"
    measure(images, saliency, masks, f"{folder}/shape.csv", f"{folder}/complexity.csv")
    adapter("score_agreement", saliency, [scores], params={"agreement": AGREEMENT, "seed": 42}, model=MODEL)
    return [images, *saliency, masks, scores]


def match(saliency, folder):
    """Compare the explainers on different source images; return the path written."""
    params = {"agreement": AGREEMENT, "seed": 42, "rows": 100}
    adapter("match_explanations", saliency, [f"{folder}/matching.csv"], params=params)
    return f"{folder}/matching.csv"


TUNE = {
    "default": LIME,
    "grid": {"n_samples": [20, 30], "hide": ["mean", "black"], "n_features": [None, 3]},
    "presets": {"gray one": {"hide_color": 128, "segmentation_fn": {"algo_type": "slic", "n_segments": 9}}},
    "count": 6,
    "seed": 42,
}


def tune(folder, sizes):
    """Tune LIME on shards of these sizes; return the files written, timings left out."""
    objective = {"objective": "equal_area_iou", "area": 0.2, "steps": 5, "baseline": "blur"}
    params = {"network": NETWORK, "device": "cpu", "settings": TUNE, "objective": objective, "seed": 42}
    scores, timings, start = [], [], 0
    for number, size in enumerate(sizes):
        images = decode(f"{folder}/images-{number}.h5", start, start + 3)
        files = model_inputs(images) | {
            name: explain(f"{folder}/{method}-{number}.h5", images, method)
            for name, method in (("saliency", "gradcam"), ("lime", "lime"))
        }
        scores.append(f"{folder}/{number}.csv")
        timings.append(f"{folder}/{MODEL}/{number}.csv")
        outputs = {"scores": scores[-1], "timings": timings[-1]}
        adapter("tune_lime", files, outputs, params=params | {"n_images": size}, model=MODEL)
        start += 3
    inputs = Namedlist([*scores, *timings])
    inputs._set_name("scores", 0, end=len(scores))
    inputs._set_name("timings", len(scores), end=len(inputs))
    made = {name: f"{folder}/{name}.csv" for name in ("settings", "effects", "selection")}
    made |= {"presets": f"{folder}/presets.json", "findings": f"{folder}/findings.json"}
    one = {"best": f"{folder}/best.yaml", "keywords": f"{folder}/best.json"}
    figures = {name: f"{folder}/{name}.svg" for name in ("front", "front_by_seconds", "effects_drawn")}
    outputs = Namedlist(fromdict=made | {"timings": f"{folder}/timings.csv"} | figures)
    for name, path in one.items():
        outputs.append(path)
        outputs._set_name(name, len(outputs) - 1, end=len(outputs))
    adapter("collect_tuning", inputs, outputs, params={"settings": TUNE, "models": [MODEL], "colored": [MODEL]})
    return [*made.values(), *one.values(), figures["front"], figures["effects_drawn"]]


def in_shards(make, name, size, **options):
    """Make every shard of `size` source images and read all as one."""
    paths = []
    for start in range(0, IMAGES, size):
        images = decode(f"{name}-{size}/images-{start}.h5", start, start + size)
        paths.append(make(f"{name}-{size}/{start}.h5", images, **options))
    arrays = [arrays_module.read_arrays(path)[0] for path in paths]
    return paths, {key: [row for each in arrays for row in each[key]] for key in arrays[0]}


def explained_in_shards(folder, sizes, images="images"):
    """Decode shards of these sizes and explain them; give the files of the source images, of a CAM and of LIME."""
    decoded, explained, start = [], ([], []), 0
    for number, size in enumerate(sizes):
        decoded.append(decode(f"{folder}/{images}/{number}.h5", start, start + size))
        for files, method in zip(explained, ("gradcam", "lime"), strict=True):
            files.append(explain(f"{folder}/{method}/{number}.h5", decoded[-1], method))
        start += size
    return decoded, explained


def count_images(images, sheet, output, *, others=""):
    """Count the images of a set, beside which lie other files."""
    name, left_out = Path(sheet).stem, f"{sheet}.left_out.csv"
    Path(left_out).write_text(f"ending,files\n{others}")
    files = {"images": images, "sheets": [sheet], "left_out": [left_out]}
    adapter("summarize_images", files, [output], params={"names": [name], "bits": [16], "sets": [name] * len(images)})


def test_images_are_counted_and_copies_named(tmp_path):
    (tmp_path / "probe.csv").write_text("image_id,path,duplicate_of\na,a.png,\nb,b.png,a\n")
    count_images(
        [decode(f"{tmp_path}/images.h5")], f"{tmp_path}/probe.csv", f"{tmp_path}/images.csv", others=".txt,3\n"
    )
    (row,) = read_table(tmp_path / "images.csv").to_dict("records")
    counts = {"images": IMAGES, "source_images": IMAGES, "skipped": 0, "problems": ""}
    assert row == {
        "set": "probe",
        "geometry": "squash36-crop32-bilinear",
        **counts,
        "copies": 1,
        "copied": "b.png of a",
        "warning": "",
        "left_out": 3,
        "left_out_endings": "3 .txt",
    }


def test_dark_and_moving_source_images_are_told_of(tmp_path):
    for number in (0, 1):
        Image.fromarray(np.full((40, 48), 1000 + 3000 * number, np.uint16)).save(f"source_images/deep_{number}.png")
    frames = [Image.new("L", (48, 40), gray) for gray in (0, 255)]
    frames[0].save("source_images/moving.gif", save_all=True, append_images=frames[1:])
    rows = [{"image_id": name[:6], "path": name} for name in ("deep_0.png", "deep_1.png", "moving.gif")]
    toy.write_sheet("odd.csv", rows)
    images = [decode(f"odd/{start}.h5", start, start + 1, sheet="odd.csv") for start in range(3)]
    (tmp_path / "probe.csv").write_text("image_id,path,duplicate_of\na,a.png,\n")
    count_images(images, tmp_path / "probe.csv", tmp_path / "images.csv")
    assert read_table(tmp_path / "images.csv").warning.tolist() == [
        "several frames or pages, of which the first is used, have 1 (moving.gif); the values in 2 files of 16 bits "
        "end at 4000, so that these images are dark; if they have 12 bits, set images.probe.bits to that"
    ]


def test_check_model_writes_what_the_model_is():
    (facts,) = read_all_facts(["toy.json"], ["relu1.json", "relu2.json"])
    assert facts["layers"] == {"relu1": [6, 16, 16], "relu2": [8, 8, 8]}
    assert (facts["model"], facts["classes"], facts["weights"]) == (MODEL, 5, {"path": "toy.bin"})
    assert facts["parameters"] == (3 * 9 + 1) * 6 + (6 * 9 + 1) * 8 + (8 + 1) * 5


def test_misspelt_layer_is_named_with_its_nearest():
    with pytest.raises(ValueError, match=r"^NA has no layer 'rellu2'; nearest: relu2"):
        check_layer("rellu2")


def test_decoded_shard():
    arrays, facts = arrays_module.read_arrays(decode("decoded/images.h5", 2, 5))
    assert arrays["images"].shape == (3, toy.SIZE, toy.SIZE, 3) and arrays["images"].dtype == np.uint8
    assert arrays["image_id"].tolist() == ["toy_02", "toy_03", "toy_04"]
    assert arrays["label"].tolist() == [2, 3, 4]
    assert facts["geometry"] == "squash36-crop32-bilinear" and facts["skipped"] == "[]"


def test_a_model_has_labels_of_its_own():
    """Three rows whose classes are counted from 1: of all models, of the model, and of another one."""
    lines = ["image_id,path,label,label_NA,label_other", "a,toy_00.png,1,3,", "b,toy_01.png,2,,5", "c,toy_02.png,,1,5"]
    Path("labels.csv").write_text("\n".join(lines) + "\n")
    images = decode("labels/images.h5", 0, 3, sheet="labels.csv", base=1)
    arrays, _ = arrays_module.read_arrays(images)
    assert arrays["label"].tolist() == [0, 1, -1] and arrays["label_NA"].tolist() == [2, -1, 0]
    for method in ("gradcam", "lime"):
        explained, _ = arrays_module.read_arrays(explain(f"labels/{method}.h5", images, method, target="label"))
        assert explained["label"].tolist() == [2, -1, 0] and explained["target"].tolist() == [2, -1, 0]
        assert explained["warning"].tolist()[1] == "the sheet gives no label to explain"


def bad_sheet():
    Path("source_images/broken.jpg").write_bytes(toy.truncated_jpeg())
    rows = [{"image_id": name, "path": f"{name}.png"} for name in ("toy_00", "toy_01")]
    toy.write_sheet("bad.csv", [rows[0], {"image_id": "the_bad_one", "path": "broken.jpg"}, rows[1]])


def test_truncated_source_image_is_named():
    bad_sheet()
    with pytest.raises(ValueError, match=r"1 of 3 .*\n.*'the_bad_one': source_images/broken.jpg: cannot be read"):
        decode("bad/images.h5", 0, 3, sheet="bad.csv")
    assert not Path("bad/images.h5").exists()


def test_skipped_source_image_is_listed_and_the_others_explained():
    bad_sheet()
    images = decode("skipped/images.h5", 0, 3, sheet="bad.csv", on_bad_image="skip")
    arrays, facts = arrays_module.read_arrays(images)
    assert arrays["image_id"].tolist() == ["toy_00", "toy_01"]
    assert [image_id for image_id, _ in json.loads(facts["skipped"])] == ["the_bad_one"]
    explained, _ = arrays_module.read_arrays(explain("skipped/gradcam.h5", images, "gradcam"))
    assert explained["image_id"].tolist() == ["toy_00", "toy_01"]


def test_a_set_of_which_every_source_image_is_skipped_is_named():
    bad_sheet()
    images = [decode(f"none/{start}.h5", 1, 2, sheet="bad.csv", on_bad_image="skip") for start in (0, 1)]
    Path("none/explain.csv").write_text("image_id,path,duplicate_of\na,a.png,\n")
    message = (
        r"no source image of images\.explain can be read, .*: the_bad_one: source_images/broken\.jpg: cannot be read"
    )
    with pytest.raises(ValueError, match=message):
        count_images(images, "none/explain.csv", "none/images.csv")


def test_a_mask_that_cannot_be_used_costs_itself():
    rows = [{"image_id": name, "path": f"{name}.png"} for name in ("toy_00", "toy_01")]
    toy.write_mask("source_images/mask.png", (8, 8, 30, 24))
    Image.new("RGBA", (48, 40)).save("source_images/rgba.png")
    toy.write_sheet("masks.csv", [rows[0] | {"mask": "mask.png"}, rows[1] | {"mask": "rgba.png"}])
    with pytest.raises(ValueError, match=r"image_id 'toy_01': `mask` source_images/rgba\.png must have one channel"):
        decode("masks/bad.h5", 0, 2, sheet="masks.csv")
    images = decode("masks/images.h5", 0, 2, sheet="masks.csv", on_bad_image="skip")
    arrays, _ = arrays_module.read_arrays(images)
    assert arrays["has_mask"].tolist() == [True, False]
    assert arrays["mask"][0].any() and not arrays["mask"][1].any()
    Path("masks/explain.csv").write_text("image_id,path,duplicate_of\na,a.png,\n")
    count_images([images], "masks/explain.csv", "masks/images.csv")
    (row,) = read_table("masks/images.csv").to_dict("records")
    assert (row["images"], row["skipped"]) == (2, 0)
    assert row["problems"].startswith("toy_01: goes without its mask, for `mask` source_images/rgba.png must have one")


@pytest.mark.parametrize("size", [3, 1])
def test_activations_depend_on_no_shard_or_batch_size(size):
    _, whole = in_shards(extract, "whole_activations", IMAGES, batch_size=IMAGES)
    paths, parts = in_shards(extract, "activations", size, batch_size=2)
    assert parts["image_id"] == whole["image_id"]
    np.testing.assert_allclose(parts["activations"], whole["activations"], rtol=1e-5, atol=1e-6)
    together, facts = concatenate(paths)
    np.testing.assert_array_equal(together["activations"], parts["activations"])
    assert (facts["model"], facts["layer"], facts["pooling"]) == (MODEL, "relu2", "avg")


def test_gallery_of_units():
    images = [decode(f"squash36-crop32-bilinear/{start}.h5", start, start + 3) for start in (0, 3)]
    alone, _ = label(in_shards(extract, "units_alone", 3, batch_size=1)[0], images, "units/1.h5")
    paths, _ = in_shards(extract, "units", 3, batch_size=6)
    maps, facts = label(paths, images, "units/6.h5")
    assert maps["maps"].shape == (8, 5, 8, 8) and facts["geometry"] == "squash36-crop32-bilinear"
    activations = read_column(paths, "activations")
    for unit, rows in enumerate(maps["row"]):
        living = np.ptp(activations[:, unit]) > 0
        assert rows[0] == (activations[:, unit].argmax() if living else -1)
    for name, array in alone.items():
        if array.dtype == np.uint8:
            assert np.abs(array.astype(int) - maps[name]).max() <= 1
        elif array.dtype.kind == "f":
            np.testing.assert_allclose(array, maps[name], rtol=1e-4, atol=1e-6)
        else:
            assert (array == maps[name]).all()

    rows = [{"model": MODEL, "layer": "relu2", "unit": unit, "status": "named"} for unit in range(8)]
    evidence = {
        "concept": "null",
        "candidate": "null",
        "category": "",
        "score": 1,
        "top_concepts": "null; red",
        "encoder": "ConSE",
    }
    evidence |= {"q_value": 0.01, "alpha": 0.05}
    write_table(pd.DataFrame(rows).assign(**evidence), "units/concepts.csv")
    sums = {f"{name}_{place}": np.nan for name in ("concept", "weight") for place in (1, 2, 3)}
    sums |= {"concept_1": "owl", "weight_1": 0.41, "linear_correlation": 0.18}
    sums |= {"label_correlation": 0.11, "ridge_correlation": 0.22}
    write_table(pd.DataFrame(rows).assign(**sums), "units/linear.csv")
    inputs = {"concepts": ["units/concepts.csv"], "linear": ["units/linear.csv"], "maps": ["units/6.h5"]}
    inputs |= {"images": images, "masks": []}
    adapter("write_units", inputs, ["units/units.html"], params={"models": [MODEL], "missing": [], "beside": []})
    page = Path("units/units.html").read_text()
    assert page.count('"concept":"null"') == 8 and page.count('"region":"M') > 8
    assert page.count('"linear":"0.41 owl, held-out r 0.18, alone 0.11, all features 0.22"') == 8


@pytest.mark.parametrize("method", [*CAMS, "lime"])
def test_saliency_depends_on_no_shard_or_batch_size(method):
    _, whole = in_shards(explain, f"whole-{method}", IMAGES, method=method, batch_size=IMAGES)
    assert np.ptp(whole["saliency"][0]) > 0
    for size, batch_size in [(IMAGES, 1), (3, 2), (1, 4)]:
        _, parts = in_shards(explain, f"{method}-{batch_size}", size, method=method, batch_size=batch_size)
        assert parts["image_id"] == whole["image_id"] and parts["target"] == whole["target"]
        np.testing.assert_allclose(parts["saliency"], whole["saliency"], rtol=0, atol=1e-4)


def summarize_accounts(folder, paths, images):
    """Tabulate accounts by the units of one layer, all of one standing."""
    evidence = {"model": MODEL, "layer": "relu2", "status": "selective", "concept": ""}
    Path(folder).mkdir(exist_ok=True)
    write_table(pd.DataFrame({"unit": range(8)} | evidence), f"{folder}/concepts.csv")
    made = {name: f"{folder}/{name}.csv" for name in ("accounts", "coverage", "classes", "contributions", "leaning")}
    made |= {"units": [f"{folder}/units.h5"], "findings": f"{folder}/findings.json", "pages": f"{folder}/pages"}
    geometry = arrays_module.read_arrays(images[0])[1]["geometry"]
    params = {"shown": 3, "classes": {MODEL: "classes.txt"}, "geometries": {MODEL: geometry}, "seed": 0}
    files = {"accounts": paths, "images": images, "concepts": f"{folder}/concepts.csv", "masks": []}
    files["linear"] = []
    adapter("summarize_accounts", files, made, params=params | {"labeled": [(MODEL, "relu2")]})
    return made


def test_accounts_depend_on_no_shard_or_batch_size():
    _, whole = in_shards(account, "accounts-whole", IMAGES, batch_size=IMAGES)
    for size, batch_size in [(IMAGES, 1), (2, 4)]:
        paths, parts = in_shards(account, f"accounts-{batch_size}", size, batch_size=batch_size)
        for name in ("contributions", "margin_contributions", "remainder", "places", "score"):
            np.testing.assert_allclose(parts[name], whole[name], rtol=0, atol=1e-4)
        assert parts["runner_up"] == whole["runner_up"] and "saliency" not in parts
    total = np.sum(whole["contributions"], axis=1) + whole["tokens"] + whole["remainder"]
    np.testing.assert_allclose(total, whole["score"], rtol=0, atol=1e-4)
    images = [path.replace("/", "/images-") for path in paths]
    tables = summarize_accounts("accounts", paths, images)
    rows, coverage = read_table(tables["accounts"]), read_table(tables["coverage"])
    assert len(rows) == 3 * (8 + 2) and set(rows["item"]) == {"unit", "tokens", "remainder"}
    assert set(rows["status"]) == {"selective", ""} and set(rows["model"]) == {MODEL}
    assert set(coverage["account"]) == {"class", "runner-up"} and set(coverage["n"]) == {IMAGES}
    assert not any(Path(tables["pages"]).iterdir()) and "No class has" in Path(tables["findings"]).read_text()


def test_units_are_switched_off_where_classes_have_labels_enough():
    """Two classes of twelve source images, in shards of ten: chosen on the accounts of all, tried shard by shard."""
    rows = [row | {"label": str(number % 2)} for number, row in enumerate(toy.write_source_images("source_images", 24))]
    toy.write_sheet("labeled.csv", rows)
    places = ("off/images/{}.h5", "off/accounts/{}.h5", "off/trials/{}.h5")
    images, accounts, trials = ([place.format(shard) for shard in range(3)] for place in places)
    for shard in range(3):
        decode(images[shard], 10 * shard, min(10 * shard + 10, 24), sheet="labeled.csv")
        account(accounts[shard], images[shard], target="label")
    evidence = {"model": MODEL, "layer": "relu2", "status": ["named"] * 2 + ["unnamed"] * 6, "concept": "red"}
    write_table(pd.DataFrame({"unit": range(8)} | evidence), "off/concepts.csv")
    plan = {name: f"off/plan/{name}.h5" for name in ("sets", "trials")}
    params = {"switch_off": {"units": [1, 3, 20], "images": 20}, "seed": 42}
    adapter("choose_units", {"accounts": accounts, "concepts": "off/concepts.csv", "masks": []}, plan, params=params)
    for shard in range(3):
        params = {"network": NETWORK, "device": "cpu", "layer": "relu2"}
        adapter("switch_off_units", model_inputs(images[shard]) | plan, [trials[shard]], params=params)
    tables = {name: f"off/{name}.csv" for name in ("classes", "summary", "tests", "names")}
    made = tables | {"figure": "off/figure.svg", "findings": "off/findings.json"}
    adapter("summarize_interventions", {"sets": [plan["sets"]], "trials": trials}, made, params={"seed": 42})
    classes, summary, tests, names = (read_table(path) for path in tables.values())
    assert len(classes) == 2 * 2 * 4 * 2 and set(classes["k"]) == {
        1,
        3,
    }  # classes, numbers, kinds, this class and others
    assert set(classes.loc[classes["of"] == "the class", "n"]) == {6}
    assert set(summary["n"] + summary["undefined"]) == {2} and summary["low"].isna().all() and len(tests) == 2 * 2 * 4
    assert len(names) <= 1 and set(names["name"]) <= {"red"}
    whole, _ = concatenate(accounts)
    off, _ = concatenate(trials)
    score = dict(zip(whole["image_id"], whole["score"], strict=True))
    np.testing.assert_allclose(off["score"], [score[name] for name in off["image_id"]], rtol=0, atol=1e-4)
    contributed = dict(zip(whole["image_id"], whole["contributions"], strict=True))
    units = arrays_module.read_arrays(plan["sets"])[0]["units"]
    lost = [contributed[name][units[which]].sum() for name, which in zip(off["image_id"], off["set"], strict=True)]
    np.testing.assert_allclose(off["score"] - off["score_off"], lost, rtol=0, atol=1e-3)  # behind it: mean and linear
    assert json.loads(Path(made["findings"]).read_text())[0].startswith(f"**{MODEL}: ")


def test_classes_are_audited_by_the_names_of_units():
    shards = [decode(f"audit/images/{number}.h5", start, start + 3) for number, start in enumerate((0, 3))]
    accounts = [account(f"audit/{MODEL}/{number}.h5", shard, target=1) for number, shard in enumerate(shards)]
    evidence = {"model": MODEL, "layer": "relu2", "status": "named", "concept": ["red"] * 4 + ["null"] * 4}
    write_table(pd.DataFrame({"unit": range(8)} | evidence), "audit/concepts.csv")
    Path("audit/words.csv").write_text("word,category\nred,color\nnull,color\n4,color\n")
    files = {"accounts": accounts, "concepts": "audit/concepts.csv", "masks": [], "words": ["audit/words.csv"]}
    made = {"table": "audit/audit.csv", "findings": "audit/audit.json"}
    lists = {toy.CLASSES[1]: {"expected": ["red", "4"], "unexpected": ["null"]}, toy.CLASSES[0]: {"expected": ["red"]}}
    params = {"audit": lists, "classes": {MODEL: "classes.txt"}, "seed": 42}
    adapter("audit_classes", files, made, params=params)
    table = read_table(made["table"])
    own = table[table["class"] == 1]
    whole = own[(own["concept"] == "") | ~own["part"].isin(["expected", "unexpected"])]
    assert whole["mean"].sum() == pytest.approx(1) and set(own["n"]) == {IMAGES}
    assert own.loc[own["concept"] == "4", "verdict"].tolist() == ["no active unit has this name"]
    assert set(table.loc[table["class"] == 0, "verdict"]) == {"no account of the class", ""}
    (said, other) = json.loads(Path(made["findings"]).read_text())
    assert "no image has an account of this class" in said and f"{MODEL}, {toy.CLASSES[1]}: expected concepts" in other
    with pytest.raises(ValueError, match="'rot' is no concept of this run"):
        adapter("audit_classes", files, made, params=params | {"audit": {"null": {"expected": ["rot"]}}})


def test_units_are_not_switched_off_where_classes_are_small():
    images = decode("small/images.h5")
    accounts = [account("small/accounts/0.h5", images)]
    write_table(
        pd.DataFrame({"model": [MODEL], "layer": "relu1", "unit": 0, "status": "unnamed", "concept": ""}),
        "small/concepts.csv",
    )
    plan = {name: f"small/plan/{name}.h5" for name in ("sets", "trials")}
    params = {"switch_off": {"units": [1], "images": 20}, "seed": 42}
    adapter("choose_units", {"accounts": accounts, "concepts": "small/concepts.csv", "masks": []}, plan, params=params)
    params = {"network": NETWORK, "device": "cpu", "layer": "relu2"}
    adapter("switch_off_units", model_inputs(images) | plan, ["small/trials/0.h5"], params=params)
    made = {name: f"small/{name}.csv" for name in ("classes", "summary", "tests", "names")}
    made |= {"figure": "small/figure.svg", "findings": "small/findings.json"}
    adapter(
        "summarize_interventions", {"sets": [plan["sets"]], "trials": ["small/trials/0.h5"]}, made, params={"seed": 42}
    )
    assert all(len(read_table(made[name])) == 0 for name in ("classes", "summary", "tests", "names"))
    assert "the most that a class has is 2" in Path(made["findings"]).read_text()


def test_a_class_of_ten_images_has_a_page():
    """Six images, each three times under another name, all explained as one class."""
    paths = {"accounts": account("classes/one/images.h5", decode("classes/images.h5"), target=1)}
    paths["images"] = "classes/images.h5"
    for name, path in paths.items():
        arrays, facts = arrays_module.read_arrays(path)
        tripled = {key: np.concatenate([values] * 3) for key, values in arrays.items()}
        tripled["image_id"] = np.array([f"{n} {each}" for n, each in enumerate(tripled["image_id"])], dtype=object)
        paths[name] = f"classes/{name}/{facts['geometry']}/00000.h5"
        arrays_module.write_arrays(paths[name], tripled, facts)
    made = summarize_accounts("classes", [paths["accounts"]], [paths["images"]])
    told = read_table(made["classes"]).iloc[0]
    assert told[["images", "accounts", "source_images"]].tolist() == [18, 18, 6]
    assert read_table(made["contributions"])["mean"].sum() == pytest.approx(told["score"], abs=1e-4)
    assert len(json.loads(Path(made["findings"]).read_text())) == 2, "what accounts cover, and the pages"
    units, about = arrays_module.read_arrays(made["units"][0])
    assert units["mean"].shape == (1, 8) and about["layer"] == "relu2"
    assert sorted(path.name for path in Path(made["pages"]).iterdir()) == [f"{MODEL}-1.html", "index.html"]


def test_label_is_explained_on_request():
    images = decode("label/images.h5")
    arrays, facts = arrays_module.read_arrays(explain("label/gradcam.h5", images, "gradcam", target="label"))
    assert arrays["target"].tolist() == arrays["label"].tolist() == [0, 1, 2, 3, 4, 0]
    assert facts["explained_class"] == "label"


def test_tuning_over_shards_gives_the_same_bytes():
    first, second = tune("tuned", [3, 1]), tune("tuned_again", [3, 1])
    for one, other in zip(first, second, strict=True):
        assert Path(one).read_bytes() == Path(other).read_bytes(), one
    table = read_table("tuned/settings.csv")
    assert len(table) == 7 and set(table.n) == {4} and set(table.model) == {MODEL}
    assert set(table.name) == {"", "default", "gray one"}
    best = yaml.safe_load(Path("tuned/best.yaml").read_text())
    assert best["n_samples"] == table.n_samples[0] and best["hide"] == table.hide[0]
    assert set(json.loads(Path("tuned/presets.json").read_text())) == {"default", "gray one"}


def test_same_inputs_give_the_same_bytes():
    first, second = compare("first"), compare("second")
    for one, other in zip(first, second, strict=True):
        assert Path(one).read_bytes() == Path(other).read_bytes(), one


@pytest.mark.parametrize("given", ["labels", "boxes"])
def test_units_are_labeled_by_annotations(given):
    images = boxed_images(f"annotated-{given}")
    params = {"words": {given: "classes.txt"}, "source": given}
    parts = [f"annotated-{given}/features-{number}.h5" for number in range(len(images))]
    for one, part in zip(images, parts, strict=True):
        adapter("annotate_images", {"images": one}, [part], params=params)
    concepts = f"annotated-{given}/concepts.h5"
    adapter("annotate_concepts", {"images": parts}, [concepts], params=params)
    found, facts = arrays_module.read_arrays(concepts)
    assert found["word"].tolist() == [toy.CLASSES[0]] and facts["encoder"] == unit_labels.ANNOTATIONS
    activations = [f"annotated-{given}/activations-{number}.h5" for number in range(len(images))]
    for one, path in zip(images, activations, strict=True):
        extract(path, one)
    params = {"similarity": "auc", "evidence": {"resamples": 3, "null_draws": 20}, "seed": 0}
    files = {"activations": activations, "maps": [*map(maps_beside, activations)], "images": parts}
    files |= {"concepts": concepts, "annotations": [], "annotated": []}
    table = f"annotated-{given}/table.csv"
    outputs = {"table": table, "linear": f"annotated-{given}/linear.csv", "maps": f"annotated-{given}/maps.h5"}
    adapter("label_units", files, outputs, params=params, model=MODEL, layer="relu2")
    assert set(read_table(table).encoder) == {unit_labels.ANNOTATIONS} and "named" not in set(read_table(table).status)
    label(activations, images, f"annotated-{given}/by-encoder.h5", parts, concepts)
    assert "held_out_auc" in read_table(f"annotated-{given}/by-encoder.h5.csv")


def boxed_images(folder):
    """The source images with a box each, all but the last of one class, in two shards."""
    rows = [
        f"toy_{number:02d},toy_{number:02d}.png,{number // 5},{0.1 * number:.1f} 0 1 0.5" for number in range(IMAGES)
    ]
    Path("boxed.csv").write_text("\n".join(["image_id,path,label,box", *rows]) + "\n")
    return [decode(f"{folder}/{start}.h5", start, start + 3, sheet="boxed.csv") for start in (0, 3)]


def test_maps_of_units_in_an_annotated_set_are_those_of_a_probe_set_of_these_images():
    images = boxed_images("annotated-maps")
    dissect_boxes(images, ["annotated-maps/a.csv", "annotated-maps/a.h5"])
    a, about = arrays_module.read_arrays("annotated-maps/a.h5")
    parts = [f"annotated-maps/activations-{number}.h5" for number in range(2)]
    for shard, part in zip(images, parts, strict=True):
        extract(part, shard)
    b, of_probe = label(parts, images, "annotated-maps/b.h5")
    assert about == of_probe and a.keys() == b.keys() == {"row", "activation", "image_id", "maps", "peak"}
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def dissect_boxes(images, outputs, words=(("boxes", "classes.txt"),), batch_size=4):
    params = {"network": NETWORK, "device": "cpu", "words": dict(words), "detector": 0.1, "pooling": "avg"}
    params["draws"] = {"share": 0.05, "draws": 20, "seed": 0}
    files, wildcards = {**model_inputs(images), "masks": []}, {"model": MODEL, "layer": "relu2"}
    adapter("dissect_network", files, outputs, params=params, batch_size=batch_size, **wildcards)
    return read_table(outputs[0])


def test_network_dissection():
    images, outputs = boxed_images("dissected"), ["dissected/toy.csv"]
    Path("masks.csv").write_text("value,word,category\n1,red,color\n")
    with pytest.raises(ValueError, match="no image has masks: give the sheet some"):
        dissect_boxes(images, outputs, [("masks", "masks.csv")])
    table = dissect_boxes(images, outputs)
    assert table.unit.tolist() == list(range(8)) and set(table.masks) == {"boxes, so coarse"}
    assert set(table.mask_concept) <= {toy.CLASSES[0], ""}
    assert (table.detector == (table.iou >= 0.1) & (table.q_value <= 0.05)).all()
    assert table.iou.max() > 0 and set(table.shuffled_units) <= set(range(9))
    pd.testing.assert_frame_equal(dissect_boxes(images, outputs, batch_size=1), table, rtol=1e-5)


def test_masks_and_scores():
    *_, masks, scores = compare("compared")
    arrays, _ = arrays_module.read_arrays(masks)
    area = round(AGREEMENT["area"] * toy.SIZE**2)
    for explainer in ("gradcam-relu2", "lime"):
        assert (arrays[f"{explainer}:equal_area"].sum((1, 2)) == area).all()
    assert "lime:selected" in arrays
    table = read_table(scores)
    assert set(table.model) == {MODEL} and set(table.image_id) == {f"toy_{number:02d}" for number in range(IMAGES)}
    assert set(zip(table.explainer_a, table.explainer_b, strict=True)) == {("gradcam-relu2", "lime")}
    assert table.groupby(["measure", "cut"], dropna=False).size().eq(IMAGES).all()


def test_boxes_are_scored_and_summarized():
    images, gradcam, lime, *_ = compare("boxed")
    arrays, facts = arrays_module.read_arrays(images)
    arrays_module.write_arrays(images, arrays | {"box": np.tile(np.float32([4, 4, 20, 20]), (IMAGES, 1))}, facts)
    files = {"images": images, "saliency": [gradcam, lime]}
    adapter("score_localization", files, ["boxed/found.csv"], params={"seed": 42}, model=MODEL)
    outputs = {name: f"boxed/{name}.csv" for name in ("images", "summary", "tests")}
    outputs |= {"figure": "boxed/found.svg", "findings": "boxed/found.json"}
    adapter("summarize_localization", ["boxed/found.csv"], outputs, params={"models": [MODEL], "seed": 42})
    summary = read_table(outputs["summary"])
    assert len(summary) == 4 * 3 and set(summary.reference) == {"box"}  # two explainers and two controls, measures
    assert len(json.loads(Path(outputs["findings"]).read_text())) == 3
    assert Path(outputs["figure"]).stat().st_size


def test_sanity_checks():
    images, (gradcam, lime) = explained_in_shards("sane", [IMAGES])
    settings = {"n_images": 4, "cams": ["gradcam", "layercam"], "stages": 2, "seeds": 2, "samples": [20, 40]}
    params = {"network": NETWORK, "device": "cpu", "sanity": settings, "area": 0.2, "seed": 42}
    files = model_inputs(images) | {"explanations": gradcam}
    adapter("randomize_model", files, ["sane/randomized.csv"], params=params | {"layer": "relu2"}, model=MODEL)
    randomized = read_table("sane/randomized.csv")
    assert len(randomized) == 2 * 3 * 2 * 4  # explainers; stages and another source image; measures; source images
    params |= {"lime": LIME, "counts": [20, 30, 40]}
    adapter("stabilize_lime", files | {"explanations": lime}, ["sane/stable.csv"], params=params)
    stable = read_table("sane/stable.csv")
    assert len(stable) == 4 * 3 * 3 and (stable.seeds == 2).all() and set(stable.n_samples) == {20, 30, 40}
    outputs = {name: f"sane/{name}.csv" for name in ("randomization", "stability")}
    outputs |= {f"{name}_summary": f"sane/{name}_summary.csv" for name in ("randomization", "stability")}
    outputs |= {f"{name}_figure": f"sane/{name}.svg" for name in ("randomization", "stability")}
    outputs |= {f"{name}_findings": f"sane/{name}.json" for name in ("randomization", "stability")}
    files = {"randomized": ["sane/randomized.csv"], "stability": ["sane/stable.csv"]}
    adapter("summarize_sanity", files, outputs, params={"lime": {"top": 3, "n_samples": 30}, "models": [MODEL]})
    assert "With the 30 samples of the maps it is" in Path(outputs["stability_findings"]).read_text()
    assert read_table(outputs["stability_summary"]).source_images.eq(4).all()


@pytest.mark.parametrize("sizes", [[1] * IMAGES, [3, 3]])
def test_checks_of_a_few_source_images_are_of_the_first_ones_whatever_the_shards(sizes):
    """Four source images, with seeds of their own, whose rows lie in one shard or in several."""
    settings = {"n_images": 4, "cams": ["gradcam"], "stages": 1, "seeds": 2, "samples": [20, 40]}
    params = {"network": NETWORK, "device": "cpu", "sanity": settings, "area": 0.2, "seed": 42, "target": "predicted"}
    params |= {
        "lime": LIME,
        "counts": [20, 40],
        "layer": "relu2",
        "cams": ["gradcam"],
        "verify": {"n_images": 4, "samples": 20},
    }
    made = {}
    for name, lengths in {"whole": [IMAGES], "parts": sizes}.items():
        images, (gradcam, lime) = explained_in_shards(f"first-{len(sizes)}/{name}", lengths)
        files, tables = model_inputs(images), [f"first-{len(sizes)}/{name}-{number}.csv" for number in range(4)]
        adapter("randomize_model", files | {"explanations": gradcam}, tables[:1], params=params, model=MODEL)
        adapter("stabilize_lime", files | {"explanations": lime}, tables[1:2], params=params, model=MODEL)
        outputs = dict(zip(("differences", "timings"), tables[2:], strict=True))
        adapter("verify_explainers", files, outputs, params=params, model=MODEL)
        made[name] = [pd.read_csv(table) for table in tables]
    for of_parts, of_whole in zip(made["parts"][:3], made["whole"][:3], strict=True):
        pd.testing.assert_frame_equal(of_parts, of_whole)
    for table in made["parts"][:2]:
        assert sorted(set(table["image_id"])) == [f"toy_{number:02d}" for number in range(4)]
    assert made["parts"][2]["images"].eq(4).all()


@pytest.mark.parametrize(("sizes", "shown"), [([1] * IMAGES, 3), ([2, 2, 2], 3), ([2, 2, 2], 100), ([IMAGES], 3)])
def test_figures_show_the_first_source_images_whatever_the_shards(sizes, shown, tmp_path):
    images, (gradcam, lime) = explained_in_shards(tmp_path, sizes, images="squash36-crop32-bilinear")
    n, masks, scores = min(shown, IMAGES), [], []
    settings = {"steps": 3, "baselines": ["mean"], "percentiles": [50]}
    score = {"network": NETWORK, "device": "cpu", "faithfulness": settings, "seed": 42}
    for number, (decoded, *files) in enumerate(zip(images, gradcam, lime, strict=True)):
        masks.append(f"{tmp_path}/masks/{number}.h5")
        measure(decoded, files, masks[-1], f"{tmp_path}/shape.csv", f"{tmp_path}/complexity.csv")
        outputs = {"scores": f"{tmp_path}/{number}.csv", "curves": f"{tmp_path}/{number}.h5"}
        adapter("score_faithfulness", model_inputs(decoded) | {"saliency": files}, outputs, params=score, model=MODEL)
        scores.append(outputs["scores"])
    write_table(read_table(scores), f"{tmp_path}/faithfulness.csv")
    params = {"shown": shown, "classes": {MODEL: "classes.txt"}, "area": 0.2, "missing": [], "beside": []}
    adapter("summarize_predictions", lime, [f"{tmp_path}/predictions.csv"], params=params)
    shards = {"images": images, "saliency": gradcam + lime}
    adapter("draw_grid", shards, [f"{tmp_path}/grid.png"], params=params, model=MODEL)
    adapter("draw_overlays", {"images": images, "saliency": lime}, [f"{tmp_path}/overlays"], params=params, model=MODEL)
    assert sorted(path.stem for path in Path(tmp_path, "overlays").iterdir()) == [f"toy_{i:02d}" for i in range(n)]
    files = shards | {"masks": masks, "agreement": []}
    files |= {name: f"{tmp_path}/{name}.csv" for name in ("predictions", "faithfulness")}
    files |= WITHOUT_ACCOUNTS
    adapter("write_explanations", files, [f"{tmp_path}/page.html"], params=params)
    page = Path(tmp_path, "page.html").read_text()
    assert [f"toy_{i:02d}" in page for i in range(IMAGES)] == [i < n for i in range(IMAGES)]


def test_summaries():
    _, gradcam, lime, _, scores = compare("summarized")
    outputs = {name: f"summarized/{name}.csv" for name in ("images", "summary", "tests")}
    outputs["findings"] = "summarized/findings.json"
    files = {"scores": [scores], "matching": [match([gradcam, lime], "summarized")]}
    adapter("summarize_agreement", files, outputs, params={"seed": 42, "area": 0.2})
    table, summary = read_table(outputs["images"]), read_table(outputs["summary"])
    assert table.equals(read_table(scores))
    means = table.groupby(["measure", "cut"], dropna=False).value.mean()
    everything = summary[summary.subset == "all"].set_index(["measure", "cut"])["mean"]
    np.testing.assert_allclose(everything.sort_index(), means.sort_index(), rtol=1e-5)
    assert summary.chance.notna().all() and summary.matched.eq(IMAGES).all()
    assert "Grad-CAM and LIME agree: IoU" in Path(outputs["findings"]).read_text()
    assert len(read_table(outputs["tests"])) == 0  # one pair has no other to be compared with

    measures = {"shape": "summarized/measured_shape.csv", "complexity": "summarized/measured_complexity.csv"}
    measure("summarized/images.h5", [gradcam, lime], "summarized/measured_masks.h5", **measures)
    outputs |= {name: f"summarized/{name}.csv" for name in ("shape", "shape_summary", "shape_tests")}
    outputs |= {name: f"summarized/{name}.csv" for name in ("complexity", "correlations")}
    outputs |= {f"{name}_findings": f"summarized/{name}.json" for name in ("shape", "complexity")}
    files = {"shape": [measures["shape"]], "complexity": [measures["complexity"]], "agreement": outputs["images"]}
    adapter("summarize_measures", files, outputs, params={"seed": 42, "area": 0.2})
    assert len(read_table(outputs["shape"])) == 2 * 3 * IMAGES  # explainers, measures
    assert read_table(outputs["shape_tests"]).explainer_a.tolist() == ["gradcam-relu2"] * 3
    correlations = read_table(outputs["correlations"])
    assert len(correlations) == 2 * 5 and (correlations.source_images == IMAGES).all()
    assert read_table(outputs["complexity"]).superpixels.tolist() == [16] * IMAGES

    files = {"images": "summarized/images.h5", "saliency": [gradcam, lime]}
    adapter("score_localization", files, ["summarized/found.csv"], params={"seed": 42}, model=MODEL)
    assert len(read_table("summarized/found.csv")) == 0  # the sheet gives neither mask nor box

    adapter("summarize_timings", [f"{gradcam}.csv", f"{lime}.csv"], ["summarized/timings.csv"])
    timings = read_table("summarized/timings.csv")
    assert timings.explainer.tolist() == ["gradcam-relu2", "lime"] and timings.images.tolist() == [IMAGES, IMAGES]
    np.testing.assert_allclose(timings.seconds_per_image, timings.seconds / IMAGES, rtol=1e-3)

    params = {"classes": {MODEL: "classes.txt"}}
    adapter("summarize_predictions", [lime], ["summarized/predictions.csv"], params=params)
    predictions = read_table("summarized/predictions.csv")
    assert predictions.label_name.tolist() == [toy.CLASSES[number % 5] for number in range(IMAGES)]
    assert (predictions.target == predictions.predicted).all()


def score_faithfulness(folder, *, batch_size=4):
    """Score one CAM and LIME on all source images; return the paths written."""
    images = decode(f"{folder}/images.h5")
    saliency = [explain(f"{folder}/{method}/0.h5", images, method) for method in ("gradcam", "lime")]
    files = Namedlist(["toy.json", "toy.bin", images, *saliency])
    for position, name in enumerate(("model", "weights", "images")):
        files._set_name(name, position)
    files._set_name("saliency", 3, end=5)
    outputs = {"scores": f"{folder}/scores.csv", "curves": f"{folder}/curves.h5"}
    settings = {"steps": 4, "baselines": ["blur", "mean"], "percentiles": [30, 60]}
    params = {"network": NETWORK, "device": "cpu", "faithfulness": settings, "seed": 42}
    adapter("score_faithfulness", files, outputs, params=params, batch_size=batch_size, model=MODEL)
    return outputs["scores"], outputs["curves"]


def test_faithfulness():
    scores, curves = score_faithfulness("faithful")
    names = ["images", "summary", "tests", "curves"]
    outputs = {name: f"faithful/{name}.csv" for name in names} | {"findings": "faithful/findings.json"}
    adapter("summarize_faithfulness", {"scores": [scores], "curves": [curves]}, outputs, params={"seed": 42})
    images, summary, tests, means = (read_table(outputs[name]) for name in names)
    assert images.groupby(["explainer", "measure", "baseline"]).size().eq(IMAGES).all()
    assert set(images.explainer) == {"gradcam-relu2", "lime", "random", "gaussian"}
    assert set(images.explained_class) == {"predicted"} and set(images.geometry) == {"squash36-crop32-bilinear"}
    row = summary.set_index(["explainer", "measure", "baseline"]).loc["lime", "deletion", "blur"]
    of_row = images[(images.explainer == "lime") & (images.measure == "deletion") & (images.baseline == "blur")]
    assert row["mean"] == pytest.approx(of_row.value.mean(), rel=1e-4)
    assert len(tests) == 6 * 9  # pairs of four; measures and baselines
    first = means[(means.measure == "deletion") & (means.share == 0)]
    assert first["mean"].nunique() == 1  # the source images themselves
    assert sorted(means[means.measure == "road_lerf"].share.unique()) == [0.3, 0.6]
    assert len(json.loads(Path(outputs["findings"]).read_text())) == 3  # deletion, insertion, ROAD
    figures = {name: f"faithful/{name}.svg" for name in ("scores", "curves")}
    drawn = {name: [path] for name, path in figures.items()}
    files = {"summary": outputs["summary"], "curves": outputs["curves"]}
    adapter("draw_faithfulness", files, drawn, params={"models": [MODEL]})
    assert all(Path(path).stat().st_size for path in figures.values())


@pytest.fixture(scope="module")
def uneven(inputs):
    """Shards of two source images, none (its only one was skipped) and one, which alone has a mask, explained."""
    Path(inputs, "source_images/broken.jpg").write_bytes(toy.truncated_jpeg())
    Image.fromarray(np.eye(4, dtype=np.uint8).repeat(10, 0).repeat(12, 1)).save(inputs / "source_images/mask.png")
    rows = [
        "toy_00,toy_00.png,0,,",
        "toy_01,toy_01.png,,,",
        "bad,broken.jpg,1,,",
        "toy_02,toy_02.png,2,mask.png,0 0 1 1",
    ]
    (inputs / "uneven.csv").write_text("\n".join(["image_id,path,label,mask,box", *rows]) + "\n")
    lime = LIME | {"n_samples": 80, "superpixels": {"method": "felzenszwalb", "scale": 50, "min_size": 4}, "repeats": 2}
    made = {name: [] for name in ("images", "features", "gradcam", "ablationcam", "lime", "masks", "activations")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inputs)
        for number, (start, stop) in enumerate([(0, 2), (2, 3), (3, 4)]):
            at = f"{number:05d}.h5"
            images = decode(
                f"uneven/squash36-crop32-bilinear/{at}", start, stop, sheet="uneven.csv", on_bad_image="skip"
            )
            made["images"].append(images)
            made["activations"].append(extract(f"uneven/activations/{at}", images))
            for name in ("gradcam", "ablationcam", "lime"):
                made[name].append(explain(f"uneven/{name}/{at}", images, name, batch_size=1, options=lime))
            made["masks"].append(f"uneven/masks/{at}")
            files = [made[name][-1] for name in ("gradcam", "ablationcam", "lime")]
            measure(images, files, made["masks"][-1], "uneven/shape.csv", "uneven/complexity.csv")
    return made


def test_uneven_shards_are_read_as_one(uneven):
    lime, facts = concatenate(uneven["lime"])
    found = lime["segments"].max((1, 2)) + 1
    assert len(set(found)) == 3 and lime["coefficients"].shape == (3, max(found))
    assert lime["coefficients"].shape[1] - np.isnan(lime["coefficients"]).sum(1) == pytest.approx(found)
    assert np.isfinite(lime["stability"]).all() and facts["explainer"] == "lime"
    images, facts = concatenate(uneven["images"])
    assert images["image_id"].tolist() == ["toy_00", "toy_01", "toy_02"] and images["label"].tolist() == [0, -1, 2]
    assert images["has_mask"].tolist() == [False, False, True] and images["mask"].any((1, 2)).tolist() == [0, 0, 1]
    assert [image_id for image_id, _ in json.loads(facts["skipped"])] == ["bad"]
    assert read_column(uneven["activations"], "activations").shape == (3, 8)
    assert concatenate(uneven["ablationcam"])[1]["passes"] == "linear"


def test_lime_is_tuned_on_uneven_shards(uneven):
    objective = {"objective": "equal_area_iou", "area": 0.2, "steps": 5, "baseline": "blur"}
    params = {"network": NETWORK, "device": "cpu", "settings": TUNE, "objective": objective, "seed": 42}
    scores, timings = ([f"uneven/{name}/{number}.csv" for number in range(3)] for name in ("tuned", "tuned_seconds"))
    names = ("saliency", "lime", "scores", "timings")
    for images, *own in zip(uneven["images"], uneven["gradcam"], uneven["lime"], scores, timings, strict=True):
        paths = dict(zip(names, own, strict=True))
        files = model_inputs(images) | {name: paths.pop(name) for name in ("saliency", "lime")}

        adapter("tune_lime", files, paths, params=params | {"n_images": 2}, model=MODEL)
    assert [len(pd.read_csv(path)) for path in scores] == [2 * 7, 0, 7]
    assert len(read_table(scores)) == 3 * 7 and set(read_table(timings).part) == {"superpixels", "sample"}


def test_uneven_shards_are_scored_and_summarized(uneven):
    of_shards = list(zip(*(uneven[name] for name in ("images", "gradcam", "ablationcam", "lime")), strict=True))
    names = ("agreement", "truth", "shape", "complexity", "faithfulness")
    tables = {name: [f"uneven/{name}/{number}.csv" for number in range(3)] for name in names}
    curves = [f"uneven/curves/{number}.h5" for number in range(3)]
    settings = {"steps": 4, "baselines": ["blur"], "percentiles": [30, 60]}
    faithful = {"network": NETWORK, "device": "cpu", "faithfulness": settings, "seed": 42}
    for number, (images, *saliency) in enumerate(of_shards):
        files, own = {"images": images, "saliency": saliency}, {name: paths[number] for name, paths in tables.items()}
        options = {"params": {"agreement": AGREEMENT, "seed": 42}, "model": "toy"}
        adapter("score_agreement", saliency, [own["agreement"]], **options)
        adapter("score_localization", files, [own["truth"]], params={"seed": 42}, model=MODEL)
        measure(images, saliency, "uneven/masks.h5", own["shape"], own["complexity"])
        outputs = {"scores": own["faithfulness"], "curves": curves[number]}
        adapter("score_faithfulness", model_inputs(images) | files, outputs, params=faithful, model=MODEL)
    params = {"seed": 42, "area": 0.2}
    outputs = {name: f"uneven/agreement_{name}.csv" for name in ("images", "summary", "tests")}
    saliency = [path for name in ("gradcam", "ablationcam", "lime") for path in uneven[name]]
    files = {"scores": tables["agreement"], "matching": [match(saliency, "uneven")]}
    adapter("summarize_agreement", files, outputs | {"findings": "uneven/agreement.json"}, params=params)
    assert set(pd.read_csv(outputs["images"]).image_id) == {"toy_00", "toy_01", "toy_02"}

    outputs = {name: f"uneven/truth_{name}.csv" for name in ("images", "summary", "tests")}
    outputs |= {"figure": "uneven/truth.svg", "findings": "uneven/truth.json"}
    adapter("summarize_localization", tables["truth"], outputs, params={"models": [MODEL], "seed": 42})
    found = pd.read_csv(outputs["images"])
    assert set(found.image_id) == {"toy_02"} and set(found.reference) == {"mask", "box"}

    outputs = {name: f"uneven/{name}.csv" for name in ("shape", "shape_summary", "shape_tests")}
    outputs |= {name: f"uneven/{name}.csv" for name in ("complexity", "correlations")}
    outputs |= {f"{name}_findings": f"uneven/{name}.json" for name in ("shape", "complexity")}
    files = {name: tables[name] for name in ("shape", "complexity")} | {"agreement": "uneven/agreement_images.csv"}
    adapter("summarize_measures", files, outputs, params=params)
    assert pd.read_csv(outputs["complexity"]).superpixels.nunique() == 3

    names = ("images", "summary", "tests", "curves")
    outputs = {name: f"uneven/faithful_{name}.csv" for name in names} | {"findings": "uneven/faithful.json"}
    files = {"scores": tables["faithfulness"], "curves": curves}
    adapter("summarize_faithfulness", files, outputs, params={"seed": 42})
    scored = pd.read_csv(outputs["images"])
    assert set(scored.image_id) == {"toy_00", "toy_01", "toy_02"} and set(pd.read_csv(outputs["curves"]).n) == {3}

    params = {"classes": {MODEL: "classes.txt"}}
    adapter("summarize_predictions", uneven["lime"], ["uneven/predictions.csv"], params=params)
    adapter("summarize_explanations", uneven["lime"], ["uneven/explanations.csv"])
    assert len(pd.read_csv("uneven/predictions.csv")) == 3
    explained = pd.read_csv("uneven/explanations.csv")
    assert explained.superpixels.nunique() == 3 and explained.stability.notna().all()

    files = {"images": uneven["images"], "saliency": saliency, "masks": uneven["masks"]}
    files |= {"predictions": "uneven/predictions.csv", "faithfulness": "uneven/faithful_images.csv"}
    files |= {"agreement": tables["agreement"]}
    params |= {"shown": 3, "area": 0.2, "missing": [], "beside": []}
    files |= WITHOUT_ACCOUNTS
    adapter("write_explanations", files, ["uneven/explanations.html"], params=params)
    page = Path("uneven/explanations.html").read_text()
    assert all(name in page for name in ("toy_00", "toy_01", "toy_02"))
    adapter("draw_grid", files, ["uneven/grid.svg"], params=params, model=MODEL)
    assert Path("uneven/grid.svg").stat().st_size
    adapter("draw_overlays", files | {"saliency": uneven["lime"]}, ["uneven/overlays"], params=params, model=MODEL)
    assert sorted(path.stem for path in Path("uneven/overlays").iterdir()) == ["toy_00", "toy_01", "toy_02"]
    Path("uneven.csv").write_text("image_id,path,duplicate_of\na,a.png,\n")
    count_images(uneven["images"], "uneven.csv", "uneven/images.csv")
    assert pd.read_csv("uneven/images.csv")[["images", "skipped"]].to_numpy().tolist() == [[3, 1]]


def test_faithfulness_depends_on_no_batch_size():
    scored = [read_table(score_faithfulness(f"by-{size}", batch_size=size)[0]) for size in (1, 64)]
    keys = ["image_id", "explainer", "measure", "baseline"]
    one, other = (table.set_index(keys).value for table in scored)
    np.testing.assert_allclose(one, other[one.index], rtol=1e-4, atol=1e-4)


EVIDENCE = {"resamples": 5, "null_draws": 20, "alpha": 1}


def label_units(folder, similarity="cos_similarity"):
    """Label three units on two shards of twelve source images, all random."""
    rng = np.random.default_rng(0)
    shards, images = [], []
    for number in range(2):
        ids = np.array([f"image{12 * number + row}" for row in range(12)], dtype=object)
        shards.append(f"{folder}/activations/{number:05d}.h5")
        images.append(f"{folder}/images/{number:05d}.h5")
        arrays_module.write_arrays(
            shards[-1], {"activations": rng.random((12, 3)), "image_id": ids}, {"layer": "relu1"}
        )
        arrays_module.write_arrays(maps_beside(shards[-1]), {"image_id": np.tile(ids[:0], (3, 5))}, {"layer": "relu1"})
        arrays = {"features": rng.random((12, 4)), "image_id": ids, "source_image": ids}
        arrays_module.write_arrays(images[-1], arrays, {"encoder": "ConSE surrogate"})
    words = np.array(["null", "dog", "sky"], dtype=object)
    arrays = {"features": rng.random((3, 4)), "word": words, "category": words}
    arrays_module.write_arrays(f"{folder}/concepts.h5", arrays, {"encoder": "ConSE surrogate"})
    files = {"activations": shards, "maps": [*map(maps_beside, shards)], "images": images}
    files |= {"concepts": f"{folder}/concepts.h5", "annotations": [], "annotated": []}
    params = {"similarity": similarity, "seed": 1, "evidence": EVIDENCE}
    outputs = {"table": f"{folder}/relu1.csv", "linear": f"{folder}/linear.csv", "maps": f"{folder}/maps.h5"}
    return shards, lambda: adapter("label_units", files, outputs, params=params, model=MODEL, layer="relu1")


def score_words(folder, batch_size=4):
    """Label the class outputs of the toy network on the six source images, with a list of which a class is one."""
    images, features, concepts = [decode(f"{folder}/own.h5")], f"{folder}/features.h5", f"{folder}/classes.h5"
    arrays, _ = arrays_module.read_arrays(images[0])
    rng = np.random.default_rng(0)
    shown = {name: arrays[name] for name in ("image_id", "source_image")} | {"features": rng.random((IMAGES, 4))}
    arrays_module.write_arrays(features, shown, {"encoder": "ConSE surrogate"})
    first, *others = word_controls.names_to_add([], toy.CLASSES)
    words = np.array([first, "dog"], dtype=object)
    listed = {"features": rng.random((2, 4)), "word": words, "category": words}
    arrays_module.write_arrays(concepts, listed, {"encoder": "ConSE surrogate"})
    added = {"features": rng.random((4, 4)), "word": np.array(others, dtype=object)}
    arrays_module.write_arrays(f"{folder}/others.h5", added, {"encoder": "ConSE surrogate"})
    params, controls = {"layers": ["relu1", "relu2"], "seed": 1}, f"{folder}/controls.h5"
    run = params | {"network": NETWORK, "device": "cpu", "pooling": "avg"}
    files = model_inputs(images) | {"layer_facts": ["relu1.json", "relu2.json"]}
    adapter("extract_controls", files, [controls], params=run, batch_size=batch_size, model=MODEL)
    files = {"controls": controls, "features": [features], "concepts": concepts, "classes": f"{folder}/others.h5"}
    params |= {"classes": "classes.txt", "similarity": "cos_similarity", "evidence": EVIDENCE}
    adapter("score_words", files, [f"{folder}/controls.csv"], params=params, model=MODEL)
    return f"{folder}/controls.csv"


def test_controls_of_words_are_those_of_the_network():
    table = read_table(score_words("controls"))
    assert table.control.tolist() == ["class outputs", "name not listed", *["shuffled weights"] * 2]
    assert table.layer.tolist() == ["", "", "relu1", "relu2"] and set(table.model) == {MODEL}
    assert table.words.tolist() == [6, 4, 2, 2] and table.units.tolist()[:2] == [5, 2]
    pd.testing.assert_frame_equal(read_table(score_words("controls", batch_size=1)), table, rtol=1e-5)


def collected(folder):
    """What is said of the labels of one layer."""
    outputs = {name: f"{folder}/all-{name}" for name in ("table", "linear", "controls", "findings")}
    files = {"concepts": f"{folder}/relu1.csv", "linear": f"{folder}/linear.csv", "controls": score_words(folder)}
    adapter("collect_concepts", files, outputs)
    return json.loads(Path(outputs["findings"]).read_text())


def test_labels_with_evidence():
    _, run = label_units("labeled")
    run()
    table = read_table("labeled/relu1.csv")
    assert set(table.status) <= set(unit_labels.STATUSES) and set(table.layer) == {"relu1"}
    columns = ["kept", "kept_group", "score_low", "score_high", "p_value", "q_value", "held_out_correlation"]
    assert table[columns].notna().all(axis=None)
    assert set(table.p_floor.round(5)) == {round(1 / 61, 5)} and set(table.source_images) == {24}  # twenty of each unit
    linear = read_table("labeled/linear.csv")
    assert linear.unit.tolist() == [0, 1, 2] and set(linear.layer) == {"relu1"}
    assert linear[["linear_correlation", "ridge_correlation"]].notna().all(axis=None)
    sentences = collected("labeled")
    expected = [f"{MODEL}: {line}" for line in concept_findings.evidence_findings(table)]
    controls = concept_findings.control_findings(read_table("labeled/all-controls"))
    assert sentences == expected + pages.marked(controls + concept_findings.linear_findings(linear))
    assert sentences[0].startswith(f"{MODEL}: ") and "of 3 active units" in sentences[0]


def test_a_unit_that_is_not_finite_costs_itself():
    state = torch.load("toy.bin", weights_only=True)
    state["conv2.bias"][3] = torch.nan
    torch.save(state, "nan.bin")
    params = {"network": NETWORK, "device": "cpu", "pooling": "avg"}
    images = decode("nan/images.h5")
    files = model_inputs(images) | {"weights": "nan.bin"}
    outputs = {"activations": "nan/relu2.h5", "maps": maps_beside("nan/relu2.h5")}
    adapter("extract_activations", files, outputs, params=params, layer="relu2")
    found = read_column(["nan/relu2.h5"], "activations")
    sound = read_column([extract("nan/sound.h5", images)], "activations")
    assert np.isnan(found[:, 3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, axis=1), np.delete(sound, 3, axis=1))
    maps = [label([f"nan/{name}.h5"], [images], f"nan/{name}_labels.h5")[0] for name in ("relu2", "sound")]
    assert set(maps[0]["row"][3]) == {-1} and not maps[0]["maps"][3].any()
    for name, array in maps[1].items():
        np.testing.assert_array_equal(np.delete(maps[0][name], 3, axis=0), np.delete(array, 3, axis=0))

    shards, run = label_units("nan")
    arrays, facts = arrays_module.read_arrays(shards[1])
    arrays["activations"][5, 1] = np.inf
    arrays_module.write_arrays(shards[1], arrays, facts)
    run()
    table = read_table("nan/relu1.csv")
    assert table.status.tolist() == ["not selective", "not finite", "not selective"]
    assert "1 unit is dead, constant or not finite." in "".join(collected("nan"))


def test_a_purged_shard_of_activations_is_named():
    shards, run = label_units("purged")
    Path(shards[1]).unlink()
    with pytest.raises(FileNotFoundError, match=r"00001\.h5"):
        run()


def test_fewer_images_than_the_similarity_looks_at():
    _, run = label_units("few", "soft_wpmi")
    with pytest.raises(ValueError, match="`top_k` is 100 but there are 24 images"):
        run()


def test_tables_of_all_explanations_read_no_maps(monkeypatch):
    """The steps beside Snakemake take as much memory as there are rows, whatever the size and number of maps."""
    images = decode("columns/images.h5")
    shards = [explain(f"columns/{method}.h5", images, method) for method in ("gradcam", "lime")]
    params = {"classes": {MODEL: "classes.txt"}}
    rules = {"summarize_explanations": shards, "summarize_predictions": shards[1:]}
    for name, files in rules.items():
        adapter(name, files, [f"columns/{name}.csv"], params=params)
    bare = []
    for path in shards:
        arrays, facts = arrays_module.read_arrays(path)
        bare.append(f"{path}.bare")
        arrays_module.write_arrays(bare[-1], {name: array for name, array in arrays.items() if array.ndim == 1}, facts)
        assert {"saliency"} <= {name for name, array in arrays.items() if array.ndim > 1}
    for name, files in {"summarize_explanations": bare, "summarize_predictions": bare[1:]}.items():
        adapter(name, files, [f"columns/{name}-bare.csv"], params=params)
        assert Path(f"columns/{name}-bare.csv").read_bytes() == Path(f"columns/{name}.csv").read_bytes()
    monkeypatch.setattr(arrays_module, "read_arrays", lambda path, **options: pytest.fail(f"{path} is read whole"))
    for name, files in rules.items():
        adapter(name, files, [f"columns/{name}.csv"], params=params)


def test_an_image_without_an_explanation_goes_through_every_step():
    """A black image among the source images: LIME has one superpixel."""
    rows = toy.write_source_images("source_images", IMAGES)
    Image.new("RGB", (48, 40)).save("source_images/black.png")
    toy.write_sheet("black.csv", [*rows[:4], {"image_id": "black", "path": "black.png", "label": "0"}])
    images = decode("black/images.h5", 0, 5, sheet="black.csv")
    params = {"network": NETWORK, "device": "cpu", "target": "predicted", "seed": 42}
    params |= {"options": LIME | {"superpixels": {"method": "felzenszwalb", "scale": 1, "sigma": 0, "min_size": 60}}}
    outputs = {"saliency": "black/lime/0.h5", "timings": "black/lime.csv"}
    adapter("explain_perturbed", model_inputs(images), outputs, params=params, model=MODEL, explainer="lime")
    saliency = [explain("black/gradcam/0.h5", images, "gradcam"), "black/lime/0.h5"]
    assert (
        arrays_module.read_arrays("black/lime/0.h5")[0]["warning"][4] == "there is only one superpixel, LIME needs two"
    )
    adapter("score_agreement", saliency, ["black/scores.csv"], params={"agreement": AGREEMENT, "seed": 42}, model=MODEL)
    scores = read_table("black/scores.csv")
    assert scores.loc[scores["image_id"] == "black", "value"].isna().all()
    measure(images, saliency, "black/masks.h5", "black/s.csv", "black/c.csv")
    assert read_table("black/c.csv")["superpixels"].iloc[4] == 1
    params = {"shown": 5, "classes": {MODEL: "classes.txt"}}
    adapter("draw_overlays", {"images": [images], "saliency": ["black/lime/0.h5"]}, ["black/drawn"], params=params)
    adapter("draw_grid", {"images": [images], "saliency": saliency}, ["black/grid.png"], params=params, model=MODEL)
    assert Path("black/drawn/black.png").is_file()
    adapter("summarize_explanations", saliency, ["black/e.csv"])
    assert (read_table("black/e.csv")["warning"] != "").sum() >= 1


def checkerboard(predict, *, seed, batch_size, given, size):
    """Make an explainer that needs no layer: squares of the image count by whether they are on black or white."""

    def explain_images(images, targets, image_ids):
        row, column = (torch.arange(side) // size for side in images.shape[1:3])
        return {"saliency": ((row[:, None] + column) % 2).float().expand(len(images), -1, -1)}

    return explain_images


def test_a_new_explainer_is_a_function_and_its_name(monkeypatch):
    """One at a layer and one without: explained, cut, scored, tabulated and drawn, beside those there are."""
    brightness = cam.Method(lambda model, layer, images, targets, chunk, first: images.mean(1)[:, ::4, ::4].relu())
    monkeypatch.setitem(cam.METHODS, "brightness", brightness)
    monkeypatch.setitem(run.PERTURBING, "checkerboard", checkerboard)
    names = ["gradcam-relu2", "brightness-relu2", "lime", "checkerboard"]
    explained = {"target": "predicted", "cams": ["gradcam", "brightness"], "lime": LIME, "checkerboard": {"size": 8}}
    assert job_config.explainers({"models": {MODEL: {"cam_layer": "relu2"}}, "explain": explained}, MODEL) == names

    images = decode("new/images.h5")
    files = {name: f"new/{name}/0.h5" for name in names}
    for name, path in files.items():
        explain(path, images, name.partition("-")[0], options=explained.get(name))
    made = {name: arrays_module.read_arrays(path) for name, path in files.items()}
    assert [facts["explainer"] for _, facts in made.values()] == names
    assert json.loads(made["checkerboard"][1]["checkerboard"]) == {"size": 8}
    assert all(arrays["saliency"].any((1, 2)).all() for arrays, _ in made.values())

    saliency, measured = list(files.values()), {"shape": "new/s.csv", "complexity": "new/c.csv"}
    measure(images, saliency, "new/masks.h5", **measured)
    assert {f"{name}:equal_area" for name in names} <= set(arrays_module.read_arrays("new/masks.h5")[0])
    adapter("score_agreement", saliency, ["new/scores.csv"], params={"agreement": AGREEMENT, "seed": 42}, model=MODEL)
    outputs = {name: f"new/agreement_{name}.csv" for name in ("images", "summary", "tests")}
    params = {"area": 0.2, "seed": 42}
    matched = {"scores": ["new/scores.csv"], "matching": [match(saliency, "new")]}
    adapter("summarize_agreement", matched, outputs | {"findings": "new/agreement.json"}, params=params)
    summary = read_table(outputs["summary"])
    assert set(zip(summary.explainer_a, summary.explainer_b, strict=True)) == set(combinations(names, 2))
    adapter("summarize_timings", [f"{path}.csv" for path in saliency], ["new/timings.csv"])
    drawn = {name: f"new/{name}.svg" for name in ("equal_area", "threshold", "spearman", "sweep", "timings")}
    inputs = {"summary": outputs["summary"], "timings": "new/timings.csv"}
    adapter("draw_agreement", inputs, drawn, params={"area": 0.2, "models": [MODEL]})
    assert all("checkerboard" in Path(path).read_text() for path in drawn.values())

    names_of_outputs = ("shape", "shape_summary", "shape_tests", "complexity", "correlations")
    tables = {name: f"new/{name}.csv" for name in names_of_outputs}
    tables |= {f"{name}_findings": f"new/{name}.json" for name in ("shape", "complexity")}
    inputs = {name: [path] for name, path in measured.items()} | {"agreement": outputs["images"]}
    adapter("summarize_measures", inputs, tables, params=params)
    tests = read_table(tables["shape_tests"])
    assert set(zip(tests.explainer_a, tests.explainer_b, strict=True)) == {*product(names[:2], names[2:])}
    assert (
        "above LIME" in Path("new/shape.json").read_text()
        and "above checkerboard" in Path("new/shape.json").read_text()
    )
    assert set(read_table(tables["correlations"]).agreement) == {"gradcam-relu2 & lime", "mean of all pairs"}

    params = {
        "network": NETWORK,
        "device": "cpu",
        "faithfulness": {"steps": 3, "baselines": ["mean"], "percentiles": [50]},
        "seed": 42,
    }
    faithful = {"scores": "new/faithfulness.csv", "curves": "new/faithfulness.h5"}
    adapter("score_faithfulness", model_inputs(images) | {"saliency": saliency}, faithful, params=params, model=MODEL)
    assert set(read_table(faithful["scores"]).explainer) == {*names, "random", "gaussian"}
    adapter("summarize_explanations", saliency, ["new/explanations.csv"])
    params = {"shown": IMAGES, "area": 0.2, "missing": [], "beside": [], "classes": {MODEL: "classes.txt"}}
    adapter("summarize_predictions", saliency[:1], ["new/predictions.csv"], params=params)
    inputs = {"images": [images], "saliency": saliency}
    adapter("draw_grid", inputs, ["new/grid.svg"], params=params, model=MODEL)
    assert all(
        title in Path("new/grid.svg").read_text() for title in ("Grad-CAM", "brightness", "LIME", "checkerboard")
    )
    adapter("draw_overlays", inputs | {"saliency": saliency[3:]}, ["new/overlays"], params=params, model=MODEL)
    inputs |= {"masks": ["new/masks.h5"], "predictions": "new/predictions.csv", "faithfulness": [faithful["scores"]]}
    inputs |= {"agreement": ["new/scores.csv"]}
    inputs |= WITHOUT_ACCOUNTS
    adapter("write_explanations", inputs, ["new/page.html"], params=params)
    assert "checkerboard" in Path("new/page.html").read_text()


def test_the_schema_names_the_explainers():
    explained = schema.read_schema(SCRIPTS.parent / "config/schema.yaml")["properties"]["explain"]["properties"]
    assert explained["cams"]["items"]["enum"] == list(cam.METHODS)
    assert [name for name, entry in explained.items() if entry["type"] == "object"] == list(run.PERTURBING)
    assert all(re.fullmatch(r"[A-Za-z0-9+_]+", name) for name in (*cam.METHODS, *run.PERTURBING))
