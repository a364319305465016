"""Write where in its top photographs every unit of one layer responds."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import models, store, unit_maps

    torch.set_num_threads(snakemake.threads)
    params, layer, images = snakemake.params, snakemake.wildcards.layer, snakemake.input.images
    model, normalise, facts = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    image_id, photograph = (store.column(images, name) for name in ("image_id", "photograph"))
    arrays, about = store.concatenate(snakemake.input.activations)
    top = unit_maps.top_photographs(arrays["activations"], arrays["image_id"], image_id, photograph)
    pictures, batch_size = store.picking(images, "images"), snakemake.resources.batch_size
    maps = unit_maps.activation_maps(model, layer, top["row"], pictures, normalise, batch_size=batch_size)
    facts |= {"layer": layer, "geometry": about["geometry"]}
    store.create(snakemake.output[0], top | maps, facts)
