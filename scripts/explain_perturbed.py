"""Explain one shard of predictions by those of perturbed images, as LIME does."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import torch
    from unitlens.explainers import run, segment
    from unitlens.networks import network
    from unitlens.storage.arrays import attributes_of, open_arrays, write_arrays
    from unitlens.storage.tables import write_table
    from unitlens.tables import explanations

    torch.set_num_threads(snakemake.threads)
    params, files = snakemake.params, snakemake.input
    name, batch_size = snakemake.wildcards.explainer, snakemake.resources.batch_size
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=())
    options = params.options | {"seed": params.seed, "batch_size": batch_size}
    with open_arrays(files.images) as file:
        explainer = run.PERTURBING[name](net.predict, given=segment.given_superpixels(file), **options)
        options = {"target": params.target, "batch_size": batch_size, "device": net.device, "model": net.facts["model"]}
        arrays, seconds = run.explain_images(file, explainer, net.predict, **options)
        facts = net.facts | {"explainer": name, "explained_class": str(params.target)}
        facts["geometry"] = attributes_of(file)["geometry"]
    write_arrays(snakemake.output.saliency, arrays, facts | {name: json.dumps(params.options), "seed": params.seed})
    timing = explanations.timing_table(facts, len(arrays["saliency"]), seconds, net.device)
    write_table(timing, snakemake.output.timings)
