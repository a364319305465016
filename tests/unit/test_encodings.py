"""Texts are read and written in an encoding that is said, not in that of the place where a run happens to be."""

import ast
from collections import Counter
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "scripts"
# Numbers, states and scripts in ASCII; what `pages.write_text` writes is in UTF-8.
ASCII = {"slurm": 4, "slurm_commands": 8, "overview": 1}


def is_text(call):
    """Tell whether a call reads or writes a text file."""
    name, mode = call.func.attr, next((getattr(each, "value", "") for each in call.args), "r")
    names = {each.arg for each in call.keywords}
    return name in ("read_text", "write_text", "read_csv") or (name == "open" and (mode == "a" or "newline" in names))


def test_every_text_file_has_an_encoding():
    without, every = Counter(), 0
    for path in SCRIPTS.rglob("*.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for call in (node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            if is_text(call):
                said = any(each.arg == "encoding" for each in call.keywords)
                without[path.stem] += not said and not (call.func.attr == "read_text" and call.args)
                every += 1
    assert without <= Counter(ASCII) and every > 40
