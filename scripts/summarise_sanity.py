"""Summarise and draw how maps change with a randomised network, and how LIME varies from seed to seed."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, gallery, sanity, tables

    output, seed = snakemake.output, snakemake.params.seed
    randomisation, stability = (
        tables.read(snakemake.input.randomised),
        tables.read(snakemake.input.stability),
    )
    randomised = sanity.summarise_randomisation(randomisation, seed=seed)
    stable = sanity.summarise_stability(stability, seed=seed)
    made = {"randomisation": randomisation, "randomisation_summary": randomised}
    made |= {"stability": stability, "stability_summary": stable}
    for name, table in made.items():
        tables.write(table, output[name])
    figures.randomisation(randomised, output.randomisation_figure)
    figures.stability(stable, output.stability_figure, titles=sanity.STABILITY_TITLES)
    gallery.write_findings(output.randomisation_findings, sanity.randomisation_findings(randomised))
    gallery.write_findings(output.stability_findings, sanity.stability_findings(stable, **snakemake.params.lime))
