"""Rank the settings of LIME for each model, and write the best of them as configuration and as keywords."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import json
    from pathlib import Path

    import pandas as pd
    import yaml
    from unitlens import gallery, tables, tune

    params, output = snakemake.params, snakemake.output
    scores = tables.read(snakemake.input.scores)
    seconds = pd.concat([tables.read(path).assign(model=Path(path).parent.name) for path in snakemake.input.timings])
    made = tune.tables(scores, seconds, **params.settings)
    for name, table in made.items():
        tables.write(table, output[name])
        print(f"{name}\n{table.to_string()}\n")
    best = tune.best_settings(made["settings"], **params.settings)
    seed = params.settings["seed"]
    for model, config, keywords in zip(params.models, output.best, output.keywords, strict=True):
        Path(config).write_text(yaml.safe_dump(tune.to_config(best[model]), sort_keys=False))
        Path(keywords).write_text(json.dumps(tune.to_explain_instance(best[model], seed=seed), indent=2) + "\n")
    named = tune.named_settings(params.settings["default"], params.settings["presets"])
    written = {name: tune.to_explain_instance(setting, seed=seed) for name, setting in named.items()}
    Path(output.presets).write_text(json.dumps(written, indent=2) + "\n")
    gallery.write_findings(output.findings, tune.findings(made["settings"], made["selection"]))
