"""Put the scores against masks and boxes into one table, average them, test explainers against each other, and draw."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_figures, evaluation_findings, pages, text
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import localization

    scores = read_table(snakemake.input)
    summary, tests = localization.summarize(scores, seed=snakemake.params.seed)
    for name, table in {"images": scores, "summary": summary, "tests": tests}.items():
        write_table(table, snakemake.output[name])
    evaluation_figures.localization(
        summary, snakemake.output.figure, titles=text.LOCALIZATION_TITLES, models=snakemake.params.models
    )
    pages.write_findings(snakemake.output.findings, evaluation_findings.localization_findings(summary, tests))
