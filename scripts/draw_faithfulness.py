"""Draw the faithfulness scores and the mean curves of one model's explainers."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, tables

    summary, curves = tables.read(snakemake.input.summary), tables.read(snakemake.input.curves)
    model = snakemake.wildcards.model
    figures.faithfulness_scores(summary, snakemake.output.scores, model=model)
    figures.faithfulness_curves(curves, snakemake.output.curves, model=model)
