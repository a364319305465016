"""Write the page of explanations: photographs against explainers, with a slider from photograph to mask."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from itertools import groupby
    from pathlib import Path

    from unitlens import explanation_cards, gallery, store, tables

    files, shown = snakemake.input, snakemake.params.shown
    masks = [store.read(path, rows=shown) for path in files.masks]
    cards = explanation_cards.collect(
        [store.read(path, rows=shown) for path in files.saliency],
        masks,
        {
            geometry: store.concatenate(shards, rows=shown)[0]
            for geometry, shards in groupby(files.images, key=lambda path: Path(path).parent.name)
        },
        predictions=tables.read(files.predictions),
        faithfulness=tables.read(files.faithfulness),
        photographs=shown,
    )
    gallery.explanations(snakemake.output[0], cards, area=masks[0][1]["area"])
