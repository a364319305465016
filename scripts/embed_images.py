"""Write the image features of one shard of probe photographs."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import encoders, logs, store

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    encoder = encoders.load(params.encoder, snakemake.input, device=params.device)
    with store.open(snakemake.input.images) as file:
        features = map(encoder.image, store.batches(file["images"], snakemake.resources.batch_size))
        parts = [part.cpu() for part in logs.progress(features, len(file["images"]), "images")]
        store.create(
            snakemake.output[0],
            {name: file[name].asstr()[:] for name in ("image_id", "photograph")}
            | {"features": torch.cat([torch.empty(0), *parts])},
            {"encoder": encoder.title, "geometry": store.attributes_of(file)["geometry"], "torch": torch.__version__},
        )
