"""Put the comparisons with the reference packages into one table, and fail if one of them exceeds its tolerance."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import tables, verify

    for name in ("differences", "timings"):
        table = tables.read(snakemake.input[name])
        tables.write(table, snakemake.output[name])
        print(table.to_string(), end="\n\n")
    verify.require_passed(tables.read(snakemake.output.differences))
