"""Label every unit of one layer with the concept whose masks it overlaps most: Network Dissection."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.networks import network
    from unitlens.storage.shards import read_blocks, read_column
    from unitlens.storage.tables import write_table
    from unitlens.tables.netdissect import mask_words, tabulate
    from unitlens.units.netdissect import dissect

    torch.set_num_threads(snakemake.threads)
    params, wildcards, images = snakemake.params, snakemake.wildcards, snakemake.input.images
    net = network.load_network(params.network, snakemake.input.weights, snakemake.input.model, device=params.device)
    read = ("images", "label", "box", "mask")
    words, source = mask_words(**params.words), "masks" if "masks" in params.words else "boxes"
    source_images = read_column(images, "source_image")
    dissection = dissect(
        net.model,
        wildcards.layer,
        net.normalize,
        lambda: read_blocks(images, read, snakemake.resources.batch_size),
        values=words["value"].to_numpy(),
        categories=words["category"].to_numpy(),
        source=source,
        source_images=source_images,
        share=params.bars["share"],
        draws=params.bars["null_draws"],
        seed=params.seed,
    )
    table = tabulate(dissection, words, source_images, source=source, detector=params.bars["detector"])
    table.insert(0, "model", wildcards.model)
    table.insert(1, "layer", wildcards.layer)
    write_table(table, snakemake.output[0])
    print(table.sort_values("iou", ascending=False).head(20).to_string())
