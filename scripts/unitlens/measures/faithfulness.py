"""How faithful saliency maps are: what the model predicts once pixels are removed in the order of their saliency.

Deletion and insertion (Petsiuk et al., BMVC 2018), ROAD (Rong et al., ICML 2022), average drop and increase
(Chattopadhay et al., WACV 2018), and two maps that know nothing of the model as floors. Equal pixels are taken in a
random order of each image, so that sparse and binary maps are scored as they are. The imputation of ROAD is tested
against `grad-cam`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens import agreement, lime, stats, wording
from unitlens.imputation import impute
from unitlens.logs import each
from unitlens.seeds import one_each

# Which end of a measure is the faithful one: 1 the higher, -1 the lower.
BETTER = {
    "deletion": -1,
    "insertion": 1,
    "road_morf": -1,
    "road_lerf": 1,
    "road": 1,
    "average_drop": -1,
    "increase": 1,
}
CURVES = ("deletion", "insertion", "road_morf", "road_lerf", "masked")
FLOORS = ("random", "gaussian")
_KEYS = ["model", "measure", "baseline"]
_SCORED = ["explainer", "measure", "baseline", "value", "target", "target_probability", "flat"]  # what a score has
BASELINES = ("blur", "mean")
# Standard deviation of ROAD's noise, in grey levels: 0.01 of the range, as in the authors' code.
_NOISE = 2.55
# Standard deviation of the centred Gaussian, as a share of each side.
_GAUSSIAN_WIDTH = 0.25
_FEWEST = 3  # photographs for a test
_HEADLINES = {"deletion": "deletion", "insertion": "insertion", "road": "ROAD"}

Predict = Callable[[Tensor], Tensor]  # uint8 pictures (n, h, w, 3) -> probabilities (n, classes)


class Plan(NamedTuple):
    """Which curves are asked for, and where they are sampled.

    Attributes
    ----------
    steps : int
        Points of a deletion or insertion curve, both ends among them.
    baselines : sequence of str
        What takes the place of a removed pixel in deletion and insertion.
    percentiles : sequence of float
        Shares of pixels that ROAD removes, in percent.
    measures : sequence of str
        Some of `CURVES`.
    """

    steps: int = 2
    baselines: Sequence[str] = ()
    percentiles: Sequence[float] = ()
    measures: Sequence[str] = CURVES


class Case(NamedTuple):
    """One explanation of one picture, and what perturbed pictures are made from."""

    picture: Tensor  # (h, w, 3) uint8
    baselines: Mapping[str, Tensor]  # (h, w, 3) uint8
    noise: Tensor  # (h, w, 3), grey levels
    saliency: Tensor  # (h, w), scaled to [0, 1]
    ranks: Tensor  # (h, w) int64, 0 at the most salient pixel


def deletion(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    *,
    steps: int,
    baseline: str,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Remove the most salient pixels first, and follow the probability of the explained class.

    Parameters
    ----------
    predict : callable
        uint8 pictures (n, h, w, 3) -> probabilities (n, classes).
    images : Tensor, uint8, shape (n, h, w, 3)
    saliency : Tensor, shape (n, h, w)
    targets : Tensor, int, shape (n,)
        The explained classes.
    steps : int
        Points of the curve, 2 or more. Point i is the picture with round(i / (steps - 1) * h * w) pixels removed: the
        first is the picture itself, the last the baseline.
    baseline : {"blur", "mean"}
        What takes the place of a removed pixel: the picture under a Gaussian blur of 10 pixels, or its mean colour.
    seeds : int or sequence of int
        Order of equal pixels; one for all images, or one for each. A map that is constant or not finite has no order
        of its own and gets this one (see `is_flat`).
    batch_size : int
        Pictures in one call of `predict`; results do not depend on it.

    Returns
    -------
    curve : Tensor, float64, shape (n, steps)
        Probabilities, not normalised by that of the picture.
    auc : Tensor, float64, shape (n,)
        Area under the curve by the trapezoidal rule over the share removed, from 0 to 1. Lower is more faithful.

    Raises
    ------
    ValueError
        If shapes, types, `steps` or `baseline` are not as above, or there is not one seed for each image.
    """
    plan = Plan(steps, [baseline], measures=["deletion"])
    return _curve_and_area(predict, images, saliency, targets, plan, seeds, batch_size)


def insertion(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    *,
    steps: int,
    baseline: str,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Insert the most salient pixels first into the baseline, and follow the probability of the explained class.

    Parameters, results and errors are as of `deletion`, with the share inserted from 0 (the baseline) to 1 (the
    picture). Higher is more faithful.
    """
    plan = Plan(steps, [baseline], measures=["insertion"])
    return _curve_and_area(predict, images, saliency, targets, plan, seeds, batch_size)


def road(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    *,
    percentiles: Sequence[float],
    order: str,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Remove and debias: replace pixels by noisy linear imputation, the most or the least salient ones first.

    Parameters
    ----------
    predict, images, saliency, targets, batch_size
        As in `deletion`.
    percentiles : sequence of float
        Shares of the pixels that are REMOVED, in percent, above 0 and below 100 (`grad-cam` counts those it keeps).
    order : {"morf", "lerf"}
        Most or least relevant first.
    seeds : int or sequence of int
        Order of equal pixels, and the noise.

    Returns
    -------
    curve : Tensor, float64, shape (n, percentiles)
        Probabilities of the explained class.
    mean : Tensor, float64, shape (n,)
        Their mean. The lower for "morf", and the higher for "lerf", the more faithful.

    Raises
    ------
    ValueError
        If shapes, types, `percentiles` or `order` are not as above, or there is not one seed for each image.
    """
    if order not in ("morf", "lerf"):
        raise ValueError(f"`order` is {order!r}; allowed: 'morf' (most relevant first) or 'lerf' (least)")
    plan = Plan(percentiles=percentiles, measures=[f"road_{order}"])
    found = curves(predict, images, {"": saliency}, targets, plan=plan, seeds=seeds, batch_size=batch_size)
    curve = found["", f"road_{order}", "imputed"]
    return curve, curve.mean(1)


def average_drop(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    *,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Keep of each picture what the map marks, and see how far the probability of the explained class falls.

    Parameters
    ----------
    predict, images, saliency, targets, seeds, batch_size
        As in `deletion`.

    Returns
    -------
    drop : Tensor, float64, shape (n,)
        max(0, Y - O) / Y with Y the probability on the picture and O that on the picture times the map, scaled to
        [0, 1]: black where nothing is salient. Its mean over images is the average drop. Lower is more faithful.
    increase : Tensor, float64, shape (n,)
        1 where Y < O, else 0. Higher is more faithful.

    Raises
    ------
    ValueError
        If shapes or types are not as above, or there is not one seed for each image.
    """
    plan = Plan(measures=["masked"])
    found = curves(predict, images, {"": saliency}, targets, plan=plan, seeds=seeds, batch_size=batch_size)
    return _drop(found["", "picture", ""], found["", "masked", "black"])


def curves(
    predict: Predict,
    images: Tensor,
    saliencies: Mapping[str, Tensor],
    targets: Tensor,
    *,
    plan: Plan,
    seeds: int | Sequence[int] = 0,
    batch_size: int = 64,
) -> dict[tuple[str, str, str], Tensor]:
    """Follow the probability of the explained class through the perturbations of all explanations of the pictures.

    All perturbed pictures, of every image, explainer and measure, go through the model in common batches.

    Parameters
    ----------
    predict, images, targets, seeds, batch_size
        As in `deletion`.
    saliencies : mapping
        From explainer to its maps (n, h, w).
    plan : Plan

    Returns
    -------
    dict
        From (explainer, measure, baseline) to probabilities, float64 (n, points) on the CPU; under
        ``("", "picture", "")`` those of the pictures, (n, 1).

    Raises
    ------
    ValueError
        As the functions of single measures do.
    """
    images, targets = torch.as_tensor(images), torch.as_tensor(targets)
    saliencies = {name: torch.as_tensor(maps).to(images.device) for name, maps in saliencies.items()}
    _check(images, saliencies, targets, plan, batch_size)
    seeds = one_each(seeds, len(images), "seeds")
    stacks = _stacks(images, saliencies, targets.tolist(), plan, seeds)
    found = _target_probabilities(predict, stacks, batch_size).view(len(images), -1)  # (n, all points of an image)
    keys = [(measure, baseline) for measure in plan.measures for baseline in _baselines(measure, plan)]
    ends = dict(zip(["picture", *plan.baselines], found.split(1, dim=1), strict=False))
    result = {("", "picture", ""): ends["picture"]}
    start = len(ends)
    for name in saliencies:
        for measure, baseline in keys:
            points = len(_inner_shares(measure, plan))
            inner, start = found[:, start : start + points], start + points
            result[name, measure, baseline] = torch.cat(_with_ends(measure, ends, baseline, inner), dim=1)
    return result


def random_saliency(shape: tuple[int, int], *, seeds: Sequence[int], cells: int = 7) -> Tensor:
    """Draw maps that know neither picture nor model.

    Parameters
    ----------
    shape : (h, w)
        In pixels.
    seeds : sequence of int
        One for each map.
    cells : int
        Uniform numbers are drawn on a grid of so many cells a side and interpolated bilinearly. Such a map is as coarse
        as a class activation map: scattered single pixels would fool a network, whatever they show.

    Returns
    -------
    Tensor, float32, shape (n, h, w)
        In [0, 1].
    """
    grids = torch.empty(len(seeds), 1, cells, cells)
    for grid, seed in zip(grids, seeds, strict=True):
        torch.rand(1, cells, cells, generator=torch.Generator().manual_seed(seed), out=grid)
    return torch.nn.functional.interpolate(grids, shape, mode="bilinear")[:, 0] if len(seeds) else grids.view(0, *shape)


def centred_gaussian(shape: tuple[int, int]) -> Tensor:
    """Make the map (h, w) that only knows where photographers aim: a Gaussian, its deviation a quarter of each side."""
    across, down = (
        torch.exp(-(torch.linspace(-1, 1, size) ** 2) / (2 * (2 * _GAUSSIAN_WIDTH) ** 2)) for size in reversed(shape)
    )
    return down[:, None] * across


def floor_maps(shape: tuple[int, int], *, seeds: Sequence[int]) -> dict[str, Tensor]:
    """Make the maps (n, h, w) of each of `FLOORS`; arguments as of `random_saliency`."""
    gaussian = centred_gaussian(shape).expand(len(seeds), -1, -1)
    return dict(zip(FLOORS, (random_saliency(shape, seeds=seeds), gaussian), strict=True))


def is_flat(saliency: Tensor) -> Tensor:
    """Tell which maps (n, h, w) name no pixel before another, because they are constant or not finite; (n,) bool."""
    pixels = torch.as_tensor(saliency).flatten(1)
    return (pixels.amax(1) == pixels.amin(1)) | ~pixels.isfinite().all(1)


def scores(curves: Mapping[tuple[str, str, str], Tensor]) -> dict[tuple[str, str, str], Tensor]:
    """Condense the curves of every explanation to one number a measure.

    Parameters
    ----------
    curves : mapping
        What `curves` returns for all measures.

    Returns
    -------
    dict
        From (explainer, measure, baseline) to float64 (n,), the measures being the keys of `BETTER`. ``road`` is half
        of what least-relevant-first leaves over most-relevant-first.
    """
    found = {}
    for (explainer, measure, baseline), curve in curves.items():
        if measure in ("deletion", "insertion"):
            found[explainer, measure, baseline] = _area(curve)
        elif measure in ("road_morf", "road_lerf"):
            found[explainer, measure, baseline] = curve.mean(1)
        elif measure == "masked":
            drop, increase = _drop(curves["", "picture", ""], curve)
            found |= {(explainer, "average_drop", baseline): drop, (explainer, "increase", baseline): increase}
        if measure == "road_lerf":
            gap = found[explainer, measure, baseline] - found[explainer, "road_morf", baseline]
            found[explainer, "road", baseline] = gap / 2
    return found


def score_shard(
    predict: Predict,
    explanations: Mapping[str, Mapping[str, np.ndarray]],
    images: np.ndarray,
    *,
    plan: Plan,
    seeds: Sequence[int],
    floor_seeds: Sequence[int],
    batch_size: int,
    device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Score every explainer and the floors on a shard of pictures.

    Parameters
    ----------
    predict : callable
        uint8 pictures -> probabilities.
    explanations : mapping
        From explainer to its arrays (n rows): ``saliency, target, target_probability, image_id, photograph``.
    images : array, uint8, shape (n, h, w, 3)
    plan : Plan
        With all measures.
    seeds, floor_seeds : sequence of int
        One for each image: the order of equal pixels and the noise; the random map.
    batch_size : int
    device : torch.device or str

    Returns
    -------
    table : pandas.DataFrame
        ``image_id, photograph, explainer, measure, baseline, value, target, target_probability, flat``, a row for each
        image, explainer and measure; ``flat`` says that the map is constant or not finite, so that its order is random.
        A map that is zero everywhere has no scores (see `agreement.has_map`), an image without a target none at all.
    curves : dict
        Arrays for `store.create`: ``<explainer>:<measure>:<baseline>`` (n, points), ``image_id``, ``photograph``.

    Raises
    ------
    ValueError
        If the explainers explain other images or classes than each other.
    """
    facts = _common(explanations)
    own = {name: facts[name] for name in ("image_id", "photograph")}
    if not len(images):  # all of the shard were skipped
        return pd.DataFrame(columns=[*own, *_SCORED]), own
    targets = torch.as_tensor(facts["target"])
    maps = {name: torch.as_tensor(arrays["saliency"]).to(device) for name, arrays in explanations.items()}
    maps |= {name: floor.to(device) for name, floor in floor_maps(images.shape[1:3], seeds=floor_seeds).items()}
    found = curves(
        predict,
        torch.as_tensor(images).to(device),
        maps,
        targets.clamp(min=0),
        plan=plan,
        seeds=seeds,
        batch_size=batch_size,
    )
    scored = {name: agreement.has_map(each).cpu() & (targets >= 0) for name, each in maps.items()} | {"": targets >= 0}
    found = {key: curve.where(scored[key[0]][:, None], torch.nan) for key, curve in found.items()}
    flat = {name: is_flat(each).cpu().numpy() for name, each in maps.items()}
    tables = []
    for (explainer, measure, baseline), values in scores(found).items():
        table = pd.DataFrame(own)
        table[["explainer", "measure", "baseline"]] = explainer, measure, baseline
        table = table.assign(value=values.numpy(), target=pd.Series(facts["target"], dtype="Int64"))
        table["target"] = table["target"].mask(table["target"] < 0)
        tables.append(table.assign(target_probability=facts["target_probability"], flat=flat[explainer]))
    arrays = {":".join(key).strip(":"): curve.numpy() for key, curve in found.items()}
    return pd.concat(tables, ignore_index=True)[[*own, *_SCORED]], arrays | own


def _common(explanations: Mapping[str, Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Return what all explanations of a shard share."""
    (first_name, first), *others = explanations.items()
    for name, arrays in others:
        for key in ("image_id", "target"):
            if list(arrays[key]) != list(first[key]):
                raise ValueError(f"the explanations by {name} have other values of {key} than those by {first_name}")
    return first


# ---- tables


def summarise(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Average every measure over images, and compare each explainer with the random maps.

    Parameters
    ----------
    table : pandas.DataFrame
        From `score_shard`, with a column ``model``.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``model, measure, baseline, explainer, n, photographs, undefined, mean, low, high, better, flat, over_random,
        over_low, over_high, p_value, p_adjusted``: means with 95 % intervals over photographs, empty below three;
        ``flat`` counts maps whose order is random; ``over_random`` is the mean paired difference to the random map, its
        p-value from sign flips of photographs, adjusted for all comparisons of this table.
    """
    summary = stats.mean_table(table, [*_KEYS, "explainer"], seed=seed, also={"flat": "sum"})
    over = _tests(table, _against_random, seed).rename(
        columns={"explainer_a": "explainer", "difference": "over_random", "low": "over_low", "high": "over_high"}
    )
    over = over.drop(columns=["explainer_b", "n", "photographs"])
    better = summary["measure"].map(BETTER).map({1: "higher", -1: "lower"})
    summary.insert(summary.columns.get_loc("flat"), "better", better)
    return summary.merge(over, how="left")


def compare(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Test every two explainers, the floors among them, against each other.

    Parameters
    ----------
    table, seed
        As in `summarise`.

    Returns
    -------
    pandas.DataFrame
        ``model, measure, baseline, explainer_a, explainer_b, n, photographs, difference, low, high, p_value,
        p_adjusted, more_faithful``: as `stats.paired_tests` has it, but adjusted for all comparisons of this table;
        ``more_faithful`` is the explainer that the difference favours, whether or not it is significant.
    """
    tests = _tests(table, None, seed)
    favour = np.sign(tests["difference"]) * tests["measure"].map(BETTER)
    a, b = tests["explainer_a"], tests["explainer_b"]
    return tests.assign(more_faithful=np.select([favour > 0, favour < 0], [a, b], default=""))


def _against_random(table: pd.DataFrame) -> list[tuple[str, str]]:
    return [(name, "random") for name in table["explainer"].unique() if name != "random"]


def _tests(table: pd.DataFrame, pairs: Callable | None, seed: int) -> pd.DataFrame:
    """Compare explainers within every model, measure and baseline, adjusted over all of them."""
    tests = stats.paired_tests(table, _KEYS, "explainer", pairs=pairs, seed=seed)
    return tests.assign(p_adjusted=stats.benjamini_hochberg(tests["p_value"]))


def mean_curves(
    files: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]], *, seed: int = 0
) -> pd.DataFrame:
    """Average the curves over images.

    Parameters
    ----------
    files : iterable
        Arrays of `score_shard` as `store.read` gives them, and their attributes, ``model`` and ``percentiles``.
    seed : int

    Returns
    -------
    pandas.DataFrame
        ``model, measure, baseline, explainer, share, n, photographs, undefined, mean, low, high``: the mean probability
        of the explained class with ``share`` of the pixels removed (in insertion: inserted), and its 95 % interval over
        photographs, empty below three.
    """
    shards = defaultdict(list)
    for arrays, facts in files:
        for key, curve in arrays.items():
            if key.count(":") == 2 and not key.endswith(":masked:black"):
                shards[facts["model"], key].append((curve, arrays["photograph"], facts))
    keys = [*_KEYS, "explainer", "share"]  # unfolded one curve at a time: all of them would be a row a point
    means = [
        stats.mean_table(pd.concat(_curve_table(key, *each) for each in parts), keys, seed=seed)
        for (_, key), parts in shards.items()
    ]
    if not means:
        return stats.mean_table(pd.DataFrame(columns=[*keys, "value", "photograph"]), keys, seed=seed)
    return pd.concat(means, ignore_index=True)


def _curve_table(key: str, curve: np.ndarray, photographs: np.ndarray, facts: Mapping[str, object]) -> pd.DataFrame:
    """Unfold curves (n, points) to a row a point."""
    explainer, measure, baseline = key.split(":")
    shares = np.linspace(0, 1, curve.shape[1])
    if measure.startswith("road"):
        shares = np.asarray(facts["percentiles"]) / 100
    table = pd.DataFrame(
        {
            "share": np.tile(shares, len(curve)),
            "value": curve.ravel(),  # (n * points,)
            "photograph": photographs.repeat(curve.shape[1]),
        }
    )
    return table.assign(model=facts["model"], measure=measure, baseline=baseline, explainer=explainer)


def findings(summary: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
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
    ranked = rows[~rows["explainer"].isin(FLOORS) & rows["mean"].notna()]
    ranked = ranked.sort_values("mean", ascending=sign < 0, kind="stable")
    text = (
        f"{first['model']}: by {_HEADLINES[first['measure']]} ({first['baseline']}; {first['better']} is more faithful)"
    )
    if ranked.empty:
        return f"{text}, no explanation could be scored."
    best = ranked.iloc[0]
    title = wording.explainer_title(best["explainer"])
    text += f", {title} scores best with {wording.mean_estimate(best)}"
    text += "".join(f", random maps {mean:.2f}" for mean in rows.loc[rows["explainer"] == "random", "mean"])
    if best["photographs"] < _FEWEST:
        verb = "is" if best["photographs"] == 1 else "are"
        return f"{text}. {wording.counted(best['photographs'], 'photograph')} {verb} too few for a test."
    clear = ranked["p_adjusted"] < wording.SIGNIFICANT
    beats, loses = (clear & (side * ranked["over_random"] > 0) for side in (sign, -sign))
    text += f". {beats.sum()} of {wording.counted(len(ranked), 'explainer')} beat random maps "
    text += f"({wording.significant(summary)}"
    if loses.any():
        text += f"; worse than random maps: {_titles(ranked[loses])}"
    if (open_ones := ~(beats | loses)).any():
        text += f"; not supported at n = {best['n']} for {_titles(ranked[open_ones])}"
    own = tests[(tests[_KEYS] == first[_KEYS]).all(axis=1)]
    ahead = [_ahead(best, other, name, own) for other, name in _rivals(ranked)]
    ahead = "; over ".join(filter(None, ahead))
    return f"{text})." + (f" {title} over {ahead} ({wording.adjusted(tests)})." if ahead else "")


def _titles(rows: pd.DataFrame) -> str:
    return ", ".join(map(wording.explainer_title, rows["explainer"]))


def _rivals(ranked: pd.DataFrame) -> list[tuple[str, str]]:
    """Whom the best of the ranked explainers is compared with: the second, if there is one, and the Gaussian."""
    second = [(name, f"the second, {wording.explainer_title(name)}") for name in ranked["explainer"].iloc[1:2]]
    return [*second, ("gaussian", "a Gaussian in the middle")]


def _ahead(best: pd.Series, other: str, title: str, tests: pd.DataFrame) -> str:
    """Say whether the best is more faithful than another; nothing where both were scored on no photograph."""
    pair = [best["explainer"], other]
    found = tests[tests["explainer_a"].isin(pair) & tests["explainer_b"].isin(pair) & tests["p_adjusted"].notna()]
    if found.empty:
        return ""
    test, verdict = found.iloc[0], "supported"
    if not test["p_adjusted"] < wording.SIGNIFICANT:
        verdict = f"not supported at n = {test['n']}"
    elif test["more_faithful"] == other:
        verdict = "the opposite is supported"
    return f"{title}: {verdict} (adjusted {wording.p_value(test['p_adjusted'])})"


# ---- perturbed pictures


def _stacks(
    images: Tensor, saliencies: Mapping[str, Tensor], targets: Sequence[int], plan: Plan, seeds: Sequence[int]
) -> Iterator[tuple[Tensor, int]]:
    """Make all perturbed pictures (k, h, w, 3) of one image after the other, with the image's target."""
    height, width = images.shape[1:3]
    cases = list(zip(images, targets, seeds, strict=True))
    for index, (picture, target, seed) in enumerate(each(cases, "photographs")):
        generator = torch.Generator().manual_seed(seed)
        shuffle = torch.randperm(height * width, generator=generator).to(images.device)
        noise = (_NOISE * torch.randn(height, width, 3, generator=generator)).to(images.device)
        baselines = {name: _BASELINES[name](picture) for name in plan.baselines}
        yield torch.stack([picture, *baselines.values()]), target
        for maps in saliencies.values():
            ranks = _ranks(maps[index], shuffle)
            case = Case(picture, baselines, noise, _scaled(maps[index], ranks), ranks)
            for measure in plan.measures:
                counts = _counts(_inner_shares(measure, plan), ranks)
                for baseline in _baselines(measure, plan):
                    if len(counts):
                        yield _PERTURB[measure](case, counts, baseline), target


def _deleted(case: Case, counts: Tensor, baseline: str) -> Tensor:
    return torch.where((case.ranks < counts)[..., None], case.baselines[baseline], case.picture)


def _inserted(case: Case, counts: Tensor, baseline: str) -> Tensor:
    return torch.where((case.ranks < counts)[..., None], case.picture, case.baselines[baseline])


def _most_relevant_imputed(case: Case, counts: Tensor, _: str) -> Tensor:
    return _imputed(case, case.ranks < counts)


def _least_relevant_imputed(case: Case, counts: Tensor, _: str) -> Tensor:
    return _imputed(case, case.ranks >= case.ranks.numel() - counts)


def _imputed(case: Case, removed: Tensor) -> Tensor:
    filled = impute(case.picture.expand(*removed.shape, 3), removed)
    return (filled + case.noise * removed[..., None]).round().clamp(0, 255).to(torch.uint8)


def _masked(case: Case, _: Tensor, __: str) -> Tensor:
    return (case.picture * case.saliency[..., None]).round().to(torch.uint8)[None]


_PERTURB = {
    "deletion": _deleted,
    "insertion": _inserted,
    "road_morf": _most_relevant_imputed,
    "road_lerf": _least_relevant_imputed,
    "masked": _masked,
}
_BASELINES = {
    "blur": lambda picture: lime.blurred(picture[None])[0],
    "mean": lambda picture: picture.double().mean((0, 1)).round().to(torch.uint8).expand_as(picture),
}


def _baselines(measure: str, plan: Plan) -> Sequence[str]:
    return {"masked": ["black"], "road_morf": ["imputed"], "road_lerf": ["imputed"]}.get(measure, plan.baselines)


def _inner_shares(measure: str, plan: Plan) -> list[float]:
    """Shares of pixels at which an explanation is asked for; the ends of deletion and insertion need none."""
    if measure == "masked":
        return [0.0]
    if measure.startswith("road"):
        return [percentile / 100 for percentile in plan.percentiles]
    return [point / (plan.steps - 1) for point in range(1, plan.steps - 1)]


def _with_ends(measure: str, ends: Mapping[str, Tensor], baseline: str, inner: Tensor) -> list[Tensor]:
    if measure == "deletion":
        return [ends["picture"], inner, ends[baseline]]
    if measure == "insertion":
        return [ends[baseline], inner, ends["picture"]]
    return [inner]


def _counts(shares: Sequence[float], ranks: Tensor) -> Tensor:
    """Pixels, (k, 1, 1)."""
    return torch.tensor([round(share * ranks.numel()) for share in shares], device=ranks.device).view(-1, 1, 1)


def _ranks(saliency: Tensor, shuffle: Tensor) -> Tensor:
    """Place of every pixel of a map (h, w) in the order of saliency; equal ones as `shuffle`, (h * w,), has them."""
    pixels = torch.zeros_like(saliency) if is_flat(saliency[None]) else saliency
    order = shuffle[pixels.flatten()[shuffle].argsort(descending=True, stable=True)]
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)).view_as(saliency)


def _scaled(saliency: Tensor, ranks: Tensor) -> Tensor:
    """Scale a map (h, w) to [0, 1]; a flat one becomes its random order."""
    if is_flat(saliency[None]):
        return 1 - ranks / (ranks.numel() - 1)
    return (saliency - saliency.amin()) / (saliency.amax() - saliency.amin())


# ---- predictions


def _target_probabilities(predict: Predict, stacks: Iterable[tuple[Tensor, int]], batch_size: int) -> Tensor:
    """Predict stacks of pictures in batches that run across them; float64 on the CPU, in the order of the pictures."""
    found: list[Tensor] = []
    pictures: list[Tensor] = []
    targets: list[int] = []
    for stack, target in stacks:
        pictures.append(stack)
        targets += [target] * len(stack)
        if len(targets) >= batch_size:
            waiting = torch.cat(pictures)
            while len(targets) >= batch_size:
                found.append(_probabilities(predict, waiting[:batch_size], targets[:batch_size]))
                waiting, targets = waiting[batch_size:], targets[batch_size:]
            pictures = [waiting]
    if targets:
        found.append(_probabilities(predict, torch.cat(pictures), targets))
    return torch.cat(found).cpu()


def _probabilities(predict: Predict, pictures: Tensor, targets: Sequence[int]) -> Tensor:
    probabilities = predict(pictures)
    columns = torch.tensor(targets, device=probabilities.device)[:, None]
    return probabilities.gather(1, columns)[:, 0].double()


def _curve_and_area(
    predict: Predict,
    images: Tensor,
    saliency: Tensor,
    targets: Tensor,
    plan: Plan,
    seeds: int | Sequence[int],
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    found = curves(predict, images, {"": saliency}, targets, plan=plan, seeds=seeds, batch_size=batch_size)
    curve = found["", plan.measures[0], plan.baselines[0]]
    return curve, _area(curve)


def _area(curve: Tensor) -> Tensor:
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def _drop(picture: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
    """From probabilities (n, 1)."""
    drop = (picture - masked).clamp(min=0) / picture
    increase = (masked > picture).double().where(~(masked - picture).isnan(), torch.nan)
    return drop[:, 0], increase[:, 0]


# ---- checks


def _check(images: Tensor, saliencies: Mapping[str, Tensor], targets: Tensor, plan: Plan, batch_size: int) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
        raise ValueError(f"`images` must be uint8 (n, h, w, 3), got {images.dtype} {tuple(images.shape)}")
    for name, maps in saliencies.items():
        if maps.shape != images.shape[:3]:
            what = f"`saliency` {name}".rstrip()
            raise ValueError(f"{what} has shape {tuple(maps.shape)}; allowed: {tuple(images.shape[:3])}, the images'")
    if targets.shape != images.shape[:1] or targets.is_floating_point():
        raise ValueError(f"`targets` must be one class for each of {len(images)} images, got {tuple(targets.shape)}")
    if plan.steps < 2:
        raise ValueError(f"`steps` is {plan.steps}; allowed: 2 or more")
    for baseline in plan.baselines:
        if baseline not in BASELINES:
            raise ValueError(f"`baseline` is {baseline!r}; allowed: {', '.join(BASELINES)}")
    for percentile in plan.percentiles:
        if not 0 < percentile < 100:
            raise ValueError(f"`percentiles` holds {percentile}; allowed: above 0 and below 100 percent")
    if batch_size < 1:
        raise ValueError(f"`batch_size` is {batch_size}; allowed: 1 or more")
