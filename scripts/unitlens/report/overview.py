"""Render the overview: findings in sentences, tables and figures on one page, where no script runs.

The sentences take the tables of `overview` and say what these hold, with n and interval; they rank within the sample
and claim no untested difference.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from unitlens.report import evaluation_findings, overview_tables, pages, text
from unitlens.report.concept_findings import category_sentences, frequency_sentences, label_sentences

MOST_MISSING = 200  # jobs that are listed; logs tell of the others


# ---- tables


_STATES = {
    "failed": "failed",
    "cut off": "cut off or still running",
    "out of date": "out of date (what they read or their settings changed)",
    "not begun": "not begun",
}


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
        HTML files to write: the page, and the one without figures, which stays below the 2 MB that Chromium shows
        inside Snakemake's report.
    tables : mapping from name to pandas.DataFrame
        `TABLES`: labels of the units (``concepts``) and the tables that `compare` makes of them (``frequent, layers,
        categories, models``); seconds of every explainer (``timings``); what every model predicts for the photographs
        that are explained (``predictions``); the image sets (``images``); what is to know about every explanation
        (``explanations``); differences and speed ratios of `reference_checks.compare`, joined (``verification``).
    facts : sequence of mapping
        For each model ``model, architecture, weights, weights_sha256, parameters, classes, layers, input,
        published_input, departures``.
    figures : mapping from name to path
        PNG or SVG files: ``frequent_concepts``, ``distinct_concepts``, ``category_shares``, ``timings``,
        ``grid_<model>`` for every model of the predictions.
    captions : mapping from str to str
        What stands below these figures; ``grid`` below all grids.
    shown : int
        Photographs in a grid at most, the first of the predictions.
    run : mapping from str
        What was run, as shown: versions, seed, similarity, samples of LIME.
    sections : sequence of mapping
        Further sections: ``title``; ``findings``, a JSON file with a list of sentences, of which the
        first one on each model also stands on top of the page; and ``figures``, from path to caption.
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
    for name, needs, given in (("tables", overview_tables.TABLES, tables), ("figures", needed, figures)):
        if missing is None and (lacks := [each for each in needs if each not in given]):
            raise ValueError(f"`{name}` lacks {', '.join(lacks)}")

    def of(make: Callable, *names: str, **options: object) -> object:
        """Make a part of the page of some tables; nothing, if one of them is missing."""
        return make(*(tables[name] for name in names), **options) if tables.keys() >= set(names) else []

    def figure(name: str, alt: str) -> dict[str, object] | None:
        if not figures.get(name):
            return None
        caption = captions["grid" if name.startswith("grid_") else name]
        return {"caption": caption, "alt": alt or caption.partition(". ")[0]} | pages.embed(figures[name])

    further = {
        section["title"]: {
            "findings": json.loads(Path(section["findings"]).read_text(encoding="utf-8")),
            "figures": [_captioned(path, caption) for path, caption in section["figures"].items()],
        }
        for section in sections
    }
    encoder = tables["concepts"]["encoder"].iloc[0] if "concepts" in tables else ""
    page = {
        "missing": missing and _missing(missing),
        "beside": beside,
        "findings": {
            "Predictions": of(accuracy_sentences, "predictions"),
            "Concepts": of(label_sentences, "concepts", encoder=encoder)
            + of(frequency_sentences, "frequent")
            + of(category_sentences, "categories"),
            "Explanations": of(timing_sentences, "timings") + of(evaluation_findings.no_map_sentences, "explanations"),
            **{title: _headlines(section["findings"], facts) for title, section in further.items()},
        },
        "caveats": of(caveats, "predictions", "images", encoder=encoder) if encoder else [],
        "run": overview_tables.table(
            "Versions and settings.", ["setting", "value"], [*run.items(), *dict(of(_images_facts, "images")).items()]
        ),
        "models": overview_tables.models_table(facts, predictions) if facts else None,
        "predictions": of(overview_tables.predictions_table, "predictions"),
        "concept_figures": [
            figure("frequent_concepts", of(_frequent_alt, "frequent")),
            figure("distinct_concepts", of(_layers_alt, "layers")),
            figure("category_shares", of(_categories_alt, "categories")),
        ],
        "layers": of(overview_tables.layers_table, "layers", "frequent"),
        "categories": of(overview_tables.categories_table, "categories"),
        "comparison": of(overview_tables.comparison_table, "models"),
        "grids": [
            figure(name, of(_grid_alt, "predictions", "timings", model=name.removeprefix("grid_"), shown=shown))
            for name in figures
            if name.startswith("grid_")
        ],
        "timings_figure": figure("timings", of(_timings_alt, "timings")),
        "timings": of(overview_tables.timings_table, "timings"),
        "verification": of(overview_tables.verification_table, "verification"),
        "sections": further,
    }
    pages.write_page(path, "overview.html.j2", page | {"with_figures": True})
    pages.write_page(findings_path, "overview.html.j2", page | {"with_figures": False})


# ---- findings


def accuracy_sentences(predictions: pd.DataFrame) -> list[str]:
    """Say how many labelled photographs each model gets right."""
    return [
        f"{model} predicts the label of {overview_tables.accuracy(group)}."
        if group["correct"].notna().any()
        else f"No photograph that is explained for {model} has a label and a prediction, so there is no accuracy."
        for model, group in predictions.groupby("model", sort=False)
    ]


def timing_sentences(timings: pd.DataFrame) -> list[str]:
    """Give the fastest and the slowest explainer of each model on each machine."""
    sentences = []
    for (model, device, threads), group in timings.groupby(["model", "device", "threads"], sort=False):
        ranked = group.sort_values("seconds_per_image", kind="stable")
        ends = ranked.iloc[[0, -1]].drop_duplicates("explainer")
        times = " to ".join(
            f"{text.in_seconds(row.seconds_per_image)} ({text.explainer_title(row.explainer)})"
            for row in ends.itertuples()
        )
        sentences.append(
            f"On {text.machine_title(device, threads)}, explaining {model} took {times} a photograph, wall clock."
        )
    return sentences


def caveats(predictions: pd.DataFrame, images: pd.DataFrame, *, encoder: str) -> list[str]:
    """Say what the numbers do not carry."""
    probe = images[images["set"] == "probe"].iloc[0]
    n = predictions["image_id"].nunique()
    surrogate = (
        f"Labels come from the {encoder}, which is not CLIP: it sees only what the 1000 ImageNet classes span, and "
        "matches everything else to these."
    )
    return [
        surrogate if "conse" in encoder.lower() else f"Labels come from {encoder}, and inherit what it confuses.",
        "A label is the best match in the concept list, not proof that the unit detects the concept. Scores depend on "
        "the list and on the layer's other units: they are not comparable between layers or models.",
        f"Units were labelled on {text.counted(int(probe.pictures), 'picture')}, whole or cut from "
        f"{text.counted(int(probe.photographs), 'photograph')}; crops "
        "of one photograph are not independent. A small probe set gives units many different labels by chance: the "
        "number of distinct concepts says as much about the probe set as about the network.",
        "Units of a layer are not independent either: Wilson intervals of shares and the chi-square p-value describe "
        "these units and test nothing.",
        f"{n} {text.plural(n, 'photograph')} {'was' if n == 1 else 'were'} explained"
        f"{', which is few' if n < 30 else ''}; the order of two means is no tested difference unless a test is named.",
        "Explainers can agree and be wrong: agreement is not faithfulness. LIME explains the probability of the class, "
        "the class activation maps explain its logit.",
        "Seconds are wall clock on the device that is named, with whatever else ran there.",
    ]


def _missing(missing: Mapping) -> dict[str, object]:
    """Say of a run that is not finished how far it is, and put what failed and what waits into tables."""
    jobs, waiting = missing["jobs"], missing["waiting"]
    counts = dict.fromkeys(_STATES, 0)
    for state, n in [(job["state"], 1) for job in jobs] + [(state, n) for _, state, n in waiting]:
        counts[state] += n
    told = [f"{n:,} {_STATES[state]}" for state, n in counts.items() if n]
    caption = "Jobs that failed or were cut off, each with the last words of its log."
    if len(jobs) > MOST_MISSING:
        caption += f" {MOST_MISSING} of {len(jobs):,} are listed; results/logs has the others."
    rows = [[job[key] for key in ("job", "state", "reason", "log")] for job in jobs[:MOST_MISSING]]
    about = "Jobs that wait for those above, or that the run did not come to."
    return {
        "summary": f"This run is not finished. Jobs done: {missing['done']:,}; of the others {text.listed(told)}."
        if told
        else f"Nothing: all {text.counted(missing['done'], 'job')} of this run are done.",
        "nothing_done": not missing["done"],
        "broken": overview_tables.table(caption, ["job", "state", "reason", "log"], rows),
        "waiting": overview_tables.table(about, ["rule", "state", "jobs"], waiting, numeric=("jobs",)),
    }


def _images_facts(images: pd.DataFrame) -> dict[str, object]:
    """Say what is remarkable of the image sets."""
    sets = images.groupby("set").first()
    skipped, problems = int(sets["skipped"].sum()), "; ".join(filter(None, sets["problems"]))
    return {"pictures left out as unreadable": f"{skipped:,} ({problems})" if problems else 0} | {
        f"copies among the {name} photographs": row["copies"] for name, row in sets.iterrows()
    }


# ---- figures


def _frequent_alt(frequent: pd.DataFrame) -> str:
    panels = [
        f"{model}: " + ", ".join(f"{row.concept} {row.units}" for row in group.head(5).itertuples())
        for model, group in frequent[frequent["layer"] == "all"].groupby("model", sort=False)
    ]
    return f"Bar charts of the concepts with the most units. {'; '.join(panels)}."


def _layers_alt(layers: pd.DataFrame) -> str:
    rows = [
        f"{row.model} {row.layer} {text.decimals(row.distinct_rarefied, 0)} ({row.distinct})"
        for row in layers.itertuples()
    ]
    return f"Bar charts of distinct concepts, expected at equal numbers of units (in all). {'; '.join(rows)}."


def _categories_alt(categories: pd.DataFrame) -> str:
    panels = [
        f"{model}: " + ", ".join(f"{row.category} {text.percent(row.share)}" for row in group.itertuples())
        for model, group in categories[categories["layer"] == "all"].groupby("model", sort=False)
    ]
    return f"Dot plots of category shares by layer. All layers together: {'; '.join(panels)}."


def _grid_alt(predictions: pd.DataFrame, timings: pd.DataFrame, *, model: str, shown: int) -> str:
    explainers = [text.explainer_title(name) for name in timings.loc[timings["model"] == model, "explainer"].unique()]
    rows = predictions[predictions["model"] == model]
    names = [f"{row.image_id} as {row.target_name or 'no class'}" for row in rows.head(shown).itertuples()]
    of = f"{len(names):,} of " if len(rows) > len(names) else ""
    return (
        f"{of}{text.counted(len(rows), 'photograph')} with heat maps of {text.listed(explainers)} for {model}: "
        f"{'; '.join(names)}."
    )


def _timings_alt(timings: pd.DataFrame) -> str:
    rows = [
        f"{row.model} {text.explainer_title(row.explainer)} {text.in_seconds(row.seconds_per_image)}"
        for row in timings.itertuples()
    ]
    return f"Bar charts of seconds a photograph. {'; '.join(rows)}."


def _headlines(sentences: Sequence[str], facts: Sequence[Mapping]) -> list[str]:
    """Pick the first sentence that names each model, or the first of all."""
    first = [next((each for each in sentences if fact["model"] in each), None) for fact in facts]
    return list(dict.fromkeys(filter(None, first))) or list(sentences[:1])


def _captioned(path: str | Path, caption: str) -> dict[str, object]:
    """Embed a figure with its caption, whose first sentence says what is to be seen."""
    return {"caption": caption, "alt": caption.partition(". ")[0]} | pages.embed(path)
