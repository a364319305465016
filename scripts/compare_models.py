"""Say and draw which concepts most units learn, how many there are, and how layers and models differ."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import concept_figures, concept_findings, pages
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import comparison, diversity, recurrence

    files, written = snakemake.input, snakemake.output
    concepts, draws = read_table(files.concepts), read_table(files.rarefied)
    names = ["frequent", "layers", "categories", "models", "category_differences", "unique_concepts"]
    made = {name: getattr(comparison, name)(concepts) for name in names}
    made["rarefaction"] = diversity.rarefaction(concepts)
    made["trend"] = comparison.trend(concepts, seed=snakemake.params.seed)
    made["probe_sizes"] = diversity.probe_sizes(draws)
    made["forecast"] = recurrence.forecast(draws)
    said = ["layers", "models", "category_differences", "unique_concepts", "trend", "probe_sizes"]
    sentences = concept_findings.concept_findings(*(made[name] for name in said))
    pages.write_findings(written.findings, sentences + concept_findings.forecast_findings(made["forecast"]))
    for name, table in made.items():
        write_table(table, written[name])
        print(name, table.head(20).to_string(), sep="\n", end="\n\n")
    made = {name: read_table(written[name]) for name in made}  # figures are of the digits that the files have
    encoder = {"encoder": concepts.encoder[0]}
    look = encoder | {"models": snakemake.params.models}
    concept_figures.frequent_concepts(made["frequent"], written.frequent_drawn, **look)
    concept_figures.distinct_concepts(made["layers"], written.distinct, **look)
    concept_figures.rarefaction(made["rarefaction"], made["probe_sizes"], written.rarefaction_drawn, **look)
    concept_figures.label_statuses(concepts, written.null, **encoder)
    concept_figures.words_again(made["probe_sizes"], made["forecast"], written.again, **look)
    concept_figures.controls(read_table(files.controls), written.controls, **look)
    concept_figures.category_shares(made["categories"], written.categories_drawn, **look)
    concept_figures.category_trend(made["trend"], written.trend_drawn, **look)
    concept_figures.category_differences(made["category_differences"], written.differences_drawn, **encoder)
