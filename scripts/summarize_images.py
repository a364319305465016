"""Count the images of every image set; name what of them could not be read, and source images that are copies."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.tables import write_table
    from unitlens.tables.explanations import image_set_counts

    shards = list(zip(snakemake.params.sets, snakemake.input.images, strict=True))
    sheets = dict(zip(snakemake.params.names, snakemake.input.sheets, strict=True))
    left_out = dict(zip(snakemake.params.names, snakemake.input.left_out, strict=True))
    bits = dict(zip(snakemake.params.names, snakemake.params.bits, strict=True))
    table = image_set_counts(shards, sheets, left_out, bits)
    write_table(table, snakemake.output[0])
    print(*table["warning"], sep="\n")
