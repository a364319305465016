rule retrieve_weights:
    input:
        local_weights,
    output:
        "resources/weights/{model}.bin",
    log:
        "results/logs/retrieve_weights/{model}.log",
    benchmark:
        "results/benchmarks/retrieve_weights/{model}.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        file=weights_file,
    message:
        "Retrieve the weights of {wildcards.model}"
    script:
        "../scripts/retrieve_weights.py"


rule check_model:
    input:
        module=own_module,
        weights="resources/weights/{model}.bin",
    output:
        report(
            "results/models/{model}.json",
            category="2 Models",
            labels={"result": "facts: {model}"},
            caption="../report/model.rst",
        ),
    log:
        "results/logs/check_model/{model}.log",
    benchmark:
        "results/benchmarks/check_model/{model}.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(10),
    params:
        network=network,
        layers=layers_to_check,
        preprocessing=preprocessing,
        source=weights_file,
    message:
        "Check that {wildcards.model} has the configured layers and classes"
    script:
        "../scripts/check_model.py"


rule retrieve_encoder:
    input:
        local_encoder_file,
    output:
        "resources/encoders/{encoder}/{part}.bin",
    log:
        "results/logs/retrieve_encoder/{encoder}/{part}.log",
    benchmark:
        "results/benchmarks/retrieve_encoder/{encoder}/{part}.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        file=encoder_file,
    message:
        "Retrieve the {wildcards.part} part of the encoder {wildcards.encoder}"
    script:
        "../scripts/retrieve_encoder.py"


rule retrieve_images:
    input:
        sheet=committed_sheet,
    output:
        "resources/images/{dataset}.csv",
    log:
        "results/logs/retrieve_images/{dataset}.log",
    benchmark:
        "results/benchmarks/retrieve_images/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        sources=image_sources,
        folder=photographs_folder,
        kind=image_kind,
        size=image_count,
        on_bad_image=on_bad_image,
    message:
        "Retrieve the {wildcards.dataset} photographs"
    script:
        "../scripts/retrieve_images.py"


rule collect_words:
    input:
        config["concepts"]["list"],
    output:
        "resources/concepts.csv",
    log:
        "results/logs/collect_words/all.log",
    benchmark:
        "results/benchmarks/collect_words/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        common_words=config["concepts"].get("common_words", 0),
    message:
        "Collect the concepts"
    script:
        "../scripts/collect_words.py"


rule collect_mask_words:
    input:
        "resources/images/probe.csv",
    output:
        "resources/mask_words.csv",
    log:
        "results/logs/collect_mask_words/all.log",
    benchmark:
        "results/benchmarks/collect_mask_words/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        folder=photographs_folder,
    message:
        "List what the numbers in Broden's label maps mean"
    script:
        "../scripts/collect_mask_words.py"
