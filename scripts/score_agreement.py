"""Compare every two explainers on every source image of one shard."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.tables import write_table
    from unitlens.tables import agreement

    explanations = [read_arrays(path) for path in snakemake.input]
    table = agreement.score_pairs(explanations, seed=snakemake.params.seed, **snakemake.params.agreement)
    write_table(table, snakemake.output[0])
