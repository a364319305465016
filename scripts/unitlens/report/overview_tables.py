"""Tables of the overview."""

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd
from markupsafe import Markup
from scipy.stats import binomtest

from unitlens.report import text

MOST_PREDICTIONS = 200  # rows of the table of predictions, so that the page stays below that


TABLES = (
    "concepts",
    "frequent",
    "layers",
    "categories",
    "models",
    "timings",
    "predictions",
    "images",
    "explanations",
    "verification",
)


def accuracy(predictions: pd.DataFrame) -> str:
    """Count right predictions of one model among its labelled photographs, with Wilson's 95 % interval."""
    labelled = predictions[predictions["correct"].notna()]
    right, n = int(labelled["correct"].astype(bool).sum()), len(labelled)
    if not n:
        return "no labelled photograph"
    low, high = binomtest(right, n).proportion_ci(method="wilson")
    interval = f"{text.percent(right / n)}; 95 % interval {text.percents(low, high)}"
    return f"{right} of {n} labelled {text.plural(n, 'photograph')} ({interval})"


def models_table(facts: Sequence[Mapping], predictions: pd.DataFrame | None) -> dict[str, object]:
    """Give each model a column: there are few, and their facts are long."""
    columns = [
        _model_facts(fact, None if predictions is None else predictions[predictions["model"] == fact["model"]])
        for fact in facts
    ]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    caption = (
        "The models. Layers have the shape of their output (channels×height×width). A prediction is right where the "
        "most probable class is the label."
    )
    return table(caption, ["", *(fact["model"] for fact in facts)], rows)


def _model_facts(fact: Mapping, predictions: pd.DataFrame | None) -> dict[str, str]:
    weights, sha256, given = fact["weights"], fact["weights_sha256"], fact["input"]
    if isinstance(weights, Mapping):
        weights = "; ".join(str(value) for key, value in weights.items() if key != "sha256")
    published = "yes" if fact["published_input"] else "not known"
    if fact["departures"]:
        published = "no; " + "; ".join(fact["departures"])
    mean, std = (", ".join(f"{channel:g}" for channel in given[key]) for key in ("mean", "std"))
    return {
        "architecture": fact["architecture"],
        "weights": weights,
        "sha256 of the weights": Markup('<abbr title="{}">{}</abbr>').format(sha256, sha256[:12]),
        "parameters": f"{fact['parameters']:,}",
        "classes": f"{fact['classes']:,}",
        "input": f"{given['fit']} to {given['resize']}, centre crop {given['crop']}, {given['interpolation']}",
        "mean and standard deviation": f"{mean} and {std}",
        "input as published with the weights": published,
        "layers": "; ".join(f"{layer}: {'×'.join(map(str, shape))}" for layer, shape in fact["layers"].items()),
        "right predictions": "not known" if predictions is None else accuracy(predictions),
    }


def predictions_table(predictions: pd.DataFrame) -> dict[str, object]:
    """Tabulate what the networks predicted."""
    rows = []
    for row in predictions.head(MOST_PREDICTIONS).itertuples():
        label = row.label_name if pd.notna(row.label) else "none"
        right = {True: "yes", False: "no"}.get(row.correct, "–")
        predicted = [row.predicted_name or "none", text.decimals(row.probability, 3), right]
        explained = [row.target_name or "none", text.decimals(row.target_probability, 3)]
        rows.append([row.model, row.image_id, label, *predicted, *explained])
    columns = ["model", "photograph", "label", "predicted", "probability", "right", "explained", "its probability"]
    caption = "Predictions for the photographs that are explained. Probabilities are the models' softmax outputs."
    if len(predictions) > len(rows):
        caption += f" The first {len(rows):,} of {len(predictions):,} rows; results/predictions.csv has all."
    return table(caption, columns, rows, numeric=("probability", "its probability"))


def layers_table(layers: pd.DataFrame, frequent: pd.DataFrame) -> dict[str, object]:
    """Tabulate labels and frequent concepts of each layer."""
    rows = []
    for row in layers.itertuples():
        top = frequent[(frequent["model"] == row.model) & (frequent["layer"] == row.layer)].head(5)
        names = ", ".join(f"{each.concept} ({each.units})" for each in top.itertuples())
        counts = [f"{row.units:,}", f"{row.dead:,}", f"{row.distinct:,}"]
        expected = f"{text.decimals(row.distinct_rarefied, 1)} among {row.rarefied_units:,}"
        rows.append([row.model, row.layer, *counts, expected, names or "none"])
    columns = [
        "model",
        "layer",
        "units",
        "dead or constant",
        "distinct concepts",
        "expected distinct",
        "most frequent (units)",
    ]
    caption = (
        "Labels by layer. Expected distinct: concepts among equally many labelled units drawn at random (rarefaction). "
        "results/concepts.csv holds every unit with its label, score, second concept and top images."
    )
    return table(caption, columns, rows, numeric=columns[2:6])


def categories_table(categories: pd.DataFrame) -> dict[str, object]:
    """Tabulate the share of each category in each layer."""
    rows = [
        [
            row.model,
            row.layer,
            row.category,
            f"{row.units:,}",
            text.percent(row.share),
            text.percents(row.low, row.high),
        ]
        for row in categories.itertuples()
    ]
    columns = ["model", "layer", "category", "units", "share", "95 % interval"]
    caption = (
        "Share of each category among the labelled units, with Wilson's interval; the layer all pools a model's layers."
    )
    return table(caption, columns, rows, numeric=columns[3:])


def comparison_table(models: pd.DataFrame) -> dict[str, object]:
    """Give each pair of models a column, as `models_table` does."""
    columns = [
        {
            "concepts of A": f"{row.distinct_a:,}",
            "concepts of B": f"{row.distinct_b:,}",
            "in both": f"{row.shared:,}",
            "only in A": f"{row.only_a:,}",
            "only in B": f"{row.only_b:,}",
            "Jaccard index": text.decimals(row.jaccard, 3),
            "units drawn of each": f"{row.rarefied_units:,}",
            "expected concepts of A": f"{row.rarefied_a:.1f}",
            "expected concepts of B": f"{row.rarefied_b:.1f}",
            "chi-square of category shares": f"{text.decimals(row.chi_square, 1)} ({text.p_value(row.p_value)})",
            "Cramér's V": text.decimals(row.cramers_v, 3),
        }
        for row in models.itertuples()
    ]
    rows = [[name, *(column[name] for column in columns)] for name in (columns[0] if columns else ())]
    caption = (
        "Concepts of every two models. Expected: distinct concepts among equally many labelled units drawn at random. "
        "Chi-square takes units as independent, which they are not."
    )
    return table(caption, ["", *(f"A {row.model_a}, B {row.model_b}" for row in models.itertuples())], rows)


def timings_table(timings: pd.DataFrame) -> dict[str, object]:
    """Tabulate seconds per explanation."""
    rows = []
    for row in timings.itertuples():
        seconds = [f"{row.images:,}", f"{row.seconds:.1f}", text.in_seconds(row.seconds_per_image)]
        rows.append(
            [row.model, text.explainer_title(row.explainer), *seconds, text.machine_title(row.device, row.threads)]
        )
    columns = ["model", "explainer", "photographs", "seconds", "a photograph", "device"]
    return table("Wall-clock time of the explainers.", columns, rows, numeric=columns[2:5])


def verification_table(verification: pd.DataFrame) -> dict[str, object]:
    """Tabulate the differences from the reference packages."""
    rows = [
        [
            *(row.model, row.check, row.reference, row.images, _scientific(row.largest_difference)),
            *(f"{row.tolerance:g}" if pd.notna(row.tolerance) else "any", text.decimals(row.speed_ratio, 1)),
            row.note if pd.notna(row.note) else "",
        ]
        for row in verification.itertuples()
    ]
    columns = ["model", "check", "reference", "n", "largest difference", "allowed", "times as fast", "note"]
    caption = (
        "The explainers against the packages that define them, on the same network, photographs and device, in strict "
        "float32. A difference above what is allowed stops the run. Rows with the reference float32 show what faster "
        "arithmetic changes. Speed is one measurement; jobs beside it share the machine."
    )
    return table(caption, columns, rows, numeric=columns[3:7])


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[str] = ()
) -> dict[str, object]:
    """Make what the template shows as a table: columns and rows of texts."""
    return {
        "caption": caption,
        "columns": columns,
        "rows": list(rows),
        "numeric": [name in numeric for name in columns],
    }


def _scientific(value: float) -> str:
    return f"{value:.1e}" if pd.notna(value) else "–"
