"""Answer which concepts most units learn, how many distinct ones there are, and how layers and models differ."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import compare, gallery

    concepts = pd.read_csv(snakemake.input.concepts, keep_default_na=False)
    draws = pd.concat([pd.read_csv(path) for path in snakemake.input.rarefied])
    names = ["frequent", "layers", "rarefaction", "categories", "models", "category_differences", "unique_concepts"]
    tables = {name: getattr(compare, name)(concepts) for name in names}
    tables["trend"] = compare.trend(concepts, seed=snakemake.params.seed)
    tables["probe_sizes"] = compare.probe_sizes(draws)
    shown = ["layers", "models", "category_differences", "unique_concepts", "trend", "probe_sizes"]
    gallery.write_findings(snakemake.output.findings, compare.findings(*(tables[name] for name in shown)))
    for name, table in tables.items():
        table.to_csv(snakemake.output[name], index=False, float_format="%.6g")
        print(name, table.head(20).to_string(), sep="\n", end="\n\n")
