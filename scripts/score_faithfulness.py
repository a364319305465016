"""Score how faithful every explainer of one model is, on one shard of photographs."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import explain, faithfulness, models, seeds, store, tables

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    model, normalise, _ = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    files = explain.by_explainer(map(store.read, snakemake.input.saliency))
    explanations = {name: arrays for name, (arrays, _) in files.items()}
    facts = next(facts for _, facts in files.values())
    pictures, _ = store.read(snakemake.input.images)
    table, curves = faithfulness.score_shard(
        models.predictor(model, normalise),
        explanations,
        pictures["images"],
        plan=faithfulness.Plan(**params.faithfulness),
        seeds=seeds.stream_seeds(params.seed, "faithfulness", pictures["image_id"]),
        floor_seeds=seeds.stream_seeds(params.seed, "random", pictures["image_id"]),
        batch_size=snakemake.resources.batch_size,
        device=next(model.parameters()).device,
    )
    about = {name: facts[name] for name in ("model", "geometry", "explained_class")}
    table = table.assign(**about)[[*about, *table]]
    tables.write(table, snakemake.output.scores)
    store.create(snakemake.output.curves, curves, about | {"percentiles": params.faithfulness["percentiles"]})
