"""Write the page of explanations: source images against explainers, with a slider from source image to mask."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import account_bars, class_pages, explanation_page, unit_gallery
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import by_folder, picking_by_folder
    from unitlens.storage.tables import read_table
    from unitlens.tables.explanations import join_predictions

    files, params = snakemake.input, snakemake.params
    explanations = [read_arrays(path, rows=params.shown) for path in files.saliency]
    predictions = read_table(files.predictions) if files.predictions else join_predictions(explanations, params.classes)
    names = unit_gallery.read_words(files.concepts, files.netdissect, files.linear)
    classes = read_table(files.classes) if files.classes else None
    accounts = [read_arrays(path, rows=params.shown) for path in files.accounts]
    about = {"pages": class_pages.links(params.beside, classes), "maps": map(read_arrays, files.maps)}
    about["probe"] = picking_by_folder(files.probe_images, "images")
    cards = explanation_page.collect(
        explanations,
        [read_arrays(path, rows=params.shown) for path in files.masks],
        {facts["geometry"]: arrays for arrays, facts in by_folder(files.images, rows=params.shown)},
        predictions=predictions,
        faithfulness=read_table(files.faithfulness) if files.faithfulness else None,
        source_images=params.shown,
        agreement=read_table(files.agreement) if files.agreement else None,
        area=params.area,
        accounts=account_bars.collect(accounts, names, params.classes, **about),
    )
    explanation_page.write(
        snakemake.output[0],
        cards,
        area=params.area,
        explained=predictions.image_id.nunique(),
        missing=params.missing,
        beside=class_pages.beside(params.beside, classes),
        classes=class_pages.nothing(classes) if files.classes else "",
    )
