"""Explain one shard of predictions with LIME."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import torch
    from unitlens import explain, models, store, tables

    torch.set_num_threads(snakemake.threads)
    params, batch_size = snakemake.params, snakemake.resources.batch_size
    model, normalise, facts = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    device = next(model.parameters()).device
    predict = models.predictor(model, normalise)
    options = params.lime | {"seed": params.seed, "batch_size": batch_size}
    with store.open(snakemake.input.images) as file:
        explainer = explain.lime_explainer(predict, given=explain.given_superpixels(file), **options)
        arrays, seconds = explain.explain_images(
            file, explainer, predict, target=params.target, batch_size=batch_size, device=device
        )
        facts |= {"explainer": "lime", "explained_class": str(params.target)}
        facts["geometry"] = store.attributes_of(file)["geometry"]
    store.create(snakemake.output.saliency, arrays, facts | {"lime": json.dumps(params.lime), "seed": params.seed})
    timing = explain.timing_table(facts, len(arrays["saliency"]), seconds, device)
    tables.write(timing, snakemake.output.timings)
