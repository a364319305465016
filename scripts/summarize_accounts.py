"""Tabulate which units made the predictions and what speaks for each class, and write the pages of classes."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens.report import account_findings, class_pages, pages, unit_gallery
    from unitlens.storage.arrays import read_arrays, write_arrays
    from unitlens.storage.shards import by_folder, picking_by_folder
    from unitlens.storage.tables import write_table
    from unitlens.tables import accounts, classes

    files, params, made = snakemake.input, snakemake.params, snakemake.output
    names = unit_gallery.read_words(files.concepts, files.masks, files.linear)
    first = by_folder(files.accounts, rows=params.shown, names=accounts.ARRAYS)
    write_table(pd.concat([accounts.item_table(*each, names, params.shown) for each in first]), made.accounts)
    coverage = accounts.coverage((read_arrays(path, names=accounts.ARRAYS) for path in files.accounts), names)
    write_table(coverage, made.coverage)
    print(coverage.to_string())

    models = classes.of_models(files.accounts, names, params.classes, seed=params.seed)
    parts = ("classes", "contributions", "leaning")
    tables = {part: pd.concat([getattr(model, part) for model in models], ignore_index=True) for part in parts}
    for part in parts:
        write_table(tables[part], made[part])
    for path, model in zip(made.units, models, strict=True):
        write_arrays(path, model.units, model.facts)
    said = account_findings.coverage_findings(coverage)
    pages.write_findings(made.findings, said + class_pages.class_findings(tables["classes"], seed=params.seed))
    class_pages.write_pages(
        made.pages,
        *tables.values(),
        image_ids={
            facts["geometry"]: arrays["image_id"] for arrays, facts in by_folder(files.images, names=["image_id"])
        },
        images=picking_by_folder(files.images, "images"),
        geometries=params.geometries,
        labeled=params.labeled,
        words=names,
    )
