"""Render the overview, where no script runs: the first screen, then findings, figures and tables, folded by topic.

The sentences say what the tables hold, with n and interval; they rank within the sample and claim no untested
difference.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd

from unitlens import __version__
from unitlens.report import first_screen, pages, read_first, text
from unitlens.report import overview_tables as tabulated
from unitlens.report.concept_findings import category_sentences, frequency_sentences, label_sentences
from unitlens.report.evaluation_findings import no_map_sentences
from unitlens.report.pages import say
from unitlens.tables.unit_labels import ALL

MOST_MISSING = 200  # jobs that are listed; logs tell of the others
TABLES = (
    *("concepts", "frequent", "layers", "categories", "models"),
    *("timings", "predictions", "images", "explanations", "verification", "verification_timings"),
)
_STATES = {
    "failed": "failed",
    "cut off": "cut off or still running",
    "out of date": "out of date (what they read or their settings changed)",
    "not begun": "not begun",
}


def overview(
    path: str | Path,
    findings_path: str | Path,
    answers_path: str | Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    facts: Sequence[Mapping],
    figures: Mapping[str, str | Path],
    captions: Mapping[str, str],
    shown: int,
    run: Mapping[str, object],
    sections: Sequence[Mapping] = (),
    beside: Sequence[str] = (),
    area: float,
    n_samples: int,
    best: Sequence[Mapping] = (),
    example: Mapping[str, object] | None = None,
    missing: Mapping[str, object] | None = None,
) -> None:
    """Write the overview page, once more without figures, and its answers as reStructuredText.

    Parameters
    ----------
    path, findings_path, answers_path : path
        The page; the one without figures, which stays below the 2 MB that Chromium shows inside Snakemake's report; and
        the answers, which stand on the first page of that report.
    tables : mapping from name to pandas.DataFrame
        `TABLES`, as docs/outputs.md describes them; and the further ones that the first screen reads, if they
        are there: see `first_screen.tiles` and `first_screen.checks`.
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
        ``title``; ``findings``, a JSON file with a list of sentences; and ``figures``, from path to caption.
    beside : sequence of str
        Pages that lie beside this one, of ``explanations`` and ``units``.
    area : float
        Share of the image to which maps are cut where they are compared.
    n_samples : int
        Samples of LIME.
    best, example
        Of `samples.best_units` and `samples.example`.
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
        return pages.marked(of(make, *names, **options) or [])

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
    settings = {**run, **(of(tabulated.images_facts, "images") or {})}
    failed = sum(job["state"] == "failed" for job in missing["jobs"]) if missing else 0
    names = [fact["model"] for fact in facts] or models
    page = {
        "title": first_screen.title(names),
        **read_first.run_facts(tables, failed=failed),
        "read_first": read_first.sentences(tables),
        "tiles": first_screen.tiles(tables, area=area, example=example),
        "best": best,
        "checks": first_screen.checks(tables, n_samples=n_samples),
        "missing": missing and _missing(missing),
        "beside": beside,
        "findings": {
            "Predictions": said(accuracy_sentences, "predictions"),
            "Concepts": said(label_sentences, "concepts", encoder=encoder)
            + said(frequency_sentences, "frequent")
            + said(category_sentences, "categories"),
            "Explanations": said(timing_sentences, "timings") + said(no_map_sentences, "explanations"),
        },
        "caveats": of(caveats, "predictions", "images", encoder=encoder) if encoder else None,
        "run": [{"setting": name, "value": value} for name, value in settings.items()],
        "models": tabulated.models_table(facts, predictions) if facts else None,
        "predictions": of(tabulated.predictions_table, "predictions"),
        "all_predictions": of(len, "predictions"),
        "concept_figures": [
            figure("frequent_concepts", of(_alt_of_models, "frequent", sentence="overview.frequent_alt")),
            figure("distinct_concepts", of(_alt_of_rows, "layers", sentence="overview.layers_alt")),
            figure("category_shares", of(_alt_of_models, "categories", sentence="overview.categories_alt")),
        ],
        "layers": of(tabulated.layers_table, "layers", "frequent"),
        "categories": of(tabulated.categories_table, "categories"),
        "comparison": of(tabulated.comparison_table, "models"),
        "grids": [
            figure(name, of(_grid_alt, "predictions", "timings", model=name.removeprefix("grid_"), shown=shown))
            for name in figures
            if name.startswith("grid_")
        ],
        "timings_figure": figure("timings", of(_alt_of_rows, "timings", sentence="overview.timings_alt")),
        "timings": of(tabulated.timings_table, "timings"),
        "verification": of(tabulated.verification_table, "verification", "verification_timings"),
        "sections": further,
    }
    pages.write_page(path, "overview.html.j2", page | {"with_figures": True})
    pages.write_page(findings_path, "overview.html.j2", page | {"with_figures": False})
    pages.write_text(answers_path, "answers.rst.j2", page)


# ---- findings


def accuracy_sentences(predictions: pd.DataFrame) -> list[str]:
    """Say how many labeled source images each model gets right."""
    sentences = []
    for model, group in predictions.groupby("model", sort=False):
        known = group["correct"].notna().any()
        sentences += say("overview.predictions", model=model, accuracy=tabulated.accuracy(group), known=known)
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
    """Say what the results cannot tell."""
    probe = images[images["set"] == "probe"].iloc[0].to_dict()
    return say("overview.caveats", encoder=encoder, probe=probe, explained=predictions["image_id"].nunique())


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


def versions() -> str:
    """Name the versions of Unitlens and torch; the latter is not imported for it."""
    return f"Unitlens {__version__}, torch {metadata.version('torch')}"
