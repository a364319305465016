"""Answer which concepts most units learn, how many distinct ones there are, and how layers and models differ."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import compare

    concepts = pd.read_csv(snakemake.input[0], keep_default_na=False)
    for name in ("frequent", "layers", "categories", "models"):
        table = getattr(compare, name)(concepts)
        table.to_csv(snakemake.output[name], index=False, float_format="%.6g")
        print(table.head(20).to_string(), end="\n\n")
