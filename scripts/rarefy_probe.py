"""Label the units of one layer again on parts of the probe set, and count their concepts."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import concatenate
    from unitlens.storage.tables import write_table
    from unitlens.tables import diversity
    from unitlens.units import dissect, evidence

    torch.set_num_threads(snakemake.threads)
    activations, _ = concatenate(snakemake.input.activations)
    images, _ = concatenate(snakemake.input.images)
    concepts, _ = read_arrays(snakemake.input.concepts)
    texts = dissect.normalized(concepts["features"], "text_features")
    table = diversity.relabel_subsets(
        activations["activations"],
        images["features"],
        concepts["features"],
        similarity=snakemake.params.similarity,
        source_images=images["source_image"],
        groups=concepts["word"][evidence.near_duplicates(texts)],
        sizes=snakemake.params.sizes,
        seed=snakemake.params.seed,
    )
    table.insert(0, "model", snakemake.wildcards.model)
    table.insert(1, "layer", snakemake.wildcards.layer)
    write_table(table, snakemake.output[0])
    print(table.to_string())
