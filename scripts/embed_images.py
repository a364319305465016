"""Write the image features of one shard of probe source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs import progress
    from unitlens.networks import encoders
    from unitlens.storage.arrays import attributes_of, open_arrays, read_batches, read_dataset, write_arrays

    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    encoder = encoders.load(params.encoder, snakemake.input, device=params.device)
    with open_arrays(snakemake.input.images) as file:
        features = map(encoder.image, read_batches(file["images"], snakemake.resources.batch_size))
        parts = [part.cpu() for part in progress.progress(features, len(file["images"]), "images")]
        write_arrays(
            snakemake.output[0],
            {name: read_dataset(file[name]) for name in ("image_id", "source_image")}
            | {"features": torch.cat([torch.empty(0), *parts])},
            {"encoder": encoder.title, "geometry": attributes_of(file)["geometry"], "torch": torch.__version__},
        )
