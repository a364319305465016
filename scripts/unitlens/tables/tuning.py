"""Rank LIME's settings, and say what each option does, costs and saves."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from unitlens.explainers.lime_samples import AUTO
from unitlens.measures.lime_sweep import (
    KEYS,
    Setting,
    all_settings,
    drawn,
    from_explain_instance,
    named_settings,
    setting_id,
    superpixel_text,
)
from unitlens.tables import resampling, summaries

MARGIN = 0.02  # by which a setting that saves forward passes may score less than the default
COLUMNS = ("segmentation", *KEYS[1:])  # of tables: the superpixels as a text, for elsewhere the column is their number


def leaderboard(
    scores: pd.DataFrame,
    swept: Mapping[str, Setting],
    *,
    default: str,
    names: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank the settings of one model by their mean score, see docs/outputs.md, ``results/tuning.csv``.

    A setting that refuses an image has no mean and no rank; images that none could be scored on count nowhere. Of equal
    means the one with fewer passes comes first. p-values are adjusted for all settings, intervals are
    simultaneous: all of a column cover in 95 %. `scores` are of `sweep`, with
    columns ``model`` and ``source_image``: whole source images are resampled. `swept` is of `all_settings`; the others
    are compared with `default`. `names` and `notes` are what settings are called and what there is to know, all by
    `setting_id`.
    """
    scores, left_out = _scored(scores)
    means = summaries.mean_table(scores, ["setting"], value="score").set_index("setting")
    means.loc[means.undefined > 0, ["mean", "low", "high"]] = np.nan
    usable = scores[scores.setting.isin(means.index[means.undefined == 0])]
    tests = _against(usable, "setting", default, seed)
    wide, own = _by_image(usable)
    means.loc[wide.columns, ["low", "high"]] = np.transpose(_together(wide, own, seed))
    if default in wide:
        rivals = wide.drop(columns=default).sub(wide[default], axis=0)
        tests.loc[rivals.columns, ["difference_low", "difference_high"]] = np.transpose(_together(rivals, own, seed))
    by_setting = scores.groupby("setting")

    table = pd.DataFrame(list(swept.values()), index=pd.Index(swept, name="setting"))
    table["name"] = pd.Series(names or {}, dtype=object).reindex(table.index).fillna("")
    table["note"] = pd.Series(notes or {}, dtype=object).reindex(table.index).fillna("")
    table["segmentation"] = table.superpixels.map(superpixel_text)
    table["n_features"] = table.n_features.astype("Int64")
    table["forward_passes"] = [_passes(scores[scores.setting == name], n) for name, n in table.n_samples.items()]
    table = table.join(means.rename(columns={"undefined": "refused"}))
    table["mask_area"], table["ceiling"] = by_setting.mask_area.mean(), by_setting.ceiling.mean()
    table["empty"] = by_setting.mask_area.agg(lambda area: (area == 0).sum())
    tested = ["difference", "difference_low", "difference_high", "p_value", "p_adjusted"]
    table = table.join(tests[tested])
    table["front"] = pareto_front(table["mean"], table.forward_passes)
    table = table.reset_index().sort_values(["mean", "forward_passes", "setting"], ascending=[False, True, True])
    table["refused"], table["left_out"] = table["refused"].fillna(0).astype(int), left_out
    table["rank"] = pd.Series(range(1, len(table) + 1), table.index, dtype="Int64").where(table["mean"].notna())
    first = ["rank", "setting", "name", *COLUMNS, "forward_passes", "n", "source_images", "mean", "low", "high"]
    return table[
        [*first, "ceiling", "mask_area", "empty", "refused", "left_out", "front", *tested, "note"]
    ].reset_index(drop=True)


def _passes(scores: pd.DataFrame, n_samples: int | str) -> int:
    """Give the forward passes a source image, of "auto" the mean; 0 where no image was sampled."""
    return round(np.nan_to_num(scores["samples"].mean())) if n_samples == AUTO else n_samples


def _against(scores: pd.DataFrame, item: str, reference: str, seed: int) -> pd.DataFrame:
    """Test every item of one model against one of them, with the items as index."""
    pairs = summaries.against(reference, item)
    tests = summaries.paired_tests(scores, ["model"], item, value="score", pairs=pairs, seed=seed)
    names = {f"{item}_a": item, "low": "difference_low", "high": "difference_high"}
    return tests.rename(columns=names).set_index(item)


def _by_image(scores: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """Lay out scores as images x settings, and give each image's source image."""
    wide = scores.pivot(index="image_id", columns="setting", values="score")
    return wide, scores.drop_duplicates("image_id").set_index("image_id").source_image[wide.index].to_numpy()


def _together(wide: pd.DataFrame, source_images: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return resampling.simultaneous_intervals(wide.to_numpy(), groups=source_images, seed=seed)


def _scored(scores: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Leave out the images that no setting could be scored on, and count them."""
    scored = scores.groupby("image_id").score.transform("count") > 0
    return scores[scored], scores.image_id[~scored].nunique()


def pareto_front(score: Sequence[float], cost: Sequence[float]) -> np.ndarray:
    """Tell which settings no other one beats: none scores as much or more at the same cost or less, one of them truly.

    Scores and costs, and what is returned, have the shape (settings,). A setting whose score is NaN is never on the
    front; equal settings are there together.
    """
    score, cost = np.asarray(score, dtype=float), np.asarray(cost, dtype=float)
    as_good = (score[:, None] >= score) & (cost[:, None] <= cost)  # row beats or equals column
    better = (score[:, None] > score) | (cost[:, None] < cost)
    return ~(as_good & better).any(0) & ~np.isnan(score)


def main_effects(scores: pd.DataFrame, swept: Mapping[str, Setting]) -> pd.DataFrame:
    """Average the score over all settings that share a parameter's value, for each parameter that has more than one.

    An image's settings are averaged first, so that the interval is over source images. Settings that refuse an image
    are left out and counted. Give the drawn settings only, without default and presets.
    """
    levels = pd.DataFrame({name: _levels(setting) for name, setting in swept.items()}).T.rename_axis("setting")
    scores, _ = _scored(scores)
    scores = scores[scores.setting.isin(list(swept))]
    refusing = set(scores.setting[scores.score.isna()])
    rows = []
    for parameter in levels:
        if levels[parameter].nunique() < 2:
            continue
        for level in sorted(levels[parameter].unique(), key=_level_order):
            of_level = levels.index[levels[parameter] == level]
            kept = [name for name in of_level if name not in refusing]
            images = scores[scores.setting.isin(kept)].groupby("image_id")
            images = images.agg({"score": "mean", "source_image": "first"})
            mean = resampling.mean_with_interval(images.score, groups=images.source_image)
            rows.append([parameter, str(level), len(kept), len(of_level) - len(kept), *mean])
    columns = ["parameter", "level", "settings", "refused", "n", "source_images", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def selection(scores: pd.DataFrame, board: pd.DataFrame, *, default: str) -> pd.DataFrame:
    """Score the choice of the best setting on source images that it was not chosen on.

    The mean of the best of many settings is too high by selection bias. In the row ``held out`` each source image is
    scored with the setting that is best on all the others; ``setting`` says how many different ones were chosen. Those
    scores share most of the source images that they were chosen on: their interval is too narrow, and of 20 settings
    that are alike a test of them would call the chosen ones better or worse than the default in about a third of
    planted runs. So there is no p-value; the simultaneous intervals in `board` hold. The row ``cheapest`` holds out in
    the same way the setting of fewest forward passes, fewer than the default's, that scores no less than the default on
    the others; where there is none it is the default. ``setting`` names the one chosen on all source images; it is
    ``non_inferior`` where its simultaneous interval in `board` lies above -`MARGIN`: the held-out differences alone
    would claim this falsely in up to 16 % of planted runs, for the loop chooses on what it shares. What cannot be had,
    from one source image or with a default that refuses an image, is empty; so is all where no setting could be used on
    every image.

    `scores` and `default` are those of `leaderboard`, `board` what it gave.
    """
    ranked = board[board["rank"].notna()]
    costs = ranked.set_index("setting").forward_passes
    table, source_image = _by_image(scores)
    table = table[ranked.setting]
    held_out, cheapest, chosen = *np.full((2, len(table)), np.nan), set()
    for group in np.unique(source_image) if len(set(source_image)) > 1 and len(ranked) else []:
        others = table[source_image != group].mean()
        order = pd.DataFrame({"mean": others, "passes": costs}).sort_values(["mean", "passes"], ascending=[False, True])
        best = sorted(order.index[(order["mean"] == order["mean"].iloc[0]) & (order.passes == order.passes.iloc[0])])[0]
        held_out[source_image == group] = table.loc[source_image == group, best]
        chosen.add(best)
        if default in table:
            cheapest[source_image == group] = table.loc[source_image == group, _cheapest(others, costs, default)]
    none, first = pd.Series(np.nan, table.index), next(iter(ranked.setting), "")
    compared = {
        "best": (first, table.get(first, none)),
        "held out": (f"{len(chosen)} chosen", pd.Series(held_out, table.index)),
        "cheapest": (
            _cheapest(table.mean(), costs, default) if default in table else default,
            pd.Series(cheapest, table.index),
        ),
        "default": (default, table.get(default, none)),
    }
    values = pd.concat(
        pd.DataFrame({"model": "", "what": what, "source_image": source_image, "score": own}).reset_index()
        for what, (_, own) in compared.items()
    )
    means = summaries.mean_table(values, ["what"], value="score").drop(columns="undefined")
    means.insert(1, "setting", [name for name, _ in compared.values()])
    tests = _against(values, "what", "default", 0)  # the seed is that of p-values, of which none is kept
    means = means.join(tests[["difference", "difference_low", "difference_high"]], on="what")
    shown = means["setting"].map(board.set_index("setting")["difference_low"]) > -MARGIN
    return means.assign(margin=MARGIN, non_inferior=shown & (means["what"] == "cheapest"))


def _cheapest(means: pd.Series, costs: pd.Series, default: str) -> str:
    """Name the setting of fewest passes below the default's that scores no less; the default if there is none."""
    enough = means.index[(means >= means[default]) & (costs[means.index] < costs[default])]
    order = pd.DataFrame({"passes": costs[enough], "less": -means[enough], "name": enough})
    return next(iter(order.sort_values(["passes", "less", "name"])["name"]), default)


def modeled_cost(board: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Model the seconds that each setting costs by itself: of its superpixels, of a sample, and in all an image.

    `seconds` is from `sweep`, of one job or of several below each other. The front is over mean and seconds.
    """
    each = seconds[seconds.part == "superpixels"].groupby("segmentation")[["seconds", "images"]].sum()
    sample = seconds.loc[seconds.part == "sample", ["seconds", "images"]].sum()
    table = board[["rank", "setting", "name", "segmentation", "n_samples", "forward_passes", "mean"]].copy()
    table["superpixel_seconds"] = (each.seconds / each.images)[table.segmentation].to_numpy()
    table["sample_seconds"] = sample.seconds / sample.images
    table["seconds"] = table.superpixel_seconds + table.pop("forward_passes") * table.sample_seconds
    table["front"] = pareto_front(table["mean"], table.seconds)
    return table


def tables(
    scores: pd.DataFrame,
    seconds: pd.DataFrame,
    *,
    default: Mapping[str, object],
    grid: Mapping[str, Sequence[object]],
    presets: Mapping[str, Mapping[str, object]],
    count: int | None,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Make the tables of a tuning, all models below each other: ``settings, effects, selection, timings``.

    `scores` and `seconds` are from `sweep`, with ``model``; scores also with ``source_image`` and what holds for all
    rows of a model: ``objective, explained_class, geometry, seed``. The rest is that of `all_settings`. ValueError if
    there is no score, for no source image could be read.
    """
    if scores.empty:
        raise ValueError(
            "none of the source images that LIME is tuned on could be read; fix them, or raise `tune.n_images`"
        )
    swept = all_settings(default, grid, presets=presets, count=count, seed=seed)
    from_grid = drawn(default, grid, count=count, seed=seed)
    first, names, notes = next(iter(swept)), {}, {}
    for name, setting in named_settings(default, presets).items():
        own = setting_id(setting)
        names[own] = f"{names[own]}, {name}" if own in names else name
        ignored = from_explain_instance(presets[name])[1] if name in presets else []
        notes[own] = notes.get(own, "") + "".join(f"{name} ignores {note}. " for note in ignored)
    made: dict[str, list] = {"settings": [], "effects": [], "selection": [], "timings": []}
    for model, own in scores.groupby("model", sort=False):
        facts = own[["objective", "explained_class", "geometry", "seed"]].iloc[0].to_dict()
        board = leaderboard(own, swept, default=first, names=names, notes=notes, seed=seed)
        made["settings"].append(board.assign(**facts))
        made["effects"].append(main_effects(own, from_grid).assign(**facts))
        made["selection"].append(selection(own, board, default=first).assign(**facts))
        made["timings"].append(modeled_cost(board, seconds[seconds.model == model]))
        for parts in made.values():
            parts[-1].insert(0, "model", model)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in made.items()}


def best_settings(board: pd.DataFrame, **options: object) -> dict[str, Setting]:
    """Return each model's best setting, or the default where no setting could be used on every image.

    `board` holds the settings of `tables`, `options` are those of `all_settings`.
    """
    swept, best = all_settings(**options), board[board["rank"] == 1].set_index("model")["setting"]
    return {model: swept[best.get(model, next(iter(swept)))] for model in board["model"].unique()}


def _levels(setting: Setting) -> dict[str, object]:
    kernel = f"{setting['distance']}, width {setting['kernel_width']}"
    rest = {key: setting[key] for key in ("hide", "n_samples", "alpha", "selection", "num_features")}
    features = "all" if setting["n_features"] is None else setting["n_features"]
    return {"superpixels": superpixel_text(setting["superpixels"]), "kernel": kernel, "n_features": features, **rest}


def _level_order(level: object) -> tuple:
    return (1, 0, level) if isinstance(level, str) else (0, level, "")
