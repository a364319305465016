"""Label every unit of one layer by the images it responds to, weigh the evidence, and gather where it responds."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.report import concept_findings
    from unitlens.storage.arrays import read_arrays, write_arrays
    from unitlens.storage.shards import concatenate
    from unitlens.storage.tables import write_table
    from unitlens.tables import labeling, linear_labels
    from unitlens.units import exemplars

    torch.set_num_threads(snakemake.threads)
    params, wildcards = snakemake.params, snakemake.wildcards
    activations, _ = concatenate(snakemake.input.activations)
    images, image_facts = concatenate(snakemake.input.images)
    concepts, concept_facts = read_arrays(snakemake.input.concepts)
    table = labeling.label_table(
        activations,
        images,
        concepts,
        similarity=params.similarity,
        encoders=(image_facts["encoder"], concept_facts["encoder"]),
        seed=params.seed,
        annotated=labeling.read_annotated(snakemake.input.annotations, snakemake.input.annotated),
        **params.evidence,
    )
    linear = linear_labels.linear_table(activations, images, concepts, table, seed=params.seed)
    for each, path in ((table, snakemake.output.table), (linear, snakemake.output.linear)):
        each.insert(0, "model", wildcards.model)
        each.insert(1, "layer", wildcards.layer)
        write_table(each, path)
    print(*concept_findings.evidence_findings(table), table.status.value_counts().to_string(), sep="\n")
    ids = (activations["image_id"], images["image_id"], images["source_image"])
    shards = list(map(read_arrays, snakemake.input.maps))
    maps = exemplars.with_maps(
        exemplars.top_source_images(activations["activations"], *ids), (own for own, _ in shards)
    )
    write_arrays(snakemake.output.maps, maps, shards[0][1])
