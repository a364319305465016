"""Measure the maps of one shard, how broad and how patchy they are, and its photographs, how complex they are."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import saliency, store, tables

    pictures, _ = store.read(snakemake.input.images)
    shape = saliency.score_shape([store.read(path) for path in snakemake.input.saliency], area=snakemake.params.area)
    complexity = saliency.measure_complexity(pictures["images"], *store.read(snakemake.input.lime))
    for name, table in {"shape": shape, "complexity": complexity}.items():
        tables.write(table, snakemake.output[name])
