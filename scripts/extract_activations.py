"""Write one layer's pooled activations for one shard of probe source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs import progress
    from unitlens.networks import describe, hooks, layer_outputs, network
    from unitlens.storage.arrays import attributes_of, create_arrays, open_arrays, read_batches, read_dataset
    from unitlens.storage.files import read_facts

    torch.set_num_threads(snakemake.threads)
    params, layer, output = snakemake.params, snakemake.wildcards.layer, snakemake.output[0]
    net = network.load_network(params.network, snakemake.input.weights, snakemake.input.model, device=params.device)
    pooling = describe.pooling_of(read_facts(snakemake.input.layer), layer, params.pooling)
    facts = {**net.facts, "layer": layer, "pooling": pooling}
    with open_arrays(snakemake.input.images) as file, create_arrays(output, len(file["images"]), facts) as add:
        facts["geometry"] = attributes_of(file)["geometry"]
        pooled = layer_outputs.extract(
            lambda images: hooks.run_to(net.model, layer, net.normalize(images)),
            read_batches(file["images"], snakemake.resources.batch_size),
            pooling=pooling,
        )
        for part in progress.progress(pooled, len(file["images"]), "images"):
            add(activations=part.cpu())
        add(activations=torch.empty(0), image_id=read_dataset(file["image_id"]))  # a shard may have no images
