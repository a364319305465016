"""Put the agreement scores into one table, average them with intervals, and test pairs against each other."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_findings, pages
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import agreement

    seed, area = snakemake.params.seed, snakemake.params.area
    scores = read_table(snakemake.input.scores)
    made = {
        "images": scores,
        "summary": agreement.summarize(scores, read_table(snakemake.input.matching)),
        "tests": agreement.compare_pairs(scores, area=area, seed=seed),
    }
    for name, table in made.items():
        write_table(table, snakemake.output[name])
    sentences = evaluation_findings.agreement_findings(made["summary"], made["tests"], area=area)
    pages.write_findings(snakemake.output.findings, sentences)
