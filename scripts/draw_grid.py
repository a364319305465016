"""Draw the photographs of one model against all explainers."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import explain, figures, models, store

    shown, model = slice(snakemake.params.shown), snakemake.wildcards.model
    pictures, _ = store.concatenate(snakemake.input.images, rows=shown.stop)
    explanations = explain.by_explainer(store.read(path, rows=shown.stop) for path in snakemake.input.saliency)
    lime, facts = explanations["lime"]
    figures.explanation_grid(
        pictures["images"][shown],
        {name: explain.scale(arrays["saliency"])[shown] for name, (arrays, _) in explanations.items()},
        snakemake.output[0],
        captions=models.captions(lime, facts, snakemake.params.classes)[shown],
        segments=lime["segments"][shown],
        model=model,
    )
