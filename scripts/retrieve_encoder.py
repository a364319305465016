"""Retrieve one file of the image-text encoder, checked against its hash."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    import shutil

    from unitlens import sources

    folder = f"resources/downloads/{snakemake.wildcards.encoder}/{snakemake.wildcards.part}"
    file = sources.fetch(snakemake.params.file, folder, lock="resources/lock.json", progress=terminal)
    shutil.copyfile(file, snakemake.output[0])
    print(f"{file} has sha256 {sources.sha256(file)}")
