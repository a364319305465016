"""Label every unit of one layer with the concept whose masks it overlaps most: Network Dissection."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.measures import word_controls
    from unitlens.networks import describe, hooks, layer_outputs
    from unitlens.storage import arrays, shards
    from unitlens.storage.files import read_facts
    from unitlens.storage.tables import write_table
    from unitlens.tables.netdissect import mask_words, with_control
    from unitlens.units import exemplars, netdissect

    torch.set_num_threads(snakemake.threads)
    params, layer, images = snakemake.params, snakemake.wildcards.layer, snakemake.input.images
    given = {"device": params.device, "layers": [layer], "seed": params.draws["seed"]}
    net, shuffled = word_controls.load(params.network, snakemake.input.weights, snakemake.input.model, **given)
    forward = layer_outputs.remembering(lambda batch: hooks.run_to(net.model, layer, net.normalize(batch)))
    image_id, source_image = (shards.read_column(images, name) for name in ("image_id", "source_image"))
    words, source = mask_words(**params.words), "masks" if "masks" in params.words else "boxes"
    dissection = netdissect.dissect(
        word_controls.beside_shuffled(net, shuffled, layer, forward, seed=params.draws["seed"]),
        lambda names: shards.read_blocks(images, names, snakemake.resources.batch_size),
        **{name: words[column].to_numpy() for name, column in (("values", "value"), ("categories", "category"))},
        source=source,
        source_images=source_image,
        **params.draws,
    )
    table = with_control(dissection, words, source_image, source=source, detector=params.detector)
    table.insert(0, "model", snakemake.wildcards.model)
    table.insert(1, "layer", layer)
    write_table(table, snakemake.output[0])
    print(table.sort_values("iou", ascending=False).head(20).to_string())
    for path in snakemake.output[1:]:  # maps of images that units are not labeled with
        pooling = describe.pooling_of(read_facts(snakemake.input.layer), layer, params.pooling)
        batches = shards.read_blocks(images, ["images"], snakemake.resources.batch_size)
        top = exemplars.top_maps(forward, batches, image_id, source_image, pooling=pooling)
        about = {"layer": layer, "pooling": pooling, "geometry": shards.read_columns(images[0])[1]["geometry"]}
        arrays.write_arrays(path, top, net.facts | about)
