# Explainers against masks and boxes of the objects.


rule score_ground_truth:
    input:
        images=explain_images_of_model,
        saliency=saliency_of_shard,
    output:
        "results/ground_truth/{model}/{shard}.csv",
    log:
        "results/logs/score_ground_truth/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_ground_truth/{model}/{shard}.tsv"
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
        "../scripts/score_ground_truth.py"


rule summarise_ground_truth:
    input:
        per_explained_shard("results/ground_truth/{model}/{shard}.csv"),
    output:
        images=report(
            "results/ground_truth.csv",
            category="6 Ground truth",
            labels={"result": "table: every photograph and explainer"},
            caption="../report/ground_truth_table.rst",
        ),
        summary=report(
            "results/ground_truth_summary.csv",
            category="6 Ground truth",
            labels={"result": "table: means and intervals"},
            caption="../report/ground_truth_summary.rst",
        ),
        tests=report(
            "results/ground_truth_tests.csv",
            category="6 Ground truth",
            labels={"result": "table: explainers against each other"},
            caption="../report/ground_truth_tests.rst",
        ),
        figure=report(
            "results/figures/ground_truth.svg",
            category="6 Ground truth",
            labels={"result": "figure: explainers against masks and boxes"},
            caption="../report/ground_truth.rst",
        ),
        findings="results/findings/ground_truth.json",
    log:
        "results/logs/summarise_ground_truth/all.log",
    benchmark:
        "results/benchmarks/summarise_ground_truth/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=LONG,
    params:
        seed=config["seed"],
    message:
        "Summarise how well the explainers find the objects"
    script:
        "../scripts/summarise_ground_truth.py"
