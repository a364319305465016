# A saliency map for every explained source image, model and explainer; all in two tables.


rule explain_cam:
    input:
        unpack(network_files),
        images=explain_images_of_model,
    output:
        saliency="results/saliency/{model}/{method}-{layer}/{shard}.h5",
        timings="results/timings/{model}/{method}-{layer}/{shard}.csv",
    log:
        "results/logs/explain_cam/{model}/{method}-{layer}/{shard}.log",
    benchmark:
        "results/benchmarks/explain_cam/{model}/{method}-{layer}/{shard}.tsv"
    wildcard_constraints:
        method="[A-Za-z0-9+_]+",
    priority: first_picture
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(NETWORK_MB, maps=1),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        target=config["explain"]["target"],
    message:
        "Explain {wildcards.model} with {wildcards.method} at {wildcards.layer}, shard {wildcards.shard}"
    script:
        "../scripts/explain_cam.py"


rule explain_perturbed:
    input:
        unpack(network_files),
        images=explain_images_of_model,
    output:
        saliency="results/saliency/{model}/{explainer}/{shard}.h5",
        timings="results/timings/{model}/{explainer}/{shard}.csv",
    log:
        "results/logs/explain_perturbed/{model}/{explainer}/{shard}.log",
    benchmark:
        "results/benchmarks/explain_perturbed/{model}/{explainer}/{shard}.tsv"
    wildcard_constraints:
        explainer="[A-Za-z0-9+_]+",
    priority: first_picture
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(NETWORK_MB, maps=2),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        target=config["explain"]["target"],
        options=lambda wildcards: config["explain"][wildcards.explainer],
        seed=config["seed"],
    message:
        "Explain {wildcards.model} with {wildcards.explainer}, shard {wildcards.shard}"
    script:
        "../scripts/explain_perturbed.py"


rule summarize_explanations:
    input:
        per_explainer("results/saliency/{model}/{explainer}/{shard}.h5"),
    output:
        "results/explanations.csv",
    log:
        "results/logs/summarize_explanations/all.log",
    benchmark:
        "results/benchmarks/summarize_explanations/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Tabulate the explanations"
    script:
        "../scripts/summarize_explanations.py"


rule summarize_predictions:
    input:
        [
            f"results/saliency/{model}/{explainers(model)[0]}/{shard}.h5"  # those of all explainers tell the same
            for model in explained_models()
            for shard in shards("explain")
        ],
    output:
        "results/predictions.csv",
    log:
        "results/logs/summarize_predictions/all.log",
    benchmark:
        "results/benchmarks/summarize_predictions/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        classes=class_lists(),
        digests=class_digests(class_lists().values()),
    message:
        "Summarize what the models predict"
    script:
        "../scripts/summarize_predictions.py"
