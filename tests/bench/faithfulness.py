"""Time the measures of faithfulness beside Quantus and `grad-cam`, and write docs/benchmarks/faithfulness.md.

    make bench-faithfulness
    pip install --target /tmp/quantus --no-deps quantus && make bench-faithfulness QUANTUS=/tmp/quantus

Quantus has a folder of its own because its requirements replace OpenCV. The limit is the network alone on as many
images at the same batch size. ResNet-18 has random weights: time does not depend on them.
"""

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import explainers
import table
import torch
from explainers import Job
from pytorch_grad_cam.metrics.road import ROADMostRelevantFirstAverage
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from unitlens.measures import faithfulness, perturbation, sanity
from unitlens.networks import network

STEPS, PERCENTILES = 17, list(range(10, 100, 10))  # Quantus wants steps of equally many pixels
ALL = f"all, both baselines, {STEPS} points"
PLANS = {
    "deletion": perturbation.Plan(STEPS, ["mean"], measures=["deletion"]),
    "insertion": perturbation.Plan(STEPS, ["mean"], measures=["insertion"]),
    "ROAD, most relevant first": perturbation.Plan(percentiles=PERCENTILES, measures=["road_morf"]),
    "average drop and increase": perturbation.Plan(measures=["masked"]),
    ALL: perturbation.Plan(STEPS, ["blur", "mean"], PERCENTILES),
}


def main() -> None:
    """Read the options, measure, write."""
    options = _options()
    if options.device == "cpu":
        torch.set_num_threads(explainers.CPU_THREADS)
    images = explainers.source_images(options.images).to(options.device)
    maps = sanity.random_saliency(images.shape[1:3], seeds=range(len(images))).to(options.device)
    model = explainers.our_network("resnet18", options.device)
    rows = []
    for name, plan in PLANS.items():
        count = count_predictions(images, maps, plan, options.batch_size)
        jobs = {
            "ours": our_job(model, images, maps, plan, options.batch_size),
            "limit": limit_job(model, images, count, options.batch_size),
        }
        warm_up = dict(jobs)  # the references take too long to run them for nothing
        if theirs := reference_job(name, images, maps, options):
            jobs["reference"] = theirs
        seconds = explainers.race(jobs, warm_up, options.repeats)
        ours, limit, reference = (seconds.get(key) for key in ("ours", "limit", "reference"))
        share = f"{100 * limit / ours:.0f} %"
        rows.append([name, count / len(images), ours, 1 / ours, share, reference, reference and reference / ours])
        print(rows[-1], flush=True)
    write(rows, options)


def our_job(model: nn.Module, images: Tensor, maps: Tensor, plan: perturbation.Plan, batch_size: int) -> Job:
    """Make the call as the workflow makes it."""
    predict = network.predictor(model, _normalizer(images))
    return Job(partial(_curves, predict, images, maps, plan, batch_size), len(images))


def limit_job(model: nn.Module, images: Tensor, count: int, batch_size: int) -> Job:
    """Make a call of the network alone on `count` images."""
    inputs = _normalizer(images)(images[torch.arange(batch_size, device=images.device) % len(images)])
    return Job(partial(explainers.forward_passes, model, inputs, count), len(images))


def reference_job(name: str, images: Tensor, maps: Tensor, options: argparse.Namespace) -> Job | None:
    """Make a call of a package that perturbs as often, if there is one: Quantus's ROAD fails on three channels."""
    inputs = _normalizer(images)(images).contiguous()
    model = explainers.reference_network("resnet18", options.device)
    if name == "ROAD, most relevant first":
        metric, targets = ROADMostRelevantFirstAverage(PERCENTILES), [ClassifierOutputTarget(0)] * len(images)
        return Job(partial(metric, inputs, maps.cpu().numpy(), targets, model), len(images))
    if name != "deletion" or not importlib.util.find_spec("quantus"):
        return None
    import quantus

    metric = quantus.PixelFlipping(
        features_in_step=images.shape[1] * images.shape[2] // (STEPS - 1),
        perturb_baseline="mean",
        disable_warnings=True,
    )
    given = {
        "model": model,
        "x_batch": inputs.cpu().numpy(),
        "y_batch": _targets(images).cpu().numpy(),
        "a_batch": maps[:, None].cpu().numpy(),
        "device": options.device,
        "batch_size": options.batch_size,
    }
    return Job(partial(metric, **given), len(images))


def count_predictions(images: Tensor, maps: Tensor, plan: perturbation.Plan, batch_size: int) -> int:
    """Count the images that a plan predicts."""
    sizes = []

    def predict(batch: Tensor) -> Tensor:
        sizes.append(len(batch))
        return torch.ones(len(batch), 1, device=batch.device)

    _curves(predict, images, maps, plan, batch_size)
    return sum(sizes)


def _curves(
    predict: Callable[[Tensor], Tensor], images: Tensor, maps: Tensor, plan: perturbation.Plan, batch_size: int
) -> None:
    faithfulness.curves(predict, images, {"map": maps}, _targets(images), plan=plan, batch_size=batch_size)


def _normalizer(images: Tensor) -> Callable[[Tensor], Tensor]:
    return network.normalizer(explainers.MEAN, explainers.STD, device=images.device)


def _targets(images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.int64, device=images.device)


def write(rows: Sequence[Sequence[object]], options: argparse.Namespace) -> None:
    """Write the page."""
    header = ["measure", "images predicted for each source image", "ours (s a source image)", "source images a second"]
    header += ["share of it that the network takes alone", "reference (s a source image)", "reference / ours"]
    quantus = version("quantus") if importlib.util.find_spec("quantus") else "not installed"
    page = PAGE.format(
        machine=explainers.machine(options.device),
        torch=torch.__version__,
        references=f"deletion Quantus {quantus}, ROAD grad-cam {version('grad-cam')}",
        rows=table.markdown(header, rows),
        images=options.images,
        batch_size=options.batch_size,
        repeats=options.repeats,
    )
    options.output.write_text(page, encoding="utf-8")
    print(f"wrote {options.output}")


PAGE = f"""# Benchmarks of the measures of faithfulness

Written by `make bench-faithfulness` on: {{machine}}, torch {{torch}}. References: {{references}}.

{{rows}}
Medians of {{repeats}} round(s) in one process; ours and the network alone after a warm-up, all of them in turns.
ResNet-18 with random weights, {{images}} source image(s) of scikit-image at {explainers.SIZE} x {explainers.SIZE}
pixels, a map each, batches of {{batch_size}}. Deletion and insertion: {STEPS} points, mean color; Quantus:
PixelFlipping in {STEPS - 1} steps. ROAD: {len(PERCENTILES)} shares. "All" shares its batches over the measures.
"""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--images", type=int, default=4, help="source images, at most 8 (default: 4)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median is taken (default: 3)")
    parser.add_argument("--batch-size", type=int, default=64, help="(default: 64)")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/faithfulness.md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
