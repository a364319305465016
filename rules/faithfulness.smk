# Explainers against what the network does once pixels are taken away.


rule score_faithfulness:
    input:
        unpack(network_files),
        images=explain_images_of_model,
        saliency=saliency_of_shard,
    output:
        scores="results/faithfulness/{model}/{shard}.csv",
        curves="results/faithfulness/{model}/{shard}.h5",
    log:
        "results/logs/score_faithfulness/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_faithfulness/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(CHANGED_MB, maps="all"),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        faithfulness=config["faithfulness"],
        seed=config["seed"],
    message:
        "Score how faithful the explainers of {wildcards.model} are, shard {wildcards.shard}"
    script:
        "../scripts/score_faithfulness.py"


rule summarize_faithfulness:
    input:
        scores=per_explained_shard("results/faithfulness/{model}/{shard}.csv"),
        curves=per_explained_shard("results/faithfulness/{model}/{shard}.h5"),
    output:
        images="results/faithfulness.csv",
        summary="results/faithfulness_summary.csv",
        tests="results/faithfulness_tests.csv",
        curves="results/faithfulness_curves.csv",
        findings="results/findings/faithfulness.json",
    log:
        "results/logs/summarize_faithfulness/all.log",
    benchmark:
        "results/benchmarks/summarize_faithfulness/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=LONG,
    params:
        seed=config["seed"],
    message:
        "Summarize how faithful the explainers are"
    script:
        "../scripts/summarize_faithfulness.py"


rule draw_faithfulness:
    input:
        summary="results/faithfulness_summary.csv",
        curves="results/faithfulness_curves.csv",
    output:
        scores=[
            report(
                f"results/figures/faithfulness/{model}/scores.svg",
                category="7 Faithfulness",
                labels={"result": f"figure: scores of the explainers and of the control maps, {model}"},
                caption="../report/faithfulness_scores.rst",
            )
            for model in explained_models()
        ],
        curves=expand("results/figures/faithfulness/{model}/curves.svg", model=explained_models()),
    log:
        "results/logs/draw_faithfulness/all.log",
    benchmark:
        "results/benchmarks/draw_faithfulness/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        models=explained_models(),
    message:
        "Draw how faithful the explainers are"
    script:
        "../scripts/draw_faithfulness.py"
