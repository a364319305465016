"""Score how faithful every explainer of one model is, on one shard of source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.explainers import items, run
    from unitlens.measures import perturbation
    from unitlens.networks import network
    from unitlens.storage.arrays import read_arrays, write_arrays
    from unitlens.storage.tables import write_table
    from unitlens.tables import faithfulness

    torch.set_num_threads(snakemake.threads)
    params, files = snakemake.params, snakemake.input
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=())
    explained = run.by_explainer(map(read_arrays, files.saliency))
    explanations = {name: arrays for name, (arrays, _) in explained.items()}
    facts = next(facts for _, facts in explained.values())
    images, _ = read_arrays(files.images)
    table, curves = faithfulness.score_shard(
        net.predict,
        explanations,
        images["images"],
        plan=perturbation.Plan(**params.faithfulness),
        seeds=items.stream_seeds(params.seed, "faithfulness", images["image_id"]),
        control_seeds=items.stream_seeds(params.seed, "random", images["image_id"]),
        batch_size=snakemake.resources.batch_size,
        device=net.device,
    )
    about = {name: facts[name] for name in ("model", "geometry", "explained_class")}
    table = table.assign(**about)[[*about, *table]]
    write_table(table, snakemake.output.scores)
    write_arrays(snakemake.output.curves, curves, about | {"percentiles": params.faithfulness["percentiles"]})
