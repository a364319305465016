"""Write the text features of the concepts."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import encoders, store, tables

    torch.set_num_threads(snakemake.threads)
    encoder = encoders.load(snakemake.params.encoder, snakemake.input, device=snakemake.params.device)
    concepts = tables.read(snakemake.input.concepts)
    store.create(
        snakemake.output[0],
        {
            "features": encoder.text(concepts.word.tolist()).cpu(),
            "word": concepts.word.to_numpy(object),
            "category": concepts.category.to_numpy(object),
        },
        {"encoder": encoder.title, "torch": torch.__version__},
    )
