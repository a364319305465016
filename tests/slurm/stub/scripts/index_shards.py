"""Index the shards."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from unitlens import store

    with Path("executed.txt").open("a") as file:
        file.write("index_shards all\n")
    store.index(snakemake.output[0], snakemake.input)
