"""What can go wrong on a cluster, one test each: no finished work is lost, and the result is the same to the byte."""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter

import pytest
from cluster import running, tell, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.many(6)]

SHARDS = ["00000", "00001", "00002"]
EVERY_JOB = [*(f"write_shard {shard}" for shard in SHARDS), "write_table all"]
BAD = "00001"


def test_undisturbed(undisturbed):
    assert sorted(undisturbed.results()) == [*(f"images/{shard}.h5" for shard in SHARDS), "table.csv"]
    assert undisturbed.executed() == Counter(EVERY_JOB)


def assert_same(run, undisturbed, *again):
    """The results are those of the undisturbed run, and only the jobs named `again` were executed twice."""
    assert run.results() == undisturbed.results()
    assert run.executed() == Counter([*EVERY_JOB, *again])


def start_and_wait_for_fault(run, *arguments):
    """Start a run that halts in mid-write of one shard."""
    run.fault(BAD)
    process = run.start(*arguments)
    run.wait_for_fault(BAD)
    return process


def rerun(run, undisturbed, *again):
    """Mend the fault, give the same command again, and compare."""
    run.mend(BAD)
    status, text = run.finish()
    assert status == 0, text
    assert_same(run, undisturbed, *again)


def test_job_is_cancelled_in_mid_write(run, undisturbed):
    process = start_and_wait_for_fault(run, "--retries", "0")
    tell("scancel", str(run.job(BAD)))
    status, text = run.wait(process)
    assert status != 0 and f"results/images/{BAD}.h5" in text
    assert run.parts() == [], "the job was told to end and cleaned up"
    assert "ended by SIGTERM" in (run.folder / f"results/logs/write_shard/{BAD}.log").read_text()
    rerun(run, undisturbed, f"write_shard {BAD}")


def test_process_of_a_job_is_killed(run, undisturbed):
    process = start_and_wait_for_fault(run, "--retries", "0")
    run.wait_for_finished(2)  # else their files are half written, too
    (part,) = run.parts()
    os.kill(int(part.stem.rpartition("-")[2]), signal.SIGKILL)
    status, _ = run.wait(process)
    assert status != 0 and run.parts() == [part]
    rerun(run, undisturbed, f"write_shard {BAD}")


def test_snakemake_is_killed(run, undisturbed):
    process = start_and_wait_for_fault(run)
    run.wait_for_finished(2)
    process.kill()
    process.wait()
    orphan = run.job(BAD)
    assert run.cluster.jobs()[orphan]["state"] == "RUNNING"
    status, text = run.finish()
    assert status != 0 and "cannot be locked" in text
    process = run.start_make("recover", f"ARGS={' '.join(run.hasty)}")
    wait_until(lambda: run.cluster.jobs()[orphan]["state"] == "CANCELLED", "the end of the orphan", 60)
    run.mend(BAD)
    status, text = run.wait(process)
    assert status == 0, text
    assert_same(run, undisturbed, f"write_shard {BAD}")


def test_recover_refuses_while_snakemake_runs(run, undisturbed):
    process = start_and_wait_for_fault(run)
    status, text = run.make("recover", log="recover.log")
    assert status != 0 and f"still runs in this folder as process {process.pid}" in text
    status, text = run.finish(log="second.log")
    assert status != 0 and "cannot be locked" in text
    run.mend(BAD)
    status, text = run.wait(process)
    assert status == 0, text
    assert_same(run, undisturbed)


def test_node_goes_down_and_comes_back(run, undisturbed):
    process = start_and_wait_for_fault(run, "--retries", "0")
    run.wait_for_finished(2)
    job = run.job(BAD)
    run.cluster.crash_node("cpu1")
    wait_until(lambda: run.cluster.jobs()[job]["state"] == "PENDING", "SLURM's putting the job back")
    run.mend(BAD)
    run.cluster.bring_back("cpu1")
    # else it starts in two minutes; the node is first told to end the old job
    tell("scontrol", "update", f"jobid={job}", "starttime=now+15")
    status, text = run.wait(process)
    assert status == 0, text
    assert_same(run, undisturbed, f"write_shard {BAD}")


def states(run):
    return [job["state"] for shard in SHARDS for job in run.jobs(shard)]


def test_node_is_drained(run, undisturbed):
    for shard in SHARDS:
        run.fault(shard)
    process = run.start("--retries", "0", "--jobs", "2")
    wait_until(lambda: len(run.parts()) == 2, "two shards' being written", seconds=180)
    run.cluster.set_state("cpu1", "drain")
    for shard in SHARDS:
        run.mend(shard)
    ended = ["COMPLETED", "COMPLETED", "PENDING"]
    wait_until(lambda: sorted(states(run)) == ended, "the end of what ran on the node, and the third job's waiting")
    run.cluster.set_state("cpu1", "resume")
    status, text = run.wait(process)
    assert status == 0, text
    assert_same(run, undisturbed)


def test_job_that_takes_too_long_gets_more_time(run, undisturbed):
    run.fault(BAD, "slow")
    status, text = run.finish("--retries", "1")
    assert status == 0, text
    expected = [("TIMEOUT", "1:00"), ("COMPLETED", "2:00")]
    wait_until(
        lambda: [(job["state"], job["limit"]) for job in run.jobs(BAD)] == expected, "an end for time, then success"
    )
    assert_same(run, undisturbed, f"write_shard {BAD}")


def test_job_that_needs_more_memory_gets_it(run, undisturbed):
    run.fault(BAD, "large")
    status, text = run.finish("--retries", "1")
    assert status == 0, text
    expected = [("FAILED", "1000M"), ("COMPLETED", "2000M")]
    wait_until(
        lambda: [(job["state"], job["memory"]) for job in run.jobs(BAD)] == expected, "an end for memory, then success"
    )
    assert_same(run, undisturbed, f"write_shard {BAD}")


def test_disk_is_full(run, undisturbed):
    disk = run.folder / "results/images"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk], check=True)  # for two shards of two MiB
    try:
        status, text = run.finish("--retries", "0", "--jobs", "2")
        assert status != 0 and "No space left on device" in text
        assert run.parts() == []
        (missing,) = {f"{shard}.h5" for shard in SHARDS} - {path.name for path in disk.iterdir()}
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        rerun(run, undisturbed, f"write_shard {missing.removesuffix('.h5')}")
    finally:
        subprocess.run(["umount", disk], check=True)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip_a_bit])
def test_shard_is_damaged_afterwards(finished, undisturbed, harm):
    shard = finished.folder / f"results/images/{BAD}.h5"
    before = shard.stat()
    harm(shard)
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))  # nothing but its content tells
    (finished.folder / "results/table.csv").unlink()
    status, text = finished.finish("--retries", "0")
    assert status != 0 and f"results/images/{BAD}.h5 is " in text
    status, text = finished.make("check")
    assert status != 0 and f"results/images/{BAD}.h5 is " in text and not shard.exists()
    again = ["write_table all"] * 2 + [f"write_shard {BAD}"]
    rerun(finished, undisturbed, *again)
    assert finished.make("check") == (0, "")


def test_shard_is_deleted_afterwards(finished, undisturbed):
    (finished.folder / f"results/images/{BAD}.h5").unlink()
    (finished.folder / "results/table.csv").unlink()
    rerun(finished, undisturbed, "write_table all", f"write_shard {BAD}")


def test_source_image_cannot_be_read(run, undisturbed):
    source_image = run.folder / "source_images/toy_03.png"
    good = source_image.read_bytes()
    source_image.write_bytes(good[:-200])
    status, text = run.finish("--retries", "0")
    assert status != 0 and "image_id 'toy_03': source_images/toy_03.png: cannot be read as an image" in text
    assert {path.name for path in (run.folder / "results/images").iterdir()} == {"00000.h5", "00002.h5"}
    source_image.write_bytes(good)
    rerun(run, undisturbed, f"write_shard {BAD}")


def test_controller_and_accounting_are_away_for_a_while(run, undisturbed):
    longer = ["--set-resources", "write_shard:runtime=30"]  # else the controller finds them out of time
    process = start_and_wait_for_fault(run, "--retries", "0", *longer)
    run.cluster.stop_controller()
    if run.cluster.accounting:
        run.cluster.stop_accounting()
    try:
        time.sleep(75)  # by default the plugin gives up after five attempts, and waits forever
        assert running(process.pid) and "SLURM does not say how the jobs are" in run.printed()
        run.mend(BAD)  # it ends while nobody answers
    finally:
        if run.cluster.accounting:
            run.cluster.start_accounting()
        run.cluster.start_controller()
    status, text = run.wait(process)
    assert status == 0, text
    assert_same(run, undisturbed)


def test_cancelled_job_is_submitted_again(run, undisturbed):
    process = start_and_wait_for_fault(run, "--retries", "1")
    run.mend(BAD)
    run.fault(BAD)
    tell("scancel", str(run.job(BAD)))
    wait_until(lambda: len(run.jobs(BAD)) == 2, "another attempt", 120)
    run.mend(BAD)
    status, text = run.wait(process)
    assert status == 0, text
    assert_same(run, undisturbed, f"write_shard {BAD}")


def test_jobs_that_the_controller_has_forgotten(run, undisturbed):
    """It forgets them before Snakemake looks: accounting knows how they ended, or else what they wrote themselves."""
    process = start_and_wait_for_fault(run, "--retries", "1", "--slurm-init-seconds-before-status-checks", "60")
    job = run.job(BAD)
    wait_until(lambda: states(run).count("COMPLETED") == 2, "the end of the others", 60)
    os.kill(process.pid, signal.SIGSTOP)
    run.cluster.set_min_job_age(2)
    try:
        run.mend(BAD)
        run.fault(BAD)
        tell("scancel", str(job))
        wait_until(lambda: run.jobs(BAD) == [], "the controller's forgetting", 120)
        os.kill(process.pid, signal.SIGCONT)
        run.wait_for_fault(BAD)
        run.mend(BAD)
        status, text = run.wait(process)
    finally:
        run.cluster.set_min_job_age(3600)
    assert status == 0, text
    assert_same(run, undisturbed, f"write_shard {BAD}")


def test_job_is_killed_for_memory_before_its_script_begins(run, undisturbed):
    status, text = run.finish("--retries", "0", "--set-resources", "write_shard:mem_mb=20")
    assert status != 0
    assert "it ran out of memory (SLURM says " in text and "before its script began" in text, text
    assert f"log: {run.folder}/.snakemake/slurm_logs/rule_write_shard/{BAD}/" in text
    rerun(run, undisturbed)


REFUSING = """#!/bin/sh
case "$*" in *--test-only*) exec {sbatch} "$@";; esac
echo call >> '{folder}/calls'
queued=$({squeue} --noheader --states=PENDING,RUNNING | wc -l)
if [ "$queued" -ge 2 ] || mkdir '{folder}/refused' 2> /dev/null; then
  echo 'sbatch: error: AssocMaxSubmitJobLimit' >&2
  echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, …)' >&2
  exit 1
fi
if [ $(($(wc -l < '{folder}/calls') % 3)) = 0 ]; then
  echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2
  exit 1
fi
exec {sbatch} "$@"
"""


def test_refused_submissions_are_asked_again(run, undisturbed, tmp_path, monkeypatch):
    """One call is refused, a third job as long as two are queued, and every third call in any case."""
    commands = tmp_path / "commands"
    commands.mkdir()
    real = {name: shutil.which(name) for name in ("sbatch", "squeue")}
    (commands / "sbatch").write_text(REFUSING.format(folder=commands, **real))
    (commands / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    status, text = run.finish("--retries", "0")
    assert status == 0 and "SLURM takes no more jobs for now (AssocMaxSubmitJobLimit; " in text, text
    assert len((commands / "calls").read_text().split()) > len(SHARDS)
    assert_same(run, undisturbed)


@pytest.mark.parametrize("cluster", ["accounting"], indirect=True, scope="session")
@pytest.mark.parametrize("limit", ["user root", "qos normal"])
def test_limit_on_submitted_jobs(run, undisturbed, limit):
    name = "maxsubmitjobs" if limit.startswith("user") else "maxsubmitjobsperuser"
    tell("sacctmgr", "--immediate", "modify", *limit.split(), "set", f"{name}=1")
    try:
        status, text = run.finish("--retries", "0")
    finally:
        tell("sacctmgr", "--immediate", "modify", *limit.split(), "set", f"{name}=-1")
    assert status == 0 and "SLURM takes no more jobs for now (" in text, text
    assert_same(run, undisturbed)


def test_submission_that_time_does_not_lift_is_refused_at_once(run, undisturbed):
    status, text = run.finish("--retries", "0", "--set-resources", "write_shard:constraint=none")
    assert status != 0 and "SLURM refused it: " in text and "nvalid feature" in text, text
    rerun(run, undisturbed)


@pytest.mark.parametrize("cluster", ["accounting"], indirect=True, scope="session")
@pytest.mark.parametrize("wrong", ["slurm_account", "qos", "slurm_partition"])
def test_what_the_site_does_not_have_is_refused_before_the_first_job(run, wrong):
    status, text = run.finish("--set-resources", f"write_shard:{wrong}=none")
    assert status != 0 and text.count("SLURM refuses ") == 1 and "nvalid " in text and "Traceback" not in text, text
    assert states(run) == [] and not (run.folder / "executed.txt").exists()


def test_told_to_end_while_submissions_are_refused(run, undisturbed, tmp_path, monkeypatch):
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: AssocMaxSubmitJobLimit' >&2\nexit 1\n")
    (commands / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    process = run.start()
    wait_until(lambda: "SLURM takes no more jobs for now" in run.printed(), "the refusal", 60)
    process.terminate()
    status, _ = run.wait(process, seconds=60)
    assert status != 0 and run.jobs(BAD) == []
    monkeypatch.undo()
    rerun(run, undisturbed)
