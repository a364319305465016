"""Decode one shard of photographs to uint8 arrays in one geometry."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import numpy as np
    from unitlens import images, store

    rows = images.read_rows(snakemake.input.sheet, *snakemake.params.rows)
    pictures, kept, problems = images.decode(
        rows, snakemake.params.folder, snakemake.params.geometry, on_bad_image=snakemake.params.on_bad_image
    )
    rows = [rows[index] for index in kept]
    truth, without = images.ground_truth(
        rows, snakemake.params.folder, snakemake.params.geometry, on_bad_image=snakemake.params.on_bad_image
    )
    store.create(
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
