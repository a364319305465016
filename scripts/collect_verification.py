"""Put the comparisons with the reference packages into one table, and fail if one of them exceeds its tolerance."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens import verify

    for name in ("differences", "timings"):
        table = pd.concat([pd.read_csv(path) for path in snakemake.input[name]])
        table.to_csv(snakemake.output[name], index=False, float_format="%.6g")
        print(table.to_string(), end="\n\n")
    verify.require_passed(pd.read_csv(snakemake.output.differences))
