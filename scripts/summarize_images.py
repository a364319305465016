"""Count the images of every image set; name what of them could not be read, and source images that are copies."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd
    from unitlens.images import datasets
    from unitlens.storage.arrays import attributes_of, open_arrays, read_dataset
    from unitlens.storage.tables import write_table

    parts = []
    for name, path in zip(snakemake.params.sets, snakemake.input.images, strict=True):
        with open_arrays(path) as file:
            own, source_images = attributes_of(file), read_dataset(file["source_image"]).tolist()
            kept = set(read_dataset(file["image_id"]))
        problems = json.loads(own["skipped"])
        facts = {"set": name, "geometry": own["geometry"], "skipped": sum(image not in kept for image, _ in problems)}
        parts.append(facts | {"source_images": source_images, "problems": problems})
    table = pd.DataFrame(parts).groupby(["set", "geometry"], sort=False).sum().reset_index()
    problems = ["; ".join(f"{image}: {message}" for image, message in each) for each in table.problems]
    copies = {Path(sheet).stem: datasets.copies(sheet) for sheet in snakemake.input.sheets}
    table = table[["set", "geometry"]].assign(
        images=table.source_images.map(len),
        source_images=table.source_images.map(set).map(len),
        skipped=table.skipped,
        problems=problems,
        copies=[len(copies[name]) for name in table.set],
        copied=["; ".join(f"{copy} of {first}" for copy, first in copies[name].items()) for name in table.set],
    )
    datasets.refuse_empty(table)
    write_table(table, snakemake.output[0])
