"""Answer which concepts most units learn, how many distinct ones there are, and how layers and models differ."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import compare, gallery, tables

    concepts = tables.read(snakemake.input.concepts)
    draws = tables.read(snakemake.input.rarefied)
    names = ["frequent", "layers", "rarefaction", "categories", "models", "category_differences", "unique_concepts"]
    made = {name: getattr(compare, name)(concepts) for name in names}
    made["trend"] = compare.trend(concepts, seed=snakemake.params.seed)
    made["probe_sizes"] = compare.probe_sizes(draws)
    shown = ["layers", "models", "category_differences", "unique_concepts", "trend", "probe_sizes"]
    gallery.write_findings(snakemake.output.findings, compare.findings(*(made[name] for name in shown)))
    for name, table in made.items():
        tables.write(table, snakemake.output[name])
        print(name, table.head(20).to_string(), sep="\n", end="\n\n")
