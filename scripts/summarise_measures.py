"""Average the shapes of the maps and test them against LIME; correlate the complexity of photographs with agreement."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import gallery, saliency, store

    files, area, seed = snakemake.input, snakemake.params.area, snakemake.params.seed
    shape, complexity = store.read_tables(files.shape), store.read_tables(files.complexity)
    summary, tests = saliency.summarise_shape(shape, seed=seed)
    correlations = saliency.correlate_complexity(complexity, store.read_tables([files.agreement]), area=area, seed=seed)
    written = {"shape": shape, "shape_summary": summary, "shape_tests": tests}
    written |= {"complexity": complexity, "correlations": correlations}
    for name, table in written.items():
        table.to_csv(snakemake.output[name], index=False, float_format="%.6g")
    gallery.write_findings(snakemake.output.shape_findings, saliency.shape_findings(summary, tests))
    gallery.write_findings(snakemake.output.complexity_findings, saliency.complexity_findings(correlations))
