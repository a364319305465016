"""Draw the most frequent concepts, the number of distinct ones, and the categories."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import concept_figures
    from unitlens.storage.tables import read_table

    files, drawn = snakemake.input, snakemake.output
    made = {name: read_table(path) for name, path in files.items()}
    concepts = made["concepts"]
    encoder = {"encoder": concepts.encoder[0]}
    look = encoder | {"models": snakemake.params.models}
    concept_figures.frequent_concepts(made["frequent"], drawn.frequent, **look)
    concept_figures.distinct_concepts(made["layers"], drawn.distinct, **look)
    concept_figures.rarefaction(made["rarefaction"], made["probe_sizes"], drawn.rarefaction, **look)
    concept_figures.label_statuses(concepts, drawn.null, **encoder)
    concept_figures.words_again(made["probe_sizes"], made["forecast"], drawn.again, **look)
    concept_figures.controls(made["controls"], drawn.controls, **look)
    concept_figures.category_shares(made["categories"], drawn.categories, **look)
    concept_figures.category_trend(made["trend"], drawn.trend, **look)
    concept_figures.category_differences(made["differences"], drawn.differences, **encoder)
