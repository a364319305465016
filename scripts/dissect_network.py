"""Label every unit of one layer with the concept whose masks it overlaps most: Network Dissection."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import models, netdissect, store, tables

    torch.set_num_threads(snakemake.threads)
    params, wildcards, images = snakemake.params, snakemake.wildcards, snakemake.input.images
    model, normalise, _ = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    read = ("images", "label", "box", "mask")
    table = netdissect.dissect(
        model,
        wildcards.layer,
        normalise,
        lambda: store.blocks(images, read, snakemake.resources.batch_size),
        words=models.mask_words(**params.words),
        source=next(iter(params.words)),
        photographs=store.column(images, "photograph"),
        **params.bars,
    )
    table.insert(0, "model", wildcards.model)
    table.insert(1, "layer", wildcards.layer)
    tables.write(table, snakemake.output[0])
    print(table.sort_values("iou", ascending=False).head(20).to_string())
