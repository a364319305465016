"""Measure the maps of one shard, how broad and how patchy they are, and its source images, how complex they are."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.tables import write_table
    from unitlens.tables.complexity import measure_complexity, score_shape

    images, _ = read_arrays(snakemake.input.images)
    explanations = [read_arrays(path) for path in snakemake.input.saliency]
    shape = score_shape(explanations, area=snakemake.params.area)
    complexity = measure_complexity(images["images"], explanations)
    for name, table in {"shape": shape, "complexity": complexity}.items():
        write_table(table, snakemake.output[name])
