"""Write the overview: what a run found on one screen, then findings, tables and figures on the same page."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from unitlens.report import class_pages, overview, samples
    from unitlens.storage.arrays import read_arrays
    from unitlens.storage.files import read_all_facts
    from unitlens.storage.shards import by_folder
    from unitlens.storage.tables import read_table

    params, files = snakemake.params, snakemake.input
    paths = {name: path for name, path in files.items() if isinstance(path, str)}
    shown = {name: read_table(path) for name, path in paths.items() if path.endswith(".csv")}
    maps = [read_arrays(path, rows=params.shown) for path in files.example_maps]
    explained = by_folder(files.example_images, rows=params.shown)
    names = ("sections", "captions", "area", "n_samples", "missing")
    overview.overview(
        snakemake.output.overview,
        snakemake.output.findings,
        snakemake.output.answers,
        shown,
        facts=read_all_facts(files.facts, files.layer_facts),
        figures={
            **{name: path for name, path in paths.items() if path.endswith(".svg")},
            "timings": files.timings_figure,
            **{f"grid_{Path(path).stem}": path for path in files.grids},
        },
        run={"versions": overview.versions(), **params.settings},
        shown=params.grid_rows,
        beside=class_pages.beside(params.beside, shown.get("classes")),
        **{name: params[name] for name in names},
        best=samples.best_units(
            samples.read_units(shown.get("netdissect"), files.annotated_maps, files.annotated_images),
            samples.read_units(shown.get("concepts"), files.maps, files.probe_images),
        ),
        example=samples.example(maps, explained, shown.get("predictions")),
    )
