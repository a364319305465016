"""Render the overview: findings in sentences, tables and figures on one page, where no script runs.

The sentences say what the tables hold, with n and interval; they rank within the sample and claim no untested
difference.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from unitlens.report import pages, text
from unitlens.report.concept_findings import category_sentences, frequency_sentences, label_sentences
from unitlens.report.evaluation_findings import no_map_sentences
from unitlens.report.pages import say
from unitlens.tables import resampling
from unitlens.tables.unit_labels import ALL

MOST_MISSING = 200  # jobs that are listed; logs tell of the others
MOST_PREDICTIONS = 200  # rows of the table of predictions, so that the page stays below that
TABLES = (
    *("concepts", "frequent", "layers", "categories", "models"),
    *("timings", "predictions", "images", "explanations", "verification"),
)
_STATES = {
    "failed": "failed",
    "cut off": "cut off or still running",
    "out of date": "out of date (what they read or their settings changed)",
    "not begun": "not begun",
}

Table = list[dict[str, object]]  # a row each, from column to text


def overview(
    path: str | Path,
    findings_path: str | Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    facts: Sequence[Mapping],
    figures: Mapping[str, str | Path],
    captions: Mapping[str, str],
    shown: int,
    run: Mapping[str, object],
    sections: Sequence[Mapping] = (),
    beside: Sequence[str] = (),
    missing: Mapping[str, object] | None = None,
) -> None:
    """Write the overview page, and once more without figures.

    Parameters
    ----------
    path, findings_path : path
        The page, and the one without figures, which stays below the 2 MB that Chromium shows inside Snakemake's report.
    tables : mapping from name to pandas.DataFrame
        `TABLES`, as docs/outputs.md describes them; ``verification`` joined with its speed ratios.
    facts : sequence of mapping
        For each model ``model, architecture, weights, weights_sha256, parameters, classes, layers, input,
        published_input, departures``.
    figures : mapping from name to path
        PNG or SVG files: ``frequent_concepts``, ``distinct_concepts``, ``category_shares``, ``timings``,
        ``grid_<model>`` for every model of the predictions.
    captions : mapping from str to str
        What stands below these figures; ``grid`` below all grids.
    shown : int
        Source images in a grid at most, the first of the predictions.
    run : mapping from str
        What was run, as shown: versions, seed, similarity, samples of LIME.
    sections : sequence of mapping
        ``title``; ``findings``, a JSON file with a list of sentences, of which the first one on each model also stands
        on top of the page; and ``figures``, from path to caption.
    beside : sequence of str
        Pages that lie beside this one, of ``explanations`` and ``units``.
    missing : mapping, optional
        Of a run that is not finished, whose tables and figures need not all be there: ``done``, the number of finished
        jobs; ``jobs``, those that failed or were cut off (``job, state, reason, log``); ``waiting``, rows of rule,
        state and number of jobs.

    Raises
    ------
    ValueError
        If a table or a figure of a finished run is missing.
    """
    predictions = tables.get("predictions")
    models = [] if predictions is None else list(predictions["model"].unique())
    needed = ["frequent_concepts", "distinct_concepts", "category_shares", "timings", *map("grid_{}".format, models)]
    for name, needs, given in (("tables", TABLES, tables), ("figures", needed, figures)):
        if missing is None and (lacks := [each for each in needs if each not in given]):
            raise ValueError(f"`{name}` lacks {', '.join(lacks)}")

    def of(make: Callable, *names: str, **options: object) -> object:
        """Make a part of the page of some tables; nothing, if one of them is missing."""
        return make(*(tables[name] for name in names), **options) if tables.keys() >= set(names) else None

    def said(make: Callable, *names: str, **options: object) -> list[str]:
        return of(make, *names, **options) or []

    def figure(name: str, alt: list[str] | None) -> dict[str, object] | None:
        if not figures.get(name):
            return None
        return _captioned(figures[name], captions["grid" if name.startswith("grid_") else name], *(alt or []))

    further = {
        section["title"]: {
            "findings": json.loads(Path(section["findings"]).read_text(encoding="utf-8")),
            "figures": [_captioned(path, caption) for path, caption in section["figures"].items()],
        }
        for section in sections
    }
    encoder = tables["concepts"]["encoder"].iloc[0] if "concepts" in tables else ""
    settings = {**run, **(of(_images_facts, "images") or {})}
    page = {
        "missing": missing and _missing(missing),
        "beside": beside,
        "findings": {
            "Predictions": said(accuracy_sentences, "predictions"),
            "Concepts": said(label_sentences, "concepts", encoder=encoder)
            + said(frequency_sentences, "frequent")
            + said(category_sentences, "categories"),
            "Explanations": said(timing_sentences, "timings") + said(no_map_sentences, "explanations"),
            **{title: _headlines(section["findings"], facts) for title, section in further.items()},
        },
        "caveats": of(caveats, "predictions", "images", encoder=encoder) if encoder else None,
        "run": [{"setting": name, "value": value} for name, value in settings.items()],
        "models": models_table(facts, predictions) if facts else None,
        "predictions": of(predictions_table, "predictions"),
        "all_predictions": of(len, "predictions"),
        "concept_figures": [
            figure("frequent_concepts", of(_alt_of_models, "frequent", sentence="overview.frequent_alt")),
            figure("distinct_concepts", of(_alt_of_rows, "layers", sentence="overview.layers_alt")),
            figure("category_shares", of(_alt_of_models, "categories", sentence="overview.categories_alt")),
        ],
        "layers": of(layers_table, "layers", "frequent"),
        "categories": of(categories_table, "categories"),
        "comparison": of(comparison_table, "models"),
        "grids": [
            figure(name, of(_grid_alt, "predictions", "timings", model=name.removeprefix("grid_"), shown=shown))
            for name in figures
            if name.startswith("grid_")
        ],
        "timings_figure": figure("timings", of(_alt_of_rows, "timings", sentence="overview.timings_alt")),
        "timings": of(timings_table, "timings"),
        "verification": of(verification_table, "verification"),
        "sections": further,
    }
    pages.write_page(path, "overview.html.j2", page | {"with_figures": True})
    pages.write_page(findings_path, "overview.html.j2", page | {"with_figures": False})


# ---- findings


def accuracy(predictions: pd.DataFrame) -> str:
    """Count right predictions of one model among its labeled source images, with Wilson's 95 % interval."""
    labeled = predictions[predictions["correct"].notna()]
    right, n = int(labeled["correct"].astype(bool).sum()), len(labeled)
    low, high = resampling.wilson(right, n) if n else (None, None)
    return say("overview.accuracy", right=right, n=n, low=low, high=high)[0]


def accuracy_sentences(predictions: pd.DataFrame) -> list[str]:
    """Say how many labeled source images each model gets right."""
    sentences = []
    for model, group in predictions.groupby("model", sort=False):
        known = group["correct"].notna().any()
        sentences += say("overview.predictions", model=model, accuracy=accuracy(group), known=known)
    return sentences


def timing_sentences(timings: pd.DataFrame) -> list[str]:
    """Give the fastest and the slowest explainer of each model on each machine."""
    sentences = []
    for (model, device, threads), group in timings.groupby(["model", "device", "threads"], sort=False):
        ranked = group.sort_values("seconds_per_image", kind="stable")
        ends = ranked.iloc[[0, -1]].drop_duplicates("explainer").to_dict("records")
        sentences += say("overview.times", model=model, machine=text.machine_title(device, threads), ends=ends)
    return sentences


def caveats(predictions: pd.DataFrame, images: pd.DataFrame, *, encoder: str) -> list[str]:
    """Say what the numbers do not carry."""
    probe = images[images["set"] == "probe"].iloc[0].to_dict()
    return say("overview.caveats", encoder=encoder, probe=probe, explained=predictions["image_id"].nunique())


def _headlines(sentences: Sequence[str], facts: Sequence[Mapping]) -> list[str]:
    """Pick the first sentence that names each model, or the first of all."""
    first = [next((each for each in sentences if fact["model"] in each), None) for fact in facts]
    return list(dict.fromkeys(filter(None, first))) or list(sentences[:1])


def _missing(missing: Mapping) -> dict[str, object]:
    """Say of a run that is not finished how far it is, and put what failed and what waits into tables."""
    counts = dict.fromkeys(_STATES, 0)
    for state, n in [(job["state"], 1) for job in missing["jobs"]] + [row[1:] for row in missing["waiting"]]:
        counts[state] += n
    others = [f"{n:,} {_STATES[state]}" for state, n in counts.items() if n]
    return {
        "summary": say("overview.unfinished", done=missing["done"], others=others)[0],
        "nothing_done": not missing["done"],
        "jobs": len(missing["jobs"]),
        "broken": [
            {name: job[name] for name in ("job", "state", "reason", "log")} for job in missing["jobs"][:MOST_MISSING]
        ],
        "waiting": [{"rule": rule, "state": state, "jobs": n} for rule, state, n in missing["waiting"]],
    }


# ---- tables


def _images_facts(images: pd.DataFrame) -> dict[str, object]:
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
    calls = f"of {len(read['calls'])} calls" if "calls" in read else ""
    about = ", ".join(filter(None, [words, calls]))
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
    """Tabulate labels and frequent concepts of each layer."""
    rows = []
    for row in layers.itertuples():
        top = frequent[(frequent["model"] == row.model) & (frequent["layer"] == row.layer)].head(5)
        rows.append(
            {
                "model": row.model,
                "layer": row.layer,
                "units": f"{row.units:,}",
                "dead or constant": f"{row.dead:,}",
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
        columns[f"A {row.model_a}, B {row.model_b}"] = {
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


def verification_table(verification: pd.DataFrame) -> Table:
    """Tabulate the differences from the reference packages."""
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
        for row in verification.itertuples()
    ]


# ---- figures


def _captioned(path: str | Path, caption: str, alt: str = "") -> dict[str, object]:
    """Embed a figure with its caption, whose first sentence says what is to be seen if no other text does."""
    return {"caption": caption, "alt": alt or caption.partition(". ")[0]} | pages.embed(path)


def _alt_of_models(table: pd.DataFrame, *, sentence: str) -> list[str]:
    pooled = table[table["layer"] == ALL].groupby("model", sort=False)
    return say(sentence, by_model={model: group.to_dict("records") for model, group in pooled})


def _alt_of_rows(table: pd.DataFrame, *, sentence: str) -> list[str]:
    return say(sentence, rows=table.to_dict("records"))


def _grid_alt(predictions: pd.DataFrame, timings: pd.DataFrame, *, model: str, shown: int) -> list[str]:
    rows = predictions[predictions["model"] == model]
    explainers = timings.loc[timings["model"] == model, "explainer"].unique()
    first = rows.head(shown).to_dict("records")
    return say("overview.grid_alt", model=model, source_images=len(rows), shown=first, explainers=explainers)
