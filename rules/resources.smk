# What explanations and jobs cost: seconds and memory.

RESOURCES = "results/timings/resources.csv"


rule summarize_timings:
    input:
        per_explainer("results/timings/{model}/{explainer}/{shard}.csv"),
    output:
        "results/timings/explainers.csv",
    log:
        "results/logs/summarize_timings/all.log",
    benchmark:
        "results/benchmarks/summarize_timings/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Summarize how long the explainers took"
    script:
        "../scripts/summarize_timings.py"


rule summarize_resources:
    input:
        # by then every job has left its benchmark and its log
        lambda wildcards: [path for path in rules.all.input if path not in (RESOURCES, TABLE_PAGES)],
    output:
        table=RESOURCES,
        slowest="results/timings/slowest_jobs.csv",
        figure="results/timings/resources.svg",
    log:
        "results/logs/summarize_resources/all.log",
    benchmark:
        "results/benchmarks/summarize_resources/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Compare what the jobs asked for with what they used"
    script:
        "../scripts/summarize_resources.py"
