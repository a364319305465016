"""Compare the time and the memory that the jobs asked for with what they used."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import resources

    jobs = resources.read_jobs("results/benchmarks", "results/logs")
    resources.efficiency(jobs).to_csv(snakemake.output[0], index=False, float_format="%.3g")
    print(f"{len(jobs)} jobs")
