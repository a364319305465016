"""Tabulate every explanation: warnings, superpixels, samples, fit and stability."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import explain, store, tables

    table = pd.concat([explain.explanation_table(*store.columns(path)) for path in snakemake.input])
    tables.write(table, snakemake.output[0])
    print(*explain.no_map_sentences(table), sep="\n")
