# Layers and models compared by the concepts of their units.


rule compare_models:
    input:
        concepts="results/concepts.csv",
        rarefied=per_layer("results/rarefaction/{model}/{layer}.csv"),
    output:
        frequent=report(
            "results/comparison/frequent_concepts.csv",
            category="3 Concepts",
            labels={"result": "table: units of every concept"},
            caption="../report/table_frequent.rst",
        ),
        layers=report(
            "results/comparison/layers.csv",
            category="3 Concepts",
            labels={"result": "table: layers"},
            caption="../report/table_layers.rst",
        ),
        rarefaction=report(
            "results/comparison/rarefaction.csv",
            category="3 Concepts",
            labels={"result": "table: distinct concepts by units"},
            caption="../report/table_rarefaction.rst",
        ),
        probe_sizes=report(
            "results/comparison/probe_sizes.csv",
            category="3 Concepts",
            labels={"result": "table: distinct concepts by source images"},
            caption="../report/table_probe_sizes.rst",
        ),
        categories=report(
            "results/comparison/categories.csv",
            category="3 Concepts",
            labels={"result": "table: categories"},
            caption="../report/table_categories.rst",
        ),
        trend=report(
            "results/comparison/trend.csv",
            category="3 Concepts",
            labels={"result": "table: categories from layer to layer"},
            caption="../report/table_trend.rst",
        ),
        models=report(
            "results/comparison/models.csv",
            category="3 Concepts",
            labels={"result": "table: models compared"},
            caption="../report/table_models.rst",
        ),
        category_differences=report(
            "results/comparison/category_differences.csv",
            category="3 Concepts",
            labels={"result": "table: categories of two models compared"},
            caption="../report/table_category_differences.rst",
        ),
        unique_concepts=report(
            "results/comparison/unique_concepts.csv",
            category="3 Concepts",
            labels={"result": "table: concepts of one model only"},
            caption="../report/table_unique_concepts.rst",
        ),
        findings="results/findings/concepts.json",
    log:
        "results/logs/compare_models/all.log",
    benchmark:
        "results/benchmarks/compare_models/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        seed=config["seed"],
    message:
        "Compare what the models have learned"
    script:
        "../scripts/compare_models.py"


rule draw_concepts:
    input:
        frequent="results/comparison/frequent_concepts.csv",
        layers="results/comparison/layers.csv",
        rarefaction="results/comparison/rarefaction.csv",
        probe_sizes="results/comparison/probe_sizes.csv",
        categories="results/comparison/categories.csv",
        trend="results/comparison/trend.csv",
        differences="results/comparison/category_differences.csv",
        concepts="results/concepts.csv",
    output:
        frequent=report(
            "results/figures/concepts/frequent.svg",
            category="3 Concepts",
            labels={"result": "figure: most frequent concepts"},
            caption="../report/frequent.rst",
        ),
        distinct=report(
            "results/figures/concepts/distinct.svg",
            category="3 Concepts",
            labels={"result": "figure: distinct concepts"},
            caption="../report/distinct.rst",
        ),
        null=report(
            "results/figures/concepts/null.svg",
            category="3 Concepts",
            labels={"result": "figure: what the labels may claim"},
            caption="../report/null.rst",
        ),
        categories=report(
            "results/figures/concepts/categories.svg",
            category="3 Concepts",
            labels={"result": "figure: categories"},
            caption="../report/categories.rst",
        ),
        rarefaction=report(
            "results/figures/concepts/rarefaction.svg",
            category="3 Concepts",
            labels={"result": "figure: distinct concepts by units and source images"},
            caption="../report/rarefaction.rst",
        ),
        trend=report(
            "results/figures/concepts/trend.svg",
            category="3 Concepts",
            labels={"result": "figure: categories from layer to layer"},
            caption="../report/trend.rst",
        ),
        differences=report(
            "results/figures/concepts/category_differences.svg",
            category="3 Concepts",
            labels={"result": "figure: categories of two models compared"},
            caption="../report/category_differences.rst",
        ),
    log:
        "results/logs/draw_concepts/all.log",
    benchmark:
        "results/benchmarks/draw_concepts/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        models=list(config["models"]),
    message:
        "Draw what the models have learned"
    script:
        "../scripts/draw_concepts.py"
