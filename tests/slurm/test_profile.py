"""The miniature through `--profile slurm`: the bytes of a local run, and a GPU for each job that asks, for no other."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toy
import yaml
from cluster import tell

pytestmark = [pytest.mark.slurm, pytest.mark.parametrize("cluster", ["accounting"], indirect=True, scope="session")]

ROOT = Path(__file__).parents[2]
TARGETS = ["results/concepts/toy/relu2.csv", "results/agreement/toy/00000.csv"]
CONFIG = ["--configfile", "config/toy.yaml"]


def gpu_rules():
    """Names of the rules that ask for a GPU."""
    text = "".join(path.read_text() for path in sorted(ROOT.glob("rules/*.smk")))
    rules = re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return {name for name, body in rules if "gpu=GPU" in body}


def write_devices(folder):
    """Write the workflow of jobs that tell which GPUs they see, with the profiles."""
    shutil.copytree(ROOT / "tests/slurm/devices", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    (folder / "slurm").symlink_to("profiles/slurm")
    (folder / "config").mkdir()
    (folder / "config/config.yaml").write_text("{}")


@pytest.fixture
def miniature(new_project):
    """Make a copy of the workflow with few jobs, which ask for GPUs and run on the CPU where there is none."""

    def make(name):
        project = new_project(name)
        (project / "slurm").symlink_to("profiles/slurm")
        settings = toy.config()
        settings["device"] = "auto"
        settings["models"]["toy"]["layers"] = ["relu2"]
        for images in settings["images"].values():
            images["shard_size"] = 6
        toy.write_config(project, settings)
        return project

    return make


def test_same_bytes_as_a_local_run_and_one_gpu_for_each_job_that_asks(
    cluster, miniature, on_slurm, snakemake, bytes_of
):
    project, local = miniature("slurm"), miniature("local")
    status, text = on_slurm(project, *TARGETS, *CONFIG)
    assert status == 0, text
    result = snakemake(local, "--profile", "profiles/local", *TARGETS, *CONFIG)
    assert result.returncode == 0, result.stdout
    assert bytes_of(project) == bytes_of(local)
    assert "concepts/toy/relu2.csv" in bytes_of(project)

    jobs = {number: job for number, job in cluster.jobs().items() if job["folder"] == str(project)}
    seen = {}
    for log in (project / "results/logs").rglob("*.log"):
        rule = log.relative_to(project / "results/logs").parts[0]
        number, gpu = re.fullmatch(
            r"host \S+?(?:, SLURM job (\d+))?(?:, GPU (\S+))?", log.read_text().split("\n")[0]
        ).groups()
        if number:
            job = jobs.pop(int(number))
            partition, seen[rule] = job["partition"], job["memory"]
            expected = ("gpu", r"\d") if rule in gpu_rules() else ("cpu", "None")
            assert partition == expected[0] and re.fullmatch(expected[1], str(gpu)), (rule, partition, gpu)
    assert jobs == {}, "every job of SLURM left its log"
    # 64 images of 32 x 32 pixels with eight label maps are 1 MB, the maps of a shard of them nothing
    asked = {"decode_images": "1001M", "explain_perturbed": "3000M"}
    assert {rule: seen.get(rule) for rule in asked} == asked


def test_every_way_to_ask_for_a_gpu_gives_each_job_its_own(cluster, on_slurm, tmp_path):
    write_devices(tmp_path)
    status, text = on_slurm(tmp_path)
    assert status == 0, text
    got = {path.stem: path.read_text().split() for path in tmp_path.glob("*.txt")}
    assert got.pop("none") == ["cpu", "cpu1:"]
    assert {partition for partition, _ in got.values()} == {"gpu"}
    devices = []
    for _, place in got.values():
        node, _, numbers = place.partition(":")
        devices += [(node, number) for number in numbers.split(",")]
    assert len(devices) == len(set(devices)) == 5, "one for each of three jobs, two for the fourth, none twice"


def test_squeue_shows_what_the_profile_asks_for(cluster, on_slurm, tmp_path):
    write_devices(tmp_path)
    profile = tmp_path / "profiles/slurm/config.yaml"
    text = profile.read_text()
    for name, value in (("slurm_account", "lab"), ("qos", "normal")):
        text, found = re.subn(rf"# {name}: YOUR_\S+", f"{name}: {value}", text)
        assert found == 1
    profile.write_text(f'{text}set-resources:\n  plain: {{ constraint: a100, mem_mb: "400 * attempt" }}\n')
    status, text = on_slurm(tmp_path, "plain.txt")
    assert status == 0, text
    asked = tell("squeue", "--noheader", "--states=all", "--format=%Z|%a|%q|%P|%f|%m").splitlines()
    assert f"{tmp_path}|lab|normal|gpu|a100|400M" in asked


def test_the_site_check_finds_what_the_cluster_has(cluster, tmp_path):
    command = [sys.executable, ROOT / "profiles/slurm/site.py"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert "account lab, QOS normal" in told.stdout and "GPUs: --gpus=1" in told.stdout
    assert re.search(r"^partition cpu: 1440 min, 64000 MB, 8 cores, 0 GPUs: host .*network", told.stdout, re.MULTILINE)
    assert re.search(r"^partition gpu: .*, 4 GPUs: host \S+, gpu \d, scratch /", told.stdout, re.MULTILINE)
    expected = {"max_runtime": 1440, "max_mem_mb": 64000, "max_threads": 8}
    sizes = yaml.safe_load((tmp_path / "site/partitions.yaml").read_text())["partitions"]
    assert sizes == {"cpu": expected, "gpu": expected | {"max_gpu": 4}}
