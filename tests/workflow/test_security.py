"""Names from the config and the sheets stay inside the run folder, and no shell reads them."""

import ast
import re
from pathlib import Path

import pytest
import toy

ROOT = Path(__file__).parents[2]
NASTY = ["../x", "/x", "a/b", "x;touch y", "$(touch y)", "a b", "x\ny", "", "..", "ü"]


@pytest.mark.parametrize("place", ["models", "layers", "cam_layer", "image_id", "path"])
def test_nasty_names_are_refused_before_the_first_job(project, snakemake, place):
    """Names of files and folders are refused, all at once; a path in a sheet must stay below its folder."""
    names = [name for name in NASTY if place != "path" or name.startswith(("..", "/"))]
    settings = toy.config()
    model = settings["models"]["toy"]
    if place == "models":
        settings["models"] = dict.fromkeys(names, model)
    elif place == "layers":
        model["layers"] = names
    elif place == "cam_layer":
        names = ["../x"]
        model["cam_layer"] = names[0]
    else:
        rows = [
            {"image_id": f"toy_{i}", "path": "toy_00.png", "label": "0"} | {place: name} for i, name in enumerate(names)
        ]
        toy.write_sheet(project / "config/explain.csv", rows)
    toy.write_config(project, settings)
    result = snakemake(project, "--dry-run", "--configfile", "config/toy.yaml")
    assert result.returncode != 0
    message = result.stdout.partition("The configuration has problems:")[2]
    assert message, result.stdout
    assert [name for name in names if name and repr(name) not in message] == []


def test_no_shell_reads_the_config():
    rules = "".join(path.read_text() for path in ROOT.glob("rules/*.smk"))
    assert re.findall(r"^    (?:shell|run):", rules, re.MULTILINE) == []
    for path in ROOT.glob("scripts/**/*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        assert not [call for call in calls if any(word.arg == "shell" for word in call.keywords)], path
        assert not [call for call in calls if ast.unparse(call.func) in ("os.system", "os.popen", "eval", "exec")], path
