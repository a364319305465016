"""Time the extraction of activations beside its two limits, and write docs/benchmarks/extraction.md.

    make bench
    make bench-gpu      # writes docs/benchmarks/extraction-gpu.md

The limits are the forward passes alone and reading the shard alone.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
import numpy as np
import table
import torch
from unitlens.networks import build, hooks, layer_outputs, network
from unitlens.storage.arrays import open_arrays, read_batches, write_arrays

ROUNDS = 5
LAYER = "layer4"
SHARE = 0.8  # of the lower limit, to reach
SIZES = {"cpu": (256, 32), "cuda": (4096, 256)}  # images, and images in a batch


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
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    device = network.pick_device(options.device)
    size, batch = SIZES[options.device]
    torch.manual_seed(0)
    model = build.build("torchvision:resnet18").eval().requires_grad_(False)
    model = model.to(device, memory_format=torch.channels_last)
    normalize = network.normalizer([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], device=device)
    pixels = np.random.default_rng(0).integers(0, 256, (size, 224, 224, 3), dtype=np.uint8)
    batches = [normalize(torch.from_numpy(part)) for part in np.array_split(pixels, size // batch)]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "00000.h5")
        write_arrays(path, {"images": pixels}, {})

        def read() -> None:
            with open_arrays(path) as file:
                for _ in read_batches(file["images"], batch):
                    pass

        def forward() -> None:
            with torch.inference_mode():
                for images in batches:
                    hooks.run_to(model, LAYER, images)

        def extract() -> None:
            with open_arrays(path) as file:
                to_layer = lambda images: hooks.run_to(model, LAYER, normalize(images))  # noqa: E731
                for _ in layer_outputs.extract(to_layer, read_batches(file["images"], batch)):
                    pass

        work = {"reading alone": read, "forward passes alone": forward, "extraction": extract}
        for each in work.values():
            each()
        rounds = [{name: seconds(each, device) for name, each in work.items()} for _ in range(ROUNDS)]
    rates = {name: size / statistics.median(one[name] for one in rounds) for name in work}
    limit = min(rates["reading alone"], rates["forward passes alone"])
    share = rates["extraction"] / limit
    text = PAGE.format(
        machine=measure.machine(options.device),
        command=measure.made_by(options.device),
        torch=torch.__version__,
        size=size,
        batch=batch,
        rates=table.markdown(["what", "images a second"], list(rates.items())),
        share=f"{share:.0%}",
        met="met" if share >= SHARE else "**not met**",
    )
    output = options.output or measure.page("extraction", options.device)
    output.write_text(text, encoding="utf-8")
    print(text)


PAGE = f"""# Benchmarks of the extraction

Written by `{{command}}` on: {{machine}}, torch {{torch}}.

ResNet-18 with random weights, to its `{LAYER}`; a shard of {{size}} made images of 224 x 224 pixels, written as
`decode_images` writes it, in batches of {{batch}}. Medians of {ROUNDS} interleaved rounds.

{{rates}}
Extraction reaches {{share}} of the lower of the two limits; {SHARE:.0%} is to reach: {{met}}.
"""


if __name__ == "__main__":
    main()
