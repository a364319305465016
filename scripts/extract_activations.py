"""Write one layer's pooled activations for one shard of probe source images, and where its units respond most."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs import progress
    from unitlens.networks import describe, hooks, layer_outputs, network
    from unitlens.storage import arrays
    from unitlens.storage.files import read_facts
    from unitlens.units import exemplars

    torch.set_num_threads(snakemake.threads)
    params, files, output = snakemake.params, snakemake.input, snakemake.output
    layer, kept = snakemake.wildcards.layer, None
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=[layer])
    pooling = describe.pooling_of(read_facts(files.layer), layer, params.pooling)
    facts = {**net.facts, "layer": layer, "pooling": pooling}
    with (
        arrays.open_arrays(files.images) as file,
        arrays.create_arrays(output.activations, len(file["images"]), facts) as add,
    ):
        facts["geometry"] = arrays.attributes_of(file)["geometry"]
        image_id, source_image = (arrays.read_dataset(file[name]) for name in ("image_id", "source_image"))
        sources = exemplars.number_sources(source_image)
        outputs = layer_outputs.extract(
            lambda images: hooks.run_to(net.model, layer, net.normalize(images)),
            arrays.read_batches(file["images"], snakemake.resources.batch_size),
            pooling=pooling,
        )
        for pooled, maps in progress.progress(outputs, len(image_id), "images", size=lambda each: len(each[0])):
            add(activations=pooled.cpu())
            kept = exemplars.keep(kept, pooled, maps, sources)
        add(activations=torch.empty(0), image_id=image_id)  # a shard may have no images
    arrays.write_arrays(output.maps, exemplars.as_arrays(kept, image_id), facts)
