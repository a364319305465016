"""Tabulate, draw and tell what units that are switched off cost classes, beside others and by name."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens.report import account_findings, evaluation_figures, pages
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import by_folder
    from unitlens.storage.tables import write_table
    from unitlens.tables import interventions

    files, output = snakemake.input, snakemake.output
    sets, trials = map(read_arrays, files.sets), by_folder(files.trials)
    table = pd.concat([interventions.outcomes(own, *each) for (own, _), each in zip(sets, trials, strict=True)])
    classes = interventions.by_class(table)
    made = {
        "classes": classes,
        "summary": interventions.summarize(classes),
        "tests": interventions.compare(classes, seed=snakemake.params.seed),
        "names": interventions.by_name(table),
    }
    for name, each in made.items():
        write_table(each, output[name])
    evaluation_figures.interventions(made["summary"], output.figure)
    layers = pd.DataFrame([facts for _, facts in trials])
    findings = account_findings.intervention_findings(layers, made["summary"], made["tests"], made["names"])
    pages.write_findings(output.findings, findings)
