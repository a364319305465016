"""Bring or draw the source images of one image set and write its sheet, every source image checked to be there."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    from unitlens.images import datasets
    from unitlens.storage.fetch import fetch_images

    for number, source in enumerate(snakemake.params.sources):
        downloads = f"resources/downloads/{snakemake.wildcards.dataset}/{number}"
        fetch_images(source, snakemake.params.folder, downloads, lock="resources/lock.json", progress=terminal)
    datasets.draw_images(snakemake.params.folder, snakemake.params.kind, **snakemake.params.drawn)
    datasets.write_sheet(
        snakemake.output.sheet,
        snakemake.output.left_out,
        snakemake.params.folder,
        sheet=snakemake.input.get("sheet"),
        kind=snakemake.params.kind,
        size=snakemake.params.size,
        classes=snakemake.params.classes,
        allow_missing=snakemake.params.on_bad_image == "skip",
    )
