"""Put the faithfulness scores into one table, average scores and curves with intervals, and test explainers."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_findings, pages
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import faithfulness

    seed, scores = snakemake.params.seed, read_table(snakemake.input.scores)
    made = {
        "images": scores,
        "summary": faithfulness.summarize(scores, seed=seed),
        "tests": faithfulness.compare(scores, seed=seed),
        "curves": faithfulness.mean_curves(map(read_arrays, snakemake.input.curves)),
    }
    for name, table in made.items():
        write_table(table, snakemake.output[name])
    pages.write_findings(
        snakemake.output.findings, evaluation_findings.faithfulness_findings(made["summary"], made["tests"])
    )
