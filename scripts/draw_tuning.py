"""Draw the score of every setting of LIME against its cost, and what each parameter does."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import cost_figures
    from unitlens.storage.tables import read_table

    made = {name: read_table(path) for name, path in snakemake.input.items()}
    models = snakemake.params.models
    cost_figures.tuning_front(made["settings"], snakemake.output.front, cost="forward_passes", models=models)
    seconds = made["timings"][["model", "setting", "seconds", "front"]]
    timed = made["settings"].drop(columns="front").merge(seconds, on=["model", "setting"])
    cost_figures.tuning_front(timed, snakemake.output.timings, cost="seconds", models=models)
    cost_figures.tuning_effects(made["effects"], snakemake.output.effects, models=models)
