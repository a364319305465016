"""List what the numbers in Broden's label maps mean."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import image_sets, tables

    words = image_sets.broden_words(snakemake.params.folder)
    tables.write(words, snakemake.output[0])
    print(f"{len(words)} labels: {words.category.value_counts().to_dict()}")
