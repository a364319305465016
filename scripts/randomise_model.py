"""Compare one model's class activation maps with those of the same model as its layers are randomised."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from functools import partial

    import torch
    from unitlens import agreement, models, sanity, store, tables

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    model, normalise, _ = models.load_network(
        params.network, snakemake.input.weights, snakemake.input.model, device=params.device
    )
    device, rows = next(model.parameters()).device, params.sanity["photographs"]
    decoded, _ = store.concatenate(snakemake.input.images, rows=rows)
    arrays, facts = store.concatenate(snakemake.input.explanations, rows=rows)
    explain = partial(
        sanity.cam_maps,
        inputs=normalise(torch.as_tensor(decoded["images"]).to(device)),
        targets=torch.as_tensor(arrays["target"]).to(device),
        layer=params.layer,
        methods=params.sanity["cams"],
        chunk=snakemake.resources.batch_size,
    )
    images = agreement.image_table(arrays, facts)
    options = {"stages": params.sanity["stages"], "area": params.area, "seed": params.seed}
    table = sanity.check_randomisation(model, explain, images, **options)
    tables.write(table, snakemake.output[0])
