# Settings of LIME, scored and ranked.


rule tune_lime:
    input:
        unpack(network_files),
        images=explain_images_of_model,
        saliency=saliency_of_reference,
        lime="results/saliency/{model}/lime/{shard}.h5",
    output:
        scores="results/tuning/{model}/{shard}.csv",
        timings="results/timings/tuning/shards/{model}/{shard}.csv",
    log:
        "results/logs/tune_lime/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/tune_lime/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(CHANGED_MB, maps=2),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        settings=tuned_settings,
        objective=tuning_objective,
        n_images=tuned_images,
        seed=config["seed"],
    message:
        "Score LIME of {wildcards.model} with many settings, shard {wildcards.shard}"
    script:
        "../scripts/tune_lime.py"


rule collect_tuning:
    input:
        scores=per_explained_shard("results/tuning/{model}/{shard}.csv", first_shards("tune")),
        timings=per_explained_shard("results/timings/tuning/shards/{model}/{shard}.csv", first_shards("tune")),
    output:
        settings="results/tuning.csv",
        effects="results/tuning/effects.csv",
        selection="results/tuning/selection.csv",
        timings="results/timings/tuning.csv",
        best=expand("results/tuning/{model}/best.yaml", model=explained_models()),
        keywords=expand("results/tuning/{model}/best.json", model=explained_models()),
        presets="results/tuning/presets.json",
        findings="results/findings/tuning.json",
        front=report(
            "results/figures/tuning/tuning_front.svg",
            category="9 Tuning",
            labels={"result": "figure: score and forward passes"},
            caption="../report/tuning_front.rst",
        ),
        front_by_seconds="results/timings/tuning.svg",
        effects_drawn="results/figures/tuning/tuning_effects.svg",
    log:
        "results/logs/collect_tuning/all.log",
    benchmark:
        "results/benchmarks/collect_tuning/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        settings=tuned_settings,
        models=explained_models(),
        colored=list(config["models"]),
    message:
        "Rank the settings of LIME, and draw them"
    script:
        "../scripts/collect_tuning.py"
