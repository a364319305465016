"""Draw one explainer's saliency maps over their source images, an image each."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from unitlens.jobs import progress
    from unitlens.report import explanation_figures, text
    from unitlens.storage.shards import concatenate

    shown = snakemake.params.shown
    images, _ = concatenate(snakemake.input.images, rows=shown)
    arrays, facts = concatenate(snakemake.input.saliency, rows=shown)
    captions = explanation_figures.captions([(arrays, facts)], snakemake.params.classes)
    maps = explanation_figures.scale(arrays["saliency"])
    folder = Path(snakemake.output[0])
    folder.mkdir(parents=True)
    title = text.explainer_title(facts["explainer"])
    for i in progress.each(range(len(maps)), "images"):
        path = folder / f"{arrays['image_id'][i]}.png"
        segments = arrays["segments"][i] if "segments" in arrays else None
        explanation_figures.overlay(
            images["images"][i], maps[i], path, segments=segments, title=f"{title}: {captions[i]}"
        )
