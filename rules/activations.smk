# What the networks' units and the encoder make of the probe source images, and the encoder of the concepts.


rule extract_activations:
    input:
        unpack(network_files),
        images=lambda wildcards: images_of("probe", preprocessing(wildcards), wildcards.shard),
    output:
        activations="results/activations/{model}/{layer}/{shard}.h5",
        maps="results/unit_maps/{model}/{layer}/{shard}.h5",
    log:
        "results/logs/extract_activations/{model}/{layer}/{shard}.log",
    benchmark:
        "results/benchmarks/extract_activations/{model}/{layer}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(NETWORK_MB),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        pooling=config["dissect"]["pooling"],
    message:
        "Extract activations of {wildcards.model} {wildcards.layer}, shard {wildcards.shard}"
    script:
        "../scripts/extract_activations.py"


rule embed_images:
    input:
        unpack(encoder_files),
        images=lambda wildcards: images_of("probe", config["encoder"]["preprocessing"], wildcards.shard),
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
        mem_mb=memory_of_network(ENCODER_MB),
        runtime=USUAL,
    params:
        encoder=encoder,
        device=config["device"],
    message:
        "Embed shard {wildcards.shard} of the probe source images with {wildcards.encoder}"
    script:
        "../scripts/embed_images.py"


rule embed_concepts:
    input:
        unpack(encoder_files),
        concepts="results/retrieved/concepts.csv",
    output:
        concepts="results/embeddings/concepts/{encoder}.h5",
        classes="results/embeddings/classes/{encoder}.h5",
    log:
        "results/logs/embed_concepts/{encoder}.log",
    benchmark:
        "results/benchmarks/embed_concepts/{encoder}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory_of_network(ENCODER_MB),
        runtime=USUAL,
    params:
        encoder=encoder,
        device=config["device"],
        classes=named_classes(labeled_models()),
        digests=class_digests(named_classes(labeled_models())),
    message:
        "Embed the concepts with {wildcards.encoder}"
    script:
        "../scripts/embed_concepts.py"
