"""List the annotated concepts that enough source images show, in place of an encoder's features of concepts."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.images import label_maps
    from unitlens.storage.arrays import write_arrays
    from unitlens.storage.shards import concatenate
    from unitlens.tables import netdissect, unit_labels

    words = netdissect.mask_words(**snakemake.params.words)
    images, _ = concatenate(snakemake.input.images, names=["features", "source_image"])
    shown = netdissect.shown_concepts(words, images["features"], images["source_image"])
    write_arrays(
        snakemake.output[0],
        {
            "features": label_maps.concept_axes(len(words))[shown.index],
            "word": shown.word.to_numpy(object),
            "category": shown.category.to_numpy(object),
        },
        {"encoder": unit_labels.ANNOTATIONS},
    )
    print(f"{len(shown)} of {len(words)} concepts are shown by enough source images")
