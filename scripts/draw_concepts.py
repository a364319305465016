"""Draw the most frequent concepts, the number of distinct ones, and the categories."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import figures

    encoder = pd.read_csv(snakemake.input.concepts, usecols=["encoder"]).encoder[0]
    frequent, layers, categories = (
        pd.read_csv(snakemake.input[name], keep_default_na=False) for name in ("frequent", "layers", "categories")
    )
    figures.frequent_concepts(frequent, snakemake.output.frequent, encoder=encoder)
    figures.distinct_concepts(layers, snakemake.output.distinct, encoder=encoder)
    figures.category_shares(categories, snakemake.output.categories, encoder=encoder)
