"""Put the labels of all models and layers into one table, and say what their evidence amounts to."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import concept_findings, pages
    from unitlens.storage.tables import read_table, write_table

    table, linear = read_table(snakemake.input.concepts), read_table(snakemake.input.linear)
    write_table(table, snakemake.output.table)
    write_table(linear, snakemake.output.linear)
    sentences = [
        f"{model}: {sentence}"
        for model, group in table.groupby("model", sort=False)
        for sentence in concept_findings.evidence_findings(group)
    ]
    pages.write_findings(snakemake.output.findings, sentences + concept_findings.linear_findings(linear))
