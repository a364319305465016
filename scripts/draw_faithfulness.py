"""Draw the faithfulness scores and the mean curves of every model's explainers."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_figures
    from unitlens.storage.tables import read_table

    summary, curves, drawn = read_table(snakemake.input.summary), read_table(snakemake.input.curves), snakemake.output
    for model, scores, path in zip(snakemake.params.models, drawn.scores, drawn.curves, strict=True):
        evaluation_figures.faithfulness_scores(summary, scores, model=model)
        evaluation_figures.faithfulness_curves(curves, path, model=model)
