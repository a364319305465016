"""Draw the shapes of the maps, and agreement against the complexity of the source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_figures, text
    from unitlens.storage.shards import by_folder
    from unitlens.storage.tables import read_table
    from unitlens.tables import complexity

    files, params = snakemake.input, snakemake.params
    evaluation_figures.shape(
        read_table(files.shape), snakemake.output.shape, titles=text.SHAPE_TITLES, models=params.models
    )
    joined, correlations = complexity.complexity_points(*map(read_table, files.tables), area=params.area)
    shown = [arrays for arrays, _ in by_folder(files.images, rows=params.shown)]
    evaluation_figures.complexity(
        joined,
        correlations,
        snakemake.output.complexity,
        titles=text.COMPLEXITY_TITLES,
        models=params.models,
        thumbnails={name: image for its in shown for name, image in zip(its["image_id"], its["images"], strict=True)},
    )
