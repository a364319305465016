"""Label what has a known name, and what has nothing to name, as the units of one model are labeled."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.jobs.sheets import class_names
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import concatenate
    from unitlens.storage.tables import write_table
    from unitlens.tables import word_controls

    torch.set_num_threads(snakemake.threads)
    params, files = snakemake.params, snakemake.input
    controls, _ = read_arrays(files.controls)
    images, image_facts = concatenate(files.features)
    concepts, concept_facts = read_arrays(files.concepts)
    table = word_controls.score(
        controls["outputs"],
        {layer: controls[f"shuffled.{layer}"] for layer in params.layers},
        controls["image_id"],
        images,
        concepts,
        read_arrays(files.classes)[0] if files.classes else None,
        class_names(params.classes) if params.classes else [],
        similarity=params.similarity,
        encoders=(image_facts["encoder"], concept_facts["encoder"]),
        seed=params.seed,
        **params.evidence,
    )
    table.insert(0, "model", snakemake.wildcards.model)
    write_table(table, snakemake.output[0])
    print(table.to_string())
