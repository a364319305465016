"""Cut the saliency maps of one shard to binary masks."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import explain, store

    params = snakemake.params
    saliency = [store.read(path) for path in snakemake.input]
    arrays = explain.masks(saliency, seed=params.seed, **params.agreement)
    store.create(snakemake.output[0], arrays, {"model": snakemake.wildcards.model, **params.agreement})
