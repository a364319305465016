"""Count the images of every image set; name what of them could not be read, and source images that are copies."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.tables import write_table
    from unitlens.tables.explanations import image_set_counts

    shards = list(zip(snakemake.params.sets, snakemake.input.images, strict=True))
    sheets = dict(zip(snakemake.params.names, snakemake.input.sheets, strict=True))
    left_out = dict(zip(snakemake.params.names, snakemake.input.left_out, strict=True))
    write_table(image_set_counts(shards, sheets, left_out), snakemake.output[0])
