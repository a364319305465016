# What is read of annotations: masks, boxes and labels of image sets, the words for them, and names of units.

from unitlens.jobs.sheets import LABELED, annotations, label_columns


def mask_table(wildcards):
    """The table that names the values of masks, one's own or what the set brings along; boxes need none."""
    masks = config["netdissect"].get("masks", [])
    return "results/retrieved/mask_words.csv" if masks in BROUGHT_MASKS else masks


def annotated_geometry():
    """The preprocessing whose images stand for all where the annotations label units: that of the first network."""
    return config["models"][labeled_models()[0]]["preprocessing"]


def probe_annotations():
    """What of the probe set's sheet says which source images show which concepts: labels units, or tests an encoder's words."""
    of_sections = annotations(config)
    given = of_sections.get(("probe", "dissect.annotations"), of_sections.get(("probe", "netdissect"), {}))
    return {source: given[source] for source in ("masks", "boxes", "labels") if source in given}


def beside_encoder(*paths):
    """What tests an encoder's words, where the probe set is annotated; else nothing."""
    return list(paths) if ENCODER != "annotations" and probe_annotations() else []


def annotation_words(wildcards):
    """The file that names what the probe set's annotations mark; nothing where a list of classes does."""
    given = probe_annotations()
    if given.get("labels") == "folders":
        return "results/retrieved/images/probe.csv"
    masks = given.get("masks", [])
    return "results/retrieved/mask_words.csv" if masks in BROUGHT_MASKS else masks


def mask_words(wildcards):
    """What says what is marked: the table of masks, or the classes that boxes are of."""
    masks = mask_table(wildcards)
    ours = config["netdissect"].get("masks") in BROUGHT_MASKS
    return {"masks": masks, "ours": ours} if masks else {"boxes": config["netdissect"]["boxes"]}


def dissection(wildcards):
    """What a unit's mask is, and what its overlap is compared with."""
    settings = config["netdissect"]
    return {"share": settings["share"], "draws": settings["null_draws"], "seed": config["seed"]}


def source_of_annotations(wildcards):
    return next(iter(probe_annotations()))


def words_of_annotations(wildcards):
    """What says what the probe set's annotations mark, as `mask_words` of the library takes it."""
    ((source, given),) = probe_annotations().items()
    words = {source: annotation_words(wildcards) or given}
    return words | {"ours": given in (*BROUGHT_MASKS, "folders")}


def words_of_audit():
    """The files that list what units can be called, as far as there are such."""
    annotated = ENCODER == "annotations"
    files = [annotation_words({}) if annotated else "results/retrieved/concepts.csv"]
    files += [mask_table({})] if "netdissect" in config else []
    return [path for path in files if path and not path.startswith("results/retrieved/images/")]


def names_at_cam_layer(pattern):
    """The table of names of the units whose layer accounts for predictions, where that is labeled."""

    def table(wildcards):
        layer, layers = (of_model(key)(wildcards) for key in ("cam_layer", "layers"))
        return per_layer(pattern, [(wildcards.model, layer)] if layer in layers else [])

    return table


def if_labels(*things):
    """What is given, where source images to explain have labels; else nothing."""
    images = config["images"]["explain"]
    columns, rows = read_sheet(images["sheet"]) if "sheet" in images else ([], [])
    places = [columns.index(name) for name in label_columns(columns)]
    found = images.get("kind") in LABELED or any(row[place] for row in rows for place in places)
    return list(things) if found else []
