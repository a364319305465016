"""Put the labels of all models and layers into one table."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd

    tables = [pd.read_csv(path, keep_default_na=False, dtype=str) for path in snakemake.input]
    pd.concat(tables).to_csv(snakemake.output[0], index=False)
