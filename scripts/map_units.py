"""Write where in its top source images every unit of one layer responds."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.networks import network
    from unitlens.storage.arrays import write_arrays
    from unitlens.storage.shards import concatenate, picking, read_column
    from unitlens.units import exemplars

    torch.set_num_threads(snakemake.threads)
    params, layer, images = snakemake.params, snakemake.wildcards.layer, snakemake.input.images
    net = network.load_network(params.network, snakemake.input.weights, snakemake.input.model, device=params.device)
    image_id, source_image = (read_column(images, name) for name in ("image_id", "source_image"))
    arrays, about = concatenate(snakemake.input.activations)
    top = exemplars.top_source_images(arrays["activations"], arrays["image_id"], image_id, source_image)
    pixels, batch_size = picking(images, "images"), snakemake.resources.batch_size
    maps = exemplars.activation_maps(net.model, layer, top["row"], pixels, net.normalize, batch_size=batch_size)
    facts = net.facts | {"layer": layer, "geometry": about["geometry"]}
    write_arrays(snakemake.output[0], top | maps, facts)
