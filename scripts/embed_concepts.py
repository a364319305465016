"""Write the text features of the concepts."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    import torch
    from unitlens import encoders, store

    torch.set_num_threads(snakemake.threads)
    encoder = encoders.load(snakemake.params.encoder, snakemake.input, device=snakemake.params.device)
    concepts = pd.read_csv(snakemake.input.concepts, keep_default_na=False)
    store.create(
        snakemake.output[0],
        {
            "features": encoder.text(concepts.word.tolist()).cpu(),
            "word": concepts.word.to_numpy(object),
            "category": concepts.category.to_numpy(object),
        },
        {"encoder": encoder.title, "torch": torch.__version__},
    )
