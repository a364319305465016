"""Put the agreement scores into one table, and average them with intervals."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import agreement

    scores = pd.concat(
        [pd.read_csv(path, dtype={"image_id": str}, keep_default_na=False, na_values=[""]) for path in snakemake.input]
    )
    scores.to_csv(snakemake.output.images, index=False, float_format="%.6g")
    summary = agreement.summarise(scores, seed=snakemake.params.seed)
    summary.to_csv(snakemake.output.summary, index=False, float_format="%.6g")
    print(summary.to_string())
