"""Compare one model's explainers with the reference packages on a few photographs."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import explain, models, store, tables, verify

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    model, normalise, facts = models.load_network(
        params.network | {"precision": "float32"}, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    predict = models.predictor(model, normalise)
    decoded, _ = store.concatenate(snakemake.input.images, rows=params.verify["photographs"])
    pictures = torch.as_tensor(decoded["images"]).to(next(model.parameters()).device)
    image_ids, given = decoded["image_id"], explain.given_superpixels(decoded)
    targets = models.choose_targets(predict(pictures), decoded["label"], params.target, image_ids)
    options = {"name": facts["model"], "layer": params.layer, "cams": params.cams, "seed": params.seed}
    options |= {"lime_options": params.lime, "samples": params.verify["samples"], "given": given}
    options |= {"batch_size": snakemake.resources.batch_size}
    compared = verify.compare(model, normalise, pictures, targets, image_ids, **options)
    for table, path in zip(compared, (snakemake.output.differences, snakemake.output.timings), strict=True):
        tables.write(table, path)
        print(table.to_string(), end="\n\n")
