"""Count the pictures of every image set, and name those that were left out as unreadable."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import pandas as pd
    from unitlens import store

    parts = []
    for name, path in zip(snakemake.params.sets, snakemake.input, strict=True):
        with store.open(path) as file:
            facts = {"set": name, "geometry": file.attrs["geometry"], "skipped": json.loads(file.attrs["skipped"])}
            parts.append(facts | {"photographs": file["photograph"].asstr()[:].tolist()})
    table = pd.DataFrame(parts).groupby(["set", "geometry"], sort=False).sum().reset_index()
    problems = ["; ".join(f"{image}: {message}" for image, message in skipped) for skipped in table.skipped]
    counts = {"pictures": table.photographs.map(len), "photographs": table.photographs.map(set).map(len)}
    table = table[["set", "geometry"]].assign(**counts, skipped=table.skipped.map(len), problems=problems)
    table.to_csv(snakemake.output[0], index=False)
