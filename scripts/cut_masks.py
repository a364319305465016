"""Cut the saliency maps of one shard to binary masks."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import explain, store

    params = snakemake.params
    cuts = {"area": params.area, "threshold": params.threshold}
    arrays = explain.masks([store.read(path) for path in snakemake.input], seed=params.seed, **cuts)
    store.create(snakemake.output[0], arrays, {"model": snakemake.wildcards.model, **cuts})
