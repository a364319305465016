"""What runs on a GPU gives what it gives on the CPU, the same bytes each time, and goes on when memory runs out."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data, transform
from unitlens.explainers import cam, lime, masks, segment
from unitlens.images import fill
from unitlens.measures import agreement, faithfulness, perturbation, sanity
from unitlens.networks import build, hooks, layer_outputs
from unitlens.networks.network import load_classifier, normalizer, predictor, set_precision
from unitlens.units import exemplars, netdissect

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIZE = 128  # pixels
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TARGETS = [3, 5, 7]
SEEDS = [11, 12, 13]


def source_images(device):
    images = [transform.resize(load()[..., :3], (SIZE, SIZE)) for load in (data.astronaut, data.chelsea, data.coffee)]
    return torch.as_tensor(np.stack([(255 * image).round().astype(np.uint8) for image in images])).to(device)


def network(device):
    """ResNet-18 of random weights in strict float32, as a job gets one."""
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        torch.save(build.build("torchvision:resnet18", classes=10).state_dict(), f"{folder}/weights.pt")
        model = load_classifier("torchvision:resnet18", f"{folder}/weights.pt", device=device, classes=10)
    model, dtype = set_precision(model, "float32")
    return model, normalizer(MEAN, STD, device=device, dtype=dtype)


def targets(device):
    return torch.tensor(TARGETS, device=device)


def explained(method, layer):
    def run(device):
        model, normalize = network(device)
        return cam.explain(model, layer, normalize(source_images(device)), targets(device), method=method, chunk=50)

    return run


def surrogate(**options):
    def run(device):
        predict = predictor(*network(device))
        images = source_images(device)
        labels = segment.grid(images, size=32)
        options_ = {"n_samples": 200, "seeds": SEEDS, "batch_size": 70} | options
        result = lime.explain(predict, images, labels, targets(device), **options_)
        return torch.cat([result.saliency.flatten(), result.coefficients.flatten(), result.stderr.flatten(), result.r2])

    return run


def curves(device):
    predict = predictor(*network(device))
    maps = sanity.random_saliency((SIZE, SIZE), seeds=SEEDS).to(device)
    plan = perturbation.Plan(5, ["blur", "mean"], [20, 50, 80])
    found = faithfulness.curves(
        predict, source_images(device), {"random": maps}, targets(device), plan=plan, seeds=SEEDS, batch_size=32
    )
    return torch.cat([curve.flatten() for curve in found.values()])


def filled(device):
    removed = sanity.random_saliency((SIZE, SIZE), seeds=SEEDS).to(device) > 0.3
    return fill.impute(source_images(device), removed)


def pooled(device):
    model, normalize = network(device)
    to_layer = lambda images: hooks.run_to(model, "layer3", normalize(images))  # noqa: E731
    return torch.cat([pooled for pooled, _ in layer_outputs.extract(to_layer, source_images(device).split(2))])


def strongest(device):
    model, normalize = network(device)
    images, kept = source_images(device), None
    outputs = layer_outputs.extract(lambda batch: hooks.run_to(model, "layer3", normalize(batch)), images.split(2))
    for pooled, maps in outputs:
        kept = exemplars.keep(kept, pooled, maps, torch.arange(len(images)), k=2)
    return kept.peak


def ranked(device):
    maps = [explained(method, "layer4")("cpu").to(device) for method in ("gradcam", "layercam")]
    return agreement.spearman(*maps)


CLOSE = {  # what is computed: by how much the CPU and the GPU may differ, as a share of the largest number
    **{
        f"{method} of {layer}": (1e-4, explained(method, layer))
        for method in cam.METHODS
        for layer in ("layer2", "layer4")
    },
    "ablationcam of layer2": (1e-3, explained("ablationcam", "layer2")),  # small differences between rounded logits
    "gradcam before max pooling": (1e-4, explained("gradcam", "relu")),
    "LIME": (1e-4, surrogate()),
    "LIME by l2 with few features": (1e-4, surrogate(distance="l2", kernel_width=4, n_features=4)),
    "LIME that stops early": (1e-4, surrogate(n_samples="auto", num_features=1)),
    "LIME over noise": (1e-4, surrogate(hide="noise")),
    "LIME over blur": (1e-3, surrogate(hide="blur")),  # some gray levels are rounded the other way
    "faithfulness": (1e-3, curves),  # likewise
    "imputation": (2 * fill.TOLERANCE / 255, filled),
    "activations": (1e-5, pooled),
    "strongest activations": (1e-5, strongest),
    "Spearman": (1e-9, ranked),
}


def thresholds(device):
    maps = explained("layercam", "layer2")("cpu")[:, None].to(device)  # (images, 1 unit, h, w)
    return netdissect.thresholds([maps[:2], maps[2:]], 3)


def overlaps(device):
    maps = explained("layercam", "layer2")("cpu")[:, None].to(device)
    labels = torch.zeros(3, 2, SIZE, SIZE, dtype=torch.int64)
    labels[:, 0, :50], labels[:, 1, :, 70:] = 1, 2
    category = torch.tensor([0, 1])
    found = netdissect.overlaps([(maps, labels)], torch.tensor([0.4], device=device), category)
    return torch.cat([counts.flatten().cpu() for counts in found])


def dissected(device):
    """What Network Dissection finds in maps of whole numbers, whose enlargement is exact."""
    rng = np.random.default_rng(0)
    maps, labels = (
        rng.integers(0, 9, (20, 5, 4, 4)).astype(np.float32).transpose(0, 2, 3, 1),
        rng.integers(0, 4, (20, 2, 8, 8)),
    )
    found = netdissect.dissect(
        lambda images: torch.from_numpy(images).movedim(3, 1).to(device),
        lambda names: ({"images": maps[row : row + 8], "mask": labels[row : row + 8]} for row in range(0, 20, 8)),
        values=np.array([1, 2, 3]),
        categories=np.array(["a", "a", "b"]),
        source="masks",
        source_images=[str(row) for row in range(20)],
        share=0.2,
        draws=30,
    )
    return torch.cat([torch.from_numpy(np.asarray(each, float)).flatten() for each in found])


def shuffled(device):
    model, _ = network(device)
    sanity.randomize(model, sanity.layers_with_weights(model)[-5:], seed=3)
    return torch.cat([values.flatten() for values in model.state_dict().values()])


EQUAL = {
    **{
        method: lambda device, run=run: run(source_images(device))
        for method, run in segment.SUPERPIXELS.items()
        if method != "grid"
    },
    "grid": lambda device: segment.grid(source_images(device), size=30),
    "equal area": lambda device: masks.equal_area_mask(
        explained("gradcam", "layer4")("cpu").to(device).round(decimals=1), 0.2, seed=SEEDS
    ),
    "thresholds": thresholds,
    "overlaps": overlaps,
    "dissection": dissected,
    "random weights": shuffled,
}


@pytest.mark.parametrize("name", CLOSE)
def test_both_devices_agree(name):
    tolerance, run = CLOSE[name]
    ours, theirs = (run(device).cpu().double() for device in ("cuda", "cpu"))
    assert ours.shape == theirs.shape
    assert torch.equal(ours.isnan(), theirs.isnan())
    difference = (ours - theirs).nan_to_num().abs().max() / theirs.nan_to_num().abs().max()
    print(f"{name}: {difference:.1e}")
    assert difference <= tolerance


@pytest.mark.parametrize("name", EQUAL)
def test_both_devices_give_the_same(name):
    assert torch.equal(*(EQUAL[name](device).cpu() for device in ("cuda", "cpu")))


@pytest.mark.parametrize("name", [*CLOSE, *EQUAL])
def test_a_gpu_gives_the_same_bytes_again(name):
    run = EQUAL[name] if name in EQUAL else CLOSE[name][1]
    first = run("cuda")
    for _ in range(3):
        assert torch.equal(run("cuda").nan_to_num(), first.nan_to_num())


@pytest.mark.parametrize(("name", "room"), [("scorecam", 2**29), ("ablationcam", 2**26), ("LIME", 2**29)])
def test_a_batch_that_does_not_fit_is_halved(name, room, caplog):
    model, normalize = network("cuda")
    images = source_images("cuda")

    def run(size):
        if name == "LIME":
            labels = segment.grid(images, size=32)
            options = {"n_samples": 2000, "seeds": SEEDS, "batch_size": size}
            predict = predictor(model, normalize)
            return lime.explain(predict, images, labels, targets("cuda"), **options).saliency
        return cam.explain(model, "layer2", normalize(images), targets("cuda"), method=name, chunk=size)

    expected = run(50)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties().total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + room) / total)
        found = run(2000)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory" in caplog.text
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()


BUSY = """
import sys, time, torch
from unitlens.jobs import logs, progress
with logs.log_to(sys.argv[1]):
    matrix = torch.randn(8192, 8192, device="cuda")
    end = time.monotonic() + 6
    for _ in logs.each(range(10**6), "products"):
        matrix @ matrix
        torch.cuda.synchronize()
        if time.monotonic() > end:
            break
"""


def test_a_log_tells_the_memory_and_the_busy_share_of_the_gpu(tmp_path):
    path = {"PYTHONPATH": str(Path(__file__).parents[2] / "scripts")}
    subprocess.run([sys.executable, "-c", BUSY, tmp_path / "log"], env=os.environ | path, check=True)
    last = (tmp_path / "log").read_text().splitlines()[-1]
    found = re.search(r" and (\d+) MiB of (.+), which was busy (\d+) % of the time$", last)
    assert found, last
    assert int(found[1]) >= 8192**2 * 4 / 2**20
    assert found[2] == torch.cuda.get_device_name()
    assert 40 < int(found[3]) <= 100
