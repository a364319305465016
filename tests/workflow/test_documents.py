"""The documents hold: their commands run, their links lead somewhere, and no output lacks its description."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import outputs
import pandas as pd
import pytest
import toy
import unitlens
import yaml
from conftest import copy_workflow
from PIL import Image
from unitlens.jobs import schema

ROOT = Path(__file__).parents[2]
VENV = Path(sys.executable).parents[1]
PAGES = [ROOT / "README.md", ROOT / "config/README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LITERAL = re.compile(r'"(results/[^"]+\.(?:csv|h5))"')


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)]*)?\)", page.read_text()):
        if target and not target.startswith("http"):
            assert (page.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)]*)\)", page.read_text()):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings], anchor


def test_every_table_and_array_file_of_a_rule_has_its_section():
    patterns = [pattern for section in outputs.sections() for pattern in section]
    names = {name for file in (ROOT / "rules").glob("*.smk") for name in LITERAL.findall(file.read_text())}
    concrete = {name: re.sub(r"\{[\w.]*\}", "x", name.replace("{{", "{").replace("}}", "}")) for name in names}
    assert len(names) > 50
    assert not [name for name, one in concrete.items() if not any(outputs.matches(each, one) for each in patterns)]


def test_captions_read_from_the_config_what_it_may_change():
    schema, read = yaml.safe_load((ROOT / "config/schema.yaml").read_text()), set()
    for file in (ROOT / "report").glob("*.rst"):
        for keys in re.findall(r"snakemake\.config((?:\[\"[^\"]+\"\])+)", text := file.read_text()):
            entry, path = schema, re.findall(r"[^\"\[\]]+", keys)
            for key in path:
                entry = entry["properties"][key]
            read.add(".".join(path))
        assert not re.findall(r"\(0\.\d+\)", text), f"{file.name} repeats what the config may change"
    assert {"dissect.evidence.alpha", "agreement.area", "netdissect.share"} <= read


@pytest.mark.parametrize(
    "command", re.findall(r"`(snakemake --profile profiles/[^`]*)`", (ROOT / "README.md").read_text())
)
def test_commands_of_the_readme_are_planned(command, workflow_copy, snakemake):
    result = snakemake(workflow_copy, *shlex.split(command)[1:], "--dry-run", "--quiet", "rules")
    assert result.returncode == 0 and "total" in result.stdout, result.stdout


def test_the_config_of_the_readme_is_accepted_and_the_page_is_short():
    readme = (ROOT / "README.md").read_text()
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)[1])
    full = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    rules = schema.read_schema(ROOT / "config/schema.yaml")
    assert schema.violations({**shown, "encoder": full["encoder"]}, rules) == []
    assert len(readme.split()) <= 700


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert unitlens.__version__ == citation["version"] == newest
    assert re.fullmatch(r"\d+\.\d+\.\d+", newest)


def test_citation_has_what_its_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert len(citation["references"]) > 5
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year", "url"} <= set(reference)
        assert all({"family-names", "given-names"} == set(author) for author in reference["authors"])


def test_the_catalog_knows_every_key():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["software-stack-deployment"]) == {"conda", "apptainer", "apptainer+conda"}
    assert "snakemake" in (readme := (ROOT / "README.md").read_text().lower()) and "workflow" in readme


def test_hook_and_ci_run_what_developers_run():
    makefile = (ROOT / "Makefile").read_text()
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert hook["entry"] == "make lint" and hook["language"] == "system" and not hook["pass_filenames"]
    for command in ("ruff check .", "ruff format --check .", "snakefmt --check Snakefile rules", "snakemake --lint"):
        assert command in makefile.partition("\nlint: env\n")[2]
    ci = (ROOT / ".ci/run").read_text()
    assert re.findall(r"^make (.*)$", ci, re.MULTILINE) == ["lint", "test", "test-slow"]
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert len(commands) == 1 and "bash .ci/run" in commands[0], "the same, so there is nothing to keep equal"


# ---- docs/your-own.md, pasted into a shell


@pytest.fixture
def paste(tmp_path):
    """Run what the page says in a copy of the workflow, as one would paste it; give the run folder."""
    clone = tmp_path / "unitlens"
    clone.mkdir()
    copy_workflow(clone)
    for part in ("Makefile", "docs"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy2)(ROOT / part, clone / part)
    make = f'make() {{ command make -o env "VENV={VENV}" "$@"; }}'

    def run(blocks):
        script = "\n".join(["set -e", make, *blocks])
        told = subprocess.run(
            ["bash", "-c", script],
            cwd=clone,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert told.returncode == 0, told.stdout[-8000:]
        return tmp_path / "my_run", told.stdout

    return run


def blocks():
    return re.findall(r"^```bash\n(.*?)^```$", (ROOT / "docs/your-own.md").read_text(), re.MULTILINE | re.DOTALL)


def check_explained(run):
    units = pd.read_csv(run / "results/concepts.csv")
    assert units.groupby("layer").size().to_dict() == {"relu2": 32, "relu3": 32}
    listed = set(pd.read_csv(run / "my_concepts.csv").word)
    assert set(units.concept.dropna()) <= listed and set(units.candidate.dropna()) <= listed
    assert units.candidate.notna().sum() > 32
    with Image.open(run / "results/figures/explanations/my_network.png") as image:
        assert image.width > 600 and image.height > 3 * 100  # a row for each of the first three source images


def test_ones_own_network_is_explained(paste, tmp_path):
    """The page as it stands, but with a miniature for the encoder's files, and without its last run."""
    toy.save_checkpoint(tmp_path / "imagenet.pt", toy.imagenet_network)
    toy.write_sentence_encoder(tmp_path / "text.zip")
    (own,) = [block for block in blocks() if "config/mine.yaml <<" in block]
    (report,) = [block for block in blocks() if "--report " in block]
    config = yaml.safe_load(own.partition("<<'END'\n")[2].partition("\nEND\n")[0])
    assert config["encoder"] == yaml.safe_load((ROOT / "config/demo.yaml").read_text())["encoder"]
    files = {"image": {"path": str(tmp_path / "imagenet.pt")}, "text": {"path": str(tmp_path / "text.zip")}}
    config["encoder"] |= {"architecture": f"{ROOT}/tests/toy.py:imagenet_network", "layout": "named", "files": files}
    config["encoder"]["preprocessing"] |= {"resize": 32, "crop": 32}
    config["explain"] = {"cams": ["gradcam"], "lime": {"n_samples": 50}}
    smaller = f"cat > config/mine.yaml <<'END'\n{yaml.safe_dump(config)}END"
    pasted = [block.replace("range(200)", "range(2)") for block in blocks() if block != report]
    pasted.insert(pasted.index(own) + 1, smaller)
    run, told = paste(pasted)
    check_explained(run)
    assert "explain_perturbed" in told and "second_concept" in told
    commands = [line for block in (*pasted, report) for line in block.splitlines() if line.startswith("snakemake ")]
    assert {shlex.split(line)[2] for line in commands} == {"config/mine.yaml"} and len(commands) == 3


@pytest.mark.e2e
def test_ones_own_network_is_explained_and_reported(paste):
    run, told = paste(blocks())
    check_explained(run)
    predictions = pd.read_csv(run / "results/predictions.csv")
    assert predictions.correct.mean() > 0.8, "it was trained on these"
    assert "my_network" in (run / "results/report.html").read_text() and "Jobs done: " in told
