"""Write the gallery of units: label, evidence and top photographs of every unit on one page."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from itertools import groupby
    from pathlib import Path

    from unitlens import gallery, store, tables

    gallery.units(
        snakemake.output[0],
        concepts=tables.read(snakemake.input.concepts),
        maps=map(store.read, snakemake.input.maps),
        pictures={
            geometry: store.picking(list(shards), "images")
            for geometry, shards in groupby(snakemake.input.images, key=lambda path: Path(path).parent.name)
        },
        missing=snakemake.params.missing,
    )
