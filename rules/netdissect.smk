# Network Dissection: units beside masks or boxes of the annotated set, or of the probe set where there is none.


rule collect_mask_words:
    input:
        f"results/retrieved/images/{ANNOTATED}.json",
    output:
        "results/retrieved/mask_words.csv",
    log:
        "results/logs/collect_mask_words/all.log",
    benchmark:
        "results/benchmarks/collect_mask_words/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        kind=config["images"][ANNOTATED].get("kind"),
    message:
        "List what the numbers in the label maps mean"
    script:
        "../scripts/collect_mask_words.py"


rule dissect_network:
    input:
        unpack(network_files),
        images=annotated_images_of_model,
        masks=mask_table,
    output:
        "results/netdissect/{model}/{layer}.csv",
        # where units respond in images that they are not labeled with
        *(["results/netdissect/{model}/{layer}.h5"] if ANNOTATED == "annotated" else []),
    log:
        "results/logs/dissect_network/{model}/{layer}.log",
    benchmark:
        "results/benchmarks/dissect_network/{model}/{layer}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(LAYER_MB),
        runtime=LONG,
    params:
        network=network,
        device=config["device"],
        pooling=config["dissect"]["pooling"],
        words=mask_words,
        digests=class_digests(annotated_classes(config, ANNOTATED)),
        draws=dissection,
        detector=lambda wildcards: config["netdissect"]["detector"],
    message:
        "Dissect {wildcards.model} {wildcards.layer} with masks"
    script:
        "../scripts/dissect_network.py"


rule collect_netdissect:
    input:
        unpack(encoder_files),
        dissected=per_layer("results/netdissect/{model}/{layer}.csv"),
        labels="results/concepts.csv",
    output:
        units="results/netdissect.csv",
        layers="results/comparison/netdissect.csv",
        figure=report(
            "results/figures/concepts/annotated_units.svg",
            category="3 Concepts",
            labels={"result": "figure: units that masks name"},
            caption="../report/annotated_units.rst",
        ),
        findings="results/findings/netdissect.json",
    log:
        "results/logs/collect_netdissect/all.log",
    benchmark:
        "results/benchmarks/collect_netdissect/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        mem_mb=memory(WORDS_MB),
        runtime=SHORT,
    params:
        encoder=encoder,
        device=config["device"],
        seed=config["seed"],
    message:
        "Compare Network Dissection with the labels"
    script:
        "../scripts/collect_netdissect.py"
