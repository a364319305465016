"""Put the faithfulness scores into one table, average scores and curves with intervals, and test explainers."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import faithfulness, gallery, store

    seed, scores = snakemake.params.seed, store.read_tables(snakemake.input.scores)
    tables = {
        "images": scores,
        "summary": faithfulness.summarise(scores, seed=seed),
        "tests": faithfulness.compare(scores, seed=seed),
        "curves": faithfulness.mean_curves(map(store.read, snakemake.input.curves), seed=seed),
    }
    for name, table in tables.items():
        table.to_csv(snakemake.output[name], index=False, float_format="%.6g")
    gallery.write_findings(snakemake.output.findings, faithfulness.findings(tables["summary"], tables["tests"]))
