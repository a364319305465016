"""Draw one explainer's saliency maps over their photographs, a picture each."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from pathlib import Path

    from unitlens import explain, figures, logs, models, store, wording

    shown = snakemake.params.shown
    pictures, _ = store.concatenate(snakemake.input.images, rows=shown)
    arrays, facts = store.concatenate(snakemake.input.saliency, rows=shown)
    captions = models.captions(arrays, facts, snakemake.params.classes)
    maps = explain.scale(arrays["saliency"])
    folder = Path(snakemake.output[0])
    folder.mkdir(parents=True)
    title = wording.explainer_title(facts["explainer"])
    for i in logs.each(range(len(maps)), "pictures"):
        path = folder / f"{arrays['image_id'][i]}.png"
        segments = arrays["segments"][i] if "segments" in arrays else None
        figures.overlay(pictures["images"][i], maps[i], path, segments=segments, title=f"{title}: {captions[i]}")
