"""Write the concept list: the configured CSV file and, on request, the most common English words."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import dissect

    concepts = pd.read_csv(snakemake.input[0], keep_default_na=False)
    concepts = dissect.with_common_words(concepts, snakemake.params.common_words)
    concepts.to_csv(snakemake.output[0], index=False)
    print(f"{len(concepts)} concepts: {concepts.category.value_counts().to_dict()}")
