"""The models of a config: which are explained and by what, and what is wrong with one."""

from collections.abc import Iterable


def explainers(config: dict, model: str) -> list[str]:
    """List the explainers of a model; none where it has no layer for class activation maps."""
    if "cam_layer" not in config["models"][model]:
        return []
    return [f"{method}-{config['models'][model]['cam_layer']}" for method in config["explain"]["cams"]] + ["lime"]


def explained_models(config: dict) -> list[str]:
    """List the models whose predictions are explained."""
    return [model for model in config["models"] if explainers(config, model)]


def check_names(config: dict) -> list[str]:
    """Refuse two names of one thing, which would share files or compare a thing with itself."""
    models, problems = config["models"], []
    for name, twin in _case_twins(models):
        problems.append(
            f"models: {twin} and {name} differ in case only, and some file systems take both for one folder"
        )
    for name, model in models.items():
        for layer, twin in _case_twins(model["layers"]):
            problems.append(
                f"models.{name}.layers: {twin} and {layer} differ in case only, and some file systems take both for one"
            )
    return problems


def _case_twins(names: Iterable[str]) -> list[tuple[str, str]]:
    """Give each name beside an earlier one that differs from it in case only."""
    seen = {}
    return [(name, twin) for name in names if (twin := seen.setdefault(name.lower(), name)) != name]


def check_geometries(config: dict) -> list[str]:
    """Refuse a center crop that is larger than what it is cut from."""
    networks = {f"models.{name}": model for name, model in config["models"].items()} | {"encoder": config["encoder"]}
    return [
        f"{key}.preprocessing: crop {each['crop']} must not be larger than resize {each['resize']}"
        for key, each in ((key, settings["preprocessing"]) for key, settings in networks.items())
        if each["crop"] > each["resize"]
    ]


def check_weights(config: dict) -> list[str]:
    """Refuse weights that are no classifier's."""
    return [
        f"models.{name}.weights: open_clip publishes image-text encoders, no classifiers"
        for name, model in config["models"].items()
        if "open_clip" in model["weights"]
    ]


def check_layers(config: dict) -> list[str]:
    """Refuse the name of a layer that tables use for all of them."""
    return [
        f"models.{name}.layers: tables call all layers of a model together 'all', so no layer can have that name"
        for name, model in config["models"].items()
        if "all" in model["layers"]
    ]


def check_work(config: dict) -> list[str]:
    """Ask for something to show: units that are labeled, and predictions that are explained."""
    return [
        f"models: at least one of {', '.join(config['models'])} needs {key}"
        for key in ("layers", "cam_layer")
        if not any(model.get(key) for model in config["models"].values())
    ]
