"""Which tables the pages of Snakemake's report show."""

TABLE_PAGES = "results/tables"


def tables_by_page():
    """Of every page its category in the report, its title, and its tables with the captions that they have in report/."""
    return {
        "models": (
            "2 Models",
            "predictions and images",
            {"results/predictions.csv": "predictions", "results/images.csv": "images"},
        ),
        "concepts": (
            "3 Concepts",
            "concepts of layers, models and units",
            {
                "results/comparison/layers.csv": "table_layers",
                "results/comparison/models.csv": "table_models",
                "results/comparison/category_differences.csv": "table_category_differences",
                "results/comparison/trend.csv": "table_trend",
                "results/comparison/frequent_concepts.csv": "table_frequent",
                "results/comparison/unique_concepts.csv": "table_unique_concepts",
                "results/controls.csv": "table_controls",
                "results/concepts.csv": "concepts",
                "results/linear_labels.csv": "linear_labels",
            },
        ),
        "netdissect": (
            "3 Concepts",
            "Network Dissection",
            {"results/comparison/netdissect.csv": "table_netdissect", "results/netdissect.csv": "netdissect"},
        ),
        "agreement": (
            "5 Agreement",
            "agreement of the explainers",
            {
                "results/agreement_summary.csv": "agreement_summary",
                "results/agreement_tests.csv": "agreement_tests",
                "results/complexity_agreement.csv": "complexity_agreement",
            },
        ),
        "localization": (
            "6 Localization",
            "explainers against masks and boxes",
            {
                "results/localization_summary.csv": "localization_summary",
                "results/localization_tests.csv": "localization_tests",
            },
        ),
        "faithfulness": (
            "7 Faithfulness",
            "faithfulness of the explainers",
            {
                "results/faithfulness_summary.csv": "faithfulness_summary",
                "results/faithfulness_tests.csv": "faithfulness_tests",
            },
        ),
        "sanity": (
            "8 Sanity",
            "randomized networks and stability of LIME",
            {
                "results/randomization_summary.csv": "randomization_table",
                "results/stability_summary.csv": "stability_table",
            },
        ),
        "tuning": ("9 Tuning", "settings of LIME", {"results/tuning.csv": "tuning"}),
        "resources": (
            "Resources",
            "seconds of explainers, time and memory of jobs",
            {"results/timings/explainers.csv": "timings", "results/timings/resources.csv": "resources"},
        ),
        "verification": (
            "Verification",
            "differences from the reference packages",
            {"results/verification.csv": "verification"},
        ),
    }


def shown_tables():
    """The tables of a run that all pages together show; a page without one is not made."""
    return [path for _, _, tables in pages_of_run().values() for path in tables]


def pages_of_run():
    there = {"netdissect": "netdissect" in config, "tuning": "tune" in config, "localization": if_localization(1)}
    return {page: own for page, own in tables_by_page().items() if there.get(page, True)}


def table_topics(wildcards):
    return [
        {"name": page, "title": title, "tables": {path: caption(name) for path, name in tables.items()}}
        for page, (_, title, tables) in pages_of_run().items()
    ]


def category_of_page(wildcards):
    category, _, _ = tables_by_page()[wildcards.page]
    return category
