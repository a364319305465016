# Which units made a prediction: an account of every explained class, and of its margin over the runner-up.


rule account_units:
    input:
        unpack(network_files),
        layer=facts_of_cam_layer,
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
        linear=per_layer("results/linear_labels/{model}/{layer}.csv", accounted_layers()),
        images=images_of_models("explain", explained_models(), shards("explain")),
    output:
        accounts="results/accounts.csv",
        coverage="results/account_coverage.csv",
        classes="results/classes.csv",
        contributions="results/class_contributions.csv",
        leaning="results/class_images.csv",
        units=expand("results/class_units/{model}.h5", model=explained_models()),
        pages=directory("results/classes"),  # empty where no class has enough images
        findings="results/findings/classes.json",
    log:
        "results/logs/summarize_accounts/all.log",
    benchmark:
        "results/benchmarks/summarize_accounts/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_classes,
        runtime=USUAL,
    params:
        shown=config["report"]["n_images"],
        classes=class_lists(),
        digests=class_digests(class_lists().values()),
        geometries={model: geometry_name(config["models"][model]["preprocessing"]) for model in explained_models()},
        labeled=labeled_layers(),
        seed=config["seed"],
    message:
        "Tabulate which units made the predictions, and what speaks for each class"
    script:
        "../scripts/summarize_accounts.py"


rule choose_units:
    input:
        accounts=expand("results/accounts/{{model}}/{shard}.h5", shard=shards("explain")),
        concepts=names_at_cam_layer("results/concepts/{model}/{layer}.csv"),
        masks=if_any(if_configured("netdissect", names_at_cam_layer("results/netdissect/{model}/{layer}.csv"))),
    output:
        sets="results/interventions/{model}/sets.h5",
        trials="results/interventions/{model}/trials.h5",
    log:
        "results/logs/choose_units/{model}.log",
    benchmark:
        "results/benchmarks/choose_units/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(TABLES_MB),
        runtime=SHORT,
    params:
        switch_off=config["switch_off"],
        seed=config["seed"],
    message:
        "Choose units of {wildcards.model} to switch off"
    script:
        "../scripts/choose_units.py"


rule switch_off_units:
    input:
        unpack(network_files),
        images=explain_images_of_model,
        sets="results/interventions/{model}/sets.h5",
        trials="results/interventions/{model}/trials.h5",
    output:
        "results/interventions/{model}/{shard}.h5",
    log:
        "results/logs/switch_off_units/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/switch_off_units/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(CHANGED_MB),
        runtime=LONG,
    params:
        network=network,
        device=config["device"],
        layer=of_model("cam_layer"),
    message:
        "Switch off units of {wildcards.model}, shard {wildcards.shard}"
    script:
        "../scripts/switch_off_units.py"


rule summarize_interventions:
    input:
        sets=expand("results/interventions/{model}/sets.h5", model=explained_models()),
        trials=per_explained_shard("results/interventions/{model}/{shard}.h5"),
    output:
        classes="results/interventions.csv",
        summary="results/intervention_summary.csv",
        tests="results/intervention_tests.csv",
        names="results/name_interventions.csv",
        figure=report(
            "results/figures/interventions.svg",
            category="4 Explanations",
            labels={"result": "figure: units switched off"},
            caption="../report/interventions.rst",
        ),
        findings="results/findings/interventions.json",
    log:
        "results/logs/summarize_interventions/all.log",
    benchmark:
        "results/benchmarks/summarize_interventions/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(TRIALS_MB),
        runtime=SHORT,
    params:
        seed=config["seed"],
    message:
        "Tabulate what units that are switched off cost"
    script:
        "../scripts/summarize_interventions.py"
