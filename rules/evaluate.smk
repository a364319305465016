rule score_agreement:
    input:
        saliency_of_shard,
    output:
        "results/agreement/{model}/{shard}.csv",
    log:
        "results/logs/score_agreement/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_agreement/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(2000, maps="all"),
        runtime=minutes(15),
    params:
        agreement=config["agreement"],
        seed=config["seed"],
    message:
        "Compare the explainers of {wildcards.model} with each other, shard {wildcards.shard}"
    script:
        "../scripts/score_agreement.py"


rule summarise_agreement:
    input:
        per_explained_shard("results/agreement/{model}/{shard}.csv"),
    output:
        images=report(
            "results/agreement.csv",
            category="5 Agreement",
            labels={"result": "table: every photograph and pair"},
            caption="../report/agreement.rst",
        ),
        summary=report(
            "results/agreement_summary.csv",
            category="5 Agreement",
            labels={"result": "table: means and intervals"},
            caption="../report/agreement_summary.rst",
        ),
        tests=report(
            "results/agreement_tests.csv",
            category="5 Agreement",
            labels={"result": "table: pairs against each other"},
            caption="../report/agreement_tests.rst",
        ),
        findings="results/findings/agreement.json",
    log:
        "results/logs/summarise_agreement/all.log",
    benchmark:
        "results/benchmarks/summarise_agreement/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=minutes(60),
    params:
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Summarise the agreement of the explainers"
    script:
        "../scripts/summarise_agreement.py"


rule measure_images:
    input:
        images=explain_images_of_model,
        saliency=saliency_of_shard,
        lime="results/saliency/{model}/lime/{shard}.h5",
    output:
        shape="results/shape/{model}/{shard}.csv",
        complexity="results/complexity/{model}/{shard}.csv",
    log:
        "results/logs/measure_images/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/measure_images/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(1500, maps="all"),
        runtime=minutes(15),
    params:
        area=config["agreement"]["area"],
    message:
        "Measure the maps and photographs of {wildcards.model}, shard {wildcards.shard}"
    script:
        "../scripts/measure_images.py"


rule summarise_measures:
    input:
        shape=per_explained_shard("results/shape/{model}/{shard}.csv"),
        complexity=per_explained_shard("results/complexity/{model}/{shard}.csv"),
        agreement="results/agreement.csv",
    output:
        shape=report(
            "results/shape.csv",
            category="5 Agreement",
            labels={"result": "table: shape of every map"},
            caption="../report/shape.rst",
        ),
        shape_summary=report(
            "results/shape_summary.csv",
            category="5 Agreement",
            labels={"result": "table: shape, means and intervals"},
            caption="../report/shape_summary.rst",
        ),
        shape_tests=report(
            "results/shape_tests.csv",
            category="5 Agreement",
            labels={"result": "table: shape, class activation maps against LIME"},
            caption="../report/shape_tests.rst",
        ),
        complexity=report(
            "results/complexity.csv",
            category="5 Agreement",
            labels={"result": "table: complexity of every photograph"},
            caption="../report/complexity.rst",
        ),
        correlations=report(
            "results/complexity_agreement.csv",
            category="5 Agreement",
            labels={"result": "table: complexity against agreement"},
            caption="../report/complexity_agreement.rst",
        ),
        shape_findings="results/findings/shape.json",
        complexity_findings="results/findings/complexity.json",
    log:
        "results/logs/summarise_measures/all.log",
    benchmark:
        "results/benchmarks/summarise_measures/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=minutes(60),
    params:
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Summarise the shapes of the maps and the complexity of the photographs"
    script:
        "../scripts/summarise_measures.py"


rule score_faithfulness:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=explain_images_of_model,
        saliency=saliency_of_shard,
    output:
        scores="results/faithfulness/{model}/{shard}.csv",
        curves="results/faithfulness/{model}/{shard}.h5",
    log:
        "results/logs/score_faithfulness/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_faithfulness/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(1500, maps="all"),
        runtime=minutes(30),
    params:
        network=network,
        device=config["device"],
        faithfulness=config["faithfulness"],
        seed=config["seed"],
    message:
        "Score how faithful the explainers of {wildcards.model} are, shard {wildcards.shard}"
    script:
        "../scripts/score_faithfulness.py"


rule summarise_faithfulness:
    input:
        scores=per_explained_shard("results/faithfulness/{model}/{shard}.csv"),
        curves=per_explained_shard("results/faithfulness/{model}/{shard}.h5"),
    output:
        images=report(
            "results/faithfulness.csv",
            category="7 Faithfulness",
            labels={"result": "table: every photograph and explainer"},
            caption="../report/faithfulness.rst",
        ),
        summary=report(
            "results/faithfulness_summary.csv",
            category="7 Faithfulness",
            labels={"result": "table: means, intervals, against random maps"},
            caption="../report/faithfulness_summary.rst",
        ),
        tests=report(
            "results/faithfulness_tests.csv",
            category="7 Faithfulness",
            labels={"result": "table: every two explainers compared"},
            caption="../report/faithfulness_tests.rst",
        ),
        curves=report(
            "results/faithfulness_curves.csv",
            category="7 Faithfulness",
            labels={"result": "table: mean curves"},
            caption="../report/faithfulness_curves.rst",
        ),
        findings="results/findings/faithfulness.json",
    log:
        "results/logs/summarise_faithfulness/all.log",
    benchmark:
        "results/benchmarks/summarise_faithfulness/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=minutes(60),
    params:
        seed=config["seed"],
    message:
        "Summarise how faithful the explainers are"
    script:
        "../scripts/summarise_faithfulness.py"


rule score_ground_truth:
    input:
        images=explain_images_of_model,
        saliency=saliency_of_shard,
    output:
        "results/ground_truth/{model}/{shard}.csv",
    log:
        "results/logs/score_ground_truth/{model}/{shard}.log",
    benchmark:
        "results/benchmarks/score_ground_truth/{model}/{shard}.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(1500, maps="all"),
        runtime=minutes(15),
    params:
        seed=config["seed"],
    message:
        "Score the explainers of {wildcards.model} against masks and boxes, shard {wildcards.shard}"
    script:
        "../scripts/score_ground_truth.py"


rule summarise_ground_truth:
    input:
        per_explained_shard("results/ground_truth/{model}/{shard}.csv"),
    output:
        images=report(
            "results/ground_truth.csv",
            category="6 Ground truth",
            labels={"result": "table: every photograph and explainer"},
            caption="../report/ground_truth_table.rst",
        ),
        summary=report(
            "results/ground_truth_summary.csv",
            category="6 Ground truth",
            labels={"result": "table: means and intervals"},
            caption="../report/ground_truth_summary.rst",
        ),
        tests=report(
            "results/ground_truth_tests.csv",
            category="6 Ground truth",
            labels={"result": "table: explainers against each other"},
            caption="../report/ground_truth_tests.rst",
        ),
        figure=report(
            "results/figures/ground_truth.svg",
            category="6 Ground truth",
            labels={"result": "figure: explainers against masks and boxes"},
            caption="../report/ground_truth.rst",
        ),
        findings="results/findings/ground_truth.json",
    log:
        "results/logs/summarise_ground_truth/all.log",
    benchmark:
        "results/benchmarks/summarise_ground_truth/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory_of_scores,
        runtime=minutes(60),
    params:
        seed=config["seed"],
    message:
        "Summarise how well the explainers find the objects"
    script:
        "../scripts/summarise_ground_truth.py"


rule randomise_model:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=first_images("sanity"),
        explanations=first_saliency("sanity", slice(1)),
    output:
        "results/sanity/randomisation/{model}.csv",
    log:
        "results/logs/randomise_model/{model}.log",
    benchmark:
        "results/benchmarks/randomise_model/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(1500, maps=1, section="sanity"),
        runtime=minutes(30),
    params:
        network=network,
        device=config["device"],
        layer=cam_layer,
        sanity=config["sanity"],
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Randomise {wildcards.model} layer by layer and compare its maps"
    script:
        "../scripts/randomise_model.py"


rule stabilise_lime:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=first_images("sanity"),
        explanations=expand("results/saliency/{{model}}/lime/{shard}.h5", shard=first_shards("sanity")),
    output:
        "results/sanity/stability/{model}.csv",
    log:
        "results/logs/stabilise_lime/{model}.log",
    benchmark:
        "results/benchmarks/stabilise_lime/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory_of_network(1500, maps=2, section="sanity"),
        runtime=minutes(30),
    params:
        network=network,
        device=config["device"],
        lime=config["explain"]["lime"],
        counts=stability_counts(),
        sanity=config["sanity"],
        area=config["agreement"]["area"],
        seed=config["seed"],
    message:
        "Explain {wildcards.model} with LIME again, by seeds and numbers of samples"
    script:
        "../scripts/stabilise_lime.py"


rule summarise_sanity:
    input:
        randomised=expand("results/sanity/randomisation/{model}.csv", model=explained_models()),
        stability=expand("results/sanity/stability/{model}.csv", model=explained_models()),
    output:
        randomisation=report(
            "results/randomisation.csv",
            category="8 Sanity",
            labels={"result": "table: maps of randomised networks"},
            caption="../report/randomisation_table.rst",
        ),
        randomisation_summary=report(
            "results/randomisation_summary.csv",
            category="8 Sanity",
            labels={"result": "table: maps of randomised networks, means"},
            caption="../report/randomisation_table.rst",
        ),
        stability=report(
            "results/stability.csv",
            category="8 Sanity",
            labels={"result": "table: LIME over seeds and samples"},
            caption="../report/stability_table.rst",
        ),
        stability_summary=report(
            "results/stability_summary.csv",
            category="8 Sanity",
            labels={"result": "table: LIME over seeds and samples, means"},
            caption="../report/stability_table.rst",
        ),
        randomisation_figure=report(
            "results/figures/sanity/randomisation.svg",
            category="8 Sanity",
            labels={"result": "figure: maps of randomised networks"},
            caption="../report/randomisation.rst",
        ),
        stability_figure=report(
            "results/figures/sanity/stability.svg",
            category="8 Sanity",
            labels={"result": "figure: LIME over seeds and samples"},
            caption="../report/stability.rst",
        ),
        randomisation_findings="results/findings/randomisation.json",
        stability_findings="results/findings/stability.json",
    log:
        "results/logs/summarise_sanity/all.log",
    benchmark:
        "results/benchmarks/summarise_sanity/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        lime={"top": config["explain"]["lime"]["num_features"], "n_samples": config["explain"]["lime"]["n_samples"]},
        seed=config["seed"],
    message:
        "Summarise how maps change with a randomised network, and LIME with its seed"
    script:
        "../scripts/summarise_sanity.py"


rule summarise_timings:
    input:
        per_explainer("results/timings/{model}/{explainer}/{shard}.csv"),
    output:
        report(
            "results/timings/explainers.csv",
            category="4 Explanations",
            labels={"result": "table: seconds a photograph"},
            caption="../report/timings.rst",
        ),
    log:
        "results/logs/summarise_timings/all.log",
    benchmark:
        "results/benchmarks/summarise_timings/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Summarise how long the explainers took"
    script:
        "../scripts/summarise_timings.py"


rule summarise_explanations:
    input:
        per_explainer("results/saliency/{model}/{explainer}/{shard}.h5"),
    output:
        report(
            "results/explanations.csv",
            category="4 Explanations",
            labels={"result": "table: every explanation"},
            caption="../report/explanations.rst",
        ),
    log:
        "results/logs/summarise_explanations/all.log",
    benchmark:
        "results/benchmarks/summarise_explanations/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Tabulate the explanations"
    script:
        "../scripts/summarise_explanations.py"


rule summarise_predictions:
    input:
        per_explained_shard("results/saliency/{model}/lime/{shard}.h5"),
    output:
        report(
            "results/predictions.csv",
            category="2 Models",
            labels={"result": "table: predictions"},
            caption="../report/predictions.rst",
        ),
    log:
        "results/logs/summarise_predictions/all.log",
    benchmark:
        "results/benchmarks/summarise_predictions/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        classes=class_lists(),
    message:
        "Summarise what the models predict"
    script:
        "../scripts/summarise_predictions.py"


rule summarise_images:
    input:
        images=decoded_images()[1],
        sheets=expand("resources/images/{dataset}.csv", dataset=config["images"]),
    output:
        report(
            "results/images.csv",
            category="2 Models",
            labels={"result": "table: image sets"},
            caption="../report/images.rst",
        ),
    log:
        "results/logs/summarise_images/all.log",
    benchmark:
        "results/benchmarks/summarise_images/all.tsv"
    priority: 1  # refuses a set without a picture, on which the others fail
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    params:
        sets=decoded_images()[0],
    message:
        "Count the pictures, those left out, and copies"
    script:
        "../scripts/summarise_images.py"


rule verify_explainers:
    input:
        model="results/models/{model}.json",
        weights="resources/weights/{model}.bin",
        images=first_images("verify"),
    output:
        differences="results/verification/{model}.csv",
        timings="results/timings/verification/{model}.csv",
    log:
        "results/logs/verify_explainers/{model}.log",
    benchmark:
        "results/benchmarks/verify_explainers/{model}.tsv"
    conda:
        "../envs/unitlens.yaml"
    threads: config["threads"]
    resources:
        gpu=GPU,
        batch_size=config["batch_size"],
        mem_mb=memory(4500),
        runtime=minutes(30),
    params:
        network=network,
        device=config["device"],
        target=config["explain"]["target"],
        layer=cam_layer,
        cams=config["explain"]["cams"],
        lime=config["explain"]["lime"],
        verify=config["verify"],
        seed=config["seed"],
    message:
        "Compare the explainers of {wildcards.model} with the reference packages"
    script:
        "../scripts/verify_explainers.py"


rule collect_verification:
    input:
        differences=expand("results/verification/{model}.csv", model=explained_models()),
        timings=expand("results/timings/verification/{model}.csv", model=explained_models()),
    output:
        differences=report(
            "results/verification.csv",
            category="Verification",
            labels={"result": "table: differences from the reference packages"},
            caption="../report/verification.rst",
        ),
        timings=report(
            "results/timings/verification.csv",
            category="Verification",
            labels={"result": "table: speed against the reference packages"},
            caption="../report/verification.rst",
        ),
    log:
        "results/logs/collect_verification/all.log",
    benchmark:
        "results/benchmarks/collect_verification/all.tsv"
    localrule: True
    conda:
        "../envs/unitlens.yaml"
    message:
        "Collect the comparisons with the reference packages"
    script:
        "../scripts/collect_verification.py"
