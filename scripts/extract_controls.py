"""Give all probe images to one network for the controls of its words: its outputs, and layers with shuffled weights."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.measures import word_controls
    from unitlens.networks import describe
    from unitlens.storage.arrays import write_arrays
    from unitlens.storage.files import read_all_facts
    from unitlens.storage.shards import read_blocks, read_column

    torch.set_num_threads(snakemake.threads)
    params, files = snakemake.params, snakemake.input
    given = {name: getattr(params, name) for name in ("device", "layers", "seed")}
    net, shuffled = word_controls.load(params.network, files.weights, files.model, **given)
    (facts,) = read_all_facts([files.model], files.layer_facts)
    poolings = {layer: describe.pooling_of(facts, layer, params.pooling) for layer in params.layers}
    batches = (block["images"] for block in read_blocks(files.images, ["images"], snakemake.resources.batch_size))
    scores, layers = word_controls.outputs(net, shuffled, batches, poolings=poolings)
    arrays = {"image_id": read_column(files.images, "image_id"), "outputs": scores.numpy()}
    arrays |= {f"shuffled.{layer}": values.numpy() for layer, values in layers.items()}
    write_arrays(snakemake.output[0], arrays, net.facts)
