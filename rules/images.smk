rule decode_images:
    input:
        retrieved="resources/images/{dataset}.csv",
        sheet=image_sheet,
    output:
        "results/images/{dataset}/{geometry}/{shard}.h5",
    log:
        "results/logs/decode_images/{dataset}/{geometry}/{shard}.log",
    benchmark:
        "results/benchmarks/decode_images/{dataset}/{geometry}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_shard,
        runtime=minutes(30),
    params:
        folder=photographs_folder,
        geometry=geometry,
        rows=shard_range,
        digest=shard_digest,
        on_bad_image=on_bad_image,
    message:
        "Decode shard {wildcards.shard} of the {wildcards.dataset} photographs ({wildcards.geometry})"
    script:
        "../scripts/decode_images.py"
