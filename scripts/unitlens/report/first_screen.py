"""What the overview begins with: a title, a tile for each question, and which checks passed.

Numbers come from the tables of docs/outputs.md, the words from templates/findings/summary.j2. A verdict has at most
twelve words and is only of units whose labels are better than chance; a table that is missing makes its tile say so.
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

import numpy as np
import pandas as pd

from unitlens.measures.scales import CONTROLS
from unitlens.report import charts, explanation_page, text
from unitlens.report.pages import say
from unitlens.report.read_first import FEW, Tables, by
from unitlens.tables import agreement, comparison, netdissect, unit_labels
from unitlens.tables.accounts import BY_MASKS
from unitlens.tables.complexity import MEAN_OF_PAIRS
from unitlens.tables.sanity import fully_randomized, has_settled

_CONCEPTS = 4  # bars of a tile
_PAIRS = 4  # of the image that is shown


def title(models: Sequence[str]) -> str:
    """Ask what a run answers of its models."""
    return say("summary.title", models=list(models))[0]


def _best_labels(tables: Tables) -> tuple[str, pd.DataFrame]:
    """Choose the labels that claim most: those of Network Dissection where masks name units, else those of the run."""
    if _masks(tables).empty:
        return by(tables["concepts"]), tables["concepts"]
    return "by masks", netdissect.as_labels(tables["netdissect"])


def _claimed(tables: Tables) -> tuple[str, pd.DataFrame]:
    """Say what these claim, ``named`` or ``selective``, and take away the claims of others."""
    _, units = _best_labels(tables)
    claim = "named" if (units["status"] == "named").any() else "selective"
    kept = units["status"].isin(["named"] if claim == "named" else unit_labels.CLAIMS)
    return claim, units.assign(status=units["status"].where(kept, "not selective"))


def tiles(tables: Tables, *, area: float, example: Mapping[str, object] | None) -> list[dict[str, object]]:
    """Answer the six questions of the report, each by a verdict, a small picture and a few numbers.

    Parameters
    ----------
    tables : mapping from name to pandas.DataFrame
        ``concepts, frequent, agreement, agreement_scores, complexity``; ``netdissect`` and
        ``localization_tests`` where a run has them.
    area : float
        Share of the image to which maps are cut where they are compared.
    example : mapping, optional
        An image with its maps: ``model, image_id, predicted, probability, images``.

    Returns
    -------
    list of dict
        ``question, verdict, lines, link``, and what is drawn: ``bars, stacks, images, matrix, dots``. Of what a run
        has not made yet the verdict is None.
    """
    needs = {
        "Which concepts do most units carry?": (_most_units, ["concepts", "frequent"], {}),
        "How do the networks differ?": (_networks, ["concepts"], {}),
        "How many concepts?": (_how_many, ["concepts"], {}),
        "What do the explainers look at?": (_look_at, [], {"example": example, "area": area}),
        "How far do they agree?": (_agree, ["agreement"], {"area": area}),
        "Does a simple image help?": (_simple_image, ["complexity"], {}),
    }
    drawn = ("bars", "stacks", "images", "matrix", "dots", "lines")
    empty = {"verdict": None, "link": ("#", "")} | {name: [] for name in drawn}
    made = []
    for question, (make, names, options) in needs.items():
        there = tables.keys() >= set(names)
        made.append({"question": question} | empty | (make(tables, **options) if there else {}))
    return made


def _masks(tables: Tables) -> pd.DataFrame:
    """Units that masks name; none where there was no dissection."""
    masks = tables.get("netdissect")
    return pd.DataFrame(columns=["model", "layer", "mask_concept"]) if masks is None else masks[masks.status == "named"]


def _most_units(tables: Tables) -> dict[str, object]:
    named, bars = _masks(tables), []
    for model, group in named.groupby("model", sort=False):
        counts, filters = group["mask_concept"].value_counts(), {"model": model, "status": f"named{BY_MASKS}"}
        bars.append(_bars(f"{model}, named by masks", counts, "named", '"{}"', filters))
    pooled = tables["frequent"][tables["frequent"]["layer"] == unit_labels.ALL]
    claim = "named" if pooled["units"].any() else "selective"
    if claim == "selective":
        pooled = pooled.assign(units=pooled["others"])
    pooled = pooled[pooled["units"] > 0]
    for model, group in pooled.groupby("model", sort=False) if named.empty else ():
        counts = group.set_index("concept")["units"].sort_values(ascending=False, kind="stable")
        bars.append(_bars(f"{model}, {by(tables['concepts'])}", counts, claim, "{}", {"model": model}))
    best = {"by": "", "claim": "named", "concept": "", "units": 0, "total": 0}
    if len(named):
        counts = named["mask_concept"].value_counts()
        best |= {"by": "masks", "concept": counts.index[0], "units": int(counts.iloc[0]), "total": len(named)}
    elif len(pooled):
        counts = pooled.groupby("concept", sort=False)["units"].sum().sort_values(ascending=False, kind="stable")
        best |= {
            "by": "label",
            "claim": claim,
            "concept": counts.index[0],
            "units": int(counts.iloc[0]),
            "total": int(counts.sum()),
        }
    link = ("#network-dissection", "Units by layer") if len(named) else ("units.html", "See the units")
    return {"verdict": say("summary.most_units", **best, few=FEW)[0], "bars": bars, "link": link}


def _bars(title: str, counts: pd.Series, status: str, search: str, filters: Mapping[str, str]) -> dict[str, object]:
    """Draw the most frequent concepts of at least two units as bars, and count the rest.

    A bar links to what the page of units shows with these `filters`, and with the concept in the place of ``{}``.
    """
    shown = counts[counts > 1].head(_CONCEPTS)
    rows = [
        {
            "label": word,
            "n": int(n),
            "share": n / counts.max(),
            "address": urlencode({"search": search.format(word), **filters}),
        }
        for word, n in shown.items()
    ]
    if rest := len(counts) - len(shown):
        largest = int(counts.iloc[len(shown)])
        label = text.counted(rest, "other concept" if rows else "concept")
        each = "1 each" if largest == 1 else f"at most {largest} each"
        rows.append({"label": label, "n": each, "share": largest / counts.max(), "address": ""})
    return {"title": f"{title} ({int(counts.sum()):,})", "rows": rows, "color": charts.STATUS_COLORS[status]}


def _networks(tables: Tables) -> dict[str, object]:
    claim, units = _claimed(tables)
    counts = _counts(units)
    few = min(row["units"] for row in counts) < FEW
    known = pooled = pd.DataFrame()
    if len(counts) > 1 and not few:
        known, tests = comparison.models(units).query("claim == 'selective'"), comparison.category_differences(units)
        pooled = tests[tests["layer"] == unit_labels.ALL].sort_values("p_adjusted", kind="stable")
    clear = known.query("difference_low > 0 or difference_high < 0") if len(known) else known
    verdict = say(
        "summary.networks_differ",
        models=len(counts),
        claim=claim,
        few=few,
        more="" if clear.empty else clear.iloc[0][f"model_{'a' if clear.iloc[0]['difference_low'] > 0 else 'b'}"],
        clear=len(clear),
        pairs=len(known),
        categories=int((pooled["p_adjusted"] < text.SIGNIFICANT).sum()) if len(pooled) else 0,
    )
    first = pooled.head(1).to_dict("records")
    return {
        "verdict": verdict[0],
        "stacks": _stacks(tables),
        "lines": [line for row in first for line in say("summary.shares", row=row)],
        "link": ("#networks-compared" if _masks(tables).empty else "#network-dissection", "Compare the networks"),
    }


def _counts(units: pd.DataFrame) -> list[dict[str, object]]:
    """Count units that claim something and their concepts, near-duplicates together, by model."""
    own = units[units["status"].isin(unit_labels.CLAIMS)]
    return [
        {"model": model, "units": len(group), "distinct": group["group"].nunique()}
        for model in units["model"].unique()
        for group in [own[own["model"] == model]]
    ]


def _stacks(tables: Tables) -> list[dict[str, object]]:
    """Draw for each layer which share of its active units has which status."""
    by, units = _best_labels(tables)
    rows = []
    for (model, layer), own in units.groupby(["model", "layer"], sort=False):
        counts = own["status"].value_counts().reindex(unit_labels.STATUSES, fill_value=0)
        parts = [
            {"name": name, "n": int(n), "share": n / max(counts.sum(), 1), "color": charts.STATUS_COLORS[name]}
            for name, n in counts.items()
            if n
        ]
        rows.append({"label": f"{model} {layer}", "parts": parts})
    return [{"title": f"Units {by}", "rows": rows, "legend": charts.STATUS_COLORS}]


def _how_many(tables: Tables) -> dict[str, object]:
    claim, units = _claimed(tables)
    rows = _counts(units)
    pairs = (
        comparison.models(units).query("claim == 'selective'").head(1).to_dict("records")
        if min(row["units"] for row in rows) >= FEW
        else []
    )
    lines = [line for row in rows for line in say("summary.distinct", row=row, claim=claim, few=FEW)]
    return {
        "verdict": say("summary.how_many", rows=rows, claim=claim, few=FEW)[0],
        "lines": lines + [line for row in pairs for line in say("summary.rarefied", row=row, claim=claim)],
        "link": ("#concepts" if _masks(tables).empty else "#network-dissection", "Concepts in full"),
    }


def _look_at(tables: Tables, *, example: Mapping[str, object] | None, area: float) -> dict[str, object]:
    if example is None:
        return {"verdict": None}
    above = explainers = None
    if "localization_tests" in tables:
        tests = tables["localization_tests"]
        tests = tests[(tests["explainer_b"] == "gaussian") & ~tests["explainer_a"].isin(CONTROLS)]
        tests = tests[tests["measure"] == "iou"]
        above, _ = text.above_and_below(tests)
        explainers = len(tests)
    lines = []
    if "agreement_scores" in tables:
        scores = tables["agreement_scores"]
        own = scores[(scores["model"] == example["model"]) & (scores["image_id"] == example["image_id"])]
        own = own[agreement.equal_area(own, area)]
        own = own[own["explainer_a"] == own["explainer_a"].iloc[0]] if len(own) else own
        shown = {key: example[key] for key in ("model", "predicted", "probability")}
        lines = say("summary.example", **shown, pairs=own.head(_PAIRS).to_dict("records"))
    return {
        "verdict": say("summary.look_at", above=above, explainers=explainers)[0],
        "images": example["images"],
        "lines": lines,
        "link": ("explanations.html", "All explained images"),
    }


def _agree(tables: Tables, *, area: float) -> dict[str, object]:
    shown = agreement.headline(tables["agreement"], area=area)
    shown = shown[(shown["measure"] == "equal_area_iou") & shown["mean"].notna()]
    first = last = None
    if len(shown):
        pairs = zip(shown["explainer_a"], shown["explainer_b"], strict=True)
        shown = shown.assign(pair=[text.pair_title(*pair) for pair in pairs])
        means = shown.groupby("pair", sort=False)["mean"].mean().sort_values(ascending=False, kind="stable")
        first, last = ({"pair": means.index[at], "mean": means.iloc[at]} for at in (0, -1))
    return {
        "verdict": say("summary.agree", first=first, last=last)[0],
        "matrix": [_matrix(model, group) for model, group in shown.groupby("model", sort=False)],
        "lines": say(
            "summary.agree_notes",
            area=area,
            n=int(shown["n"].max()),
            others=shown["chance"].agg(["min", "max"]),
            floor=shown["floor"].iloc[0],
        )
        if first
        else [],
        "link": ("#agreement", "Agreement in full"),
    }


def _matrix(model: str, rows: pd.DataFrame) -> dict[str, object]:
    """Lay out the means of all pairs of one model's explainers, the first of a pair down, the second across."""
    names = [map(text.explainer_title, rows[column]) for column in ("explainer_a", "explainer_b")]
    return {"title": model} | explanation_page.heat_map(dict(zip(zip(*names, strict=True), rows["mean"], strict=True)))


def _simple_image(tables: Tables) -> dict[str, object]:
    rows = tables["complexity"]
    known = rows[rows["correlation"].notna() & (rows["agreement"] == MEAN_OF_PAIRS)]
    known = known.assign(title=known["measure"].map(text.COMPLEXITY_TITLES))
    clear = known[(known["p_adjusted"] < text.SIGNIFICANT) & (known["measure"] != "confidence")]
    clear = clear.sort_values("p_adjusted", kind="stable")
    largest = known.iloc[known["correlation"].abs().argsort()[::-1][:1]].to_dict("records")
    tests = int(rows.loc[rows["agreement"] == MEAN_OF_PAIRS, "p_adjusted"].groupby(rows["model"]).count().max())
    n = int(rows["source_images"].max()) if len(rows) else 0
    return {
        "verdict": say("summary.simple_image", clear=clear.to_dict("records"), n=n)[0],
        "dots": [_dots(model, group) for model, group in known.groupby("model", sort=False)],
        "lines": [line for row in largest for line in say("summary.correlation", row=row, tests=tests)],
        "link": ("#complexity-of-the-source-images", "All measures"),
    }


def _dots(model: str, rows: pd.DataFrame) -> dict[str, object]:
    """Place correlations and their intervals between -1 and 1, as shares of the width."""
    rows = rows.assign(low=rows["low"].fillna(rows["correlation"]), high=rows["high"].fillna(rows["correlation"]))
    return {
        "title": model,
        "rows": [
            {
                "label": row.title,
                "n": text.decimals(row.correlation, 2),
                "at": (row.correlation + 1) / 2,
                "low": (row.low + 1) / 2,
                "width": (row.high - row.low) / 2,
            }
            for row in rows.itertuples()
        ],
    }


def checks(tables: Tables, *, n_samples: int | str) -> list[dict[str, object]]:
    """List which checks passed: of the code, of explainers on randomized networks, of LIME's draws and of controls.

    ``ok`` is whether nothing speaks against the explainers; `n_samples` is LIME's number, or "auto".
    """
    made = {"verification": _verified, "randomization": _randomized, "stability": _stable, "faithfulness": _controls}
    options = {"stability": {"n_samples": n_samples}}
    return [make(tables[name], **options.get(name, {})) for name, make in made.items() if name in tables]


def _check(ok: bool, sentences: list[str], link: str) -> dict[str, object]:
    return {"ok": bool(ok), "text": sentences[0], "link": link}


def _verified(rows: pd.DataFrame) -> dict[str, object]:
    tested = rows[rows["passed"].notna()]
    passed = int(tested["passed"].astype(bool).sum())
    return _check(passed == len(tested), say("summary.verified", passed=passed, rows=len(tested)), "#verification")


def _randomized(summary: pd.DataFrame) -> dict[str, object]:
    last = fully_randomized(summary)
    unchanged = last[last["low"] > last["level"]]
    names = [f"{text.explainer_title(row.explainer)} ({row.model})" for row in unchanged.itertuples()]
    undecided = bool(last["low"].isna().all())
    sentences = say("summary.randomized", unchanged=names, undecided=undecided)
    return _check(not names and not undecided, sentences, "#randomized-networks")


def _stable(summary: pd.DataFrame, *, n_samples: int | str) -> dict[str, object]:
    at = {model: has_settled(group, n_samples) for model, group in summary.groupby("model", sort=False)}
    settled = [model for model, enough in at.items() if enough]
    unsettled = [model for model in at if model not in settled]
    sentences = say("summary.stable", settled=settled, open=unsettled, n_samples=n_samples)
    return _check(not unsettled, sentences, "#stability-of-lime")


def _controls(summary: pd.DataFrame) -> dict[str, object]:
    tested = summary[summary["measure"].isin(text.SCORE_TITLES) & ~summary["explainer"].isin(CONTROLS)]
    sign = np.where(tested["better"] == "higher", 1, -1)
    beats = int(((tested["p_adjusted"] < text.SIGNIFICANT) & (sign * tested["over_random"] > 0)).sum())
    return _check(beats == len(tested), say("summary.controls", beats=beats, tests=len(tested)), "#faithfulness")
