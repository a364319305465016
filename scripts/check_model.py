"""Load a model once and write what it is; fail here, before any long job, if the config does not fit it."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    from unitlens.jobs.sheets import class_names
    from unitlens.networks import pretrained
    from unitlens.networks.describe import describe
    from unitlens.networks.network import load_configured
    from unitlens.storage.files import sha256

    network, preprocessing = snakemake.params.network, snakemake.params.preprocessing
    facts = describe(
        load_configured(network, snakemake.input.weights),
        (),
        crop=preprocessing["crop"],
        classes=class_names(network["classes"]),
        name=snakemake.wildcards.model,
        channels=len(preprocessing["mean"]),
    )
    published = pretrained.published_input(network["architecture"], snakemake.params.source, snakemake.input.weights)
    departures = pretrained.departures(preprocessing, published)
    facts = {
        "model": snakemake.wildcards.model,
        "architecture": network["architecture"],
        "weights": snakemake.params.source,
        "weights_sha256": sha256(snakemake.input.weights),
        "input": preprocessing,
        "published_input": published,
        "departures": departures,
        **{name: fact for name, fact in facts.items() if name not in ("layers", "units")},
    }
    print("Input as published" if published and not departures else "Input", preprocessing, *departures, sep="\n")
    Path(snakemake.output[0]).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
