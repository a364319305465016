"""Draw the score of every setting of LIME against its cost, and what each parameter does."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import figures

    options = {"dtype": {"level": str}, "keep_default_na": False, "na_values": [""]}
    tables = {name: pd.read_csv(path, **options) for name, path in snakemake.input.items()}
    figures.tuning_front(tables["settings"], snakemake.output.front, cost="passes")
    seconds = tables["timings"][["model", "setting", "seconds", "front"]]
    timed = tables["settings"].drop(columns="front").merge(seconds, on=["model", "setting"])
    figures.tuning_front(timed, snakemake.output.timings, cost="seconds")
    figures.tuning_effects(tables["effects"], snakemake.output.effects)
