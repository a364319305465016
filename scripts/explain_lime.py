"""Explain one shard of predictions with LIME."""

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
    params, batch_size = snakemake.params, snakemake.resources.batch_size
    model, normalise, facts = network.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    device = next(model.parameters()).device
    predict = network.predictor(model, normalise)
    options = params.lime | {"seed": params.seed, "batch_size": batch_size}
    with open_arrays(snakemake.input.images) as file:
        explainer = run.lime_explainer(predict, given=segment.given_superpixels(file), **options)
        arrays, seconds = run.explain_images(
            file, explainer, predict, target=params.target, batch_size=batch_size, device=device
        )
        facts |= {"explainer": "lime", "explained_class": str(params.target)}
        facts["geometry"] = attributes_of(file)["geometry"]
    write_arrays(snakemake.output.saliency, arrays, facts | {"lime": json.dumps(params.lime), "seed": params.seed})
    timing = explanations.timing_table(facts, len(arrays["saliency"]), seconds, device)
    write_table(timing, snakemake.output.timings)
