"""Cut the maps of one shard to masks, measure how broad and patchy they are, and how complex their source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.explainers import run
    from unitlens.storage.arrays import read_arrays, write_arrays
    from unitlens.storage.tables import write_table
    from unitlens.tables.complexity import measure_complexity, score_shape

    params, output = snakemake.params, snakemake.output
    images, _ = read_arrays(snakemake.input.images)
    explanations = [read_arrays(path) for path in snakemake.input.saliency]
    cuts = {"area": params.area, "threshold": params.threshold}
    masks = run.cut_masks(explanations, seed=params.seed, **cuts)
    write_arrays(output.masks, masks, {"model": snakemake.wildcards.model, **cuts})
    write_table(score_shape(explanations, area=params.area), output.shape)
    write_table(measure_complexity(images["images"], explanations), output.complexity)
