"""Change the library in small ways, a seeded sample in each module, and report which changes no test notices.

`make mutants` or `make mutants ARGS="agreement sources --number 40 --seed 1"`. Each mutant is written into a copy of
the tree and judged by the quick tests that import its module and enter the changed function, the quickest files first
and those that have killed others before them, in a process forked from one with the heavy packages. What no test
enters, as a constant, is judged by all of these tests. Limits are in CPU time, so that it may run beside other work.
Mutants that cannot be told from the original stand in tests/mutants.yaml, with the reason, and are not drawn.

mutmut 3.8 does not suit: it takes no layout but ./, src/ and source/, draws no sample, leaves the module level alone
and spends half its mutants on texts. cosmic-ray 8.7 drops no arguments and starts pytest and torch for each mutant.
"""

import argparse
import ast
import difflib
import gc
import importlib
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from contextlib import contextmanager, suppress
from copy import deepcopy
from itertools import chain, groupby, zip_longest
from pathlib import Path

import psutil
import pytest
import yaml

ROOT, LIBRARY = Path(__file__).parents[1], Path("scripts/unitlens")
HEAVY = ["torch", "torchvision", "timm", "pandas", "scipy.stats", "h5py", "skimage.segmentation", "matplotlib.pyplot"]
HEAVY += ["transformers", "open_clip", "lime.lime_image", "pytorch_grad_cam", "jsonschema", "playwright.sync_api"]
IN_ALL, IN_EACH = 0.95, 0.9  # shares that must be killed
# Arguments that only guard against a mistake elsewhere, or that only a GPU can tell; in figures, what is taste.
UNTOLD = ("strict", "device")
UNTOLD += (
    "fontsize",
    "markersize",
    "linewidth",
    "resample",
    "zorder",
    "va",
    "s",
    "height",
    "heights",
    "width",
    "around",
    "between",
)
READERS = [Path("tests/unit/test_order.py"), Path("tests/unit/test_encodings.py")]  # read all modules as text
MEMORY = 16 << 30  # bytes a mutant may allocate
IDLE, LEAST = 60, 0.5  # a process hangs that computes less than LEAST seconds in IDLE

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
    """Give all mutants of a source text in the order in which they are drawn, the kinds in turn.

    Each is its kind, the lines of the function that it changes (none at the module level) and a text.
    """
    lines = source.encode().splitlines(keepends=True)
    starts = [sum(map(len, lines[:row])) for row in range(len(lines))]
    kinds, tree = {}, ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]  # the outer ones first
    for node in code_nodes(tree):
        for kind, new in variants(node):
            old, new = new if isinstance(new, tuple) else (node, new)
            begin, end = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
            text = ast.unparse(new) if isinstance(new, ast.stmt | ast.Constant) else f"({ast.unparse(new)})"
            mutant = source.encode()[:begin] + text.encode() + source.encode()[end:]
            around = next((lines_of(own) for own in functions if in_body(old, own)), range(0))
            with suppress(SyntaxError):
                compile(mutant, "mutant", "exec")
                kinds.setdefault(kind, []).append((kind, around, mutant.decode()))
    orders = [draw.sample(own, len(own)) for _, own in sorted(kinds.items())]
    return [one for turn in zip_longest(*orders) for one in turn if one]


def in_body(node, function):
    """Tell whether a node is in the body of a function, not in its defaults, which are read at import."""
    return function.body[0].lineno <= node.lineno <= function.end_lineno


def lines_of(function):
    """Lines of a function with its decorators, where Python has its first line."""
    return range(min(one.lineno for one in (function, *function.decorator_list)), function.end_lineno + 1)


def imported(path):
    """Names of the modules that a file imports, the last part of each."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [name.name for node in nodes for name in node.names] + [getattr(node, "module", "") or "" for node in nodes]
    return {name.split(".")[-1] for name in names}


def tests_of(path, folder):
    """Test files of a module, below `folder`: those that import it and those of modules that use it on the same floor.

    Where there are none, those of any module that uses it. What checks the config is tested where the rules call it.
    """
    module, floor = path.stem, path.parent.name
    files = sorted(chain(*((folder / "tests" / kind).rglob("test_*.py") for kind in ("unit", "reference"))))
    floors = {path.parent for path in folder.glob(f"{LIBRARY}/*/{module}.py")}
    users = [path for path in folder.glob(f"{LIBRARY}/**/*.py") if module in imported(path)]
    beside = {path.stem for path in users if path.parent in floors} - {"__init__"}
    own = [path for path in files if ({module} | beside) & imported(path)]
    if floor == "jobs" and not any(one.match(f"unit/jobs/test_{module}.py") for one in own):
        own.append(folder / "tests/workflow/test_bad_config.py")
    own = own or [one for one in files if {user.stem for user in users} & imported(one)]
    return [one.relative_to(folder) for one in own] + READERS


class Reach:
    """A plugin of pytest: the seconds of each test, and the file and first line of each library function it enters.

    A test that fails has no seconds.

    What is entered by a fixture of several tests, or while a file is collected, stands under the file's name.
    """

    def __init__(self, folder):
        self.library, self.name = str(folder / LIBRARY), ""
        self.seconds, self.entered, self.failed = defaultdict(float), defaultdict(set), set()

    def note(self, frame, event, argument):
        """Note a call; the lines of the function are not followed."""
        code = frame.f_code
        if code.co_filename.startswith(self.library):
            self.entered[self.name].add((code.co_filename, code.co_firstlineno))

    @contextmanager
    def under(self, name):
        """Note calls under the name of a test or a file."""
        before, self.name = self.name, name
        threading.settrace(self.note), sys.settrace(self.note)
        try:
            yield
        finally:
            self.name = before
            sys.settrace(self.note if before else None)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector):
        with self.under(file_of(collector.nodeid)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        with self.under(self.name if fixturedef.scope == "function" else file_of(request.node.nodeid)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        with self.under(item.nodeid):
            return (yield)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] += report.duration
        self.failed |= {report.nodeid} if report.failed else set()

    def pytest_sessionfinish(self):
        passed = {test: seconds for test, seconds in self.seconds.items() if test not in self.failed}
        Path("reach.pickle").write_bytes(pickle.dumps((passed, self.entered, self.failed)))


class Chosen:
    """A plugin of pytest: run the tests that are named, in this order, each in five times its seconds."""

    def __init__(self, names, seconds):
        self.places, self.seconds = {name: place for place, name in enumerate(names)}, seconds

    def pytest_configure(self, config):
        config.option.maxfail = 1

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items[:] = sorted((one for one in items if one.nodeid in self.places), key=lambda one: self.places[one.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        signal.setitimer(signal.ITIMER_PROF, 10 + 5 * self.seconds[item.nodeid])
        return (yield)


def file_of(name):
    """Name the file of a test."""
    return name.partition("::")[0]


def run_tests(folder, runs, plugin):
    """Run test files of the tree in `folder` with a plugin until one run fails, whose number the process returns."""
    os.setsid()
    os.chdir(folder)
    out = os.open("mutant.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1), os.dup2(out, 2)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    arguments = ["-q", "-p", "no:cacheprovider", "-m", "not slurm and not e2e and not slow"]
    codes = (pytest.main([*arguments, *map(str, files)], plugins=[plugin]) for files in runs)
    fine = pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED
    os._exit(next((number for number, code in enumerate(codes, 1) if code not in fine), 0))


def computed(process):
    """Seconds that a process and those it has started have computed."""
    seconds = 0
    with suppress(psutil.NoSuchProcess):
        seconds = sum(sum(one.cpu_times()[:4]) for one in (process, *process.children(recursive=True)))
    return seconds


def judged(folder, runs, plugin, limit):
    """Run test files on the tree in `folder`, forked, at most `limit` seconds of CPU.

    Gives the number of the run that failed, from 1, negative where a signal ended it; 0 if none did, None if it hangs.
    """
    process = multiprocessing.get_context("fork").Process(target=run_tests, args=(folder, runs, plugin))
    process.start()
    watched, before, seconds = psutil.Process(process.pid), -LEAST, 0
    while process.exitcode is None and before + LEAST <= seconds < limit:
        process.join(IDLE)
        before, seconds = seconds, computed(watched)
    code = None if process.exitcode == -signal.SIGPROF else process.exitcode
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return code


def learn(folder, files, seconds, entered, known):
    """Run test files that are not known yet once: the seconds of each test, and what it enters, see `Reach`.

    Tests that fail without a mutant are told and left out.
    """
    if not (new := {*files} - known):
        return
    judged(folder, [sorted(new)], Reach(folder), 3600)
    found = pickle.loads((folder / "reach.pickle").read_bytes())
    seconds.update(found[0]), entered.update(found[1]), known.update(new)
    if found[2]:
        print(f"left out, for they fail without a mutant: {', '.join(sorted(found[2]))}", flush=True)


def chosen_tests(files, path, lines, seconds, entered):
    """Tests in `files` that enter a function on these lines of `path`, all if none does, the quickest files first.

    Those that read it as text come with them, and of a module of `jobs` all in its own file, which start processes.
    """
    names = [str(file) for file in files]
    always = {str(file) for file in READERS}
    always |= {name for name in names if path.parent.name == "jobs" and Path(name).name == f"test_{path.stem}.py"}
    inside = {
        name for name, calls in entered.items() if any(file == str(path) and line in lines for file, line in calls)
    }
    tests = [test for test in seconds if file_of(test) in names]
    entering = [test for test in tests if {test, file_of(test)} & inside]
    tests = [test for test in tests if test in entering or file_of(test) in always] if entering else tests
    total = Counter()
    for test in tests:
        total[file_of(test)] += seconds[test]
    return sorted(tests, key=lambda test: (total[file_of(test)], file_of(test), seconds[test]))


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


def tried(folder, path, options, alike, learned):
    """Judge a sample of the mutants of a module: how often each verdict; the survivors are printed."""
    verdicts, source, files = Counter(), path.read_text(), tests_of(path, folder)
    learn(folder, files, *learned)
    (seconds, entered, _), kills = learned, Counter()
    for kind, lines, mutant in mutants(source, random.Random(f"{options.seed} {path.stem}")):
        old, new, diff = difference(source, mutant)
        if (path.stem, old, new) in alike or old == new:
            continue
        if verdicts.total() == options.number:
            break
        path.write_text(mutant)
        tests = chosen_tests(files, path, lines, seconds, entered)
        runs = sorted(([file] for file, _ in groupby(tests, file_of)), key=lambda run: -kills[run[0]])
        limit = 60 + 5 * sum(seconds[test] for test in tests)
        code = judged(folder, runs, Chosen(tests, seconds), limit)
        verdict = {0: "survived", None: "timeout"}.get(code, "killed")
        verdicts[verdict] += 1
        if code and code > 0:
            kills[runs[code - 1][0]] += 1
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
    gc.freeze()  # pytest collects garbage as it ends
    listed = yaml.safe_load((ROOT / "tests/mutants.yaml").read_text())
    alike = {(one["module"], one["old"], one["new"]) for one in listed}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copied(Path(folder))
        paths = [path for path in sorted(Path(folder).glob(f"{LIBRARY}/**/*.py")) if path.stem != "__init__"]
        chosen = [path for name in options.modules for path in paths if path.stem == name] or paths
        learned = {}, {}, set()  # what `learn` has found
        results = {
            f"{path.parent.name}.{path.stem}": tried(Path(folder), path, options, alike, learned) for path in chosen
        }
    whole = share(sum(results.values(), Counter()))
    weak = [name for name, own in results.items() if share(own) < IN_EACH]
    print(f"all: {whole:.1%}, wanted {IN_ALL:.0%}; below {IN_EACH:.0%}: {', '.join(weak) or 'none'}")
    sys.exit(whole < IN_ALL or bool(weak))


if __name__ == "__main__":
    main()
