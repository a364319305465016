"""Count the pictures of every image set; name those left out as unreadable, and photographs that are copies."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd
    from unitlens import image_sets, store, tables

    parts = []
    for name, path in zip(snakemake.params.sets, snakemake.input.images, strict=True):
        with store.open(path) as file:
            own, photographs = store.attributes_of(file), file["photograph"].asstr()[:].tolist()
        facts = {"set": name, "geometry": own["geometry"], "skipped": json.loads(own["skipped"])}
        parts.append(facts | {"photographs": photographs})
    table = pd.DataFrame(parts).groupby(["set", "geometry"], sort=False).sum().reset_index()
    problems = ["; ".join(f"{image}: {message}" for image, message in skipped) for skipped in table.skipped]
    copies = {Path(sheet).stem: image_sets.copies(sheet) for sheet in snakemake.input.sheets}
    table = table[["set", "geometry"]].assign(
        pictures=table.photographs.map(len),
        photographs=table.photographs.map(set).map(len),
        skipped=table.skipped.map(len),
        problems=problems,
        copies=[len(copies[name]) for name in table.set],
        copied=["; ".join(f"{copy} of {first}" for copy, first in copies[name].items()) for name in table.set],
    )
    tables.write(table, snakemake.output[0])
