"""Draw how far the explainers agree, and how long they take."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import cost_figures, evaluation_figures
    from unitlens.storage.tables import read_table
    from unitlens.tables import agreement

    everything, timings = read_table(snakemake.input.summary), read_table(snakemake.input.timings)
    summary = agreement.headline(everything, area=snakemake.params.area)
    evaluation_figures.agreement(summary, snakemake.output.equal_area, measure="equal_area_iou")
    evaluation_figures.agreement(summary, snakemake.output.threshold, measure="threshold_iou")
    evaluation_figures.agreement(summary, snakemake.output.spearman, measure="spearman")
    evaluation_figures.agreement_sweep(everything, snakemake.output.sweep)
    cost_figures.timings(timings, snakemake.output.timings, models=snakemake.params.models)
