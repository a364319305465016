"""Put the agreement scores into one table, average them with intervals, and test pairs against each other."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import agreement, gallery, store

    seed, area = snakemake.params.seed, snakemake.params.area
    scores = store.read_tables(snakemake.input)
    tables = {
        "images": scores,
        "summary": agreement.summarise(scores, seed=seed),
        "tests": agreement.compare_pairs(scores, area=area, seed=seed),
    }
    for name, table in tables.items():
        table.to_csv(snakemake.output[name], index=False, float_format="%.6g")
    sentences = agreement.findings(tables["summary"], tables["tests"], area=area)
    gallery.write_findings(snakemake.output.findings, sentences)
