"""`make site` reads what SLURM says at different sites, and tries what it proposes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[2] / "profiles/slurm/site.py"
SPEC = importlib.util.spec_from_file_location("site_check", SCRIPT)
site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("(null)", 0),
        ("gpu:4", 4),
        ("gpu", 1),
        ("gpu:a100:4(S:0-1),gpu:v100:2", 6),
        ("gpu:a100:8(IDX:0,2)", 8),
        ("gpu:tesla:2(S:0),mps:200", 2),
        ("shard:16,gpu:h100:4", 4),
        ("craynetwork:4", 0),
        ("gpu:1g.5gb:7", 7),
    ],
)
def test_gpus_of_a_node(text, count):
    assert site.gpus(text) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1-00:00:00", 1440),
        ("7-12", 7 * 1440 + 720),
        ("1-12:30", 1440 + 750),
        ("2:00:00", 120),
        ("30:00", 30),
        ("0:30", 1),
        ("infinite", 525600),
        ("n/a", 525600),
    ],
)
def test_limit_of_time(text, count):
    assert site.minutes(text) == count


def test_the_largest_node_of_each_partition_that_is_up():
    said = "a|up|1-00:00:00|64000+|32|(null)\na|up|1-00:00:00|128000|16|(null)\n"
    said += "g|up|2:00:00|515000|128+|gpu:a100:4(S:0-3)\nold|down|1:00|1|1|(null)\nrest|inact|1:00|1|1|(null)\n"
    found = site.partitions(said)
    assert found == {"a": (1440, 128000, 32, 0), "g": (120, 515000, 128, 4)}
    sizes = yaml.safe_load(site.proposal(found))["partitions"]
    assert sizes["g"] == {"max_runtime": 120, "max_mem_mb": 515000, "max_threads": 128, "max_gpu": 4}
    assert "max_gpu" not in sizes["a"]


def test_accounts_and_their_qos():
    assert site.associations("lab|normal,long\nother|\n||\n") == {"lab": ["normal", "long"], "other": []}


SBATCH = """#!/bin/sh
for each; do case $each in --output=*) file=${each#--output=} ;; esac; done
case "$*" in
  *--gpus=1*) echo "sbatch: error: Invalid --gpus" >&2; exit 1 ;;
  *partition=closed*) echo "sbatch: error: not for you" >&2; exit 1 ;;
  *account=lab*) printf 'host n1\\ngpu 0\\n' > "$file" ;;
esac
"""
SINFO = """#!/bin/sh
echo 'cpu|up|1:00:00|1000|4|(null)'
echo 'g|up|1:00:00|9000|8|gpu:2'
echo 'closed|up|1:00|9|8|(null)'
"""


def test_a_site_of_accounts_and_gres(tmp_path):
    commands = {
        "sinfo": SINFO,
        "sbatch": SBATCH,
        "scontrol": "#!/bin/sh\necho 'AccountingStorageType   = accounting_storage/slurmdbd'\n",
        "sacctmgr": "#!/bin/sh\necho 'lab|normal'\n",
    }
    (tmp_path / "bin").mkdir()
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    told = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == [
        "accounting: accounting_storage/slurmdbd; jobs are followed with it and without",
        "account lab, QOS normal",
        "partition cpu: 60 min, 1000 MB, 4 cores, 0 GPUs: host n1, gpu 0",
        "partition g: 60 min, 9000 MB, 8 cores, 2 GPUs: host n1, gpu 0",
        "partition closed: 1 min, 9 MB, 8 cores, 0 GPUs: sbatch: error: not for you",
        "GPUs: --gres=gpu:1",
        "Compare, then copy: site/partitions.yaml, and the lines of site/config.yaml, into profiles/slurm",
    ]
    assert list(yaml.safe_load((tmp_path / "site/partitions.yaml").read_text())["partitions"]) == ["cpu", "g", "closed"]
    settings = (tmp_path / "site/config.yaml").read_text()
    assert yaml.safe_load(settings) == {"default-resources": {"slurm_account": "lab"}} and "--gres" in settings


def test_without_slurm_one_line_says_so(tmp_path):
    told = subprocess.run(
        [sys.executable, SCRIPT], cwd=tmp_path, env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert told.returncode == 1 and told.stderr == "SLURM cannot be asked from here: sinfo is not installed here\n"
