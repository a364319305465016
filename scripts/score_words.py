"""Label what has a known name, and what has nothing to name, as the units of one model are labeled."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs.sheets import class_names
    from unitlens.measures import word_controls as measured
    from unitlens.networks import describe, network
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.files import read_all_facts
    from unitlens.storage.shards import concatenate, read_blocks, read_column
    from unitlens.storage.tables import write_table
    from unitlens.tables import word_controls

    torch.set_num_threads(snakemake.threads)
    params, files = snakemake.params, snakemake.input
    net = network.load_network(params.network, files.weights, files.model, device=params.device)
    (facts,) = read_all_facts([files.model], files.layer_facts)
    poolings = {layer: describe.pooling_of(facts, layer, params.pooling) for layer in params.layers}
    batches = (block["images"] for block in read_blocks(files.images, ["images"], snakemake.resources.batch_size))
    scores, layers = measured.outputs(net, batches, poolings=poolings, seed=params.seed)
    images, image_facts = concatenate(files.features)
    concepts, concept_facts = read_arrays(files.concepts)
    table = word_controls.score(
        scores.numpy(),
        {layer: values.numpy() for layer, values in layers.items()},
        read_column(files.images, "image_id"),
        images,
        concepts,
        read_arrays(files.classes)[0] if files.classes else None,
        class_names(params.classes) if params.classes else [],
        similarity=params.similarity,
        encoders=(image_facts["encoder"], concept_facts["encoder"]),
        seed=params.seed,
        **params.evidence,
    )
    table.insert(0, "model", snakemake.wildcards.model)
    write_table(table, snakemake.output[0])
    print(table.to_string())
