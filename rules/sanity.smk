# Whether maps change with the network, and how much LIME changes with its seed.


rule randomize_model:
    input:
        unpack(network_files),
        images=first_images("sanity"),
        explanations=first_saliency("sanity", slice(1)),
    output:
        "results/sanity/randomization/{model}.csv",
    log:
        "results/logs/randomize_model/{model}.log",
    benchmark:
        "results/benchmarks/randomize_model/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(CHANGED_MB, maps=1, section="sanity"),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        layer=of_model("cam_layer"),
        sanity=config["sanity"],
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Randomize {wildcards.model} layer by layer and compare its maps"
    script:
        "../scripts/randomize_model.py"


rule stabilize_lime:
    input:
        unpack(network_files),
        images=first_images("sanity"),
        explanations=expand("results/saliency/{{model}}/lime/{shard}.h5", shard=first_shards("sanity")),
    output:
        "results/sanity/stability/{model}.csv",
    log:
        "results/logs/stabilize_lime/{model}.log",
    benchmark:
        "results/benchmarks/stabilize_lime/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(CHANGED_MB, maps=2, section="sanity"),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        lime=config["explain"]["lime"],
        counts=sorted({*config["sanity"]["samples"], config["explain"]["lime"]["n_samples"]} - {"auto"}),
        sanity=config["sanity"],
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Explain {wildcards.model} with LIME again, by seeds and numbers of samples"
    script:
        "../scripts/stabilize_lime.py"


rule summarize_sanity:
    input:
        randomized=expand("results/sanity/randomization/{model}.csv", model=explained_models()),
        stability=expand("results/sanity/stability/{model}.csv", model=explained_models()),
    output:
        randomization="results/randomization.csv",
        randomization_summary="results/randomization_summary.csv",
        stability="results/stability.csv",
        stability_summary="results/stability_summary.csv",
        randomization_figure="results/figures/sanity/randomization.svg",
        stability_figure="results/figures/sanity/stability.svg",
        randomization_findings="results/findings/randomization.json",
        stability_findings="results/findings/stability.json",
    log:
        "results/logs/summarize_sanity/all.log",
    benchmark:
        "results/benchmarks/summarize_sanity/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        lime={"top": config["explain"]["lime"]["num_features"], "n_samples": config["explain"]["lime"]["n_samples"]},
        models=list(config["models"]),
    message:
        "Summarize how maps change with a randomized network, and LIME with its seed"
    script:
        "../scripts/summarize_sanity.py"
