"""Which LIME to use: many settings scored on the same photographs, against what they cost.

A setting is a mapping with the keys of `explain.lime` in the config. Settings that share superpixels and hiding share
their perturbed pictures: the model sees those of the most samples, and every other setting is a fit to the first of
them, exactly what `lime.explain` would have given. Settings are also read from, and written as, the keywords of
`explain_instance` of the `lime` package.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, product

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens import agreement, explain, faithfulness, items, lime, stats
from unitlens.logs import each
from unitlens.seeds import image_seed, stream_seeds
from unitlens.wording import SIGNIFICANT, adjusted, counted, explainer_title, mean_estimate, p_value

# The keys of a setting. `kernel` of a grid is a distance with its width, for neither means much without the other.
KEYS = (
    "superpixels",
    "hide",
    "n_samples",
    "distance",
    "kernel_width",
    "alpha",
    "n_features",
    "selection",
    "num_features",
)
COLUMNS = ("segmentation", *KEYS[1:])  # of tables: the superpixels as a text, for elsewhere the column is their number
DEFAULT = "default"
OBJECTIVES = ("equal_area_iou", "mask_iou", "insertion")

# Defaults of lime 0.2.0.1, `explain_instance` and `SegmentationAlgorithm`.
_KEYWORDS = {
    "labels": (1,),
    "hide_color": None,
    "top_labels": 5,
    "num_features": 100_000,
    "num_samples": 1000,
    "batch_size": 10,
    "segmentation_fn": {"algo_type": "quickshift", "kernel_size": 4, "max_dist": 200, "ratio": 0.2},
    "distance_metric": "cosine",
    "model_regressor": {"Ridge": {"alpha": 1.0}},
    "random_seed": None,
}
_ALL_FEATURES = 100_000
_IGNORED = {
    "labels": "the class is chosen by explain.target (and the package itself ignores labels where top_labels is set)",
    "top_labels": "one class is explained, chosen by explain.target",
    "batch_size": "it does not change the result",
    "random_seed": "the run's seed fixes superpixels, perturbations and noise",
    "progress_bar": "it shows progress only, and the released lime 0.2.0.1 does not know it",
}
_METHODS_OF_LIME = ("quickshift", "slic", "felzenszwalb")

Setting = dict[str, object]
Score = Callable[[Tensor, Tensor, Sequence[int]], Tensor]  # (saliency, LIME's own masks, rows) -> a number a row


def complete(options: Mapping[str, object]) -> Setting:
    """Give a setting every key of `KEYS` in a fixed order, and its superpixels every option of their method.

    Parameters
    ----------
    options : mapping
        Keys of `explain.lime`; ``engine, stop_when_stable, repeats`` are left out: a sweep draws every sample once.

    Returns
    -------
    dict
        Equal settings are equal dicts, and have one `setting_id`.
    """
    superpixels = dict(options["superpixels"])
    method = superpixels["method"]
    full = {"method": method, **{key: superpixels.get(key, value) for key, value in _options(method).items()}}
    surrogate = {"distance": "cosine", "kernel_width": 0.25, "alpha": 1.0, "n_features": None, "selection": "auto"}
    merged = {**surrogate, "hide": "mean", "num_features": 5, **options, "superpixels": full}
    return {key: _plain(merged[key]) for key in KEYS}


def setting_id(setting: Mapping[str, object]) -> str:
    """Name a setting by "s" and eight hexadecimal digits that depend on nothing else."""
    return "s" + hashlib.blake2b(json.dumps(setting, sort_keys=True).encode(), digest_size=4).hexdigest()


def drawn(
    default: Mapping[str, object], grid: Mapping[str, Sequence[object]], *, count: int | None = None, seed: int = 0
) -> dict[str, Setting]:
    """Combine the values of a grid.

    Parameters
    ----------
    default : mapping
        `explain.lime` of the config: what a combination has where the grid lacks a key.
    grid : mapping
        Lists of values of ``superpixels, hide, n_samples, kernel, alpha, n_features, selection, num_features``; a
        kernel is a mapping with ``distance`` and ``kernel_width``.
    count : int, optional
        How many combinations to take, drawn at random; all by default.
    seed : int
        Seed of the draw, which does not depend on the order of the lists.

    Returns
    -------
    dict
        Settings by `setting_id`, each once.
    """
    keys = sorted(grid)
    combinations = [dict(zip(keys, values, strict=True)) for values in product(*(grid[key] for key in keys))]
    settings = [complete({**default, **each, **each.get("kernel", {})}) for each in combinations]
    named = {setting_id(each): each for each in settings}
    order = sorted(named, key=lambda name: hashlib.blake2b(f"{seed}/{name}".encode()).digest())
    return {name: named[name] for name in sorted(order[:count])}


def all_settings(
    default: Mapping[str, object],
    grid: Mapping[str, Sequence[object]],
    *,
    presets: Mapping[str, Mapping[str, object]] | None = None,
    count: int | None = None,
    seed: int = 0,
) -> dict[str, Setting]:
    """List the settings of a sweep: the default, the presets, and what is `drawn` from the grid.

    Parameters
    ----------
    default, grid, count, seed
        As in `drawn`.
    presets : mapping, optional
        By name, keywords as `from_explain_instance` takes them.

    Returns
    -------
    dict
        Settings by `setting_id`, each once; the default first.

    Raises
    ------
    ValueError
        If a preset cannot be translated.
    """
    named = {setting_id(each): each for each in named_settings(default, presets or {}).values()}
    return named | drawn(default, grid, count=count, seed=seed)


def named_settings(default: Mapping[str, object], presets: Mapping[str, Mapping[str, object]]) -> dict[str, Setting]:
    """Give the default and the presets by name; the mask's `num_features`, not a keyword, is that of the default."""
    features = {"num_features": complete(default)["num_features"]}
    translated = {name: from_explain_instance(keywords)[0] for name, keywords in presets.items()}
    return {DEFAULT: complete(default), **{name: complete(each | features) for name, each in translated.items()}}


def from_explain_instance(keywords: Mapping[str, object]) -> tuple[Setting, list[str]]:
    """Translate keywords of `lime.lime_image.LimeImageExplainer.explain_instance`.

    Parameters
    ----------
    keywords : mapping
        ``hide_color, num_features, num_samples, distance_metric`` as there; ``segmentation_fn`` a name or a mapping of
        `SegmentationAlgorithm`'s keywords with ``algo_type``; ``model_regressor`` ``Ridge`` or ``{Ridge: {alpha: 1}}``.
        What is left out has the package's default. ``labels, top_labels, batch_size, random_seed, progress_bar`` are
        accepted and have no effect here.

    Returns
    -------
    setting : dict
        Keys of `explain.lime`; ``num_features`` of the keywords, the superpixels in the surrogate, is our
        ``n_features``.
    ignored : list of str
        The keywords without effect, each with the reason.

    Raises
    ------
    ValueError
        If a keyword is unknown or a value has no counterpart; all of them are named.
    """
    allowed = [*_KEYWORDS, "progress_bar"]
    problems = [f"unknown keyword {key!r}; allowed: {', '.join(allowed)}" for key in keywords if key not in allowed]
    given = {**_KEYWORDS, **{key: value for key, value in keywords.items() if key in allowed}}
    colours = {name: value for name, value in explain.HIDE.items() if not isinstance(value, str)}
    hide = [name for name, value in colours.items() if value == given["hide_color"]]
    if not hide:
        problems.append(f"`hide_color` is {given['hide_color']!r}; allowed: {list(colours.values())}")
    segmentation, regressor = given["segmentation_fn"], given["model_regressor"]
    segmentation = {"algo_type": segmentation} if isinstance(segmentation, str) else dict(segmentation)
    method = segmentation.pop("algo_type", None)
    if method not in _METHODS_OF_LIME:
        problems.append(f"`segmentation_fn` is {method!r}; allowed: {', '.join(_METHODS_OF_LIME)}")
    elif unknown := set(segmentation) - {*_options(method), "random_seed"}:
        problems.append(f"`segmentation_fn` has unknown options {sorted(unknown)} for {method}")
    regressor = {regressor: {}} if isinstance(regressor, str) else regressor
    if list(regressor) != ["Ridge"] or set(regressor["Ridge"]) - {"alpha"}:
        problems.append(f"`model_regressor` is {given['model_regressor']!r}; allowed: Ridge or {{Ridge: {{alpha: 1}}}}")
    if given["distance_metric"] not in ("cosine", "l2"):
        problems.append(f"`distance_metric` is {given['distance_metric']!r}; allowed: cosine, l2")
    if problems:
        raise ValueError("these explain_instance keywords cannot be used: " + "; ".join(problems))
    superpixels = {"method": method, **{key: value for key, value in segmentation.items() if key != "random_seed"}}
    features = given["num_features"]
    setting = {
        "superpixels": superpixels,
        "hide": hide[0],
        "n_samples": given["num_samples"],
        "distance": given["distance_metric"],
        "alpha": regressor["Ridge"].get("alpha", 1.0),
        "n_features": None if features >= _ALL_FEATURES else features,
    }
    return complete(setting), [f"{key}: {reason}" for key, reason in _IGNORED.items() if key in keywords]


def to_explain_instance(setting: Mapping[str, object], *, seed: int) -> dict[str, object]:
    """Write a setting as keywords of the `lime` package.

    Parameters
    ----------
    setting : mapping
        From `complete`.
    seed : int
        The run's seed.

    Returns
    -------
    dict
        ``explain_instance``: keywords that `from_explain_instance` reads back. ``LimeImageExplainer`` and
        ``get_image_and_mask``: what belongs to those calls. ``notes``: what the package cannot do, and leaves out.
    """
    superpixels, notes = dict(setting["superpixels"]), []
    method, hide = superpixels.pop("method"), explain.HIDE[setting["hide"]]
    keywords = {
        "labels": None,
        "hide_color": hide,
        "top_labels": 1,
        "num_features": setting["n_features"] or _ALL_FEATURES,
        "num_samples": setting["n_samples"],
        "batch_size": 10,
        "segmentation_fn": {"algo_type": method, **superpixels},
        "distance_metric": setting["distance"],
        "model_regressor": {"Ridge": {"alpha": setting["alpha"]}},
        "random_seed": seed,
    }
    if isinstance(hide, str):
        del keywords["hide_color"]
        notes.append(f"hide_color is left out: the package cannot hide superpixels with {hide}")
    if method not in _METHODS_OF_LIME:
        del keywords["segmentation_fn"]
        notes.append(f"segmentation_fn is left out: the package has no superpixels by {method}")
    notes.append("segmentation_fn and model_regressor are objects there: SegmentationAlgorithm(**...), Ridge(**...)")
    return {
        "LimeImageExplainer": {
            "kernel_width": setting["kernel_width"],
            "feature_selection": setting["selection"],
            "random_state": seed,
        },
        "explain_instance": keywords,
        "get_image_and_mask": {"positive_only": True, "num_features": setting["num_features"]},
        "notes": notes,
    }


def to_config(setting: Mapping[str, object]) -> dict[str, object]:
    """Write a setting with the keys of `explain.lime`, to paste into a config."""
    return {key: value for key, value in setting.items() if value is not None}


def superpixel_text(superpixels: Mapping[str, object]) -> str:
    """Say superpixels in a few words, such as ``slic, n_segments 50, compactness 10, sigma 0``."""
    options = [f"{key} {value}" for key, value in superpixels.items() if key != "method"]
    return ", ".join([superpixels["method"], *options])


def make_score(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    image_ids: Sequence[str],
    *,
    objective: str,
    reference: Tensor,
    explainer: str,
    area: float,
    steps: int,
    baseline: str,
    seed: int,
    batch_size: int,
) -> Score:
    """Make the function that scores explanations; higher is better.

    Parameters
    ----------
    predict, images, targets, image_ids, seed, batch_size
        As in `sweep`. The seed fixes how ties are broken, as in `explain.masks`.
    objective : {"equal_area_iou", "mask_iou", "insertion"}
        IoU of LIME's saliency and the reference, both cut to `area`; of LIME's own binary mask and the reference cut to
        `area`, which depends on the mask's size, and an empty mask scores 0; or the area under the insertion curve (see
        `faithfulness.insertion`), for which no other explainer is needed.
    reference : (n, h, w) Tensor
        The maps of another explainer of the same pictures.
    explainer : str
        Its name.
    area : float
        Share of the picture.
    steps, baseline
        As in `faithfulness.insertion`.

    Returns
    -------
    callable
        (saliency, LIME's masks, rows of the pictures) -> scores; NaN where a reference that is needed is zero
        everywhere.

    Raises
    ------
    ValueError
        If `objective` is another.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"`objective` is {objective!r}; allowed: {', '.join(OBJECTIVES)}")
    known = agreement.has_map(reference)
    theirs = agreement.equal_area_mask(reference, area, seed=stream_seeds(seed, explainer, image_ids))
    ties = stream_seeds(seed, "lime", image_ids)

    def score(saliency: Tensor, selected: Tensor, rows: Sequence[int]) -> Tensor:
        own = [ties[row] for row in rows]
        if objective == "equal_area_iou":
            cut = agreement.equal_area_mask(saliency, area, seed=own) & agreement.has_map(saliency)[:, None, None]
            return agreement.iou(cut, theirs[rows]).where(known[rows], torch.nan)
        if objective == "mask_iou":
            return agreement.iou(selected, theirs[rows]).where(known[rows], torch.nan)
        options = {"steps": steps, "baseline": baseline, "seeds": own, "batch_size": batch_size}
        return faithfulness.insertion(predict, images[rows], saliency, targets[rows], **options)[1]

    return score


def objective_text(*, objective: str, explainer: str, area: float, steps: int, baseline: str) -> str:
    """Name an objective with all that it depends on, for tables and sentences."""
    other = f"{explainer_title(explainer)}, both cut to {100 * area:g} % of the picture"
    return {
        "equal_area_iou": f"IoU with {other}; chance {agreement.chance_iou(area):.3f}",
        "mask_iou": f"IoU of LIME's mask with {other.replace('both ', '')}",
        "insertion": f"insertion AUC ({baseline} baseline, {steps} steps)",
    }[objective]


def sweep(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    image_ids: Sequence[str],
    swept: Mapping[str, Setting],
    score: Score,
    *,
    seed: int,
    batch_size: int,
    given: Mapping[str, np.ndarray] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Explain pictures with every setting and score each explanation.

    Parameters
    ----------
    predict : callable
        uint8 pictures -> probabilities.
    images : (n, h, w, 3) uint8 Tensor
    targets : (n,) int Tensor
        The class that is explained.
    image_ids : sequence of str
    swept : mapping
        From `all_settings`.
    score : callable
        From `make_score`.
    seed : int
        With the image id it fixes an image's perturbations, as in `explain.lime_explainer`.
    batch_size : int
        Pictures on the device at once.
    given : mapping, optional
        From `explain.given_superpixels`, for the superpixel method "given".

    Returns
    -------
    scores : pandas.DataFrame
        ``setting, image_id, superpixels, score, mask_area``, a row for each setting and picture: the superpixels of the
        picture and the share of it in LIME's own mask, 0 where no superpixel is positive. Score and area are empty
        where a picture has fewer than two superpixels or more than the setting has samples: `lime.explain` refuses it.
    seconds : pandas.DataFrame
        ``part, segmentation, pictures, seconds``: the time to segment the pictures, a row for each superpixel setting,
        and to predict perturbed pictures (part ``sample``), those of all designs together.
    """
    columns = ["part", "segmentation", "pictures", "seconds"]
    if not len(images):  # all of the shard were skipped
        names = ["setting", "image_id", "superpixels", "score", "mask_area"]
        return pd.DataFrame(columns=names), pd.DataFrame(columns=columns)
    seeds = [image_seed(seed, image_id) for image_id in image_ids]
    tables, seconds, predicted, predicting = [], [], 0, 0.0
    for superpixels, of_superpixels in each(_grouped(swept, "superpixels"), "kinds of superpixels"):
        start = explain.now(images.device)
        segments, absent = explain.superpixels_of(images, image_ids, superpixels, given)
        seconds.append(["superpixels", superpixel_text(superpixels), len(images), explain.now(images.device) - start])
        counts = segments.flatten(1).amax(1) + 1
        counts[list(absent)] = 0
        for hide, of_design in each(_grouped(of_superpixels, "hide"), "kinds of hiding"):
            most = max(setting["n_samples"] for setting in of_design.values())
            rows = [row for row, count in enumerate(counts.tolist()) if 2 <= count <= most and targets[row] >= 0]
            start = explain.now(images.device)
            samples = _sample(predict, images, segments, targets, seeds, image_ids, rows, hide, most, batch_size)
            predicting += explain.now(images.device) - start
            predicted += len(rows) * most
            for name, setting in of_design.items():
                values = _score_setting(setting, samples, segments, counts, score)
                table = {"image_id": image_ids, "superpixels": counts.tolist(), **values}
                tables.append(pd.DataFrame({"setting": name, **table}))
    seconds.append(["sample", "", predicted, predicting])
    scores = pd.concat(tables).set_index("setting").loc[list(swept)].reset_index()
    return scores, pd.DataFrame(seconds, columns=columns)


def leaderboard(
    scores: pd.DataFrame,
    swept: Mapping[str, Setting],
    *,
    default: str,
    names: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank the settings of one model by their mean score.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `sweep`, with columns ``model`` and ``photograph``: whole photographs are resampled.
    swept : mapping
        From `all_settings`.
    default : str
        `setting_id` of the default, to which the others are compared.
    names, notes : mapping, optional
        From `setting_id` to what the setting is called, and to what there is to know.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``rank, setting, name``, `COLUMNS`, ``forward_passes`` (a picture), ``n, photographs, mean, low, high,
        mask_area, empty`` (pictures whose mask has no positive superpixel)``, refused, left_out, front, difference,
        difference_low, difference_high, p_value, p_adjusted, note``. A setting that refuses a picture has no mean and
        no rank; ``left_out`` are pictures that none could be scored on, which count nowhere. Of equal means the one
        with fewer passes comes first. ``front``: no setting scores more for as many passes or fewer. ``difference`` is
        to the default, with its interval, the p-value of a paired sign-flip test and Benjamini and Hochberg's
        correction for all settings.
    """
    scores, left_out = _scored(scores)
    means = stats.mean_table(scores, ["setting"], value="score", seed=seed).set_index("setting")
    usable = means.index[means.undefined == 0]
    means.loc[means.undefined > 0, ["mean", "low", "high"]] = np.nan
    pairs = [(name, default) for name in usable if name != default and default in usable]
    tests = stats.paired_tests(scores, ["model"], "setting", value="score", pairs=pairs, seed=seed)
    tests = tests.set_index("setting_a").rename(columns={"low": "difference_low", "high": "difference_high"})
    masks = scores.groupby("setting").mask_area

    table = pd.DataFrame(list(swept.values()), index=pd.Index(swept, name="setting"))
    table["name"] = pd.Series(names or {}, dtype=object).reindex(table.index).fillna("")
    table["note"] = pd.Series(notes or {}, dtype=object).reindex(table.index).fillna("")
    table["segmentation"] = table.superpixels.map(superpixel_text)
    table["n_features"] = table.n_features.astype("Int64")
    table["forward_passes"] = table.n_samples
    table = table.join(means.rename(columns={"undefined": "refused"}))
    table["mask_area"], table["empty"] = masks.mean(), masks.agg(lambda area: (area == 0).sum())
    tested = ["difference", "difference_low", "difference_high", "p_value", "p_adjusted"]
    table = table.join(tests[tested])
    table["front"] = pareto_front(table["mean"], table.forward_passes)
    table = table.reset_index().sort_values(["mean", "forward_passes", "setting"], ascending=[False, True, True])
    table["refused"], table["left_out"] = table["refused"].fillna(0).astype(int), left_out
    table["rank"] = pd.Series(range(1, len(table) + 1), table.index, dtype="Int64").where(table["mean"].notna())
    first = ["rank", "setting", "name", *COLUMNS, "forward_passes", "n", "photographs", "mean", "low", "high"]
    return table[[*first, "mask_area", "empty", "refused", "left_out", "front", *tested, "note"]].reset_index(drop=True)


def _scored(scores: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Leave out the pictures that no setting could be scored on, and count them."""
    scored = scores.groupby("image_id").score.transform("count") > 0
    return scores[scored], scores.image_id[~scored].nunique()


def pareto_front(score: Sequence[float], cost: Sequence[float]) -> np.ndarray:
    """Tell which settings no other one beats: none scores as much or more at the same cost or less, one of them truly.

    Parameters
    ----------
    score, cost : sequence of float
        High scores and low costs are good; a setting whose score is NaN is never on the front.

    Returns
    -------
    numpy.ndarray of bool, shape (settings,)
        Equal settings are on the front together.
    """
    score, cost = np.asarray(score, dtype=float), np.asarray(cost, dtype=float)
    as_good = (score[:, None] >= score) & (cost[:, None] <= cost)  # row beats or equals column
    better = (score[:, None] > score) | (cost[:, None] < cost)
    return ~(as_good & better).any(0) & ~np.isnan(score)


def main_effects(scores: pd.DataFrame, swept: Mapping[str, Setting], *, seed: int = 0) -> pd.DataFrame:
    """Average the score over all settings that share a parameter's value.

    Parameters
    ----------
    scores, swept
        As in `leaderboard`; give the drawn settings only, without default and presets.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``parameter, level, settings, refused, n, photographs, mean, low, high``, a row for each value of each parameter
        that has more than one. A picture's settings are averaged first, so that the interval is over photographs.
        Settings that refuse a picture are left out and counted.
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
            row = {"parameter": parameter, "level": str(level), "settings": len(kept)}
            row |= {"refused": len(of_level) - len(kept)}
            pictures = (
                scores[scores.setting.isin(kept)].groupby("image_id").agg({"score": "mean", "photograph": "first"})
            )
            interval = stats.mean_with_interval(pictures.score, groups=pictures.photograph, seed=seed)
            rows.append(row | interval._asdict())
    columns = ["parameter", "level", "settings", "refused", *stats.MeanInterval._fields]
    return pd.DataFrame(rows, columns=columns).rename(columns={"n_groups": "photographs"})


def selection(scores: pd.DataFrame, board: pd.DataFrame, *, default: str, seed: int = 0) -> pd.DataFrame:
    """Score the choice of the best setting on photographs that it was not chosen on.

    The best of many settings owes part of its mean to luck. Here each photograph is scored with the setting that is
    best on all the others.

    Parameters
    ----------
    scores : pandas.DataFrame
        As in `leaderboard`.
    board : pandas.DataFrame
        From `leaderboard`.
    default : str
        `setting_id` of the default.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Three rows, ``what, setting, n, photographs, mean, low, high, difference, difference_low, difference_high,
        p_value``: ``best``, on the photographs it was chosen on; ``held out``, whose ``setting`` says how many
        different ones were chosen; ``default``. The difference is to the default, with the p-value of a paired
        sign-flip test; that of the best is left out, for it was chosen to be large. Held-out scores share most of the
        photographs that they were chosen on: their interval is a little too narrow. What cannot be had, from one
        photograph or with a default that refuses a picture, is empty; so is all where no setting could be used on every
        picture.
    """
    ranked = board[board["rank"].notna()]
    costs = ranked.set_index("setting").forward_passes
    table = scores.pivot(index="image_id", columns="setting", values="score")[ranked.setting]
    photograph = scores.drop_duplicates("image_id").set_index("image_id").photograph[table.index].to_numpy()
    held_out, chosen = np.full(len(table), np.nan), set()
    for group in np.unique(photograph) if len(set(photograph)) > 1 and len(ranked) else []:
        others = table[photograph != group].mean()
        order = pd.DataFrame({"mean": others, "passes": costs}).sort_values(["mean", "passes"], ascending=[False, True])
        best = sorted(order.index[(order["mean"] == order["mean"].iloc[0]) & (order.passes == order.passes.iloc[0])])[0]
        held_out[photograph == group] = table.loc[photograph == group, best]
        chosen.add(best)
    none, first = pd.Series(np.nan, table.index), next(iter(ranked.setting), "")
    compared = {
        "best": (first, table.get(first, none)),
        "held out": (f"{len(chosen)} chosen", pd.Series(held_out, table.index)),
        "default": (default, table.get(default, none)),
    }
    values = pd.concat(
        pd.DataFrame({"model": "", "what": what, "photograph": photograph, "score": own}).reset_index()
        for what, (_, own) in compared.items()
    )
    means = stats.mean_table(values, ["what"], value="score", seed=seed).drop(columns="undefined")
    means.insert(1, "setting", [name for name, _ in compared.values()])
    pairs = [(what, "default") for what in ("best", "held out")]
    tests = stats.paired_tests(values, ["model"], "what", value="score", pairs=pairs, seed=seed)
    tests = tests.rename(columns={"what_a": "what", "low": "difference_low", "high": "difference_high"})
    tests.loc[tests.what == "best", "p_value"] = np.nan
    tested = ["what", "difference", "difference_low", "difference_high", "p_value"]
    return means.merge(tests[tested], on="what", how="left")


def modelled_cost(board: pd.DataFrame, seconds: pd.DataFrame) -> pd.DataFrame:
    """Model what each setting costs by itself: the time of its superpixels, and of its samples.

    Parameters
    ----------
    board : pandas.DataFrame
        From `leaderboard`.
    seconds : pandas.DataFrame
        From `sweep`, of one job or of several below each other.

    Returns
    -------
    pandas.DataFrame
        ``rank, setting, name, segmentation, n_samples, mean, superpixel_seconds, sample_seconds, seconds, front``: per
        picture, per sample, and per picture in all. The front is over mean and seconds.
    """
    each = seconds[seconds.part == "superpixels"].groupby("segmentation")[["seconds", "pictures"]].sum()
    sample = seconds.loc[seconds.part == "sample", ["seconds", "pictures"]].sum()
    table = board[["rank", "setting", "name", "segmentation", "n_samples", "mean"]].copy()
    table["superpixel_seconds"] = (each.seconds / each.pictures)[table.segmentation].to_numpy()
    table["sample_seconds"] = sample.seconds / sample.pictures
    table["seconds"] = table.superpixel_seconds + table.n_samples * table.sample_seconds
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
    """Make the tables of a tuning, all models below each other.

    Parameters
    ----------
    scores : pandas.DataFrame
        From `sweep`, with ``model, photograph`` and what holds for all rows of a model: ``objective, explained_class,
        geometry, seed``.
    seconds : pandas.DataFrame
        From `sweep`, with ``model``.
    default, grid, presets, count, seed
        As in `all_settings`.

    Returns
    -------
    dict
        ``settings, effects, selection, timings``: `leaderboard`, `main_effects`, `selection`, `modelled_cost`, each
        with ``model`` first and, but for the last, the facts of the model at the end.

    Raises
    ------
    ValueError
        If there is no score, for no photograph could be read.
    """
    if scores.empty:
        raise ValueError(
            "none of the photographs that LIME is tuned on could be read; mend them, or raise `tune.photographs`"
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
        made["effects"].append(main_effects(own, from_grid, seed=seed).assign(**facts))
        made["selection"].append(selection(own, board, default=first, seed=seed).assign(**facts))
        made["timings"].append(modelled_cost(board, seconds[seconds.model == model]))
        for parts in made.values():
            parts[-1].insert(0, "model", model)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in made.items()}


def best_settings(board: pd.DataFrame, **options: object) -> dict[str, Setting]:
    """Return each model's best setting, or the default where no setting could be used on every picture.

    Parameters
    ----------
    board : pandas.DataFrame
        The settings of `tables`.
    **options
        As in `all_settings`.

    Returns
    -------
    dict
        Settings by model.
    """
    swept, best = all_settings(**options), board[board["rank"] == 1].set_index("model")["setting"]
    return {model: swept[best.get(model, next(iter(swept)))] for model in board["model"].unique()}


def findings(board: pd.DataFrame, choice: pd.DataFrame) -> list[str]:
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


def _options(method: str) -> dict[str, object]:
    """Return the options of a superpixel method with their defaults."""
    if method == "given":
        return {}
    parameters = inspect.signature(explain.SUPERPIXELS[method]).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY and each.name != "seed"}


def _plain(value: object) -> object:
    """Write whole numbers as integers, so that 4 and 4.0 are one value."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _levels(setting: Setting) -> dict[str, object]:
    kernel = f"{setting['distance']}, width {setting['kernel_width']}"
    rest = {key: setting[key] for key in ("hide", "n_samples", "alpha", "selection", "num_features")}
    features = "all" if setting["n_features"] is None else setting["n_features"]
    return {"superpixels": superpixel_text(setting["superpixels"]), "kernel": kernel, "n_features": features, **rest}


def _level_order(level: object) -> tuple:
    return (1, 0, level) if isinstance(level, str) else (0, level, "")


def _grouped(swept: Mapping[str, Setting], key: str) -> list[tuple[object, dict[str, Setting]]]:
    """Group settings by their value of a key."""
    text = {name: json.dumps(setting[key]) for name, setting in swept.items()}
    names = sorted(swept, key=lambda name: (text[name], name))
    groups = [{name: swept[name] for name in same} for _, same in groupby(names, key=lambda name: text[name])]
    return [(next(iter(group.values()))[key], group) for group in groups]


def _sample(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    segments: Tensor,
    targets: Tensor,
    seeds: Sequence[int],
    image_ids: Sequence[str],
    rows: Sequence[int],
    hide: str,
    n_samples: int,
    batch_size: int,
) -> dict[int, tuple[Tensor, Tensor]]:
    """Return design and predictions of the pictures in `rows`, but for those whose predictions are not finite."""
    if not rows:
        return {}

    def sample(places: list[int]) -> lime.Samples:
        own = [rows[place] for place in places]
        return lime.sample(
            predict,
            images[own],
            segments[own],
            targets[own],
            n_samples=n_samples,
            hide=explain.HIDE[hide],
            batch_size=batch_size,
            seeds=[seeds[row] for row in own],
            image_ids=[image_ids[row] for row in own],
        )

    samples, failing = items.without_failing(sample, len(rows))
    if samples is None:
        return {}
    drawn = zip(rows, samples.designs, samples.predictions, strict=True)
    return {row: (design, own) for place, (row, design, own) in enumerate(drawn) if place not in failing}


def _score_setting(
    setting: Setting, samples: Mapping[int, tuple[Tensor, Tensor]], segments: Tensor, counts: Tensor, score: Score
) -> dict[str, np.ndarray]:
    """Return score and mask area of every picture, NaN where LIME refuses it."""
    n_samples, values = setting["n_samples"], np.full((2, len(segments)), np.nan)
    rows = [row for row in samples if counts[row] <= n_samples]
    if rows:
        coefficients = [surrogate(setting, *samples[row]).coefficients for row in rows]
        own = segments[rows]
        saliency = torch.stack([each[0].clamp(min=0)[labels] for each, labels in zip(coefficients, own, strict=True)])
        selected = torch.cat(
            [
                lime.mask(each, labels[None], num_features=setting["num_features"])
                for each, labels in zip(coefficients, own, strict=True)
            ]
        )
        values[0, rows] = score(saliency.float(), selected, rows).cpu()
        values[1, rows] = selected.double().mean((1, 2)).cpu()
    return {"score": values[0], "mask_area": values[1]}


def surrogate(setting: Mapping[str, object], design: Tensor, predictions: Tensor) -> lime.Fit:
    """Fit a setting's surrogate to the first samples of a longer design, as `lime.explain` does to its own.

    Parameters
    ----------
    setting : mapping
        From `complete`.
    design, predictions : Tensor, shape (samples, superpixels) and (samples, targets)
        Of at least as many samples as the setting has, see `lime.sample`.

    Returns
    -------
    lime.Fit
    """
    options = {key: setting[key] for key in lime.SURROGATE}
    return lime.fit(design[: setting["n_samples"]], predictions[: setting["n_samples"]], **options)
