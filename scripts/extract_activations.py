"""Write one layer's pooled activations for one shard of probe photographs."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import activations, hooks, logs, models, store

    torch.set_num_threads(snakemake.threads)
    params, layer = snakemake.params, snakemake.wildcards.layer
    model, normalise, facts = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    with store.open(snakemake.input.images) as file:
        pooled = activations.extract(
            lambda images: hooks.run_to(model, layer, normalise(images)),
            store.batches(file["images"], snakemake.resources.batch_size),
            pooling=params.pooling,
        )
        parts = [part.cpu() for part in logs.progress(pooled, len(file["images"]), "images")]
        store.create(
            snakemake.output[0],
            {"activations": torch.cat([torch.empty(0), *parts]), "image_id": file["image_id"].asstr()[:]},
            {**facts, "layer": layer, "pooling": params.pooling, "geometry": store.attributes_of(file)["geometry"]},
        )
