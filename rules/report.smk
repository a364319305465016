rule draw_overlays:
    input:
        images=first_images("report"),
        saliency=expand("results/saliency/{{model}}/{{explainer}}/{shard}.h5", shard=first_shards("report")),
    output:
        directory("results/overlays/{model}/{explainer}"),  # not in the report, whose page of explanations shows them
    log:
        "results/logs/draw_overlays/{model}/{explainer}.log",
    benchmark:
        "results/benchmarks/draw_overlays/{model}/{explainer}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        shown=config["report"]["photographs"],
        classes=class_list,
    message:
        "Draw what {wildcards.explainer} shows of {wildcards.model}"
    script:
        "../scripts/draw_overlays.py"


rule draw_grid:
    input:
        images=first_images("report"),
        saliency=first_saliency("report"),
    output:
        report(
            "results/figures/explanations/{model}.png",
            category="4 Explanations",
            labels={"result": "figure: all photographs and explainers, {model}"},
            caption="../report/grid.rst",
        ),
    log:
        "results/logs/draw_grid/{model}.log",
    benchmark:
        "results/benchmarks/draw_grid/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        shown=config["report"]["photographs"],
        classes=class_list,
    message:
        "Draw the explanations of {wildcards.model} side by side"
    script:
        "../scripts/draw_grid.py"


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
            labels={"result": "figure: labels against the null"},
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
            labels={"result": "figure: distinct concepts by units and photographs"},
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
    message:
        "Draw what the models have learned"
    script:
        "../scripts/draw_concepts.py"


rule draw_agreement:
    input:
        summary="results/agreement_summary.csv",
        timings="results/timings/explainers.csv",
    output:
        equal_area=report(
            "results/figures/agreement/equal_area_iou.svg",
            category="5 Agreement",
            labels={"result": "figure: equal-area IoU"},
            caption="../report/equal_area_iou.rst",
        ),
        threshold=report(
            "results/figures/agreement/threshold_iou.svg",
            category="5 Agreement",
            labels={"result": "figure: IoU at a threshold"},
            caption="../report/threshold_iou.rst",
        ),
        spearman=report(
            "results/figures/agreement/spearman.svg",
            category="5 Agreement",
            labels={"result": "figure: rank correlation"},
            caption="../report/spearman.rst",
        ),
        sweep=report(
            "results/figures/agreement/sweep.svg",
            category="5 Agreement",
            labels={"result": "figure: equal-area IoU at every area"},
            caption="../report/sweep.rst",
        ),
        timings=report(
            "results/timings/explainers.svg",
            category="4 Explanations",
            labels={"result": "figure: seconds a photograph"},
            caption="../report/timings.rst",
        ),
    log:
        "results/logs/draw_agreement/all.log",
    benchmark:
        "results/benchmarks/draw_agreement/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        area=config["agreement"]["area"],
    message:
        "Draw how far the explainers agree and how long they take"
    script:
        "../scripts/draw_agreement.py"


rule draw_measures:
    input:
        "results/shape_summary.csv",
        "results/agreement.csv",
        "results/complexity.csv",
        "results/complexity_agreement.csv",
    output:
        shape=report(
            "results/figures/map_shapes.svg",
            category="5 Agreement",
            labels={"result": "figure: how broad and how patchy maps are"},
            caption="../report/map_shapes.rst",
        ),
        complexity=report(
            "results/figures/complexity_scatter.svg",
            category="5 Agreement",
            labels={"result": "figure: complexity against agreement"},
            caption="../report/complexity_scatter.rst",
        ),
    log:
        "results/logs/draw_measures/all.log",
    benchmark:
        "results/benchmarks/draw_measures/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        area=config["agreement"]["area"],
    message:
        "Draw the shapes of the maps and the complexity of the photographs"
    script:
        "../scripts/draw_measures.py"


rule write_units:
    input:
        concepts=per_layer("results/concepts/{model}/{layer}.csv"),
        maps=per_layer("results/unit_maps/{model}/{layer}.h5"),
        images=images_of_models("probe", labelled_models(), shards("probe")),
    output:
        "results/units.html",  # no part of the report: browsers show no embedded page of more than 2 MB
    log:
        "results/logs/write_units/all.log",
    benchmark:
        "results/benchmarks/write_units/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(2000),
        runtime=minutes(30),
    params:
        missing=[],
    message:
        "Write the gallery of units"
    script:
        "../scripts/write_units.py"


rule write_explanations:
    input:
        images=images_of_models("explain", explained_models(), first_shards("report")),
        saliency=per_explainer("results/saliency/{model}/{explainer}/{shard}.h5", first_shards("report")),
        masks=per_explained_shard("results/masks/{model}/{shard}.h5", first_shards("report")),
        predictions="results/predictions.csv",
        faithfulness=per_explained_shard("results/faithfulness/{model}/{shard}.csv", first_shards("report")),
    output:
        report(
            "results/explanations.html",
            category="4 Explanations",
            labels={"result": "page: photographs, maps and masks"},
            caption="../report/explanations_page.rst",
        ),
    log:
        "results/logs/write_explanations/all.log",
    benchmark:
        "results/benchmarks/write_explanations/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(1500),
        runtime=minutes(15),
    params:
        shown=config["report"]["photographs"],
        classes=class_lists(),
        area=config["agreement"]["area"],
        missing=[],
    message:
        "Write the page of explanations"
    script:
        "../scripts/write_explanations.py"


rule summarise_resources:
    input:
        all_but_the_resources,
    output:
        table=report(
            RESOURCES,
            category="Resources",
            labels={"result": "table: time and memory, asked and used"},
            caption="../report/resources.rst",
        ),
        slowest=report(
            "results/timings/slowest_jobs.csv",
            category="Resources",
            labels={"result": "table: slowest jobs"},
            caption="../report/slowest_jobs.rst",
        ),
        figure=report(
            "results/timings/resources.svg",
            category="Resources",
            labels={"result": "figure: time and memory, asked and used"},
            caption="../report/resources_figure.rst",
        ),
    log:
        "results/logs/summarise_resources/all.log",
    benchmark:
        "results/benchmarks/summarise_resources/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Compare what the jobs asked for with what they used"
    script:
        "../scripts/summarise_resources.py"


rule draw_faithfulness:
    input:
        summary="results/faithfulness_summary.csv",
        curves="results/faithfulness_curves.csv",
    output:
        scores=report(
            "results/figures/faithfulness/{model}/scores.svg",
            category="7 Faithfulness",
            labels={"result": "figure: scores of the explainers and of the floors, {model}"},
            caption="../report/faithfulness_scores.rst",
        ),
        curves=report(
            "results/figures/faithfulness/{model}/curves.svg",
            category="7 Faithfulness",
            labels={"result": "figure: mean curves, {model}"},
            caption="../report/faithfulness_curves.rst",
        ),
    log:
        "results/logs/draw_faithfulness/{model}.log",
    benchmark:
        "results/benchmarks/draw_faithfulness/{model}.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Draw how faithful the explainers of {wildcards.model} are"
    script:
        "../scripts/draw_faithfulness.py"


rule write_overview:
    input:
        facts=expand("results/models/{model}.json", model=config["models"]),
        images="results/images.csv",
        predictions="results/predictions.csv",
        explanations="results/explanations.csv",
        concepts="results/concepts.csv",
        frequent="results/comparison/frequent_concepts.csv",
        layers="results/comparison/layers.csv",
        categories="results/comparison/categories.csv",
        models="results/comparison/models.csv",
        timings="results/timings/explainers.csv",
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
        shown=config["report"]["photographs"],
        beside=["explanations", "units"],
        missing=None,
    message:
        "Write the overview"
    script:
        "../scripts/write_overview.py"
