"""Retrieve one file of the image-text encoder, checked against its hash."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    from unitlens.networks import pretrained
    from unitlens.storage.files import copy, sha256

    folder = f"resources/downloads/{snakemake.wildcards.encoder}/{snakemake.wildcards.part}"
    file = pretrained.retrieve(snakemake.params.file, folder, lock="resources/lock.json", progress=terminal)
    copy(file, snakemake.output[0])
    print(f"{file} has sha256 {sha256(file)}")
