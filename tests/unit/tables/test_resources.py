"""Requests and use of jobs, read from what two jobs of one rule and one of another left."""

import numpy as np
import pandas as pd
import pytest
from unitlens.report import cost_figures
from unitlens.tables import job_resources

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"
EXTENDED = "\tjobid\trule_name\twildcards\tparams\tthreads\tcpu_usage\tresources\tinput_size_mb"


@pytest.fixture
def folder(tmp_path):
    def job(name, line, log=None, head=HEAD + EXTENDED):
        for kind, suffix, text in (("benchmarks", "tsv", f"{head}\n{line}\n"), ("logs", "log", log)):
            path = tmp_path / kind / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is not None:
                path.write_text(text)

    asked = "{'tmpdir': '/tmp', 'runtime': 30, 'gpu': 1, 'mem_mb': %d, '_cores': 2}"
    tail = "\t0\texplain\t{}\t{'a': \"it's\"}\t2\t0.0\t" + asked + "\t{}"
    log = "host a\nstarted up in %s s: imports, weights, device\n5 of 10 source images, 1 a second, 5 s left\n"
    log += "10 of 10 source images (7 of 7 batches), 2.50 a second, 0 s left\n"
    log += "took 9 s and %s CPU seconds, held at most %d MiB%s\n"
    job(
        "explain/m/00000",
        "60.0\t0:01:00\t900.5\t1\t1\t1\t1\t1\t50\t90.0" + tail % 1000,
        log % (4.0, 89.9, 800, " and 9 MiB of a GPU, which was busy 50 % of the time"),
    )
    job("explain/m/00001", "120.0\t0:02:00\t-\t1\t1\t1\t1\t1\t50\t90.0" + tail % 2000, log % (6.0, 180.0, 1000, ""))
    job("index/m", "0.5\t0:00:00\tNA\t1\t1\t1\t1\t1\t0\t0.5", head=HEAD)
    return tmp_path


def test_what_was_asked_and_used(folder):
    jobs = job_resources.read_jobs(folder / "benchmarks", folder / "logs")
    table = job_resources.efficiency(jobs).set_index("rule")
    assert list(table.index) == ["explain", "index"]
    explain = table.loc["explain"]
    expected = {
        "jobs": 2,
        "seconds_mean": 90,
        "seconds_max": 120,
        "seconds_asked": 1800,
        "time_used": 120 / 1800,
        "mem_mb_max": 1000,  # the log saw more than the benchmark, which looks now and then
        "mem_mb_asked": 2000,
        "memory_used": 900.5 / 1000,
        "start_up_seconds": 5,
        "rate": 2.5,
        "cores_busy": 270 / 180,  # of the second job the benchmark missed half
        "gpus": 1,
        "gpu_busy": 0.5,  # the second job does not know
    }
    pd.testing.assert_series_equal(
        explain[list(expected)].astype(float), pd.Series(expected, dtype=float, name="explain")
    )
    assert table.counted.tolist() == ["source images", ""]
    index = table.loc["index"]
    assert index.jobs == 1 and index.seconds_max == 0.5
    assert np.isnan(index[["mem_mb_asked", "mem_mb_max", "start_up_seconds", "gpus", "gpu_busy"]].astype(float)).all()


def test_a_job_that_asked_for_no_gpu_has_none_and_of_repeated_measurements_the_first_counts(folder):
    table = folder / "benchmarks/explain/m/00000.tsv"
    head, line = table.read_text().replace("'gpu': 1, ", "").splitlines()
    table.write_text(f"{head}\n{line}\n{line.replace('60.0', '70.0')}\n")
    jobs = job_resources.read_jobs(folder / "benchmarks", folder / "logs")
    assert jobs.gpus[:2].tolist() == [0, 1] and np.isnan(jobs.gpus[2])
    assert jobs.seconds.tolist() == [60, 120, 0.5]


def test_slowest_jobs_come_first(folder):
    jobs = job_resources.slowest(job_resources.read_jobs(folder / "benchmarks", folder / "logs"))
    assert (jobs.rule + " " + jobs.job).tolist() == ["explain m/00001", "explain m/00000", "index m"]
    assert jobs.seconds.tolist() == [120, 60, 0.5]
    assert len(job_resources.slowest(jobs.assign(rule="x").iloc[np.zeros(50, int)])) == job_resources.SLOWEST


@pytest.mark.parametrize("gpu", [np.nan, 0.5])
def test_figure_shows_the_gpu_where_it_is_known(folder, tmp_path, gpu):
    table = job_resources.efficiency(job_resources.read_jobs(folder / "benchmarks", folder / "logs"))
    cost_figures.resources(table.assign(gpu_busy=gpu), tmp_path / "resources.svg")
    text = (tmp_path / "resources.svg").read_text()
    assert ("GPU busy" in text) == (gpu == 0.5) and "explain (2)" in text


def test_a_run_without_benchmarks_has_empty_tables(tmp_path):
    jobs = job_resources.read_jobs(tmp_path, tmp_path)
    columns = "rule jobs seconds_mean seconds_max seconds_asked time_used mem_mb_max mem_mb_asked memory_used"
    assert " ".join(job_resources.efficiency(jobs)) == (
        f"{columns} start_up_seconds rate counted cores_busy gpus gpu_busy"
    )
    assert job_resources.efficiency(jobs).empty and job_resources.slowest(jobs).empty
