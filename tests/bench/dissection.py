"""Time the labeling of one layer at full size, with and without evidence, and write docs/benchmarks/dissection.md.

    make bench
    make bench-gpu      # the similarities on a GPU; writes docs/benchmarks/dissection-gpu.md

Activations and features are random numbers, which is the worst case: the top images of the units are all different.
On the CPU every row is a process of its own that reads HDF5 shards as the workflow does.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import measure
import numpy as np
import pandas as pd
import table
import torch
from unitlens.storage.arrays import read_arrays, write_arrays
from unitlens.storage.shards import concatenate
from unitlens.tables import labeling, linear_labels
from unitlens.units import dissect

DIMENSION = 512
SHARD = 8192
THREADS = 2
SECONDS, SECONDS_EVIDENCE, MEMORY = 60, 90, 2000  # to stay below, of a layer without and with evidence (s); MiB
SECONDS_GPU, MEMORY_GPU = 3, 4096  # on an H100: of the scores of a layer (s) and of the device (MiB)


class Size(NamedTuple):
    """Of a layer and of what it is labeled with."""

    images: int = 63_300
    concepts: int = 20_000
    units: int = 512
    top_k: int = 100


FULL, HALF = Size(), Size(images=20_000, concepts=5_000, units=128, top_k=50)
HALF_ON_GPU = Size(images=15_000, concepts=5_000, units=512, top_k=50)
WITH_EVIDENCE = "with evidence"
LABELS = "labels alone"
LINEAR = "linear labels"


def main() -> None:
    """Read the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        torch.set_num_threads(THREADS)
        print(json.dumps(measure_alone(*options.alone)))
        return
    output = options.output or measure.page("dissection", options.device)
    output.write_text(page_of_the_gpu() if options.device == "cuda" else page(), encoding="utf-8")
    print(f"wrote {output}")


def page() -> str:
    """Measure on the CPU."""
    torch.set_num_threads(THREADS)
    rows = [
        measured("soft_wpmi", LABELS, FULL),
        measured("soft_wpmi", WITH_EVIDENCE, FULL),
        measured("–", LINEAR, FULL),
        measured("wpmi", LABELS, FULL),
        measured("wpmi", WITH_EVIDENCE, FULL),
        measured("cos_similarity", LABELS, FULL),
        measured("cos_similarity_cubed", LABELS, FULL),
        measured("rank_reorder", LABELS, FULL._replace(units=8)),
    ]
    return PAGE.format(
        machine=measure.machine("cpu"),
        torch=torch.__version__,
        targets=targets(rows),
        rows=table.markdown(["similarity", "what", "units", "seconds", "CPU seconds", "peak memory (MiB)"], rows),
        growth=growth(lambda size: measured("soft_wpmi", "scores", size)[4], HALF),
    )


def page_of_the_gpu() -> str:
    """Measure on a GPU."""
    rows = [measured_on_gpu(name, FULL) for name in dissect.SIMILARITIES if name != "rank_reorder"]
    rows.append(measured_on_gpu("rank_reorder", FULL._replace(units=32)))
    return GPU_PAGE.format(
        machine=measure.machine("cuda"),
        torch=torch.__version__,
        targets=table.markdown(
            CHECKS,
            [
                check("scores, soft_wpmi", "seconds", SECONDS_GPU, rows[0][2]),
                check("scores, soft_wpmi", "peak device memory (MiB)", MEMORY_GPU, rows[0][3]),
            ],
        ),
        rows=table.markdown(["similarity", "units", "seconds", "peak device memory (MiB)"], rows),
        growth=growth(lambda size: measured_on_gpu("soft_wpmi", size)[2], HALF_ON_GPU),
    )


def measured_on_gpu(similarity: str, size: Size) -> list[object]:
    """Score one layer of random numbers; return a row of the table: the median of three, after one that warms up."""
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(size.images, size.units), (size.images, DIMENSION), (size.concepts, DIMENSION)]
    parts = [torch.randn(shape, generator=generator, device="cuda") for shape in shapes]
    options = {"top_k": size.top_k} if similarity == "soft_wpmi" else {}
    seconds = []
    for _ in range(4):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        dissect.SIMILARITIES[similarity](*parts, **options)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    row = [similarity, str(size.units), statistics.median(seconds[1:]), torch.cuda.max_memory_allocated() / 2**20]
    print(row, flush=True)
    return row


def measured(similarity: str, what: str, size: Size) -> list[object]:
    """Measure one layer in a process of its own; return a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        write_layer(Path(folder), size)
        found = measure.in_a_process(__file__, "--alone", folder, similarity, what, json.dumps(size))
    row = [similarity, what, str(size.units), found["seconds"], found["cpu"], found["peak"] / 2**20]
    print(row, flush=True)
    return row


def write_layer(folder: Path, size: Size) -> None:
    """Write random activations, image features in shards, and concepts, as the rules do."""
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, size.images, SHARD)):
        ids = np.array([f"image{row}" for row in range(start, min(start + SHARD, size.images))], dtype=object)
        activations, features = (
            rng.standard_normal((len(ids), width), dtype=np.float32) for width in (size.units, DIMENSION)
        )
        write_arrays(folder / f"activations-{number:05d}.h5", {"activations": activations, "image_id": ids}, {})
        write_arrays(
            folder / f"images-{number:05d}.h5", {"features": features, "image_id": ids, "source_image": ids}, {}
        )
    words = np.array([f"word{number}" for number in range(size.concepts)], dtype=object)
    features = rng.standard_normal((size.concepts, DIMENSION), dtype=np.float32)
    write_arrays(folder / "concepts.h5", {"features": features, "word": words, "category": words}, {})


def measure_alone(folder: str, similarity: str, what: str, size: str) -> dict[str, float]:
    """Read a layer and label it; return the seconds of the labeling and the peak memory of this process in bytes."""
    activations, _ = concatenate(sorted(Path(folder).glob("activations-*.h5")))
    images, _ = concatenate(sorted(Path(folder).glob("images-*.h5")))
    concepts, _ = read_arrays(Path(folder) / "concepts.h5")
    start, cpu = time.perf_counter(), time.process_time()
    if what == LABELS:
        parts = activations["activations"], images["features"], concepts["features"]
        scores = dissect.SIMILARITIES[similarity](*map(torch.as_tensor, parts))
        labeling.tabulate(scores, activations, concepts, similarity=similarity, encoder="")
    elif what == WITH_EVIDENCE:
        labeling.label_table(activations, images, concepts, similarity=similarity, encoders=("", ""), seed=0)
    elif what == LINEAR:
        texts = ("status", "candidate", "first_half", "second_half", "encoder")
        units = pd.DataFrame({"unit": range(activations["activations"].shape[1]), "held_out_correlation": 0.0})
        labels = units.assign(**dict.fromkeys(texts, ""))
        linear_labels.linear_table(activations, images, concepts, labels, seed=0)
    else:
        parts = (activations["activations"], images["features"], concepts["features"])
        dissect.soft_wpmi(*map(torch.as_tensor, parts), top_k=Size(*json.loads(size)).top_k)
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": measure.status("VmHWM")}


def growth(time_of: Callable[[Size], float], base: Size) -> str:
    """Tabulate the time of soft_wpmi at twice and four times the units, concepts, top images and images."""
    rows = []
    for name in Size._fields:
        sizes = [base._replace(**{name: factor * getattr(base, name)}) for factor in (1, 2, 4)]
        seconds = [time_of(size) for size in sizes]
        rows.append([name.replace("_", " "), str(getattr(base, name)), *seconds, seconds[2] / seconds[0]])
    return table.markdown(["what grows", "from", "x 1", "x 2", "x 4", "x 4 / x 1"], rows)


def targets(rows: list[list[object]]) -> str:
    """Compare the rows of soft_wpmi with what is to be reached."""
    labels, with_evidence, linear = rows[:3]
    checked = [
        check("labels alone, soft_wpmi", "seconds", SECONDS, labels[3]),
        check("labels alone, soft_wpmi", "peak memory (MiB)", MEMORY, labels[5]),
        check("with evidence, soft_wpmi", "seconds", SECONDS_EVIDENCE, with_evidence[3]),
        check("with evidence, soft_wpmi", "peak memory (MiB)", MEMORY, with_evidence[5]),
        check("linear labels", "peak memory (MiB)", MEMORY, linear[5]),
    ]
    extra = with_evidence[3] - labels[3]
    checked.append(["what evidence adds, soft_wpmi", "seconds", "–", table.number(extra), "–"])
    return table.markdown(CHECKS, checked)


CHECKS = ["what", "measure", "to reach", "measured", "met"]


def check(what: str, unit: str, bound: float, value: float) -> list[str]:
    """Make a row of the table of targets."""
    return [what, unit, f"< {bound}", table.number(value), "yes" if value < bound else "**no**"]


PAGE = f"""# Benchmarks of the dissection

Written by `make bench` on: {{machine}}, torch {{torch}}.

One layer of {FULL.units} units, {FULL.images:,} images x {FULL.concepts:,} concepts x {DIMENSION} dimensions, of
random numbers: the worst case, for the units share no top images. Every row is one run in a process of its own, which
reads the features from HDF5 shards; the seconds are those of the library's call, "CPU seconds" those of all its threads
together, the memory is all that the process ever held, Python and torch included. Where the CPU seconds are not nearly
{THREADS} x the seconds, other work had the processors too.

## Targets

{{targets}}
## One layer

{{rows}}
Evidence is that of the default configuration: 200 resamples, 10,000 draws, both halves of ten splits. Linear
labels are those of the whole set and of the halves of one split, with their permutations. Of `rank_reorder` every unit
sorts a twentieth of the images by every concept; its time grows with the units, so {FULL.units} units take
{FULL.units // 8} times as long. Evidence for `cos_similarity`, `cos_similarity_cubed` and `rank_reorder` costs a
labeling of the layer for every resample, and one for as many draws as there are units.

## Growth of soft_wpmi

{{growth}}
CPU seconds, one quantity at a time, from {HALF.images:,} images, {HALF.concepts:,} concepts, {HALF.units} units and
{HALF.top_k} top images.
"""


GPU_PAGE = f"""# Benchmarks of the dissection on a GPU

Written by `make bench-gpu` on: {{machine}}, torch {{torch}}. The workflow labels units on CPUs; the same functions of
the library run where their arguments are.

One layer of {FULL.units} units, {FULL.images:,} images x {FULL.concepts:,} concepts x {DIMENSION} dimensions, of random
numbers on the device. Medians of three after one that is not counted. Memory is all that torch had allocated,
activations and features included.

## Targets

{{targets}}
## One layer

{{rows}}
## Growth of soft_wpmi

{{growth}}
Seconds, one quantity at a time, from {HALF_ON_GPU.images:,} images, {HALF_ON_GPU.concepts:,} concepts,
{HALF_ON_GPU.units} units and {HALF_ON_GPU.top_k} top images.
"""


if __name__ == "__main__":
    main()
