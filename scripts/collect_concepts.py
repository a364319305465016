"""Put the labels of all models and layers into one table, and say what their evidence amounts to."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import evidence, gallery, tables

    table = tables.read(snakemake.input)
    tables.write(table, snakemake.output.table)
    sentences = [
        f"{model}: {sentence}"
        for model, group in table.groupby("model", sort=False)
        for sentence in evidence.findings(group, seed=snakemake.params.seed)
    ]
    gallery.write_findings(snakemake.output.findings, sentences)
