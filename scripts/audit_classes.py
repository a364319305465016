"""Tabulate and tell which share of the accounts of classes expected and unexpected concepts carry."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from itertools import groupby
    from pathlib import Path

    import pandas as pd
    from unitlens.networks.network import class_names
    from unitlens.report import account_findings, pages
    from unitlens.storage.shards import concatenate, read_groups
    from unitlens.storage.tables import read_table, read_texts, write_table
    from unitlens.tables import accounts, audit

    files, params, parts = snakemake.input, snakemake.params, []
    names = accounts.unit_names(read_table(files.concepts), read_table(files.masks) if files.masks else None)
    words = [word for path in files.words for word in read_texts(path)["word"]]
    audit.check_concepts(params.audit, [*words, *names["name"]])
    for model, paths in groupby(files.accounts, key=lambda path: Path(path).parent.name):
        columns, facts = concatenate(own := list(paths), names=audit.COLUMNS)
        called = class_names(params.classes[model])
        groups = read_groups(own, audit.ARRAYS, audit.audited(columns, called, params.audit))
        parts.append(audit.tabulate(groups, columns, facts, names, called, params.audit, seed=params.seed))
    table = audit.with_verdicts(pd.concat(parts, ignore_index=True))
    write_table(table, snakemake.output.table)
    pages.write_findings(snakemake.output.findings, account_findings.audit_findings(table))
    print(table.to_string())
