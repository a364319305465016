"""Score LIME with many settings on one shard of photographs."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import explain, models, store, tables, tune

    torch.set_num_threads(snakemake.threads)
    params, first = snakemake.params, slice(snakemake.params.photographs)
    model, normalise, _ = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    device, predict = next(model.parameters()).device, models.predictor(model, normalise)
    reference, facts = store.read(snakemake.input.saliency)
    with store.open(snakemake.input.images) as file:
        pictures, given = torch.as_tensor(file["images"][first]).to(device), explain.given_superpixels(file)
    targets, image_ids = torch.as_tensor(reference["target"][first]).to(device), list(reference["image_id"][first])
    shared = {"seed": params.seed, "batch_size": snakemake.resources.batch_size}
    maps = torch.as_tensor(reference["saliency"][first]).to(device)
    options = params.objective | {"explainer": facts["explainer"]}
    score = tune.make_score(predict, pictures, targets, image_ids, reference=maps, **options, **shared)
    swept = tune.all_settings(**params.settings)
    scores, seconds = tune.sweep(predict, pictures, targets, image_ids, swept, score, given=given, **shared)
    scores.insert(0, "model", snakemake.wildcards.model)
    scores.insert(2, "photograph", scores.image_id.map(dict(zip(image_ids, reference["photograph"], strict=False))))
    scores["objective"], scores["seed"] = tune.objective_text(**options), params.seed
    scores["explained_class"], scores["geometry"] = facts["explained_class"], facts["geometry"]
    tables.write(scores, snakemake.output.scores)
    tables.write(seconds, snakemake.output.timings, digits=4)
    print(f"{len(swept)} settings\n{seconds.to_string()}")
