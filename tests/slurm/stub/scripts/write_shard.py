"""Decode a shard of source images and write it; what a file `faults/<shard>` says goes wrong in mid-write.

`pause` waits as long as the file is there, `linger` a second; `slow` needs more time than at the first attempt, `large`
more memory.
"""

from unitlens.images import decode
from unitlens.jobs.logs import log_to
from unitlens.jobs.sheets import read_rows
from unitlens.storage.arrays import write_arrays

with log_to(snakemake.log[0]):
    import time
    from pathlib import Path

    import h5py
    import numpy as np

    shard = snakemake.wildcards.shard
    with Path("executed.txt").open("a") as file:
        file.write(f"write_shard {shard}\n")
    fault = Path("faults", shard)
    create_dataset = h5py.Group.create_dataset

    def interrupted(group, name, **options):
        """Write the second dataset only after the fault."""
        if name == "noise" and fault.exists():
            fault.with_suffix(".reached").touch()
            match fault.read_text():
                case "pause":
                    while fault.exists():
                        time.sleep(0.1)
                case "linger":
                    time.sleep(1)
                case "slow":
                    time.sleep(150 if snakemake.resources.runtime == 1 else 0)
                case "large":
                    held = np.ones(1_200_000_000 // 8)
                    time.sleep(30 if snakemake.resources.mem_mb == 1000 else 0)  # SLURM looks once a second
                    del held
        return create_dataset(group, name, **options)

    h5py.Group.create_dataset = interrupted
    geometry = {"fit": "squash", "resize": 36, "crop": 32, "interpolation": "bilinear"}
    rows = read_rows(snakemake.input[0], *snakemake.params.rows)
    images, _, _, _ = decode.decode_images(rows, "source_images", geometry)
    noise = np.random.default_rng(int(shard)).integers(
        0, 256, (len(rows), 2**20), dtype=np.uint8
    )  # two MiB: fills a disk
    write_arrays(
        snakemake.output[0],
        {"images": images, "image_id": [row["image_id"] for row in rows], "noise": noise},
        {"geometry": "squash36-crop32-bilinear"},
    )
