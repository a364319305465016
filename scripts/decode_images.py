"""Decode one shard of source images to uint8 arrays in one geometry."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import numpy as np
    from unitlens.images import datasets, decode, label_maps
    from unitlens.jobs.sheets import label_columns, read_label, read_rows
    from unitlens.storage.arrays import create_arrays
    from unitlens.storage.kept import check_source_images, source_images

    params, facts = snakemake.params, {"geometry": snakemake.wildcards.geometry}
    sheet = snakemake.config["images"][snakemake.wildcards.dataset].get("sheet", snakemake.input.retrieved)
    rows = read_rows(sheet, *params.rows)
    folder, hashes = source_images(snakemake.input.facts), datasets.hashes(snakemake.input.retrieved)
    used = [name for row in rows for name in datasets.files(row)]
    check_source_images(snakemake.input.facts, {name: hashes.get(name, "") for name in used})
    labels, base = label_columns(rows[0]), params.label_base
    place, policy, found, without = (folder, params.geometry), {"on_bad_image": params.on_bad_image}, decode.Found(), []
    with decode.pixel_limit(params.max_pixels), create_arrays(snakemake.output[0], len(rows), facts) as add:
        for images in decode.decode_blocks(rows, *place, found, bits=params.bits, **policy):
            add(images=images)
        rows = [rows[index] for index in found.kept]
        for truth in label_maps.read_label_map_blocks(rows, *place, without, **policy):
            add(**truth)
        paths = [row["path"] for row in rows]
        add(
            image_id=np.array([row["image_id"] for row in rows], dtype=str),
            source_image=np.array(datasets.source_images(snakemake.input.retrieved, paths), dtype=str),
            **{name: np.array([read_label(row, name, base) for row in rows], np.int64) for name in labels},
        )
        facts |= {"skipped": json.dumps(found.problems + without), "remarks": json.dumps(found.remarks())}
    print(f"{len(rows)} source images decoded, {len(found.problems)} skipped", *found.problems, *without, sep="\n")
