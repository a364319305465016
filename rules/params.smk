"""What rules take params from: parts of the config, as scripts need them."""

import hashlib

from unitlens.jobs.sheets import FEWEST_SOURCE_IMAGES, annotated_classes, is_own_list


def network(wildcards):
    """What a script needs to load a model and to feed it."""
    model = config["models"][wildcards.model]
    keys = ("architecture", "layout", "classes", "head", "output", "checkpoint_key", "checkpoint_prefix", "pooling")
    built = {key: model.get(key) for key in keys}
    fed = {key: model["preprocessing"][key] for key in ("mean", "std")}
    return built | {"precision": config["precision"]} | fed


def local_path(file):
    """A checkpoint that lies on this machine is an input, so that a new one runs everything that depends on it again."""
    return str(Path(file["path"]).expanduser()) if "path" in file else []


def own_module(wildcards):
    """The file of one's own that builds a network: a new one runs everything that depends on it again."""
    file = config["models"][wildcards.model]["architecture"].rpartition(":")[0]
    return str(Path(file).expanduser()) if file.endswith(".py") else []


def network_files(wildcards):
    """A job's network, with the facts of its layer where the job has one: another layer runs nothing of this one."""
    files = {"model": f"results/models/{wildcards.model}.json"}
    files |= {"weights": f"results/retrieved/weights/{wildcards.model}.bin"}
    layer = wildcards.get("layer")
    return files | ({"layer": f"results/models/{wildcards.model}/{layer}.json"} if layer else {})


def accounted_layers():
    """Layers whose units have both accounts and cards, as model and layer."""
    return [each for each in labeled_layers() if config["models"][each[0]].get("cam_layer") == each[1]]


def own_class_list(wildcards):
    return {wildcards.model: config["models"][wildcards.model]["classes"]}


def class_digests(classes):
    """Digests of the lists of classes of one's own among these: a name that is changed runs again what quotes it."""
    files = sorted(set(filter(is_own_list, classes)))
    return [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]


def own_class_digest(wildcards):
    return class_digests(own_class_list(wildcards).values())


def named_classes(models):
    """The class lists, each once, of those models whose classes have names."""
    lists = (config["models"][model]["classes"] for model in models)
    return list(dict.fromkeys(each for each in lists if not isinstance(each, int)))


def activations_of_model(wildcards):
    """What all layers of a model make of the images to label with, layer by layer."""
    path = f"results/activations/{wildcards.model}/{{layer}}/{{shard}}.h5"
    return expand(path, layer=config["models"][wildcards.model]["layers"], shard=shards("probe"))


GRID_ROWS = 3  # source images of a grid of explanations; the page of explanations has more


def class_lists():
    return {model: settings["classes"] for model, settings in config["models"].items()}


def encoder(wildcards):
    """What a script needs to load the encoder and to feed it."""
    if ENCODER == "annotations":
        return {"kind": ENCODER, "options": {}}
    settings = config["encoder"]
    keys = {"clip": ["architecture"], "conse": ["architecture", "layout"]}[settings["kind"]]
    options = {key: settings[key] for key in keys} | {key: settings["preprocessing"][key] for key in ("mean", "std")}
    return {"kind": settings["kind"], "options": options}


def sources(wildcards):
    return config["images"][wildcards.dataset].get("sources", [])


def classes_of_folders(wildcards):
    """The different lists of classes whose numbers the folders of explained or annotated source images have."""
    if config["images"][wildcards.dataset].get("kind") != "class_folders":
        return []
    if wildcards.dataset == "explain":
        return sorted({config["models"][model]["classes"] for model in explained_models()}, key=str)
    return annotated_classes(config, wildcards.dataset)


def fewest_source_images(wildcards):
    """How many source images a set needs; those of units also where files are copies of one."""
    return FEWEST_SOURCE_IMAGES if labeled_models() and wildcards.dataset != "explain" else 1


def drawn_images(wildcards):
    """What images that are generated are drawn from."""
    images = config["images"][wildcards.dataset]
    seed = config["seed"] if images.get("kind") == "textures" else None  # another seed leaves other images as they are
    return {"size": images.get("size"), "pixels": images.get("pixels"), "seed": seed}


def geometry(wildcards):
    """The geometry whose name the path carries."""
    networks = [*config["models"].values(), *([config["encoder"]] if "encoder" in config else [])]
    inputs = [settings["preprocessing"] for settings in networks]
    found = next(each for each in inputs if geometry_name(each) == wildcards.geometry)
    return geometry_of(found)


def shard_range(wildcards):
    """First row of a shard, and the row after its last."""
    size, index = config["images"][wildcards.dataset]["shard_size"], int(wildcards.shard)
    return [index * size, min((index + 1) * size, count_rows(wildcards.dataset))]


def shard_digest(wildcards):
    """Digest of a shard's rows and of the columns' names: a changed row makes its own shard again, an appended one makes
    only new shards. The sheet itself is no input, for its name and its time say nothing of that."""
    images = config["images"][wildcards.dataset]
    if "sheet" not in images:
        return ""
    columns, rows = read_sheet(images["sheet"])
    return hashlib.sha256(repr([columns, *rows[slice(*shard_range(wildcards))]]).encode()).hexdigest()


def tuned_images(wildcards):
    """How many images of a shard LIME is tuned on."""
    size = config["images"]["explain"]["shard_size"]
    return min(size, config["tune"]["n_images"] - int(wildcards.shard) * size)


def tuned_settings(wildcards):
    """What `lime_sweep.all_settings` makes the settings from."""
    return {
        "default": config["explain"]["lime"],
        "grid": config["tune"]["grid"],
        "presets": config["tune"]["presets"],
        "count": config["tune"].get("settings"),
        "seed": config["seed"],
    }


def tuning_objective(wildcards):
    """What `lime_sweep.make_score` scores with, but for the reference."""
    return {
        "objective": config["tune"]["objective"],
        "area": config["agreement"]["area"],
        "steps": config["faithfulness"]["steps"],
        "baseline": config["faithfulness"]["baselines"][0],
    }
