"""What the rules of several topics take inputs from: the config, models, image sets, shards and paths."""

import functools
import gc
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ExecMode

# not `workflow.basedir`, which is another workflow's where that imports this one
WORKFLOW = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.insert(0, str(WORKFLOW / "scripts"))
from unitlens.jobs import config as job_config
from unitlens.jobs import csv_files, inputs, schema
from unitlens.jobs.sheets import AT_ONCE, BROUGHT_MASKS, annotated_set, count_classes, sides

SCHEMA = schema.read_schema(WORKFLOW / "config" / "schema.yaml")


class ConfigError(WorkflowError):
    """A config, sheet or list that cannot be used. Where in the rules that was found helps nobody."""

    __traceback__ = None


def check_config():
    """Raise one error that lists every problem of the config, whose defaults are filled in where it has the right form."""
    if any(map(str.isspace, sys.executable)):
        raise ConfigError(f"Snakemake runs no script by a Python whose path has a space: {sys.executable}. Move it.")
    if {"{", "}"} & {*str(WORKFLOW)}:
        raise ConfigError(f"Snakemake takes braces in the path of the workflow for its own: {WORKFLOW}. Move it.")
    if not config:
        raise ConfigError(
            "There is no config. Choose a profile, for example `--profile profiles/demo`, or give `--configfile`."
        )
    if problems := job_config.check(config, SCHEMA, workflow.configfiles):
        raise ConfigError("The configuration has problems:\n" + "\n".join(f"  {problem}" for problem in problems))


# ---- models and their explainers


def of_model(key):
    """What the config says of a job's model."""
    return lambda wildcards: config["models"][wildcards.model][key]


preprocessing = of_model("preprocessing")


def labeled_models():
    return [model for model in config["models"] if config["models"][model]["layers"]]


def explained_models():
    return job_config.explained_models(config)


def explainers(model):
    return job_config.explainers(config, model)


# ---- image sets and their shards


def of_images(key):
    """What the config says of a job's image set."""
    return lambda wildcards: config["images"][wildcards.dataset].get(key)


def count_rows(dataset):
    images = config["images"][dataset]
    return count_sheet(images["sheet"]) if "sheet" in images else images["size"]


count_sheet = functools.cache(csv_files.count_rows)  # a job on the cluster needs no more of most sheets
read_sheet = functools.cache(csv_files.read_all)


def shards(dataset):
    size = config["images"][dataset]["shard_size"]
    return [f"{index:05d}" for index in range(-(-count_rows(dataset) // size))]


def geometry_of(preprocessing):
    """What of the preprocessing is done once for all networks that share it; gray for networks of one channel."""
    kept = {key: preprocessing[key] for key in ("fit", "resize", "crop", "interpolation")}
    return kept | ({"gray": True} if len(preprocessing["mean"]) == 1 else {})


def geometry_name(preprocessing):
    sizes = {key: "x".join(map(str, dict.fromkeys(sides(preprocessing[key])))) for key in ("resize", "crop")}
    name = "{fit}{resize}-crop{crop}-{interpolation}".format(**preprocessing | sizes)
    return name + ("-gray" if "gray" in geometry_of(preprocessing) else "")


# ---- files that several topics read


def images_of(dataset, preprocessing, shard):
    return f"results/images/{dataset}/{geometry_name(preprocessing)}/{shard}.h5"


def all_probe_images_of_model(wildcards):
    return [images_of("probe", preprocessing(wildcards), shard) for shard in shards("probe")]


def annotated_images_of_model(wildcards):
    return [images_of(ANNOTATED, preprocessing(wildcards), shard) for shard in shards(ANNOTATED)]


def explain_images_of_model(wildcards):
    return images_of("explain", preprocessing(wildcards), wildcards.shard)


def images_of_models(dataset, models, those):
    """Decoded shards of several models, geometry by geometry."""
    inputs = [config["models"][model]["preprocessing"] for model in models]
    return list(dict.fromkeys(images_of(dataset, each, shard) for each in inputs for shard in those))


@functools.cache
def decoded_images():
    """Names of the image sets and, beside them, every decoded shard."""
    labeled = [config["models"][model]["preprocessing"] for model in labeled_models()]
    explained = [config["models"][model]["preprocessing"] for model in explained_models()]
    encoded = [] if ENCODER == "annotations" else [config["encoder"]["preprocessing"]]
    inputs = {"probe": [*encoded, *labeled], "explain": explained, "annotated": labeled}
    pairs = [
        (dataset, images_of(dataset, preprocessing, shard))
        for dataset in config["images"]
        for preprocessing in inputs[dataset]
        for shard in shards(dataset)
    ]
    return tuple(zip(*dict.fromkeys(pairs)))


def encoder_files(wildcards):
    """The encoder's files, also for a rule whose outputs do not name the encoder."""
    folder = f"results/retrieved/encoders/{wildcards.get('encoder', ENCODER)}"
    return {name: f"{folder}/{name}.bin" for name in ([] if ENCODER == "annotations" else config["encoder"]["files"])}


def facts_of_cam_layer(wildcards):
    return f"results/models/{wildcards.model}/{of_model('cam_layer')(wildcards)}.json"


def saliency_of_shard(wildcards):
    return expand("results/saliency/{{model}}/{explainer}/{{shard}}.h5", explainer=explainers(wildcards.model))


def saliency_of_reference(wildcards):
    reference = f"{config['tune']['reference']}-{config['models'][wildcards.model]['cam_layer']}"
    return f"results/saliency/{wildcards.model}/{reference}/{wildcards.shard}.h5"


def first_shards(section):
    """Shards of the first images to explain, so many or as a section of the config says; none without the section."""
    n_images = section if isinstance(section, int) else config.get(section, {}).get("n_images", 0)
    return shards("explain")[: -(-n_images // config["images"]["explain"]["shard_size"])]


def first_images(section):
    """Decoded shards of a model's first source images, as many as a section of the config says."""
    return lambda wildcards: [images_of("explain", preprocessing(wildcards), shard) for shard in first_shards(section)]


def first_saliency(section, some=slice(None)):
    """Shards of a model's explanations of these by all or some explainers."""
    return lambda wildcards: expand(
        "results/saliency/{{model}}/{explainer}/{shard}.h5",
        explainer=explainers(wildcards.model)[some],
        shard=first_shards(section),
    )


def labeled_layers():
    """Every layer whose units are labeled, as model and layer."""
    return [(model, layer) for model in config["models"] for layer in config["models"][model]["layers"]]


def per_layer(pattern, some=None):
    """Expand a pattern over all or some of the labeled layers."""
    layers = labeled_layers() if some is None else some
    return [pattern.format(model=model, layer=layer) for model, layer in layers]


def if_configured(key, *things):
    """What is given, where the config has the optional key; else nothing."""
    return list(things) if key in config else []


def if_any(paths):
    """The one file of a list, as an input with a name of its own; of an empty list nothing."""
    return paths[0] if paths else []


def if_localization(*things):
    """What is given, where the sheet of explained source images gives a mask or a box; else nothing."""
    sheet = config["images"]["explain"].get("sheet")
    columns, rows = read_sheet(sheet) if sheet else ([], [])
    places = [columns.index(name) for name in ("mask", "box") if name in columns]
    return list(things) if any(row[place] for row in rows for place in places) else []


def per_explainer(pattern, some=None):
    """Expand a pattern over the explained models, their explainers and all or some shards of source images."""
    some = shards("explain") if some is None else some
    each = [expand(pattern, model=model, explainer=explainers(model), shard=some) for model in explained_models()]
    return sum(each, [])


def shown_saliency():
    """Maps of all explainers of the images that the pages show."""
    return per_explainer("results/saliency/{model}/{explainer}/{shard}.h5", first_shards("report"))


def per_explained_shard(pattern, some=None):
    """Expand a pattern over the explained models and all or some shards of source images."""
    return expand(pattern, model=explained_models(), shard=shards("explain") if some is None else some)


if workflow.exec_mode == ExecMode.DEFAULT:
    check_config()
    inputs.forget_what_is_gone("results/retrieved")
else:  # a job on a cluster parses this file again and need not check again
    gc.freeze()  # what is loaded stays: collecting it again and again would take as long as reading the rules
    schema.fill_in_defaults(config, SCHEMA)
if config["offline"]:
    os.environ.update(UNITLENS_OFFLINE="1")  # for the scripts that retrieve, which run on this machine
GPU = 0 if config["device"] == "cpu" else 1
ENCODER = "annotations" if config["dissect"]["method"] == "annotations" else config["encoder"]["kind"]
ANNOTATED = annotated_set(config)
MATCHED = 100  # images to explain, the first ones, whose maps are compared with those of other images
WILDCARDS = {
    "model": r"[A-Za-z0-9_-]+",
    "dataset": "probe|explain|annotated",
    "encoder": "clip|conse",
    "shard": r"\d{5}",
    "layer": r"[A-Za-z0-9_.#]+",
    "geometry": r"(squash|short)\d+(x\d+)?-crop\d+(x\d+)?-[a-z]+(-gray)?",
    "explainer": r"[A-Za-z0-9+_]+(-[A-Za-z0-9_.]+)?",
}


wildcard_constraints:
    **WILDCARDS,
