"""Write one layer's pooled activations for one shard of probe source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs import progress
    from unitlens.networks import describe, hooks, layer_outputs, network
    from unitlens.storage.arrays import attributes_of, open_arrays, read_batches, read_dataset, write_arrays

    torch.set_num_threads(snakemake.threads)
    params, layer = snakemake.params, snakemake.wildcards.layer
    net = network.load_network(params.network, snakemake.input.weights, snakemake.input.model, device=params.device)
    pooling = describe.pooling_of(network.read_facts(snakemake.input.layer), layer, params.pooling)
    with open_arrays(snakemake.input.images) as file:
        pooled = layer_outputs.extract(
            lambda images: hooks.run_to(net.model, layer, net.normalize(images)),
            read_batches(file["images"], snakemake.resources.batch_size),
            pooling=pooling,
        )
        parts = [part.cpu() for part in progress.progress(pooled, len(file["images"]), "images")]
        write_arrays(
            snakemake.output[0],
            {"activations": torch.cat([torch.empty(0), *parts]), "image_id": read_dataset(file["image_id"])},
            {**net.facts, "layer": layer, "pooling": pooling, "geometry": attributes_of(file)["geometry"]},
        )
