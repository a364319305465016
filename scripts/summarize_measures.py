"""Average the shapes of the maps and test them against LIME; correlate the images' complexity with agreement."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_findings, pages
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables.complexity import correlate_complexity, summarize_shape

    files, area, seed = snakemake.input, snakemake.params.area, snakemake.params.seed
    shape, complexity = read_table(files.shape), read_table(files.complexity)
    summary, tests = summarize_shape(shape, seed=seed)
    correlations = correlate_complexity(complexity, read_table(files.agreement), area=area, seed=seed)
    written = {"shape": shape, "shape_summary": summary, "shape_tests": tests}
    written |= {"complexity": complexity, "correlations": correlations}
    for name, table in written.items():
        write_table(table, snakemake.output[name])
    pages.write_findings(snakemake.output.shape_findings, evaluation_findings.shape_findings(summary, tests))
    pages.write_findings(snakemake.output.complexity_findings, evaluation_findings.complexity_findings(correlations))
