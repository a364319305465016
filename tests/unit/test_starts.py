"""A job that writes tables, figures or pages starts without torch, which takes longer to import than they take."""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Jobs that run a network, read its weights, or work on tensors at once; all others are light.
HEAVY = {
    *("account_units", "check_layer", "check_model", "collect_netdissect", "dissect_network", "embed_concepts"),
    *("embed_images", "explain_cam", "explain_perturbed", "extract_activations", "extract_controls", "label_units"),
    *("measure_images", "randomize_model", "rarefy_probe", "score_faithfulness", "score_words"),
    *("stabilize_lime", "switch_off_units", "tune_lime", "verify_explainers"),
    "collect_tuning",  # it reads the options of superpixels off their functions
}
SCORING = {"match_explanations", "score_agreement", "score_localization"}  # they load torch when they score
LIGHT = sorted(path.stem for path in SCRIPTS.glob("*.py") if path.stem not in HEAVY | SCORING)
DRAWING = {"draw_", "write_explanations", "write_overview", "write_units"}  # with Matplotlib, beside those of figures
WITH_FIGURES = {f"summarize_{topic}" for topic in ["accounts", "interventions", "localization", "resources", "sanity"]}
WITH_FIGURES |= {"compare_models"}


def imported(nodes):
    for node in nodes:
        if isinstance(node, ast.With):  # of a script
            yield from imported(node.body)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if SCRIPTS.joinpath(*full.split(".")).with_suffix(".py").exists() else node.module


@cache
def loads(path):
    """Give every module that a file imports as it starts, and what these import, with the chain that leads to it."""
    found = {}
    for name in imported(ast.parse(path.read_text()).body):
        found.setdefault(name, [name])
        own = SCRIPTS.joinpath(*name.split(".")).with_suffix(".py")
        for deeper, chain in loads(own).items() if own.exists() else ():
            found.setdefault(deeper, [name, *chain])
    return found


def chains_to(rule, package):
    found = loads(SCRIPTS / f"{rule}.py").items()
    return [" > ".join(chain) for name, chain in found if name.partition(".")[0] == package]


def test_heavy_scripts_are_there_and_need_torch():
    assert all(chains_to(rule, "torch") for rule in HEAVY) and len(LIGHT) > 30


@pytest.mark.parametrize("rule", LIGHT)
def test_a_light_job_imports_what_it_needs(rule):
    heavy = ("torch", "torchvision", "timm", "transformers", "open_clip", "sklearn", "lime", "pytorch_grad_cam")
    assert not [chain for package in heavy for chain in chains_to(rule, package)]
    draws = rule.startswith(tuple(DRAWING)) or rule in WITH_FIGURES
    assert draws == bool(chains_to(rule, "matplotlib"))


def test_no_light_job_loads_torch_or_what_scipy_and_skimage_load_when_used():
    names = sorted({name for rule in LIGHT for name in loads(SCRIPTS / f"{rule}.py")})
    program = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    loaded = subprocess.run(
        [sys.executable, "-c", program, *names], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert "unitlens.report.overview" in loaded
    assert not {"torch", "scipy.stats", "scipy.ndimage", "scipy.special", "skimage.measure._find_contours"} & {*loaded}
