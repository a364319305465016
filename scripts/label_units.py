"""Label every unit of one layer with the concept that fits the photographs it responds to, and weigh the evidence."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import evidence, store, tables

    torch.set_num_threads(snakemake.threads)
    params, wildcards = snakemake.params, snakemake.wildcards
    activations, _ = store.concatenate(snakemake.input.activations)
    images, image_facts = store.concatenate(snakemake.input.images)
    concepts, concept_facts = store.read(snakemake.input.concepts)
    table = evidence.label_table(
        activations,
        images,
        concepts,
        similarity=params.similarity,
        encoders=(image_facts["encoder"], concept_facts["encoder"]),
        seed=params.seed,
        **params.evidence,
    )
    table.insert(0, "model", wildcards.model)
    table.insert(1, "layer", wildcards.layer)
    tables.write(table, snakemake.output[0])
    print(*evidence.findings(table, seed=params.seed), table.group.value_counts().head(10).to_string(), sep="\n")
