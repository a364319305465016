"""Put the comparisons with the reference packages into one table, and fail if one of them exceeds its tolerance."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import sanity

    made = {name: read_table(snakemake.input[name]) for name in ("differences", "timings")}
    for name, table in made.items():
        write_table(table, snakemake.output[name])
        print(table.to_string(), end="\n\n")
    sanity.require_passed(made["differences"])
