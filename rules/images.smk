# Source images decoded once for all networks of one geometry, and counted.


rule decode_images:
    input:
        facts="results/retrieved/images/{dataset}.json",
        retrieved="results/retrieved/images/{dataset}.csv",
    output:
        "results/images/{dataset}/{geometry}/{shard}.h5",
    log:
        "results/logs/decode_images/{dataset}/{geometry}/{shard}.log",
    benchmark:
        "results/benchmarks/decode_images/{dataset}/{geometry}/{shard}.tsv"
    priority: first_picture
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_blocks,
        runtime=USUAL,
    params:
        geometry=geometry,
        rows=shard_range,
        digest=shard_digest,
        on_bad_image=of_images("on_bad_image"),
        label_base=of_images("label_base"),
        bits=of_images("bits"),
        max_pixels=of_images("max_pixels"),
    message:
        "Decode shard {wildcards.shard} of the {wildcards.dataset} source images ({wildcards.geometry})"
    script:
        "../scripts/decode_images.py"


rule summarize_images:
    input:
        images=decoded_images()[1],
        sheets=expand("results/retrieved/images/{dataset}.csv", dataset=config["images"]),
        left_out=expand("results/retrieved/images/{dataset}.left_out.csv", dataset=config["images"]),
    output:
        "results/images.csv",
    log:
        "results/logs/summarize_images/all.log",
    benchmark:
        "results/benchmarks/summarize_images/all.tsv"
    priority: 1  # refuses a set without an image, on which the others fail
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        names=list(config["images"]),
        bits=[images["bits"] for images in config["images"].values()],
        sets=decoded_images()[0],
    message:
        "Count the images, those left out, and copies"
    script:
        "../scripts/summarize_images.py"
