"""Write the gallery of units: label, evidence and top source images of every unit on one page."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import unit_gallery
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import picking_by_folder
    from unitlens.storage.tables import read_table

    unit_gallery.write(
        snakemake.output[0],
        concepts=read_table(snakemake.input.concepts),
        linear=read_table(snakemake.input.linear),
        masks=read_table(snakemake.input.masks) if snakemake.input.masks else None,
        maps=map(read_arrays, snakemake.input.maps),
        images=picking_by_folder(snakemake.input.images, "images"),
        models=snakemake.params.models,
        missing=snakemake.params.missing,
        beside=snakemake.params.beside,
    )
