"""Write the concept list: the configured CSV file and, on request, the most common English words."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.tables import read_texts, write_table
    from unitlens.tables import unit_labels

    concepts = read_texts(snakemake.input[0])
    concepts = unit_labels.with_common_words(concepts, snakemake.params.common_words)
    write_table(concepts, snakemake.output[0])
    print(f"{len(concepts)} concepts: {concepts.category.value_counts().to_dict()}")
