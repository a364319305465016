# A concept for every unit, with its evidence, and where the unit responds.


rule label_units:
    input:
        activations=expand("results/activations/{{model}}/{{layer}}/{shard}.h5", shard=shards("probe")),
        maps=expand("results/unit_maps/{{model}}/{{layer}}/{shard}.h5", shard=shards("probe")),
        images=expand("results/embeddings/images/{encoder}/{shard}.h5", encoder=ENCODER, shard=shards("probe")),
        concepts=f"results/embeddings/concepts/{ENCODER}.h5",
        annotations=beside_encoder(*expand("results/embeddings/images/annotations/{shard}.h5", shard=shards("probe"))),
        annotated=if_any(beside_encoder("results/embeddings/concepts/annotations.h5")),
    output:
        table="results/concepts/{model}/{layer}.csv",
        linear="results/linear_labels/{model}/{layer}.csv",
        maps="results/unit_maps/{model}/{layer}.h5",
    log:
        "results/logs/label_units/{model}/{layer}.log",
    benchmark:
        "results/benchmarks/label_units/{model}/{layer}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_of_labels,
        runtime=USUAL,
    params:
        similarity=config["dissect"]["similarity"],
        evidence=config["dissect"]["evidence"] | {"top_k": config["dissect"]["top_k"]},
        seed=config["seed"],
    message:
        "Label the units of {wildcards.model} {wildcards.layer}"
    script:
        "../scripts/label_units.py"


rule rarefy_probe:
    input:
        activations=activations_of_model,
        images=expand("results/embeddings/images/{encoder}/{shard}.h5", encoder=ENCODER, shard=shards("probe")),
        concepts=f"results/embeddings/concepts/{ENCODER}.h5",
    output:
        "results/rarefaction/{model}.csv",
    log:
        "results/logs/rarefy_probe/{model}.log",
    benchmark:
        "results/benchmarks/rarefy_probe/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_of_labels,
        runtime=LONG,
    params:
        layers=of_model("layers"),
        similarity=config["dissect"]["similarity"],
        sizes=config["dissect"]["probe_sizes"],
        seed=config["seed"],
    message:
        "Label the units of {wildcards.model} on parts of the probe source images"
    script:
        "../scripts/rarefy_probe.py"


rule extract_controls:
    input:
        unpack(network_files),
        layer_facts=lambda wildcards: expand(
            "results/models/{model}/{layer}.json", model=wildcards.model, layer=of_model("layers")(wildcards)
        ),
        images=all_probe_images_of_model,
    output:
        "results/controls/{model}.h5",
    log:
        "results/logs/extract_controls/{model}.log",
    benchmark:
        "results/benchmarks/extract_controls/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(LAYER_MB),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        layers=of_model("layers"),
        pooling=config["dissect"]["pooling"],
        seed=config["seed"],
    message:
        "Extract the class outputs of {wildcards.model}, and its layers with shuffled weights"
    script:
        "../scripts/extract_controls.py"


rule score_words:
    input:
        controls="results/controls/{model}.h5",
        features=expand("results/embeddings/images/{encoder}/{shard}.h5", encoder=ENCODER, shard=shards("probe")),
        concepts=f"results/embeddings/concepts/{ENCODER}.h5",
        classes=[] if ENCODER == "annotations" else f"results/embeddings/classes/{ENCODER}.h5",
    output:
        "results/controls/{model}.csv",
    log:
        "results/logs/score_words/{model}.log",
    benchmark:
        "results/benchmarks/score_words/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        mem_mb=memory_of_controls,
        runtime=LONG,
    params:
        layers=of_model("layers"),
        classes=lambda wildcards: next(iter(named_classes([wildcards.model])), None),
        digests=own_class_digest,
        similarity=config["dissect"]["similarity"],
        evidence=config["dissect"]["evidence"] | {"top_k": config["dissect"]["top_k"]},
        seed=config["seed"],
    message:
        "Label the class outputs of {wildcards.model}, and its layers with shuffled weights"
    script:
        "../scripts/score_words.py"


rule collect_concepts:
    input:
        concepts=per_layer("results/concepts/{model}/{layer}.csv"),
        linear=per_layer("results/linear_labels/{model}/{layer}.csv"),
        controls=expand("results/controls/{model}.csv", model=labeled_models()),
    output:
        table="results/concepts.csv",
        controls="results/controls.csv",
        linear="results/linear_labels.csv",
        findings="results/findings/evidence.json",
    log:
        "results/logs/collect_concepts/all.log",
    benchmark:
        "results/benchmarks/collect_concepts/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Collect the labels of all models and layers"
    script:
        "../scripts/collect_concepts.py"
