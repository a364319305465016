"""Tabulate the accounts of the first source images, and how much of all accounts named units carry."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    from unitlens.storage.shards import by_folder
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import accounts

    files = snakemake.input
    names = accounts.unit_names(read_table(files.concepts), read_table(files.masks) if files.masks else None)
    read = by_folder(files.accounts, names=accounts.ARRAYS)
    items = pd.concat([accounts.item_table(*each, names, snakemake.params.shown) for each in read])
    coverage = accounts.coverage(read, names)
    write_table(items, snakemake.output.accounts)
    write_table(coverage, snakemake.output.coverage)
    print(coverage.to_string())
