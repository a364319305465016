"""Summarize and draw how maps change with a randomized network, and how LIME varies from seed to seed."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_figures, evaluation_findings, pages, text
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import sanity

    files, output = snakemake.input, snakemake.output
    randomization, stability = read_table(files.randomized), read_table(files.stability)
    randomized = sanity.summarize_randomization(randomization)
    stable = sanity.summarize_stability(stability)
    made = {"randomization": randomization, "randomization_summary": randomized}
    made |= {"stability": stability, "stability_summary": stable}
    for name, table in made.items():
        write_table(table, output[name])
    evaluation_figures.randomization(randomized, output.randomization_figure)
    evaluation_figures.stability(
        stable, output.stability_figure, titles=text.STABILITY_TITLES, models=snakemake.params.models
    )
    pages.write_findings(output.randomization_findings, evaluation_findings.randomization_findings(randomized))
    pages.write_findings(
        output.stability_findings, evaluation_findings.stability_findings(stable, **snakemake.params.lime)
    )
