"""Explain one shard of predictions with one class activation map."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.explainers import cam, run
    from unitlens.networks import network
    from unitlens.storage.arrays import attributes_of, open_arrays, write_arrays
    from unitlens.storage.tables import write_table
    from unitlens.tables import explanations

    torch.set_num_threads(snakemake.threads)
    params, files, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    layer, method, batch_size = wildcards.layer, wildcards.method, snakemake.resources.batch_size
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=[layer])
    with open_arrays(files.images) as file:
        arrays, seconds = run.explain_images(
            file,
            run.cam_explainer(net.model, layer, net.normalize, method=method, batch_size=batch_size),
            net.predict,
            target=params.target,
            batch_size=batch_size,
            device=net.device,
            model=net.facts["model"],
        )
        facts = net.facts | {"explainer": f"{method}-{layer}", "explained_class": str(params.target)}
        facts["geometry"] = attributes_of(file)["geometry"]
        facts["passes"] = cam.passes(net.model, layer, net.normalize(file["images"][:1]), method=method)
    write_arrays(snakemake.output.saliency, arrays, facts)
    timing = explanations.timing_table(facts, len(arrays["saliency"]), seconds, net.device)
    write_table(timing, snakemake.output.timings)
