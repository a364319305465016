"""Say in sentences how explainers agree, find objects, pass sanity checks, are faithful and are tuned."""

import numpy as np
import pandas as pd

from unitlens.measures import control_maps
from unitlens.measures.agreement import chance_iou
from unitlens.measures.faithfulness import BETTER
from unitlens.measures.sanity import OTHER, RANDOMISED
from unitlens.report.text import (
    COMPLEXITY_TITLES,
    SHAPE_TITLES,
    SIGNIFICANT,
    TITLES,
    above_and_below,
    adjusted,
    counted,
    estimate,
    explainer_title,
    mean_estimate,
    p_value,
    pair_title,
    paired_test,
    significant,
)
from unitlens.tables.agreement import headline
from unitlens.tables.complexity import MEAN_OF_PAIRS
from unitlens.tables.faithfulness import KEYS
from unitlens.tables.sanity import SETTLED, settled_at

_NAMED = 5  # images in a sentence
_FEWEST = 3  # photographs for a test
_HEADLINES = {"deletion": "deletion", "insertion": "insertion", "road": "ROAD"}


def agreement_findings(summary: pd.DataFrame, tests: pd.DataFrame, *, area: float) -> list[str]:
    """Say which explainers agree most and least, whether above chance, and than how many the first agree more.

    Parameters
    ----------
    summary, tests : pandas.DataFrame
        From `summarise` and `compare_pairs`.
    area : float
        The cut that is spoken of.

    Returns
    -------
    list of str
        A sentence or two for each model.
    """
    shown = headline(summary, area=area)
    sentences = []
    for model, group in shown[shown["measure"] == "equal_area_iou"].groupby("model", sort=False):
        ranked = group[group["mean"].notna()].sort_values("mean", ascending=False, kind="stable")
        if ranked.empty:
            sentences.append(f"{model}: there is no photograph on which two explainers can be compared.")
            continue
        best, worst, chance = ranked.iloc[0], ranked.iloc[-1], ranked["chance"].iloc[0]
        sentence = f"{model}: cut at {100 * area:g} % of the picture, {_named(best)} agree"
        sentence += f"{' most' if len(ranked) > 1 else ''}: IoU {mean_estimate(best)}"
        if len(ranked) > 1:
            sentence += f"; {_named(worst)} least: {mean_estimate(worst)}"
        sentence += f". Chance is {chance:.2f}"
        if known := int(ranked["low"].notna().sum()):
            above, below = int((ranked["low"] > chance).sum()), int((ranked["high"] < chance).sum())
            sentence += f"; of {counted(known, 'interval')} {above} above it, {below} below it"
        own = tests[(tests["model"] == model) & (tests["measure"] == "equal_area_iou")]
        if len(own):
            above, below = above_and_below(own)
            sentence += f". Beyond chance the first pair agrees more than {above} of {counted(len(own), 'other pair')}"
            sentence += f"{f' and less than {below}' if below else ''} ({paired_test(own)})"
        sentences.append(f"{sentence}.")
    return sentences


def _named(row: pd.Series) -> str:
    return pair_title(row["explainer_a"], row["explainer_b"])


def no_map_sentences(explanations: pd.DataFrame) -> list[str]:
    """Say which explainers have no map of which pictures, and why.

    Parameters
    ----------
    explanations : pandas.DataFrame
        Tables of `explanation_table`, below each other.

    Returns
    -------
    list of str
        A sentence for each model, explainer and reason.
    """
    sentences = []
    every = explanations.groupby(["model", "explainer"]).size()
    without = explanations[explanations["warning"].fillna("") != ""]
    for (model, explainer, warning), group in without.groupby(["model", "explainer", "warning"], sort=False):
        ids = [str(image_id) for image_id in group["image_id"]]
        more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
        sentences.append(
            f"{model}: {explainer_title(explainer)} has no map of {len(ids)} of {every[model, explainer]} images, "
            f"which count in no mean of its maps: {warning} ({', '.join(ids[:_NAMED])}{more})."
        )
    return sentences


def faithfulness_findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say which explainer is the most faithful, and whether that is more than chance.

    Parameters
    ----------
    summary, tests : pandas.DataFrame
        From `summarise` and `compare`.

    Returns
    -------
    list of str
        A sentence for each model and each of deletion, insertion and ROAD, the first two with the first baseline.
    """
    return [
        _finding(rows, summary, tests)
        for _, of_model in summary.groupby("model", sort=False)
        for _, of_measure in of_model[of_model["measure"].isin(_HEADLINES)].groupby("measure", sort=False)
        for _, rows in [next(iter(of_measure.groupby("baseline", sort=False)))]
    ]


def _finding(rows: pd.DataFrame, summary: pd.DataFrame, tests: pd.DataFrame) -> str:
    """Say what one measure tells of one model, by its rows of the summary; all tests of a table are one family."""
    first = rows.iloc[0]
    sign = BETTER[first["measure"]]
    ranked = rows[~rows["explainer"].isin(control_maps.FLOORS) & rows["mean"].notna()]
    ranked = ranked.sort_values("mean", ascending=sign < 0, kind="stable")
    text = (
        f"{first['model']}: by {_HEADLINES[first['measure']]} ({first['baseline']}; {first['better']} is more faithful)"
    )
    if ranked.empty:
        return f"{text}, no explanation could be scored."
    best = ranked.iloc[0]
    title = explainer_title(best["explainer"])
    text += f", {title} scores best with {mean_estimate(best)}"
    text += "".join(f", random maps {mean:.2f}" for mean in rows.loc[rows["explainer"] == "random", "mean"])
    if best["photographs"] < _FEWEST:
        verb = "is" if best["photographs"] == 1 else "are"
        return f"{text}. {counted(best['photographs'], 'photograph')} {verb} too few for a test."
    clear = ranked["p_adjusted"] < SIGNIFICANT
    beats, loses = (clear & (side * ranked["over_random"] > 0) for side in (sign, -sign))
    text += f". {beats.sum()} of {counted(len(ranked), 'explainer')} beat random maps "
    text += f"({significant(summary)}"
    if loses.any():
        text += f"; worse than random maps: {_titles(ranked[loses])}"
    if (open_ones := ~(beats | loses)).any():
        text += f"; not supported at n = {best['n']} for {_titles(ranked[open_ones])}"
    own = tests[(tests[KEYS] == first[KEYS]).all(axis=1)]
    ahead = [_ahead(best, other, name, own) for other, name in _rivals(ranked)]
    ahead = "; over ".join(filter(None, ahead))
    return f"{text})." + (f" {title} over {ahead} ({adjusted(tests)})." if ahead else "")


def _titles(rows: pd.DataFrame) -> str:
    return ", ".join(map(explainer_title, rows["explainer"]))


def _rivals(ranked: pd.DataFrame) -> list[tuple[str, str]]:
    """Whom the best of the ranked explainers is compared with: the second, if there is one, and the Gaussian."""
    second = [(name, f"the second, {explainer_title(name)}") for name in ranked["explainer"].iloc[1:2]]
    return [*second, ("gaussian", "a Gaussian in the middle")]


def _ahead(best: pd.Series, other: str, title: str, tests: pd.DataFrame) -> str:
    """Say whether the best is more faithful than another; nothing where both were scored on no photograph."""
    pair = [best["explainer"], other]
    found = tests[tests["explainer_a"].isin(pair) & tests["explainer_b"].isin(pair) & tests["p_adjusted"].notna()]
    if found.empty:
        return ""
    test, verdict = found.iloc[0], "supported"
    if not test["p_adjusted"] < SIGNIFICANT:
        verdict = f"not supported at n = {test['n']}"
    elif test["more_faithful"] == other:
        verdict = "the opposite is supported"
    return f"{title}: {verdict} (adjusted {p_value(test['p_adjusted'])})"


def localization_findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say which explainer finds the object best, and which beat a centred Gaussian."""
    sentences = []
    for (model, reference, measure), group in summary.groupby(["model", "reference", "measure"], sort=False):
        explainers = group[~group["explainer"].isin(control_maps.FLOORS)]
        if explainers["mean"].isna().all():
            sentences.append(f"{model}, {TITLES[measure]} against the {reference}: undefined for every photograph.")
            continue
        best = explainers.loc[explainers["mean"].idxmax()]
        tied = ", ".join(map(explainer_title, explainers.loc[explainers["mean"] == best["mean"], "explainer"]))
        sentence = f"{model}, {TITLES[measure]} against the {reference}: highest for {tied}, {mean_estimate(best)}"
        for gaussian in group.loc[group["explainer"] == "gaussian", "mean"]:
            sentence += f"; a centred Gaussian has {gaussian:.2f}"
        sentence += f", chance is {best['chance']:.2f}."
        family = tests[(tests["model"] == model) & (tests["reference"] == reference) & (tests["measure"] == measure)]
        own = family[(family["explainer_b"] == "gaussian") & family["explainer_a"].isin(explainers["explainer"])]
        if len(own):
            above, below = above_and_below(own)
            sentence += f" Of {counted(len(own), 'explainer')} {above} above the Gaussian, {below} below it "
            sentence += f"({paired_test(own, family)})."
        sentences.append(sentence)
    return sentences


def shape_findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    """Say whether class activation maps are broad and LIME's patchy; a sentence for each model and measure."""
    sentences = []
    for (model, measure), group in summary.groupby(["model", "measure"], sort=False):
        own = tests[(tests["model"] == model) & (tests["measure"] == measure)]
        shown = group[group["explainer"].isin([group["explainer"].iloc[0], "lime"])]
        named = ", ".join(f"{explainer_title(row['explainer'])} {mean_estimate(row)}" for _, row in shown.iterrows())
        sentence = f"{model}, {SHAPE_TITLES[measure]}: {named}."
        if len(own):
            above, below = above_and_below(own)
            sentence += f" Of {counted(len(own), 'class activation map')} {above} above LIME, {below} below it "
            sentence += f"({paired_test(own)})."
        sentences.append(sentence)
    return sentences


def complexity_findings(correlations: pd.DataFrame) -> list[str]:
    """Say whether agreement is higher on simple pictures; a sentence for each model and agreement."""
    sentences = []
    for (model, name), group in correlations.groupby(["model", "agreement"], sort=False):
        pair = f", {name}" if name == MEAN_OF_PAIRS else f" of {pair_title(*name.split(' & '))}"
        known = group[group["correlation"].notna()]
        n = int(group["photographs"].max())
        question = f"{model}, does complexity explain agreement? Equal-area IoU{pair}: "
        if known.empty:
            sentences.append(f"{question}no correlation can be computed from {counted(n, 'photograph')}.")
            continue
        clear = known[known["p_adjusted"] < SIGNIFICANT]
        shown = known.loc[[known["p_value"].idxmin()]] if clear.empty else clear
        named = "; ".join(
            f"{COMPLEXITY_TITLES[row.measure]} {estimate(row.correlation, row.low, row.high, row.photographs)}, "
            f"{p_value(row.p_adjusted)}"
            for row in shown.itertuples()
        )
        if clear.empty:
            verdict = f"not supported at n = {n}; the clearest Spearman correlation is that of {named}"
        else:
            verdict = f"Spearman correlations that differ from zero: {named}"
        sentences.append(f"{question}{verdict} ({adjusted(known)}).")
    return sentences


def randomisation_findings(summary: pd.DataFrame) -> list[str]:
    """Say which explainers' maps do not change when the network is randomised; a sentence a model."""
    sentences = []
    shown = summary[summary["measure"] == "equal_area_iou"]
    for model, group in shown.groupby("model", sort=False):
        last = group[(group["comparison"] == RANDOMISED) & (group["randomised"] == group["layers"])]
        if last["mean"].isna().all():
            sentences.append(f"{model}: there is no photograph on which maps of a randomised network can be compared.")
            continue
        other = group[group["comparison"] == OTHER].set_index("explainer")["mean"].reindex(last["explainer"])
        levels = "both" if other.notna().any() else "it"
        floor = np.maximum(other.fillna(0).to_numpy(), last["chance"].to_numpy())
        unchanged = last[last["low"].to_numpy() > floor]
        named = "; ".join(f"{explainer_title(row['explainer'])} {mean_estimate(row)}" for _, row in last.iterrows())
        if last["low"].isna().all():
            verdict = "too few photographs to say which explainers do not change"
        elif unchanged.empty:
            verdict = (
                f"no interval lies above {levels}, so no explainer is shown to ignore what the network has learned"
            )
        else:
            verdict = f"still above {levels}: {', '.join(map(explainer_title, unchanged['explainer']))}"
        between = f", {other.mean():.2f} between maps of different photographs" if other.notna().any() else ""
        sentences.append(
            f"{model}, all {counted(last['layers'].iloc[0], 'layer')} randomised: equal-area IoU with the original "
            f"map: {named}. Chance is {last['chance'].iloc[0]:.2f}{between}; {verdict}."
        )
    return sentences


def stability_findings(summary: pd.DataFrame, *, top: int, n_samples: int) -> list[str]:
    """Say how many samples LIME needs until its top superpixels settle, and how stable it is with those it has.

    Parameters
    ----------
    summary : pandas.DataFrame
        From `summarise_stability`.
    top : int
        How many superpixels were compared.
    n_samples : int
        Samples of the maps that the run shows; among those of the table.

    Returns
    -------
    list of str
        A text for each model.
    """
    sentences = []
    for model, group in summary.groupby("model", sort=False):
        rows = group[group["n_samples"] == n_samples].set_index("measure")
        if rows["mean"].isna().all():
            sentences.append(f"{model}: there is no photograph on which LIME can be compared with itself.")
            continue
        found, most = settled_at(group), group["n_samples"].max()
        verdict = f"settled at {counted(found, 'sample')}" if found else f"not settled at {counted(most, 'sample')}"
        if found and found > n_samples:
            verdict += f", more than the {n_samples:,} of the maps"
        now = [
            f"{name} is {mean_estimate(row)}, chance {row['chance']:.2f}"
            for name, row in (
                ("it", rows.loc["top_jaccard"]),
                ("the equal-area IoU of two seeds' maps", rows.loc["equal_area_iou"]),
            )
        ]
        sentences.append(
            f"{model}: LIME's {counted(top, 'most important superpixel')} {'is' if top == 1 else 'are'} {verdict} "
            f"(mean Jaccard index of two seeds at least {SETTLED}, over {rows['seeds'].iloc[0]} seeds). With the "
            f"{counted(n_samples, 'sample')} of the maps {' and '.join(now)}."
        )
    return sentences


def objective_text(*, objective: str, explainer: str, area: float, steps: int, baseline: str) -> str:
    """Name an objective with all that it depends on, for tables and sentences."""
    other = f"{explainer_title(explainer)}, both cut to {100 * area:g} % of the picture"
    return {
        "equal_area_iou": f"IoU with {other}; chance {chance_iou(area):.3f}",
        "mask_iou": f"IoU of LIME's mask with {other.replace('both ', '')}",
        "insertion": f"insertion AUC ({baseline} baseline, {steps} steps)",
    }[objective]


def tuning_findings(board: pd.DataFrame, choice: pd.DataFrame) -> list[str]:
    """Say for each model which setting to use, what is gained over the default, and whether the photographs show it.

    Parameters
    ----------
    board : pandas.DataFrame
        From `leaderboard`, with columns ``model`` and ``objective``; several models below each other.
    choice : pandas.DataFrame
        From `selection`, with a column ``model``.

    Returns
    -------
    list of str
        Sentences.
    """
    sentences = []
    for model, own in board.groupby("model", sort=False):
        chosen = choice[choice.model == model].set_index("what")
        ranked, left_out = own[own["rank"].notna()], int(own["left_out"].iloc[0])
        if left_out:
            sentences.append(
                f"{model}: {counted(left_out, 'photograph')} left out of the tuning, for no setting of LIME could be "
                "scored there."
            )
        if ranked.empty:
            sentences.append(
                f"{model}: none of {counted(len(own), 'setting')} of LIME could be used on every photograph, so there "
                "is no best one, and the default stays."
            )
            continue
        sentences += _findings(model, ranked, own[own.setting == chosen.loc["default", "setting"]].iloc[0], chosen)
    return sentences


def _findings(model: str, ranked: pd.DataFrame, default: pd.Series, chosen: pd.DataFrame) -> list[str]:
    best = ranked.iloc[0]
    first = f"{model}, scored by {best.objective}: the best of {counted(len(ranked), 'setting')} of LIME is "
    first += f"{_line(best)}, {mean_estimate(best)}."
    if best.setting == default.setting:
        return [f"{first} It is the default."]
    if pd.isna(default["mean"]):
        refused = counted(int(default.refused), "photograph")
        return [f"{first} The default cannot be compared: it refuses {refused}."]
    first += (
        f" The default scores {mean_estimate(default)}; the difference is {best.difference:+.2f}, "
        f"{_supported(best.p_adjusted, best.n)} ({adjusted(ranked)}). {_saving(best, default)}"
    )
    sentences, held_out = [first], chosen.loc["held out"]
    if pd.notna(held_out["mean"]):
        sentences.append(
            f"{model}: the best of many settings owes part of its score to luck. Settings chosen on all other "
            f"photographs score {mean_estimate(held_out)} on the one "
            f"held out, {held_out.difference:+.2f} to the default, {_supported(held_out.p_value, held_out.n)}"
            f"{'' if held_out.difference > 0 or held_out.p_value >= SIGNIFICANT else ': the default is better'}."
        )
    cheapest = ranked[ranked["mean"] >= default["mean"]].sort_values(["forward_passes", "rank"]).iloc[0]
    if cheapest.forward_passes < min(default.forward_passes, best.forward_passes):
        sentences.append(
            f"{model}: the cheapest setting that scores no less than the default is {_line(cheapest)}, "
            f"{mean_estimate(cheapest)}. {_saving(cheapest, default)}"
        )
    return sentences


def _supported(p: float, n: int) -> str:
    return p_value(p) if p < SIGNIFICANT else f"{p_value(p)}: not supported at n = {n}"


def _line(row: pd.Series) -> str:
    """Say a row of a leaderboard in a line."""
    features = "all superpixels" if pd.isna(row.n_features) else counted(int(row.n_features), "superpixel")
    return (
        f"{row.segmentation}; hidden by {row.hide}; {counted(row.n_samples, 'sample')}; {row.distance} distance of "
        f"width {row.kernel_width:g}; alpha {row.alpha:g}; {features} in the surrogate"
    )


def _saving(row: pd.Series, default: pd.Series) -> str:
    saved = 1 - row.forward_passes / default.forward_passes
    if saved == 0:
        return "It takes as many forward passes as the default."
    change = f"{100 * abs(saved):.0f} % {'fewer' if saved > 0 else 'more'}"
    return f"It takes {change} forward passes than the default ({default.forward_passes})."
