"""Average the shapes of the maps and test them against LIME; correlate the complexity of photographs with agreement."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import gallery, saliency, tables

    files, area, seed = snakemake.input, snakemake.params.area, snakemake.params.seed
    shape, complexity = tables.read(files.shape), tables.read(files.complexity)
    summary, tests = saliency.summarise_shape(shape, seed=seed)
    correlations = saliency.correlate_complexity(complexity, tables.read(files.agreement), area=area, seed=seed)
    written = {"shape": shape, "shape_summary": summary, "shape_tests": tests}
    written |= {"complexity": complexity, "correlations": correlations}
    for name, table in written.items():
        tables.write(table, snakemake.output[name])
    gallery.write_findings(snakemake.output.shape_findings, saliency.shape_findings(summary, tests))
    gallery.write_findings(snakemake.output.complexity_findings, saliency.complexity_findings(correlations))
