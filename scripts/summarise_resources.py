"""Compare the time and the memory that the jobs asked for with what they used."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, resources, tables

    jobs = resources.read_jobs("results/benchmarks", "results/logs")
    table = resources.efficiency(jobs)
    tables.write(table, snakemake.output.table, digits=3)
    tables.write(resources.slowest(jobs), snakemake.output.slowest, digits=3)
    figures.resources(table, snakemake.output.figure)
    print(f"{len(jobs)} jobs")
