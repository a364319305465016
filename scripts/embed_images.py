"""Write the image features of one shard of probe source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs import progress
    from unitlens.networks import encoders
    from unitlens.storage.arrays import attributes_of, create_arrays, open_arrays, read_batches, read_dataset

    torch.set_num_threads(snakemake.threads)
    params, output = snakemake.params, snakemake.output[0]
    encoder = encoders.load(params.encoder, snakemake.input, device=params.device)
    facts = {"encoder": encoder.title, "torch": torch.__version__}
    with open_arrays(snakemake.input.images) as file, create_arrays(output, len(file["images"]), facts) as add:
        facts["geometry"] = attributes_of(file)["geometry"]
        features = map(encoder.image, read_batches(file["images"], snakemake.resources.batch_size))
        for part in progress.progress(features, len(file["images"]), "images"):
            add(features=part.cpu())
        add(features=torch.empty(0), **{name: read_dataset(file[name]) for name in ("image_id", "source_image")})
