"""Render the report's pages: the overview and the gallery of units.

Each is self-contained: figures are embedded and nothing is loaded. The overview holds findings in sentences made from
the tables, the tables themselves, and the figures; no script runs there. The sentences take the tables of
`overview` and say what these hold, with n and interval; they rank within the sample and claim no untested difference.
"""

import base64
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
import vl_convert
from markupsafe import Markup
from PIL import Image
from scipy.stats import binomtest

from unitlens import explain, explanation_cards, unit_cards
from unitlens.jobs.characters import visible
from unitlens.wording import counted, explainer_title, machine_title, p_value, plural

LARGEST_REPORT_PAGE = 1_500_000  # bytes; in base64 it stays below 2 MB, the longest address of a frame in Chromium
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
MOST_MISSING = 200  # jobs that are listed; logs tell of the others
LARGEST_PNG = 500_000  # bytes; larger ones are photographs, and embedded as JPEG


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
        (``explanations``); differences and speed ratios of `verify.compare`, joined (``verification``).
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
    for name, needs, given in (("tables", TABLES, tables), ("figures", needed, figures)):
        if missing is None and (lacks := [each for each in needs if each not in given]):
            raise ValueError(f"`{name}` lacks {', '.join(lacks)}")

    def of(make: Callable, *names: str, **options: object) -> object:
        """Make a part of the page of some tables; nothing, if one of them is missing."""
        return make(*(tables[name] for name in names), **options) if tables.keys() >= set(names) else []

    def figure(name: str, alt: str) -> dict[str, object] | None:
        if not figures.get(name):
            return None
        caption = captions["grid" if name.startswith("grid_") else name]
        return {"caption": caption, "alt": alt or caption.partition(". ")[0]} | _embed(figures[name])

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
            "Explanations": of(timing_sentences, "timings") + of(explain.no_map_sentences, "explanations"),
            **{title: _headlines(section["findings"], facts) for title, section in further.items()},
        },
        "caveats": of(caveats, "predictions", "images", encoder=encoder) if encoder else [],
        "run": _table(
            "Versions and settings.", ["setting", "value"], [*run.items(), *dict(of(_images_facts, "images")).items()]
        ),
        "models": _models_table(facts, predictions) if facts else None,
        "predictions": of(_predictions_table, "predictions"),
        "concept_figures": [
            figure("frequent_concepts", of(_frequent_alt, "frequent")),
            figure("distinct_concepts", of(_layers_alt, "layers")),
            figure("category_shares", of(_categories_alt, "categories")),
        ],
        "layers": of(_layers_table, "layers", "frequent"),
        "categories": of(_categories_table, "categories"),
        "comparison": of(_comparison_table, "models"),
        "grids": [
            figure(name, of(_grid_alt, "predictions", "timings", model=name.removeprefix("grid_"), shown=shown))
            for name in figures
            if name.startswith("grid_")
        ],
        "timings_figure": figure("timings", of(_timings_alt, "timings")),
        "timings": of(_timings_table, "timings"),
        "verification": of(_verification_table, "verification"),
        "sections": further,
    }
    _write_page(path, "overview.html.j2", page | {"with_figures": True})
    _write_page(findings_path, "overview.html.j2", page | {"with_figures": False})


def units(
    path: str | Path,
    *,
    concepts: pd.DataFrame,
    maps: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    pictures: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    missing: Sequence[str] = (),
) -> None:
    """Write the gallery of units: a card for each, to search, filter and sort.

    Parameters
    ----------
    path : path
        HTML file to write.
    concepts, maps, pictures
        As in `unit_cards.collect`.
    missing : sequence of str
        Layers that are left out because the run is not finished.

    Raises
    ------
    ValueError
        As `unit_cards.collect` does.
    """
    data = unit_cards.collect(concepts, maps, pictures)
    charts = Markup(vl_convert.javascript_bundle())  # Vega-Lite, so that the page needs no network
    _write_page(
        path,
        "units.html.j2",
        {"data": _visible_data(data), "charts": charts, "missing": missing} | unit_cards.explain(concepts, data),
    )


def explanations(
    path: str | Path, cards: Sequence[Mapping], *, area: float, explained: int, missing: Sequence[str] = ()
) -> None:
    """Write the page of explanations: photographs against explainers, to slide from photograph to heat map to mask.

    Parameters
    ----------
    path : path
        HTML file to write; below `LARGEST_REPORT_PAGE`, with pictures as large as that allows.
    cards : sequence of mapping
        From `explanation_cards.collect`.
    area : float
        Share of the picture that a mask covers.
    explained : int
        Photographs that were explained, of which the page shows the first.
    missing : sequence of str
        Explanations that are left out because the run is not finished.
    """
    words = explanation_cards.explain_page(cards, area, explained) | {"missing": missing}
    for form in explanation_cards.FORMS:
        page = words | {"photographs": explanation_cards.encode(cards, form)}
        text = _render("explanations.html.j2", page)
        if len(text.encode()) < LARGEST_REPORT_PAGE:
            break
    Path(path).write_text(text, encoding="utf-8")


def _write_page(path: str | Path, template: str, page: Mapping[str, object]) -> None:
    Path(path).write_text(_render(template, page), encoding="utf-8")


def _render(template: str, page: Mapping[str, object]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = lambda title: title.lower().replace(" ", "-")
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters["visible"] = visible
    return environment.get_template(template).render(page)


def write_findings(path: str | Path, sentences: Sequence[str]) -> None:
    """Keep sentences for a section of the overview, and print them."""
    Path(path).write_text(json.dumps(sentences, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(*sentences, sep="\n")


# ---- findings


def accuracy_sentences(predictions: pd.DataFrame) -> list[str]:
    """Say how many labelled photographs each model gets right."""
    return [
        f"{model} predicts the label of {accuracy(group)}."
        if group["correct"].notna().any()
        else f"No photograph that is explained for {model} has a label and a prediction, so there is no accuracy."
        for model, group in predictions.groupby("model", sort=False)
    ]


def accuracy(predictions: pd.DataFrame) -> str:
    """Count right predictions of one model among its labelled photographs, with Wilson's 95 % interval."""
    labelled = predictions[predictions["correct"].notna()]
    right, n = int(labelled["correct"].astype(bool).sum()), len(labelled)
    if not n:
        return "no labelled photograph"
    low, high = binomtest(right, n).proportion_ci(method="wilson")
    interval = f"{_percent(right / n)}; 95 % interval {_percents(low, high)}"
    return f"{right} of {n} labelled {plural('photograph', n)} ({interval})"


_WITHOUT_LABEL = (
    ("unlabelled", "has no label better than chance", "have no label better than chance"),
    ("dead", "is dead", "are dead"),
    ("constant", "is constant", "are constant"),
)


def label_sentences(concepts: pd.DataFrame, encoder: str) -> list[str]:
    """Say how many units of each model have a label, how many concepts these name, and why the others have none.

    Near-duplicates count as one concept, as in every table of `compare`.
    """
    sentences = []
    for model, group in concepts.groupby("model", sort=False):
        counts = group["status"].value_counts()
        labelled, layers = group[group["status"] == "labelled"], group["layer"].nunique()
        sentence = (
            f"The {encoder} labels {len(labelled):,} of the {counted(len(group), 'unit')} in "
            f"{counted(layers, 'layer')} of {model} with {counted(labelled['group'].nunique(), 'distinct concept')}"
        )
        others = [
            f"{counted(counts[status], 'unit')} {one if counts[status] == 1 else many}"
            for status, one, many in _WITHOUT_LABEL
            if status in counts
        ]
        broken = group.loc[group["status"] == "not finite", "layer"].value_counts(sort=False)
        others += [
            f"{counted(n, 'unit')} of {layer} {'returns' if n == 1 else 'return'} NaN or infinity"
            for layer, n in broken.items()
        ]
        sentences.append("; ".join([sentence, *([_enumerate(others)] if others else [])]) + ".")
    return sentences


def frequency_sentences(frequent: pd.DataFrame) -> list[str]:
    """Name the three concepts that most units of each model are labelled with."""
    return [
        f"In {model} most units are labelled "
        + _enumerate(
            f"{row.concept} ({counted(row.units, 'unit')}, {_percent(row.share)})" for row in group.head(3).itertuples()
        )
        + "; shares are of its labelled units."
        for model, group in frequent[frequent["layer"] == "all"].groupby("model", sort=False)
    ]


def category_sentences(categories: pd.DataFrame) -> list[str]:
    """Give the largest and the smallest category of each model."""
    sentences = []
    for model, group in categories[categories["layer"] == "all"].groupby("model", sort=False):
        ranked = group.sort_values("share", ascending=False, kind="stable")
        largest, *others = [
            f"{row.category} at {_percent(row.share)} (95 % interval {_percents(row.low, row.high)})"
            for row in ranked.itertuples()
        ]
        smallest = f", the smallest {others[-1]}" if others else ""
        sentences.append(f"The largest category among the labelled units of {model} is {largest}{smallest}.")
    return sentences


def timing_sentences(timings: pd.DataFrame) -> list[str]:
    """Give the fastest and the slowest explainer of each model on each machine."""
    sentences = []
    for (model, device, threads), group in timings.groupby(["model", "device", "threads"], sort=False):
        ranked = group.sort_values("seconds_per_image", kind="stable")
        ends = ranked.iloc[[0, -1]].drop_duplicates("explainer")
        times = " to ".join(
            f"{_seconds(row.seconds_per_image)} ({explainer_title(row.explainer)})" for row in ends.itertuples()
        )
        sentences.append(
            f"On {machine_title(device, threads)}, explaining {model} took {times} a photograph, wall clock."
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
        f"Units were labelled on {counted(int(probe.pictures), 'picture')}, whole or cut from "
        f"{counted(int(probe.photographs), 'photograph')}; crops "
        "of one photograph are not independent. A small probe set gives units many different labels by chance: the "
        "number of distinct concepts says as much about the probe set as about the network.",
        "Units of a layer are not independent either: Wilson intervals of shares and the chi-square p-value describe "
        "these units and test nothing.",
        f"{n} {plural('photograph', n)} {'was' if n == 1 else 'were'} explained"
        f"{', which is few' if n < 30 else ''}; the order of two means is no tested difference unless a test is named.",
        "Explainers can agree and be wrong: agreement is not faithfulness. LIME explains the probability of the class, "
        "the class activation maps explain its logit.",
        "Seconds are wall clock on the device that is named, with whatever else ran there.",
    ]


# ---- tables


_STATES = {
    "failed": "failed",
    "cut off": "cut off or still running",
    "out of date": "out of date (what they read or their settings changed)",
    "not begun": "not begun",
}


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
        "summary": f"This run is not finished. Jobs done: {missing['done']:,}; of the others {_enumerate(told)}."
        if told
        else f"Nothing: all {counted(missing['done'], 'job')} of this run are done.",
        "nothing_done": not missing["done"],
        "broken": _table(caption, ["job", "state", "reason", "log"], rows),
        "waiting": _table(about, ["rule", "state", "jobs"], waiting, numeric=("jobs",)),
    }


def _images_facts(images: pd.DataFrame) -> dict[str, object]:
    """Say what is remarkable of the image sets."""
    sets = images.groupby("set").first()
    skipped, problems = int(sets["skipped"].sum()), "; ".join(filter(None, sets["problems"]))
    return {"pictures left out as unreadable": f"{skipped:,} ({problems})" if problems else 0} | {
        f"copies among the {name} photographs": row["copies"] for name, row in sets.iterrows()
    }


def _models_table(facts: Sequence[Mapping], predictions: pd.DataFrame | None) -> dict[str, object]:
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
    return _table(caption, ["", *(fact["model"] for fact in facts)], rows)


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


def _predictions_table(predictions: pd.DataFrame) -> dict[str, object]:
    rows = []
    for row in predictions.head(MOST_PREDICTIONS).itertuples():
        label = row.label_name if pd.notna(row.label) else "none"
        right = {True: "yes", False: "no"}.get(row.correct, "–")
        predicted = [row.predicted_name or "none", _decimals(row.probability, 3), right]
        explained = [row.target_name or "none", _decimals(row.target_probability, 3)]
        rows.append([row.model, row.image_id, label, *predicted, *explained])
    columns = ["model", "photograph", "label", "predicted", "probability", "right", "explained", "its probability"]
    caption = "Predictions for the photographs that are explained. Probabilities are the models' softmax outputs."
    if len(predictions) > len(rows):
        caption += f" The first {len(rows):,} of {len(predictions):,} rows; results/predictions.csv has all."
    return _table(caption, columns, rows, numeric=("probability", "its probability"))


def _layers_table(layers: pd.DataFrame, frequent: pd.DataFrame) -> dict[str, object]:
    rows = []
    for row in layers.itertuples():
        top = frequent[(frequent["model"] == row.model) & (frequent["layer"] == row.layer)].head(5)
        names = ", ".join(f"{each.concept} ({each.units})" for each in top.itertuples())
        counts = [f"{row.units:,}", f"{row.dead:,}", f"{row.distinct:,}"]
        expected = f"{_decimals(row.distinct_rarefied, 1)} among {row.rarefied_units:,}"
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
    return _table(caption, columns, rows, numeric=columns[2:6])


def _categories_table(categories: pd.DataFrame) -> dict[str, object]:
    rows = [
        [row.model, row.layer, row.category, f"{row.units:,}", _percent(row.share), _percents(row.low, row.high)]
        for row in categories.itertuples()
    ]
    columns = ["model", "layer", "category", "units", "share", "95 % interval"]
    caption = (
        "Share of each category among the labelled units, with Wilson's interval; the layer all pools a model's layers."
    )
    return _table(caption, columns, rows, numeric=columns[3:])


def _comparison_table(models: pd.DataFrame) -> dict[str, object]:
    """Give each pair of models a column, as `_models_table` does."""
    columns = [
        {
            "concepts of A": f"{row.distinct_a:,}",
            "concepts of B": f"{row.distinct_b:,}",
            "in both": f"{row.shared:,}",
            "only in A": f"{row.only_a:,}",
            "only in B": f"{row.only_b:,}",
            "Jaccard index": _decimals(row.jaccard, 3),
            "units drawn of each": f"{row.rarefied_units:,}",
            "expected concepts of A": f"{row.rarefied_a:.1f}",
            "expected concepts of B": f"{row.rarefied_b:.1f}",
            "chi-square of category shares": f"{_decimals(row.chi_square, 1)} ({p_value(row.p_value)})",
            "Cramér's V": _decimals(row.cramers_v, 3),
        }
        for row in models.itertuples()
    ]
    rows = [[name, *(column[name] for column in columns)] for name in (columns[0] if columns else ())]
    caption = (
        "Concepts of every two models. Expected: distinct concepts among equally many labelled units drawn at random. "
        "Chi-square takes units as independent, which they are not."
    )
    return _table(caption, ["", *(f"A {row.model_a}, B {row.model_b}" for row in models.itertuples())], rows)


def _timings_table(timings: pd.DataFrame) -> dict[str, object]:
    rows = []
    for row in timings.itertuples():
        seconds = [f"{row.images:,}", f"{row.seconds:.1f}", _seconds(row.seconds_per_image)]
        rows.append([row.model, explainer_title(row.explainer), *seconds, machine_title(row.device, row.threads)])
    columns = ["model", "explainer", "photographs", "seconds", "a photograph", "device"]
    return _table("Wall-clock time of the explainers.", columns, rows, numeric=columns[2:5])


def _verification_table(verification: pd.DataFrame) -> dict[str, object]:
    rows = [
        [
            *(row.model, row.check, row.reference, row.images, _scientific(row.largest_difference)),
            *(f"{row.tolerance:g}" if pd.notna(row.tolerance) else "any", _decimals(row.speed_ratio, 1)),
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
    return _table(caption, columns, rows, numeric=columns[3:7])


def _table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[str] = ()
) -> dict[str, object]:
    return {
        "caption": caption,
        "columns": columns,
        "rows": list(rows),
        "numeric": [name in numeric for name in columns],
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
        f"{row.model} {row.layer} {_decimals(row.distinct_rarefied, 0)} ({row.distinct})" for row in layers.itertuples()
    ]
    return f"Bar charts of distinct concepts, expected at equal numbers of units (in all). {'; '.join(rows)}."


def _categories_alt(categories: pd.DataFrame) -> str:
    panels = [
        f"{model}: " + ", ".join(f"{row.category} {_percent(row.share)}" for row in group.itertuples())
        for model, group in categories[categories["layer"] == "all"].groupby("model", sort=False)
    ]
    return f"Dot plots of category shares by layer. All layers together: {'; '.join(panels)}."


def _grid_alt(predictions: pd.DataFrame, timings: pd.DataFrame, *, model: str, shown: int) -> str:
    explainers = [explainer_title(name) for name in timings.loc[timings["model"] == model, "explainer"].unique()]
    rows = predictions[predictions["model"] == model]
    names = [f"{row.image_id} as {row.target_name or 'no class'}" for row in rows.head(shown).itertuples()]
    of = f"{len(names):,} of " if len(rows) > len(names) else ""
    return (
        f"{of}{counted(len(rows), 'photograph')} with heat maps of {_enumerate(explainers)} for {model}: "
        f"{'; '.join(names)}."
    )


def _timings_alt(timings: pd.DataFrame) -> str:
    rows = [
        f"{row.model} {explainer_title(row.explainer)} {_seconds(row.seconds_per_image)}"
        for row in timings.itertuples()
    ]
    return f"Bar charts of seconds a photograph. {'; '.join(rows)}."


def _headlines(sentences: Sequence[str], facts: Sequence[Mapping]) -> list[str]:
    """Pick the first sentence that names each model, or the first of all."""
    first = [next((each for each in sentences if fact["model"] in each), None) for fact in facts]
    return list(dict.fromkeys(filter(None, first))) or list(sentences[:1])


def _captioned(path: str | Path, caption: str) -> dict[str, object]:
    """Embed a figure with its caption, whose first sentence says what is to be seen."""
    return {"caption": caption, "alt": caption.partition(". ")[0]} | _embed(path)


def _embed(path: str | Path) -> dict[str, object]:
    """Encode a figure as a data URI, with its width in CSS pixels at its natural size."""
    path = Path(path)
    content = path.read_bytes()
    if path.suffix == ".svg":
        points = re.search(rb'<svg[^>]*?\bwidth="([\d.]+)pt"', content)[1]
        kind, width = "svg+xml", float(points) * 96 / 72
    else:
        image = Image.open(io.BytesIO(content))
        kind, width = "png", image.width * 96 / image.info["dpi"][0]
        if len(content) > LARGEST_PNG:
            kind, buffer = "jpeg", io.BytesIO()
            image.convert("RGB").save(buffer, "JPEG", quality=88)
            content = buffer.getvalue()
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"uri": Markup(uri), "width": round(width)}


# ---- words


def _show(value: object) -> object:
    """Show hidden characters, and keep a percent sign on the line of its number, as in ``n = 10`` and ``p < 0.05``."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = visible(value, keep="\n")
    return re.sub(r"\b([npq]) ([=<≤]) (?=\d)", "\\1\u00a0\\2\u00a0", text.replace(" %", "\u00a0%"))


def _visible_data(data: object) -> object:
    """Show the hidden characters in all texts of what a page holds as JSON."""
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {key: _visible_data(value) for key, value in data.items()}
    return [_visible_data(value) for value in data] if isinstance(data, list) else data


def _enumerate(texts: Iterable[str]) -> str:
    *first, last = list(texts) or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def _percents(low: float, high: float) -> str:
    return f"{_percent(low)} to {_percent(high)}" if pd.notna(low) else "none"


def _scientific(value: float) -> str:
    return f"{value:.1e}" if pd.notna(value) else "–"


def _decimals(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if pd.notna(value) else "–"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
