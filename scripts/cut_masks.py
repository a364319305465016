"""Cut the saliency maps of one shard to binary masks."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.explainers import run
    from unitlens.storage.arrays import read_arrays, write_arrays

    params = snakemake.params
    cuts = {"area": params.area, "threshold": params.threshold}
    arrays = run.cut_masks([read_arrays(path) for path in snakemake.input], seed=params.seed, **cuts)
    write_arrays(snakemake.output[0], arrays, {"model": snakemake.wildcards.model, **cuts})
