"""Time the extraction of activations beside its two limits: the forward passes alone and reading the shard alone.

    PYTHONPATH=scripts python tests/bench/extraction.py [--device cuda]

Extraction should reach 80 % of the lower of the two rates. ResNet-18 with random weights, to its layer4; a shard of
made pictures of 224 x 224 pixels, written as `decode_images` writes it; medians of interleaved rounds.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from unitlens import activations, hooks, models, store

ROUNDS = 5
LAYER = "layer4"


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Time one call, the device's work included."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    device = models.pick_device(options.device)
    torch.manual_seed(0)
    model = models.build("torchvision:resnet18").eval().requires_grad_(False)
    model = model.to(device, memory_format=torch.channels_last)
    normalise = models.normaliser([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], device=device)
    pictures = np.random.default_rng(0).integers(0, 256, (options.images, 224, 224, 3), dtype=np.uint8)
    batches = [normalise(torch.from_numpy(part)) for part in np.array_split(pictures, options.images // options.batch)]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "00000.h5")
        store.create(path, {"images": pictures}, {})

        def read() -> None:
            with store.open(path) as file:
                for _ in store.batches(file["images"], options.batch):
                    pass

        def forward() -> None:
            with torch.inference_mode():
                for images in batches:
                    hooks.run_to(model, LAYER, images)

        def extract() -> None:
            with store.open(path) as file:
                to_layer = lambda images: hooks.run_to(model, LAYER, normalise(images))  # noqa: E731
                list(activations.extract(to_layer, store.batches(file["images"], options.batch)))

        work = {"reading alone": read, "forward passes alone": forward, "extraction": extract}
        for each in work.values():
            each()
        rounds = [{name: seconds(each, device) for name, each in work.items()} for _ in range(ROUNDS)]
    rates = {name: options.images / statistics.median(one[name] for one in rounds) for name in work}
    limit = min(rates["reading alone"], rates["forward passes alone"])
    print(f"ResNet-18 to {LAYER}, {options.images} pictures, batch {options.batch}, {options.device}")
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} pictures/s")
    print(f"extraction / lower limit: {rates['extraction'] / limit:.0%} (to reach: 80 %)")


if __name__ == "__main__":
    main()
