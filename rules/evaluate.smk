rule score_agreement:
    input:
        saliency=saliency_of_shard,
        masks="results/masks/{model}/{shard}.h5",
    output:
        "results/agreement/{model}/{shard}.csv",
    log:
        "results/logs/score_agreement/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_agreement/{model}/{shard}.tsv"
    params:
        agreement=config["agreement"],
    resources:
        mem_mb=memory(1500),
        runtime=minutes(15),
    conda:
        "../envs/unitlens.yaml"
    message:
        "Compare the explainers of {wildcards.model} with each other, shard {wildcards.shard}"
    script:
        "../scripts/score_agreement.py"


rule summarise_agreement:
    input:
        per_model("results/agreement/{model}/{shard}.csv", shard=shards("explain")),
    output:
        images="results/agreement.csv",
        summary="results/agreement_summary.csv",
    log:
        "results/logs/summarise_agreement/all.log",
    benchmark:
        "results/benchmarks/summarise_agreement/all.tsv"
    params:
        seed=config["seed"],
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Summarise the agreement of the explainers"
    script:
        "../scripts/summarise_agreement.py"


rule summarise_timings:
    input:
        per_model("results/timings/{model}/{explainer}/{shard}.csv", shard=shards("explain")),
    output:
        "results/timings/explainers.csv",
    log:
        "results/logs/summarise_timings/all.log",
    benchmark:
        "results/benchmarks/summarise_timings/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Summarise how long the explainers took"
    script:
        "../scripts/summarise_timings.py"


rule summarise_predictions:
    input:
        per_model("results/saliency/{model}/lime/{shard}.h5", shard=shards("explain")),
    output:
        "results/predictions.csv",
    log:
        "results/logs/summarise_predictions/all.log",
    benchmark:
        "results/benchmarks/summarise_predictions/all.tsv"
    params:
        classes=class_lists(),
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Summarise what the models predict"
    script:
        "../scripts/summarise_predictions.py"
