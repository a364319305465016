# Which units made a prediction: an account of every explained class, and of its margin over the runner-up.


rule account_units:
    input:
        model="results/models/{model}.json",
        weights="results/retrieved/weights/{model}.bin",
        images=explain_images_of_model,
    output:
        "results/accounts/{model}/{shard}.h5",
    log:
        "results/logs/account_units/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/account_units/{model}/{shard}.tsv"
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
        layer=of_model("cam_layer"),
        target=config["explain"]["target"],
    message:
        "Account for the predictions of {wildcards.model} by units, shard {wildcards.shard}"
    script:
        "../scripts/account_units.py"


rule summarize_accounts:
    input:
        accounts=per_explained_shard("results/accounts/{model}/{shard}.h5"),
        concepts="results/concepts.csv",
        masks=if_any(if_configured("netdissect", "results/netdissect.csv")),
    output:
        accounts="results/accounts.csv",
        coverage="results/account_coverage.csv",
    log:
        "results/logs/summarize_accounts/all.log",
    benchmark:
        "results/benchmarks/summarize_accounts/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(TABLES_MB),
        runtime=SHORT,
    params:
        shown=config["report"]["n_images"],
    message:
        "Tabulate which units made the predictions"
    script:
        "../scripts/summarize_accounts.py"
