"""Draw the most frequent concepts, the number of distinct ones, and the categories."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, tables

    files, drawn = snakemake.input, snakemake.output
    made = {name: tables.read(path) for name, path in files.items()}
    concepts = made["concepts"]
    encoder = concepts.encoder[0]
    figures.frequent_concepts(made["frequent"], drawn.frequent, encoder=encoder)
    figures.distinct_concepts(made["layers"], drawn.distinct, encoder=encoder)
    figures.rarefaction(made["rarefaction"], made["probe_sizes"], drawn.rarefaction, encoder=encoder)
    figures.score_against_null(concepts, drawn.null, encoder=encoder)
    figures.category_shares(made["categories"], drawn.categories, encoder=encoder)
    figures.category_trend(made["trend"], drawn.trend, encoder=encoder)
    figures.category_differences(made["differences"], drawn.differences, encoder=encoder)
