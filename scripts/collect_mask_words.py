"""List what the numbers in the label maps of a set mean that brings their meaning along."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.images import datasets
    from unitlens.storage.kept import source_images
    from unitlens.storage.tables import write_table

    words = datasets.words_of_maps(snakemake.params.kind, source_images(snakemake.input[0]))
    write_table(words, snakemake.output[0])
    print(f"{len(words)} labels: {words.category.value_counts().to_dict()}")
