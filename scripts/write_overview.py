"""Write the overview: findings in sentences, tables and figures on one page."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import gallery, models, tables

    params, files = snakemake.params, snakemake.input
    names = ("concepts", "frequent", "layers", "categories", "models", "timings", "predictions", "explanations")
    shown = {name: tables.read(files[name]) for name in names}
    images = tables.read(files.images).groupby("set").first()
    verification = tables.read(files.verification).merge(tables.read(files.verification_timings), how="left")
    gallery.overview(
        snakemake.output.overview,
        snakemake.output.findings,
        **shown,
        verification=verification,
        facts=[models.read_facts(path) for path in files.facts],
        figures={
            **{name: path for name, path in files.items() if str(path).endswith(".svg")},
            "timings": files.timings_figure,
            **{f"grid_{model}": path for model, path in zip(params.models, files.grids, strict=True)},
        },
        encoder=shown["concepts"].encoder[0],
        probe_rows=int(images.pictures["probe"]),
        probe_photographs=int(images.photographs["probe"]),
        run={
            "versions": models.versions(),
            **params.settings,
            "pictures left out as unreadable": int(images.skipped.sum()),
            **{f"copies among the {name} photographs": row.copies for name, row in images.iterrows()},
        },
        sections=params.sections,
        captions=params.captions,
        shown=params.shown,
    )
