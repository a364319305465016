"""Bring the photographs of one image set and write its sheet, every photograph checked to be there."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    from unitlens import image_sets, sources

    for number, source in enumerate(snakemake.params.sources):
        downloads = f"resources/downloads/{snakemake.wildcards.dataset}/{number}"
        sources.fetch_images(source, snakemake.params.folder, downloads, lock="resources/lock.json", progress=terminal)
    image_sets.write_sheet(
        snakemake.output[0],
        snakemake.params.folder,
        sheet=snakemake.input.get("sheet"),
        kind=snakemake.params.kind,
        size=snakemake.params.size,
        allow_missing=snakemake.params.on_bad_image == "skip",
    )
