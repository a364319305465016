"""Snakemake whose jobs are forks of one process that has imported torch: as separate as ever, many times as fast.

``python tests/forked.py <arguments of snakemake>``, where there is no other difference than time.
"""

import os
import runpy
import sys
import traceback

import matplotlib.pyplot
import torch  # noqa: F401
import torchvision  # noqa: F401
import transformers  # noqa: F401
from snakemake.benchmark import benchmarked
from snakemake.cli import main
from snakemake.exceptions import WorkflowError
from snakemake.script import PythonScript

matplotlib.pyplot.switch_backend("agg")


def execute_script(self, fname, edit=False):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            runpy.run_path(fname)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    with benchmarked(child, self.bench_record):
        _, ended = os.waitpid(child, 0)
    if ended:
        raise WorkflowError(f"{self.rulename} failed")


PythonScript.execute_script = execute_script

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
