"""Write one line for each source image, read from all shards as one."""

from unitlens.jobs.logs import log_to
from unitlens.storage.shards import concatenate

with log_to(snakemake.log[0]):
    from pathlib import Path

    with Path("executed.txt").open("a") as file:
        file.write("write_table all\n")
    arrays, _ = concatenate(snakemake.input)
    lines = [
        f"{name},{image.sum()},{noise.sum()}\n"
        for name, image, noise in zip(*(arrays[key] for key in ("image_id", "images", "noise")), strict=True)
    ]
    Path(snakemake.output[0]).write_text("image_id,sum,noise\n" + "".join(lines))
