"""Put the labels of all models and layers into one table, and say what their evidence amounts to."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import evidence, gallery, store

    tables = [pd.read_csv(path, keep_default_na=False, dtype=str) for path in snakemake.input]
    pd.concat(tables).to_csv(snakemake.output.table, index=False)
    table = store.read_tables([snakemake.output.table])
    sentences = [
        f"{model}: {sentence}"
        for model, group in table.groupby("model", sort=False)
        for sentence in evidence.findings(group)
    ]
    gallery.write_findings(snakemake.output.findings, sentences)
