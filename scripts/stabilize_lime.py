"""Draw LIME's samples with several seeds, and compare its explanations by the number of samples."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.explainers.lime_samples import kept, used_by_auto
    from unitlens.measures.sanity import draw
    from unitlens.networks import network
    from unitlens.storage.shards import concatenate
    from unitlens.storage.tables import write_table
    from unitlens.tables import summaries
    from unitlens.tables.sanity import check_stability

    torch.set_num_threads(snakemake.threads)
    params, files, lime = snakemake.params, snakemake.input, snakemake.params.lime
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=())
    rows = params.sanity["n_images"]
    decoded, _ = concatenate(files.images, rows=rows)
    arrays, facts = concatenate(files.explanations, rows=rows)
    pixels = torch.as_tensor(decoded["images"]).to(net.device)
    segments, targets = (torch.as_tensor(arrays[name]).to(net.device) for name in ("segments", "target"))
    images, own = summaries.image_table(arrays, facts), used_by_auto(arrays, lime["n_samples"])
    samples, without = draw(
        net.predict,
        *(pixels, segments, targets, images["image_id"].tolist()),
        repeats=params.sanity["seeds"],
        n_samples=max([*params.counts, *own]),
        hide=lime["hide"],
        design=lime["design"],
        batch_size=snakemake.resources.batch_size,
        seed=params.seed,
        known=kept(arrays, net.device),
    )
    options = {"counts": params.counts, "own": own, "top": lime["num_features"], "area": params.area, "options": lime}
    write_table(
        check_stability(samples, segments, images, seed=params.seed, without=without, **options), snakemake.output[0]
    )
