"""Write the page of explanations: photographs against explainers, with a slider from photograph to mask."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from itertools import groupby
    from pathlib import Path

    from unitlens import explanation_cards, gallery, models, store, tables

    files, params = snakemake.input, snakemake.params
    explanations = [store.read(path, rows=params.shown) for path in files.saliency]
    predictions = (
        tables.read(files.predictions) if files.predictions else models.predictions(explanations, params.classes)
    )
    cards = explanation_cards.collect(
        explanations,
        [store.read(path, rows=params.shown) for path in files.masks],
        {
            geometry: store.concatenate(shards, rows=params.shown)[0]
            for geometry, shards in groupby(files.images, key=lambda path: Path(path).parent.name)
        },
        predictions=predictions,
        faithfulness=tables.read(files.faithfulness) if files.faithfulness else None,
        photographs=params.shown,
    )
    explained = predictions.image_id.nunique()
    gallery.explanations(snakemake.output[0], cards, area=params.area, explained=explained, missing=params.missing)
