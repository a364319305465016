"""Write the text features of the concepts."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.networks import encoders
    from unitlens.storage.arrays import write_arrays
    from unitlens.storage.tables import read_table

    torch.set_num_threads(snakemake.threads)
    encoder = encoders.load(snakemake.params.encoder, snakemake.input, device=snakemake.params.device)
    concepts = read_table(snakemake.input.concepts)
    write_arrays(
        snakemake.output[0],
        {
            "features": encoder.text(concepts.word.tolist()).cpu(),
            "word": concepts.word.to_numpy(object),
            "category": concepts.category.to_numpy(object),
        },
        {"encoder": encoder.title, "torch": torch.__version__},
    )
