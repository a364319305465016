"""Draw the source images of one model against all explainers."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import explanation_figures
    from unitlens.storage.shards import by_folder, concatenate

    rows, model = snakemake.params.shown, snakemake.wildcards.model
    images, _ = concatenate(snakemake.input.images, rows=rows)
    explanations = {
        facts["explainer"]: (arrays, facts) for arrays, facts in by_folder(snakemake.input.saliency, rows=rows)
    }
    lime, facts = explanations["lime"]
    explanation_figures.explanation_grid(
        images["images"],
        {name: explanation_figures.scale(arrays["saliency"]) for name, (arrays, _) in explanations.items()},
        snakemake.output[0],
        captions=explanation_figures.captions(lime, facts, snakemake.params.classes),
        segments=lime["segments"],
        model=model,
    )
