"""Explain the predictions for a set of images with any explainer, in batches, and cut the saliency maps to masks."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from unitlens.explainers import cam, contributions, items, lime, lime_samples
from unitlens.explainers.items import Explanation, image_seed, repeated_ids, stream_seeds
from unitlens.explainers.lime_samples import is_paired, on_rows
from unitlens.explainers.masks import cut_explanations, has_map, mask_stability, peak_share_mask
from unitlens.explainers.segment import superpixel_counts, superpixels_of
from unitlens.explainers.surrogate import Surrogate
from unitlens.images.fill import HIDE
from unitlens.jobs.progress import progress
from unitlens.jobs.sheets import label_column
from unitlens.storage.arrays import as_texts
from unitlens.storage.shards import join

_STABILITY_AREA = 0.2  # share of the image at which repeats of LIME are compared
# (uint8 images, target classes, image ids) -> arrays with a row an image, `saliency` among them and, where some
# images have no explanation, `warning`, texts that say why: one that fails costs no other.
Explainer = Callable[[Tensor, Tensor, Sequence[str]], dict[str, Tensor]]


def explain_images(
    images: Mapping[str, np.ndarray],
    explainer: Explainer,
    predict: Callable[[Tensor], Tensor],
    *,
    target: str | int,
    batch_size: int,
    device: torch.device | str = "cpu",
    model: str = "",
) -> tuple[dict[str, np.ndarray], float]:
    """Explain images, a batch at a time; give arrays with a row an image, and the seconds spent in the explainer.

    `images` holds ``images`` (n, h, w, 3) uint8, ``image_id``, ``source_image``, ``label`` and perhaps labels that are
    the `model`'s own, arrays or open datasets; `predict` makes probabilities of uint8 images; for `target` see
    `choose_targets`. The arrays are those of the explainer and ``target, target_probability, predicted,
    predicted_probability, label, image_id, source_image, warning``. ``warning`` says why an image has no explanation,
    or that its map is zero everywhere; it is empty where there is a map. Without an explanation the saliency is 0
    everywhere, and so are other whole numbers and masks; other numbers are NaN. A class that is not known is -1.
    """
    facts = {name: as_texts(images[name]) for name in ("image_id", "source_image")} | {
        "label": np.asarray(images[label_column(model, images)])
    }
    total, seconds, parts, warnings = len(facts["image_id"]), 0.0, [], []
    starts = range(0, total, batch_size)
    for rows in progress((range(start, min(start + batch_size, total)) for start in starts), total, "images"):
        pixels = torch.as_tensor(images["images"][rows.start : rows.stop]).to(device)
        ids = facts["image_id"][rows.start : rows.stop]
        probabilities = predict(pixels)
        targets = choose_targets(probabilities, facts["label"][rows.start : rows.stop], target, ids)
        predicted = predicted_class(probabilities)
        start = now(device)
        explanation, warning = _explain_batch(explainer, pixels, targets, ids, predicted)
        seconds += now(device) - start
        if "saliency" in explanation:
            zero = ~has_map(explanation["saliency"]).cpu().numpy()
            warning = np.where(zero & (warning == ""), items.ZERO_MAP, warning)
        warnings.append(warning)
        explanation |= {
            "target": targets,
            "target_probability": _chosen(probabilities, targets),
            "predicted": predicted,
            "predicted_probability": _chosen(probabilities, predicted),
        }
        parts.append(({name: array.cpu().numpy() for name, array in explanation.items()}, {}))
    facts["warning"] = np.concatenate([*warnings, np.empty(0, dtype=object)])
    return (join(parts)[0] if parts else _nothing(images["images"].shape[1:3])) | facts, seconds


def without_target(targets: Tensor, predicted: Tensor) -> dict[int, str]:
    """Say which images, of classes (n,) of which -1 is not known, have no target or no prediction, and why."""
    unknown = items.reasons_where(targets < 0, items.NO_LABEL)
    return unknown | items.reasons_where(predicted < 0, items.NOT_FINITE)


def _explain_batch(
    explainer: Explainer, images: Tensor, targets: Tensor, image_ids: Sequence[str], predicted: Tensor
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Explain a batch but for the images without a prediction or a target; say why an image has no explanation."""
    reasons = without_target(targets, predicted)

    def run(places: list[int]) -> dict[str, Tensor]:
        return explainer(images[places], targets[places].clamp(min=0), [image_ids[place] for place in places])

    arrays, reasons = items.without_failing(run, len(images), reasons)
    if arrays is None:  # no image is good: what the explainer returns has the right names and shapes, and is emptied
        arrays = run(list(range(len(images))))
    warning = arrays.pop("warning", items.reason_texts({}, len(images)))
    texts = items.reason_texts(reasons, len(images))
    return _emptied(arrays, reasons), np.where(texts == "", warning, texts)


def _emptied(arrays: Mapping[str, Tensor], rows: Iterable[int]) -> dict[str, Tensor]:
    """Take what is known away from some rows: NaN, but saliency and whole numbers 0."""
    rows, result = list(rows), dict(arrays)
    for name, array in arrays.items() if rows else ():
        result[name] = array.clone()
        result[name][rows] = torch.nan if array.is_floating_point() and name != "saliency" else 0
    return result


def _chosen(probabilities: Tensor, classes: Tensor) -> Tensor:
    """Give the probability (n,) of each row's class (n,), NaN where that is -1."""
    return probabilities.gather(1, classes.clamp(min=0)[:, None])[:, 0].masked_fill(classes < 0, torch.nan)


def cam_explainer(
    model: nn.Module, layer: str, normalize: Callable[[Tensor], Tensor], *, method: str, batch_size: int
) -> Explainer:
    """Make the explainer that draws one class activation map; `normalize` makes the model's input of uint8 images."""

    def run(images: Tensor, targets: Tensor, image_ids: Sequence[str]) -> dict[str, Tensor]:
        arrays, reasons = cam_maps(model, layer, normalize(images), targets, method=method, chunk=batch_size)
        return arrays | _warning(reasons, len(images))

    return run


def cam_maps(
    model: nn.Module, layer: str, inputs: Tensor, targets: Tensor, *, method: str, chunk: int
) -> tuple[dict[str, Tensor], dict[int, str]]:
    """Do as `cam.explain_and_count`, but give images that fail, and those of target -1, a map of zeros, and say why.

    Gives ``saliency`` (n, h, w) in [0, 1] and ``saved_passes`` (n,), and, by their number, the reasons of the images
    that have no map.
    """

    def draw(places: list[int]) -> tuple[Tensor, Tensor]:
        return cam.explain_and_count(model, layer, inputs[places], targets[places], method=method, chunk=chunk)

    unknown = items.reasons_where(targets < 0, items.NO_LABEL)
    results, reasons = items.without_failing(draw, len(inputs), unknown)
    nothing = torch.zeros(len(inputs), *inputs.shape[2:], device=inputs.device), torch.zeros_like(targets)
    return _emptied(dict(zip(("saliency", "saved_passes"), results or nothing, strict=True)), reasons), reasons


def account_explainer(
    model: nn.Module, layer: str, normalize: Callable[[Tensor], Tensor], *, batch_size: int
) -> Explainer:
    """Make the explainer that accounts for the explained class and its margin over the runner-up, unit by unit.

    It gives the arrays of `contributions.as_arrays`; no unit, and a warning, where the layer or the arithmetic has no
    account.
    """

    def run(images: Tensor, targets: Tensor, image_ids: Sequence[str]) -> dict[str, Tensor]:
        inputs = normalize(images)
        if reason := contributions.refusal(model, layer, inputs):
            return contributions.nothing(len(images)) | _warning(dict.fromkeys(range(len(images)), reason), len(images))
        return contributions.as_arrays(*contributions.explain(model, layer, inputs, targets, chunk=batch_size))

    return run


def lime_explainer(
    predict: Callable[[Tensor], Tensor],
    *,
    seed: int,
    batch_size: int,
    n_samples: int | str,
    superpixels: Mapping[str, object],
    hide: str,
    num_features: int,
    engine: str = "unitlens",
    design: str = "bernoulli",
    repeats: int = 1,
    given: Mapping[str, np.ndarray] | None = None,
    **surrogate: object,
) -> Explainer:
    """Make the explainer that segments images and runs LIME on them.

    `predict`, `batch_size`, `n_samples` and `surrogate` are as in `lime.explain`, `superpixels` and `given` as in
    `superpixels_of`. With the image id the `seed` fixes every random choice for an
    image. `hide` is a key of `HIDE`, `num_features` the most superpixels in LIME's own mask, `engine` "unitlens" or
    "lime", the original package, `design` as in `lime.explain`; ValueError where the package cannot do what is asked
    for. LIME is run `repeats` times, each time with another seed: the first run is the explanation, the same whatever
    their number; the others tell its stability.

    The explainer gives what `lime.LimeResult` holds, ``selected`` (the mask), ``segments, superpixels`` (their number),
    by "unitlens" ``predictions`` (n, most samples of an image) float32, the explained class's probability of every
    sample, NaN from ``n_used`` on, and ``shared_top`` (n,), see `lime_samples.shared_top`, and, with `repeats` above 1,
    ``stability`` (n,): see `mask_stability`, at a fifth of the image.
    """
    _check_engine(engine, hide, design, repeats, n_samples)
    fixed = {"n_samples": n_samples, "hide": HIDE[hide], "batch_size": batch_size}

    def by_package(*inputs: Tensor, **own: Sequence) -> dict[str, Tensor]:
        return lime.explain_with_package(predict, *inputs, **fixed, **surrogate, **own)._asdict()

    def by_samples(images: Tensor, segments: Tensor, targets: Tensor, **own: Sequence) -> dict[str, Tensor]:
        options = Surrogate(**surrogate)
        by = {"num_features": num_features, "options": options}
        samples = lime_samples.sample(predict, images, segments, targets, design=design, **fixed, **by, **own)
        paired = is_paired(design)
        result = lime.of_first_target(lime.of_samples(samples, segments, options, paired=paired))
        used = result.n_used.to(samples.predictions.device)
        predictions = samples.predictions[:, : used.max(), 0]
        predictions = predictions.where(torch.arange(used.max(), device=used.device) < used[:, None], torch.nan).float()
        shared = lime_samples.shared_top(samples, seeds=own["seeds"], paired=paired, **by)[:, 0]
        return result._asdict() | {"predictions": predictions, "shared_top": shared}

    def nothing(segments: Tensor) -> dict[str, Tensor]:
        unknown = torch.zeros(len(segments), 1, device=segments.device)
        own = {} if engine == "lime" else {"predictions": unknown, "shared_top": unknown[:, 0].double()}
        return lime.no_explanation(segments)._asdict() | own

    explain_by = by_package if engine == "lime" else by_samples

    def run(images: Tensor, targets: Tensor, image_ids: Sequence[str]) -> dict[str, Tensor]:
        segments, absent = superpixels_of(images, image_ids, superpixels, given)
        names = repeated_ids(image_ids, repeats)

        def explain_repeatedly(places: list[int]) -> list[dict[str, Tensor]]:
            inputs = (places, images, segments, targets)
            seeds = [[image_seed(seed, name) for name in own] for own in names]
            return [on_rows(explain_by, *inputs, seeds=own, image_ids=names[0]) for own in seeds]

        results, reasons = items.without_failing(explain_repeatedly, len(images), absent)
        results = results or [nothing(segments)] * repeats
        arrays = results[0]
        if repeats > 1:
            seeds = [[image_seed(seed, f"{name}/ties") for name in own] for own in names]
            arrays["stability"] = mask_stability([one["saliency"] for one in results], _STABILITY_AREA, seeds=seeds)
        arrays = _emptied(arrays, reasons)
        explained = _emptied({"segments": segments}, reasons)["segments"]
        arrays["selected"] = lime.mask(arrays["coefficients"], explained, num_features=num_features)
        arrays |= {"segments": segments.int(), "superpixels": superpixel_counts(segments, absent)}
        return arrays | _warning(reasons, len(images))

    return run


# Explainers that ask for predictions of changed images and need no layer, by the name of their section of `explain`:
# each makes an `Explainer` from `predict`, a seed, a batch size, label maps that are given, and the section's options.
PERTURBING: dict[str, Callable[..., Explainer]] = {"lime": lime_explainer}


def cut_masks(
    explanations: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
    *,
    area: float,
    threshold: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Cut the saliency maps of several explainers of the same images to binary masks.

    Gives ``image_id``, ``source_image``, and (n, h, w) bool ``<explainer>:equal_area``, of the share `area` of the
    image, ``<explainer>:threshold``, above the share `threshold` of a map's own maximum, and, where the explainer
    selects superpixels itself, ``<explainer>:selected``; all empty where a map is all zero. Ties are broken at random,
    with an order of its own for each image and explainer.
    """
    check_same_images(explanations)
    result = {name: explanations[0][0][name] for name in ("image_id", "source_image")}
    for arrays, facts in explanations:
        name, saliency = facts["explainer"], torch.as_tensor(arrays["saliency"])
        seeds = stream_seeds(seed, name, arrays["image_id"])
        result[f"{name}:equal_area"] = cut_explanations(saliency, area, seeds=seeds).numpy()
        result[f"{name}:threshold"] = peak_share_mask(saliency, threshold).numpy()
        if "selected" in arrays:
            result[f"{name}:selected"] = arrays["selected"]
    return result


def by_explainer(
    files: Iterable[tuple[Mapping[str, np.ndarray], Mapping[str, object]]],
) -> dict[str, tuple[dict[str, np.ndarray], Mapping[str, object]]]:
    """Gather the shards of each explainer, put one below the other by `shards.join`."""
    shards: dict[str, list] = {}
    for arrays, facts in files:
        shards.setdefault(facts["explainer"], []).append((arrays, facts))
    return {name: join(parts) for name, parts in shards.items()}


def now(device: torch.device | str) -> float:
    """Read the clock, in seconds, once the device has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _check_engine(engine: str, hide: str, design: str, repeats: int, n_samples: int | str) -> None:
    if engine not in ("unitlens", "lime"):
        raise ValueError(f"`engine` is {engine!r}; allowed: 'unitlens' or 'lime'")
    if repeats < 1:
        raise ValueError(f"`repeats` is {repeats}; allowed: 1 or more")
    if engine == "lime" and hide in ("blur", "noise"):
        raise ValueError(f"`hide` is {hide!r}; allowed with `engine` 'lime': mean, gray, black, white")
    if is_paired(design) and engine == "lime":
        raise ValueError(f"`design` is {design!r}; allowed with `engine` 'lime': 'bernoulli'")
    if engine == "lime" and n_samples == lime_samples.AUTO:
        raise ValueError(f"`n_samples` is {n_samples!r}; allowed with `engine` 'lime': a number")


def _warning(reasons: Mapping[int, str], count: int) -> dict[str, np.ndarray]:
    return {"warning": items.reason_texts(reasons, count)} if reasons else {}


def _nothing(size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Explain no image of a size: a shard whose images were all skipped."""
    whole, share = np.zeros(0, np.int64), np.zeros(0)
    arrays = {"saliency": np.zeros((0, *size), np.float32), "target": whole, "target_probability": share}
    return arrays | {"predicted": whole, "predicted_probability": share}


def check_same_images(explanations: Sequence[Explanation]) -> None:
    """Raise a ValueError unless the files of all explainers are of the same images in the same order."""
    (first, first_facts), *others = explanations
    for arrays, facts in others:
        if list(arrays["image_id"]) != list(first["image_id"]):
            raise ValueError(
                f"the explanations by {facts['explainer']} are of other images than those by {first_facts['explainer']}"
            )


def choose_targets(probabilities: Tensor, labels: Sequence[int], target: str | int, image_ids: Sequence[str]) -> Tensor:
    """Choose the class (n,) that is explained for each image, by probabilities (n, classes).

    `target` is "predicted", the class of highest probability, -1 where one is NaN; "label", the sheet's, -1 where there
    is none; or the number of one class for all images. ValueError for a class that the model has no output for.
    """
    if target == "predicted":
        return predicted_class(probabilities)
    n, classes = probabilities.shape
    if target != "label":
        if not 0 <= target < classes:
            raise ValueError(f"explain.target is class {target}; the model's classes are 0 to {classes - 1}")
        return torch.full((n,), target, device=probabilities.device)
    for image_id, label in zip(image_ids, labels, strict=True):
        if label >= classes:
            raise ValueError(f"image {image_id!r} has label {label}; the model's classes are 0 to {classes - 1}")
    return torch.as_tensor(labels, device=probabilities.device).long()


def predicted_class(probabilities: Tensor) -> Tensor:
    """Give the class of highest probability (n,), -1 where one of (n, classes) is NaN or infinite."""
    return probabilities.argmax(1).masked_fill(~probabilities.isfinite().all(1), -1)
