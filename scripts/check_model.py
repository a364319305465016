"""Load a model once and write what it is; fail here, before any long job, if the config does not fit it."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    from unitlens import models, sources

    network, preprocessing = snakemake.params.network, snakemake.params.preprocessing
    classes = models.class_names(network["classes"])
    model = models.load(
        network["architecture"], snakemake.input.weights, layout=network["layout"], classes=len(classes)
    )
    facts = models.describe(
        model,
        snakemake.params.layers,
        crop=preprocessing["crop"],
        classes=classes,
        name=snakemake.wildcards.model,
    )
    published = models.published_input(network["architecture"], snakemake.params.source)
    departures = models.departures(preprocessing, published)
    facts = {
        "model": snakemake.wildcards.model,
        "architecture": network["architecture"],
        "weights": snakemake.params.source,
        "weights_sha256": sources.sha256(snakemake.input.weights),
        "input": preprocessing,
        "published_input": published,
        "departures": departures,
        **facts,
    }
    print("Input as published" if published and not departures else "Input", preprocessing, *departures, sep="\n")
    Path(snakemake.output[0]).write_text(json.dumps(facts, indent=2) + "\n")
