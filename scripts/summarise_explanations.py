"""Tabulate every explanation: warnings, superpixels, samples, fit and stability."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import explain, store, tables

    table = pd.concat([explain.explanation_table(*store.read(path)) for path in snakemake.input])
    tables.write(table, snakemake.output[0])
    print(f"{(table.warning != '').sum()} of {len(table)} maps are zero everywhere")
