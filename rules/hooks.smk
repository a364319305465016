"""What surrounds a run: the estimate of a plan, one line for each finished job, patience with SLURM, a summary at the end."""

import os
import socket
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger


def say_where_it_runs():
    """Leave host and process for profiles/slurm/recover.sh."""
    Path(".snakemake/started").write_text(f"{socket.gethostname()} {os.getpid()}\n")


def show_costs_in_a_plan():
    from unitlens.jobs import costs

    costs.show_in_a_plan(workflow, logger, config, count_rows)


def show_one_line_a_job():
    from unitlens.jobs import progress  # here: jobs on a cluster print neither

    progress.show_one_line_a_job(workflow, logger)


def stand_in_for_slurm():
    from unitlens.jobs import slurm

    if problems := slurm.what_is_refused(workflow):
        raise WorkflowError("\n".join(problems))
    slurm.stand_in(workflow, logger)


def say_at_the_end(failed):
    from unitlens.jobs import outcome

    outcome.say_at_the_end(workflow, logger, failed)
