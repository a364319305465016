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
    predict, first = models.predictor(model, normalise), slice(params.verify["photographs"])
    with store.open(snakemake.input.images) as file:
        pictures = torch.as_tensor(file["images"][first]).to(next(model.parameters()).device)
        given = explain.given_superpixels(file)
        image_ids, labels = file["image_id"].asstr()[first], file["label"][first]
    targets = models.choose_targets(predict(pictures), labels, params.target, image_ids)
    options = {"name": facts["model"], "layer": params.layer, "cams": params.cams, "seed": params.seed}
    options |= {"lime_options": params.lime, "samples": params.verify["samples"], "given": given}
    options |= {"batch_size": snakemake.resources.batch_size}
    compared = verify.compare(model, normalise, pictures, targets, image_ids, **options)
    for table, path in zip(compared, (snakemake.output.differences, snakemake.output.timings), strict=True):
        tables.write(table, path)
        print(table.to_string(), end="\n\n")
