"""Score LIME with many settings on one shard of source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import pandas as pd
    import torch
    from unitlens.explainers import lime_samples, segment
    from unitlens.measures import lime_sweep
    from unitlens.networks import network
    from unitlens.report.text import objective_text
    from unitlens.storage.arrays import open_arrays, read_arrays
    from unitlens.storage.tables import write_table

    torch.set_num_threads(snakemake.threads)
    params, files, first = snakemake.params, snakemake.input, slice(snakemake.params.n_images)
    net = network.load_network(params.network, files.weights, files.model, device=params.device, layers=())
    (reference, facts), (explained, own) = map(read_arrays, (files.saliency, files.lime))
    with open_arrays(files.images) as file:
        images, given = torch.as_tensor(file["images"][first]).to(net.device), segment.given_superpixels(file)
    targets, image_ids = torch.as_tensor(reference["target"][first]).to(net.device), list(reference["image_id"][first])
    shared = {"seed": params.seed, "batch_size": snakemake.resources.batch_size}
    drawn = {"given": given, "design": params.settings["default"]["design"]}
    maps = torch.as_tensor(reference["saliency"][first]).to(net.device)
    options = params.objective | {"explainer": facts["explainer"]}
    score = lime_sweep.make_score(net.predict, images, targets, image_ids, reference=maps, **options, **shared)
    swept = lime_sweep.all_settings(**params.settings)
    kept = lime_samples.kept(explained, net.device)
    drawn["known"] = kept and (lime_sweep.complete(json.loads(own["lime"])), kept[first])
    swept_columns = lime_sweep.sweep(net.predict, images, targets, image_ids, swept, score, **drawn, **shared)
    scores, seconds = map(pd.DataFrame, swept_columns)
    scores.insert(0, "model", snakemake.wildcards.model)
    scores.insert(2, "source_image", scores.image_id.map(dict(zip(image_ids, reference["source_image"], strict=False))))
    scores["objective"], scores["seed"] = objective_text(**options), params.seed
    scores["explained_class"], scores["geometry"] = facts["explained_class"], facts["geometry"]
    write_table(scores, snakemake.output.scores)
    write_table(seconds, snakemake.output.timings, digits=4)
    print(f"{len(swept)} settings\n{seconds.to_string()}")
