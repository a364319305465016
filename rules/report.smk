# Pages and images of single units and explanations.


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
    priority: first_picture
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(MAPS_MB),
        runtime=SHORT,
    params:
        shown=config["report"]["n_images"],
        classes=own_class_list,
        digests=own_class_digest,
    message:
        "Draw what {wildcards.explainer} shows of {wildcards.model}: {output}"
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
            labels={"result": "figure: first source images, all explainers, {model}"},
            caption="../report/grid.rst",
        ),
    log:
        "results/logs/draw_grid/{model}.log",
    benchmark:
        "results/benchmarks/draw_grid/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(MAPS_MB),
        runtime=SHORT,
    params:
        shown=min(GRID_ROWS, config["report"]["n_images"]),
        classes=own_class_list,
        digests=own_class_digest,
    message:
        "Draw the explanations of {wildcards.model} side by side"
    script:
        "../scripts/draw_grid.py"


rule write_units:
    input:
        concepts=per_layer("results/concepts/{model}/{layer}.csv"),
        linear=per_layer("results/linear_labels/{model}/{layer}.csv"),
        masks=if_any(if_configured("netdissect", "results/netdissect.csv")),
        maps=per_layer("results/unit_maps/{model}/{layer}.h5"),
        images=images_of_models("probe", labeled_models(), shards("probe")),
    output:
        "results/units.html",  # no part of the report: browsers show no embedded page of more than 2 MB
    log:
        "results/logs/write_units/all.log",
    benchmark:
        "results/benchmarks/write_units/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(CARDS_MB),
        runtime=USUAL,
    params:
        models=list(config["models"]),
        missing=[],
        beside=["overview", "explanations"],
    message:
        "Write the gallery of units"
    script:
        "../scripts/write_units.py"


rule write_explanations:
    input:
        images=images_of_models("explain", explained_models(), first_shards("report")),
        saliency=shown_saliency(),
        masks=per_explained_shard("results/masks/{model}/{shard}.h5", first_shards("report")),
        agreement=per_explained_shard("results/agreement/{model}/{shard}.csv", first_shards("report")),
        predictions="results/predictions.csv",
        faithfulness=per_explained_shard("results/faithfulness/{model}/{shard}.csv", first_shards("report")),
        accounts=per_explained_shard("results/accounts/{model}/{shard}.h5", first_shards("report")),
        concepts="results/concepts.csv",
        netdissect=if_any(if_configured("netdissect", "results/netdissect.csv")),
        linear=per_layer("results/linear_labels/{model}/{layer}.csv", accounted_layers()),
        classes="results/classes.csv",
        maps=per_layer("results/unit_maps/{model}/{layer}.h5", accounted_layers()),
        probe_images=images_of_models("probe", [model for model, _ in accounted_layers()], shards("probe")),
    output:
        report(
            "results/explanations.html",
            category="4 Explanations",
            labels={"result": "page: source images, maps and masks"},
            caption="../report/explanations_page.rst",
        ),
    log:
        "results/logs/write_explanations/all.log",
    benchmark:
        "results/benchmarks/write_explanations/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(MAPS_MB),
        runtime=SHORT,
    params:
        shown=config["report"]["n_images"],
        classes=class_lists(),
        digests=class_digests(class_lists().values()),
        area=config["agreement"]["area"],
        missing=[],
        beside=["overview", "units", "classes/index"],
    message:
        "Write the page of explanations"
    script:
        "../scripts/write_explanations.py"


rule write_tables:
    input:
        shown_tables(),
    output:
        report(
            directory(TABLE_PAGES),
            patterns=["{page}.html"],
            category=category_of_page,
            labels={"result": "page: tables of {page}"},
            caption="../report/tables.rst",
        ),
    log:
        "results/logs/write_tables/all.log",
    benchmark:
        "results/benchmarks/write_tables/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        topics=table_topics,
    message:
        "Write the tables as pages"
    script:
        "../scripts/write_tables.py"
