"""Find what is to say of how explainers agree, find objects, pass sanity checks, are faithful and are tuned.

Tables are those that the module of the same topic in `tables` makes; docs/outputs.md has their columns. The words stand
in templates/findings/evaluation.j2.
"""

import pandas as pd

from unitlens.measures.scales import BETTER, CONTROLS, has_layer
from unitlens.report.pages import say
from unitlens.report.text import (
    COMPLEXITY_TITLES,
    LOCALIZATION_TITLES,
    SCORE_TITLES,
    SHAPE_TITLES,
    SIGNIFICANT,
    above_and_below,
    adjusted,
    paired_test,
    significant,
)
from unitlens.tables import resampling
from unitlens.tables.agreement import headline
from unitlens.tables.complexity import MEAN_OF_PAIRS
from unitlens.tables.faithfulness import KEYS
from unitlens.tables.sanity import SETTLED, at_maps, fully_randomized, has_settled, settled_at

_NAMED = 5  # images in a sentence


def agreement_findings(summary: pd.DataFrame, tests: pd.DataFrame, *, area: float) -> list[str]:
    """Say which explainers agree most and least, whether above chance, and than how many the first agree more."""
    shown = headline(summary, area=area)
    sentences = []
    for model, group in shown[shown["measure"] == "equal_area_iou"].groupby("model", sort=False):
        ranked = group[group["mean"].notna()].sort_values("mean", ascending=False, kind="stable")
        sentences += say(
            "evaluation.agreement",
            model=model,
            area=area,
            ranked=ranked.to_dict("records"),
            matched=_matched(ranked),
            tests=_told(tests[(tests["model"] == model) & (tests["measure"] == "equal_area_iou")]),
        )
    return sentences


def _matched(pairs: pd.DataFrame) -> dict[str, object] | None:
    """Give what a sentence tells of the tests of pairs of explainers against other source images; nothing of none."""
    tested = pairs[pairs["p_adjusted"].notna()]
    if tested.empty:
        return None
    clear = tested[tested["p_adjusted"] < SIGNIFICANT]
    sides = {"above": int((clear["excess"] > 0).sum()), "below": int((clear["excess"] < 0).sum())}
    return {
        "n": len(tested),
        "adjusted": adjusted(tested[["p_adjusted"]]),
        "smallest": tested["p_adjusted"].min(),
    } | sides


def _told(tests: pd.DataFrame, family: pd.DataFrame | None = None) -> dict[str, object] | None:
    """Give what a sentence tells of paired tests; nothing of none."""
    if tests.empty:
        return None
    above, below = above_and_below(tests)
    return {"n": len(tests), "above": above, "below": below, "how": paired_test(tests, family)}


def no_map_sentences(explanations: pd.DataFrame) -> list[str]:
    """Say which explainers have no map of which images, and why: a sentence for each model, explainer and reason."""
    sentences = []
    every = explanations.groupby(["model", "explainer"]).size()
    without = explanations[explanations["warning"].fillna("") != ""]
    for (model, explainer, warning), group in without.groupby(["model", "explainer", "warning"], sort=False):
        sentences += say(
            "evaluation.no_map",
            model=model,
            explainer=explainer,
            n=len(group),
            images=every[model, explainer],
            warning=warning,
            named=group["image_id"].astype(str).head(_NAMED).to_list(),
        )
    return sentences


def faithfulness_findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say which explainer is the most faithful, and whether that is more than chance.

    There is a sentence for each model and each of deletion, insertion and ROAD, the first two with the first baseline.
    """
    sentences = []
    for _, of_model in summary.groupby("model", sort=False):
        for _, of_measure in of_model[of_model["measure"].isin(SCORE_TITLES)].groupby("measure", sort=False):
            _, rows = next(iter(of_measure.groupby("baseline", sort=False)))
            sentences += _faithfulness(rows, summary, tests)
    return sentences


def _faithfulness(rows: pd.DataFrame, summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say what one measure tells of one model, by its rows of the summary; all tests of a table are one family."""
    first = rows.iloc[0]
    sign = BETTER[first["measure"]]
    ranked = rows[~rows["explainer"].isin(CONTROLS) & rows["mean"].notna()]
    ranked = ranked.sort_values("mean", ascending=sign < 0, kind="stable")
    clear = ranked["p_adjusted"] < SIGNIFICANT
    beats, loses = (clear & (side * ranked["over_random"] > 0) for side in (sign, -sign))
    best, *others = ranked["explainer"].to_list() or [None]
    own = tests[(tests[KEYS] == first[KEYS]).all(axis=1) & tests["p_adjusted"].notna()]
    rivals = []
    for rival in (*others[:1], "gaussian"):
        of_both = own[own["explainer_a"].isin([best, rival]) & own["explainer_b"].isin([best, rival])]
        rivals += [(rival, test) for test in of_both.head(1).to_dict("records")]
    return say(
        "evaluation.faithfulness",
        first=first.to_dict(),
        headline=SCORE_TITLES[first["measure"]],
        ranked=ranked.to_dict("records"),
        random=rows.loc[rows["explainer"] == "random", "mean"].to_list(),
        fewest=resampling.FEWEST_GROUPS,
        beats=beats.sum(),
        worse=ranked.loc[loses, "explainer"].to_list(),
        open=ranked.loc[~(beats | loses), "explainer"].to_list(),
        significant=significant(summary),
        rivals=rivals,
        adjusted=adjusted(tests),
    )


def localization_findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say which explainer finds the object best, and which beat a centered Gaussian."""
    sentences = []
    for (model, reference, measure), group in summary.groupby(["model", "reference", "measure"], sort=False):
        explainers = group[~group["explainer"].isin(CONTROLS)]
        highest = explainers[explainers["mean"] == explainers["mean"].max()]
        family = tests[(tests["model"] == model) & (tests["reference"] == reference) & (tests["measure"] == measure)]
        own = family[(family["explainer_b"] == "gaussian") & family["explainer_a"].isin(explainers["explainer"])]
        sentences += say(
            "evaluation.localization",
            model=model,
            reference=reference,
            measure=LOCALIZATION_TITLES[measure],
            tied=highest["explainer"].to_list(),
            best=next(iter(highest.to_dict("records")), None),
            gaussian=group.loc[group["explainer"] == "gaussian", "mean"].to_list(),
            tests=_told(own, family),
        )
    return sentences


def shape_findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say whether class activation maps are broad and LIME's patchy; a sentence for each model and measure."""
    sentences = []
    for (model, measure), group in summary.groupby(["model", "measure"], sort=False):
        first_or_without = ~group["explainer"].map(has_layer) | (group["explainer"] == group["explainer"].iloc[0])
        own = tests[(tests["model"] == model) & (tests["measure"] == measure)]
        sentences += say(
            "evaluation.shape",
            model=model,
            measure=SHAPE_TITLES[measure],
            explainers=group[first_or_without].to_dict("records"),
            tests=[{"other": name, **_told(some)} for name, some in own.groupby("explainer_b", sort=False)],
        )
    return sentences


def complexity_findings(correlations: pd.DataFrame) -> list[str]:
    """Say whether agreement is higher on simple images; a sentence for each model and agreement."""
    sentences = []
    for (model, name), group in correlations.groupby(["model", "agreement"], sort=False):
        known = group[group["correlation"].notna()]
        clear = known[known["p_adjusted"] < SIGNIFICANT]
        shown = known.sort_values("p_value", kind="stable").head(1) if clear.empty else clear
        sentences += say(
            "evaluation.complexity",
            model=model,
            pair=None if name == MEAN_OF_PAIRS else name.split(" & "),
            source_images=int(group["source_images"].max()),
            correlations=shown.assign(title=shown["measure"].map(COMPLEXITY_TITLES)).to_dict("records"),
            clear=not clear.empty,
            adjusted=adjusted(known),
        )
    return sentences


def randomization_findings(summary: pd.DataFrame) -> list[str]:
    """Say which explainers' maps do not change when the network is randomized; a sentence a model."""
    sentences: list[str] = []
    if summary.empty:
        return sentences
    for model, last in fully_randomized(summary).groupby("model", sort=False):
        sentences += say(
            "evaluation.randomization",
            model=model,
            explainers=[] if last["mean"].isna().all() else last.to_dict("records"),
            between=last["between"].mean(),
            undecided=last["low"].isna().all(),
            unchanged=last.loc[last["low"] > last["level"], "explainer"].to_list(),
        )
    return sentences


def stability_findings(summary: pd.DataFrame, *, top: int, n_samples: int | str) -> list[str]:
    """Say how many samples LIME needs until its ``top`` superpixels settle, and how stable it is with ``n_samples``.

    These are of the maps: a number or "auto".
    """
    sentences = []
    for model, group in summary.groupby("model", sort=False):
        rows = at_maps(group, n_samples).set_index("measure")
        sentences += say(
            "evaluation.stability",
            model=model,
            top=top,
            settled=settled_at(group),
            enough=has_settled(group, n_samples),
            most=group["n_samples"].max(),
            n_samples=n_samples,
            at_least=SETTLED,
            measures={} if rows["mean"].isna().all() else rows.to_dict("index"),
        )
    return sentences


def tuning_findings(board: pd.DataFrame, choice: pd.DataFrame) -> list[str]:
    """Say for each model which setting to use, what is gained over the default, and whether the source images show it.

    The tables are ``settings`` and ``selection`` of `tuning.tables`.
    """
    sentences = []
    for model, own in board.groupby("model", sort=False):
        ranked, left_out = own[own["rank"].notna()], int(own["left_out"].iloc[0])
        if left_out:
            sentences += say("evaluation.left_out", model=model, source_images=left_out)
        if ranked.empty:
            sentences += say("evaluation.no_best", model=model, settings=len(own))
        else:
            chosen = choice[choice.model == model].set_index("what")
            default = own[own.setting == chosen.loc["default", "setting"]].iloc[0]
            sentences += _tuning(model, ranked, default.to_dict(), chosen)
    return sentences


def _tuning(model: str, ranked: pd.DataFrame, default: dict, chosen: pd.DataFrame) -> list[str]:
    """Compare the default with the best setting, with those chosen on other source images and with the cheapest."""
    best = ranked.iloc[0].to_dict()
    sentences = say(
        "evaluation.best", model=model, settings=len(ranked), best=best, default=default, adjusted=adjusted(ranked)
    )
    if best["setting"] == default["setting"] or pd.isna(default["mean"]):
        return sentences
    held_out = chosen.loc["held out"].to_dict()
    if pd.notna(held_out["mean"]):
        sentences += say("evaluation.held_out", model=model, row=held_out, best=best)
    saving = chosen.loc["cheapest"].to_dict()
    if saving["setting"] != default["setting"] and pd.notna(saving["mean"]):
        cheapest = ranked[ranked["setting"] == saving["setting"]].iloc[0].to_dict()
        sentences += say("evaluation.cheapest", model=model, row=cheapest, held_out=saving, default=default)
    return sentences
