"""Write one virtual file over all shards of a layer's activations."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import store

    store.index(snakemake.output[0], snakemake.input)
