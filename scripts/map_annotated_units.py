"""Write where in its top images of the annotated set every unit of one layer responds."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs.progress import progress
    from unitlens.networks import describe, hooks, layer_outputs, network
    from unitlens.storage.arrays import write_arrays
    from unitlens.storage.files import read_facts
    from unitlens.storage.shards import picking, read_blocks, read_column, read_columns
    from unitlens.units import exemplars

    torch.set_num_threads(snakemake.threads)
    params, layer, images = snakemake.params, snakemake.wildcards.layer, snakemake.input.images
    net = network.load_network(params.network, snakemake.input.weights, snakemake.input.model, device=params.device)
    pooling = describe.pooling_of(read_facts(snakemake.input.layer), layer, params.pooling)
    image_id, source_image = (read_column(images, name) for name in ("image_id", "source_image"))
    batch_size = snakemake.resources.batch_size
    blocks = read_blocks(images, ["images"], batch_size)
    pooled = layer_outputs.extract(
        lambda batch: hooks.run_to(net.model, layer, net.normalize(batch)),
        (block["images"] for block in blocks),
        pooling=pooling,
    )
    activations = torch.cat([part.cpu() for part in progress(pooled, len(image_id), "images")]).numpy()
    top = exemplars.top_source_images(activations, image_id, image_id, source_image)
    pixels = picking(images, "images")
    maps = exemplars.activation_maps(net.model, layer, top["row"], pixels, net.normalize, batch_size=batch_size)
    facts = net.facts | {"layer": layer, "geometry": read_columns(images[0])[1]["geometry"]}
    write_arrays(snakemake.output[0], top | maps, facts)
