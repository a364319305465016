"""Choose which units of one model are switched off for which class and name, and on which source images."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.storage.arrays import write_arrays
    from unitlens.storage.shards import concatenate, read_blocks
    from unitlens.tables import accounts, interventions

    files, params = snakemake.input, snakemake.params
    names = accounts.read_unit_names(files.concepts, files.masks)
    columns, facts = concatenate(files.accounts, names=interventions.COLUMNS)
    blocks = read_blocks(files.accounts, interventions.CHOSEN.values(), interventions.BLOCK)
    options = {"seed": params.seed, **params.switch_off}
    sets, trials, about = interventions.choose(columns, blocks, facts, names, **options)
    write_arrays(snakemake.output.sets, sets, about)
    write_arrays(snakemake.output.trials, trials, about)
    print(f"{len(sets['kind'])} sets of units, {len(trials['set'])} trials")
