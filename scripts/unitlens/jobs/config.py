"""All checks of a config and of what it names, before the first job; every problem is a line."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unitlens.jobs import sheets
from unitlens.jobs.audit import check_audit
from unitlens.jobs.characters import first_few
from unitlens.jobs.csv_files import check_file, count_rows, read_all
from unitlens.jobs.inputs import check_files, check_folders, check_offline
from unitlens.jobs.schema import fill_in_defaults, misread, violations
from unitlens.jobs.sheets import (
    annotations,
    check_classes,
    check_concepts,
    check_masks,
    check_shown,
    count_classes,
    sides,
)

_MOST_SHARDS = 10**5  # that five digits number


def check(config: dict, schema: dict, files: Sequence[str] = ()) -> list[str]:
    """List what is wrong with a config; one of the right form is filled in with the schema's defaults.

    Listed are violations of the schema, and what is misread (`schema.misread`) of `files`, which the config comes
    from; without any, what the config, the sheets and the lists may not say; without any of those, counts that do not
    go together.
    """
    if taken := [path for path in files if Path("results").absolute() in Path(path).absolute().parents]:
        return [f"--configfile takes {first_few(taken)} for a config, too: write `--` before targets"]
    if problems := [line for path in files for line in misread(path)] + violations(config, schema):
        return problems
    fill_in_defaults(config, schema)
    checks = (
        _check_images,
        check_masks,
        check_concepts,
        _check_geometries,
        check_files,
        _check_weights,
        _check_names,
        _check_layers,
        _check_work,
        _check_classes,
        _check_pixels,
        check_offline,
        _check_tuning,
        _check_audit,
    )
    problems = [line for find_problems in checks for line in find_problems(config)]
    return problems or _check_counts(config, schema)


# ---- models


def explainers(config: dict, model: str) -> list[str]:
    """List the explainers of a model, class activation maps with their layer; none where no layer is given for them."""
    if "cam_layer" not in config["models"][model]:
        return []
    layer = config["models"][model]["cam_layer"]
    return [*(f"{method}-{layer}" for method in config["explain"]["cams"]), *perturbing(config["explain"])]


def perturbing(explain: dict) -> dict[str, dict]:
    """Give the explainers that need no layer with their options: every section of `explain` is one."""
    return {name: options for name, options in explain.items() if isinstance(options, dict)}


def explained_models(config: dict) -> list[str]:
    """List the models whose predictions are explained."""
    return [model for model in config["models"] if explainers(config, model)]


def _check_names(config: dict) -> list[str]:
    """Refuse two names of one thing, which would share files or compare a thing with itself."""
    models, problems = config["models"], []
    for name, twin in _case_twins(models):
        problems.append(
            f"models: {twin} and {name} differ in case only, and some file systems take both for one folder"
        )
    for name, model in models.items():
        for layer, twin in _case_twins(model["layers"]):
            problems.append(
                f"models.{name}.layers: {twin} and {layer} differ in case only, and some file systems take both for one"
            )
    return problems


def _case_twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Give each name beside an earlier one that differs from it in case only."""
    seen = {}
    return [(name, twin) for name in names if (twin := seen.setdefault(name.lower(), name)) != name]


def _check_geometries(config: dict) -> list[str]:
    """Refuse a center crop that is larger than what it is cut from, and channels that source images do not have."""
    networks = {f"models.{name}": model for name, model in config["models"].items()}
    networks |= {"encoder": config["encoder"]} if "encoder" in config else {}
    problems = []
    for name, settings in networks.items():
        key, each = f"{name}.preprocessing", settings["preprocessing"]
        crop, resize, channels = each["crop"], each["resize"], len(each["mean"])
        high, wide = sides(resize)
        if sides(crop)[0] > high or sides(crop)[1] > wide:
            problems.append(f"{key}: crop {crop} must not be larger than resize {resize}")
        if each["fit"] == "short" and high != wide:
            problems.append(f"{key}.resize: {resize}, but fit: short resizes by the short side; give one number")
        if channels != len(each["std"]) or channels not in (1, 3):
            allowed = "3 numbers, for RGB, or 1, for gray, in both: source images are read as one of these"
            problems.append(f"{key}: mean has {channels} and std {len(each['std'])} numbers; allowed are {allowed}")
        if name == "encoder" and (channels == 1 or sides(crop)[0] != sides(crop)[1]):
            problems.append(f"{key}: the encoder sees squares (crop) of three channels (mean, std)")
    return problems


def _check_weights(config: dict) -> list[str]:
    """Refuse weights that are no classifier's."""
    return [
        f"models.{name}.weights: open_clip publishes image-text encoders, not classifiers"
        for name, model in config["models"].items()
        if "open_clip" in model["weights"]
    ] + [
        f"models.{name}: architecture {model['architecture']} and weights {weights['huggingface']!r} of huggingface go "
        f"together only as `architecture: transformers:{weights['huggingface']}`"
        for name, model in config["models"].items()
        if "huggingface" in (weights := model["weights"])
        and model["architecture"] != f"transformers:{weights['huggingface']}"
    ]


def _check_layers(config: dict) -> list[str]:
    """Refuse the name of a layer that tables use for all of them."""
    return [
        f"models.{name}.layers: tables call all layers of a model together 'all', so no layer can have that name"
        for name, model in config["models"].items()
        if "all" in model["layers"]
    ]


def _check_work(config: dict) -> list[str]:
    """Ask for something to show: units that are labeled, and predictions that are explained."""
    return [
        f"models: at least one of {', '.join(config['models'])} needs {key}"
        for key in ("layers", "cam_layer")
        if not any(model.get(key) for model in config["models"].values())
    ]


# ---- what is explained, labeled and tuned


def _explained_classes(config: dict) -> dict[str, int]:
    """Count the classes of each explained model, where that can be told."""
    counts = {name: count_classes(config["models"][name]["classes"]) for name in explained_models(config)}
    return {name: count for name, count in counts.items() if count}


def _check_classes(config: dict) -> list[str]:
    """Check lists of classes, and the class that is explained."""
    problems, target = check_classes(config), config["explain"]["target"]
    problems += [
        f"models.{name}.head: binary reads one number, of the second of two classes, but `classes` lists {count}"
        for name, model in config["models"].items()
        if model["head"] == "binary" and (count := count_classes(model["classes"])) not in (2, 0)
    ]
    if problems or not isinstance(target, int):
        return problems
    return [
        f"explain.target: {target} must be below {count}, the number of classes of {name}"
        for name, count in _explained_classes(config).items()
        if target >= count
    ]


def _check_pixels(config: dict) -> list[str]:
    """Refuse what cannot be of images of so few pixels: points of a curve, shares of them, squares of a grid."""
    agreement, faithfulness, problems = config["agreement"], config["faithfulness"], []
    shares = {f"agreement.area: {agreement['area']}": agreement["area"]}
    shares |= {f"agreement.areas: {area}": area for area in agreement["areas"]}
    percentiles = {f"faithfulness.percentiles: {percent}": percent / 100 for percent in faithfulness["percentiles"]}
    for name in explained_models(config):
        height, width = sides(config["models"][name]["preprocessing"]["crop"])
        pixels = height * width
        seen = f"the {pixels} pixels that {name} sees"
        if pixels < faithfulness["steps"]:
            problems.append(f"faithfulness.steps: {faithfulness['steps']} are more than {seen}")
        problems += [
            f"{what} is less than one of {seen}"
            for what, share in (shares | percentiles).items()
            if round(share * pixels) < 1
        ]
        problems += [
            f"{what} leaves none of {seen}" for what, share in percentiles.items() if round(share * pixels) == pixels
        ]
        for explainer, options in perturbing(config["explain"]).items():
            if (size := options.get("superpixels", {}).get("size")) and size >= max(height, width):
                problems.append(
                    f"explain.{explainer}.superpixels.size: {size} makes one superpixel of the {height} x {width} "
                    f"pixels that {name} sees; at least two are needed"
                )
    return problems


def _check_tuning(config: dict) -> list[str]:
    """Ask that what the tuning of LIME is compared with is computed, and that every value of its grid matters."""
    tune, cams = config.get("tune"), config["explain"]["cams"]
    if tune is None:
        return []
    known = tune["reference"] in cams
    problems = [] if known else [f"tune.reference: {tune['reference']} is not among explain.cams: {', '.join(cams)}"]
    if len(tune["grid"].get("num_features", [])) > 1 and tune["objective"] != "mask_iou":
        problems.append("tune.grid.num_features: several values matter to the objective mask_iou only; give one")
    if config["explain"]["lime"]["n_samples"] == "auto" and "n_samples" not in tune["grid"]:
        problems.append("tune.grid: list n_samples, for with explain.lime.n_samples: auto settings share no sample")
    if all(len(values) == 1 for values in tune["grid"].values()):
        problems.append("tune.grid: no key has several values, so there is nothing to compare")
    problems += [
        f"tune.grid.{key}: {values[number]} is listed twice; give each value once"
        for key, values in tune["grid"].items()
        for number in range(len(values))
        if values[number] in values[:number]
    ]
    combinations = math.prod(len(values) for values in tune["grid"].values())
    if tune.get("settings", 0) > combinations:
        problems.append(f"tune.settings: {tune['settings']} are more than the grid's {combinations} combinations")
    return problems


def _check_audit(config: dict) -> list[str]:
    return check_audit(config, explained_models(config))


# ---- sheets


def _check_images(config: dict) -> list[str]:
    # of the classes that are annotated, by the column that a row of a set needs for it
    counts = {name: {"box": {}, "label": {}} for name in config["images"]}
    for (name, _), given in annotations(config).items():
        for key, column in (("boxes", "box"), ("labels", "label")):
            if given.get(key, "folders") != "folders":
                counts[name][column][given[key]] = count_classes(given[key])
    classes = _explained_classes(config)
    columns = [*sheets.COLUMNS, *map(sheets.OWN_LABEL.format, config["models"])]
    problems = []
    for name, images in config["images"].items():
        problems += check_folders(f"images.{name}", images.get("sources", []))
        if "sheet" not in images:
            problems += [f"images.{name}.label_base: only a sheet counts classes from 1"] * images["label_base"]
            continue
        key, base = f"images.{name}.sheet", images["label_base"]
        labels = {model: set() for model in classes}
        check_row = functools.partial(_check_probe_row, counts[name], base)
        if name == "explain":
            check_row = functools.partial(_check_explained_row, config["explain"], classes, base, labels)
        problems += check_file(images["sheet"], key, columns, "image_id", check_row)
        problems += [
            f"{key}: the labels of {model} are 1 to {classes[model]}, and none is 0; if its first class is called 1, "
            f"set images.{name}.label_base: 1"
            for model, found in labels.items()
            if found and not base and min(found) == 1 and max(found) == classes[model]
        ]
    return problems


def _check_probe_row(counts: Mapping[str, Mapping[str, int]], base: int, row: Mapping[str, str]) -> list[str]:
    """Check labels too where they, or boxes, are of annotated classes."""
    named = {name: count for column, each in counts.items() if row.get(column) for name, count in each.items()}
    return sheets.check_row(row) or [
        line for name, count in named.items() for line in sheets.check_label(row, "label", count, name, base)
    ]


def _check_explained_row(
    explain: dict, classes: Mapping[str, int], base: int, labels: Mapping[str, set[int]], row: Mapping[str, str]
) -> list[str]:
    """Check a row, whose `labels` are put down for each model."""
    problems = sheets.check_row(row)
    columns = {model: sheets.label_column(model, row) for model in classes}
    for model, column in columns.items() if not problems else ():
        problems += sheets.check_label(row, column, classes[model], model, base)
        labels[model] |= {int(row[column])} if row.get(column) else set()
    if sheets.MAPS_APART in (row.get("mask") or ""):
        problems.append(f"mask {row['mask']!r} must be one label map: that of the object")
    if explain["target"] == "label":
        empty = dict.fromkeys(column for column in columns.values() if not row.get(column))
        problems += [f"{column} is empty, but explain.target is 'label'" for column in empty]
    for name, options in perturbing(explain).items():
        if options.get("superpixels", {}).get("method") == "given" and not row.get("superpixels"):
            problems.append(f"superpixels is empty, but explain.{name}.superpixels.method is 'given'")
    return problems


def _check_shared_labels(config: dict) -> list[str]:
    """Refuse labels of models that number classes differently, where not each of these has a column of its own."""
    images, models = config["images"]["explain"], explained_models(config)
    if "sheet" in images:
        columns, rows = read_all(images["sheet"])
        models = [model for model in models if sheets.OWN_LABEL.format(model) not in columns]
        if not any(dict(zip(columns, cells, strict=True)).get("label") for cells in rows):
            return []
        named, remedy = "images.explain.sheet: label", "give all but one a column of its own"
    elif images["kind"] in sheets.LABELED:
        named, remedy = f"images.explain.kind: {images['kind']}", "write a sheet"
    else:
        return []
    lists = {model: config["models"][model]["classes"] for model in models}
    counts = {model: count_classes(classes) for model, classes in lists.items()}
    if "sheet" not in images and images["kind"] == "imagenet_val":
        counts = {"ImageNet": sheets.IMAGENET_CLASSES} | counts
    for model, count in counts.items():
        first = next(iter(counts))
        if count != counts[first] or _reordered(lists.get(model), lists.get(first)):
            between = f"{first} ({counts[first]} classes) and {model} ({count}), which number classes differently"
            own = f"label_{model}, empty where there is no label"
            return [f"{named} cannot hold for {between}; {remedy} ({own})"]
    return []


def _reordered(one: str | int | None, other: str | int | None) -> bool:
    """Tell whether two lists of classes are files of the same names in another order."""
    if one == other or not all(isinstance(each, str) and each != "imagenet" for each in (one, other)):
        return False
    names, others = sheets.read_names(one), sheets.read_names(other)
    return names != others and sorted(names) == sorted(others)


def _check_counts(config: dict, schema: dict) -> list[str]:
    images = config["images"]
    rows = {name: count_rows(each["sheet"]) if "sheet" in each else each["size"] for name, each in images.items()}
    problems = [
        f"images.{name}.shard_size: {each['shard_size']} makes more than {_MOST_SHARDS} shards of {rows[name]} rows; "
        f"at least {-(-rows[name] // _MOST_SHARDS)} is needed"
        for name, each in images.items()
        if -(-rows[name] // each["shard_size"]) > _MOST_SHARDS
    ]
    problems += _check_shared_labels(config) + check_shown(config)
    if any(model.get("layers") for model in config["models"].values()):
        needed = schema["properties"]["dissect"]["properties"]["similarity"]["fewestImages"]
        similarity = config["dissect"]["similarity"]
        if rows["probe"] < needed[similarity]:
            problems.append(f"images.probe: {rows['probe']} rows, but {similarity} needs at least {needed[similarity]}")
        problems += [
            line
            for name in ("probe", "annotated")
            if name in images
            for line in _check_source_images(name, images[name], rows[name])
        ]
    return problems


def _check_source_images(name: str, images: dict, rows: int) -> list[str]:
    """Ask for as many source images as units need to be labeled with evidence."""
    source_images = rows
    if "sheet" in images:
        columns, cells = read_all(images["sheet"])
        source_images = len({row[columns.index("path")] for row in cells})
    if source_images >= sheets.FEWEST_SOURCE_IMAGES:
        return []
    return [
        f"images.{name}: {source_images} source image{'s' * (source_images > 1)}, but evidence for labels needs at "
        f"least {sheets.FEWEST_SOURCE_IMAGES}; crops of one source image count as one"
    ]
