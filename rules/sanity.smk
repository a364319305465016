# Whether maps change with the network, and how much LIME changes with its seed.


rule randomise_model:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=first_images("sanity"),
        explanations=first_saliency("sanity", slice(1)),
    output:
        "results/sanity/randomisation/{model}.csv",
    log:
        "results/logs/randomise_model/{model}.log",
    benchmark:
        "results/benchmarks/randomise_model/{model}.tsv"
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
        "Randomise {wildcards.model} layer by layer and compare its maps"
    script:
        "../scripts/randomise_model.py"


rule stabilise_lime:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=first_images("sanity"),
        explanations=expand("results/saliency/{{model}}/lime/{shard}.h5", shard=first_shards("sanity")),
    output:
        "results/sanity/stability/{model}.csv",
    log:
        "results/logs/stabilise_lime/{model}.log",
    benchmark:
        "results/benchmarks/stabilise_lime/{model}.tsv"
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
        counts=sorted({*config["sanity"]["samples"], config["explain"]["lime"]["n_samples"]}),
        sanity=config["sanity"],
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Explain {wildcards.model} with LIME again, by seeds and numbers of samples"
    script:
        "../scripts/stabilise_lime.py"


rule summarise_sanity:
    input:
        randomised=expand("results/sanity/randomisation/{model}.csv", model=explained_models()),
        stability=expand("results/sanity/stability/{model}.csv", model=explained_models()),
    output:
        randomisation=report(
            "results/randomisation.csv",
            category="8 Sanity",
            labels={"result": "table: maps of randomised networks"},
            caption="../report/randomisation_table.rst",
        ),
        randomisation_summary=report(
            "results/randomisation_summary.csv",
            category="8 Sanity",
            labels={"result": "table: maps of randomised networks, means"},
            caption="../report/randomisation_table.rst",
        ),
        stability=report(
            "results/stability.csv",
            category="8 Sanity",
            labels={"result": "table: LIME over seeds and samples"},
            caption="../report/stability_table.rst",
        ),
        stability_summary=report(
            "results/stability_summary.csv",
            category="8 Sanity",
            labels={"result": "table: LIME over seeds and samples, means"},
            caption="../report/stability_table.rst",
        ),
        randomisation_figure=report(
            "results/figures/sanity/randomisation.svg",
            category="8 Sanity",
            labels={"result": "figure: maps of randomised networks"},
            caption="../report/randomisation.rst",
        ),
        stability_figure=report(
            "results/figures/sanity/stability.svg",
            category="8 Sanity",
            labels={"result": "figure: LIME over seeds and samples"},
            caption="../report/stability.rst",
        ),
        randomisation_findings="results/findings/randomisation.json",
        stability_findings="results/findings/stability.json",
    log:
        "results/logs/summarise_sanity/all.log",
    benchmark:
        "results/benchmarks/summarise_sanity/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        lime={"top": config["explain"]["lime"]["num_features"], "n_samples": config["explain"]["lime"]["n_samples"]},
        seed=config["seed"],
    message:
        "Summarise how maps change with a randomised network, and LIME with its seed"
    script:
        "../scripts/summarise_sanity.py"
