"""Draw the most frequent concepts, the number of distinct ones, and the categories."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import figures, store

    files, drawn = snakemake.input, snakemake.output
    columns = ["model", "layer", "statistic", "p_value", "q_value", "encoder"]
    concepts = pd.read_csv(files.concepts, usecols=columns)
    encoder = concepts.encoder[0]
    tables = {name: store.read_tables([path]) for name, path in files.items() if name != "concepts"}
    figures.frequent_concepts(tables["frequent"], drawn.frequent, encoder=encoder)
    figures.distinct_concepts(tables["layers"], drawn.distinct, encoder=encoder)
    figures.rarefaction(tables["rarefaction"], tables["probe_sizes"], drawn.rarefaction, encoder=encoder)
    figures.score_against_null(concepts, drawn.null, encoder=encoder)
    figures.category_shares(tables["categories"], drawn.categories, encoder=encoder)
    figures.category_trend(tables["trend"], drawn.trend, encoder=encoder)
    figures.category_differences(tables["differences"], drawn.differences, encoder=encoder)
