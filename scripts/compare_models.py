"""Answer which concepts most units learn, how many distinct ones there are, and how layers and models differ."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import concept_findings, pages
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import comparison, diversity, recurrence

    concepts = read_table(snakemake.input.concepts)
    draws = read_table(snakemake.input.rarefied)
    names = ["frequent", "layers", "categories", "models", "category_differences", "unique_concepts"]
    made = {name: getattr(comparison, name)(concepts) for name in names}
    made["rarefaction"] = diversity.rarefaction(concepts)
    made["trend"] = comparison.trend(concepts, seed=snakemake.params.seed)
    made["probe_sizes"] = diversity.probe_sizes(draws)
    made["forecast"] = recurrence.forecast(draws)
    shown = ["layers", "models", "category_differences", "unique_concepts", "trend", "probe_sizes"]
    sentences = concept_findings.concept_findings(*(made[name] for name in shown))
    sentences += concept_findings.forecast_findings(made["forecast"])
    pages.write_findings(snakemake.output.findings, sentences)
    for name, table in made.items():
        write_table(table, snakemake.output[name])
        print(name, table.head(20).to_string(), sep="\n", end="\n\n")
