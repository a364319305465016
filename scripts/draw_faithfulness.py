"""Draw the faithfulness scores and the mean curves of one model's explainers."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import figures

    summary, curves = pd.read_csv(snakemake.input.summary), pd.read_csv(snakemake.input.curves)
    model = snakemake.wildcards.model
    figures.faithfulness_scores(summary, snakemake.output.scores, model=model)
    figures.faithfulness_curves(curves, snakemake.output.curves, model=model)
