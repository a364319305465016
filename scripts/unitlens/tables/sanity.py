"""Tabulate what randomized networks and other seeds do to explanations; judge the checks against reference packages."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unitlens.explainers.items import stream_seeds
from unitlens.jobs.progress import each
from unitlens.measures.scales import OTHER, RANDOMIZED, STABILITY_MEASURES, chance_iou
from unitlens.tables import summaries

if TYPE_CHECKING:
    from torch import Tensor, nn

    from unitlens.explainers.lime_samples import Samples

SETTLED = 0.8  # mean Jaccard index from which the top superpixels count as settled


def check_randomization(
    model: nn.Module,
    explain: Callable[[nn.Module], Mapping[str, Tensor]],
    images: pd.DataFrame,
    *,
    stages: int,
    area: float,
    seed: int,
) -> pd.DataFrame:
    """Compare the maps of a network with those of the same network as its layers are randomized from the last one down.

    `model` stays as it is; `explain` gives a network's maps (n, h, w) by each explainer, always of the same images and
    classes, of which `images` has ``image_id, source_image`` and further columns to keep. There are so many `stages`
    from the last layer to all (see `sanity.cascade_maps`), and maps are cut to the share `area`. The other source image
    is the next one, explained by the same explainer: it tells what maps of one explainer have in common anyway.
    ``spearman`` is empty where a map is constant, both measures where one is zero everywhere.
    """
    from unitlens.measures import sanity

    original = explain(model)
    other = sanity.next_source_image(images["source_image"].tolist())
    moved = {name: maps[other] for name, maps in original.items()} if other is not None else {}
    weighted = len(sanity.layers_with_weights(model))
    facts = {"comparison": OTHER, "randomized": 0, "layers": weighted, "deepest": ""}
    tables = _compare(original, moved, images.assign(**facts), area=area, seed=seed)
    for count, deepest, maps in sanity.cascade_maps(model, explain, stages=stages, seed=seed):
        facts |= {"comparison": RANDOMIZED, "randomized": count, "deepest": deepest}
        tables += _compare(original, maps, images.assign(**facts), area=area, seed=seed)
    return pd.concat(tables, ignore_index=True)


def summarize_randomization(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the similarities of `check_randomization`."""
    keys = [*summaries.ORIGIN, "explainer", "comparison", "randomized", "layers", "deepest", "measure", "cut"]
    summary = summaries.mean_table(scores, keys)
    chance = chance_iou(summary["cut"])
    return summary.assign(chance=chance.where(summary["measure"] == "equal_area_iou", 0.0))


def _compare(
    original: Mapping[str, Tensor], changed: Mapping[str, Tensor], images: pd.DataFrame, *, area: float, seed: int
) -> list[pd.DataFrame]:
    import torch

    from unitlens.explainers import masks
    from unitlens.measures import agreement

    tables = []
    for name, maps in changed.items():
        seeds = tuple(stream_seeds(seed, f"{name}/{which}", images["image_id"]) for which in ("original", "changed"))
        iou = agreement.equal_area_iou(original[name], maps, area, seeds=seeds)
        spearman = agreement.spearman(original[name], maps)
        known = masks.has_map(original[name]) & masks.has_map(maps)
        measures = {"equal_area_iou": (iou, chance_iou(area)), "spearman": (spearman, 0.0)}
        for measure, (own, chance) in measures.items():
            value = own.where(known, torch.nan).cpu().numpy()
            tables.append(images.assign(explainer=name, measure=measure, cut=area, value=value, chance=chance))
    return tables


def check_stability(
    samples: Sequence[Samples | None],
    segments: Tensor,
    images: pd.DataFrame,
    *,
    without: Container[int] = (),
    counts: Sequence[int],
    own: Sequence[int] = (),
    top: int,
    area: float,
    seed: int,
    options: Mapping[str, object],
) -> pd.DataFrame:
    """Tell how much LIME's explanations vary from seed to seed, by the number of samples; see `sanity.seed_stability`.

    `samples` are those of each seed, as `sanity.draw` gives them, of images with superpixels `segments` (n, h, w);
    `images` has ``image_id`` and further columns to keep. Images `without` an explanation, by their number, have NaN.
    The surrogate is fitted to so many of the first samples as `counts` says, and, in rows without ``n_samples``, to the
    image's `own` number, if these are given; the largest is the full count. The
    `top` superpixels with the largest coefficients and the maps cut to the share `area` are compared. `options` are
    LIME's, of which `surrogate.fit` gets its own. Where its penalty `alpha` is 0 and so few samples leave superpixels
    dependent on each other, values are NaN too.
    """
    import torch

    from unitlens.explainers.surrogate import DependentError, Surrogate, fit
    from unitlens.measures import sanity

    surrogate = {name: options[name] for name in Surrogate._fields if name in options}
    rows = []
    for i, image in enumerate(each(images.to_dict("records"), "source images")):
        labels = segments[i].long()
        coefficients = {}  # (seeds, superpixels) each
        counted = [(n, n) for n in sorted(counts)] + ([(pd.NA, own[i])] if len(own) else [])
        for n in () if i in without else {used for _, used in counted}:
            with suppress(DependentError):  # without a penalty, of so few samples
                fits = [fit(own.designs[i][:n], own.predictions[i, :n], **surrogate) for own in samples]
                coefficients[n] = torch.stack([one.coefficients[0] for one in fits])
        ties = {"image_id": image["image_id"], "seed": seed}
        found = sanity.seed_stability(coefficients, labels, top=top, area=area, **ties) if coefficients else {}
        facts = image | {"seeds": len(samples), "superpixels": int(labels.max()) + 1}
        for n, used in counted:
            for name in STABILITY_MEASURES:
                value, chance, ceiling = found[used][name] if used in found else [np.nan] * 3
                numbers = {"value": value, "chance": chance, "ceiling": ceiling}
                rows.append(facts | {"n_samples": n, "measure": name} | numbers)
    return pd.DataFrame(rows).astype({"n_samples": "Int64"})


def summarize_stability(scores: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of `check_stability`."""
    keys = [*summaries.ORIGIN, "seeds", "n_samples", "measure"]
    return summaries.mean_table(scores, keys, also={"chance": "mean", "ceiling": "mean"})


def fully_randomized(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of the equal-area IoU with all layers randomized, and the level that a map must fall to.

    ``between`` is the mean IoU of maps of different source images, and ``level`` the larger of it and of chance: the
    maps of an explainer whose interval lies above it stay alike.
    """
    shown = summary[summary["measure"] == "equal_area_iou"]
    last = shown[(shown["comparison"] == RANDOMIZED) & (shown["randomized"] == shown["layers"])]
    other = shown.loc[shown["comparison"] == OTHER, ["model", "explainer", "mean"]]
    last = last.merge(other.rename(columns={"mean": "between"}), "left", ["model", "explainer"])
    return last.assign(level=np.maximum(last["between"].fillna(0), last["chance"]))


def settled_at(summary: pd.DataFrame) -> int | None:
    """Fewest samples from which on the mean Jaccard index of one model's top superpixels stays settled, if any."""
    own = summary[(summary["measure"] == "top_jaccard") & summary["n_samples"].notna()]
    own = own.sort_values("n_samples", ascending=False)
    settled = own[(own["mean"] >= SETTLED).cummin()]
    return int(settled["n_samples"].min()) if len(settled) else None


def at_maps(summary: pd.DataFrame, n_samples: int | str) -> pd.DataFrame:
    """Rows of one model at the number of samples of the maps: `n_samples`, or by "auto" what each image takes."""
    number = summary["n_samples"]
    return summary[number.isna() if n_samples == "auto" else number == n_samples]


def has_settled(summary: pd.DataFrame, n_samples: int | str) -> bool:
    """Tell whether one model's top superpixels have settled at the number of samples of the maps."""
    if n_samples == "auto":
        own = at_maps(summary, n_samples)
        return bool((own.loc[own["measure"] == "top_jaccard", "mean"] >= SETTLED).any())
    settled = settled_at(summary)
    return settled is not None and settled <= n_samples


def require_passed(differences: pd.DataFrame) -> None:
    """Raise a ValueError that names all comparisons with reference packages that did not pass."""
    failed = [
        f"{row.model}: {row.check} differs from {row.reference} by {row.largest_difference:.3g}, "
        f"allowed: {row.tolerance:g}"
        for row in differences[differences.passed.eq(False)].itertuples()
    ]
    if failed:
        raise ValueError("explainers do not give what their reference packages give: " + "; ".join(failed))
