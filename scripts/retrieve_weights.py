"""Retrieve one model's checkpoint, checked against its hash, and keep it by its content."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    from unitlens.networks import pretrained

    file, link = snakemake.params.file, snakemake.output[0]
    pretrained.retrieve_and_keep(file, "resources/weights", link, progress=terminal)
