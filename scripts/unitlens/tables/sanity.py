"""Do explanations depend on what they should, and only on that: randomised networks, and LIME drawn again.

Cascading randomisation (Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018): a network loses its layers
from the last one down, and a map that explains the network must change. LIME's stability over seeds and numbers of
samples: the surrogate is fitted to prefixes of one set of samples a seed. Tested by hand and with planted explainers.
"""

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy.stats import hypergeom
from torch import Tensor, nn

from unitlens import agreement, explain, items, lime, stats
from unitlens.agreement import ORIGIN
from unitlens.logs import each
from unitlens.seeds import image_seed, repeated_ids, stream_seeds
from unitlens.wording import counted, explainer_title, mean_estimate

STABILITY_TITLES = {
    "top_jaccard": "Jaccard index of the top superpixels of two seeds",
    "equal_area_iou": "equal-area IoU of the maps of two seeds",
    "kept": "share of the final top superpixels",
}
SETTLED = 0.8  # mean Jaccard index from which the top superpixels count as settled
RANDOMISED, OTHER = "randomised network", "another photograph"


# ---- randomised networks


def cascade(n_layers: int, stages: int) -> list[int]:
    """Give how many of the last layers are randomised at each stage: from one to all, in about equal steps."""
    return sorted({round(float(n)) for n in np.linspace(1, n_layers, stages)}) if stages > 1 else [n_layers]


def layers_with_weights(model: nn.Module) -> list[str]:
    """Name the modules that have parameters of their own, in the order of their definition."""
    return [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]


@torch.no_grad()
def randomise(model: nn.Module, layers: Sequence[str], *, seed: int) -> None:
    """Shuffle the values within every parameter and running statistic of some layers, in place.

    What a layer has learned is lost and its scale is not: new draws from an initial distribution would let the
    activations of a deep network vanish, whose maps would then be empty and tell nothing.

    Parameters
    ----------
    model : nn.Module
    layers : sequence of str
        Dotted names of modules; parameters of modules inside them are left alone.
    seed : int
        With the layer's name it fixes the order.
    """
    for name in layers:
        generator = torch.Generator().manual_seed(image_seed(seed, name))
        layer = model.get_submodule(name)
        for values in [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            order = torch.randperm(values.numel(), generator=generator).to(values.device)
            values.copy_(values.flatten()[order].view_as(values))


def check_randomisation(
    model: nn.Module,
    explain: Callable[[nn.Module], Mapping[str, Tensor]],
    images: pd.DataFrame,
    *,
    stages: int,
    area: float,
    seed: int,
) -> pd.DataFrame:
    """Compare the maps of a network with those of the same network as its layers are randomised from the last one down.

    Parameters
    ----------
    model : nn.Module
        Left as it is; a copy is randomised.
    explain : callable
        Takes a network and returns the maps (n, h, w) of each explainer, always of the same images and classes.
    images : pandas.DataFrame
        ``image_id, photograph`` and further columns to keep, a row an image.
    stages : int
        Steps from the last layer to all, see `cascade`.
    area : float
        Share of the picture at which maps are cut.
    seed : int
        Of the randomisation and of the order of ties.

    Returns
    -------
    pandas.DataFrame
        The columns of `images` and ``explainer, comparison, randomised, layers, deepest, measure, cut, value,
        chance``: a map against that of the randomised network (``randomised`` of ``layers`` layers, down to
        ``deepest``), or against that of the next photograph by the same explainer, which tells what maps of one
        explainer have in common anyway. Measures are ``equal_area_iou`` and ``spearman``; the latter is empty where a
        map is constant, both where one is zero everywhere.
    """
    names = layers_with_weights(model)
    original = explain(model)
    other = _next_photograph(images["photograph"])
    moved = {name: maps[other] for name, maps in original.items()} if other is not None else {}
    facts = {"comparison": OTHER, "randomised": 0, "layers": len(names), "deepest": ""}
    tables = [_compare(original, moved, images.assign(**facts), area=area, seed=seed)]
    broken = copy.deepcopy(model)
    done = 0
    for count in each(cascade(len(names), stages), "stages of randomisation"):
        randomise(broken, names[len(names) - count : len(names) - done], seed=seed)
        done = count
        facts |= {"comparison": RANDOMISED, "randomised": count, "deepest": names[-count]}
        tables.append(_compare(original, explain(broken), images.assign(**facts), area=area, seed=seed))
    return pd.concat([table for table in tables if len(table)], ignore_index=True)


def cam_maps(
    model: nn.Module, *, inputs: Tensor, targets: Tensor, layer: str, methods: Sequence[str], chunk: int
) -> dict[str, Tensor]:
    """Explain normalised `inputs` by several class activation maps, on the CPU; arguments as of `explain.cam_maps`."""
    return {
        f"{method}-{layer}": explain.cam_maps(model, layer, inputs, targets, method=method, chunk=chunk)[0].cpu()
        for method in methods
    }


def summarise_randomisation(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Average the similarities of `check_randomisation`.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, explainer, comparison, randomised, layers, deepest, measure, cut, n,
        photographs, undefined, mean, low, high, chance, seed``, see `stats.mean_table`.
    """
    keys = [*ORIGIN, "explainer", "comparison", "randomised", "layers", "deepest", "measure", "cut"]
    summary = stats.mean_table(scores, keys, seed=seed)
    chance = agreement.chance_iou(summary["cut"])
    return summary.assign(chance=chance.where(summary["measure"] == "equal_area_iou", 0.0), seed=seed)


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


def _next_photograph(photographs: pd.Series) -> Tensor | None:
    """Index of the next image of another photograph, around the end; None where there is but one photograph."""
    names = photographs.tolist()
    if len(set(names)) < 2:
        return None
    steps = (((i + step) % len(names) for step in range(1, len(names))) for i in range(len(names)))
    return torch.tensor([next(j for j in own if names[j] != names[i]) for i, own in enumerate(steps)])


def _compare(
    original: Mapping[str, Tensor], changed: Mapping[str, Tensor], images: pd.DataFrame, *, area: float, seed: int
) -> pd.DataFrame:
    tables = []
    for name, maps in changed.items():
        seeds = [stream_seeds(seed, f"{name}/{which}", images["image_id"]) for which in ("original", "changed")]
        values = {
            "equal_area_iou": agreement.equal_area_iou(original[name], maps, area, seeds=tuple(seeds)),
            "spearman": agreement.spearman(original[name], maps),
        }
        known = agreement.has_map(original[name]) & agreement.has_map(maps)
        chance = {"equal_area_iou": agreement.chance_iou(area), "spearman": 0.0}
        for measure, own in values.items():
            scored = images.assign(
                explainer=name, measure=measure, cut=area, value=own.where(known, torch.nan).cpu().numpy()
            )
            tables.append(scored.assign(chance=chance[measure]))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


# ---- LIME drawn again


def draw(
    predict: Callable[[Tensor], Tensor],
    pictures: Tensor,
    segments: Tensor,
    targets: Tensor,
    image_ids: Sequence[str],
    *,
    repeats: int,
    n_samples: int,
    hide: str,
    batch_size: int,
    seed: int,
) -> tuple[list[lime.Samples | None], dict[int, str]]:
    """Draw the samples of LIME several times, each time with another seed; the first are those of the explanation.

    Parameters
    ----------
    predict, pictures, segments, targets, n_samples, batch_size
        As in `lime.sample`.
    image_ids : sequence of str
    repeats : int
        Number of seeds.
    hide : str
        A key of `explain.HIDE`.
    seed : int
        With image id and repeat it fixes the samples, as in `explain.lime_explainer`.

    Returns
    -------
    samples : list of lime.Samples or None
        One for each seed, None where LIME can explain no image.
    reasons : dict
        Why it cannot explain an image, by its number.
    """

    def sample(places: list[int]) -> list[lime.Samples]:
        return [
            lime.sample(
                predict,
                pictures[places],
                segments[places],
                targets[places],
                n_samples=n_samples,
                hide=explain.HIDE[hide],
                batch_size=batch_size,
                seeds=[image_seed(seed, own[place]) for place in places],
                image_ids=[image_ids[place] for place in places],
            )
            for own in each(repeated_ids(image_ids, repeats), "draws of LIME")
        ]

    unknown = items.reasons_where(targets < 0, items.NO_LABEL)
    samples, reasons = items.without_failing(sample, len(pictures), unknown)
    return samples or [None] * repeats, reasons


def check_stability(
    samples: Sequence[lime.Samples | None],
    segments: Tensor,
    images: pd.DataFrame,
    *,
    without: Container[int] = (),
    counts: Sequence[int],
    top: int,
    area: float,
    seed: int,
    options: Mapping[str, object],
) -> pd.DataFrame:
    """Tell how much LIME's explanations vary from seed to seed, by the number of samples.

    Parameters
    ----------
    samples : sequence of lime.Samples
        One for each seed, of the same images and one target each, as `draw` gives them.
    segments : Tensor, shape (n, h, w)
        Superpixels.
    images : pandas.DataFrame
        ``image_id`` and further columns to keep, a row an image.
    without : container of int
        Numbers of the images that LIME cannot explain: their values are NaN.
    counts : sequence of int
        Numbers of samples; the surrogate is fitted to so many of the first ones. The largest is the full count.
    top : int
        How many superpixels, those with the largest coefficients, are compared.
    area : float
        Share of the picture at which maps are cut.
    seed : int
        Of the order of ties.
    options : mapping
        LIME's options, of which `lime.fit` gets its own.

    Returns
    -------
    pandas.DataFrame
        The columns of `images` and ``seeds, superpixels, n_samples, measure, value, chance``. ``top_jaccard`` is the
        mean Jaccard index of the top superpixels of every two seeds, ``equal_area_iou`` the mean IoU of their maps,
        ``kept`` the mean share of a seed's own top superpixels at the full count that are among its top ones at this
        count. ``chance`` is the expected value for superpixels or maps drawn at random.
    """
    surrogate = {name: options[name] for name in lime.SURROGATE if name in options}
    rows = []
    for i, image in enumerate(each(images.to_dict("records"), "photographs")):
        labels = segments[i].long()
        d = int(labels.max()) + 1
        if i in without:
            facts = image | {"seeds": len(samples), "superpixels": d, "value": np.nan, "chance": np.nan}
            rows += [facts | {"n_samples": n, "measure": name} for n in sorted(counts) for name in STABILITY_TITLES]
            continue
        size = min(top, d)
        chance = {
            "top_jaccard": expected_jaccard(d, size),
            "equal_area_iou": agreement.chance_iou(area),
            "kept": size / d,
        }
        coefficients = {
            n: torch.stack(
                [lime.fit(own.designs[i][:n], own.predictions[i, :n], **surrogate).coefficients[0] for own in samples]
            )
            for n in sorted(counts)
        }  # (seeds, superpixels) each
        final = _top(coefficients[max(counts)], size)
        for n, own in coefficients.items():
            values = {
                "top_jaccard": _mean_jaccard(_top(own, size)),
                "equal_area_iou": _mean_iou(own.clamp(min=0)[:, labels], area, f"{image['image_id']}/{n}", seed),
                "kept": (_top(own, size) & final).double().sum(1).div(size).mean().item(),
            }
            facts = image | {"seeds": len(samples), "superpixels": d, "n_samples": n}
            rows += [facts | {"measure": name, "value": values[name], "chance": chance[name]} for name in values]
    return pd.DataFrame(rows)


def expected_jaccard(n: int, k: int) -> float:
    """Mean Jaccard index of two sets of `k` of `n` things that are drawn at random."""
    shared = np.arange(max(0, 2 * k - n), k + 1)
    return float((hypergeom(n, k, k).pmf(shared) * shared / (2 * k - shared)).sum())


def summarise_stability(scores: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Average the scores of `check_stability`.

    Returns
    -------
    pandas.DataFrame
        ``model, explained_class, geometry, seeds, n_samples, measure, n, photographs, undefined, mean, low, high,
        chance, seed``, see `stats.mean_table`.
    """
    keys = [*ORIGIN, "seeds", "n_samples", "measure"]
    return stats.mean_table(scores, keys, seed=seed, also={"chance": "mean"}).assign(seed=seed)


def settled_at(summary: pd.DataFrame) -> int | None:
    """Fewest samples from which on the mean Jaccard index of one model's top superpixels stays settled, if any."""
    own = summary[summary["measure"] == "top_jaccard"].sort_values("n_samples", ascending=False)
    settled = own[(own["mean"] >= SETTLED).cummin()]
    return int(settled["n_samples"].min()) if len(settled) else None


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


def _top(coefficients: Tensor, size: int) -> Tensor:
    """Mark the largest coefficients of each row but none of 0, which are not selected."""
    largest = coefficients.sort(dim=1, descending=True, stable=True).indices[:, :size]
    return torch.zeros_like(coefficients, dtype=torch.bool).scatter(1, largest, True) & (coefficients != 0)


def _mean_jaccard(sets: Tensor) -> float:
    return torch.stack([(a & b).sum() / (a | b).sum() for a, b in combinations(sets, 2)]).double().mean().item()


def _mean_iou(maps: Tensor, area: float, name: str, seed: int) -> float:
    seeds = stream_seeds(seed, name, [str(repeat) for repeat in range(len(maps))])
    return explain.stability(maps[:, None], area, seeds=[[own] for own in seeds]).item()
