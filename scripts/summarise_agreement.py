"""Put the agreement scores into one table, average them with intervals, and test pairs against each other."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import agreement, gallery, tables

    seed, area = snakemake.params.seed, snakemake.params.area
    scores = tables.read(snakemake.input)
    made = {
        "images": scores,
        "summary": agreement.summarise(scores, seed=seed),
        "tests": agreement.compare_pairs(scores, area=area, seed=seed),
    }
    for name, table in made.items():
        tables.write(table, snakemake.output[name])
    sentences = agreement.findings(made["summary"], made["tests"], area=area)
    gallery.write_findings(snakemake.output.findings, sentences)
