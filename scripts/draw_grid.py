"""Draw the photographs of one model against all explainers."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import explain, figures, models, store

    rows, model = snakemake.params.shown, snakemake.wildcards.model
    pictures, _ = store.concatenate(snakemake.input.images, rows=rows)
    explanations = explain.by_explainer(store.read(path, rows=rows) for path in snakemake.input.saliency)
    lime, facts = explanations["lime"]
    figures.explanation_grid(
        pictures["images"][:rows],
        {name: explain.scale(arrays["saliency"])[:rows] for name, (arrays, _) in explanations.items()},
        snakemake.output[0],
        captions=models.captions(lime, facts, snakemake.params.classes)[:rows],
        segments=lime["segments"][:rows],
        model=model,
    )
