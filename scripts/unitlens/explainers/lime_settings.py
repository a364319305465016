"""LIME's options: complete, named, and from and to the keywords of `explain_instance` of the `lime` package.

A setting is a mapping with the keys of `explain.lime` in the config.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping

from torch import Tensor

from unitlens.explainers import segment
from unitlens.explainers.surrogate import DEFAULTS, Fit, fit
from unitlens.images import fill

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


def complete(options: Mapping[str, object]) -> Setting:
    """Give a setting every key of `KEYS` in a fixed order, and its superpixels every option of their method.

    ``engine, stop_when_stable, repeats`` are left out: a sweep draws every sample once. Equal settings are equal dicts,
    and have one `setting_id`.
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

    `design` (samples, superpixels) and `predictions` (samples, targets) have at least as many samples as the setting.
    """
    options = {key: setting[key] for key in DEFAULTS._fields}
    return fit(design[: setting["n_samples"]], predictions[: setting["n_samples"]], **options)
