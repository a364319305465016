"""Tabulate every explanation: warnings, superpixels, samples, fit and stability."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens.report import evaluation_findings
    from unitlens.storage.shards import read_columns
    from unitlens.storage.tables import write_table
    from unitlens.tables import explanations

    table = pd.concat([explanations.explanation_table(*read_columns(path)) for path in snakemake.input])
    write_table(table, snakemake.output[0])
    print(*evaluation_findings.no_map_sentences(table), sep="\n")
