"""Average the seconds an image of every explainer."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd

    timings = pd.concat([pd.read_csv(path) for path in snakemake.input])
    keys = ["model", "explainer", "device", "threads"]
    table = timings.groupby(keys, sort=False)[["images", "seconds"]].sum().reset_index()
    table["seconds_per_image"] = table.seconds / table.images
    columns = ["model", "explainer", "images", "seconds", "seconds_per_image", "device", "threads"]
    table[columns].to_csv(snakemake.output[0], index=False, float_format="%.4g")
