"""What exists of a run that is not finished, by the summary that `make report` lets Snakemake write."""

import functools
from pathlib import PurePosixPath

SUMMARY = "results/partial/summary.tsv"  # what exists, by `snakemake --summary`


@functools.cache
def jobs_of_run():
    """Every job of the run: its rule, its log, its outputs that exist, and what became of it."""
    from unitlens.jobs import outcome  # here: no other job needs it

    return outcome.read_jobs(SUMMARY, rules, WILDCARDS)


@functools.cache
def all_made():
    return {path for job in jobs_of_run() if job["state"] == "done" for path in job["made"]}


def made(paths):
    """Those of the files that are finished and up to date."""
    return [path for path in map(str, paths) if path in all_made()]


def whole(name, paths):
    found = made(paths)
    return [] if name.endswith("_images") and len(found) < len(paths) else found


def made_results(wildcards):
    """All that Snakemake's report can show, but for the pages, which are made again."""
    pages = (".h5", ".html", TABLE_PAGES)
    return sorted(path for path in all_made() if path.startswith("results/") and not path.endswith(pages))


def missing_jobs(wildcards):
    from unitlens.jobs import outcome

    return outcome.missing_jobs(jobs_of_run())


def made_layers():
    """Layers, as model and layer, of which everything is there that the gallery of units shows."""
    return [
        (model, layer)
        for model, layer in labeled_layers()
        if len(made([f"results/concepts/{model}/{layer}.csv", f"results/unit_maps/{model}/{layer}.h5"])) == 2
    ]


def made_units(pattern):
    return lambda wildcards: per_layer(pattern, made_layers())


def made_probe_images(wildcards):
    return images_of_models("probe", [model for model, _ in made_layers()], shards("probe"))


def missing_layers(wildcards):
    made = made_layers()
    return [f"{model} {layer}" for model, layer in labeled_layers() if (model, layer) not in made]


def made_inputs(rule):
    """Those inputs of another rule that are finished, by their names; `unpack` spreads them.

    Of decoded images it is all or none: rows are counted over the shards of a set.
    """

    def inputs(wildcards):
        return {
            name: whole(name, paths) if isinstance(paths, list) else next(iter(made([paths])), [])
            for name, paths in getattr(rules, rule).input.items()
            if not callable(paths)
        }

    return inputs


def missing_explanations(wildcards):
    """Explanations that the page would show, by explainer, model and shard."""
    paths = shown_saliency()
    missing = [PurePosixPath(path) for path in paths if path not in all_made()]
    return [f"{path.parts[-3]} {path.parts[-2]} {path.stem}" for path in missing]


def partial_pages(wildcards):
    """Pages that can be made of what exists; the overview says what is missing, so it always can."""
    explained = made(shown_saliency())
    pages = {"overview": True, "explanations": explained, "units": made_layers()}
    tables = ["results/partial/tables"] if made(shown_tables()) else []
    return [f"results/partial/{name}.html" for name, possible in pages.items() if possible] + tables


def pages_beside(wildcards):
    return [PurePosixPath(path).stem for path in partial_pages(wildcards)]


def made_overview_sections(wildcards):
    """Those sections of the overview whose findings exist, with those of their figures that do."""
    return [
        each | {"figures": {path: text for path, text in each["figures"].items() if path in all_made()}}
        for each in overview_sections(wildcards)
        if each["findings"] in all_made()
    ]
