"""Draw the photographs of one model against all explainers."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import explain, figures, models, store

    rows, model = snakemake.params.shown, snakemake.wildcards.model
    pictures, _ = store.concatenate(snakemake.input.images, rows=rows)
    explanations = {
        facts["explainer"]: (arrays, facts) for arrays, facts in store.by_folder(snakemake.input.saliency, rows=rows)
    }
    lime, facts = explanations["lime"]
    figures.explanation_grid(
        pictures["images"],
        {name: explain.scale(arrays["saliency"]) for name, (arrays, _) in explanations.items()},
        snakemake.output[0],
        captions=models.captions(lime, facts, snakemake.params.classes),
        segments=lime["segments"],
        model=model,
    )
