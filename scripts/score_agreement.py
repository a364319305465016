"""Compare every two explainers on every photograph of one shard."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import agreement, store, tables

    explanations = [store.read(path) for path in snakemake.input]
    table = agreement.score_pairs(explanations, seed=snakemake.params.seed, **snakemake.params.agreement)
    tables.write(table, snakemake.output[0])
