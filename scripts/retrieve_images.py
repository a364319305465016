"""Bring or draw the source images of one image set and write its sheet, every source image checked to be there."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]) as terminal:
    from unitlens.images import datasets, textures
    from unitlens.jobs import sheets
    from unitlens.storage.fetch import fetch_images
    from unitlens.storage.kept import keep_source_images

    output, params, store = snakemake.output, snakemake.params, "resources/images"
    options = {"lock": "resources/lock.json", "progress": terminal}
    drawn = textures.draw_images(store, params.kind, **params.drawn)
    folder, sources = drawn or fetch_images(params.sources, store, "resources/downloads", **options)
    keep_source_images(folder, sources, store, output.facts)
    datasets.write_sheet(
        output.sheet,
        output.left_out,
        folder,
        sheet=snakemake.config["images"][snakemake.wildcards.dataset].get("sheet"),
        kind=params.kind,
        size=params.size,
        classes=params.classes,
        allow_missing=params.on_bad_image == "skip",
    )
    sheets.check_source_images(output.sheet, params.fewest)
