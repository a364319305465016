"""Write the page of explanations: photographs against explainers, with a slider from photograph to mask."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import explanation_cards, gallery, store, tables

    files, shown = snakemake.input, snakemake.params.shown
    predictions, masks = tables.read(files.predictions), store.by_folder(files.masks, rows=shown)
    cards = explanation_cards.collect(
        store.by_folder(files.saliency, rows=shown),
        masks,
        {facts["geometry"]: arrays for arrays, facts in store.by_folder(files.images, rows=shown)},
        predictions=predictions,
        faithfulness=tables.read(files.faithfulness),
        photographs=shown,
    )
    explained = predictions.image_id.nunique()
    gallery.explanations(snakemake.output[0], cards, area=masks[0][1]["area"], explained=explained)
