"""Explain one shard of predictions with one class activation map."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import cam, explain, models, store, tables

    torch.set_num_threads(snakemake.threads)
    params, wildcards = snakemake.params, snakemake.wildcards
    model, normalise, facts = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    device = next(model.parameters()).device
    layer, method, batch_size = wildcards.layer, wildcards.method, snakemake.resources.batch_size
    with store.open(snakemake.input.images) as file:
        arrays, seconds = explain.explain_images(
            file,
            explain.cam_explainer(model, layer, normalise, method=method, batch_size=batch_size),
            models.predictor(model, normalise),
            target=params.target,
            batch_size=batch_size,
            device=device,
        )
        facts |= {"explainer": f"{method}-{layer}", "explained_class": str(params.target)}
        facts["geometry"] = store.attributes_of(file)["geometry"]
        facts["passes"] = cam.passes(model, layer, normalise(file["images"][:1]), method=method)
    store.create(snakemake.output.saliency, arrays, facts)
    timing = explain.timing_table(facts, len(arrays["saliency"]), seconds, device)
    tables.write(timing, snakemake.output.timings)
