"""Write the overview: findings in sentences, tables and figures on one page."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd
    import torch
    import unitlens
    from unitlens import gallery

    params, files = snakemake.params, snakemake.input
    tables = {
        name: pd.read_csv(files[name], keep_default_na=False, na_values=[""])  # "null" is a word, not a gap
        for name in ("concepts", "frequent", "layers", "categories", "models", "summary", "timings", "predictions")
    }
    images = pd.read_csv(files.images)
    probe = images[images["set"] == "probe"].iloc[0]
    gallery.overview(
        snakemake.output[0],
        **tables,
        facts=[json.loads(Path(path).read_text()) for path in files.facts],
        figures={
            **{name: path for name, path in files.items() if str(path).endswith(".svg")},
            "timings": files.timings_figure,
            **{f"grid_{model}": path for model, path in zip(params.models, files.grids, strict=True)},
        },
        encoder=tables["concepts"].encoder[0],
        area=params.agreement["area"],
        threshold=params.agreement["threshold"],
        probe_rows=int(probe.pictures),
        probe_photographs=int(probe.photographs),
        run={
            "Unitlens": unitlens.__version__,
            "torch": str(torch.__version__),
            **params.settings,
            "pictures left out as unreadable": int(images.groupby("set")["skipped"].max().sum()),
        },
    )
