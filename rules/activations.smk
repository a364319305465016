rule extract_activations:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=probe_images_of_model,
    output:
        "results/activations/{model}/{layer}/{shard}.h5",
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
        mem_mb=memory_of_network(1000),
        runtime=minutes(30),
    params:
        network=network,
        device=config["device"],
        pooling=config["dissect"]["pooling"],
    message:
        "Extract activations of {wildcards.model} {wildcards.layer}, shard {wildcards.shard}"
    script:
        "../scripts/extract_activations.py"
