"""What the overview is made of: sections with their findings and figures, captions, and settings."""

from types import SimpleNamespace


def overview_settings():
    """What the overview says about how the numbers were made."""
    options = [
        (name.upper(), *each) for name, own in job_config.perturbing(config["explain"]).items() for each in own.items()
    ]
    return {
        "seed": config["seed"],
        "device": config["device"],
        "precision": config["precision"],
        "similarity": config["dissect"]["similarity"],
        "pooling": config["dissect"]["pooling"],
        **words_to_label_with(),
        "explained class": config["explain"]["target"],
        "source images shown": some_of_explained("report"),
        "source images of the sanity checks": some_of_explained("sanity"),
        "source images of the verification": some_of_explained("verify"),
        **{f"{name}: {key.replace('_', ' ')}": value for name, key, value in options if not isinstance(value, dict)},
        **{
            f"{name}: {key}": ", ".join(f"{option} {each}" for option, each in value.items())
            for name, key, value in options
            if isinstance(value, dict)
        },
    }


def words_to_label_with():
    if ENCODER == "annotations":
        return {"annotations": ", ".join(f"{key} {value}" for key, value in config["dissect"]["annotations"].items())}
    concepts = config["concepts"]
    return {"concept list": concepts["list"], "common words added": concepts.get("common_words", 0)}


def some_of_explained(section):
    count = count_rows("explain")
    return f"{min(config[section]['n_images'], count)} of {count}"


def overview_files(wildcards):
    return [path for each in overview_sections(wildcards) for path in (each["findings"], *each["figures"])]


def overview_sections(wildcards):
    """Sections of the overview in their order: title, the file of the findings, and figures with their captions."""
    compared = ["rarefaction", "words_again", "trend", "category_differences"]
    agreement = ["equal_area_iou", "sweep", "spearman"]
    faithfulness = [f"{model}/{name}" for model in explained_models() for name in ("scores", "curves")]
    sections = [
        ("Evidence", "evidence", ["concepts/null", "concepts/controls"]),
        ("Networks compared", "concepts", [f"concepts/{name}" for name in compared]),
        *if_configured("netdissect", ("Network Dissection", "netdissect", ["concepts/annotated_units"])),
        ("Accounts of predictions, and classes", "classes", []),
        ("Agreement", "agreement", [f"agreement/{name}" for name in agreement]),
        *if_localization(("Localization", "localization", ["localization"])),
        ("Faithfulness", "faithfulness", [f"faithfulness/{name}" for name in faithfulness]),
        ("Shape of the maps", "shape", ["map_shapes"]),
        ("Complexity of the source images", "complexity", ["complexity_scatter"]),
        *if_configured("audit", ("Audit", "audit", [])),
        *if_labels(("Units switched off", "interventions", ["interventions"])),
        ("Randomized networks", "randomization", ["sanity/randomization"]),
        ("Stability of LIME", "stability", ["sanity/stability"]),
        *if_configured("tune", ("Tuning of LIME", "tuning", ["tuning/tuning_front", "tuning/tuning_effects"])),
    ]
    captions = {"curves": "faithfulness_curves", "scores": "faithfulness_scores"}
    return [
        {
            "title": title,
            "findings": f"results/findings/{topic}.json",
            "figures": {
                f"results/figures/{figure}.svg": caption(captions.get(Path(figure).name, Path(figure).name))
                for figure in figures
            },
        }
        for title, topic, figures in sections
    ]


def overview_captions(wildcards):
    """Captions of the figures that stand in no section, by the name that the overview has for each."""
    names = {"frequent_concepts": "frequent", "distinct_concepts": "distinct", "category_shares": "categories"}
    return {name: caption(file) for name, file in (names | {"grid": "grid", "timings": "timings"}).items()}


def caption(name):
    """A caption of the report, which is a template that reads the config, as Snakemake fills it in."""
    from jinja2 import Template  # here: jobs on a cluster need none

    text = (WORKFLOW / "report" / f"{name}.rst").read_text(encoding="utf-8")
    return Template(text).render(snakemake=SimpleNamespace(config=config)).strip()


def maps_of_annotated():
    """Where units respond in images with masks: those of the probe set, or of a set of its own; none without masks."""
    if "netdissect" not in config:
        return []
    own = ANNOTATED == "annotated"
    return per_layer("results/netdissect/{model}/{layer}.h5" if own else "results/unit_maps/{model}/{layer}.h5")


def pixels_of_annotated():
    """The images that these maps are of."""
    return images_of_models(ANNOTATED, labeled_models(), shards(ANNOTATED)) if "netdissect" in config else []


def example_images():
    """The shard of which the overview shows one image, as the first explained model sees it."""
    preprocessing = config["models"][explained_models()[0]]["preprocessing"]
    return [images_of("explain", preprocessing, shards("explain")[0])]


def example_maps():
    model = explained_models()[0]
    return expand(f"results/saliency/{model}/{{explainer}}/{shards('explain')[0]}.h5", explainer=explainers(model))


def facts_of_layers():
    """Of every layer that is labeled or explained, model by model."""
    found = {model: [*config["models"][model]["layers"]] for model in config["models"]}
    for model in explained_models():
        found[model].append(config["models"][model]["cam_layer"])
    pairs = [(model, layer) for model, layers in found.items() for layer in dict.fromkeys(layers)]
    return per_layer("results/models/{model}/{layer}.json", pairs)
