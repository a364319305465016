"""Average the seconds an image of every explainer."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.tables import read_table, write_table

    timings = read_table(snakemake.input)
    keys = ["model", "explainer", "device", "threads"]
    table = timings.groupby(keys, sort=False)[["images", "seconds"]].sum().reset_index()
    table["seconds_per_image"] = table.seconds / table.images
    columns = ["model", "explainer", "images", "seconds", "seconds_per_image", "device", "threads"]
    write_table(table[columns], snakemake.output[0], digits=4)
