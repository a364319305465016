# The page of findings, tables and figures.


rule write_overview:
    input:
        facts=expand("results/models/{model}.json", model=config["models"]),
        layer_facts=facts_of_layers(),
        images="results/images.csv",
        predictions="results/predictions.csv",
        explanations="results/explanations.csv",
        classes="results/classes.csv",
        concepts="results/concepts.csv",
        controls="results/controls.csv",
        frequent="results/comparison/frequent_concepts.csv",
        layers="results/comparison/layers.csv",
        categories="results/comparison/categories.csv",
        models="results/comparison/models.csv",
        timings="results/timings/explainers.csv",
        differences="results/comparison/category_differences.csv",
        agreement="results/agreement_summary.csv",
        agreement_scores="results/agreement.csv",
        complexity="results/complexity_agreement.csv",
        faithfulness="results/faithfulness_summary.csv",
        randomization="results/randomization_summary.csv",
        stability="results/stability_summary.csv",
        localization_tests=if_any(if_localization("results/localization_tests.csv")),
        netdissect=if_any(if_configured("netdissect", "results/netdissect.csv")),
        maps=per_layer("results/unit_maps/{model}/{layer}.h5"),
        probe_images=images_of_models("probe", labeled_models(), shards("probe")),
        annotated_maps=maps_of_annotated(),
        annotated_images=pixels_of_annotated(),
        example_images=example_images(),
        example_maps=example_maps(),
        verification="results/verification.csv",
        verification_timings="results/timings/verification.csv",
        frequent_concepts="results/figures/concepts/frequent.svg",
        distinct_concepts="results/figures/concepts/distinct.svg",
        category_shares="results/figures/concepts/categories.svg",
        timings_figure="results/timings/explainers.svg",
        grids=expand("results/figures/explanations/{model}.png", model=explained_models()),
        sections=overview_files,
    output:
        findings=report(
            "results/findings.html",
            category="1 Overview",
            labels={"result": "page: findings and tables"},
            caption="../report/overview.rst",
        ),
        overview="results/overview.html",
        answers="results/answers.rst",  # the first page of Snakemake's report, which report/workflow.rst reads
    log:
        "results/logs/write_overview/all.log",
    benchmark:
        "results/benchmarks/write_overview/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        settings=overview_settings(),
        sections=overview_sections,
        captions=overview_captions,
        shown=config["report"]["n_images"],
        grid_rows=min(GRID_ROWS, config["report"]["n_images"]),
        area=config["agreement"]["area"],
        n_samples=config["explain"]["lime"]["n_samples"],
        beside=["explanations", "units", "classes/index"],
        missing=None,
    message:
        "Write the overview"
    script:
        "../scripts/write_overview.py"
