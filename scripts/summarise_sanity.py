"""Summarise and draw how maps change with a randomised network, and how LIME varies from seed to seed."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import evaluation_figures, evaluation_findings, pages, text
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import sanity

    output, seed = snakemake.output, snakemake.params.seed
    randomisation, stability = (
        read_table(snakemake.input.randomised),
        read_table(snakemake.input.stability),
    )
    randomised = sanity.summarise_randomisation(randomisation, seed=seed)
    stable = sanity.summarise_stability(stability, seed=seed)
    made = {"randomisation": randomisation, "randomisation_summary": randomised}
    made |= {"stability": stability, "stability_summary": stable}
    for name, table in made.items():
        write_table(table, output[name])
    evaluation_figures.randomisation(randomised, output.randomisation_figure)
    evaluation_figures.stability(stable, output.stability_figure, titles=text.STABILITY_TITLES)
    pages.write_findings(output.randomisation_findings, evaluation_findings.randomisation_findings(randomised))
    pages.write_findings(
        output.stability_findings, evaluation_findings.stability_findings(stable, **snakemake.params.lime)
    )
