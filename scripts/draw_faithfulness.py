"""Draw the faithfulness scores and the mean curves of one model's explainers."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_figures
    from unitlens.storage.tables import read_table

    summary, curves = read_table(snakemake.input.summary), read_table(snakemake.input.curves)
    model = snakemake.wildcards.model
    evaluation_figures.faithfulness_scores(summary, snakemake.output.scores, model=model)
    evaluation_figures.faithfulness_curves(curves, snakemake.output.curves, model=model)
