# What is retrieved: weights, the encoder, source images and words; and whether the networks are as configured.


rule retrieve_weights:
    input:
        lambda wildcards: local_path(of_model("weights")(wildcards)),
    output:
        "results/retrieved/weights/{model}.bin",
    log:
        "results/logs/retrieve_weights/{model}.log",
    benchmark:
        "results/benchmarks/retrieve_weights/{model}.tsv"
    priority: first_picture
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        file=of_model("weights"),
    message:
        "Retrieve the weights of {wildcards.model}"
    script:
        "../scripts/retrieve_weights.py"


rule check_model:
    input:
        module=own_module,
        weights="results/retrieved/weights/{model}.bin",
    output:
        "results/models/{model}.json",
    log:
        "results/logs/check_model/{model}.log",
    benchmark:
        "results/benchmarks/check_model/{model}.tsv"
    priority: first_picture
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(FACTS_MB),
        runtime=BRIEF,
    params:
        network=network,
        preprocessing=preprocessing,
        source=of_model("weights"),
        classes=lambda wildcards: count_classes(of_model("classes")(wildcards)),
    message:
        "Check that {wildcards.model} is as configured"
    script:
        "../scripts/check_model.py"


rule check_layer:
    input:
        model="results/models/{model}.json",
        weights="results/retrieved/weights/{model}.bin",
    output:
        "results/models/{model}/{layer}.json",
    log:
        "results/logs/check_layer/{model}/{layer}.log",
    benchmark:
        "results/benchmarks/check_layer/{model}/{layer}.tsv"
    priority: first_picture
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(FACTS_MB),
        runtime=BRIEF,
    params:
        network=network,
        preprocessing=preprocessing,
    message:
        "Check that {wildcards.model} has the layer {wildcards.layer}"
    script:
        "../scripts/check_layer.py"


rule retrieve_encoder:
    input:
        lambda wildcards: local_path(config["encoder"]["files"][wildcards.part]),
    output:
        "results/retrieved/encoders/{encoder}/{part}.bin",
    log:
        "results/logs/retrieve_encoder/{encoder}/{part}.log",
    benchmark:
        "results/benchmarks/retrieve_encoder/{encoder}/{part}.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        file=lambda wildcards: config["encoder"]["files"][wildcards.part],
    message:
        "Retrieve the {wildcards.part} part of the encoder {wildcards.encoder}"
    script:
        "../scripts/retrieve_encoder.py"


rule retrieve_images:
    output:
        facts="results/retrieved/images/{dataset}.json",
        sheet="results/retrieved/images/{dataset}.csv",
        left_out="results/retrieved/images/{dataset}.left_out.csv",
    log:
        "results/logs/retrieve_images/{dataset}.log",
    benchmark:
        "results/benchmarks/retrieve_images/{dataset}.tsv"
    priority: first_picture
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        sources=sources,
        drawn=drawn_images,
        kind=of_images("kind"),
        size=of_images("size"),
        classes=classes_of_folders,
        digests=lambda wildcards: class_digests(classes_of_folders(wildcards)),
        fewest=fewest_source_images,
        on_bad_image=of_images("on_bad_image"),
    message:
        "Retrieve the {wildcards.dataset} source images"
    script:
        "../scripts/retrieve_images.py"


rule collect_words:
    input:
        config.get("concepts", {}).get("list", []),
    output:
        "results/retrieved/concepts.csv",
    log:
        "results/logs/collect_words/all.log",
    benchmark:
        "results/benchmarks/collect_words/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        common_words=config.get("concepts", {}).get("common_words", 0),
    message:
        "Collect the concepts"
    script:
        "../scripts/collect_words.py"
