"""Put the labels of all models and layers into one table, and say what their evidence amounts to."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import concept_findings, pages
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import word_controls

    table, linear = read_table(snakemake.input.concepts), read_table(snakemake.input.linear)
    write_table(table, snakemake.output.table)
    write_table(linear, snakemake.output.linear)
    controls = word_controls.beside(read_table(snakemake.input.controls), table)
    write_table(controls, snakemake.output.controls)
    sentences = [
        f"{model}: {sentence}"
        for model, group in table.groupby("model", sort=False)
        for sentence in concept_findings.evidence_findings(group)
    ]
    sentences += concept_findings.control_findings(controls) + concept_findings.linear_findings(linear)
    pages.write_findings(snakemake.output.findings, sentences)
