"""Settings of LIME: complete, named, from and to the keywords of the `lime` package, and many scored at once.

A setting is a mapping with the keys of `explain.lime` in the config.

Settings that share superpixels and hiding share their perturbed images: the model sees those of the most samples, and
every other setting is a fit to the first of them, exactly what `lime.explain` would have given; but "auto" draws alone.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby, product

import numpy as np
import torch
from torch import Tensor

from unitlens.explainers import items, lime, lime_samples, masks, run, segment
from unitlens.explainers.items import image_seed, stream_seeds
from unitlens.explainers.surrogate import DEFAULTS, DependentError, Fit, Surrogate, fit
from unitlens.images import fill
from unitlens.jobs import progress
from unitlens.measures import faithfulness
from unitlens.measures.agreement import self_iou

_SCORES = ("setting", "image_id", "superpixels", "score", "mask_area", "ceiling", "samples")
_SECONDS = ("part", "segmentation", "images", "seconds")
OBJECTIVES = ("equal_area_iou", "mask_iou", "insertion")
# (saliency, LIME's own masks, rows) -> a score and what ties let it reach at most, each a number a row
Score = Callable[[Tensor, Tensor, Sequence[int]], tuple[Tensor, Tensor]]
# The keys of a setting. `kernel` of a grid is a distance with its width, for neither means much without the other.
KEYS = ("superpixels", "hide", "n_samples", *DEFAULTS._fields, "num_features")
DEFAULT = "default"

_ALL_FEATURES = 100_000
# Defaults of lime 0.2.0.1, `explain_instance` and `SegmentationAlgorithm`.
_KEYWORDS = {
    "labels": (1,),
    "hide_color": None,
    "top_labels": 5,
    "num_features": _ALL_FEATURES,
    "num_samples": 1000,
    "batch_size": 10,
    "segmentation_fn": {"algo_type": "quickshift", "kernel_size": 4, "max_dist": 200, "ratio": 0.2},
    "distance_metric": "cosine",
    "model_regressor": {"Ridge": {"alpha": 1.0}},
    "random_seed": None,
}
_IGNORED = {
    "labels": "the class is chosen by explain.target (and the package itself ignores labels where top_labels is set)",
    "top_labels": "one class is explained, chosen by explain.target",
    "batch_size": "it does not change the result",
    "random_seed": "the run's seed fixes superpixels, perturbations and noise",
    "progress_bar": "it shows progress only, and the released lime 0.2.0.1 does not know it",
}
_METHODS_OF_LIME = ("quickshift", "slic", "felzenszwalb")
Setting = dict[str, object]


# ---- settings


def complete(options: Mapping[str, object]) -> Setting:
    """Give a setting every key of `KEYS` in a fixed order, and its superpixels every option of their method.

    ``engine, design, repeats`` are left out: a sweep draws every sample once, by one design. Equal settings are equal
    dicts, and have one `setting_id`.
    """
    superpixels = dict(options["superpixels"])
    method = superpixels["method"]
    full = {"method": method, **{key: superpixels.get(key, value) for key, value in _options(method).items()}}
    merged = {**DEFAULTS._asdict(), "hide": "mean", "num_features": 5, **options, "superpixels": full}
    return {key: _plain(merged[key]) for key in KEYS}


def setting_id(setting: Mapping[str, object]) -> str:
    """Name a setting by "s" and eight hexadecimal digits that depend on nothing else."""
    return "s" + hashlib.blake2b(json.dumps(setting, sort_keys=True).encode(), digest_size=4).hexdigest()


def from_explain_instance(keywords: Mapping[str, object]) -> tuple[Setting, list[str]]:
    """Translate keywords of `lime.lime_image.LimeImageExplainer.explain_instance`; tell which have no effect, and why.

    ``hide_color, num_features, num_samples, distance_metric`` are as there; ``segmentation_fn`` is a name or a mapping
    of `SegmentationAlgorithm`'s keywords with ``algo_type``; so is ``model_regressor``, as ``{Ridge: {alpha: 1}}``.
    What is left out has the package's default. ``num_features`` of the keywords, the superpixels in the surrogate, is
    our ``n_features``. ValueError names all keywords that are unknown or have no counterpart.
    """
    allowed = [*_KEYWORDS, "progress_bar"]
    problems = [f"unknown keyword {key!r}; allowed: {', '.join(allowed)}" for key in keywords if key not in allowed]
    given = {**_KEYWORDS, **{key: value for key, value in keywords.items() if key in allowed}}
    hide = [name for name, value in fill.COLORS.items() if value == given["hide_color"]]
    if not hide:
        problems.append(f"`hide_color` is {given['hide_color']!r}; allowed: {list(fill.COLORS.values())}")
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
    """Write a complete setting as keywords of the `lime` package.

    ``explain_instance`` is what `from_explain_instance` reads back; ``LimeImageExplainer`` and ``get_image_and_mask``
    are what belongs to those calls; ``notes`` say what the package cannot do, and what is left out.
    """
    superpixels, notes = dict(setting["superpixels"]), []
    method, hide = superpixels.pop("method"), fill.HIDE[setting["hide"]]
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
    if setting["n_samples"] == lime_samples.AUTO:
        del keywords["num_samples"]
        notes.append("num_samples is left out: the package draws as many samples as it is told")
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


def _options(method: str) -> dict[str, object]:
    """Return the options of a superpixel method with their defaults."""
    if method == "given":
        return {}
    parameters = inspect.signature(segment.SUPERPIXELS[method]).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY and each.name != "seed"}


def _plain(value: object) -> object:
    """Write whole numbers as integers, so that 4 and 4.0 are one value."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def surrogate(setting: Mapping[str, object], design: Tensor, predictions: Tensor) -> Fit:
    """Fit a complete setting's surrogate to the first samples of a longer design, as `lime.explain` does to its own.

    `design` (samples, superpixels) and `predictions` (samples, targets) have at least as many samples as the setting,
    or by "auto" as many as were drawn.
    """
    options = {key: setting[key] for key in DEFAULTS._fields}
    used = slice(None) if setting["n_samples"] == lime_samples.AUTO else slice(setting["n_samples"])
    return fit(design[used], predictions[used], **options)


# ---- scores


def drawn(
    default: Mapping[str, object], grid: Mapping[str, Sequence[object]], *, count: int | None = None, seed: int = 0
) -> dict[str, Setting]:
    """Combine the values of a grid, and draw `count` of the combinations, all by default, at random, by `setting_id`.

    `default` is `explain.lime` of the config: what a combination has where the grid lacks a key. Of the keys of a
    setting the grid lists values, but ``kernel``, mappings with ``distance`` and ``kernel_width``, for these two. The
    draw does not depend on the order of the lists.
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
    """List the settings of a sweep by `setting_id`, each once: the default, the presets, and what is `drawn`.

    Presets are, by name, keywords as `from_explain_instance` takes them; ValueError where it cannot.
    """
    named = {setting_id(each): each for each in named_settings(default, presets or {}).values()}
    return named | drawn(default, grid, count=count, seed=seed)


def named_settings(default: Mapping[str, object], presets: Mapping[str, Mapping[str, object]]) -> dict[str, Setting]:
    """Give the default and the presets by name; the mask's `num_features`, not a keyword, is that of the default."""
    features = {"num_features": complete(default)["num_features"]}
    translated = {name: from_explain_instance(keywords)[0] for name, keywords in presets.items()}
    return {DEFAULT: complete(default), **{name: complete(each | features) for name, each in translated.items()}}


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
    """Make the function that scores explanations, higher is better: (saliency, LIME's masks, rows) -> scores, ceilings.

    The `objective` is "equal_area_iou", IoU of LIME's saliency and the reference, both cut to `area`; "mask_iou", of
    LIME's own binary mask and the reference cut to `area`, which depends on the mask's size, and an empty mask scores
    0; or "insertion", the area under the curve of `faithfulness.insertion`, for which no other explainer is needed.
    Another is a ValueError. The `reference`, maps (n, h, w) of another `explainer` of the same `images` (n, h, w, 3)
    and `targets` (n,), gives NaN where it is zero everywhere. Of the first objective the ceiling is the lower
    `agreement.self_iou` of the two maps, NaN of the others. The seed fixes how ties are broken, as in
    `run.cut_masks`.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"`objective` is {objective!r}; allowed: {', '.join(OBJECTIVES)}")
    known = masks.has_map(reference)
    theirs = masks.equal_area_mask(reference, area, seed=stream_seeds(seed, explainer, image_ids))
    ties, limit = stream_seeds(seed, lime.NAME, image_ids), self_iou(reference, area)

    def score(saliency: Tensor, selected: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        own, ceiling = [ties[row] for row in rows], torch.full((len(rows),), torch.nan)
        if objective == "insertion":
            options = {"steps": steps, "baseline": baseline, "seeds": own, "batch_size": batch_size}
            return faithfulness.insertion(predict, images[rows], saliency, targets[rows], **options)[1], ceiling
        if objective == "equal_area_iou":
            selected = masks.cut_explanations(saliency, area, seeds=own)
            ceiling = torch.minimum(self_iou(saliency, area), limit[rows]).where(known[rows], torch.nan)
        return masks.iou(selected, theirs[rows]).where(known[rows], torch.nan), ceiling

    return score


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
    design: str = "bernoulli",
    given: Mapping[str, np.ndarray] | None = None,
    known: tuple[Setting, Sequence[Tensor]] | None = None,
) -> tuple[dict[str, list], dict[str, list]]:
    """Explain images (n, h, w, 3) uint8 and their target classes (n,) with every setting and score each explanation.

    `swept` is of `all_settings`, `score` of `make_score`; `given` as in `superpixels_of`, `design` as in
    `lime.explain`, of all settings. What is `known` are a complete setting and the predictions that explanations by it
    have kept (`lime_samples.kept`): all of its superpixels and hiding use them. With the image id the seed fixes an
    image's perturbations, as in `run.lime_explainer`. Gives two tables by column: the scores, a row for each setting
    and image, with the superpixels of the image and the share of it in LIME's own mask, 0 where no superpixel is
    positive, and the ceiling (these three are NaN where `lime.explain` refuses an image), and the samples of the image
    (NaN where "auto" draws none); and the seconds to segment
    the images, a row for each kind of superpixels, and to predict perturbed images (part ``sample``), those of all
    settings together but for the known.
    """
    if not len(images):  # all of the shard were skipped
        return _by_column(_SCORES, []), _by_column(_SECONDS, [])
    seeds = [image_seed(seed, image_id) for image_id in image_ids]
    found, seconds, predicted, predicting = {}, [], 0, 0.0
    for superpixels, of_superpixels in progress.each(_grouped(swept, "superpixels"), "kinds of superpixels"):
        start = run.now(images.device)
        segments, absent = segment.superpixels_of(images, image_ids, superpixels, given)
        took = run.now(images.device) - start
        seconds.append(("superpixels", superpixel_text(superpixels), len(images), took))
        counts = segment.superpixel_counts(segments, absent)
        for hide, of_design in progress.each(_grouped(of_superpixels, "hide"), "kinds of hiding"):
            longest = max(of_design.values(), key=lambda setting: setting["n_samples"])  # or one of "auto", alone
            most = lime_samples.LOOKS[-1] if longest["n_samples"] == lime_samples.AUTO else longest["n_samples"]
            rows = [row for row, count in enumerate(counts.tolist()) if 2 <= count <= most and targets[row] >= 0]
            start = run.now(images.device)
            options = {"hide": fill.HIDE[hide], "batch_size": batch_size, "design": design}
            options |= {key: longest[key] for key in ("n_samples", "num_features")}
            options["options"] = Surrogate(**{key: longest[key] for key in DEFAULTS._fields})
            own = {"seeds": seeds, "image_ids": image_ids}
            if known and (superpixels, hide) == (known[0]["superpixels"], known[0]["hide"]):
                own["known"] = known[1]
            samples = _sample(partial(lime_samples.sample, predict, **options), rows, images, segments, targets, **own)
            predicting += run.now(images.device) - start
            drawn = [len(samples[row][0]) if row in samples else most for row in rows]
            held = [len(own["known"][row]) if "known" in own else 0 for row in rows]
            predicted += sum(max(each - there, 0) for each, there in zip(drawn, held, strict=True))
            for name, setting in of_design.items():
                values = _score_setting(setting, samples, segments, counts, score)
                found[name] = list(zip(image_ids, counts.tolist(), *values.tolist(), strict=True))
    seconds.append(("sample", "", predicted, predicting))
    scores = [(name, *row) for name in swept for row in found[name]]
    return _by_column(_SCORES, scores), _by_column(_SECONDS, seconds)


def _by_column(names: Sequence[str], rows: Sequence[tuple]) -> dict[str, list]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _grouped(swept: Mapping[str, Setting], key: str) -> list[tuple[object, dict[str, Setting]]]:
    """Group settings by their value of a key; one that draws "auto" samples shares them with no other."""
    text = {name: json.dumps(setting[key]) for name, setting in swept.items()}
    text |= {name: f"{text[name]} {name}" for name in swept if (key, swept[name]["n_samples"]) == ("hide", "auto")}
    names = sorted(swept, key=lambda name: (text[name], name))
    groups = [{name: swept[name] for name in same} for _, same in groupby(names, key=lambda name: text[name])]
    return [(next(iter(group.values()))[key], group) for group in groups]


def _sample(draw: Callable, rows: Sequence[int], *images: Tensor, **own: Sequence) -> dict[int, tuple[Tensor, Tensor]]:
    """Return design and predictions of the images in `rows`, but for those whose predictions are not finite."""
    if not rows:
        return {}

    def sample(places: list[int]) -> lime_samples.Samples:
        return lime_samples.on_rows(draw, [rows[place] for place in places], *images, **own)

    samples, failing = items.without_failing(sample, len(rows))
    if samples is None:
        return {}
    drawn = zip(rows, *samples, strict=True)
    return {row: (design[:n], own[:n]) for place, (row, design, own, n) in enumerate(drawn) if place not in failing}


def _score_setting(
    setting: Setting, samples: Mapping[int, tuple[Tensor, Tensor]], segments: Tensor, counts: Tensor, score: Score
) -> np.ndarray:
    """Return score, mask area, ceiling and samples (4, n) of the images, NaN where LIME refuses one, but a number."""
    n_samples, values, fits = setting["n_samples"], np.full((4, len(segments)), np.nan), {}
    auto = n_samples == lime_samples.AUTO
    for row, own in samples.items():
        values[3, row] = len(own[0])
        with suppress(DependentError):  # without a penalty, of so few samples
            if auto or counts[row] <= n_samples:
                fits[row] = surrogate(setting, *own).coefficients
    if fits:
        rows, coefficients = list(fits), lime.padded(list(fits.values()))[:, 0]  # (n, d): there is one target
        own = segments[rows]
        saliency = lime.painted(coefficients.clamp(min=0), own)
        selected = lime.mask(coefficients, own, num_features=setting["num_features"])
        scores, ceilings = score(saliency.float(), selected, rows)
        values[:3, rows] = torch.stack(
            [each.cpu() for each in (scores, selected.cpu().double().mean((1, 2)), ceilings)]
        )
    values[3] = values[3] if auto else n_samples
    return values
