"""Time the explainers beside the packages that define them, in one process; write docs/benchmarks/explainers.md.

    make bench
    make bench-gpu      # writes docs/benchmarks/explainers-gpu.md

The limit of LIME and Score-CAM is the network alone, channels last and with batch normalization folded, as ours has it,
on as many images at the same batch size; that of the methods by gradients one forward pass and the backward pass to the
layer. Networks have random weights: time does
not depend on them.
"""

import argparse
import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial, partialmethod
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_grad_cam
import table
import torch
import tqdm
from lime.lime_image import LimeImageExplainer
from measure import machine, made_by, page, status
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from skimage import data, segmentation, transform
from torch import Tensor, nn
from unitlens.explainers import cam, contributions, lime, segment
from unitlens.explainers.run import lime_explainer
from unitlens.networks import build
from unitlens.networks.folding import fold_batch_norm
from unitlens.networks.hooks import capture, run_to
from unitlens.networks.network import load_classifier, noise, normalizer, predictor
from unitlens.report.text import METHOD_TITLES

SIZE = 224  # pixels
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SOURCE_IMAGES = [
    *[data.astronaut, data.chelsea, data.coffee, data.rocket, data.retina, data.immunohistochemistry],
    *[data.hubble_deep_field, lambda: data.stereo_motorcycle()[0]],
]
ONE_PICTURE = "Ablation-CAM, one image"  # beside a batch: users of `grad-cam` explain one at a time
CAMS = {title: method for method, title in METHOD_TITLES.items() if method in cam.METHODS}
CAMS[ONE_PICTURE] = "ablationcam"
BY_CHANNEL = ["Ablation-CAM", "Score-CAM"]  # work grows with the channels of the layer
REFERENCES = {
    "Grad-CAM": pytorch_grad_cam.GradCAM,
    "HiResCAM": pytorch_grad_cam.HiResCAM,
    "Grad-CAM++": pytorch_grad_cam.GradCAMPlusPlus,
    "XGrad-CAM": pytorch_grad_cam.XGradCAM,
    "LayerCAM": pytorch_grad_cam.LayerCAM,
    "Ablation-CAM": pytorch_grad_cam.AblationCAM,
    ONE_PICTURE: pytorch_grad_cam.AblationCAM,
    "Score-CAM": pytorch_grad_cam.ScoreCAM,
}
LIME_IN_HALF = "LIME, bfloat16"
# Two thirds of the samples, balanced, are about as exact as all (docs/tuning.md).
AS_EXACT = {"LIME, balanced": "LIME", "LIME, balanced, bfloat16": LIME_IN_HALF}
FORWARD = "one forward pass"
# Explainers timed in turns: whatever disturbs the machine meanwhile meets all of a group.
GROUPS = [["Quickshift"], ["LIME", LIME_IN_HALF, *AS_EXACT], *([name] for name in CAMS)]
WITHOUT_REFERENCE = {FORWARD, LIME_IN_HALF, *AS_EXACT}
WITHOUT_LIMIT = {"Quickshift", "Ablation-CAM", ONE_PICTURE, *AS_EXACT}
ALONE = [FORWARD, "LIME", LIME_IN_HALF, "Grad-CAM", *BY_CHANNEL]  # measured in processes of their own
CPU_THREADS = 2
DEFAULTS = {  # by device; the batch sizes are those of the configuration's schema and of the full-scale experiment
    "cpu": {"images": 1, "shard": 1, "batch": 16, "batch_size": 64},
    "cuda": {"images": 8, "shard": 32, "batch": 64, "batch_size": 256},
}
TARGET_SAMPLES = 1000  # those that the targets are about
LEAST_SAMPLES = 100  # no fewer than there are superpixels


class Work(NamedTuple):
    """What is explained."""

    images: Tensor  # (n, h, w, 3) uint8: the source images, for Score-CAM and for references that take one at a time
    shard: Tensor  # the source images over and over, for LIME
    batch: Tensor  # the same, for the other class activation maps
    samples: int
    batch_size: int
    layer: str = "layer4"
    design: str = "bernoulli"  # of LIME's samples


class Job(NamedTuple):
    """A call to be timed, and the images that it explains."""

    run: Callable[[], object]
    images: int


Maker = Callable[[str, Work], Job]


def main() -> None:
    """Read the options, measure, write."""
    options = _options()
    torch.set_num_threads(CPU_THREADS if options.device == "cpu" else torch.get_num_threads())
    tqdm.tqdm.__init__ = partialmethod(tqdm.tqdm.__init__, disable=True)  # the packages' progress bars
    work = _work(options)
    if options.alone:
        print(json.dumps(measure_alone(*options.alone, options.network, work)))
        return
    ours, theirs = our_network(options.network, options.device), reference_network(options.network, options.device)
    sides = {
        "ours": lambda name, work: our_job(name, ours, work),
        "reference": lambda name, work: reference_job(name, theirs, work),
        "limit": lambda name, work: limit_job(name, ours, work),
    }
    measured = {"times": measure_times(sides, work, options.repeats), "others": measure_account(ours, work)}
    write(options, work, **measured)  # now and after every part, for it may be ended before the last
    if options.device == "cuda":
        found = measure_processes(options, "resnet50", [(name, "ours") for name in (FORWARD, "LIME", "Score-CAM")])
        plain = found[FORWARD, "ours"]["peak"]
        measured["others"] |= {(name, "memory"): found[name, "ours"]["peak"] / plain for name in ("LIME", "Score-CAM")}
        write(options, work, **measured)
    measured["growth"] = measure_growth(sides, work, options.repeats)
    write(options, work, **measured)
    which = [(name, side) for name in ALONE for side in _sides(name)]
    which += [(name, "ours") for name in AS_EXACT if options.device == "cpu"]
    measured["alone"] = measure_processes(options, options.network, which)
    write(options, work, **measured)
    print(f"wrote {options.output}")


def _sides(name: str) -> list[str]:
    return ["ours"] if name in WITHOUT_REFERENCE else ["ours", "reference"]


# ---- what is timed


def our_network(name: str, device: str) -> nn.Module:
    """Load a network of random weights as the workflow loads any, with its batch normalization folded."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.pt"
        torch.save(build.build(f"torchvision:{name}").state_dict(), weights)
        model = load_classifier(f"torchvision:{name}", weights, device=device)
    inputs = normalizer(MEAN, STD, device=device)(noise(64))
    fold_batch_norm(model, lambda: model(inputs))
    return model


def reference_network(name: str, device: str) -> nn.Module:
    """Build the same network as torchvision gives it."""
    torch.manual_seed(0)
    return build.build(f"torchvision:{name}").eval().to(device)


def our_job(name: str, model: nn.Module, work: Work) -> Job:
    """Make a call of an explainer of this repository, as the workflow makes it, or of the network alone."""
    normalize = normalizer(MEAN, STD, device=work.images.device)
    if name == FORWARD:
        inputs = normalize(_repeat(work.images, work.batch_size))
        return Job(partial(forward_passes, model, inputs, len(inputs)), len(inputs))
    if name == "Quickshift":
        return Job(partial(segment.quickshift, work.shard), len(work.shard))
    if name in AS_EXACT:
        return our_job(AS_EXACT[name], model, work._replace(samples=2 * work.samples // 3, design="balanced"))
    if name == "LIME":
        return _our_lime(predictor(model, normalize), work)
    if name == LIME_IN_HALF:
        normalize = normalizer(MEAN, STD, device=work.images.device, dtype=torch.bfloat16)
        return _our_lime(predictor(copy.deepcopy(model).bfloat16(), normalize), work)
    inputs = normalize(work.images if name in ("Score-CAM", ONE_PICTURE) else work.batch)
    run = partial(cam.explain, method=CAMS[name], chunk=work.batch_size)
    return Job(partial(run, model, work.layer, inputs, _targets(inputs)), len(inputs))


def reference_job(name: str, model: nn.Module, work: Work) -> Job:
    """Make a call of a package with its defaults: `lime` predicts 10 images, `grad-cam` 32 or 16 channels at once."""
    images, device = work.images.cpu().numpy(), work.images.device
    if name == "Quickshift":
        return Job(lambda: [_reference_superpixels(image) for image in images], len(images))
    if name == "LIME":
        predict = _reference_predict(model, device)
        return Job(lambda: [_reference_lime(image, predict, work.samples) for image in images], len(images))
    images = work.images if name in (*BY_CHANNEL, ONE_PICTURE) else work.batch  # these it explains one after the other
    inputs = normalizer(MEAN, STD, device=device)(images).contiguous()
    return Job(partial(_reference_cam, REFERENCES[name], model, work.layer, inputs), len(inputs))


def limit_job(name: str, model: nn.Module, work: Work) -> Job:
    """Make a call of what an explainer cannot do without, the network's own work."""
    normalize = normalizer(MEAN, STD, device=work.images.device)
    inputs = normalize(_repeat(work.images, work.batch_size))
    if name == "LIME":
        return Job(partial(forward_passes, model, inputs, work.samples * len(work.shard)), len(work.shard))
    if name == LIME_IN_HALF:
        half, inputs = copy.deepcopy(model).bfloat16(), inputs.bfloat16()
        return Job(partial(forward_passes, half, inputs, work.samples * len(work.shard)), len(work.shard))
    if name == "Score-CAM":
        channels = run_to(model, work.layer, inputs[:1]).shape[1]
        return Job(partial(forward_passes, model, inputs, channels * len(work.images)), len(work.images))
    inputs = normalize(work.batch)
    return Job(partial(_backward_pass, model, work.layer, inputs), len(inputs))


def _our_lime(predict: Callable[[Tensor], Tensor], work: Work) -> Job:
    options = {"n_samples": work.samples, "batch_size": work.batch_size, "hide": "mean", "num_features": 5}
    options["design"] = work.design
    run = lime_explainer(predict, seed=0, superpixels={"method": "quickshift"}, **options)
    ids = [str(number) for number in range(len(work.shard))]
    return Job(partial(run, work.shard, _targets(work.shard), ids), len(work.shard))


def _reference_predict(model: nn.Module, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))

    def predict(images: np.ndarray) -> np.ndarray:
        inputs = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()  # (n, 3, h, w)
        with torch.no_grad():
            return model((inputs.float() / 255 - mean) / std).softmax(1).cpu().numpy()

    return predict


def _reference_lime(image: np.ndarray, predict: Callable, samples: int, superpixels: Callable | None = None) -> None:
    options = {"labels": [0], "top_labels": None, "num_samples": samples, "segmentation_fn": superpixels}
    LimeImageExplainer(random_state=0).explain_instance(image, predict, random_seed=42, **options)


def _reference_superpixels(image: np.ndarray) -> np.ndarray:
    return segmentation.quickshift(image, kernel_size=4, max_dist=200, ratio=0.2, rng=42)


def _reference_cam(method: type, model: nn.Module, layer: str, inputs: Tensor) -> None:
    with method(model=model, target_layers=[model.get_submodule(layer)]) as reference:
        reference(inputs, [ClassifierOutputTarget(0)] * len(inputs))


@torch.inference_mode()
def forward_passes(model: nn.Module, inputs: Tensor, count: int) -> None:
    """Run the network on `count` images, in batches of the inputs."""
    for start in range(0, count, len(inputs)):
        model(inputs[: count - start])


def _backward_pass(model: nn.Module, layer: str, inputs: Tensor) -> None:
    with capture(model, [layer], leaf=True) as outputs:
        score = model(inputs)[:, 0].sum()
    torch.autograd.grad(score, outputs[layer])


def _targets(images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.int64, device=images.device)


# ---- measuring


def race(jobs: Mapping[object, Job], warm_up: Mapping[object, Job], repeats: int) -> dict[object, float]:
    """Return median seconds an image; the jobs take turns, after one round of smaller ones that is not counted."""
    for job in warm_up.values():
        _seconds(job)
    rounds = [{key: _seconds(job) for key, job in jobs.items()} for _ in range(repeats)]
    return {key: statistics.median(each[key] for each in rounds) for key in jobs}


def _seconds(job: Job) -> float:
    _synchronize()
    start = time.perf_counter()
    job.run()
    _synchronize()
    return (time.perf_counter() - start) / job.images


def _synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def measure_times(sides: Mapping[str, Maker], work: Work, repeats: int) -> list[table.Time]:
    """Time every explainer, its reference and its limit."""
    times = []
    for names in GROUPS:
        keys = [(name, side) for name in names for side in _sides(name)]
        keys += [(name, "limit") for name in names if name not in WITHOUT_LIMIT]
        jobs, warm_up = (
            {(name, side): sides[side](name, each) for name, side in keys} for each in (work, _smaller(work))
        )
        measured = race(jobs, warm_up, repeats)
        reference = measured[names[0], "reference"]  # LIME's is also that of LIME in bfloat16
        for name in names:
            times.append(table.Time(name, measured[name, "ours"], reference, measured.get((name, "limit"))))
            print(times[-1], flush=True)
    return times


def measure_account(model: nn.Module, work: Work, repeats: int = 15) -> dict[tuple[str, str], float]:
    """Compare the time of an account by all units of the layer with that of Grad-CAM, on the first image."""
    inputs = normalizer(MEAN, STD, device=work.images.device)(work.images[:1])
    arguments = (model, work.layer, inputs, _targets(inputs))
    jobs = {
        "account": Job(partial(contributions.account, *arguments), 1),
        "Grad-CAM": Job(partial(cam.explain, *arguments, method="gradcam"), 1),
    }
    seconds = race(jobs, jobs, repeats)
    return {("account", "Grad-CAM"): seconds["account"] / seconds["Grad-CAM"]}


def _smaller(work: Work) -> Work:
    return work._replace(samples=min(work.samples, LEAST_SAMPLES), layer="layer1")


def measure_growth(sides: Mapping[str, Maker], work: Work, repeats: int) -> str:
    """Tabulate how the time grows with images, samples, superpixels and channels."""
    return "\n".join(
        [
            _growth_with_images(sides["ours"], work, repeats),
            _growth_with_samples(work, repeats),
            _growth_with_superpixels(work, repeats),
            _growth_with_channels(sides["ours"], work, repeats),
        ]
    )


def _grow(what: str, columns: Sequence[str], rows: Mapping[object, Sequence[Job]], repeats: int) -> str:
    jobs = {(row, column): job for row in rows for column, job in zip(columns, rows[row], strict=True)}
    measured = race(jobs, jobs, repeats)
    return table.markdown([what, *columns], [[str(row), *(measured[row, c] for c in columns)] for row in rows])


def _growth_with_images(ours: Maker, work: Work, repeats: int) -> str:
    names, rows = ["LIME", "Grad-CAM", "Ablation-CAM"], {}
    for count in (1, 2, 4) if work.shard.device.type == "cpu" else (1, 8, 32):
        images = _repeat(work.images, count)
        each = work._replace(images=images, shard=images, batch=images, samples=LEAST_SAMPLES)
        rows[count] = [ours(name, each) for name in names]
    headers = [f"LIME, {LEAST_SAMPLES} samples (s an image)", *(f"{name} (s an image)" for name in names[1:])]
    return _grow("images at once", headers, rows, repeats)


def _growth_with_samples(work: Work, repeats: int) -> str:
    rows = {samples: _without_network(work, samples, side=32) for samples in (250, 500, 1000, 2000)}
    return _grow(f"samples ({(SIZE // 32) ** 2} superpixels)", _OWN_COST, rows, repeats)


def _growth_with_superpixels(work: Work, repeats: int) -> str:
    rows = {(SIZE // side) ** 2: _without_network(work, 500, side=side) for side in (56, 32, 16)}
    return _grow("superpixels (500 samples)", _OWN_COST, rows, repeats)


_OWN_COST = ["LIME without the network (s)", "`lime` without the network (s)"]


def _without_network(work: Work, samples: int, *, side: int) -> list[Job]:
    """What LIME costs beside predictions, which are random numbers here, and superpixels, which are squares."""
    image, device = work.images[:1], work.images.device
    labels = segment.grid(image, size=side)
    options = {"n_samples": samples, "batch_size": work.batch_size, "seeds": [0]}
    run = partial(lime.explain, lambda b: torch.rand(len(b), 2, device=device), image, labels, _targets(image))
    array, labels_array, random = image[0].cpu().numpy(), labels[0].cpu().numpy(), np.random.default_rng(0)
    return [
        Job(partial(run, **options), 1),
        Job(lambda: _reference_lime(array, lambda b: random.random((len(b), 2)), samples, lambda _: labels_array), 1),
    ]


def _growth_with_channels(ours: Maker, work: Work, repeats: int) -> str:
    image = work.images[:1, ::2, ::2]
    each = work._replace(images=image, batch=image)
    layers = {64: "layer1", 128: "layer2", 256: "layer3", 512: "layer4"}
    rows = {
        f"{channels} (`{layer}`)": [ours(name, each._replace(layer=layer)) for name in BY_CHANNEL]
        for channels, layer in layers.items()
    }
    return _grow(f"channels (image of {SIZE // 2} pixels)", [f"{name} (s)" for name in BY_CHANNEL], rows, repeats)


# ---- processes of their own


def measure_processes(options: argparse.Namespace, network: str, which: Sequence[tuple[str, str]]) -> dict:
    """Run each (explainer, side) once in a new process; see `measure_alone`."""
    found = {}
    given = ["device", "images", "samples", "batch_size"]
    passed = [text for name in given for text in (f"--{name.replace('_', '-')}", str(getattr(options, name)))]
    for name, side in which:
        command = [sys.executable, __file__, "--network", network, "--alone", name, side, *passed]
        found[name, side] = json.loads(subprocess.check_output(command, text=True).splitlines()[-1])
        print(name, side, found[name, side], flush=True)
    return found


def measure_alone(name: str, side: str, network: str, work: Work) -> dict[str, float]:
    """Run one explainer; return seconds an image, and its peak memory in bytes.

    On a GPU that is all that torch had allocated. On the CPU it is what the process grew by since the network was
    loaded, warm-up included. The process of a reference never tunes the allocator.
    """
    device = work.images.device.type
    load, make = {"ours": (our_network, our_job), "reference": (reference_network, reference_job)}[side]
    model = load(network, device)
    before = status("VmRSS")
    make(name, model, _smaller(work)).run()
    job = make(name, model, work)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = _seconds(job)
    return {
        "seconds": seconds,
        "peak": torch.cuda.max_memory_allocated() if device == "cuda" else status("VmHWM") - before,
    }


# ---- the page


def write(
    options: argparse.Namespace,
    work: Work,
    *,
    times: Sequence[table.Time],
    others: Mapping[tuple[str, str], float],
    growth: str = f"{table.NOT_MEASURED}\n",
    alone: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
) -> None:
    """Write the page and, beside it, the plot."""
    plot = options.output.with_suffix(".svg")
    here = machine(options.device)
    table.draw(times, plot, machine=here)
    measured = table.ratios(times) | others
    if work.samples != TARGET_SAMPLES:
        measured = {key: ratio for key, ratio in measured.items() if not key[0].startswith("LIME")}
    where = "cpu" if options.device == "cpu" else "H100" if "H100" in torch.cuda.get_device_name() else "another GPU"
    versions = ", ".join(f"{name} {version(name)}" for name in ("lime", "grad-cam", "scikit-image"))
    superpixels = statistics.mean(int(labels.max()) + 1 for labels in segment.quickshift(work.images))
    rows = [[name, side, found["seconds"], found["peak"] / 2**20] for (name, side), found in (alone or {}).items()]
    text = PAGE.format(
        command=made_by(options.device),
        machine=here,
        torch=torch.__version__,
        versions=versions,
        images=len(work.images),
        superpixels=superpixels,
        shard=len(work.shard),
        batch=len(work.batch),
        batch_size=work.batch_size,
        samples=work.samples,
        repeats=options.repeats,
        targets=table.targets(measured, where),
        plot=plot.name,
        seconds=table.seconds(times),
        growth=growth,
        alone=table.markdown(["explainer", "side", "seconds an image", "peak memory (MiB)"], rows)
        if rows
        else f"{table.NOT_MEASURED}\n",
    )
    options.output.write_text(text, encoding="utf-8")


PAGE = f"""# Benchmarks

Written by `{{command}}` on: {{machine}}, torch {{torch}}. References: {{versions}}.

## Targets

{{targets}}
![Speed of each explainer against its reference package]({{plot}})

## Seconds an image

{{seconds}}
Medians of {{repeats}} rounds in one process after a warm-up; in every round ours, the reference and the limit take
turns. ResNet-18 with random weights (time does not depend on them), {{images}} source image(s) of scikit-image at
{SIZE} x {SIZE} pixels ({{superpixels:.0f}} superpixels on average), class activation maps at `layer4`, float32 (on
a GPU with TF32 in convolutions, torch's default) unless named otherwise.

* **LIME**: {{samples}} samples, superpixels included, {{shard}} image(s) at once. Ours predicts in batches of
  {{batch_size}}; `lime` in its default batches of 10 with a batched function, one image after the other. Both
  explain one class. The reference of bfloat16 is `lime` in float32. "Balanced" draws two thirds of the samples, which
  are about as exact on networks with trained weights (docs/tuning.md).
* **Class activation maps**: {{batch}} image(s) at once, Score-CAM {{images}}. `grad-cam` works through the channels
  for Ablation-CAM and Score-CAM one image after the other, so it gets only the source image(s).
* **Limit**: the network alone, channels last and with batch normalization folded, on as many images at our batch
  size; for the methods by gradients one forward pass and the backward pass to the layer. Quickshift and Ablation-CAM
  have none.
* **Memory allocation**: on the CPU Unitlens tells glibc to keep freed memory. That holds for the whole process and so
  speeds up the references in this table too; under "Processes of their own" they run without it.

## Growth

{{growth}}
Medians of {{repeats}} rounds, ours but for `lime`. "Without the network": predictions are random numbers and
superpixels squares, so that only the explainer's own work is left.

## Processes of their own

{{alone}}
One run each, after a warm-up. References run without Unitlens's setting of the allocator. Peak memory on the CPU is
what the process grew by after loading the network; on a GPU it is all that torch had allocated, weights included.
"{FORWARD}" is of {{batch_size}} images.
"""


def _work(options: argparse.Namespace) -> Work:
    known = DEFAULTS[options.device]
    images = source_images(options.images).to(options.device)
    shard, batch = (_repeat(images, max(known[name], options.images)) for name in ("shard", "batch"))
    return Work(images, shard, batch, options.samples, options.batch_size)


def source_images(count: int) -> Tensor:
    """Load source images of scikit-image, uint8 (count, SIZE, SIZE, 3)."""
    images = [transform.resize(load()[..., :3], (SIZE, SIZE), anti_aliasing=True) for load in SOURCE_IMAGES[:count]]
    return torch.as_tensor(np.stack([(255 * image).round().astype(np.uint8) for image in images]))


def _repeat(images: Tensor, count: int) -> Tensor:
    return images[torch.arange(count, device=images.device) % len(images)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=list(DEFAULTS), default="cpu")
    parser.add_argument(
        "--images", type=int, choices=range(1, len(SOURCE_IMAGES) + 1), help="source images; 1 on the CPU, 8 on a GPU"
    )
    parser.add_argument("--samples", type=int, default=TARGET_SAMPLES, help="LIME's, at least 100 (default: 1000)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which the median is taken (default: 3)")
    parser.add_argument("--batch-size", type=int, help="of our explainers; 64 on the CPU, 256 on a GPU")
    parser.add_argument("--output", type=Path, help="(default: docs/benchmarks/explainers.md or explainers-gpu.md)")
    parser.add_argument("--network", default="resnet18", help=argparse.SUPPRESS)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.output = options.output or page("explainers", options.device)
    for name in ("images", "batch_size"):
        if getattr(options, name) is None:
            setattr(options, name, DEFAULTS[options.device][name])
    return options


if __name__ == "__main__":
    main()
