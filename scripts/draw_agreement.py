"""Draw how far the explainers agree, and how long they take."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import agreement, figures, tables

    everything, timings = tables.read(snakemake.input.summary), tables.read(snakemake.input.timings)
    summary = agreement.headline(everything, area=snakemake.params.area)
    figures.agreement(summary, snakemake.output.equal_area, measure="equal_area_iou")
    figures.agreement(summary, snakemake.output.threshold, measure="threshold_iou")
    figures.agreement(summary, snakemake.output.spearman, measure="spearman")
    figures.agreement_sweep(everything, snakemake.output.sweep)
    figures.timings(timings, snakemake.output.timings)
