"""Retrieve one file of the image-text encoder, checked against its hash, and keep it by its content."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    from unitlens.jobs.inputs import download_folder
    from unitlens.networks import pretrained
    from unitlens.storage.kept import keep

    source = snakemake.params.file
    folder = f"resources/downloads/{download_folder(source)}"
    file = pretrained.retrieve(source, folder, lock="resources/lock.json", progress=terminal)
    with file.open("rb") as reader:
        digest = keep(reader, "resources/encoders", snakemake.output[0])
    print(f"{file} has sha256 {digest}")
