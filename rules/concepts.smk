rule embed_images:
    input:
        unpack(encoder_files),
        images=probe_images_of_encoder,
    output:
        "results/embeddings/images/{encoder}/{shard}.h5",
    log:
        "results/logs/embed_images/{encoder}/{shard}.log",
    benchmark:
        "results/benchmarks/embed_images/{encoder}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(1600),
        runtime=minutes(30),
    params:
        encoder=encoder,
        device=config["device"],
    message:
        "Embed shard {wildcards.shard} of the probe photographs with {wildcards.encoder}"
    script:
        "../scripts/embed_images.py"


rule embed_concepts:
    input:
        unpack(encoder_files),
        concepts="resources/concepts.csv",
    output:
        "results/embeddings/concepts/{encoder}.h5",
    log:
        "results/logs/embed_concepts/{encoder}.log",
    benchmark:
        "results/benchmarks/embed_concepts/{encoder}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory_of_network(1600),
        runtime=minutes(30),
    params:
        encoder=encoder,
        device=config["device"],
    message:
        "Embed the concepts with {wildcards.encoder}"
    script:
        "../scripts/embed_concepts.py"


rule label_units:
    input:
        activations=expand("results/activations/{{model}}/{{layer}}/{shard}.h5", shard=shards("probe")),
        images=expand("results/embeddings/images/{encoder}/{shard}.h5", encoder=ENCODER, shard=shards("probe")),
        concepts=f"results/embeddings/concepts/{ENCODER}.h5",
    output:
        "results/concepts/{model}/{layer}.csv",
    log:
        "results/logs/label_units/{model}/{layer}.log",
    benchmark:
        "results/benchmarks/label_units/{model}/{layer}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory(3000),
        runtime=minutes(30),
    params:
        similarity=config["dissect"]["similarity"],
        evidence=config["dissect"]["evidence"],
        seed=config["seed"],
    message:
        "Label the units of {wildcards.model} {wildcards.layer}"
    script:
        "../scripts/label_units.py"


rule map_units:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=all_probe_images_of_model,
        activations=expand("results/activations/{{model}}/{{layer}}/{shard}.h5", shard=shards("probe")),
    output:
        "results/unit_maps/{model}/{layer}.h5",
    log:
        "results/logs/map_units/{model}/{layer}.log",
    benchmark:
        "results/benchmarks/map_units/{model}/{layer}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(2000),
        runtime=minutes(30),
    params:
        network=network,
        device=config["device"],
    message:
        "Map where the units of {wildcards.model} {wildcards.layer} respond"
    script:
        "../scripts/map_units.py"


rule collect_concepts:
    input:
        per_layer("results/concepts/{model}/{layer}.csv"),
    output:
        table=report(
            "results/concepts.csv",
            category="3 Concepts",
            labels={"result": "table: labels of all units"},
            caption="../report/concepts.rst",
        ),
        findings="results/findings/evidence.json",
    log:
        "results/logs/collect_concepts/all.log",
    benchmark:
        "results/benchmarks/collect_concepts/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        seed=config["seed"],
    message:
        "Collect the labels of all models and layers"
    script:
        "../scripts/collect_concepts.py"


rule rarefy_probe:
    input:
        activations=expand("results/activations/{{model}}/{{layer}}/{shard}.h5", shard=shards("probe")),
        images=expand("results/embeddings/images/{encoder}/{shard}.h5", encoder=ENCODER, shard=shards("probe")),
        concepts=f"results/embeddings/concepts/{ENCODER}.h5",
    output:
        "results/rarefaction/{model}/{layer}.csv",
    log:
        "results/logs/rarefy_probe/{model}/{layer}.log",
    benchmark:
        "results/benchmarks/rarefy_probe/{model}/{layer}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory(2500),
        runtime=minutes(60),
    params:
        similarity=config["dissect"]["similarity"],
        near_duplicate=config["dissect"]["evidence"]["near_duplicate"],
        sizes=config["dissect"]["probe_sizes"],
        seed=config["seed"],
    message:
        "Label the units of {wildcards.model} {wildcards.layer} on parts of the probe photographs"
    script:
        "../scripts/rarefy_probe.py"


rule compare_models:
    input:
        concepts="results/concepts.csv",
        rarefied=per_layer("results/rarefaction/{model}/{layer}.csv"),
    output:
        frequent=report(
            "results/comparison/frequent_concepts.csv",
            category="3 Concepts",
            labels={"result": "table: units of every concept"},
            caption="../report/table_frequent.rst",
        ),
        layers=report(
            "results/comparison/layers.csv",
            category="3 Concepts",
            labels={"result": "table: layers"},
            caption="../report/table_layers.rst",
        ),
        rarefaction=report(
            "results/comparison/rarefaction.csv",
            category="3 Concepts",
            labels={"result": "table: distinct concepts by units"},
            caption="../report/table_rarefaction.rst",
        ),
        probe_sizes=report(
            "results/comparison/probe_sizes.csv",
            category="3 Concepts",
            labels={"result": "table: distinct concepts by photographs"},
            caption="../report/table_probe_sizes.rst",
        ),
        categories=report(
            "results/comparison/categories.csv",
            category="3 Concepts",
            labels={"result": "table: categories"},
            caption="../report/table_categories.rst",
        ),
        trend=report(
            "results/comparison/trend.csv",
            category="3 Concepts",
            labels={"result": "table: categories from layer to layer"},
            caption="../report/table_trend.rst",
        ),
        models=report(
            "results/comparison/models.csv",
            category="3 Concepts",
            labels={"result": "table: models compared"},
            caption="../report/table_models.rst",
        ),
        category_differences=report(
            "results/comparison/category_differences.csv",
            category="3 Concepts",
            labels={"result": "table: categories of two models compared"},
            caption="../report/table_category_differences.rst",
        ),
        unique_concepts=report(
            "results/comparison/unique_concepts.csv",
            category="3 Concepts",
            labels={"result": "table: concepts of one model only"},
            caption="../report/table_unique_concepts.rst",
        ),
        findings="results/findings/concepts.json",
    log:
        "results/logs/compare_models/all.log",
    benchmark:
        "results/benchmarks/compare_models/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        seed=config["seed"],
    message:
        "Compare what the models have learned"
    script:
        "../scripts/compare_models.py"
