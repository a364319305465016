"""Write the overview: what a run found on one screen, then findings, tables and figures on the same page."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from unitlens.networks import network
    from unitlens.report import overview, samples
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.shards import by_folder, picking_by_folder
    from unitlens.storage.tables import read_table

    params, files = snakemake.params, snakemake.input
    paths = {name: path for name, path in files.items() if isinstance(path, str)}
    shown = {name: read_table(path) for name, path in paths.items() if path.endswith(".csv")}
    maps = [read_arrays(path, rows=params.shown) for path in files.example_maps]
    explained = by_folder(files.example_images, rows=params.shown)
    pixels = picking_by_folder(files.probe_images, "images")
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
        shown=params.grid_rows,
        beside=params.beside,
        area=params.area,
        n_samples=params.n_samples,
        best=samples.best_units(shown.get("concepts"), map(read_arrays, files.maps), pixels),
        example=samples.example(maps, explained, shown.get("predictions")),
        missing=params.missing,
    )
