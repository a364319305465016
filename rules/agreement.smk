# Explainers against each other.


rule score_agreement:
    input:
        saliency_of_shard,
    output:
        "results/agreement/{model}/{shard}.csv",
    log:
        "results/logs/score_agreement/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_agreement/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(PAIRS_MB, maps="all"),
        runtime=SHORT,
    params:
        agreement=config["agreement"],
        seed=config["seed"],
    message:
        "Compare the explainers of {wildcards.model} with each other, shard {wildcards.shard}"
    script:
        "../scripts/score_agreement.py"


rule match_explanations:
    input:
        first_saliency(MATCHED),
    output:
        "results/matching/{model}.csv",
    log:
        "results/logs/match_explanations/{model}.log",
    benchmark:
        "results/benchmarks/match_explanations/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(PAIRS_MB, maps="all", section=MATCHED),
        runtime=USUAL,
    params:
        agreement=config["agreement"],
        rows=MATCHED,
        seed=config["seed"],
    message:
        "Compare the explainers of {wildcards.model} on different source images"
    script:
        "../scripts/match_explanations.py"


rule summarize_agreement:
    input:
        scores=per_explained_shard("results/agreement/{model}/{shard}.csv"),
        matching=expand("results/matching/{model}.csv", model=explained_models()),
    output:
        images="results/agreement.csv",
        summary="results/agreement_summary.csv",
        tests="results/agreement_tests.csv",
        findings="results/findings/agreement.json",
    log:
        "results/logs/summarize_agreement/all.log",
    benchmark:
        "results/benchmarks/summarize_agreement/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=LONG,
    params:
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Summarize the agreement of the explainers"
    script:
        "../scripts/summarize_agreement.py"


rule draw_agreement:
    input:
        summary="results/agreement_summary.csv",
        timings="results/timings/explainers.csv",
    output:
        equal_area=report(
            "results/figures/agreement/equal_area_iou.svg",
            category="5 Agreement",
            labels={"result": "figure: equal-area IoU"},
            caption="../report/equal_area_iou.rst",
        ),
        threshold="results/figures/agreement/threshold_iou.svg",
        spearman="results/figures/agreement/spearman.svg",
        sweep="results/figures/agreement/sweep.svg",
        timings="results/timings/explainers.svg",
    log:
        "results/logs/draw_agreement/all.log",
    benchmark:
        "results/benchmarks/draw_agreement/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        area=config["agreement"]["area"],
        models=list(config["models"]),
    message:
        "Draw how far the explainers agree and how long they take"
    script:
        "../scripts/draw_agreement.py"
