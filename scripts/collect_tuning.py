"""Rank the settings of LIME for each model, draw them, and write the best as configuration and as keywords."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd
    import yaml
    from unitlens.measures import lime_sweep
    from unitlens.report import cost_figures, evaluation_findings, pages
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import tuning

    params, output = snakemake.params, snakemake.output
    scores = read_table(snakemake.input.scores)
    seconds = pd.concat([read_table(path).assign(model=Path(path).parent.name) for path in snakemake.input.timings])
    made = tuning.tables(scores, seconds, **params.settings)
    for name, table in made.items():
        write_table(table, output[name])
        print(f"{name}\n{table.to_string()}\n")
    made = {name: read_table(output[name]) for name in made}  # figures are of the digits that the files have
    cost_figures.tuning_front(made["settings"], output.front, cost="forward_passes", models=params.colored)
    seconds = made["timings"][["model", "setting", "seconds", "front"]]
    timed = made["settings"].drop(columns="front").merge(seconds, on=["model", "setting"])
    cost_figures.tuning_front(timed, output.front_by_seconds, cost="seconds", models=params.colored)
    cost_figures.tuning_effects(made["effects"], output.effects_drawn, models=params.colored)
    best = tuning.best_settings(made["settings"], **params.settings)
    seed = params.settings["seed"]
    for model, config, keywords in zip(params.models, output.best, output.keywords, strict=True):
        Path(config).write_text(yaml.safe_dump(lime_sweep.to_config(best[model]), sort_keys=False), encoding="utf-8")
        Path(keywords).write_text(
            json.dumps(lime_sweep.to_explain_instance(best[model], seed=seed), indent=2) + "\n", encoding="utf-8"
        )
    named = lime_sweep.named_settings(params.settings["default"], params.settings["presets"])
    written = {name: lime_sweep.to_explain_instance(setting, seed=seed) for name, setting in named.items()}
    Path(output.presets).write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    pages.write_findings(output.findings, evaluation_findings.tuning_findings(made["settings"], made["selection"]))
