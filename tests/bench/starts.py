"""Time what a job imports before it does anything, and write a page of it.

    PYTHONPATH=scripts python tests/bench/starts.py [--beside <scripts folder of another version>]

Seconds are those that `python -X importtime` adds up over all modules that a script imports as it starts.
"""

import argparse
import ast
import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

import measure
import table

SCRIPTS = Path(__file__).parents[2] / "scripts"
PAGE = Path(__file__).parents[2] / "docs/benchmarks/starts.md"
LINE = re.compile(r"import time: +(\d+) \| +\d+ \| +(\S+)")  # microseconds of a module without those that it imports
SHOWN = 3  # packages beside a script

TEXT = """# Starting a job

Written by `make bench` on: {machine}.

{rows}
Medians of {rounds} rounds, a process each, after one that filled the cache of files. Python itself, {python:.2f} s, is
left out; so is what a job imports later, when it needs it. Beside each script stand the packages that take longest.
Scripts without torch write tables, figures and pages; `tests/unit/test_starts.py` fails where one of them loads it.
"""


def imports(script: Path) -> str:
    """Give the import statements that a script runs as it starts, as a program."""
    nodes = ast.parse(script.read_text()).body
    nodes = [*nodes, *(inner for node in nodes if isinstance(node, ast.With) for inner in node.body)]
    return "\n".join(ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def seconds(program: str, scripts: Path) -> Counter[str]:
    """Run a program of imports; give the seconds of each package."""
    command = [sys.executable, "-X", "importtime", "-c", program]
    environment = os.environ | {"PYTHONPATH": str(scripts)}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    found = Counter()
    for spent, name in LINE.findall(said):
        found[name.partition(".")[0]] += int(spent) / 1e6
    return found


def start(script: Path, scripts: Path, rounds: int) -> tuple[float, list[str]]:
    """Time the imports of a script, those of Python itself among them; name the packages that take longest."""
    program = imports(script)
    found = [seconds(program, scripts) for _ in range(rounds + 1)][1:]
    median = {name: statistics.median(each[name] for each in found) for name in set().union(*found)}
    longest = sorted(median.items(), key=lambda item: -item[1])[:SHOWN]
    return statistics.median(map(Counter.total, found)), [f"{name} {spent:.2f}" for name, spent in longest]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", type=Path, help="also time the scripts of another version, by name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    python = statistics.median(seconds("", SCRIPTS).total() for _ in range(options.rounds))
    rows = []
    for script in sorted(SCRIPTS.glob("*.py")):
        spent, longest = start(script, SCRIPTS, options.rounds)
        rows.append([script.stem, spent - python, ", ".join(longest)])
        other = options.beside and options.beside / script.name
        if other and other.exists():
            rows[-1].append(start(other, options.beside, options.rounds)[0] - python)
        print(*rows[-1], flush=True)
    rows.sort(key=lambda row: row[1])
    head = ["script", "seconds", "longest (s)", *(["other version (s)"] if options.beside else [])]
    rows = [[*row, *[None] * (len(head) - len(row))] for row in rows]
    made = {"machine": measure.machine("cpu"), "rows": table.markdown(head, rows), "rounds": options.rounds}
    options.output.write_text(TEXT.format(python=python, **made), encoding="utf-8")


if __name__ == "__main__":
    main()
