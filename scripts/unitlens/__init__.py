"""Unitlens: what the units of an image classifier respond to, and what its predictions look at."""

import importlib

__version__ = "0.2.0"

_FLOORS = {"cam": "explainers", "contributions": "explainers", "lime": "explainers", "segment": "explainers"}
_FLOORS |= {"dissect": "units", "agreement": "measures", "faithfulness": "measures", "textures": "images"}


def __getattr__(name: str) -> object:
    """Import a public module when it is used."""
    if name not in _FLOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{_FLOORS[name]}.{name}")
