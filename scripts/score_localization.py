"""Score the explainers of one shard against the masks and boxes of the sheet."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.tables import write_table
    from unitlens.tables import localization

    images, _ = read_arrays(snakemake.input.images)
    explanations = [read_arrays(path) for path in snakemake.input.saliency]
    table = localization.score(explanations, images, seed=snakemake.params.seed)
    write_table(table, snakemake.output[0])
