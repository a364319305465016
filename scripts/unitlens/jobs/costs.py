"""Estimate what a planned run costs, rule by rule: minutes of GPUs and of cores, and disk.

The rates are those of ResNet-18 at 224 x 224 pixels; a network of twice its work takes twice as long.
docs/full-scale.md says where they were measured, and which are assumed. What is retrieved is left out.
"""

import functools
import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from unitlens.jobs import csv_files
from unitlens.jobs.sheets import sides

GPU_PASS, CPU_PASS = 5.6e-5, 0.017  # seconds of one prediction: on an H100, on a core of an AMD EPYC
GPU_START, CPU_START = 15.0, 3.5  # seconds until a job works: with a GPU, on a cluster; without one
_SIDE = 224  # pixels
_SHOWN = 0.01  # share of a total from which on a rule has a line of its own
_AUTO_SAMPLES = 2500  # of an image with `n_samples: auto`: docs/tuning.md
_CAM_PASSES = {"ablationcam": 4, "scorecam": 512}  # for an image, before `layer4`; the others go there and back


class Rate(NamedTuple):
    """What each of a number of things costs."""

    things: str  # as `things` names and counts them
    passes: float = 0  # predictions
    seconds: float = 0  # of a core, for which a GPU of the job waits
    kilobytes: float = 0  # on disk


RATES = {  # of a job; a rule that is not listed costs the start of its jobs
    "decode_images": [Rate("shard", seconds=0.005, kilobytes=172)],
    "extract_activations": [Rate("probe shard", 1, 1e-4, 1.2)],
    "embed_images": [Rate("encoded", 1), Rate("probe shard", kilobytes=2)],
    "embed_concepts": [Rate("words", 5.5, kilobytes=2)],
    "annotate_images": [Rate("probe shard", seconds=0.005, kilobytes=5)],
    "label_units": [Rate("pairs", seconds=8e-8)],  # 512 units, with their evidence
    "rarefy_probe": [Rate("pairs", seconds=8e-8)],
    "dissect_network": [Rate("annotated", 4, 0.0015)],
    "extract_controls": [Rate("probe", 2, 1e-4, 8)],
    "score_words": [Rate("pairs", seconds=3.5e-7)],
    "explain_cam": [Rate("cams", 1), Rate("shard", kilobytes=196)],
    "explain_perturbed": [Rate("samples", 1), Rate("shard", kilobytes=196)],
    "account_units": [Rate("shard", 2, kilobytes=2)],
    "switch_off_units": [Rate("switched off", 1)],
    "summarize_accounts": [Rate("explain", seconds=5e-4)],  # the pages of classes, too
    "score_faithfulness": [Rate("curves", 1)],
    "stabilize_lime": [Rate("seeds", 1)],
    "tune_lime": [Rate("settings", 1)],
    "randomize_model": [Rate("stages", 2)],
    "verify_explainers": [Rate("verified", 2200)],
    "score_agreement": [Rate("map pairs", seconds=0.05)],
    "match_explanations": [Rate("map pairs", seconds=0.05)],
    "measure_images": [Rate("maps", seconds=0.02)],
    "draw_overlays": [Rate("explain", seconds=0.05, kilobytes=100)],
    "write_units": [Rate("layers", seconds=10)],
}


class Cost(NamedTuple):
    """What jobs cost."""

    jobs: int = 0
    gpu: float = 0  # seconds
    cpu: float = 0  # seconds of a core
    gigabytes: float = 0

    def plus(self, other: "Cost") -> "Cost":
        """Add up."""
        return Cost(*map(sum, zip(self, other, strict=True)))


_count_rows = functools.cache(csv_files.count_rows)


def count_words(config: Mapping) -> int:
    """Count the words of the list of concepts, the common ones added to it among them; 0 where there is none."""
    concepts = config.get("concepts")
    return _count_rows(concepts["list"]) + concepts.get("common_words", 0) if concepts else 0


def things(config: Mapping, wildcards: Mapping[str, str], rows: Callable[[str], int]) -> dict[str, float]:
    """Count what a job works on; `rows` tells how many source images a set has, and `config` has its defaults."""

    def of_shard(dataset: str) -> int:
        size = config["images"][dataset]["shard_size"]
        return min(size, rows(dataset) - size * int(wildcards.get("shard", 0)))

    def first(section: str) -> int:
        return min(config.get(section, {}).get("n_images", 0), rows("explain"))

    own, probe = of_shard(wildcards.get("dataset", "explain")), rows("probe")
    cams, others = config["explain"]["cams"], [each for each in config["explain"].values() if isinstance(each, Mapping)]
    lime, grid = config["explain"].get("lime", {}), config.get("tune", {}).get("grid", {})
    samples, explainers = lime.get("n_samples", 1000), len(cams) + len(others)
    samples = _AUTO_SAMPLES if samples == "auto" else samples
    faithfulness, sanity = config["faithfulness"], config["sanity"]
    curves = 2 * len(faithfulness["baselines"]) * (faithfulness["steps"] - 2) + 2 * len(faithfulness["percentiles"]) + 1
    tuned = math.prod(len(grid.get(key, "1")) for key in ("superpixels", "hide"))
    words = count_words(config)
    clip = config.get("encoder", {}).get("kind") == "clip"
    return {
        "shard": own,
        "probe shard": of_shard("probe"),
        "encoded": of_shard("probe") * (26 if clip else 1),  # ViT-B/16; ConSE's encoder of images is a classifier
        "probe": probe,
        "annotated": rows("annotated") if "annotated" in config["images"] else probe,
        "explain": rows("explain"),
        "words": words,
        "pairs": probe * words,  # of source images and words
        "cams": own * _CAM_PASSES.get(wildcards.get("method", ""), 2),
        "samples": own * samples * lime.get("repeats", 1),
        "switched off": own
        * 2
        * len(config["switch_off"]["units"]),  # four kinds of sets, on half of the source images
        "curves": own * 2 * explainers * curves,  # as many again for controls
        "seeds": first("sanity") * (sanity["seeds"] - 1) * max(*sanity["samples"], samples),
        "settings": min(own, first("tune")) * tuned * max(grid.get("n_samples", [samples])),
        "stages": first("sanity") * len(sanity["cams"]) * (sanity["stages"] + 1),
        "verified": first("verify"),
        "maps": own * explainers,
        "map pairs": own * math.comb(explainers, 2),
        "layers": sum(len(model["layers"]) for model in config["models"].values()),
    }


def estimate(
    jobs: Iterable[tuple[str, Mapping[str, str], bool]], config: Mapping, rows: Callable[[str], int]
) -> dict[str, Cost]:
    """Estimate the cost of each rule of some jobs: their rules, their wildcards, and whether they hold a GPU."""
    costs: dict[str, Cost] = {}
    for rule, wildcards, gpu in jobs:
        rates, counts = RATES.get(rule, []), things(config, wildcards, rows) if rule in RATES else {}
        pixels = _pixels(config, wildcards) / _SIDE**2
        passes, seconds, kilobytes = (sum(counts[rate[0]] * rate[part] for rate in rates) for part in (1, 2, 3))
        spent = seconds + pixels * passes * (GPU_PASS if gpu else CPU_PASS) + (GPU_START if gpu else CPU_START)
        cost = Cost(1, spent if gpu else 0, 0 if gpu else spent, pixels * kilobytes / 1e6)
        costs[rule] = costs.get(rule, Cost()).plus(cost)
    return costs


def _pixels(config: Mapping, wildcards: Mapping[str, str]) -> int:
    """Give the pixels of the images of a job: of its model, its geometry, or as many as were measured."""
    if model := config["models"].get(wildcards.get("model")):
        return math.prod(sides(model["preprocessing"]["crop"]))
    found = re.search(r"-crop(\d+)(?:x(\d+))?-", wildcards.get("geometry", ""))
    return int(found[1]) * int(found[2] or found[1]) if found else _SIDE**2


def tell(costs: Mapping[str, Cost]) -> str:
    """Write a table: rules of much cost, dearest first, the others together, and the sum."""
    total = Cost()
    for cost in costs.values():
        total = total.plus(cost)
    large = {rule: c for rule, c in costs.items() if any(c[i] > _SHOWN * total[i] for i in (1, 2, 3))}
    rest = Cost()
    for rule in costs.keys() - large.keys():
        rest = rest.plus(costs[rule])
    lines = sorted(large.items(), key=lambda each: (-each[1].gpu, -each[1].cpu, each[0]))
    lines += [(f"{len(costs) - len(large)} other rules", rest)] if rest.jobs else []
    text = ["Estimate, at the rates of ResNet-18 on an H100 and on cores of an AMD EPYC (docs/full-scale.md):"]
    text.append(f"{'rule':<24}{'jobs':>6}{'GPU minutes':>14}{'core minutes':>14}{'GB':>8}")
    for name, cost in [*lines, ("all", total)]:
        text.append(f"{name:<24}{cost.jobs:>6}{cost.gpu / 60:>14.1f}{cost.cpu / 60:>14.1f}{cost.gigabytes:>8.1f}")
    return "\n".join(text)


def show_in_a_plan(workflow: object, logger: logging.Logger, config: Mapping, rows: Callable[[str], int]) -> None:
    """Let a dry run print the estimate below its count of jobs.

    What Snakemake keeps of its jobs is no interface: where it is not as expected the estimate is left out.
    """
    told: list[str] = []  # it is printed above and below the jobs, by then done

    def add(record: logging.LogRecord) -> bool:
        if str(getattr(record, "event", "")) == "run_info" and workflow.dryrun:
            if not told:
                try:
                    needed = workflow.dag.needrun_jobs()
                    jobs = [
                        (job.rule.name, dict(job.wildcards.items()), bool(job.rule.resources.get("gpu").value))
                        for job in needed
                    ]
                    told.append(tell(estimate(jobs, config, rows)))
                except Exception as error:
                    told.append(f"There is no estimate ({type(error).__name__}: {error}).")
            record.msg = f"{record.msg}\n{told[0]}\n"
        return True

    logger.addFilter(add)
