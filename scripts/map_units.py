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
    with store.open(snakemake.input.activations) as file, store.picking(images, "images") as pictures:
        top = unit_maps.top_photographs(file["activations"], file["image_id"].asstr()[:], image_id, photograph)
        maps = unit_maps.activation_maps(
            model, layer, top["row"], pictures, normalise, batch_size=snakemake.resources.batch_size
        )
        facts |= {"layer": layer, "geometry": file.attrs["geometry"]}
        store.create(snakemake.output[0], top | maps, facts)
