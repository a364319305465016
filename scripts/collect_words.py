"""Write the concept list: the configured CSV file and, on request, the most common English words."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import dissect, tables

    concepts = tables.read_texts(snakemake.input[0])
    concepts = dissect.with_common_words(concepts, snakemake.params.common_words)
    tables.write(concepts, snakemake.output[0])
    print(f"{len(concepts)} concepts: {concepts.category.value_counts().to_dict()}")
