"""Write what every model predicts for the photographs that are explained."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import models, store

    tables = [models.prediction_table(*store.read(path), snakemake.params.classes) for path in snakemake.input]
    pd.concat(tables).to_csv(snakemake.output[0], index=False, float_format="%.6g")
