# Maps cut to masks, their shapes, and complexity of the source images against the agreement of the explainers.


rule measure_images:
    input:
        images=explain_images_of_model,
        saliency=saliency_of_shard,
    output:
        masks="results/masks/{model}/{shard}.h5",
        shape="results/shape/{model}/{shard}.csv",
        complexity="results/complexity/{model}/{shard}.csv",
    log:
        "results/logs/measure_images/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/measure_images/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(MAPS_MB, maps="all"),
        runtime=SHORT,
    params:
        area=config["agreement"]["area"],
        threshold=config["agreement"]["threshold"],
        seed=config["seed"],
    message:
        "Cut the maps of {wildcards.model} to masks, measure these and the source images, shard {wildcards.shard}"
    script:
        "../scripts/measure_images.py"


rule summarize_measures:
    input:
        shape=per_explained_shard("results/shape/{model}/{shard}.csv"),
        complexity=per_explained_shard("results/complexity/{model}/{shard}.csv"),
        agreement="results/agreement.csv",
    output:
        shape="results/shape.csv",
        shape_summary="results/shape_summary.csv",
        shape_tests="results/shape_tests.csv",
        complexity="results/complexity.csv",
        correlations="results/complexity_agreement.csv",
        shape_findings="results/findings/shape.json",
        complexity_findings="results/findings/complexity.json",
    log:
        "results/logs/summarize_measures/all.log",
    benchmark:
        "results/benchmarks/summarize_measures/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=LONG,
    params:
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Summarize the shapes of the maps and the complexity of the source images"
    script:
        "../scripts/summarize_measures.py"


rule draw_measures:
    input:
        shape="results/shape_summary.csv",
        tables=["results/agreement.csv", "results/complexity.csv", "results/complexity_agreement.csv"],
        images=images_of_models("explain", explained_models(), first_shards("report")),
    output:
        shape="results/figures/map_shapes.svg",
        complexity="results/figures/complexity_scatter.svg",
    log:
        "results/logs/draw_measures/all.log",
    benchmark:
        "results/benchmarks/draw_measures/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        area=config["agreement"]["area"],
        models=list(config["models"]),
        shown=config["report"]["n_images"],
    message:
        "Draw the shapes of the maps and the complexity of the source images"
    script:
        "../scripts/draw_measures.py"
