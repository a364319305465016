"""Draw the source images of one model against all explainers."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import explanation_figures
    from unitlens.storage.shards import by_folder, concatenate

    rows, model = snakemake.params.shown, snakemake.wildcards.model
    images, _ = concatenate(snakemake.input.images, rows=rows)
    files = by_folder(snakemake.input.saliency, rows=rows)
    explanations = {facts["explainer"]: arrays for arrays, facts in files}
    explanation_figures.explanation_grid(
        images["images"],
        {name: explanation_figures.scale(arrays["saliency"]) for name, arrays in explanations.items()},
        snakemake.output[0],
        captions=explanation_figures.captions(files, snakemake.params.classes),
        segments={name: arrays["segments"] for name, arrays in explanations.items() if "segments" in arrays},
        model=model,
    )
