"""Draw the shapes of the maps, and agreement against the complexity of the source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_figures, text
    from unitlens.storage.tables import read_table
    from unitlens.tables import complexity

    shape, *rest = (read_table(path) for path in snakemake.input)
    evaluation_figures.shape(shape, snakemake.output.shape, titles=text.SHAPE_TITLES)
    joined, correlations = complexity.complexity_points(*rest, area=snakemake.params.area)
    evaluation_figures.complexity(joined, correlations, snakemake.output.complexity, titles=text.COMPLEXITY_TITLES)
