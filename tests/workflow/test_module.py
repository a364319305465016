"""Another workflow imports this one: its rules with a prefix, a config of its own, and rules that use its outputs."""

import json

import pytest
import toy
from conftest import ROOT

SNAKEFILE = """
import json

module unitlens:
    snakefile: "{workflow}/Snakefile"
    config: json.load(open("explain.json"))

use rule * from unitlens as unitlens_*

use rule decode_images from unitlens as unitlens_decode_images with:
    threads: 2

rule mine:
    default_target: True
    input: "results/models/toy/relu2.json", "results/images/explain/squash36-crop32-bilinear/00000.h5"
    output: "mine.json"
    shell: "cp {{input[0]}} {{output}}"
"""


@pytest.fixture
def importing(tmp_path):
    """A workflow elsewhere, with the toy inputs and no copy of this workflow beside it."""
    toy.write_inputs(tmp_path)
    (tmp_path / "explain.json").write_text(json.dumps(toy.config()))
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(workflow=ROOT))
    return tmp_path


def test_all_rules_are_planned_with_the_prefix(importing, project, plan):
    alone = plan(project, "--configfile", "config/toy.yaml")
    assert plan(importing, "unitlens_all") == {f"unitlens_{rule}": count for rule, count in alone.items()}


def test_a_rule_outside_uses_what_the_rules_make(importing, snakemake):
    result = snakemake(importing, "--cores", "1")
    assert result.returncode == 0, result.stdout
    assert json.loads((importing / "mine.json").read_text())["layers"]["relu2"] == [8, 8, 8]
    assert "unitlens_check_layer" in result.stdout and "unitlens_decode_images" in result.stdout


def test_its_config_is_checked(importing, snakemake):
    (importing / "explain.json").write_text(json.dumps(toy.config() | {"devise": "cpu"}))
    assert "unknown key 'devise'" in snakemake(importing, "--dry-run").stdout
