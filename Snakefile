from snakemake.utils import min_version

min_version("9.0")


report: "report/workflow.rst"


include: "rules/common.smk"
include: "rules/hooks.smk"
include: "rules/params.smk"
include: "rules/annotation_inputs.smk"
include: "rules/memory.smk"
include: "rules/retrieve.smk"
include: "rules/images.smk"
include: "rules/activations.smk"
include: "rules/annotations.smk"
include: "rules/concepts.smk"
include: "rules/comparison.smk"
include: "rules/netdissect.smk"
include: "rules/explain.smk"
include: "rules/accounts.smk"
include: "rules/audit.smk"
include: "rules/agreement.smk"
include: "rules/complexity.smk"
include: "rules/faithfulness.smk"
include: "rules/localization.smk"
include: "rules/sanity.smk"
include: "rules/verify.smk"
include: "rules/tune.smk"
include: "rules/table_params.smk"
include: "rules/report.smk"
include: "rules/resources.smk"
include: "rules/overview_params.smk"
include: "rules/overview.smk"
include: "rules/partial_inputs.smk"
include: "rules/partial.smk"


show_costs_in_a_plan()


onstart:
    say_where_it_runs()
    show_one_line_a_job()
    stand_in_for_slurm()


onsuccess:
    say_at_the_end(failed=False)


onerror:
    say_at_the_end(failed=True)


rule all:
    default_target: True
    input:
        "results/overview.html",
        "results/units.html",
        "results/explanations.html",
        "results/concepts.csv",
        "results/explanations.csv",
        "results/accounts.csv",
        if_labels("results/interventions.csv"),
        if_configured("audit", "results/audit.csv"),
        "results/agreement.csv",
        if_localization("results/localization.csv"),
        "results/figures/sanity/stability.svg",
        "results/figures/map_shapes.svg",
        "results/figures/complexity_scatter.svg",
        "results/faithfulness.csv",
        "results/timings/explainers.csv",
        "results/verification.csv",
        RESOURCES,
        TABLE_PAGES,
        if_configured("netdissect", "results/netdissect.csv"),
        per_explained_shard("results/masks/{model}/{shard}.h5"),
        per_explainer("results/overlays/{model}/{explainer}"),
        expand("results/figures/explanations/{model}.png", model=explained_models()),
        expand("results/figures/faithfulness/{model}/curves.svg", model=explained_models()),
        if_configured("tune", "results/findings/tuning.json", "results/figures/tuning/tuning_front.svg"),
    localrule: True
    message:
        "All results are there"


rule partial:
    input:
        partial_pages,  # of a run that is not finished: `make report`
    localrule: True
    message:
        "All pages of what exists are there"
