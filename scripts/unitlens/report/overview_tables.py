"""The tables of the overview: rows from column to text."""

from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from unitlens.report import text
from unitlens.report.pages import say
from unitlens.tables import resampling

MOST_PREDICTIONS = 200  # rows of the table of predictions, so that the page stays below that

Table = list[dict[str, object]]  # a row each, from column to text


def accuracy(predictions: pd.DataFrame) -> str:
    """Count right predictions of one model among its labeled source images, with Wilson's 95 % interval."""
    labeled = predictions[predictions["correct"].notna()]
    right, n = int(labeled["correct"].astype(bool).sum()), len(labeled)
    low, high = resampling.wilson(right, n) if n else (None, None)
    return say("overview.accuracy", right=right, n=n, low=low, high=high)[0]


def images_facts(images: pd.DataFrame) -> dict[str, object]:
    """Say what is remarkable of the image sets."""
    sets = images.groupby("set").first()
    skipped, problems = int(sets["skipped"].sum()), "; ".join(filter(None, sets["problems"]))
    told = {"images left out as unreadable": f"{skipped:,} ({problems})" if problems else 0}
    for name, row in sets.iterrows():
        told |= {f"copies among the {name} source images": row["copies"]}
        told |= {f"remarks on the {name} source images": row["warning"]} if row["warning"] else {}
        told |= {f"{name} files left out": row["left_out_endings"]} if row["left_out"] else {}
    return told


def models_table(facts: Sequence[Mapping], predictions: pd.DataFrame | None) -> Table:
    """Give each model a column: there are few, and their facts are long."""
    columns = {}
    for fact in facts:
        own = None if predictions is None else predictions[predictions["model"] == fact["model"]]
        columns[fact["model"]] = _model_facts(fact, own)
    return _transposed(columns)


def _transposed(columns: Mapping[str, Mapping[str, object]]) -> Table:
    names = next(iter(columns.values()), ())
    return [{"": name, **{title: column[name] for title, column in columns.items()}} for name in names]


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
        "input": f"{given['fit']} to {given['resize']}, center crop {given['crop']}, {given['interpolation']}",
        "mean and standard deviation": f"{mean} and {std}",
        "input as published with the weights": published,
        "output": f"{fact['output']['head']}, {fact['output']['read']}" if "output" in fact else "not known",
        "layers": "; ".join(_layer_facts(layer, shape, fact) for layer, shape in fact["layers"].items()),
        "right predictions": "not known" if predictions is None else accuracy(predictions),
    }


def _layer_facts(layer: str, shape: Sequence[int], fact: Mapping) -> str:
    """Say what a layer gives, and how it becomes one number a unit."""
    read = fact.get("units", {}).get(layer, {})
    words = {"cls": "class token", "avg": "mean", "max": "maximum"}.get(read.get("pooling"))
    patches, before = "", read.get("prefix_tokens", 0)
    if len(shape) == 2 and "grid" in read:  # tokens, whose shape does not tell it
        words = words or "all patches"
        patches = "×".join(map(str, read["grid"])) + " patches"
        patches += f" behind {before} token{'s' * (before > 1)}" if before else ""
    calls = f"of {len(read['calls'])} calls" if "calls" in read else ""
    about = ", ".join(filter(None, [words, patches, calls]))
    return f"{layer}: {'×'.join(map(str, shape))}" + (f" ({about})" if about else "")


def predictions_table(predictions: pd.DataFrame) -> Table:
    """Tabulate what the networks predicted."""
    return [
        {
            "model": row.model,
            "source image": row.image_id,
            "label": row.label_name if pd.notna(row.label) else "none",
            "predicted": row.predicted_name or "none",
            "probability": text.decimals(row.probability, 3),
            "right": {True: "yes", False: "no"}.get(row.correct, "–"),
            "explained": row.target_name or "none",
            "its probability": text.decimals(row.target_probability, 3),
        }
        for row in predictions.head(MOST_PREDICTIONS).itertuples()
    ]


def layers_table(layers: pd.DataFrame, frequent: pd.DataFrame) -> Table:
    """Tabulate the concepts of each layer's named and selective units."""
    rows = []
    for row in layers.itertuples():
        own = frequent[(frequent["model"] == row.model) & (frequent["layer"] == row.layer)]
        units = own["units"] if row.claim == "named" else own["units"] + own["others"]
        top = own.assign(units=units)[units > 0].sort_values("units", ascending=False, kind="stable").head(5)
        rows.append(
            {
                "model": row.model,
                "layer": row.layer,
                "units": f"{row.units:,}",
                "dead or constant": f"{row.dead:,}",
                "counted": f"{row.units_counted:,} {row.claim}",
                "distinct concepts": f"{row.distinct:,}",
                "expected distinct": f"{text.decimals(row.distinct_rarefied, 1)} among {row.rarefied_units:,}",
                "most frequent (units)": ", ".join(f"{each.concept} ({each.units})" for each in top.itertuples())
                or "none",
            }
        )
    return rows


def categories_table(categories: pd.DataFrame) -> Table:
    """Tabulate the share of each category in each layer."""
    return [
        {
            "model": row.model,
            "layer": row.layer,
            "category": row.category,
            "units": f"{row.units:,}",
            "share": text.percent(row.share),
            "95 % interval": text.percents(row.low, row.high),
        }
        for row in categories.itertuples()
    ]


def comparison_table(models: pd.DataFrame) -> Table:
    """Give each pair of models a column, as `models_table` does."""
    columns = {}
    for row in models.itertuples():
        columns[f"A {row.model_a}, B {row.model_b}: {row.claim} units"] = {
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
    return _transposed(columns)


def timings_table(timings: pd.DataFrame) -> Table:
    """Tabulate seconds per explanation."""
    return [
        {
            "model": row.model,
            "explainer": text.explainer_title(row.explainer),
            "images": f"{row.images:,}",
            "seconds": f"{row.seconds:.1f}",
            "an image": text.in_seconds(row.seconds_per_image),
            "device": text.machine_title(row.device, row.threads),
        }
        for row in timings.itertuples()
    ]


def verification_table(verification: pd.DataFrame, timings: pd.DataFrame) -> Table:
    """Tabulate the differences from the reference packages, and how much faster the explainers are."""
    return [
        {
            "model": row.model,
            "check": row.check,
            "reference": row.reference,
            "n": row.images,
            "largest difference": f"{row.largest_difference:.1e}" if pd.notna(row.largest_difference) else "–",
            "allowed": f"{row.tolerance:g}" if pd.notna(row.tolerance) else "any",
            "times as fast": text.decimals(row.speed_ratio, 1),
            "note": row.note if pd.notna(row.note) else "",
        }
        for row in verification.merge(timings, how="left").itertuples()
    ]
