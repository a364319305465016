"""Write what every model predicts for the photographs that are explained."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import models, store, tables

    parts = [models.prediction_table(*store.columns(path), snakemake.params.classes) for path in snakemake.input]
    tables.write(pd.concat(parts), snakemake.output[0])
