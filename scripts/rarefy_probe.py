"""Label the units of one model again on parts of the probe set, layer by layer, and count their concepts."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    import pandas as pd
    import torch
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import concatenate
    from unitlens.storage.tables import write_table
    from unitlens.tables import diversity
    from unitlens.units import dissect, evidence

    torch.set_num_threads(snakemake.threads)
    images, _ = concatenate(snakemake.input.images)
    concepts, _ = read_arrays(snakemake.input.concepts)
    texts = dissect.normalized(concepts["features"], "text_features")
    tables = []
    for layer in snakemake.params.layers:
        shards = [path for path in snakemake.input.activations if Path(path).parent.name == layer]
        table = diversity.relabel_subsets(
            concatenate(shards)[0]["activations"],
            images["features"],
            concepts["features"],
            similarity=snakemake.params.similarity,
            source_images=images["source_image"],
            groups=concepts["word"][evidence.near_duplicates(texts)],
            sizes=snakemake.params.sizes,
            seed=snakemake.params.seed,
        )
        table.insert(0, "model", snakemake.wildcards.model)
        table.insert(1, "layer", layer)
        tables.append(table)
    write_table(pd.concat(tables, ignore_index=True), snakemake.output[0])
    print(pd.concat(tables).to_string())
