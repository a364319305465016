"""Write the overview: findings in sentences, tables and figures on one page."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from unitlens import gallery, models, tables

    params, files = snakemake.params, snakemake.input
    names = (
        "concepts",
        "frequent",
        "layers",
        "categories",
        "models",
        "timings",
        "predictions",
        "images",
        "explanations",
    )
    shown = {name: tables.read(files[name]) for name in names if files[name]}
    if files.verification:
        shown["verification"] = tables.read(files.verification).merge(
            tables.read(files.verification_timings), how="left"
        )
    gallery.overview(
        snakemake.output.overview,
        snakemake.output.findings,
        shown,
        facts=[models.read_facts(path) for path in files.facts],
        figures={
            **{name: path for name, path in files.items() if str(path).endswith(".svg")},
            "timings": files.timings_figure,
            **{f"grid_{Path(path).stem}": path for path in files.grids},
        },
        run={"versions": models.versions(), **params.settings},
        sections=params.sections,
        captions=params.captions,
        shown=params.shown,
        beside=params.beside,
        missing=params.missing,
    )
