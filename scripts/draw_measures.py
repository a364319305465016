"""Draw the shapes of the maps, and agreement against the complexity of the photographs."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, saliency, tables

    shape, *rest = (tables.read(path) for path in snakemake.input)
    figures.shape(shape, snakemake.output.shape, titles=saliency.SHAPE_TITLES)
    joined, correlations = saliency.complexity_points(*rest, area=snakemake.params.area)
    figures.complexity(joined, correlations, snakemake.output.complexity, titles=saliency.COMPLEXITY_TITLES)
