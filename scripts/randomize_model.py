"""Compare one model's class activation maps with those of the same model as its layers are randomized."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from functools import partial

    import torch
    from unitlens.measures.sanity import cam_maps
    from unitlens.networks import network
    from unitlens.storage.shards import concatenate
    from unitlens.storage.tables import write_table
    from unitlens.tables import summaries
    from unitlens.tables.sanity import check_randomization

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    net = network.load_network(params.network, snakemake.input.weights, snakemake.input.model, device=params.device)
    rows = params.sanity["n_images"]
    decoded, _ = concatenate(snakemake.input.images, rows=rows)
    arrays, facts = concatenate(snakemake.input.explanations, rows=rows)
    explain = partial(
        cam_maps,
        inputs=net.normalize(torch.as_tensor(decoded["images"])),
        targets=torch.as_tensor(arrays["target"]).to(net.device),
        layer=params.layer,
        methods=params.sanity["cams"],
        chunk=snakemake.resources.batch_size,
    )
    images = summaries.image_table(arrays, facts)
    options = {"stages": params.sanity["stages"], "area": params.area, "seed": params.seed}
    table = check_randomization(net.model, explain, images, **options)
    write_table(table, snakemake.output[0])
