"""Fixtures of the workflow's tests: copies of the workflow with toy inputs, and Snakemake run in them."""

import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import toy
from cluster import wait_until
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
WORKFLOW = ["Snakefile", "rules", "scripts", "config", "envs", "report", "profiles"]


def pytest_addoption(parser):
    parser.addoption("--sample", type=int, help="seed of a quarter of the tests marked `many`, in place of all of them")
    parser.addoption(
        "--rounds", type=int, default=1, help="how many seeds of each fault tests/slurm/test_campaign.py draws"
    )


def pytest_collection_modifyitems(config, items):
    """Leave out most tests marked `many`: each is drawn once in four seeds in a row, or in as many as it says."""
    if (seed := config.getoption("--sample")) is not None:
        marks = {item: item.get_closest_marker("many") for item in items}
        left_out = {item for item, mark in marks.items() if mark and not drawn(item.nodeid, seed, *mark.args)}
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def drawn(name, seed, of=4):
    """Tell whether a seed draws a test, as it draws one of so many."""
    return (zlib.crc32(name.encode()) + seed) % of == 0


@pytest.fixture(scope="session")
def new_project(tmp_path_factory):
    """Make a folder with a copy of the workflow, so that no run touches this one's results, and the toy inputs."""

    def make(name="project"):
        folder = copy_workflow(tmp_path_factory.mktemp(name) / "run")
        toy.write_inputs(folder)
        toy.write_config(folder, toy.config())
        return folder

    return make


@pytest.fixture
def project(new_project):
    return new_project()


@pytest.fixture(scope="session")
def workflow_copy(tmp_path_factory):
    """A copy of the workflow to plan in, never to run in."""
    return copy_workflow(tmp_path_factory.mktemp("workflow"))


@pytest.fixture(scope="session")
def snakemake():
    """Run Snakemake in a folder; what it printed is in `.stdout`, errors included."""

    def run(folder, *arguments, **variables):
        return subprocess.run(
            command(*arguments),
            cwd=folder,
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.fixture(scope="session")
def plan(snakemake):
    """Count the jobs of a dry run by rule."""

    def count(folder, *arguments):
        result = snakemake(folder, *arguments, "--dry-run", "--quiet", "rules")
        assert result.returncode == 0, result.stdout
        table = result.stdout.partition("Job stats:")[2].partition("total")[0]
        return {rule: int(jobs) for rule, jobs in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}

    return count


@pytest.fixture(scope="session")
def start_snakemake():
    """Start Snakemake in a folder, in a process group of its own, and do not wait."""

    def start(folder, *arguments):
        return subprocess.Popen(
            command(*arguments),
            cwd=folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    return start


@pytest.fixture(scope="session")
def chromium():
    """A headless browser for all tests."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"needs a browser: {', '.join(names)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def browse(chromium):
    """Open a file as a page. By the end of the test no script has failed, every image that is near has loaded, and
    nothing has been asked of another machine."""
    opened = []

    def open_page(path, fragment="", width=1280):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(120_000)  # pages of 50 MB on a machine that does other work, too
        opened.append(page)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: problems.append(request.url) if request.url[:4] == "http" else None)
        page.goto(path.as_uri() + fragment)
        return page

    problems = []
    yield open_page
    for page in opened:
        for frame in page.frames:
            loading = "[...document.images].filter((i) => !i.complete && i.loading !== 'lazy').length"
            wait_until(lambda: frame.evaluate(loading) == 0, "loading every image")  # noqa: B023
            problems += frame.evaluate(
                "[...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => `not loaded: ${i.alt}`)"
            )
        page.close()
    assert not problems


def copy_workflow(folder):
    folder.mkdir(exist_ok=True)
    for part in WORKFLOW:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, folder / part)
    return folder


def command(*arguments):
    return [sys.executable, "-m", "snakemake", *arguments]


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT / "tests"), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
