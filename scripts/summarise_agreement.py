"""Put the agreement scores into one table, average them with intervals, and test pairs against each other."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import agreement, gallery

    seed, area = snakemake.params.seed, snakemake.params.area
    scores = pd.concat(
        [pd.read_csv(path, dtype={"image_id": str}, keep_default_na=False, na_values=[""]) for path in snakemake.input]
    )
    tables = {
        "images": scores,
        "summary": agreement.summarise(scores, seed=seed),
        "tests": agreement.compare_pairs(scores, area=area, seed=seed),
    }
    for name, table in tables.items():
        table.to_csv(snakemake.output[name], index=False, float_format="%.6g")
    sentences = agreement.findings(tables["summary"], tables["tests"], area=area)
    gallery.write_findings(snakemake.output.findings, sentences)
