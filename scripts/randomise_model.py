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
    device, first = next(model.parameters()).device, slice(params.sanity["photographs"])
    arrays, facts = store.read(snakemake.input.explanations)
    with store.open(snakemake.input.images) as file:
        pictures = torch.as_tensor(file["images"][first]).to(device)
    explain = partial(
        sanity.cam_maps,
        inputs=normalise(pictures),
        targets=torch.as_tensor(arrays["target"][first]).to(device),
        layer=params.layer,
        methods=params.sanity["cams"],
        chunk=snakemake.resources.batch_size,
    )
    images = agreement.image_table(arrays, facts)[first]
    options = {"stages": params.sanity["stages"], "area": params.area, "seed": params.seed}
    table = sanity.check_randomisation(model, explain, images, **options)
    tables.write(table, snakemake.output[0])
