"""All Python of the workflow: shards, and the functions that rules take inputs and params from."""

import argparse
import csv
import functools
import gc
import hashlib
import math
import os
import re
import shlex
import sys
import textwrap
from collections import Counter
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import ExecMode

# not `workflow.basedir`, which is another workflow's where that imports this one
WORKFLOW = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent
sys.path.insert(0, str(WORKFLOW / "scripts"))
from unitlens.jobs import config as checks
from unitlens.jobs import csv_files, schema

SCHEMA = schema.read_schema(WORKFLOW / "config" / "schema.yaml")
FAILURES_SHOWN = 20


def check_config():
    """Raise one error that lists every violation: of the schema or, in a config of the right form, whose defaults are
    filled in, of what the config, the sheets and the concept list may say."""
    if not config:
        raise WorkflowError(
            "There is no config. Choose a profile, for example `--profile profiles/demo`, or give `--configfile`."
        )
    if problems := checks.check(config, SCHEMA, workflow.configfiles):
        raise WorkflowError("The configuration has problems:\n" + "\n".join(f"  {problem}" for problem in problems))


# ---- shards


def count_rows(dataset):
    images = config["images"][dataset]
    return count_sheet(images["sheet"]) if "sheet" in images else images["size"]


count_sheet = functools.cache(csv_files.count_rows)  # a job on the cluster needs no more of most sheets
read_sheet = functools.cache(csv_files.read_columns)


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
    return checks.explainers(config, model)


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
    return checks.explained_models(config)


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
    schema.fill_in_defaults(config, SCHEMA)
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
