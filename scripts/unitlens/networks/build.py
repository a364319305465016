"""Build an architecture by its name, from torchvision, timm or any importable function, or from a file."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torchvision
from torch import nn

from unitlens.jobs.characters import nearest


def build(architecture: str, *, classes: int | None = None) -> nn.Module:
    """Make an untrained network.

    Parameters
    ----------
    architecture : str
        ``torchvision:<name>``, ``timm:<name>``, ``<path of a file>.py:<function>`` or ``<installed
        module>:<function>``, where the function takes no argument and returns a network. Modules beside the file can be
        imported by it; the working folder is never searched.
    classes : int, optional
        Number of outputs of a torchvision or timm network, where it is not the library's own.

    Raises
    ------
    ValueError
        If the library has no such name, or the module has no such function.
    FileNotFoundError, ModuleNotFoundError
        If there is no such file or module.
    """
    library, _, name = architecture.rpartition(":")
    outputs = {} if classes is None else {"num_classes": classes}
    if library == "torchvision":
        if name not in torchvision.models.list_models():
            raise ValueError(
                f"torchvision has no model {name!r}; nearest: {nearest(name, torchvision.models.list_models())}"
            )
        return torchvision.models.get_model(name, weights=None, **outputs)
    if library == "timm":
        import timm  # a second and a half that only timm's models pay

        if not timm.is_model(name):
            raise ValueError(f"timm has no model {name!r}; nearest: {nearest(name, timm.list_models())}")
        return timm.create_model(name, pretrained=False, **outputs)
    module = _module_of_file(Path(library)) if library.endswith(".py") else _installed_module(library)
    if not callable(getattr(module, name, None)):
        functions = [key for key, value in vars(module).items() if callable(value)]
        raise ValueError(f"module {library!r} has no function {name!r}; nearest: {nearest(name, functions)}")
    return getattr(module, name)()


def _module_of_file(path: Path) -> ModuleType:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"`architecture`: there is no file {path}")
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last: a file beside it hides no package
    name = f"unitlens_user_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def _installed_module(name: str) -> ModuleType:
    """Import a module, but not one that happens to lie in the working folder, which Snakemake puts on the path."""
    path, here = list(sys.path), Path.cwd()
    sys.path[:] = [folder for folder in path if folder and Path(folder).resolve() != here]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"`architecture`: there is no installed module {name!r}; a file of your own is given by its path, "
            f"for example models/{name}.py:<function>"
        ) from error
    finally:
        sys.path[:] = path
