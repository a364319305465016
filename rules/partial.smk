# Pages of a run that is not finished, made of what exists: `make report`.


use rule write_overview as write_partial_overview with:
    input:
        SUMMARY,
        unpack(made_inputs("write_overview")),
        sections=made_results,  # and whatever else Snakemake's report shows
    output:
        findings=report(
            "results/partial/findings.html",
            category="1 Overview",
            labels={"result": "page: what is missing, findings and tables"},
            caption="../report/partial.rst",
        ),
        overview="results/partial/overview.html",
        answers="results/partial/answers.rst",
    log:
        "results/logs/write_partial_overview/all.log",
    benchmark:
        "results/benchmarks/write_partial_overview/all.tsv"
    params:
        sections=made_overview_sections,
        beside=pages_beside,
        missing=missing_jobs,
    message:
        "Write the overview of what exists"


use rule write_explanations as write_partial_explanations with:
    input:
        SUMMARY,
        unpack(made_inputs("write_explanations")),
    output:
        report(
            "results/partial/explanations.html",
            category="4 Explanations",
            labels={"result": "page: source images, maps and masks that exist"},
            caption="../report/explanations_page.rst",
        ),
    log:
        "results/logs/write_partial_explanations/all.log",
    benchmark:
        "results/benchmarks/write_partial_explanations/all.tsv"
    params:
        missing=missing_explanations,
        beside=pages_beside,
    message:
        "Write the page of the explanations that exist"


use rule write_units as write_partial_units with:
    input:
        SUMMARY,
        concepts=made_units("results/concepts/{model}/{layer}.csv"),
        linear=made_units("results/linear_labels/{model}/{layer}.csv"),
        masks=lambda wildcards: made_inputs("write_units")(wildcards)["masks"],
        maps=made_units("results/unit_maps/{model}/{layer}.h5"),
        images=made_probe_images,
    output:
        "results/partial/units.html",
    log:
        "results/logs/write_partial_units/all.log",
    benchmark:
        "results/benchmarks/write_partial_units/all.tsv"
    params:
        missing=missing_layers,
        beside=pages_beside,
    message:
        "Write the gallery of the units that are labeled"


use rule write_tables as write_partial_tables with:
    input:
        SUMMARY,
        lambda wildcards: made(shown_tables()),
    output:
        report(
            directory("results/partial/tables"),
            patterns=["{page}.html"],
            category=category_of_page,
            labels={"result": "page: tables of {page}, as far as they exist"},
            caption="../report/tables.rst",
        ),
    log:
        "results/logs/write_partial_tables/all.log",
    benchmark:
        "results/benchmarks/write_partial_tables/all.tsv"
    message:
        "Write the tables that exist as pages"
