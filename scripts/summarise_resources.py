"""Compare the time and the memory that the jobs asked for with what they used."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, resources

    jobs = resources.read_jobs("results/benchmarks", "results/logs")
    table = resources.efficiency(jobs)
    table.to_csv(snakemake.output.table, index=False, float_format="%.3g")
    resources.slowest(jobs).to_csv(snakemake.output.slowest, index=False, float_format="%.3g")
    figures.resources(table, snakemake.output.figure)
    print(f"{len(jobs)} jobs")
