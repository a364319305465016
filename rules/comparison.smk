# Layers and models compared by the concepts of their units.


rule compare_models:
    input:
        concepts="results/concepts.csv",
        controls="results/controls.csv",
        rarefied=expand("results/rarefaction/{model}.csv", model=labeled_models()),
    output:
        frequent="results/comparison/frequent_concepts.csv",
        layers="results/comparison/layers.csv",
        rarefaction="results/comparison/rarefaction.csv",
        probe_sizes="results/comparison/probe_sizes.csv",
        forecast="results/comparison/forecast.csv",
        categories="results/comparison/categories.csv",
        trend="results/comparison/trend.csv",
        models="results/comparison/models.csv",
        category_differences="results/comparison/category_differences.csv",
        unique_concepts="results/comparison/unique_concepts.csv",
        findings="results/findings/concepts.json",
        frequent_drawn=report(
            "results/figures/concepts/frequent.svg",
            category="3 Concepts",
            labels={"result": "figure: most frequent concepts"},
            caption="../report/frequent.rst",
        ),
        distinct="results/figures/concepts/distinct.svg",
        null=report(
            "results/figures/concepts/null.svg",
            category="3 Concepts",
            labels={"result": "figure: what the labels may claim"},
            caption="../report/null.rst",
        ),
        controls=report(
            "results/figures/concepts/controls.svg",
            category="3 Concepts",
            labels={"result": "figure: words where the truth is known"},
            caption="../report/controls.rst",
        ),
        categories_drawn="results/figures/concepts/categories.svg",
        rarefaction_drawn="results/figures/concepts/rarefaction.svg",
        again="results/figures/concepts/words_again.svg",
        trend_drawn="results/figures/concepts/trend.svg",
        differences_drawn="results/figures/concepts/category_differences.svg",
    log:
        "results/logs/compare_models/all.log",
    benchmark:
        "results/benchmarks/compare_models/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        seed=config["seed"],
        models=list(config["models"]),
    message:
        "Compare what the models have learned, and draw it"
    script:
        "../scripts/compare_models.py"
