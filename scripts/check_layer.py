"""Load a model once and write what one of its layers gives; fail here, before any long job, if it lacks the layer."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    from unitlens.jobs.sheets import class_names
    from unitlens.networks.describe import describe
    from unitlens.networks.network import load_configured

    network, preprocessing, wildcards = snakemake.params.network, snakemake.params.preprocessing, snakemake.wildcards
    facts = describe(
        load_configured(network, snakemake.input.weights),
        [wildcards.layer],
        crop=preprocessing["crop"],
        classes=class_names(network["classes"]),
        name=wildcards.model,
        channels=len(preprocessing["mean"]),
        pooling=network.get("pooling", "auto"),
    )
    facts = {"model": wildcards.model, "layers": facts["layers"], "units": facts["units"]}
    Path(snakemake.output[0]).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
