# What the probe set's own annotations say: in place of an encoder (`dissect.method: annotations`), or to test its words.


rule annotate_images:
    input:
        images=lambda wildcards: images_of("probe", annotated_geometry(), wildcards.shard),
        words=annotation_words,
    output:
        "results/embeddings/images/annotations/{shard}.h5",
    log:
        "results/logs/annotate_images/{shard}.log",
    benchmark:
        "results/benchmarks/annotate_images/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(TABLES_MB),
        runtime=LONG,
    params:
        words=words_of_annotations,
        source=source_of_annotations,
        digests=class_digests(annotated_classes(config, "probe")),
    message:
        "Read the annotations of shard {wildcards.shard} of the probe source images"
    script:
        "../scripts/annotate_images.py"


rule annotate_concepts:
    input:
        images=expand("results/embeddings/images/annotations/{shard}.h5", shard=shards("probe")),
        words=annotation_words,
    output:
        "results/embeddings/concepts/annotations.h5",
    log:
        "results/logs/annotate_concepts/all.log",
    benchmark:
        "results/benchmarks/annotate_concepts/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(TABLES_MB),
        runtime=SHORT,
    params:
        words=words_of_annotations,
        digests=class_digests(annotated_classes(config, "probe")),
    message:
        "List the annotated concepts"
    script:
        "../scripts/annotate_concepts.py"
