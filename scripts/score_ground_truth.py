"""Score the explainers of one shard against the masks and boxes of the sheet."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import groundtruth, store, tables

    pictures, _ = store.read(snakemake.input.images)
    explanations = [store.read(path) for path in snakemake.input.saliency]
    table = groundtruth.score(explanations, pictures, seed=snakemake.params.seed)
    tables.write(table, snakemake.output[0])
