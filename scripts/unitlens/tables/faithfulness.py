"""Tabulate, test and average the faithfulness of explainers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unitlens.measures.scales import BETTER
from unitlens.tables import resampling, summaries

if TYPE_CHECKING:
    import torch

    from unitlens.measures.faithfulness import Predict
    from unitlens.measures.perturbation import Plan

    Curves = dict[tuple[str, str, str], torch.Tensor]

KEYS = ["model", "measure", "baseline"]
_SCORED = ["explainer", "measure", "baseline", "value", "target", "target_probability", "flat"]  # what a score has


def score_shard(
    predict: Predict,
    explanations: Mapping[str, Mapping[str, np.ndarray]],
    images: np.ndarray,
    *,
    plan: Plan,
    seeds: Sequence[int],
    control_seeds: Sequence[int],
    batch_size: int,
    device: torch.device | str = "cpu",
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Score every explainer and the control maps on a shard of images, see docs/outputs.md, ``results/faithfulness``.

    A map that is zero everywhere has no scores (see `masks.has_map`), an image without a target none at all. Of
    `images` (n, h, w, 3) uint8, `explanations` hold each explainer's arrays ``saliency, target, target_probability,
    image_id, source_image``; `plan` has all measures. Each image has a seed of the order of equal pixels and the noise,
    and one of the random maps, whose scores and curves are averaged. Gives a row for each image, explainer and measure,
    and arrays for `write_arrays`: the curves (n, points) ``<explainer>:<measure>:<baseline>``, ``image_id`` and
    ``source_image``. ValueError if explainers explain other images or classes than each other.
    """
    import torch

    from unitlens.explainers import masks
    from unitlens.measures.faithfulness import curves, scores
    from unitlens.measures.sanity import make_control_maps

    facts = _common(explanations)
    own = {name: facts[name] for name in ("image_id", "source_image")}
    if not len(images):  # all of the shard were skipped
        return pd.DataFrame(columns=[*own, *_SCORED]), own
    targets = torch.as_tensor(facts["target"])
    maps = {name: torch.as_tensor(arrays["saliency"]).to(device) for name, arrays in explanations.items()}
    controls = make_control_maps(images.shape[1:3], seeds=control_seeds)
    maps |= {name: draws[0]().to(device) for name, draws in controls.items()}
    options = {"seeds": seeds, "batch_size": batch_size}
    follow = partial(curves, predict, torch.as_tensor(images).to(device), targets=targets.clamp(min=0), **options)
    found = follow(saliencies=maps, plan=plan)
    condensed = scores(found)
    for name, draws in controls.items():
        first = {key: curve for key, curve in found.items() if key[0] in (name, "")}
        drawn = ({name: draw().to(device)} for draw in draws[1:])
        others = _other_draws(first, drawn, follow, plan)
        for result, more in ((condensed, [scores(each) for each in others]), (found, others)):
            for key in [key for key in result if key[0] == name]:
                result[key] = torch.stack([result[key], *(each[key] for each in more)]).mean(0)
    scored = {name: masks.has_map(each).cpu() & (targets >= 0) for name, each in maps.items()} | {"": targets >= 0}
    found = {key: curve.where(scored[key[0]][:, None], torch.nan) for key, curve in found.items()}
    condensed = {key: values.where(scored[key[0]], torch.nan) for key, values in condensed.items()}
    flat = {name: masks.is_flat(each).cpu().numpy() for name, each in maps.items()}
    target = pd.Series(facts["target"], dtype="Int64")
    rows = pd.DataFrame(own).assign(target=target.mask(target < 0), target_probability=facts["target_probability"])
    tables = []
    for (explainer, measure, baseline), values in condensed.items():
        table = rows.assign(explainer=explainer, measure=measure, baseline=baseline, value=values.numpy())
        tables.append(table.assign(flat=flat[explainer]))
    arrays = {":".join(key).strip(":"): curve.numpy() for key, curve in found.items()}
    return pd.concat(tables, ignore_index=True)[[*own, *_SCORED]], arrays | own


def _other_draws(first: Curves, draws: Iterable[Mapping], follow: Callable[..., Curves], plan: Plan) -> list[Curves]:
    """Follow the draws of a control map after the first; every second one is the one before it, upside down."""
    from unitlens.measures.faithfulness import upside_down
    from unitlens.measures.perturbation import Plan

    every = [first]
    for place, draw in enumerate(draws):
        if place % 2:
            every.append(follow(saliencies=draw, plan=plan))
        else:
            masked = follow(saliencies=draw, plan=Plan(measures=["masked"]))
            every.append(masked | upside_down(every[-1]))
    return every[1:]


def _common(explanations: Mapping[str, Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Return what all explanations of a shard share."""
    (first_name, first), *others = explanations.items()
    for name, arrays in others:
        for key in ("image_id", "target"):
            if list(arrays[key]) != list(first[key]):
                raise ValueError(f"the explanations by {name} have other values of {key} than those by {first_name}")
    return first


def summarize(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Average every measure over images, and compare each explainer with the random maps.

    p-values are adjusted for all comparisons of this table.
    """
    summary = summaries.mean_table(table, [*KEYS, "explainer"], also={"flat": "sum"})
    better = summary["measure"].map(BETTER).map({1: "higher", -1: "lower"})
    summary.insert(summary.columns.get_loc("flat"), "better", better)
    names = {"explainer_a": "explainer", "difference": "over_random", "low": "over_low", "high": "over_high"}
    over = _tests(table, summaries.against("random"), seed).rename(columns=names)
    return summary.merge(over.drop(columns=["explainer_b", "n", "source_images"]), how="left")


def compare(table: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Test every two explainers, the control maps among them, adjusted for all tests of the table."""
    tests = _tests(table, None, seed)
    favor = np.sign(tests["difference"]) * tests["measure"].map(BETTER)
    a, b = tests["explainer_a"], tests["explainer_b"]
    return tests.assign(more_faithful=np.select([favor > 0, favor < 0], [a, b], default=""))


def _tests(table: pd.DataFrame, pairs: Callable | None, seed: int) -> pd.DataFrame:
    """Compare explainers within every model, measure and baseline, adjusted over all of them."""
    tests = summaries.paired_tests(table, KEYS, "explainer", pairs=pairs, seed=seed)
    return tests.assign(p_adjusted=resampling.benjamini_hochberg(tests["p_value"]))


def mean_curves(files: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]]) -> pd.DataFrame:
    """Average the curves of `score_shard`, as files of arrays and attributes, over images."""
    shards = defaultdict(list)
    for arrays, facts in files:
        for key, curve in arrays.items():
            if key.count(":") == 2 and not key.endswith(":masked:black"):
                shards[facts["model"], key].append((curve, arrays["source_image"], facts))
    keys = [*KEYS, "explainer", "share"]
    nothing = pd.DataFrame(columns=[*keys, "value", "source_image"])
    means = [summaries.mean_table(nothing, keys)]
    for (_, key), parts in shards.items():  # unfolded one curve at a time: all of them would be a row a point
        table = pd.concat(_curve_table(key, *each) for each in parts)
        means.append(summaries.mean_table(table, keys))
    return pd.concat(means[1:] or means, ignore_index=True)


def _curve_table(key: str, curve: np.ndarray, source_images: np.ndarray, facts: Mapping[str, object]) -> pd.DataFrame:
    """Unfold curves (n, points) to a row a point."""
    explainer, measure, baseline = key.split(":")
    shares = np.linspace(0, 1, curve.shape[1])
    if measure.startswith("road"):
        shares = np.asarray(facts["percentiles"]) / 100
    points = {"share": np.tile(shares, len(curve)), "value": curve.ravel()}  # (n * points,)
    table = pd.DataFrame(points | {"source_image": source_images.repeat(curve.shape[1])})
    return table.assign(model=facts["model"], measure=measure, baseline=baseline, explainer=explainer)
