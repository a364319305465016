"""Compare every two explainers of one model on the same and on different source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.shards import by_folder
    from unitlens.storage.tables import write_table
    from unitlens.tables import agreement

    params = snakemake.params
    explanations = by_folder(snakemake.input, rows=params.rows)
    write_table(agreement.match(explanations, seed=params.seed, **params.agreement), snakemake.output[0])
