"""Compare one model's explainers with the reference packages on a few source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    import torch
    from unitlens.explainers import run, segment
    from unitlens.jobs.sheets import label_column
    from unitlens.measures import reference_checks
    from unitlens.networks import network
    from unitlens.storage.shards import concatenate
    from unitlens.storage.tables import write_table

    torch.set_num_threads(snakemake.threads)
    params, files = snakemake.params, snakemake.input
    settings = params.network | {"precision": "float32"}
    net = network.load_network(settings, files.weights, files.model, device=params.device, layers=[params.layer])
    decoded, _ = concatenate(files.images, rows=params.verify["n_images"])
    images = torch.as_tensor(decoded["images"]).to(net.device)
    image_ids, given = decoded["image_id"], segment.given_superpixels(decoded)
    labels = decoded[label_column(net.facts["model"], decoded)]
    targets = run.choose_targets(net.predict(images), labels, params.target, image_ids)
    options = {"name": net.facts["model"], "layer": params.layer, "cams": params.cams, "seed": params.seed}
    options |= {"lime_options": params.lime, "samples": params.verify["samples"], "given": given}
    options |= {"batch_size": snakemake.resources.batch_size}
    compared = reference_checks.compare(net.model, net.normalize, images, targets, image_ids, **options)
    for rows, path in zip(compared, (snakemake.output.differences, snakemake.output.timings), strict=True):
        table = pd.DataFrame(rows)
        write_table(table, path)
        print(table.to_string(), end="\n\n")
