"""A run on one machine is killed at thirty random moments and recovered each time: it ends with the same bytes."""

import os
import random
import signal
import subprocess
import time

import pytest
from cluster import wait_until

pytestmark = pytest.mark.e2e

KILLS = 30
SHARDS = ["00000", "00001", "00002"]


def test_run_that_is_killed_at_random_moments_reaches_the_same_bytes(new_stub, start_local, bytes_of):
    undisturbed, start = new_stub("undisturbed"), time.monotonic()
    assert ended(start_local(undisturbed), undisturbed)
    seconds = time.monotonic() - start
    moments, kills, killed_in_mid_write, runs = random.Random(0), 0, 0, 0
    while kills < KILLS:
        folder, runs = new_stub(f"run{runs}"), runs + 1
        for shard in SHARDS:
            (folder / "faults" / shard).write_text("linger")  # a second of every shard is in mid-write
        while not ended(start_local(folder), folder, moments.uniform(0, seconds) if kills < KILLS else None):
            kills += 1
            killed_in_mid_write += any(folder.rglob("*.part"))
        assert bytes_of(folder) == bytes_of(undisturbed)
    assert killed_in_mid_write > 0


def ended(process, folder, seconds=None):
    """Tell whether a run came to its good end; one that runs longer than `seconds` is killed with all its processes."""
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: gone(process.pid), "the end of the processes that were killed")
        return False
    assert status == 0, (folder / "run.log").read_text()
    return True


def gone(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
