"""Decode one shard of photographs to uint8 arrays in one geometry."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import numpy as np
    from unitlens.images import decode, label_maps
    from unitlens.jobs.sheets import read_rows
    from unitlens.storage.arrays import write_arrays

    rows = read_rows(snakemake.input.sheet, *snakemake.params.rows)
    pictures, kept, problems = decode.decode_images(
        rows, snakemake.params.folder, snakemake.params.geometry, on_bad_image=snakemake.params.on_bad_image
    )
    rows = [rows[index] for index in kept]
    truth, without = label_maps.ground_truth(
        rows, snakemake.params.folder, snakemake.params.geometry, on_bad_image=snakemake.params.on_bad_image
    )
    write_arrays(
        snakemake.output[0],
        {
            "images": pictures,
            "image_id": np.array([row["image_id"] for row in rows], dtype=str),
            "photograph": np.array([row["path"] for row in rows], dtype=str),
            "label": np.array([int(row["label"] or -1) for row in rows], dtype=np.int64),
            **truth,
        },
        {"geometry": snakemake.wildcards.geometry, "skipped": json.dumps(problems + without)},
    )
    print(f"{len(rows)} photographs decoded, {len(problems)} skipped", *problems, *without, sep="\n")
