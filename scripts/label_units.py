"""Label every unit of one layer with the concept that fits the photographs it responds to."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import dissect, store

    torch.set_num_threads(snakemake.threads)
    similarity, wildcards = snakemake.params.similarity, snakemake.wildcards
    activations, _ = store.read(snakemake.input.activations)
    images, image_facts = store.concatenate(snakemake.input.images)
    concepts, concept_facts = store.read(snakemake.input.concepts)
    table = dissect.label_table(
        activations,
        images,
        concepts,
        similarity=similarity,
        encoders=(image_facts["encoder"], concept_facts["encoder"]),
    )
    table.insert(0, "model", wildcards.model)
    table.insert(1, "layer", wildcards.layer)
    table.to_csv(snakemake.output[0], index=False, float_format="%.6g")
    print(table.concept.value_counts().head(10).to_string())
