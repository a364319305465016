"""Tabulate and tell which share of the accounts of classes expected and unexpected concepts carry."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import account_findings, pages
    from unitlens.storage.tables import read_texts, write_table
    from unitlens.tables import accounts, audit

    files, params = snakemake.input, snakemake.params
    names = accounts.read_unit_names(files.concepts, files.masks)
    words = [word for path in files.words for word in read_texts(path)["word"]]
    audit.check_concepts(params.audit, [*words, *names["name"]])
    table = audit.of_models(files.accounts, names, params.classes, params.audit, seed=params.seed)
    write_table(table, snakemake.output.table)
    pages.write_findings(snakemake.output.findings, account_findings.audit_findings(table))
    print(table.to_string())
