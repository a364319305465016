# Explainers against masks and boxes of the objects.


rule score_localization:
    input:
        images=explain_images_of_model,
        saliency=saliency_of_shard,
    output:
        "results/localization/{model}/{shard}.csv",
    log:
        "results/logs/score_localization/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_localization/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(MAPS_MB, maps="all"),
        runtime=SHORT,
    params:
        seed=config["seed"],
    message:
        "Score the explainers of {wildcards.model} against masks and boxes, shard {wildcards.shard}"
    script:
        "../scripts/score_localization.py"


rule summarize_localization:
    input:
        per_explained_shard("results/localization/{model}/{shard}.csv"),
    output:
        images="results/localization.csv",
        summary="results/localization_summary.csv",
        tests="results/localization_tests.csv",
        figure=report(
            "results/figures/localization.svg",
            category="6 Localization",
            labels={"result": "figure: explainers against masks and boxes"},
            caption="../report/localization.rst",
        ),
        findings="results/findings/localization.json",
    log:
        "results/logs/summarize_localization/all.log",
    benchmark:
        "results/benchmarks/summarize_localization/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=LONG,
    params:
        models=list(config["models"]),
        seed=config["seed"],
    message:
        "Summarize how well the explainers find the objects"
    script:
        "../scripts/summarize_localization.py"
