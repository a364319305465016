"""Write the gallery of units: label, evidence and top source images of every unit on one page."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from itertools import groupby
    from pathlib import Path

    from unitlens.report import unit_gallery
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import picking
    from unitlens.storage.tables import read_table

    unit_gallery.write(
        snakemake.output[0],
        concepts=read_table(snakemake.input.concepts),
        maps=map(read_arrays, snakemake.input.maps),
        images={
            geometry: picking(list(shards), "images")
            for geometry, shards in groupby(snakemake.input.images, key=lambda path: Path(path).parent.name)
        },
        missing=snakemake.params.missing,
        beside=snakemake.params.beside,
    )
