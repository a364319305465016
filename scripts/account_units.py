"""Account for one shard of predictions by the units of one layer."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.explainers import run
    from unitlens.networks import network
    from unitlens.storage.arrays import attributes_of, open_arrays, write_arrays

    torch.set_num_threads(snakemake.threads)
    params, files, batch_size = snakemake.params, snakemake.input, snakemake.resources.batch_size
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=[params.layer])
    explainer = run.account_explainer(net.model, params.layer, net.normalize, batch_size=batch_size)
    options = {"target": params.target, "batch_size": batch_size, "device": net.device, "model": net.facts["model"]}
    with open_arrays(files.images) as file:
        arrays, _ = run.explain_images(file, explainer, net.predict, **options)
        facts = net.facts | {"layer": params.layer, "explained_class": str(params.target)}
        facts["geometry"] = attributes_of(file)["geometry"]
    arrays.pop("saliency", None)  # of a shard whose images were all skipped
    write_arrays(snakemake.output[0], arrays, facts)
