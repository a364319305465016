"""Write what every model predicts for the source images that are explained."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens.storage.shards import read_columns
    from unitlens.storage.tables import write_table
    from unitlens.tables import explanations

    parts = [explanations.prediction_table(*read_columns(path), snakemake.params.classes) for path in snakemake.input]
    write_table(pd.concat(parts), snakemake.output[0])
