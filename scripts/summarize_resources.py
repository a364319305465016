"""Compare the time and the memory that the jobs asked for with what they used."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import cost_figures
    from unitlens.storage.tables import write_table
    from unitlens.tables import job_resources

    jobs = job_resources.read_jobs("results/benchmarks", "results/logs")
    table = job_resources.efficiency(jobs)
    write_table(table, snakemake.output.table, digits=3)
    write_table(job_resources.slowest(jobs), snakemake.output.slowest, digits=3)
    cost_figures.resources(table, snakemake.output.figure)
    print(f"{len(jobs)} jobs")
