"""Count the pictures of every image set, and name those that were left out as unreadable."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json

    import pandas as pd
    from unitlens import store

    rows = []
    for name, path in zip(snakemake.params.sets, snakemake.input, strict=True):
        with store.open(path) as file:
            problems = json.loads(file.attrs["skipped"])
            rows.append([name, file.attrs["geometry"], len(file["image_id"]), len(problems), problems])
    columns = ["set", "geometry", "pictures", "skipped", "problems"]
    table = pd.DataFrame(rows, columns=columns).groupby(["set", "geometry"], sort=False).sum().reset_index()
    table["problems"] = ["; ".join(f"{image}: {message}" for image, message in problems) for problems in table.problems]
    table.to_csv(snakemake.output[0], index=False)
