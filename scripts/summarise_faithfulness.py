"""Put the faithfulness scores into one table, average scores and curves with intervals, and test explainers."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import faithfulness, gallery, store, tables

    seed, scores = snakemake.params.seed, tables.read(snakemake.input.scores)
    made = {
        "images": scores,
        "summary": faithfulness.summarise(scores, seed=seed),
        "tests": faithfulness.compare(scores, seed=seed),
        "curves": faithfulness.mean_curves(map(store.read, snakemake.input.curves), seed=seed),
    }
    for name, table in made.items():
        tables.write(table, snakemake.output[name])
    gallery.write_findings(snakemake.output.findings, faithfulness.findings(made["summary"], made["tests"]))
