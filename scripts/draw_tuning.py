"""Draw the score of every setting of LIME against its cost, and what each parameter does."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, tables

    made = {name: tables.read(path) for name, path in snakemake.input.items()}
    figures.tuning_front(made["settings"], snakemake.output.front, cost="forward_passes")
    seconds = made["timings"][["model", "setting", "seconds", "front"]]
    timed = made["settings"].drop(columns="front").merge(seconds, on=["model", "setting"])
    figures.tuning_front(timed, snakemake.output.timings, cost="seconds")
    figures.tuning_effects(made["effects"], snakemake.output.effects)
