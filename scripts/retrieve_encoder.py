"""Retrieve one file of the image-text encoder, checked against its hash."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    from unitlens import encoders, sources

    folder = f"resources/downloads/{snakemake.wildcards.encoder}/{snakemake.wildcards.part}"
    source = encoders.weights_source(snakemake.params.file)
    file = sources.fetch(source, folder, lock="resources/lock.json", progress=terminal)
    sources.copy(file, snakemake.output[0])
    print(f"{file} has sha256 {sources.sha256(file)}")
