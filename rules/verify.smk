# Explainers against the packages that define them.


rule verify_explainers:
    input:
        unpack(network_files),
        layer=facts_of_cam_layer,
        images=first_images("verify"),
    output:
        differences="results/verification/{model}.csv",
        timings="results/timings/verification/{model}.csv",
    log:
        "results/logs/verify_explainers/{model}.log",
    benchmark:
        "results/benchmarks/verify_explainers/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory(REFERENCES_MB),
        runtime=USUAL,
    params:
        network=network,
        device=config["device"],
        target=config["explain"]["target"],
        layer=of_model("cam_layer"),
        cams=config["explain"]["cams"],
        lime=config["explain"]["lime"],
        verify=config["verify"],
        seed=config["seed"],
    message:
        "Compare the explainers of {wildcards.model} with the reference packages"
    script:
        "../scripts/verify_explainers.py"


rule collect_verification:
    input:
        differences=expand("results/verification/{model}.csv", model=explained_models()),
        timings=expand("results/timings/verification/{model}.csv", model=explained_models()),
    output:
        differences="results/verification.csv",
        timings="results/timings/verification.csv",
    log:
        "results/logs/collect_verification/all.log",
    benchmark:
        "results/benchmarks/collect_verification/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Collect the comparisons with the reference packages"
    script:
        "../scripts/collect_verification.py"
