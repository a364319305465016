"""Explain the predictions for a set of pictures with any explainer, in batches, and cut the saliency maps to masks."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens import agreement, lime, models, segment
from unitlens.logs import progress
from unitlens.seeds import image_seed, repeated_ids, stream_seeds

SUPERPIXELS = {
    "quickshift": segment.quickshift,
    "slic": segment.slic,
    "felzenszwalb": segment.felzenszwalb,
    "grid": segment.grid,
}
HIDE = {"mean": None, "grey": 128, "black": 0, "white": 255, "blur": "blur", "noise": "noise"}
ZERO_MAP = "the map is zero everywhere"  # what tables and pages say of one
# Share of the picture at which repeats of LIME are compared.
_STABILITY_AREA = 0.2

Explainer = Callable[
    [Tensor, Tensor, Sequence[str]], dict[str, Tensor]
]  # (pictures, targets, image ids) -> named arrays


def explain_images(
    images: Mapping[str, np.ndarray],
    explainer: Explainer,
    predict: Callable[[Tensor], Tensor],
    *,
    target: str | int,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> tuple[dict[str, np.ndarray], float]:
    """Explain pictures, a batch at a time.

    Parameters
    ----------
    images : mapping
        ``images`` (n, h, w, 3) uint8, ``image_id``, ``photograph`` and ``label``; arrays or open datasets.
    explainer : callable
        Takes uint8 pictures on `device`, target classes and image ids; returns arrays with a row a picture,
        ``saliency`` among them.
    predict : callable
        uint8 pictures -> probabilities.
    target : {"predicted", "label"} or int
        See `models.choose_targets`.
    batch_size : int
        Pictures explained together.
    device : torch.device or str

    Returns
    -------
    arrays : dict
        What the explainer returned, and ``target, target_probability, predicted, predicted_probability, label,
        image_id, photograph``.
    seconds : float
        Spent in the explainer.
    """
    facts = {name: _texts(images[name]) for name in ("image_id", "photograph")} | {"label": np.asarray(images["label"])}
    total, seconds, parts = len(facts["image_id"]), 0.0, []
    starts = range(0, total, batch_size)
    for rows in progress((range(start, min(start + batch_size, total)) for start in starts), total, "images"):
        pictures = torch.as_tensor(images["images"][rows.start : rows.stop]).to(device)
        ids = facts["image_id"][rows.start : rows.stop]
        probabilities = predict(pictures)
        targets = models.choose_targets(probabilities, facts["label"][rows.start : rows.stop], target, ids)
        start = now(device)
        explanation = explainer(pictures, targets, ids)
        seconds += now(device) - start
        probability, predicted = probabilities.max(1)
        explanation |= {
            "target": targets,
            "target_probability": probabilities.gather(1, targets[:, None])[:, 0],
            "predicted": predicted,
            "predicted_probability": probability,
        }
        parts.append({name: array.cpu().numpy() for name, array in explanation.items()})
    return {name: stack([part[name] for part in parts]) for name in parts[0]} | facts, seconds


def lime_explainer(
    predict: Callable[[Tensor], Tensor],
    *,
    seed: int,
    batch_size: int,
    n_samples: int,
    superpixels: Mapping[str, object],
    hide: str,
    num_features: int,
    engine: str = "unitlens",
    repeats: int = 1,
    given: Mapping[str, np.ndarray] | None = None,
    **surrogate: object,
) -> Explainer:
    """Make the explainer that segments pictures and runs LIME on them.

    Parameters
    ----------
    predict : callable
        uint8 pictures -> probabilities.
    seed : int
        With the image id it fixes every random choice for an image.
    batch_size, n_samples
        As in `lime.explain`.
    superpixels : mapping
        ``method``, "given" or a key of `SUPERPIXELS`, and that function's options.
    hide : {"mean", "grey", "black", "white", "blur", "noise"}
    num_features : int
        Superpixels in LIME's own binary mask.
    engine : {"unitlens", "lime"}
        `lime.explain`, or the original package through `lime.explain_with_package`.
    repeats : int
        How often LIME is run, each time with another seed. The first run is the explanation, the same whatever their
        number; the others tell its stability.
    given : mapping, optional
        From `given_superpixels`, for the method "given".
    **surrogate
        ``distance, kernel_width, alpha, selection, n_features, stop_when_stable`` as in `lime.explain`.

    Returns
    -------
    callable
        Gives ``saliency, selected`` (the binary mask)``, segments, coefficients, stderr, intercept, r2, n_used`` and,
        with `repeats` above 1, ``stability`` (n,): see `stability`, at a fifth of the picture.

    Raises
    ------
    ValueError
        If `repeats` is below 1, `engine` unknown, or the `lime` package cannot do what an option asks for. Called,
        as `lime.explain` does.
    """
    _check_engine(engine, hide, repeats, surrogate)
    explain_pictures = {"unitlens": lime.explain, "lime": lime.explain_with_package}[engine]
    fixed = {"n_samples": n_samples, "hide": HIDE[hide], "batch_size": batch_size, **surrogate}

    def run(pictures: Tensor, targets: Tensor, image_ids: Sequence[str]) -> dict[str, Tensor]:
        segments = superpixels_of(pictures, image_ids, superpixels, given)
        names = repeated_ids(image_ids, repeats)
        results = [
            explain_pictures(predict, pictures, segments, targets, seeds=seeds, image_ids=image_ids, **fixed)
            for seeds in ([image_seed(seed, name) for name in own] for own in names)
        ]
        selected = lime.mask(results[0].coefficients, segments, num_features=num_features)
        arrays = {**results[0]._asdict(), "segments": segments.int(), "selected": selected}
        if repeats > 1:
            seeds = [[image_seed(seed, f"{name}/ties") for name in own] for own in names]
            arrays["stability"] = stability([result.saliency for result in results], _STABILITY_AREA, seeds=seeds)
        return arrays

    return run


def superpixels_of(
    pictures: Tensor,
    image_ids: Sequence[str],
    superpixels: Mapping[str, object],
    given: Mapping[str, np.ndarray] | None = None,
) -> Tensor:
    """Segment pictures, or take the label maps that the user gave for them.

    Parameters
    ----------
    pictures : (n, h, w, 3) uint8 Tensor
    image_ids : sequence of str
    superpixels, given
        As in `lime_explainer`.

    Returns
    -------
    Tensor
        (n, h, w) int64, dense from 0 in each picture.

    Raises
    ------
    ValueError
        If the method is "given" and there is no map for a picture.
    """
    options = {key: value for key, value in superpixels.items() if key != "method"}
    if superpixels["method"] != "given":
        return SUPERPIXELS[superpixels["method"]](pictures, **options)
    if absent := [image_id for image_id in image_ids if image_id not in (given or {})]:
        raise ValueError(
            f"image {absent[0]!r} has no label map for the superpixel method 'given'; "
            "name one in the column `superpixels` of its sheet"
        )
    maps = np.stack([given[image_id] for image_id in image_ids]).astype(np.int64)
    return segment.relabel(torch.as_tensor(maps), shape=tuple(pictures.shape[:3])).to(pictures.device)


def given_superpixels(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Collect the label maps of a decoded shard by image id: those of rows that mark anything."""
    if "superpixels" not in images:
        return {}
    pairs = zip(_texts(images["image_id"]), images["superpixels"], strict=True)
    return {image_id: labels for image_id, labels in pairs if labels.any()}


def stability(saliencies: Sequence[Tensor], area: float, *, seeds: Sequence[Sequence[int]]) -> Tensor:
    """Tell how much repeated explanations of the same pictures agree.

    Parameters
    ----------
    saliencies : sequence of (n, h, w) Tensors
        One a repeat, two or more.
    area : float
        Share of the picture that the maps are cut to.
    seeds : sequence of sequences of int
        For each repeat one for each picture, all different: the order in which ties are broken.

    Returns
    -------
    Tensor, float64, shape (n,)
        Mean equal-area IoU of every two repeats; `agreement.chance_iou` is what unrelated maps score.
    """
    cut = [agreement.equal_area_mask(maps, area, seed=own) for maps, own in zip(saliencies, seeds, strict=True)]
    return torch.stack([agreement.iou(a, b) for a, b in combinations(cut, 2)]).mean(0)


def timing_table(facts: Mapping[str, object], images: int, seconds: float, device: torch.device) -> pd.DataFrame:
    """One row: ``model, explainer, images, seconds, device, threads``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    columns = ["model", "explainer", "images", "seconds", "device", "threads"]
    return pd.DataFrame(
        [[facts["model"], facts["explainer"], images, seconds, name, torch.get_num_threads()]], columns=columns
    )


def explanation_table(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> pd.DataFrame:
    """Tabulate what is to know about each explanation of a file.

    Parameters
    ----------
    arrays, facts : mapping
        A file of explanations as `store.read` gives it.

    Returns
    -------
    pandas.DataFrame
        ``model, explainer, image_id, target, warning, passes, superpixels, samples, r2, stability``. ``warning`` says
        that a map is zero everywhere, ``passes`` what is run for each channel (see `cam.passes`); what an explainer
        does not have is empty.
    """
    images = len(arrays["image_id"])
    nothing = np.full(images, np.nan)
    zero = arrays["saliency"].max((1, 2)) == 0
    superpixels = arrays["segments"].max((1, 2)) + 1 if "segments" in arrays else np.full(images, pd.NA)
    return pd.DataFrame(
        {
            "model": facts["model"],
            "explainer": facts["explainer"],
            "image_id": arrays["image_id"],
            "target": arrays["target"],
            "warning": np.where(zero, "the map is zero everywhere", ""),
            "passes": facts.get("passes", ""),
            "superpixels": superpixels,
            "samples": arrays.get("n_used", np.full(images, pd.NA)),
            "r2": arrays.get("r2", nothing),
            "stability": arrays.get("stability", nothing),
        }
    )


def masks(
    explanations: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    *,
    area: float,
    threshold: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Cut the saliency maps of several explainers of the same pictures to binary masks.

    Parameters
    ----------
    explanations : sequence
        Arrays and attributes of each explainer's file.
    area : float
        Share of the picture in the equal-area masks. Ties are broken at random, with an order of its own for each image
        and explainer.
    threshold : float
        The threshold masks are on above this share of a map's own maximum.
    seed : int

    Returns
    -------
    dict
        ``image_id``, ``photograph``, and (n, h, w) bool ``<explainer>:equal_area``, ``<explainer>:threshold`` and,
        where the explainer selects superpixels itself, ``<explainer>:selected``.

    Raises
    ------
    ValueError
        If the files are not of the same images.
    """
    agreement.check_same_images(explanations)
    result = {name: explanations[0][0][name] for name in ("image_id", "photograph")}
    for arrays, facts in explanations:
        name, saliency = facts["explainer"], torch.as_tensor(arrays["saliency"])
        seeds = stream_seeds(seed, name, arrays["image_id"])
        result[f"{name}:equal_area"] = agreement.equal_area_mask(saliency, area, seed=seeds).numpy()
        result[f"{name}:threshold"] = agreement.peak_share_mask(saliency, threshold).numpy()
        if "selected" in arrays:
            result[f"{name}:selected"] = arrays["selected"]
    return result


def scale(saliency: np.ndarray) -> np.ndarray:
    """Divide every map (n, h, w) by its own maximum; a map of zeros stays as it is."""
    peak = saliency.max((1, 2), keepdims=True)
    return saliency / np.where(peak > 0, peak, 1)


def by_explainer(
    files: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
) -> dict[str, tuple[dict[str, np.ndarray], Mapping[str, object]]]:
    """Gather the shards of each explainer: its arrays, one below the other, and its attributes."""
    shards: dict[str, list] = {}
    for arrays, facts in files:
        shards.setdefault(facts["explainer"], []).append((arrays, facts))
    return {
        name: ({key: stack([arrays[key] for arrays, _ in parts]) for key in parts[0][0]}, parts[0][1])
        for name, parts in shards.items()
    }


def now(device: torch.device | str) -> float:
    """Read the clock, in seconds, once the device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _check_engine(engine: str, hide: str, repeats: int, surrogate: Mapping[str, object]) -> None:
    if engine not in ("unitlens", "lime"):
        raise ValueError(f"`engine` is {engine!r}; allowed: 'unitlens' or 'lime'")
    if repeats < 1:
        raise ValueError(f"`repeats` is {repeats}; allowed: 1 or more")
    if engine == "lime" and hide in ("blur", "noise"):
        raise ValueError(f"`hide` is {hide!r}; allowed with `engine` 'lime': mean, grey, black, white")
    if engine == "lime" and "stop_when_stable" in surrogate:
        raise ValueError(
            f"`stop_when_stable` is {surrogate['stop_when_stable']}; `engine` 'lime' draws every sample: leave it out"
        )


def _texts(column: object) -> np.ndarray:
    return np.asarray(column.asstr()[:] if hasattr(column, "asstr") else column, dtype=object)


def stack(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate (n, ...) along the first axis; shorter rows, as of coefficients, are filled up with NaN."""
    if parts[0].ndim == 2:
        width = max(part.shape[1] for part in parts)
        parts = [np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=np.nan) for part in parts]
    return np.concatenate(parts)
