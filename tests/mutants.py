"""Change the library in small ways, a seeded sample in each module, and report which changes no test notices.

`make mutants` or `make mutants ARGS="agreement sources --number 40 --seed 1"`. Each mutant is written into a copy of
the tree and judged by the quick tests that import its module, in a process forked from one with the heavy packages.
Mutants that cannot be told from the original stand in tests/mutants.yaml, with the reason, and are not drawn.

mutmut 3.8 does not suit: it takes no layout but ./, src/ and source/, draws no sample, leaves the module level alone
and spends half its mutants on texts. cosmic-ray 8.7 drops no arguments and starts pytest and torch for each mutant.
"""

import argparse
import ast
import difflib
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from itertools import chain, zip_longest
from pathlib import Path

import pytest
import yaml

ROOT, LIBRARY = Path(__file__).parents[1], Path("scripts/unitlens")
HEAVY = ["torch", "torchvision", "timm", "pandas", "scipy.stats", "h5py", "skimage.segmentation", "matplotlib.pyplot"]
IN_ALL, IN_EACH = 0.95, 0.9  # shares that must be killed
# Arguments that only guard against a mistake elsewhere, or that only a GPU can tell.
UNTOLD = ("strict", "device")
MEMORY = 16 << 30  # bytes a mutant may allocate

SWAPS = {
    ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.GtE), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.And: (ast.Or,), ast.Or: (ast.And,),
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Div,),
    ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
}  # fmt: skip


def changed(node, **fields):
    """Copy a node with some fields replaced."""
    copy = deepcopy(node)
    for name, value in fields.items():
        setattr(copy, name, value)
    return copy


def variants(node):
    """Give each kind of change that suits a node, and what it makes of it."""
    negation = {"test": ast.UnaryOp(ast.Not(), getattr(node, "test", None))}
    match node:
        case ast.Compare(ops=[operator]):
            yield from (("comparison", changed(node, ops=[swap()])) for swap in SWAPS[type(operator)])
        case ast.BoolOp() | ast.BinOp() | ast.AugAssign():
            kind = "boolean" if isinstance(node, ast.BoolOp) else "arithmetic"
            yield from ((kind, changed(node, op=swap())) for swap in SWAPS.get(type(node.op), ()))
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.Invert()):
            yield "removed sign or not", node.operand
        case ast.Constant(value=bool()):
            yield "boolean", ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield from (("integer", ast.Constant(node.value + step)) for step in (-1, 1))
        case ast.Constant(value=float()):
            yield "float", ast.Constant(node.value * 1.5 or 0.5)
        case ast.Return(value=ast.expr()) if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield "return", ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield "removed statement", ast.Pass()
        case ast.IfExp():
            yield "condition", changed(node, **negation)
        case ast.Call():
            for dropped in [keyword for keyword in node.keywords if keyword.arg not in (None, *UNTOLD)]:
                kept = [keyword for keyword in node.keywords if keyword is not dropped]
                yield "dropped keyword", changed(node, keywords=kept)
    if isinstance(node, ast.If | ast.While | ast.comprehension):
        for test in [node.test] if hasattr(node, "test") else node.ifs:
            yield "condition", (test, ast.UnaryOp(ast.Not(), test))


def code_nodes(tree):
    """Walk a tree past annotations, decorators and the insides of f-strings, whose positions Python 3.11 lacks."""
    for name, field in ast.iter_fields(tree):
        guard = isinstance(tree, ast.keyword) and tree.arg in UNTOLD
        if name in ("annotation", "returns", "decorator_list") or guard or isinstance(tree, ast.JoinedStr):
            continue
        for node in field if isinstance(field, list) else [field]:
            if isinstance(node, ast.AST):
                yield node
                yield from code_nodes(node)


def mutants(source, draw):
    """Give all mutants of a source text in the order in which they are drawn, the kinds in turn: a kind and a text."""
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:row])) for row in range(len(lines))]
    kinds = {}
    for node in code_nodes(ast.parse(source)):
        for kind, new in variants(node):
            old, new = new if isinstance(new, tuple) else (node, new)
            begin, end = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
            text = ast.unparse(new) if isinstance(new, ast.stmt | ast.Constant) else f"({ast.unparse(new)})"
            mutant = source.encode()[:begin] + text.encode() + source.encode()[end:]
            with suppress(SyntaxError):
                compile(mutant, "mutant", "exec")
                kinds.setdefault(kind, []).append((kind, mutant.decode()))
    orders = [draw.sample(own, len(own)) for _, own in sorted(kinds.items())]
    return [one for turn in zip_longest(*orders) for one in turn if one]


def imported(path):
    """Names of the modules that a file imports, the last part of each."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [name.name for node in nodes for name in node.names] + [getattr(node, "module", "") or "" for node in nodes]
    return {name.split(".")[-1] for name in names}


def tests_of(module, folder):
    """Test files of a module: its own first, those that import it, those of modules that use it on the same floor.

    Where there are none, those of any module that uses it. What checks the config is tested where the rules call it.
    """
    files = sorted(chain(*((folder / "tests" / kind).rglob("test_*.py") for kind in ("unit", "reference"))))
    floors = {path.parent for path in folder.glob(f"{LIBRARY}/*/{module}.py")}
    users = [path for path in folder.glob(f"{LIBRARY}/**/*.py") if module in imported(path)]
    beside = {path.stem for path in users if path.parent in floors} - {"__init__"}
    own = [path for path in files if ({module} | beside) & imported(path)]
    if (folder / LIBRARY / f"jobs/{module}.py").exists() and f"test_{module}" not in {path.stem for path in own}:
        own.append(folder / "tests/workflow/test_bad_config.py")
    own = own or [path for path in files if {path.stem for path in users} & imported(path)]
    return sorted(
        own,
        key=lambda path: (path.stem != f"test_{module}", "reference" in path.parts, module not in imported(path), path),
    )


def run_tests(folder, tests):
    """Run test files of the tree in `folder` and leave the process with pytest's code."""
    os.setsid()
    os.chdir(folder)
    out = os.open("mutant.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1), os.dup2(out, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os._exit(
        pytest.main(
            ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slurm and not e2e and not slow", *map(str, tests)]
        )
    )


def judged(folder, tests, limit):
    """Run test files on the tree in `folder`, forked, at most `limit` seconds: killed, survived or timeout."""
    process = multiprocessing.get_context("fork").Process(target=run_tests, args=(folder, tests))
    process.start()
    process.join(limit)
    verdict = "timeout" if process.exitcode is None else "killed" if process.exitcode else "survived"
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return verdict


def difference(old, new):
    """Lines that a mutant takes and gives, and the whole as a diff."""
    diff = [*difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)][2:]
    taken, given = (" ".join(line[1:].strip() for line in diff if line[0] == sign) for sign in "-+")
    return taken, given, "\n".join(diff)


def copied(folder):
    """Copy what git does not ignore into a folder, and link the environment."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(lambda name: (ROOT / name).exists(), listed.stdout.decode().splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    (folder / ".venv").symlink_to(sys.prefix)


def tried(folder, path, options, alike):
    """Judge a sample of the mutants of a module: how often each verdict; the survivors are printed."""
    verdicts, source, tests = Counter(), path.read_text(), tests_of(path.stem, folder)
    began = time.monotonic()
    if judged(folder, tests, 600) != "survived":
        sys.exit(f"{path.stem}: its tests fail without a mutant\n{(folder / 'mutant.log').read_text()}")
    limit = 20 + 5 * (time.monotonic() - began)
    for kind, mutant in mutants(source, random.Random(f"{options.seed} {path.stem}")):
        old, new, diff = difference(source, mutant)
        if (path.stem, old, new) in alike or old == new:
            continue
        if verdicts.total() == options.number:
            break
        path.write_text(mutant)
        verdict = judged(folder, tests, limit)
        verdicts[verdict] += 1
        if verdict == "survived":
            print(f"{path.stem}: {kind}\n{diff}", flush=True)
    path.write_text(source)
    print(f"{path.stem}: {dict(verdicts)}, {share(verdicts):.0%}", flush=True)
    return verdicts


def share(verdicts):
    """Share of the mutants that did not survive; one that never ends is noticed."""
    return 1 - verdicts["survived"] / max(verdicts.total(), 1)


def main():
    """Judge mutants of the modules named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*")
    parser.add_argument("--number", type=int, default=20, help="mutants drawn from each module")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    for name in HEAVY:
        importlib.import_module(name)
    listed = yaml.safe_load((ROOT / "tests/mutants.yaml").read_text())
    alike = {(one["module"], one["old"], one["new"]) for one in listed}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copied(Path(folder))
        paths = [path for path in sorted(Path(folder).glob(f"{LIBRARY}/**/*.py")) if path.stem != "__init__"]
        chosen = [path for path in paths if path.stem in options.modules or not options.modules]
        results = {f"{path.parent.name}.{path.stem}": tried(Path(folder), path, options, alike) for path in chosen}
    whole = share(sum(results.values(), Counter()))
    weak = [name for name, own in results.items() if share(own) < IN_EACH]
    print(f"all: {whole:.1%}, wanted {IN_ALL:.0%}; below {IN_EACH:.0%}: {', '.join(weak) or 'none'}")
    sys.exit(whole < IN_ALL or bool(weak))


if __name__ == "__main__":
    main()
