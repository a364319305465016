"""Build an architecture by its name, from torchvision, timm or any importable function, or from a file."""

import hashlib
import importlib.util
import math
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from torch import Tensor, nn

from unitlens.jobs.characters import nearest

_COMPILER = "torch._dynamo.utils"  # what torchvision imports of it
_AS_PUBLISHED = {  # what torchvision's builders set only where they load the published weights themselves
    "googlenet": {"transform_input": True, "init_weights": False},
    "inception_v3": {"transform_input": True, "init_weights": False},
}


def build(architecture: str, *, classes: int | None = None, **options: object) -> nn.Module:
    """Make an untrained network, as the library makes it for the weights that it publishes.

    Parameters
    ----------
    architecture : str
        ``torchvision:<name>``, ``timm:<name>``, ``<path of a file>.py:<function>`` or ``<installed
        module>:<function>``, where the function takes no argument and returns a network. Modules beside the file can be
        imported by it; the working folder is never searched.
    classes : int, optional
        Number of outputs of a torchvision or timm network, where it is not the library's own.
    options
        Further keywords of the library's builder.

    Raises
    ------
    ValueError
        If the library has no such name, or the module no such function; if the network is to be downloaded.
    FileNotFoundError, ModuleNotFoundError
        If there is no such file or module.
    """
    library, _, name = architecture.rpartition(":")
    with _without_network(architecture):
        return _build(library, name, options | ({} if classes is None else {"num_classes": classes}))


def options_of(architecture: str, state: Mapping[str, Tensor]) -> dict[str, object]:
    """Tell from a checkpoint's tensors, by name, how a torchvision network was built that has them.

    Its auxiliary classifiers are not used to predict, and torchvision leaves them out of what it has loaded; images of
    another size give a transformer other positions.
    """
    library, _, name = architecture.partition(":")
    if library == "torchvision" and name in _AS_PUBLISHED:
        return {"aux_logits": any(key.lower().startswith("aux") for key in state)}
    if library == "torchvision" and {"encoder.pos_embedding", "conv_proj.weight"} <= state.keys():
        positions, patch = state["encoder.pos_embedding"].shape, state["conv_proj.weight"].shape
        if len(positions) == 3 and len(patch) == 4:
            return {"image_size": patch[-1] * math.isqrt(max(positions[1] - 1, 1))}
    return {}


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let imports inside the block leave out torch's compiler, unless it is there already.

    torchvision and timm import it to mark functions that it must leave alone, which takes longer than all else of them;
    here nothing is compiled. What torchvision asks of it is asked when it is needed.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    stand_in, disable = ModuleType(_COMPILER), torch.compiler.disable
    stand_in.is_compile_supported = lambda device: importlib.import_module(_COMPILER).is_compile_supported(device)
    sys.modules[_COMPILER], torch.compiler.disable = stand_in, _unmarked
    try:
        yield
    finally:
        torch.compiler.disable = disable
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


def _unmarked(function: Callable | None = None, *_: object, **__: object) -> Callable:
    return function or _unmarked


def _build(library: str, name: str, options: dict[str, object]) -> nn.Module:
    if library == "torchvision":
        with without_compiler():
            import torchvision

        known = torchvision.models.list_models(module=torchvision.models)
        if name not in known:
            what = "no classifier" if name in torchvision.models.list_models() else "no model"
            raise ValueError(f"torchvision has {what} {name!r}; nearest: {nearest(name, known)}")
        return torchvision.models.get_model(name, **_AS_PUBLISHED.get(name, {}), **options)
    if library == "timm":
        with without_compiler():
            import timm  # half a second that only timm's models pay

        if not timm.is_model(name):
            raise ValueError(f"timm has no model {name!r}; nearest: {nearest(name, timm.list_models())}")
        return timm.create_model(name, pretrained=False, **options)
    module = _module_of_file(Path(library)) if library.endswith(".py") else _installed_module(library)
    if not callable(getattr(module, name, None)):
        functions = [key for key, value in vars(module).items() if callable(value)]
        raise ValueError(f"module {library!r} has no function {name!r}; nearest: {nearest(name, functions)}")
    return getattr(module, name)()


@contextmanager
def _without_network(architecture: str) -> Iterator[None]:
    """Let nothing that builds a network download weights: a job has none, and its own weights are read afterwards."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError(
            f"`architecture`: {architecture} tries to download something; build the network without weights "
            "(weights=None, pretrained=False): those of the config are read afterwards"
        )

    connect, find_address = socket.socket.connect, socket.getaddrinfo
    socket.socket.connect = socket.getaddrinfo = refuse
    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):  # where the hub's library may not even try
        refuse()
    finally:
        socket.socket.connect, socket.getaddrinfo = connect, find_address


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
