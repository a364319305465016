"""Write the overview: findings in sentences, tables and figures on one page."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from unitlens.networks import network
    from unitlens.report import overview
    from unitlens.storage.tables import read_table

    params, files = snakemake.params, snakemake.input
    paths = {name: path for name, path in files.items() if isinstance(path, str)}
    shown = {name: read_table(path) for name, path in paths.items() if path.endswith(".csv")}
    if "verification" in shown:
        shown["verification"] = shown["verification"].merge(shown["verification_timings"], how="left")
    overview.overview(
        snakemake.output.overview,
        snakemake.output.findings,
        shown,
        facts=[network.read_facts(path) for path in files.facts],
        figures={
            **{name: path for name, path in paths.items() if path.endswith(".svg")},
            "timings": files.timings_figure,
            **{f"grid_{Path(path).stem}": path for path in files.grids},
        },
        run={"versions": network.versions(), **params.settings},
        sections=params.sections,
        captions=params.captions,
        shown=params.shown,
        beside=params.beside,
        missing=params.missing,
    )
