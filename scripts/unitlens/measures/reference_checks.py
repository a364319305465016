"""Our explainers against the packages that define them, on a few source images of every run.

Class activation maps against `grad-cam`, superpixels of quickshift against scikit-image, LIME's coefficients against
`lime`. Both sides get the same network, source images and targets, one source image at a time, in one process.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unitlens.explainers import cam, contributions, items, lime, run, segment, surrogate
from unitlens.explainers.items import image_seed
from unitlens.images import fill
from unitlens.jobs import progress
from unitlens.networks import layer_outputs
from unitlens.networks.hooks import capture, count_calls, find_layer
from unitlens.networks.network import predictor, set_precision

CAM_TOLERANCE = 1e-3  # of maps in [0, 1]: both sides add up hundreds of channels in float32, in different orders
LOGIT_TOLERANCE = 1e-4  # of logits: both sides run the network in float32, one with what the layer gave
LIME_TOLERANCE = 1e-6  # of coefficients, which are probabilities: both sides solve the same equations in float64
QUICKSHIFT_TOLERANCE = 0.0  # of the share of pixels: labels are equal or they are not
GRAD_CAM = {
    "gradcam": "GradCAM",
    "hirescam": "HiResCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "layercam": "LayerCAM",
    "ablationcam": "AblationCAM",
    "scorecam": "ScoreCAM",
}
_ABLATION_NOTE = (
    "grad-cam's loop sets channels to 0 in place of the layer's minimum - 1e7 and does not divide by the logit: the "
    "minimum is not 0, or the logit not above 0"
)
_QUICKSHIFT_OF_LIME = {"kernel_size": 4, "max_dist": 200, "ratio": 0.2}
_LONG_SECONDS = 5.0  # of a call that is not repeated: what a first one costs beyond a second is little beside it


class Check(NamedTuple):
    """A function of ours and its reference, both from the index of a source image to an array."""

    name: str
    reference: str
    ours: Callable[[int], Tensor | np.ndarray]
    theirs: Callable[[int], Tensor | np.ndarray]
    difference: Callable[[np.ndarray, np.ndarray], float]
    tolerance: float
    note: str = ""
    left_out: Mapping[int, str] = {}  # why source images, by their number, cannot be explained


class Results(NamedTuple):
    """What a function gives of source images, by their number."""

    arrays: dict[int, np.ndarray]
    failing: dict[int, str]  # why it cannot explain one
    seconds: dict[int, float]


def compare(
    model: nn.Module,
    normalize: Callable[[Tensor], Tensor],
    pixels: Tensor,
    targets: Tensor,
    image_ids: Sequence[str],
    *,
    name: str,
    layer: str,
    cams: Sequence[str],
    lime_options: Mapping[str, object],
    samples: int,
    batch_size: int,
    seed: int,
    given: Mapping[str, np.ndarray] | None = None,
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Run explainers and their reference packages on the same source images: differences and timings, a row a check.

    `model` returns logits (n, classes), its parameters frozen, in strict float32 (see `network.set_precision`): in
    less, Ablation-CAM's differences of logits drown in rounding. `normalize` makes its input of `pixels` (n, h, w, 3)
    uint8, on its device; `targets` (n,) are the classes that are explained, and `seed` and `image_ids` fix LIME's
    perturbations: `samples` of a source image, or one for each superpixel where those are more. `cams` are keys of
    `cam.METHODS`, `lime_options` and `given` of `run.lime_explainer`. Quickshift is checked where it makes the
    superpixels. `lime` hides behind the mean color or a constant: any other choice is checked with the mean color, and
    the note says so.

    The difference is the largest absolute one of maps (in [0, 1]) or coefficients; of superpixels, the largest share of
    a source image's pixels; NaN does not pass. Rows whose reference is ``float32`` compare our own explanations in bf16
    and, on a GPU, TF32 with those in strict float32. Seconds are for all source images, each after a warm-up call
    unless that took long. A source image that a check cannot explain is left out of it, and the note says why.

    Accounts are checked where the layer runs once: the map of all units, in shares of its largest value, with that of
    HiResCAM before its ReLU, and their sum with the network's logit.

    Ablation-CAM of `grad-cam` departs from the formula where the layer's lowest value is not 0, and turns the map
    upside down where the logit is below 0. There its loop, which runs the whole network for every channel, sets
    channels to 0 and does not divide by the logit; the note says so.
    """
    superpixels = lime_options["superpixels"]
    segments, absent = segment.superpixels_of(pixels, image_ids, superpixels, given)
    predict = predictor(model, normalize)
    without, without_lime = _reasons(predict, pixels, targets, segments, absent)
    targets = targets.clamp(min=0)
    seeds = [image_seed(seed, image_id) % 2**32 for image_id in image_ids]  # what numpy's generator takes

    several = count_calls(model, layer, normalize(pixels)) > 1
    checked = [method for method in cams if method in GRAD_CAM and not several]

    def explainers(model: nn.Module, normalize: Callable[[Tensor], Tensor]) -> list[Check]:
        images, predict = normalize(pixels), predictor(model, normalize)
        checks = [_cam_check(each, model, layer, images, targets, batch_size) for each in checked]
        of_lime = _lime_check(predict, pixels, segments, targets, seeds, lime_options, samples, batch_size)
        return [*(check._replace(left_out=without) for check in checks), of_lime._replace(left_out=without_lime)]

    checks = explainers(model, normalize)
    if superpixels["method"] == "quickshift":
        options = {key: superpixels[key] for key in superpixels.keys() - {"method"}}
        checks.insert(-1, _quickshift_check(pixels, options))
    if not several:
        accounts = _account_checks(model, layer, normalize(pixels), targets)
        checks[len(checked) : len(checked)] = [check._replace(left_out=without) for check in accounts]
    device = torch.cuda.get_device_name(pixels.device) if pixels.device.type == "cuda" else "cpu"
    strict, differences, timings = {}, [], []

    def add(check: str, reference: str, images: int, difference: float, **rest: object) -> dict[str, object]:
        row = {"model": name, "check": check, "reference": reference, "images": images}
        verdict = {"largest_difference": difference, "tolerance": np.nan, "passed": None}
        differences.append(row | verdict | rest)
        return row

    for check in progress.each(checks, "checks"):
        strict[check.name] = ours = _timed(check.ours, [row for row in range(len(pixels)) if row not in check.left_out])
        theirs = _timed(check.theirs, ours.arrays)
        left_out = {**check.left_out, **ours.failing, **theirs.failing}
        note = "; ".join(
            [*filter(None, [check.note]), *(f"without {image_ids[row]}: {left_out[row]}" for row in left_out)]
        )
        difference = _largest(check.difference, ours, theirs)
        passed = difference <= check.tolerance if theirs.arrays else None
        verdict = {"tolerance": check.tolerance, "passed": passed, "note": note}
        row = add(check.name, check.reference, len(theirs.arrays), difference, **verdict)
        seconds = [sum(side.seconds[row] for row in theirs.arrays) for side in (ours, theirs)]
        seconds = {"seconds_ours": seconds[0], "seconds_reference": seconds[1]}
        seconds["speed_ratio"] = seconds["seconds_reference"] / seconds["seconds_ours"] if theirs.arrays else np.nan
        timings.append(row | seconds | {"device": device, "threads": torch.get_num_threads()})
    for precision in ["tf32", "bf16"] if pixels.is_cuda else ["bf16"]:
        network, dtype = set_precision(copy.deepcopy(model), precision)
        for check in explainers(network, lambda pixels, dtype=dtype: normalize(pixels).to(dtype)):
            fast = _run(check.ours, strict[check.name].arrays)
            difference = _largest(_largest_difference, fast, strict[check.name])
            add(check.name, "float32", len(fast.arrays), difference, note=f"{precision}: for information")
    for method in cams:
        if method not in checked:
            reason = "tells the calls of a layer that runs several times not apart" if several else "has no such map"
            add(method, "none", 0, np.nan, note=f"grad-cam {reason}")
    return differences, timings


def _reasons(
    predict: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, segments: Tensor, absent: Mapping[int, str]
) -> tuple[dict[int, str], dict[int, str]]:
    """Say why source images, by their number, cannot be explained at all, and why not by LIME."""
    single = items.reasons_where(segments.flatten(1).amax(1) == 0, items.ONE_SUPERPIXEL)
    reasons = run.without_target(targets, run.predicted_class(predict(images)))
    return reasons, single | dict(absent) | reasons


def _timed(function: Callable[[int], Tensor | np.ndarray], rows: Iterable[int]) -> Results:
    """Run a function on source images, once more where that does not take long."""
    first = _run(function, rows)
    return first if sum(first.seconds.values()) > _LONG_SECONDS else _run(function, rows)


def _run(function: Callable[[int], Tensor | np.ndarray], rows: Iterable[int]) -> Results:
    results = Results({}, {}, {})
    for row in rows:
        start = time.perf_counter()
        try:
            results.arrays[row] = torch.as_tensor(function(row)).cpu().numpy()  # waits for the device
        except items.ItemError as error:
            (results.failing[row],) = error.reasons.values()
        results.seconds[row] = time.perf_counter() - start
    return results


def _largest(difference: Callable[[np.ndarray, np.ndarray], float], ours: Results, theirs: Results) -> float:
    """Give the largest difference over the source images that both can explain; NaN where there are none."""
    both = [row for row in theirs.arrays if row in ours.arrays]
    return float(np.max([difference(ours.arrays[row], theirs.arrays[row]) for row in both])) if both else np.nan


def _largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return np.abs(ours - theirs).max()


def _share_of_differing(ours: np.ndarray, theirs: np.ndarray) -> float:
    return (ours != theirs).mean()


def _package(name: str) -> str:
    return f"{name} {version(name)}"


# ---- class activation maps


def _cam_check(method: str, model: nn.Module, layer: str, images: Tensor, targets: Tensor, batch_size: int) -> Check:
    def ours(i: int) -> Tensor:
        return cam.explain(model, layer, images[i : i + 1], targets[i : i + 1], method=method, chunk=batch_size)

    theirs, note = _grad_cam, ""
    if method == "ablationcam" and _departs_from_formula(model, layer, images, targets):
        theirs, note = _grad_cam_ablating_to_zero, _ABLATION_NOTE
    return Check(
        method,
        _package("grad-cam"),
        ours,
        lambda i: theirs(method, model, layer, images[i : i + 1], int(targets[i])),
        _largest_difference,
        CAM_TOLERANCE,
        note,
    )


def _account_checks(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> list[Check]:
    """Check that accounts add up to the network's logits, and the maps of all units to HiResCAM's before its ReLU."""

    def account(i: int) -> contributions.Account:
        return contributions.explain(model, layer, images[i : i + 1], targets[i : i + 1])[0]

    def total(i: int) -> Tensor:
        own = account(i)
        return own.contributions.sum(1) + own.tokens + own.remainder

    def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
        return _largest_difference(ours, theirs) / (np.abs(theirs).max() or 1)

    def raw(i: int) -> np.ndarray:
        return _grad_cam("hirescam", model, layer, images[i : i + 1], int(targets[i]), raw=True)

    def logit(i: int) -> Tensor:
        return _forward(model, layer, images[i : i + 1], targets[i : i + 1])[1]

    return [
        Check("account, map", _package("grad-cam"), lambda i: account(i).total, raw, difference, CAM_TOLERANCE),
        Check("account, sum", "network", total, logit, _largest_difference, LOGIT_TOLERANCE),
    ]


def _grad_cam(
    method: str,
    model: nn.Module,
    layer: str,
    image: Tensor,
    target: int,
    *,
    score: Callable[[Tensor], Tensor] | None = None,
    raw: bool = False,
    **options: object,
) -> np.ndarray:  # (1, h, w)
    import pytorch_grad_cam

    # Which axis is what, grad-cam leaves to its caller.
    grid = partial(layer_outputs.as_grid, images=image, layer=layer)
    explainer = getattr(pytorch_grad_cam, GRAD_CAM[method])(model, [find_layer(model, layer)], grid, **options)
    image = image.clone().requires_grad_(explainer.uses_gradients)  # the model's parameters are frozen
    try:
        with capture(model, [layer]):  # in-place operations after the layer get a copy, not what grad-cam keeps
            scaled = explainer(image, [score or (lambda logits: logits[target])])
        kept = explainer.activations_and_grads
        arrays = [each[0].cpu().numpy() for each in (kept.activations, kept.gradients)] if raw else []
        return explainer.get_cam_image(None, None, None, *arrays, eigen_smooth=False) if raw else scaled
    finally:
        explainer.activations_and_grads.release()


def _departs_from_formula(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> bool:
    activations, scores = _forward(model, layer, images, targets)
    lowest = activations.flatten(1).amin(1)
    axis = layer_outputs.channel_axis(activations, *images.shape[2:])
    return bool((lowest != 0).any() or (scores <= 0).any() or axis != 1)


def _grad_cam_ablating_to_zero(method: str, model: nn.Module, layer: str, image: Tensor, target: int) -> np.ndarray:
    """Run grad-cam's Ablation-CAM with 0 as the value of an ablated channel, and scores shifted so that Y is 1."""
    from pytorch_grad_cam.ablation_layer import AblationLayerVit

    activations, (score,) = _forward(model, layer, image, torch.tensor([target], device=image.device))
    axis = layer_outputs.channel_axis(activations, *image.shape[2:])

    class ToZero(AblationLayerVit):  # which repeats outputs of any layout
        def __call__(self, _: object) -> Tensor:
            rows = torch.arange(len(self.activations))
            self.activations.movedim(axis, 1)[rows, torch.as_tensor(self.indices[: len(rows)]).long()] = 0
            return self.activations

    options = {"score": lambda logits: logits[target] - score + 1, "ablation_layer": ToZero()}
    return _grad_cam(method, model, layer, image, target, **options)


@torch.no_grad()
def _forward(model: nn.Module, layer: str, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the layer's outputs and the targets' logits (n,)."""
    with capture(model, [layer]) as outputs:
        logits = model(images)
    return outputs[layer], logits.gather(1, targets[:, None])[:, 0]


# ---- LIME


def _quickshift_check(images: Tensor, options: Mapping[str, object]) -> Check:
    from skimage import segmentation

    return Check(
        "quickshift",
        _package("scikit-image"),
        lambda i: segment.SUPERPIXELS["quickshift"](images[i : i + 1], **options)[0],
        lambda i: segmentation.quickshift(images[i].cpu().numpy(), **_QUICKSHIFT_OF_LIME | options),
        _share_of_differing,
        QUICKSHIFT_TOLERANCE,
    )


def _lime_check(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    segments: Tensor,
    targets: Tensor,
    seeds: Sequence[int],
    options: Mapping[str, object],
    samples: int,
    batch_size: int,
) -> Check:
    n_segments = segment.superpixel_counts(segments).tolist()
    n_samples = [max(samples, d) for d in n_segments]
    hide = options["hide"]
    note = "" if hide in fill.COLORS else f"superpixels hidden by their mean color: lime knows no {hide}"
    common = {key: options[key] for key in surrogate.Surrogate._fields if key in options}
    common |= {"hide": fill.COLORS.get(hide), "batch_size": batch_size}

    def coefficients(explain_by: Callable[..., lime.LimeResult], i: int, **design: object) -> Tensor:
        part = slice(i, i + 1)
        inputs = (predict, images[part], segments[part], targets[part])
        result = explain_by(*inputs, n_samples=n_samples[i], seeds=seeds[part], **common, **design)
        return result.coefficients[0]

    def ours(i: int) -> Tensor:
        design = np.random.RandomState(seeds[i]).randint(0, 2, (n_samples[i], n_segments[i]))  # as lime draws it
        design[0] = 1
        return coefficients(lime.explain, i, designs=[torch.as_tensor(design)])

    return Check(
        lime.NAME,
        _package("lime"),
        ours,
        lambda i: coefficients(lime.explain_with_package, i),
        _largest_difference,
        LIME_TOLERANCE,
        note,
    )
