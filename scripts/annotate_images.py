"""Write what share of each source image of a shard shows each annotated concept, in place of an encoder's features."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import numpy as np
    from unitlens.images import label_maps
    from unitlens.storage.arrays import create_arrays
    from unitlens.storage.shards import read_blocks, read_columns
    from unitlens.tables import unit_labels
    from unitlens.tables.netdissect import mask_words

    values = mask_words(**snakemake.params.words)["value"].to_numpy()
    columns, facts = read_columns(snakemake.input.images)
    blocks = read_blocks([snakemake.input.images], ("images", "label", "box", "mask"), 16)
    about = {"encoder": unit_labels.ANNOTATIONS, "geometry": facts["geometry"]}
    with create_arrays(snakemake.output[0], len(columns["image_id"]), about) as add:
        for block in blocks:
            add(features=label_maps.concept_features(block, values, source=snakemake.params.source))
        names = ("image_id", "source_image")
        add(features=np.empty((0, len(values) + 1), np.float32), **{name: columns[name] for name in names})
