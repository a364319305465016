"""The plan and the form of the workflow: job counts of both configs, lint, profiles, and names that agree."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import toy
import yaml
from snakemake.cli import get_argument_parser
from unitlens.jobs import costs

ROOT = Path(__file__).parents[2]
RULE_FILES = sorted(ROOT.glob("rules/*.smk"))
SCRIPTS = sorted(ROOT.glob("scripts/*.py"))
PROFILES = sorted(ROOT.glob("profiles/*/config.yaml"))
RULES = dict(
    match
    for file in RULE_FILES
    for match in re.findall(r"^rule (\w+):\n(.*?)(?=^\S|\Z)", file.read_text(), re.MULTILINE | re.DOTALL)
)
WILDCARD = re.compile(r"\{(\w+)\}")

# 2 models, 3 layers each; 1020 rows to label with are one shard, and so are 10 to explain; 3 CAMs and LIME
DEMO = {
    "retrieve_weights": 2,
    "check_model": 2,
    "check_layer": 7,  # 2 models x 3 layers that are labeled, and one more that is explained
    "retrieve_images": 3,
    "decode_images": 7,  # 3 geometries (2 models, 1 encoder); 2 to explain, 2 that are annotated
    "extract_activations": 6,  # 2 models x 3 layers x 1 shard
    "retrieve_encoder": 2,  # ConSE's classifier and sentence encoder
    "collect_words": 1,
    "embed_images": 1,
    "embed_concepts": 1,
    "label_units": 6,
    "rarefy_probe": 2,
    "collect_mask_words": 1,
    "dissect_network": 6,
    "collect_netdissect": 1,
    "extract_controls": 2,
    "score_words": 2,
    "collect_concepts": 1,
    "compare_models": 1,
    "explain_cam": 6,  # 2 models x 3 CAMs x 1 shard
    "explain_perturbed": 2,
    "account_units": 2,
    "summarize_accounts": 1,
    "choose_units": 2,
    "switch_off_units": 2,
    "summarize_interventions": 1,
    "audit_classes": 1,
    "score_agreement": 2,
    "match_explanations": 2,
    "measure_images": 2,
    "score_faithfulness": 2,  # all explainers and controls in one
    "summarize_faithfulness": 1,
    "randomize_model": 2,
    "stabilize_lime": 2,
    "summarize_images": 1,
    "summarize_agreement": 1,
    "summarize_measures": 1,
    "summarize_sanity": 1,
    "summarize_explanations": 1,
    "summarize_predictions": 1,
    "verify_explainers": 2,
    "collect_verification": 1,
    "tune_lime": 2,  # 2 models x 1 shard that holds the first three source images
    "collect_tuning": 1,
    "summarize_timings": 1,
    "draw_overlays": 8,  # 2 models x 4 explainers
    "draw_grid": 2,
    "draw_agreement": 1,
    "draw_faithfulness": 1,
    "draw_measures": 1,
    "write_units": 1,
    "write_explanations": 1,
    "summarize_resources": 1,
    "write_tables": 1,
    "write_overview": 1,
    "all": 1,
}
# 3 models: two are labeled at 3 layers each, two are explained; 63,305 source images are two shards
FULL = DEMO | {
    "retrieve_weights": 3,
    "check_model": 3,
    "retrieve_encoder": 1,  # CLIP's one checkpoint
    "retrieve_images": 2,
    "decode_images": 5,  # 2 labeled models and the encoder x 1 shard, 2 explained models x 1 shard
    "annotate_images": 1,  # Broden's label maps test words
    "annotate_concepts": 1,
}
del FULL["audit_classes"]
# 3 models: two are labeled, one is explained; 1000 source images are 2 shards of 500, ten to explain 2 shards of 5
LAPTOP = {
    rule: count
    for rule, count in FULL.items()
    if not re.search("tun|mask_words|netdissect|dissect_network|annotate", rule)
}
LAPTOP |= {
    "decode_images": 8,  # 2 labeled models and the encoder x 2 shards, 1 explained model x 2 shards
    "extract_activations": 12,  # 2 models x 3 layers x 2 shards
    "embed_images": 2,
    "draw_overlays": 4,
}
one = "choose_units match_explanations verify_explainers randomize_model stabilize_lime draw_grid"
LAPTOP |= dict.fromkeys(one.split(), 1)
# where the sheet to explain gives boxes or masks, as that of the demonstration does
GROUND_TRUTH = {"score_localization": 2, "summarize_localization": 1}


@pytest.mark.parametrize(
    ("profile", "jobs"), [("demo", DEMO | GROUND_TRUTH), ("laptop", LAPTOP), ("local", FULL), ("slurm", FULL)]
)
def test_profile_plans_these_jobs(plan, workflow_copy, profile, jobs):
    assert plan(workflow_copy, "--profile", f"profiles/{profile}") == jobs


def test_the_laptop_runs_the_full_scale_experiment_on_fewer_images_and_words():
    full, laptop = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("config", "laptop"))
    del full["models"]["resnet18"]["cam_layer"]  # only ResNet-50 is explained
    assert laptop["models"] == full["models"] and laptop["encoder"] == full["encoder"]
    assert laptop["images"]["explain"] == full["images"]["explain"] | {"shard_size": 5}
    assert laptop["concepts"]["list"] == full["concepts"]["list"] and laptop["device"] == "cpu"


def test_the_documents_count_the_jobs_of_the_full_experiment():
    counts = {rule: count for rule, count in FULL.items() if rule != "all"}
    gpu = sum(count for rule, count in counts.items() if "gpu=GPU" in RULES[rule])
    local = sum(count for rule, count in counts.items() if "localrule: True" in RULES[rule])
    jobs = sum(counts.values())
    assert gpu <= 60, "a job's start costs more than most of their work"
    page, readme = ((ROOT / name).read_text() for name in ("docs/full-scale.md", "README.md"))
    assert (
        f"{jobs} jobs, of which {gpu} use a GPU, {jobs - gpu - local} are other cluster jobs and {local} run where"
        in page
    )
    assert f"of which {gpu} starts are" in page and f"{jobs} jobs, {gpu} of them on a GPU" in readme


def test_the_page_of_the_full_experiment_shows_the_estimate_of_its_plan(snakemake, workflow_copy):
    plan = snakemake(workflow_copy, "--profile", "profiles/slurm", "--dry-run", "--quiet", "rules").stdout
    estimate = re.search(r"^Estimate, .+?^all .+?$", plan, re.MULTILINE | re.DOTALL)[0]
    assert f"```\n{estimate}\n```" in (ROOT / "docs/full-scale.md").read_text()
    assert set(costs.RATES) <= set(RULES)


def test_a_thousand_source_images_and_five_explainers_need_fewer_than_210_jobs(plan, workflow_copy):
    settings = yaml.safe_load((workflow_copy / "config/demo.yaml").read_text())
    rows = "".join(f"photo_{number},photo.jpg,0 0 1 1\n" for number in range(1000))
    (workflow_copy / "config/thousand.csv").write_text("image_id,path,box\n" + rows)
    settings["images"]["explain"] |= {"sheet": "config/thousand.csv", "shard_size": 250}
    settings["explain"] = {"cams": ["gradcam", "gradcam++", "ablationcam", "scorecam"]}
    (workflow_copy / "config/thousand.yaml").write_text(yaml.safe_dump(settings))
    assert sum(plan(workflow_copy, "--configfile", "config/thousand.yaml").values()) < 210


def test_whoever_has_annotations_needs_no_encoder(plan, workflow_copy):
    settings = yaml.safe_load((workflow_copy / "config/demo.yaml").read_text())
    for key in ("encoder", "concepts", "netdissect", "tune"):
        del settings[key]
    settings["images"]["probe"] = settings["images"].pop("annotated") | {"shard_size": 100}
    settings["dissect"] = {"method": "annotations", "similarity": "auc", "annotations": {"masks": "textures"}}
    (workflow_copy / "config/annotations.yaml").write_text(yaml.safe_dump(settings))
    jobs = plan(workflow_copy, "--configfile", "config/annotations.yaml")
    assert (jobs["annotate_images"], jobs["annotate_concepts"], jobs["label_units"]) == (3, 1, 6)
    assert jobs["decode_images"] == 8  # 2 geometries, 3 shards to label with and one to explain
    assert not {"retrieve_encoder", "embed_images", "embed_concepts", "collect_words"} & set(jobs)


def test_an_encoders_words_are_tested_by_shards_of_annotations_and_one_list_of_their_words(snakemake, workflow_copy):
    """Broden's label maps test CLIP's words; a script gets a file of its own by name, and shards as a list."""
    asked = "rules.label_units.input.annotations, rules.label_units.input.annotated"
    (workflow_copy / "asking.smk").write_text(f'include: "Snakefile"\nprint("given", *map(repr, ({asked})))\n')
    result = snakemake(workflow_copy, "-s", "asking.smk", "--configfile", "config/config.yaml", "--list")
    shards, listed = ("results/embeddings/images/annotations/00000.h5", "results/embeddings/concepts/annotations.h5")
    assert f"given ['{shards}'] '{listed}'\n" in result.stdout


def test_fifty_thousand_source_images_are_planned_in_few_jobs_and_little_memory():
    """Of three models with four layers each; tests/bench/scale.py plans as `snakemake -n` does, and more than this."""
    command = [sys.executable, "tests/bench/scale.py", "--plan", "50000", "4096"]
    plan = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert plan["jobs"] <= 500
    assert plan["peak"] < 300  # MiB


def test_miniature_plans_these_jobs(plan, project):
    jobs = plan(project, "--configfile", "config/toy.yaml")
    assert {
        rule: jobs[rule] for rule in ("decode_images", "extract_activations", "explain_cam", "explain_perturbed")
    } == {
        "decode_images": 6,  # one geometry; 7 source images in shards of 3, 6 in shards of 2
        "extract_activations": 6,
        "explain_cam": 3,
        "explain_perturbed": 3,
    }


def test_an_explainer_that_needs_no_layer_is_planned_by_its_name_in_the_schema(plan, project):
    schema, config = project / "config/schema.yaml", toy.config()
    lime = "      lime:\n        description: LIME.\n"
    other = "      occlusion:\n        description: A square.\n        type: object\n"
    schema.write_text(schema.read_text().replace(lime, other + lime))
    config["explain"] |= {"occlusion": {}}
    (project / "config/new.yaml").write_text(yaml.safe_dump(config))
    before, after = (plan(project, "--configfile", f"config/{name}.yaml") for name in ("toy", "new"))
    explained = {"explain_perturbed": 2 * before["explain_perturbed"], "draw_overlays": before["draw_overlays"] + 1}
    assert after == before | explained


def test_lime_is_tuned_on_the_first_shards_where_the_config_asks(plan, project):
    assert "tune_lime" not in plan(project, "--configfile", "config/toy.yaml")
    toy.write_config(project, toy.config() | {"tune": {"n_images": 3, "grid": {"alpha": [0.1, 1]}}})
    jobs = plan(project, "--configfile", "config/toy.yaml")
    assert (jobs["tune_lime"], jobs["collect_tuning"]) == (2, 1), "three of six source images in shards of two"


def test_lint(snakemake, workflow_copy):
    result = snakemake(workflow_copy, "--lint", "--configfile", "config/demo.yaml")
    assert result.returncode == 0, result.stdout


def test_format():
    command = [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "rules"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_snakefile_is_a_table_of_contents():
    text = (ROOT / "Snakefile").read_text()
    assert re.findall(r'^include: "rules/(.+)"', text, re.MULTILINE)[0] == "common.smk"
    assert {f"rules/{name}" for name in re.findall(r'^include: "rules/(.+)"', text, re.MULTILINE)} == {
        file.relative_to(ROOT).as_posix() for file in RULE_FILES
    }
    assert re.findall(r"^rule (\w+):", text, re.MULTILINE) == ["all", "partial"]


@pytest.mark.parametrize("file", RULE_FILES, ids=lambda file: file.stem)
def test_a_rule_file_is_short_and_has_rules_or_functions(file):
    text = file.read_text()
    assert len(text.splitlines()) <= (250 if file.stem == "common" else 160)
    assert bool(re.search("^(use )?rule ", text, re.MULTILINE)) != bool(re.search("^def ", text, re.MULTILINE))


@pytest.mark.parametrize("file", RULE_FILES, ids=lambda file: file.stem)
def test_memory_and_run_time_have_names(file):
    requests = re.findall("^ +(?:mem_mb|runtime)=(.+),$", file.read_text(), re.MULTILINE)
    assert not [each for each in requests if re.search(r"\b\d\d", each)]


def test_what_the_rules_import_is_light():
    """Every job imports it with the rules, so it needs the standard library, yaml and jsonschema only."""
    files = sorted(ROOT.glob("scripts/unitlens/jobs/*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    light = {*sys.stdlib_module_names, "yaml", "jsonschema"}
    assert not [each for each in names if each.partition(".")[0] not in light and not each.startswith("unitlens.jobs")]
    code = f"import sys, {', '.join(f'unitlens.jobs.{file.stem}' for file in files)}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    assert len(files) > 5 and not {"numpy", "torch", "pandas", "snakemake"} & set(result.stdout.split())


@pytest.mark.parametrize("name", RULES)
def test_rule_names_its_files(name):
    rule = RULES[name]
    sections = re.findall(r"^    (\w+):", rule, re.MULTILINE)
    assert {"output", "log", "benchmark", "conda", "message", "script"} <= set(sections)
    assert sections.count("script") == 1 and f'"../scripts/{name}.py"' in rule
    log = re.search(rf'"results/logs/{name}/(.+)\.log"', rule)
    benchmark = re.search(rf'"results/benchmarks/{name}/(.+)\.tsv"', rule)
    assert log and benchmark and log[1] == benchmark[1], "log and benchmark lie under the rule's name"
    assert '"../envs/unitlens.yaml"' in rule


def test_results_in_the_report_have_one_label_each_and_no_two_the_same():
    """Snakemake's report drops a result of the same labels, and fails where two values of a second label balance."""
    text = "".join(RULES.values())
    labels = re.findall(r'category=(".+"|category_of_page),\n +labels={"result": f?"((?:figure|page): .+)"},', text)
    pages = re.findall(r'^        "(\w+)": \(', (ROOT / "rules/table_params.smk").read_text(), re.MULTILINE)
    assert len(labels) == len(set(labels)) == text.count("report(\n") and len(pages) > 5
    assert len(labels) - 1 + len(pages) <= 30, "more than a reader looks through"


def test_every_script_has_its_rule():
    assert {file.stem for file in SCRIPTS} == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_message_uses_the_wildcards_that_tell_jobs_apart(name):
    section = re.search(r"    message:\n        (.+)", RULES[name])[1]
    log = re.search(r'"results/logs/.+"', RULES[name])[0]
    assert set(re.findall(r"\{wildcards\.(\w+)\}", section)) == set(WILDCARD.findall(log))


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_script_is_an_adapter(file):
    text = file.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert not [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    assert len(text.splitlines()) <= 40
    # What a job depends on is a param, which runs it again. Where a sheet lies is none: only its rows count.
    where = re.sub(r'snakemake\.config\["images"\]\[snakemake\.wildcards\.dataset\]\.get\("sheet"', "", text)
    assert "snakemake.config" not in where
    assert "with log_to(snakemake.log[0])" in text


@pytest.mark.parametrize("file", PROFILES, ids=lambda file: file.parent.name)
def test_profile_has_known_keys_and_an_existing_config(file):
    settings = yaml.safe_load(file.read_text())
    options = get_argument_parser()._option_string_actions
    assert [key for key in settings if f"--{key}" not in options] == []
    assert (ROOT / settings["configfile"]).is_file()


def test_slurm_profile_is_found_by_its_name():
    assert (ROOT / "slurm").resolve() == (ROOT / "profiles/slurm").resolve()


@pytest.mark.parametrize("variant", ["gpu: 0, gres", "constraint"])
def test_variants_of_the_slurm_profile_name_every_rule_with_a_gpu(variant):
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    lines = text.partition("# set-resources:\n")[2].splitlines()
    kept = [line for line in lines if "&gpu" not in line or f"{{ {variant}:" in line]
    settings = yaml.safe_load("set-resources:\n" + "\n".join(line.removeprefix("#") for line in kept))["set-resources"]
    assert set(settings) == {name for name, rule in RULES.items() if "gpu=GPU" in rule}
    assert len({str(each) for each in settings.values()}) == 1


def test_no_default_profile():
    assert not (ROOT / "profiles/default").exists(), "it would override the user's own profile"
