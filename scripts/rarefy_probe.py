"""Label the units of one layer again on parts of the probe set, and count their concepts."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import compare, dissect, evidence, store, tables

    torch.set_num_threads(snakemake.threads)
    activations, _ = store.concatenate(snakemake.input.activations)
    images, _ = store.concatenate(snakemake.input.images)
    concepts, _ = store.read(snakemake.input.concepts)
    texts = dissect.normalised(concepts["features"], "text_features")
    table = compare.relabel_subsets(
        activations["activations"],
        images["features"],
        concepts["features"],
        similarity=snakemake.params.similarity,
        photographs=images["photograph"],
        groups=concepts["word"][evidence.near_duplicates(texts, snakemake.params.near_duplicate)],
        sizes=snakemake.params.sizes,
        seed=snakemake.params.seed,
    )
    table.insert(0, "model", snakemake.wildcards.model)
    table.insert(1, "layer", snakemake.wildcards.layer)
    tables.write(table, snakemake.output[0])
    print(table.to_string())
